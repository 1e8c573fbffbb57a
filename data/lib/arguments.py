"""The flags that several scripts have, and what can be refused about them before the work begins."""

import argparse
import os
import re
import sys

from .data_dir import refuse_output, remember_outputs
from .download import cache_dir
from .errors import Failure, Usage, bad_rows, nearest, visible
from .tokenizer import tokenize_program

DATA_DIR = "the data directory to make: train.bin, val.bin, tokenizer files"


def plain_parser(description, examples, makes=DATA_DIR):
    """A parser with --out alone. examples: commands, one a line; makes: what --out becomes"""

    class Parser(argparse.ArgumentParser):
        def error(self, message):
            flags = [f for action in self._actions for f in action.option_strings]
            unknown = re.search("unrecognized arguments: (?:.* )?(--?[^ =]+)", message)
            near = "; nearest: " + nearest(unknown.group(1), flags) if unknown else ""
            sys.stderr.write("error: %s%s; see %s --help\n" % (visible(message), near, self.prog))
            sys.exit(2)

    formatter = argparse.RawDescriptionHelpFormatter
    p = Parser(description=description, epilog="examples:\n" + examples, formatter_class=formatter)
    p.add_argument("--out", required=True, metavar="DIR", help=makes)
    return p


def cache_flag(p, name):
    """--cache of a script that downloads. name: its folder in the cache"""
    cache = os.path.join(cache_dir(), name)
    p.add_argument("--cache", default=cache, metavar="DIR", help="where downloads are kept (default %(default)s)")


def source_flags(p, name, url, where, use, metavar="FILE|DIR", several=True):
    """--from, --url and --cache of a script that downloads. name: its folder in the cache; where: what is at the URL;
    use: what --from takes"""
    p.add_argument("--from", dest="source", action="append" if several else "store", metavar=metavar, help=use)
    p.add_argument("--url", default=url, help=where + " (default %(default)s)")
    cache_flag(p, name)


def encoding_flag(p):
    p.add_argument(
        "--encoding",
        default="utf-8",
        metavar="NAME",
        help="what the files are in, as Python names it: cp1252 (Windows-1252), utf-16, shift_jis … (default utf-8)",
    )


def row_flags(p, val_fraction, val_rows, kept):
    """The flags of a script that makes rows. val_rows: what --val-fraction is the fraction of; kept: what --keep-text
    leaves"""
    p.add_argument(
        "--val-fraction",
        "--val-share",
        dest="val_fraction",
        type=float,
        default=val_fraction,
        metavar="X",
        help="%s (default %g)" % (val_rows, val_fraction),
    )
    p.add_argument(
        "--seed", type=int, default=1, metavar="N", help="which rows these are, and those of --limit (default 1)"
    )
    p.add_argument("--limit", type=int, metavar="N", help="draw at most N rows of each part")
    p.add_argument("--keep-text", action="store_true", help="leave the rows as %s in the data directory" % kept)
    p.add_argument(
        "--on-error",
        choices=["skip", "stop"],
        default="skip",
        help="rows that cannot be used are named, counted and left out, and the exit code is 1 in the end; or the "
        "first ends the run and nothing is made (default skip)",
    )


def check_url(url, part, stands_for):
    if part not in url:
        raise Usage("--url: expected %s in place of %s, found %s" % (part, stands_for, url))


def check_arguments(args):
    """Everything about the common flags that can be refused before the work begins."""
    bad_rows.stop = getattr(args, "on_error", "skip") == "stop"
    if not (0 < args.val_fraction < 1 or args.val_fraction == 0 and hasattr(args, "on_error")):
        raise Usage("--val-fraction: expected a number between 0 and 1, found %g" % args.val_fraction)
    bpe = getattr(args, "tokenizer_type", "wordpiece") == "bpe"
    smallest = 257 if bpe else 32
    if not args.tokenizer and not smallest <= args.vocab_size <= 1000000:
        what = " (256 bytes and <|endoftext|>)" if bpe else ""
        raise Usage("--vocab-size: expected %d to 1000000%s, found %d" % (smallest, what, args.vocab_size))
    if bpe and args.cased:
        raise Usage("--cased is for wordpiece: bpe keeps every byte")
    if getattr(args, "limit", None) is not None and args.limit < 1:
        raise Usage("--limit: expected a number of rows from 1, found %d" % args.limit)
    if args.tokenizer and not os.path.isdir(args.tokenizer):
        raise Usage("--tokenizer: expected a directory, found none at %s" % args.tokenizer)
    if os.path.exists(args.out) and not os.path.isdir(args.out):
        raise Usage("--out: expected a directory, found the file %s" % args.out)
    try:
        "".encode(getattr(args, "encoding", "utf-8"))
    except LookupError:
        raise Usage("--encoding: expected utf-8, utf-16, cp1252 or another that Python has, found %s" % args.encoding)
    remember_outputs(args.out)
    for name, value in vars(args).items():
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, str) and name not in ("out", "tokenizer", "cache"):
                refuse_output(path)
    if not os.path.exists(tokenize_program()):
        raise Failure("expected the program %s, found nothing: run make first" % tokenize_program())
