"""Labelled rows -> a data directory for finetune_cls: train.bin, val.bin, test.bin and the tokenizer's files.

A row is (text, second text or None, label, where), all strings; `where` is "FILE, line N", for errors.
"""

import contextlib
import hashlib
import json
import os
import re

from .arguments import plain_parser, row_flags
from .data_dir import output_names, print_next, put_in_place, refuse_foreign, work_dir
from .errors import Failure, bad_rows
from .splits import copy_rows, split_rows
from .tokenizer import copy_tokenizer, pack_rows, tokenizer_dir

PARTS = ("train", "val", "test")


def classify_parser(description, examples, val_fraction=0.1, tokenizer_needed=True):
    """The flags of a script that makes rows to learn labels from."""
    p = plain_parser(description, examples)
    p.add_argument(
        "--tokenizer",
        required=tokenizer_needed,
        metavar="DIR",
        help="the model to be fine-tuned (a run or model directory), or a data directory: its vocabulary is used",
    )
    val_rows = "where there is no validation part, the fraction of the training rows that becomes one"
    row_flags(p, val_fraction, val_rows, "train.tsv, val.tsv, test.tsv")
    return p


def spool_rows(rows, part, known, file):
    """Writes rows as JSON lines. Returns (hash of the text, offset, size, label, where) of each. known: the labels
    allowed, None: all"""
    found, offset, names = [], 0, {}
    for text, text2, label, where in rows:
        if known is not None and label not in known:
            labels = sorted(known)
            shown = ", ".join(labels[:20]) + (" …" if len(labels) > 20 else "")
            bad_rows.add("%s: expected one of the labels %s, found %.60s" % (where, shown, label))
            continue
        row = {"text": text, "label": label} if not text2 else {"text": text, "text2": text2, "label": label}
        data = (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "replace")
        file.write(data)
        digest = hashlib.sha256("\t".join(" ".join(t.split()) for t in (text, text2 or "")).encode()).digest()[:16]
        found.append((digest, offset, len(data), names.setdefault(label, label), where))
        offset += len(data)
    if not found:
        raise Failure("there are no rows in the %s part of the input" % part)
    return found


def write_classify_dataset(args, parts, labels=None, drop_overlap=False):
    """parts: {"train": rows, "val": rows, "test": rows} -> args.out. train has to be there; without val it is split off
    train (split_rows). labels: the names in their order (default: those found in train). drop_overlap: rows of train
    whose text is in val or test, too, are left out; else they are only counted."""
    tokenizer = tokenizer_dir(args.tokenizer)
    names = output_names(args, {*parts, "val"}, ".tsv")
    refuse_foreign(args.out, names, tokenizer)
    with work_dir(args.out) as work, contextlib.ExitStack() as stack:
        files, rows = {}, {}
        known = set(labels) if labels else None
        for part in PARTS:
            if part in parts:
                files[part] = stack.enter_context(open(os.path.join(work, part + ".all"), "w+b"))
                rows[part] = spool_rows(parts[part], part, known, files[part])
                known = known or {r[3] for r in rows["train"]}
        others = [part for part in ("val", "test") if part in rows]
        left_out = " and were left out" if drop_overlap else ""
        split_rows(args, files, rows, others, "text", left_out, class_of=lambda row: row[3])
        if not rows["train"]:
            raise Failure("no rows are left for training: every text is in val or test, too")
        if not labels:
            known = {r[3] for r in rows["train"]}
            for part in rows:
                for label in {r[3] for r in rows[part]} - known:
                    raise Failure(
                        "label %s: expected rows of it for training, found them only for %s: take more rows, "
                        "or another --seed or --val-fraction" % (label, part)
                    )
        if len(known) < 2:
            raise Failure("expected at least 2 labels, found one: %s" % ", ".join(known))

        copy_tokenizer(tokenizer, work)
        for part in PARTS:
            if part in rows:
                jsonl = os.path.join(work, part + ".jsonl")
                copy_rows(files[part], rows[part], jsonl)
                write_tsv(jsonl, os.path.join(work, part + ".tsv"))
                flags = (
                    ["--labels", "train.bin"] if part != "train" else ["--labels", ",".join(labels)] if labels else []
                )
                pack_rows(work, "classify", part, [r[4] for r in rows[part]], *flags)
        put_in_place(work, args.out, names)
    print_next(args, tokenizer, "finetune_cls", "cls")


def write_tsv(jsonl, path):
    """The rows for people to read: text, second text if any row has one, label"""
    flat = lambda text: re.sub(r"[\t\n\r\v\f\x1c-\x1e\x85\u2028\u2029]", " ", text or "")
    with open(jsonl, "rb") as lines:
        pairs = any(b'"text2": ' in line for line in lines)
    keys = ["text", "text2", "label"] if pairs else ["text", "label"]
    with open(jsonl, encoding="utf-8", newline="\n") as lines, open(path, "w", encoding="utf-8", newline="\n") as out:
        out.write("\t".join(keys) + "\n")
        for line in lines:
            row = json.loads(line)
            out.write("\t".join(flat(row.get(key)) for key in keys) + "\n")
