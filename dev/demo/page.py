"""The report page of the demo: one HTML file that loads nothing, light or dark as the reader's system, written again
whenever a part is finished."""

import datetime
import os
import pathlib
import shlex
import sys
from html import escape

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "dev"), str(ROOT / "dev/lib")]
import plot  # noqa: E402
import svg  # noqa: E402

import results  # noqa: E402

STYLE = """
:root { color-scheme: light dark; --ink: #222; --soft: #5c5f66; --ground: #fff; --rule: #d9dce1; --card: #f5f6f8;
  --right: #1d7a46; --wrong: #b3382c; }
body { font: 16px/1.55 Helvetica, Arial, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--ink); background: var(--ground); overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { margin-top: 2.6rem; font-size: 1.25rem; }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
figure { margin: 1.4rem 0; } figure svg { display: block; width: 100%; max-width: 34rem; height: auto; }
figcaption { margin-top: .5rem; }
.wide { overflow-x: auto; margin: 1.2rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
td, th { border-bottom: 1px solid var(--rule); padding: .35rem .7rem .35rem 0; text-align: left;
  vertical-align: bottom; }
td.n, th.n { text-align: right; padding-left: .7rem; }
td.n { white-space: nowrap; }
ul.answers { list-style: none; padding: 0; } ul.answers li { background: var(--card); border-radius: 6px;
  padding: .5rem .8rem; margin: .5rem 0; font-size: .92rem; }
.right, .wrong { font-weight: bold; white-space: nowrap; }
.right { color: var(--right); } .wrong { color: var(--wrong); }
pre, code { font: .85rem/1.5 ui-monospace, Menlo, Consolas, monospace; }
pre { background: var(--card); border-radius: 6px; padding: .7rem .9rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }
dt { font-weight: bold; } dd { margin: 0 0 .6rem; }
@media (max-width: 30rem) { table { font-size: .8rem; } td.n, th.n { padding: .35rem .2rem; } }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6ea; --soft: #a3a8b1; --ground: #15171b; --rule: #3a3e46; --card: #20232a;
    --right: #6fcf97; --wrong: #f0897d; }
  .chart { fill: var(--ink); } .chart .ground { fill: none; } .chart .grid { stroke: #33373f; }
  .chart .axis { stroke: #8a909b; } .chart .interval { stroke: #e4e6ea; }
  .chart .c0 { color: #6cb0ea; } .chart .c1 { color: #ef9463; } .chart .c2 { color: #6cc796; }
  .chart .c3 { color: #bd8fdd; } .chart .c4 { color: #d3b54f; }
}
"""


def clock(seconds):
    return f"{seconds:.0f} s" if seconds < 59.5 else f"{seconds // 60:.0f}:{seconds % 60:02.0f} min"


def percent(fraction):
    return f"{100 * fraction:.1f} %"


def to_try(out):
    """Commands that ask the trained models; the last one is a conversation"""
    return [
        ["./finetune_cls", "predict", "--model", out / "pretrained/seed-1"]
        + ["the soup was superb .", "it was not superb .", "the film was hideous ."]
        + ["the cafe was shabby but the soup was heavenly ."],
        ["./train_bert", "fill-mask", "--model", out / "bert", "--top-k", 2, "the soup was [MASK] . she ate it all ."],
        ["./train_gpt", "generate", "--model", out / "gpt", "--max-new-tokens", 24, "anna said : cat , dog , bird ."],
        ["./sft", "generate", "--model", out / "instruct", "please name the last two foods"]
        + ["--input", "soup , cake , pear , lemon"],
        ["./sft", "chat", "--model", out / "instruct"],
    ]


# ---------------------------------------------------------------- pieces of HTML
def paragraph(text):
    return f"<p>{text}</p>"


def figure(title, picture, caption):
    return f"<figure><b>{title}</b>{picture}<figcaption>{caption}</figcaption></figure>"


def table(header, rows):
    """The first column is text, the others are numbers"""
    line = lambda cells, tag: "".join(f"<{tag}{' class=n' if i else ''}>{c}</{tag}>" for i, c in enumerate(cells))
    body = "".join(f"<tr>{line(row, 'td')}</tr>\n" for row in rows)
    return f'<div class="wide"><table><tr>{line(header, "th")}</tr>\n{body}</table></div>'


def answers(found):
    """A list of results.Answer, right and wrong marked"""
    items = []
    for a in found:
        mark = '<span class="right">&#10003; right</span>' if a.right else '<span class="wrong">&#10007; wrong</span>'
        texts = (a.prompt.replace("\nanswer :", " \u2192"), a.answer, a.expected)
        prompt, answer, expected = (escape(" ".join(t.split())) for t in texts)
        items.append(f"<li>{prompt} <b>{answer}</b> &ensp;{mark}{'' if a.right else f', expected: {expected}'}</li>")
    return '<ul class="answers">' + "\n".join(items) + "</ul>"


def curve(run, title, what):
    """The loss of a run, and what its lines are"""
    train, val, unigram = plot.read_run(run)
    lines = "Thin line: loss in training; thick line with dots: on text that is not trained on"
    if unigram:
        lines += "; dashed: the unigram baseline"
    description = f"From {train[0][1]:.2f} to {(val or train)[-1][1]:.2f}. {lines}"
    picture = svg.loss_curves([("", train, val, unigram)], title, description, 400, 270, 84, heading=False)
    return figure(title, picture, f"{what} {lines}.")


# ---------------------------------------------------------------- the parts
def sentiment(out):
    found = results.sentiment(out)
    test = {name: of["test"] for name, of in found.items()}
    rows = [(name, e.mean, e.low, e.high) for name, e in test.items()]
    title = "Reviews with opinion words that no label used: guessed right"
    description = "; ".join(f"{name} {percent(e.mean)}" for name, e in test.items())
    once, all_text = (results.tokens(out / run) for run in ("pretrained/seed-1", "bert"))
    return [
        "<h2>The result: an encoder, and a hundred labels</h2>",
        figure(
            title,
            svg.bars(rows, title, description, (0.5, "guessing: 50 %")),
            f"2,000 new reviews, whose opinion words no label used. <b>Pretrained</b>: the encoder read {all_text:,.0f}"
            f" tokens of unlabelled text, then 100 labelled reviews ({once:,.0f} tokens). <b>From scratch</b>: the same"
            " encoder, which saw only the 100 reviews. <b>Bag of words</b>: which words occur in them, without a neural"
            " network. The thin lines are 95 % intervals: for the two encoders of the mean over three seeds, for the"
            " bag of words over the reviews.",
        ),
        paragraph(
            "The labels use one half of the opinion words, the test uses the other half. No label says what a word of"
            " the other half means; only the text does, by what people do next (who finds a soup superb eats it all)."
        ),
        table(
            ["guessed right, %", "words that labels used", "words that no label used"],
            [[name, of["val"], of["test"]] for name, of in found.items()],
        ),
        *review_answers(out, "pretrained", "the pretrained model"),
        *review_answers(out, "from-scratch", "the model from scratch"),
        curve(
            out / "bert",
            "Masked LM: loss",
            "How pretraining went: a quarter of the words is hidden, the encoder guesses them.",
        ),
    ]


def review_answers(out, run, what):
    found = results.review_answers(out / run)
    mistakes = sum(not a.right for a in found)
    return [
        paragraph(f"Some answers of {what} (first seed), which is wrong on {mistakes:,} of {len(found):,}:"),
        answers(results.some(found)),
    ]


def one_task(out):
    found = results.reasons(out)
    rows = []
    for part, of in found.items():
        rows += [[f"{results.REASONS[part]}, {name}"] + [f"{100 * x:.1f}" for x in r] for name, r in of.items()]
    path = out / "reasons-answers/answers_2.jsonl"
    new = found["test"]["tuned"]
    return [
        "<h2>A decoder, and one task: why is this review good or bad?</h2>",
        paragraph(
            f"A decoder read {results.tokens(out / 'gpt'):,.0f} tokens about the same world; then it was tuned on 1,000"
            " reviews with a reason, without any new parameter. It was asked about 300 new reviews of each kind."
        ),
        table(["% of the answers", "exactly right", "good or bad is right", "quotes the review"], rows),
        paragraph(
            f"<b>Where it fails:</b> of reviews with opinion words that tuning never saw, {percent(new.exact)} of the"
            f" answers are exactly right, and {percent(new.quotes)} quote a word that is in the review. It quotes words"
            " that it learned to quote instead of the ones that stand there."
        ),
        paragraph("Opinion words that tuning saw:"),
        answers(results.some(results.read_answers(path, "val"))),
        paragraph("Opinion words that it never saw:"),
        answers(results.some(results.read_answers(path, "test"))),
        curve(out / "gpt", "The decoder: loss", "How pretraining went: the decoder guesses the next word."),
    ]


def many_tasks(out):
    found = results.instructions(out)
    rows, bars = [], []
    for part, level in found.items():
        name, what = results.LEVELS[part]
        more, low, high = "too few tasks differ", None, None
        if level.gain_low is not None:
            more = f"{100 * level.gain_low:+.1f} to {100 * level.gain_high:+.1f}"
            low, high = (min(1, max(0, level.before + gain)) for gain in (level.gain_low, level.gain_high))
        values = [f"{100 * v:.1f}" for v in (level.tuned, level.before, level.frequent)]
        rows.append([f"{name} ({level.tasks} tasks)", *values, more])
        bars.append((f"{name}: {what}", level.tuned, low, high))
    families = found["test_families"]
    title = "Answers that are exactly right, on what tuning never saw"
    parts = []
    for part in results.LEVELS:
        parts += [
            paragraph(f"Held out: {' &ndash; '.join(results.LEVELS[part])}."),
            answers(results.some(results.read_answers(out / "instruct/answers.jsonl", part))),
        ]
    return [
        "<h2>Many instructions at once, and tasks that were in none of them</h2>",
        paragraph(
            "The same decoder, tuned on 171 kinds of tasks. What is held out follows from rules that were fixed before"
            " the first run."
        ),
        figure(
            title,
            svg.bars(bars, title, "; ".join(f"{name} {percent(fraction)}" for name, fraction, _, _ in bars)),
            "Exact match, the mean over the tasks of each set. The thin lines are the 95 % intervals, over tasks, of"
            " what tuning added.",
        ),
        table(
            ["exactly right, %", "tuned", "before", "most frequent answer", "tuned minus before, 95 % interval"], rows
        ),
        paragraph(
            "<b>Before</b>: the decoder as it was before tuning. <b>Most frequent answer</b>: what one reaches without"
            " a model, by always giving the task's most frequent answer; a copy of the input is right in"
            f" {percent(max(level.copy for level in found.values()))} of the answers at most."
        ),
        paragraph(
            f"<b>Where it fails:</b> of tasks of another kind altogether, {percent(families.tuned)} are answered right;"
            f" always giving the task's most frequent answer reaches {percent(families.frequent)}. Tuning teaches the"
            " decoder to recombine what it was taught, hardly to do anything else."
        ),
        paragraph(
            "Some answers: of each set the first two that are right and the first two that are wrong, if there are any."
        ),
        *parts,
        curve(out / "instruct", "Instruction tuning: loss of the answers", "How tuning went."),
    ]


GLOSSARY = [
    ("masked LM", "Some words of a text are hidden; the model guesses them from the words on both sides."),
    ("loss, nats", "Minus the natural logarithm of the probability that the model gave to the right word, on average:"
     " 0 when it is certain and right, 0.69 when it hesitates between two words."),
    ("unigram baseline", "The loss of guessing every word by how often it occurs, whatever stands around it."),
    ("token", "A word or a part of one; here nearly always a word."),
    ("seed", "The number that all randomness of a training is drawn from: other seeds, other starting points."),
    ("95 % interval", "A range that would hold the true value in 95 of 100 such experiments."),
    ("exact match", "The answer equals the expected one; capital letters and punctuation do not count."),
]  # fmt: skip


def machine():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = "this machine"
    return f"{name}, {os.cpu_count()} cores"


def write(out, steps, finished, seconds):
    """OUT/report.html of the steps that are finished; seconds: {step: how long it took}"""
    rest = [s for s in steps if s.name not in finished]
    total = clock(sum(s for name, s in seconds.items() if name in finished))
    state = f"All of it took {total}."
    if rest:
        state = f"Unfinished: {len(finished)} of {len(steps)} steps so far, {total}; <code>make demo</code> continues."
    parts = sentiment(out)
    if "reasons-answers" in finished:
        parts += one_task(out)
    if "instruct" in finished:
        parts += many_tasks(out)
    asked = [c for c in to_try(out) if c[3].name in ("seed-1", "bert") or not rest]
    typed = lambda command: " ".join("python3" if c == sys.executable else shlex.quote(str(c)) for c in command)
    run = [[s.title, clock(seconds[s.name])] for s in steps if s.name in finished]
    text = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>tune.cu: a small written world</title><style>{STYLE}</style></head><body>",
        "<h1>A small written world, and two models that learn it</h1>",
        paragraph(
            "Everything here was generated and trained by <code>make demo</code>, on a CPU, without a network: a text"
            " about people who try dishes, go to places and see shows; an encoder and a decoder of less than a million"
            " parameters each that read it, and are asked for more than they were told."
        ),
        f'<p class="soft">{escape(machine())} &middot; {datetime.date.today()} &middot; {state}</p>',
        *parts,
        "<h2>Ask yourself</h2>",
        paragraph("In the folder of the programs, with words of this world:"),
        "<pre>" + escape("\n".join(typed(c) for c in asked)) + "</pre>",
        "<h2>Terms</h2><dl>",
        *(f"<dt>{term}</dt><dd>{meaning}</dd>" for term, meaning in GLOSSARY),
        "</dl><h2>What was run</h2>",
        table(["step", "time"], run),
        "<pre>" + escape("\n".join(typed(s.command) for s in steps if s.name in finished)) + "</pre>",
        "</body></html>\n",
    ]
    (out / "report.html").write_text("\n".join(text))
