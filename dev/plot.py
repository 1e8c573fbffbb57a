#!/usr/bin/env python3
"""Loss curves of one or more runs as an SVG file; Python's standard library only.

    python3 dev/plot.py runs/bert --out curve.svg
    python3 dev/plot.py "dropout 0=runs/a" "dropout 0.1=runs/b" --out compare.svg

Thin line: training loss, smoothed; dots: validation; dashed: guessing every token by its frequency.
"""

import argparse
import json
import math
import pathlib
import sys
from html import escape

W, H, LEFT, RIGHT, TOP, BOTTOM = 720, 420, 62, 150, 44, 48
COLORS = ["#1f6fb4", "#d1602a", "#2c8a57", "#8a4fb0", "#9a7b1c"]


def read(folder):
    path = pathlib.Path(folder)
    path = path / "metrics.jsonl" if path.is_dir() else path
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError) as e:
        sys.exit(f"error: {path}: expected a run's metrics.jsonl: {e}")
    train = [(r["tokens"], r["loss"]) for r in rows if "loss" in r]
    val = [(r["tokens"], r["val_loss"]) for r in rows if "val_loss" in r]
    unigram = next((r["unigram_loss"] for r in rows if "unigram_loss" in r), None)
    if not train:
        sys.exit(f"error: {path}: no step in it yet")
    return smooth(train), val, unigram


def smooth(points):
    """Means over about 300 stretches."""
    n = max(1, len(points) // 300)
    parts = [points[i : i + n] for i in range(0, len(points), n)]
    return [(sum(x for x, _ in p) / len(p), sum(y for _, y in p) / len(p)) for p in parts]


def ticks(lo, hi, want=6):
    step = 10 ** math.floor(math.log10((hi - lo) / want))
    step *= next(f for f in (1, 2, 5, 10) if (hi - lo) / (step * f) <= want)
    first = math.ceil(lo / step - 1e-9)
    return [first * step + i * step for i in range(int((hi - first * step) / step + 1e-9) + 1)]


def short(x):
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if x >= unit:
            return f"{x / unit:g}{name}"
    return f"{x:g}"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("runs", nargs="+", metavar="[NAME=]RUN", help="run directories or metrics.jsonl files")
    p.add_argument("--out", required=True, help="the SVG file to write")
    p.add_argument("--title", default="")
    a = p.parse_args()
    out = pathlib.Path(a.out)
    if out.exists() and not (out.is_file() and out.read_bytes().startswith(b"<svg ")):
        p.error(f"--out {a.out}: expected no such file or an SVG, found another; remove it or take another name")
    runs = []
    for r in a.runs:
        name, _, folder = r.rpartition("=")
        runs.append((name or pathlib.Path(folder).name, *read(folder)))
    xs = [x for _, t, v, _ in runs for x, _ in t + v]
    ys = [y for _, t, v, u in runs for y in [y for _, y in t + v] + ([u] if u else [])]
    x1, lo, hi = max(xs), min(ys), max(ys)
    lo, hi = lo - 0.05 * (hi - lo), hi + 0.05 * (hi - lo)
    px = lambda x: LEFT + x / x1 * (W - LEFT - RIGHT)
    py = lambda y: TOP + (hi - y) / (hi - lo) * (H - TOP - BOTTOM)
    s = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {W} {H}" font-family="Helvetica, Arial, sans-serif" font-size="12" fill="#333">',
        f'<rect width="{W}" height="{H}" fill="#fff"/>',
        f'<text x="{LEFT}" y="24" font-size="14" font-weight="bold">{escape(a.title)}</text>',
    ]
    for y in ticks(lo, hi):
        s.append(
            f'<path d="M{LEFT} {py(y):.1f}H{W - RIGHT}" stroke="#e4e4e4"/><text x="{LEFT - 8}" y="{py(y) + 4:.1f}" text-anchor="end">{y:g}</text>'
        )
    for x in ticks(0, x1):
        s.append(
            f'<path d="M{px(x):.1f} {H - BOTTOM}v4" stroke="#888"/><text x="{px(x):.1f}" y="{H - BOTTOM + 18}" text-anchor="middle">{short(x)}</text>'
        )
    s.append(
        f'<path d="M{LEFT} {H - BOTTOM}H{W - RIGHT}" stroke="#888"/><text x="{(LEFT + W - RIGHT) / 2}" y="{H - 10}" text-anchor="middle">tokens trained on</text>'
    )
    s.append(
        f'<text transform="translate(16 {(TOP + H - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">loss (nats per target)</text>'
    )
    labels = []
    for (name, train, val, unigram), color in zip(runs, COLORS * len(runs)):
        s.append(
            f'<path d="M{" L".join(f"{px(x):.1f} {py(y):.1f}" for x, y in train)}" fill="none" stroke="{color}" stroke-width="1" opacity="0.45"/>'
        )
        if val:
            s.append(
                f'<path d="M{" L".join(f"{px(x):.1f} {py(y):.1f}" for x, y in val)}" fill="none" stroke="{color}" stroke-width="2"/>'
            )
            s += [f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="3" fill="{color}"/>' for x, y in val]
        end = (val or train)[-1][1]
        labels.append((py(end), color, f"{name} {end:.2f}"))
        if unigram:
            s.append(
                f'<path d="M{LEFT} {py(unigram):.1f}H{W - RIGHT}" stroke="{color}" stroke-dasharray="5 4" opacity="0.7"/>'
            )
            labels.append((py(unigram), color, f"by frequency {unigram:.2f}"))
    last = -99
    for y, color, text in sorted(labels):  # at least a line's height apart
        last = max(y, last + 14)
        s.append(f'<text x="{W - RIGHT + 8}" y="{last + 4:.1f}" fill="{color}">{escape(text)}</text>')
    s.append("</svg>")
    pathlib.Path(a.out).write_text("\n".join(s) + "\n")
    print(f"{a.out}: {len(runs)} run{'s' if len(runs) > 1 else ''}")


if __name__ == "__main__":
    main()
