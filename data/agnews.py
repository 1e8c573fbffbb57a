#!/usr/bin/env python3
"""AG News (Zhang et al. 2015; for research, not for sale: World, Sports, Business, Sci/Tech) -> train.bin, val.bin,
test.bin (7,600 rows).

A text is the title, a space, the description. The files hold what was left of a web page, and that is undone: a
backslash (a line break there) becomes a space, except in \\$; " #39;" and "&lt;" become ' and <; tags such as <b> are
removed.
"""

import html
import os
import re

from lib.arguments import check_arguments, check_url, source_flags
from lib.classify import classify_parser, write_classify_dataset
from lib.download import download
from lib.errors import bad_rows, run_script
from lib.rows import file_blocks, labelled
from lib.text_files import find_named, inner_name

URL = "https://raw.githubusercontent.com/mhjabreel/CharCnn_Keras/master/data/ag_news_csv/{part}.csv"
CHECKSUM = {
    "train": "76a0a2d2f92b286371fe4d4044640910a04a803fdd2538e0f3f29a5c6f6b672e",
    "test": "521465c2428ed7f02f8d6db6ffdd4b5447c1c701962353eb2c40d548c3c85699",
}
LABELS = ["World", "Sports", "Business", "Sci/Tech"]
OTHER_NAMES = {"Science or Technology": "Sci/Tech"}
TAG = re.compile(
    r"</?(a|b|i|u|p|br|hr|em|strong|font|img|span|div|table|tr|td|ul|li|object|param|embed|script|nobr)(\s[^<>]*)?/?>",
    re.I,
)


def clean(text):
    text = text.replace("\\$", "$").replace("\\", " ")
    text = html.unescape(re.sub(r" ?#(\d{2,5});", r"&#\1;", text))
    return " ".join(TAG.sub(" ", text).split())


def rows(name, opener):
    """.csv: class from 1, title, description, no header; .tsv: columns label and text"""
    blocks = lambda: file_blocks(name, opener)
    if inner_name(name).endswith(".tsv"):
        for text, _, label, where in labelled(name, [], None, blocks):
            yield clean(text), None, OTHER_NAMES.get(label, label), where
        return
    columns = ["--no-header", "--label=1", "--text=2", "--text2=3"]
    for title, description, label, where in labelled(name, columns, None, blocks):
        if label not in ("1", "2", "3", "4"):
            bad_rows.add("%s: expected a class from 1 to 4, found %.40s" % (where, label))
        else:
            yield clean(title + " " + (description or "")), None, LABELS[int(label) - 1], where


def main():
    p = classify_parser(
        __doc__,
        """\
  data/agnews.py --tokenizer runs/bert --out datasets/agnews          120,000 rows, 31 MB; 5 % of them for validation
  data/agnews.py --limit 4000 --tokenizer runs/bert --out datasets/agnews_small
  data/agnews.py --from ag_news_csv/ --tokenizer runs/bert --out datasets/agnews
""",
        val_fraction=0.05,
    )
    source_flags(
        p,
        "agnews",
        URL,
        "where train.csv and test.csv, {part}.csv, are",
        "use these files (train.csv, test.csv) and download nothing",
    )
    args = p.parse_args()
    check_url(args.url, "{part}", "train and test")
    check_arguments(args)
    source = args.source
    if not source:
        source = [
            download(args.url.replace("{part}", part), os.path.join(args.cache, part + ".csv"), CHECKSUM[part])
            for part in ("train", "test")
        ]
    train = find_named(source, "train.csv", "ag_news_train.csv", "ag_news_train4k.tsv")
    test = find_named(source, "test.csv", "ag_news_test.csv")
    write_classify_dataset(args, {"train": rows(*train), "test": rows(*test)}, LABELS)


if __name__ == "__main__":
    run_script(main)
