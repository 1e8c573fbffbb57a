#!/usr/bin/env python3
"""WikiText-2 or WikiText-103 (raw; CC BY-SA) -> train.bin, val.bin and a tokenizer. A document is an article: it begins
at ' = Title = '.

The corpus comes with a training and a validation part, and these are kept; where --from has no validation part,
articles are drawn. The corpus' own marks ' @-@ ', ' @,@ ', ' @.@ ' become '-', ',', '.' again.
"""

import itertools
import os
import re

from lib.arguments import check_arguments, source_flags
from lib.download import download
from lib.errors import run_script
from lib.text import text_parser, write_text_dataset
from lib.text_files import text_files, text_lines

URL = "https://wikitext.smerity.com/wikitext-{n}-raw-v1.zip"
CHECKSUM = {
    "2": "ef7edb566e3e2b2d31b29c1fdb0c89a4cc683597484c3dc2517919c615435a11",
    "103": "91c00ae287f0d699e18605c84afc9e45c192bc6b7797ff8837e5474655a33794",
}
TITLE = re.compile(r" ?= [^=](.*[^=])? = ?$")  # and not ' = = Section = = '
ENDINGS = (".raw", ".txt", ".tokens")


def articles(lines):
    article = []
    for line in lines:
        if TITLE.match(line) and article:
            yield "\n".join(article)
            article = []
        article.append(re.sub(r" @([-,.])@ ", r"\1", line).strip())
    yield "\n".join(article)


def main():
    p = text_parser(
        __doc__,
        """\
  data/wikitext.py --out datasets/wikitext2                       13 MB
  data/wikitext.py --version 103 --vocab-size 16384 --out datasets/wikitext103
  data/wikitext.py --from wikitext-2-raw-v1.zip --out datasets/wikitext2
""",
    )
    p.add_argument(
        "--version",
        choices=sorted(CHECKSUM),
        default="2",
        help="WikiText-2 (13 MB) or WikiText-103 (540 MB of text) (default 2)",
    )
    source_flags(
        p,
        "wikitext",
        URL,
        "where the zip archive of version {n} is",
        "use these files, also .xz, .gz, .bz2, .zip, and download nothing; "
        "of folders and archives the files with 'train' or 'valid' in the name",
    )
    args = p.parse_args()
    check_arguments(args)
    source = args.source
    if not source:
        source = [
            download(
                args.url.replace("{n}", args.version),
                os.path.join(args.cache, "wikitext-%s-raw-v1.zip" % args.version),
                CHECKSUM[args.version],
            )
        ]
    files = text_files(source, ENDINGS, args.encoding)
    parts = {part: [f for f in files if part in os.path.basename(f[0]).lower()] for part in ("train", "valid")}
    read = lambda some: itertools.chain.from_iterable(articles(text_lines(*f)) for f in some)
    if parts["train"] and parts["valid"]:
        write_text_dataset(args, read(parts["train"]), read(parts["valid"]))
    else:
        write_text_dataset(args, read(files))


if __name__ == "__main__":
    run_script(main)
