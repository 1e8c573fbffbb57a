"""CPU speed of finetune_cls beside PyTorch's BertForSequenceClassification: same model, data and batch size, same run,
sides alternating.

    python3 data/sst2.py --tokenizer runs/bert --keep-text --out datasets/sst2
    make && python3 dev/bench/finetune_cpu.py --init runs/bert --data datasets/sst2

32 examples a step, drawn at random. PyTorch once with every text padded to 128 tokens, as the published recipes do it,
and once padded to the longest of its batch; finetune_cls pads nothing. Prints medians over the rounds of examples per
second, and the ratios. Tokenising is not timed on either side; PyTorch's padding is. The peak of matrix products is
probed beside them.
"""

import argparse
import json
import os
import pathlib
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "dev/bench"))


def ours(a, out, peaks):
    command = [str(ROOT / "finetune_cls"), "--init", a.init, "--out", str(out)]
    command += ["--steps", str(a.steps + 5), "--batch", str(a.batch), "--dev-split", "0"]
    command += ["--eval-every", "1000000", "--log-every", "1000000"]
    env = dict(os.environ, OMP_NUM_THREADS=str(a.threads))
    with tempfile.TemporaryDirectory() as tmp:  # only the training examples: nothing to report on
        for name in os.listdir(a.data):
            if name not in ("val.bin", "test.bin"):
                os.symlink(os.path.abspath(os.path.join(a.data, name)), os.path.join(tmp, name))
        text = subprocess.run(command + ["--data", tmp], check=True, stdout=subprocess.PIPE, text=True, env=env).stdout
    peaks.append(float(re.search(r"peak of matrix products: (\d+) GFLOP/s", text).group(1)))
    seconds, tokens, last = 0, 0, 0
    for line in open(out / "metrics.jsonl"):
        row = json.loads(line)
        if row.get("step", 0) > 0 and "tokens_per_s" in row:
            if row["step"] > 5:
                seconds += (row["tokens"] - last) / row["tokens_per_s"]
                tokens += row["tokens"] - last
            last = row["tokens"]
    return a.batch * a.steps / seconds, tokens / (a.batch * a.steps)


def torch_side(a, pad_to):
    import finetune_hf

    peer = finetune_hf.Peer(a.init, a.data, 128, pad_to, a.threads)
    peer.start(1, 1e-4, a.steps + 5)

    def run(seed):
        rng = random.Random(seed)
        for s in range(a.steps + 5):
            if s == 5:
                begin = time.perf_counter()
            peer.step(peer.batch(rng.sample(peer.sets["train"], a.batch)))
        return a.batch * a.steps / (time.perf_counter() - begin)

    return run


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--init", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--steps", type=int, default=40, help="a round and side")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    a = p.parse_args()
    try:
        import torch
        import transformers
    except ImportError:
        sys.exit("needs torch and transformers: python3 -m pip install -r dev/requirements.txt")
    sides = {
        "PyTorch, padded to the longest of the batch": torch_side(a, 0),
        "PyTorch, padded to 128": torch_side(a, 128),
    }
    results, peaks = {name: [] for name in ["tune.cu", *sides]}, []
    with tempfile.TemporaryDirectory() as tmp:
        for r in range(a.rounds):
            speed, mean = ours(a, pathlib.Path(tmp) / f"run{r}", peaks)
            results["tune.cu"].append(speed)
            for name, side in sides.items():
                results[name].append(side(r))
            print(
                f"round {r + 1}: "
                + "; ".join(f"{n}: {v[-1]:.1f} examples/s" for n, v in results.items())
                + f"; peak {peaks[-1]:.0f} GFLOP/s",
                file=sys.stderr,
            )
    print(f"\n| fp32, {a.init}, {a.batch} examples a step, {mean:.1f} tokens each | examples/s | tune.cu is |")
    print("|---|---|---|")
    for name, values in results.items():
        ratio = statistics.median(o / v for o, v in zip(results["tune.cu"], values))
        print(f"| {name} | {statistics.median(values):.1f} | {'' if name == 'tune.cu' else f'{ratio:.2f} x'} |")
    print(
        f"\nPyTorch {torch.__version__}, transformers {transformers.__version__}, {a.threads} threads, "
        f"peak of matrix products {max(peaks):.0f} GFLOP/s"
    )


if __name__ == "__main__":
    main()
