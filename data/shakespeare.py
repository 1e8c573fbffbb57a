#!/usr/bin/env python3
"""Tiny Shakespeare (1.1 MB, public domain) -> train.bin, val.bin and a tokenizer; by default its tokens are single
characters, as in nanoGPT's experiment.

The text is one document. Its first 90 % are for training, the rest for validation; the cut falls between any two
characters.
"""

import os

from lib.arguments import check_arguments, source_flags
from lib.data_dir import work_dir
from lib.download import download
from lib.errors import Failure, run_script
from lib.text import pack_text, text_parser
from lib.text_files import find_named, text_files, whole_text
from lib.tokenizer import tokenizer_dir

URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
CHECKSUM = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


def main():
    p = text_parser(
        __doc__,
        """\
  data/shakespeare.py --out datasets/shakespeare                        characters
  data/shakespeare.py --vocab-size 1024 --out datasets/shakespeare1k    pieces of words
  data/shakespeare.py --from input.txt --out datasets/shakespeare       a local file, or its folder
""",
        "bpe",
        257,
    )
    p.set_defaults(val_fraction=0.1)
    source_flags(
        p,
        "shakespeare",
        URL,
        "where the text is",
        "use this file, also .xz, .gz, .bz2, and download nothing; any text will do; "
        "of a directory its only text, or input.txt or tinyshakespeare.txt",
        "PATH",
        several=False,
    )
    args = p.parse_args()
    check_arguments(args)
    tokenizer = tokenizer_dir(args.tokenizer) if args.tokenizer else None
    source = args.source or download(args.url, os.path.join(args.cache, "input.txt"), CHECKSUM)
    files = text_files([source], (".txt",), args.encoding)
    if len(files) != 1:
        files = [find_named([source], "input.txt", "tinyshakespeare.txt", encoding=args.encoding)]
    text = whole_text(*files[0])
    cut = int(len(text) * (1 - args.val_fraction))
    if not text[:cut].strip() or not text[cut:].strip():
        raise Failure(
            "%s: expected a text that can be divided into training and validation, found %d characters"
            % (files[0][0], len(text))
        )
    with work_dir(args.out) as work:
        for name, part in (("train.txt", text[:cut]), ("val.txt", text[cut:])):
            with open(os.path.join(work, name), "w", encoding="utf-8", newline="") as f:
                f.write(part)
        print("%d characters for training, %d for validation" % (cut, len(text) - cut))
        pack_text(args, work, tokenizer, documents="file")


if __name__ == "__main__":
    run_script(main)
