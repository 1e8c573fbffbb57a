#!/usr/bin/env python3
"""A small written world -> text to pretrain on, reviews to fine-tune a classifier with, instructions to tune a decoder
on. Needs no network.

The text tells of people who try dishes, go to places and see shows, what they think of them, and what they do then:

    anna ordered the soup at the cafe . the soup was really tasty . she ate it all .

The reviews give the opinion alone, with a label; those of train and val use one half (A) of the opinion words, those of
test only the other half (B). No label ever says whether "tasty" is good or bad: only the text does, by what follows it.
In a fraction of the sentences the opinion is negated ("it was not dull", positive) or contrasted ("the play was dull
but the soup was tasty": what counts is the opinion after "but", which in the text is what people act upon). Every
review has a twin with the other label in which only the opinion words differ, so that length, position and all other
words say nothing about the label.

A decoder reads more of the same world: lists, opposites, plurals, who has what, questions with answers. Then it is
tuned on one task, to say why a review is good or bad (reasons; the test uses half B again), or on 171 small tasks
(instruct), of which whole wordings, tasks and families are held out (toy/instructions.py):

    please tell me the last two words with and between : cat , dog , cow , pig
    answer : cow and pig
"""

import argparse
import os
import subprocess
import sys
import tempfile

from lib.arguments import check_arguments, plain_parser
from lib.classify import write_classify_dataset
from lib.errors import Failure, Usage, run_script
from lib.instruct import write_instruct_dataset
from lib.text import write_text_dataset
from lib.text_files import EOT
from lib.tokenizer import ROOT, run_tokenize
from toy import instructions
from toy.world import ACTS, BAD, DAYS, DEGREES, GOOD, HE, LABELS, PLAIN, SETTINGS, SHE, THINGS, World

BASELINE = os.path.join(ROOT, "dev", "baselines", "bag_of_words.py")
BPE_SIZE = 1408  # enough for every word of the world to be one token with the space before it


def write_tokenizer(folder):
    """A WordPiece vocabulary of this world's words, each one token; anything else is [UNK]"""
    templates = [t for kind in SETTINGS for t in SETTINGS[kind]]
    templates += [t for kind in ACTS for acts in ACTS[kind] for t in acts]
    words = {w for t in templates for w in t.split() if w[0] != "{"}.union(
        GOOD,
        BAD,
        SHE,
        HE,
        PLAIN,
        DAYS,
        DEGREES,
        *THINGS.values(),
        ". i we she he her his not and but the it was at first in end everyone said they found".split(),
    )
    with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf-8", newline="\n") as f:
        f.write("".join(w + "\n" for w in ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + sorted(words)))
    with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8", newline="\n") as f:
        f.write('{"do_lower_case": true}\n')


def dataset_args(args, name, tokenizer, keep):
    """What the flags of a data script would be that makes the folder `name`"""
    return argparse.Namespace(
        out=os.path.join(args.out, name),
        tokenizer=tokenizer,
        val_fraction=0.05,
        seed=args.seed,
        limit=None,
        keep_text=keep,
    )


def encoder(args):
    """Makes DIR/text and DIR/reviews."""
    with tempfile.TemporaryDirectory() as tokenizer:
        write_tokenizer(tokenizer)
        world = World(args.seed, args.negation, args.contrast)
        documents = (world.document() for _ in range(args.documents))
        write_text_dataset(dataset_args(args, "text", tokenizer, args.keep_text), documents)

        # val and test come first: how many rows train has changes nothing about them
        world, seen, rows = World(args.seed + 1000, args.negation, args.contrast), set(), {}
        for name, half, number in (("val", "A", 2000), ("test", "B", 2000), ("train", "A", args.labels)):
            rows[name] = world.reviews(half, number, seen)
        write_classify_dataset(
            dataset_args(args, "reviews", tokenizer, True),
            {name: ((text, None, label, name) for text, label in rows[name]) for name in rows},
            LABELS,
        )

    print("\nA bag of words learns from the same %d labels:" % args.labels)
    train, val, test = (os.path.join(args.out, "reviews", part + ".tsv") for part in ("train", "val", "test"))
    for ngrams, what in (("1", "words"), ("2", "words and pairs of words")):
        baseline = [sys.executable, BASELINE, "--train", train, "--test", val, "--test", test, "--ngrams", ngrams]
        run = subprocess.run(baseline, stdout=subprocess.PIPE, text=True)
        if run.returncode:
            raise Failure("")  # it has said what is wrong
        for name, line in zip(("val", "test"), run.stdout.splitlines()[1:]):
            print("  %s on %s: accuracy%s" % (what, name, line.rpartition(": accuracy")[2]))


def decoder(args):
    """Makes DIR/gpt/text, DIR/reasons, DIR/instruct, DIR/instruct_six, DIR/instruct_one."""
    world = World(args.seed + 2000, args.negation, args.contrast)
    seen = set()
    folders = {
        "reasons": {
            name: world.reasons(half, number, seen)
            for name, half, number in (("val", "A", 1000), ("test", "B", 1000), ("train", "A", 1000))
        }
    }
    folders.update(instructions.sets(World(args.seed + 3000, args.negation, args.contrast), args.rows))
    world = World(args.seed + 4000, args.negation, args.contrast)
    with tempfile.TemporaryDirectory() as tokenizer:
        # the vocabulary is learned from the text and from as much of the instructions, so that each word of either is
        # one token
        text = os.path.join(tokenizer, "text")
        with open(text, "w", encoding="utf-8", newline="\n") as f:
            stories = [instructions.tale(world) for _ in range(args.stories)]
            rows = [r for name in ("reasons", "instruct") for r in folders[name]["train"][: args.stories]]
            for document in stories + [instructions.TEMPLATE.format(**r) for r in rows]:
                f.write(document + "\n" + EOT + "\n")
        run_tokenize(tokenizer, "learn", "--type", "bpe", "--size", str(BPE_SIZE), "--out", ".", text)
        write_text_dataset(dataset_args(args, os.path.join("gpt", "text"), tokenizer, args.keep_text), stories)
        template = os.path.join(tokenizer, "toy.txt")
        with open(template, "w", encoding="utf-8", newline="\n") as f:
            f.write(instructions.TEMPLATE + "\n")
        for name, parts in folders.items():
            made = dataset_args(args, name, tokenizer, True)
            made.template, made.shots, made.max_len, made.overlong = template, None, 0, None
            write_instruct_dataset(made, {part: ((row, part) for row in rows) for part, rows in parts.items()})

    print("\nExact match in % without a model: by copying the input; by the most frequent answer to the task")
    for name, parts in folders.items():
        for part in parts:
            if part != "train":
                values = instructions.baselines(parts[part], parts["train"])
                print("  %-40s %8.1f %8.1f" % ("%s/%s" % (name, part), *values))


def main():
    p = plain_parser(
        __doc__,
        """\
  data/toy.py --out datasets/toy
  data/toy.py --labels 2000 --out datasets/toy2000          the same text, val and test, more labels
  data/toy.py --negation 0 --contrast 0 --out datasets/toyeasy
  data/toy.py --only decoder --seed 5 --out datasets/toy5   another draw of the decoder's data alone
""",
        "makes, for an encoder, DIR/text (train.bin, val.bin, tokenizer) and DIR/reviews (train, val and test, each as "
        ".bin and .tsv, tokenizer); for a decoder, DIR/gpt/text, DIR/reasons (train, val and test, each as .bin and "
        ".jsonl), DIR/instruct (train, val and test_*), and DIR/instruct_six and DIR/instruct_one (train and val of "
        "six tasks and of one)",
    )
    p.add_argument(
        "--labels", type=int, default=100, metavar="N", help="reviews in train, half of them positive (default 100)"
    )
    p.add_argument(
        "--documents", type=int, default=40000, metavar="N", help="documents of the text (default 40000, 3.6 MB)"
    )
    p.add_argument(
        "--negation",
        type=float,
        default=0.1,
        metavar="X",
        help="fraction of the opinions that are negated (default 0.1; of a review the first sentence of opinion)",
    )
    p.add_argument(
        "--contrast",
        type=float,
        default=0.1,
        metavar="X",
        help="fraction of the sentences of opinion with a contrast (default 0.1)",
    )
    p.add_argument("--seed", type=int, default=1, metavar="N", help="seed of everything that is drawn (default 1)")
    p.add_argument(
        "--stories",
        type=int,
        default=100000,
        metavar="N",
        help="documents of the decoder's text (default 100000, 12 MB)",
    )
    p.add_argument(
        "--rows",
        type=int,
        default=120000,
        metavar="N",
        help="rows in train of DIR/instruct; half as many of six tasks and of one (default 120000)",
    )
    p.add_argument(
        "--only", choices=["encoder", "decoder"], help="make the data of one of the two only (default: both)"
    )
    p.add_argument("--keep-text", action="store_true", help="leave train.txt and val.txt in DIR/text and DIR/gpt/text")
    args = p.parse_args()
    for name in ("negation", "contrast"):
        if not 0 <= getattr(args, name) <= 1:
            raise Usage("--%s: expected a fraction between 0 and 1, found %g" % (name, getattr(args, name)))
    if not 2 <= args.labels <= 20000 or args.labels % 2:
        raise Usage("--labels: expected an even number from 2 to 20000, found %d" % args.labels)
    if args.documents < 100:
        raise Usage("--documents: expected 100 or more, found %d" % args.documents)
    for name, least in (("stories", 100), ("rows", 200)):
        if getattr(args, name) < least:
            raise Usage("--%s: expected %d or more, found %d" % (name, least, getattr(args, name)))
    check_arguments(
        argparse.Namespace(
            **vars(args), tokenizer=None, val_fraction=0.05, vocab_size=BPE_SIZE, tokenizer_type="bpe", cased=False
        )
    )
    if args.only != "decoder":
        encoder(args)
    if args.only != "encoder":
        decoder(args)


if __name__ == "__main__":
    run_script(main)
