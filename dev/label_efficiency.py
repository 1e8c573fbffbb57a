#!/usr/bin/env python3
"""How many labels does a task need? Accuracy against the number of labelled examples, from scratch and from pretrained
encoders.

    python3 dev/label_efficiency.py --data data/sst2 --model "pretrained=runs/bert" --model "from
    scratch=scratch:runs/bert" --out dev/results/labels_sst2
    python3 dev/label_efficiency.py ... --model "MiniLM=models/minilm,data/sst2-minilm,--lr 5e-5"

A model is NAME=DIR, or NAME=scratch:DIR for random parameters in the shape of DIR; behind commas the data directory, if
it is another one (another
tokenizer), and flags for finetune_cls. Each number of labels is run with three seeds (--seeds): other examples, other
order, other new
layers. No epoch is chosen: the last one's model is reported, on val.bin and test.bin. NAME=bag trains data/bow.py on
the TSV files
beside the .bin files (--keep-text), on examples drawn the same way. --all NAME=RUN takes what a run of finetune_cls on
all labels has reached
instead of training it once more, whatever its seeds and epochs were.

Writes OUT.json, OUT.md and OUT.svg (dots: seeds; lines: means; bars: 95 % intervals of the mean, Student's t). Runs
that are done are not repeated.
"""

import argparse
import json
import math
import pathlib
import random
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
from html import escape

ROOT = pathlib.Path(__file__).resolve().parents[1]
EPOCHS = [(100, 20), (500, 10), (2000, 5), (10**9, 3)]  # up to so many labels, so many passes
STUDENT = {
    2: 12.706,
    3: 4.303,
    4: 3.182,
    5: 2.776,
    6: 2.571,
    7: 2.447,
    8: 2.365,
    9: 2.306,
    10: 2.262,
}  # 97.5 %, n - 1 degrees of freedom
COLORS = ["#1f6fb4", "#d1602a", "#2c8a57", "#8a4fb0", "#9a7b1c"]


def train(model, n, a, work):
    """[(accuracy on each set) of each seed], tokens of one fine-tuning"""
    name, init, data, flags = model
    if n == 0 and name in a.all:
        return finished(pathlib.Path(a.all[name]), a.sets)
    scratch = init.startswith("scratch:")
    epochs = next(e for most, e in EPOCHS if n and n <= most or most == 10**9)
    out = work / re.sub(r"\W+", "-", f"{name}-{n or 'all'}")
    what = json.dumps([init, str(pathlib.Path(data).resolve()), flags, a.seeds])
    note = out.with_name(out.name + ".what")  # so that results of other data or flags are not taken for these
    if note.exists() and note.read_text() != what:
        sys.exit(f"error: {out}: it holds the runs of {note.read_text()}, now asked for {what}: give another --work")
    note.write_text(what)
    if not (out / "results.json").exists():
        command = (
            [
                str(ROOT / "finetune_cls"),
                "--init",
                init.removeprefix("scratch:"),
                "--data",
                data,
                "--out",
                str(out),
                "--examples",
                str(n),
                "--seeds",
                str(a.seeds),
                "--epochs",
                str(epochs),
                "--dev-split",
                "0",
                "--log-every",
                "200",
                "--eval-every",
                "1000000",
            ]
            + (["--from-scratch"] if scratch else [])
            + flags
        )
        if (out / "config.json").exists():  # begun earlier
            command = [str(ROOT / "finetune_cls"), "--resume", "--out", str(out)]
        print(" ".join(shlex.quote(c) for c in command), file=sys.stderr, flush=True)
        with open(str(out) + ".log", "a") as log:
            subprocess.run(command, check=True, stdout=log)
    return finished(out, a.sets)


def finished(run, sets):
    """[(accuracy on each set) of each seed], tokens of one fine-tuning, of a run of finetune_cls with or without
    --seeds"""
    results = json.load(open(run / "results.json"))
    one = run / "metrics.jsonl"
    lines = (one if one.exists() else run / "seed-1" / "metrics.jsonl").read_text().splitlines()
    accuracy = {s: results[s]["accuracy"] for s in sets}
    return {s: a["runs"] if isinstance(a, dict) else [a] for s, a in accuracy.items()}, max(
        json.loads(line).get("tokens", 0) for line in lines
    )


def bag(data, n, a):
    found = {s: [] for s in a.sets}
    header, *rows = open(f"{data}/train.tsv", encoding="utf-8").read().rstrip("\n").split("\n")
    column = header.split("\t").index("label")
    for seed in range(1, (a.seeds if n else 1) + 1):
        part = stratified(rows, lambda row: row.split("\t")[column], random.Random(seed))[: n or None]
        with tempfile.NamedTemporaryFile("w", suffix=".tsv", encoding="utf-8") as f:
            f.write("\n".join([header] + part) + "\n")
            f.flush()
            command = [sys.executable, str(ROOT / "data/bow.py"), "--train", f.name, "--ngrams", "2"]
            for s in a.sets:
                command += ["--test", f"{data}/{s}.tsv"]
            text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        for s, value in zip(a.sets, re.findall(r"accuracy (\d+\.\d+) %", text)):
            found[s].append(float(value) / 100)
    return found, 0


def stratified(rows, label, rng):
    """The rows in a random order in which every stretch from the start has the classes' shares, as finetune_cls draws
    --examples"""
    rows = rng.sample(rows, len(rows))
    size, rank, keys = {}, {}, []
    for r in rows:
        size[label(r)] = size.get(label(r), 0) + 1
    for r in rows:
        k = label(r)
        keys.append((rank.get(k, 0) + 0.5) / size[k])
        rank[k] = rank.get(k, 0) + 1
    return [rows[i] for i in sorted(range(len(rows)), key=keys.__getitem__)]


def interval(values):
    return STUDENT.get(len(values), 2.5) * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0


def svg(results, sizes, sets, total, title, across="labelled examples", upwards="accuracy"):
    W, H, L, R, T, B, gap = 430, 360, 52, 14, 40, 46, 140
    width = len(sets) * (W + 20) + gap
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {H}" font-family="Helvetica, Arial, sans-serif" font-size="12" fill="#333">',
        f'<rect width="{width}" height="{H}" fill="#fff"/><text x="{L}" y="20" font-size="14" font-weight="bold">{escape(title)}</text>',
    ]
    values = [
        v
        for r in results.values()
        for part in r.values()
        for s in sets
        for v in (*part["accuracy"][s], *(part.get("interval", {}).get(s) or ()))
    ]
    lines = 20 if max(values) - min(values) < 0.6 else 10  # from 0 to 1
    lo, hi = math.floor(min(values) * lines) / lines, min(1.0, math.ceil(max(values) * lines) / lines)
    xs = [math.log10(n or total) for n in sizes]
    for i, s in enumerate(sets):
        left = i * (W + 20) + L
        px = lambda x: left + (x - xs[0] + 0.08) / (xs[-1] - xs[0] + 0.16) * (W - L - R)
        py = lambda y: T + (hi - y) / (hi - lo) * (H - T - B)
        for k in range(round((hi - lo) * lines) + 1):
            y = lo + k / lines
            out.append(
                f'<path d="M{left} {py(y):.1f}h{W - L - R}" stroke="#e4e4e4"/><text x="{left - 6}" y="{py(y) + 4:.1f}" text-anchor="end">{100 * y:.0f}</text>'
            )
        for n, x in zip(sizes, xs):
            out.append(f'<text x="{px(x):.1f}" y="{H - B + 18}" text-anchor="middle">{n or total:,}</text>')
        out.append(f'<text x="{left + (W - L - R) / 2}" y="{H - 8}" text-anchor="middle">{escape(across)}</text>')
        out.append(f'<text x="{left}" y="{T - 6}">{escape(upwards)} on {escape(s)}, %</text>')
        for (name, r), color in zip(results.items(), COLORS):
            points = [
                (px(x), r[str(n)]["accuracy"][s], r[str(n)].get("interval")) for n, x in zip(sizes, xs) if str(n) in r
            ]
            path = " L".join(f"{x:.1f} {py(statistics.mean(v)):.1f}" for x, v, _ in points)
            out.append(f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="2"/>')
            for x, v, given in points:
                m, d = statistics.mean(v), interval(v)
                low, high = (given[s] or (m, m)) if given else (m - d, m + d)
                out.append(f'<path d="M{x:.1f} {py(min(hi, high)):.1f}V{py(max(lo, low)):.1f}" stroke="{color}"/>')
                out += [f'<circle cx="{x:.1f}" cy="{py(y):.1f}" r="2.5" fill="{color}" opacity="0.7"/>' for y in v]
            if i == len(sets) - 1 and points:
                k = list(results).index(name)
                out.append(
                    f'<rect x="{left + W - R - 20}" y="{T + 20 * k}" width="10" height="10" fill="{color}"/><text x="{left + W - R - 6}" y="{T + 20 * k + 10}">{escape(name)}</text>'
                )
    return "\n".join(out + ["</svg>", ""])


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
    for ending, begin in (
        (".json", b'{\n "'),
        (".md", b"| labels | model |"),
        (".svg", b"<svg "),
    ):  # as this writes them
        path = pathlib.Path(a.out + ending)
        if path.exists() and not (path.is_file() and path.read_bytes().startswith(begin)):
            p.error(f"--out {a.out}: {path} was not made by this script; remove it or take another name")
    a.all = dict(text.split("=", 1) for text in a.all)
    a.sets, sizes, work = (
        a.sets.split(","),
        [int(n) for n in a.sizes.split(",")],
        pathlib.Path(a.work or f"runs/labels/{pathlib.Path(a.out).name}"),
    )
    work.mkdir(parents=True, exist_ok=True)
    total = len(open(f"{a.data}/train.tsv", encoding="utf-8").read().rstrip("\n").split("\n")) - 1
    results, table = (
        {},
        [
            f"| labels | model | {' | '.join(f'accuracy on {s}, %' for s in a.sets)} | tokens in fine-tuning |",
            "|---|---|" + "---|" * len(a.sets) + "---|",
        ],
    )
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
    pathlib.Path(a.out + ".svg").write_text(svg(results, sizes, a.sets, total, a.title))


if __name__ == "__main__":
    main()
