"""Decoders from scratch: --arch llama beside gpt2 at as many parameters, on the same tokens: the validation
loss of each seed.

    data/shakespeare.py --out datasets/shakespeare
    make && python3 dev/bench/arch.py --data datasets/shakespeare --layers 4 --heads 4 --hidden-size 128 \\
        --max-len 64 --batch-tokens 768 --steps 2000 --lr 1e-3 --final-lr 0.1 --warmup 100 --beta2 0.99 \\
        --weight-decay 0.1 --dropout 0

All flags that are not named below go to train_gpt. Llama's three matrices of the feed-forward part are as wide (a
multiple of 8) as leaves it no more parameters than gpt2 has. Everything else is the same, the learning rate as well.
The interval is that of the mean difference of the seeds, by Student's t.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "dev/lib"))
from stats import student  # noqa: E402


def train(a, flags, *more):
    """(parameters, validation loss, tokens) of one run"""
    with tempfile.TemporaryDirectory() as tmp:
        command = [ROOT / "train_gpt", "--data", a.data, "--out", pathlib.Path(tmp, "run"), *flags, *more]
        command += ["--eval-every", "0", "--eval-tokens", "0", "--log-every", "100"]
        env = dict(os.environ, OMP_NUM_THREADS=str(a.threads))
        done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, text=True, env=env)
        if done.returncode:
            sys.exit(done.stdout)
        rows = [json.loads(line) for line in open(pathlib.Path(tmp, "run/metrics.jsonl"))]
    parameters = int(re.search(r"([\d,]+) parameters", done.stdout)[1].replace(",", ""))
    tokens = max(r.get("tokens", 0) for r in rows)
    return parameters, next(r["val_loss"] for r in reversed(rows) if "val_loss" in r), tokens


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True)
    p.add_argument("--layers", type=int, default=4)
    p.add_argument("--hidden-size", type=int, default=256)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    a, flags = p.parse_known_args()
    L, C = a.layers, a.hidden_size
    flags += ["--layers", L, "--hidden-size", C]
    # a layer of gpt2 has 12 C^2 + 13 C parameters, one of llama 4 C^2 + 3 C FF + 2 C
    width = (8 * C + 11) // 3 // 8 * 8
    kinds = {"gpt2": ["--arch", "gpt2"], "llama": ["--arch", "llama", "--ffn-dim", width]}
    found = {name: [] for name in kinds}
    for seed in range(1, a.seeds + 1):
        for name, of in kinds.items():
            found[name].append(train(a, flags, *of, "--seed", seed))
            print(f"seed {seed}, {name}: {found[name][-1]}", file=sys.stderr, flush=True)
    tokens = found["gpt2"][0][2]
    print(f"{tokens:,.0f} tokens\n\n| | parameters | validation loss | each seed |\n|---|---|---|---|")
    losses = {name: [loss for _, loss, _ in of] for name, of in found.items()}
    for name, of in losses.items():
        each = ", ".join(f"{x:.3f}" for x in of)
        print(f"| {name} | {found[name][0][0]:,} | {statistics.fmean(of):.3f} | {each} |")
    less = [y - x for x, y in zip(losses["gpt2"], losses["llama"])]
    print(f"\nllama less gpt2: {statistics.fmean(less):+.3f} +- {student(less):.3f}")


if __name__ == "__main__":
    main()
