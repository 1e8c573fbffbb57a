"""The data scripts and data/tokenize's command line: one command makes a data directory; bad input is one clear line
and an exit code.

    python3 test/scripts/test_data.py

Needs the standard library and data/tokenize; downloads come from a server in this process.
"""

import gzip
import hashlib
import http.server
import json
import lzma
import os
import random
import subprocess
import sys
import tempfile
import threading
import unittest
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOKENIZE = os.environ.get("TOKENIZE", os.path.join(ROOT, "data", "tokenize"))
SHARED = os.path.join(ROOT, "..", "shared", "data", "pretrain")
ENV = dict(os.environ, TOKENIZE=TOKENIZE, DOWNLOAD_PAUSE="0.01", PYTHONDONTWRITEBYTECODE="1", no_proxy="*")
TOKENIZER_FILES = {"vocab.txt", "tokenizer.json", "tokenizer_config.json"}
BPE_FILES = {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"}
sys.dont_write_bytecode = True
sys.path.append(os.path.join(ROOT, "dev", "lib"))
from bin_file import parse_bin  # noqa: E402


def story(n):
    """A few hundred words, different for every n."""
    return "\n\n".join(
        "Paragraph %d of story %d: the fox number %d ran over the hill and saw %d lazy dogs, again and again."
        % (i, n, n * i, i)
        for i in range(20)
    )


class Case(unittest.TestCase):
    def setUp(self):
        self.assertTrue(os.path.exists(TOKENIZE), "expected data/tokenize, found nothing: run make")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = folder.name

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def write(self, name, data):
        data = data.encode() if isinstance(data, str) else data
        opener = lzma.open if name.endswith(".xz") else gzip.open if name.endswith(".gz") else open
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with opener(self.path(name), "wb") as f:
            f.write(data)
        return self.path(name)

    def call(self, *words, text=""):
        text = text.encode() if isinstance(text, str) else text
        return subprocess.run(words, input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.dir, env=ENV)

    def tokenize(self, *words, text=""):
        run = self.call(TOKENIZE, *words, text=text)
        self.assertEqual(run.returncode, 0, run.stderr.decode())
        return run.stdout.decode()

    def script(self, name, *words):
        run = self.call(sys.executable, os.path.join(ROOT, "data", name), *words)
        self.assertEqual(run.returncode, 0, run.stderr.decode())
        return run.stdout.decode() + run.stderr.decode()

    def refused(self, code, message, *words, text=""):
        run = self.call(*words, text=text)
        error = run.stderr.decode()
        self.assertEqual(run.returncode, code, error)
        self.assertIn(message, error)
        self.assertEqual(len(error.strip().split("\n")), 1, "expected one line, found: " + error)

    def refused_script(self, code, message, name, *words):
        self.refused(code, message, sys.executable, os.path.join(ROOT, "data", name), *words)

    def documents(self, path, tokenizer):
        """The documents of a .bin as text, read by what the format says, not by our code."""
        with open(path, "rb") as f:
            data = f.read()
        file = parse_bin(data)
        self.assertEqual(file[:5], (b"tunebin\n", 1, 1, 2, 256))
        size = 256 + 8 * (file.sequences + 1) + 2 * file.tokens
        self.assertEqual((file.offsets[0], file.offsets[-1], len(data)), (0, file.tokens, size))
        self.assertLess(max(file.ids), file.vocab)
        lines = "".join(json.dumps(file.ids[a:b]) + "\n" for a, b in zip(file.offsets, file.offsets[1:]))
        return [
            json.loads(line)
            for line in self.tokenize("decode", "--tokenizer", tokenizer, "--json", text=lines).splitlines()
        ]

    def normal(self, text):
        """Text as it comes back from ids."""
        ids = self.tokenize("encode", "--tokenizer", self.path("out"), text=" ".join(text.split()) + "\n")
        return self.tokenize("decode", "--tokenizer", self.path("out"), text=ids).rstrip("\n")


class Tokenize(Case):
    def setUp(self):
        super().setUp()
        self.text = self.write("text.txt", story(1) + "\n<|endoftext|>\n" + story(2))
        self.tokenize("learn", "--type", "wordpiece", "--size", "120", "--out", self.path("tok"), self.text)

    def test_encode_and_decode(self):
        text = "The fox ran.\n\n[CLS] lazy DOGS [SEP]\n"
        ids = self.tokenize("encode", "--tokenizer", "tok", text=text)
        self.assertEqual(len(ids.split("\n")), 4)
        self.assertEqual(ids.split("\n")[1], "")
        self.assertEqual(
            self.tokenize("decode", "--tokenizer", "tok", text=ids), "the fox ran.\n\n[CLS] lazy dogs [SEP]\n"
        )
        array = json.loads(self.tokenize("encode", "--tokenizer", "tok", "--json", text='"The fox\\nran."\n'))
        self.assertEqual(array, [int(i) for i in ids.split("\n")[0].split()])
        self.assertEqual(
            json.loads(self.tokenize("decode", "--tokenizer", "tok", "--json", text=json.dumps(array))), "the fox ran."
        )

    def test_cased(self):
        self.tokenize("learn", "--type", "wordpiece", "--size", "120", "--no-lower-case", "--out", "cased", self.text)
        with open(self.path("cased/tokenizer_config.json")) as f:
            self.assertIs(json.load(f)["do_lower_case"], False)
        ids = self.tokenize("encode", "--tokenizer", "cased", text="Paragraph fox")
        self.assertEqual(self.tokenize("decode", "--tokenizer", "cased", text=ids), "Paragraph fox\n")

    def test_learning_is_deterministic(self):
        for threads in ("1", "3"):
            subprocess.run(
                [TOKENIZE, "learn", "--size", "120", "--out", self.path(threads), self.text],
                env=dict(ENV, OMP_NUM_THREADS=threads),
                stdout=subprocess.DEVNULL,
                check=True,
            )
            with open(self.path(threads, "vocab.txt")) as f, open(self.path("tok/vocab.txt")) as g:
                self.assertEqual(f.read(), g.read())

    def test_documents(self):
        text = self.write(
            "d.txt", "fox a\nfox s\n\n \nfox t\n<|endoftext|> \n\nfox d\n<|endoftext|>\n<|endoftext|>\nlast"
        )
        expected = {"eot": ["fox a fox s fox t", "fox d", "last"], "file": 2, "line": 8, "blank": 3}
        for how, documents in expected.items():
            more = [text] if how == "file" else []
            self.tokenize(
                "pack",
                "--tokenizer",
                "tok",
                "--kind",
                "text",
                "--in",
                text,
                "--documents",
                how,
                "--out",
                how + ".bin",
                *more,
            )
            found = self.documents(self.path(how + ".bin"), "tok")
            self.assertEqual(found if how == "eot" else len(found), documents, how)

    def test_pack_counts_and_threads(self):
        # several parts for the threads
        big = self.write("big.txt", "\n<|endoftext|>\n".join(story(i) for i in range(400)))
        files = []
        for threads in ("1", "3"):
            run = subprocess.run(
                [
                    TOKENIZE,
                    "pack",
                    "--tokenizer",
                    self.path("tok"),
                    "--kind",
                    "text",
                    "--in",
                    big,
                    "--out",
                    self.path(threads + ".bin"),
                ],
                env=dict(ENV, OMP_NUM_THREADS=threads),
                stdout=subprocess.PIPE,
                check=True,
            )
            self.assertIn(b": 400 documents, ", run.stdout)
            with open(self.path(threads + ".bin"), "rb") as f:
                files.append(f.read())
        self.assertEqual(files[0], files[1])

    def test_invalid_utf8_is_reported(self):
        bad = self.write("bad.txt", b"fox \xff ran\xfe\n")
        run = self.call(TOKENIZE, "pack", "--tokenizer", "tok", "--kind", "text", "--in", bad, "--out", "bad.bin")
        self.assertEqual(run.returncode, 0)
        self.assertIn(b"2 bytes of the input are not UTF-8", run.stderr)
        self.assertEqual(self.documents(self.path("bad.bin"), "tok"), ["fox ran"])

    def test_help(self):
        for verb in ([], ["learn"], ["encode"], ["decode"], ["pack"]):
            self.assertIn("default", self.tokenize(*verb, "--help"))

    def test_bad_command_lines(self):
        pack = [TOKENIZE, "pack", "--tokenizer", "tok", "--kind", "text"]
        self.refused(2, "expected a command", TOKENIZE)
        self.refused(2, "nearest: learn", TOKENIZE, "lern")
        self.refused(2, "unknown flag --sizes; nearest: --size", TOKENIZE, "learn", "--sizes", "9", self.text)
        self.refused(2, "expected an integer from 32", TOKENIZE, "learn", "--size", "5", "--out", "x", self.text)
        self.refused(2, "--out DIR", TOKENIZE, "learn", self.text)
        self.refused(
            2, "expected one of wordpiece|bpe", TOKENIZE, "learn", "--type", "unigram", "--out", "x", self.text
        )
        self.refused(
            2,
            "--lower-case is not for --type bpe",
            TOKENIZE,
            "learn",
            "--type",
            "bpe",
            "--lower-case",
            "--out",
            "x",
            self.text,
        )
        self.refused(
            2,
            "expected at least 257 tokens",
            TOKENIZE,
            "learn",
            "--type",
            "bpe",
            "--size",
            "256",
            "--out",
            "x",
            self.text,
        )
        self.refused(
            2,
            "found vocab.txt; take another directory",
            TOKENIZE,
            "learn",
            "--type",
            "bpe",
            "--size",
            "300",
            "--out",
            "tok",
            self.text,
        )
        self.refused(
            2, "expected one of eot|line|blank|file", *pack, "--documents", "page", "--in", self.text, "--out", "x.bin"
        )
        self.refused(
            2,
            "expected byte-level BPE",
            TOKENIZE,
            "pack",
            "--tokenizer",
            "tok",
            "--kind",
            "instruct",
            "--in",
            self.text,
            "--out",
            "x.bin",
        )
        self.refused(2, "expected --in FILE", *pack, "--out", "x.bin")
        self.refused(2, "expected --tokenizer DIR", TOKENIZE, "encode")

    def test_bad_files(self):
        pack = [TOKENIZE, "pack", "--tokenizer", "tok", "--kind", "text"]
        self.refused(1, "cannot read none.txt", TOKENIZE, "learn", "--out", "x", "none.txt")
        self.refused(1, "found a directory", TOKENIZE, "learn", "--out", "x", self.dir)
        self.refused(1, "there are no words", TOKENIZE, "learn", "--out", "x", self.write("empty.txt", ""))
        self.refused(
            1, "cannot make the directory", TOKENIZE, "learn", "--out", os.path.join(self.text, "x"), self.text
        )
        self.refused(1, "the input holds no tokens", *pack, "--in", self.write("blank.txt", "\n \n"), "--out", "x.bin")
        self.refused(
            1, "cannot make the directory", *pack, "--in", self.text, "--out", os.path.join(self.text, "x.bin")
        )
        self.refused(
            1, "expected a tokenizer directory, found nothing", TOKENIZE, "encode", "--tokenizer", "none", text="a"
        )
        self.refused(1, "line 2: line 1, column", TOKENIZE, "encode", "--tokenizer", "tok", "--json", text='"a"\nb\n')
        self.refused(
            1, "line 1: expected a JSON string, found 5", TOKENIZE, "encode", "--tokenizer", "tok", "--json", text="5\n"
        )
        self.refused(
            1, "line 1: expected ids separated by spaces", TOKENIZE, "decode", "--tokenizer", "tok", text="5 x\n"
        )
        self.refused(1, "found 5000", TOKENIZE, "decode", "--tokenizer", "tok", text="5 5000\n")
        self.refused(
            1,
            "line 1: expected an integer, found 1.5",
            TOKENIZE,
            "decode",
            "--tokenizer",
            "tok",
            "--json",
            text="[1.5]\n",
        )
        self.assertFalse(os.path.exists(self.path("x.bin")))
        if os.path.exists("/dev/full"):
            with open("/dev/full", "wb") as full:
                run = subprocess.run(
                    [TOKENIZE, "encode", "--tokenizer", self.path("tok")],
                    input=b"a\n",
                    stdout=full,
                    stderr=subprocess.PIPE,
                )
            self.assertEqual((run.returncode, b"cannot write standard output" in run.stderr), (1, True))


class TokenizeBpe(Case):
    def setUp(self):
        super().setUp()
        self.text = self.write("text.txt", story(1) + "\n<|endoftext|>\n" + story(2))
        self.tokenize("learn", "--type", "bpe", "--size", "300", "--out", self.path("tok"), self.text)

    def pack(self, path, *flags, tokenizer="tok"):
        """The documents of the packed file as bytes, and what pack said on standard error"""
        run = self.call(
            TOKENIZE, "pack", "--tokenizer", tokenizer, "--kind", "text", "--in", path, "--out", "x.bin", *flags
        )
        self.assertEqual(run.returncode, 0, run.stderr.decode())
        data = open_bytes(self.path("x.bin"))
        file = parse_bin(data)
        offsets, ids, vocab = file.offsets, file.ids, file.vocab
        byte = {}  # the other way round than common/text/bpe.h: from GPT-2's description
        plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
        for b in range(256):
            byte[chr(b) if b in plain else chr(256 + len([x for x in range(b) if x not in plain]))] = b
        pieces = {
            i: bytes(byte[c] for c in t) for t, i in json.loads(open_bytes(self.path(tokenizer, "vocab.json"))).items()
        }
        self.assertEqual(vocab, len(pieces))
        return [b"".join(map(pieces.get, ids[a:b])) for a, b in zip(offsets, offsets[1:])], run.stderr.decode()

    def test_files(self):
        self.assertEqual(set(os.listdir(self.path("tok"))), BPE_FILES)
        self.assertEqual(open_bytes(self.path("tok/merges.txt")).split(b"\n")[0], b"#version: 0.2")
        self.refused(
            2,
            "found vocab.json; take another directory",
            TOKENIZE,
            "learn",
            "--type",
            "wordpiece",
            "--out",
            "tok",
            self.text,
        )

    def test_encode_and_decode(self):
        text = "The fox  ran.\n\n caf\u00e9 <|endoftext|>\t\u4e2d\n"
        ids = self.tokenize("encode", "--tokenizer", "tok", text=text)
        self.assertEqual(
            (len(ids.split("\n")), ids.split("\n")[1], ids.split("\n")[2].split().count("299")), (4, "", 1)
        )
        self.assertEqual(self.tokenize("decode", "--tokenizer", "tok", text=ids), text)
        array = json.loads(self.tokenize("encode", "--tokenizer", "tok", "--json", text='"a\\n\\nfox "\n'))
        self.assertEqual(
            json.loads(self.tokenize("decode", "--tokenizer", "tok", "--json", text=json.dumps(array))), "a\n\nfox "
        )
        run = self.call(TOKENIZE, "encode", "--tokenizer", "tok", text=b"a\xff\xfe b\n")
        self.assertIn(b"2 bytes of the input are not UTF-8 and were kept", run.stderr)
        self.assertEqual(self.call(TOKENIZE, "decode", "--tokenizer", "tok", text=run.stdout).stdout, b"a\xff\xfe b\n")
        self.refused(1, "expected ids from 0 to 299, found 300", TOKENIZE, "decode", "--tokenizer", "tok", text="300\n")

    def test_stock_names_and_runs(self):
        expected = self.tokenize("encode", "--tokenizer", "tok", text="the lazy fox\n")
        for folder, names in (
            ("stock", {"vocab.json": "encoder.json", "merges.txt": "vocab.bpe"}),
            ("all", {"tokenizer.json": "tokenizer.json"}),
            ("run/best", {n: n for n in BPE_FILES}),
        ):
            for name, other in names.items():
                self.write(folder + "/" + other, open_bytes(self.path("tok", name)))
            self.assertEqual(
                self.tokenize("encode", "--tokenizer", folder.split("/")[0], text="the lazy fox\n"), expected, folder
            )

    def test_documents(self):
        text = self.write(
            "d.txt", b"fox a\r\nfox s \n\n \nfox \xff\n\n<|endoftext|> \n\nfox d\n<|endoftext|>\n<|endoftext|>\nlast\n"
        )
        expected = {
            "eot": [b"fox a\r\nfox s \n\n \nfox \xff\n", b"\nfox d", b"last"],
            "file": [open_bytes(text)],
            "line": [
                b"fox a",
                b"fox s ",
                b" ",
                b"fox \xff",
                b"<|endoftext|> ",
                b"fox d",
                b"<|endoftext|>",
                b"<|endoftext|>",
                b"last",
            ],
            "blank": [b"fox a\r\nfox s ", b"fox \xff", b"<|endoftext|> ", b"fox d\n<|endoftext|>\n<|endoftext|>\nlast"],
        }
        for how, documents in expected.items():
            found, said = self.pack(text, "--documents", how)
            self.assertEqual(found, documents, how)
            self.assertIn("1 bytes of the input are not UTF-8 and were kept", said)
            self.assertEqual("times <|endoftext|> stands within a document" in said, how != "eot")

    def test_parts_change_nothing(self):
        """Texts larger than the parts that threads share (256 kB) and than a block (16 MB): no byte is lost, and the
        ids are those of the text in one piece."""
        rng = random.Random(1)
        words = [
            "fox",
            "ran",
            " ",
            "  ",
            "\n",
            "\n\n",
            " \n",
            "\n ",
            "\t",
            "\u00a0",
            "\u3000",
            "\u00e9",
            "\u3002",
            "12",
            "'s",
            "!",
            "\r\n",
            "<|endoftext|>",
        ]
        noise = "".join(rng.choice(words) for _ in range(400000))
        text = self.write("big.txt", (noise + story(3)) * 18)
        self.assertGreater(os.path.getsize(text), 17 << 20)
        expected, said = self.pack(text, "--documents", "file")
        self.assertEqual(expected, [open_bytes(text)])
        # the same through encode --json, which takes the text as one string; there <|endoftext|> is a token
        quiet = (noise + story(3)).replace("<|endoftext|>", "|") * 18
        self.write("big.txt", quiet)
        self.pack("big.txt", "--documents", "file")
        ids = parse_bin(open_bytes(self.path("x.bin"))).ids
        one = json.loads(self.tokenize("encode", "--tokenizer", "tok", "--json", text=json.dumps(quiet) + "\n"))
        # not assertEqual of the lists: their difference would take minutes to print
        self.assertEqual(list(ids) == one, True)

    def test_learning_is_deterministic(self):
        big = self.write("big.txt", "\n<|endoftext|>\n".join(story(i) for i in range(400)))
        found = []
        for threads in ("1", "3"):
            subprocess.run(
                [TOKENIZE, "learn", "--type", "bpe", "--size", "500", "--out", self.path(threads), big],
                env=dict(ENV, OMP_NUM_THREADS=threads),
                stdout=subprocess.DEVNULL,
                check=True,
            )
            found.append([open_bytes(self.path(threads, name)) for name in sorted(BPE_FILES)])
        self.assertEqual(found[0], found[1])

    def test_bad_input(self):
        self.refused(
            2,
            "expected the tokenizer of an encoder for --kind classify",
            TOKENIZE,
            "pack",
            "--tokenizer",
            "tok",
            "--kind",
            "classify",
            "--in",
            self.text,
            "--out",
            "x.bin",
        )
        self.refused(
            1,
            "there are no words",
            TOKENIZE,
            "learn",
            "--type",
            "bpe",
            "--out",
            "x",
            self.write("empty.txt", "<|endoftext|>\n"),
        )
        self.refused(
            1,
            "the input holds no tokens",
            TOKENIZE,
            "pack",
            "--tokenizer",
            "tok",
            "--kind",
            "text",
            "--in",
            "empty.txt",
            "--out",
            "x.bin",
        )
        os.remove(self.path("tok/vocab.json"))
        os.remove(self.path("tok/tokenizer.json"))
        self.refused(
            1,
            "tok: expected vocab.json or encoder.json beside tok/merges.txt",
            TOKENIZE,
            "encode",
            "--tokenizer",
            "tok",
            text="a",
        )


class Scripts(Case):
    def check_directory(self, out, train, val, tokenizer=TOKENIZER_FILES):
        files = set(os.listdir(self.path(out)))
        self.assertEqual(files, tokenizer | {"train.bin", "val.bin", "made.sha256"})
        found = [self.documents(self.path(out, part + ".bin"), self.path(out)) for part in ("train", "val")]
        self.assertEqual([len(f) for f in found], [train, val])
        self.assertFalse(set(found[0]) & set(found[1]), "a document in both parts")
        return found

    def test_text(self):
        for i in range(6):
            self.write("in/sub%d/story.%s" % (i, ["txt", "txt.xz", "md", "txt.gz", "txt", "txt"][i]), story(i))
        self.write("in/picture.jpg", b"\xff\xd8")
        with zipfile.ZipFile(self.path("in", "more.zip"), "w") as z:
            z.writestr("a/story.txt", story(6) + "\n<|endoftext|>\n" + story(7))
            z.writestr("a/story.json", "{}")
        self.write("again.txt", story(3))
        out = self.script("text.py", "in", "again.txt", "--vocab-size", "150", "--val-share", "0.25", "--out", "out")
        self.assertIn("next: ./train_bert --data out --out runs/bert --max-len 32 --positions 128", out)
        self.assertIn("1 documents are exact repetitions", out)
        train, val = self.check_directory("out", 6, 2)
        self.assertEqual(sorted(train + val), sorted(self.normal(story(i)) for i in range(8)))

        # the same command, the same files; another seed, another split; the vocabulary of another directory
        before = {
            name: open_bytes(self.path("out", name)) for name in os.listdir(self.path("out")) if name != "made.sha256"
        }
        self.script("text.py", "again.txt", "in", "--vocab-size", "150", "--val-share", "0.25", "--out", "out")
        self.assertEqual(sorted(self.documents(self.path("out/val.bin"), "out")), sorted(val))
        self.script(
            "text.py", "in", "again.txt", "--vocab-size", "150", "--val-share", "0.25", "--out", "out", "--keep-text"
        )
        self.assertEqual(before, {name: open_bytes(self.path("out", name)) for name in before})
        self.assertTrue(os.path.exists(self.path("out/val.txt")))
        self.script("text.py", "in", "--tokenizer", "out", "--seed", "3", "--out", "other")
        self.assertEqual(open_bytes(self.path("out/vocab.txt")), open_bytes(self.path("other/vocab.txt")))
        self.check_directory("other", 7, 1)

    def test_text_single_document(self):
        self.write("one.txt", story(1))
        self.assertIn(
            "there is one document only",
            self.script("text.py", "one.txt", "--vocab-size", "100", "--val-fraction", "0.2", "--out", "out"),
        )
        train, val = self.check_directory("out", 1, 1)
        self.assertEqual(train[0] + " " + val[0], self.normal(story(1)))
        self.assertEqual((train[0].count("paragraph"), val[0].count("paragraph")), (16, 4))  # cut between paragraphs
        self.script("text.py", "one.txt", "--documents", "blank", "--vocab-size", "100", "--out", "out")
        self.check_directory("out", 19, 1)

    def test_text_windows_1252(self):
        self.write("w.txt", "caf\xe9\n\nna\xefve \x93x\x94\n".encode("latin-1") * 3)
        flags = ["text.py", "w.txt", "--vocab-size", "50", "--cased", "--out", "out"]
        self.refused_script(1, "w.txt, line 1: expected UTF-8, found the byte 0xe9; convert it", *flags)
        self.script(*flags, "--encoding", "cp1252")
        text = self.documents(self.path("out/train.bin"), "out")[0]
        self.assertIn("caf\u00e9", text)
        self.assertIn("\u201c x \u201d", text)
        self.refused_script(1, "it is not in the encoding utf-16", *flags, "--encoding", "utf-16")
        for name in ("windows", "rot13", "base64"):
            self.refused_script(2, "--encoding: expected utf-8, utf-16, cp1252", *flags, "--encoding", name)

    def test_books(self):
        for i in range(3):
            self.write(
                "b/%d.txt" % i,
                "\ufeffThe Project Gutenberg eBook of X\r\n\r\nlicence\r\n"
                "*** START OF THE PROJECT GUTENBERG EBOOK X ***\r\n\r\n"
                "Produced by Some Body\r\n\r\n\r\n"
                + story(i).replace("\n", "\r\n")
                + "\r\n\r\n*** END OF THE PROJECT GUTENBERG EBOOK X ***\r\nlicence\r\n",
            )
        self.script("books.py", "--from", "b", "--vocab-size", "150", "--out", "out")
        train, val = self.check_directory("out", 2, 1)
        self.assertEqual(sorted(train + val), sorted(self.normal(story(i)) for i in range(3)))

    def test_wikitext(self):
        article = lambda i: (
            " \n = Title %d = \n \n Some text @-@ with 1 @,@ 000 marks . \n = = Section = = \n More of %d . \n" % (i, i)
        )
        self.write("wiki.train.raw", "".join(article(i) for i in range(9)))
        self.script("wikitext.py", "--from", "wiki.train.raw", "--vocab-size", "120", "--out", "out")
        train, val = self.check_directory("out", 8, 1)
        self.assertIn("= title 3 = some text - with 1, 000 marks. = = section = = more of 3.", train + val)
        with zipfile.ZipFile(self.path("w.zip"), "w") as z:
            z.writestr("w/wiki.train.raw", "".join(article(i) for i in range(9)))
            z.writestr("w/wiki.valid.raw", "".join(article(i) for i in range(20, 24)))
            z.writestr("w/wiki.test.raw", "".join(article(i) for i in range(30, 34)))
        self.script("wikitext.py", "--from", "w.zip", "--vocab-size", "120", "--out", "out")
        self.check_directory("out", 9, 4)  # the corpus' own parts

    def test_bpe(self):
        for i in range(4):
            self.write("in/%d.txt" % i, story(i))
        self.script("text.py", "in", "--vocab-size", "150", "--out", "out")
        self.assertIn(
            "next: ./train_gpt --data out --out runs/gpt",
            self.script("text.py", "in", "--tokenizer-type", "bpe", "--vocab-size", "300", "--out", "out"),
        )
        self.check_directory("out", 3, 1, BPE_FILES)  # the vocabulary of the earlier run is gone
        self.assertIn("./train_gpt", self.script("text.py", "in", "--tokenizer", "out", "--out", "other"))
        self.check_directory("other", 3, 1, BPE_FILES)
        self.assertEqual(open_bytes(self.path("out/train.bin")), open_bytes(self.path("other/train.bin")))
        self.refused_script(
            2,
            "--vocab-size: expected 257 to",
            "text.py",
            "in",
            "--tokenizer-type",
            "bpe",
            "--vocab-size",
            "200",
            "--out",
            "o",
        )
        self.refused_script(
            2, "--cased is for wordpiece", "text.py", "in", "--tokenizer-type", "bpe", "--cased", "--out", "o"
        )

    def test_shakespeare(self):
        text = "First Citizen:\r\nCaf\u00e9, speak.\n\n" * 50
        self.write("input.txt", text)
        self.assertIn(
            "./train_gpt", self.script("shakespeare.py", "--from", "input.txt", "--keep-text", "--out", "out")
        )
        cut = int(len(text) * 0.9)
        for part, expected in (("train", text[:cut]), ("val", text[cut:])):
            self.assertEqual(open_bytes(self.path("out", part + ".txt")), expected.encode())
            self.assertEqual(
                parse_bin(open_bytes(self.path("out", part + ".bin")))[5:8],  # sequences, tokens, vocabulary
                (1, len(expected.encode()), 257),
            )
        self.write("folder/tinyshakespeare.txt", text)
        self.write("folder/other.txt", "something else")
        self.script("shakespeare.py", "--from", "folder", "--out", "from-folder")
        self.assertEqual(open_bytes(self.path("from-folder/train.bin")), open_bytes(self.path("out/train.bin")))
        self.refused_script(
            1,
            "bad.txt, line 1: expected UTF-8, found the byte 0xff",
            "shakespeare.py",
            "--from",
            self.write("bad.txt", b"ab\xff"),
            "--out",
            "o",
        )
        self.refused_script(
            1,
            "expected a text that can be divided",
            "shakespeare.py",
            "--from",
            self.write("small.txt", "a"),
            "--out",
            "o",
        )

    def test_tinystories(self):
        self.write("s/train.txt", "\n<|endoftext|>\n".join(story(i) for i in range(6)))
        self.write("s/valid.txt.gz", "\n<|endoftext|>\n".join(story(i) for i in range(6, 8)))
        self.script("tinystories.py", "--from", "s", "--vocab-size", "300", "--out", "out")
        self.check_directory("out", 6, 2, BPE_FILES)
        self.script("tinystories.py", "--from", "s/train.txt", "--vocab-size", "300", "--out", "out")
        self.check_directory("out", 5, 1, BPE_FILES)
        self.refused_script(
            1, "expected a file for training", "tinystories.py", "--from", "s/valid.txt.gz", "--out", "o"
        )
        self.refused_script(
            2, "--megabytes: expected a number from 0", "tinystories.py", "--megabytes", "-1", "--out", "o"
        )

    def test_fineweb(self):
        self.write("w/a.jsonl.gz", "".join(json.dumps({"text": story(i), "id": i}) + "\n" for i in range(5)))
        self.write("w/b.txt", story(5) + "\n<|endoftext|>\n" + story(6))
        self.script("fineweb.py", "--from", "w", "--vocab-size", "300", "--out", "out")
        self.check_directory("out", 6, 1, BPE_FILES)
        bad = self.write("bad.jsonl", '{"text": "a"}\n{"text": 5}\n')
        self.refused_script(
            1, "bad.jsonl, line 2: text: expected a string, found 5", "fineweb.py", "--from", bad, "--out", "o"
        )
        parquet = self.write("x.parquet", b"PAR1\x15\x04\x15\x00")
        self.refused_script(1, "found a Parquet file", "fineweb.py", "--from", parquet, "--out", "o")

    def test_bad_inputs(self):
        text = self.write("a.txt", story(1))
        self.refused_script(2, "--out", "text.py", text)
        self.refused_script(2, "unrecognized arguments: --sizes", "text.py", text, "--out", "o", "--sizes", "5")
        self.refused_script(2, "expected files or folders", "text.py", "--out", "o")
        self.refused_script(
            2, "--val-fraction: expected a number between 0 and 1", "text.py", text, "--out", "o", "--val-fraction", "1"
        )
        self.refused_script(2, "--vocab-size: expected 32", "text.py", text, "--out", "o", "--vocab-size", "3")
        self.refused_script(2, "--out: expected a directory", "text.py", text, "--out", text)
        self.refused_script(2, "either numbers of books or --from", "books.py", "11", "--from", text, "--out", "o")
        self.refused_script(2, "expected {n}", "books.py", "11", "--url", "http://127.0.0.1/", "--out", "o")
        self.refused_script(1, "there is no such file or folder", "text.py", "none.txt", "--out", "o")
        self.refused_script(
            1, "there is no text in the input", "text.py", self.write("empty.txt", "\n\n"), "--out", "o"
        )
        self.refused_script(
            1, "there is no text in the folder", "text.py", os.path.dirname(self.write("f/x.jpg", "x")), "--out", "o"
        )
        self.refused_script(1, "the only document is one word", "text.py", self.write("word.txt", "word"), "--out", "o")
        self.refused_script(1, "cannot read", "text.py", self.write("bad.zip", "no zip"), "--out", "o")
        os.rename(self.write("bad", "no xz"), self.path("bad.xz"))
        self.refused_script(1, "cannot read bad.xz", "text.py", "bad.xz", "--out", "o")
        half = open_bytes(self.write("half.txt.gz", story(1)))
        with open(self.path("half.txt.gz"), "wb") as f:
            f.write(half[: len(half) // 2])
        self.refused_script(1, "cannot read half.txt.gz", "text.py", "half.txt.gz", "--out", "o")
        self.assertEqual(os.listdir(self.path("o")), [])  # nothing is left behind


def open_bytes(path):
    with open(path, "rb") as f:
        return f.read()


# ---------------------------------------------------------------- downloads
class Server(http.server.BaseHTTPRequestHandler):
    """Files from `files`, with Range; `breaks`: how often the connection ends in the middle."""

    files, breaks, ranges, log, tag = {}, 0, True, [], None

    def do_GET(self):
        cls = type(self)
        data, wanted = cls.files.get(self.path), self.headers.get("Range")
        cls.log.append(wanted)
        if data is None:
            return self.send_error(404)
        if self.headers.get("If-Range", cls.tag) != cls.tag:
            wanted = None  # another version: all of it
        start, last = (
            (int(n) if n else len(data) - 1 for n in wanted[6:].split("-"))
            if wanted and cls.ranges
            else (0, len(data) - 1)
        )
        end = min(last + 1, len(data))
        if start and start >= len(data):
            self.send_response(416)
            self.send_header("Content-Range", "bytes */%d" % len(data))
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if wanted and cls.ranges else 200)
        if wanted and cls.ranges:
            self.send_header("Content-Range", "bytes %d-%d/%d" % (start, end - 1, len(data)))
        self.send_header("Content-Length", str(end - start))
        if cls.tag:
            self.send_header("ETag", cls.tag)
        self.end_headers()
        if cls.breaks > 0:
            cls.breaks, end = cls.breaks - 1, start + (end - start) // 2
        self.wfile.write(data[start:end])

    def log_message(self, *args):
        pass


def start_server(case, handler):
    """The URL of a server that runs until the test ends; data/*.py can be imported meanwhile"""
    sys.path.insert(0, os.path.join(ROOT, "data"))
    case.addCleanup(sys.path.remove, os.path.join(ROOT, "data"))
    os.environ.update(DOWNLOAD_PAUSE="0.01", no_proxy="*")
    handler.files, handler.breaks, handler.ranges, handler.log, handler.tag = {}, 0, True, [], None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    case.addCleanup(thread.join)
    case.addCleanup(server.server_close)
    case.addCleanup(server.shutdown)
    return "http://127.0.0.1:%d" % server.server_port


class Keep(Case):
    """No file is replaced or removed that was given to read, or that no run made."""

    def tree(self):
        return {
            os.path.relpath(os.path.join(d, f), self.dir): open_bytes(os.path.join(d, f))
            for d, _, names in os.walk(self.dir)
            for f in names
        }

    def kept(self, message, *words):
        """Refused, and everything is as it was"""
        before = self.tree()
        self.refused(2, message, *words)
        self.assertEqual(self.tree(), before)

    def kept_script(self, message, name, *words):
        self.kept(message, sys.executable, os.path.join(ROOT, "data", name), *words)

    def text(self, *words):
        return self.script("text.py", "in.txt", "--vocab-size", "100", "--out", "out", *words)

    def setUp(self):
        super().setUp()
        self.write("in.txt", "\n<|endoftext|>\n".join(story(i) for i in range(4)))

    def test_inputs_in_out(self):
        self.write("out/train.txt", story(1))
        os.symlink("out/train.txt", self.path("link.txt"))
        os.link(self.path("out/train.txt"), self.path("hard.txt"))
        for source in ("out/train.txt", "out", ".", "link.txt", "hard.txt", "out/../out/train.txt"):
            self.kept_script("/train.txt", "text.py", source, "--vocab-size", "100", "--out", "out")
            self.kept_script("/train.txt", "text.py", source, "--vocab-size", "100", "--out", "out", "--keep-text")
        os.symlink("out", self.path("way"))
        self.kept_script("way/train.txt", "text.py", "out/train.txt", "--out", "way")
        self.write("mine/notes.txt", open_bytes(self.path("in.txt")))  # another name: in nobody's way
        self.script("text.py", "mine", "--vocab-size", "100", "--out", "mine")
        self.assertEqual(open_bytes(self.path("mine/notes.txt")), open_bytes(self.path("in.txt")))

    def test_what_an_earlier_run_kept_is_an_input(self):
        self.text("--keep-text")
        for flags in ([], ["--keep-text"]):
            self.kept_script("out/train.txt", "text.py", "out/train.txt", "--vocab-size", "100", "--out", "out", *flags)

    def test_files_of_others_stay(self):
        others = {
            "out/" + name: b"mine"
            for name in ("test_notes.bin", "test.bin", "val.csv", "train.tsv", "train.txt", "test_a.jsonl")
        }
        for name, data in others.items():
            self.write(name, data)
        for _ in range(2):  # the first time, and over the output of an earlier run
            self.text()
            self.assertEqual({name: self.tree()[name] for name in others}, others)
        self.kept_script("out/train.txt", "text.py", "in.txt", "--vocab-size", "100", "--out", "out", "--keep-text")
        for name in ("train.bin", "val.bin", "vocab.txt", "vocab.json", "merges.txt", "tokenizer.json", "made.sha256"):
            self.write(name + ".d/" + name, "mine")
            self.kept_script(name, "text.py", "in.txt", "--vocab-size", "100", "--out", name + ".d")
        os.makedirs(self.path("linked"))
        os.symlink("../in.txt", self.path("linked/val.bin"))
        self.kept_script("linked/val.bin", "text.py", "in.txt", "--vocab-size", "100", "--out", "linked")

    def test_stale_output_goes(self):
        self.text("--keep-text")
        self.assertIn("out/val.txt", self.tree())
        self.text("--tokenizer-type", "bpe", "--vocab-size", "300")
        self.assertEqual(
            {n for n in self.tree() if n.startswith("out/")},
            {"out/" + n for n in BPE_FILES | {"train.bin", "val.bin", "made.sha256"}},
        )
        listed = dict(
            reversed(line.split("  ")) for line in open_bytes(self.path("out/made.sha256")).decode().splitlines()[1:]
        )
        self.assertEqual(
            listed,
            {
                n[4:]: hashlib.sha256(data).hexdigest()
                for n, data in self.tree().items()
                if n.startswith("out/") and n != "out/made.sha256"
            },
        )
        self.write("out/val.bin", open_bytes(self.path("out/val.bin")) + b"changed")
        self.kept_script("out/val.bin", "text.py", "in.txt", "--vocab-size", "100", "--out", "out")

    def test_output_without_a_manifest(self):
        self.text()
        os.remove(self.path("out/made.sha256"))
        before = self.tree()
        self.text()
        self.assertEqual(before, {n: data for n, data in self.tree().items() if n != "out/made.sha256"})
        os.remove(self.path("out/made.sha256"))
        # the vocabulary may be the user's
        self.kept_script("out/vocab.txt", "text.py", "in.txt", "--vocab-size", "100", "--cased", "--out", "out")

    def test_packed_files_of_others(self):
        """Without a manifest a .bin file may be the user's, from data/tokenize pack"""
        self.tokenize("learn", "--size", "100", "--out", "tok", "in.txt")
        self.tokenize("pack", "--tokenizer", "tok", "--in", "in.txt", "--out", "out/test_mine.bin")
        before = open_bytes(self.path("out/test_mine.bin"))
        self.text()
        self.assertEqual(open_bytes(self.path("out/test_mine.bin")), before)
        self.write("mine/val.bin", before)
        self.kept_script("mine/val.bin", "text.py", "in.txt", "--vocab-size", "100", "--out", "mine")

    def test_a_manifest_of_others(self):
        os.makedirs(self.path("a/made.sha256"))
        os.makedirs(self.path("b"))
        os.mkfifo(self.path("b/made.sha256"))
        for out in ("a", "b"):
            self.refused(
                2,
                out + "/made.sha256: expected the list",
                sys.executable,
                os.path.join(ROOT, "data/text.py"),
                "in.txt",
                "--out",
                out,
            )
            self.assertEqual(os.listdir(self.path(out)), ["made.sha256"])

    def test_the_tokenizer_of_out(self):
        self.tokenize("learn", "--size", "100", "--out", "out", "in.txt")
        before = self.tree()
        for _ in range(2):
            self.text("--tokenizer", "out")
        self.assertEqual(before, {n: self.tree()[n] for n in before})
        self.tokenize("learn", "--size", "90", "--out", "other", "in.txt")
        # the copy that was there before us is not ours
        self.kept_script("out/", "text.py", "in.txt", "--tokenizer", "other", "--out", "out")

    def test_tokenize(self):
        self.tokenize("learn", "--size", "100", "--out", "tok", "in.txt")
        pack = [TOKENIZE, "pack", "--tokenizer", "tok"]
        os.symlink("in.txt", self.path("link.txt"))
        os.link(self.path("in.txt"), self.path("hard.txt"))
        self.write("other.txt", story(9))
        for out in ("in.txt", "link.txt", "hard.txt", "./in.txt"):
            self.kept("--out " + out, *pack, "--in", "in.txt", "--out", out)
            self.kept("--out " + out, *pack, "--in", "other.txt", "--out", out, "in.txt")
        self.kept("--out other.txt", *pack, "--in", "in.txt", "--out", "other.txt")
        self.kept("--out tok/vocab.txt", *pack, "--in", "in.txt", "--out", "tok/vocab.txt")
        self.write("labels.tsv", "text\tlabel\nthe fox\ta\nthe dogs\tb\n")
        self.tokenize(*pack[1:], "--kind", "classify", "--in", "labels.tsv", "--out", "x.bin")
        self.tokenize(*pack[1:], "--kind", "classify", "--in", "labels.tsv", "--out", "x.bin")  # its own output
        self.kept(
            "--out x.bin", *pack, "--kind", "classify", "--in", "labels.tsv", "--labels", "x.bin", "--out", "x.bin"
        )
        self.kept(
            "found tokenizer",
            TOKENIZE,
            "learn",
            "--size",
            "90",
            "--out",
            self.write("d/tokenizer.json", "{}")[: -len("/tokenizer.json")],
            "in.txt",
        )
        self.kept("found vocab.txt", TOKENIZE, "learn", "--size", "90", "--out", "tok", "tok/vocab.txt")
        for name in ("x.bin.tmp", "x.bin.tokens.tmp"):  # names on the way to x.bin: no link is followed, no file taken
            os.symlink("other.txt", self.path(name))
        before = self.tree()
        self.tokenize(*pack[1:], "--in", "in.txt", "--out", "x.bin")
        self.assertEqual({**self.tree(), "x.bin": b""}, {**before, "x.bin": b""})

    def test_scripts_of_dev(self):
        convert, plot = (
            [sys.executable, os.path.join(ROOT, name)] for name in ("data/convert_weights.py", "dev/plot.py")
        )
        self.write("m/model.safetensors", "mine")
        self.write("m/pytorch_model.bin", "weights")
        self.kept("m/model.safetensors", *convert, "m")
        self.kept("m/pytorch_model.bin", *convert, "m/pytorch_model.bin", "m/pytorch_model.bin")
        self.write(
            "run/metrics.jsonl",
            '{"step": 0, "unigram_loss": 3}\n'
            '{"step": 1, "tokens": 10, "loss": 2}\n'
            '{"step": 2, "tokens": 20, "loss": 1}\n',
        )
        with open(self.path("run/metrics.jsonl"), "ab") as f:  # as a power cut and a kill leave it
            f.write(b'\0\0\0\n{"step": 3, "tokens": 3')
        before = self.tree()
        run = self.call(*plot, "run", "--out", "run/metrics.jsonl")
        self.assertEqual((run.returncode, self.tree()), (2, before))
        for _ in range(2):
            self.assertEqual(self.call(*plot, "run", "--out", "run.svg").returncode, 0)
        self.write("mine.svg", "<svg xmlns='http://www.w3.org/2000/svg'></svg>")
        before = self.tree()
        self.assertEqual(self.call(*plot, "run", "--out", "mine.svg").returncode, 2)
        self.assertEqual(self.call(*plot, "run", "--out", "none/there.svg").returncode, 1)
        self.write("models/sentiment/config.json", "mine")
        toy_models = [sys.executable, os.path.join(ROOT, "dev/recipes/toy_models.py")]
        self.kept("models/sentiment: expected nothing there", *toy_models, "demo", "models")
        before = self.tree()
        for recipe in ("toy.py", "toy_instruct.py", "toy_models.py", "instruct.py"):
            for word, code in (("--help", 0), ("--hepl", 2)):
                run = self.call(sys.executable, os.path.join(ROOT, "dev/recipes", recipe), word)
                self.assertEqual((run.returncode, run.stderr), (code, b""), recipe)
        self.assertEqual(self.tree(), before)


class Downloads(Case):
    def setUp(self):
        super().setUp()
        self.url = start_server(self, Server)
        from lib.download import download
        from lib.errors import Failure

        self.download, self.failure = download, Failure
        Server.files["/x"] = bytes(range(256)) * 2000
        self.target = self.path("cache", "x")
        self.sum = hashlib.sha256(Server.files["/x"]).hexdigest()

    def get(self, checksum=None, name="/x"):
        return self.download(self.url + name, self.target, checksum)

    def fails(self, message, *args):
        with self.assertRaises(self.failure) as e:
            self.get(*args)
        self.assertIn(message, str(e.exception))
        self.assertFalse(os.path.exists(self.target))

    def test_plain_and_cached(self):
        self.get(self.sum)
        self.get(self.sum)
        self.assertEqual((open_bytes(self.target), Server.log), (Server.files["/x"], [None]))
        self.assertEqual(os.listdir(self.path("cache")), ["x"])

    def test_goes_on_after_breaks(self):
        Server.breaks = 2
        self.get(self.sum)
        self.assertEqual(Server.log, [None, "bytes=256000-", "bytes=384000-"])
        self.assertEqual(open_bytes(self.target), Server.files["/x"])

    def test_resume_in_a_later_run(self):
        Server.breaks = 99
        self.fails("run the same command again to continue", self.sum)
        self.assertGreater(os.path.getsize(self.target + ".part"), 256000)
        Server.breaks, Server.log = 0, []
        self.get(self.sum)
        self.assertNotIn(None, Server.log)
        self.assertEqual(open_bytes(self.target), Server.files["/x"])

    def test_a_file_that_changes_between_two_runs_is_not_joined(self):
        Server.breaks, Server.tag = 99, '"one"'
        self.fails("run the same command again to continue")
        Server.breaks, Server.tag, Server.files["/x"] = 0, '"two"', b"another version " * 40000
        self.get()
        self.assertEqual(open_bytes(self.target), Server.files["/x"])
        self.assertEqual(sorted(os.listdir(self.path("cache"))), ["x", "x.sha256"])

    def test_checksum_of_the_first_download_is_kept(self):
        self.get()
        self.get()
        self.assertEqual(Server.log, [None])  # the second time from the cache
        with open(self.target, "ab") as f:
            f.write(b"damage")
        self.get()
        self.assertEqual(open_bytes(self.target), Server.files["/x"])

    def test_server_without_ranges(self):
        Server.breaks, Server.ranges = 1, False
        self.get(self.sum)
        self.assertEqual(open_bytes(self.target), Server.files["/x"])

    def test_part_is_all_or_too_long(self):
        for part in (Server.files["/x"], Server.files["/x"] + b"more"):
            os.makedirs(self.path("cache"), exist_ok=True)
            with open(self.target + ".part", "wb") as f:
                f.write(part)
            self.get(self.sum)
            self.assertEqual(open_bytes(self.target), Server.files["/x"])
            os.remove(self.target)

    def test_checksum(self):
        self.fails("expected SHA-256 " + "0" * 64 + ", found " + self.sum, "0" * 64)
        self.assertEqual(os.listdir(self.path("cache")), [])
        with open(self.target, "wb") as f:  # damaged in the cache: fetched again
            f.write(b"damaged")
        self.get(self.sum)
        self.assertEqual(open_bytes(self.target), Server.files["/x"])
        self.assertEqual(open_bytes(self.target + ".other-1"), b"damaged")  # it may be the user's

    def test_errors(self):
        self.fails("the server says 404", None, "/none")
        self.url = "http://127.0.0.1:1"
        self.fails("Connection refused")

    def test_books_by_number(self):
        for n in (11, 12):
            Server.files["/%d.txt" % n] = (
                "*** START OF THIS PROJECT GUTENBERG EBOOK ***\n" + story(n) + "\nEnd of Project Gutenberg's X\n"
            ).encode()
        words = [
            "books.py",
            "11",
            "12",
            "--url",
            self.url + "/{n}.txt",
            "--cache",
            "cache",
            "--vocab-size",
            "150",
            "--out",
            "out",
        ]
        self.script(*words)
        self.assertEqual(
            sorted(os.listdir(self.path("cache"))), ["pg11.txt", "pg11.txt.sha256", "pg12.txt", "pg12.txt.sha256"]
        )
        found = [d for part in ("train", "val") for d in self.documents(self.path("out", part + ".bin"), "out")]
        self.assertEqual(sorted(found), sorted(self.normal(story(n)) for n in (11, 12)))
        run = self.call(sys.executable, os.path.join(ROOT, "data", "books.py"), "13", *words[3:])
        self.assertEqual(run.returncode, 1)
        self.assertIn(b"the server says 404", run.stderr)

    def test_only_the_beginning(self):
        get = lambda: self.download(self.url + "/x", self.target, None, first=300000)
        for Server.ranges, Server.breaks in ((True, 0), (True, 1), (False, 0), (False, 1)):
            Server.log = []
            self.assertEqual(open_bytes(get()), Server.files["/x"][:300000])
            self.assertEqual(Server.log[0], "bytes=0-299999")
            os.remove(self.target)
        # there is no more
        self.assertEqual(open_bytes(self.download(self.url + "/x", self.target, None, first=10**9)), Server.files["/x"])

    def test_shakespeare_checksum(self):
        Server.files["/input.txt"] = b"To be, or not to be"
        self.refused_script(
            1,
            "expected SHA-256 86c4e6aa",
            "shakespeare.py",
            "--url",
            self.url + "/input.txt",
            "--cache",
            "cache",
            "--out",
            "out",
        )

    def test_tinystories(self):
        stories = [story(i) for i in range(2000)]
        Server.files["/train.txt"] = "\n<|endoftext|>\n".join(stories).encode()
        Server.files["/valid.txt"] = (story(3000) + "\n<|endoftext|>\n" + story(3001)).encode()
        words = [
            "tinystories.py",
            "--url",
            self.url + "/{part}.txt",
            "--cache",
            "cache",
            "--vocab-size",
            "300",
            "--out",
            "out",
            "--keep-text",
        ]
        self.assertGreater(len(Server.files["/train.txt"]), 2000000)
        for megabytes in (1, 0):
            self.script(*words, "--megabytes", str(megabytes))
            # as many whole stories as fit into the first megabyte, or all
            whole = sum(
                1
                for i in range(len(stories))
                if len("\n<|endoftext|>\n".join(stories[: i + 1])) + 14 < (megabytes * 1000000 or 1e9)
            )
            self.assertIn(
                open_bytes(self.path("out/train.txt")).count(b"<|endoftext|>"),
                (whole, whole + 1) if megabytes else (2000,),
            )
            self.assertEqual(
                open_bytes(self.path("out/train.txt")),
                "".join(s + "\n<|endoftext|>\n" for s in stories[:whole]).encode(),
            )
            self.assertEqual(open_bytes(self.path("out/val.txt")).count(b"<|endoftext|>"), 2)

    def test_fineweb(self):
        page = lambda first, n: json.dumps(
            {
                "rows": [
                    {"row_idx": i, "row": {"text": story(i)}, "truncated_cells": []} for i in range(first, first + n)
                ]
            }
        ).encode()
        Server.files.update({"/0": page(0, 100), "/100": page(100, 100), "/200": page(200, 30)})
        words = [
            "fineweb.py",
            "--url",
            self.url + "/{offset}",
            "--cache",
            "cache",
            "--vocab-size",
            "300",
            "--out",
            "out",
            "--keep-text",
        ]
        count = lambda: sum(
            open_bytes(self.path("out", part)).count(b"<|endoftext|>") for part in ("train.txt", "val.txt")
        )
        self.script(*words, "--documents", "150")
        self.assertEqual((count(), len(Server.log)), (150, 2))
        self.assertIn("there are only 230 pages", self.script(*words, "--documents", "500"))
        self.assertEqual((count(), len(Server.log)), (230, 3))  # the first two come from the cache
        Server.files["/0"] = b'{"error": "busy"}'
        run = self.call(sys.executable, os.path.join(ROOT, "data", words[0]), *words[1:4], "other", *words[5:])
        # what is no page does not stay
        self.assertEqual(
            (run.returncode, os.listdir(self.path("other/fineweb-edu"))), (1, ["rows-00000000.json.sha256"])
        )
        self.assertIn(b'expected {"rows": [{"row": {"text": ...}}, ...]}, found something else', run.stderr)

    def test_wikitext_checksum(self):
        Server.files["/2.zip"] = b"not the corpus"
        self.refused_script(
            1,
            "expected SHA-256 ef7edb56",
            "wikitext.py",
            "--url",
            self.url + "/{n}.zip",
            "--cache",
            "cache",
            "--out",
            "out",
        )


class RealText(Case):
    def test_bpe_reference(self):
        """The merges that another program learned from a corpus, vocabulary of 500"""
        folder = os.path.join(SHARED, "..", "reference", "bpe_train")
        if not os.path.isdir(folder):
            print("\nSKIPPED: %s is not here" % folder, file=sys.stderr)
            self.skipTest("no " + folder)
        self.tokenize(
            "learn", "--type", "bpe", "--size", "500", "--out", self.path("tok"), os.path.join(folder, "corpus.en")
        )
        learned, expected = (
            open_bytes(self.path("tok/merges.txt")),
            open_bytes(os.path.join(folder, "train-bpe-reference-merges.txt")),
        )
        self.assertEqual(learned, b"#version: 0.2\n" + expected)
        with (
            open(os.path.join(folder, "train-bpe-reference-vocab.json"), encoding="utf-8") as f,
            open(self.path("tok/vocab.json"), encoding="utf-8") as g,
        ):
            reference, ours = json.load(f), json.load(g)
        self.assertEqual(set(reference), set(ours))  # there <|endoftext|> is the first, in GPT-2's vocabulary the last
        for name in ("address.txt", "german.txt", "tinystories_sample.txt"):
            text = open_bytes(os.path.join(folder, name))
            array = json.dumps(text.decode()).encode() + b"\n"
            ids = self.tokenize("encode", "--tokenizer", "tok", "--json", text=array)
            self.assertEqual(
                json.loads(self.tokenize("decode", "--tokenizer", "tok", "--json", text=ids)).encode(), text
            )

    def test_shared_data(self):
        if not os.path.isdir(SHARED):
            print("\nSKIPPED: %s is not here" % SHARED, file=sys.stderr)
            self.skipTest("no " + SHARED)
        for name, file, documents in (
            ("books.py", "books_valid.txt.xz", 13),
            ("wikitext.py", "wikitext2_valid.txt", 60),
        ):
            self.script(name, "--from", os.path.join(SHARED, file), "--out", "out")
            train, val = (parse_bin(open_bytes(self.path("out", part))) for part in ("train.bin", "val.bin"))
            self.assertEqual(train.sequences + val.sequences, documents)
            self.assertEqual(train.vocab, 8192)
            self.assertGreater(train.tokens, 200000)


if __name__ == "__main__":
    unittest.main()
