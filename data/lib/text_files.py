"""Finding and opening files of text, also compressed and in zip archives; their lines and documents.

A file is a pair (name, opener): its name for messages, and a function that opens it for reading bytes.
"""

import bz2
import codecs
import gzip
import io
import lzma
import os
import sys
import zipfile
import zlib

from .data_dir import refuse_output
from .errors import Failure, Missing
from .files import check_member, nearest_entry
from .file_kinds import BOM, HEAD, check_begin

EOT = "<|endoftext|>"
READ_ERRORS = (OSError, EOFError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, RuntimeError)
COMPRESSED = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
ROW_ENDINGS = (".csv", ".tsv", ".jsonl", ".json")


def inner_name(path):
    """books.txt.xz -> books.txt"""
    stem, ending = os.path.splitext(path)
    return stem if ending.lower() in COMPRESSED else path


def unpacked_rows(file):
    """A file of rows, opened to read its bytes; of one that xz, gzip or bzip2 made, whatever it is called, as
    data/tokenize does it, what it holds"""
    begin = file.peek(8)
    for magic, opener in ((b"\xfd7zXZ", lzma.open), (b"\x1f\x8b", gzip.open), (b"BZh", bz2.open)):
        if begin.startswith(magic):
            return opener(file)
    return file


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
            raise Failure("cannot read %s: there is no such file or folder%s" % (path, nearest_entry(path)))
        files = [path]
        if os.path.isdir(path):
            files = folder_files(path, lambda name: name.endswith(".zip") or inner_name(name).endswith(endings))
            if not files:
                raise Failure(
                    "there is no text in the folder %s: expected files that end in %s "
                    "(or these with .xz, .gz, .bz2), or .zip" % (path, ", ".join(endings))
                )
        for file in files:
            if os.path.exists(file) and not os.path.isfile(file):  # reading would wait, or never end
                raise Failure("cannot read %s: expected a file, found a pipe or a device" % file)
            if file.lower().endswith(".zip"):
                yield from zip_members(file, endings)
            else:
                opener = COMPRESSED.get(os.path.splitext(file)[1].lower(), open)
                if inner_name(file).lower().endswith(ROW_ENDINGS):
                    opener = lambda file, mode: unpacked_rows(open(file, mode))
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
        check_member(archive.getinfo(member), path + ":" + member, 500)
        opener = unpacked_rows if inner_name(member).lower().endswith(ROW_ENDINGS) else lambda file: file
        yield path + ":" + member, lambda member=member, opener=opener: opener(archive.open(member))


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
    """Yields (number, bytes) of every line of a file, with its end, without the byte order mark that some programs
    write at a file's beginning."""
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
    except READ_ERRORS as e:
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
