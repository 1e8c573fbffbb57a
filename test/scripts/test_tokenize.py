"""data/tokenize pack --kind classify: labelled texts go into a .bin, bad ones are one line with file and line, and an
exit code.

python3 test/scripts/test_tokenize.py        (standard library only; needs data/tokenize)
"""

import csv
import io
import json
import os
import random
import re
import struct
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOKENIZE = os.environ.get("TOKENIZE", os.path.join(ROOT, "data", "tokenize"))
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def read_bin(path):
    """(labels, [(ids, label, second, text)]), read by what the format says, not by our code"""
    with open(path, "rb") as f:
        data = f.read()
    magic, version, kind, width, header, S, N = struct.unpack_from("<8sIIIIQQ", data)
    classes, zero, text_bytes, names_bytes = struct.unpack_from("<IIQQ", data, 72)
    assert (magic, version, kind, width, header, zero) == (b"tunebin\n", 1, 2, 2, 256, 0)
    at = 256

    def take(form, n):
        nonlocal at
        at += struct.calcsize("<%d%s" % (n, form))
        return struct.unpack_from("<%d%s" % (n, form), data, at - struct.calcsize("<%d%s" % (n, form)))

    offset, ids = take("Q", S + 1), take("H", N)
    assert not any(take("B", -at % 8))
    text_at, label, second = take("Q", S + 1), take("i", S), take("I", S)
    texts, names = data[at : at + text_bytes], json.loads(data[at + text_bytes :].decode())
    assert len(data) == at + text_bytes + names_bytes and list(names) == ["labels"] and len(names["labels"]) == classes
    rows = [
        (
            list(ids[offset[s] : offset[s + 1]]),
            names["labels"][label[s]],
            second[s],
            texts[text_at[s] : text_at[s + 1]].decode(),
        )
        for s in range(S)
    ]
    return names["labels"], rows


def shown(text, text2=""):
    cell = lambda s: re.sub("[\0-\x1f\x7f-\x9f\u2028\u2029]", " ", s)
    return cell(text) + ("\t" + cell(text2) if text2.strip(" \t\r\n\v\f") else "")


class Case(unittest.TestCase):
    def setUp(self):
        self.assertTrue(os.path.exists(TOKENIZE), "expected data/tokenize, found nothing: run make")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = folder.name
        letters = "abcdefghijklmnopqrstuvwxyz"
        self.vocabulary = (
            SPECIAL + list(letters) + ["##" + c for c in letters] + ["good", "bad", "film", ".", ",", '"', "'"]
        )
        self.write("tok/vocab.txt", "\n".join(self.vocabulary) + "\n")

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def write(self, name, data):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "wb") as f:
            f.write(data if isinstance(data, bytes) else data.encode())
        return name

    def call(self, *words, **env):
        return subprocess.run(
            [TOKENIZE, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.dir,
            env=dict(os.environ, **env),
        )

    def command(self, name, *more):
        return ["pack", "--tokenizer", "tok", "--kind", "classify", "--in", name, "--out", "x.bin", *more]

    def pack(self, name, *more, warns=False, **env):
        """What the .bin holds, and what was printed"""
        run = self.call(*self.command(name, *more), **env)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(b"warning" in run.stderr, warns, run.stderr)
        lines = [line for line in run.stdout.splitlines() if b"will be cut to that" not in line]
        self.assertEqual(len(lines), 1, run.stdout)
        return (*read_bin(self.path("x.bin")), run.stdout.decode())

    def refused(self, code, message, *words):
        before = os.path.exists(self.path("x.bin"))
        run = self.call(*words)
        error = run.stderr.decode()
        self.assertEqual(run.returncode, code, error)
        self.assertIn(message, error)
        self.assertEqual(error.count("\n"), 1, error)
        self.assertEqual(os.path.exists(self.path("x.bin")), before)

    def refused_pack(self, code, message, name, *more):
        self.refused(code, message, *self.command(name, "--on-error", "stop", *more))

    def words(self, ids):
        return " ".join(self.vocabulary[i] for i in ids)


class Pack(Case):
    def test_three_kinds_of_file(self):
        rows = [("Good film.", "", "yes"), ("bad", "a good, film", "no"), ("abc", "", "yes")]
        self.write("x.tsv", "label\ttext2\ttext\n" + "".join("%s\t%s\t%s\n" % (l, b, a) for a, b, l in rows))
        self.write("x.csv", "text,text2,label\r\n" + "".join('"%s","%s",%s\r\n' % row for row in rows))
        self.write("x.jsonl", "".join(json.dumps({"text": a, "text2": b, "label": l}) + "\n" for a, b, l in rows))
        for name in ("x.tsv", "x.csv", "x.jsonl"):
            labels, found, line = self.pack(name)
            self.assertEqual(labels, ["no", "yes"])
            self.assertEqual(
                [(self.words(ids), label, second, text) for ids, label, second, text in found],
                [
                    ("good film .", "yes", 3, "Good film."),
                    ("bad a good , film", "no", 1, "bad\ta good, film"),
                    ("a ##b ##c", "yes", 3, "abc"),
                ],
            )
            self.assertIn(
                "3 examples, 1 of them pairs, 11 tokens; with [CLS] and [SEP] 6.0 an example, the longest has 8; "
                "labels: no 1 (33.3 %), yes 2 (66.7 %); 0.000 % [UNK]",
                line,
            )

    def test_labels(self):
        def tsv(*labels):
            return self.write("l.tsv", "text\tlabel\n" + "".join("a\t%s\n" % l for l in labels))

        self.assertEqual(self.pack(tsv("10", "9", "-1", "9"))[0], ["-1", "9", "10"])
        self.assertEqual(self.pack(tsv("10", "9", "x"))[0], ["10", "9", "x"])
        self.assertEqual(self.pack(tsv("1", "01", "\u00e9", "Z", "a"))[0], ["01", "1", "Z", "a", "\u00e9"])
        labels, rows, line = self.pack(tsv("b", "b"), "--labels", "c,b,a")
        self.assertEqual((labels, [r[1] for r in rows]), (["c", "b", "a"], ["b", "b"]))
        self.assertIn("labels: c 0 (0.0 %), b 2 (100.0 %), a 0 (0.0 %)", line)
        os.rename(self.path("x.bin"), self.path("train.bin"))
        self.assertEqual(self.pack(tsv("a"), "--labels", "train.bin")[0], ["c", "b", "a"])
        os.remove(self.path("x.bin"))
        self.refused_pack(
            1, "l.tsv, line 3: expected one of the labels c, b, a, found d", tsv("a", "d"), "--labels", "train.bin"
        )
        self.refused_pack(1, "l.tsv: expected at least two different labels, found only b", tsv("b", "b"))
        self.refused_pack(2, 'found only "a"', tsv("b"), "--labels", "a")
        self.refused_pack(2, "found a twice", tsv("b"), "--labels", "a,b,a")
        self.refused_pack(2, 'found an empty name in "a,,b"', tsv("b"), "--labels", "a,,b")
        self.refused_pack(2, "expected names or a .bin file", tsv("b"), "--labels", "")
        self.refused_pack(1, "cannot read none.bin", tsv("b"), "--labels", "none.bin")
        self.assertEqual(self.call("pack", "--tokenizer", "tok", "--in", "l.tsv", "--out", "text.bin").returncode, 0)
        self.refused_pack(1, "text.bin: expected data of kind classify, found text", tsv("b"), "--labels", "text.bin")
        many = self.pack(tsv(*range(100)))[2]
        self.assertIn("19 1 (1.0 %) and 80 more; ", many)

    def test_columns(self):
        name = self.write("c.csv", "id,sentence,other,class\n1,good,film,x\n2,bad,,y\n")
        columns = ["--text-column", "sentence", "--label-column", "class"]
        self.assertEqual([r[3] for r in self.pack(name, *columns)[1]], ["good", "bad"])
        self.assertEqual([r[3] for r in self.pack(name, *columns, "--text2-column", "other")[1]], ["good\tfilm", "bad"])
        os.remove(self.path("x.bin"))
        self.refused_pack(
            1, 'c.csv, line 1: expected a column "text", found the columns "id", "sentence", "other", "class"', name
        )
        self.refused_pack(1, 'c.csv, line 1: expected a column "none"', name, *columns, "--text2-column", "none")
        self.refused_pack(2, "expected three different columns", name, "--text-column", "label")

    def test_directories_of_tokenizers(self):
        name = self.write("x.tsv", "text\tlabel\na\tx\nb\ty\n")
        for folder in ("run/last", "run/best", "run"):  # the later ones go before
            self.write(
                folder + "/vocab.txt",
                "\n".join(SPECIAL + [folder] * 3 + list("ab")).replace("\n" + folder, "", 2) + "\n",
            )
            run = self.call("pack", "--tokenizer", "run", "--kind", "classify", "--in", name, "--out", "r.bin")
            self.assertEqual(run.returncode, 0, run.stderr)
            ids = subprocess.run(
                [TOKENIZE, "decode", "--tokenizer", "run"], input=b"5\n", stdout=subprocess.PIPE, cwd=self.dir
            ).stdout.decode()
            self.assertEqual(ids, folder + "\n")
        self.write("empty/x", "")
        self.refused(
            1,
            "empty: expected tokenizer.json, vocab.txt, or vocab.json and merges.txt, found none",
            "pack",
            "--tokenizer",
            "empty",
            "--in",
            name,
            "--out",
            "x.bin",
            "--kind",
            "classify",
        )
        os.makedirs(self.path("json"))
        made = self.call("learn", "--size", "32", "--out", "json", name)
        self.assertEqual(made.returncode, 0, made.stderr)
        os.remove(self.path("json/vocab.txt"))
        self.assertEqual(
            self.call("pack", "--tokenizer", "json", "--kind", "classify", "--in", name, "--out", "r.bin").returncode, 0
        )

    def test_bad_rows(self):
        tsv = "text\tlabel\ngood\tx\n"
        for name, data, message in [
            ("a.tsv", tsv + "bad\n", "a.tsv, line 3: expected 2 columns as in the header, found 1"),
            ("a.tsv", tsv + "\nbad\tx\n", "a.tsv, line 3: expected a row, found an empty line"),
            ("a.tsv", tsv.encode() + b"b\xffd\tx\n", "a.tsv, line 3: expected UTF-8, found the byte 0xff"),
            ("a.tsv", tsv.encode() + b"b\0d\tx\n", "a.tsv, line 3: expected text, found a NUL byte"),
            ("a.tsv", tsv + " \tx\n", "a.tsv, line 3: expected a text"),
            ("a.tsv", tsv + "bad\t\n", "a.tsv, line 3: expected a label"),
            (
                "a.tsv",
                tsv + "\u200d\ty\n",
                'a.tsv, line 3: expected a text in "text", found only characters that give no token',
            ),
            (
                "a.tsv",
                "text\ttext2\tlabel\na\t\u0301\tx\n",
                'a.tsv, line 2: expected a text in "text2", found only characters that give no token',
            ),
            ("a.tsv", "text\tlabel\n", "a.tsv: expected rows with a text and a label, found none"),
            ("a.tsv", "", "a.tsv, line 1: expected a header"),
            ("a.csv", 'text,label\nb,x\n"good\n\n,x\n', "a.csv, line 3: expected a closing quote"),
            ("a.csv", 'text,label\n"good\n"s,x\n', "a.csv, line 2: expected a comma after the closing quote in line 3"),
            ("a.csv", "text,label,label\n", 'a.csv, line 1: expected the column "label" once, found it twice'),
            ("a.jsonl", '{"text": "a", "label": "b"}\n{"text"\n', "a.jsonl, line 2, column 7: this is not JSON"),
            ("a.jsonl", '{"text": "a", "label": [1.5]}\n', "a.jsonl, line 1: expected a string, a number or a boolean"),
            ("a.txt", tsv, "a.txt: expected a file that ends in .tsv, .csv or .jsonl"),
        ]:
            with self.subTest(message):
                self.refused_pack(2 if name == "a.txt" else 1, message, self.write(name, data))
        self.assertEqual(sorted(f for f in os.listdir(self.dir) if "bin" in f or "tmp" in f), [])

    def test_bad_command_lines(self):
        name = self.write("x.tsv", "text\tlabel\na\tx\nb\ty\n")
        self.refused_pack(2, "--documents is not for --kind classify", name, "--documents", "line")
        self.refused_pack(1, "cannot read more.tsv", name, "more.tsv")
        self.refused_pack(1, "cannot read none.tsv", "none.tsv")
        self.write("dir.tsv/x", "")
        self.refused_pack(1, "dir.tsv: expected texts LABEL/*.txt in this folder, found none", "dir.tsv")
        for flag in ("--labels", "--text-column", "--text2-column", "--label-column"):
            self.refused(
                2,
                flag + " is not for --kind text",
                "pack",
                "--tokenizer",
                "tok",
                "--in",
                name,
                "--out",
                "x.bin",
                flag,
                "a,b",
            )
        self.refused(
            2,
            "expected byte-level BPE",
            "pack",
            "--tokenizer",
            "tok",
            "--kind",
            "instruct",
            "--in",
            name,
            "--out",
            "x.bin",
        )

    def test_unknown_tokens_warn(self):
        name = self.write("x.tsv", "text\tlabel\n\u4e2d \u4e2d good\tx\nb\ty\n")
        self.assertIn("50.000 % [UNK]", self.pack(name, warns=True)[2])

    def test_blocks_and_threads(self):
        """Several blocks of rows, in order, the same with any number of threads; tokens are those of encode."""
        rng = random.Random(1)
        rows = [
            (
                " ".join(rng.choice(["good", "bad", "film", "x", "Caf\u00e9"]) for _ in range(rng.randint(1, 400))),
                str(rng.randint(0, 3)),
            )
            for _ in range(9000)
        ]
        name = self.write("big.tsv", "text\tlabel\n" + "".join("%s\t%s\n" % row for row in rows))
        found = self.pack(name, OMP_NUM_THREADS="1")[1]
        with open(self.path("x.bin"), "rb") as f:
            one = f.read()
        self.pack(name, OMP_NUM_THREADS="3")
        with open(self.path("x.bin"), "rb") as f:
            self.assertEqual(f.read(), one)
        self.assertEqual([(text, label) for _, label, _, text in found], rows)
        encoded = subprocess.run(
            [TOKENIZE, "encode", "--tokenizer", "tok"],
            input="".join(t + "\n" for t, _ in rows).encode(),
            stdout=subprocess.PIPE,
            cwd=self.dir,
        ).stdout
        self.assertEqual(
            [ids for ids, _, _, _ in found], [[int(i) for i in line.split()] for line in encoded.decode().splitlines()]
        )


class RandomCsv(Case):
    def test_rows_are_those_of_python(self):
        """Random rows written by Python's csv module, in every style of quoting and line break"""
        rng = random.Random(2)
        pieces = ["a", "good", " ", ",", '"', '""', "\n", "\r\n", "\t", "\u00e9", "\u2028", "'", "\x1b"]
        piece = lambda most: "".join(rng.choice(pieces) for _ in range(rng.randint(0, most)))
        for _ in range(25):
            columns = ["text", "text2", "label", "more,\n", '"'][: rng.randint(3, 5)]
            rng.shuffle(columns)
            rows = [
                {
                    "text": "x" + piece(9),
                    "text2": rng.choice(["", "y" + piece(5), " \n"]),
                    "label": rng.choice("uvw"),
                    "more,\n": piece(3),
                    '"': piece(2),
                }
                for _ in range(20)
            ]
            rows[0]["label"], rows[1]["label"] = "u", "v"
            out = io.StringIO(newline="")
            writer = csv.DictWriter(
                out,
                columns,
                extrasaction="ignore",
                quoting=rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
                lineterminator=rng.choice(["\n", "\r\n"]),
            )
            writer.writeheader()
            writer.writerows(rows)
            name = self.write("r.csv", rng.choice(["", "\ufeff"]) + out.getvalue())
            self.assertEqual(
                [(text, label) for _, label, _, text in self.pack(name)[1]],
                [(shown(r["text"], r["text2"]), r["label"]) for r in rows],
            )

    def test_damaged_files(self):
        """Files with random damage: what is accepted is what Python reads; the rest is one line with the file's name"""
        rng = random.Random(3)
        valid = 'text,label,text2\n"a ""b"", \nc",u,""\ngood,v,"x"\n"bad",u,y\n'
        accepted = 0
        for _ in range(300):
            data = list(valid)
            for _ in range(rng.randint(1, 2)):
                at = rng.randrange(14, len(data))
                if rng.random() < 0.5:
                    data[at] = rng.choice('a",\n ')
                else:
                    data.insert(at, rng.choice('a",\n '))
            data = "".join(data)
            run = self.call(*self.command(self.write("d.csv", data), "--on-error", "stop"))
            if run.returncode:
                self.assertEqual((run.returncode, run.stderr.count(b"\n")), (1, 1), run.stderr)
                self.assertIn(b"error: d.csv", run.stderr)
                continue
            accepted += 1
            table = csv.DictReader(io.StringIO(data, newline=""))
            # white space around names of columns and labels does not count
            table.fieldnames = [name.strip() for name in table.fieldnames]
            rows = [r for r in table if r["text"] is not None and (r["label"] is not None or r["text"].strip())]
            self.assertEqual(
                [(text, label) for _, label, _, text in read_bin(self.path("x.bin"))[1]],
                [(shown(r["text"], r.get("text2") or ""), r["label"].strip()) for r in rows],
                data,
            )
        self.assertGreater(accepted, 30)


if __name__ == "__main__":
    unittest.main()
