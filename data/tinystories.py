#!/usr/bin/env python3
"""TinyStories (Eldan and Li 2023, the stories that GPT-4 wrote; CDLA-Sharing-1.0) -> train.bin, val.bin and a
tokenizer. A document is a story.

By default the first 100 MB of the 2.2 GB for training; the corpus' own validation part (22 MB) is kept.
"""

import os

from lib.arguments import check_arguments, check_url, source_flags
from lib.download import download
from lib.errors import Failure, Usage, run_script
from lib.text import text_parser, write_text_dataset
from lib.text_files import documents_of, text_files

URL = "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/TinyStoriesV2-GPT4-{part}.txt"


def stories(files, cut):
    """The documents of files. cut: the last story of the last file is not complete, and is left out"""
    found = documents_of(files)
    last = next(found, None)
    for text in found:
        yield last
        last = text
    if not cut and last is not None:
        yield last


def main():
    p = text_parser(
        __doc__,
        """\
  data/tinystories.py --out datasets/stories                    100 MB of stories, a vocabulary of 8,192 tokens
  data/tinystories.py --megabytes 0 --out datasets/stories      all 2.2 GB
  data/tinystories.py --from folder --out datasets/stories      local files; those named 'valid' are for validation
""",
        "bpe",
    )
    p.add_argument(
        "--megabytes",
        type=int,
        default=100,
        metavar="N",
        help="take the first N MB of the training part; 0: all 2.2 GB (default 100)",
    )
    source_flags(
        p,
        "tinystories",
        URL,
        "where the part {part} (train or valid) is",
        "use these files, also .xz, .gz, .bz2, .zip, and download nothing; a line <|endoftext|> ends a story",
    )
    args = p.parse_args()
    if args.megabytes < 0:
        raise Usage("--megabytes: expected a number from 0, found %d" % args.megabytes)
    check_url(args.url, "{part}", "train or valid")
    check_arguments(args)
    parts = {"train": [], "valid": []}
    cut = False  # is the end of the training part missing?
    if args.source:
        for file in text_files(args.source, (".txt",), args.encoding):
            parts["valid" if "valid" in os.path.basename(file[0]).lower() else "train"].append(file)
        if not parts["train"]:
            raise Failure(
                "--from %s: expected a file for training, found only %s"
                % (" ".join(args.source), ", ".join(f[0] for f in parts["valid"]))
            )
    else:
        for part in ("valid", "train"):
            first = args.megabytes * 1000000 if part == "train" else 0
            name = "TinyStoriesV2-GPT4-%s%s.txt" % (part, ".first-%d-MB" % args.megabytes if first else "")
            path = download(args.url.replace("{part}", part), os.path.join(args.cache, name), first=first)
            cut = bool(first) and os.path.getsize(path) == first
            parts[part] = text_files([path], (".txt",))
    write_text_dataset(args, stories(parts["train"], cut), stories(parts["valid"], False) if parts["valid"] else None)


if __name__ == "__main__":
    run_script(main)
