#!/usr/bin/env python3
"""TinyStories (Eldan and Li 2023, the stories that GPT-4 wrote; CDLA-Sharing-1.0) -> train.bin, val.bin and a
tokenizer. A document is a story.

By default the first 100 MB of the 2.2 GB for training; the corpus' own validation part (22 MB) is kept.
"""

import itertools
import os

import common

URL = "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/TinyStoriesV2-GPT4-{part}.txt"


def stories(files, cut):
    """The documents of files; cut: the last story of the last one is not all there, and is left out"""
    found = itertools.chain.from_iterable(common.documents_of(common.lines_of(*f)) for f in files)
    last = next(found, None)
    for text in found:
        yield last
        last = text
    if not cut and last is not None:
        yield last


def body():
    p = common.parser(
        __doc__,
        """\
  data/tinystories.py --out data/stories                             100 MB of stories, a vocabulary of 8,192 tokens
  data/tinystories.py --megabytes 0 --out data/stories               all 2.2 GB
  data/tinystories.py --from folder --out data/stories               local files; those with 'valid' in the name are for validation
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
    common.source_flags(
        p,
        "tinystories",
        URL,
        "where the part {part} (train or valid) is",
        "use these files, also .xz, .gz, .bz2, .zip, and download nothing; a line <|endoftext|> ends a story",
    )
    args = p.parse_args()
    if args.megabytes < 0:
        raise common.Usage("--megabytes: expected a number from 0, found %d" % args.megabytes)
    common.check_url(args.url, "{part}", "train or valid")
    common.check(args)
    parts = {"train": [], "valid": []}
    cut = False  # is the end of the training part missing?
    if args.source:
        for file in common.text_files(args.source, (".txt",)):
            parts["valid" if "valid" in os.path.basename(file[0]).lower() else "train"].append(file)
        if not parts["train"]:
            raise common.Failure(
                "--from %s: expected a file for training, found only %s"
                % (" ".join(args.source), ", ".join(f[0] for f in parts["valid"]))
            )
    else:
        for part in ("valid", "train"):
            first = args.megabytes * 1000000 if part == "train" else 0
            name = "TinyStoriesV2-GPT4-%s%s.txt" % (part, ".first-%d-MB" % args.megabytes if first else "")
            path = common.download(args.url.replace("{part}", part), os.path.join(args.cache, name), first=first)
            cut = bool(first) and os.path.getsize(path) == first
            parts[part] = list(common.text_files([path], (".txt",)))
    common.finish(args, stories(parts["train"], cut), stories(parts["valid"], False) if parts["valid"] else None)


if __name__ == "__main__":
    common.main(body)
