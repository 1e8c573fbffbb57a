#!/usr/bin/env python3
"""Instruction tuning on real tasks: does it help on tasks that tuning never saw, and do more training tasks help more?

    python3 dev/recipes/instruct.py TEXT INSTRUCTIONS OUT

A decoder of 4 layers, 256 channels, 4,096 BPE tokens reads TEXT/rocstories*.txt* (a story on each line) and
TEXT/books_simple*.txt* for 10 M tokens. Then it is tuned on 1, 4, 16 and all training tasks, each time with the same
number of tokens, three draws of tasks each:
  functions   the one-line tasks of data/functions.py, a quarter of which is held out: exact match
  superni     the training tasks of Super-NaturalInstructions, evaluated on its official test tasks: ROUGE-L
(INSTRUCTIONS holds the files that both scripts read with --from). Takes about an hour and a half on two cores; what is
done is not repeated (a recipe that was changed needs a new OUT).

Leaves OUT/results.json, OUT/instruct.md and OUT/instruct.svg (dots: draws; lines: means). Intervals: 95 % by bootstrap
over the tasks that are answered, each the mean of its three draws; none where fewer than 4 of them differ.
"""

import collections
import json
import pathlib
import statistics
import sys

from toy_instruct import ROOT, answers, run

sys.path.append(str(ROOT / "data"))
from bin_file import mean_length  # noqa: E402
from label_efficiency import accuracy_chart  # noqa: E402
from lib.text_files import EOT, text_files, text_lines  # noqa: E402
from stats import bootstrap  # noqa: E402

TASKS = (1, 4, 16, 0)  # 0: all
BASELINES = ("most frequent answer", "copy the input")
BEFORE = "before tuning"
PRETRAIN = (
    "--size mini --max-len 256 --dropout 0 --steps 2400 --batch-tokens 4096 --eval-every 200 --log-every 20".split()
)
TUNE = (
    "--max-len 256 --dropout 0.1 --lr 5e-4 --schedule linear --eval-every 0 --eval-rows 1 --max-new-tokens 4 "
    "--log-every 20"
).split()
HELD_OUT = "what is held out"

# name: script; its flags; rows a step; tokens of each tuning; what is measured; flags of the evaluation (of functions
# some differ in letter case alone); draws (in draw 2 of superni the one task has no prompt of less than 256 tokens);
# number of all training tasks
Recipe = collections.namedtuple("Recipe", "script flags batch tokens measure eval_flags draws tasks")
SUPERNI_FLAGS = ["--max-len", "256", "--overlong", "truncate"]
SETS = {
    "functions": Recipe(
        "data/functions.py", ["--template", "short"], 64, 4e5, "exact_match", ["--strict"], (1, 2, 3), 35
    ),
    "superni": Recipe("data/superni.py", SUPERNI_FLAGS, 16, 6e5, "rouge_l", [], (1, 3, 4), 134),
}


def pretrain(text, out):
    """The decoder before tuning"""
    if not (out / "text/val.bin").exists():
        marked = out / "stories.txt"
        with open(marked, "w") as f:
            for file in text_files(list(map(str, text.glob("rocstories*.txt*"))), (".txt",)):
                f.writelines(f"{line}\n{EOT}\n" for line in text_lines(*file))
        make = [sys.executable, "data/text.py", marked, *text.glob("books_simple*.txt*")]
        make += ["--tokenizer-type", "bpe", "--vocab-size", "4096", "--out", out / "text"]
        run(make, str(out / "text") + ".log")
    base = out / "gpt"
    run(["./train_gpt", "--data", out / "text", "--out", base] + PRETRAIN, str(base) + ".log")
    return base


def tune(base, name, n, draw, instructions, out):
    """(data, model tuned on n training tasks)"""
    recipe = SETS[name]
    data = out / f"{name}-{n or 'all'}-{draw}"
    tuned = out / f"{name}-{n or 'all'}-{draw}-tuned"
    if not (data / "val.bin").exists():
        make = [sys.executable, recipe.script, "--from", instructions, "--tokenizer", base, "--seed", draw]
        make += ["--out", data, *recipe.flags] + (["--tasks", n] if n else [])
        run(make, str(data) + ".log")
    steps = round(recipe.tokens / (recipe.batch * mean_length(data / "train.bin")))
    sft = ["./sft", "--init", base, "--data", data, "--out", tuned, "--seed", draw]
    run(sft + ["--batch", recipe.batch, "--steps", steps] + TUNE, str(tuned) + ".log")
    return data, tuned


def evaluate(base, name, instructions, out):
    """{row of the table: {test: {task: [score in each draw]}}}"""
    found = {}
    for draw in SETS[name].draws:
        models = {}
        for n in TASKS:
            data, models[n or "all"] = tune(base, name, n, draw, instructions, out)
        systems = {**{b: b for b in BASELINES}, BEFORE: str(base), **{n: str(m) for n, m in models.items()}}
        answers_dir = out / f"{name}-answers-{draw}"
        by_test = answers([base, *models.values()], data, answers_dir, 64, SETS[name].eval_flags)
        for test, by_system in by_test.items():
            for row, system in systems.items():
                for task, values in by_system[system]["tasks"].items():
                    scores = found.setdefault(row, {}).setdefault(test, {}).setdefault(task, [])
                    scores.append(values[SETS[name].measure])
    return found


def table(name, found):
    """The lines of a table in Markdown"""
    recipe = SETS[name]
    names = {"all": f"all {recipe.tasks} tasks", 1: "1 task", **{n: f"{n} tasks" for n in TASKS if n > 1}}
    exact = recipe.measure == "exact_match"
    measure, unit, digits = ("exact match in %", 100, 1) if exact else ("ROUGE-L, 0 to 1", 1, 3)
    tests = list(found[BEFORE])
    heads = [f"{t.removeprefix('test_')} ({len(found[BEFORE][t])} tasks) | gain" for t in tests]
    lines = [
        f"{name}: {measure}, mean over tasks and three draws of training tasks; gain: more than before tuning, "
        "95 % by bootstrap over tasks",
        "",
        "| tuned on | " + " | ".join(heads) + " |",
        "|---|" + "---|---|" * len(tests),
    ]
    for row, by_test in found.items():
        cells = []
        for test in tests:
            mean = {task: statistics.fmean(v) for task, v in by_test[test].items()}
            gain = [unit * (mean[task] - statistics.fmean(found[BEFORE][test][task])) for task in mean]
            interval = bootstrap(gain)
            more = f"{statistics.fmean(gain):+.{digits}f}"
            if interval:
                more += f" ({interval[0]:+.{digits}f} to {interval[1]:+.{digits}f})"
            is_tuned = row not in (*BASELINES, BEFORE)
            cells += [f"{unit * statistics.fmean(mean.values()):.{digits}f}", more if is_tuned else ""]
        lines.append(f"| {names.get(row, row)} | " + " | ".join(cells) + " |")
    return lines + [""]


MEASURES = "exact match (superni: 100 x ROUGE-L)"


def curve(found, test, recipe):
    """Of a test, {number of training tasks: scores}, as accuracy_chart wants it"""
    line = {}
    for n in TASKS:
        scores = found[n or "all"][test]  # {task: [score in each draw]}
        of_draws = [statistics.fmean(v[i] for v in scores.values()) for i in range(len(recipe.draws))]
        interval = bootstrap([statistics.fmean(v) for v in scores.values()])
        line[str(n or recipe.tasks)] = {"accuracy": {HELD_OUT: of_draws}, "interval": {HELD_OUT: interval}}
    return line


def main():
    if len(sys.argv) != 4:
        print(__doc__)
        sys.exit(0 if sys.argv[1:] in (["--help"], ["-h"]) else 2)
    text, instructions, out = [pathlib.Path(path).resolve() for path in sys.argv[1:]]
    out.mkdir(parents=True, exist_ok=True)
    base = pretrain(text, out)
    results, lines, curves = {}, [], {}
    for name, recipe in SETS.items():
        found = results[name] = evaluate(base, name, instructions, out)
        lines += table(name, found)
        for test in found[BEFORE]:
            curves[f"{name}: {test.removeprefix('test_')}"] = curve(found, test, recipe)
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (out / "instruct.md").write_text("\n".join(lines))
    sizes = sorted({n for line in curves.values() for n in map(int, line)})
    title = "More training tasks, equal training tokens"
    chart = accuracy_chart(curves, sizes, [HELD_OUT], sizes[-1], title, "training tasks", MEASURES)
    (out / "instruct.svg").write_text(chart)
    print("\n".join(lines) + f"\n{out}/instruct.svg")


if __name__ == "__main__":
    main()
