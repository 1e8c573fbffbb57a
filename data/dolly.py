#!/usr/bin/env python3
"""Dolly (Databricks 2023: 15,011 instructions with answers written by people, in 7 categories; CC BY-SA 3.0) ->
train.bin, val.bin.

A task is a category; --holdout keeps categories out of training: they become test_tasks.bin.
"""

import os

import common

URL = "https://huggingface.co/datasets/databricks/databricks-dolly-15k/resolve/main/databricks-dolly-15k.jsonl"


def rows(name, opener):
    for row, where in common.json_rows(name, opener):
        instruction, context, response, category = (
            common.field(row, key, where) for key in ("instruction", "context", "response", "category")
        )
        yield {"instruction": instruction, "input": context, "output": response, "task": "dolly/" + category}, where


def body():
    p = common.instruct_parser(
        __doc__,
        """\
  data/dolly.py --tokenizer runs/gpt --out data/dolly --max-len 512
  data/dolly.py --holdout summarization,classification --from databricks-dolly-15k.jsonl --tokenizer runs/gpt --out data/dolly
""",
    )
    p.add_argument("--holdout", default="", metavar="NAME,...", help="categories that are kept out of training")
    common.source_flags(
        p, "dolly", URL, "where the file is", "use this file (databricks-dolly-15k.jsonl) and download nothing"
    )
    args = p.parse_args()
    common.check_instruct(args)
    source = args.source or [common.download(args.url, os.path.join(args.cache, "databricks-dolly-15k.jsonl"))]
    file = common.named(source, "databricks-dolly-15k.jsonl")
    held_out = {"dolly/" + n.strip() for n in args.holdout.split(",") if n.strip()}
    known = {row["task"] for row, _ in rows(*file)} if held_out else set()
    for name in sorted(held_out - known):
        raise common.Failure(
            "--holdout: expected categories of Dolly, found %s; there are %s"
            % (name[6:], ", ".join(sorted(k[6:] for k in known)))
        )
    parts = {"train": (r for r in rows(*file) if r[0]["task"] not in held_out)}
    if held_out:
        parts["test_tasks"] = (r for r in rows(*file) if r[0]["task"] in held_out)
    common.finish_instruct(args, parts)


if __name__ == "__main__":
    common.main(body)
