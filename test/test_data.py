"""The data scripts and data/tokenize's command line: one command makes a data directory; bad input is one clear line and an exit code.

    python3 test/test_data.py        (standard library only; needs data/tokenize; downloads come from a server in this process)
"""
import gzip
import hashlib
import http.server
import json
import lzma
import os
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOKENIZE = os.environ.get("TOKENIZE", os.path.join(ROOT, "data", "tokenize"))
SHARED = os.path.join(ROOT, "..", "shared", "data", "pretrain")
ENV = dict(os.environ, TOKENIZE=TOKENIZE, DOWNLOAD_PAUSE="0.01", PYTHONDONTWRITEBYTECODE="1", no_proxy="*")
TOKENIZER_FILES = {"vocab.txt", "tokenizer.json", "tokenizer_config.json"}
sys.dont_write_bytecode = True


def story(n):
    """A few hundred words, different for every n."""
    return "\n\n".join("Paragraph %d of story %d: the fox number %d ran over the hill and saw %d lazy dogs, again and again." % (i, n, n * i, i) for i in range(20))


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
        magic, version, kind, width, header, sequences, tokens, vocab = struct.unpack_from("<8sIIIIQQQ", data)
        self.assertEqual((magic, version, kind, width, header), (b"tunebin\n", 1, 1, 2, 256))
        offsets = struct.unpack_from("<%dQ" % (sequences + 1), data, 256)
        ids = struct.unpack_from("<%dH" % tokens, data, 256 + 8 * (sequences + 1))
        self.assertEqual((offsets[0], offsets[-1], len(data)), (0, tokens, 256 + 8 * (sequences + 1) + 2 * tokens))
        self.assertLess(max(ids), vocab)
        lines = "".join(" ".join(map(str, ids[a:b])) + "\n" for a, b in zip(offsets, offsets[1:]))
        return self.tokenize("decode", "--tokenizer", tokenizer, text=lines).splitlines()

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
        self.assertEqual(self.tokenize("decode", "--tokenizer", "tok", text=ids), "the fox ran.\n\n[CLS] lazy dogs [SEP]\n")
        array = json.loads(self.tokenize("encode", "--tokenizer", "tok", "--json", text='"The fox\\nran."\n'))
        self.assertEqual(array, [int(i) for i in ids.split("\n")[0].split()])
        self.assertEqual(json.loads(self.tokenize("decode", "--tokenizer", "tok", "--json", text=json.dumps(array))), "the fox ran.")

    def test_cased(self):
        self.tokenize("learn", "--type", "wordpiece", "--size", "120", "--no-lower-case", "--out", "cased", self.text)
        with open(self.path("cased/tokenizer_config.json")) as f:
            self.assertIs(json.load(f)["do_lower_case"], False)
        ids = self.tokenize("encode", "--tokenizer", "cased", text="Paragraph fox")
        self.assertEqual(self.tokenize("decode", "--tokenizer", "cased", text=ids), "Paragraph fox\n")

    def test_learning_is_deterministic(self):
        for threads in ("1", "3"):
            subprocess.run([TOKENIZE, "learn", "--size", "120", "--out", self.path(threads), self.text], env=dict(ENV, OMP_NUM_THREADS=threads),
                           stdout=subprocess.DEVNULL, check=True)
            with open(self.path(threads, "vocab.txt")) as f, open(self.path("tok/vocab.txt")) as g:
                self.assertEqual(f.read(), g.read())

    def test_documents(self):
        text = self.write("d.txt", "fox a\nfox s\n\n \nfox t\n<|endoftext|> \n\nfox d\n<|endoftext|>\n<|endoftext|>\nlast")
        expected = {"eot": ["fox a fox s fox t", "fox d", "last"], "file": 2, "line": 8, "blank": 3}
        for how, documents in expected.items():
            more = [text] if how == "file" else []
            self.tokenize("pack", "--tokenizer", "tok", "--kind", "text", "--in", text, "--documents", how, "--out", how + ".bin", *more)
            found = self.documents(self.path(how + ".bin"), "tok")
            self.assertEqual(found if how == "eot" else len(found), documents, how)

    def test_pack_counts_and_threads(self):
        big = self.write("big.txt", "\n<|endoftext|>\n".join(story(i) for i in range(400)))  # several parts for the threads
        files = []
        for threads in ("1", "3"):
            run = subprocess.run([TOKENIZE, "pack", "--tokenizer", self.path("tok"), "--kind", "text", "--in", big, "--out", self.path(threads + ".bin")],
                                 env=dict(ENV, OMP_NUM_THREADS=threads), stdout=subprocess.PIPE, check=True)
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
        self.refused(2, "expected a verb", TOKENIZE)
        self.refused(2, "nearest: learn", TOKENIZE, "lern")
        self.refused(2, "unknown flag --sizes; nearest: --size", TOKENIZE, "learn", "--sizes", "9", self.text)
        self.refused(2, "expected an integer from 32", TOKENIZE, "learn", "--size", "5", "--out", "x", self.text)
        self.refused(2, "--out DIR", TOKENIZE, "learn", self.text)
        self.refused(2, "comes with train_gpt", TOKENIZE, "learn", "--type", "bpe", "--out", "x", self.text)
        self.refused(2, "expected one of eot|line|blank|file", *pack, "--documents", "page", "--in", self.text, "--out", "x.bin")
        self.refused(2, "comes with sft", TOKENIZE, "pack", "--tokenizer", "tok", "--kind", "instruct", "--in", self.text, "--out", "x.bin")
        self.refused(2, "expected --in FILE", *pack, "--out", "x.bin")
        self.refused(2, "expected --tokenizer DIR", TOKENIZE, "encode")

    def test_bad_files(self):
        pack = [TOKENIZE, "pack", "--tokenizer", "tok", "--kind", "text"]
        self.refused(1, "cannot read none.txt", TOKENIZE, "learn", "--out", "x", "none.txt")
        self.refused(1, "found a directory", TOKENIZE, "learn", "--out", "x", self.dir)
        self.refused(1, "there are no words", TOKENIZE, "learn", "--out", "x", self.write("empty.txt", ""))
        self.refused(1, "cannot make the directory", TOKENIZE, "learn", "--out", os.path.join(self.text, "x"), self.text)
        self.refused(1, "the input holds no tokens", *pack, "--in", self.write("blank.txt", "\n \n"), "--out", "x.bin")
        self.refused(1, "cannot make the directory", *pack, "--in", self.text, "--out", os.path.join(self.text, "x.bin"))
        self.refused(1, "expected a tokenizer directory, found nothing", TOKENIZE, "encode", "--tokenizer", "none", text="a")
        self.refused(1, "line 2: line 1, column", TOKENIZE, "encode", "--tokenizer", "tok", "--json", text='"a"\nb\n')
        self.refused(1, "line 1: expected a JSON string, found 5", TOKENIZE, "encode", "--tokenizer", "tok", "--json", text="5\n")
        self.refused(1, "line 1: expected ids separated by spaces", TOKENIZE, "decode", "--tokenizer", "tok", text="5 x\n")
        self.refused(1, "found 5000", TOKENIZE, "decode", "--tokenizer", "tok", text="5 5000\n")
        self.refused(1, "line 1: expected an integer, found 1.5", TOKENIZE, "decode", "--tokenizer", "tok", "--json", text="[1.5]\n")
        self.assertFalse(os.path.exists(self.path("x.bin")))
        if os.path.exists("/dev/full"):
            with open("/dev/full", "wb") as full:
                run = subprocess.run([TOKENIZE, "encode", "--tokenizer", self.path("tok")], input=b"a\n", stdout=full, stderr=subprocess.PIPE)
            self.assertEqual((run.returncode, b"cannot write standard output" in run.stderr), (1, True))


class Scripts(Case):
    def check_directory(self, out, train, val):
        files = set(os.listdir(self.path(out)))
        self.assertEqual(files, TOKENIZER_FILES | {"train.bin", "val.bin"})
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
        before = {name: open_bytes(self.path("out", name)) for name in os.listdir(self.path("out"))}
        self.script("text.py", "again.txt", "in", "--vocab-size", "150", "--val-share", "0.25", "--out", "out")
        self.assertEqual(sorted(self.documents(self.path("out/val.bin"), "out")), sorted(val))
        self.script("text.py", "in", "again.txt", "--vocab-size", "150", "--val-share", "0.25", "--out", "out", "--keep-text")
        self.assertEqual(before, {name: open_bytes(self.path("out", name)) for name in before})
        self.assertTrue(os.path.exists(self.path("out/val.txt")))
        self.script("text.py", "in", "--tokenizer", "out", "--seed", "3", "--out", "other")
        self.assertEqual(open_bytes(self.path("out/vocab.txt")), open_bytes(self.path("other/vocab.txt")))
        self.check_directory("other", 7, 1)

    def test_text_single_document(self):
        self.write("one.txt", story(1))
        self.assertIn("there is one document only", self.script("text.py", "one.txt", "--vocab-size", "100", "--val-share", "0.2", "--out", "out"))
        train, val = self.check_directory("out", 1, 1)
        self.assertEqual(train[0] + " " + val[0], self.normal(story(1)))
        self.assertEqual((train[0].count("paragraph"), val[0].count("paragraph")), (16, 4))  # cut between paragraphs
        self.script("text.py", "one.txt", "--documents", "blank", "--vocab-size", "100", "--out", "out")
        self.check_directory("out", 19, 1)

    def test_text_windows_1252(self):
        self.write("w.txt", "caf\xe9\n\nna\xefve \x93x\x94\n".encode("latin-1") * 3)
        self.assertIn("6 lines of w.txt are not UTF-8", self.script("text.py", "w.txt", "--vocab-size", "50", "--cased", "--out", "out"))
        self.assertIn("caf\u00e9", self.documents(self.path("out/train.bin"), "out")[0])

    def test_books(self):
        for i in range(3):
            self.write("b/%d.txt" % i, "\ufeffThe Project Gutenberg eBook of X\r\n\r\nlicence\r\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\r\n\r\n"
                       "Produced by Some Body\r\n\r\n\r\n" + story(i).replace("\n", "\r\n") + "\r\n\r\n*** END OF THE PROJECT GUTENBERG EBOOK X ***\r\nlicence\r\n")
        self.script("books.py", "--from", "b", "--vocab-size", "150", "--out", "out")
        train, val = self.check_directory("out", 2, 1)
        self.assertEqual(sorted(train + val), sorted(self.normal(story(i)) for i in range(3)))

    def test_wikitext(self):
        article = lambda i: " \n = Title %d = \n \n Some text @-@ with 1 @,@ 000 marks . \n = = Section = = \n More of %d . \n" % (i, i)
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

    def test_bad_inputs(self):
        text = self.write("a.txt", story(1))
        self.refused_script(2, "--out", "text.py", text)
        self.refused_script(2, "unrecognized arguments: --sizes", "text.py", text, "--out", "o", "--sizes", "5")
        self.refused_script(2, "expected files or folders", "text.py", "--out", "o")
        self.refused_script(2, "--val-share: expected a number between 0 and 1", "text.py", text, "--out", "o", "--val-share", "1")
        self.refused_script(2, "--vocab-size: expected 32", "text.py", text, "--out", "o", "--vocab-size", "3")
        self.refused_script(2, "--out: expected a directory", "text.py", text, "--out", text)
        self.refused_script(2, "either numbers of books or --from", "books.py", "11", "--from", text, "--out", "o")
        self.refused_script(2, "expected {n}", "books.py", "11", "--url", "http://127.0.0.1/", "--out", "o")
        self.refused_script(1, "there is no such file or folder", "text.py", "none.txt", "--out", "o")
        self.refused_script(1, "there is no text in the input", "text.py", self.write("empty.txt", "\n\n"), "--out", "o")
        self.refused_script(1, "there is no text in the folder", "text.py", os.path.dirname(self.write("f/x.jpg", "x")), "--out", "o")
        self.refused_script(1, "the only document is one word", "text.py", self.write("word.txt", "word"), "--out", "o")
        self.refused_script(1, "cannot read", "text.py", self.write("bad.zip", "no zip"), "--out", "o")
        os.rename(self.write("bad", "no xz"), self.path("bad.xz"))
        self.refused_script(1, "cannot read bad.xz", "text.py", "bad.xz", "--out", "o")
        half = open_bytes(self.write("half.txt.gz", story(1)))
        with open(self.path("half.txt.gz"), "wb") as f:
            f.write(half[:len(half) // 2])
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
        start = int(wanted[6:-1]) if wanted and cls.ranges else 0
        if start and start >= len(data):
            self.send_response(416)
            self.send_header("Content-Range", "bytes */%d" % len(data))
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if wanted and cls.ranges else 200)
        if wanted and cls.ranges:
            self.send_header("Content-Range", "bytes %d-%d/%d" % (start, len(data) - 1, len(data)))
        self.send_header("Content-Length", str(len(data) - start))
        if cls.tag:
            self.send_header("ETag", cls.tag)
        self.end_headers()
        end = len(data)
        if cls.breaks > 0:
            cls.breaks, end = cls.breaks - 1, start + (len(data) - start) // 2
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


class Downloads(Case):
    def setUp(self):
        super().setUp()
        self.url = start_server(self, Server)
        import common
        self.common = common
        Server.files["/x"] = bytes(range(256)) * 2000
        self.target = self.path("cache", "x")
        self.sum = hashlib.sha256(Server.files["/x"]).hexdigest()

    def get(self, checksum=None, name="/x"):
        return self.common.download(self.url + name, self.target, checksum)

    def fails(self, message, *args):
        with self.assertRaises(self.common.Failure) as e:
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
        self.fails("run the same command again to go on", self.sum)
        self.assertGreater(os.path.getsize(self.target + ".part"), 256000)
        Server.breaks, Server.log = 0, []
        self.get(self.sum)
        self.assertNotIn(None, Server.log)
        self.assertEqual(open_bytes(self.target), Server.files["/x"])

    def test_a_file_that_changes_between_two_runs_is_not_joined(self):
        Server.breaks, Server.tag = 99, '"one"'
        self.fails("run the same command again to go on")
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
        with open(self.target, "wb") as f:  # damaged in the cache: fetched anew
            f.write(b"damaged")
        self.get(self.sum)
        self.assertEqual(open_bytes(self.target), Server.files["/x"])

    def test_errors(self):
        self.fails("the server says 404", None, "/none")
        self.url = "http://127.0.0.1:1"
        self.fails("Connection refused")

    def test_books_by_number(self):
        for n in (11, 12):
            Server.files["/%d.txt" % n] = ("*** START OF THIS PROJECT GUTENBERG EBOOK ***\n" + story(n) + "\nEnd of Project Gutenberg's X\n").encode()
        words = ["books.py", "11", "12", "--url", self.url + "/{n}.txt", "--cache", "cache", "--vocab-size", "150", "--out", "out"]
        self.script(*words)
        self.assertEqual(sorted(os.listdir(self.path("cache"))), ["pg11.txt", "pg11.txt.sha256", "pg12.txt", "pg12.txt.sha256"])
        found = [d for part in ("train", "val") for d in self.documents(self.path("out", part + ".bin"), "out")]
        self.assertEqual(sorted(found), sorted(self.normal(story(n)) for n in (11, 12)))
        run = self.call(sys.executable, os.path.join(ROOT, "data", "books.py"), "13", *words[3:])
        self.assertEqual(run.returncode, 1)
        self.assertIn(b"the server says 404", run.stderr)

    def test_wikitext_checksum(self):
        Server.files["/2.zip"] = b"not the corpus"
        self.refused_script(1, "expected SHA-256 ef7edb56", "wikitext.py", "--url", self.url + "/{n}.zip", "--cache", "cache", "--out", "out")


class RealText(Case):
    def test_shared_data(self):
        if not os.path.isdir(SHARED):
            print("\nSKIPPED: %s is not here" % SHARED, file=sys.stderr)
            self.skipTest("no " + SHARED)
        for name, file, documents in (("books.py", "books_valid.txt.xz", 13), ("wikitext.py", "wikitext2_valid.txt", 60)):
            self.script(name, "--from", os.path.join(SHARED, file), "--out", "out")
            counts = [struct.unpack_from("<QQQ", open_bytes(self.path("out", part)), 24) for part in ("train.bin", "val.bin")]
            self.assertEqual(counts[0][0] + counts[1][0], documents)
            self.assertEqual(counts[0][2], 8192)
            self.assertGreater(counts[0][1], 200000)


if __name__ == "__main__":
    unittest.main()
