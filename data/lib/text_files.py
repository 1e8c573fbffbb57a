"""Finding and opening files of text, also compressed and in zip archives; their lines, documents and JSON objects.

A file is a pair (name, opener): its name for messages, and a function that opens it for reading bytes.
"""

import bz2
import codecs
import gzip
import io
import itertools
import json
import lzma
import os
import re
import sys
import zipfile
import zlib

from .data_dir import refuse_output
from .errors import Failure, Missing
from .file_kinds import BOM, HEAD, check_begin

EOT = "<|endoftext|>"
COMPRESSED = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}


def inner_name(path):
    """books.txt.xz -> books.txt"""
    stem, ending = os.path.splitext(path)
    return stem if ending.lower() in COMPRESSED else path


def text_files(paths, endings, encoding="utf-8"):
    """A list of what list_files() yields. None of them may be an output of this run. encoding: what they are in, as
    Python names it"""
    files = list(list_files(paths, endings))
    for name, _ in files:
        refuse_output(name)
    return [(name, recoded(opener, encoding)) for name, opener in files]


def list_files(paths, endings):
    """Yields the files among the paths and, of folders, those with one of the endings (sorted). A zip archive counts as
    a folder."""
    for path in paths:
        if not os.path.exists(path):
            raise Failure("cannot read %s: there is no such file or folder" % path)
        files = [path]
        if os.path.isdir(path):
            files = folder_files(path, lambda name: name.endswith(".zip") or inner_name(name).endswith(endings))
            if not files:
                raise Failure(
                    "there is no text in the folder %s: expected files that end in %s "
                    "(or these with .xz, .gz, .bz2), or .zip" % (path, ", ".join(endings))
                )
        for file in files:
            if file.lower().endswith(".zip"):
                yield from zip_members(file, endings)
            else:
                opener = COMPRESSED.get(os.path.splitext(file)[1].lower(), open)
                yield file, lambda opener=opener, file=file: opener(file, "rb")


def is_system_name(name):
    """Of a file or folder: is it hidden, or an operating system's? Such are no data."""
    return name.startswith((".", "~$")) or name.lower() in ("__macosx", "thumbs.db", "desktop.ini", "$recycle.bin")


def tell_left_out(path, names):
    """Says which files with the right endings are no data."""
    if names:
        what = "hidden or system file%s, such as" % "s" if len(names) > 1 else "hidden or system file,"
        sys.stderr.write("note: left out of %s: %d %s %s\n" % (path, len(names), what, names[0]))


def folder_files(path, is_wanted):
    """The files in a folder for whose names, in lower case, is_wanted() holds, sorted. Links to folders are followed,
    but no folder is read twice."""

    def refuse(error):
        raise Failure("cannot read the folder %s: %s" % (error.filename, error.strerror))

    found, left_out, seen = [], [], set()
    for folder, subfolders, names in os.walk(path, onerror=refuse, followlinks=True):
        is_in = os.stat(folder)
        if (is_in.st_dev, is_in.st_ino) in seen:
            sys.stderr.write("note: %s is a link to a folder that is read already\n" % folder)
            subfolders.clear()
            continue
        seen.add((is_in.st_dev, is_in.st_ino))
        subfolders[:] = sorted((n for n in subfolders if not is_system_name(n)), key=lambda n: os.path.islink(n))
        for name in names:
            file = os.path.join(folder, name)
            if is_wanted(name.lower()):
                (left_out if is_system_name(name) else found).append(file)
            elif not os.path.exists(file):
                sys.stderr.write("note: %s is a link to nothing\n" % file)
    tell_left_out(path, sorted(left_out))
    return sorted(found)


def zip_members(path, endings):
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as e:
        raise Failure("cannot read %s: %s" % (path, e))
    wanted = sorted(m for m in archive.namelist() if inner_name(m).lower().endswith(endings))
    members = [m for m in wanted if not any(map(is_system_name, m.split("/")))]
    tell_left_out(path, sorted(set(wanted) - set(members)))
    if not members:
        raise Failure("there is no text in %s: expected members that end in %s" % (path, ", ".join(endings)))
    for member in members:
        yield path + ":" + member, lambda member=member: archive.open(member)


def base_name(name):
    """The name of a file without its folder, its archive and the ending of its compression"""
    return os.path.basename(inner_name(name).replace(":", "/"))


def find_named(paths, *names, encoding="utf-8"):
    """Of the files under the paths the first that has one of these names, compressed or not."""
    endings = tuple({os.path.splitext(n)[1] for n in names})
    found = {}
    for name, opener in list_files(paths, endings):
        found.setdefault(base_name(name), (name, recoded(opener, encoding)))
    for name in names:
        if name in found:
            refuse_output(found[name][0])
            return found[name]
    raise Missing("%s: expected a file %s there, found none" % (", ".join(paths), " or ".join(names)))


# ---------------------------------------------------------------- other encodings
class Recoded(io.RawIOBase):
    """A file in another encoding, read as UTF-8"""

    def __init__(self, file, encoding):
        self.file, self.encoding, self.rest = file, encoding, b""
        self.decoder = codecs.getincrementaldecoder(encoding)()

    def readable(self):
        return True

    def readinto(self, to):
        data = b"."
        while data and not self.rest:
            data = self.file.read(1 << 16)
            try:
                self.rest = self.decoder.decode(data, not data).encode()
            except UnicodeError as e:
                raise OSError("it is not in the encoding %s: %s" % (self.encoding, e))
        n = min(len(to), len(self.rest))
        to[:n], self.rest = self.rest[:n], self.rest[n:]
        return n

    def close(self):
        self.file.close()
        super().close()


def recoded(opener, encoding):
    """The opener of a file in this encoding: what it opens is UTF-8"""
    if codecs.lookup(encoding).name == "utf-8":
        return opener
    return lambda: io.BufferedReader(Recoded(opener(), encoding))


# ---------------------------------------------------------------- lines
MAX_LINE = 1 << 28  # bytes: what is longer is no text of lines, and does not fit into the memory of every machine


def byte_lines(name, opener):
    """Yields (number, bytes) of every line of a file, with its end, without the byte order mark that some programs write
    at a file's beginning."""
    try:
        with opener() as raw:
            f = io.BufferedReader(raw, HEAD)
            check_begin(f.peek(HEAD), name)
            number = 0
            while line := f.readline(MAX_LINE):
                number += 1
                if number == 1 and line.startswith(BOM):
                    line = line[len(BOM) :]
                if len(line) == MAX_LINE and line[-1:] != b"\n":
                    raise Failure(
                        "%s, line %d: expected lines of at most %d MB, found a longer one"
                        % (name, number, MAX_LINE >> 20)
                    )
                if line:
                    yield number, line
    except (OSError, EOFError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, RuntimeError) as e:
        raise Failure("cannot read %s: %s" % (name, getattr(e, "strerror", None) or e))


def strict_lines(name, opener):
    """Yields (number, line) of a file of UTF-8, with the lines' ends."""
    for number, line in byte_lines(name, opener):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as e:
            raise Failure(
                "%s, line %d: expected UTF-8, found the byte 0x%02x; convert it, if it is Windows-1252: iconv -f "
                "WINDOWS-1252 -t UTF-8 (text.py, classify.py, instructions.py also take --encoding cp1252)"
                % (name, number, line[e.start])
            )
        if "\0" in text:
            raise Failure("%s, line %d: expected text, found a NUL byte" % (name, number))
        yield number, text


def text_lines(name, opener):
    """Yields the lines of running text without their ends."""
    for _, line in strict_lines(name, opener):
        yield line.rstrip("\r\n")


def whole_text(name, opener):
    return "".join(line for _, line in strict_lines(name, opener))


# ---------------------------------------------------------------- JSON
def json_objects(name, opener):
    """Yields (object, where) of a file of JSON: an array of objects; an object a line; or objects one after the other,
    each on as many lines as it takes. Which of these it is, the first line that is not blank says, not the file's
    name."""
    lines = strict_lines(name, opener)
    number, line = next(((n, text) for n, text in lines if text.strip()), (1, ""))
    if line.lstrip().startswith("["):
        yield from array_objects(JsonText(name, number, line, lines))
    elif not is_whole(line):
        yield from JsonText(name, number, line, lines).objects()
    else:
        for number, line in itertools.chain([(number, line)], lines):
            where = "%s, line %d" % (name, number)
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as e:
                raise Failure("%s: expected a JSON object, found something else: %s" % (where, e))
            yield an_object(value, where), where


def an_object(value, where):
    if not isinstance(value, dict):
        raise Failure("%s: expected a JSON object, found %.40s" % (where, json.dumps(value)))
    return value


def is_whole(line):
    """Is it JSON, or broken JSON, and not the beginning of a value that goes on with the next line?"""
    try:
        json.loads(line)
    except json.JSONDecodeError as e:
        return e.pos < len(line.rstrip())
    except RecursionError:
        pass
    return True


class JsonText:
    """JSON values that take several lines, one after the other. Only the lines of one value are in memory."""

    SPACE = re.compile(r"[ \t\r\n]*")
    AT_ONCE = 1 << 16  # characters

    def __init__(self, name, number, line, lines):
        """line: the first one; its number; lines: (number, line) of those after it"""
        self.name, self.line, self.text, self.lines = name, number, line, lines
        self.at = 0  # in `text`; its line is `line`

    def move_to(self, at):
        self.line += self.text.count("\n", self.at, at)
        self.at = at

    def read_on(self, size):
        """Forgets what is before `at` and reads lines of at least so many characters. Is there anything?"""
        parts = [self.text[self.at :]]
        for _, line in self.lines:
            parts.append(line)
            size -= len(line)
            if size <= 0:
                break
        self.text, self.at = "".join(parts), 0
        return len(parts) > 1

    def next_mark(self):
        """Moves to the next character that is not white space and returns it; "" at the end"""
        self.move_to(self.SPACE.match(self.text, self.at).end())
        while self.at == len(self.text) and self.read_on(self.AT_ONCE):
            self.move_to(self.SPACE.match(self.text, self.at).end())
        return self.text[self.at : self.at + 1]

    def value(self):
        """The value here. A longer one is tried with twice as much text, again and again."""
        size = self.AT_ONCE
        while True:
            try:
                value, end = json.JSONDecoder().raw_decode(self.text, self.at)
                self.move_to(end)
                return value
            except RecursionError as e:
                self.refuse("a JSON object", "something else: %s" % e)
            except json.JSONDecodeError as e:
                place = e.pos - self.at
                if e.pos < len(self.text.rstrip()) or not self.read_on(size):
                    self.move_to(self.at + place)
                    self.refuse("a JSON object", "something else: %s" % e.msg)
            size *= 2

    def objects(self):
        while self.next_mark():
            where = "%s, line %d" % (self.name, self.line)
            yield an_object(self.value(), where), where

    def refuse(self, expected, found=None):
        found = found or ("%.40r" % self.text[self.at : self.at + 40] if self.next_mark() else "the end of the file")
        raise Failure("%s, line %d: expected %s, found %s" % (self.name, self.line, expected, found))


def array_objects(text):
    text.next_mark()
    text.move_to(text.at + 1)  # after the [
    for number in itertools.count(1):
        mark = text.next_mark()
        if number == 1 and mark == "]":
            break
        where = "%s, element %d" % (text.name, number)
        yield an_object(text.value(), where), where
        mark = text.next_mark()
        if mark == "]":
            break
        if mark != ",":
            text.refuse("a comma or ] after element %d of the JSON array" % number)
        text.move_to(text.at + 1)
    text.move_to(text.at + 1)
    if text.next_mark():
        text.refuse("nothing after the JSON array")


# ---------------------------------------------------------------- documents
def split_documents(lines, end="eot"):
    """Lines -> documents. end: a document ends at a line <|endoftext|> (eot), at every line (line), at a blank line
    (blank), or only where the file ends (file)."""
    document = []
    for line in lines:
        if end == "line":
            yield line
        elif (end == "eot" and line.strip() == EOT) or (end == "blank" and not line.strip()):
            yield "\n".join(document)
            document = []
        else:
            document.append(line)
    yield "\n".join(document)


def documents_of(files, end="eot"):
    """The documents of several files, one file after the other"""
    for file in files:
        yield from split_documents(text_lines(*file), end)
