#!/usr/bin/env python3
"""Instruction tuning on the toy world, three seeds: a decoder before tuning, tuned on one task, on six, and on all 171,
with equal tuning tokens;
exact match on wordings, phrases, operations, compositions and families that were held out (data/toy_instructions.py).
And, as the simpler use,
tuning on one task alone: why is a review good or bad, with opinion words that tuning never saw.

    python3 dev/recipes/toy_instruct.py runs/toy_instruct

Three pretrainings and twelve tunings of 4 layers, 128 wide. The world's seed is not one that the tasks or the flags
were chosen with; what is
held out is fixed by rules. Some three hours of one core; runs that are done are not repeated (a recipe that was changed
wants a new OUT). Leaves
OUT/results.json, OUT/toy_instruct.md and OUT/toy_instruct.svg (dots: seeds; lines: means; bars: 95 % intervals of the
mean).
"""

import json
import pathlib
import statistics
import struct
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "dev"))
from label_efficiency import svg  # noqa: E402

WORLD = 77
SEEDS = (1, 2, 3)
PRETRAIN = (
    "--layers 4 --width 128 --heads 4 --max-len 112 --dropout 0 --init-std 0.04 --lr 2e-3 --steps 4000 --batch-tokens 2048 --eval-every 250 --log-every 50"
).split()
BATCH = 128  # rows of a step
TOKENS = 9e6  # of each tuning, prompts included; 360,000 rows of all tasks
REASON_TOKENS = 1e6  # 32 times 1,000 reviews
TUNE = f"--batch {BATCH} --max-len 64 --dropout 0 --lr 1.5e-3 --schedule linear --eval-every 250 --log-every 50 --eval-rows 1 --max-new-tokens 24".split()
MODELS = {"one task": "instruct_one", "six tasks": "instruct_six", "all tasks": "instruct"}
TASKS = (1, 6, 171)  # that these have
TESTS = ["test_wordings", "test_phrases", "test_operations", "test_compositions", "test_families"]


def run(command, log):
    """What was begun earlier goes on"""
    command = [str(c) for c in command]
    out = pathlib.Path(command[command.index("--out") + 1])
    if command[0].startswith("./") and (out / "config.json").exists():
        command = [command[0], "--resume", "--out", str(out)]
    with open(log, "a") as f:
        if subprocess.run(command, stdout=f, stderr=subprocess.STDOUT, cwd=ROOT).returncode:
            sys.exit(f"error: {' '.join(command)} failed; its output is in {log}")


def row_length(path):
    """Tokens of a row of a .bin file, on average: common/data/bin_file.h"""
    with open(path, "rb") as f:
        sequences, tokens = struct.unpack_from("<QQ", f.read(256), 24)
    return tokens / sequences


def tune(base, data, out, seed, tokens):
    steps = round(tokens / (BATCH * row_length(data / "train.bin")))
    run(
        ["./sft", "--init", base, "--data", data, "--out", out, "--seed", seed, "--steps", steps] + TUNE,
        str(out) + ".log",
    )


def answers(models, data, out, max_new_tokens=24, more=()):
    """Of models and the two baselines, {test: {model: result}}; made once"""
    if not (out / "results.json").exists():
        with open(str(out) + ".log", "w") as f:
            if subprocess.run(
                [
                    "./sft",
                    "eval",
                    "--model",
                    ",".join(map(str, models)),
                    "--data",
                    str(data),
                    "--rows",
                    "0",
                    "--batch",
                    "64",
                    "--max-new-tokens",
                    str(max_new_tokens),
                    "--out",
                    str(out),
                    *more,
                ],
                stdout=f,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
            ).returncode:
                sys.exit(f"error: ./sft eval failed; its output is in {out}.log")
    return json.load(open(out / "results.json"))


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "runs/toy_instruct").resolve()
    out.mkdir(parents=True, exist_ok=True)
    world = out / "world"
    if not (world / "instruct_one/val.bin").exists():
        run([sys.executable, "data/toy.py", "--only", "decoder", "--out", world, "--seed", WORLD], str(world) + ".log")

    rows = {
        name: {test: [] for test in TESTS} for name in ["copy the input", "most frequent answer", "nothing", *MODELS]
    }  # exact match in %, of each seed
    reasons = {
        name: {test: [[], [], []] for test in ("val", "test")} for name in ("nothing", "this task")
    }  # exact, good or bad, a word of the review: in %, of each seed
    for seed in SEEDS:
        base = out / f"gpt-{seed}"
        run(
            ["./train_gpt", "--data", world / "gpt/text", "--out", base, "--seed", seed] + PRETRAIN, str(base) + ".log"
        )  # done: it says so
        tuned = {name: out / f"{folder}-{seed}" for name, folder in MODELS.items()}
        for name, folder in MODELS.items():
            tune(base, world / folder, tuned[name], seed, TOKENS)
        found = answers([base, *tuned.values()], world / "instruct", out / f"answers-{seed}")
        for name in rows:
            for test in TESTS:
                rows[name][test].append(
                    100 * found[test][str({"nothing": base, **tuned}.get(name, name))]["exact_match"]
                )

        tune(base, world / "reasons", out / f"reasons-{seed}", seed, REASON_TOKENS)
        for part in ("val", "test"):
            found = answers(
                [base, out / f"reasons-{seed}"], world / "reasons" / f"{part}.bin", out / f"reasons-{part}-{seed}"
            )[part]
            for n, (name, model) in enumerate(zip(reasons, (base, out / f"reasons-{seed}"))):
                said = [json.loads(line) for line in open(out / f"reasons-{part}-{seed}/answers_{n + 1}.jsonl")]
                right = sum(a["answer"].split()[:1] == a["outputs"][0].split()[:1] for a in said) / len(
                    said
                )  # "positive because of ..."
                for values, share in zip(
                    reasons[name][part], (found[str(model)]["exact_match"], right, found[str(model)]["quotes_of_input"])
                ):
                    values.append(100 * share)

    show = lambda values: (
        f"{statistics.mean(values):.1f} +- {statistics.stdev(values):.1f}"
        if len(set(values)) > 1
        else f"{values[0]:.1f}"
    )
    lines = [
        "exact match in %, mean and deviation of three seeds",
        "",
        "| tuned on | " + " | ".join(t[5:] for t in TESTS) + " |",
        "|---|" + "---|" * len(TESTS),
    ]
    lines += [f"| {name} | " + " | ".join(show(results[t]) for t in TESTS) + " |" for name, results in rows.items()]
    lines.append(
        "| all tasks, each seed | "
        + " | ".join(", ".join(f"{x:.1f}" for x in rows["all tasks"][t]) for t in TESTS)
        + " |"
    )
    lines += [
        "",
        "| review -> reason, tuned on | opinion words that tuning saw: all of it right | good or bad | a word of the review | other words: all | good or bad | a word |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | " + " | ".join(show(values) for part in results.values() for values in part) + " |"
        for name, results in reasons.items()
    ]
    (out / "toy_instruct.md").write_text("\n".join(lines) + "\n")
    held_out = "what tuning never saw"
    curves = {
        t[5:]: {str(n): {"accuracy": {held_out: [x / 100 for x in rows[name][t]]}} for n, name in zip(TASKS, MODELS)}
        for t in TESTS
    }
    (out / "toy_instruct.svg").write_text(
        svg(
            curves,
            TASKS,
            [held_out],
            TASKS[-1],
            "More training tasks, equal training tokens",
            "training tasks",
            "exact match",
        )
    )
    print("\n".join(lines))
    with open(out / "results.json", "w") as f:
        json.dump(
            {
                "world": WORLD,
                "pretrain": PRETRAIN,
                "tune": TUNE,
                "tuning_tokens": TOKENS,
                "reason_tokens": REASON_TOKENS,
                "instruct": rows,
                "reasons": reasons,
            },
            f,
            indent=1,
        )
    print(f"\n{out}/results.json")


if __name__ == "__main__":
    main()
