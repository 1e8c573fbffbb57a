#!/usr/bin/env python3
"""Stanford Alpaca (Taori et al. 2023: 52,002 instructions with answers by text-davinci-003; CC BY-NC 4.0)
-> train.bin, val.bin."""

import os

from lib.arguments import source_flags
from lib.download import download
from lib.errors import run_script
from lib.instruct import check_instruct_arguments, instruct_parser, write_instruct_dataset
from lib.rows import field, json_objects
from lib.text_files import find_named

URL = "https://raw.githubusercontent.com/tatsu-lab/stanford_alpaca/main/alpaca_data.json"
CHECKSUM = "2eddafc6b977608d778aaab8dfc7e50e547b3af9826dfb9e909d9fc362e4a419"


def rows(name, opener):
    for row, where in json_objects(name, opener):
        yield (
            {
                "instruction": field(row, "instruction", where),
                "input": field(row, "input", where),
                "output": field(row, "output", where),
                "task": "alpaca",
            },
            where,
        )


def main():
    p = instruct_parser(
        __doc__,
        """\
  data/alpaca.py --tokenizer runs/gpt --out datasets/alpaca --max-len 512
  data/alpaca.py --from alpaca_data.json --limit 5000 --tokenizer runs/gpt --out datasets/alpaca_small
""",
    )
    source_flags(p, "alpaca", URL, "where the file is", "use this file (alpaca_data.json) and download nothing")
    args = p.parse_args()
    check_instruct_arguments(args)
    source = args.source or [download(args.url, os.path.join(args.cache, "alpaca_data.json"), CHECKSUM)]
    write_instruct_dataset(args, {"train": rows(*find_named(source, "alpaca_data.json"))})


if __name__ == "__main__":
    run_script(main)
