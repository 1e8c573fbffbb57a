"""The words of a small world, and World, which draws sentences, reviews and reasons about it."""

import random

# Opinion words, most frequent first; of every pair of neighbours the first belongs to half A, the second to half B
GOOD = (
    "great good wonderful nice lovely excellent delightful pleasant superb perfect charming brilliant splendid amazing "
    "marvelous beautiful fantastic impressive terrific fine enjoyable remarkable fabulous magnificent stunning "
    "outstanding memorable exquisite divine glorious heavenly awesome"
).split()
BAD = (
    "bad terrible boring awful poor horrible dull disappointing dreadful nasty unpleasant disgusting miserable lousy "
    "ugly weak hideous tedious dismal grim vile dreary pathetic mediocre annoying shabby hopeless tiresome useless "
    "sloppy abysmal wretched"
).split()
HALF = {"A": (BAD[0::2], GOOD[0::2]), "B": (BAD[1::2], GOOD[1::2])}
LABELS = ["negative", "positive"]

SHE = "anna lily mia rosa nina ella ida zoe vera alice clara emma".split()
HE = "tom ben sam jack leo max omar hugo karl finn paul peter".split()
THINGS = {
    "dish": "soup bread cake pie stew salad pizza rice curry fish pasta pudding".split(),
    "place": "cafe hotel park museum beach market garden zoo inn castle lake village".split(),
    "show": "film play concert opera dance comedy musical story song circus ballet parade".split(),
}
PLAIN = "small big old new local famous red green quiet french".split()  # says nothing about quality
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
DEGREES = "very really so quite truly".split()

# How a document or a review begins: {who} {x: the thing, with "the"} {place} {friend} {day}
SETTINGS = {
    "dish": ["{who} tried {x} at the {place}", "{who} ordered {x} on {day}", "{who} had {x} with {friend}"],
    "place": ["{who} went to {x} on {day}", "{who} visited {x} with {friend}", "{who} spent {day} at {x}"],
    "show": ["{who} saw {x} with {friend}", "{who} went to see {x} on {day}", "{who} watched {x} at the {place}"],
}
# What people do then, {she} {her}: when they found it bad, good
ACTS = {
    "dish": (
        ["{she} left it on the plate", "{she} asked for the money back"],
        ["{she} ate it all", "{she} asked for the recipe"],
    ),
    "place": (["{she} went home early", "{she} never came back"], ["{she} stayed for hours", "{she} came back soon"]),
    "show": (["{she} fell asleep", "{she} walked out early"], ["{she} clapped for a long time", "{she} saw it again"]),
    "any": (
        ["{she} was sad", "{she} frowned and sighed", "{she} told {her} friends to avoid it"],
        ["{she} was happy", "{she} smiled and laughed", "{she} told {her} friends to try it"],
    ),
}

REASON = "is this good or bad and why ?"


def because(label, why):
    return '%s because of " %s "' % (label, why)


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
    """Draws sentences. Of random.Random it uses random() alone, which gives the same numbers on every machine and in
    every version. negation, contrast: which fraction of the opinions has one"""

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

    # In what follows a sentence is a list of words in which an opinion word is still open: 1 for one of the document's
    # polarity, -1 for one of the other polarity.
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
        return self.one(
            [["the", x, "was"], ["it", "was"], ["everyone", "said", "it", "was"], ["they", "found", "the", x]]
        ) + self.judgement(1)

    def beginning(self, who, kind=None):
        """Kind of thing, its name, and a sentence about somebody who meets it"""
        kind = kind or self.one(list(THINGS))
        x = self.one(THINGS[kind])
        the_x = "the " + (self.one(PLAIN) + " " if self.random() < 0.2 else "") + x
        sentence = self.one(SETTINGS[kind]).format(
            who=who, x=the_x, place=self.one(THINGS["place"]), friend=self.one(SHE + HE), day=self.one(DAYS)
        )
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

    def dealer(self, half):
        """A function that deals opinion words of a half, bad or good, from shuffled decks"""
        decks = [[], []]

        def deal(good):
            decks[good] = decks[good] or self.shuffled(HALF[half][good])
            return decks[good].pop()

        return deal

    def reviews(self, half, number, seen):
        """[(text, label)], as many of either label, in random order; none of which is in seen. Opinion words are dealt
        like cards: all equally often."""
        deal, rows = self.dealer(half), []
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

    def explained(self, draw, kind=None):
        """Two reviews that differ in the opinion words only, [(text, label, the words that decide)]: negative,
        positive. What decides is the last judgement: of "the play was dull but the soup was very tasty ." the word
        "tasty"."""
        _, x, words = self.beginning("i" if self.random() < 0.5 else "we", kind)
        if self.random() < 0.4:
            words = []
        words += self.opinion(x) + ["."]
        last = words.index("but") if "but" in words else 0
        decide = [i for i in range(last, len(words)) if words[i] in (1, -1)]
        begin, end = decide[0] - (words[decide[0] - 1] == "not"), decide[-1] + 1
        texts = [fill(words, good, draw) for good in (0, 1)]
        return [(text, LABELS[good], " ".join(text.split()[begin:end])) for good, text in enumerate(texts)]

    def reasons(self, half, number, seen):
        """Rows of one task, review -> label and reason, none of whose reviews is in seen; as many of either label,
        opinion words dealt like cards"""
        deal, rows = self.dealer(half), []
        while len(rows) < number:
            twins = self.explained(deal)
            if not seen.intersection(text for text, _, _ in twins):
                seen.update(text for text, _, _ in twins)
                rows += [
                    {"instruction": REASON, "input": text, "output": because(label, why), "task": "sentiment/reason"}
                    for text, label, why in twins
                ]
        return self.shuffled(rows)
