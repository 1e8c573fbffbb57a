#!/usr/bin/env python3
"""Stanford Alpaca (Taori et al. 2023: 52,002 instructions with answers by text-davinci-003; CC BY-NC 4.0) -> train.bin,
val.bin."""

import os

import common

URL = "https://raw.githubusercontent.com/tatsu-lab/stanford_alpaca/main/alpaca_data.json"
CHECKSUM = "2eddafc6b977608d778aaab8dfc7e50e547b3af9826dfb9e909d9fc362e4a419"


def rows(name, opener):
    for row, where in common.json_rows(name, opener):
        yield (
            {
                "instruction": common.field(row, "instruction", where),
                "input": common.field(row, "input", where),
                "output": common.field(row, "output", where),
                "task": "alpaca",
            },
            where,
        )


def body():
    p = common.instruct_parser(
        __doc__,
        """\
  data/alpaca.py --tokenizer runs/gpt --out data/alpaca --max-len 512
  data/alpaca.py --from alpaca_data.json --limit 5000 --tokenizer runs/gpt --out data/alpaca_small
""",
    )
    common.source_flags(p, "alpaca", URL, "where the file is", "use this file (alpaca_data.json) and download nothing")
    args = p.parse_args()
    common.check_instruct(args)
    source = args.source or [common.download(args.url, os.path.join(args.cache, "alpaca_data.json"), CHECKSUM)]
    common.finish_instruct(args, {"train": rows(*common.named(source, "alpaca_data.json"))})


if __name__ == "__main__":
    common.main(body)
