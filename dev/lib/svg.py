"""Charts as SVG text, for dev/plot.py, dev/label_efficiency.py and the report page of dev/demo. Standard library only.

    frame = Frame(left, top, width, height, (x0, x1), (y0, y1))   maps values to places within one pair of axes
    picture = Picture(width, height, title, description)          collects elements; str(picture) is the file

A picture carries its own colours, so that it can be opened by itself. On a page a style sheet may replace them: the
classes are ground (the background), grid, axis, and c0, c1, ... (a series: everything in it has that one colour).
"""

import math
import re
from html import escape

COLORS = ["#1f6fb4", "#d1602a", "#2c8a57", "#8a4fb0", "#9a7b1c"]


def ticks(low, high, most=6):
    """Round numbers from low to high, `most` steps of 1, 2 or 5 times a power of ten at the most"""
    step = 10 ** math.floor(math.log10((high - low) / most))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    return [(first + i) * step for i in range(int(high / step + 1e-9) - first + 1)]


def short(number):
    """2500000 -> 2.5M"""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:g}{name}"
    return f"{number:g}"


def smooth(points, pieces=300):
    """The means over about `pieces` stretches of [(x, y)]"""
    n = max(1, len(points) // pieces)
    parts = [points[i : i + n] for i in range(0, len(points), n)]
    return [(sum(x for x, _ in p) / len(p), sum(y for _, y in p) / len(p)) for p in parts]


def is_picture(path):
    """Is this file a Picture, so that another one may replace it?"""
    return path.is_file() and re.match(rb'<svg [^>]* class="chart">', path.read_bytes()) is not None


class Frame:
    """A rectangle of a picture and the values that its sides stand for"""

    def __init__(self, left, top, width, height, xs, ys):
        self.left, self.top, self.width, self.height = left, top, width, height
        self.right, self.bottom = left + width, top + height
        self.xs, self.ys = xs, ys

    def x(self, value):
        return self.left + (value - self.xs[0]) / (self.xs[1] - self.xs[0]) * self.width

    def y(self, value):
        return self.bottom - (value - self.ys[0]) / (self.ys[1] - self.ys[0]) * self.height

    def clip_y(self, value):
        return self.y(min(max(value, self.ys[0]), self.ys[1]))


class Picture:
    """title: the name that a screen reader reads, with the description after it; heading() draws it"""

    def __init__(self, width, height, title="", description="", font=12):
        label = escape(f"{title}. {description}" if description else title, quote=True)
        self.width = width
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{label}"'
            f' font-family="Helvetica, Arial, sans-serif" font-size="{font}" fill="#333" class="chart">',
            f'<rect class="ground" width="{width}" height="{height}" fill="#fff"/>',
        ]

    def text(self, x, y, text, anchor="start", more=""):
        """more: further attributes"""
        anchor = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}"{anchor}{more}>{escape(text)}</text>')

    def heading(self, x, y, text):
        self.text(x, y, text, more=' font-size="14" font-weight="bold"')

    def up(self, x, y, text):
        """A text that runs upwards, its middle at (x, y)"""
        self.parts.append(
            f'<text transform="translate({x:.1f} {y:.1f}) rotate(-90)" text-anchor="middle">{text}</text>'
        )

    def path(self, d, kind="axis", stroke="#888", more=""):
        self.parts.append(f'<path class="{kind}" d="{d}" fill="none" stroke="{stroke}"{more}/>')

    def series(self, number):
        """What is drawn until end() has the colour of series `number`; it is drawn in currentColor"""
        kind = number % len(COLORS)
        self.parts.append(f'<g class="c{kind}" color="{COLORS[kind]}" fill="currentColor">')

    def end(self):
        self.parts.append("</g>")

    def curve(self, points, more=' stroke-width="2"'):
        """points: [(x, y)], places in the picture"""
        self.path("M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points), "line", "currentColor", more)

    def dots(self, points, radius=3, more=""):
        self.parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}"{more}/>' for x, y in points]

    def rect(self, x, y, width, height, more=""):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"{more}/>')

    def grid(self, frame, values, text):
        """Horizontal lines at these values, text(value) to the left of each"""
        for value in values:
            self.path(f"M{frame.left} {frame.y(value):.1f}h{frame.width}", "grid", "#e4e4e4")
            self.text(frame.left - 7, frame.y(value) + 4, text(value), "end")

    def labels_below(self, frame, values, text, caption):
        """text(value) under the x axis at each value, and under them what the values are"""
        for value in values:
            self.text(frame.x(value), frame.bottom + 18, text(value), "middle")
        self.text(frame.left + frame.width / 2, frame.bottom + 37, caption, "middle")

    def __str__(self):
        return "\n".join(self.parts + ["</svg>", ""])


def loss_curves(runs, title, description="", width=720, height=420, right=150, heading=True):
    """runs: [(name, training [(tokens, loss)], validation [(tokens, loss)], unigram baseline or None)].
    Thin lines: training; thick lines with dots: validation; dashed: the unigram baseline. right: room for labels."""
    losses = [y for _, train, val, unigram in runs for y in [y for _, y in train + val] + [unigram] * bool(unigram)]
    last = max(x for _, train, val, _ in runs for x, _ in train + val)
    margin = 0.05 * (max(losses) - min(losses)) or 0.5
    left, top = 62 if heading else 46, 44 if heading else 12
    frame = Frame(
        left, top, width - left - right, height - top - 48, (0, last), (min(losses) - margin, max(losses) + margin)
    )
    picture = Picture(width, height, title, description)
    if heading:
        picture.heading(frame.left, 24, title)
    picture.grid(frame, ticks(*frame.ys), lambda y: f"{y:g}")
    picture.path(f"M{frame.left} {frame.bottom}h{frame.width}")
    marks = ticks(0, last, 6 if width > 600 else 4)
    for x in marks:
        picture.path(f"M{frame.x(x):.1f} {frame.bottom}v4")
    picture.labels_below(frame, marks, short, "tokens trained on")
    picture.up(14, frame.top + frame.height / 2, "loss (nats per target)")
    labels = []  # (y, series, text) at the right end
    for k, (name, train, val, unigram) in enumerate(runs):
        place = lambda points: [(frame.x(x), frame.y(y)) for x, y in points]
        picture.series(k)
        picture.curve(place(smooth(train)), ' stroke-width="1" opacity="0.45"')
        if val:
            picture.curve(place(val))
            picture.dots(place(val))
        end = (val or smooth(train))[-1][1]
        labels.append((frame.y(end), k, f"{name} {end:.2f}".strip()))
        if unigram:
            flat = f"M{frame.left} {frame.y(unigram):.1f}h{frame.width}"
            picture.path(flat, "line", "currentColor", ' stroke-dasharray="5 4" opacity="0.7"')
            labels.append((frame.y(unigram), k, f"unigram {unigram:.2f}"))
        picture.end()
    y = -99
    for wanted, k, text in sorted(labels):
        y = max(wanted, y + 14)  # at least a line's height apart
        picture.series(k)
        picture.text(frame.right + 8, y + 4, text)
        picture.end()
    return picture


def points_by_size(panels, sizes, series, title, across, upwards, size_text):
    """Panels side by side, a logarithmic x axis of sizes, fractions from 0 to 1 upwards, shown in %.
    series: {name: {panel: [(size, [value of each seed], low, high)]}}. Dots: seeds; lines: means; bars: low to high."""
    width, height, gap = 430, 360, 140
    points = [p for panels_of in series.values() for of in panels_of.values() for p in of]
    values = [v for _, seeds, low, high in points for v in (*seeds, low, high)]
    lines = 20 if max(values) - min(values) < 0.6 else 10
    low, high = (max(0, math.floor(min(values) * lines)) / lines, min(lines, math.ceil(max(values) * lines)) / lines)
    high = max(high, low + 1 / lines)
    ends = (math.log10(sizes[0]) - 0.08, math.log10(sizes[-1]) + 0.08)
    picture = Picture(len(panels) * (width + 20) + gap, height, title, f"{upwards} over {across}")
    picture.heading(52, 20, title)
    for i, panel in enumerate(panels):
        frame = Frame(i * (width + 20) + 52, 40, width - 66, height - 86, ends, (low, high))
        steps = range(round((high - low) * lines) + 1)
        picture.grid(frame, [low + k / lines for k in steps], lambda y: f"{100 * y:.0f}")
        picture.labels_below(frame, [math.log10(n) for n in sizes], lambda x: size_text(round(10**x)), across)
        picture.text(frame.left, frame.top - 6, f"{upwards} on {panel}, %")
        for k, (name, panels_of) in enumerate(series.items()):
            picture.series(k)
            of = [(frame.x(math.log10(n)), *rest) for n, *rest in panels_of.get(panel, [])]
            if of:
                picture.curve([(x, frame.y(sum(seeds) / len(seeds))) for x, seeds, _, _ in of])
            for x, seeds, least, most in of:
                picture.path(f"M{x:.1f} {frame.clip_y(most):.1f}V{frame.clip_y(least):.1f}", "line", "currentColor")
                picture.dots([(x, frame.y(v)) for v in seeds], 2.5, ' opacity="0.7"')
            if i == len(panels) - 1 and of:
                picture.rect(frame.right + 14, frame.top + 20 * k, 10, 10)
                picture.text(frame.right + 30, frame.top + 20 * k + 10, name)
            picture.end()
    return picture


def bars(rows, title, description, mark=None, width=400):
    """Horizontal bars of fractions from 0 to 1, shown in %, with their 95 % intervals.
    rows: [(name, fraction, low, high)]; low None: without an interval. mark: (fraction, what it is), a dashed line."""
    row, top = 46, 28 if mark else 4
    frame = Frame(4, top, width - 74, row * len(rows), (0, 1), (0, 1))
    picture = Picture(width, top + row * len(rows) + 24, title, description, font=13)
    if mark:
        picture.path(f"M{frame.x(mark[0]):.1f} {top - 8}V{frame.bottom}", "axis", "#888", ' stroke-dasharray="4 3"')
        picture.text(frame.x(mark[0]), top - 13, mark[1], "middle")
    for k, (name, fraction, low, high) in enumerate(rows):
        y = top + row * k
        picture.text(frame.left, y + 13, name)
        picture.series(k)
        picture.rect(frame.left, y + 19, max(1, frame.x(fraction) - frame.left), 16, ' opacity="0.85"')
        picture.end()
        right = frame.x(fraction)
        if low is not None:
            right, middle = max(right, frame.x(high)), y + 27
            picture.path(f"M{frame.x(low):.1f} {middle}H{frame.x(high):.1f}", "interval", "#333", ' stroke-width="1.5"')
            for end in (low, high):
                picture.path(f"M{frame.x(end):.1f} {middle - 6}v12", "interval", "#333", ' stroke-width="1.5"')
        picture.text(right + 8, y + 32, f"{100 * fraction:.1f} %", more=' font-weight="bold"')
    for value in (0, 0.5, 1):
        picture.text(frame.x(value), frame.bottom + 18, f"{100 * value:.0f} %", "middle" if value else "start")
    return picture
