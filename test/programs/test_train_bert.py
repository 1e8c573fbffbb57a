#!/usr/bin/env python3
"""train_bert and data/tokenize as a user runs them: trained, killed, resumed, fed with nonsense.

    make && python3 test/programs/test_train_bert.py                 all; about two minutes on two cores
    python3 test/programs/test_train_bert.py Resume BadInput.test_table

Needs Python 3.9 and nothing else. Other binaries: TRAIN_BERT, TRAIN_BERT_SHIM, TRAIN_BERT_FP64, TOKENIZE in the
environment.
"""

import sys
import json
import math
import os
import random
import re
import shutil
import signal
import struct
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # test/harness.py
import harness
from harness import (
    TOKENIZE,
    W,
    WHAT,
    Call,
    Case,
    binary,
    checkpoint,
    config_edit,
    finish,
    fnv1a,
    header_edit,
    inode_of,
    line_count,
    losses,
    make_text,
    metrics,
    pack_bin,
    patched,
    read,
    read_safetensors,
    run,
    safetensors,
    snapshot,
    start,
    steps_of,
    unpack_bin,
    validations,
    wait_until,
    with_header,
    write,
)

TRAIN_BERT = W.program = binary("TRAIN_BERT", "build/cpu-fp32/train_bert")
SHIM = binary("TRAIN_BERT_SHIM", "build/shim-fp32/train_bert")
SHIM_BF16 = binary("TRAIN_BERT_SHIM_BF16", "build/shim-bf16/train_bert")
CPU_BF16 = binary("TRAIN_BERT_CPU_BF16", "build/cpu-bf16/train_bert")
FP64 = binary("TRAIN_BERT_FP64", "build/cpu-fp64/train_bert")

TINY = "--layers 2 --hidden-size 64 --max-len 32 --batch-tokens 256".split()
# from the trained model on, with a learning rate that rises until it undoes the training: the first validation is the
# best
RISING = (
    "--init run --max-len 32 --batch-tokens 256 --eval-every 1 --eval-tokens 512 --lr 2 --warmup 1000"
    " --beta1 0 --beta2 0"
).split()


def build_world():
    W.make("wordpiece", {"data": 256, "other": 128})
    # a trained model, whose last checkpoint can be resumed; positions beyond --max-len stay as they were initialised
    run(
        train(
            "run",
            *TINY,
            "--positions",
            128,
            "--batch-tokens",
            512,
            "--lr",
            5e-3,
            "--steps",
            400,
            "--eval-every",
            100,
            "--eval-tokens",
            2048,
        )
    )


def setUpModule():
    harness.set_up(build_world, "a text, a tokenizer, data and a model")


def train(out, *flags, data="data"):
    return ["train", "--data", W.path(data), "--out", W.path(out)] + list(flags)


# ---------------------------------------------------------------- learning
class Learning(Case):
    def test_overfits_one_batch(self):
        run(
            train(
                "overfit",
                *TINY,
                "--overfit-one-batch",
                "--steps",
                250,
                "--lr",
                3e-3,
                "--schedule",
                "constant",
                "--eval-every",
                0,
                "--log-every",
                50,
            )
        )
        trace = losses(W.path("overfit"))
        self.assertGreater(trace[0], 4)  # about ln 160
        self.assertLess(min(trace), 0.1)
        self.assertLess(trace[-1], 0.1)

    def test_validation_loss_falls_below_unigrams(self):
        first = metrics(W.path("run"))[0]
        self.assertEqual(sorted(first), ["step", "unigram_loss"])
        curve = validations(W.path("run"))
        print("validation %s, unigrams %.3f" % (" ".join("%.3f" % v for v in curve), first["unigram_loss"]))
        self.assertEqual(len(curve), 4)
        self.assertLess(curve[-1], 0.6 * first["unigram_loss"])
        self.assertLess(curve[-1], curve[0])

    def test_init_goes_on_at_the_same_loss(self):
        """--init RUN takes RUN/best. A step too small to change anything leaves the validation loss where it was."""
        run(
            train(
                "continued",
                "--init",
                W.path("run"),
                "--max-len",
                32,
                "--batch-tokens",
                256,
                "--steps",
                1,
                "--lr",
                1e-12,
                "--eval-tokens",
                2048,
            )
        )
        self.assertAlmostEqual(validations(W.path("continued"))[0], min(validations(W.path("run"))), delta=0.02)
        self.assertEqual(json.loads(read(W.path("continued/best/config.json")))["hidden_size"], 64)

    def test_loss_of_a_packed_batch_is_that_of_its_sequences(self):
        flags = [
            "--init",
            W.path("run"),
            "--max-len",
            128,
            "--steps",
            1,
            "--lr",
            1e-12,
            "--dropout",
            0,
            "--eval-tokens",
            0,
        ]
        for tokens in (128, 1024):  # sequences of 128 tokens: one by one, and eight to a batch
            run(train("packed%d" % tokens, *flags, "--batch-tokens", tokens))
        one, packed = (metrics(W.path(d))[-1] for d in ("packed128", "packed1024"))
        self.assertEqual(one["val_targets"], packed["val_targets"])
        self.assertAlmostEqual(one["val_loss"], packed["val_loss"], delta=2e-6)

    def test_validation_data_do_not_depend_on_the_batch(self):
        for tokens in (128, 384):
            run(train("val%d" % tokens, *TINY, "--steps", 1, "--eval-tokens", 700, "--batch-tokens", tokens))
        small, large = (metrics(W.path("val%d" % n)) for n in (128, 384))
        self.assertEqual(small[-1]["val_targets"], large[-1]["val_targets"])
        self.assertEqual(small[0]["unigram_loss"], large[0]["unigram_loss"])

    def test_whole_words(self):
        for name, flags in (("pieces", []), ("words", ["--whole-word-mask"])):
            # a small vocabulary: words of several pieces
            run(train(name, *TINY, "--steps", 5, "--eval-every", 0, "--seed", 3, *flags, data="other"))
            self.assertTrue(all(map(math.isfinite, losses(W.path(name)))))
        self.assertNotEqual(losses(W.path("pieces")), losses(W.path("words")))
        # validation masks do not depend on it
        self.assertEqual(*(metrics(W.path(d))[-1]["val_targets"] for d in ("pieces", "words")))

    def test_schedules(self):
        steps, warmup, lr, final = 20, 4, 2e-3, 0.1

        def expected(schedule, i):
            if i < warmup:
                return lr * (i + 1) / (warmup + 1)
            t = (i - warmup) / (steps - warmup)
            wsd = 1 if i <= 0.75 * steps else (steps - i) / (0.25 * steps)
            share = {"constant": 1, "linear": 1 - t, "cosine": (1 + math.cos(math.pi * t)) / 2, "wsd": wsd}[schedule]
            return lr * (final + (1 - final) * share)

        for schedule in ("constant", "linear", "cosine", "wsd"):
            with self.subTest(schedule):
                out = "schedule-" + schedule
                run(
                    train(
                        out,
                        *TINY,
                        "--steps",
                        steps,
                        "--warmup",
                        warmup,
                        "--lr",
                        lr,
                        "--final-lr-fraction",
                        final,
                        "--decay-fraction",
                        0.25,
                        "--schedule",
                        schedule,
                        "--eval-every",
                        0,
                    )
                )
                self.assert_close(
                    [m["lr"] for m in steps_of(W.path(out))], [expected(schedule, i) for i in range(steps)], 1e-9
                )


# ---------------------------------------------------------------- the same numbers
def check_accumulation(case, train_bin):
    """train_bin: of documents that fill sequences exactly, so that half of the budget holds half of the sequences"""
    data = W.variant("data", "exact", {"train.bin": train_bin})
    flags = [*TINY, "--steps", 8, "--lr", 3e-3, "--warmup", 0, "--dropout", 0.1, "--eval-every", 0]
    run(train("full", *flags, data=data))
    run(train("accum", *flags, "--batch-tokens", 128, "--accum", 2, data=data))
    for name in ("full", "accum"):
        case.assertEqual(steps_of(W.path(name))[-1]["tokens"], 8 * 256)
    case.assert_close(losses(W.path("full")), losses(W.path("accum")), 2e-5)
    case.assert_close(
        [m["norm"] for m in steps_of(W.path("full"))], [m["norm"] for m in steps_of(W.path("accum"))], 2e-4
    )


def check_threads(case):
    for threads in (1, 2, 3):
        run(
            train("threads%d" % threads, *TINY, "--batch-tokens", 1024, "--steps", 6, "--eval-every", 3),
            OMP_NUM_THREADS=threads,
        )
    case.assert_same_run("threads1", "threads2")
    case.assert_same_run("threads1", "threads3")


def check_bf16(case, fp32, shim, cpu):
    exact = trace("exact", fp32)
    for name, program in {"shim-bf16": shim, "cpu-bf16": cpu}.items():
        if program:
            case.assert_close(exact, trace(name, program), 0.005)
    if cpu:  # the bits do not depend on the number of threads
        first, second = (trace("cpu-bf16-%d" % n, cpu, OMP_NUM_THREADS=n) for n in (1, 3))
        case.assertEqual(first, second)


def check_recompute(case, built):
    """What --recompute computes again has the bits of what it does not keep, in the loops and in the kernels."""
    for program in dict.fromkeys(filter(None, built)):  # make test-shim gives one twice
        with case.subTest(program):
            out = os.path.basename(os.path.dirname(program)) + "-"
            for name, flags in (("kept", []), ("again", ["--recompute"])):
                run(
                    train(out + name, *TINY, "--steps", 3, "--eval-tokens", 256, "--dropout", 0.1, *flags),
                    program=program,
                )
            case.assert_same_run(out + "kept", out + "again")


def trace(out, program, **env):
    run(
        train(out, *TINY, "--steps", 5, "--eval-tokens", 512, "--lr", 3e-3, "--dropout", 0.1, "--warmup", 0),
        program=program,
        **env,
    )
    return losses(W.path(out)) + validations(W.path(out))


class SameNumbers(Case):
    def test_accumulation_equals_the_full_batch(self):
        """Documents of k · (2T − 5) tokens become sequences of exactly T."""
        documents, vocab, fingerprint = unpack_bin(read(W.path("data/train.bin")))
        check_accumulation(
            self, pack_bin([d[: len(d) // 59 * 59] for d in documents if len(d) >= 59], vocab, fingerprint)
        )

    def test_any_number_of_threads_gives_the_same_bits(self):
        check_threads(self)

    @unittest.skipUnless(SHIM, "build/shim-fp32/train_bert is not built: make DEVICE=shim")
    def test_shim_has_a_memory_of_its_own(self):
        self.assertIn(
            "in a memory of their own",
            run(train("shim-memory", *TINY, "--steps", 1, "--eval-tokens", 256), program=SHIM).out,
        )

    @unittest.skipUnless(SHIM, "build/shim-fp32/train_bert is not built: make DEVICE=shim")
    def test_shim_equals_cpu(self):
        self.assert_close(trace("cpu", TRAIN_BERT), trace("shim", SHIM), 1e-4)

    def test_recompute_changes_no_bit(self):
        check_recompute(self, (TRAIN_BERT, SHIM, SHIM_BF16))

    # What is stored in bf16 is off by up to 2**-9 of its size, a logit of size 1 by 0.002, and as much again comes from
    # the roundings before it. The loss is a mean over many targets, of which a part cancels: 0.001 was seen; 0.005
    # leaves room for another order of sums on another machine.
    def test_bf16_follows_fp32(self):
        check_bf16(self, TRAIN_BERT, SHIM_BF16, CPU_BF16)

    @unittest.skipUnless(FP64, "build/cpu-fp64/train_bert is not built: make DEVICE=cpu PRECISION=fp64")
    def test_fp64_is_near_fp32(self):
        self.assert_close(trace("fp32", TRAIN_BERT), trace("fp64", FP64), 1e-4)


# ---------------------------------------------------------------- interrupted and resumed
class Resume(Case):
    SHIM = SHIM
    STEPS = 40
    FLAGS = [*TINY, "--steps", STEPS, "--eval-every", 8, "--eval-tokens", 512]

    def reference(self, name, flags):
        if not os.path.exists(W.path(name)):
            run(train(name, *flags))
        return name

    def killed(self, out, flags, seed, kills):
        """Kills a run and its resumptions at random moments, then lets it end."""
        r = random.Random(seed)
        for i in range(kills + 1):
            resume = os.path.exists(W.path(out, "last"))
            args = ["--resume", "--data", W.path("data"), "--out", W.path(out)] if resume else train(out, *flags)
            if i == kills:
                return run(args)
            process = start(args)
            goal = r.randint(1, 16) + line_count(W.path(out))
            wait_until(lambda: line_count(W.path(out)) >= goal, process, "%d lines of metrics" % goal)
            time.sleep(r.random() * 0.01)
            process.kill()
            finish(process)

    def test_zeros_and_half_a_line_in_the_metrics(self):
        """as a power cut leaves them: they are dropped, told"""
        out = W.path("power")
        run(train("power", *TINY, "--steps", 4, "--eval-tokens", 512))
        with open(out + "/metrics.jsonl", "ab") as f:
            f.write(b'\0\0\0\n{"step": 5, "lo')
        console = run(["--resume", "--out", out, "--steps", 6]).out
        self.assertIn("metrics.jsonl: dropped a line that is no JSON", console)
        self.assertEqual([m["step"] for m in steps_of(out)], [1, 2, 3, 4, 5, 6])

    def test_killed_at_random_steps(self):
        reference = self.reference("whole", self.FLAGS)
        for seed in range(4):
            with self.subTest(seed):
                self.killed("killed%d" % seed, self.FLAGS, seed, 3)
                self.assert_same_run(reference, "killed%d" % seed)

    def test_killed_before_the_first_checkpoint(self):
        """The run directory is there: --resume has to be able to continue it."""
        flags = [*self.FLAGS, "--eval-every", 0]
        reference = self.reference("whole-0", flags)
        process = start(train("early", *flags))
        wait_until(lambda: line_count(W.path("early")) >= 3, process, "3 lines of metrics")
        process.kill()
        finish(process)
        self.assertLess(steps_of(W.path("early"))[-1]["step"], self.STEPS, "killed too late to prove anything")
        run(["--resume", "--data", W.path("data"), "--out", W.path("early")])
        self.assert_same_run(reference, "early")

    def test_killed_while_saving(self):
        """Within and between the saves of best/ and last/, in a run whose best model is its first: a later one would
        cover what was lost."""
        flags = [*RISING, "--steps", 4]
        reference = self.reference("whole-rising", flags)
        for i in range(8):
            with self.subTest(i):
                out = "saving%d" % i
                process = start(train(out, *flags))
                last, best = W.path(out, "last"), W.path(out, "best")
                wait_until(lambda: os.path.exists(last), process, last)  # of step 0
                inode = os.stat(last).st_ino
                if i % 2:
                    wait_until(lambda: os.path.exists(best), process, best)
                else:
                    wait_until(lambda: inode_of(last) not in (inode, None), process, "a new " + last)
                time.sleep(0.002 * (i // 2))
                process.kill()
                finish(process)
                run(["--resume", "--data", W.path("data"), "--out", W.path(out)])
                self.assert_same_run(reference, out)

    def test_killed_run_that_began_with_init(self):
        flags = [
            "--init",
            W.path("run"),
            "--max-len",
            32,
            "--batch-tokens",
            256,
            "--steps",
            16,
            "--eval-every",
            4,
            "--eval-tokens",
            512,
            "--lr",
            1e-4,
        ]
        reference = self.reference("whole-init", flags)
        self.killed("killed-init", flags, 5, 2)
        self.assert_same_run(reference, "killed-init")

    def test_signals_finish_the_step_and_save(self):
        """With a validation in every step, and in some: what was due at the step that was interrupted must not be
        lost."""
        for number, every, steps in (
            (signal.SIGTERM, 8, 40),
            (signal.SIGINT, 8, 40),
            (signal.SIGTERM, 1, 12),
            (signal.SIGINT, 1, 12),
        ):
            with self.subTest(signal=number.name, eval_every=every):
                flags = [*self.FLAGS, "--eval-every", every, "--steps", steps]
                reference = self.reference("whole-%d-%d" % (every, steps), flags)
                out = "signal%d-%d" % (number, every)
                process = start(train(out, *flags))
                wait_until(lambda: line_count(W.path(out)) >= 8, process, "8 lines of metrics")
                process.send_signal(number)
                code, console, err = finish(process)
                self.assertEqual((code, err), (130, "\nfinishing the step, then saving; once more to stop at once\n"))
                stopped = int(re.search(r"stopped at step (\d+)", console).group(1))
                self.assertLess(stopped, steps)
                self.assertIn("--resume", console)
                self.assertEqual(checkpoint(W.path(out, "last"))[2]["step"], stopped)
                self.assertEqual(steps_of(W.path(out))[-1]["step"], stopped)
                console = run(["--resume", "--data", W.path("data"), "--out", W.path(out)]).out
                self.assertIn("at step %d\n" % stopped, console)
                self.assert_same_run(reference, out)

    def test_a_step_is_under_way_when_the_signal_comes(self):
        """As on a GPU, the shim's numbers of a step come when the next one is handed over. A run that is stopped waits
        for what is under way."""
        if not self.SHIM:
            self.skipTest("the program is not built for the shim: make DEVICE=shim")
        flags = [*TINY, "--steps", 8, "--eval-every", 3, "--eval-tokens", 256]
        run(train("shim-whole", *flags), program=self.SHIM)
        process = start(train("shim-stopped", *flags), program=self.SHIM)
        wait_until(lambda: line_count(W.path("shim-stopped")) >= 3, process, "3 lines of metrics")
        process.send_signal(signal.SIGTERM)
        code, console, err = finish(process)
        self.assertEqual((code, err), (130, "\nfinishing the step, then saving; once more to stop at once\n"))
        stopped = int(re.search(r"stopped at step (\d+)", console).group(1))
        self.assertLess(stopped, 8)
        self.assertEqual(checkpoint(W.path("shim-stopped", "last"))[2]["step"], stopped)
        self.assertEqual([m["step"] for m in steps_of(W.path("shim-stopped"))], list(range(1, stopped + 1)))
        run(["--resume", "--out", W.path("shim-stopped")], program=self.SHIM)
        self.assert_same_run("shim-whole", "shim-stopped")

    def test_second_signal_stops_at_once(self):
        # steps of several seconds
        process = start(
            train(
                "stopped",
                "--layers",
                12,
                "--hidden-size",
                256,
                "--max-len",
                128,
                "--batch-tokens",
                4096,
                "--steps",
                9,
                "--eval-tokens",
                512,
            )
        )
        wait_until(lambda: line_count(W.path("stopped")) >= 1, process, "the first line of metrics")
        time.sleep(0.3)
        before = snapshot(W.path("stopped"))
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        self.assertIsNone(process.poll(), "the first signal lets the step end")
        began = time.time()
        process.send_signal(signal.SIGINT)
        code, console, err = finish(process)
        self.assertEqual((code, err), (130, "\nfinishing the step, then saving; once more to stop at once\n"))
        self.assertNotIn("stopped at", console)
        self.assertLess(time.time() - began, 1.0)
        self.assertEqual(snapshot(W.path("stopped")), before)

    def test_finished_run_can_be_prolonged(self):
        flags = [*TINY, "--eval-every", 4, "--eval-tokens", 512, "--schedule", "constant", "--warmup", 2]
        run(train("long", *flags, "--steps", 12))
        run(train("short", *flags, "--steps", 8))
        before = snapshot(W.path("short/last"))
        done = run(["--resume", "--out", W.path("short")])  # nothing left to do; the data's place is in config.json
        self.assertIn("the run is finished: step 8 of 8", done.out)
        self.assertEqual(snapshot(W.path("short/last")), before)
        # flags that were stored under the names they had before
        config = read(W.path("short/config.json"), "r")
        self.assertEqual(json.loads(config)["flags"]["hidden-size"], 64)
        for name, old in (("hidden-size", "width"), ("ffn-dim", "inner"), ("mlm-probability", "mask-rate")):
            config = config.replace('"%s"' % name, '"%s"' % old)
        write(W.path("short/config.json"), config)
        run(["--resume", "--out", W.path("short"), "--steps", 12, "--retune"])  # for a GPU; here it changes nothing
        self.assert_same_run("long", "short")
        self.assertTrue(json.loads(read(W.path("short/config.json")))["flags"]["retune"])
        run(["--resume", "--out", W.path("short"), "--steps", 13])
        # it was meant for that time alone
        self.assertFalse(json.loads(read(W.path("short/config.json")))["flags"]["retune"])

    def test_two_processes_in_one_run(self):
        first = start(train("shared", *TINY, "--steps", 100000, "--eval-every", 0, "--eval-tokens", 128))
        try:
            wait_until(lambda: os.path.exists(W.path("shared/metrics.jsonl")), first, "metrics.jsonl")
            done = run(["--resume", "--out", W.path("shared")], code=1)
            self.assert_one_line(done.err)
            self.assertIn("another process is training there", done.err)
        finally:
            first.kill()
            finish(first)

    def test_full_disk(self):
        """Fails in a line; the checkpoints stay as they were, and with space again the run continues as if nothing had
        been."""
        reference = self.reference("whole", self.FLAGS)
        process = start(train("disk", *self.FLAGS))
        wait_until(lambda: line_count(W.path("disk")) >= 12, process, "12 lines of metrics")
        process.send_signal(signal.SIGTERM)
        finish(process)
        for limit in (100, 2000, 20000, 400000):
            with self.subTest(limit):
                before = {d: snapshot(W.path("disk", d)) for d in ("last", "best")}
                done = run(["--resume", "--data", W.path("data"), "--out", W.path("disk")], code=1, full_disk=limit)
                self.assert_one_line(done.err)
                self.assertIn("File too large", done.err)
                self.assertEqual(before, {d: snapshot(W.path("disk", d)) for d in ("last", "best")})
                self.assertEqual([f for f in os.listdir(W.path("disk")) if "tmp" in f], [])
        run(["--resume", "--data", W.path("data"), "--out", W.path("disk")])
        self.assert_same_run(reference, "disk")


# ---------------------------------------------------------------- what a run leaves
class Disturbed(Case):
    """What others do to a run while it trains, and to its files between two runs"""

    STEPS = 24 if "shim" in W.program else 400  # the shim is slow enough to be disturbed in few
    FLAGS = [*TINY, "--steps", STEPS, "--eval-every", max(4, STEPS // 20), "--eval-tokens", 64]

    def disturbed(self, out, disturb, flags=None, **files):
        """Starts a run, disturbs it after some steps; → its standard error, one line, of exit code 1"""
        process = start(train(out, *(flags or self.FLAGS)), **files)
        wait_until(lambda: line_count(W.path(out)) >= 8, process, "8 lines of metrics")
        disturb()
        code, _, err = finish(process)
        self.assertEqual(code, 1, err)
        self.assert_one_line(err)
        return err

    def test_run_directory_goes_away(self):
        """It is noticed at the next write: nothing is trained whose result is lost."""
        for name, disturb in (
            ("removed", lambda: shutil.rmtree(W.path("removed"))),
            ("renamed", lambda: os.rename(W.path("renamed"), W.path("renamed-2"))),
        ):
            with self.subTest(name):
                err = self.disturbed(name, disturb)
                self.assertIn(name, err)
                self.assertIn("removed or renamed", err)

    def test_data_change_while_they_are_read(self):
        """A file that is cut off or written over in place ends the run; the steps before are saved, and with the old
        data it goes on to the same bits."""
        for name, file, change in (
            ("cut", "train.bin", lambda path: os.truncate(path, 4096)),
            ("over", "train.bin", lambda path: write_in_place(path, bytes(1000))),
            ("val", "val.bin", lambda path: os.truncate(path, 256)),
        ):
            with self.subTest(name):
                data = W.variant("data", "disturbed-" + name, {})
                whole, out = "%s-whole" % name, "%s-data" % name
                run(train(whole, *self.FLAGS, data=data))
                kept = read(data + "/" + file)
                process = start(train(out, *self.FLAGS, data=data))
                lines = 8 if file == "train.bin" else max(12, self.STEPS // 8)  # after two validations
                wait_until(lambda: line_count(W.path(out)) >= lines, process, "%d lines of metrics" % lines)
                change(data + "/" + file)
                code, _, err = finish(process)
                self.assertEqual(code, 1, err)
                self.assert_one_line(err)
                self.assertIn(file + ": the file was changed", err)
                self.assertGreater(checkpoint(W.path(out, "last"))[2]["step"], 5)
                if file == "train.bin":  # else a validation is missing, and what was saved at the one before is taken
                    self.assertEqual(checkpoint(W.path(out, "last"))[2]["step"], steps_of(W.path(out))[-1]["step"])
                write(data + "/" + file, kept)
                run(["--resume", "--out", W.path(out)])
                self.assert_same_run(whole, out)

    def test_console_that_cannot_be_written(self):
        """/dev/full, or a pipe that was closed: the steps so far are saved, exit code 1"""
        run(train("console-whole", *self.FLAGS))
        for name in ("full", "pipe"):
            with self.subTest(name):
                out = "console-" + name
                if name == "full":
                    with open("/dev/full", "w") as full:
                        done = run(train(out, *self.FLAGS), code=1, stdout=full)
                    err = done.err
                else:
                    process = start(train(out, *self.FLAGS))
                    process.stdout.read(100)
                    process.stdout.close()
                    process.wait()
                    err = process.stderr.read().decode()
                    process.stderr.close()
                    self.assertEqual(process.returncode, 1, err)
                self.assert_one_line(err)
                self.assertIn("--resume", err)
                self.assertLess(checkpoint(W.path(out, "last"))[2]["step"], self.STEPS)
                run(["--resume", "--out", W.path(out)])
                self.assert_same_run("console-whole", out)

    def test_more_threads_than_a_machine_has(self):
        done = run(train("threads", *TINY, "--steps", 1), code=2, OMP_NUM_THREADS=100000)
        self.assert_one_line(done.err)
        self.assertIn("OMP_NUM_THREADS", done.err)

    def test_a_flipped_bit_is_noticed(self):
        run(train("flipped", *TINY, "--steps", 2, "--eval-tokens", 64))
        for name in ("model.safetensors", "training_state.safetensors"):
            with self.subTest(name):
                path = W.path("flipped/last", name)
                kept = read(path)
                write(path, kept[:-5] + bytes([kept[-5] ^ 4]) + kept[-4:])
                done = run(["--resume", "--out", W.path("flipped"), "--steps", 3], code=1)
                self.assert_one_line(done.err)
                self.assertIn(name, done.err)
                self.assertIn("damaged", done.err)
                write(path, kept)
        run(["--resume", "--out", W.path("flipped"), "--steps", 3])

    def test_counters_are_numbers_that_can_be(self):
        run(train("counters", *TINY, "--steps", 2, "--eval-tokens", 64))
        path = W.path("counters/last/training_state.safetensors")
        kept = read(path)
        for key, value in (
            ("step", -1),
            ("step", "two"),
            ("step", 2.5),
            ("next_sequence", -3),
            ("tokens", "many"),
            ("seconds", -1),
            ("best_loss", []),
            ("best_step", 1 << 60),
            ("stale", -2),
        ):
            with self.subTest("%s: %r" % (key, value)):

                def edit(header):
                    counters = json.loads(header["__metadata__"]["counters"])
                    counters[key] = value
                    del header["__metadata__"]["checksum"]
                    header["__metadata__"]["counters"] = json.dumps(counters)

                write(path, header_edit(edit)(kept))
                done = run(["--resume", "--out", W.path("counters"), "--steps", 3], code=1)
                self.assert_one_line(done.err)
                self.assertIn(key, done.err)

    def test_what_a_kill_left_is_cleared(self):
        run(train("left", *TINY, "--steps", 2, "--eval-tokens", 64))
        for name in ("last.tmp", "best.tmp", "last.old"):
            shutil.copytree(W.path("left/last"), W.path("left", name))
        run(["--resume", "--out", W.path("left")])  # a finished run, too
        self.assertEqual([f for f in os.listdir(W.path("left")) if "." in f and f.split(".")[1] in ("tmp", "old")], [])


def write_in_place(path, data):
    with open(path, "r+b") as f:
        f.seek(512)
        f.write(data)


class RunDirectory(Case):
    def test_config(self):
        config = json.loads(read(W.path("run/config.json")))
        self.assertEqual(config["program"], "train_bert")
        text = run(["train", "--help"]).out
        flags = set(re.findall(r"^  --(?:\[no-\])?([a-z0-9-]+)", text, re.M)) - {"help"}
        self.assertGreater(len(flags), 25)
        self.assertEqual(flags, set(config["flags"]))
        self.assertEqual(
            (config["flags"]["lr"], config["flags"]["layers"], config["flags"]["positions"]), (5e-3, 2, 128)
        )
        identity = config["identity"]
        self.assertEqual(identity["tokenizer"], "%016x" % unpack_bin(read(W.path("data/train.bin")))[2])
        for key in ("train_data", "val_data"):
            self.assertRegex(identity[key], "^[0-9a-f]{16}$")

    def test_metrics(self):
        lines = metrics(W.path("run"))
        self.assertEqual([m["step"] for m in lines if "loss" in m], list(range(1, 401)))
        self.assertEqual([m["step"] for m in lines if "val_loss" in m], [100, 200, 300, 400])
        for m in lines[1:]:
            wanted = (
                {"val_loss", "val_perplexity", "val_accuracy"}
                if "val_loss" in m
                else {"loss", "accuracy", "lr", "norm", "tokens"}
            )
            self.assertLessEqual(wanted, set(m))
            self.assertTrue(all(map(math.isfinite, m.values())), m)

    def test_files(self):
        files = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"}
        self.assertEqual(set(os.listdir(W.path("run"))), {"best", "last", "config.json", "metrics.jsonl"})
        self.assertEqual(set(os.listdir(W.path("run/best"))), files)
        self.assertEqual(set(os.listdir(W.path("run/last"))), files | {"training_state.safetensors"})

    def test_best_is_kept_when_the_loss_rises(self):
        run(train("rising", *RISING, "--steps", 6))
        curve = validations(W.path("rising"))
        best = min(range(len(curve)), key=curve.__getitem__)
        self.assertLess(best, len(curve) - 1, curve)
        counters = checkpoint(W.path("rising/last"))[2]
        self.assertEqual((counters["best_step"], counters["best_loss"]), (best + 1, curve[best]))
        self.assertNotEqual(
            read(W.path("rising/best/model.safetensors")), read(W.path("rising/last/model.safetensors"))
        )

    def test_console(self):
        text = run(train("console", *TINY, "--steps", 2, "--eval-tokens", 512, "--verbose")).out
        for part in (
            "word_embeddings.weight",
            "total",
            "head",
            "largest --batch-tokens that fits",
            "step 1/2 | loss",
            "| lr",
            "| norm",
            "tokens/s",
            "left",
            "validation: loss",
            "perplexity",
            "accuracy",
        ):
            self.assertIn(part, text)

    def test_epochs(self):
        text = run(train("epochs", *TINY, "--batch-tokens", 4096, "--epochs", 0.5, "--eval-tokens", 512)).out
        self.assertIn(": 0.5", text)
        steps = len(steps_of(W.path("epochs")))
        self.assertGreater(steps, 1)
        run(["--resume", "--out", W.path("epochs"), "--steps", steps + 2])  # what is given now has the last word
        self.assertEqual(len(steps_of(W.path("epochs"))), steps + 2)


# ---------------------------------------------------------------- asking
class FillMask(Case):
    def ask(self, *words):
        return run(["fill-mask", "--model", W.path("run"), *words]).out

    def test_files_of_others_stay(self):
        model = read(W.path("run/best/model.safetensors"))
        self.assertIn(
            "expected no run/best/model.safetensors",
            run(["fill-mask", "--model", "run", "--logits", "run/best/model.safetensors", "a [MASK] ."], 2).err,
        )
        self.assertEqual(read(W.path("run/best/model.safetensors")), model)

    def test_one_mask(self):
        lines = self.ask("the farmer ploughs the [MASK] , for the farmer is tired .").splitlines()
        self.assertEqual(len(lines), 6)
        for line in lines[1:]:
            self.assertRegex(line, r"^  \[MASK\] 1 +[0-9.]+ %  \S+$")
        self.assertGreaterEqual(
            len({line.split()[-1] for line in lines[1:]} & set(WHAT)), 3, "what farmers plough is a noun: %s" % lines
        )

    def test_two_masks_and_several_texts(self):
        text = self.ask("the [MASK] heals the [MASK] .", "the queen [MASK] the garden .")
        self.assertEqual(len(re.findall(r"^  \[MASK\] 1 ", text, re.M)), 10)
        self.assertEqual(len(re.findall(r"^  \[MASK\] 2 ", text, re.M)), 5)

    def test_json(self):
        texts = ["the [MASK] heals the [MASK] .", 'the queen "[MASK]" caf\u00e9 .']
        lines = [json.loads(line) for line in self.ask("--json", "--top-k", "3", *texts).splitlines()]
        self.assertEqual([line["text"] for line in lines], texts)
        self.assertEqual([len(line["masks"]) for line in lines], [2, 1])
        for guesses in (g for line in lines for g in line["masks"]):
            self.assertEqual(len(guesses), 3)
            p = [g["p"] for g in guesses]
            self.assertTrue(1 >= p[0] >= p[1] >= p[2] > 0 and sum(p) <= 1 + 1e-9)

    def test_texts_do_not_influence_each_other(self):
        a, b = "the [MASK] heals the village .", "the queen [MASK] the garden ."
        both = self.ask("--json", a, b).splitlines()
        self.assertEqual(both, self.ask("--json", a).splitlines() + self.ask("--json", b).splitlines())


# ---------------------------------------------------------------- a loss that is not finite
class NotFinite(Case):
    def assert_stopped(self, out, args, program=None):
        done = run(args, code=3, program=program)
        self.assert_one_line(done.err)
        step = int(re.match(r"error: step (\d+): ", done.err).group(1))
        self.assertEqual(len(steps_of(W.path(out))), step - 1)
        counters = checkpoint(W.path(out, "last"))[2]
        self.assertEqual(counters["step"], step - 1)
        if step == 1:
            self.assertEqual(counters["next_sequence"], 0, "the step that failed has used no data")
        return step

    def test_infinity_in_the_model(self):
        """Nothing changes: last/ holds what --init gave, bit for bit. On the shim the next step is under way when that
        is found out."""

        def inject(data):
            tensors, _ = read_safetensors(W.path("run/best/model.safetensors"))
            name = "bert.encoder.layer.0.output.dense.bias"
            dtype, shape, values = tensors[name]
            tensors[name] = (dtype, shape, struct.pack("<f", math.inf) + values[4:])
            return safetensors(tensors)

        model = W.variant("run/best", "infinite", {"model.safetensors": inject})
        for name, program in (("infinite", TRAIN_BERT), ("infinite-shim", SHIM)):
            if not program:
                continue
            with self.subTest(name):
                step = self.assert_stopped(
                    name, train(name, "--init", model, "--max-len", 32, "--batch-tokens", 256, "--steps", 5), program
                )
                self.assertEqual(step, 1)
                self.assertEqual(
                    read_safetensors(W.path(name, "last/model.safetensors"))[0],
                    read_safetensors(model + "/model.safetensors")[0],
                )
                _, state, _ = checkpoint(W.path(name, "last"))
                self.assertEqual([t for t in state.values() if t[2].strip(b"\0")], [], "m and v are still zero")

    def test_far_too_high_a_learning_rate(self):
        for lr, every in (
            ("1e30", 0),
            ("1e39", 0),
            ("1e39", 1),
        ):  # 1e39 is more than a float holds: the parameters themselves overflow
            with self.subTest(lr=lr, eval_every=every):
                out = "wild%s-%d" % (lr, every)
                run(train(out, *TINY, "--steps", 4, "--schedule", "constant", "--warmup", 0, "--eval-tokens", 512))
                config = json.loads(read(W.path(out, "config.json")))
                # a run that goes well for four steps, and then does not
                config["flags"]["lr"], config["flags"]["clip"] = (float(lr), 0)
                write(W.path(out, "config.json"), json.dumps(config))
                done = run(["--resume", "--out", W.path(out), "--steps", 50, "--eval-every", every], code=3)
                self.assert_one_line(done.err)
                self.assertRegex(done.err, r"^error: step [5-9]: ")
                for d in ("last", "best"):
                    for name, (_, _, data) in read_safetensors(W.path(out, d, "model.safetensors"))[0].items():
                        self.assertTrue(
                            all(map(math.isfinite, struct.unpack("<%df" % (len(data) // 4), data))),
                            "%s/: %s is not finite" % (d, name),
                        )


# ---------------------------------------------------------------- bad inputs
def forged(**fields):
    """Another number in a .bin's header, with a checksum that is right."""
    at = {"version": ("<I", 8), "kind": ("<I", 12), "sequences": ("<Q", 24), "tokens": ("<Q", 32), "vocab": ("<Q", 40)}

    def forge(data):
        for name, value in fields.items():
            form, offset = at[name]
            data = patched(offset, struct.pack(form, value))(data)
        data = patched(64, struct.pack("<Q", fnv1a(data[256:])))(data)
        return patched(248, struct.pack("<Q", fnv1a(data[:248])))(data)

    return forge


WORD = "bert.embeddings.word_embeddings.weight"


class BadInput(Case):
    """Each: one line on standard error that says what is wrong, the right exit code, and nothing that was there before
    is harmed."""

    def data(self, name, **files):
        return train(
            "bad-out",
            *TINY,
            "--steps",
            3,
            data=W.variant(
                "data",
                name.replace(" ", "-"),
                {f + ".bin" if f in ("train", "val") else f: v for f, v in files.items()},
            ),
        )

    def init(self, name, files):
        return train(
            "bad-out",
            "--init",
            W.variant("run/best", name.replace(" ", "-"), files),
            "--max-len",
            32,
            "--batch-tokens",
            256,
            "--steps",
            3,
        )

    def flags(self, *flags):
        return train("bad-out", *TINY, "--steps", 3, *flags)

    def resume(self, *flags):
        return ["--resume", "--out", W.path("run"), *flags]

    def ask(self, *words, model="run"):
        return ["fill-mask", "--model", W.path(model), *words]

    def table(self):
        train_bin, other = read(W.path("data/train.bin")), read(W.path("other/train.bin"))
        model = read(W.path("run/best/model.safetensors"))
        documents, vocab, fingerprint = unpack_bin(train_bin)
        first_token = 264 + 8 * len(documents)
        swapped = pack_bin([documents[1], documents[0]] + documents[2:], vocab, fingerprint)
        shorter = pack_bin(documents[1:], vocab, fingerprint)
        long_text = "the king " * 100 + "[MASK]"
        os.makedirs(W.path("pickle"), exist_ok=True)
        write(W.path("pickle/config.json"), read(W.path("run/best/config.json")))
        write(W.path("pickle/vocab.txt"), read(W.path("run/best/vocab.txt")))
        write(W.path("pickle/pytorch_model.bin"), b"PK\3\4")
        write(W.path("file"), "a file, no directory\n")
        write(W.path("started/config.json"), read(W.path("run/config.json")))  # nothing but a config.json
        write(W.path("others/config.json"), json.dumps({"program": "theirs", "flags": []}))
        write(W.path("others/last.tmp/notes"), "theirs")
        # name, command line, exit code, what the message has to say
        return [
            # data
            ("no data directory", train("bad-out", data="nowhere"), 1, ["nowhere", "data/books.py"]),
            ("data directory is a file", train("bad-out", data="file"), 1, ["file"]),
            ("no train.bin", self.data("no train.bin", train=None), 1, ["train.bin", "data/books.py"]),
            ("no val.bin", self.data("no val.bin", val=None), 1, ["val.bin", "data/books.py"]),
            (
                "no tokenizer",
                self.data("no tokenizer", **{"vocab.txt": None, "tokenizer.json": None}),
                1,
                ["vocab.txt", "data/tokenize learn"],
            ),
            (
                "truncated .bin",
                self.data("truncated", train=train_bin[: len(train_bin) // 2]),
                1,
                ["train.bin", "cut off", "%d bytes" % len(train_bin)],
            ),
            (
                ".bin cut within its header",
                self.data("cut header", train=train_bin[:100]),
                1,
                ["train.bin", "100 bytes"],
            ),
            ("empty .bin", self.data("empty", train=b""), 1, ["train.bin", "0 bytes"]),
            ("empty val.bin", self.data("empty val", val=b""), 1, ["val.bin", "0 bytes"]),
            (
                "foreign file as .bin",
                self.data("foreign", train=make_text(3, 9)),
                1,
                ["train.bin", "data/tokenize pack"],
            ),
            (
                ".bin with a damaged header",
                self.data("damaged header", train=patched(40, b"\xff")),
                1,
                ["train.bin", "checksum"],
            ),
            (".bin of another version", self.data("version", train=forged(version=9)), 1, ["version 1", "found 9"]),
            (".bin of another kind", self.data("kind", train=forged(kind=2)), 1, ["text", "classify"]),
            (".bin with 2^61 tokens", self.data("huge", train=forged(tokens=1 << 61)), 1, ["train.bin", "bytes"]),
            (
                ".bin with 2^64 - 1 sequences",
                self.data("sequences", train=forged(sequences=(1 << 64) - 1)),
                1,
                ["train.bin", "bytes"],
            ),
            (
                ".bin with offsets that go back",
                self.data("offsets", train=patched(264, struct.pack("<Q", 1 << 40))),
                1,
                ["train.bin", "damaged"],
            ),
            (
                ".bin of another tokenizer",
                self.data("tokenizer", train=other),
                1,
                ["train.bin", "another tokenizer", "data/tokenize pack --tokenizer"],
            ),
            (
                "val.bin of another tokenizer",
                self.data("val tokenizer", val=read(W.path("other/val.bin"))),
                1,
                ["val.bin", "data/tokenize pack --tokenizer"],
            ),
            (
                "token out of range",
                self.data("token", train=lambda d: forged()(patched(first_token + 20, b"\xff\xff")(d))),
                1,
                ["train.bin", "65535"],
            ),
            (
                "token out of range in val.bin",
                self.data("val token", val=lambda d: forged()(d[:-2] + b"\xff\xff")),
                1,
                ["val.bin", "65535"],
            ),
            (
                "damaged content",
                self.data("damage", train=patched(first_token + 20, b"\xff")),
                1,
                ["train.bin", "the content is damaged", "pack"],
            ),
            (
                ".bin with a vocabulary that is not the tokenizer's",
                self.data("vocab", train=lambda d: forged(vocab=60000)(patched(first_token, b"\x50\xea")(d))),
                1,
                ["train.bin", "60000", str(vocab)],
            ),
            # checkpoints
            ("--init of nothing", self.flags("--init", W.path("nowhere")), 1, ["nowhere"]),
            ("--init of a file", self.flags("--init", W.path("file")), 1, ["file"]),
            ("--init of an empty directory", self.flags("--init", W.path("empty")), 1, ["empty", "config.json"]),
            (
                "safetensors with a huge header",
                self.init("huge header", {"model.safetensors": with_header(model[8:], 1 << 60)}),
                1,
                ["model.safetensors", "header"],
            ),
            (
                "safetensors with a header beyond its end",
                self.init("header end", {"model.safetensors": with_header(model[8:], 50000000)}),
                1,
                ["cut off"],
            ),
            (
                "safetensors with overlapping tensors",
                self.init(
                    "overlap",
                    {
                        "model.safetensors": header_edit(
                            lambda h: h[WORD].update(
                                data_offsets=[n - 64 for n in h[WORD]["data_offsets"]]
                                if h[WORD]["data_offsets"][0]
                                else [n + 64 for n in h[WORD]["data_offsets"]]
                            )
                        )
                    },
                ),
                1,
                ["model.safetensors", "data"],
            ),
            (
                "safetensors of integers",
                self.init("dtype", {"model.safetensors": header_edit(lambda h: h[WORD].update(dtype="I32"))}),
                1,
                [WORD, "I32"],
            ),
            (
                "safetensors of an unknown type",
                self.init("dtype x", {"model.safetensors": header_edit(lambda h: h[WORD].update(dtype="Q7"))}),
                1,
                [WORD, "Q7"],
            ),
            (
                "safetensors of another shape",
                self.init(
                    "shape", {"model.safetensors": header_edit(lambda h: h[WORD].update(shape=h[WORD]["shape"][::-1]))}
                ),
                1,
                [WORD, "64"],
            ),
            (
                "truncated safetensors",
                self.init("truncated model", {"model.safetensors": model[: len(model) // 2]}),
                1,
                ["model.safetensors", "cut off"],
            ),
            (
                "empty safetensors",
                self.init("empty model", {"model.safetensors": b""}),
                1,
                ["model.safetensors", "0 bytes"],
            ),
            (
                "safetensors with a broken header",
                self.init("broken header", {"model.safetensors": model[:8] + b"{x" + model[10:]}),
                1,
                ["model.safetensors"],
            ),
            (
                "safetensors without any tensor of a BERT",
                self.init("foreign model", {"model.safetensors": safetensors({"x": ("F32", [1], b"\0" * 4)})}),
                1,
                ["found none of that name; nearest: x"],
            ),
            ("no config.json", self.init("no config", {"config.json": None}), 1, ["config.json"]),
            ("broken config.json", self.init("broken config", {"config.json": lambda d: d[:50]}), 1, ["config.json"]),
            (
                "config.json that is no object",
                self.init("list config", {"config.json": b"[1, 2]\n"}),
                1,
                ["config.json"],
            ),
            (
                "config.json of another model_type",
                self.init("model type", {"config.json": config_edit(model_type="gpt2")}),
                1,
                ["config.json", "bert", "gpt2"],
            ),
            (
                "hidden_size that heads do not divide",
                self.init("heads", {"config.json": config_edit(hidden_size=65, num_attention_heads=2)}),
                1,
                ["65", "2"],
            ),
            (
                "heads of a size that is not implemented",
                self.init("head size", {"config.json": config_edit(num_attention_heads=16)}),
                1,
                ["32, 64 or 128"],
            ),
            (
                "config.json with a text for a number",
                self.init("text", {"config.json": config_edit(hidden_size="64")}),
                1,
                ["hidden_size"],
            ),
            (
                "config.json with one token type",
                self.init("types", {"config.json": config_edit(type_vocab_size=1)}),
                1,
                ["type_vocab_size"],
            ),
            (
                "config.json of a model beyond all memory",
                self.init(
                    "giant",
                    {"config.json": config_edit(vocab_size=1 << 30, hidden_size=1 << 20, num_attention_heads=1 << 14)},
                ),
                1,
                ["as config.json says, found"],
            ),
            (
                "--init with another tokenizer's data",
                train("bad-out", "--init", W.path("run"), "--max-len", 32, data="other"),
                1,
                ["another tokenizer", "--tokenizer"],
            ),
            ("--init with dimensions", self.flags("--init", W.path("run")), 2, ["--init", "dimensions"]),
            (
                "only a pytorch_model.bin",
                train("bad-out", "--init", W.path("pickle"), "--max-len", 32),
                1,
                ["pytorch_model.bin", "safetensors", "convert"],
            ),
            # the command line
            ("nothing given", [], 2, ["--data"]),
            ("no --out", ["--data", W.path("data")], 2, ["--out"]),
            ("unknown flag", self.flags("--learning-rte", 1), 2, ["--learning-rte", "nearest: --"]),
            ("misspelt flag", self.flags("--warmupp", 1), 2, ["--warmupp", "nearest: --warmup"]),
            ("one dash", self.flags("-steps", 1), 2, ["-steps", "--steps"]),
            ("a flag of another command", self.flags("--top-k", 1), 2, ["--top-k", "fill-mask"]),
            ("misspelt command", ["trian", "--data", W.path("data")], 2, ["trian", "nearest: train"]),
            ("a word too many", self.flags("word"), 2, ["word"]),
            ("value out of range", self.flags("--dropout", 1), 2, ["--dropout", "0.999", "1"]),
            ("value below the range", self.flags("--lr", -1), 2, ["--lr", ">= 0"]),
            ("endless epochs", self.flags("--epochs", "1e300"), 2, ["--epochs"]),
            ("--steps and --epochs", self.flags("--epochs", 1), 2, ["--steps", "--epochs"]),
            ("not a number", self.flags("--lr", "fast"), 2, ["--lr", "fast"]),
            ("nan", self.flags("--lr", "nan"), 2, ["--lr", "nan"]),
            ("not an integer", self.flags("--steps", "1e3"), 2, ["--steps", "integer"]),
            ("more than an integer holds", self.flags("--steps", 10**30), 2, ["--steps"]),
            ("unknown choice", self.flags("--schedule", "sine"), 2, ["--schedule", "cosine", "sine"]),
            ("missing value", self.flags("--lr"), 2, ["--lr", "nothing"]),
            ("a flag where a value should be", self.flags("--lr", "--seed", 1), 2, ["--lr", "--seed"]),
            ("--max-len beyond --batch-tokens", self.flags("--max-len", 512), 2, ["--max-len", "--batch-tokens"]),
            ("--max-len beyond the positions", self.flags("--positions", 16), 2, ["--max-len", "16"]),
            ("--batch-tokens that is no multiple of 128", self.flags("--batch-tokens", 300), 2, ["128", "300"]),
            (
                "--hidden-size that is no multiple of 64",
                self.flags("--hidden-size", 100),
                2,
                ["--hidden-size", "64", "100"],
            ),
            ("--heads that do not divide the width", self.flags("--heads", 3), 2, ["--heads"]),
            (
                "more memory than there is",
                self.flags("--size", "large", "--batch-tokens", 1 << 22),
                1,
                ["MiB", "--batch-tokens", "or less"],
            ),
            (
                "a model beyond all memory",
                self.flags("--layers", 128, "--hidden-size", 65536),
                1,
                ["MiB", "smaller model"],
            ),
            # the run directory
            ("--out below a file", train("file/out", *TINY), 1, ["file"]),
            ("--out that is a file", train("file", *TINY), 1, ["file"]),
            ("--out with a run in it", train("run", *TINY), 2, ["run", "--resume"]),
            ("--out that is a model directory", train("run/best", *TINY), 2, ["run/best"]),
            ("--out with another program's config.json", train("others", *TINY), 2, ["others/config.json"]),
            ("--resume without --out", ["--resume"], 2, ["--out"]),
            ("--resume of nothing", ["--resume", "--out", W.path("nowhere")], 1, ["nowhere", "config.json"]),
            ("--resume of a run without a checkpoint", ["--resume", "--out", W.path("started")], 1, ["started/last"]),
            ("--resume of a model directory", ["--resume", "--out", W.path("run/best")], 1, ["flags"]),
            ("--resume with another --lr", self.resume("--lr", 1), 2, ["--lr", "0.005", "--init"]),
            ("--resume with other dimensions", self.resume("--hidden-size", 128), 2, ["--hidden-size", "64"]),
            ("--resume and --init", self.resume("--init", W.path("run/best")), 2, ["--init"]),
            (
                "--resume with other data",
                self.resume("--data", W.variant("data", "shorter", {"train.bin": shorter}), "--steps", 400),
                1,
                ["--data"],
            ),
            (
                "--resume with as much of other data",
                self.resume("--data", W.variant("data", "swapped", {"train.bin": swapped}), "--steps", 400),
                1,
                ["--data"],
            ),
            (
                "--resume with another val.bin",
                self.resume("--data", W.variant("data", "val", {"val.bin": train_bin}), "--steps", 400),
                1,
                ["--data"],
            ),
            (
                "--resume with another tokenizer",
                self.resume("--data", W.path("other"), "--steps", 400),
                1,
                ["tokenizer"],
            ),
            # asking
            ("fill-mask without --model", ["fill-mask", "the [MASK] ."], 2, ["--model"]),
            ("fill-mask without a text", self.ask(), 2, ["TEXT"]),
            ("fill-mask without [MASK]", self.ask("the king is wise ."), 2, ["[MASK]"]),
            ("fill-mask with an empty text", self.ask(""), 2, ["[MASK]"]),
            ("fill-mask without [MASK] in two lines", self.ask("the king\nis wise ."), 2, ["[MASK]"]),
            ("fill-mask with too long a text", self.ask(long_text), 1, ["203", "128"]),
            ("fill-mask with bytes that are not UTF-8", self.ask(b"caf\xe9 is [MASK] ."), 1, ["UTF-8"]),
            (
                "fill-mask --json with bytes that are not UTF-8",
                self.ask("--json", b"caf\xe9 is [MASK] ."),
                1,
                ["UTF-8"],
            ),
            ("fill-mask with no model", self.ask("the [MASK] .", model="nowhere"), 1, ["nowhere"]),
            (
                "fill-mask with only a pytorch_model.bin",
                self.ask("the [MASK] .", model="pickle"),
                1,
                ["pytorch_model.bin", "convert"],
            ),
            (
                "fill-mask with a model beyond all memory",
                ["fill-mask", "--model", W.path("variants/giant"), "the [MASK] ."],
                1,
                ["as config.json says, found"],
            ),
            (
                "fill-mask --logits into a missing directory",
                self.ask("--logits", W.path("nowhere/x"), "the [MASK] ."),
                1,
                ["nowhere/x", "No such file"],
            ),
            # the tokenizer's program
            (
                "packing nothing",
                Call(
                    ["pack", "--tokenizer", W.path("data"), "--in", W.path("nowhere.txt"), "--out", W.path("bad.bin")],
                    program=TOKENIZE,
                ),
                1,
                ["nowhere.txt"],
            ),
            (
                "packing an empty file",
                Call(
                    [
                        *("pack", "--tokenizer", W.path("data"), "--in", write(W.path("empty.txt"), "")),
                        *("--out", W.path("bad.bin")),
                    ],
                    program=TOKENIZE,
                ),
                1,
                ["no tokens"],
            ),
            (
                "packing a device",
                Call(
                    ["pack", "--tokenizer", W.path("data"), "--in", "/dev/zero", "--out", W.path("bad.bin")],
                    program=TOKENIZE,
                ),
                1,
                ["expected a file, found a pipe or a device"],
            ),
            (
                "packing with no tokenizer",
                Call(
                    ["pack", "--tokenizer", W.path("empty"), "--in", W.path("val.txt"), "--out", W.path("bad.bin")],
                    program=TOKENIZE,
                ),
                1,
                ["vocab.txt"],
            ),
            (
                "packing below a file",
                Call(
                    ["pack", "--tokenizer", W.path("data"), "--in", W.path("val.txt"), "--out", W.path("file/bad.bin")],
                    program=TOKENIZE,
                ),
                1,
                ["file"],
            ),
            (
                "learning from nothing",
                Call(["learn", "--size", 100, "--out", W.path("bad"), W.path("nowhere.txt")], program=TOKENIZE),
                1,
                ["nowhere.txt"],
            ),
            ("no command", Call([], program=TOKENIZE), 2, ["command"]),
        ]

    def test_table(self):
        os.makedirs(W.path("empty"), exist_ok=True)
        self.check_bad_inputs(self.table())

    def test_full_disk_at_the_start(self):
        """A new run finds out before its first step that there is no room for a checkpoint."""
        done = run(train("no-room", *TINY, "--steps", 3), code=1, full_disk=20000)
        self.assert_one_line(done.err)
        self.assertIn("File too large", done.err)
        self.assertEqual(steps_of(W.path("no-room")) if os.path.exists(W.path("no-room/metrics.jsonl")) else [], [])
        run(train("no-room", *TINY, "--steps", 3, "--eval-tokens", 512))  # and with room again the same command works

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full here")
    def test_output_that_cannot_be_written(self):
        self.check_full_output(
            *(["fill-mask", "--model", W.path("run"), *flags, "the [MASK] ."] for flags in ([], ["--json"]))
        )
        with open("/dev/full", "w") as full:
            self.assert_one_line(
                run(
                    ["pack", "--tokenizer", "data", "--in", "val.txt", "--out", "full.bin"],
                    code=1,
                    stdout=full,
                    program=TOKENIZE,
                ).err
            )

    def test_full_disk_while_packing(self):
        before = read(W.path("data/val.bin"))
        done = run(
            ["pack", "--tokenizer", "data", "--in", "train.txt", "--out", "data/val.bin"],
            code=1,
            full_disk=4000,
            program=TOKENIZE,
        )
        self.assert_one_line(done.err)
        self.assertEqual(read(W.path("data/val.bin")), before)
        self.assertEqual([f for f in os.listdir(W.path("data")) if "tmp" in f], [])


if __name__ == "__main__":
    harness.main(**{"train_bert": TRAIN_BERT, "data/tokenize": TOKENIZE})
