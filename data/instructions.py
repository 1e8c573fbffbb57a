#!/usr/bin/env python3
"""Your own instructions -> train.bin, val.bin and, of what is held out, test_tasks.bin and test_families.bin.

Files hold an object a line, an array of objects, or objects of several lines (.jsonl or .json, also .gz, .xz, .bz2,
.zip). A row has instruction,
output and perhaps input; or prompt and completion; or messages, of which only the assistant's are learned. It may name
its task, "name" or "family/name"; where there are several files, a row that names none has its file's name as task.
"""

import os

from lib.arguments import encoding_flag
from lib.errors import Failure, run_script
from lib.instruct import check_instruct_arguments, instruct_parser, write_instruct_dataset
from lib.rows import json_objects
from lib.text_files import base_name, text_files


def rows(paths, several, encoding):
    for path in paths:
        for name, opener in text_files([path], (".jsonl", ".json"), encoding):
            task = "".join(c if c.isprintable() else "_" for c in os.path.splitext(base_name(name))[0])
            for row, where in json_objects(name, opener):
                if several and row.get("task") is None:
                    row["task"] = task
                yield row, where


def name_of(row):
    """The row's task, as data/tokenize reads it: "family / name" is "family/name"; "" where there is none"""
    return "/".join(part.strip() for part in row["task"].split("/", 1)) if isinstance(row.get("task"), str) else ""


def names_of(task):
    """Of "family/name" all of it, the family, the name"""
    return {task, task.split("/")[0], task.split("/", 1)[-1]}


def is_in(row, names):
    """Is one of the names the row's task, its family, or its name without the family?"""
    return not names.isdisjoint(names_of(name_of(row)))


def main():
    p = instruct_parser(
        __doc__,
        """\
  data/instructions.py mine.jsonl --tokenizer runs/gpt --out datasets/mine
  data/instructions.py lists.jsonl words.jsonl stories.json --holdout words --max-len 256 \\
      --tokenizer runs/gpt --out datasets/mine
""",
        val_fraction=0.05,
    )
    p.add_argument("files", nargs="+", metavar="FILE", help="rows to learn from")
    p.add_argument(
        "--val",
        action="append",
        metavar="FILE",
        help="rows to validate with (default: a fraction of the others, see --val-fraction)",
    )
    p.add_argument(
        "--holdout",
        default="",
        metavar="NAME,...",
        help="tasks or families that are kept out of training: they become test_tasks.bin, "
        "and test_families.bin where the whole family is out",
    )
    encoding_flag(p)
    args = p.parse_args()
    check_instruct_arguments(args)
    several = sum(1 for path in args.files for _ in text_files([path], (".jsonl", ".json"))) > 1
    held_out = {n.strip() for n in args.holdout.split(",") if n.strip()}
    if held_out:  # before the work begins: are all of them there?
        tasks = {name_of(row) for row, _ in rows(args.files, several, args.encoding)} - {""}
        known = set().union(*map(names_of, tasks)) if tasks else set()
        for name in sorted(held_out - known):
            raise Failure(
                "--holdout: expected tasks or families of the files, found %s; there are %s"
                % (name, ", ".join(sorted(tasks))[:300] or "no tasks in them")
            )
    parts = {"train": (r for r in rows(args.files, several, args.encoding) if not is_in(r[0], held_out))}
    if args.val:
        parts["val"] = (r for r in rows(args.val, several, args.encoding) if not is_in(r[0], held_out))
    if held_out:
        # tasks of a family that is trained on, or of none; and whole families
        family = lambda task: task.split("/")[0]
        seen = {family(t) for t in tasks if not is_in({"task": t}, held_out) or "/" not in t}
        out_of = lambda of_seen: (
            r
            for r in rows(args.files, several, args.encoding)
            if is_in(r[0], held_out) and (family(name_of(r[0])) in seen) == of_seen
        )
        for part, of_seen in (("test_tasks", True), ("test_families", False)):
            if any(is_in({"task": t}, held_out) and (family(t) in seen) == of_seen for t in tasks):
                parts[part] = out_of(of_seen)
    write_instruct_dataset(args, parts)


if __name__ == "__main__":
    run_script(main)
