#!/usr/bin/env python3
"""Your own rows of text and label -> train.bin, val.bin, test.bin to learn labels from.

A file is .csv (RFC 4180), .tsv (no quoting), .jsonl or .parquet, also .gz, .xz, .bz2, .zst, .zip. Its first line names
the columns: text and label are needed, text2 is a second text (a question and its answer, say). Without --val a
fraction of the rows becomes the validation part: the same rows at every call, and rows of the same text together.
"""

import itertools

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
    p.add_argument(
        "train", nargs="?", metavar="FILE|DIR", help="the rows to learn from; a folder has LABEL/*.txt, a text each"
    )
    p.add_argument(
        "--class",
        dest="classes_given",
        action="append",
        default=[],
        metavar="LABEL=FILE",
        help="a file whose rows all have this label: .csv, .tsv or .jsonl, or any other with a text on each line; may "
        "be repeated",
    )
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
    p.add_argument(
        "--classes", metavar="FILE", help="the names of the classes, one a line, for labels that are numbers"
    )
    p.add_argument("--first-class", choices=["0", "1"], default="0", help="the number of the first of them (default 0)")
    args = p.parse_args()
    if not args.train and not args.classes_given:
        raise Usage("expected FILE, a folder or --class LABEL=FILE, found neither; see data/classify.py --help")
    for given in args.classes_given:
        if not all(given.partition("=")[::2]):
            raise Usage("--class: expected LABEL=FILE, found %s" % given)
    check_arguments(args)
    columns = {"text": args.text, "text2": args.text2, "label": args.label, "classes": args.classes}
    flags = ["--%s=%s" % (flag, value) for flag, value in columns.items() if value is not None]
    flags += ["--first-class=" + args.first_class] + (["--no-header"] if args.no_header else [])
    read = lambda path, label=None: labelled_rows(path, flags, label, args.encoding)
    train = [read(args.train)] if args.train else []
    train += [read(path, label) for label, _, path in (given.partition("=") for given in args.classes_given)]
    parts = {"train": itertools.chain(*train)}
    parts.update((part, read(path)) for part, path in (("val", args.val), ("test", args.test)) if path)
    write_classify_dataset(args, parts)


if __name__ == "__main__":
    run_script(main)
