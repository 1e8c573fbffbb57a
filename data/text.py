#!/usr/bin/env python3
"""Your own text -> train.bin, val.bin and a tokenizer."""

from lib.arguments import check_arguments
from lib.errors import Usage, run_script
from lib.text import text_parser, write_text_dataset
from lib.text_files import documents_of, text_files


def main():
    p = text_parser(
        __doc__,
        """\
  data/text.py notes.txt more.txt.gz --out datasets/mine
  data/text.py folder --documents file --out datasets/mine          every file of the folder is a document
  data/text.py mail.txt --documents blank --vocab-size 4096 --out datasets/mail
  data/text.py more.txt --tokenizer datasets/mine --out datasets/more   with the vocabulary of another data directory
""",
    )
    p.add_argument(
        "paths",
        nargs="*",
        metavar="FILE|DIR",
        help="text, also .xz, .gz, .bz2, .zip; of folders all files .txt and .md, and these compressed",
    )
    p.add_argument("--from", dest="source", action="append", default=[], metavar="FILE|DIR", help="the same")
    p.add_argument(
        "--documents",
        choices=["eot", "line", "blank", "file"],
        default="eot",
        help="a document ends at a line <|endoftext|> (eot), at every line, at a blank line, or only where its file "
        "ends; it always does there (default eot)",
    )
    args = p.parse_args()
    if not args.paths + args.source:
        raise Usage("expected files or folders, found none; see data/text.py --help")
    check_arguments(args)
    files = text_files(args.paths + args.source, (".txt", ".md", ".text"), args.encoding)
    write_text_dataset(args, documents_of(files, args.documents))


if __name__ == "__main__":
    run_script(main)
