#!/usr/bin/env python3
"""A sample of FineWeb-Edu or FineWeb (web pages in English, filtered; ODC-By 1.0) -> train.bin, val.bin and a
tokenizer. A document is a page.

The pages come a hundred at a time from Hugging Face's dataset viewer, which needs no Parquet: good for some ten
thousand of them (10,000 are about 45 MB). For more, convert the Parquet files to JSONL and give them with --from.
"""

import json
import os
import sys

from lib.arguments import check_arguments, check_url, source_flags
from lib.download import download, set_aside
from lib.errors import Failure, Usage, run_script
from lib.rows import field, json_objects
from lib.text import text_parser, write_text_dataset
from lib.text_files import inner_name, split_documents, text_files, text_lines

URL = (
    "https://datasets-server.huggingface.co/rows?dataset=HuggingFaceFW%2F{name}&config=sample-10BT&split=train"
    "&offset={offset}&length=100"
)
PAGE = 100  # rows of one request, the most that the server gives


def downloaded(args):
    """The texts of rows 0 ... args.documents - 1. Each hundred is a file in the cache, so that a run that was
    interrupted continues."""
    texts = 0
    for offset in range(0, args.documents, PAGE):
        path = os.path.join(args.cache, args.name, "rows-%08d.json" % offset)
        was_there = os.path.exists(path)
        if not was_there:
            sys.stderr.write(
                "%s: pages %d to %d of %d\n"
                % (args.name, offset + 1, min(offset + PAGE, args.documents), args.documents)
            )
        download(args.url.replace("{name}", args.name).replace("{offset}", str(offset)), path, attempts=8)
        try:
            with open(path, encoding="utf-8") as f:
                rows = [row["row"]["text"] for row in json.load(f)["rows"]]
            if not all(isinstance(text, str) for text in rows):
                raise TypeError
        except (ValueError, LookupError, TypeError):
            set_aside(path) if was_there else os.remove(path)
            raise Failure(
                '%s: expected {"rows": [{"row": {"text": ...}}, ...]}, found something else; '
                "run the same command again, later" % path
            )
        yield from rows[: args.documents - offset]
        texts += len(rows)
        if len(rows) < PAGE and texts < args.documents:
            sys.stderr.write("note: there are only %d pages\n" % texts)
            return


def local(paths, encoding):
    """Of .jsonl and .json files the key "text" of every row; of .txt files the documents between lines <|endoftext|>"""
    for name, opener in text_files(paths, (".jsonl", ".json", ".txt"), encoding):
        if inner_name(name).lower().endswith((".jsonl", ".json")):
            yield from (field(row, "text", where) for row, where in json_objects(name, opener))
        else:
            yield from split_documents(text_lines(name, opener))


def main():
    p = text_parser(
        __doc__,
        """\
  data/fineweb.py --out datasets/web                                     10,000 pages of FineWeb-Edu
  data/fineweb.py --name fineweb --documents 2000 --out datasets/web
  data/fineweb.py --from pages.jsonl.gz --vocab-size 16384 --out datasets/web
""",
        "bpe",
    )
    p.add_argument(
        "--name",
        choices=["fineweb-edu", "fineweb"],
        default="fineweb-edu",
        help="which of the two (default fineweb-edu)",
    )
    p.add_argument("--documents", type=int, default=10000, metavar="N", help="how many pages (default 10000)")
    source_flags(
        p,
        "fineweb",
        URL,
        "where 100 rows of {name} from {offset} on are",
        "use these .jsonl or .json (key text) or .txt files, also .xz, .gz, .bz2, .zip, and download nothing",
    )
    args = p.parse_args()
    if args.documents < 1:
        raise Usage("--documents: expected a number from 1, found %d" % args.documents)
    check_url(args.url, "{offset}", "the first row's number")
    check_arguments(args)
    write_text_dataset(args, local(args.source, args.encoding) if args.source else downloaded(args))


if __name__ == "__main__":
    run_script(main)
