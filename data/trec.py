#!/usr/bin/env python3
"""TREC questions (Li and Roth 2002: what kind of answer a question wants) -> train.bin, val.bin, test.bin (500 rows).

There are 6 classes: ABBR, DESC, ENTY, HUM, LOC, NUM; with --fine the 50 below them, such as NUM:dist. A fraction of the
5,452 training rows is for validation.
"""

# To add a classification data set, copy this file: it says where the files are, what their SHA-256 is, and how a line
# becomes a row; lib/ does the rest. Its test to copy is Corpora.test_trec in test/scripts/test_classify_data.py.

import os

from lib.arguments import check_arguments, check_url, source_flags
from lib.classify import classify_parser, write_classify_dataset
from lib.download import download
from lib.errors import Failure, run_script
from lib.text_files import byte_lines, find_named

URL = "https://cogcomp.seas.upenn.edu/Data/QA/QC/{file}"
CHECKSUM = {
    "train_5500.label": "9e4c8bdcaffb96ed61041bd64b564183d52793a8e91d84fc3a8646885f466ec3",
    "TREC_10.label": "033f22c028c2bbba9ca682f68ffe204dc1aa6e1cf35dd6207f2d4ca67f0d0e8e",
}


def rows(name, opener, fine):
    """A line: "COARSE:fine question", in Latin-1"""
    for number, line in byte_lines(name, opener):
        where = "%s, line %d" % (name, number)
        label, _, text = line.decode("latin-1").strip().partition(" ")
        if ":" not in label or not text:
            raise Failure("%s: expected COARSE:fine and a question, found %.60s" % (where, label + " " + text))
        yield text.strip(), None, label if fine else label.split(":")[0], where


def main():
    p = classify_parser(
        __doc__,
        """\
  data/trec.py --tokenizer runs/bert --out datasets/trec
  data/trec.py --fine --tokenizer runs/bert --out datasets/trec50
  data/trec.py --from questions/ --tokenizer runs/bert --out datasets/trec
""",
    )
    p.add_argument("--fine", action="store_true", help="the 50 fine classes (default: the 6 coarse ones)")
    source_flags(
        p,
        "trec",
        URL,
        "where the two files, {file}, are",
        "use these files (train_5500.label, TREC_10.label; or TREC.train, TREC.test) and download nothing",
    )
    args = p.parse_args()
    check_url(args.url, "{file}", "the name")
    check_arguments(args)
    source = args.source
    if not source:
        source = [
            download(args.url.replace("{file}", name), os.path.join(args.cache, name), checksum)
            for name, checksum in CHECKSUM.items()
        ]
    train = find_named(source, "train_5500.label", "TREC.train")
    test = find_named(source, "TREC_10.label", "TREC.test")
    write_classify_dataset(args, {"train": rows(*train, args.fine), "test": rows(*test, args.fine)})


if __name__ == "__main__":
    run_script(main)
