#!/usr/bin/env python3
"""Your own text -> train.bin, val.bin and a tokenizer."""

import itertools

import common


def body():
    p = common.parser(
        __doc__,
        """\
  data/text.py notes.txt more.txt.gz --out data/mine
  data/text.py folder --documents file --out data/mine          every file of the folder is a document
  data/text.py mail.txt --documents blank --vocab-size 4096 --out data/mail
  data/text.py more.txt --tokenizer data/mine --out data/more   with the vocabulary of another data directory
""",
    )
    p.add_argument(
        "paths",
        nargs="*",
        metavar="FILE|DIR",
        help="UTF-8 text, also .xz, .gz, .bz2, .zip; of folders all files .txt and .md, and these compressed",
    )
    p.add_argument("--from", dest="source", action="append", default=[], metavar="FILE|DIR", help="the same")
    p.add_argument(
        "--documents",
        choices=["eot", "line", "blank", "file"],
        default="eot",
        help="a document ends at a line <|endoftext|>, at every line, at a blank line, or only where its file ends; it always does there and at a line <|endoftext|> (default eot)",
    )
    args = p.parse_args()
    if not args.paths + args.source:
        raise common.Usage("expected files or folders, found none; see data/text.py --help")
    common.check(args)
    files = common.text_files(args.paths + args.source, (".txt", ".md", ".text"))
    common.finish(
        args, itertools.chain.from_iterable(common.documents_of(common.lines_of(*f), args.documents) for f in files)
    )


if __name__ == "__main__":
    common.main(body)
