"""Instructions about the world of world.py: 243 small tasks in 21 families, 171 of them in 18 families to train on,
and the text that a decoder reads before them.

A task is an operation on a kind of thing ("reverse-food"), its name is family/task. An instruction is worded as
FRAME(VERB, PHRASE): "please" + "tell me" + "the last animal". What is held out follows from the rules below, by
counting and not by trying:

  wordings      combinations of frame, verb and phrase that a task's training rows never use (a quarter of them),
                although each part occurs
  phrases       a phrase of each operation that occurs in no training row at all: harder than wordings
  operations    one kind of every operation: "the last food", where training has the last of everything else, and other
                things about foods
  compositions  two skills that are trained with others: the opposite of the third word, two operations on a list at
                once, the last of FIVE foods
  families      whole families: count, neighbour, odd. Their skills occur in the text, in other words; no instruction
                in training wants them

Everything is drawn by World, so that the rows are the same on every machine.
"""

import collections
import itertools

from .world import BAD, DAYS, GOOD, HE, SHE, THINGS, because

KINDS = {
    "animal": (
        "cat dog cow pig hen duck goat horse bear lion tiger frog bee ant crow owl mole seal snake rabbit".split()
    ),
    "food": (
        "soup cake pie salad pizza pudding apple pear plum lemon grape carrot onion bean egg cookie noodle olive melon "
        "nut".split()
    ),
    "thing": (
        "ball cup book hat box lamp chair table pen key clock bell drum kite rope spoon plate coat shoe bag".split()
    ),
    "person": SHE + HE,
    "colour": "red blue green yellow black white pink brown silver purple grey gold".split(),
    "place": THINGS["place"] + "farm school shop river".split(),
}
MANY = {
    "animal": "animals",
    "food": "foods",
    "thing": "things",
    "person": "people",
    "colour": "colours",
    "place": "places",
    "adjective": "words",
}
OBJECTS = ["animal", "food", "thing"]  # what can be had, is of a colour, and has a plural
PAIRS = [
    p.split("-")
    for p in (
        "hot-cold big-small long-short fast-slow old-new happy-sad wet-dry full-empty hard-soft loud-quiet light-dark "
        "rich-poor strong-weak clean-dirty early-late near-far high-low thick-thin open-closed young-wise"
    ).split()
]
OPPOSITE = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])}
KINDS["adjective"] = list(OPPOSITE)
LISTS = [k for k in KINDS if k != "adjective"]
NUMBERS = "zero one two three four five six seven eight nine ten".split()
POSITIONS = {
    "first": lambda n: 0,
    "second": lambda n: 1,
    "third": lambda n: 2,
    "middle": lambda n: n // 2,
    "last": lambda n: n - 1,
}
DEEDS = "has wants found lost".split()  # what one can do with a thing
UNTOLD = "the text does not say"

# The short template, and the marker of an answer, which the text has, too
TEMPLATE = "{instruction} : {input}\nanswer : {output}"

VERBS = ["say", "tell me", "write", "name", "give me", "show me"]
FRAMES = ["{v} {n}", "please {v} {n}", "now {v} {n}", "read this and {v} {n}", "look and {v} {n}", "can you {v} {n} ?"]


def held_wording(frame, verb, phrase):
    """Of the numbers of frame, verb and phrase: a quarter of the combinations; every frame, verb and phrase occurs
    outside of it"""
    return (frame + verb + phrase) % 4 == 0


def plural(word):
    return word + ("es" if word[-1] == "x" else "s")


def a(word):
    return ("an " if word[0] in "aeio" else "a ") + word


def comma(words):
    return " , ".join(words)


def products(*parts):
    """[["the list", ...], ["backwards", ...]] -> the phrases of training, "the list backwards", ..., and those of the
    test "phrases", with the last of one part, which training never sees"""
    joined = lambda choices: [" ".join(words) for words in itertools.product(*choices)]
    return joined([p[:-1] for p in parts]), [
        x for i in range(len(parts)) for x in joined([p[-1:] if j == i else p[:-1] for j, p in enumerate(parts)])
    ]


# ---------------------------------------------------------------- phrases
# The last of each list is only for the test "phrases".
LIST = ["the {many}", "the list", "these words", "all of these", "the whole list"]
ORDERS = {
    "reverse": ["backwards", "in reverse", "from last to first", "in reverse order", "turned around"],
    "firsttwo": [
        "the first two {many}",
        "the first two words",
        "the first two",
        "the first two of these",
        "the two that come first",
    ],
    "lasttwo": [
        "the last two {many}",
        "the last two words",
        "the last two",
        "the last two of these",
        "the two that come last",
    ],
}
FORMS = {
    "and": ["with and between", "joined by and", "with and", "with the word and between", "and put and between them"],
    "number": ["with numbers", "numbered", "with a number before each", "counted from one", "and number them"],
    "the": [
        "with the before each",
        "each with the",
        "with articles",
        "with an article before each",
        "and put the in front of them",
    ],
    "twice": ["each twice", "every word twice", "each two times", "each one doubled", "and repeat each of them"],
}
AT = ["the {at} word", "the {at} one", "the {at} of these", "the word that is {at}", "the {at} item"]
TRANSFORMS = {
    "opposite": [
        "the opposite of",
        "the contrary of",
        "what is opposite to",
        "the word against",
        "the reverse meaning of",
    ],
    "plural": ["the plural of", "more than one of", "many of", "the word for several of", "two or more of"],
    "kind": ["the kind of", "the class of", "the sort of", "the group of", "the type of"],
    "twice": ["twice", "two times", "a double of", "a repetition of", "once and again"],
}
SENTENCE = ["this", "the sentence", "the same", "the text", "what is written"]
QUESTIONS = {
    "who": [
        "who {verb} the {x}",
        "which person {verb} the {x}",
        "the person who {verb} the {x}",
        "the name of the one who {verb} the {x}",
        "the human who {verb} the {x}",
    ],
    "what": [
        "what {p} {verb}",
        "the thing that {p} {verb}",
        "which thing {p} {verb}",
        "what it is that {p} {verb}",
        "the one thing of which {p} {verb} one",
    ],
    "colour": [
        "what colour the {x} is that someone {verb}",
        "the colour of the {x} that someone {verb}",
        "which colour has the {x} that someone {verb}",
        "of what colour the {x} is that someone {verb}",
        "how the {x} is coloured that someone {verb}",
    ],
    "place": [
        "where {p} {verb} something",
        "at which place {p} {verb} something",
        "the place where {p} {verb} something",
        "the place at which {p} {verb} something",
        "whereabouts {p} {verb} something",
    ],
}

# draw(world) -> (what stands for {...} in the phrases, input, output)
Task = collections.namedtuple("Task", "name level phrases new draw")


def sample(w, items, n):
    """n different items"""
    found = []
    while len(found) < n:
        x = w.one(items)
        if x not in found:
            found.append(x)
    return found


def length(w, middle=False):
    return (3, 5)[w.random() < 0.5] if middle else 3 + int(3 * w.random())


# ---------------------------------------------------------------- what tasks do with a list
def formed(form, words):
    return {
        "and": " and ".join(words),
        "number": " ".join(NUMBERS[i + 1] + " " + x for i, x in enumerate(words)),
        "the": comma("the " + x for x in words),
        "twice": comma(x + " " + x for x in words),
        "comma": comma(words),
    }[form]


def ordered(order, words):
    return {"reverse": words[::-1], "firsttwo": words[:2], "lasttwo": words[-2:], "same": words}[order]


def choose(at, kind, lengths=None, avoid=None):
    """lengths: what lists are of; avoid: a length that is held out"""

    def draw(w):
        n = w.one(lengths) if lengths else length(w, at == "middle")
        while n == avoid:
            n = length(w, at == "middle")
        words = sample(w, KINDS[kind], n)
        return {"at": at, "kind": "word" if kind == "adjective" else kind}, comma(words), words[POSITIONS[at](n)]

    return draw


def arrange(order, form, kind=None):
    def draw(w):
        k = kind or w.one(LISTS)
        words = sample(w, KINDS[k], length(w))
        return {"many": MANY[k]}, comma(words), formed(form, ordered(order, words))

    return draw


def one_among_others(w, kind):
    """A list with one word of the kind; (words, where it is)"""
    words = [w.one(KINDS[k]) for k in sample(w, [k for k in LISTS if k != kind], length(w) - 1)]
    at = int(w.random() * (len(words) + 1))
    return words[:at] + [w.one(KINDS[kind])] + words[at:], at


def find(kind):
    def draw(w):
        words, at = one_among_others(w, kind)
        return {"a": a(kind), "kind": kind}, comma(words), words[at]

    return draw


def remove(kind):
    def draw(w):
        words, at = one_among_others(w, kind)
        return {"kind": kind}, comma(words), comma(words[:at] + words[at + 1 :])

    return draw


def there(kind):
    def draw(w):
        words, at = one_among_others(w, kind)
        yes = w.random() < 0.5
        if not yes:
            other = w.one([k for k in LISTS if k != kind])
            words[at] = w.one([x for x in KINDS[other] if x not in words])
        return {"a": a(kind)}, comma(words), "yes" if yes else "no"

    return draw


def count(kind):
    def draw(w):
        n = length(w)
        k = 1 + int(w.random() * n)
        other = w.one([x for x in LISTS if x != kind])
        return (
            {"many": MANY[kind]},
            comma(w.shuffled(sample(w, KINDS[kind], k) + sample(w, KINDS[other], n - k))),
            NUMBERS[k],
        )

    return draw


def neighbour(side, kind):
    def draw(w):
        words = sample(w, KINDS[kind], length(w))
        i = int(w.random() * (len(words) - 1))
        x, y = words[i : i + 2] if side == "after" else (words[i + 1], words[i])
        return {"x": x, "kind": kind}, comma(words), y

    return draw


def odd(kind):
    def draw(w):
        words = sample(w, KINDS[kind], length(w) - 1)
        at = int(w.random() * (len(words) + 1))
        x = w.one(KINDS[w.one([k for k in LISTS if k != kind])])
        return {"a": a(kind), "kind": kind}, comma(words[:at] + [x] + words[at:]), x

    return draw


# ---------------------------------------------------------------- words
def transformed(transform, word):
    if transform == "opposite":
        return OPPOSITE[word]
    if transform == "kind":
        return next(k for k in LISTS if word in KINDS[k])
    return plural(word) if transform == "plural" else word + " " + word


def transform_at(transform, at):
    def draw(w):
        n = length(w, at == "middle")
        kinds = {"opposite": ["adjective"], "plural": OBJECTS, "kind": LISTS, "twice": LISTS}[transform]
        words = (
            [w.one(KINDS[k]) for k in sample(w, LISTS, n)] if transform == "kind" else sample(w, KINDS[w.one(kinds)], n)
        )
        return {"at": at}, comma(words), transformed(transform, words[POSITIONS[at](n)])

    return draw


def word(transform, kind):
    def draw(w):
        x = w.one(KINDS[kind])
        return ({}, plural(x), x) if transform == "singular" else ({}, x, transformed(transform, x))

    return draw


def continued(kind):
    def draw(w):
        if kind in ("days", "numbers"):
            words = DAYS + DAYS if kind == "days" else NUMBERS
            n = 2 + int(2 * w.random())
            i = int(w.random() * (7 if kind == "days" else len(words) - n))
            return {}, comma(words[i : i + n]), words[i + n]
        x, y = sample(w, KINDS[kind], 2)
        n = 3 + int(3 * w.random())
        return {}, comma(([x, y] * 3)[:n]), ([x, y] * 3)[n]

    return draw


# ---------------------------------------------------------------- sentences
def sentence(change, kind):
    """the cat of tom is very big . -> negated, with the opposite, in the past"""

    def draw(w):
        x, y = w.one(KINDS[kind]), w.one(KINDS["adjective"])
        the = "the %s%s%s" % (
            w.one(KINDS["colour"]) + " " if w.random() < 0.3 else "",
            x,
            " of " + w.one(KINDS["person"]) if w.random() < 0.5 else "",
        )
        very = "very " if w.random() < 0.3 else ""
        before, after = ("is", "was") if change == "past" else sample(w, ["is", "was"], 1) * 2
        no, yes = ("not ", "") if w.random() < 0.3 else ("", "not ")
        if change != "negate":
            yes = no
        return (
            {},
            "%s %s %s%s%s ." % (the, before, no, very, y),
            "%s %s %s%s%s ." % (the, after, yes, very, OPPOSITE[y] if change == "contrary" else y),
        )

    return draw


def story(w, verb, n):
    """[(person, colour, thing, place)], all different, and the text"""
    facts = list(
        zip(
            sample(w, KINDS["person"], n),
            sample(w, KINDS["colour"], n),
            sample(w, [x for k in OBJECTS for x in KINDS[k]], n),
            sample(w, KINDS["place"], n),
        )
    )
    return facts, " ".join("%s %s a %s %s at the %s ." % (p, verb, c, x, l) for p, c, x, l in facts)


def rewrite(what, verb):
    def draw(w):
        (old, new), _ = story(w, verb, 2)
        i = {"person": 0, "colour": 1, "thing": 2, "place": 3}[what]
        text = lambda f: "%s %s a %s %s at the %s ." % (f[0], verb, f[1], f[2], f[3])
        return {"new": new[i], "verb": verb}, text(old), text(old[:i] + new[i : i + 1] + old[i + 1 :])

    return draw


def question(asked, verb, always):
    """always: the text tells; else every other time"""

    def draw(w):
        told = always or w.random() < 0.5
        facts, _ = story(w, verb, 3 if w.random() < 0.5 else 4)
        (p, c, x, l), facts = facts[0], w.shuffled(facts[:-1] if told else facts[1:])
        text = " ".join("%s %s a %s %s at the %s ." % (p, verb, c, x, l) for p, c, x, l in facts)
        return (
            {"p": p, "x": x, "verb": verb},
            text,
            {"who": p, "what": x, "colour": c, "place": l}[asked] if told else UNTOLD,
        )

    return draw


def sentiment(reason, kind):
    def draw(w):
        text, label, why = w.explained(lambda good: w.one((BAD, GOOD)[good]), kind)[w.random() < 0.5]
        return {}, text, because(label, why) if reason else label

    return draw


# ---------------------------------------------------------------- all tasks
def all_tasks():
    """Every task, in a fixed order. In a grid of operations and kinds the o-th operation is held out with the k-th kind
    if o + k is a multiple of the number of kinds; o counts the operations of all families."""
    tasks, operations = [], [0]

    def grid(family, operation, kinds, phrases, draw, join="-"):
        for k, kind in enumerate(kinds):
            level = "operations" if (operations[0] + k) % len(kinds) == 0 else "seen"
            tasks.append(
                Task("%s/%s" % (family, join.join(p for p in (operation, kind) if p)), level, *phrases, draw(kind))
            )
        operations[0] += 1

    def held_families(family, operation, kinds, phrases, draw):
        for kind in kinds:
            tasks.append(
                Task("%s/%s" % (family, "-".join(p for p in (operation, kind) if p)), "families", *phrases, draw(kind))
            )

    for i, at in enumerate(POSITIONS):
        # "the last of five foods": of each position one kind whose lists of five come in the test only
        of_five = LISTS[(i + 4) % len(LISTS)]
        phrases = products(
            ["the {at} {kind}", "the {at} one", "the {at} in the list", "the {kind} that is {at}", "the {at} item"]
        )
        grid(
            "choose",
            at,
            LISTS + ["adjective"],
            phrases,
            lambda kind: choose(at, kind, avoid=5 if kind == of_five else None),
        )
        tasks.append(
            Task(
                "choose/%s-of-five-%s" % (at, MANY[of_five]), "compositions", *phrases, choose(at, of_five, lengths=[5])
            )
        )
    grid(
        "find",
        "",
        LISTS,
        products(["the {kind}", "the one {kind}", "the word that is {a}", "the only {kind}", "what here is {a}"]),
        find,
    )
    grid(
        "remove",
        "",
        LISTS,
        products(
            [p for p in LIST if "{" not in p],
            [
                "without the {kind}",
                "but not the {kind}",
                "and leave out the {kind}",
                "minus the {kind}",
                "except for the {kind}",
            ],
        ),
        remove,
    )
    grid(
        "there",
        "",
        LISTS,
        products(
            ["if", "whether", "is it so that"],
            ["there is {a}", "one of these is {a}", "{a} is here", "there is {a} in the list", "you see {a}"],
        ),
        there,
    )
    for order in ORDERS:
        parts = ([LIST] if order == "reverse" else []) + [ORDERS[order]]
        grid("order", order, LISTS, products(*parts), lambda kind: arrange(order, "comma", kind))
    for form in FORMS:
        grid(
            "format" if form != "twice" else "repeat",
            form,
            LISTS,
            products(LIST, FORMS[form]),
            lambda kind: arrange("same", form, kind),
        )
    for i, order in enumerate(ORDERS):
        for j, form in enumerate(FORMS):
            parts = ([LIST] if order == "reverse" else []) + [ORDERS[order], FORMS[form]]
            tasks.append(
                Task(
                    "arrange/%s-%s" % (order, form),
                    "compositions" if (i + j) % 4 == 0 else "seen",
                    *products(*parts),
                    arrange(order, form),
                )
            )
    for i, transform in enumerate(TRANSFORMS):
        for j, at in enumerate(POSITIONS):
            tasks.append(
                Task(
                    "transform/%s-%s" % (at, transform),
                    "compositions" if (i + j) % 5 == 0 else "seen",
                    *products(TRANSFORMS[transform], AT),
                    transform_at(transform, at),
                )
            )
    this = ["this word", "it", "the word", "that", "this"]
    grid("word", "plural", OBJECTS, products(TRANSFORMS["plural"], this), lambda kind: word("plural", kind))
    grid(
        "word",
        "singular",
        OBJECTS,
        products(["the singular of", "only one of", "just one of", "the word for one of", "a single one of"], this),
        lambda kind: word("singular", kind),
    )
    grid("word", "kind", LISTS, products(TRANSFORMS["kind"], this), lambda kind: word("kind", kind))
    tasks.append(Task("word/opposite", "seen", *products(TRANSFORMS["opposite"], this), word("opposite", "adjective")))
    next_one = products(
        ["what comes next", "the next word", "the next one", "how the list goes on", "what should follow"]
    )
    for kind in ("days", "numbers"):
        tasks.append(Task("continue/" + kind, "seen", *next_one, continued(kind)))
    grid("continue", "pattern", LISTS, next_one, continued)
    for change, how in (
        (
            "negate",
            ["with not added or taken away", "negated", "denied", "with the other truth", "as something untrue"],
        ),
        (
            "contrary",
            [
                "with the opposite word",
                "with the opposite",
                "with the contrary word",
                "the other way round",
                "with the other adjective",
            ],
        ),
        (
            "past",
            ["about the past", "in the past", "as it was before", "as a thing of the past", "as if it were long ago"],
        ),
    ):
        grid(change, "", OBJECTS + ["place"], products(SENTENCE, how), lambda kind: sentence(change, kind))
    for what, how in (
        (
            "person",
            [
                "about {new}",
                "with the name {new}",
                "with {new} as the person",
                "as if it were {new}",
                "but {new} does it",
            ],
        ),
        ("colour", ["in {new}", "with the colour {new}", "with {new} as the colour", "but {new}", "painted {new}"]),
        (
            "thing",
            [
                "with the thing {new}",
                "with the word {new}",
                "with {new} as the thing",
                "about one {new}",
                "but one {new} instead",
            ],
        ),
        (
            "place",
            [
                "at the {new}",
                "with the place {new}",
                "with {new} as the place",
                "but at the {new}",
                "moved to the {new}",
            ],
        ),
    ):
        grid("rewrite", what, DEEDS, products(SENTENCE, how), lambda verb: rewrite(what, verb))
    for family in ("question", "untold"):  # the same questions, and the same are held out
        begin = operations[0]
        for asked in QUESTIONS:
            grid(
                family,
                asked,
                DEEDS,
                products(QUESTIONS[asked]),
                lambda verb: question(asked, verb, family == "question"),
            )
        operations[0] = begin
    operations[0] += len(QUESTIONS)
    grid(
        "sentiment",
        "label",
        list(THINGS),
        products(
            ["what the writer thinks", "the opinion", "if this is good or bad", "the judgement", "how it was liked"]
        ),
        lambda kind: sentiment(False, kind),
    )
    grid(
        "sentiment",
        "reason",
        list(THINGS),
        products(
            [
                "what the writer thinks and why",
                "the opinion and the reason",
                "if this is good or bad and why",
                "the judgement with the reason",
                "how it was liked and because of what",
            ]
        ),
        lambda kind: sentiment(True, kind),
    )
    # whole families, with every wording
    held_families(
        "count",
        "",
        LISTS,
        products(
            [
                "how many {many} there are",
                "the number of {many}",
                "how many of these are {many}",
                "what number of {many} there is",
                "the sum of {many}",
            ]
        ),
        count,
    )
    for side in ("after", "before"):
        held_families(
            "neighbour",
            side,
            LISTS,
            products(
                [
                    "the {kind} %s {x}" % side,
                    "the word %s {x}" % side,
                    "what comes %s {x}" % side,
                    "the one %s {x}" % side,
                    "what is %s {x}" % side,
                ]
            ),
            lambda kind: neighbour(side, kind),
        )
    held_families(
        "odd",
        "",
        LISTS,
        products(
            [
                "which one is not {a}",
                "the word that is not {a}",
                "the one that is no {kind}",
                "what is not {a} here",
                "the stranger",
            ]
        ),
        odd,
    )
    return tasks


# The training subsets of one task, and of six of six different families; chosen before any run
ONE = "order/reverse-food"
SIX = [ONE, "choose/last-animal", "word/opposite", "rewrite/person-has", "question/what-has", "sentiment/reason-dish"]


# ---------------------------------------------------------------- rows
def wordings(task, which):
    """Of a task, as text in which {...} stand for words of the row. which: "trained", "held" or "new" """
    phrases = task.new if which == "new" else task.phrases
    return [
        f.format(v=v, n=n)
        for i, f in enumerate(FRAMES)
        for j, v in enumerate(VERBS)
        for k, n in enumerate(phrases)
        if which == "new" or held_wording(i, j, k) == (which == "held")
    ]


def rows(w, tasks, number, which, seen):
    """As many of every task, in random order; none has the instruction and input of one that is in seen, until too few
    others are left (word/opposite has 17,000; only the set of six tasks comes near)."""
    found, choices, misses = [], [wordings(t, which) for t in tasks], 0
    while len(found) < number:
        i = len(found) % len(tasks)
        words, input, output = tasks[i].draw(w)
        instruction = w.one(choices[i]).format(**words)
        misses += (instruction, input) in seen
        if (instruction, input) not in seen or misses > number:
            seen.add((instruction, input))
            found.append({"instruction": instruction, "input": input, "output": output, "task": tasks[i].name})
    return w.shuffled(found)


def sets(world, number, tests=1000):
    """{folder: {part: rows}}. The tests come first: how many rows train has changes nothing about them."""
    tasks, seen, found = all_tasks(), set(), {}
    at = lambda level: [t for t in tasks if t.level == level]
    for name, level, which in (
        ("val", "seen", "trained"),
        ("test_wordings", "seen", "held"),
        ("test_phrases", "seen", "new"),
        ("test_operations", "operations", "trained"),
        ("test_compositions", "compositions", "trained"),
        ("test_families", "families", "trained"),
    ):
        found[name] = rows(world, at(level), tests, which, seen)
    found["train"] = rows(world, at("seen"), number, "trained", set(seen))
    few = {"instruct": found}
    for folder, names in (("instruct_six", SIX), ("instruct_one", [ONE])):
        of = [t for t in tasks if t.name in names]
        unseen = set(seen)
        few[folder] = {
            "val": rows(world, of, tests // 2, "trained", unseen),
            "train": rows(world, of, number // 2, "trained", unseen),
        }
    return few


def baselines(rows, train):
    """Exact match in % of copying the input, and of always giving the most frequent answer to the task: that in train;
    where train has no row of the task, that in the half of the task's rows that this row is not in"""
    answers, seen = collections.defaultdict(collections.Counter), collections.Counter()
    for r in train:
        answers[r["task"]][r["output"]] += 1
    trained, asked = set(answers), []
    for r in rows:
        half = seen[r["task"]] % 2
        seen[r["task"]] += 1
        asked.append(r["task"] if r["task"] in trained else (r["task"], half))
        if r["task"] not in trained:
            answers[r["task"], 1 - half][r["output"]] += 1
    most_frequent = {key: max(c, key=c.get) for key, c in answers.items()}
    percent = lambda right: 100 * sum(map(right, rows, asked)) / len(rows)
    bare = lambda text: [w for w in text.split() if w.isalnum()]  # exact match does not look at punctuation
    return percent(lambda r, _: bare(r["output"]) == bare(r["input"])), percent(
        lambda r, key: bare(r["output"]) == bare(most_frequent.get(key, ""))
    )


# ---------------------------------------------------------------- the text
def tale(w):
    """A document for the decoder: the skills that instructions will ask for, in natural form"""
    at = w.random()
    if at < 0.2:
        return w.document()
    lines = []
    p, q = sample(w, KINDS["person"], 2)
    if at < 0.4:  # who did what, told again, and asked
        verb = w.one(DEEDS)
        facts, text = story(w, verb, 2 + (w.random() < 0.5))
        lines = [text]
        for p, c, x, l in w.shuffled(facts)[:2]:
            lines.append(
                w.one(
                    [
                        "the %s of %s is %s ." % (x, p, c),
                        "it is %s who %s the %s ." % (p, verb, x),
                        "the %s %s is at the %s ." % (c, x, l),
                        "%s was at the %s ." % (p, l),
                    ]
                )
            )
        if w.random() < 0.4:
            p, c, x, l = w.one(facts)
            told = w.random() < 0.8
            if not told:
                others = [f for f in story(w, verb, 6)[0] if f[0] not in text.split() and f[2] not in text.split()] or [
                    None
                ]
                p, c, x, l = others[0] or (p, c, x, l)
                told = others[0] is None
            asked, answer = w.one(
                [
                    ("who %s the %s ?" % (verb, x), p),
                    ("what is it that %s %s ?" % (p, verb), x),
                    ("what colour is the %s ?" % x, c),
                    ("where is %s ?" % p, l),
                ]
            )
            lines.append("\nquestion : %s\nanswer : %s" % (asked, answer if told else UNTOLD))
        return " ".join(lines).replace(" \n", "\n")
    if at < 0.8:  # lists
        kind = w.one(list(KINDS))
        words = sample(w, KINDS[kind], 2 + int(4 * w.random()))
        n, many = len(words), MANY[kind]
        one = "word" if kind == "adjective" else kind
        x = int(w.random() * (n - 1))
        y = w.one(words)
        more = [
            "%s said it backwards : %s ." % (q, comma(words[::-1])),
            "%s wrote : %s ." % (q, formed("and", words)),
            "%s counted : %s ." % (q, formed("number", words)),
            "%s pointed at all : %s ." % (q, formed("the", words)),
            "%s said all twice : %s ." % (q, formed("twice", words)),
            "%s came first and %s came last ." % (words[0], words[-1]),
            "the second %s was %s ." % (one, words[1]),
            "the last %s was %s ." % (one, words[-1]),
            "after %s came %s ." % (words[x], words[x + 1]),
            "before %s came %s ." % (words[x + 1], words[x]),
            "there were %s %s : %s ." % (NUMBERS[n], many, formed("and", words)),
            "%s remembered only the first two : %s ." % (q, comma(words[:2])),
            "%s remembered only the last two : %s ." % (q, comma(words[-2:])),
            "%s forgot the %s %s : %s ." % (q, one, y, comma([v for v in words if v != y]))
            if n > 2
            else "%s and %s ." % tuple(words[:2]),
        ]
        if n > 2:
            more.append("the third %s was %s ." % (one, words[2]))
        if n in (3, 5):
            more.append("%s was in the middle ." % words[n // 2])
        text = "%s said : %s ." % (p, comma(words))
        for r in sample(
            w, KINDS["person"], int(3 * w.random())
        ):  # repeating comes before all else that one can do with a list
            text += " %s said it too : %s ." % (r, comma(words))
        for m in w.shuffled(more)[: 2 + (w.random() < 0.5)]:
            text += " " + m
        if w.random() < 0.15:
            asked, answer = w.one(
                [
                    ("how many %s ?" % many, NUMBERS[n]),
                    ("what came after %s ?" % words[x], words[x + 1]),
                    ("which %s came first ?" % one, words[0]),
                    ("which %s came last ?" % one, words[-1]),
                ]
            )
            text += "\nquestion : %s\nanswer : %s" % (asked, answer)
        return text
    for _ in range(3):
        x, kind = w.one(KINDS["adjective"]), w.one(LISTS)
        y, thing = w.one(KINDS[kind]), w.one(KINDS[w.one(OBJECTS)])
        if at < 0.87:
            lines.append(
                w.one(
                    [
                        "if it is not %s it is %s ." % (x, OPPOSITE[x]),
                        "%s and %s are opposite ." % (x, OPPOSITE[x]),
                        "the opposite of %s is %s ." % (x, OPPOSITE[x]),
                        "the %s was %s . now it is not %s but %s ." % (thing, x, x, OPPOSITE[x]),
                        "the %s of %s is %s . it is not %s ." % (thing, p, x, OPPOSITE[x]),
                    ]
                )
            )
        elif at < 0.92:
            others = sample(w, KINDS[kind], 2)
            z = w.one(KINDS[w.one([k for k in LISTS if k != kind])])
            lines.append(
                w.one(
                    [
                        "%s is %s ." % (y, a(kind)),
                        "of all %s %s likes %s best ." % (MANY[kind], p, y),
                        "%s and %s are %s ." % (*others, MANY[kind]),
                        "%s : all are %s but %s ." % (comma(w.shuffled(others + [z])), MANY[kind], z),
                        "among %s there is one %s : %s ." % (comma(w.shuffled([y] + [z])), kind, y),
                    ]
                )
            )
        elif at < 0.97:
            n = 2 + int(5 * w.random())
            lines.append(
                w.one(
                    [
                        "one %s and one %s make two %s ." % (thing, thing, plural(thing)),
                        "%s saw %s and then %s %s ." % (p, a(thing), NUMBERS[n], plural(thing)),
                        "many %s but only one %s ." % (plural(thing), thing),
                        "the plural of %s is %s ." % (thing, plural(thing)),
                    ]
                )
            )
        else:
            i, n = int(w.random() * 7), 2 + int(3 * w.random())
            u, v = sample(w, KINDS[kind], 2)
            lines.append(
                w.one(
                    [
                        "the days go on : %s ." % comma((DAYS + DAYS)[i : i + n + 1]),
                        "%s counts : %s ." % (p, comma(NUMBERS[i : i + n])),
                        "%s sang : %s ." % (p, comma(([u, v] * 4)[: n + 3])),
                    ]
                )
            )
    return " ".join(lines)
