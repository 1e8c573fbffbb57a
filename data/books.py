#!/usr/bin/env python3
"""Books of Project Gutenberg, by number -> train.bin, val.bin and a tokenizer. A book is a document, so that none is in
both parts."""

import os
import re
import sys

from lib.arguments import check_arguments, check_url, source_flags
from lib.download import download
from lib.errors import Usage, run_script
from lib.text import text_parser, write_text_dataset
from lib.text_files import documents_of, text_files

# Novels and tales in English, in the public domain in the United States: about 40 MB
DEFAULT = [
    int(n)
    for n in """
    11 12 16 33 35 36 43 45 46 55 73 74 76 77 78 84 98 103 105 110 113 120 121 135 140 141 145 146 155
    158 160 161 164 174 201 203 209 215 219 233 236 244 271 289 345 500 514 521 541 583 730 766 768 805
    829 863 910 996 1184 1257 1260 1268 1342 1399 1400 1661 2413 2554 2591 2600 2701 2814 2852 28054
    64317
""".split()
]
URL = "https://www.gutenberg.org/cache/epub/{n}/pg{n}.txt"

START = re.compile(r"\*\*\* ?START OF (THE|THIS) PROJECT GUTENBERG|\*END\*? ?THE SMALL PRINT", re.I)
END = re.compile(r"\*\*\* ?END OF (THE|THIS) PROJECT GUTENBERG|^\s*End of (the |this )?Project Gutenberg", re.I)
CREDITS = re.compile(r"\s*\[?(Produced by|E-?text prepared by|This e-?text was|Transcribed (from|by)|\*\*\*)", re.I)


def strip_gutenberg(text):
    """Without the licence before and after the book, and without the paragraphs of credits at its beginning."""
    lines = text.split("\n")
    starts = [i for i, line in enumerate(lines) if START.search(line)]
    if starts:
        lines = lines[starts[0] + 1 :]
    ends = [i for i, line in enumerate(lines) if END.search(line)]
    if ends:
        lines = lines[: ends[0]]
    paragraphs = re.split(r"\n[ \t]*\n", "\n".join(lines).strip())
    while len(paragraphs) > 1 and CREDITS.match(paragraphs[0]):
        paragraphs.pop(0)
    return "\n\n".join(paragraphs).strip()


def downloaded(numbers, url, cache):
    for i, n in enumerate(numbers):
        path = os.path.join(cache, "pg%d.txt" % n)
        if not os.path.exists(path):
            sys.stderr.write("book %d of %d: number %d\n" % (i + 1, len(numbers), n))
        download(url.replace("{n}", str(n)), path)
        yield path, lambda path=path: open(path, "rb")


def main():
    p = text_parser(
        __doc__,
        """\
  data/books.py --out datasets/books                       %d well-known novels and tales
  data/books.py 11 12 1342 --vocab-size 4096 --out datasets/three
  data/books.py --from books/ --out datasets/books         local files; a line <|endoftext|> ends a book within a file
"""
        % len(DEFAULT),
    )
    p.add_argument(
        "numbers", nargs="*", type=int, metavar="NUMBER", help="numbers of books (default: a list of %d)" % len(DEFAULT)
    )
    source_flags(
        p, "gutenberg", URL, "where book {n} is", "use these files, also .xz, .gz, .bz2, .zip, and download nothing"
    )
    args = p.parse_args()
    if args.source and args.numbers:
        raise Usage("expected either numbers of books or --from, found both")
    if any(n < 1 for n in args.numbers):
        raise Usage("expected numbers of books from 1, found %d" % min(args.numbers))
    check_url(args.url, "{n}", "the book's number")
    check_arguments(args)
    files = (
        text_files(args.source, (".txt", ".md"), args.encoding)
        if args.source
        else downloaded(args.numbers or DEFAULT, args.url, args.cache)
    )
    write_text_dataset(args, map(strip_gutenberg, documents_of(files)))


if __name__ == "__main__":
    run_script(main)
