#!/usr/bin/env python3
"""Your own rows of text and label -> train.bin, val.bin, test.bin to learn labels from.

A file is .csv (RFC 4180), .tsv (no quoting) or .jsonl, also .gz, .xz, .bz2, .zip. Its first line names the columns:
text and label are needed, text2 is a second text (a question and its answer, say). Without --val a fraction of the rows
becomes the validation part: the same rows at every call, and rows of the same text together.
"""

from lib.arguments import check_arguments, encoding_flag
from lib.classify import classify_parser, write_classify_dataset
from lib.errors import Usage, run_script
from lib.rows import labelled_rows


def main():
    p = classify_parser(
        __doc__,
        """\
  data/classify.py reviews.csv --tokenizer runs/bert --out datasets/mine
  data/classify.py train.tsv --val dev.tsv --test test.tsv --text sentence --label class \\
      --tokenizer runs/bert --out datasets/mine
  data/classify.py mail.csv --no-header --text 3 --label 1 --tokenizer runs/bert --out datasets/mail
""",
    )
    p.add_argument("train", metavar="FILE", help="the rows to learn from")
    p.add_argument(
        "--val",
        metavar="FILE",
        help="the rows to validate with (default: a fraction of the others, see --val-fraction)",
    )
    p.add_argument("--test", metavar="FILE", help="rows that become test.bin")
    p.add_argument("--text", "--text-column", dest="text", metavar="NAME", help="the column of the text (default text)")
    p.add_argument(
        "--text2",
        "--text2-column",
        dest="text2",
        metavar="NAME",
        help="the column of the second text (default text2 where there is one)",
    )
    p.add_argument(
        "--label", "--label-column", dest="label", metavar="NAME", help="the column of the label (default label)"
    )
    p.add_argument(
        "--no-header",
        action="store_true",
        help="the first line is a row, too; the columns are called 1, 2, 3 …: --text 2 --label 1",
    )
    encoding_flag(p)
    args = p.parse_args()
    if args.no_header and not (args.text and args.label):
        raise Usage(
            "--no-header: expected the numbers of the columns, --text N --label N, found %s"
            % ("no --label" if args.text else "no --text")
        )
    names = [args.text or "text", args.text2 or "text2", args.label or "label"]
    if len(set(names)) < 3:
        raise Usage("--text, --text2, --label: expected three different columns, found %s" % ", ".join(names))
    check_arguments(args)
    files = {"train": args.train, "val": args.val, "test": args.test}
    parts = {
        part: labelled_rows(
            path, args.text or "text", args.text2, args.label or "label", not args.no_header, args.encoding
        )
        for part, path in files.items()
        if path
    }
    write_classify_dataset(args, parts)


if __name__ == "__main__":
    run_script(main)
