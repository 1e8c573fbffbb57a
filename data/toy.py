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
import random
import tempfile

import bow
import common

# Opinion words, most frequent first; of every pair of neighbours the first belongs to half A, the second to half B
GOOD = ("great good wonderful nice lovely excellent delightful pleasant superb perfect charming brilliant splendid amazing marvelous beautiful "
        "fantastic impressive terrific fine enjoyable remarkable fabulous magnificent stunning outstanding memorable exquisite divine glorious heavenly awesome").split()
BAD = ("bad terrible boring awful poor horrible dull disappointing dreadful nasty unpleasant disgusting miserable lousy ugly weak "
       "hideous tedious dismal grim vile dreary pathetic mediocre annoying shabby hopeless tiresome useless sloppy abysmal wretched").split()
HALF = {"A": (BAD[0::2], GOOD[0::2]), "B": (BAD[1::2], GOOD[1::2])}
LABELS = ["negative", "positive"]

SHE = "anna lily mia rosa nina ella ida zoe vera alice clara emma".split()
HE = "tom ben sam jack leo max omar hugo karl finn paul peter".split()
THINGS = {"dish": "soup bread cake pie stew salad pizza rice curry fish pasta pudding".split(),
          "place": "cafe hotel park museum beach market garden zoo inn castle lake village".split(),
          "show": "film play concert opera dance comedy musical story song circus ballet parade".split()}
PLAIN = "small big old new local famous red green quiet french".split()  # says nothing about quality
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
DEGREES = "very really so quite truly".split()

# How a document or a review begins: {who} {x: the thing, with "the"} {place} {friend} {day}
SETTINGS = {"dish": ["{who} tried {x} at the {place}", "{who} ordered {x} on {day}", "{who} had {x} with {friend}"],
            "place": ["{who} went to {x} on {day}", "{who} visited {x} with {friend}", "{who} spent {day} at {x}"],
            "show": ["{who} saw {x} with {friend}", "{who} went to see {x} on {day}", "{who} watched {x} at the {place}"]}
# What people do then, {she} {her}: when they found it bad, good
ACTS = {"dish": (["{she} left it on the plate", "{she} asked for the money back"], ["{she} ate it all", "{she} asked for the recipe"]),
        "place": (["{she} went home early", "{she} never came back"], ["{she} stayed for hours", "{she} came back soon"]),
        "show": (["{she} fell asleep", "{she} walked out early"], ["{she} clapped for a long time", "{she} saw it again"]),
        "any": (["{she} was sad", "{she} frowned and sighed", "{she} told {her} friends to avoid it"],
                ["{she} was happy", "{she} smiled and laughed", "{she} told {her} friends to try it"])}


def fill(words, good, draw):
    """The open words are drawn, no two neighbours ("great and great") alike"""
    text = []
    for w in words:
        if w in (1, -1):
            word = draw(good if w == 1 else not good)
            while text[-2:] == [word, "and"]:
                word = draw(good if w == 1 else not good)
            w = word
        text.append(w)
    return " ".join(text)


class World:
    """Draws sentences. Uses nothing of random.Random but random(), which gives the same numbers on every machine and version."""

    def __init__(self, seed, negation, contrast):
        self.random = random.Random(seed).random
        self.negation, self.contrast = negation, contrast

    def one(self, items):
        return items[int(self.random() * len(items))]

    def zipf(self, items):
        """The i-th item, from 0, with a probability proportional to 1 / (i + 1)"""
        at = self.random() * sum(1 / (i + 1) for i in range(len(items)))
        for i, item in enumerate(items):
            at -= 1 / (i + 1)
            if at < 0:
                return item
        return items[-1]

    def shuffled(self, items):
        items = list(items)
        for i in range(len(items) - 1, 0, -1):
            j = int(self.random() * (i + 1))
            items[i], items[j] = items[j], items[i]
        return items

    # In what follows a sentence is a list of words in which an opinion word is still open: 1 for one of the document's polarity, -1 for one of the other.
    def judgement(self, sign):
        """really OPEN | OPEN and OPEN | not OPEN"""
        if self.random() < self.negation:
            return ["not", -sign]
        words = [self.one(DEGREES)] if self.random() < 0.3 else []
        return words + [sign, "and", sign] if self.random() < 0.2 else words + [sign]

    def opinion(self, x):
        at = self.random()
        if at < self.contrast / 2:
            other = self.one([thing for kind in THINGS for thing in THINGS[kind] if thing != x])
            return ["the", other, "was", *self.judgement(-1), "but", "the", x, "was", *self.judgement(1)]
        if at < self.contrast:
            return ["it", "was", *self.judgement(-1), "at", "first", "but", *self.judgement(1), "in", "the", "end"]
        return self.one([["the", x, "was"], ["it", "was"], ["everyone", "said", "it", "was"], ["they", "found", "the", x]]) + self.judgement(1)

    def beginning(self, who):
        """Kind of thing, its name, and a sentence about somebody who meets it"""
        kind = self.one(list(THINGS))
        x = self.one(THINGS[kind])
        the_x = "the " + (self.one(PLAIN) + " " if self.random() < 0.2 else "") + x
        sentence = self.one(SETTINGS[kind]).format(who=who, x=the_x, place=self.one(THINGS["place"]), friend=self.one(SHE + HE), day=self.one(DAYS))
        return kind, x, sentence.split() + ["."]

    def document(self):
        """Somebody meets a thing, an opinion about it, what follows from it"""
        good = self.random() < 0.5
        she = self.random() < 0.5
        kind, x, words = self.beginning(self.one(SHE if she else HE))
        if self.random() < 0.4:
            words = []
        words += self.opinion(x) + ["."]
        acts = [self.one(ACTS[kind if self.random() < 0.5 else "any"][good]) for _ in range(1 + (self.random() < 0.3))]
        for act in acts if len(set(acts)) == len(acts) else acts[:1]:
            words += act.format(she="she" if she else "he", her="her" if she else "his").split() + ["."]
        return fill(words, good, lambda good: self.zipf(self.one((HALF["A"], HALF["B"]))[good]))

    def reviews(self, half, number, seen):
        """[(text, label)], as many of either label, in random order; none of which is in seen. Opinion words are dealt like cards: all equally often."""
        decks = [[], []]

        def deal(good):
            decks[good] = decks[good] or self.shuffled(HALF[half][good])
            return decks[good].pop()

        rows = []
        while len(rows) < number:
            _, x, words = self.beginning("i" if self.random() < 0.5 else "we")
            if self.random() < 0.4:
                words = []
            words += self.opinion(x) + ["."]
            if self.random() < 0.3:
                words += ["it", "was", self.one(DEGREES), 1, "."]
            twins = [fill(words, good, deal) for good in (0, 1)]
            if not seen.intersection(twins):
                seen.update(twins)
                rows += [(text, LABELS[good]) for good, text in enumerate(twins)]
        return self.shuffled(rows)


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
