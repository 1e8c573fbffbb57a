"""What the data scripts share: downloads, reading text, and documents -> train.bin, val.bin and the tokenizer's files.

Only Python's standard library. Whatever goes wrong is one line on standard error and exit code 1 (usage: 2).
"""
import argparse
import bz2
import contextlib
import gzip
import hashlib
import http.client
import io
import lzma
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EOT = "<|endoftext|>"


class Failure(Exception):
    """An error that the user can do something about: its text says what was expected, what was found, what to do."""


# ---------------------------------------------------------------- progress
class Progress:
    """A bar with the time left on a terminal; elsewhere a line every ten seconds. total may be None."""

    def __init__(self, label, total, done=0):
        self.label, self.total, self.first, self.start = label, total, done, time.time()
        self.terminal = sys.stderr.isatty()
        self.last = self.start

    def update(self, done):
        now = time.time()
        if now - self.last < (0.2 if self.terminal else 10):
            return
        self.last = now
        rate = (done - self.first) / max(now - self.start, 1e-9)
        text = "%s %.1f MB, %.1f MB/s" % (self.label, done / 1e6, rate / 1e6)
        if self.total:
            share = min(1, done / self.total)
            left = (self.total - done) / rate if rate > 0 else 0
            text = "%s [%-20s] %3d %%, %.1f of %.1f MB, %.0f s left" % (self.label, "#" * int(20 * share), 100 * share, done / 1e6, self.total / 1e6, left)
        sys.stderr.write("\r%-78s" % text if self.terminal else text + "\n")
        sys.stderr.flush()

    def close(self):
        if self.terminal and self.last != self.start:
            sys.stderr.write("\r%78s\r" % "")


# ---------------------------------------------------------------- downloads
def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        for block in iter(lambda: f.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def download(url, path, checksum=None, attempts=4):
    """URL -> path. What is there already stays; a part that is there (path.part) is gone on with by HTTP Range, unless the file behind
    the URL has changed since; the name `path` appears only when all is there and the SHA-256 is right. Where the right one is not
    known (Gutenberg's books change), that of the download is kept in path.sha256: a copy that is damaged later is fetched again."""
    kept = path + ".sha256"
    if os.path.exists(path):
        expected = checksum
        if expected is None and os.path.exists(kept):
            with open(kept, encoding="ascii", errors="replace") as f:
                expected = f.read().strip()
        if expected is None or sha256(path) == expected:
            return path
        os.remove(path)  # of another version, or damaged
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    part = path + ".part"
    for attempt in range(attempts):
        try:
            fetch(url, part)
            break
        except urllib.error.HTTPError as e:
            if e.code < 500 or attempt == attempts - 1:
                raise Failure("cannot download %s: the server says %d %s" % (url, e.code, e.reason))
        except (OSError, http.client.HTTPException) as e:  # OSError: also URLError, time-out, connection reset
            if attempt == attempts - 1:
                reason = getattr(e, "reason", None) or e
                raise Failure("cannot download %s: %s; run the same command again to go on, or give a local copy with --from" % (url, reason))
        time.sleep(min(2 ** attempt, 8) * float(os.environ.get("DOWNLOAD_PAUSE", "1")))
    found = sha256(part)
    if checksum and found != checksum:
        os.remove(part)
        raise Failure("%s: expected SHA-256 %s, found %s: the download was damaged or the file has changed" % (url, checksum, found))
    if not checksum:
        with open(kept, "w", encoding="ascii") as f:
            f.write(found + "\n")
    os.replace(part, path)
    with contextlib.suppress(FileNotFoundError):
        os.remove(part + ".tag")
    return path


def fetch(url, part):
    """One attempt: appends to the file `part` what is missing from it."""
    have = os.path.getsize(part) if os.path.exists(part) else 0
    request = urllib.request.Request(url, headers={"User-Agent": "tune.cu data scripts"})
    tag = part + ".tag"  # which version of the file the part is of: the server's ETag, or its date
    if have:
        request.add_header("Range", "bytes=%d-" % have)
        if os.path.exists(tag):
            with open(tag, encoding="latin-1") as f:
                request.add_header("If-Range", f.read().strip())  # of another version the server sends all
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as e:
        if e.code != 416 or not have:  # 416: there is nothing behind what we have, or the file is shorter now
            raise
        size = re.match(r"bytes \*/(\d+)$", e.headers.get("Content-Range") or "")
        if size and int(size.group(1)) == have:
            return
        os.remove(part)
        return fetch(url, part)
    with answer:
        if answer.status != 206 or not (answer.headers.get("Content-Range") or "").startswith("bytes %d-" % have):
            have = 0  # the server sends all of it
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        if version and not version.startswith("W/"):  # a weak ETag cannot stand in If-Range
            with open(tag, "w", encoding="latin-1") as f:
                f.write(version)
        elif not have and os.path.exists(tag):
            os.remove(tag)
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        progress = Progress(os.path.basename(part)[:-5], total, have)
        with open(part, "ab" if have else "wb") as f:
            for block in iter(lambda: answer.read(1 << 16), b""):
                f.write(block)
                have += len(block)
                progress.update(have)
        progress.close()
    if total is not None and have != total:
        raise OSError("the connection ended after %d of %d bytes" % (have, total))


def cache_dir():
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "tune.cu")


# ---------------------------------------------------------------- reading text
COMPRESSED = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}


def inner_name(path):
    """books.txt.xz -> books.txt"""
    stem, ext = os.path.splitext(path)
    return stem if ext.lower() in COMPRESSED else path


def text_files(paths, endings):
    """The files among the paths and, of folders, those with one of the endings (sorted); zip archives count as folders.
    Yields (name, function that opens it for reading bytes)."""
    for path in paths:
        if not os.path.exists(path):
            raise Failure("cannot read %s: there is no such file or folder" % path)
        files = [path]
        if os.path.isdir(path):
            files = sorted(os.path.join(d, f) for d, _, names in os.walk(path) for f in names
                           if inner_name(f).lower().endswith(endings) or f.lower().endswith(".zip"))
            if not files:
                raise Failure("there is no text in the folder %s: expected files that end in %s (or these with .xz, .gz, .bz2), or .zip" % (path, ", ".join(endings)))
        for file in files:
            if file.lower().endswith(".zip"):
                try:
                    archive = zipfile.ZipFile(file)
                except zipfile.BadZipFile as e:
                    raise Failure("cannot read %s: %s" % (file, e))
                members = sorted(m for m in archive.namelist() if inner_name(m).lower().endswith(endings))
                if not members:
                    raise Failure("there is no text in %s: expected members that end in %s" % (file, ", ".join(endings)))
                for member in members:
                    yield file + ":" + member, lambda archive=archive, member=member: archive.open(member)
            else:
                opener = COMPRESSED.get(os.path.splitext(file)[1].lower(), open)
                yield file, lambda opener=opener, file=file: opener(file, "rb")


def lines_of(name, opener):
    """The lines of a file as text without their ends. Lines that are not UTF-8 are read as Windows-1252, counted and reported."""
    strange = 0
    try:
        with opener() as f:
            for number, line in enumerate(io.BufferedReader(f) if isinstance(f, io.RawIOBase) else f):
                try:
                    text = line.decode("utf-8")
                except UnicodeDecodeError:
                    text, strange = line.decode("cp1252", "replace"), strange + 1
                yield (text[1:] if number == 0 and text[:1] == "\ufeff" else text).rstrip("\r\n")
    except (OSError, EOFError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, RuntimeError) as e:
        raise Failure("cannot read %s: %s" % (name, getattr(e, "strerror", None) or e))
    if strange:
        sys.stderr.write("note: %d lines of %s are not UTF-8 and were read as Windows-1252\n" % (strange, name))


def documents_of(lines, how="eot"):
    """Lines -> documents. eot: a document ends at a line <|endoftext|>; line: every line; blank: at blank lines; file: at the end."""
    document = []
    for line in lines:
        if how == "line":
            yield line
        elif (how == "eot" and line.strip() == EOT) or (how == "blank" and not line.strip()):
            yield "\n".join(document)
            document = []
        else:
            document.append(line)
    yield "\n".join(document)


# ---------------------------------------------------------------- documents -> a data directory
def parser(description, examples):
    class Parser(argparse.ArgumentParser):
        def error(self, message):
            sys.stderr.write("error: %s; see %s --help\n" % (message, self.prog))
            sys.exit(2)

    p = Parser(description=description, epilog="examples:\n" + examples, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", required=True, metavar="DIR", help="the data directory to make: train.bin, val.bin, tokenizer files")
    p.add_argument("--vocab-size", type=int, default=8192, metavar="N", help="learn a WordPiece vocabulary of N tokens from the training part (default 8192)")
    p.add_argument("--cased", action="store_true", help="keep upper case and accents in the learned vocabulary (default: lower-case, as BERT)")
    p.add_argument("--tokenizer", metavar="DIR", help="use this tokenizer and learn none")
    p.add_argument("--val-share", type=float, default=0.05, metavar="X", help="share of the documents that goes to val.bin, at least one (default 0.05)")
    p.add_argument("--seed", type=int, default=1, metavar="N", help="which documents these are (default 1)")
    p.add_argument("--keep-text", action="store_true", help="leave train.txt and val.txt in the data directory (default: no)")
    return p


def check(args):
    """Everything about the common flags that can be refused before the work begins."""
    if not 0 < args.val_share < 1:
        raise Usage("--val-share: expected a number between 0 and 1, found %g" % args.val_share)
    if not args.tokenizer and not 32 <= args.vocab_size <= 1000000:
        raise Usage("--vocab-size: expected 32 to 1000000, found %d" % args.vocab_size)
    if args.tokenizer and not os.path.isdir(args.tokenizer):
        raise Usage("--tokenizer: expected a directory, found none at %s" % args.tokenizer)
    if os.path.exists(args.out) and not os.path.isdir(args.out):
        raise Usage("--out: expected a directory, found the file %s" % args.out)
    if not os.path.exists(tokenize_program()):
        raise Failure("expected the program %s, found nothing: run make first" % tokenize_program())


class Usage(Failure):
    pass


def tokenize_program():
    return os.environ.get("TOKENIZE", os.path.join(ROOT, "data", "tokenize"))


def run_tokenize(folder, *words):
    """data/tokenize, called in this folder"""
    sys.stdout.flush()
    code = subprocess.call([os.path.abspath(tokenize_program()), *words], cwd=folder)
    if code != 0:
        raise Failure("data/tokenize %s ended with code %d" % (words[0], code))


def split_in_two(text, val_share):
    """The only document -> training part, validation part; cut at the end of a paragraph (else of a line, else between words)."""
    wanted = int(len(text) * (1 - val_share))
    for pattern in (r"\n[ \t]*\n", r"\n", r"\s"):
        ends = [m.end() for m in re.finditer(pattern, text)]
        if ends:
            cut = min(ends, key=lambda e: abs(e - wanted))
            return text[:cut], text[cut:]
    raise Failure("the only document is one word: there is nothing to split into training and validation text")


def spool(documents, file):
    """Writes documents one after the other. Returns (hash, offset, size) of each; empty ones and exact repetitions are left out."""
    found, seen, repeated, offset = [], set(), 0, 0
    for text in documents:
        text = text.strip("\n")
        if not text.strip():
            continue
        data = (text + "\n").encode("utf-8", "replace")
        digest = hashlib.sha256(data).digest()
        if digest in seen:
            repeated += 1
            continue
        seen.add(digest)
        file.write(data)
        found.append((digest, offset, len(data)))
        offset += len(data)
    if repeated:
        print("%d documents are exact repetitions of others and were left out" % repeated)
    return found


def copy_documents(source, documents, path):
    with open(path, "wb") as out:
        for _, offset, size in documents:
            source.seek(offset)
            out.write(source.read(size))
            out.write((EOT + "\n").encode())


def finish(args, documents, val_documents=None):
    """Documents (strings, streamed) -> args.out. Which are for validation depends on their text and the seed only."""
    out = args.out.rstrip("/") or "/"
    if args.tokenizer and not any(os.path.exists(os.path.join(args.tokenizer, n)) for n in ("vocab.txt", "tokenizer.json")):
        raise Failure("--tokenizer %s: expected vocab.txt or tokenizer.json there, found neither" % args.tokenizer)
    os.makedirs(out, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            work = tempfile.mkdtemp(prefix="making.", dir=out)
        except OSError as e:
            raise Failure("cannot write to %s: %s" % (out, e.strerror))
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        in_work = lambda name: os.path.join(work, name)

        with open(in_work("all"), "w+b") as f, open(in_work("all.val"), "w+b") as g:
            train = spool(documents, f)
            if not train:
                raise Failure("there is no text in the input")
            if val_documents is not None:
                val = spool(val_documents, g)
                if not val:
                    raise Failure("there is no text in the validation part of the input")
                copy_documents(f, train, in_work("train.txt"))
                copy_documents(g, val, in_work("val.txt"))
            elif len(train) == 1:
                print("there is one document only: its last %g %% become the validation text" % (100 * args.val_share))
                f.seek(0)
                for name, text in zip(("train.txt", "val.txt"), split_in_two(f.read().decode("utf-8").strip(), args.val_share)):
                    if not text.strip():
                        raise Failure("the only document is too short to be split into training and validation text")
                    with open(in_work(name), "w", encoding="utf-8", newline="") as part:
                        part.write(text)
                val = train
            else:
                order = sorted(train, key=lambda d: hashlib.sha256(b"%d " % args.seed + d[0]).digest())
                chosen = set(order[:min(max(1, round(args.val_share * len(train))), len(train) - 1)])
                val = [d for d in train if d in chosen]
                train = [d for d in train if d not in chosen]
                copy_documents(f, train, in_work("train.txt"))
                copy_documents(f, val, in_work("val.txt"))
        print("%d documents for training (%.1f MB), %d for validation (%.1f MB)" % (
            len(train), os.path.getsize(in_work("train.txt")) / 1e6, len(val), os.path.getsize(in_work("val.txt")) / 1e6))
        share = os.path.getsize(in_work("val.txt")) / (os.path.getsize(in_work("train.txt")) + os.path.getsize(in_work("val.txt")))
        if val_documents is None and share > max(0.2, 2 * args.val_share):
            print("note: %.0f %% of the text is for validation, since documents stay whole; more and smaller ones divide better" % (100 * share))
        share = os.path.getsize(in_work("val.txt")) / (os.path.getsize(in_work("train.txt")) + os.path.getsize(in_work("val.txt")))
        if val_documents is None and share > max(0.2, 2 * args.val_share):
            print("note: %.0f %% of the text is for validation, since whole documents are; more and smaller documents divide better" % (100 * share))

        tokenizer_files = ["vocab.txt", "tokenizer_config.json", "tokenizer.json"]
        if args.tokenizer:
            for name in tokenizer_files:
                if os.path.exists(os.path.join(args.tokenizer, name)):
                    shutil.copyfile(os.path.join(args.tokenizer, name), in_work(name))
        else:
            run_tokenize(work, "learn", "--type", "wordpiece", "--size", str(args.vocab_size), "--out", ".",
                         "--no-lower-case" if args.cased else "--lower-case", "train.txt")
        for part in ("train", "val"):
            run_tokenize(work, "pack", "--tokenizer", ".", "--kind", "text", "--in", part + ".txt", "--out", part + ".bin")

        # All is made: now the names. Files of an earlier run that this one does not make must not stay beside them.
        for name in tokenizer_files + ["train.bin", "val.bin", "train.txt", "val.txt"]:
            if os.path.exists(in_work(name)) and (args.keep_text or not name.startswith(("train.txt", "val.txt"))):
                os.replace(in_work(name), os.path.join(out, name))
            elif os.path.exists(os.path.join(out, name)):
                os.remove(os.path.join(out, name))
    print("\nnext: ./train_bert --data %s --out runs/bert --max-len 32 --positions 128" % shlex.quote(out))


def main(body):
    """Runs a script's body; errors become one line and an exit code."""
    try:
        body()
    except Failure as e:
        sys.stderr.write("error: %s\n" % e)
        sys.exit(2 if isinstance(e, Usage) else 1)
    except OSError as e:
        sys.stderr.write("error: %s%s\n" % (e.strerror or e, ": " + e.filename if e.filename else ""))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; run the same command again, downloads go on where they stopped\n")
        sys.exit(130)
