"""The character-level model of Shakespeare, nanoGPT's setting for a CPU, by train_gpt and by PyTorch: validation loss
and time, same machine, one after the other.

    python3 data/shakespeare.py --out datasets/shakespeare
    make && python3 dev/bench/shakespeare.py --data datasets/shakespeare      # in a Python with torch and transformers

4 layers, 4 heads, 128 wide, context 64, batches of 12, 2,000 steps, no dropout; AdamW with betas 0.9 and 0.99, weight
decay 0.1, learning rate 1e-3 down to 1e-4 by a cosine after 100 steps, clipping at 1. Validation: the last tenth of the
text, in windows of 64. PyTorch draws its windows at random, as nanoGPT does; train_gpt takes each window of a pass
once. Neither side's validation is timed.
"""

import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
L, NH, C, T, B, STEPS = 4, 4, 128, 64, 12, 2000


def ours(data, out, threads, seed):
    command = [
        str(ROOT / "train_gpt"),
        "--data",
        data,
        "--out",
        str(out),
        "--layers",
        str(L),
        "--heads",
        str(NH),
        "--hidden-size",
        str(C),
        "--max-len",
        str(T),
        "--batch-tokens",
        str(B * T),
        "--steps",
        str(STEPS),
        "--lr",
        "1e-3",
        "--schedule",
        "cosine",
        "--final-lr",
        "0.1",
        "--warmup",
        "100",
        "--beta2",
        "0.99",
        "--weight-decay",
        "0.1",
        "--dropout",
        "0",
        "--eval-every",
        "0",
        "--eval-tokens",
        "0",
        "--log-every",
        "500",
        "--seed",
        str(seed),
    ]
    env = dict(os.environ, OMP_NUM_THREADS=str(threads))
    subprocess.run(command, check=True, stdout=sys.stderr, env=env)
    rows = [json.loads(line) for line in open(out / "metrics.jsonl")]
    seconds, last = 0, 0
    for r in rows:
        if "tokens_per_s" in r:
            seconds += (r["tokens"] - last) / r["tokens_per_s"]
            last = r["tokens"]
    return rows[-1]["val_loss"], seconds


def peer(data, threads, seed):
    import torch
    import transformers

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    text = [torch.tensor(list(pathlib.Path(data, name + ".txt").read_bytes())) for name in ("train", "val")]
    config = transformers.GPT2Config(
        vocab_size=257,
        n_positions=T,
        n_embd=C,
        n_layer=L,
        n_head=NH,
        resid_pdrop=0,
        embd_pdrop=0,
        attn_pdrop=0,
        use_cache=False,
    )
    config._attn_implementation = "sdpa"
    model = transformers.GPT2LMHeadModel(config).train()
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}],
        lr=1e-3,
        betas=(0.9, 0.99),
        fused=True,
    )

    def loss_of(x, y):
        logits = model(x).logits
        return torch.nn.functional.cross_entropy(logits.view(-1, 257), y.view(-1))

    begin = time.perf_counter()
    for step in range(STEPS):
        factor = (
            (step + 1) / 101 if step < 100 else 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - 100) / (STEPS - 100)))
        )
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * factor
        at = torch.randint(len(text[0]) - T, (B,)).tolist()
        loss = loss_of(
            torch.stack([text[0][i : i + T] for i in at]), torch.stack([text[0][i + 1 : i + T + 1] for i in at])
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
    seconds = time.perf_counter() - begin
    with torch.no_grad():
        n = (len(text[1]) - 1) // T
        x, y = text[1][: n * T].view(n, T), text[1][1 : n * T + 1].view(n, T)
        losses = [loss_of(x[i : i + 64], y[i : i + 64]).item() * len(x[i : i + 64]) for i in range(0, n, 64)]
    return sum(losses) / n, seconds


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True, help="made by data/shakespeare.py --keep-text")
    p.add_argument("--seeds", type=int, default=1)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    a = p.parse_args()
    print("| seed | | validation loss | seconds of training | |\n|---|---|---|---|---|")
    for seed in range(1, a.seeds + 1):
        with tempfile.TemporaryDirectory() as tmp:
            loss, seconds = ours(a.data, pathlib.Path(tmp) / "run", a.threads, seed)
        print(f"| {seed} | tune.cu | {loss:.4f} | {seconds:.1f} | |", flush=True)
        loss, other = peer(a.data, a.threads, seed)
        print(f"| {seed} | PyTorch | {loss:.4f} | {other:.1f} | tune.cu is {other / seconds:.2f} x |", flush=True)


if __name__ == "__main__":
    main()
