#!/usr/bin/env python3
"""Dolly (Databricks 2023: 15,011 instructions with answers written by people, in 7 categories; CC BY-SA 3.0)
-> train.bin, val.bin.

A task is a category; --holdout keeps categories out of training: they become test_tasks.bin.
"""

import os

from lib.arguments import source_flags
from lib.download import download
from lib.errors import Failure, run_script
from lib.instruct import check_instruct_arguments, instruct_parser, write_instruct_dataset
from lib.rows import field, json_objects
from lib.text_files import find_named

URL = "https://huggingface.co/datasets/databricks/databricks-dolly-15k/resolve/main/databricks-dolly-15k.jsonl"


def rows(name, opener):
    for row, where in json_objects(name, opener):
        instruction, context, response, category = (
            field(row, key, where) for key in ("instruction", "context", "response", "category")
        )
        yield {"instruction": instruction, "input": context, "output": response, "task": "dolly/" + category}, where


def main():
    p = instruct_parser(
        __doc__,
        """\
  data/dolly.py --tokenizer runs/gpt --out datasets/dolly --max-len 512
  data/dolly.py --holdout summarization,classification --tokenizer runs/gpt --out datasets/dolly
  data/dolly.py --from databricks-dolly-15k.jsonl --tokenizer runs/gpt --out datasets/dolly
""",
    )
    p.add_argument("--holdout", default="", metavar="NAME,...", help="categories that are kept out of training")
    source_flags(
        p, "dolly", URL, "where the file is", "use this file (databricks-dolly-15k.jsonl) and download nothing"
    )
    args = p.parse_args()
    check_instruct_arguments(args)
    source = args.source or [download(args.url, os.path.join(args.cache, "databricks-dolly-15k.jsonl"))]
    file = find_named(source, "databricks-dolly-15k.jsonl")
    held_out = {"dolly/" + n.strip() for n in args.holdout.split(",") if n.strip()}
    known = {row["task"] for row, _ in rows(*file)} if held_out else set()
    for name in sorted(held_out - known):
        raise Failure(
            "--holdout: expected categories of Dolly, found %s; there are %s"
            % (name[6:], ", ".join(sorted(k[6:] for k in known)))
        )
    parts = {"train": (r for r in rows(*file) if r[0]["task"] not in held_out)}
    if held_out:
        parts["test_tasks"] = (r for r in rows(*file) if r[0]["task"] in held_out)
    write_instruct_dataset(args, parts)


if __name__ == "__main__":
    run_script(main)
