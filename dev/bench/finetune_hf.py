"""The peer of finetune_cls: the same recipe in PyTorch with transformers' BertForSequenceClassification, on the CPU.

    python3 data/sst2.py --tokenizer models/minilm --keep-text --out datasets/sst2-minilm
    python3 dev/bench/finetune_hf.py --init models/minilm --data datasets/sst2-minilm --epochs 2 --lr 5e-5
    python3 dev/bench/finetune_hf.py --init models/minilm --data datasets/sst2-minilm --examples 500 --epochs 10 \\
        --seeds 3

Reads train.tsv, val.tsv, test.tsv (--keep-text). Batches are drawn at random and padded to their longest text (--pad-to
128: all to 128). AdamW (fused), betas 0.9 and 0.999, weight decay 0.01 but not on biases and LayerNorm, linear warmup
and decay, clipping at 1, dropout 0.1, SDPA attention, the last model: what finetune_cls does with --dev-split 0.
--examples are drawn in the classes' proportions, as there. Neither tokenising nor padding is timed. Prints accuracy on
val and test, and the seconds of training.
"""

import argparse
import collections
import os
import pathlib
import random
import statistics
import sys
import time

import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from stats import stratified  # noqa: E402


def read_tsv(path, labels):
    with open(path, encoding="utf-8", newline="\n") as f:
        columns = f.readline().rstrip("\n").split("\t")
        rows = [line.rstrip("\n").split("\t") for line in f]
    if "text2" in columns:
        sys.exit(f"error: {path}: expected single texts, found the column text2")
    text, label = columns.index("text"), columns.index("label")
    if not labels:
        labels += sorted({r[label] for r in rows})
    return [r[text] for r in rows], [labels.index(r[label]) for r in rows]


class Peer:
    def __init__(self, init, data, max_len=128, pad_to=0, threads=os.cpu_count()):
        torch.set_num_threads(threads)
        self.init, self.pad_to, self.labels = init, pad_to, []
        tokenizer = transformers.AutoTokenizer.from_pretrained(init)
        self.sets = {}
        for name in ("train", "val", "test"):
            path = f"{data}/{name}.tsv"
            if os.path.exists(path):
                texts, gold = read_tsv(path, self.labels)
                self.sets[name] = [
                    (ids, g) for ids, g in zip(tokenizer(texts, truncation=True, max_length=max_len)["input_ids"], gold)
                ]

    def start(self, seed, lr, steps, warmup=0.1, from_scratch=False):
        torch.manual_seed(seed)
        config = transformers.AutoConfig.from_pretrained(
            self.init, num_labels=len(self.labels), hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1
        )
        config._attn_implementation = "sdpa"
        kind = transformers.BertForSequenceClassification
        self.model = (
            kind(config)
            if from_scratch
            else kind.from_pretrained(self.init, config=config, ignore_mismatched_sizes=True)
        )
        self.model.train()
        decay = [p for p in self.model.parameters() if p.ndim > 1]
        rest = [p for p in self.model.parameters() if p.ndim == 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}],
            lr=lr,
            betas=(0.9, 0.999),
            eps=1e-8,
            fused=True,
        )
        self.schedule = transformers.get_linear_schedule_with_warmup(self.optimizer, round(warmup * steps), steps)

    def batch(self, examples):
        n = self.pad_to or max(len(ids) for ids, _ in examples)
        ids = torch.zeros(len(examples), n, dtype=torch.long)
        mask = torch.zeros(len(examples), n, dtype=torch.long)
        for i, (x, _) in enumerate(examples):
            ids[i, : len(x)] = torch.tensor(x)
            mask[i, : len(x)] = 1
        return dict(input_ids=ids, attention_mask=mask, labels=torch.tensor([g for _, g in examples]))

    def step(self, batch):
        loss = self.model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def accuracy(self, name):
        self.model.eval()
        right, rows = 0, sorted(self.sets[name], key=lambda e: len(e[0]))
        with torch.no_grad():
            for i in range(0, len(rows), 64):
                b = self.batch(rows[i : i + 64])
                logits = self.model(input_ids=b["input_ids"], attention_mask=b["attention_mask"]).logits
                right += (logits.argmax(1) == b["labels"]).sum().item()
        self.model.train()
        return right / len(rows)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--init", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--epochs", type=float, default=3)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--lr", type=float, default=5e-5)
    p.add_argument("--examples", type=int, default=0)
    p.add_argument("--seeds", type=int, default=1)
    p.add_argument("--max-len", type=int, default=128)
    p.add_argument("--pad-to", type=int, default=0)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--from-scratch", action="store_true")
    a = p.parse_args()
    peer = Peer(a.init, a.data, a.max_len, a.pad_to, a.threads)
    results = {name: [] for name in peer.sets if name != "train"}
    for seed in range(1, a.seeds + 1):
        rng, order = random.Random(seed), collections.deque()
        rows = stratified(peer.sets["train"], lambda example: example[1], rng)[: a.examples or None]
        steps = max(1, round(a.epochs * len(rows) / a.batch))
        peer.start(seed, a.lr, steps, from_scratch=a.from_scratch)
        begin, seconds = time.time(), 0
        for s in range(steps):
            while len(order) < a.batch:
                order += rng.sample(rows, len(rows))
            batch = peer.batch([order.popleft() for _ in range(a.batch)])
            now = time.perf_counter()
            loss = peer.step(batch)
            seconds += time.perf_counter() - now
            if (s + 1) % 100 == 0:
                left = (time.time() - begin) / (s + 1) * (steps - s - 1)
                print(f"step {s + 1}/{steps} | loss {loss:.4f} | {left:.0f} s left", flush=True)
        for name, values in results.items():
            values.append(peer.accuracy(name))
        print(
            f"seed {seed}: {seconds:.0f} s of training; "
            + ", ".join(f"{name} {100 * v[-1]:.2f} %" for name, v in results.items()),
            flush=True,
        )
    for name, v in results.items():
        print(f"{name}: {100 * statistics.mean(v):.2f} +- {100 * statistics.stdev(v) if len(v) > 1 else 0:.2f} %")


if __name__ == "__main__":
    main()
