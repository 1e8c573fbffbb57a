"""Finding and opening files of text, also compressed and in zip archives; their lines and documents.

A file is a pair (name, opener): its name for messages, and a function that opens it for reading bytes.
"""

import bz2
import gzip
import io
import lzma
import os
import sys
import zipfile
import zlib

from .data_dir import refuse_output
from .errors import Failure, Missing
from .files import check_member

EOT = "<|endoftext|>"
COMPRESSED = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}


def inner_name(path):
    """books.txt.xz -> books.txt"""
    stem, ending = os.path.splitext(path)
    return stem if ending.lower() in COMPRESSED else path


def text_files(paths, endings):
    """A list of what list_files() yields. None of them may be an output of this run."""
    files = list(list_files(paths, endings))
    for name, _ in files:
        refuse_output(name)
    return files


def list_files(paths, endings):
    """Yields the files among the paths and, of folders, those with one of the endings (sorted). A zip archive counts as
    a folder."""
    for path in paths:
        if not os.path.exists(path):
            raise Failure("cannot read %s: there is no such file or folder" % path)
        files = [path]
        if os.path.isdir(path):
            files = sorted(
                os.path.join(folder, name)
                for folder, _, names in os.walk(path)
                for name in names
                if inner_name(name).lower().endswith(endings) or name.lower().endswith(".zip")
            )
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


def zip_members(path, endings):
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as e:
        raise Failure("cannot read %s: %s" % (path, e))
    members = sorted(m for m in archive.namelist() if inner_name(m).lower().endswith(endings))
    if not members:
        raise Failure("there is no text in %s: expected members that end in %s" % (path, ", ".join(endings)))
    for member in members:
        check_member(archive.getinfo(member), path + ":" + member, 500)
        yield path + ":" + member, lambda member=member: archive.open(member)


def base_name(name):
    """The name of a file without its folder, its archive and the ending of its compression"""
    return os.path.basename(inner_name(name).replace(":", "/"))


def find_named(paths, *names):
    """Of the files under the paths the first that has one of these names, compressed or not."""
    endings = tuple({os.path.splitext(n)[1] for n in names})
    found = {}
    for name, opener in list_files(paths, endings):
        found.setdefault(base_name(name), (name, opener))
    for name in names:
        if name in found:
            refuse_output(found[name][0])
            return found[name]
    raise Missing("%s: expected a file %s there, found none" % (", ".join(paths), " or ".join(names)))


def byte_lines(name, opener):
    """Yields (number, bytes) of every line of a file, with its end."""
    try:
        with opener() as f:
            yield from enumerate(io.BufferedReader(f) if isinstance(f, io.RawIOBase) else f, 1)
    except (OSError, EOFError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, RuntimeError) as e:
        raise Failure("cannot read %s: %s" % (name, getattr(e, "strerror", None) or e))


def without_bom(number, line):
    """The line without the byte order mark that some programs write at a file's beginning"""
    return line[1:] if number == 1 and line[:1] == "\ufeff" else line


def text_lines(name, opener):
    """Yields the lines of running text without their ends. Lines that are not UTF-8 are read as Windows-1252, counted
    and reported."""
    not_utf8 = 0
    for number, line in byte_lines(name, opener):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            text = line.decode("cp1252", "replace")
            not_utf8 += 1
        yield without_bom(number, text).rstrip("\r\n")
    if not_utf8:
        sys.stderr.write("note: %d lines of %s are not UTF-8 and were read as Windows-1252\n" % (not_utf8, name))


def strict_lines(name, opener):
    """Yields (number, line) of a file of rows, with the lines' ends. Here a line that is not UTF-8 is an error."""
    for number, line in byte_lines(name, opener):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as e:
            raise Failure(
                "%s, line %d: expected UTF-8, found the byte 0x%02x; convert it: iconv -f WINDOWS-1252 -t UTF-8"
                % (name, number, line[e.start])
            )
        yield number, without_bom(number, text)


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
