"""What a file is decides who reads it: every kind of file that is no text by every program and script that reads text;
byte order marks; hidden files, links and strange names; JSON by its content; time linear in the input.

    python3 test/scripts/test_file_kinds.py

Needs the standard library and the built programs.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import unittest
import zipfile

sys.dont_write_bytecode = True
import test_data
from test_data import ROOT, TOKENIZE, open_bytes

sys.path.insert(0, os.path.join(ROOT, "data"))
from lib import file_kinds, text_files  # noqa: E402

PROGRAMS = os.path.join(ROOT, "build", "cpu-fp32")
TOY = os.path.join(ROOT, "data", "toy", "models")
BERT, GPT = os.path.join(TOY, "sentiment"), os.path.join(TOY, "instruct")
BOM = b"\xef\xbb\xbf"
TEXT = "".join("the soup number %d was superb .\n<|endoftext|>\n" % i for i in range(60))


def zipped(*members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def tarred(data):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo("a.txt")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


# kind: (what its bytes are made of a text's, what the message names)
KINDS = {
    "UTF-16 with a byte order mark": (lambda t: t.encode("utf-16"), "UTF-16 text: convert it first, iconv -f UTF-16 "),
    "UTF-16, big-endian": (lambda t: b"\xfe\xff" + t.encode("utf-16-be"), "UTF-16 text: convert it first"),
    "UTF-16 without a mark": (lambda t: t.encode("utf-16-le"), "iconv -f UTF-16LE -t UTF-8"),
    "UTF-16, big-endian, without": (lambda t: t.encode("utf-16-be"), "iconv -f UTF-16BE -t UTF-8"),
    "UTF-32": (lambda t: t.encode("utf-32"), "UTF-32 text: convert it first"),
    "UTF-32 without a mark": (lambda t: t.encode("utf-32-le"), "iconv -f UTF-32LE -t UTF-8"),
    "zip": (lambda t: zipped(("a.txt", t)), "a zip archive: unpack it first"),
    "epub": (lambda t: zipped(("mimetype", "application/epub+zip"), ("a.html", t)), "an EPUB book: save it as"),
    "epub, packed": (lambda t: zipped(("mimetype", b"\0" * 9), ("a.html", t)), "an EPUB book or OpenDocument file: "),
    "xlsx": (lambda t: zipped(("docProps/app.xml", ""), ("xl/sheet1.xml", t)), "an Office document (.docx, .xlsx or"),
    "docx": (lambda t: zipped(("[Content_Types].xml", ""), ("word/document.xml", t)), "an Office document"),
    "gzip": (lambda t: gzip.compress(t.encode()), "a gzip archive: unpack it first"),
    "bzip2": (lambda t: bz2.compress(t.encode()), "a bzip2 archive: unpack it first"),
    "xz": (lambda t: lzma.compress(t.encode()), "an xz archive: unpack it first"),
    "tar": (lambda t: tarred(t.encode()), "a tar archive: unpack it first"),
    "zstd": (lambda t: b"\x28\xb5\x2f\xfd\x04\x58" + t.encode(), "a zstd archive: unpack it first"),
    "7z": (lambda t: b"7z\xbc\xaf\x27\x1c\0\4" + t.encode(), "a 7z archive: unpack it first"),
    "PDF": (lambda t: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + t.encode(), "a PDF document: save it as plain text first"),
    "old Office": (lambda t: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "an old Office document"),
    "PNG": (lambda t: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + t.encode(), "a PNG image: give a file of text"),
    "JPEG": (lambda t: b"\xff\xd8\xff\xe0\0\x10JFIF\0" + t.encode(), "a JPEG image: give a file of text"),
    "Parquet": (lambda t: b"PAR1\x15\x04\x15\xf0" + t.encode(), "a Parquet file: convert it to JSON lines first"),
    "Arrow": (lambda t: b"ARROW1\0\0\xff\xff" + t.encode(), "an Arrow file: convert it to JSON lines first"),
    "ELF": (lambda t: b"\x7fELF\2\1\1" + bytes(9) + t.encode(), "a program (ELF): give a file of text"),
    "Git LFS": (lambda t: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
    "NUL": (lambda t: t.encode()[:-9] + b"\0" + t.encode()[-9:], "text, found a NUL byte"),
}
FEW = ["UTF-16 with a byte order mark", "zip", "NUL"]
COMPRESSED = ["gzip", "bzip2", "xz", "zstd"]  # programs: a file of rows that they made is read, whatever its name


def rows(ending):
    text, label = "the soup was %d times superb .", ["positive", "negative"]
    data = [(text % i, label[i % 2]) for i in range(30)]
    if ending == ".jsonl":
        return "".join(json.dumps({"text": t, "label": k}) + "\n" for t, k in data)
    between = "," if ending == ".csv" else "\t"
    return "".join(between.join(row) + "\n" for row in [("text", "label"), *data])


INSTRUCTIONS = "".join(
    json.dumps({"instruction": "please name number %d" % i, "input": "", "output": str(i)}) + "\n" for i in range(30)
)


def is_of_rows(name):
    return name.endswith((".csv", ".tsv", ".jsonl")) or name == "alpaca_data.json"


class Readers(test_data.Case):
    """A reader is (the input file's name, its text, a command that reads it); {file} is replaced, {in} is the text of
    standard input."""

    def readers(self):
        program = lambda name: [os.path.join(PROGRAMS, name)]
        script = lambda name, *words: [sys.executable, os.path.join(ROOT, "data", name), *words, "--out", "out"]
        pack = lambda kind, tok: [
            TOKENIZE,
            "pack",
            "--kind",
            kind,
            "--tokenizer",
            tok,
            "--in",
            "{file}",
            "--out",
            "o.bin",
        ]
        text, answers = "x.txt", ("x.jsonl", INSTRUCTIONS)
        vocab = [(BERT, "vocab.txt"), (GPT, "merges.txt"), (GPT, "vocab.json"), (GPT, "tokenizer_config.json")]
        yield text, TEXT, [TOKENIZE, "learn", "--size", "60", "--out", "out", "{file}"]
        yield text, TEXT, [TOKENIZE, "learn", "--type", "bpe", "--size", "260", "--out", "out", "{file}"]
        yield text, TEXT, pack("text", BERT)
        yield text, TEXT, pack("text", GPT)
        for ending in (".csv", ".tsv", ".jsonl"):
            yield "x" + ending, rows(ending), pack("classify", BERT)
            yield "x" + ending, rows(ending), script("classify.py", "{file}", "--tokenizer", BERT)
            yield "x" + ending, rows(ending), [*program("finetune_cls"), "eval", "--model", BERT, "--data", "{file}"]
        yield *answers, pack("instruct", GPT)
        yield (
            "t.txt",
            "please {instruction}\n{output}",
            [*pack("instruct", GPT), "--in", "i.jsonl", "--template", "{file}"],
        )
        yield text, "{in}", [TOKENIZE, "encode", "--tokenizer", GPT]
        yield text, "{in}", [*program("finetune_cls"), "predict", "--model", BERT]
        yield text, "{in}", [*program("train_gpt"), "generate", "--model", GPT, "--max-new-tokens", "1"]
        for folder, name in vocab:
            yield name, open_bytes(os.path.join(folder, name)).decode(), [TOKENIZE, "encode", "--tokenizer", "{folder}"]
        yield "config.json", open_bytes(os.path.join(BERT, "config.json")).decode(), [
            *program("finetune_cls"), "predict", "--model", "{folder}", "the soup"
        ]  # fmt: skip
        yield text, TEXT, script("text.py", "{file}", "--vocab-size", "60")
        yield text, TEXT, script("books.py", "--from", "{file}", "--vocab-size", "60")
        yield text, TEXT, script("wikitext.py", "--from", "{file}", "--vocab-size", "60")
        yield text, TEXT, script("tinystories.py", "--from", "{file}", "--vocab-size", "260")
        yield text, TEXT, script("shakespeare.py", "--from", "{file}")
        yield text, TEXT, script("fineweb.py", "--from", "{file}", "--vocab-size", "260")
        yield "x.jsonl", rows(".jsonl"), script("fineweb.py", "--from", "{file}", "--vocab-size", "260")
        yield *answers, script("instructions.py", "{file}", "--tokenizer", GPT, "--template", "short")
        yield "alpaca_data.json", INSTRUCTIONS, script("alpaca.py", "--from", "{file}", "--tokenizer", GPT)

    def run_reader(self, name, data, words):
        """The exit code, standard output and standard error"""
        shutil.rmtree(self.path("in"), ignore_errors=True)
        shutil.rmtree(self.path("out"), ignore_errors=True)
        if os.path.exists(self.path("o.bin")):
            os.remove(self.path("o.bin"))
        if "{folder}" in words:
            shutil.copytree(GPT if name != "vocab.txt" and name != "config.json" else BERT, self.path("in"))
        self.write("in/" + name, data)
        self.write("i.jsonl", INSTRUCTIONS)
        words = [{"{file}": "in/" + name, "{folder}": "in"}.get(w, w) for w in words]
        if words.count("--in") == 2:  # the template is the file
            at = words.index("--in")
            words[at : at + 2] = []
        done = self.call(*words, text=data if "{file}" not in words and name == "x.txt" else "the soup\n")
        return done

    def packed(self):
        return [open_bytes(p) for p in (self.path("o.bin"), self.path("out", "train.bin")) if os.path.exists(p)]

    def test_what_is_no_text_is_named(self):
        """Every reader with a few kinds, some readers with all of them"""
        for number, (name, text, words) in enumerate(self.readers()):
            shown = " ".join(os.path.basename(w) for w in words[:4])
            full = number in (0, 4) or "text.py" in shown
            text = TEXT if text == "{in}" else text
            for kind in KINDS if full else FEW:
                if is_of_rows(name) and (kind == "NUL" or kind in COMPRESSED):
                    continue  # the next two tests
                with self.subTest(reader=shown, file=name, kind=kind):
                    made, found = KINDS[kind]
                    done = self.run_reader(name, made(text), words)
                    error = done.stderr.decode()
                    self.assertEqual(done.returncode, 1, error)
                    if kind != "NUL" or not name.endswith(".json"):  # what is wrong with JSON its parser says
                        self.assertIn(found, error)
                    self.assertEqual(len([x for x in error.splitlines() if x.startswith("error: ")]), 1, error)
                    self.assertEqual(self.packed(), [])

    def readers_of_rows(self):
        for name, text, words in self.readers():
            if is_of_rows(name):
                yield name, text, words, " ".join(os.path.basename(w) for w in words[:4])

    def test_a_row_that_is_no_text_is_left_out(self):
        """A NUL byte or bad UTF-8 costs its row, which is told; the others become what they are without it."""
        for name, text, words, shown in self.readers_of_rows():
            lines = text.encode().splitlines(keepends=True)
            without = b"".join(lines[:-2] + lines[-1:])
            done = self.run_reader(name, without, words)
            self.assertEqual(done.returncode, 0, done.stderr.decode())
            expected = self.packed()
            for byte, found in ((b"\0", "expected text, found a NUL byte"), (b"\xe9", "found the byte 0xe9")):
                with self.subTest(reader=shown, file=name, byte=byte):
                    bad = lines[-2].replace(b"s", b"s" + byte)
                    done = self.run_reader(name, b"".join(lines[:-2] + [bad] + lines[-1:]), words)
                    error = done.stderr.decode()
                    self.assertEqual(done.returncode, 1, error)
                    self.assertEqual(error.count("left out: "), 1, error)
                    self.assertRegex(error, r"left out: in/%s, line %d: .*%s" % (name, len(lines) - 1, found))
                    self.assertRegex(error, r"\nerror: 1 row was left out; .*--on-error stop ends at the first\n$")
                    self.assertEqual(self.packed(), expected)

    def test_compressed_rows_are_known_by_their_content(self):
        for name, text, words, shown in self.readers_of_rows():
            if not name.endswith((".csv", ".jsonl")):
                continue
            self.assertEqual(self.run_reader(name, text, words).returncode, 0)
            expected = self.packed()
            in_python = any(os.path.basename(w) in ("instructions.py", "fineweb.py") for w in words)
            for program in COMPRESSED:
                if not shutil.which(program) or (program == "zstd" and in_python):  # Python has no zstd, and says so
                    continue
                with self.subTest(reader=shown, program=program):
                    press = lambda data: subprocess.run([program, "-c"], input=data, stdout=subprocess.PIPE).stdout
                    done = self.run_reader(name, press(text.encode()), words)
                    self.assertEqual(done.returncode, 0, done.stderr.decode())
                    self.assertEqual(self.packed(), expected)
                    for within, found in (
                        (text.encode("utf-16"), "expected UTF-8 text, found UTF-16 text"),
                        (tarred(text.encode()), "expected UTF-8 text, found a tar archive"),
                        (press(text.encode()), "expected UTF-8 text, found an? %s archive" % program),
                    ):
                        done = self.run_reader(name, press(within), words)
                        self.assertEqual(done.returncode, 1)
                        self.assertRegex(done.stderr.decode(), r"^error: in/%s(, line 1)?: %s.*\n$" % (name, found))
                    damaged = press(text.encode())[:-20]
                    done = self.run_reader(name, damaged, words)
                    error = (
                        "error: cannot read in/%s: (the compressed file is cut short or damaged|Compressed file ended)"
                    )
                    self.assertEqual(done.returncode, 1)
                    self.assertRegex(done.stderr.decode(), error % name)
                    self.assertEqual(self.packed(), [])

    def test_byte_order_marks_change_nothing(self):
        times = re.compile(rb"in \d+\.\d+ s.*|, \d+\.\d MB|\d+ bytes of text, \S+ tokens per byte")
        for name, text, words in self.readers():
            shown = " ".join(os.path.basename(w) for w in words[:4])
            text = TEXT if text == "{in}" else text
            with self.subTest(reader=shown, file=name):
                found = []
                for data in (text.encode(), BOM + text.encode()):
                    done = self.run_reader(name, data, words)
                    self.assertEqual(done.returncode, 0, done.stderr.decode())
                    packed = [p for p in (self.path("o.bin"), self.path("out", "train.bin")) if os.path.exists(p)]
                    found.append([times.sub(b"", done.stdout), *map(open_bytes, packed)])
                self.assertEqual(*found)

    def test_a_mark_within_a_file_is_text(self):
        self.write("a.txt", b"soup\n" + BOM + b"<|endoftext|>\nsoup")
        self.tokenize("pack", "--kind", "text", "--tokenizer", GPT, "--in", "a.txt", "--out", "a.bin")
        self.assertEqual(len(test_data.parse_bin(open_bytes(self.path("a.bin"))).offsets), 2)  # one document

    def test_python_and_cpp_say_the_same(self):
        for kind, (made, _) in KINDS.items():
            with self.subTest(kind=kind):
                data = made(TEXT)
                done = self.run_reader("x.txt", data, [TOKENIZE, "learn", "--size", "60", "--out", "out", "{file}"])
                found = file_kinds.not_text(data)
                self.assertIn(
                    ("expected UTF-8 text, found " + found) if found else "found a NUL byte", done.stderr.decode()
                )
        for text in (
            b"",
            b"a",
            b"a\0b",
            b"The big WAVE",
            b"GIF89a is a format",
            b"PAR1",
            BOM + b"a",
            "d\u00e9".encode(),
        ):
            self.assertEqual(file_kinds.not_text(text), "", text)


class Archives(test_data.Case):
    def test_an_ending_that_lies(self):
        for name, data, found in (
            ("x.txt.gz", b"no gzip", "cannot read x.txt.gz: Not a gzipped file"),
            ("x.zip", b"no zip", "cannot read x.zip: File is not a zip file"),
            ("x.txt.xz", b"no xz", "cannot read x.txt.xz: Input format not supported by decoder"),
        ):
            with open(self.path(name), "wb") as f:
                f.write(data)
            self.refused_script(1, found, "text.py", name, "--out", "out")
        self.write("x.tar.gz", tarred(TEXT.encode()))
        self.refused_script(
            1, "x.tar.gz: expected UTF-8 text, found a tar archive", "text.py", "x.tar.gz", "--out", "out"
        )
        self.write("y.zip", zipped(("a.txt", TEXT), ("b.txt", TEXT.encode("utf-16"))))
        self.refused_script(
            1, "y.zip:b.txt: expected UTF-8 text, found UTF-16 text", "text.py", "y.zip", "--out", "out"
        )

    def test_encodings_on_request(self):
        text = TEXT.replace("soup", "cr\u00e8me br\u00fbl\u00e9e")
        self.write("utf8.txt", text)
        self.script("text.py", "utf8.txt", "--vocab-size", "80", "--out", "utf8")
        for encoding in ("cp1252", "utf-16", "utf-16-le", "utf-32", "latin-1", "mac-roman"):
            for name in ("x.txt", "x.txt.gz", "x.zip"):
                data = text.encode(encoding)
                self.write(name, zipped(("x.txt", data)) if name == "x.zip" else data)
                self.script("text.py", name, "--encoding", encoding, "--vocab-size", "80", "--out", "out")
                for made in ("train.bin", "val.bin", "vocab.txt"):
                    self.assertEqual(open_bytes(self.path("out", made)), open_bytes(self.path("utf8", made)), encoding)
        table = rows(".csv").replace("soup", "caf\u00e9")
        answers = INSTRUCTIONS.replace("number", "caf\u00e9")
        for name, data, script, model in (
            ("x.csv", table, "classify.py", BERT),
            ("x.jsonl", answers, "instructions.py", GPT),
        ):
            self.write(name, data)
            self.script(script, name, "--tokenizer", model, "--out", "utf8" + name)
            self.write(name, data.encode("utf-16"))
            self.script(script, name, "--encoding", "utf-16", "--tokenizer", model, "--out", "out" + name)
            packed = [open_bytes(self.path(out + name, "train.bin")) for out in ("utf8", "out")]
            self.assertEqual(*packed)


class Folders(test_data.Case):
    def found(self, *paths):
        return [
            os.path.relpath(name, self.dir)
            for name, _ in text_files.text_files([self.path(p) for p in paths], (".txt",))
        ]

    def test_hidden_and_system_files_are_no_data(self):
        for name in (
            "a.txt",
            "sub/b.txt",
            ".c.txt",
            "._a.txt",
            ".git/d.txt",
            "sub/__MACOSX/e.txt",
            "~$f.txt",
            "Thumbs.db",
        ):
            self.write("in/" + name, "text")
        self.assertEqual(self.found("in"), ["in/a.txt", "in/sub/b.txt"])
        self.assertEqual(self.found("in/.c.txt", "in/.git"), ["in/.c.txt", "in/.git/d.txt"])  # those that are named
        self.write("x.zip", zipped(("a.txt", "a"), ("__MACOSX/._a.txt", "b"), ("b/.c.txt", "c"), (".d/e.txt", "e")))
        self.assertEqual(self.found("x.zip"), ["x.zip:a.txt"])

    def test_left_out_files_are_told(self):
        for i in range(4):
            self.write("in/%d.txt" % i, "soup %d" % i)
        self.write("in/.5.txt", "hidden")
        said = self.script("text.py", "in", "--documents", "file", "--vocab-size", "60", "--out", "out")
        self.assertIn("note: left out of in: 1 hidden or system file, in/.5.txt", said)
        self.assertIn("3 documents for training", said)

    def test_links_to_folders_are_followed(self):
        self.write("store/1.txt", "one")
        self.write("store/deep/2.txt", "two")
        self.write("in/3.txt", "three")
        os.symlink("../store", self.path("in/linked"))
        os.symlink("..", self.path("store/deep/up"))  # a cycle
        os.symlink(".", self.path("in/self"))
        os.symlink("../store/1.txt", self.path("in/4.txt"))
        self.assertEqual(self.found("in"), ["in/3.txt", "in/4.txt", "in/linked/1.txt", "in/linked/deep/2.txt"])
        said = self.script("text.py", "in", "--documents", "file", "--vocab-size", "60", "--out", "out")
        for link in ("in/linked/deep/up", "in/self"):
            self.assertIn("note: %s is a link to a folder that is read already" % link, said)
        os.symlink("nowhere", self.path("in/lost"))
        self.assertIn(
            "note: in/lost is a link to nothing", self.script("text.py", "in", "--vocab-size", "60", "--out", "o")
        )
        os.symlink("nowhere", self.path("in/lost.txt"))
        self.refused_script(
            1, "cannot read in/lost.txt: there is no such file", "text.py", "in/3.txt", "in/lost.txt", "--out", "o2"
        )

    @unittest.skipIf(os.geteuid() == 0, "root may read everything")
    def test_a_folder_that_cannot_be_read(self):
        self.write("in/a.txt", "soup")
        os.makedirs(self.path("in/closed"), mode=0)
        self.refused_script(1, "cannot read the folder in/closed", "text.py", "in", "--out", "out")


class JsonByContent(test_data.Case):
    """`tokenize rows --objects`, by which programs and scripts read JSON"""

    OBJECTS = [{"a": i, "b": ["x\n", {"c": "\u00e9" * i}]} for i in range(5)]

    def read(self, data):
        """[(object or error, where), ...]"""
        self.write("F", data)
        rows = [json.loads(line) for line in self.tokenize("rows", "--objects", "F").splitlines()]
        return [(row.get("error", row.get("row")), row["where"]) for row in rows]

    def test_forms(self):
        lines = "".join(json.dumps(o) + "\n" for o in self.OBJECTS)
        forms = {
            "lines": lines,
            "blank lines": "\n" + lines.replace("\n", "\n \r\n"),
            "no end": lines[:-1],
            "array": json.dumps(self.OBJECTS),
            "array, indented": json.dumps(self.OBJECTS, indent=4, ensure_ascii=False),
            "array, a row a line": "[\n" + ",\n".join(map(json.dumps, self.OBJECTS)) + "\n]\n",
            "array after blanks": " \n\t[" + json.dumps(self.OBJECTS)[1:] + "  \n\n",
            "objects, indented": "\n".join(json.dumps(o, indent=2) for o in self.OBJECTS),
            "objects, indented, together": "".join(json.dumps(o, indent=2) for o in self.OBJECTS),
        }
        for form, data in forms.items():
            for mark in ("", "\ufeff"):
                with self.subTest(form=form, mark=mark):
                    self.assertEqual([o for o, _ in self.read(mark + data)], self.OBJECTS)
        wheres = lambda form: [where for _, where in self.read(forms[form])][:2]
        self.assertEqual(wheres("blank lines"), ["F, line 2", "F, line 4"])
        self.assertEqual(wheres("array, indented"), ["F, element 1", "F, element 2"])
        self.assertEqual(wheres("objects, indented"), ["F, line 1", "F, line 10"])
        self.assertEqual(self.read(json.dumps({"a": 1}, indent=1)), [({"a": 1}, "F, line 1")])
        self.assertEqual((self.read(""), self.read("\n \n"), self.read("[]"), self.read(" [\n ]\n")), ([], [], [], []))

    def test_errors_name_the_line(self):
        """The only error begins so; the objects beside it, if there is another row to read, are read"""
        one = {"a": 1}
        no_end = "expected a JSON object of at most 64 MB, found no end of what begins here: the rest cannot be read"
        no_json = "this is not JSON as expected: "
        for data, expected, objects in (
            ('{"a": 1}\n{"a": \n', "F, line 2, column 6: " + no_json, [one]),
            ('{"a": 1}\n[1]\n', 'F, line 2: expected a JSON object, found "[1]"', [one]),
            ('{"a": 1} {"a": 2}\n{"a": 1}\n', "F, line 1, column 10: " + no_json, [one]),
            ('hello\n{"a": 1}\n', 'F, line 1: expected a JSON object, found "hello"', [one]),
            ("5\n", 'F, line 1: expected a JSON object, found "5"', []),
            ('{"a": "\0"}\n{"a": 1}\n', "F, line 1: expected text, found a NUL byte", [one]),
            (b'{"a": "\xe9"}\n{"a": 1}\n', "F, line 1: expected UTF-8, found the byte 0xe9", [one]),
            ("[1]", 'F, element 1: expected a JSON object, found "1"', []),
            ('[\n{"a": 1},\n[2],{"a": 1}]', 'F, element 2: expected a JSON object, found "[2]"', [one, one]),
            ('[\n{"a": 1},\n{"a": 1 2}\n]\n', "F, element 2: line 3, column 10: " + no_json, [one]),
            ('[\n{"a": 1}\n', "F, element 1: expected ] after the last row, found the end of the file", [one]),
            ('[{"a": 1}, {"b": 1\n', "F, element 2: " + no_end, [one]),
            ('{\n"a": 1,\n"b"}\n' + '{"a": 1}\n' * 9999, "F, line 3, column 4: " + no_json, [one] * 9999),
            ('{\n"a": "b\n"}\n', "F, line 1: " + no_end, []),
            ('{\n"a": 1,\n', "F, line 1: " + no_end, []),
            ("[" * 100000, "F, element 1: " + no_end, []),
            ("{" * 100000, "F, line 1, column 2: " + no_json, []),
            ('{"a":' * 100000 + "1" + "}" * 100000, "F, line 1", []),
        ):
            with self.subTest(data=data[:30]):
                found = [o for o, _ in self.read(data)]
                errors = [o for o in found if isinstance(o, str)]
                self.assertEqual([o for o in found if not isinstance(o, str)], objects)
                self.assertEqual([e[: len(expected)] for e in errors], [expected])
        brackets = 'F, line 1: expected a JSON object, found "]"'
        for data, found in (  # each closes nothing
            ('[{"a": 1}]]]{"a": 1}', [one, brackets, brackets, one]),
            ('[{"a": 1}}, {"a": 1}]', [one, 'F, element 2: expected a JSON object, found "}"', one]),
            ('{\n}\n}\n{"a": 1}', [{}, 'F, line 3: expected a JSON object, found "}"', one]),
            ('[{"a": 1}]\nmore\n{"a": 1}\n', [one, 'F, line 2: expected a JSON object, found "more"', one]),
            ('[\0{"a": 1}, {"a": 1}]', ["F, element 1: expected text, found a NUL byte", one]),
        ):
            with self.subTest(data=data):
                self.assertEqual([o for o, _ in self.read(data)], found)
        for data in ('[\n{"a": 1}\n{"a": 1}\n]', '[{"a": 1}, {"a": 1},\n]'):  # commas may be more or fewer
            self.assertEqual([o for o, _ in self.read(data)], [one, one])

    def test_long_values_and_memory(self):
        """An array in lines is read as it comes, by the program and by the scripts; a long value is read whole."""
        long = [{"a": "x" * 300000}, {"a": ["y" * 50] * 20000}, {"b": 1}]
        self.assertEqual([o for o, _ in self.read(json.dumps(long, indent=1))], long)
        self.write(
            "big.json", "[\n" + ",\n".join(['{\n  "text": "%s"\n}' % ("soup " * 100)] * 60000) + "\n]\n"
        )  # 30 MB
        read = (
            "import re, resource, sys; sys.path.insert(0, %r); from lib.rows import json_objects\n"
            "assert sum(1 for _ in json_objects('F', lambda: open('big.json', 'rb'))) == 60000\n"
            "print(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])\n"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)" % os.path.join(ROOT, "data")
        )
        done = self.call(sys.executable, "-c", read)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        self.assertLess(max(map(int, done.stdout.split())), 28 << 10)  # kB; Python alone takes 15 MB, the file has 30

    FORMS = (
        lambda rows: "".join(json.dumps(row) + "\n" for row in rows),
        lambda rows: json.dumps(rows),
        lambda rows: json.dumps(rows, indent=2),
        lambda rows: "\n".join(json.dumps(row, indent=2) for row in rows),
    )

    def test_programs_take_all_forms(self):
        for text, words in (
            (INSTRUCTIONS, [TOKENIZE, "pack", "--kind", "instruct", "--tokenizer", GPT, "--in"]),
            (rows(".jsonl"), [TOKENIZE, "pack", "--kind", "classify", "--tokenizer", BERT, "--in"]),
        ):
            packed = []
            for form in self.FORMS:
                self.write("x.jsonl", form([json.loads(line) for line in text.splitlines()]))
                done = self.call(*words, "x.jsonl", "--out", "o.bin")
                self.assertEqual(done.returncode, 0, done.stderr.decode())
                packed.append(open_bytes(self.path("o.bin")))
            self.assertEqual(packed[1:], packed[:1] * 3, words[3])

    def test_scripts_take_all_forms(self):
        table = [json.loads(line) for line in rows(".jsonl").splitlines()]
        answers = [json.loads(line) for line in INSTRUCTIONS.splitlines()]
        for script, model, name, data in (
            ("classify.py", BERT, "x.jsonl", table),
            ("instructions.py", GPT, "x.jsonl", answers),
            ("instructions.py", GPT, "x.json", answers),
            ("fineweb.py", GPT, "x.jsonl", table),
        ):
            flags = ["--from", name] if script == "fineweb.py" else [name]
            packed = []
            for form in self.FORMS:
                self.write(name, form(data))
                self.script(script, *flags, "--tokenizer", model, "--out", "out")
                packed.append(open_bytes(self.path("out", "train.bin")))
            self.assertEqual(packed[1:], packed[:1] * 3, script)


class Names(test_data.Case):
    NAMES = [
        b"caf\xe9",
        b"\xff \xfe",
        b'it\'s "so"\\',
        b"two\nlines",
        b"\x01\x1b[31m\x7f",
        b"bytes:a%41",
        b"%s%n",
        "\u00fc".encode(),
    ]

    def test_files_of_any_name(self):
        program = lambda name: os.path.join(ROOT, name).encode()
        built = lambda name: os.path.join(PROGRAMS, name).encode()
        for number, name in enumerate(self.NAMES):
            with self.subTest(name=name):
                folder = os.path.join(self.dir.encode(), b"%d" % number, name)
                os.makedirs(folder)

                def run(*words, code=0):
                    done = self.call(*words)
                    self.assertEqual(done.returncode, code, done.stderr)
                    return done.stdout

                def make(ending, text):
                    path = os.path.join(folder, name + ending)
                    with open(path, "wb") as f:
                        f.write(text.encode())
                    return path

                script = lambda name, *words: run(sys.executable, program("data/" + name), *words)
                data, out = os.path.join(folder, b"data"), os.path.join(folder, b"run")
                text = make(b".txt", TEXT)
                self.assertIn(b"./train_bert --data ", script("text.py", text, "--vocab-size", "60", "--out", data))
                script("text.py", folder, "--vocab-size", "60", "--out", data + b"2")
                size = [
                    "--layers",
                    "1",
                    "--width",
                    "64",
                    "--max-len",
                    "32",
                    "--positions",
                    "64",
                    "--batch-tokens",
                    "128",
                ]
                run(built("train_bert"), "--data", data, "--out", out, *size, "--steps", "2")
                with open(os.path.join(out, b"config.json"), encoding="utf-8") as f:
                    saved = json.load(f)["flags"]["data"]
                self.assertEqual(bytes_of_json(saved), os.path.realpath(data))
                moved = os.path.join(self.dir.encode(), b"moved%d" % number)
                os.rename(out, moved)  # the data stay where they are
                said = run(built("train_bert"), "--resume", "--out", moved, "--steps", "3")
                self.assertIn(b"resumed", said)
                table, model = make(b".csv", rows(".csv")), os.path.join(folder, b"model")
                shutil.copytree(BERT, os.fsdecode(model))
                script("classify.py", table, "--tokenizer", model, "--out", os.path.join(folder, b"cls"))
                run(built("finetune_cls"), "eval", "--model", model, "--data", table)
                answers = make(b".jsonl", INSTRUCTIONS)
                two = os.path.join(folder, b"two " + name + b".jsonl")
                shutil.copyfile(answers, two)
                out = os.path.join(folder, b"ins")
                script("instructions.py", answers, two, "--tokenizer", GPT, "--template", "short", "--out", out)


def bytes_of_json(text):
    """What json_of_bytes() of common/base/json.h wrote"""
    if not text.startswith("bytes:"):
        return text.encode()
    return re.sub(rb"%(..)", lambda m: bytes([int(m[1], 16)]), text[6:].encode())


class LinearTime(test_data.Case):
    """Eight times as much input takes less than 24 times as long: 8 times if time is linear, 64 if it is quadratic. The
    smaller size takes some tenths of a second, so that starting a process does not count."""

    def seconds(self, words, text):
        start = time.process_time(), os.times().children_user
        done = self.call(*words, text=text)
        self.assertEqual(done.returncode, 0, done.stderr[-300:])
        return os.times().children_user - start[1]

    def check(self, command, make, small):
        small_time = max(self.seconds(command, make(small)), 0.02)
        large_time = self.seconds(command, make(8 * small))
        self.assertLess(large_time / small_time, 24, "%g s, %g s" % (small_time, large_time))

    def test_encode(self):
        for model in (BERT, GPT):
            command = [TOKENIZE, "encode", "--tokenizer", model]
            for name, unit in {
                "combining marks": "\u0301\u0323",
                "marks, falling classes": "\u0345\u0301\u0323\u0327\u0334",
                "one word": "a",
                "accents": "\u00e9",
                "spaces": " ",
                "brackets": "[",
                "quotes": "'",
                "no UTF-8": "\udcff",
            }.items():
                with self.subTest(model=os.path.basename(model), text=name):
                    make = lambda n: ("a" + unit * n + "\n").encode("utf-8", "surrogateescape")
                    self.check(command, make, 40000)

    def test_lines_of_scripts(self):
        read = "import sys; sys.path.insert(0, %r)\n%s" % (
            os.path.join(ROOT, "data"),
            "import books, wikitext, classify, agnews, imdb\ntext = sys.stdin.read()\n",
        )
        for name, code, unit in (
            ("gutenberg", "books.strip_gutenberg(text)", "\n \t"),
            ("gutenberg, spaces", "books.strip_gutenberg(text)", " "),
            ("gutenberg, stars", "books.strip_gutenberg(text)", "*** "),
            ("wikitext", "list(wikitext.articles([text]))", "= a "),
            ("wikitext, at", "list(wikitext.articles([text]))", " @-"),
            ("agnews", "agnews.clean(text)", "<a "),
            ("agnews, entities", "agnews.clean(text)", "#39; &lt"),
            ("imdb", "imdb.plain(text)", "  "),
            ("imdb, tags", "imdb.plain(text)", "<br "),
        ):
            with self.subTest(regex=name):
                self.check([sys.executable, "-c", read + code], lambda n: (unit * n).encode(), 100000)

    def test_json_of_one_line(self):
        for name, before, unit, after in (
            ("array", "[{}", ', {"a": "b"}', "]"),
            ("array of what is no object", "[{}", ", [1]", "]"),
            ("objects together", '{\n"a": 1}', '{"a": 1}', "\n"),
            ("a long value", '[{"a": "', "b\\n", '"}]'),
            ("many lines", '{\n"a": [1', ",\n1", "]}"),
            ("NaN", '[{"a": [NaN', ", NaN", "]}]"),
            ("closes nothing", "[{}]", "]", ""),
            ("no end", "[", "[", ""),
            ("no JSON", "", "{\n", ""),
        ):
            with self.subTest(form=name):
                make = lambda n: (before + unit * n + after).encode()
                self.check([TOKENIZE, "rows", "--objects", "-"], make, 200000)


if __name__ == "__main__":
    unittest.main()
