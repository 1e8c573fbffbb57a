#!/usr/bin/env python3
"""sft as a user runs it: tuned, killed, resumed, asked in scripts and in a terminal, fed with nonsense.

    make && python3 test/programs/test_sft.py                     all; about a minute and a half on one core
    python3 test/programs/test_sft.py Resume BadInput.test_table

Needs Python 3.9 and nothing else. Other binaries: SFT, SFT_SHIM, TRAIN_GPT, TOKENIZE in the environment.
"""

import sys
import collections
import ctypes
import fcntl
import json
import os
import pty
import random
import re
import select
import shutil
import signal
import string
import struct
import termios
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # test/harness.py
import harness
from harness import (
    DOES,
    HOW,
    TIMEOUT,
    TOKENIZE,
    W,
    WHAT,
    WHO,
    Call,
    binary,
    checkpoint,
    config_edit,
    environment,
    jsonl,
    losses,
    metrics,
    not_finite,
    patched,
    read,
    read_safetensors,
    results_of,
    resume,
    run,
    snapshot,
    start,
    steps_of,
    stop,
    train,
    tune,
    with_tensor,
    write,
)

TRAIN_GPT = binary("TRAIN_GPT", "build/cpu-fp32/train_gpt")
SFT = W.program = binary("SFT", "build/cpu-fp32/sft")
SHIM = binary("SFT_SHIM", "build/shim-fp32/sft")
SHIM_BF16 = binary("SFT_SHIM_BF16", "build/shim-bf16/sft")
CPU_BF16 = binary("SFT_CPU_BF16", "build/cpu-bf16/sft")

SMALL = "--batch 16 --lr 3e-3 --dropout 0 --eval-rows 12 --max-new-tokens 20 --log-every 10".split()
T = 64  # the model's context


# ---------------------------------------------------------------- rows
def who(r):
    i = r.randrange(12)
    options = [WHO[i]] + r.sample([w for w in WHO if w != WHO[i]], 2)
    r.shuffle(options)
    return {
        "prompt": "who %s the %s ?" % (DOES[i], WHAT[i]),
        "completion": WHO[i],
        "task": "facts/who",
        "options": options,
    }


def why(r):
    i = r.randrange(12)
    return {
        "instruction": "why ?",
        "input": "the %s is %s ." % (WHO[i], HOW[i]),
        "output": ['as "%s"' % HOW[i], "it is " + HOW[i]],
        "task": "facts/why",
    }


def talk(r):
    i = r.randrange(12)
    return {
        "messages": [
            {"role": "user", "content": "who %s the %s ?" % (DOES[i], WHAT[i])},
            {"role": "assistant", "content": WHO[i]},
            {"role": "user", "content": "how ?"},
            {"role": "assistant", "content": HOW[i]},
        ],
        "task": "talk/how",
    }


def pick(r, place):
    words = r.sample(WHAT, 3)
    return {
        "instruction": place,
        "input": " , ".join(words),
        "output": words[0 if place == "first" else 2],
        "task": "lists/" + place,
    }


def make_rows(seed, n, kinds=(who, why, talk)):
    r = random.Random(seed)
    return [kinds[i % len(kinds)](r) for i in range(n)]


LISTS = (lambda r: pick(r, "first"), lambda r: pick(r, "last"))


def pack(name, rows, *flags, tokenizer="run", template="short", code=0):
    """A .bin and its .jsonl"""
    path = W.path(name)
    write(path[:-4] + ".jsonl", rows if isinstance(rows, (str, bytes)) else jsonl(rows))
    return run(
        [
            "pack",
            "--tokenizer",
            W.path(tokenizer),
            "--kind",
            "instruct",
            "--template",
            template,
            "--max-len",
            T,
            "--in",
            path[:-4] + ".jsonl",
            "--out",
            path,
            *flags,
        ],
        code,
        program=TOKENIZE,
    )


def ask(*args, **more):
    """eval, generate, chat"""
    return run(args, **more)


def generate(rows, *flags, model="tuned", **more):
    return [
        json.loads(line)
        for line in ask("generate", "--model", model, *flags, text=jsonl(rows), **more).out.splitlines()
    ]


def make_talker():
    """A model that has learned nothing and has room to say it; its answers take seconds"""
    if not os.path.exists(W.path("talker")):
        run(
            [
                "train",
                "--data",
                "text",
                "--out",
                "talker",
                *"--layers 4 --hidden-size 256 --max-len 32 --positions 4096".split(),
                *"--batch-tokens 128 --steps 1 --eval-tokens 32".split(),
            ],
            program=TRAIN_GPT,
        )
        shutil.copy(W.path("tuned/best/template.json"), W.path("talker/best/template.json"))


def answers_of(path):
    return [json.loads(line) for line in read(W.path(path)).decode().splitlines()]


def normal(text):
    return " ".join("".join(c for c in text if c not in string.punctuation).lower().split())


def build_world():
    W.make("bpe", {"text": 400, "other": 300})
    run(
        [
            "train",
            "--data",
            "text",
            "--out",
            "run",
            *"--layers 2 --hidden-size 64 --batch-tokens 512".split(),
            *"--lr 5e-3 --steps 200 --eval-every 0 --eval-tokens 1024".split(),
            "--max-len",
            T,
        ],
        program=TRAIN_GPT,
    )
    W.packed = pack("task/train.bin", make_rows(1, 480), "--show", 3).out
    pack("task/val.bin", make_rows(2, 60))
    pack("task/test_seen.bin", make_rows(3, 36))
    pack("task/test_lists.bin", make_rows(4, 20, LISTS))
    W.console = tune("tuned", *SMALL, "--epochs", 10).out


def setUpModule():
    harness.set_up(build_world, "texts, rows and two models")


class Case(harness.Case):
    def assert_same_run(self, a, b):
        super().assert_same_run(a, b)
        for name in ("results.json", "answers.jsonl", "answers_before.jsonl"):
            if os.path.exists(W.path(a, name)):
                self.assertTrue(read(W.path(a, name)) == read(W.path(b, name)), name)


# ---------------------------------------------------------------- learning, and what a run leaves
class Learning(Case):
    def test_files(self):
        self.assertEqual(
            set(os.listdir(W.path("tuned"))),
            {"best", "last", "config.json", "metrics.jsonl", "results.json", "answers.jsonl", "answers_before.jsonl"},
        )
        model = {
            "config.json",
            "generation_config.json",
            "merges.txt",
            "model.safetensors",
            "template.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.json",
        }
        self.assertEqual(set(os.listdir(W.path("tuned/best"))), model)
        self.assertEqual(set(os.listdir(W.path("tuned/last"))), model | {"training_state.safetensors"})

    def test_no_new_parameters(self):
        """The tuned model has the tensors of the base, their names, types and shapes, and the same vocabulary; every
        one of them has learned."""
        before, after = (read_safetensors(W.path(d, "model.safetensors"))[0] for d in ("run/best", "tuned/best"))
        self.assertEqual({n: t[:2] for n, t in before.items()}, {n: t[:2] for n, t in after.items()})
        self.assertEqual([n for n in before if before[n][2] == after[n][2]], [])
        for file in ("vocab.json", "merges.txt", "tokenizer.json"):
            self.assertEqual(read(W.path("run/best", file)), read(W.path("tuned/best", file)), file)
        old, new = (json.loads(read(W.path(d, "tokenizer_config.json"))) for d in ("run/best", "tuned/best"))
        self.assertIn("answer :", new.pop("chat_template"))  # the template, for transformers
        self.assertEqual(old, new)

    def test_template_is_stored(self):
        for part in ("best", "last"):
            stored = json.loads(read(W.path("tuned", part, "template.json")))
            self.assertEqual(stored["name"], "short")
            self.assertEqual(stored["text"], "{instruction}\n{input}\nanswer : {output}")

    def test_it_learns(self):
        r = results_of("tuned")
        print(
            "exact match before %.2f, tuned %.2f"
            % (r["test_seen"]["before"]["exact_match"], r["test_seen"]["tuned"]["exact_match"])
        )
        self.assertEqual(r["test_seen"]["before"]["exact_match"], 0)
        self.assertGreaterEqual(r["test_seen"]["tuned"]["exact_match"], 0.9)
        self.assertGreaterEqual(r["test_seen"]["tuned"]["tasks"]["facts/who"]["option_accuracy"], 0.9)
        self.assertGreaterEqual(r["test_seen"]["tuned"]["tasks"]["facts/why"]["quotes_of_input"], 0.9)
        curve = [m["val_loss"] for m in metrics(W.path("tuned")) if "val_loss" in m]
        self.assertEqual(len(curve), 10)  # after each epoch
        self.assertLess(curve[-1], 0.3)

    def test_results_are_those_of_the_answers(self):
        """results.json from the answers, computed here once more."""
        results = results_of("tuned")
        for name, file in (("before", "answers_before.jsonl"), ("tuned", "answers.jsonl")):
            for set_name, rows in (("test_seen", make_rows(3, 36)), ("test_lists", make_rows(4, 20, LISTS))):
                said = [a for a in answers_of("tuned/" + file) if a["set"] == set_name]
                r, means = results[set_name][name], []
                self.assertEqual(set(r["tasks"]), {row["task"] for row in rows})
                for task, found in r["tasks"].items():
                    mine, given = [a for a in said if a["task"] == task], [row for row in rows if row["task"] == task]
                    self.assertEqual(len(mine), min(len(given), 12))
                    self.assertEqual(found["rows"], len(mine))
                    for a, row in zip(mine, given):
                        outputs = row.get("output") or row.get("completion") or row["messages"][-1]["content"]
                        self.assertEqual(a["outputs"], outputs if isinstance(outputs, list) else [outputs])
                        self.assertEqual(a["exact"], normal(a["answer"]) in map(normal, a["outputs"]))
                        question = (
                            row["messages"][-2]["content"] if "messages" in row else row.get("prompt") or row["input"]
                        )
                        self.assertIn(question + "\nanswer :", a["prompt"])
                        self.assertTrue(a["prompt"].endswith("\nanswer :"))
                        self.assertEqual("option" in a, task == "facts/who")
                    means.append(sum(a["exact"] for a in mine) / len(mine))
                    self.assertAlmostEqual(found["exact_match"], means[-1], delta=1e-12)
                    self.assertAlmostEqual(found["rouge_l"], sum(a["rouge_l"] for a in mine) / len(mine), delta=1e-12)
                    if task == "facts/who":
                        self.assertEqual(found["options"], len(mine))
                        self.assertAlmostEqual(
                            found["option_accuracy"],
                            sum(a["option"] in a["outputs"] for a in mine) / len(mine),
                            delta=1e-12,
                        )
                        self.assertAlmostEqual(
                            found["option_accuracy_per_byte"],
                            sum(a["option_per_byte"] in a["outputs"] for a in mine) / len(mine),
                            delta=1e-12,
                        )
                    if task == "facts/why":
                        right = [re.search('"(.*?)"', a["answer"]) for a in mine]
                        right = sum(
                            bool(q) and q.group(1).strip() in a["prompt"].replace("\n", " ").split()
                            for a, q in zip(mine, right)
                        )
                        self.assertEqual((found["quotes"], found["quotes_of_input"]), (len(mine), right / len(mine)))
                self.assertAlmostEqual(r["exact_match"], sum(means) / len(means), delta=1e-12)
        lists = results["test_lists"]
        self.assertEqual(lists["copy the input"]["exact_match"], 0)
        said = [row["output"] for row in make_rows(4, 20, LISTS) if row["task"] == "lists/first"]
        # of two halves that are drawn (test_sft.cpp): what is frequent in one is some in the other
        usual = lists["most frequent answer"]["tasks"]["lists/first"]["exact_match"]
        self.assertLessEqual(usual, max(collections.Counter(said).values()) / 10)
        for set_name in ("test_seen", "test_lists"):
            for key in ("exact_match", "rouge_l"):
                d = results[set_name]["tuned"]["minus_first_model"][key]
                self.assertAlmostEqual(
                    d["mean"], results[set_name]["tuned"][key] - results[set_name]["before"][key], delta=1e-12
                )
                self.assertEqual(set(d), {"mean"})  # of three tasks there is no interval

    def test_console(self):
        for part in (
            "mixture: 480 rows of 3 tasks an epoch",
            "facts/who",
            "33.3 %",
            "300 steps of 1 x 16 rows: 10.00 epochs; no new parameters",
            "56 test rows of 2 sets",
            "largest --batch that fits",
            "step 300/300 | loss",
            "answers in val.bin: loss",
            "best so far",
            "copy the input",
            "most frequent answer",
            "before",
            "tuned",
            "quotes its input 100.0 %",
            "minus before, in points (ROUGE-L: 0 to 1)\n",
            "chance 33.3 %",
            "(1 of the tasks have options)",
            "results.json",
        ):
            self.assertIn(part, W.console)

    def test_show(self):
        """pack --show: rows decoded, what is learned in brackets"""
        rows = make_rows(1, 3)
        self.assertIn(
            "%s\nanswer :\u27e6 %s<|endoftext|>\u27e7\n" % (rows[0]["prompt"], rows[0]["completion"]), W.packed
        )
        m = [m["content"] for m in rows[2]["messages"]]
        self.assertIn(
            "%s\nanswer :\u27e6 %s<|endoftext|>\u27e7%s\nanswer :\u27e6 %s<|endoftext|>\u27e7\n" % tuple(m), W.packed
        )

    def test_config_holds_every_flag(self):
        config = json.loads(read(W.path("tuned/config.json")))
        flags = set(re.findall(r"^  --(?:\[no-\])?([a-z0-9-]+)", ask("train", "--help").out, re.M)) - {"help"}
        self.assertGreater(len(flags), 30)
        self.assertLessEqual(flags, set(config["flags"]))
        self.assertEqual(
            (config["program"], config["flags"]["epochs"], config["flags"]["batch"], config["flags"]["mix"]),
            ("sft", 10, 16, "size"),
        )

    def test_no_test_sets(self):
        """Without test_*.bin there is nothing to report, without val.bin the last model is taken."""
        os.makedirs(W.path("bare"), exist_ok=True)
        shutil.copy(W.path("task/train.bin"), W.path("bare/train.bin"))
        tune("bare-run", *SMALL, "--steps", 2, data="bare")
        self.assertEqual(set(os.listdir(W.path("bare-run"))), {"last", "config.json", "metrics.jsonl"})
        shutil.copy(W.path("task/val.bin"), W.path("bare/val.bin"))
        out = tune("val-run", *SMALL, "--steps", 2, data="bare").out
        self.assertIn("no test_*.bin and no --holdout: rows of val.bin, which also chooses the model, stand in", out)
        tasks = results_of("val-run")["val"]["tuned"]["tasks"]
        self.assertEqual({name: task["rows"] for name, task in tasks.items()}, dict.fromkeys(tasks, 12 // 3))

    def test_rouge_of_other_letters(self):
        """It counts nothing where the references have no word of a to z: said, beside the 0."""
        rows = [
            {"instruction": "say %d" % i, "output": text, "task": "a/b"} for i, text in enumerate(("да", "я", "the"))
        ]
        pack("letters.bin", rows)
        out = ask("eval", "--model", "run", "--data", "letters.bin", "--max-new-tokens", 2, "--out", "letters").out
        self.assertIn("\n  ROUGE-L is blind to 2 rows: ", out)
        self.assertEqual(results_of("letters")["letters"]["run"]["tasks"]["a/b"]["rouge_blind"], 2)

    def test_continuing_from_a_tuned_model(self):
        """Its template is the data's, and what it says before is what it said."""
        tune("again", *SMALL, "--steps", 1, "--lr", 1e-12, init="tuned")
        self.assertEqual(read(W.path("again/answers_before.jsonl")), read(W.path("tuned/answers.jsonl")))


# ---------------------------------------------------------------- flags
class Flags(Case):
    def trace(self, out, *flags, **more):
        tune(out, *SMALL, "--eval-rows", 1, *flags, **more)
        return losses(W.path(out))

    def test_accumulation_is_the_same_step(self):
        one = self.trace("accum1", "--steps", 8, "--batch", 16)
        self.assert_close(one, self.trace("accum2", "--steps", 8, "--batch", 8, "--accum", 2), 2e-5)
        self.assert_close(one, self.trace("accum16", "--steps", 8, "--batch", 1, "--accum", 16), 2e-5)

    def test_threads_change_nothing(self):
        self.trace("threads1", "--steps", 8)
        self.trace("threads3", "--steps", 8, OMP_NUM_THREADS=3)
        self.assert_same_run("threads1", "threads3")

    def test_holdout(self):
        """Its rows train nothing: a run with them, held out, is one without them. They are reported on."""
        pack("mixed/train.bin", make_rows(1, 40) + make_rows(5, 40, LISTS))
        pack("mixed/val.bin", make_rows(2, 9) + make_rows(6, 9, LISTS))
        pack("rest/train.bin", make_rows(1, 40))
        pack("rest/val.bin", make_rows(2, 9))
        tune("held-lists", *SMALL, "--steps", 6, "--holdout", "lists", data="mixed")
        tune("never-there", *SMALL, "--steps", 6, data="rest")
        self.assertEqual(metrics(W.path("held-lists")), metrics(W.path("never-there")))
        self.assertTrue(
            read(W.path("held-lists/last/model.safetensors")) == read(W.path("never-there/last/model.safetensors"))
        )
        self.assertEqual(set(results_of("never-there")), {"val"})
        self.assertEqual(
            set(results_of("held-lists")["held-out families"]["tuned"]["tasks"]), {"lists/first", "lists/last"}
        )
        self.assertEqual(set(results_of("held-lists")), {"held-out families"})
        out = tune("held", *SMALL, "--steps", 6, "--holdout", "lists/last,why", data="mixed").out
        for task in ("lists/last", "facts/why"):
            self.assertRegex(out, task + " +held out")
        self.assertEqual(set(results_of("held")["held-out tasks"]["tuned"]["tasks"]), {"lists/last", "facts/why"})
        self.assertIn("mixture: 47 rows of 3 tasks", out)  # 14 + 13 + 20
        tune("held-both", *SMALL, "--steps", 1, "--holdout", "lists,why", data="mixed")
        for name, tasks in (("held-out tasks", {"facts/why"}), ("held-out families", {"lists/first", "lists/last"})):
            self.assertEqual(set(results_of("held-both")[name]["tuned"]["tasks"]), tasks)

    def test_many_tasks(self):
        """Of more than 40 tasks the families are told, each with its rows."""
        pack("many/train.bin", [{**row, "task": "%s/%d" % ("abc"[i % 3], i)} for i, row in enumerate(make_rows(1, 45))])
        out = tune("many", *SMALL, "--steps", 1, "--holdout", "b,a/0", data="many").out
        self.assertIn("mixture: 27 rows of 27 tasks an epoch", out)
        # one of them in a conversation
        self.assertIn("\n2 rows with the question of a held-out row left out of training\n", out)
        self.assertRegex(
            out,
            r"\n  family +rows +an epoch +share +answer tokens\n"
            r"  a \(15 tasks, 1 held out\) +13 +13 +48.1 %.*\n  b \(15 tasks\) +held out\n"
            r"  c \(15 tasks\) +14 +14 +51.9 %",
        )
        self.assertRegex(
            out,
            r"held-out families: 15 tasks, 15 rows\n(.*\n)*"
            r"  minus before, in points \(ROUGE-L: 0 to 1\), and the 95 % interval over tasks\n"
            r"  tuned +[+-][\d.]+ \(-\) +[+-][\d.]+ \([+-][\d.]+ to [+-][\d.]+\)\n",
        )
        # a model as good as the first: no interval of it, and why; of the third there is one, of ROUGE-L
        pack("seven.bin", [{**row, "task": "a/%d" % i} for i, row in enumerate(make_rows(1, 7))])
        self.assertIn(
            "\n  minus run, in points (ROUGE-L: 0 to 1); no interval, since fewer than 4 tasks differ\n",
            ask("eval", "--model", "run,run", "--data", "seven.bin").out,
        )
        self.assertRegex(
            ask("eval", "--model", "run,run,tuned", "--data", "seven.bin").out,
            r"minus run, in points \(ROUGE-L: 0 to 1\), and the 95 % interval over tasks\n"
            r"  run \(2\) +\+0.0 \(-\) +\+0.000 \(-\).*\n  tuned .* \(.* to ",
        )

    def test_questions_of_held_out_rows_are_not_trained_on(self):
        """A row of a task that is trained on has the prompt of a held-out one: it goes, and the run is one without
        it."""
        rows, held = make_rows(1, 40), make_rows(5, 8, LISTS)
        for name, more in (
            ("twins", [{**held[0], "task": "facts/who", "output": "none", "options": None}]),
            ("no-twins", []),
        ):
            pack(name + "/train.bin", rows + more + held)
            out = tune("of-" + name, *SMALL, "--steps", 3, "--holdout", "lists", data=name).out
            self.assertEqual("1 row with the question of a held-out row left out of training" in out, bool(more))
        self.assertEqual(losses(W.path("of-twins")), losses(W.path("of-no-twins")))

    def test_small_shares(self):
        pack("shares/train.bin", make_rows(1, 60, (who,)) + make_rows(2, 2, (why,)))
        out = tune("shares-out", *SMALL, "--steps", 1, "--weights", "why=0.1", data="shares").out
        self.assertIn(
            "warning: facts/why: its share is too small for one row an epoch, "
            "so none of its 2 rows is learned; give it more --weights",
            out,
        )
        # as was wanted
        self.assertNotIn("warning", tune("no-share", *SMALL, "--steps", 1, "--weights", "why=0", data="shares").out)

    def test_mixtures(self):
        pack("uneven/train.bin", make_rows(1, 60, (who,)) + make_rows(2, 20, (why,)) + make_rows(3, 4, (talk,)))
        for flags, expected in (
            ([], (60, 20, 4)),
            (["--mix", "equal"], (28, 28, 28)),
            (["--cap", 10], (10, 10, 4)),
            (["--weights", "who=0.5,talk=5"], (36, 24, 24)),
            (["--mix", "equal", "--weights", "facts=0.5"], (21, 21, 42)),
        ):
            with self.subTest(flags):
                out = tune("mix", *SMALL, "--steps", 1, *flags, data="uneven").out
                shutil.rmtree(W.path("mix"))
                found = [int(n) for n in re.findall(r"^  (?:facts/who|facts/why|talk/how) +\d+ +(\d+) ", out, re.M)]
                self.assertEqual(tuple(found), expected)

    def test_train_on_prompt(self):
        """Another loss from the first step on; validation still counts the answers alone."""
        plain, prompt = (
            self.trace("answers-only", "--steps", 20),
            self.trace("on-prompt", "--steps", 20, "--train-on-prompt"),
        )
        self.assertTrue(all(a != b for a, b in zip(plain, prompt)))
        targets = [
            [m["val_targets"] for m in metrics(W.path(d)) if "val_loss" in m] for d in ("answers-only", "on-prompt")
        ]
        self.assertEqual(*targets)

    def test_overfit_one_batch(self):
        self.assertLess(
            self.trace("overfit", "--overfit-one-batch", "--steps", 120, "--schedule", "constant", "--eval-every", 0)[
                -1
            ],
            0.02,
        )


# ---------------------------------------------------------------- eval
class Evaluation(Case):
    def test_eval_says_what_training_said(self):
        """In batches of another size, from the stored model"""
        found = json.loads(
            ask(
                "eval",
                "--json",
                "--model",
                "run,tuned",
                "--data",
                "task",
                "--rows",
                12,
                "--max-new-tokens",
                20,
                "--batch",
                5,
            ).out
        )
        known = results_of("tuned")
        self.assertEqual(set(found), {"test_seen", "test_lists"})
        for name in found:
            for mine, theirs in (
                ("run", "before"),
                ("tuned", "tuned"),
                ("copy the input", "copy the input"),
                ("most frequent answer", "most frequent answer"),
            ):
                self.assertEqual(found[name][mine], known[name][theirs])

    def test_table_and_files(self):
        done = ask(
            "eval",
            "--model",
            "run,tuned",
            "--data",
            "task/test_seen.bin",
            "--out",
            "evaluated",
            "--rows",
            0,
            "task/test_lists.bin",
        )
        for part in (
            "test_seen: 3 tasks, 36 rows",
            "test_lists: 2 tasks, 20 rows",
            "facts/who (12 rows)",
            "right option",
            "quotes its input",
            "\n  mean over tasks\n",
            "minus run, ",
        ):
            self.assertIn(part, done.out)
        self.assertEqual(set(os.listdir(W.path("evaluated"))), {"results.json", "answers_1.jsonl", "answers_2.jsonl"})
        self.assertEqual(len(answers_of("evaluated/answers_2.jsonl")), 56)
        self.assertEqual(done.err, "")

    def test_files_of_others_stay(self):
        for name in ("results.json", "answers_2.jsonl"):
            write(W.path("kept", name), b"mine")
            self.assertIn(
                "expected no kept/" + name,
                run(["eval", "--model", "run,tuned", "--data", "task/test_lists.bin", "--out", "kept"], 2).err,
            )
            self.assertEqual((os.listdir(W.path("kept")), read(W.path("kept", name))), ([name], b"mine"))
            os.remove(W.path("kept", name))
        before = os.listdir(W.path("run"))
        self.assertIn(
            "a run or a model is there already",
            run(["eval", "--model", "run", "--data", "task/test_lists.bin", "--out", "run"], 2).err,
        )
        self.assertEqual(os.listdir(W.path("run")), before)
        names = ["answers_before.jsonl", "answers.jsonl", "results.json", "config.json"]
        for name in (*names, "last.tmp/notes"):
            write(W.path("kept-run", name), b"mine")
            self.assertIn(
                "kept-run/" + name.split("/")[0] + ", which this would overwrite", run(train("kept-run"), 2).err
            )
            self.assertEqual(read(W.path("kept-run", name)), b"mine")
            shutil.rmtree(W.path("kept-run"))

    def test_one_model_twice(self):
        found = json.loads(
            ask("eval", "--json", "--model", "tuned,run,tuned", "--data", "task/test_lists.bin", "--rows", 2).out
        )["test_lists"]
        self.assertEqual(set(found), {"most frequent answer", "copy the input", "tuned", "run", "tuned (2)"})
        self.assertEqual(found["tuned"]["tasks"], found["tuned (2)"]["tasks"])
        self.assertEqual(found["tuned (2)"]["minus_first_model"]["exact_match"], {"mean": 0})

    def test_prompts_that_fill_the_context(self):
        """of all tasks together"""
        words = "the king is wise . " * 20
        rows = [
            {"instruction": place, "input": words, "output": "the", "task": "lists/" + place}
            for place in ("first", "first", "last")
        ] + make_rows(4, 1, LISTS)
        pack("long.bin", rows, "--max-len", 1000)
        self.assertIn(
            "\n  3 prompts fill the model's context: no answer\n",
            ask("eval", "--model", "run,tuned", "--data", "long.bin").out,
        )

    def test_strict(self):
        """What differs in case and punctuation alone is right, or not with --strict; the baselines, too."""
        rows = [
            {
                "instruction": "say %d" % i,
                "input": "The King." if i % 2 else "the king",
                "output": "the king",
                "task": "a/copy",
            }
            for i in range(12)
        ]
        pack("case.bin", rows)
        shares = []
        for flags in ([], ["--strict"]):
            found = json.loads(
                ask("eval", "--json", "--model", "run", "--data", "case.bin", "--max-new-tokens", 2, *flags).out
            )["case"]
            shares.append([found[who]["exact_match"] for who in ("copy the input", "most frequent answer")])
        self.assertEqual(shares, [[1, 1], [0.5, 1]])
        self.assertIn(
            "12 rows; exact match counts case and punctuation\n",
            ask("eval", "--model", "run", "--data", "case.bin", "--max-new-tokens", 2, "--strict").out,
        )

    def test_rows_are_drawn_from_all_of_a_task(self):
        pack(
            "sorted.bin",
            [
                {"instruction": "say %d" % i, "input": "", "output": "yes" if i < 150 else "no", "task": "a/b"}
                for i in range(300)
            ],
        )
        out = ask("eval", "--model", "run", "--data", "sorted.bin", "--rows", 40, "--max-new-tokens", 2).out
        self.assertIn("sorted: 1 task, 40 of 300 rows\n", out)
        self.assertLess(float(re.search(r"most frequent answer +([\d.]+) %", out).group(1)), 75)

    def test_options_that_do_not_fit_are_wrong(self):
        """So that models with other contexts are compared about the same rows."""
        rows = [
            {
                "instruction": "who ?",
                "input": "the king is wise . " * (20 if i % 4 else 1),
                "output": "the",
                "options": ["the", "king"],
                "task": "a/b",
            }
            for i in range(8)
        ]
        pack("options.bin", rows, "--max-len", 1000)
        found = json.loads(ask("eval", "--json", "--model", "run", "--data", "options.bin", "--max-new-tokens", 2).out)[
            "options"
        ]["run"]["tasks"]["a/b"]
        self.assertEqual((found["rows"], found["options"], found["too_long"], found["option_chance"]), (8, 8, 6, 0.5))
        self.assertLessEqual(found["option_accuracy"], 2 / 8)

    def test_one_task_has_no_interval(self):
        pack("alone.bin", make_rows(3, 4, (who,)))
        out = ask("eval", "--model", "run,tuned", "--data", "alone.bin").out
        self.assertRegex(
            out,
            r"\n  minus run, in points \(ROUGE-L: 0 to 1\)\n"
            r"  tuned +[+-][\d.]+ +[+-][\d.]+   right option [+-][\d.]+\n",
        )

    def test_memory_is_given_back(self):
        """Six models take little more than one: each takes 25 MB, and has given them back before the next one."""

        def peak(models):
            process = start(["eval", "--model", ",".join(["tuned"] * models), "--data", "task", "--rows", 1])
            process.stdout.read()
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.WEXITSTATUS(status)
            self.assertEqual((status, process.communicate()[1]), (0, b""))
            return used.ru_maxrss  # in KiB

        self.assertLess(peak(6), peak(1) + 20000)

    def test_sets_of_the_same_name(self):
        for folder, seed in (("one", 6), ("two", 7)):
            pack(folder + "/test.bin", make_rows(seed, 6))
        found = json.loads(ask("eval", "--json", "--model", "tuned", "--data", "one", "two").out)
        self.assertEqual(set(found), {"test", "two/test.bin"})


# ---------------------------------------------------------------- generate
class Generate(Case):
    def test_answers_are_those_of_the_evaluation(self):
        """The same template, the same tokens: a row that is asked has the answer that the program gave in its own
        evaluation."""
        rows = {"test_seen": make_rows(3, 36), "test_lists": make_rows(4, 20, LISTS)}
        said = answers_of("tuned/answers.jsonl")
        order = [
            row
            for name in ("test_lists", "test_seen")
            for task in dict.fromkeys(r["task"] for r in rows[name])
            for row in [r for r in rows[name] if r["task"] == task][:12]
        ]
        given = [{k: v for k, v in row.items() if k not in ("output", "completion")} for row in order]
        for row in given:
            if "messages" in row:
                row["messages"] = row["messages"][:-1]
        found = generate(given, "--max-new-tokens", 20)
        self.assertEqual([f["output"].strip() for f in found], [a["answer"] for a in said])
        self.assertEqual([f["stop"] for f in found], [a["stop"] for a in said])
        self.assertEqual([f["task"] for f in found], [a["task"] for a in said])
        self.assertEqual(found, generate(given, "--max-new-tokens", 20, "--batch", 1))
        again = generate(order, "--max-new-tokens", 20, "--batch", 3)  # what rows have as answers is not looked at
        self.assertEqual([(f["output"], f["stop"]) for f in found], [(f["output"], f["stop"]) for f in again])

    def test_one_bad_row_costs_one_row(self):
        """Each line has its line: an answer, or what is wrong beside what was given."""
        good = {"id": 1, "instruction": "who rules the country ?"}
        lines = [json.dumps(good), "", json.dumps({"id": 2, "instruction": "the king rules " * 60}), "{", "[]"]
        lines += [json.dumps({"id": 3, "instruction": " "}), json.dumps(good), ""]
        done = ask("generate", "--model", "tuned", text="\n".join(lines) + "\n", code=1)
        found = [json.loads(line) for line in done.out.splitlines()]
        self.assertEqual(len(found), 7)  # the last line is no row
        self.assertEqual((found[0], found[6]), (*generate([good]), *generate([good])))
        errors = ("an empty line", "the model's context of 64", "line 4", "a JSON object", "a text in")
        for part, i in zip(errors, (1, 2, 3, 4, 5)):
            self.assertIn(part, found[i]["error"])
            self.assertIn("standard input, line %d" % (i + 1), found[i]["error"])
        self.assertEqual((found[2]["id"], found[5]["id"]), (2, 3))
        self.assertIn("error: 5 rows were left out; the others have their answers", done.err)  # not the last line
        text = jsonl([good]) + "\n"
        self.assertEqual(ask("generate", "--model", "tuned", text=text).err, "")
        done = ask("generate", "--model", "tuned", "--on-error", "stop", text="{\n" + text, code=1)
        self.assertEqual(done.out, "")
        self.assert_one_line(done.err)

    def test_answers_are_printed_as_they_are_made(self):
        """The first is there long before the last; bad rows before it are, too."""
        rows = ["7"] + [json.dumps({"instruction": "who rules the country ?"})] * 4000
        write(W.path("many.jsonl"), "\n".join(rows))
        with open(W.path("many.jsonl")) as many:
            process = start(["generate", "--model", "tuned", "--batch", 1], stdin=many)
        lines = [json.loads(process.stdout.readline()) for _ in range(2)]
        time.sleep(0.3)
        self.assertIsNone(process.poll())
        process.kill()
        process.communicate()
        self.assertEqual(["error" in line for line in lines], [True, False])

    def test_on_the_command_line(self):
        row = next(r for r in make_rows(3, 36) if r["task"] == "facts/why")
        answer = generate([{"instruction": row["instruction"], "input": row["input"]}])[0]
        self.assertEqual(answer["output"], row["output"][0])
        self.assertEqual(
            ask("generate", "--model", "tuned", row["instruction"], "--input", row["input"]).out,
            answer["output"] + "\n",
        )
        self.assertEqual(
            json.loads(
                ask("generate", "--model", "tuned/best", row["instruction"], "--input", row["input"], "--json").out
            ),
            answer,
        )
        plain = ask("generate", "--model", "tuned", "who rules the country ?")
        self.assertEqual((plain.out, plain.err), ("king\n", ""))
        self.assertEqual(ask("generate", "--model", "tuned", "who rules the country ?", "--input", " ").out, "king\n")

    def test_rows_keep_what_else_they_have(self):
        rows = [
            {"id": 7, "prompt": "who rules the country ?", "note": {"a": [1, None, 12345678901234567890123]}},
            {"instruction": "who rules the country ?", "task": "t", "output": "?"},
        ]
        self.assertEqual(
            generate(rows),
            [
                {**rows[0], "output": "king", "stop": "end"},
                {**rows[1], "reference": "?", "output": "king", "stop": "end"},
            ],
        )

    def test_streaming(self):
        """What is written is there as it is written: an answer of 4,000 tokens, which takes seconds. Else what comes
        first is all of it, or a full buffer."""
        make_talker()
        process = start(["generate", "--model", "talker", "--max-new-tokens", 4000, "speak"])
        self.assertLess(len(os.read(process.stdout.fileno(), 4096)), 4000)
        process.kill()
        process.communicate()

    def test_shots(self):
        row = {
            **make_rows(4, 1, LISTS)[0],
            "examples": [{"input": "a , b , c", "output": "a"}, {"input": "d , e", "output": "d"}],
        }
        answers = [generate([row], "--shots", n)[0] for n in (0, 1, 2)]
        self.assertEqual(
            answers[0]["output"], generate([{k: v for k, v in row.items() if k != "examples"}])[0]["output"]
        )
        pack("shots.bin", [row], "--shots", 2)
        ask("eval", "--model", "tuned", "--data", "shots.bin", "--out", "shots")
        self.assertEqual(answers_of("shots/answers_1.jsonl")[0]["answer"], answers[2]["output"].strip())
        self.assertIn("a , b , c\nanswer : a\nd , e\nanswer : d", answers_of("shots/answers_1.jsonl")[0]["prompt"])

        # a model that was tuned with them shows them by itself, and so does what is packed with its template
        row_examples = [{"input": "a , b , c", "output": "a"}]
        pack("shown/train.bin", [{**row, "examples": row_examples} for row in make_rows(4, 8, LISTS)], "--shots", 1)
        tune("shown", *SMALL, "--steps", 1, data="shown")
        row["examples"] = row["examples"][:1]
        expected = generate([row], "--shots", 1, model="shown")[0]["output"]
        self.assertEqual(generate([row], model="shown")[0]["output"], expected)
        done = pack("as-tuned.bin", [row], "--show", 1, template=W.path("shown/last/template.json"))
        self.assertIn("answer : a\n", done.out)

    def test_seeds(self):
        rows = [{"prompt": "the"}] * 3
        flags = ["--temperature", 2, "--top-k", 50, "--max-new-tokens", 20]
        one = generate(rows, *flags)
        self.assertEqual(one, generate(rows, *flags))
        self.assertNotEqual(one, generate(rows, *flags, "--seed", 2))
        self.assertGreater(len({a["output"] for a in one}), 1)

    def test_context(self):
        """--max-new-tokens is 128 by default, the model has 64 positions: an answer ends where the context does, and
        that is said."""
        done = ask(
            "generate",
            "--model",
            "tuned",
            "--temperature",
            5,
            "--top-k",
            0,
            text=jsonl([{"prompt": "the king is wise . " * 10}] * 30 + [{"prompt": "who rules the country ?"}]),
        )
        stops = [json.loads(line)["stop"] for line in done.out.splitlines()]
        self.assertLessEqual(set(stops), {"end", "context"})
        self.assertIn("context", stops)
        self.assertEqual(
            done.err, "%d of 31 answers end because the model's context of 64 tokens is full\n" % stops.count("context")
        )
        self.assertEqual(generate([{"prompt": "the"}], "--max-new-tokens", 1, "--temperature", 5)[0]["stop"], "length")

    def test_nothing(self):
        self.assertEqual(ask("generate", "--model", "tuned").out, "")

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full here")
    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "w") as full:
            for args in (
                ["generate", "who ?"],
                ["generate", "--json", "who ?"],
                ["eval", "--data", "task/test_seen.bin"],
                ["eval", "--json", "--data", "task/test_seen.bin"],
            ):
                with self.subTest(args):
                    done = run([args[0], "--model", "tuned", *args[1:]], code=1, stdout=full)
                    self.assert_one_line(done.err)
                    self.assertIn("No space left", done.err)


# ---------------------------------------------------------------- low-rank adapters
LORA = ["--lora-r", 4, "--lora-alpha", 8]


class Lora(Case):
    @classmethod
    def setUpClass(cls):
        if not os.path.exists(W.path("adapted")):
            cls.console = tune("adapted", *SMALL, *LORA, "--epochs", 10, "--verbose").out

    def test_learns_with_a_frozen_model(self):
        """The adapters alone are trained and saved, and answer the held-out questions; of the model there is no
        gradient and no state of the optimiser."""
        files = {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json"}
        files |= {"vocab.json", "merges.txt", "template.json", "generation_config.json"}
        self.assertEqual(set(os.listdir(W.path("adapted/best"))), files)
        config = json.loads(read(W.path("adapted/best/adapter_config.json")))
        self.assertEqual((config["peft_type"], config["r"], config["lora_alpha"]), ("LORA", 4, 8))
        self.assertEqual(config["base_model_name_or_path"], W.path("run/best"))
        tensors = read_safetensors(W.path("adapted/best/adapter_model.safetensors"))[0]
        model = read_safetensors(W.path("run/best/model.safetensors"))[0]
        matrices = [n for n, t in model.items() if ".h." in n and len(t[1]) == 2]
        names = {"base_model.model.%s.lora_%s.weight" % (n[: -len(".weight")], x) for n in matrices for x in "AB"}
        self.assertEqual(set(tensors), names)
        regions = dict(re.findall(r"^  (\S.*?) +(\d+\.\d)$", self.console, re.M))
        self.assertLess(float(regions["gradients"]), float(regions["frozen parameters"]))
        results = json.loads(read(W.path("adapted/results.json")))
        self.assertIn("test", json.dumps(results))
        done = ask("generate", "--model", "adapted", "who %s the %s ?" % (DOES[0], WHAT[0]))
        self.assertEqual(done.out, WHO[0] + "\n")

    def test_merged_model_answers_as_the_adapters_do(self):
        rows = make_rows(11, 20)
        run(["merge", "--model", "adapted", "--out", "merged"])
        run(["merge", "--model", "run", "--adapter", "adapted", "--out", "merged2"])
        self.assertEqual(read(W.path("merged/model.safetensors")), read(W.path("merged2/model.safetensors")))
        expected = generate(rows, model="adapted")
        self.assertEqual(generate(rows, model="merged"), expected)
        self.assertEqual(generate(rows, "--adapter", "adapted", model="run"), expected)
        self.assertNotEqual(read(W.path("merged/model.safetensors")), read(W.path("run/best/model.safetensors")))
        refused = run(["merge", "--model", "adapted", "--out", "merged"], 2)
        self.assertIn("merged", refused.err)

    def test_killed(self):
        """A run that is killed and resumed is bit for bit the one that was not, with dropout and accumulation"""
        flags = [*SMALL, *LORA, "--lora-dropout", 0.1, "--steps", 40, "--eval-every", 8, "--accum", 2, "--batch", 4]
        tune("lora-whole", *flags)
        for lines in (3, 20):
            with self.subTest(lines=lines):
                out = "lora-killed-%d" % lines
                stop(train(out, *flags), out, lines, signal.SIGKILL)
                resume(out)
                self.assert_same_run("lora-whole", out)

    def test_refused(self):
        for flags, words in (
            (["--lora-targets", "wq,wk"], ["--lora-targets wq", "c_attn"]),
            (["--dropout", 0.1], ["--dropout", "--lora-dropout"]),
            (["--init", W.path("adapted/best")], ["expected a model, found adapters", "./sft merge"]),
        ):
            with self.subTest(flags):
                done = tune("refused", *SMALL, *LORA, *flags, code=2)
                for word in words:
                    self.assertIn(word, done.err)
        broken = W.variant(
            "adapted/best",
            "dora",
            {"adapter_config.json": lambda d: d.replace(b'"use_dora": false', b'"use_dora": true')},
        )
        self.assertIn("use_dora", ask("generate", "--model", broken, "who ?", code=1).err)
        away = W.variant(
            "adapted/best",
            "away",
            {
                "adapter_config.json": lambda d: re.sub(
                    rb'"base_model_name_or_path": "[^"]*"', b'"base_model_name_or_path": "some/model"', d
                )
            },
        )
        self.assertIn("some/model", ask("generate", "--model", away, "who ?", code=1).err)


# ---------------------------------------------------------------- chat
def has_library(name):
    try:
        return bool(ctypes.CDLL(name))
    except OSError:
        return False


# ---------------------------------------------------------------- a model of Llama's kind
class Llama(Case):
    def test_tunes_answers_and_resumes(self):
        """A Llama says that it takes 131,072 tokens; memory goes by the rows. Killed and resumed it is the same."""
        flags = "--layers 2 --hidden-size 64 --heads 2 --kv-heads 1 --batch-tokens 512 --lr 5e-3 --steps 200".split()
        args = ["--data", W.path("text"), "--out", W.path("llama"), "--max-len", T, "--eval-tokens", 1024]
        run(["train", "--arch", "llama", *flags, *args, "--eval-every", 0], program=TRAIN_GPT)
        ends = [json.loads(read(W.path("llama/best/config.json")))["eos_token_id"], 7]
        long = config_edit(max_position_embeddings=131072, eos_token_id=ends)
        init = W.variant("llama/best", "long llama", {"config.json": long, "generation_config.json": None})
        flags = [*SMALL, "--epochs", 10]
        tune("llama-sft", *flags, init=init)
        r = results_of("llama-sft")["test_seen"]
        self.assertEqual(r["before"]["exact_match"], 0)
        self.assertGreaterEqual(r["tuned"]["exact_match"], 0.8)
        config, generation = (
            json.loads(read(W.path("llama-sft/best", file))) for file in ("config.json", "generation_config.json")
        )
        self.assertEqual((config["model_type"], config["max_position_embeddings"]), ("llama", 131072))
        self.assertEqual((config["eos_token_id"], generation["eos_token_id"]), (ends, ends))
        stop(train("llama-killed", *flags, init=init), "llama-killed", 30, signal.SIGKILL)
        resume("llama-killed")
        self.assert_same_run("llama-sft", "llama-killed")
        answers = generate(make_rows(3, 9), model=W.path("llama-sft"))
        self.assertGreater(sum(a["stop"] == "end" for a in answers), 6)


class Terminal:
    """A program on a terminal of its own, as somebody sits before it"""

    def __init__(self, args, columns=80):
        self.text = ""
        self.pid, self.fd = pty.fork()
        size = struct.pack("HHHH", 24, columns, 0, 0)
        fcntl.ioctl(self.fd if self.pid else 0, termios.TIOCSWINSZ, size)  # before the program asks, whoever is first
        if self.pid == 0:
            os.chdir(W.dir)
            os.execve(SFT, [SFT] + [str(a) for a in args], environment())

    def wait_for(self, what, key=None):
        """Until `what` was printed; → all that was, and forgets it. key: pressed every second until then"""
        end = time.time() + TIMEOUT
        while not (what(self.text) if callable(what) else what in self.text):
            if key:
                self.type(key)
            if not select.select([self.fd], [], [], 1)[0]:
                if time.time() < end:
                    continue
                raise AssertionError("waited in vain; there was %r" % self.text)
            try:
                self.text += os.read(self.fd, 65536).decode("utf-8", "replace")
            except OSError:
                raise AssertionError("the program ended; there was %r" % self.text)
        text, self.text = self.text, ""
        return text

    def type(self, text):
        if text != "\x03":
            time.sleep(0.5)  # so that who edits a line has taken over the terminal after its prompt
        os.write(self.fd, text.encode())

    def finish(self, key=None):
        """→ exit code. key: pressed every second until the end; one that comes while the program is about to read
        another line may be lost"""
        end, pressed = time.time() + TIMEOUT, 0
        while time.time() < end:
            if key and time.time() - pressed > 1:
                pressed = time.time()
                self.type(key)
            if select.select([self.fd], [], [], 0.01)[0]:
                try:
                    self.text += os.read(self.fd, 65536).decode("utf-8", "replace")
                except OSError:
                    pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError("did not end")


class Chat(Case):
    def say(self, *lines, code=0, model="tuned"):
        return ask(
            "chat", "--model", model, "--max-new-tokens", 8, text="".join(line + "\n" for line in lines), code=code
        )

    def test_conversation(self):
        """The second question can only be answered by who remembers the first; the prompt is that of generate."""
        for i in range(3):
            question = "who %s the %s ?" % (DOES[i], WHAT[i])
            done = self.say(question, "how ?")
            self.assertEqual((done.out, done.err), ("%s\n%s\n" % (WHO[i], HOW[i]), ""))
            again = generate(
                [
                    {
                        "messages": [
                            {"role": "user", "content": question},
                            {"role": "assistant", "content": WHO[i]},
                            {"role": "user", "content": "how ?"},
                        ]
                    }
                ]
            )
            self.assertEqual(again[0]["output"], HOW[i])

    def test_what_was_answered_is_part_of_the_conversation(self):
        """With a model of text, which continues whatever stands there: chat is generate with the messages so far."""
        model = W.variant("run/best", "chatty", {"template.json": read(W.path("tuned/best/template.json"))})
        for i in range(6):
            messages, expected = [], ""
            for text in ("the %s %s the" % (WHO[i], DOES[i]), "for the"):
                messages.append({"role": "user", "content": text})
                answer = generate([{"messages": messages}], "--max-new-tokens", 8, model=model)[0]["output"]
                messages.append({"role": "assistant", "content": answer})
                expected += answer + "\n"
            self.assertEqual(self.say("the %s %s the" % (WHO[i], DOES[i]), "for the", model=model).out, expected)

    def test_reset_and_system(self):
        question = "who rules the country ?"
        alone = generate([{"prompt": "how ?"}], "--max-new-tokens", 8)[0]["output"]
        self.assertEqual(self.say(question, "/reset", "how ?").out, "king\n%s\n" % alone)
        self.assertEqual(self.say("/reset", "", "  ", question, "/quit", question).out, "king\n")
        system = generate(
            [{"messages": [{"role": "system", "content": "the sailor"}, {"role": "user", "content": "how ?"}]}],
            "--max-new-tokens",
            8,
        )[0]["output"]
        self.assertEqual(self.say(question, "/system  the sailor ", "how ?").out, "king\n%s\n" % system)
        self.assertEqual(self.say("/system the sailor", "/system", question).out, "king\n")

    def test_what_is_not_understood(self):
        done = self.say("/rset", "who rules the country ?")
        self.assertEqual(done.out, "king\n")
        self.assertIn("expected /reset, /system TEXT or /quit, found /rset", done.err)
        done = ask("chat", "--model", "tuned", text=b"caf\xe9\n/system caf\xe9\nwho rules the country ?\n")
        self.assertEqual(done.out, "king\n")
        self.assertEqual(done.err.count("expected UTF-8 text"), 2)

    def test_history_that_no_longer_fits(self):
        """The earliest turns go; a message that is too long is refused, and the conversation continues."""
        done = self.say(*["who rules the country ?"] * 8, "the king is wise . " * 20, "who rules the country ?")
        self.assertEqual((done.out.count("\n"), done.out.split("\n")[0]), (9, "king"))
        self.assertIn("(the earliest turns no longer fit into the context)", done.err)
        self.assertRegex(
            done.err,
            r"this message: the prompt has \d+ tokens, expected at most \d+ of the model's context of 64: shorten it",
        )

    def test_terminal(self):
        t = Terminal(["chat", "--model", "tuned", "--max-new-tokens", 8])
        self.assertIn("/reset", t.wait_for("\n> "))
        t.type("who rules the country ?\n")
        self.assertIn("king", t.wait_for("\n> "))
        # at the prompt: nothing is lost. One that comes before the program waits for a line is without effect
        t.wait_for("\n> ", key="\x03")
        t.type("how ?\n")
        t.wait_for("wise")
        self.assertEqual(t.finish("\x04"), 0)

    def test_line_editing_and_history(self):
        """Where the machine has libedit or readline: the arrow keys move in the line and to earlier ones."""
        libraries = ("libedit.so.2", "libedit.so.0", "libreadline.so.8", "libreadline.so.7")
        if not any(map(has_library, libraries)):
            self.skipTest("neither libedit nor readline here")
        t = Terminal(["chat", "--model", "tuned", "--max-new-tokens", 8])
        t.wait_for("\n> ")
        t.type("who ules the country ?" + "\x1b[D" * 18 + "r\n")
        self.assertIn("king", t.wait_for("\n> "))
        t.type("/reset\n")
        t.wait_for("\n> ")
        t.type("\x1b[A\x1b[A\n")  # the question again
        self.assertIn("king", t.wait_for("\n> "))
        self.assertEqual(t.finish("\x04"), 0)

    def test_lines_are_broken_between_words(self):
        """On a terminal of 20 columns, no line of an answer is longer, and no word is in two; a pipe gets one line."""
        model = W.variant("run/best", "wrapped", {"template.json": read(W.path("tuned/best/template.json"))})
        flags = ["chat", "--model", model, "--max-new-tokens", 40]
        whole = ask(*flags, text="the king\n").out
        self.assertGreater(len(whole), 60)
        t = Terminal(flags, columns=20)
        t.wait_for("\n> ")
        t.type("the king\n")
        text = t.wait_for("\r\n\r\n> ")  # what was typed, once or twice, the answer, the next prompt
        answer = re.sub(r"\A((> )?the king\r\n)+", "", text).split("\r\n")[:-2]
        self.assertLessEqual(max(map(len, answer)), 20)
        self.assertEqual(" ".join(answer).split(), whole.split())
        self.assertEqual(t.finish("\x04"), 0)

    def test_ctrl_c_stops_an_answer_and_not_the_program(self):
        """A model that has learned nothing talks on and on, at least a character a token. What it says is seen as it
        says it."""
        make_talker()
        t = Terminal(["chat", "--model", "talker", "--max-new-tokens", 4000])
        t.wait_for("\n> ")
        t.type("speak\n")
        begun = t.wait_for(lambda text: len(text) > 100)
        self.assertNotIn("\n> ", begun)  # it continues
        t.type("\x03")
        rest = t.wait_for("\n> ")
        self.assertLess(len(begun) + len(rest), 3000)
        t.type("/quit\n")
        self.assertEqual(t.finish(), 0)


# ---------------------------------------------------------------- stopping and going on
class Resume(Case):
    STEPS = 40
    FLAGS = [*SMALL, "--steps", STEPS, "--eval-every", 8, "--log-every", 7]

    def test_killed(self):
        """kill -9 before and after the first validation; bit for bit the run that was not"""
        pack("kinds/train.bin", make_rows(1, 240) + make_rows(5, 60, LISTS))
        pack("kinds/val.bin", make_rows(2, 40))
        pack("kinds/test.bin", make_rows(3, 9))
        for name, flags in (
            ("plain", []),
            ("accum", ["--batch", 4, "--accum", 3, "--dropout", 0.1]),
            ("mixed", ["--mix", "equal", "--holdout", "lists", "--weights", "who=2", "--train-on-prompt"]),
            ("capped", ["--cap", 7, "--seed", 9]),
        ):
            data = "task" if name == "plain" else "kinds"
            tune("whole-" + name, *self.FLAGS, *flags, data=data)
            for lines in (3, 20) if name == "plain" else (12,):
                with self.subTest(name, lines=lines):
                    out = "killed-%s-%d" % (name, lines)
                    stop(train(out, *self.FLAGS, *flags, data=data), out, lines, signal.SIGKILL)
                    self.assertFalse(os.path.exists(W.path(out, "results.json")), "killed too late to prove anything")
                    resume(out)
                    self.assert_same_run("whole-" + name, out)

    def test_ctrl_c(self):
        tune("whole-ctrl-c", *self.FLAGS)
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(number.name):
                out = "ctrl-c-%d" % number
                code, console, err = stop(train(out, *self.FLAGS), out, 12, number)
                self.assertEqual((code, err), (130, "\nfinishing the step, then saving; once more to stop at once\n"))
                self.assertIn("--resume --out %s" % W.path(out), console)
                self.assertFalse(os.path.exists(W.path(out, "results.json")))
                self.assertLess(checkpoint(W.path(out, "last"))[2]["step"], self.STEPS)
                resume(out)
                self.assert_same_run("whole-ctrl-c", out)

    def test_other_test_rows(self):
        """A resumed run answers the rows that there are then, before tuning, too."""
        stop(train("other-rows", *self.FLAGS), "other-rows", 12, signal.SIGTERM)
        pack("other-rows.bin", make_rows(9, 15))
        data = W.variant("task", "other-rows", {"test_seen.bin": read(W.path("other-rows.bin"))})
        self.assertIn("the answers before tuning", resume("other-rows", "--data", data).out)
        self.assertEqual(results_of("other-rows")["test_seen"]["before"]["tasks"]["facts/who"]["rows"], 5)

    def test_by_epochs(self):
        flags = [*SMALL, "--epochs", 1.5]
        tune("whole-epochs", *flags)
        self.assertEqual(len(steps_of(W.path("whole-epochs"))), 45)
        stop(train("epochs", *flags), "epochs", 10, signal.SIGTERM)
        resume("epochs")
        self.assert_same_run("whole-epochs", "epochs")

    def test_finished_run(self):
        tune("done", *self.FLAGS, "--steps", 6, "--eval-every", 6, "--schedule", "constant", "--warmup", 2)
        before = snapshot(W.path("done"))
        self.assertIn("the run is finished: step 6 of 6", resume("done").out)
        self.assertEqual(snapshot(W.path("done")), before)
        tune("longer", *self.FLAGS, "--steps", 12, "--eval-every", 6, "--schedule", "constant", "--warmup", 2)
        resume("done", "--steps", 12)
        self.assert_same_run("longer", "done")


# ---------------------------------------------------------------- kernels
@unittest.skipUnless(SHIM, "build/shim-fp32/sft is not built: make DEVICE=shim PRECISION=fp32")
class Shim(Case):
    def test_steps_are_those_of_the_cpu(self):
        pack("few/train.bin", make_rows(1, 24))
        pack("few/val.bin", make_rows(2, 6))
        pack("few/test.bin", make_rows(3, 3))
        for name, flags in (("plain", []), ("accum", ["--accum", 2, "--train-on-prompt", "--dropout", 0.1])):
            with self.subTest(name):
                args = [*SMALL, "--batch", 4, "--steps", 2, "--warmup", 0, "--max-new-tokens", 4, *flags]
                tune("cpu-" + name, *args, data="few")
                run(train("shim-" + name, *args, data="few"), program=SHIM)
                cpu, shim = (metrics(W.path(d + name)) for d in ("cpu-", "shim-"))
                for key, limit in (("loss", 1e-4), ("norm", 1e-3), ("val_loss", 1e-4)):
                    self.assert_close([m[key] for m in cpu if key in m], [m[key] for m in shim if key in m], limit)
                before = [
                    [a["answer"] for a in answers_of(d + name + "/answers_before.jsonl")] for d in ("cpu-", "shim-")
                ]
                self.assertEqual(*before)

    # What is stored in bf16 is off by up to 2**-9 of its size. This model starts out wrong and sure of it (a loss of
    # 11): logits of size 10, each off by up to 0.02, and as much again by the roundings before them; a batch has few
    # targets to average over. 0.016 was seen.
    def test_bf16_follows_fp32(self):
        for name, seed, n in (("train", 1, 24), ("val", 2, 6), ("test", 3, 3)):
            pack("little/%s.bin" % name, make_rows(seed, n))
        args = [*SMALL, "--batch", 4, "--steps", 4, "--warmup", 0, "--max-new-tokens", 4]
        tune("exact", *args, data="little")
        exact = metrics(W.path("exact"))
        for name, program in {"shim-bf16": SHIM_BF16, "cpu-bf16": CPU_BF16}.items():
            if not program:
                continue
            run(train(name, *args, data="little"), program=program)
            for key in ("loss", "val_loss"):
                bf16 = [m[key] for m in metrics(W.path(name)) if key in m]
                self.assert_close([m[key] for m in exact if key in m], bf16, 0.04)

    def test_generate(self):
        rows = make_rows(3, 6)
        self.assertEqual(generate(rows, "--max-new-tokens", 6), generate(rows, "--max-new-tokens", 6, program=SHIM))


# ---------------------------------------------------------------- packing
class Packing(Case):
    def test_overlong(self):
        rows = make_rows(1, 3) + [
            {"instruction": "why ?", "input": "the king is wise . " * 15, "output": "so"},
            {"prompt": "x " * 60, "completion": "y"},
        ]
        done = pack("long.bin", rows)
        out = done.out
        self.assertEqual(re.findall(r"too long: .*long.jsonl, line (\d): \d+ tokens\n", done.err), ["4", "5"])
        self.assertIn("3 rows", out)
        self.assertIn("2 too long (more than 64 tokens): 2 dropped", out)
        out = pack("cut.bin", rows, "--overlong", "truncate").out
        self.assertIn("4 rows", out)
        self.assertIn("2 too long (more than 64 tokens): 1 dropped, 1 with the end of their input cut off", out)
        done = pack("never.bin", rows, "--overlong", "error", code=1)
        self.assert_one_line(done.err)
        self.assertIn("never.jsonl, line 4: expected at most 64 tokens", done.err)
        # a prompt that was cut is asked as it was learned
        ask("eval", "--model", "tuned", "--data", "cut.bin", "--out", "cut-out")
        self.assertEqual(len(answers_of("cut-out/answers_1.jsonl")), 4)

    def test_rows_with_nothing_to_learn(self):
        out = pack("nothing.bin", make_rows(1, 3) + [{"instruction": "a", "output": " "}]).out
        self.assertIn("1 dropped with nothing to learn", out)


# ---------------------------------------------------------------- bad inputs
class BadInput(Case):
    """Each: one line on standard error that says what is wrong, the right exit code, and nothing that was there before
    is harmed."""

    def flags(self, *flags):
        return train("bad-out", *SMALL, "--steps", 2, *flags)

    def data(self, name, **files):
        return train(
            "bad-out",
            *SMALL,
            "--steps",
            2,
            data=W.variant("task", "data-" + name, {f + ".bin": v for f, v in files.items()}),
        )

    def init(self, name, files):
        return train("bad-out", *SMALL, "--steps", 2, init=W.variant("run/best", "init-" + name, files))

    def model(self, name, files, verb="generate"):
        m = W.variant("tuned/best", "model-" + name, files)
        return [verb, "--model", m, "who ?"] if verb == "generate" else [verb, "--model", m, "--data", W.path("task")]

    def lines(self, text, *flags, model="tuned"):
        return Call(["generate", "--on-error", "stop", "--model", W.path(model), *flags], text)

    def pack(self, name, text, *flags):
        rows = write(W.path("files", name, "packed.jsonl"), text)
        return Call(
            [
                "pack",
                "--tokenizer",
                W.path("run"),
                "--kind",
                "instruct",
                "--template",
                "short",
                "--max-len",
                T,
                "--in",
                rows,
                "--out",
                W.path("bad-out.bin"),
                "--on-error",
                "stop",
                *flags,
            ],
            program=TOKENIZE,
        )

    def table(self):
        train_bin = read(W.path("task/train.bin"))
        write(W.path("other.txt"), "Q {instruction} {input} A {output}\n")
        write(W.path("no-input.txt"), "Q {instruction} A {output}\n")
        for name, flags in (
            ("foreign-template", dict(template=W.path("other.txt"))),
            ("foreign-tokenizer", dict(tokenizer="other")),
        ):
            pack(name + ".bin", make_rows(1, 12), **flags)
        template, tokenizer = (read(W.path("foreign-%s.bin" % n)) for n in ("template", "tokenizer"))
        run(
            [
                "pack",
                "--tokenizer",
                W.path("run"),
                "--kind",
                "instruct",
                "--template",
                "short",
                "--max-len",
                1000,
                "--in",
                write(W.path("long.jsonl"), jsonl(make_rows(1, 3) + [{"prompt": "x " * 60, "completion": "y"}])),
                "--out",
                W.path("too-long.bin"),
            ],
            program=TOKENIZE,
        )
        write(W.path("file"), "a file, no directory\n")
        for folder in ("empty", "no-tests"):
            os.makedirs(W.path(folder), exist_ok=True)
        shutil.copy(W.path("task/train.bin"), W.path("no-tests/train.bin"))
        tune("cut-off", *SMALL, "--steps", 2)
        os.unlink(W.path("cut-off/last/training_state.safetensors"))
        pack("small/train.bin", make_rows(8, 12))
        stored = lambda **changes: {"template.json": lambda d: json.dumps({**json.loads(d), **changes})}
        generate_ = ["generate", "--model", W.path("tuned")]
        return [
            # the command line
            ("nothing given", [], 2, ["--data"]),
            ("no --init", ["--data", W.path("task"), "--out", W.path("bad-out")], 2, ["--init", "train_gpt"]),
            ("no --out", ["--data", W.path("task"), "--init", W.path("run")], 2, ["--out"]),
            ("a flag that is train_gpt's", self.flags("--batch-tokens", 512), 2, ["--batch-tokens"]),
            ("a flag of another command", self.flags("--shots", 1), 2, ["--shots", "generate"]),
            ("a word too many", self.flags("word"), 2, ["word"]),
            ("--steps and --epochs", self.flags("--epochs", 1), 2, ["--steps", "--epochs"]),
            ("--epochs 0", train("bad-out", *SMALL, "--epochs", 0), 2, ["--epochs 0", "--steps"]),
            ("--batch 0", self.flags("--batch", 0), 2, ["--batch", "1", "0"]),
            ("--max-len beyond the positions", self.flags("--max-len", 65), 2, ["--max-len", "64 positions", "65"]),
            (
                "rows longer than --max-len",
                self.flags("--max-len", 8),
                1,
                ["train.bin", "8 tokens", "--max-len 8", "--overlong"],
            ),
            ("--mix of another kind", self.flags("--mix", "temperature"), 2, ["--mix", "size|equal", "temperature"]),
            ("--cap where tasks count the same", self.flags("--mix", "equal", "--cap", 3), 2, ["--cap", "--mix size"]),
            (
                "--holdout of nothing that is there",
                self.flags("--holdout", "facts,sums"),
                2,
                ["--holdout", '"sums"', "train.bin"],
            ),
            ("--holdout of everything", self.flags("--holdout", "facts,talk"), 2, ["--holdout", "nothing is left"]),
            ("--weights without a number", self.flags("--weights", "facts"), 2, ["--weights", "NAME=NUMBER", "facts"]),
            ("--weights below zero", self.flags("--weights", "facts=-1"), 2, ["--weights", "facts=-1"]),
            ("--weights of no task", self.flags("--weights", "sums=2"), 2, ["--weights", '"sums"']),
            (
                "--weights of zero for everything",
                self.flags("--weights", "facts=0,talk=0"),
                2,
                ["--weights", "nothing is left"],
            ),
            # the run directory
            ("--out with a run in it", train("tuned", *SMALL), 2, ["tuned", "--resume"]),
            ("--out that is a model directory", train("tuned/best", *SMALL), 2, ["tuned/best"]),
            ("--out that is a file", train("file", *SMALL), 1, ["file"]),
            ("--resume of nothing", ["--resume", "--out", W.path("nowhere")], 1, ["nowhere", "config.json"]),
            (
                "--resume with another --mix",
                ["--resume", "--out", W.path("tuned"), "--mix", "equal"],
                2,
                ["--mix", '"size"', "--init"],
            ),
            (
                "--resume with another --holdout",
                ["--resume", "--out", W.path("tuned"), "--holdout", "talk"],
                2,
                ["--holdout"],
            ),
            (
                "--resume with other data",
                ["--resume", "--out", W.path("tuned"), "--epochs", 11, "--data", W.path("small")],
                1,
                ["train_data", "--data"],
            ),
            (
                "--resume without the optimiser's state",
                ["--resume", "--out", W.path("cut-off"), "--steps", 4],
                1,
                ["training_state"],
            ),
            ("--resume of a run of train_gpt", ["--resume", "--out", W.path("run")], 1, ["run/config.json", "sft"]),
            # data
            (
                "no data directory",
                train("bad-out", *SMALL, data="nowhere"),
                1,
                ["nowhere", "train.bin", "data/instructions.py"],
            ),
            ("no train.bin", self.data("none", train=None), 1, ["train.bin"]),
            ("an empty train.bin", self.data("empty", train=b""), 1, ["train.bin", "0 bytes"]),
            (
                "texts instead of rows",
                self.data("text", train=read(W.path("text/train.bin"))),
                1,
                ["train.bin", "instruct", "text"],
            ),
            (
                "truncated rows",
                self.data("truncated", train=train_bin[: len(train_bin) // 2]),
                1,
                ["train.bin", "cut off"],
            ),
            (
                "damaged rows",
                self.data("damaged", train=patched(len(train_bin) // 2, b"\xff\xff")),
                1,
                ["train.bin", "damaged"],
            ),
            (
                "rows of another tokenizer",
                self.data("tokenizer", train=tokenizer),
                1,
                ["train.bin", "another tokenizer", "--tokenizer"],
            ),
            (
                "val.bin of another tokenizer",
                self.data("val-tokenizer", val=tokenizer),
                1,
                ["val.bin", "another tokenizer"],
            ),
            (
                "a test set of another tokenizer",
                self.data("test-tokenizer", test_seen=tokenizer),
                1,
                ["test_seen.bin", "another tokenizer"],
            ),
            (
                "val.bin of another template",
                self.data("val-template", val=template),
                1,
                ["val.bin", "another template", "train.bin"],
            ),
            (
                "a test set of another template",
                self.data("test-template", test_lists=template),
                1,
                ["test_lists.bin", "another template"],
            ),
            (
                "a test set of texts",
                self.data("test-text", test_seen=read(W.path("text/val.bin"))),
                1,
                ["test_seen.bin", "instruct"],
            ),
            (
                "rows longer than the context",
                self.data("long", train=read(W.path("too-long.bin"))),
                1,
                ["train.bin", "1 rows", "64 tokens", "--overlong"],
            ),
            # the pretrained model
            ("--init of nothing", train("bad-out", *SMALL, init="nowhere"), 1, ["nowhere"]),
            ("--init of an empty directory", train("bad-out", *SMALL, init="empty"), 1, ["empty", "config.json"]),
            (
                "--init of a BERT",
                self.init("bert", {"config.json": config_edit(model_type="bert")}),
                1,
                ["gpt2", "bert"],
            ),
            (
                "--init without a tokenizer",
                self.init("vocab", {"vocab.json": None, "merges.txt": None, "tokenizer.json": None}),
                1,
                ["vocab.json"],
            ),
            (
                "--init with a truncated model",
                self.init("truncated", {"model.safetensors": lambda d: d[: len(d) // 2]}),
                1,
                ["model.safetensors", "cut off"],
            ),
            (
                "--init that is not finite",
                self.init("nan", {"model.safetensors": with_tensor("transformer.ln_f.bias", not_finite)}),
                3,
                ["ln_f.bias", "finite", "nan"],
            ),
            (
                "--init that was tuned with another template",
                train(
                    "bad-out",
                    *SMALL,
                    "--steps",
                    2,
                    init="tuned",
                    data=W.variant("small", "template", {"train.bin": template}),
                ),
                1,
                ["train.bin", "another template", "--template", "template.json"],
            ),
            # eval
            ("eval without --model", ["eval", "--data", W.path("task")], 2, ["--model"]),
            ("eval without --data", ["eval", "--model", W.path("tuned")], 2, ["--data"]),
            (
                "eval of no model",
                ["eval", "--model", W.path("tuned") + "," + W.path("nowhere"), "--data", W.path("task")],
                1,
                ["nowhere"],
            ),
            (
                "eval of nothing",
                ["eval", "--model", W.path("tuned"), "--data", W.path("nowhere.bin")],
                1,
                ["nowhere.bin"],
            ),
            (
                "eval of a folder without test sets",
                ["eval", "--model", W.path("tuned"), "--data", W.path("no-tests")],
                1,
                ["no-tests", "test_*.bin"],
            ),
            (
                "eval of .jsonl",
                ["eval", "--model", W.path("tuned"), "--data", W.path("task/val.jsonl")],
                1,
                ["val.jsonl", ".bin"],
            ),
            (
                "eval of another template",
                ["eval", "--model", W.path("tuned"), "--data", W.path("foreign-template.bin")],
                1,
                ["foreign-template.bin", "another template", "--template"],
            ),
            (
                "eval of another tokenizer",
                ["eval", "--model", W.path("tuned"), "--data", W.path("foreign-tokenizer.bin")],
                1,
                ["foreign-tokenizer.bin", "another tokenizer"],
            ),
            (
                "eval with --out below a file",
                ["eval", "--model", W.path("tuned"), "--data", W.path("task"), "--out", W.path("file/out")],
                1,
                ["file"],
            ),
            # generate and chat
            ("generate without --model", ["generate", "who ?"], 2, ["--model"]),
            (
                "generate with a model that was not tuned",
                ["generate", "--model", W.path("run"), "who ?"],
                1,
                ["template.json", "--init"],
            ),
            (
                "chat with a model that was not tuned",
                ["chat", "--model", W.path("run")],
                1,
                ["template.json", "--init"],
            ),
            ("chat without --model", ["chat"], 2, ["--model"]),
            ("generate with two instructions", [*generate_, "who ?", "how ?"], 2, ["how ?"]),
            ("generate with an empty instruction", [*generate_, " "], 2, ["instruction", "empty"]),
            ("generate with --input alone", [*generate_, "--input", "pear"], 2, ["--input", "instruction"]),
            (
                "resuming a run of train_gpt",
                ["--resume", "--out", "run"],
                1,
                ["expected a run of sft, found one of train_gpt", "./train_gpt --resume --out run"],
            ),
            ("generate with --shots 3", [*generate_, "--shots", 3], 2, ["--shots", "2", "3"]),
            ("generate with bytes that are not UTF-8", [*generate_, b"caf\xe9"], 1, ["UTF-8"]),
            (
                "generate with an instruction that is too long",
                [*generate_, "the king is wise " * 40],
                1,
                ["the instruction", "tokens", "64"],
            ),
            (
                "a template without a placeholder",
                self.model("holder", stored(text="{instruction} : ")),
                1,
                ["template.json", "{output}"],
            ),
            (
                "a template with an unknown placeholder",
                self.model("unknown", stored(text="{instruction} {system} {output}")),
                1,
                ["template.json", "{system}"],
            ),
            (
                "a template that is no JSON",
                self.model("broken", {"template.json": b'{"name": '}),
                1,
                ["template.json", "line 1"],
            ),
            (
                "a template without a field",
                self.model("field", {"template.json": b'{"name": "x"}'}),
                1,
                ["template.json", '"text"'],
            ),
            (
                "a template without {input}, and an input",
                [*self.model("no-input", stored(text="{instruction}\nanswer : {output}")), "--input", "pear"],
                1,
                ["{input}"],
            ),
            (
                "generate with a truncated model",
                self.model("truncated", {"model.safetensors": lambda d: d[: len(d) // 2]}),
                1,
                ["model.safetensors", "cut off"],
            ),
            (
                "eval with a model that is not finite",
                self.model("nan", {"model.safetensors": with_tensor("transformer.ln_f.bias", not_finite)}, "eval"),
                3,
                ["ln_f.bias", "finite"],
            ),
            ("a line that is no JSON", self.lines('{"prompt": "who ?"}\n{"prompt": \n'), 1, ["line 2"]),
            ("an array of no objects", self.lines('["who ?"]\n'), 1, ["element 1", "object"]),
            (
                "a line without an instruction",
                self.lines('{"prompt": "who ?"}\n{"prompt": "how ?"}\n{"input": "x"}\n'),
                1,
                ["line 3", '"instruction"', '"input"'],
            ),
            (
                "a line with an instruction twice",
                self.lines('{"prompt": "who ?", "instruction": "how ?"}\n'),
                1,
                ["line 1", "one of"],
            ),
            ("a line with an empty instruction", self.lines('{"instruction": " "}\n'), 1, ["line 1", "instruction"]),
            ("a line that is not UTF-8", self.lines(b'{"prompt": "caf\xe9"}\n'), 1, ["line 1", "UTF-8", "0xe9"]),
            ("a line with a list as instruction", self.lines('{"instruction": [3]}\n'), 1, ["line 1", "string"]),
            (
                "a line that is too long",
                self.lines(jsonl([{"prompt": "who ?"}, {"prompt": "the king is wise " * 40}])),
                1,
                ["line 2", "tokens", "64"],
            ),
            (
                "messages that begin with the assistant",
                self.lines(jsonl([{"messages": [{"role": "assistant", "content": "x"}]}])),
                1,
                ["line 1", "message 1", "user"],
            ),
            # packing
            (
                "packing an answer longer than the context",
                self.pack("long", jsonl([{"prompt": "a", "completion": "b " * 80}]), "--overlong", "truncate"),
                1,
                ["packed.jsonl", "none in 1", "1 dropped"],
            ),
            (
                "packing malformed JSON",
                self.pack("json", '{"prompt": "a", "completion": "b"}\n{"prompt"\n'),
                1,
                ["packed.jsonl, line 2"],
            ),
            (
                "packing a missing answer",
                self.pack("missing", '{"instruction": "a"}\n'),
                1,
                ["packed.jsonl, line 1", '"output"'],
            ),
            (
                "packing invalid UTF-8",
                self.pack("bytes", b'{"prompt": "caf\xe9", "completion": "b"}\n'),
                1,
                ["packed.jsonl, line 1", "UTF-8"],
            ),
            ("packing an empty file", self.pack("empty", ""), 1, ["packed.jsonl", "none"]),
            (
                "packing with a template without {output}",
                self.pack(
                    "no-output", jsonl(make_rows(1, 3)), "--template", write(W.path("bad.txt"), "{instruction}\n")
                ),
                1,
                ["bad.txt", "{output}"],
            ),
            (
                "packing inputs with a template without {input}",
                self.pack("no-input", jsonl(make_rows(1, 3)), "--template", W.path("no-input.txt")),
                1,
                ["packed.jsonl, line 2", "{input}"],
            ),
        ]

    def test_table(self):
        self.check_bad_inputs(self.table())


if __name__ == "__main__":
    harness.main(**{"train_gpt": TRAIN_GPT, "sft": SFT, "data/tokenize": TOKENIZE})
