"""What a file is that is not UTF-8 text, and reading one that is.

common/base/files.h says the same, in the same words (test/scripts/test_file_kinds.py compares them).
"""

import json

from .errors import Failure
from .files import open_regular

HEAD = 1 << 16  # so many bytes of a file's beginning say what it is
BOM = b"\xef\xbb\xbf"  # the byte order mark that may begin a file of UTF-8; it is not part of the text
UNPACK, SAVE, NONE = "unpack it first", "save it as plain text first", "give a file of text"
CONVERT, OFFICE = "convert it to JSON lines first", "an Office document (.docx, .xlsx or .pptx)"
WRITTEN = (  # in characters, as a text is
    (0, b"%PDF-", "a PDF document", SAVE),
    (0, b"%!PS-Adobe", "a PostScript document", SAVE),
    (0, b"{\\rtf", "an RTF document", SAVE),
    (0, b"version https://git-lfs.github.com/spec/", "a Git LFS pointer", "fetch the file itself with git lfs pull"),
)
BINARY = (
    (0, b"\xff\xfe\0\0", "UTF-32", None),
    (0, b"\0\0\xfe\xff", "UTF-32", None),
    (0, b"\xff\xfe", "UTF-16", None),
    (0, b"\xfe\xff", "UTF-16", None),
    (30, b"mimetypeapplication/epub+zip", "an EPUB book", SAVE),
    (30, b"mimetypeapplication/vnd.oasis", "an OpenDocument file", SAVE),
    (30, b"mimetype", "an EPUB book or OpenDocument file", SAVE),
    (30, b"[Content_Types].xml", OFFICE, SAVE),
    (30, b"_rels/", OFFICE, SAVE),
    (30, b"docProps/", OFFICE, SAVE),
    (0, b"PK\3\4", "a zip archive", UNPACK),
    (0, b"PK\5\6", "an empty zip archive", NONE),
    (0, b"\x1f\x8b", "a gzip archive", UNPACK),
    (0, b"\x1f\x9d", "a compressed file (.Z)", UNPACK),
    (0, b"BZh", "a bzip2 archive", UNPACK),
    (0, b"\xfd7zXZ\0", "an xz archive", UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive", UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (0, b"Rar!", "a rar archive", UNPACK),
    (0, b"\4\x22\x4d\x18", "an lz4 archive", UNPACK),
    (257, b"ustar", "a tar archive", UNPACK),
    (0, b"\xd0\xcf\x11\xe0", "an old Office document (.doc, .xls or .ppt)", SAVE),
    (0, b"\x89PNG", "a PNG image", NONE),
    (0, b"\xff\xd8\xff", "a JPEG image", NONE),
    (0, b"GIF8", "a GIF image", NONE),
    (0, b"II*\0", "a TIFF image", NONE),
    (0, b"MM\0*", "a TIFF image", NONE),
    (8, b"WEBP", "a WebP image", NONE),
    (8, b"WAVE", "a sound file", NONE),
    (0, b"ID3", "a sound file", NONE),
    (0, b"OggS", "a sound file", NONE),
    (0, b"fLaC", "a sound file", NONE),
    (4, b"ftyp", "a video or sound file", NONE),
    (0, b"PAR1", "a Parquet file", CONVERT),
    (0, b"ARROW1", "an Arrow file", CONVERT),
    (0, b"SQLite format 3", "an SQLite database", CONVERT),
    (0, b"\x89HDF", "an HDF5 file", NONE),
    (0, b"\x93NUMPY", "a NumPy array", NONE),
    (0, b"\x7fELF", "a program (ELF)", NONE),
    (0, b"MZ", "a program (.exe)", NONE),
    (0, b"GGUF", "a model (GGUF)", NONE),
    (4, b"\0\0\0\0{", "a model (safetensors)", NONE),
    (0, b"tunebin\n", "a packed .bin file", "give the text that it was made from"),
)


def wide_text(begin):
    """UTF-16 and UTF-32 without a byte order mark, as their NUL bytes show it: every character of ASCII has one or
    three."""
    n = min(len(begin), 4096) // 4
    nul = [begin[i : 4 * n : 4].count(0) for i in range(4)]
    even, odd = nul[0] + nul[2], nul[1] + nul[3]
    if n and nul[2] == n and nul[3] == n and nul[0] == 0:
        return "UTF-32LE"
    if n and nul[0] == n and nul[1] == n and nul[3] == 0:
        return "UTF-32BE"
    if odd > n // 4 + 1 and even == 0:
        return "UTF-16LE"
    if even > n // 4 + 1 and odd == 0:
        return "UTF-16BE"
    return None


def is_clean(begin):
    """Is it UTF-8 without a NUL, but for a character that is cut off at its end?"""
    try:
        begin.decode("utf-8")
    except UnicodeDecodeError as e:
        return e.reason == "unexpected end of data" and b"\0" not in begin
    return b"\0" not in begin


def not_text(begin):
    """ "" if `begin`, the first bytes of a file, may be those of UTF-8 text; else what the file is and what to do about
    it: "a gzip archive: unpack it first" """
    begin = begin[:HEAD]
    for at, signature, what, advice in WRITTEN:
        if begin.startswith(signature, at):
            return what + ": " + advice
    if is_clean(begin):
        return ""
    wide = "%.6s text: convert it first, iconv -f %s -t UTF-8"
    for at, signature, what, advice in BINARY:
        if begin.startswith(signature, at):
            return what + ": " + advice if advice else wide % (what, what)
    found = wide_text(begin)
    return wide % (found, found) if found else ""


def check_begin(begin, name):
    """Fails if the first bytes of a file are not those of text."""
    found = not_text(begin)
    if found:
        raise Failure("%s: expected UTF-8 text, found %s" % (name, found))


def decode_text(data, name):
    """The bytes of a file of UTF-8, checked, as text without its byte order mark"""
    check_begin(data, name)
    try:
        text, at = data.decode("utf-8"), data.find(0)
    except UnicodeDecodeError as e:
        text, at = None, e.start
    if at >= 0:
        what = "text, found a NUL byte" if data[at] == 0 else "UTF-8, found the byte 0x%02x" % data[at]
        raise Failure("%s, line %d: expected %s" % (name, data.count(b"\n", 0, at) + 1, what))
    return text[1:] if text[:1] == "\ufeff" else text


def read_text(path, name=None):
    """A file of UTF-8, as decode_text() has it. name: what messages call it"""
    with open_regular(path, name) as f:
        return decode_text(f.read(), name or path)


def read_json(path, kind, expected, name=None):
    """A file that is one JSON value of this kind (dict, list). expected: the kind in words"""
    text = read_text(path, name)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise Failure("%s: expected %s, found something else: %s" % (name or path, expected, e))
    if not isinstance(value, kind):
        raise Failure("%s: expected %s, found something else" % (name or path, expected))
    return value
