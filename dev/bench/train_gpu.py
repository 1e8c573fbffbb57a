"""GPU training speed of the four programs beside PyTorch: same machine, same process tree, the same work a step, in
bf16.

    make DEVICE=gpu PRECISION=bf16
    python3 dev/bench/train_gpu.py --row gpt2 --work runs/bench      # in a Python with torch and transformers
    dev/gpu_check.sh OUT --only bench                                # all rows, with a table

    gpt2         GPT-2 124M from scratch, 8 x 64 windows of 1024 tokens a step, no dropout                   tokens/s
    bert128      BERT-base masked LM, 256 sequences of 128 tokens a step, 15 % masked, dropout 0.1           tokens/s
    bert512      the same with 64 sequences of 512 tokens                                                    tokens/s
    finetune     BERT-base classifier, 32 examples a step with lengths as SST-2's (mean 14), dropout 0.1   examples/s
    sft          GPT-2 124M on instructions of mixed lengths, 32 rows a step, no dropout                     tokens/s,
                                                                                                   padding not counted

PyTorch: the models of transformers with SDPA under bf16 autocast, fp32 parameters, fused AdamW, clipping; eager and
torch.compile. What helps it is done: the masked-LM head sees only the masked positions, GPT-2's vocabulary is padded to
50304, matrices that stay fp32 may use TF32. Ragged batches are padded to their longest (eager, and compiled for any
shape), and to 128 where CUDA graphs can be used (compiled, mode="reduce-overhead").

Each speed is the median over a run's steps but the first (ours) or the mean over a timed stretch without a
synchronisation (PyTorch's).
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import string
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "dev/lib"))
from bin_file import parse_bin  # noqa: E402

PEAK = 989e12  # FLOP/s of dense bf16 on an H100 or H200: the data sheet


class Model:
    def __init__(self, V, L=12, C=768):
        self.V, self.L, self.C = V, L, C

    def flops(self, T, fraction, causal):
        """Model FLOPs of a token, forward and backward, in sequences of T; this fraction of the tokens has a target"""
        L, C = self.L, self.C
        head = self.V * C + (0 if causal else C * C)
        return 6 * (12 * L * C * C + fraction * head) + 3 * 4 * L * T * C * (0.5 if causal else 1)


class Sizes:
    """Of a row: --dry-run has tiny ones."""

    def __init__(self, dry):
        self.dry, self.device = dry, "cpu" if dry else "cuda"
        self.build = "build/shim-bf16" if dry else "build/gpu-bf16"
        self.gpt = Model(300, 1, 64) if dry else Model(50257)
        self.bert = Model(200, 1, 64) if dry else Model(30522)
        self.micro, self.accum = (1, 2) if dry else (64, 8)  # windows of GPT-2
        self.T = 32 if dry else 1024
        self.mlm_tokens = 128 if dry else 32768
        self.batch = 4 if dry else 32
        self.steps = 3 if dry else 12
        self.short_steps = 3 if dry else 120
        self.torch_steps = 1 if dry else 8


def run(command, log=None, **more):
    done = subprocess.run(
        [str(c) for c in command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more
    )
    if done.returncode:
        sys.exit("%s: exit code %d\n%s" % (" ".join(map(str, command)), done.returncode, done.stdout[-2000:]))
    return done.stdout


# ---------------------------------------------------------------- data, made here
def letters(n):
    """n words of letters, no two alike"""
    words = []
    for a in string.ascii_lowercase:
        for b in string.ascii_lowercase:
            for c in string.ascii_lowercase:
                for d in string.ascii_lowercase:
                    words.append(a + b + c + d)
                    if len(words) == n:
                        return words
    raise ValueError(n)


def wordpiece(folder, V):
    folder.mkdir(parents=True, exist_ok=True)
    words = letters(V - 5)
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]) + "\n")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}\n')
    return words


def byte_level(folder, V):
    """A vocabulary of GPT-2's size: the 256 bytes, V - 257 pairs of them, those of letters first, and the end of a
    text"""
    folder.mkdir(parents=True, exist_ok=True)
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    names = [chr(b) for b in kept] + [chr(256 + i) for i in range(256 - len(kept))]
    first = sorted(names, key=lambda c: (c not in string.ascii_letters, ord(c)))
    pairs = [
        (a, b)
        for k in range(len(first))
        for a, b in [(first[k], first[k])] + [p for j in range(k) for p in ((first[j], first[k]), (first[k], first[j]))]
    ][: V - 257]
    tokens = names + [a + b for a, b in pairs] + ["<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join("%s %s\n" % p for p in pairs))


def pack_text(folder, tokens, make):
    """train.bin of about so many tokens, in one document, and a short val.bin"""
    for name, n in (("train", tokens), ("val", min(tokens, 4096))):
        (folder / (name + ".txt")).write_text(make(n) + "\n")
        run(
            [
                "data/tokenize",
                "pack",
                "--tokenizer",
                folder,
                "--kind",
                "text",
                "--in",
                folder / (name + ".txt"),
                "--out",
                folder / (name + ".bin"),
            ]
        )


def gpt_text(n, rng=random.Random(1)):  # two letters are a token, the space before a word is one
    pool = ["".join(rng.choices(string.ascii_letters, k=16)) for _ in range(20000)]
    return " ".join(rng.choices(pool, k=n // 9 + 1))


def bert_text(words):
    return lambda n, rng=random.Random(1): " ".join(rng.choices(words, k=n))


def lengths_of(path):
    """Tokens of each sequence of a .bin file"""
    offsets = parse_bin(path.read_bytes()).offsets
    return [b - a for a, b in zip(offsets, offsets[1:])]


# ---------------------------------------------------------------- our side
def ours(s, program, out, flags):
    """(tokens a second, tokens a step), medians over the steps but the first few: in them buffers are touched and plans
    made"""
    run([s.build + "/" + program, *flags, "--out", out, "--eval-every", "0"])
    rows = [r for r in map(json.loads, open(out / "metrics.jsonl")) if "tokens_per_s" in r]
    tokens = [b["tokens"] - a["tokens"] for a, b in zip(rows, rows[1:])]
    skip = min(4, len(rows) // 2)
    return statistics.median(r["tokens_per_s"] for r in rows[skip:]), statistics.median(tokens[skip:] or tokens)


# ---------------------------------------------------------------- PyTorch's side
class Torch:
    """Steps of a model: loss(batch) for each batch of a step, then AdamW"""

    def __init__(self, s, model, loss, dropout_free=False, graphs=False, lr=1e-4):
        import torch

        self.torch, self.s, self.graphs = torch, s, graphs
        torch.set_float32_matmul_precision("high")
        self.model, self.loss = model.to(s.device), loss
        self.model.train(not dropout_free)
        decay, rest = [p for p in model.parameters() if p.ndim > 1], [p for p in model.parameters() if p.ndim == 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}],
            lr=lr,
            betas=(0.9, 0.95),
            fused=True,
        )

    def step(self, batches):
        for batch in batches:
            if self.graphs:
                self.torch.compiler.cudagraph_mark_step_begin()
            with self.torch.autocast(self.s.device, self.torch.bfloat16):
                loss = self.loss(batch)
            (loss / len(batches)).backward()
        self.torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def seconds(self, steps, times, warm=3):
        """of a step: `steps` is a list of lists of batches, gone through again and again"""
        sync = self.torch.cuda.synchronize if self.s.device == "cuda" else lambda: None
        for i in range(1 if self.s.dry else max(warm, 3)):
            self.step(steps[i % len(steps)])
        sync()
        begin = time.perf_counter()
        for i in range(times):
            self.step(steps[i % len(steps)])
        sync()
        return (time.perf_counter() - begin) / times


def torch_sides(make, names):
    """{side: what make(side) returns}; a side that fails says so, and the others continue"""
    result = {}
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as e:
        return {name: "not run: %s" % e for name in names}
    for name in names:
        try:
            torch.manual_seed(1)
            result[name] = make(name)
        except Exception as e:  # a compiler's or driver's: a reader of the table wants to know, not to lose the rest
            result[name] = "not run: %s" % str(e).strip().splitlines()[0][:200]
        torch.compiler.reset()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return result


def compiled(s, f, name, **how):
    import torch

    return torch.compile(f, **how) if "compile" in name and not s.dry else f


def torch_gpt(s, T):
    import transformers

    m = s.gpt
    config = transformers.GPT2Config(
        vocab_size=-(-m.V // 64) * 64,
        n_positions=max(T, 1024),
        n_embd=m.C,
        n_layer=m.L,
        n_head=m.C // 64,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    config._attn_implementation = "sdpa"
    return transformers.GPT2LMHeadModel(config)


def torch_bert_config(s, T):
    import transformers

    config = transformers.BertConfig(
        vocab_size=s.bert.V,
        hidden_size=s.bert.C,
        num_hidden_layers=s.bert.L,
        num_attention_heads=s.bert.C // 64,
        intermediate_size=4 * s.bert.C,
        max_position_embeddings=max(T, 512),
    )
    config._attn_implementation = "sdpa"
    return config


# ---------------------------------------------------------------- the rows
def gpt2(s, work):
    folder, T, step_tokens = work / "gpt2-data", s.T, s.micro * s.T * s.accum
    if not (folder / "val.bin").exists():
        byte_level(folder, s.gpt.V)
        pack_text(folder, (2 if s.dry else 4) * step_tokens, gpt_text)
    flags = [
        "--data",
        folder,
        "--layers",
        s.gpt.L,
        "--hidden-size",
        s.gpt.C,
        "--max-len",
        T,
        "--positions",
        max(T, 128),
        "--batch-tokens",
        max(128, s.micro * T),
        "--accum",
        s.accum,
        "--dropout",
        0,
        "--steps",
        s.steps,
        "--eval-tokens",
        1024,
        "--lr",
        6e-4,
    ]
    speed, _ = ours(s, "train_gpt", work / "gpt2", flags)

    def side(name):
        import torch
        import torch.nn.functional as F

        model = torch_gpt(s, T)
        forward = compiled(
            s, lambda ids, targets: F.cross_entropy(model(input_ids=ids).logits.flatten(0, 1), targets.flatten()), name
        )
        t = Torch(s, model, lambda b: forward(b[:, :-1], b[:, 1:]))
        batch = torch.randint(0, s.gpt.V, (s.micro, T + 1), device=s.device)
        return step_tokens / t.seconds([[batch] * s.accum], s.torch_steps)

    return dict(
        unit="tokens/s",
        ours=speed,
        flops=s.gpt.flops(T, 1, True),
        floor_ns=938 + 65 + 157 + 77 + 47 + 2,
        pytorch=torch_sides(side, ("eager", "compile")),
    )


def bert(s, work, T):
    folder, out = work / "bert-data", work / ("bert%d" % T)
    if not (folder / "val.bin").exists():
        pack_text(folder, (4 if s.dry else 13) * s.mlm_tokens, bert_text(wordpiece(folder, s.bert.V)))
    T = 32 if s.dry else T
    flags = [
        "--data",
        folder,
        "--layers",
        s.bert.L,
        "--hidden-size",
        s.bert.C,
        "--max-len",
        T,
        "--positions",
        64 if s.dry else 512,
        "--batch-tokens",
        s.mlm_tokens,
        "--dropout",
        0.1,
        "--steps",
        s.steps,
        "--eval-tokens",
        1024,
        "--lr",
        1e-4,
    ]
    speed, _ = ours(s, "train_bert", out, flags)

    def side(name):
        import torch
        import torch.nn.functional as F
        import transformers

        model = transformers.BertForMaskedLM(torch_bert_config(s, T))
        B, masked = s.mlm_tokens // T, round(0.15 * s.mlm_tokens)
        ids = torch.randint(5, s.bert.V, (B, T), device=s.device)
        rows = torch.randperm(B * T, device=s.device)[:masked].sort().values
        targets = ids.flatten()[rows]

        def loss(ids, rows, targets):
            hidden = model.bert(input_ids=ids).last_hidden_state.flatten(0, 1)
            return F.cross_entropy(model.cls(hidden[rows]), targets)

        forward = compiled(s, loss, name)
        t = Torch(s, model, lambda b: forward(*b))
        return s.mlm_tokens / t.seconds([[(ids, rows, targets)]], 2 * s.torch_steps)

    # floor: dev/kernels.md's peaks; attention, norms, loss and AdamW as they are counted there
    floor = 672 + (24 + 79 if T == 128 else 57 + 177) + 60 + 4 + 23
    return dict(
        unit="tokens/s",
        ours=speed,
        flops=s.bert.flops(T, 0.15, False),
        floor_ns=floor,
        pytorch=torch_sides(side, ("eager", "compile")),
    )


def finetune(s, work):
    if not (work / "bert128/last").exists():
        bert(s, work, 128)
    rng, words = random.Random(3), letters(s.bert.V - 5)
    steps, n = s.short_steps, s.short_steps * s.batch
    folder = work / "finetune-data"
    folder.mkdir(exist_ok=True)
    with open(folder / "rows.tsv", "w") as f:  # lengths: 1 to 60 words, most of them few
        f.write(
            "text\tlabel\n"
            + "".join(
                "%s\t%s\n"
                % (" ".join(rng.choices(words, k=min(60, 1 + int(rng.expovariate(1 / 11.5))))), ("bad", "good")[i % 2])
                for i in range(n)
            )
        )
    run(
        [
            sys.executable,
            "data/classify.py",
            folder / "rows.tsv",
            "--tokenizer",
            work / "bert128/last",
            "--out",
            folder,
            "--val-fraction",
            0.02,
        ]
    )
    flags = [
        "--data",
        folder,
        "--init",
        work / "bert128/last",
        "--max-len",
        64 if s.dry else 128,
        "--batch",
        s.batch,
        "--steps",
        steps,
        "--dev-split",
        0,
        "--dropout",
        0.1,
    ]
    speed, tokens = ours(s, "finetune_cls", work / "finetune", flags)
    lengths = lengths_of(folder / "train.bin")
    mean = statistics.mean(lengths)
    seen = sum(x * x for x in lengths) / sum(lengths)  # how many tokens a token looks at

    def side(name):
        import torch
        import transformers

        config = torch_bert_config(s, 128)
        config.num_labels = 2
        model = transformers.BertForSequenceClassification(config)
        to_longest = "longest" in name
        graphs = "compile" in name and not to_longest and not s.dry
        run_model = compiled(
            s,
            lambda ids, mask, labels: model(input_ids=ids, attention_mask=mask, labels=labels).loss,
            name,
            **({"mode": "reduce-overhead"} if graphs else {"dynamic": True}),
        )
        order, steps = random.Random(5), []
        for _ in range(min(len(lengths) // s.batch, 60)):
            some = [min(x, 128) for x in order.sample(lengths, s.batch)]
            T = max(some) if to_longest else 128
            mask = (torch.arange(T)[None] < torch.tensor(some)[:, None]).long()
            ids = torch.randint(5, s.bert.V, (s.batch, T)) * mask
            steps.append([tuple(x.to(s.device) for x in (ids, mask, torch.randint(0, 2, (s.batch,))))])
        t = Torch(s, model, lambda b: run_model(*b), graphs=graphs, lr=2e-5)
        return s.batch / t.seconds(steps, 8 * s.torch_steps, warm=10)

    return dict(
        unit="examples/s",
        ours=speed / mean,
        flops=mean * s.bert.flops(seen, 0, False),
        floor_ns=None,
        mean_length=round(mean, 1),
        pytorch=torch_sides(side, ("eager, longest", "eager, 128", "compile, longest", "compile, 128")),
    )


def sft(s, work):
    if not (work / "gpt2/last").exists():
        gpt2(s, work)
    rng, folder = random.Random(4), work / "sft-data"
    folder.mkdir(exist_ok=True)
    most = 4 if s.dry else 40

    def words(mean):
        return " ".join(
            "".join(rng.choices(string.ascii_lowercase, k=6))
            for _ in range(max(1, min(most, int(rng.lognormvariate(mean, 0.8)))))
        )

    with open(folder / "rows.jsonl", "w") as f:
        for _ in range(s.short_steps * s.batch):
            f.write(json.dumps({"instruction": words(2.3), "output": words(2.6)}) + "\n")
    run(
        [
            sys.executable,
            "data/instructions.py",
            folder / "rows.jsonl",
            "--tokenizer",
            work / "gpt2/last",
            "--out",
            folder,
            "--template",
            "short",
            "--max-len",
            128 if s.dry else 512,
            "--val-fraction",
            0.02,
        ]
    )
    flags = [
        "--data",
        folder,
        "--init",
        work / "gpt2/last",
        "--batch",
        s.batch,
        "--max-len",
        128 if s.dry else 512,
        "--steps",
        s.short_steps,
        "--dropout",
        0,
    ]
    speed, tokens = ours(s, "sft", work / "sft", flags)
    lengths = lengths_of(folder / "train.bin")
    mean, seen = statistics.mean(lengths), sum(x * x for x in lengths) / sum(lengths)

    def side(name):
        import torch
        import torch.nn.functional as F

        model = torch_gpt(s, 512)

        def loss(ids, mask, targets):
            return F.cross_entropy(
                model(input_ids=ids, attention_mask=mask).logits.flatten(0, 1), targets.flatten(), ignore_index=-100
            )

        forward = compiled(s, loss, name, dynamic=True)
        order, steps, tokens = random.Random(5), [], 0
        for _ in range(min(len(lengths) // s.batch, 40)):
            some = order.sample(lengths, s.batch)
            T, size = max(some), torch.tensor(some)[:, None]
            mask = (torch.arange(T)[None] < size).long()
            ids = torch.randint(5, s.gpt.V, (s.batch, T))
            answer = (mask == 1) & (torch.arange(T)[None] >= size // 2)  # the second half
            targets = torch.where(answer, ids, -100)
            steps.append([tuple(x.to(s.device) for x in (ids, mask, targets))])
        t = Torch(s, model, lambda b: forward(*b), lr=2e-5)
        times = 4 * s.torch_steps
        warm = 10
        tokens = sum(int(steps[i % len(steps)][0][1].sum()) for i in range(times))
        return tokens / times / t.seconds(steps, times, warm=warm)

    return dict(
        unit="tokens/s",
        ours=speed,
        flops=s.gpt.flops(seen, 0.5, True),
        floor_ns=None,
        mean_length=round(mean, 1),
        pytorch=torch_sides(side, ("eager", "compile")),
    )


ROWS = {
    "gpt2": ("GPT-2 124M, T=1024, 8 x 64 windows, no dropout", gpt2),
    "bert128": ("BERT-base masked LM, T=128, 32K tokens, dropout 0.1", lambda s, work: bert(s, work, 128)),
    "bert512": ("BERT-base masked LM, T=512, 32K tokens, dropout 0.1", lambda s, work: bert(s, work, 512)),
    "finetune": ("BERT-base classifier, SST-2's lengths, 32 examples, dropout 0.1", finetune),
    "sft": ("GPT-2 124M, instructions of mixed lengths, 32 rows, no dropout", sft),
}


def finish(row):
    """MFU, the fraction of the floor, and how much faster than PyTorch's best and each of its sides"""
    per_s = row["ours"]
    row["mfu"] = per_s * row.pop("flops") / PEAK
    floor = row.pop("floor_ns")
    row["of_floor"] = per_s * floor * 1e-9 if floor else None
    sides = {k: v for k, v in row["pytorch"].items() if not isinstance(v, str)}
    row["ratio"] = {k: per_s / v for k, v in sides.items()}
    row["ratio_to_best"] = per_s / max(sides.values()) if sides else None
    return row


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--row", required=True, choices=ROWS)
    p.add_argument("--work", required=True, type=pathlib.Path, help="where data and runs go; rows share them")
    p.add_argument(
        "--dry-run",
        action="store_true",
        help="tiny sizes, our side on the shim, PyTorch's on the CPU: the numbers mean nothing",
    )
    a = p.parse_args()
    a.work = a.work.resolve()
    a.work.mkdir(parents=True, exist_ok=True)
    what, row = ROWS[a.row]
    for old in a.work.glob(a.row + "/metrics.jsonl"):  # of an interrupted run
        subprocess.run(["rm", "-rf", str(old.parent)], check=True)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    print(json.dumps({"what": what, **finish(row(Sizes(a.dry_run), a.work))}))


if __name__ == "__main__":
    main()
