#!/usr/bin/env python3
"""Tiny Shakespeare (1.1 MB, public domain) -> train.bin, val.bin and a tokenizer; by default single characters, as in
nanoGPT's experiment.

The text is one document. Its first 90 % are for training, the rest for validation; the cut falls between any two
characters.
"""

import os

import common

URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
CHECKSUM = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


def body():
    p = common.parser(
        __doc__,
        """\
  data/shakespeare.py --out data/shakespeare                             characters
  data/shakespeare.py --vocab-size 1024 --out data/shakespeare1k         pieces of words
  data/shakespeare.py --from input.txt --out data/shakespeare            or the directory of input.txt or tinyshakespeare.txt
""",
        "bpe",
        257,
    )
    p.set_defaults(val_share=0.1)
    common.source_flags(
        p,
        "shakespeare",
        URL,
        "where the text is",
        "use this file, also .xz, .gz, .bz2, and download nothing; any text will do; of a directory its only one, or input.txt or tinyshakespeare.txt",
        "PATH",
        several=False,
    )
    args = p.parse_args()
    common.check(args)
    tokenizer = common.tokenizer_dir(args.tokenizer) if args.tokenizer else None
    source = args.source or common.download(args.url, os.path.join(args.cache, "input.txt"), CHECKSUM)
    files = list(common.text_files([source], (".txt",)))
    if len(files) != 1:
        files = [common.named([source], "input.txt", "tinyshakespeare.txt")]
    try:
        text = b"".join(line for _, line in common.byte_lines(*files[0])).decode("utf-8")
    except UnicodeDecodeError as e:
        raise common.Failure(
            "%s: expected UTF-8, found the byte 0x%02x at byte %d" % (files[0][0], e.object[e.start], e.start)
        )
    cut = int(len(text) * (1 - args.val_share))
    if not text[:cut].strip() or not text[cut:].strip():
        raise common.Failure(
            "%s: expected a text that can be divided into training and validation, found %d characters"
            % (files[0][0], len(text))
        )
    with common.making(args.out) as work:
        for name, part in (("train.txt", text[:cut]), ("val.txt", text[cut:])):
            with open(os.path.join(work, name), "w", encoding="utf-8", newline="") as f:
                f.write(part)
        print("%d characters for training, %d for validation" % (cut, len(text) - cut))
        common.pack_text(args, work, tokenizer, documents="file")


if __name__ == "__main__":
    common.main(body)
