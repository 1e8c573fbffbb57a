"""CPU training speed of train_bert beside PyTorch's BertForMaskedLM: same machine, same run, alternating.

    make && python3 dev/bench/bert_cpu.py            # in a Python with torch and transformers: dev/requirements.txt
    python3 dev/bench/bert_cpu.py --rounds 5 --compile

mini (4 layers, 256 wide), vocabulary 8192, 32 sequences of 128 tokens a step, 15 % masked, dropout 0.1, fp32, AdamW,
clipping at 1. Prints medians over the rounds, the ratio, and the fraction of the GEMM floor: the time that the model's
matrix products alone would take at the best speed of a matrix product that either side reached in any round (PyTorch's
at 1024 x 1024 x 1024, OpenBLAS' at 384, on all threads).
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
L, C, V, T, B, RATE = 4, 256, 8192, 128, 32, 0.15


def make_data(folder, kind="wordpiece", size=V):
    """One long document of made-up words, frequent and rare ones as in a language: every sequence has all its
    tokens."""
    rng = random.Random(1)
    syllables = [a + b for a in "b c d f g h k l m n p r s t v w st tr".split() for b in "a e i o u ai ou".split()]
    words = ["".join(rng.choice(syllables) for _ in range(rng.randint(1, 4))) for _ in range(20000)]
    weights = [1 / (i + 3) for i in range(len(words))]
    for name, n in (("train", 600000), ("val", 30000)):
        (folder / f"{name}.txt").write_text(" ".join(rng.choices(words, weights, k=n)) + "\n")

    def tokenize(*words):
        command = [str(ROOT / "data/tokenize"), *words]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    tokenize("learn", "--type", kind, "--size", str(size), "--out", ".", "train.txt")
    for name in ("train", "val"):
        tokenize("pack", "--tokenizer", ".", "--kind", "text", "--in", f"{name}.txt", "--out", f"{name}.bin")


def ours(program, flags, folder, out, steps, threads, peaks):
    """Tokens per second of a training program of this project, the median over its steps but the first two"""
    command = [str(ROOT / program), "--data", str(folder), "--out", str(out), "--steps", str(steps)]
    command += ["--eval-every", "0", "--eval-tokens", "128", *flags]
    env = dict(os.environ, OMP_NUM_THREADS=str(threads))
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env).stdout
    rows = [json.loads(line) for line in open(out / "metrics.jsonl")]
    peaks.append(float(re.search(r"peak of matrix products: (\d+) GFLOP/s", text).group(1)) * 1e9)
    return statistics.median(r["tokens_per_s"] for r in rows if r.get("step", 0) > 2 and "tokens_per_s" in r)


class Torch:
    """A training step of a model of transformers on (ids, labels)"""

    def __init__(self, model, ids, labels, threads, compiled, lr=1e-4, betas=(0.9, 0.98), weight_decay=0.01):
        import torch

        self.torch = torch
        torch.set_num_threads(threads)
        self.model = model.train()
        self.run = torch.compile(self.model) if compiled else self.model
        decay = [p for p in self.model.parameters() if p.ndim > 1]
        rest = [p for p in self.model.parameters() if p.ndim == 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}],
            lr=lr,
            betas=betas,
            fused=True,
        )
        self.ids, self.labels = ids, labels

    def step(self):
        loss = self.run(input_ids=self.ids, labels=self.labels).loss  # no attention mask: nothing is padded
        loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def speed(self, steps):
        for _ in range(2):
            self.step()
        times = []
        for _ in range(steps - 2):
            begin = time.perf_counter()
            self.step()
            times.append(time.perf_counter() - begin)
        return self.ids.numel() / statistics.median(times)


def bert(threads, compiled):
    import torch
    import transformers

    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=V,
        hidden_size=C,
        num_hidden_layers=L,
        num_attention_heads=C // 64,
        intermediate_size=4 * C,
        max_position_embeddings=T,
    )
    config._attn_implementation = "sdpa"
    ids, labels = torch.randint(5, V, (B, T)), torch.full((B, T), -100)
    chosen = torch.rand(B, T) < RATE
    labels[chosen] = ids[chosen]
    return Torch(transformers.BertForMaskedLM(config), ids, labels, threads, compiled)


def peak(threads, precision="fp32"):
    """FLOP/s of a 1024^3 product by PyTorch"""
    import torch

    torch.set_num_threads(threads)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = torch.rand(1024, 1024, dtype=dtype), torch.rand(1024, 1024, dtype=dtype)
    best = 1e9
    for _ in range(8):
        begin = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - begin)
    return 2 * 1024**3 / best


def arguments(doc, steps=14):
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--steps", type=int, default=steps, help="a round and side")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--compile", action="store_true", help="torch.compile as well")
    p.add_argument("--json", help="write the numbers here")
    a = p.parse_args()
    if a.json and os.path.exists(a.json):
        p.error(f"--json {a.json}: expected no such file, found one; remove it or take another name")
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError:
        sys.exit("needs torch and transformers: python3 -m pip install -r dev/requirements.txt")
    return a


def compare(a, what, unit, ours, sides, flop):
    """Runs ours(round, peaks) and each of sides[name]() in turn, a.rounds times, and prints the table. flop: matrix
    products per unit, for the floor."""
    import torch
    import transformers

    results = {name: [] for name in ["tune.cu", *sides]}
    peaks = []
    for r in range(a.rounds):
        peaks.append(peak(a.threads))
        results["tune.cu"].append(ours(r, peaks))
        for name, side in sides.items():
            results[name].append(side())
        print(
            f"round {r + 1}: "
            + ", ".join(f"{n} {v[-1]:,.0f} {unit}" for n, v in results.items())
            + f"; peaks {peaks[-2] / 1e9:.0f} and {peaks[-1] / 1e9:.0f} GFLOP/s",
            file=sys.stderr,
        )
    print(f"\n| {what} | {unit} | tune.cu is |\n|---|---|---|")
    for name, values in results.items():
        ratio = statistics.median(o / v for o, v in zip(results["tune.cu"], values))
        print(f"| {name} | {statistics.median(values):,.0f} | {'' if name == 'tune.cu' else f'{ratio:.2f} x'} |")
    floor = max(peaks) / flop
    print(
        f"| floor of the matrix products ({max(peaks) / 1e9:.0f} GFLOP/s) | {floor:,.0f} "
        f"| {100 * statistics.median(results['tune.cu']) / floor:.0f} % of it |"
    )
    versions = f"PyTorch {torch.__version__}, transformers {transformers.__version__}, {a.threads} threads"
    print(f"\n{versions}")
    if a.json:
        json.dump(
            {"results": results, "peaks": peaks, "versions": versions, "floor": floor}, open(a.json, "w"), indent=1
        )


def main():
    a = arguments(__doc__)
    sides = {"PyTorch eager": bert(a.threads, False).speed}
    if a.compile:
        sides["PyTorch compiled"] = bert(a.threads, True).speed
    # FLOP per token as train_bert does them: after the last attention only for the rows with a target
    gemm = 6 * (3 * L * C * C + (L - 1 + RATE) * 9 * C * C + RATE * (V * C + C * C)) + 3 * 4 * L * T * C
    flags = ["--size", "mini", "--batch-tokens", str(B * T), "--max-len", str(T), "--dropout", "0.1"]
    with tempfile.TemporaryDirectory() as tmp:
        folder = pathlib.Path(tmp)
        make_data(folder)
        compare(
            a,
            f"fp32, mini, V={V}, {B} x {T} tokens, dropout 0.1",
            "tokens/s",
            lambda r, peaks: ours("train_bert", flags, folder, folder / f"run{r}", a.steps, a.threads, peaks),
            {name: lambda side=side: side(a.steps) for name, side in sides.items()},
            gemm,
        )


if __name__ == "__main__":
    main()
