#!/usr/bin/env python3
"""Super-NaturalInstructions (Wang et al. 2022; Apache-2.0, each task with a licence of its own), English, the official
task split -> train.bin, val.bin (other instances of the training tasks), test_tasks.bin and test_families.bin.

The official test tasks, the first 100 instances of each, are in test_tasks.bin where training has tasks of their
category, else in test_families.bin (in the official split nearly all). The instruction is a task's definition; its
positive examples are shown with --shots 1 or 2. Of several outputs the first is learned, any is right. --from takes the
repository (a folder with tasks/*.json and splits/default/), or superni_tasks.jsonl and superni_instances.jsonl.
"""

import json
import os

from lib.arguments import check_url, source_flags
from lib.download import download
from lib.errors import Failure, Usage, run_script
from lib.file_kinds import read_json, read_text
from lib.instruct import check_instruct_arguments, instruct_parser, write_instruct_dataset
from lib.rows import field, json_objects
from lib.splits import sample_names
from lib.text_files import find_named

URL = "https://raw.githubusercontent.com/allenai/natural-instructions/master/{file}"


def family(categories):
    return categories[0].lower().replace(" ", "_").strip("._") if categories else "other"


def instance_row(task, instance, where):
    return {
        "instruction": task["definition"],
        "input": field(instance, "input", where),
        "output": field(instance, "output", where, (str, list)),
        "task": family(task["categories"]) + "/" + task["name"],
        "examples": task["examples"],
    }


def one_task(name, split, definition, categories, positive, where):
    definition = definition[0] if isinstance(definition, list) and definition else definition
    if not isinstance(definition, str):
        raise Failure("%s: expected a definition, found %.40s" % (where, json.dumps(definition)))
    if not all(isinstance(c, str) for c in categories):
        raise Failure("%s: expected a list of names as categories, found %.40s" % (where, json.dumps(categories)))
    examples = []
    for e in positive[:2]:
        output = field(e, "output", where, (str, list))
        output = output if isinstance(output, str) else output[0] if output else ""
        if not isinstance(output, str):
            raise Failure("%s: output: expected a string, found %.40s" % (where, json.dumps(output)))
        examples.append({"input": field(e, "input", where), "output": output})
    return {
        "name": name,
        "split": split,
        "definition": definition,
        "categories": categories,
        "examples": [e for e in examples if e["output"].strip()],
    }


class Repository:
    """tasks/NAME.json and splits/default/*.txt: of a folder, or downloaded one by one"""

    def __init__(self, path):
        self.path = path  # name of a file in the repository -> its path here
        self.names = [
            (line.strip(), split)
            for split in ("train", "test")
            for line in read_text(path("splits/default/%s_tasks.txt" % split)).split("\n")
            if line.strip()
        ]

    def task(self, name, split):
        """(task, its instances with their places)"""
        path = self.path("tasks/%s.json" % name)
        data = read_json(path, dict, "a JSON object")
        task = one_task(
            name,
            split,
            data.get("Definition"),
            field(data, "Categories", path, list),
            field(data, "Positive Examples", path, list),
            path,
        )
        return task, [
            (instance, "%s, instance %d" % (path, n))
            for n, instance in enumerate(field(data, "Instances", path, list), 1)
        ]


class TwoFiles:
    """superni_tasks.jsonl: task, split, definition, categories, positive_examples; superni_instances.jsonl: task,
    input, output, in the official order"""

    def __init__(self, tasks, instances):
        self.tasks, self.instances = {}, {}
        for row, where in json_objects(*tasks):
            name, split = field(row, "task", where), field(row, "split", where)
            self.tasks[name] = one_task(
                name,
                split,
                row.get("definition"),
                field(row, "categories", where, list),
                field(row, "positive_examples", where, list),
                where,
            )
        for row, where in json_objects(*instances):
            self.instances.setdefault(field(row, "task", where), []).append((row, where))
        self.names = [(t["name"], t["split"]) for t in self.tasks.values() if t["name"] in self.instances]

    def task(self, name, split):
        return self.tasks[name], self.instances[name]


def main():
    p = instruct_parser(
        __doc__,
        """\
  data/superni.py --tokenizer runs/gpt --out datasets/superni --max-len 1024 --overlong truncate     downloads 1.6 GB
  data/superni.py --tasks 64 --shots 1 --from natural-instructions --tokenizer runs/gpt --out datasets/superni64
""",
    )
    p.add_argument(
        "--tasks",
        type=int,
        metavar="N",
        help="train on N tasks drawn by the seed; those of a smaller N are among them (default: all)",
    )
    p.add_argument(
        "--per-task",
        type=int,
        default=100,
        metavar="N",
        help="the first N instances of each training task, as the paper has it (default 100)",
    )
    source_flags(
        p,
        "superni",
        URL,
        "where the repository is, {file} in place of a file's name",
        "use these files and download nothing",
        "DIR",
        several=False,
    )
    args = p.parse_args()
    check_url(args.url, "{file}", "the name")
    for flag, value in (("--tasks", args.tasks), ("--per-task", args.per_task)):
        if value is not None and value < 1:
            raise Usage("%s: expected a number from 1, found %d" % (flag, value))
    check_instruct_arguments(args)
    if args.source and not os.path.isdir(args.source):
        raise Failure("--from: expected a folder, found none at %s" % args.source)
    if args.source and os.path.isdir(os.path.join(args.source, "tasks")):
        source = Repository(lambda name: os.path.join(args.source, name))
    elif args.source:
        source = TwoFiles(
            find_named([args.source], "superni_tasks.jsonl"), find_named([args.source], "superni_instances.jsonl")
        )
    else:
        source = Repository(lambda name: download(args.url.replace("{file}", name), os.path.join(args.cache, name)))
    train = sample_names([name for name, split in source.names if split == "train"], args.seed, args.tasks)
    test = [name for name, split in source.names if split == "test"]
    if not train or not test:
        raise Failure("expected tasks of the splits train and test, found %d and %d" % (len(train), len(test)))
    seen = set()

    def rows(names, split, per_task, wanted):
        for name in names:
            task, instances = source.task(name, split)
            if split == "train":
                seen.add(family(task["categories"]))
            if wanted(family(task["categories"])):
                for instance, where in instances[:per_task]:
                    yield instance_row(task, instance, where), where

    parts = {"train": list(rows(train, "train", args.per_task, lambda f: True))}  # first, so that `seen` is known
    for part, wanted in (("test_tasks", lambda f: f in seen), ("test_families", lambda f: f not in seen)):
        found = list(rows(test, "test", 100, wanted))
        if found:
            parts[part] = found
    print("%d tasks of %d categories for training, %d held-out tasks" % (len(train), len(seen), len(test)))
    write_instruct_dataset(args, parts)


if __name__ == "__main__":
    run_script(main)
