#!/usr/bin/env python3
"""The whole story in a quarter of an hour on two cores, without a network. An encoder learns a small written world by
masked LM, then sentiment from
a hundred labels, and is asked about opinion words that no label ever mentioned. A decoder learns to write about that
world, then to give reasons,
then some two hundred instructions at once, and is given tasks that no instruction ever asked for. Called by `make
demo`.

    python3 dev/demo.py [OUT]          default: runs/demo, which is made anew
    python3 dev/demo.py --quick OUT    every step of it, each far too short to learn: does it run?

Only Python's standard library. Everything it runs is printed, so that each step can be repeated and changed by hand;
OUT/report.html has it all on a page.
"""

import atexit
import html
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
PRETRAIN = (
    "--layers 4 --width 128 --heads 4 --max-len 32 --positions 64 --dropout 0 --init-std 0.04 --mask-rate 0.25 --lr 2e-3 "
    "--batch-tokens 4096 --eval-every 100 --log-every 20"
).split()
FINETUNE = "--dev-split 0 --batch 16 --lr 3e-4 --eval-every 1000000 --log-every 50".split()
GPT = (
    "--layers 4 --width 128 --heads 4 --max-len 112 --dropout 0 --init-std 0.04 --lr 2e-3 --batch-tokens 2048 --eval-every 400 "
    "--log-every 20"
).split()
TUNE = "--batch 128 --max-len 64 --dropout 0 --lr 1.5e-3 --schedule linear --log-every 20 --max-new-tokens 24".split()
LEVELS = [
    ("test_wordings", "wordings", "seen tasks, asked in other words"),
    ("test_operations", "operations", "seen operations on another kind of list"),
    ("test_compositions", "compositions", "two skills put together, or a longer list"),
    ("test_families", "families", "another kind of task altogether"),
]
QUESTIONS = [
    "the soup was superb .",
    "it was not superb .",
    "the film was hideous .",
    "the cafe was shabby but the soup was heavenly .",
]
TERMINAL = sys.stderr.isatty()
QUICK = "--quick" in sys.argv


def lasting(*flags):
    """How long a training takes"""
    return ["--steps", "4"] if QUICK else list(flags)


def clock(seconds):
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds // 60:.0f}:{seconds % 60:02.0f} min"


def say(text=""):
    print(text, flush=True)


def run(title, command, log, follow=None):
    """Runs a command with its output in a file; follow: a run whose metrics.jsonl tells how far it is. Returns the
    seconds it took."""
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
                        text = (
                            f"  [{'#' * int(30 * share):30s}] {text} | {clock(left)} left"
                            if follow == "one"
                            else f"  {text}"
                        )
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


def files_of(out):
    """{"name, size and time of change" of every file of a demo}, without the list itself"""
    stats = {path.relative_to(out): path.lstat() for path in out.rglob("*") if path.is_symlink() or not path.is_dir()}
    return {f"{name}\t{stat.st_size}\t{stat.st_mtime_ns}" for name, stat in stats.items() if str(name) != "demo"}


def bar(share):
    return "#" * round(30 * share)


def curve(runs, out, title):
    """Losses of {name: run} as a picture"""
    subprocess.run(
        [
            sys.executable,
            "dev/plot.py",
            *(f"{name}={run}" for name, run in runs.items()),
            "--out",
            str(out),
            "--title",
            title,
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def ask(command):
    """Runs a command that the reader may repeat, and shows its answer"""
    say("\n  " + " ".join(shlex.quote(str(c)) for c in command))
    text = subprocess.run(
        [str(c) for c in command], check=True, stdout=subprocess.PIPE, encoding="utf-8", errors="replace"
    ).stdout.rstrip("\n")
    say("\n".join("    " + line for line in text.split("\n")))
    return text


def main():
    words = [w for w in sys.argv[1:] if w != "--quick"]
    if words in (["--help"], ["-h"]):
        print(__doc__)
        return
    if len(words) > 1 or (words and words[0].startswith("-")) or (QUICK and not words):
        sys.stderr.write(
            f"error: expected [OUT] or --quick OUT, found {shlex.join(sys.argv[1:])}; see dev/demo.py --help\n"
        )
        sys.exit(2)
    out = pathlib.Path(
        os.path.relpath(words[0] if words else ROOT / "runs/demo", ROOT)
    )  # as the commands that are printed
    os.chdir(ROOT)
    for program in ("train_bert", "finetune_cls", "train_gpt", "sft", "data/tokenize"):
        if not os.path.exists(program):
            sys.exit(f"error: expected {program}, found none: run make first")
    made = out / "demo"  # lists the files of a demo
    if out.exists() and not made.is_file():
        sys.exit(
            f"error: {out}: expected a directory of an earlier demo or nothing, found something else: give another one"
        )
    if out.exists():
        foreign = sorted(files_of(out) - set(made.read_text().splitlines()))
        if foreign:
            sys.stderr.write(
                f"error: {out / foreign[0].split(chr(9))[0]}: the earlier demo did not make this file, or it was changed since; remove {out} or give another directory\n"
            )
            sys.exit(2)
        shutil.rmtree(out)
    out.mkdir(parents=True)
    made.touch()
    atexit.register(lambda: made.write_text("\n".join(files_of(out))))
    begin = time.time()
    parts = []  # of the report: (title, what is said, [header, rows ...], pictures)
    summary = []

    run(
        "1. A small written world: text, reviews of which only a hundred have labels, instructions",
        [sys.executable, "data/toy.py", "--out", out / "toy"],
        out / "toy.log",
    )
    encoder(out, parts, summary)
    decoder(out, parts, summary)
    took = clock(time.time() - begin)
    report(out, parts, took)
    say(f"\nAll of it took {took}:\n")
    for what, share, beside in summary:
        say(f"  {what:66s} {100 * share:5.1f} %   {beside}")
    say(f"\nOn one page: {out}/report.html. Now ask it yourself, with words of this world:")
    ask(["./finetune_cls", "predict", "--model", out / "pretrained/seed-1"] + QUESTIONS)
    ask(["./train_bert", "fill-mask", "--model", out / "bert", "--top", 2, "the soup was [MASK] . she ate it all ."])
    ask(["./train_gpt", "generate", "--model", out / "gpt", "--max-new-tokens", 24, "anna said : cat , dog , bird ."])
    ask(
        [
            "./sft",
            "generate",
            "--model",
            out / "instruct",
            "please name the last two foods",
            "--input",
            "soup , cake , pear , lemon",
        ]
    )
    say(f"\n  ./sft chat --model {out}/instruct\n\nThe same on real data: README.md.")


def encoder(out, parts, summary):
    """Steps 2 and 3. Appends to parts, and to summary (what was asked, the share that is right, beside what)"""
    toy = (out / "toy.log").read_text()
    say("  " + next(line for line in toy.splitlines() if "documents for training" in line))
    say("  the text:     " + sample(out / "toy/text"))
    for line in open(out / "toy/reviews/train.tsv").read().splitlines()[1:4]:
        text, label = line.split("\t")
        say(f"  {label + ':':13s} {text}")
    say(
        "  The hundred labels use one half of the opinion words. The test uses the other half: no label says what they mean, only the text does."
    )

    seconds = run(
        "2. Masked LM: guess the words that are hidden",
        ["./train_bert", "--data", out / "toy/text", "--out", out / "bert"] + PRETRAIN + lasting("--steps", 1000),
        out / "bert.log",
        "one",
    )
    rows = [json.loads(line) for line in open(out / "bert/metrics.jsonl")]
    val = [r for r in rows if "val_loss" in r]
    tokens = rows[-1]["tokens"]
    for r in val:
        say(
            f"  {r['tokens'] / 1e6:5.1f} M tokens | loss {r['val_loss']:.3f} | guessed right {100 * r['val_accuracy']:4.1f} % {bar(r['val_accuracy'])}"
        )
    say(f"  {tokens:,.0f} tokens in {clock(seconds)}")

    names, right = {"pretrained": [], "from scratch": ["--from-scratch"]}, []
    for name, more in names.items():
        run(
            f"3. Sentiment from 100 labels, {name}, {SEEDS} seeds",
            [
                "./finetune_cls",
                "--init",
                out / "bert",
                "--data",
                out / "toy/reviews",
                "--out",
                out / name.replace(" ", "-"),
                "--seeds",
                SEEDS,
            ]
            + FINETUNE
            + more
            + lasting("--epochs", 40),
            out / (name.replace(" ", "-") + ".log"),
            "several",
        )
    say("\nAccuracy on 2,000 new reviews, chance is 50 %:\n")
    say(f"  {'':22s} {'words that labels used':34s} {'words that no label used'}")
    table = [
        ["accuracy on 2,000 new reviews, % (chance: 50)", "opinion words that labels used", "words that no label used"]
    ]
    for name in names:
        a, b = [json.load(open(out / name.replace(" ", "-") / "results.json"))[s]["accuracy"] for s in ("val", "test")]
        say(
            f"  {name:22s} {100 * a['mean']:5.1f} % +- {100 * a['sd']:4.1f} {'':17s} {100 * b['mean']:5.1f} % +- {100 * b['sd']:4.1f}  {bar(b['mean'])}"
        )
        table.append([name] + [f"{100 * x['mean']:.1f} &plusmn; {100 * x['sd']:.1f}" for x in (a, b)])
        right.append(b["mean"])
    bag = [float(x) for x in re.findall(r"words on (?:val|test): (?:accuracy )?(\d+\.\d+) %", toy)[:2]]
    say(f"  {'bag of words':22s} {bag[0]:5.1f} % {'':25s} {bag[1]:5.1f} % {'':8s}{bar(bag[1] / 100)}")
    table.append(["bag of words"] + [f"{x:.1f}" for x in bag])
    summary.append(
        (
            "sentiment from 100 labels, opinion words that no label used",
            right[0],
            f"from scratch {100 * right[1]:.1f}, bag of words {bag[1]:.1f}",
        )
    )
    fine = [json.loads(line) for line in open(out / "pretrained/seed-1/metrics.jsonl")][-1]["tokens"]
    say(f"\n  Pretraining read {tokens:,.0f} tokens without labels, each fine-tuning {fine:,.0f}.")
    curve({"masked LM": out / "bert"}, out / "bert.svg", "Masked LM on the toy world")
    curve(
        {"pretrained": out / "pretrained/seed-1", "from scratch": out / "from-scratch/seed-1"},
        out / "finetuning.svg",
        "Sentiment from 100 labels",
    )
    parts.append(
        (
            "An encoder, and a hundred labels",
            f"Masked LM on {tokens:,.0f} tokens without labels; then fine-tuning on 100 reviews, {fine:,.0f} tokens. The labels use one half of the "
            "opinion words, the test the other half, of which only the text says what they mean.",
            table,
            ["bert.svg", "finetuning.svg"],
        )
    )


def decoder(out, parts, summary):
    """Steps 4 to 6, as encoder()"""
    seconds = run(
        "4. A decoder reads about the world: guess the next word",
        ["./train_gpt", "--data", out / "toy/gpt/text", "--out", out / "gpt"] + GPT + lasting("--steps", 4000),
        out / "gpt.log",
        "one",
    )
    rows = [json.loads(line) for line in open(out / "gpt/metrics.jsonl")]
    for r in [r for r in rows if "val_loss" in r]:
        say(
            f"  {r['tokens'] / 1e6:5.1f} M tokens | loss {r['val_loss']:.3f} | {r['val_bits_per_byte']:.3f} bits per byte {bar(r['val_bits_per_byte'] / 2)}"
        )
    say(f"  {rows[-1]['tokens']:,.0f} tokens in {clock(seconds)}")
    curve({"next word": out / "gpt"}, out / "gpt.svg", "A decoder on the toy world")

    run(
        "5. Fine-tuning for one task, with no new parameters: is the review good or bad, and why?",
        ["./sft", "--init", out / "gpt", "--data", out / "toy/reasons", "--out", out / "reasons", "--eval-rows", 1]
        + TUNE
        + lasting("--epochs", 30),
        out / "reasons.log",
        "one",
    )
    run(
        "   ... asked about new reviews: of opinion words that tuning saw (val), and of others (test)",
        [
            "./sft",
            "eval",
            "--model",
            f"{out}/gpt,{out}/reasons",
            "--data",
            out / "toy/reasons/val.bin",
            out / "toy/reasons/test.bin",
            "--rows",
            300,
            "--batch",
            64,
            "--max-new-tokens",
            24,
            "--out",
            out / "reasons-answers",
        ],
        out / "reasons-answers.log",
    )
    found = json.load(open(out / "reasons-answers/results.json"))
    answers = [[json.loads(line) for line in open(out / f"reasons-answers/answers_{n}.jsonl")] for n in (1, 2)]
    table = [["review &rarr; reason, % of 300", "exactly right", "good or bad is right", "quotes a word of the review"]]
    for part, what in (("val", "opinion words that tuning saw"), ("test", "opinion words that it never saw")):
        for n, (model, name) in enumerate(((out / "gpt", "before"), (out / "reasons", "tuned"))):
            r = found[part][str(model)]
            said = [a for a in answers[n] if a["set"] == part]
            side = sum(a["answer"].split()[:1] == a["outputs"][0].split()[:1] for a in said) / len(
                said
            )  # "positive because of ..."
            there = r["tasks"]["sentiment/reason"]["quotes_of_input"]
            table.append([f"{what}, {name}"] + [f"{100 * x:.1f}" for x in (r["exact_match"], side, there)])
            if name == "tuned":
                summary.append(
                    (
                        f"a reason for it, {what}",
                        r["exact_match"],
                        f"good or bad is right {100 * side:.1f}, quotes a word of the review {100 * there:.1f}",
                    )
                )
            say(
                f"  {what + ', ' + name:40s} exactly right {100 * r['exact_match']:5.1f} %, good or bad {100 * side:5.1f} %, quotes the review {100 * there:5.1f} %"
            )
    for a in answers[1][:2] + answers[1][-2:]:
        say("    " + a["prompt"].replace("\n", " | ") + " " + a["answer"])
    parts.append(
        (
            "A decoder, and one task",
            f"Pretraining on {rows[-1]['tokens']:,.0f} tokens; then 1,000 reviews with a reason, and 300 new ones of each kind.",
            table,
            ["gpt.svg"],
        )
    )

    run(
        "6. Instruction tuning: many tasks at once, in many wordings",
        [
            "./sft",
            "--init",
            out / "gpt",
            "--data",
            out / "toy/instruct",
            "--out",
            out / "instruct",
            "--eval-rows",
            10,
            "--eval-every",
            200,
        ]
        + TUNE
        + lasting("--epochs", 1),
        out / "instruct.log",
        "one",
    )
    results = json.load(open(out / "instruct/results.json"))
    say("\nExactly right, % of answers, on what tuning never saw:\n")
    say(
        f"  {'held out':14s} {'tasks':>5s}  {'copy':>6s} {'usual':>6s} {'before':>7s} {'tuned':>7s}   {'more than before':16s}"
    )
    table = [
        [
            "held out, exact match in %",
            "tasks",
            "copy the input",
            "most frequent answer",
            "before tuning",
            "tuned",
            "more than before, 95 % interval over tasks",
        ]
    ]
    for file, name, what in LEVELS:
        level = results[file]
        values = [100 * level[m]["exact_match"] for m in ("copy the input", "most frequent answer", "before", "tuned")]
        tasks = len(level["tuned"]["tasks"])
        more = level["tuned"]["minus_first_model"]["exact_match"]
        more = (
            f"{100 * more['low']:+.1f} to {100 * more['high']:+.1f}"
            if "low" in more
            else f"{100 * more['mean']:+.1f}, few differ"
        )
        say(
            f"  {name:14s} {tasks:5d}  {values[0]:6.1f} {values[1]:6.1f} {values[2]:7.1f} {values[3]:7.1f}   {more:16s} {what}"
        )
        table.append([f"{name}: {what}", str(tasks)] + [f"{v:.1f}" for v in values] + [more])
        summary.append(
            (f"instructions, {name} that tuning never saw", values[3] / 100, f"before tuning {values[2]:.1f}")
        )
    curve({"answers": out / "instruct"}, out / "instruct.svg", "Instruction tuning: loss of the answers")
    examples = []
    for file, name, _ in LEVELS:
        a = next(a for a in map(json.loads, open(out / "instruct/answers.jsonl")) if a["set"] == file)
        examples.append([name, a["prompt"], a["answer"], " / ".join(a["outputs"])])
        say(f"    {name}: {a['prompt']} {a['answer']} (right: {a['outputs'][0]})".replace("\n", " | "))
    parts.append(
        (
            "Many instructions at once",
            "The same decoder, tuned on every task that is not held out. What is held out follows from rules that were fixed before the first run.",
            table,
            ["instruct.svg"],
        )
    )
    parts.append(
        (
            "Some answers",
            "The first of each set, right or wrong.",
            [["held out", "prompt", "answer", "right"]] + [[html.escape(c) for c in row] for row in examples],
            [],
        )
    )


def report(out, parts, took):
    """One page without anything from outside"""
    text = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>tune.cu: the whole story</title>',
        "<style>body{font:16px/1.5 Helvetica,Arial,sans-serif;max-width:52em;margin:2em auto;padding:0 1em;color:#222}table{border-collapse:collapse;margin:1em 0;font-size:14px}"
        "td,th{border-bottom:1px solid #ddd;padding:.3em .8em;text-align:left;white-space:pre-wrap}svg{width:100%;height:auto}</style>",
        f"<h1>tune.cu: the whole story</h1><p>Made by <code>make demo</code> in {took}, on this machine, from nothing but a generated world.</p>",
    ]
    for title, said, table, pictures in parts:
        text.append(f"<h2>{title}</h2><p>{said}</p><table>")
        for i, row in enumerate(table):
            cell = "th" if i == 0 else "td"
            text.append("<tr>" + "".join(f"<{cell}>{c}</{cell}>" for c in row) + "</tr>")
        text.append("</table>" + "".join((out / p).read_text() for p in pictures))
    (out / "report.html").write_text("\n".join(text) + "</html>\n")


def sample(folder):
    """A document of the text"""
    log = subprocess.run(
        ["data/tokenize", "decode", "--tokenizer", str(folder)],
        input=" ".join(map(str, first_ids(folder / "train.bin"))) + "\n",
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    return log.strip()


def first_ids(path):
    """The tokens of the first document of a .bin file (common/data/bin_file.h)"""
    data = path.read_bytes()
    number = lambda at, n: int.from_bytes(data[at : at + n], "little")
    width, sequences = number(16, 4), number(24, 8)
    begin = 256 + 8 * (sequences + 1)
    return [number(begin + width * i, width) for i in range(number(256 + 8, 8))]


if __name__ == "__main__":
    main()
