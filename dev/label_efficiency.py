#!/usr/bin/env python3
"""How many labels does a task need? Accuracy against the number of labelled examples, from scratch and from pretrained
encoders.

    python3 dev/label_efficiency.py --data datasets/sst2 --model "pretrained=runs/bert" \\
        --model "from scratch=scratch:runs/bert" --out dev/results/labels_sst2
    python3 dev/label_efficiency.py ... --model "MiniLM=models/minilm,datasets/sst2-minilm,--lr 5e-5"

A model is NAME=DIR, or NAME=scratch:DIR for random parameters in the shape of DIR; after commas come the data
directory, if it is another one (of another tokenizer), and flags for finetune_cls. Each number of labels is run with
three seeds (--seeds): other examples, another order, other new layers. No epoch is chosen: the last one's model is
reported, on val.bin and test.bin. NAME=bag trains dev/baselines/bag_of_words.py on the TSV files beside the .bin files
(--keep-text), on examples drawn the same way. --all NAME=RUN takes what a run of finetune_cls on all labels has reached
instead of training it once more, whatever its seeds and epochs were.

Writes OUT.json, OUT.md and OUT.svg (dots: seeds; lines: means; bars: 95 % intervals of the mean, Student's t). Runs
that are done are not repeated.
"""

import argparse
import json
import pathlib
import random
import re
import shlex
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "dev/lib"))
import stats  # noqa: E402
import svg  # noqa: E402

EPOCHS = [(100, 20), (500, 10), (2000, 5), (10**9, 3)]  # up to so many labels, so many passes


def train(model, n, a, work):
    """({set: [accuracy of each seed]}, tokens of one fine-tuning)"""
    name, init, data, flags = model
    if n == 0 and name in a.all:
        return finished(pathlib.Path(a.all[name]), a.sets)
    epochs = next(e for most, e in EPOCHS if n and n <= most or most == 10**9)
    out = work / re.sub(r"\W+", "-", f"{name}-{n or 'all'}")
    what = json.dumps([init, str(pathlib.Path(data).resolve()), flags, a.seeds])
    note = out.with_name(out.name + ".what")  # so that results of other data or flags are not taken for these
    if note.exists() and note.read_text() != what:
        sys.exit(f"error: {out}: expected runs of {what}, found those of {note.read_text()}: give another --work")
    note.write_text(what)
    if not (out / "results.json").exists():
        command = [str(ROOT / "finetune_cls"), "--init", init.removeprefix("scratch:"), "--data", data]
        command += ["--out", str(out), "--examples", str(n), "--seeds", str(a.seeds), "--epochs", str(epochs)]
        command += ["--dev-split", "0", "--log-every", "200", "--eval-every", "1000000", *flags]
        if init.startswith("scratch:"):
            command.append("--from-scratch")
        if (out / "config.json").exists():  # begun earlier
            command = [str(ROOT / "finetune_cls"), "--resume", "--out", str(out)]
        print(" ".join(shlex.quote(c) for c in command), file=sys.stderr, flush=True)
        with open(str(out) + ".log", "a") as log:
            subprocess.run(command, check=True, stdout=log)
    return finished(out, a.sets)


def finished(run, sets):
    """The same of a finished run of finetune_cls, with or without --seeds"""
    results = json.load(open(run / "results.json"))
    one = run / "metrics.jsonl"
    lines = (one if one.exists() else run / "seed-1" / "metrics.jsonl").read_text().splitlines()
    accuracy = {s: results[s]["accuracy"] for s in sets}
    of_seeds = {s: a["runs"] if isinstance(a, dict) else [a] for s, a in accuracy.items()}
    return of_seeds, max(json.loads(line).get("tokens", 0) for line in lines)


def bag(data, n, a):
    """The same of a bag of words, which reads no tokens in fine-tuning"""
    found = {s: [] for s in a.sets}
    header, *rows = open(f"{data}/train.tsv", encoding="utf-8").read().rstrip("\n").split("\n")
    column = header.split("\t").index("label")
    for seed in range(1, (a.seeds if n else 1) + 1):
        part = stats.stratified(rows, lambda row: row.split("\t")[column], random.Random(seed))[: n or None]
        with tempfile.NamedTemporaryFile("w", suffix=".tsv", encoding="utf-8") as f:
            f.write("\n".join([header] + part) + "\n")
            f.flush()
            bag_of_words = str(ROOT / "dev/baselines/bag_of_words.py")
            command = [sys.executable, bag_of_words, "--train", f.name, "--ngrams", "2"]
            for s in a.sets:
                command += ["--test", f"{data}/{s}.tsv"]
            text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        for s, value in zip(a.sets, re.findall(r"accuracy (\d+\.\d+) %", text)):
            found[s].append(float(value) / 100)
    return found, 0


def accuracy_chart(results, sizes, sets, total, title, across="labelled examples", upwards="accuracy"):
    """The SVG of accuracy by size, a panel for each set.
    results: {name: {str(size): {"accuracy": {set: [value of each seed]}, perhaps "interval": {set: (low, high)}}}}"""
    series = {}
    for name, by_size in results.items():
        series[name] = {s: [] for s in sets}
        for n in [n for n in sizes if str(n) in by_size]:
            for s in sets:
                values, given = by_size[str(n)]["accuracy"][s], by_size[str(n)].get("interval")
                mean, half = statistics.mean(values), stats.student(values)
                low, high = (given[s] or (mean, mean)) if given else (mean - half, mean + half)
                series[name][s].append((n or total, values, low, high))
    sizes = [n or total for n in sizes]
    return str(svg.points_by_size(sets, sizes, series, title, across, upwards, "{:,}".format))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True, help="directory with train.bin, val.bin, ...")
    p.add_argument("--model", action="append", required=True, metavar="NAME=DIR[,DATA][,FLAGS]")
    p.add_argument(
        "--all", action="append", default=[], metavar="NAME=RUN", help="a finished run of this model on all labels"
    )
    p.add_argument("--sizes", default="100,500,2000,0", help="numbers of labels; 0: all")
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--sets", default="val,test")
    p.add_argument("--title", default="")
    p.add_argument("--work", help="where the runs go (default runs/labels/NAME OF OUT)")
    p.add_argument("--out", required=True, help="OUT.json, OUT.md, OUT.svg")
    a = p.parse_args()
    if not 2 <= a.seeds <= 10:
        p.error("--seeds: expected 2 to 10")
    if not pathlib.Path(f"{a.data}/train.tsv").exists():
        p.error(f"--data {a.data}: expected train.tsv beside train.bin: make the data with --keep-text")
    a.all = dict(text.split("=", 1) for text in a.all)
    for ending, begin in ((".json", b'{\n "'), (".md", b"| labels | model |"), (".svg", b"")):  # as written below
        path = pathlib.Path(a.out + ending)
        ours = svg.is_picture(path) if ending == ".svg" else path.is_file() and path.read_bytes().startswith(begin)
        if path.exists() and not ours:
            p.error(f"--out {a.out}: {path} was not made by this script; remove it or take another name")
    a.sets = a.sets.split(",")
    sizes = [int(n) for n in a.sizes.split(",")]
    work = pathlib.Path(a.work or f"runs/labels/{pathlib.Path(a.out).name}")
    work.mkdir(parents=True, exist_ok=True)
    total = len(open(f"{a.data}/train.tsv", encoding="utf-8").read().rstrip("\n").split("\n")) - 1
    results = {}
    accuracies = " | ".join(f"accuracy on {s}, %" for s in a.sets)
    table = [f"| labels | model | {accuracies} | tokens in fine-tuning |", "|---|---|---|" + "---|" * len(a.sets)]
    for n in sizes:
        for text in a.model:
            name, _, rest = text.partition("=")
            init, *more = rest.split(",")
            data = more.pop(0) if more and not more[0].startswith("--") else a.data
            model = (name, init, data, shlex.split(" ".join(more)))
            accuracy, tokens = bag(data, n, a) if init == "bag" else train(model, n, a, work)
            results.setdefault(name, {})[str(n)] = {"accuracy": accuracy, "tokens": tokens}
            cells = [
                f"{100 * statistics.mean(accuracy[s]):.1f}"
                + (f" +- {100 * statistics.stdev(accuracy[s]):.1f}" if len(accuracy[s]) > 1 else "")
                for s in a.sets
            ]
            table.append(f"| {n or total:,} | {name} | {' | '.join(cells)} | {f'{tokens:,.0f}' if tokens else ''} |")
            print(table[-1], flush=True)
            pathlib.Path(a.out + ".json").write_text(json.dumps(results, indent=1) + "\n")
    pathlib.Path(a.out + ".md").write_text("\n".join(table) + "\n")
    pathlib.Path(a.out + ".svg").write_text(accuracy_chart(results, sizes, a.sets, total, a.title))


if __name__ == "__main__":
    main()
