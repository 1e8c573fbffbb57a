"""data/toy.py: nothing but the opinion words tells the labels of the reviews; data/bow.py: right where it can be, one line where it cannot.

    python3 test/test_toy.py        (standard library only; needs data/tokenize)
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

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOKENIZE = os.environ.get("TOKENIZE", os.path.join(ROOT, "data", "tokenize"))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "data"))
import bow  # noqa: E402
import toy_world as toy  # noqa: E402

OPINIONS = set(toy.GOOD + toy.BAD)


def run(*words):
    return subprocess.run([sys.executable, *words], cwd=ROOT, env=dict(os.environ, TOKENIZE=TOKENIZE, PYTHONDONTWRITEBYTECODE="1"),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class Toy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.dir = os.path.join(cls.folder.name, "toy")
        cls.answer = run("data/toy.py", "--out", cls.dir, "--documents", "2000", "--keep-text")
        cls.rows = {}
        if cls.answer.returncode == 0:
            cls.rows = {part: bow.read_rows(os.path.join(cls.dir, "reviews", part + ".tsv")) for part in ("train", "val", "test")}

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_files(self):
        self.assertEqual((self.answer.returncode, self.answer.stderr), (0, ""))
        self.assertEqual(set(os.listdir(os.path.join(self.dir, "text"))), {"train.bin", "val.bin", "train.txt", "val.txt", "vocab.txt", "tokenizer_config.json"})
        self.assertLessEqual({"train.bin", "val.bin", "test.bin", "train.tsv", "val.tsv", "test.tsv", "vocab.txt"}, set(os.listdir(os.path.join(self.dir, "reviews"))))
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
            self.assertLessEqual(max(used.values()) - min(used.values()), 2 + 0.1 * min(used.values()), part)  # dealt like cards

    def test_nothing_else_tells_the_label(self):
        for part, rows in self.rows.items():
            # With the opinion words left open, the two classes are the same texts, as often: same words, lengths and positions
            open_texts = {label: collections.Counter(" ".join("?" if w in OPINIONS else w for w in text.split()) for text, l in rows if l == label) for label in toy.LABELS}
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
        self.assertEqual([world.document() for _ in range(2)], [
            "finn ordered the salad on monday . they found the salad not mediocre . he was happy .",
            "ida went to see the dance on thursday . the dance was fine . she smiled and laughed . she was happy ."])
        more = toy.World(5, 0.1, 0.1), toy.World(5, 0.1, 0.1)
        self.assertEqual(more[0].reviews("A", 200, set()), more[1].reviews("A", 200, set()))

    def test_bad_flags(self):
        for flags, words in ((["--labels", "7"], "even number"), (["--negation", "2"], "between 0 and 1"), (["--documents", "1"], "100 or more")):
            answer = run("data/toy.py", "--out", os.path.join(self.folder.name, "never"), *flags)
            self.assertEqual(answer.returncode, 2)
            self.assertIn(words, answer.stderr)
            self.assertEqual(answer.stderr.count("\n"), 1)


class Bow(unittest.TestCase):
    def test_solves_the_stated_problem(self):
        """The gradient of |w|^2 / 2 + C sum log(1 + exp(-y w.x)) vanishes"""
        draw = random.Random(2).random
        rows = [[0] + [i for i in range(1, 12) if draw() < 0.4] for _ in range(60)]
        signs = [1 if (2 in x) == (draw() < 0.9) else -1 for x in rows]
        for C in (0.01, 1.0, 10.0):
            w = bow.solve(rows, signs, 12, C, epochs=200)
            gradient = list(w)
            for x, y in zip(rows, signs):
                share = 1 / (1 + 2.718281828459045 ** (y * sum(w[i] for i in x)))
                for i in x:
                    gradient[i] -= C * y * share
            self.assertLess(max(map(abs, gradient)), 0.02 * C * len(rows))

    def test_three_labels_and_formats(self):
        rows = [("the %s number %d !" % (thing, i), label) for thing, label in (("cat", "animal"), ("oak", "plant"), ("tin", "metal")) for i in range(20)]
        with tempfile.TemporaryDirectory() as folder:
            path = lambda name: os.path.join(folder, name)
            with open(path("a.tsv"), "w", newline="") as f:
                f.write("label\ttext\r\n" + "".join("%s\t%s\r\n" % (l, t) for t, l in rows))
            with open(path("a.csv"), "w", newline="") as f:
                csv.writer(f).writerows([("text", "label")] + rows)
            with open(path("a.jsonl"), "w") as f:
                f.write("".join(json.dumps({"text": t, "label": l}) + "\n" for t, l in rows))
            for name in ("a.tsv", "a.csv", "a.jsonl"):
                self.assertEqual(bow.read_rows(path(name)), rows)
            answer = run("data/bow.py", "--train", path("a.tsv"), "--test", path("a.csv"), "--test", path("a.jsonl"), "--ngrams", "1")
            self.assertEqual((answer.returncode, answer.stderr), (0, ""))
            self.assertEqual(answer.stdout.count("accuracy 100.0 %"), 2)

    def test_bad_input(self):
        with tempfile.TemporaryDirectory() as folder:
            for text, words in (("", "found none"), ("text\tlabel\n", "found none"), ("sentence\tlabel\na\tb\n", "columns text and label"), ("text\tlabel\na\tb\n", "two labels")):
                with open(os.path.join(folder, "a.tsv"), "w") as f:
                    f.write(text)
                answer = run("data/bow.py", "--train", os.path.join(folder, "a.tsv"), "--test", os.path.join(folder, "a.tsv"))
                self.assertEqual((answer.returncode, answer.stderr.count("\n")), (1, 1), answer.stderr)
                self.assertIn(words, answer.stderr)
            self.assertIn("No such file", run("data/bow.py", "--train", "none.tsv", "--test", "none.tsv").stderr)

    def test_wilson(self):
        low, high = bow.wilson(50, 100)
        self.assertAlmostEqual(low, 0.40383, places=4)
        self.assertAlmostEqual(high, 0.59617, places=4)
        self.assertEqual(bow.wilson(10, 10)[1], 1.0)


if __name__ == "__main__":
    unittest.main()
