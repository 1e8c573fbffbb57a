"""CPU speed of text generation with a cache, one text at a time: train_gpt generate beside PyTorch's
GPT2LMHeadModel.generate, the same model, alternating.

    make && python3 dev/bench/generate_cpu.py        # in a Python with torch and transformers: dev/requirements.txt
    python3 dev/bench/generate_cpu.py --model runs/gpt

Without --model: 4 layers, 256 wide, 4 heads, vocabulary 4096, 256 positions, hardly trained. Greedy, texts of 200
tokens from a prompt of a few; the time of ten texts more, one after the other, so that starting and loading are on
neither side. PyTorch may not stop before; where ours does, the program says so. Medians over the rounds.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from bert_cpu import ROOT, make_data

TOKENS, TEXTS = 200, 10


def ours(model, prompt, texts, threads):
    begin = time.perf_counter()
    command = [str(ROOT / "train_gpt"), "generate", "--model", model, "--greedy", "--json", "--batch", "1"]
    command += ["--add-bos", "yes", "--max-new-tokens", str(TOKENS)] + [prompt] * texts
    env = dict(os.environ, OMP_NUM_THREADS=str(threads))
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env).stdout
    seconds = time.perf_counter() - begin
    for line in text.splitlines():
        if json.loads(line)["tokens"] != TOKENS:
            sys.exit(f"the text ends after {json.loads(line)['tokens']} tokens: give another --prompt")
    return seconds


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", help="a model directory with room for 256 tokens (default: one that is made)")
    p.add_argument("--prompt", default="the")
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    a = p.parse_args()
    try:
        import torch
        import transformers
    except ImportError:
        sys.exit("needs torch and transformers: python3 -m pip install -r dev/requirements.txt")
    torch.set_num_threads(a.threads)
    with tempfile.TemporaryDirectory() as tmp:
        if not a.model:
            make_data(pathlib.Path(tmp), "bpe", 4096)
            a.model = tmp + "/run/last"
            train = [str(ROOT / "train_gpt"), "--data", tmp, "--out", tmp + "/run"]
            train += "--layers 4 --hidden-size 256 --heads 4 --max-len 128 --positions 256".split()
            train += "--steps 20 --batch-tokens 1024 --eval-every 0 --eval-tokens 128".split()
            subprocess.run(train, check=True, stdout=subprocess.DEVNULL)
        model = transformers.GPT2LMHeadModel.from_pretrained(a.model).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(a.model)
        text = "<|endoftext|>" + a.prompt  # as ours with --add-bos yes
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])

        def peer(texts):
            begin = time.perf_counter()
            with torch.no_grad():
                for _ in range(texts):
                    model.generate(
                        ids,
                        attention_mask=torch.ones_like(ids),
                        max_new_tokens=TOKENS,
                        min_new_tokens=TOKENS,
                        do_sample=False,
                        use_cache=True,
                        pad_token_id=0,
                    )
            return time.perf_counter() - begin

        speeds = {"tune.cu": [], "PyTorch": []}
        peer(1)
        for r in range(a.rounds):
            one = ours(a.model, a.prompt, 1, a.threads)
            speeds["tune.cu"].append(TEXTS * TOKENS / (ours(a.model, a.prompt, 1 + TEXTS, a.threads) - one))
            speeds["PyTorch"].append(TEXTS * TOKENS / peer(TEXTS))
            print(
                f"round {r + 1}: " + ", ".join(f"{n} {v[-1]:,.0f} tokens/s" for n, v in speeds.items()), file=sys.stderr
            )
    ratio = statistics.median(o / t for o, t in zip(*speeds.values()))
    print("\n| greedy, batch 1, with a cache | tokens/s | tune.cu is |\n|---|---|---|")
    versions = f"PyTorch {torch.__version__}, transformers {transformers.__version__}"
    print(f"| tune.cu | {statistics.median(speeds['tune.cu']):,.0f} | |")
    print(f"| {versions} | {statistics.median(speeds['PyTorch']):,.0f} | {ratio:.2f} x |")
    print(f"\n{a.threads} threads")


if __name__ == "__main__":
    main()
