#!/usr/bin/env python3
"""The whole story in a few minutes on two cores, without a network: an encoder learns a small written world by masked LM, then sentiment
from a hundred labels, and is asked about opinion words that no label ever mentioned. Called by `make demo`.

    python3 dev/demo.py [OUT]          default: runs/demo, which is made anew

Only Python's standard library. Everything it runs is printed, so that each step can be repeated and changed by hand.
"""
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
SEEDS = 3
PRETRAIN = ("--layers 4 --width 128 --heads 4 --max-len 32 --positions 64 --dropout 0 --init-std 0.04 --mask-rate 0.25 --lr 2e-3 --steps 1000 "
            "--batch-tokens 4096 --eval-every 100 --log-every 20").split()
FINETUNE = "--dev-split 0 --batch 16 --epochs 40 --lr 3e-4 --eval-every 1000000 --log-every 50".split()
QUESTIONS = ["the soup was superb .", "it was not superb .", "the film was hideous .", "the cafe was shabby but the soup was heavenly ."]
TERMINAL = sys.stderr.isatty()


def clock(seconds):
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds // 60:.0f}:{seconds % 60:02.0f} min"


def say(text=""):
    print(text, flush=True)


def run(title, command, log, follow=None):
    """Runs a command with its output in a file; follow: a run whose metrics.jsonl tells how far it is. Returns the seconds it took."""
    say(f"\n{title}\n  {' '.join('python3' if c == sys.executable else shlex.quote(str(c)) for c in command)}")
    begin = last = time.time()
    with open(log, "w") as f:
        child = subprocess.Popen([str(c) for c in command], stdout=f, stderr=subprocess.STDOUT)
        try:
            while child.poll() is None:
                time.sleep(0.1)
                if follow and time.time() - last > (0.5 if TERMINAL else 10):
                    last = time.time()
                    lines = re.findall(r"^(step (\d+)/(\d+) \| loss [\d.]+).*$", pathlib.Path(log).read_text(), re.M)
                    if lines:
                        text, done, steps = lines[-1]
                        share = int(done) / int(steps)
                        left = (time.time() - begin) * (1 - share) / share
                        text = f"  [{'#' * int(30 * share):30s}] {text} | {clock(left)} left" if follow == "one" else f"  {text}"
                        sys.stderr.write(f"\r{text:<78}" if TERMINAL else text + "\n")
                        sys.stderr.flush()
        except KeyboardInterrupt:
            child.terminate()
            child.wait()
            sys.exit(130)
    if follow and TERMINAL:
        sys.stderr.write(f"\r{'':78}\r")
    if child.returncode:
        sys.stderr.write(pathlib.Path(log).read_text()[-2000:])
        sys.exit(f"error: the command above failed; its output is in {log}")
    return time.time() - begin


def bar(share):
    return "#" * round(30 * share)


def main():
    out = pathlib.Path(os.path.relpath(sys.argv[1] if len(sys.argv) > 1 else ROOT / "runs/demo", ROOT))  # as the commands that are printed
    os.chdir(ROOT)
    for program in ("train_bert", "finetune_cls", "data/tokenize"):
        if not os.path.exists(program):
            sys.exit(f"error: expected {program}, found none: run make first")
    if out.exists() and not (out / "demo").exists():
        sys.exit(f"error: {out}: expected a directory of an earlier demo or nothing, found something else: give another one")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / "demo").touch()
    begin = time.time()

    run("1. A small written world: text, and reviews of which only a hundred have labels", [sys.executable, "data/toy.py", "--out", out / "toy"], out / "toy.log")
    toy = (out / "toy.log").read_text()
    say("  " + next(line for line in toy.splitlines() if "documents for training" in line))
    say("  the text:     " + sample(out / "toy/text"))
    for line in open(out / "toy/reviews/train.tsv").read().splitlines()[1:4]:
        text, label = line.split("\t")
        say(f"  {label + ':':13s} {text}")
    say("  The hundred labels use one half of the opinion words. The test uses the other half: no label says what they mean, only the text does.")

    seconds = run("2. Masked LM: guess the words that are hidden", ["./train_bert", "--data", out / "toy/text", "--out", out / "bert"] + PRETRAIN, out / "bert.log", "one")
    rows = [json.loads(line) for line in open(out / "bert/metrics.jsonl")]
    val = [r for r in rows if "val_loss" in r]
    tokens = rows[-1]["tokens"]
    for r in val:
        say(f"  {r['tokens'] / 1e6:5.1f} M tokens | loss {r['val_loss']:.3f} | guessed right {100 * r['val_accuracy']:4.1f} % {bar(r['val_accuracy'])}")
    say(f"  {tokens:,.0f} tokens in {clock(seconds)}")

    times = {}
    for name, more in (("pretrained", []), ("from scratch", ["--from-scratch"])):
        times[name] = run(f"3. Sentiment from 100 labels, {name}, {SEEDS} seeds",
                          ["./finetune_cls", "--init", out / "bert", "--data", out / "toy/reviews", "--out", out / name.replace(" ", "-"), "--seeds", SEEDS] + FINETUNE + more,
                          out / (name.replace(" ", "-") + ".log"), "several")
    say("\nAccuracy on 2,000 new reviews, chance is 50 %:\n")
    say(f"  {'':22s} {'words that labels used':34s} {'words that no label used'}")
    table = {name: [json.load(open(out / name.replace(" ", "-") / "results.json"))[s]["accuracy"] for s in ("val", "test")] for name in times}
    for name, (a, b) in table.items():
        say(f"  {name:22s} {100 * a['mean']:5.1f} % +- {100 * a['sd']:4.1f} {'':17s} {100 * b['mean']:5.1f} % +- {100 * b['sd']:4.1f}  {bar(b['mean'])}")
    bag = re.findall(r"words on (?:val|test): (?:accuracy )?(\d+\.\d+) %", toy)
    if len(bag) >= 2:
        say(f"  {'bag of words':22s} {float(bag[0]):5.1f} % {'':25s} {float(bag[1]):5.1f} % {'':8s}{bar(float(bag[1]) / 100)}")
    fine = [json.loads(line) for line in open(out / "pretrained/seed-1/metrics.jsonl")][-1]["tokens"]
    say(f"\n  Pretraining read {tokens:,.0f} tokens without labels, each fine-tuning {fine:,.0f}.")
    subprocess.run([sys.executable, "dev/plot.py", f"masked LM={out / 'bert'}", "--out", str(out / "pretraining.svg"), "--title", "Masked LM on the toy world"], check=True,
                   stdout=subprocess.DEVNULL)
    subprocess.run([sys.executable, "dev/plot.py", f"pretrained={out / 'pretrained/seed-1'}", f"from scratch={out / 'from-scratch/seed-1'}", "--out",
                    str(out / "finetuning.svg"), "--title", "Sentiment from 100 labels"], check=True, stdout=subprocess.DEVNULL)
    say(f"  {out}/pretraining.svg, {out}/finetuning.svg: the losses as pictures")
    say(f"\nAll of it took {clock(time.time() - begin)}. Now ask it yourself, with words of this world ({out}/toy/text/vocab.txt):\n")
    ask = ["./finetune_cls", "predict", "--model", str(out / "pretrained/seed-1")] + QUESTIONS
    say("  " + " ".join(shlex.quote(c) for c in ask))
    say("".join("    " + line + "\n" for line in subprocess.run(ask, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()))
    say(f"  ./train_bert fill-mask --model {out}/bert \"the soup was [MASK] . she ate it all .\"")
    say("\nThe same on real data: README.md, \"Fine-tuning\".")


def sample(folder):
    """A document of the text"""
    log = subprocess.run(["data/tokenize", "decode", "--tokenizer", str(folder)], input=" ".join(map(str, first_ids(folder / "train.bin"))) + "\n", check=True,
                         stdout=subprocess.PIPE, text=True).stdout
    return log.strip()


def first_ids(path):
    """The tokens of the first document of a .bin file (common/bin.h)"""
    data = path.read_bytes()
    number = lambda at, n: int.from_bytes(data[at:at + n], "little")
    width, sequences = number(16, 4), number(24, 8)
    begin = 256 + 8 * (sequences + 1)
    return [number(begin + width * i, width) for i in range(number(256 + 8, 8))]


if __name__ == "__main__":
    main()
