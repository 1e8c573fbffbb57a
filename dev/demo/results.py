"""What the finished runs of the demo say, read from their files. Fractions are from 0 to 1."""

import json
import pathlib
import re
import statistics
import sys
import typing

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import stats  # noqa: E402

LEVELS = {  # set of toy/instruct: (its name, what is held out)
    "test_wordings": ("wordings", "known tasks, asked in other words"),
    "test_operations": ("operations", "known operations on another kind of list"),
    "test_compositions": ("compositions", "two skills put together, or a longer list"),
    "test_families": ("families", "another kind of task altogether"),
}
REASONS = {"val": "opinion words that tuning saw", "test": "opinion words that it never saw"}


def metrics(run):
    """The rows of its metrics.jsonl"""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def tokens(run):
    """How many tokens a run was trained on, repetitions included"""
    return max(row.get("tokens", 0) for row in metrics(run))


class Estimate(typing.NamedTuple):
    """A fraction with its 95 % interval, low to high, and the values that it is the mean of"""

    mean: float
    low: float
    high: float
    runs: list

    def __str__(self):
        """In per cent; with the standard deviation over the runs, if there are several"""
        spread = f" ± {100 * statistics.stdev(self.runs):.1f}" if len(self.runs) > 1 else ""
        return f"{100 * self.mean:.1f}{spread}"


def sentiment(out):
    """{model: {"val": Estimate, "test": Estimate}}; val: opinion words that labels used, test: that no label used"""
    found = {}
    for name in ("pretrained", "from scratch"):
        results = json.loads((out / name.replace(" ", "-") / "results.json").read_text())
        found[name] = {}
        for part in ("val", "test"):
            runs = results[part]["accuracy"]["runs"]
            mean = statistics.mean(runs)
            half = stats.student(runs)
            found[name][part] = Estimate(mean, max(0, mean - half), min(1, mean + half), runs)
    log = (out / "toy.log").read_text()
    found["bag of words"] = {}
    for part in ("val", "test"):  # its interval is over the reviews
        line = re.search(rf"^  words on {part}: accuracy ([\d.]+) % \(95 %: ([\d.]+) to ([\d.]+)\)", log, re.M)
        mean, low, high = (float(x) / 100 for x in line.groups())
        found["bag of words"][part] = Estimate(mean, low, high, [mean])
    return found


class Answer(typing.NamedTuple):
    prompt: str
    answer: str
    expected: str
    right: bool


def some(answers, right=2, wrong=2):
    """The first answers that are right, then the first that are wrong"""
    return [a for a in answers if a.right][:right] + [a for a in answers if not a.right][:wrong]


def review_answers(run):
    """What a classifier (first seed) says of the test's reviews"""
    header, *rows = (run / "seed-1/predictions.tsv").read_text().splitlines()
    rows = [dict(zip(header.split("\t"), row.split("\t"))) for row in rows]
    of_test = [r for r in rows if r["set"] == "test"]
    return [Answer(r["text"], r["prediction"], r["gold"], r["prediction"] == r["gold"]) for r in of_test]


def read_answers(path, part):
    """Of one set: answers*.jsonl as sft writes it"""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        Answer(r["prompt"], r["answer"], " / ".join(r["outputs"]), bool(r["exact"])) for r in rows if r["set"] == part
    ]


class Reasons(typing.NamedTuple):
    exact: float
    side: float  # good or bad is right
    quotes: float  # quotes a word that is in the review


def reasons(out):
    """{part: {"before": Reasons, "tuned": Reasons}}, parts as in REASONS"""
    found = json.loads((out / "reasons-answers/results.json").read_text())
    table = {}
    for part in REASONS:
        table[part] = {}
        for number, (name, run) in enumerate((("before", "gpt"), ("tuned", "reasons")), 1):
            result = found[part][str(out / run)]
            answers = read_answers(out / f"reasons-answers/answers_{number}.jsonl", part)
            # an answer is: positive because of " superb "
            side = statistics.mean(a.answer.split()[:1] == a.expected.split()[:1] for a in answers)
            quotes = result["tasks"]["sentiment/reason"]["quotes_of_input"]
            table[part][name] = Reasons(result["exact_match"], side, quotes)
    return table


class Level(typing.NamedTuple):
    tasks: int
    copy: float  # baseline: the answer is the input
    frequent: float  # baseline: the task's most frequent answer
    before: float
    tuned: float
    gain: float  # tuned - before
    gain_low: typing.Optional[float]  # None: too few tasks differ for an interval over tasks
    gain_high: typing.Optional[float]


def instructions(out):
    """{set: Level}, sets as in LEVELS; exact match, the mean over tasks"""
    found = json.loads((out / "instruct/results.json").read_text())
    table = {}
    for part in LEVELS:
        of = found[part]
        gain = of["tuned"]["minus_first_model"]["exact_match"]
        exact = [of[name]["exact_match"] for name in ("copy the input", "most frequent answer", "before", "tuned")]
        table[part] = Level(len(of["tuned"]["tasks"]), *exact, gain["mean"], gain.get("low"), gain.get("high"))
    return table
