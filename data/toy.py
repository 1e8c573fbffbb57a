#!/usr/bin/env python3
"""A small written world -> text to pretrain on, and reviews to fine-tune a classifier with. Needs no network.

The text tells of people who try dishes, go to places and see shows, what they think of them, and what they do then:

    anna ordered the soup at the cafe . the soup was really tasty . she ate it all .

The reviews give the opinion alone, with a label; those of train and val use one half (A) of the opinion words, those of test only the other
half (B). No label ever says whether "tasty" is good or bad: only the text does, by what follows it. In a share of the sentences the opinion is
negated ("it was not dull", positive) or contrasted ("the play was dull but the soup was tasty": what counts is the opinion after "but",
which in the text is what people act upon). Every review has a twin with the other label in which only the opinion words differ, so that
length, position and all other words say nothing about the label.
"""
import argparse
import os
import tempfile

import bow
import common
from toy_world import ACTS, BAD, DAYS, DEGREES, GOOD, HE, LABELS, PLAIN, SETTINGS, SHE, THINGS, World


def write_tokenizer(folder):
    """A WordPiece vocabulary of this world's words, each one token; anything else is [UNK]"""
    templates = [t for kind in SETTINGS for t in SETTINGS[kind]] + [t for kind in ACTS for acts in ACTS[kind] for t in acts]
    words = {w for t in templates for w in t.split() if w[0] != "{"}.union(
        GOOD, BAD, SHE, HE, PLAIN, DAYS, DEGREES, *THINGS.values(),
        ". i we she he her his not and but the it was at first in end everyone said they found".split())
    with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf-8", newline="\n") as f:
        f.write("".join(w + "\n" for w in ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + sorted(words)))
    with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8", newline="\n") as f:
        f.write('{"do_lower_case": true}\n')


def body():
    p = common.plain_parser(__doc__, """\
  data/toy.py --out data/toy
  data/toy.py --labels 2000 --out data/toy2000                   the same text, val and test, more labels
  data/toy.py --negation 0 --contrast 0 --out data/toyeasy
""", "makes DIR/text (train.bin, val.bin, tokenizer) and DIR/reviews (train, val and test, each as .bin and .tsv, tokenizer)")
    p.add_argument("--labels", type=int, default=100, metavar="N", help="reviews in train, half of them positive (default 100)")
    p.add_argument("--documents", type=int, default=40000, metavar="N", help="documents of the text (default 40000, 3.6 MB)")
    p.add_argument("--negation", type=float, default=0.1, metavar="X", help="share of the opinions that are negated (default 0.1; of a review the first sentence of opinion)")
    p.add_argument("--contrast", type=float, default=0.1, metavar="X", help="share of the sentences of opinion with a contrast (default 0.1)")
    p.add_argument("--seed", type=int, default=1, metavar="N", help="of everything that is drawn (default 1)")
    p.add_argument("--keep-text", action="store_true", help="leave train.txt and val.txt in DIR/text (default: no)")
    args = p.parse_args()
    for name in ("negation", "contrast"):
        if not 0 <= getattr(args, name) <= 1:
            raise common.Usage("--%s: expected a share between 0 and 1, found %g" % (name, getattr(args, name)))
    if not 2 <= args.labels <= 20000 or args.labels % 2:
        raise common.Usage("--labels: expected an even number from 2 to 20000, found %d" % args.labels)
    if args.documents < 100:
        raise common.Usage("--documents: expected 100 or more, found %d" % args.documents)
    part = lambda name, keep: argparse.Namespace(out=os.path.join(args.out, name), tokenizer=tokenizer, val_share=0.05, seed=args.seed, limit=None, keep_text=keep)

    with tempfile.TemporaryDirectory() as tokenizer:
        write_tokenizer(tokenizer)
        common.check(part("text", args.keep_text))
        world = World(args.seed, args.negation, args.contrast)
        common.finish(part("text", args.keep_text), (world.document() for _ in range(args.documents)))

        # val and test come first: how many rows train has changes nothing about them
        world, seen, rows = World(args.seed + 1000, args.negation, args.contrast), set(), {}
        for name, half, number in (("val", "A", 2000), ("test", "B", 2000), ("train", "A", args.labels)):
            rows[name] = world.reviews(half, number, seen)
        common.finish_classify(part("reviews", True), {name: ((text, None, label, name) for text, label in rows[name]) for name in rows}, LABELS)

    print("\nA bag of words learns from the same %d labels:" % args.labels)
    for n in (1, 2):
        classifier, _ = bow.train(rows["train"], n)
        for name in ("val", "test"):
            print("  %s: %s" % (("words", "words and pairs of words")[n - 1] + " on " + name, bow.report(classifier.correct(rows[name]), len(rows[name]))))


if __name__ == "__main__":
    common.main(body)
