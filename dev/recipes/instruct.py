#!/usr/bin/env python3
"""Instruction tuning on real tasks: does it help on tasks that tuning never saw, and do more training tasks help more?

    python3 dev/recipes/instruct.py TEXT INSTRUCTIONS OUT

A decoder of 4 layers, 256 channels, 4,096 BPE tokens reads TEXT/rocstories*.txt* (a story on each line) and
TEXT/books_simple*.txt* for 10 M tokens.
Then it is tuned on 1, 4, 16 and all training tasks, each time with the same number of tokens, three draws of tasks
each:
  functions   the one-line tasks of data/functions.py, a quarter of which is held out: exact match
  superni     the training tasks of Super-NaturalInstructions, evaluated on its official test tasks: ROUGE-L
(the files that both scripts read are in INSTRUCTIONS, as their --from has it). About an hour and a half on two cores;
what is done is not repeated (a recipe that was changed wants a new OUT).

Leaves OUT/results.json, OUT/instruct.md and OUT/instruct.svg (dots: draws; lines: means). Intervals: 95 % by bootstrap
over the tasks that are
answered, each the mean of its three draws; none where fewer than 4 of them differ.
"""

import json
import math
import pathlib
import random
import statistics
import sys

from toy_instruct import ROOT, answers, row_length, run

sys.path[:0] = [str(ROOT / "dev"), str(ROOT / "data")]
import common  # noqa: E402
from label_efficiency import svg  # noqa: E402

TASKS = (1, 4, 16, 0)  # 0: all
BASELINES = ("most frequent answer", "copy the input")
PRETRAIN = (
    "--size mini --max-len 256 --dropout 0 --steps 2400 --batch-tokens 4096 --eval-every 200 --log-every 20".split()
)
TUNE = "--max-len 256 --dropout 0.1 --lr 5e-4 --schedule linear --eval-every 0 --eval-rows 1 --max-new-tokens 4 --log-every 20".split()
# script, flags of its own, rows a step, tokens of each tuning, what is measured (functions with case: some differ in
# nothing else), draws (in draw 2 of superni the one task has no prompt of less than 256 tokens), all tasks
SETS = {
    "functions": ("data/functions.py", ["--template", "short"], 64, 4e5, "exact_match", ["--strict"], (1, 2, 3), 35),
    "superni": (
        "data/superni.py",
        ["--max-len", "256", "--overlong", "truncate"],
        16,
        6e5,
        "rouge_l",
        [],
        (1, 3, 4),
        134,
    ),
}


def interval(values, rounds=10000):
    """95 % by bootstrap over these, as paired_bootstrap() of common/eval/metrics.h has it; or None, where it says
    nothing"""
    if len(values) < 6 or sum(v != 0 for v in values) < 4:
        return None
    rng, n, z, v = random.Random(1), len(values), 1.959963984540054, len(values) - 1
    means = sorted(statistics.fmean(rng.choices(values, k=n)) for _ in range(rounds))
    t = (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )
    cut = int(rounds * math.erfc(t * math.sqrt(n / v) / math.sqrt(2)) / 2)
    return means[cut], means[rounds - 1 - cut]


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    text, instructions, out = [pathlib.Path(path).resolve() for path in sys.argv[1:]]
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "text/val.bin").exists():
        marked = out / "stories.txt"
        with open(marked, "w") as f:
            for file in common.text_files(list(map(str, text.glob("rocstories*.txt*"))), (".txt",)):
                f.writelines(f"{line}\n{common.EOT}\n" for line in common.lines_of(*file))
        run(
            [
                sys.executable,
                "data/text.py",
                marked,
                *text.glob("books_simple*.txt*"),
                "--tokenizer-type",
                "bpe",
                "--vocab-size",
                "4096",
                "--out",
                out / "text",
            ],
            str(out / "text") + ".log",
        )
    base = out / "gpt"
    run(["./train_gpt", "--data", out / "text", "--out", base] + PRETRAIN, str(base) + ".log")

    results, tables, curves = {}, [], {}
    for name, (script, flags, batch, tokens, measure, strict, draws, tasks) in SETS.items():
        found = {}  # {rows of the table: {test: {task: [of each draw]}}}
        for draw in draws:
            models = {}
            for n in TASKS:
                data, tuned = out / f"{name}-{n or 'all'}-{draw}", out / f"{name}-{n or 'all'}-{draw}-tuned"
                if not (data / "val.bin").exists():
                    run(
                        [
                            sys.executable,
                            script,
                            "--from",
                            instructions,
                            "--tokenizer",
                            base,
                            "--seed",
                            draw,
                            "--out",
                            data,
                            *flags,
                        ]
                        + (["--tasks", n] if n else []),
                        str(data) + ".log",
                    )
                steps = round(tokens / (batch * row_length(data / "train.bin")))
                run(
                    [
                        "./sft",
                        "--init",
                        base,
                        "--data",
                        data,
                        "--out",
                        tuned,
                        "--seed",
                        draw,
                        "--batch",
                        batch,
                        "--steps",
                        steps,
                    ]
                    + TUNE,
                    str(tuned) + ".log",
                )
                models[n or "all"] = tuned
            for test, by_model in answers(
                [base, *models.values()], data, out / f"{name}-answers-{draw}", 64, strict
            ).items():
                for row, key in {
                    **{b: b for b in BASELINES},
                    "before tuning": str(base),
                    **{n: str(model) for n, model in models.items()},
                }.items():
                    for task, values in by_model[key]["tasks"].items():
                        found.setdefault(row, {}).setdefault(test, {}).setdefault(task, []).append(values[measure])
        results[name] = found
        tests = list(found["before tuning"])
        tables += [
            f"{name}: {'exact match' if measure == 'exact_match' else 'ROUGE-L'} in %, mean over tasks and three draws of training tasks; more than before tuning, 95 % by bootstrap over tasks",
            "",
            "| tuned on | "
            + " | ".join(f"{t.removeprefix('test_')} ({len(found['before tuning'][t])} tasks) | gain" for t in tests)
            + " |",
            "|---|" + "---|---|" * len(tests),
        ]
        for row, by_test in found.items():
            cells = []
            for test in tests:
                mean = {task: statistics.fmean(v) for task, v in by_test[test].items()}
                gain = [100 * (mean[task] - statistics.fmean(found["before tuning"][test][task])) for task in mean]
                known = interval(gain)
                more = f"{statistics.fmean(gain):+.1f}" + (f" ({known[0]:+.1f} to {known[1]:+.1f})" if known else "")
                cells += [
                    f"{100 * statistics.fmean(mean.values()):.1f}",
                    "" if row in (*BASELINES, "before tuning") else more,
                ]
            tables.append(
                f"| {f'all {tasks} tasks' if row == 'all' else '1 task' if row == 1 else f'{row} tasks' if isinstance(row, int) else row} | "
                + " | ".join(cells)
                + " |"
            )
        tables.append("")
        for test in tests:
            line = {}
            for n in TASKS:
                scores = found[n or "all"][test]  # {task: [of each draw]}
                line[str(n or tasks)] = {
                    "accuracy": {
                        "what is held out": [statistics.fmean(v[i] for v in scores.values()) for i in range(len(draws))]
                    },
                    "interval": {"what is held out": interval([statistics.fmean(v) for v in scores.values()])},
                }
            curves[f"{name}: {test.removeprefix('test_')}"] = line
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (out / "instruct.md").write_text("\n".join(tables))
    sizes = sorted({n for line in curves.values() for n in map(int, line)})
    (out / "instruct.svg").write_text(
        svg(
            curves,
            sizes,
            ["what is held out"],
            sizes[-1],
            "More training tasks, equal training tokens",
            "training tasks",
            "score",
        )
    )
    print("\n".join(tables) + f"\n{out}/instruct.svg")


if __name__ == "__main__":
    main()
