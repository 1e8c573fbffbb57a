#!/usr/bin/env python3
"""Instruction tuning on the toy world, three seeds: a decoder before tuning, tuned on one task, on six, and on all 171,
with equal tuning tokens; exact match on wordings, phrases, operations, compositions and families that were held out
(data/toy/instructions.py). And, as the simpler use, tuning on one task alone: why is a review good or bad, with opinion
words that tuning never saw.

    python3 dev/recipes/toy_instruct.py runs/toy_instruct

Three pretrainings and twelve tunings of 4 layers, 128 wide. The world's seed is not one that the tasks or the flags
were chosen with; what is held out is fixed by rules. Takes some three hours of one core; runs that are done are not
repeated (a recipe that was changed needs a new OUT). Leaves OUT/results.json, OUT/toy_instruct.md and
OUT/toy_instruct.svg (dots: seeds; lines: means; bars: 95 % intervals of the mean).
"""

import json
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "dev"), str(ROOT / "dev/lib")]
import bin_file  # noqa: E402
from label_efficiency import accuracy_chart  # noqa: E402

WORLD = 77
SEEDS = (1, 2, 3)
PRETRAIN = (
    "--layers 4 --hidden-size 128 --heads 4 --max-len 112 --dropout 0 --init-std 0.04 --lr 2e-3 --steps 4000 "
    "--batch-tokens 2048 --eval-every 250 --log-every 50"
).split()
BATCH = 128  # rows of a step
TOKENS = 9e6  # of each tuning, prompts included; 360,000 rows of all tasks
REASON_TOKENS = 1e6  # 32 times 1,000 reviews
TUNE = (
    f"--batch {BATCH} --max-len 64 --dropout 0 --lr 1.5e-3 --schedule linear --eval-every 250 --log-every 50 "
    "--eval-rows 1 --max-new-tokens 24"
).split()
MODELS = {"one task": "instruct_one", "six tasks": "instruct_six", "all tasks": "instruct"}
TASKS = (1, 6, 171)  # how many these are tuned on
NOTHING = "nothing"  # the decoder before tuning
TESTS = ["test_wordings", "test_phrases", "test_operations", "test_compositions", "test_families"]


def run(command, log):
    """Runs a command; a run of a program that was begun earlier continues."""
    command = [str(c) for c in command]
    out = pathlib.Path(command[command.index("--out") + 1])
    if command[0].startswith("./") and (out / "config.json").exists():
        command = [command[0], "--resume", "--out", str(out)]
    with open(log, "a") as f:
        if subprocess.run(command, stdout=f, stderr=subprocess.STDOUT, cwd=ROOT).returncode:
            sys.exit(f"error: {' '.join(command)} failed; its output is in {log}")


def tune(base, data, out, seed, tokens):
    steps = round(tokens / (BATCH * bin_file.mean_length(data / "train.bin")))
    sft = ["./sft", "--init", base, "--data", data, "--out", out, "--seed", seed, "--steps", steps]
    run(sft + TUNE, str(out) + ".log")


def answers(models, data, out, max_new_tokens=24, flags=()):
    """What sft eval says of models and the two baselines, {test: {system: result}}; made once"""
    if not (out / "results.json").exists():
        command = ["./sft", "eval", "--model", ",".join(map(str, models)), "--data", str(data), "--out", str(out)]
        command += ["--rows", "0", "--batch", "64", "--max-new-tokens", str(max_new_tokens), *flags]
        with open(str(out) + ".log", "w") as f:
            if subprocess.run(command, stdout=f, stderr=subprocess.STDOUT, cwd=ROOT).returncode:
                sys.exit(f"error: ./sft eval failed; its output is in {out}.log")
    return json.load(open(out / "results.json"))


def add_instructions(rows, base, world, out, seed):
    """Adds this seed's exact match to rows, {system: {test: [% of each seed]}}."""
    tuned = {name: out / f"{folder}-{seed}" for name, folder in MODELS.items()}
    for name, folder in MODELS.items():
        tune(base, world / folder, tuned[name], seed, TOKENS)
    found = answers([base, *tuned.values()], world / "instruct", out / f"answers-{seed}")
    paths = {NOTHING: base, **tuned}
    for name in rows:
        for test in TESTS:
            rows[name][test].append(100 * found[test][str(paths.get(name, name))]["exact_match"])


def add_reasons(reasons, base, world, out, seed):
    """Adds this seed's scores to reasons, {model: {part: [% exact, % good or bad right, % a word of the review]}}, each
    a list over seeds."""
    model = out / f"reasons-{seed}"
    tune(base, world / "reasons", model, seed, REASON_TOKENS)
    for part in ("val", "test"):
        answers_dir = out / f"reasons-{part}-{seed}"
        found = answers([base, model], world / "reasons" / f"{part}.bin", answers_dir)[part]
        for n, (name, path) in enumerate(zip(reasons, (base, model)), 1):
            said = [json.loads(line) for line in open(answers_dir / f"answers_{n}.jsonl")]
            # the first word of "positive because of ..."
            right = sum(a["answer"].split()[:1] == a["outputs"][0].split()[:1] for a in said) / len(said)
            scores = (found[str(path)]["exact_match"], right, found[str(path)]["quotes_of_input"])
            for values, score in zip(reasons[name][part], scores):
                values.append(100 * score)


def mean_and_deviation(values):
    if len(set(values)) == 1:
        return f"{values[0]:.1f}"
    return f"{statistics.mean(values):.1f} +- {statistics.stdev(values):.1f}"


def tables(rows, reasons):
    """The lines of both tables in Markdown"""
    line = lambda cells: "| " + " | ".join(cells) + " |"
    lines = ["exact match in %, mean and deviation of three seeds", ""]
    lines += [line(["tuned on", *(t[5:] for t in TESTS)]), "|---|" + "---|" * len(TESTS)]
    lines += [line([name, *(mean_and_deviation(of[t]) for t in TESTS)]) for name, of in rows.items()]
    lines.append(line(["all tasks, each seed", *(", ".join(f"{x:.1f}" for x in rows["all tasks"][t]) for t in TESTS)]))
    lines += [
        "",
        "| review -> reason, tuned on | opinion words that tuning saw: all of it right | good or bad "
        "| a word of the review | other words: all | good or bad | a word |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, by_part in reasons.items():
        lines.append(line([name, *(mean_and_deviation(values) for of in by_part.values() for values in of)]))
    return lines


def main():
    if any(word.startswith("-") for word in sys.argv[1:]):
        print(__doc__)
        sys.exit(0 if sys.argv[1:] in (["--help"], ["-h"]) else 2)
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "runs/toy_instruct").resolve()
    out.mkdir(parents=True, exist_ok=True)
    world = out / "world"
    if not (world / "instruct_one/val.bin").exists():
        run([sys.executable, "data/toy.py", "--only", "decoder", "--out", world, "--seed", WORLD], str(world) + ".log")

    systems = ["copy the input", "most frequent answer", NOTHING, *MODELS]
    rows = {name: {test: [] for test in TESTS} for name in systems}
    reasons = {name: {part: [[], [], []] for part in ("val", "test")} for name in (NOTHING, "this task")}
    for seed in SEEDS:
        base = out / f"gpt-{seed}"
        pretrain = ["./train_gpt", "--data", world / "gpt/text", "--out", base, "--seed", seed] + PRETRAIN
        run(pretrain, str(base) + ".log")  # a run that is done says so
        add_instructions(rows, base, world, out, seed)
        add_reasons(reasons, base, world, out, seed)

    lines = tables(rows, reasons)
    (out / "toy_instruct.md").write_text("\n".join(lines) + "\n")
    held_out = "what tuning never saw"
    curves = {
        t[5:]: {str(n): {"accuracy": {held_out: [x / 100 for x in rows[name][t]]}} for n, name in zip(TASKS, MODELS)}
        for t in TESTS
    }
    title = "More training tasks, equal training tokens"
    chart = accuracy_chart(curves, TASKS, [held_out], TASKS[-1], title, "training tasks", "exact match")
    (out / "toy_instruct.svg").write_text(chart)
    print("\n".join(lines))
    results = {"world": WORLD, "pretrain": PRETRAIN, "tune": TUNE, "tuning_tokens": TOKENS}
    results.update({"reason_tokens": REASON_TOKENS, "instruct": rows, "reasons": reasons})
    with open(out / "results.json", "w") as f:
        json.dump(results, f, indent=1)
    print(f"\n{out}/results.json")


if __name__ == "__main__":
    main()
