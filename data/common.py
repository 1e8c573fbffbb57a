"""What the data scripts share: downloads, reading text and labelled rows, and the way from documents or rows to
train.bin, val.bin and
the tokenizer's files.

Only Python's standard library. Whatever goes wrong is one line on standard error and exit code 1 (usage: 2).
"""

import argparse
import bz2
import collections
import contextlib
import csv
import filecmp
import gzip
import hashlib
import http.client
import io
import json
import lzma
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import unicodedata
import urllib.error
import urllib.request
import zipfile
import zlib

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EOT = "<|endoftext|>"


class Failure(Exception):
    """An error that the user can do something about: its text says what was expected, what was found, what to do."""


class Missing(Failure):
    """The server has no such file."""


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
            text = "%s [%-20s] %3d %%, %.1f of %.1f MB, %.0f s left" % (
                self.label,
                "#" * int(20 * share),
                100 * share,
                done / 1e6,
                self.total / 1e6,
                left,
            )
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


def download(url, path, checksum=None, attempts=4, first=None):
    """URL -> path. What is there already stays; a part that is there (path.part) is gone on with by HTTP Range, unless
    the file behind
    the URL has changed since; the name `path` appears only when all is there and the SHA-256 is right. Where the right
    one is not
    known (Gutenberg's books change), that of the download is kept in path.sha256: a copy that is damaged later is
    fetched again. first: only so many bytes of the file's beginning."""
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
            fetch(url, part, first)
            break
        except urllib.error.HTTPError as e:
            if (e.code < 500 and e.code != 429) or attempt == attempts - 1:  # 429: too many requests for now
                raise (Missing if e.code in (404, 410) else Failure)(
                    "cannot download %s: the server says %d %s" % (url, e.code, e.reason)
                )
        except (OSError, http.client.HTTPException) as e:  # OSError: also URLError, time-out, connection reset
            if attempt == attempts - 1:
                reason = getattr(e, "reason", None) or e
                raise Failure(
                    "cannot download %s: %s; run the same command again to go on, or give it a local copy"
                    % (url, reason)
                )
        time.sleep(min(2**attempt, 8) * float(os.environ.get("DOWNLOAD_PAUSE", "1")))
    found = sha256(part)
    if checksum and found != checksum:
        os.remove(part)
        raise Failure(
            "%s: expected SHA-256 %s, found %s: the download was damaged or the file has changed"
            % (url, checksum, found)
        )
    if not checksum:
        with open(kept, "w", encoding="ascii") as f:
            f.write(found + "\n")
    os.replace(part, path)
    with contextlib.suppress(FileNotFoundError):
        os.remove(part + ".tag")
    return path


def fetch(url, part, first=None):
    """One attempt: appends to the file `part` what is missing from it."""
    have = os.path.getsize(part) if os.path.exists(part) else 0
    if first and have >= first:
        os.truncate(part, first)
        return
    request = urllib.request.Request(url, headers={"User-Agent": "tune.cu data scripts"})
    tag = part + ".tag"  # which version of the file the part is of: the server's ETag, or its date
    if have or first:
        request.add_header("Range", "bytes=%d-%s" % (have, first - 1 if first else ""))
        if have and os.path.exists(tag):
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
        return fetch(url, part, first)
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
        if first and total:
            total = min(total, first)  # a server without ranges sends all of it
        progress = Progress(os.path.basename(part)[:-5], total, have)
        with open(part, "ab" if have else "wb") as f:
            for block in iter(lambda: answer.read(min(1 << 16, first - have) if first else 1 << 16), b""):
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
    """A list of what listed() yields, none of which may be an output of this run."""
    files = list(listed(paths, endings))
    for name, _ in files:
        refuse_output(name)
    return files


def listed(paths, endings):
    """The files among the paths and, of folders, those with one of the endings (sorted); zip archives count as folders.
    Yields (name, function that opens it for reading bytes)."""
    for path in paths:
        if not os.path.exists(path):
            raise Failure("cannot read %s: there is no such file or folder" % path)
        files = [path]
        if os.path.isdir(path):
            files = sorted(
                os.path.join(d, f)
                for d, _, names in os.walk(path)
                for f in names
                if inner_name(f).lower().endswith(endings) or f.lower().endswith(".zip")
            )
            if not files:
                raise Failure(
                    "there is no text in the folder %s: expected files that end in %s (or these with .xz, .gz, .bz2), or .zip"
                    % (path, ", ".join(endings))
                )
        for file in files:
            if file.lower().endswith(".zip"):
                try:
                    archive = zipfile.ZipFile(file)
                except zipfile.BadZipFile as e:
                    raise Failure("cannot read %s: %s" % (file, e))
                members = sorted(m for m in archive.namelist() if inner_name(m).lower().endswith(endings))
                if not members:
                    raise Failure(
                        "there is no text in %s: expected members that end in %s" % (file, ", ".join(endings))
                    )
                for member in members:
                    yield file + ":" + member, lambda archive=archive, member=member: archive.open(member)
            else:
                opener = COMPRESSED.get(os.path.splitext(file)[1].lower(), open)
                yield file, lambda opener=opener, file=file: opener(file, "rb")


def byte_lines(name, opener):
    """(number, bytes) of every line of a file, with their ends"""
    try:
        with opener() as f:
            yield from enumerate(io.BufferedReader(f) if isinstance(f, io.RawIOBase) else f, 1)
    except (OSError, EOFError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, RuntimeError) as e:
        raise Failure("cannot read %s: %s" % (name, getattr(e, "strerror", None) or e))


def lines_of(name, opener):
    """The lines of a file as text without their ends. Lines that are not UTF-8 are read as Windows-1252, counted and
    reported."""
    strange = 0
    for number, line in byte_lines(name, opener):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            text, strange = line.decode("cp1252", "replace"), strange + 1
        yield (text[1:] if number == 1 and text[:1] == "\ufeff" else text).rstrip("\r\n")
    if strange:
        sys.stderr.write("note: %d lines of %s are not UTF-8 and were read as Windows-1252\n" % (strange, name))


def documents_of(lines, how="eot"):
    """Lines -> documents. eot: a document ends at a line <|endoftext|>; line: every line; blank: at blank lines; file:
    at the end."""
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


# ---------------------------------------------------------------- reading labelled rows
# A row is (text, second text or None, label, where), all strings; `where` is "FILE, line N", for errors.
ROW_ENDINGS = (".csv", ".tsv", ".jsonl")


def strict_lines(name, opener):
    """(number, line) of a file of UTF-8 text, with their ends. Unlike running text, a row that cannot be read is an
    error."""
    for number, line in byte_lines(name, opener):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as e:
            raise Failure(
                "%s, line %d: expected UTF-8, found the byte 0x%02x; convert it: iconv -f WINDOWS-1252 -t UTF-8"
                % (name, number, line[e.start])
            )
        yield number, text[1:] if number == 1 and text[:1] == "\ufeff" else text


def csv_cells(name, opener):
    """(number of the line where the row begins, cells) of a file after RFC 4180"""
    csv.field_size_limit(1 << 30)
    at = [0]  # the last line read

    def lines():
        for number, line in strict_lines(name, opener):
            at[0] = number
            yield line[:-2] + "\n" if line.endswith("\r\n") else line

    reader = csv.reader(lines(), strict=True)
    while True:
        begin = at[0] + 1
        try:
            yield begin, next(reader)
        except StopIteration:
            return
        except csv.Error as e:
            if "unexpected end of data" in str(e):
                raise Failure(
                    "%s, line %d: expected a closing quote of the row that begins here, found the end of the file"
                    % (name, begin)
                )
            raise Failure("%s, line %d: expected a row of CSV, found something else: %s" % (name, begin, e))


def tsv_cells(name, opener):
    """(line number, cells): no quoting, a quote is a letter"""
    for number, line in strict_lines(name, opener):
        yield number, line.rstrip("\r\n").split("\t")


def table_rows(name, cells, text="text", text2=None, label="label", header=True):
    """Rows of a table whose first line names its columns; without such a line they are called 1, 2, 3 …
    text2: a column that has to be there, or None: "text2" if it is there. A cell that is empty there: no second
    text."""
    columns = None
    blank = 0
    for number, row in cells:
        where = "%s, line %d" % (name, number)
        if row in ([], [""]):
            blank = blank or number  # allowed at the end
            continue
        if blank:
            raise Failure(
                "%s, line %d: expected %s, found an empty line"
                % (name, blank, "a row" if columns else "the names of the columns")
            )
        if columns is None:
            columns = [c.strip() for c in row] if header else [str(i + 1) for i in range(len(row))]
            for wanted in [text, label] + ([text2] if text2 else []):
                if columns.count(wanted) != 1:
                    raise Failure(
                        "%s: expected one column %s, found %s: %s; name them with --text, --text2, --label%s"
                        % (
                            where,
                            wanted,
                            "several" if wanted in columns else "none",
                            ", ".join(columns)[:200],
                            "" if header else " NUMBER",
                        )
                    )
            second = columns.index(text2 or "text2") if (text2 or "text2") in columns else None
            first, third = columns.index(text), columns.index(label)
            if header:
                continue
        if len(row) != len(columns):
            raise Failure("%s: expected %d columns, found %d" % (where, len(columns), len(row)))
        yield row[first], row[second] if second is not None else None, row[third], where


def jsonl_rows(name, opener, text="text", text2=None, label="label"):
    """Rows of a file with a JSON object on every line; a label may also be an integer or true/false."""
    for number, line in strict_lines(name, opener):
        where = "%s, line %d" % (name, number)
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise Failure("%s: expected a JSON object, found something else: %s" % (where, e))
        if not isinstance(row, dict):
            raise Failure("%s: expected a JSON object, found %.40s" % (where, line.strip()))
        found = []
        for key, needed, types in (
            (text, True, (str,)),
            (text2 or "text2", bool(text2), (str, type(None))),
            (label, True, (str, int)),
        ):
            value = row.get(key)
            if needed and key not in row:
                raise Failure(
                    "%s: expected a key %s, found none: %s; name them with --text, --text2, --label"
                    % (where, key, ", ".join(row)[:200])
                )
            if not isinstance(value, types) and (needed or value is not None):
                raise Failure(
                    "%s: %s: expected a string%s, found %.40s"
                    % (where, key, " or an integer" if int in types else "", json.dumps(value))
                )
            found.append(json.dumps(value) if isinstance(value, int) else value)
        yield *found, where


def labelled_rows(path, text="text", text2=None, label="label", header=True):
    """The rows of one file .csv, .tsv or .jsonl, also compressed, or in a .zip that holds one such file."""
    files = list(text_files([path], ROW_ENDINGS))
    if len(files) > 1:
        raise Failure(
            "%s: expected one file with rows, found %d: %s"
            % (path, len(files), ", ".join(os.path.basename(f[0]) for f in files)[:200])
        )
    name, opener = files[0]
    ending = os.path.splitext(inner_name(name))[1].lower()
    if ending == ".jsonl":
        return jsonl_rows(name, opener, text, text2, label)
    if ending not in ROW_ENDINGS:
        raise Failure(
            "%s: expected a file that ends in .csv, .tsv or .jsonl (or these with .gz, .xz, .bz2, .zip)" % path
        )
    return table_rows(name, (csv_cells if ending == ".csv" else tsv_cells)(name, opener), text, text2, label, header)


def named(paths, *names):
    """Of the files under the paths the first of one of these names, compressed or not, as (path, opener)"""
    endings = tuple({os.path.splitext(n)[1] for n in names})
    found = {}
    for name, opener in listed(paths, endings):
        found.setdefault(os.path.basename(inner_name(name).replace(":", "/")), (name, opener))
    for name in names:
        if name in found:
            refuse_output(found[name][0])
            return found[name]
    raise Missing("%s: expected a file %s there, found none" % (", ".join(paths), " or ".join(names)))


# ---------------------------------------------------------------- documents -> a data directory
def plain_parser(description, examples, makes="the data directory to make: train.bin, val.bin, tokenizer files"):
    class Parser(argparse.ArgumentParser):
        def error(self, message):
            sys.stderr.write("error: %s; see %s --help\n" % (message, self.prog))
            sys.exit(2)

    p = Parser(
        description=description, epilog="examples:\n" + examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--out", required=True, metavar="DIR", help=makes)
    return p


def parser(description, examples, tokenizer_type="wordpiece", vocab_size=8192):
    """The flags of a script that makes text to pretrain on."""
    p = plain_parser(description, examples)
    p.add_argument(
        "--tokenizer-type",
        choices=["wordpiece", "bpe"],
        default=tokenizer_type,
        help="kind of vocabulary to learn: wordpiece for train_bert, bpe (byte-level) for train_gpt (default %s)"
        % tokenizer_type,
    )
    p.add_argument(
        "--vocab-size",
        type=int,
        default=vocab_size,
        metavar="N",
        help="learn a vocabulary of N tokens from the training part; 257 with bpe: single bytes (default %d)"
        % vocab_size,
    )
    p.add_argument(
        "--cased",
        action="store_true",
        help="wordpiece: keep upper case and accents in the learned vocabulary (default: lower-case, as BERT)",
    )
    p.add_argument("--tokenizer", metavar="DIR", help="use this tokenizer and learn none")
    p.add_argument(
        "--val-share",
        type=float,
        default=0.05,
        metavar="X",
        help="share of the documents that goes to val.bin, at least one (default 0.05)",
    )
    p.add_argument("--seed", type=int, default=1, metavar="N", help="which documents these are (default 1)")
    p.add_argument(
        "--keep-text", action="store_true", help="leave train.txt and val.txt in the data directory (default: no)"
    )
    return p


def check(args):
    """Everything about the common flags that can be refused before the work begins."""
    if not 0 < args.val_share < 1:
        raise Usage("--val-share: expected a number between 0 and 1, found %g" % args.val_share)
    bpe = getattr(args, "tokenizer_type", "wordpiece") == "bpe"
    smallest = 257 if bpe else 32
    if not args.tokenizer and not smallest <= args.vocab_size <= 1000000:
        raise Usage(
            "--vocab-size: expected %d to 1000000%s, found %d"
            % (smallest, " (256 bytes and <|endoftext|>)" if bpe else "", args.vocab_size)
        )
    if bpe and args.cased:
        raise Usage("--cased is for wordpiece: bpe keeps every byte")
    if getattr(args, "limit", None) is not None and args.limit < 1:
        raise Usage("--limit: expected a number of rows from 1, found %d" % args.limit)
    if args.tokenizer and not os.path.isdir(args.tokenizer):
        raise Usage("--tokenizer: expected a directory, found none at %s" % args.tokenizer)
    if os.path.exists(args.out) and not os.path.isdir(args.out):
        raise Usage("--out: expected a directory, found the file %s" % args.out)
    remember_outputs(args.out)
    for name, value in vars(args).items():
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, str) and name not in ("out", "tokenizer", "cache"):
                refuse_output(path)
    if not os.path.exists(tokenize_program()):
        raise Failure("expected the program %s, found nothing: run make first" % tokenize_program())


class Usage(Failure):
    pass


def tokenize_program():
    return os.environ.get("TOKENIZE", os.path.join(ROOT, "data", "tokenize"))


VOCABULARIES = (
    "vocab.txt",
    "vocab.json",
    "encoder.json",
    "tokenizer.json",
)  # of WordPiece; of BPE, by either name; of either
TOKENIZER_FILES = [*VOCABULARIES, "merges.txt", "vocab.bpe", "tokenizer_config.json"]


def tokenizer_dir(path):
    """A data or model directory itself, or of a run directory best/, else last/: the first that holds a vocabulary."""
    for folder in (path, os.path.join(path, "best"), os.path.join(path, "last")):
        if any(os.path.exists(os.path.join(folder, n)) for n in VOCABULARIES):
            return folder
    raise Failure(
        "--tokenizer %s: expected vocab.txt, vocab.json or tokenizer.json there, or in best/ or last/ below it, found none"
        % path
    )


def positions(folder):
    """How many tokens the model of a directory takes; 0 if it is none"""
    path = os.path.join(folder, "config.json")
    if not os.path.exists(path):
        return 0
    with open(path, encoding="utf-8") as f:
        try:
            config = json.load(f)
        except ValueError as e:
            raise Failure("%s: this is not JSON as expected: %s" % (path, e))
    found = config.get("n_positions", 0) if isinstance(config, dict) else 0
    return found if isinstance(found, int) else 0


def is_bpe(folder):
    """Of a folder with a tokenizer; as data/tokenize sees it"""
    has = lambda *names: any(os.path.exists(os.path.join(folder, n)) for n in names)
    if has("vocab.txt") or has("vocab.json", "encoder.json", "merges.txt", "vocab.bpe"):
        return not has("vocab.txt")
    with open(os.path.join(folder, "tokenizer.json"), encoding="utf-8") as f:
        try:
            return json.load(f)["model"]["type"] == "BPE"
        except (ValueError, LookupError, TypeError):
            return False  # data/tokenize says what is wrong with it


def copy_tokenizer(folder, to):
    for name in TOKENIZER_FILES:
        if os.path.exists(os.path.join(folder, name)):
            shutil.copyfile(os.path.join(folder, name), os.path.join(to, name))


def run_tokenize(folder, *words):
    """data/tokenize, called in this folder"""
    sys.stdout.flush()
    code = subprocess.call([os.path.abspath(tokenize_program()), *words], cwd=folder)
    if code > 0:
        raise Failure("")  # it has said what is wrong
    if code < 0:
        raise Failure("data/tokenize %s was ended by signal %d" % (words[0], -code))


def split_in_two(text, val_share):
    """The only document -> training part, validation part; cut at the end of a paragraph (else of a line, else between
    words)."""
    wanted = int(len(text) * (1 - val_share))
    for pattern in (r"\n[ \t]*\n", r"\n", r"\s"):
        ends = [m.end() for m in re.finditer(pattern, text)]
        if ends:
            cut = min(ends, key=lambda e: abs(e - wanted))
            return text[:cut], text[cut:]
    raise Failure("the only document is one word: there is nothing to split into training and validation text")


def spool(documents, file):
    """Writes documents one after the other. Returns (hash, offset, size) of each; empty ones and exact repetitions are
    left out."""
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


@contextlib.contextmanager
def making(out):
    """A folder to work in, inside the data directory; gone afterwards, whatever happened."""
    os.makedirs(out, exist_ok=True)
    try:
        work = tempfile.mkdtemp(prefix="making.", dir=out)
    except OSError as e:
        raise Failure("cannot write to %s: %s" % (out, e.strerror))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


# A data directory lists what a run made there, as sha256sum does. A later run replaces and removes these files alone,
# and only if they are unchanged.
MANIFEST = "made.sha256"
MANIFEST_HEAD = "# made by a data script, which may replace these files if they are unchanged\n"
OUTPUT = re.compile(r"(train|val|test|test_\w+)\.(bin|txt|tsv|jsonl)")
output_ids = {}  # (device, inode): path of the files in --out that this run may replace or remove


def remember_outputs(out, more=()):
    names = os.listdir(out) if os.path.isdir(out) else []
    for path in [
        os.path.join(out, n) for n in names if OUTPUT.fullmatch(n) or n in [*TOKENIZER_FILES, MANIFEST, *more]
    ]:
        if os.path.exists(path):
            found = os.stat(path)
            output_ids[found.st_dev, found.st_ino] = path


def refuse_output(path):
    """An input that is a file of --out, by whatever name, would be lost."""
    found = os.stat(path) if os.path.isfile(path) else None
    if found and (found.st_dev, found.st_ino) in output_ids:
        raise Usage(
            "%s: this input is the file %s, which the run may replace; give another --out"
            % (path, output_ids[found.st_dev, found.st_ino])
        )


def manifest_line(folder, name):
    return "%s  %s\n" % (sha256(os.path.join(folder, name)), name)


def read_manifest(out):
    """The lines of the manifest, None if there is none"""
    path = os.path.join(out, MANIFEST)
    if not os.path.lexists(path):
        return None
    with open(path, encoding="utf-8", errors="replace", newline="") as f:
        head, *lines = [*f] or [""]
    if head != MANIFEST_HEAD or os.path.islink(path):
        raise Usage(
            "%s: expected the list of what a data script made, found something else; remove it or give another --out"
            % path
        )
    return set(lines)


def write_manifest(work, out, lines):
    with open(os.path.join(work, MANIFEST), "w", encoding="utf-8", newline="") as f:
        f.write(MANIFEST_HEAD + "".join(sorted(lines)))
    os.replace(os.path.join(work, MANIFEST), os.path.join(out, MANIFEST))


def has_bin_magic(path):
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as f:
        return f.read(8) == b"tunebin\n"


def is_ours(out, name, manifest):
    """Did an earlier run make this file? Directories without a manifest are from before there was one: there a .bin
    file is known by its first bytes."""
    path = os.path.join(out, name)
    if os.path.islink(path) or not os.path.isfile(path):
        return False
    if manifest is None:
        return name.endswith(".bin") and has_bin_magic(path)
    return manifest_line(out, name) in manifest


def refuse_foreign(out, names, source):
    """Refuses to replace a file in `out` that no run made, unless `source`, a folder, holds the same bytes under this
    name. source None: the tokenizer is
    still to be learned. A tokenizer file that would stay beside another tokenizer is refused, too."""
    manifest = read_manifest(out)
    undecided = (
        TOKENIZER_FILES if source is None and manifest is None and has_bin_magic(os.path.join(out, "train.bin")) else []
    )
    for name in dict.fromkeys([*names, *TOKENIZER_FILES]):
        path = os.path.join(out, name)
        if not os.path.lexists(path) or name in undecided or is_ours(out, name, manifest):
            continue
        if (
            not source
            or not os.path.isfile(path)
            or not os.path.isfile(os.path.join(source, name))
            or not filecmp.cmp(path, os.path.join(source, name), shallow=False)
        ):
            raise Usage(
                "%s: the run would replace this file, which no data script made or which was changed since; remove it or give another --out"
                % path
            )


def output_names(args, parts, kept):
    """The files of these parts of the data. kept: the ending of the text"""
    return [part + ending for part in parts for ending in [".bin"] + ([kept] if args.keep_text else [])]


def put_in_place(work, out, names):
    """All is made: now the names, and the tokenizer's. Files of an earlier run that this one does not make must not
    stay beside them."""
    refuse_foreign(out, names, work)
    manifest = read_manifest(out)
    names = [n for n in dict.fromkeys([*TOKENIZER_FILES, *names]) if os.path.exists(os.path.join(work, n))]
    ours = [
        n
        for n in os.listdir(out)
        if (OUTPUT.fullmatch(n) or n in TOKENIZER_FILES + names) and is_ours(out, n, manifest)
    ]
    new = [
        n for n in names if n in ours or not os.path.lexists(os.path.join(out, n))
    ]  # what else is there has the same bytes, and stays the user's
    lines = {manifest_line(work, n) for n in new}
    write_manifest(
        work, out, lines | {manifest_line(out, n) for n in ours}
    )  # so that a run that is killed here can be repeated
    for name in new:
        os.replace(os.path.join(work, name), os.path.join(out, name))
    for name in set(ours) - set(new):
        os.remove(os.path.join(out, name))
    write_manifest(work, out, lines)


def finish(args, documents, val_documents=None):
    """Documents (strings, streamed) -> args.out. Which are for validation depends on their text and the seed only."""
    tokenizer = tokenizer_dir(args.tokenizer) if args.tokenizer else None
    refuse_foreign(args.out, output_names(args, ["train", "val"], ".txt"), tokenizer)
    with making(args.out) as work:
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
                for name, text in zip(
                    ("train.txt", "val.txt"), split_in_two(f.read().decode("utf-8").strip(), args.val_share)
                ):
                    if not text.strip():
                        raise Failure("the only document is too short to be split into training and validation text")
                    with open(in_work(name), "w", encoding="utf-8", newline="") as part:
                        part.write(text)
                val = train
            else:
                order = sorted(train, key=lambda d: hashlib.sha256(b"%d " % args.seed + d[0]).digest())
                chosen = set(order[: min(max(1, round(args.val_share * len(train))), len(train) - 1)])
                val = [d for d in train if d in chosen]
                train = [d for d in train if d not in chosen]
                copy_documents(f, train, in_work("train.txt"))
                copy_documents(f, val, in_work("val.txt"))
        print(
            "%d documents for training (%.1f MB), %d for validation (%.1f MB)"
            % (
                len(train),
                os.path.getsize(in_work("train.txt")) / 1e6,
                len(val),
                os.path.getsize(in_work("val.txt")) / 1e6,
            )
        )
        share = os.path.getsize(in_work("val.txt")) / (
            os.path.getsize(in_work("train.txt")) + os.path.getsize(in_work("val.txt"))
        )
        if val_documents is None and share > max(0.2, 2 * args.val_share):
            print(
                "note: %.0f %% of the text is for validation, since documents stay whole; more and smaller ones divide better"
                % (100 * share)
            )

        pack_text(args, work, tokenizer)


def pack_text(args, work, tokenizer, documents="eot"):
    """train.txt and val.txt in the folder `work` -> args.out, with this tokenizer or one learned from train.txt"""
    if tokenizer:
        copy_tokenizer(tokenizer, work)
    else:
        case = [] if args.tokenizer_type == "bpe" else ["--no-lower-case"] if args.cased else ["--lower-case"]
        run_tokenize(
            work,
            "learn",
            "--type",
            args.tokenizer_type,
            "--size",
            str(args.vocab_size),
            "--out",
            ".",
            *case,
            "train.txt",
        )
    for part in ("train", "val"):
        run_tokenize(
            work,
            "pack",
            "--tokenizer",
            ".",
            "--kind",
            "text",
            "--documents",
            documents,
            "--in",
            part + ".txt",
            "--out",
            part + ".bin",
        )
    bpe = is_bpe(work)
    put_in_place(work, args.out, output_names(args, ["train", "val"], ".txt"))
    out = shlex.quote(args.out.rstrip("/") or "/")
    print(
        "\nnext: ./train_%s"
        % ("gpt --data %s --out runs/gpt" if bpe else "bert --data %s --out runs/bert --max-len 32 --positions 128")
        % out
    )


# ---------------------------------------------------------------- what scripts share that download, and those that make
# rows to tune on
def source_flags(p, name, url, where, use, metavar="FILE|DIR", several=True):
    """--from, --url and --cache of a script that downloads"""
    p.add_argument("--from", dest="source", action="append" if several else "store", metavar=metavar, help=use)
    p.add_argument("--url", default=url, help=where + " (default %(default)s)")
    p.add_argument(
        "--cache",
        default=os.path.join(cache_dir(), name),
        metavar="DIR",
        help="where downloads are kept (default %(default)s)",
    )


def check_url(url, part, stands_for):
    if part not in url:
        raise Usage("--url: expected %s in place of %s, found %s" % (part, stands_for, url))


def row_flags(p, val_share, val_rows, kept):
    p.add_argument(
        "--val-share", type=float, default=val_share, metavar="X", help=val_rows + " (default %g)" % val_share
    )
    p.add_argument(
        "--seed", type=int, default=1, metavar="N", help="which rows these are, and those of --limit (default 1)"
    )
    p.add_argument("--limit", type=int, metavar="N", help="draw at most N rows of each part")
    p.add_argument(
        "--keep-text", action="store_true", help="leave the rows as %s in the data directory (default: no)" % kept
    )


def divide(args, files, rows, others, what, left_out, all_of=lambda row: row[:1]):
    """rows: of each part a list of (hash of the row's text, offset in the part's file, size, ...), its text being a
    `what`; all_of(row): the hashes of all
    such texts in a row. Rows of train one of whose texts is in one of the others, too, are counted, and left out if
    there are words for it (left_out).
    Without val a share of train becomes it: which rows depends on their text and the seed only, and rows of the same
    text stay on one side. Then --limit
    rows of each part are drawn."""
    draw = lambda row: hashlib.sha256(b"%d " % args.seed + row[0]).digest()

    def leave_out(part, texts):
        other = [r for r in rows["train"] if texts.isdisjoint(all_of(r))]
        if len(other) < len(rows["train"]):
            print(
                "%d rows of train have a %s that is in %s, too%s"
                % (len(rows["train"]) - len(other), what, part, left_out)
            )
        if left_out:
            rows["train"] = other

    for part in others:
        leave_out(part, {r[0] for r in rows[part]})
    if "val" not in rows:
        count = collections.Counter(r[0] for r in rows["train"])
        texts = sorted(count, key=lambda t: draw([t]))
        if len(texts) < 2:
            raise Failure(
                "expected at least 2 different %ss to divide into training and validation, found %d"
                % (what, len(texts))
            )
        chosen, want = set(), max(1, round(args.val_share * len(rows["train"])))
        for text in texts[:-1]:
            if want <= 0:
                break
            chosen.add(text)
            want -= count[text]
        rows["val"] = [r for r in rows["train"] if r[0] in chosen]
        rows["train"] = [r for r in rows["train"] if r[0] not in chosen]
        leave_out("val", chosen)
        files["val"] = files["train"]
    if args.limit:
        for part in rows:
            rows[part] = sorted(sorted(rows[part], key=draw)[: args.limit], key=lambda r: r[1])


def copy_spooled(source, rows, path):
    with open(path, "wb") as out:
        for row in rows:
            source.seek(row[1])
            out.write(source.read(row[2]))


def print_next(args, tokenizer, program, run):
    """The command that trains on what was made. run: what its --out is called where --out has no name"""
    is_model = any(
        os.path.exists(os.path.join(tokenizer, n)) for n in ("model.safetensors", "model.safetensors.index.json")
    )
    out = args.out.rstrip("/") or "/"
    print(
        "\nnext: ./%s --init %s --data %s --out runs/%s"
        % (
            program,
            shlex.quote(args.tokenizer) if is_model else "MODEL",
            shlex.quote(out),
            shlex.quote(os.path.basename(out) or run),
        )
    )


# ---------------------------------------------------------------- labelled rows -> a data directory
def classify_parser(description, examples, val_share=0.1, tokenizer_needed=True):
    """The flags of a script that makes rows to learn labels from."""
    p = plain_parser(description, examples)
    p.add_argument(
        "--tokenizer",
        required=tokenizer_needed,
        metavar="DIR",
        help="the model to be fine-tuned (a run or model directory), or a data directory: its vocabulary is used",
    )
    row_flags(
        p,
        val_share,
        "where there is no validation part, the share of the training rows that becomes one",
        "train.tsv, val.tsv, test.tsv",
    )
    return p


def check_row(text, text2, label, where):
    for name, value in (("text", text), ("second text", text2), ("label", label)):
        if value is None:
            continue
        if "\0" in value:
            raise Failure("%s: expected text, found a NUL character in the %s" % (where, name))
        if name == "label" and any(ord(c) < 32 or ord(c) == 127 for c in value.strip()):
            raise Failure("%s: expected a label without control characters, found %r" % (where, value))
        if not any(c.isalnum() for c in value) and all(
            c == "\ufffd" or unicodedata.category(c)[0] in "CZM" for c in value
        ):
            raise Failure(
                "%s: expected a %s, found %s" % (where, name, "nothing but white space" if value else "an empty one")
            )
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Failure("%s: expected Unicode, found half of a surrogate pair in the %s" % (where, name))


def spool_rows(rows, part, known, file):
    """Writes rows as JSON lines. Returns (hash of the text, offset, size, label) of each. known: the labels allowed,
    None: all."""
    found, offset, names = [], 0, {}
    for text, text2, label, where in rows:
        text2 = text2 if text2 and text2.strip() else None
        check_row(text, text2, label, where)
        label = label.strip()
        if known is not None and label not in known:
            listed = sorted(known)
            raise Failure(
                "%s: expected one of the labels %s%s, found %.60s"
                % (where, ", ".join(listed[:20]), " …" if len(listed) > 20 else "", label)
            )
        row = {"text": text, "label": label} if text2 is None else {"text": text, "text2": text2, "label": label}
        data = (json.dumps(row, ensure_ascii=False) + "\n").encode()
        file.write(data)
        digest = hashlib.sha256("\t".join(" ".join(t.split()) for t in (text, text2 or "")).encode()).digest()[:16]
        found.append((digest, offset, len(data), names.setdefault(label, label)))
        offset += len(data)
    if not found:
        raise Failure("there are no rows in the %s part of the input" % part)
    return found


def finish_classify(args, parts, labels=None, drop_overlap=False):
    """parts: {"train": rows, "val": rows, "test": rows} -> args.out, divided by divide(); train has to be there.
    labels: the names in their order
    (default: those found in train). drop_overlap: rows of train whose text is in val or test, too, are left out; else
    they are only counted."""
    tokenizer = tokenizer_dir(args.tokenizer)
    names = output_names(args, {*parts, "val"}, ".tsv")
    refuse_foreign(args.out, names, tokenizer)
    with making(args.out) as work, contextlib.ExitStack() as stack:
        in_work = lambda name: os.path.join(work, name)
        files, rows, known = {}, {}, set(labels) if labels else None
        for part in ("train", "val", "test"):
            if part in parts:
                files[part] = stack.enter_context(open(in_work(part + ".all"), "w+b"))
                rows[part] = spool_rows(parts[part], part, known, files[part])
                known = known or {r[3] for r in rows["train"]}
        divide(
            args,
            files,
            rows,
            [part for part in ("val", "test") if part in rows],
            "text",
            " and were left out" if drop_overlap else "",
        )
        if not rows["train"]:
            raise Failure("no rows are left for training: every text is in val or test, too")
        if not labels:
            known = {r[3] for r in rows["train"]}
            for part in rows:
                for label in {r[3] for r in rows[part]} - known:
                    raise Failure(
                        "label %s: expected rows of it for training, found them only for %s: take more rows, or another --seed or --val-share"
                        % (label, part)
                    )
        if len(known) < 2:
            raise Failure("expected at least 2 labels, found one: %s" % ", ".join(known))

        copy_tokenizer(tokenizer, work)
        for part in ("train", "val", "test"):
            if part in rows:
                copy_rows(files[part], rows[part], in_work(part))
                which = (
                    ["--labels", "train.bin"] if part != "train" else ["--labels", ",".join(labels)] if labels else []
                )
                run_tokenize(
                    work,
                    "pack",
                    "--tokenizer",
                    ".",
                    "--kind",
                    "classify",
                    "--in",
                    part + ".jsonl",
                    *which,
                    "--out",
                    part + ".bin",
                )
        put_in_place(work, args.out, names)
    print_next(args, tokenizer, "finetune_cls", "cls")


def copy_rows(source, rows, path):
    """-> path.jsonl, and path.tsv for people: text, second text if any row has one, label"""
    flat = lambda text: re.sub(r"[\t\n\r\v\f\x1c-\x1e\x85\u2028\u2029]", " ", text or "")
    copy_spooled(source, rows, path + ".jsonl")
    with open(path + ".jsonl", "rb") as lines:
        pairs = any(b'"text2": ' in line for line in lines)
    with (
        open(path + ".jsonl", encoding="utf-8", newline="\n") as lines,
        open(path + ".tsv", "w", encoding="utf-8", newline="\n") as out,
    ):
        out.write("text\ttext2\tlabel\n" if pairs else "text\tlabel\n")
        for line in lines:
            row = json.loads(line)
            out.write(
                "\t".join(flat(row.get(k)) for k in (["text", "text2", "label"] if pairs else ["text", "label"])) + "\n"
            )


# ---------------------------------------------------------------- rows of instructions -> a data directory
# A row is (object, where): what common/text/instruct_rows.h reads from a line of JSONL, and "FILE, line N" for errors.
# data/tokenize pack checks it.
def instruct_parser(description, examples, val_share=0.02):
    """The flags of a script that makes instructions to tune on."""
    p = plain_parser(
        description, examples, "the data directory to make: train.bin, val.bin, test_NAME.bin, tokenizer files"
    )
    p.add_argument(
        "--tokenizer",
        required=True,
        metavar="DIR",
        help="the model to be tuned (a run or model directory), or a data directory: its byte-level BPE is used",
    )
    p.add_argument(
        "--template",
        default="alpaca",
        metavar="NAME",
        help="alpaca, short, or a file with {instruction}, {input} and at its end {output} (default alpaca)",
    )
    p.add_argument(
        "--shots",
        type=int,
        metavar="K",
        help="0 to 2 of a row's worked examples are shown before its question, where it has them (default: as many as a template.json says, else 0)",
    )
    p.add_argument(
        "--max-len",
        type=int,
        default=0,
        metavar="T",
        help="tokens of the longest row (default: as many as the model of --tokenizer takes, or any if that is no model)",
    )
    p.add_argument(
        "--overlong",
        choices=["drop", "truncate", "error"],
        help="what happens to longer ones: left out; cut, but never their answer; refused (default drop)",
    )
    row_flags(
        p, val_share, "share of the rows for training that becomes val.bin", "train.jsonl, val.jsonl, test_NAME.jsonl"
    )
    return p


def check_instruct(args):
    check(args)
    if args.shots not in (None, 0, 1, 2):
        raise Usage("--shots: expected 0 to 2, found %d" % args.shots)
    if args.max_len < 0:
        raise Usage("--max-len: expected a number of tokens from 1, found %d" % args.max_len)
    if args.template not in ("alpaca", "short") and not os.path.isfile(args.template):
        raise Usage("--template: expected alpaca, short or a file, found %s" % args.template)


def questions_of(row):
    """What a row asks, as text without the answers: in the end, and before that in each earlier turn of a conversation.
    What one side of a split asks in
    the end must not be asked on the other, in any turn."""
    squeeze = lambda text: " ".join(text.split()) if isinstance(text, str) else ""
    if isinstance(row.get("messages"), list):
        asked = [
            (m.get("role"), squeeze(m.get("content")))
            for m in row["messages"]
            if isinstance(m, dict) and m.get("role") != "assistant"
        ]
        ends = [k for k in range(1, len(asked) + 1) if asked[k - 1][0] == "user"] or [len(asked)]
        return ["\n".join(text for _, text in asked[:k]) + "\t" for k in reversed(ends)]
    return [squeeze(row.get("instruction", row.get("prompt"))) + "\t" + squeeze(row.get("input"))]


def spool_instructions(rows, part, file):
    """Writes rows as JSON lines. Returns (hash of the last question, offset, size, where, hashes of all questions) of
    each."""
    found, offset = [], 0
    for row, where in rows:
        try:
            data = (json.dumps(row, ensure_ascii=False) + "\n").encode()
        except UnicodeEncodeError:
            raise Failure("%s: expected Unicode, found half of a surrogate pair" % where)
        file.write(data)
        asked = [hashlib.sha256(text.encode()).digest()[:16] for text in questions_of(row)]
        found.append((asked[0], offset, len(data), where, asked))
        offset += len(data)
    if not found:
        raise Failure("there are no rows in the %s part of the input" % part)
    return found


def run_pack(folder, part, rows, words):
    """data/tokenize pack; an error names the place where the row came from, not the line of our file"""
    sys.stdout.flush()
    run = subprocess.run(
        [
            os.path.abspath(tokenize_program()),
            "pack",
            "--tokenizer",
            ".",
            "--kind",
            "instruct",
            "--in",
            part + ".jsonl",
            "--out",
            part + ".bin",
            *words,
        ],
        cwd=folder,
        stderr=subprocess.PIPE,
    )
    message = run.stderr.decode("utf-8", "replace")
    at = re.search(r"^error: %s\.jsonl, line (\d+)" % re.escape(part), message, re.M)
    if at:
        message = message.replace("%s.jsonl, line %s" % (part, at[1]), rows[int(at[1]) - 1][3], 1)
    sys.stderr.write(message)
    if run.returncode < 0:
        raise Failure("data/tokenize pack was ended by signal %d" % -run.returncode)
    if run.returncode:
        raise (Usage if run.returncode == 2 else Failure)("")


def finish_instruct(args, parts):
    """parts: {"train": rows, "val": rows, "test_NAME": rows, ...} -> args.out, divided by divide(); train has to be
    there. Rows of train whose
    question is in another part, too, are left out and counted."""
    tokenizer = tokenizer_dir(args.tokenizer)
    if not is_bpe(tokenizer):
        raise Usage(
            "--tokenizer %s: expected byte-level BPE (vocab.json and merges.txt), found WordPiece" % args.tokenizer
        )
    words = [
        "--template",
        args.template if args.template in ("alpaca", "short") else os.path.abspath(args.template),
    ] + (["--shots", str(args.shots)] if args.shots is not None else [])
    max_len = args.max_len or positions(tokenizer)
    words += (["--max-len", str(max_len)] if max_len else []) + (["--overlong", args.overlong] if args.overlong else [])
    names = output_names(args, {*parts, "val"}, ".jsonl")
    refuse_foreign(args.out, names, tokenizer)
    with making(args.out) as work, contextlib.ExitStack() as stack:
        in_work = lambda name: os.path.join(work, name)
        files, rows = {}, {}
        for part in parts:
            files[part] = stack.enter_context(open(in_work(part + ".all"), "w+b"))
            rows[part] = spool_instructions(parts[part], part, files[part])
        divide(args, files, rows, sorted(set(parts) - {"train"}), "question", ", and were left out", lambda row: row[4])
        if not rows["train"]:
            raise Failure("no rows are left for training: every question is in another part, too")
        copy_tokenizer(tokenizer, work)
        order = ["train", "val"] + sorted(set(rows) - {"train", "val"})
        for part in order:
            copy_spooled(files[part], rows[part], in_work(part + ".jsonl"))
            run_pack(work, part, rows[part], words)
        put_in_place(work, args.out, names)
    print_next(args, tokenizer, "sft", "sft")


def read_json(path, kind, what):
    """A file that is one JSON value of this kind (dict, list), said in words"""
    try:
        with open(path, encoding="utf-8") as f:
            value = json.load(f)
    except (ValueError, RecursionError) as e:
        raise Failure("%s: expected %s, found something else: %s" % (path, what, e))
    if not isinstance(value, kind):
        raise Failure("%s: expected %s, found something else" % (path, what))
    return value


def json_rows(name, opener):
    """(object, where) of a file of JSON: an object a line (.jsonl), or one array of objects (.json)"""
    if os.path.splitext(inner_name(name))[1].lower() != ".json":
        for number, line in strict_lines(name, opener):
            where = "%s, line %d" % (name, number)
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as e:
                raise Failure("%s: expected a JSON object, found something else: %s" % (where, e))
            if not isinstance(row, dict):
                raise Failure("%s: expected a JSON object, found %.40s" % (where, line.strip()))
            yield row, where
        return
    try:
        rows = json.loads("".join(line for _, line in strict_lines(name, opener)))
    except (ValueError, RecursionError) as e:
        raise Failure("%s: expected a JSON array, found something else: %s" % (name, e))
    if not isinstance(rows, list):
        raise Failure("%s: expected a JSON array of objects, found %.40s" % (name, json.dumps(rows)))
    for number, row in enumerate(rows, 1):
        where = "%s, element %d" % (name, number)
        if not isinstance(row, dict):
            raise Failure("%s: expected a JSON object, found %.40s" % (where, json.dumps(row)))
        yield row, where


def drawn(names, seed, n):
    """n of the names (None: all) in a fixed order of the seed's; a smaller n gives the first of them"""
    order = sorted(names, key=lambda name: hashlib.sha256(("%s %s" % (seed, name)).encode()).digest())
    return order if n is None else order[:n]


def field(row, key, where, types=str):
    """row[key], of one of the types"""
    if not isinstance(row, dict):
        raise Failure("%s: expected an object with a key %s, found %.40s" % (where, key, json.dumps(row)))
    if key not in row:
        raise Failure("%s: expected a key %s, found none: %s" % (where, key, ", ".join(row)[:200]))
    if not isinstance(row[key], types):
        raise Failure(
            "%s: %s: expected %s, found %.40s"
            % (
                where,
                key,
                {str: "a string", list: "a list", dict: "an object"}.get(types, "a string or a list"),
                json.dumps(row[key]),
            )
        )
    return row[key]


def main(body):
    """Runs a script's body; errors become one line and an exit code."""
    try:
        body()
    except Failure as e:
        if str(e):
            sys.stderr.write("error: %s\n" % e)
        sys.exit(2 if isinstance(e, Usage) else 1)
    except OSError as e:
        sys.stderr.write("error: %s%s\n" % (e.strerror or e, ": " + e.filename if e.filename else ""))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; run the same command again, downloads go on where they stopped\n")
        sys.exit(130)
