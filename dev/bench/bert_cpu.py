"""CPU training speed of train_bert beside PyTorch's BertForMaskedLM: same machine, same run, alternating.

    make && python3 dev/bench/bert_cpu.py            # in a Python with torch and transformers: dev/requirements.txt
    python3 dev/bench/bert_cpu.py --rounds 5 --compile

mini (4 layers, 256 wide), vocabulary 8192, 32 sequences of 128 tokens a step, 15 % masked, dropout 0.1, fp32, AdamW, clipping at 1.
Prints medians over the rounds, the ratio, and the share of the GEMM floor: the time that the model's matrix products alone would take
at the best speed of a matrix product that either side reached in any round (PyTorch's at 1024 x 1024 x 1024, OpenBLAS' at 384, on all threads).
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


def make_data(folder):
    """One long document of made-up words, frequent and rare ones as in a language: every sequence has all its 128 tokens."""
    rng = random.Random(1)
    syllables = [a + b for a in "b c d f g h k l m n p r s t v w st tr".split() for b in "a e i o u ai ou".split()]
    words = ["".join(rng.choice(syllables) for _ in range(rng.randint(1, 4))) for _ in range(20000)]
    weights = [1 / (i + 3) for i in range(len(words))]
    for name, n in (("train", 600000), ("val", 30000)):
        (folder / f"{name}.txt").write_text(" ".join(rng.choices(words, weights, k=n)) + "\n")
    tokenize = [str(ROOT / "data/tokenize")]
    quiet = dict(check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    subprocess.run(tokenize + ["learn", "--type", "wordpiece", "--size", str(V), "--out", str(folder), str(folder / "train.txt")], **quiet)
    for name in ("train", "val"):
        subprocess.run(tokenize + ["pack", "--tokenizer", str(folder), "--kind", "text", "--in", str(folder / f"{name}.txt"), "--out", str(folder / f"{name}.bin")], **quiet)


def ours(folder, out, steps, threads, peaks):
    command = [str(ROOT / "train_bert"), "--data", str(folder), "--out", str(out), "--size", "mini", "--steps", str(steps), "--batch-tokens", str(B * T),
               "--max-len", str(T), "--dropout", "0.1", "--eval-every", "0", "--eval-tokens", "128"]
    env = dict(os.environ, OMP_NUM_THREADS=str(threads), OMP_WAIT_POLICY="passive")
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env).stdout
    rows = [json.loads(line) for line in open(out / "metrics.jsonl")]
    peaks.append(float(re.search(r"peak of matrix products: (\d+) GFLOP/s", text).group(1)) * 1e9)
    return statistics.median(r["tokens_per_s"] for r in rows if r.get("step", 0) > 2 and "tokens_per_s" in r)


class Torch:
    def __init__(self, threads, compiled):
        import torch
        import transformers
        self.torch = torch
        torch.set_num_threads(threads)
        torch.manual_seed(1)
        config = transformers.BertConfig(vocab_size=V, hidden_size=C, num_hidden_layers=L, num_attention_heads=C // 64, intermediate_size=4 * C,
                                         max_position_embeddings=T)
        config._attn_implementation = "sdpa"
        self.model = transformers.BertForMaskedLM(config).train()
        self.run = torch.compile(self.model) if compiled else self.model
        decay = [p for p in self.model.parameters() if p.ndim > 1]
        rest = [p for p in self.model.parameters() if p.ndim == 1]
        self.optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}], lr=1e-4, betas=(0.9, 0.98),
                                           eps=1e-6, fused=True)
        self.ids = torch.randint(5, V, (B, T))
        self.labels = torch.full((B, T), -100)
        chosen = torch.rand(B, T) < RATE
        self.labels[chosen] = self.ids[chosen]

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
        return B * T / statistics.median(times)


def peak(threads):
    """FLOP/s of a 1024^3 product by PyTorch"""
    import torch
    torch.set_num_threads(threads)
    a, b = torch.rand(1024, 1024), torch.rand(1024, 1024)
    best = 1e9
    for _ in range(8):
        begin = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - begin)
    return 2 * 1024**3 / best


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--steps", type=int, default=14, help="a round and side")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--compile", action="store_true", help="torch.compile as well")
    p.add_argument("--json", help="write the figures here")
    a = p.parse_args()
    try:
        import torch
        import transformers
    except ImportError:
        sys.exit("needs torch and transformers: python3 -m pip install -r dev/requirements.txt")
    sides = {"PyTorch eager": Torch(a.threads, False)}
    if a.compile:
        sides["PyTorch compiled"] = Torch(a.threads, True)
    results = {name: [] for name in ["tune.cu", *sides]}
    peaks = []
    with tempfile.TemporaryDirectory() as tmp:
        folder = pathlib.Path(tmp)
        make_data(folder)
        for r in range(a.rounds):
            peaks.append(peak(a.threads))
            results["tune.cu"].append(ours(folder, folder / f"run{r}", a.steps, a.threads, peaks))
            for name, side in sides.items():
                results[name].append(side.speed(a.steps))
            print(f"round {r + 1}: " + ", ".join(f"{n} {v[-1]:,.0f} tokens/s" for n, v in results.items()) + f"; peaks {peaks[-2] / 1e9:.0f} and {peaks[-1] / 1e9:.0f} GFLOP/s", file=sys.stderr)
    ours_speed = statistics.median(results["tune.cu"])
    # FLOP per token as train_bert does them: behind the last attention only for the rows with a target
    gemm = 6 * (3 * L * C * C + (L - 1 + RATE) * 9 * C * C + RATE * (V * C + C * C)) + 3 * 4 * L * T * C
    floor = max(peaks) / gemm
    versions = f"PyTorch {torch.__version__}, transformers {transformers.__version__}, {a.threads} threads"
    print(f"\n| fp32, mini, V={V}, {B} x {T} tokens, dropout 0.1 | tokens/s | tune.cu is |\n|---|---|---|")
    for name, values in results.items():
        ratio = statistics.median(o / v for o, v in zip(results["tune.cu"], values))
        print(f"| {name} | {statistics.median(values):,.0f} | {'' if name == 'tune.cu' else f'{ratio:.2f} x'} |")
    print(f"| floor of the matrix products ({max(peaks) / 1e9:.0f} GFLOP/s) | {floor:,.0f} | {100 * ours_speed / floor:.0f} % of it |")
    print(f"\n{versions}")
    if a.json:
        json.dump({"results": results, "peaks": peaks, "versions": versions, "floor": floor}, open(a.json, "w"), indent=1)


if __name__ == "__main__":
    main()
