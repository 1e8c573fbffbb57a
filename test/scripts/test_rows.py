"""Labelled rows: all that read them, data/tokenize rows and pack, data/classify.py and the bag of words, find the same
rows in the same file, whatever the file is like, and leave out the same ones.

    python3 test/scripts/test_rows.py

Needs the standard library and data/tokenize.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import random
import re
import shutil
import sys
import unittest

sys.dont_write_bytecode = True
import test_classify_data
from test_classify_data import WORDS
from test_data import ROOT, TOKENIZE

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

    def __init__(self, rng):
        self.rng, self.rows, self.bad = rng, [], []
        kind = rng.choice(["csv", "csv", "tsv", "lines", "array", "pretty"])
        self.end = rng.choice(["\n", "\r\n", "\r"]) if kind in ("csv", "tsv") else "\n"
        self.quoted = kind == "csv"
        self.separator = {"csv": rng.choice(",,;\t"), "tsv": "\t"}.get(kind)
        self.pairs = rng.random() < 0.5
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
        label = self.rng.choice(["yes", "no", "b, c", "-1", "\u00e9", "7"])
        self.rows.append((self.text(), text2, label))
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
            if rng.random() < 0.2:
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
        self.rows += [("the end", "the end" if self.pairs else None, "the end")] * 2
        for _ in range(2):  # so that no empty line is the last
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
            if rng.random() < 0.2:
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
            if rng.random() < 0.2:
                text, label = rng.choice([(5, True), (-1.5, 7), (False, 0.25), (1e21, "x")])
                self.rows[-1] = (json.dumps(text), text2, label if isinstance(label, str) else json.dumps(label))
            row = {"text": text, "label": label, "id": rng.choice([1, None, float("nan"), {"text": []}])}
            if text2 or rng.random() < 0.5:
                row["text2"] = text2 if text2 else rng.choice([None, float("nan"), "", " "])
            indent = 2 if kind == "pretty" else None
            rows.append(json.dumps(row, indent=indent, ensure_ascii=rng.random() < 0.5))
        for label in ("x", "y"):
            rows.append('{"TEXT": "the end", "Label": "%s"}' % label)
            self.rows.append(("the end", None, label))
        if kind == "lines":
            return "".join(row + "\n" for row in rows).encode()
        return ("[" + rng.choice([",", ",\n", ", \n\n "]).join(rows) + "]").encode()


class Rows(test_classify_data.Case):
    def test_all_readers_agree(self):
        for seed in range(60):
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


if __name__ == "__main__":
    unittest.main()
