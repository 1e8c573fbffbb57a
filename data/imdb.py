#!/usr/bin/env python3
"""IMDB film reviews (Maas et al. 2011; negative or positive) -> train.bin, val.bin, test.bin (25,000 rows).

A fraction of the 25,000 training reviews is for validation. With --unlabelled, the 50,000 reviews without a label
become text to pretrain on instead: train.bin and val.bin for train_bert.
"""

import lzma
import os
import re
import tarfile
import zlib

from lib.arguments import check_arguments, source_flags
from lib.classify import classify_parser, write_classify_dataset
from lib.download import download
from lib.errors import Failure, Usage, run_script
from lib.file_kinds import decode_text
from lib.text import write_text_dataset
from lib.text_files import COMPRESSED

URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
CHECKSUM = "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"
LABELS = {"neg": "negative", "pos": "positive"}
MEMBER = re.compile(r"(?:^|/)(train|test)/(neg|pos|unsup)/[^/]+\.txt$")


def plain(text):
    """Without HTML's line ends"""
    return "\n".join(line.strip() for line in re.split(r"<br\s*/?>", text)).strip()


def reviews(source, part, kinds):
    """(text, kind, where) of the reviews PART/KIND/*.txt of a folder or tar archive, which is read once from its
    beginning to its end"""

    if os.path.isdir(source):
        for folder, subfolders, names in os.walk(source):
            subfolders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                found = MEMBER.search(path.replace(os.sep, "/"))
                if found and found[1] == part and found[2] in kinds:
                    with open(path, "rb") as f:
                        yield plain(decode_text(f.read(), path)), found[2], path
        return
    try:
        # unpacked here and not by tarfile, which takes a .gz that was cut short for a shorter one
        with (
            COMPRESSED.get(os.path.splitext(source)[1].replace(".tgz", ".gz"), open)(source, "rb") as f,
            tarfile.open(fileobj=f, mode="r|") as archive,
        ):
            for member in archive:
                found = MEMBER.search(member.name)
                if found and member.isfile() and found[1] == part and found[2] in kinds:
                    where = source + ":" + member.name
                    yield plain(decode_text(archive.extractfile(member).read(), where)), found[2], where
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as e:
        raise Failure("cannot read %s: %s" % (source, getattr(e, "strerror", None) or e))


def main():
    p = classify_parser(
        __doc__,
        """\
  data/imdb.py --tokenizer runs/bert --out datasets/imdb         84 MB to download
  data/imdb.py --unlabelled --out datasets/reviews               text to pretrain on, with a vocabulary of its own
  data/imdb.py --from aclImdb_v1.tar.gz --limit 2000 --tokenizer runs/bert --out datasets/imdb_small
""",
        tokenizer_needed=False,
    )
    p.add_argument(
        "--unlabelled",
        action="store_true",
        help="the reviews without a label, as text to pretrain on; --tokenizer may be left out then",
    )
    p.add_argument(
        "--tokenizer-type",
        choices=["wordpiece", "bpe"],
        default="wordpiece",
        help="--unlabelled without --tokenizer: kind of vocabulary to learn, wordpiece for train_bert, "
        "bpe (byte-level) for train_gpt (default wordpiece)",
    )
    p.add_argument(
        "--vocab-size",
        type=int,
        default=8192,
        metavar="N",
        help="--unlabelled without --tokenizer learns a vocabulary of N tokens (default 8192)",
    )
    p.add_argument(
        "--cased",
        action="store_true",
        help="--unlabelled without --tokenizer: keep upper case and accents (default: lower-case)",
    )
    source_flags(
        p,
        "imdb",
        URL,
        "where the archive is",
        "use this archive, or this folder that was in it, and download nothing",
        "FILE|DIR",
        several=False,
    )
    args = p.parse_args()
    if not args.tokenizer and not args.unlabelled:
        raise Usage("expected --tokenizer DIR, or --unlabelled, found neither; see data/imdb.py --help")
    if args.limit and args.unlabelled:
        raise Usage("--limit: expected rows with labels, found --unlabelled")
    check_arguments(args)
    if args.source and not os.path.exists(args.source):
        raise Failure("cannot read %s: there is no such file or folder" % args.source)
    source = args.source or download(args.url, os.path.join(args.cache, "aclImdb_v1.tar.gz"), CHECKSUM)
    if args.unlabelled:
        write_text_dataset(args, (text for text, _, _ in reviews(source, "train", ("unsup",))))
        return
    rows = lambda part: ((text, None, LABELS[kind], where) for text, kind, where in reviews(source, part, LABELS))
    write_classify_dataset(args, {"train": rows("train"), "test": rows("test")}, ["negative", "positive"])


if __name__ == "__main__":
    run_script(main)
