"""Labelled rows: all that read them, data/tokenize rows and pack, data/classify.py and the bag of words, find the same
rows in the same file, whatever the file is like, and leave out the same ones.

    python3 test/scripts/test_rows.py

Needs the standard library and data/tokenize.
"""

import bz2
import collections
import gzip
import io
import json
import lzma
import os
import random
import re
import shutil
import sys
import time
import unittest

sys.dont_write_bytecode = True
import test_classify_data
from test_classify_data import WORDS
from test_data import ROOT, TOKENIZE, open_bytes

FINETUNE_CLS = os.path.join(ROOT, "build", "cpu-fp32", "finetune_cls")
SENTIMENT = os.path.join(ROOT, "data", "toy", "models", "sentiment")

sys.path.insert(0, os.path.join(ROOT, "dev", "baselines"))
import bag_of_words  # noqa: E402
from lib.errors import bad_rows  # noqa: E402  data/lib, as the bag of words finds it

HOSTILE = [",", ";", '"', '""', "'", "\\", "caf\u00e9", "\U0001f600", "  ", "{", "[", "#", "nan", "1.50", "=1+1"]
BREAKS = ["\n", "\r\n", "\t", "\n\n"]
INVISIBLE = ["", "", " ", "\u00a0", "\u3000", "\u2003", "\u200b", "\ufeff"]


def shown(text, text2=None):
    flat = lambda t: re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", t)
    return flat(text) + ("\t" + flat(text2) if text2 else "")


class File:
    """A hostile file: name, bytes; rows: what has to be found; bad: lines or elements that have to be told"""

    def __init__(self, rng, labels=("yes", "no", "b, c", "-1", "\u00e9", "7"), bad=0.2, pairs=True):
        """bad: the share of rows that cannot be used"""
        self.rng, self.labels, self.share, self.rows, self.bad = rng, labels, bad, [], []
        kind = rng.choice(["csv", "csv", "tsv", "lines", "array", "pretty"])
        self.end = rng.choice(["\n", "\r\n", "\r"]) if kind in ("csv", "tsv") else "\n"
        self.quoted = kind == "csv"
        self.separator = {"csv": rng.choice(",,;\t"), "tsv": "\t"}.get(kind)
        self.pairs = pairs and rng.random() < 0.5
        data = self.table() if self.separator else self.json(kind)
        if rng.random() < 0.3:
            data = b"\xef\xbb\xbf" + data
        name = "x." + {"lines": "jsonl", "array": "json", "pretty": "json"}.get(kind, kind)
        name = rng.choice([name, name.upper(), name.title()])
        pack, ending = rng.choice(
            [(bytes, ""), (bytes, ""), (gzip.compress, ".gz"), (lzma.compress, ".xz"), (bz2.compress, ".BZ2")]
        )
        self.name, self.data = name + ending, pack(data)

    def text(self):
        pieces = WORDS + HOSTILE + (BREAKS * 2 if self.quoted or not self.separator else [])
        if self.separator == "\t" and not self.quoted:
            pieces = [p for p in pieces if p != "\t"]
        return " ".join(["the"] + self.rng.choices(pieces, k=self.rng.randint(0, 9)) + ["end"])

    def row(self):
        text2 = self.text() if self.pairs and self.rng.random() < 0.7 else None
        self.rows.append((self.text(), text2, self.rng.choice(self.labels)))
        return self.rows[-1]

    def table(self):
        rng = self.rng
        columns = ["text", "label", "id"] + (["text2"] if self.pairs else [])
        rng.shuffle(columns)
        decorated = lambda s: rng.choice(INVISIBLE) + s + rng.choice(INVISIBLE)
        case = rng.choice([str, str.upper, str.title])
        out = io.StringIO(newline="")
        always = rng.random() < 0.3

        def quoted(cell):
            if self.quoted and (always or re.search(r'[\r\n"]', cell) or self.separator in cell):
                return '"%s"' % cell.replace('"', '""')
            return cell

        write = lambda cells: out.write(self.separator.join(map(quoted, cells)) + self.end)
        write([decorated(case(c)) for c in columns])
        data = out.getvalue().encode()
        for i in range(rng.randint(4, 30)):
            out.seek(0)
            out.truncate()
            line = 1 + len(re.findall(b"\r\n|\r|\n" if self.end == "\r" else b"\n", data))
            if rng.random() < self.share:
                data += self.bad_row(columns) + self.end.encode()
                self.bad.append("line %d" % line)
                continue
            text, text2, label = self.row()
            cells = {"text": text, "text2": text2 or "", "label": decorated(label), "id": "%d" % i}
            write([cells[c] for c in columns])
            data += out.getvalue().encode()
        out.seek(0)
        out.truncate()
        cells = dict.fromkeys(columns, "the end")
        for cells["label"] in self.labels[:2]:  # so that no empty line is the last
            self.rows.append(("the end", "the end" if self.pairs else None, cells["label"]))
            write([cells[c] for c in columns])
        return data + out.getvalue().encode() + self.end.encode() * rng.randint(0, 2)

    def bad_row(self, columns):
        good = [b"a"] * len(columns)
        without = lambda name: [b"" if c == name else b"a" for c in columns]
        kinds = [
            lambda: b"",
            lambda: self.separator.encode().join(good + [b"a"]),
            lambda: self.separator.encode().join(without("text")),
            lambda: self.separator.encode().join(without("label")),
            lambda: self.separator.encode().join(b"caf\xe9" if c == "text" else b"a" for c in columns),
            lambda: self.separator.encode().join(b"a\0" if c == "id" else b"a" for c in columns),
            lambda: self.separator.encode().join("\u00a0\u200d".encode() if c == "text" else b"a" for c in columns),
            lambda: self.separator.encode().join(b"NaN" if c == "text" else b"a" for c in columns),
            lambda: b"a",
        ]
        if self.quoted:
            kinds += [
                lambda: self.separator.encode().join([b'"a" a'] + good[1:]),
                lambda: self.separator.encode().join(good[1:] + [b'"a']),
            ]
        return self.rng.choice(kinds)()

    def json(self, kind):
        rng, rows = self.rng, []
        for _ in range(rng.randint(4, 30)):
            if rng.random() < self.share:
                broken = ['{"text": "a", "label": }'] + (['{"text": "a'] if kind == "lines" else [])
                rows.append(
                    rng.choice(
                        ['{"text": NaN, "label": 1}', '{"text": null, "label": 1}', '{"label": 1}', "[]", "7"]
                        + [
                            '{"text": "a", "label": NaN}',
                            '{"text": ["a"], "label": 1}',
                            '{"text": "a\\u0000", "label": 1}',
                        ]
                        + [
                            '{"text": "\\ud800", "label": 1}',
                            '{"text": "nan", "label": 1}',
                            '{"text": " ", "label": 1}',
                        ]
                        + broken
                    )
                )
                self.bad.append("%s %d" % ("line" if kind == "lines" else "element", len(rows)))
                continue
            text, text2, label = self.row()
            if rng.random() < self.share:
                text, other = rng.choice([(5, True), (-1.5, 7), (False, 0.25), (1e21, "x")])
                label = label if "positive" in self.labels else other  # a model takes no others
                self.rows[-1] = (json.dumps(text), text2, label if isinstance(label, str) else json.dumps(label))
            row = {"text": text, "label": label, "id": rng.choice([1, None, float("nan"), {"text": []}])}
            if text2 or rng.random() < 0.5:
                row["text2"] = text2 if text2 else rng.choice([None, float("nan"), "", " "])
            indent = 2 if kind == "pretty" else None
            rows.append(json.dumps(row, indent=indent, ensure_ascii=rng.random() < 0.5))
        for label in self.labels[:2]:
            rows.append('{"TEXT": "the end", "Label": "%s"}' % label)
            self.rows.append(("the end", None, label))
        if kind == "lines":
            return "".join(row + "\n" for row in rows).encode()
        return ("[" + rng.choice([",", ",\n", ", \n\n "]).join(rows) + "]").encode()


class Rows(test_classify_data.Case):
    def test_all_readers_agree(self):
        for seed in range(40):
            file = File(random.Random(seed))
            with open(self.path(file.name), "wb") as f:
                f.write(file.data)
            with self.subTest(seed=seed, name=file.name):
                # data/tokenize rows
                run = self.call(TOKENIZE, "rows", file.name)
                self.assertEqual(run.returncode, 0, run.stderr)
                rows = [json.loads(line) for line in run.stdout.splitlines()]
                found = [(r["text"], r.get("text2"), r["label"]) for r in rows if "error" not in r]
                self.assertEqual(found, file.rows)
                told = [
                    re.match(r"%s, ((?:line|element) \d+)" % re.escape(file.name), r["error"])[1]
                    for r in rows
                    if "error" in r
                ]
                self.assertEqual(sorted(told), sorted(file.bad))
                expected = [(shown(a, b), label) for a, b, label in file.rows]
                # data/tokenize pack
                pack = ["--kind", "classify", "--tokenizer", "tok", "--in", file.name]
                run = self.call(TOKENIZE, "pack", *pack, "--out", "out/pack.bin")
                self.check_bad(file, run)
                self.assertEqual(self.pairs("pack"), expected)
                # data/classify.py
                run = self.call(
                    *[sys.executable, os.path.join(ROOT, "data", "classify.py"), file.name, "--val", file.name],
                    *["--tokenizer", "tok", "--out", "out2"],
                )
                self.check_bad(file, run)
                self.assertEqual(self.pairs("train", "out2"), expected)
                # the bag of words
                bad_rows.told.clear()
                with open(os.devnull, "w") as null:
                    stderr, sys.stderr = sys.stderr, null
                    try:
                        bag = bag_of_words.read_rows(self.path(file.name))
                    finally:
                        sys.stderr = stderr
                self.assertEqual(bag, [(a, label) for a, _, label in file.rows])
                self.assertEqual(len(bad_rows.told), len(file.bad))
                # the first bad row ends it
                if file.bad:
                    os.remove(self.path("out/pack.bin"))
                    run = self.call(TOKENIZE, "pack", *pack, "--out", "out/pack.bin", "--on-error", "stop")
                    self.assertEqual((run.returncode, run.stderr.count(b"\n")), (1, 1), run.stderr)
                    self.assertFalse(os.path.exists(self.path("out/pack.bin")))
            os.remove(self.path(file.name))
            for folder in ("out", "out2"):
                shutil.rmtree(self.path(folder), ignore_errors=True)

    def check_bad(self, file, run):
        """The bad rows are told, the first five by their places, and the exit code is 1"""
        error = run.stderr.decode()
        self.assertEqual(run.returncode, 1 if file.bad else 0, error)
        told = re.findall(r"^left out: .*?, ((?:line|element) \d+)", error, re.M)
        self.assertEqual(len(told), min(5, len(file.bad)), error)
        self.assertLessEqual(set(told), set(file.bad))
        if file.bad:
            self.assertRegex(error, r"error: %d rows? (was|were) left out" % len(file.bad))

    def test_eval_agrees(self):
        """finetune_cls eval takes the same rows as the readers above, with the same ones left out."""
        if not os.path.exists(FINETUNE_CLS):
            self.skipTest("expected %s, found nothing" % FINETUNE_CLS)
        for seed in range(24):
            file = File(random.Random(1000 + seed), ("negative", "positive"), bad=seed % 2 * 0.3, pairs=seed % 3 == 0)
            with open(self.path(file.name), "wb") as f:
                f.write(file.data)
            with self.subTest(seed=seed, name=file.name):
                out = "eval%d" % seed
                run = self.call(FINETUNE_CLS, "eval", "--model", SENTIMENT, "--data", file.name, "--out", out)
                self.check_bad(file, run)
                lines = open_bytes(self.path(out, "predictions.tsv")).decode().rstrip("\n").split("\n")
                columns = lines[0].split("\t").index("gold")
                found = [line.split("\t") for line in lines[1:]]
                found = [("\t".join(filter(None, row[:columns])), row[columns]) for row in found]
                self.assertEqual(found, [(shown(a, b), label) for a, b, label in file.rows], file.name)
                run = self.call(
                    *[TOKENIZE, "pack", "--kind", "classify", "--tokenizer", SENTIMENT, "--in", file.name],
                    *["--out", out + "/pack.bin"],
                )
                self.check_bad(file, run)
                self.assertEqual(self.pairs("pack", out), found)

    def test_predict_agrees(self):
        """A text of a table is bad for pack, eval and predict, or for none of them."""
        if not os.path.exists(FINETUNE_CLS):
            self.skipTest("expected %s, found nothing" % FINETUNE_CLS)
        texts = [b"", b" ", b"nan", b"NaN", b"nan ", b"\xe9", b"a\0b", b"\xc2\xa0\xe2\x80\x8d", b"\xcc\x81", b"null"]
        texts += [
            b"\xef\xbf\xbd",
            b"\x01",
            b'"',
            b"'",
            b"\\",
            b"\xe2\x80\xa8",
            b"0",
            b"[",
            b"{",
            b"#",
            b"[UNK]",
            b"[SEP]",
        ]
        for seed in range(8):
            rng = random.Random(seed)
            a_text = lambda: rng.choice(texts) if rng.random() < 0.6 else b"the soup was superb"
            pairs = [(a_text(), a_text() if seed % 2 else b"") for _ in range(40)] + [(b"the end", b"")]
            rows = [a + (b"\t" + b if seed % 2 else b"") for a, b in pairs]
            header, end = b"text" + (b"\ttext2" if seed % 2 else b""), [b"\n", b"\r\n"][seed // 2 % 2]
            labels = [b"negative", b"positive"]
            table = [header + b"\tlabel"] + [row + b"\t" + labels[i % 2] for i, row in enumerate(rows)]
            self.write("a.tsv", end.join(table) + end)
            with self.subTest(seed=seed):
                told = {}
                run = self.call(TOKENIZE, "rows", "a.tsv")
                told["rows"] = [r["line"] for r in map(json.loads, run.stdout.splitlines()) if "error" in r]
                run = self.call(FINETUNE_CLS, "predict", "--model", SENTIMENT, text=end.join(rows) + end)
                answers = run.stdout.split(b"\n")[: len(rows)]
                told["predict"] = [2 + i for i, answer in enumerate(answers) if not answer]
                self.assertEqual(run.returncode, 1)
                self.assertIn(b"error: %d rows were left out" % len(told["predict"]), run.stderr)
                words = ["eval", "--model", SENTIMENT, "--data", "a.tsv"]
                run = self.call(FINETUNE_CLS, *words)
                told["eval"] = int(re.search(rb"error: (\d+) rows were left out", run.stderr)[1])
                words = ["pack", "--kind", "classify", "--tokenizer", SENTIMENT, "--in", "a.tsv", "--out", "p.bin"]
                run = self.call(TOKENIZE, *words)
                told["pack"] = int(re.search(rb"error: (\d+) rows were left out", run.stderr)[1])
                self.assertEqual(told["predict"], told["rows"])
                self.assertEqual((told["eval"], told["pack"]), (len(told["rows"]),) * 2)

    # ---------------------------------------------------------------- what a row costs
    def classify(self, *words, code=0):
        script = os.path.join(ROOT, "data", "classify.py")
        run = self.call(sys.executable, script, "--tokenizer", "tok", "--out", "out", *words)
        self.assertEqual(run.returncode, code, run.stderr)
        return run.stdout.decode() + run.stderr.decode()

    def test_a_bad_quote_costs_one_row(self):
        rows = ["the film,x"] * 50
        rows[10], rows[30], rows[40] = '"the film,x', '"the ""film""\nran",y', '"the"film,x'
        self.write("a.csv", "text,label\n" + "\n".join(rows) + '\n"the cat,y\nthe dog,x\n')
        run = self.call(TOKENIZE, "rows", "a.csv")
        found = [json.loads(line) for line in run.stdout.splitlines()]
        errors = [(r["line"], r["error"]) for r in found if "error" in r]
        self.assertEqual([line for line, _ in errors], [12, 43, 53])
        self.assertIn("expected a comma after the closing quote in line 32", errors[0][1])
        self.assertIn("expected a comma after the closing quote, found", errors[1][1])
        self.assertIn("expected a closing quote, found the end of the file", errors[2][1])
        texts = collections.Counter(r["text"] for r in found if "text" in r)
        self.assertEqual(texts, {"the film": 47, 'the "film"\nran': 1, "the dog": 1})

    def test_time_is_linear(self):
        """Each of these lines opens a quote that no line closes well: none is read more than a few times"""
        for row in ('a","b', '"a', '"a""', "", '"a,b'):
            seconds = []
            for n in (2000, 32000):
                self.write("a.csv", 'text,label\n"' + (row + "\n") * n + 'x"y\n')
                start = time.monotonic()
                self.assertEqual(self.call(TOKENIZE, "rows", "a.csv").returncode, 0)
                seconds.append(time.monotonic() - start)
            # 16 times as many rows; quadratic would be 256 times as long, some minutes
            self.assertLess(seconds[1], 40 * seconds[0] + 5, row)

    def test_stop_leaves_nothing(self):
        self.write("a.csv", "text,label\nthe cat,x\nthe dog\nthe film,y\n")
        out = self.classify("a.csv", "--val", "a.csv", code=1)
        self.assertIn("left out: a.csv, line 3: expected 2 columns as in the header, found 1", out)
        self.assertIn("error: 1 row was left out", out)  # though it was read twice
        self.assertEqual(self.pairs("train"), [("the cat", "x"), ("the film", "y")])
        shutil.rmtree(self.path("out"))
        out = self.classify("a.csv", "--val", "a.csv", "--on-error", "stop", code=1)
        self.assertIn("error: a.csv, line 3: expected 2 columns", out)
        self.assertEqual(os.listdir(self.path("out")), [])

    # ---------------------------------------------------------------- columns and classes
    def rows_of(self, *words):
        run = self.call(TOKENIZE, "rows", *words)
        self.assertEqual(run.returncode, 0, run.stderr)
        return [(r["text"], r["label"]) for r in map(json.loads, run.stdout.splitlines())]

    def test_columns_without_a_header(self):
        expected = [("the cat, the dog", "1"), ("old", "2")]
        self.write("a.csv", "1;the cat, the dog;x\n2;old;y\n")
        self.write("b.csv", '1,"the cat, the dog",x\n2,old,y\n')
        self.write("c.tsv", "1\tthe cat, the dog\tx\n2\told\ty\n")
        self.write("d.csv", "1\tthe cat, the dog\tx\n2\told\ty\n")
        for name in ("a.csv", "b.csv", "c.tsv", "d.csv"):
            self.assertEqual(self.rows_of("--no-header", "--text=2", "--label=1", name), expected, name)
        self.refused(1, 'expected a column "4"', TOKENIZE, "rows", "--no-header", "--text=4", "--label=1", "a.csv")
        self.refused(2, "expected the numbers of the columns", TOKENIZE, "rows", "--no-header", "a.csv")
        # unused columns at a row's end may be missing
        self.write("e.csv", "text,label,id\nold,x\nnew,y,1\n")
        self.assertEqual(self.rows_of("e.csv"), [("old", "x"), ("new", "y")])

    def test_names_of_classes(self):
        self.write("a.csv", "text,label\nold,0\nnew, 1\u00a0\nfine,Good\n")
        self.write("names", "Bad\n Good \n")
        found = [("old", "Bad"), ("new", "Good"), ("fine", "Good")]
        self.assertEqual(self.rows_of("--classes=names", "a.csv"), found)
        self.refused(
            1, "expected a class from 1 to 2 as names has them, found 0", TOKENIZE,
            *["rows", "--classes=names", "--first-class=1", "a.csv"],
        )  # fmt: skip
        self.classify("a.csv", "--val", "a.csv", "--classes", "names")
        self.assertEqual((self.pairs("train"), self.names), (found, ["Bad", "Good"]))

    def test_a_file_or_a_folder_for_each_class(self):
        self.write("good.txt", "the film\n\nfine\n")
        self.write("bad.csv", 'id,text\n1,dull\n2,"sad, old"\n')
        words = ["--class", "good=good.txt", "--class=bad=bad.csv"]
        found = [("the film", "good"), ("fine", "good"), ("dull", "bad"), ("sad, old", "bad")]
        self.assertEqual(self.rows_of(*words), found)
        self.classify(*words, "--val-share", "0.5")
        self.assertEqual(sorted(self.pairs("train") + self.pairs("val")), sorted(found))
        for name, text in [("pos/1.txt", "the film\nran\n"), ("pos/2.TXT", "fine"), ("neg/a.txt", "dull\r\n")]:
            self.write("texts/" + name, text)
        self.write("texts/pos/.hidden.txt", "no")
        self.write("texts/neg/notes.md", "no")
        found = [("dull", "neg"), ("the film\nran", "pos"), ("fine", "pos")]
        self.assertEqual(self.rows_of("texts"), found)
        run = self.call(TOKENIZE, "pack", "--kind=classify", "--tokenizer=tok", "--in=texts", "--out=out/f.bin")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(self.pairs("f"), [(shown(text), label) for text, label in found])
        self.write("texts/neg/b.txt", b"caf\xe9")
        run = self.call(TOKENIZE, "rows", "texts")
        self.assertIn(b"texts/neg/b.txt, line 1: expected UTF-8, found the byte 0xe9", run.stdout)
        self.refused(2, "expected LABEL=FILE", TOKENIZE, "rows", "--class", "good.txt")
        self.refused_script(2, "expected FILE, a folder or", "classify.py", "--tokenizer", "tok", "--out", "out")

    def test_parquet(self):
        self.write("a.parquet", b"PAR1 and so on")
        self.refused(2, "a.parquet: expected a file that ends in", TOKENIZE, "rows", "a.parquet")
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            words = ["--tokenizer", "tok", "--out", "out"]
            self.refused_script(1, "pip install pyarrow", "classify.py", "a.parquet", *words)
            return
        columns = {"text": ["old", "new", None], "label": [1, 0, 1], "score": [0.5, None, 1]}
        parquet.write_table(pyarrow.table(columns), self.path("a.parquet"))
        out = self.classify("a.parquet", "--val", "a.parquet", code=1)
        self.assertIn('a.parquet, line 3: expected a text in "text", found nothing', out)
        self.assertEqual(self.pairs("train"), [("old", "1"), ("new", "0")])

    # ---------------------------------------------------------------- splits
    def test_a_split_has_every_class_on_both_sides(self):
        rows = [(test_classify_data.sentence(i), "ab"[i % 3 == 0]) for i in range(90)]
        rows += [(test_classify_data.sentence(200 + i), "pair%d" % (i // 2)) for i in range(8)]
        rows += [(test_classify_data.sentence(300 + i), "single%d" % i) for i in range(5)]
        for seed in "123":
            random.Random(seed).shuffle(rows)
            self.write("a.csv", test_classify_data.csv_of([("text", "label")] + rows))
            out = self.classify("a.csv", "--seed", seed)
            self.assertIn("note: 5 classes have one text only, which stays in train: single0, single1, single2", out)
            train = collections.Counter(label for _, label in self.pairs("train"))
            val = collections.Counter(label for _, label in self.pairs("val"))
            self.assertEqual((val["a"], val["b"]), (6, 3))
            self.assertEqual([train["pair%d" % i] for i in range(4)], [1] * 4)
            self.assertEqual([val["pair%d" % i] for i in range(4)], [1] * 4)
            self.assertEqual([train["single%d" % i] for i in range(5)], [1] * 5)
            self.assertEqual(sorted(self.pairs("train") + self.pairs("val")), sorted(rows))

    def test_a_text_of_several_classes(self):
        """Equal texts stay together, and no class is in the validation part alone"""
        for seed in range(40):
            rng = random.Random(seed)
            rows = [(test_classify_data.sentence(rng.randrange(9)), rng.choice("abcde")) for _ in range(12)]
            if len({text for text, _ in rows}) < 2 or len({label for _, label in rows}) < 2:
                continue
            texts = [{text for text, label in rows if label == name} for name in "abcde"]
            if max(map(len, texts)) < 2:
                continue
            self.write("a.csv", test_classify_data.csv_of([("text", "label")] + rows))
            self.classify("a.csv", "--val-share", "0.4")
            train, val = self.pairs("train"), self.pairs("val")
            self.assertFalse({t for t, _ in train} & {t for t, _ in val})
            self.assertLessEqual({label for _, label in val}, {label for _, label in train})

    def test_no_validation_part(self):
        self.write("a.csv", "text,label\nthe cat,x\nthe dog,y\n")
        self.write("t.csv", "text,label\nthe film,x\n")
        self.classify("a.csv", "--test", "t.csv", "--val-share", "0")
        self.assertEqual(
            (self.pairs("train"), self.pairs("test")), ([("the cat", "x"), ("the dog", "y")], [("the film", "x")])
        )
        self.assertNotIn("val.bin", os.listdir(self.path("out")))
        words = ["--tokenizer", "tok", "--out", "out", "--val-share", "0"]
        self.refused_script(2, "--val-fraction 0: expected a test part with it", "classify.py", "a.csv", *words)


if __name__ == "__main__":
    unittest.main()
