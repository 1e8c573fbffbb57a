#!/usr/bin/env python3
"""The toy world's claim, three pretraining seeds x three fine-tuning seeds: 100 labels that use one half of the opinion
words, a test that uses
the other half; pretrained, from scratch, and a bag of words. With and without negation and contrast. About half an hour
on two cores.

    python3 dev/recipes/toy.py runs/toy        flags of both trainings: PRETRAIN and FINETUNE
    python3 dev/recipes/toy.py runs/toy hard   only the world with negation and contrast

The world's seed is not the one that the recipe was made with. Runs that are done are not repeated.
"""

import json
import pathlib
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PRETRAIN = (
    "--layers 4 --hidden-size 128 --heads 4 --max-len 32 --positions 64 --dropout 0 --init-std 0.04"
    " --mlm-probability 0.25 --lr 2e-3 --steps 1000 --batch-tokens 4096 --eval-every 100 --log-every 20"
).split()
FINETUNE = "--dev-split 0 --batch 16 --epochs 40 --lr 3e-4 --eval-every 1000000 --log-every 50".split()
WORLDS = {"easy": ["--negation", "0", "--contrast", "0"], "hard": []}


def run(command, log):
    command = [str(c) for c in command]
    out = pathlib.Path(command[command.index("--out") + 1])
    if command[0].startswith("./") and (out / "config.json").exists():  # begun earlier
        command = [command[0], "--resume", "--out", str(out)]
    with open(log, "a") as f:
        subprocess.run(command, check=True, stdout=f, stderr=subprocess.STDOUT, cwd=ROOT)


def main():
    if any(word.startswith("-") for word in sys.argv[1:]):
        print(__doc__)
        sys.exit(0 if sys.argv[1:] in (["--help"], ["-h"]) else 2)
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "runs/toy").resolve()
    out.mkdir(parents=True, exist_ok=True)
    print(
        "| world | model | words that labels used (val) | words that no label used (test) | each run on test "
        "|\n|---|---|---|---|---|"
    )
    for world in sys.argv[2:] or WORLDS:
        data = out / world
        if not (data / "reviews/test.bin").exists():
            run(
                [sys.executable, "data/toy.py", "--only", "encoder", "--out", data, "--seed", "77"] + WORLDS[world],
                str(data) + ".log",
            )
        results = {"pretrained": [], "from scratch": []}
        for seed in (1, 2, 3):
            bert = out / f"{world}-bert-{seed}"
            command = ["./train_bert", "--data", data / "text", "--out", bert, "--seed", seed] + PRETRAIN
            run(command, str(bert) + ".log")  # where it is done, it says so
            for name, more in (("pretrained", []), ("from scratch", ["--from-scratch"])):
                fine = out / f"{world}-{name.replace(' ', '-')}-{seed}"
                if not (fine / "results.json").exists():
                    run(
                        [
                            "./finetune_cls",
                            "--init",
                            bert,
                            "--data",
                            data / "reviews",
                            "--out",
                            fine,
                            "--seeds",
                            3,
                            "--seed",
                            10 * seed,
                        ]
                        + FINETUNE
                        + more,
                        str(fine) + ".log",
                    )
                results[name].append(json.load(open(fine / "results.json")))
        for name, rs in results.items():
            runs = {s: [a for r in rs for a in r[s]["accuracy"]["runs"]] for s in ("val", "test")}
            cells = [f"{100 * statistics.mean(v):.1f} +- {100 * statistics.stdev(v):.1f}" for v in runs.values()]
            print(
                f"| {world} | {name} | {cells[0]} | {cells[1]} | {', '.join(f'{100 * a:.1f}' for a in runs['test'])} |",
                flush=True,
            )
        bag = re.findall(r"^  (words.*?): .*?(\d+\.\d+) %", (pathlib.Path(str(data) + ".log")).read_text(), re.M)
        for kind in ("words", "words and pairs of words"):
            values = dict(bag)
            print(
                f"| {world} | bag of {kind} | {values[kind + ' on val']} | {values[kind + ' on test']} | |", flush=True
            )


if __name__ == "__main__":
    main()
