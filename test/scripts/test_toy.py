"""data/toy.py: nothing but the opinion words tells the labels of the reviews; the instructions' answers are right, and
what is held out is not in train; dev/baselines/bag_of_words.py is right where it can be, one line where it cannot.

    python3 test/scripts/test_toy.py        (standard library only; needs data/tokenize)
"""

import collections
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOKENIZE = os.environ.get("TOKENIZE", os.path.join(ROOT, "data", "tokenize"))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "data"))
sys.path.insert(0, os.path.join(ROOT, "dev", "baselines"))
import bag_of_words  # noqa: E402
import stats  # noqa: E402
from toy import instructions, world as toy  # noqa: E402

OPINIONS = set(toy.GOOD + toy.BAD)


def run(*words):
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=dict(os.environ, TOKENIZE=TOKENIZE, PYTHONDONTWRITEBYTECODE="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Toy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.dir = os.path.join(cls.folder.name, "toy")
        cls.answer = run("data/toy.py", "--out", cls.dir, "--documents", "2000", "--keep-text", "--only", "encoder")
        cls.rows = {}
        if cls.answer.returncode == 0:
            cls.rows = {
                part: bag_of_words.read_rows(os.path.join(cls.dir, "reviews", part + ".tsv"))
                for part in ("train", "val", "test")
            }

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_files(self):
        self.assertEqual((self.answer.returncode, self.answer.stderr), (0, ""))
        self.assertEqual(
            set(os.listdir(os.path.join(self.dir, "text"))),
            {"train.bin", "val.bin", "train.txt", "val.txt", "vocab.txt", "tokenizer_config.json", "made.sha256"},
        )
        self.assertLessEqual(
            {"train.bin", "val.bin", "test.bin", "train.tsv", "val.tsv", "test.tsv", "vocab.txt"},
            set(os.listdir(os.path.join(self.dir, "reviews"))),
        )
        self.assertEqual([len(self.rows[part]) for part in ("train", "val", "test")], [100, 2000, 2000])

    def test_every_word_is_one_token(self):
        with open(os.path.join(self.dir, "text", "vocab.txt")) as f:
            vocabulary = set(f.read().split())
        used = {w for rows in self.rows.values() for text, _ in rows for w in text.split()}
        with open(os.path.join(self.dir, "text", "train.txt")) as f:
            used |= set(f.read().split()) - {"<|endoftext|>"}
        self.assertEqual(used - vocabulary, set())
        # all but the special tokens is used; the few documents of this test need not use the rarest words
        self.assertLessEqual(len(vocabulary - used), 8)

    def test_words_of_opinion(self):
        self.assertEqual(len(OPINIONS), 64)
        for part, half in (("train", "A"), ("val", "A"), ("test", "B")):
            used = collections.Counter(w for text, _ in self.rows[part] for w in text.split() if w in OPINIONS)
            self.assertEqual(set(used), set(toy.HALF[half][0] + toy.HALF[half][1]))
            # dealt like cards
            self.assertLessEqual(max(used.values()) - min(used.values()), 2 + 0.1 * min(used.values()), part)

    def test_nothing_else_tells_the_label(self):
        for part, rows in self.rows.items():
            # With the opinion words left open, the two classes are the same texts, as often: same words, lengths and
            # positions
            open_texts = {
                label: collections.Counter(
                    " ".join("?" if w in OPINIONS else w for w in text.split()) for text, l in rows if l == label
                )
                for label in toy.LABELS
            }
            self.assertEqual(open_texts["negative"], open_texts["positive"], part)

    def test_unseen(self):
        texts = [{text for text, _ in self.rows[part]} for part in ("train", "val", "test")]
        self.assertEqual(sum(map(len, texts)), len(set.union(*texts)))
        self.assertEqual(len(set.union(*texts)), 4100)

    def test_shares(self):
        plain = toy.World(3, 0, 0)
        text = [plain.document() for _ in range(500)] + [t for t, _ in plain.reviews("A", 500, set())]
        self.assertEqual({"not", "but"} & {w for t in text for w in t.split()}, set())
        often = toy.World(3, 1, 1)
        text = [often.document() for _ in range(500)]
        self.assertTrue(all({"not", "but"} <= set(t.split()) for t in text))

    def test_same_everywhere(self):
        world = toy.World(1, 0.1, 0.1)
        self.assertEqual(
            [world.document() for _ in range(2)],
            [
                "finn ordered the salad on monday . they found the salad not mediocre . he was happy .",
                "ida went to see the dance on thursday . the dance was fine . she smiled and laughed . she was happy .",
            ],
        )
        more = toy.World(5, 0.1, 0.1), toy.World(5, 0.1, 0.1)
        self.assertEqual(more[0].reviews("A", 200, set()), more[1].reviews("A", 200, set()))

    def test_bad_flags(self):
        for flags, words in (
            (["--labels", "7"], "even number"),
            (["--negation", "2"], "between 0 and 1"),
            (["--documents", "1"], "100 or more"),
            (["--rows", "1"], "200 or more"),
            (["--stories", "1"], "100 or more"),
            (["--only", "text"], "invalid choice"),
        ):
            answer = run("data/toy.py", "--out", os.path.join(self.folder.name, "never"), *flags)
            self.assertEqual(answer.returncode, 2)
            self.assertIn(words, answer.stderr)
            self.assertEqual(answer.stderr.count("\n"), 1)


KIND = {word: kind for kind, words in instructions.KINDS.items() for word in words}
NUMBER = "zero one two three four five six seven eight nine ten".split()
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
PLACE = {"first": 0, "second": 1, "third": 2, "last": -1}


def masked(instruction):
    """With the words that differ from row to row left open: its wording, and what the task asks for"""
    return " ".join(KIND.get(w, w) for w in instruction.split())


def right(row):
    """Whether the answer is right, found out another way than it was made: from the task's name and the texts"""
    (family, name), text, out = row["task"].split("/"), row["input"], row["output"]
    what, _, kind = name.partition("-")
    words = text.split(" , ")
    of = lambda kind: [w for w in words if KIND[w] == kind]
    at = lambda: words[(len(words) - 1) // 2 if what == "middle" else PLACE[what]]
    asked = [w for w in row["instruction"].split() if w in KIND]
    if family == "choose":
        return out == at() and ("five" not in name or len(words) == 5)
    if family == "find":
        return [out] == of(name)
    if family == "remove":
        return len(of(name)) == 1 and text in (
            " , ".join(out.split(" , ")[:i] + of(name) + out.split(" , ")[i:]) for i in range(5)
        )
    if family == "there":
        return out == ("yes" if of(name) else "no")
    if family == "count":
        return NUMBER.index(out) == len(of(name)) > 0
    if family == "odd":
        return KIND[out] != name and len(of(name)) == len(words) - 1 and out in words
    if family == "neighbour":
        pair = [asked[0], out] if what == "after" else [out, asked[0]]
        return any(words[i : i + 2] == pair for i in range(len(words)))
    if family in ("order", "format", "repeat", "arrange"):
        order, form = (what, "comma") if family == "order" else ("same", what) if family != "arrange" else (what, kind)
        tokens = out.split()
        got = {
            "comma": lambda: out.split(" , "),
            "and": lambda: out.split(" and "),
            "number": lambda: tokens[1::2],
            "the": lambda: [x.split()[1] for x in out.split(" , ")],
            "twice": lambda: [x.split()[0] for x in out.split(" , ")],
        }[form]()
        marks = {
            "comma": lambda: out.count(",") == len(got) - 1,
            "and": lambda: len(tokens) == 2 * len(got) - 1,
            "number": lambda: tokens[::2] == NUMBER[1 : len(got) + 1],
            "the": lambda: all(x.split() == ["the", y] for x, y in zip(out.split(" , "), got)),
            "twice": lambda: all(x.split() == [y, y] for x, y in zip(out.split(" , "), got)),
        }[form]()
        return (
            marks
            and {
                "same": got == words,
                "reverse": got[::-1] == words,
                "firsttwo": len(got) == 2 and got == words[:2],
                "lasttwo": len(got) == 2 and got == words[len(words) - 2 :],
            }[order]
        )
    if family in ("transform", "word"):
        transform, word = (kind, at()) if family == "transform" else (what, words[0])
        if transform == "opposite":
            return sorted((out, word)) in [sorted(p) for p in instructions.PAIRS]
        if transform == "singular":
            word, out = out, word
        return (
            out
            == {
                "plural": word + "s" if word != "box" else "boxes",
                "singular": word + "s" if word != "box" else "boxes",
                "kind": KIND.get(word),
                "twice": word + " " + word,
            }[transform]
        )
    if family == "continue":
        circle = DAYS if name == "days" else NUMBER if name == "numbers" else words[:2]
        steps = words + [out]
        return all(circle[(circle.index(x) + 1) % len(circle)] == y for x, y in zip(steps, steps[1:])) and (
            out,
            name,
        ) != ("zero", "numbers")
    if family in ("negate", "contrary", "past"):
        before, after = text.split(), out.split()
        opposites = {x: y for a, b in instructions.PAIRS for x, y in ((a, b), (b, a))}
        if family == "negate":
            longer, shorter = sorted((before, after), key=len)[::-1]
            return (
                len(longer) == len(shorter) + 1
                and [w for w in longer if w != "not"] == shorter
                and longer[longer.index("not") - 1] in ("is", "was")
            )
        change = [(x, y) for x, y in zip(before, after) if x != y]
        return len(before) == len(after) and change == (
            [("is", "was")] if family == "past" else [(before[-2], opposites[before[-2]])]
        )
    if family == "rewrite":
        change = [(x, y) for x, y in zip(text.split(), out.split()) if x != y]
        return (
            len(change) == 1
            and change[0][1] == asked[0]
            and text.split()[0 if what == "person" else {"colour": 3, "thing": 4, "place": 7}[what]] == change[0][0]
        )
    if family in ("question", "untold"):
        facts = [s.split() for s in text.rstrip(" .").split(" . ")]  # anna has a red ball at the park
        key, value = {"who": (4, 0), "what": (0, 4), "colour": (4, 3), "place": (0, 7)}[what]
        told = [f[value] for f in facts if f[key] == asked[0] and f[1] == kind]
        return out == told[0] if told else (family, out) == ("untold", "the text does not say")
    if family == "sentiment":
        last = text.split(" but ")[-1].rstrip(" .").split(" . ")[-1].split()  # the last judgement
        opinions = [i for i, w in enumerate(last) if w in OPINIONS]
        good = (last[opinions[0]] in toy.GOOD) != (last[opinions[0] - 1] == "not")
        reason = " ".join(last[opinions[0] - (last[opinions[0] - 1] == "not") : opinions[-1] + 1])
        return out == toy.LABELS[good] + ("" if what == "label" else ' because of " %s "' % reason)
    raise AssertionError(row)


class Instructions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.dir = os.path.join(cls.folder.name, "toy")
        cls.answer = run(
            "data/toy.py", "--out", cls.dir, "--stories", "5000", "--rows", "6000", "--keep-text", "--only", "decoder"
        )
        cls.rows = {}
        for folder in ("instruct", "instruct_six", "instruct_one", "reasons"):
            for name in sorted(os.listdir(os.path.join(cls.dir, folder)) if cls.answer.returncode == 0 else []):
                if name.endswith(".jsonl"):
                    with open(os.path.join(cls.dir, folder, name)) as f:
                        cls.rows[folder, name[:-6]] = [json.loads(line) for line in f]
        cls.train = cls.rows.get(("instruct", "train"), [])
        cls.tests = {
            name: rows for (folder, name), rows in cls.rows.items() if folder == "instruct" and name.startswith("test_")
        }

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def names(self, rows):
        return {r["task"] for r in rows}

    def test_files(self):
        self.assertEqual(self.answer.returncode, 0, self.answer.stderr)
        self.assertEqual(
            {k: len(v) for k, v in self.rows.items()},
            {
                ("instruct", "train"): 6000,
                ("instruct", "val"): 1000,
                **{
                    ("instruct", "test_" + x): 1000
                    for x in ("wordings", "phrases", "operations", "compositions", "families")
                },
                ("instruct_six", "train"): 3000,
                ("instruct_six", "val"): 500,
                ("instruct_one", "train"): 3000,
                ("instruct_one", "val"): 500,
                ("reasons", "train"): 1000,
                ("reasons", "val"): 1000,
                ("reasons", "test"): 1000,
            },
        )
        for folder, name in self.rows:
            self.assertTrue(os.path.exists(os.path.join(self.dir, folder, name + ".bin")), (folder, name))

    def test_tasks_and_families(self):
        families = lambda rows: {name.split("/")[0] for name in self.names(rows)}
        self.assertEqual((len(self.names(self.train)), len(families(self.train))), (171, 18))
        self.assertEqual(
            {name: len(self.names(rows)) for name, rows in self.tests.items()},
            {
                "test_wordings": 171,
                "test_phrases": 171,
                "test_operations": 36,
                "test_compositions": 12,
                "test_families": 24,
            },
        )
        self.assertEqual(
            (len(self.names(self.rows["instruct_six", "train"])), len(self.names(self.rows["instruct_one", "train"]))),
            (6, 1),
        )
        self.assertLessEqual(
            self.names(self.rows["instruct_six", "train"]) | self.names(self.rows["instruct_one", "train"]),
            self.names(self.train),
        )
        # these were held out before any result of the README, and stay so
        self.assertEqual(
            self.names(self.tests["test_operations"]),
            set(
                """
            choose/first-animal choose/second-adjective choose/third-place choose/middle-colour choose/last-person
            find/food remove/animal there/place order/reverse-colour order/firsttwo-person order/lasttwo-thing
            format/and-food format/number-animal format/the-place repeat/twice-colour word/plural-animal
            word/singular-thing word/kind-food continue/pattern-animal negate/food contrary/animal past/place
            rewrite/person-found rewrite/colour-wants rewrite/thing-has rewrite/place-lost question/who-found
            question/what-wants question/colour-has question/place-lost untold/who-found untold/what-wants
            untold/colour-has untold/place-lost sentiment/label-dish sentiment/reason-show""".split()
            ),
        )
        self.assertEqual(
            self.names(self.tests["test_compositions"]),
            set(
                """
            choose/first-of-five-colours choose/second-of-five-places choose/third-of-five-animals
            choose/middle-of-five-foods choose/last-of-five-things arrange/reverse-and arrange/firsttwo-twice
            arrange/lasttwo-the transform/first-opposite transform/last-plural transform/middle-kind
            transform/third-twice""".split()
            ),
        )
        # whole families, and tasks of families that are trained
        self.assertEqual(families(self.tests["test_families"]), {"count", "neighbour", "odd"})
        self.assertEqual(families(self.tests["test_families"]) & families(self.train), set())
        for level in ("test_operations", "test_compositions"):
            self.assertEqual(self.names(self.tests[level]) & self.names(self.train), set())
            self.assertLessEqual(families(self.tests[level]), families(self.train))
        # every operation and every kind that is held out together is trained with others
        trained = [name.split("/")[1].split("-") for name in self.names(self.train)]
        for name in self.names(self.tests["test_operations"]):
            family, parts = name.split("/")[0], name.split("/")[1].split("-")
            for part in parts:
                self.assertTrue(any(part in t for t in trained), name)
            if len(parts) == 2:
                self.assertTrue(any(x.startswith(family + "/" + parts[0] + "-") for x in self.names(self.train)), name)

    def test_compositions(self):
        lengths = collections.defaultdict(set)
        for r in self.train:
            if r["task"].startswith("choose/"):
                lengths[r["task"]].add(len(r["input"].split(" , ")))
        for name in self.names(self.tests["test_compositions"]):
            family, parts = name.split("/")[0], name.split("/")[1].split("-")
            if family == "choose":  # last-of-five-foods
                kind = {"people": "person"}.get(parts[3], parts[3][:-1])
                self.assertNotIn(5, lengths["choose/%s-%s" % (parts[0], kind)])
                self.assertIn(3, lengths["choose/%s-%s" % (parts[0], kind)])
                self.assertTrue(any(5 in n for task, n in lengths.items() if task.startswith("choose/" + parts[0])))
                self.assertTrue(any(5 in n for task, n in lengths.items() if task.endswith("-" + kind)))
            else:
                for i in (0, 1):
                    self.assertGreaterEqual(
                        sum(
                            x.startswith(family + "/") and x.split("/")[1].split("-")[i] == parts[i]
                            for x in self.names(self.train)
                        ),
                        2,
                        name,
                    )

    def test_answers_are_right(self):
        for key, rows in self.rows.items():
            wrong = [r for r in rows if not right(r if key[0] != "reasons" else dict(r, task="sentiment/reason-any"))]
            self.assertEqual(wrong[:3], [], key)

        # and the check is one: another answer is not right, nor is a copy of the input
        def wrong(row):
            try:
                return not right(row)
            except (ValueError, LookupError):  # not even a number, or a word of the world
                return True

        for name in ("test_operations", "test_compositions", "test_families"):
            for r in self.tests[name]:
                self.assertTrue(wrong(dict(r, output=r["input"])), r)
                self.assertTrue(wrong(dict(r, output="dog" if r["output"] != "dog" else "cow")), r)

    def test_held_out(self):
        train = {masked(r["instruction"]) for r in self.train}
        words = {w for t in train for w in t.split()}
        for name in ("test_wordings", "test_phrases"):
            self.assertEqual(sorted({masked(r["instruction"]) for r in self.tests[name]} & train)[:3], [], name)
        for name in ("test_wordings", "test_operations", "test_compositions"):  # nothing but known words
            self.assertEqual(
                {w for r in self.tests[name] for w in masked(r["instruction"]).split()} - words, set(), name
            )
        # as in train.jsonl of its full size: no wording that is held out can be drawn
        for task in instructions.all_tasks():
            sets = [set(instructions.wordings(task, which)) for which in ("trained", "held", "new")]
            self.assertEqual(sum(map(len, sets)), len(set.union(*sets)), task.name)
            self.assertGreaterEqual(min(map(len, sets)), 27, task.name)

    def test_unseen(self):
        seen = [(r["instruction"], r["input"]) for name, rows in self.tests.items() for r in rows] + [
            (r["instruction"], r["input"]) for r in self.rows["instruct", "val"]
        ]
        self.assertEqual(len(seen), len(set(seen)))
        for folder in ("instruct", "instruct_six", "instruct_one"):
            train = [(r["instruction"], r["input"]) for r in self.rows[folder, "train"]]
            self.assertEqual(len(train), len(set(train)), folder)
            self.assertEqual(set(train) & set(seen), set(), folder)
            self.assertEqual(
                set(train) & {(r["instruction"], r["input"]) for r in self.rows[folder, "val"]}, set(), folder
            )
        reviews = [r["input"] for name in ("train", "val", "test") for r in self.rows["reasons", name]]
        self.assertEqual(len(set(reviews)), 3000)

    def test_text(self):
        with open(os.path.join(self.dir, "gpt", "text", "train.txt")) as f:
            text = f.read()
        for skill in (
            "answer : ",
            " there were three ",
            " after ",
            " before ",
            " backwards : ",
            " said all twice : ",
            " pointed at all : the ",
            " counted : ",
            "the opposite of ",
            "the plural of ",
            " all are animals but ",
            " is an animal .",
            "answer : the text does not say",
            "question : who ",
            "question : how many ",
        ):
            self.assertIn(skill, text)
        for skill in (
            r" after \w+ came \w+ \.",
            r" before \w+ came \w+ \.",
            r"question : what came after \w+ \?\s+answer : \w+",
            r"question : how many \w+ \?\s+answer : \w+",
            r"all are \w+ but \w+ \. \w+ is an? \w+ \.",
        ):  # those of the families that are held out: neighbour, count, odd
            self.assertRegex(text, skill)
        for rows in self.tests.values():  # no instruction is given in it
            for r in rows:
                self.assertNotIn(r["instruction"], text)

    def test_every_word_is_one_token(self):
        """With the space before it; the words that only begin an instruction without one. Those of the phrases that are
        held out may be several."""
        rows = [r for (_, name), rows in self.rows.items() if name != "test_phrases" for r in rows]
        first = {r["instruction"].split()[0] for r in rows}
        words = sorted(
            {
                " " + w
                for r in rows
                for key in ("instruction", "input", "output")
                for w in r[key].split()[key == "instruction" :]
            }
            | first
        )
        done = subprocess.run(
            [TOKENIZE, "encode", "--tokenizer", os.path.join(self.dir, "gpt", "text")],
            input="".join(w + "\n" for w in words),
            stdout=subprocess.PIPE,
            text=True,
        )
        ids = [line.split() for line in done.stdout.splitlines()]
        self.assertEqual(len(ids), len(words))
        self.assertEqual([w for w, i in zip(words, ids) if len(i) != 1], [])

    def test_reasons(self):
        for part, half in (("train", "A"), ("val", "A"), ("test", "B")):
            rows = self.rows["reasons", part]
            used = collections.Counter(w for r in rows for w in r["input"].split() if w in OPINIONS)
            self.assertEqual(set(used), set(toy.HALF[half][0] + toy.HALF[half][1]))
            self.assertTrue(all(r["output"].split('" ')[1].rstrip(' "') in r["input"] for r in rows))
            # with the opinion words left open, the two classes are the same reviews: twins
            open_texts = {
                label: collections.Counter(
                    " ".join("?" if w in OPINIONS else w for w in r["input"].split())
                    for r in rows
                    if r["output"].startswith(label)
                )
                for label in toy.LABELS
            }
            self.assertEqual(open_texts["negative"], open_texts["positive"], part)

    def test_not_by_copying(self):
        for (folder, part), rows in self.rows.items():
            if part != "train":
                copied, usual = instructions.baselines(rows, self.rows[folder, "train"])
                self.assertEqual(copied, 0)
                # the most frequent answer to a task: yes or no, told or not, one of three kinds
                self.assertLess(usual, 25)

    def test_same_everywhere(self):
        world = toy.World(1, 0.1, 0.1)
        tasks = instructions.all_tasks()
        self.assertEqual(
            instructions.rows(world, tasks[40:42], 2, "trained", set()),
            [
                {
                    "instruction": "look and tell me the word that is a food",
                    "input": "plum , bear , farm",
                    "output": "plum",
                    "task": "find/food",
                },
                {
                    "instruction": "look and give me the word that is an animal",
                    "input": "beach , ant , white",
                    "output": "ant",
                    "task": "find/animal",
                },
            ],
        )
        self.assertEqual(
            [instructions.tale(world) for _ in range(2)],
            [
                "one pizza and one pizza make two pizzas . finn saw a hen and then three hens . "
                "the plural of onion is onions .",
                "the noodle was early . now it is not early but late . the opposite of wet is dry . "
                "the opposite of cold is hot .",
            ],
        )


class BagOfWords(unittest.TestCase):
    def test_solves_the_stated_problem(self):
        """The gradient of |w|^2 / 2 + C sum log(1 + exp(-y w.x)) vanishes"""
        draw = random.Random(2).random
        rows = [[0] + [i for i in range(1, 12) if draw() < 0.4] for _ in range(60)]
        signs = [1 if (2 in x) == (draw() < 0.9) else -1 for x in rows]
        for C in (0.01, 1.0, 10.0):
            w = bag_of_words.solve(rows, signs, 12, C, epochs=200)
            gradient = list(w)
            for x, y in zip(rows, signs):
                share = 1 / (1 + 2.718281828459045 ** (y * sum(w[i] for i in x)))
                for i in x:
                    gradient[i] -= C * y * share
            self.assertLess(max(map(abs, gradient)), 0.02 * C * len(rows))

    def test_three_labels_and_formats(self):
        rows = [
            ("the %s number %d !" % (thing, i), label)
            for thing, label in (("cat", "animal"), ("oak", "plant"), ("tin", "metal"))
            for i in range(20)
        ]
        with tempfile.TemporaryDirectory() as folder:
            path = lambda name: os.path.join(folder, name)
            with open(path("a.tsv"), "w", newline="") as f:
                f.write("label\ttext\r\n" + "".join("%s\t%s\r\n" % (l, t) for t, l in rows))
            with open(path("a.csv"), "w", newline="") as f:
                csv.writer(f).writerows([("text", "label")] + rows)
            with open(path("a.jsonl"), "w") as f:
                f.write("".join(json.dumps({"text": t, "label": l}) + "\n" for t, l in rows))
            for name in ("a.tsv", "a.csv", "a.jsonl"):
                self.assertEqual(bag_of_words.read_rows(path(name)), rows)
            answer = run(
                "dev/baselines/bag_of_words.py",
                "--train",
                path("a.tsv"),
                "--test",
                path("a.csv"),
                "--test",
                path("a.jsonl"),
                "--ngrams",
                "1",
            )
            self.assertEqual((answer.returncode, answer.stderr), (0, ""))
            self.assertEqual(answer.stdout.count("accuracy 100.0 %"), 2)

    def test_bad_input(self):
        with tempfile.TemporaryDirectory() as folder:
            for text, words in (
                ("", "found an empty file"),
                ("text\tlabel\n", "found none"),
                ("sentence\tlabel\na\tb\n", 'expected a column "text"'),
                ("text\tlabel\na\tb\n", "two labels"),
            ):
                with open(os.path.join(folder, "a.tsv"), "w") as f:
                    f.write(text)
                answer = run(
                    "dev/baselines/bag_of_words.py",
                    "--train",
                    os.path.join(folder, "a.tsv"),
                    "--test",
                    os.path.join(folder, "a.tsv"),
                )
                self.assertEqual((answer.returncode, answer.stderr.count("\n")), (1, 1), answer.stderr)
                self.assertIn(words, answer.stderr)
            self.assertIn(
                "no such file", run("dev/baselines/bag_of_words.py", "--train", "none.tsv", "--test", "none.tsv").stderr
            )

    def test_wilson(self):
        low, high = stats.wilson(50, 100)
        self.assertAlmostEqual(low, 0.40383, places=4)
        self.assertAlmostEqual(high, 0.59617, places=4)
        self.assertEqual(stats.wilson(10, 10)[1], 1.0)


if __name__ == "__main__":
    unittest.main()
