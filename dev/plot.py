#!/usr/bin/env python3
"""Loss curves of one or more runs as an SVG file; Python's standard library only.

    python3 dev/plot.py runs/bert --out curve.svg
    python3 dev/plot.py "dropout 0=runs/a" "dropout 0.1=runs/b" --out compare.svg

Thin line: training loss, smoothed; dots: validation; dashed: the unigram baseline, the loss of guessing every token by
how often it occurs.
"""

import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "lib"))
import svg  # noqa: E402


def parsed(line):
    """A line of metrics as a dict; None where it is none (a power cut may leave zeros)"""
    try:
        row = json.loads(line)
        return row if isinstance(row, dict) else None
    except ValueError:
        return None


def read_run(folder):
    """A run directory or a metrics.jsonl -> training [(tokens, loss)], validation [(tokens, loss)], unigram baseline"""
    path = pathlib.Path(folder)
    path = path / "metrics.jsonl" if path.is_dir() else path
    try:
        lines = path.read_bytes().split(b"\n")[:-1]  # as for --resume: a kill may have cut off the last line
    except OSError as e:
        sys.exit(f"error: {path}: expected a run's metrics.jsonl: {e}")
    rows = list(filter(None, map(parsed, lines)))
    if len(rows) < len(lines):
        print(f"{path}: {len(lines) - len(rows)} lines that are no JSON were left out", file=sys.stderr)
    train = [(r["tokens"], r["loss"]) for r in rows if "loss" in r]
    val = [(r["tokens"], r["val_loss"]) for r in rows if "val_loss" in r]
    unigram = next((r["unigram_loss"] for r in rows if "unigram_loss" in r), None)
    if not train:
        sys.exit(f"error: {path}: no step in it yet")
    return train, val, unigram


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("runs", nargs="+", metavar="[NAME=]RUN", help="run directories or metrics.jsonl files")
    p.add_argument("--out", required=True, help="the SVG file to write")
    p.add_argument("--title", default="")
    a = p.parse_args()
    out = pathlib.Path(a.out)
    if out.exists() and not svg.is_picture(out):
        p.error(f"--out {a.out}: expected no such file or a plot, found another; remove it or take another name")
    runs = []
    for text in a.runs:
        name, _, folder = text.rpartition("=")
        runs.append((name or pathlib.Path(folder).name, *read_run(folder)))
    try:
        out.write_text(str(svg.loss_curves(runs, a.title)))
    except OSError as e:
        sys.exit(f"error: --out {a.out}: {e.strerror}")
    print(f"{a.out}: {len(runs)} run{'s' if len(runs) > 1 else ''}")


if __name__ == "__main__":
    main()
