#!/usr/bin/env python3
"""SST-2 (GLUE: phrases of film reviews, negative or positive) -> train.bin (67,349 rows), val.bin (872: GLUE's dev)
and, with --with-test, test.bin.

GLUE's own test.tsv has no labels; --with-test fetches the 1,821 labelled sentences of the Stanford Sentiment Treebank's
test part. Rows of train that are in val or test, too, are left out and counted.
"""

import os

from lib.arguments import check_arguments, source_flags
from lib.classify import classify_parser, write_classify_dataset
from lib.download import download
from lib.errors import Failure, Missing, bad_rows, run_script
from lib.rows import file_blocks, labelled
from lib.text_files import find_named, strict_lines

URL = "https://dl.fbaipublicfiles.com/glue/data/SST-2.zip"
CHECKSUM = "d67e16fb55739c1b32cdce9877596db1c127dc322d93c082281f64057c16deaa"
TEST_URL = (
    "https://raw.githubusercontent.com/awake020/pytorch_Bert_sst2/54e22ca58a656750f474ec61ebccaf5ff596de96/"
    "SST-2/test.tsv"
)
TEST_CHECKSUM = "fcd46f967b7b8efd8b5398481dadf873886298d092195167af907fd532e81e1c"
NAMES = {
    "train": ("train.tsv", "sst2_glue_train.tsv"),
    "val": ("dev.tsv", "sst2_dev.tsv"),
    "test": ("test.tsv", "sst2_test_labelled.tsv"),
}
LABELS = {"0": "negative", "1": "positive"}


def columns(name, opener):
    """The names in the first line: the files differ in their order and in the name of the text."""
    return next((line.rstrip("\r\n").split("\t") for _, line in strict_lines(name, opener)), [])


def rows(name, opener):
    text = "content" if "content" in columns(name, opener) else "sentence"
    for sentence, _, label, where in labelled(name, ["--text=" + text], None, lambda: file_blocks(name, opener)):
        if label not in LABELS:
            bad_rows.add("%s: expected the label 0 or 1, found %.40s" % (where, label))
        else:
            yield sentence.strip(), None, LABELS[label], where


def main():
    p = classify_parser(
        __doc__,
        """\
  data/sst2.py --tokenizer runs/bert --out datasets/sst2
  data/sst2.py --with-test --tokenizer models/bert-base-uncased --out datasets/sst2
  data/sst2.py --from SST-2.zip --limit 4000 --tokenizer runs/bert --out datasets/sst2_small
""",
    )
    p.add_argument("--with-test", action="store_true", help="also fetch the labelled test part")
    source_flags(
        p,
        "sst2",
        URL,
        "where the zip archive is",
        "use these files (train.tsv, dev.tsv; test.tsv if it has labels) and download nothing",
    )
    p.add_argument("--test-url", default=TEST_URL, help="where the labelled test part is (default %(default)s)")
    args = p.parse_args()
    check_arguments(args)
    source = args.source
    if not source:
        source = [download(args.url, os.path.join(args.cache, "SST-2.zip"), CHECKSUM)]
    files = {part: find_named(source, *NAMES[part]) for part in ("train", "val")}
    if args.source:
        try:
            files["test"] = find_named(source, *NAMES["test"])
        except Missing:
            if args.with_test:
                raise
        else:
            if "label" not in columns(*files["test"]):
                if args.with_test:
                    raise Failure("%s: expected a column label, found none (GLUE keeps them)" % files["test"][0])
                print("note: %s has no labels (GLUE keeps them): no test.bin" % files.pop("test")[0])
    elif args.with_test:
        path = download(args.test_url, os.path.join(args.cache, "test_labelled.tsv"), TEST_CHECKSUM)
        files["test"] = path, lambda: open(path, "rb")
    write_classify_dataset(
        args, {part: rows(*file) for part, file in files.items()}, ["negative", "positive"], drop_overlap=True
    )


if __name__ == "__main__":
    run_script(main)
