"""Rows of instructions -> a data directory for sft: train.bin, val.bin, test_NAME.bin and the tokenizer's files.

A row is (object, where): what common/text/instruct_rows.h reads from a line of JSONL, and "FILE, line N" for errors.
data/tokenize pack checks it.
"""

import contextlib
import hashlib
import json
import os

from .arguments import check_arguments, plain_parser, row_flags
from .data_dir import output_names, print_next, put_in_place, refuse_foreign, work_dir
from .errors import Failure, Usage, bad_rows
from .splits import copy_rows, split_rows
from .tokenizer import copy_tokenizer, is_bpe, max_positions, pack_rows, tokenizer_dir

TEMPLATES = (
    "auto",
    "alpaca",
    "short",
    "chatml",
    "qwen3",
    "llama3",
    "llama3.2",
)  # those that data/tokenize knows by name


def instruct_parser(description, examples, val_fraction=0.02):
    """The flags of a script that makes instructions to tune on."""
    makes = "the data directory to make: train.bin, val.bin, test_NAME.bin, tokenizer files"
    p = plain_parser(description, examples, makes)
    p.add_argument(
        "--tokenizer",
        required=True,
        metavar="DIR",
        help="the model to be tuned (a run or model directory), or a data directory: its byte-level BPE is used",
    )
    p.add_argument(
        "--template",
        default="auto",
        metavar="NAME",
        help="alpaca, short, chatml, qwen3, llama3, llama3.2, or a file with {instruction}, {input} and at its end "
        "{output} (default auto: that of the model in --tokenizer, from its template.json or chat_template, or alpaca)",
    )
    p.add_argument(
        "--shots",
        type=int,
        metavar="K",
        help="0 to 2 of a row's few-shot examples are shown before its question, where it has them "
        "(default: as many as a template.json says, else 0)",
    )
    p.add_argument(
        "--max-len",
        type=int,
        default=0,
        metavar="T",
        help="tokens of the longest row (default: as many as the model of --tokenizer takes; without a model, any)",
    )
    p.add_argument(
        "--overlong",
        choices=["drop", "truncate", "error"],
        help="what happens to longer rows: they are left out; they are cut, but never their answer; they are refused "
        "(default drop)",
    )
    val_rows = "fraction of the rows for training that becomes val.bin"
    row_flags(p, val_fraction, val_rows, "train.jsonl, val.jsonl, test_NAME.jsonl")
    return p


def check_instruct_arguments(args):
    check_arguments(args)
    if args.shots not in (None, 0, 1, 2):
        raise Usage("--shots: expected 0 to 2, found %d" % args.shots)
    if args.max_len < 0:
        raise Usage("--max-len: expected a number of tokens from 1, found %d" % args.max_len)
    if args.template not in TEMPLATES and not os.path.isfile(args.template):
        raise Usage("--template: expected %s or a file, found %s" % (", ".join(TEMPLATES), args.template))


def questions_of(row):
    """What a row asks, as text without the answers: first its last question, then that of each earlier turn of a
    conversation. The last question of a row on one side of a split must not be asked on the other side, in any turn."""
    squeeze = lambda text: " ".join(text.split()) if isinstance(text, str) else ""
    if isinstance(row.get("messages"), list):
        asked = [
            (m.get("role"), squeeze(m.get("content")))
            for m in row["messages"]
            if isinstance(m, dict) and m.get("role") != "assistant"
        ]
        ends = [k for k in range(1, len(asked) + 1) if asked[k - 1][0] == "user"] or [len(asked)]
        return ["\n".join(text for _, text in asked[:k]) + "\t" for k in reversed(ends)]
    return [squeeze(row.get("instruction", row.get("prompt"))) + "\t" + squeeze(row.get("input"))]


def spool_instructions(rows, part, file):
    """Writes rows as JSON lines. Returns (hash of the last question, offset, size, where, hashes of all questions) of
    each."""
    found, offset = [], 0
    for row, where in rows:
        try:
            data = (json.dumps(row, ensure_ascii=False) + "\n").encode()
        except UnicodeEncodeError:
            bad_rows.add("%s: expected Unicode, found half of a surrogate pair" % where)
            continue
        file.write(data)
        asked = [hashlib.sha256(text.encode()).digest()[:16] for text in questions_of(row)]
        found.append((asked[0], offset, len(data), where, asked))
        offset += len(data)
    if not found:
        raise Failure("there are no rows in the %s part of the input" % part)
    return found


def write_instruct_dataset(args, parts):
    """parts: {"train": rows, "val": rows, "test_NAME": rows, ...} -> args.out. train has to be there; without val it is
    split off train (split_rows). Rows of train whose question is in another part, too, are left out and counted."""
    tokenizer = tokenizer_dir(args.tokenizer)
    if not is_bpe(tokenizer):
        raise Usage(
            "--tokenizer %s: expected byte-level BPE (vocab.json and merges.txt), found WordPiece" % args.tokenizer
        )
    flags = ["--template", args.template if args.template in TEMPLATES else os.path.abspath(args.template)]
    if args.shots is not None:
        flags += ["--shots", str(args.shots)]
    max_len = args.max_len or max_positions(tokenizer)
    if max_len:
        flags += ["--max-len", str(max_len)]
    if args.overlong:
        flags += ["--overlong", args.overlong]
    names = output_names(args, {*parts, "val"}, ".jsonl")
    refuse_foreign(args.out, names, tokenizer)
    with work_dir(args.out) as work, contextlib.ExitStack() as stack:
        files, rows = {}, {}
        for part in parts:
            files[part] = stack.enter_context(open(os.path.join(work, part + ".all"), "w+b"))
            rows[part] = spool_instructions(parts[part], part, files[part])
        others = sorted(set(parts) - {"train"})
        split_rows(args, files, rows, others, "question", ", and were left out", lambda row: row[4])
        if not rows["train"]:
            raise Failure("no rows are left for training: every question is in another part, too")
        copy_tokenizer(tokenizer, work)
        for part in sorted(rows, key=lambda p: (p != "train", p != "val", p)):
            copy_rows(files[part], rows[part], os.path.join(work, part + ".jsonl"))
            pack_rows(work, "instruct", part, [r[3] for r in rows[part]], *flags)
        put_in_place(work, args.out, names)
    print_next(args, tokenizer, "sft", "sft")
