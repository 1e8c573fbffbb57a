"""Kills, full disks and power cuts, over the four programs and the scripts. After each the run is resumed, or the
script started again, and ends with the bits that it has without.

    python3 test/torture/torture.py [--kills 200] [--every 1] [--seed 1] [--only NAME ...]      (make torture)

kills      SIGKILL, SIGTERM or SIGSTOP (and later SIGKILL) at random moments, several in the life of a run
full       the disk is full from the n-th write on, for every n-th: one line, exit code 1, no file harmed
power      the machine stops at the n-th write, for every n-th, and the disk has what was synced; of the rest some files
           are empty, some whole, some full of zeros, some entries of directories are old ones (test/torture/faults.cpp)

It ends with "N passed, N failed"; a failure says the command that repeats it.
"""

import argparse
import concurrent.futures
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness
from harness import ROOT, W, environment, make_text, metrics, read, snapshot, write

FAULTS = os.path.join(ROOT, "build", "test", "faults.so")
TIMEOUT = 300
LABELS = ("happy", "sad", "tired")


def programs(kind):
    return {
        name: os.path.join(ROOT, os.environ.get(name.upper(), "build/cpu-fp32/" + name))
        for name in ("train_bert", "train_gpt", "finetune_cls", "sft")
    }[kind]


# ---------------------------------------------------------------- what is tortured
class Run:
    """A training run: a directory `out` that --resume goes on with"""

    def __init__(self, name, *flags):
        self.name, self.program, self.flags = name, programs(name.split()[0]), [str(f) for f in flags]

    def command(self, out):
        started = os.path.exists(out + "/last")  # else it begins again
        command = [self.program] + (["train"] if self.name.split()[0] in ("finetune_cls", "sft") else [])
        return [self.program, "--resume", "--out", out] if started else [*command, *self.flags, "--out", out]

    def result(self, out):
        """All bits that must not depend on what happened"""
        if not os.path.exists(out + "/last"):
            raise AssertionError("no last/ in " + out)
        left = [f for f in os.listdir(out) if ".tmp" in f or ".old" in f or "making" in f]
        if left:
            raise AssertionError("left behind: %s" % left)
        model, state, counters = harness.checkpoint(out + "/last")
        best = snapshot(out + "/best") if os.path.exists(out + "/best") else {}
        return metrics(out), model, state, counters, best, sorted(os.listdir(out))


class Script:
    """A script that writes a directory or a file, started again if it did not end"""

    def __init__(self, name, *command):
        self.name, self.arguments = name, [str(a) for a in command]

    def command(self, out):
        return [*self.arguments, "--out", out]

    def result(self, out):
        beside = [f for f in os.listdir(os.path.dirname(out)) if f != os.path.basename(out)]
        if beside:
            raise AssertionError("left beside %s: %s" % (out, beside))
        return snapshot(out) if os.path.isdir(out) else read(out)


def build_world():
    """→ what is tortured"""
    r = random.Random(1)
    W.dir = tempfile.mkdtemp(prefix="tune_torture_", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    tokenize = harness.TOKENIZE
    for part, n in (("train", 60), ("val", 10)):
        write(W.path(part + ".txt"), make_text(n, n))
    rows = [{"text": "the day %d is %s ." % (r.randrange(9), l), "label": l} for l in LABELS * 30]
    write(W.path("rows.jsonl"), harness.jsonl(rows))
    tasks = [
        {"task": "t%d" % (i % 3), "instruction": "say %d" % i, "input": "%d" % (i % 7), "output": "it is %d" % (i % 7)}
        for i in range(90)
    ]
    write(W.path("tasks.jsonl"), harness.jsonl(tasks))

    def tool(*command):
        done = subprocess.run([str(c) for c in command], cwd=W.dir, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            raise AssertionError("%s: %s" % (command, done.stdout.decode()))

    for kind, name, size in (("wordpiece", "words", 200), ("bpe", "bytes", 300)):
        tool(tokenize, "learn", "--type", kind, "--size", size, "--out", name, "train.txt")
        for part in ("train", "val"):
            pack = [tokenize, "pack", "--tokenizer", name, "--kind", "text", "--in", part + ".txt"]
            tool(*pack, "--out", "%s/%s.bin" % (name, part))
    small = "--layers 1 --hidden-size 32 --heads 1 --max-len 32 --batch-tokens 128".split()
    steps = "--steps 16 --eval-every 4".split()
    few = ["--eval-tokens", 256]
    python, data = sys.executable, os.path.join(ROOT, "data")
    begin = [*small, "--steps", "4", "--eval-every", "0"]
    tool(programs("train_bert"), "--data", "words", "--out", "bert", *begin)
    tool(programs("train_gpt"), "--data", "bytes", "--out", "gpt", *begin)
    labelled = [python, data + "/classify.py", "rows.jsonl", "--tokenizer", "bert/last"]
    instructed = [python, data + "/instructions.py", "tasks.jsonl", "--tokenizer", "gpt/last", "--template", "short"]
    tool(*labelled, "--out", "labelled")
    tool(*instructed, "--out", "instructed")
    tune = ["--batch", 8, *steps]
    return [
        Run("train_bert", "--data", "words", *small, *steps, *few),
        Run("train_gpt", "--data", "bytes", *small, *steps, *few),
        Run("finetune_cls", "--init", "bert/last", "--data", "labelled", *tune),
        Run("sft", "--init", "gpt/last", "--data", "instructed", *tune),
        Run("sft lora", "--init", "gpt/last", "--data", "instructed", "--lora-r", 2, *tune),
        Script("learn", tokenize, "learn", "--type", "bpe", "--size", 300, "train.txt"),
        Script("pack", tokenize, "pack", "--tokenizer", "bytes", "--kind", "text", "--in", "train.txt"),
        Script("text.py", python, data + "/text.py", "train.txt", "val.txt", "--vocab-size", 200),
        Script("classify.py", *labelled),
        Script("instructions.py", *instructed),
    ]


# ---------------------------------------------------------------- running
def start(what, out, **extra):
    return subprocess.Popen(
        what.command(out),
        cwd=W.dir,
        env=environment(**extra),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(process, codes):
    out, err = process.communicate(timeout=TIMEOUT)
    err = err.decode(errors="replace")
    if process.returncode not in codes:
        raise AssertionError("exit code %d, expected %s: %s" % (process.returncode, codes, err or out.decode()[-500:]))
    for word in ("Traceback", "terminate called", "std::"):
        if word in err:
            raise AssertionError("standard error: " + err)
    return err


def faulty(**variables):
    """What a program is started with so that its writing fails"""
    return {"LD_PRELOAD": FAULTS, **{"TORTURE_" + k.upper(): v for k, v in variables.items()}}


def ends_as(reference, what, out):
    """Goes on to the end, and compares"""
    # a script may have been done already, and does not make twice what is there
    err = finish(start(what, out), [0, 2] if isinstance(what, Script) else [0])
    if what.result(out) != reference:
        found = what.result(out)
        if isinstance(found, dict):  # of a directory
            parts = sorted(f for f in {*reference, *found} if reference.get(f) != found.get(f))
        else:
            parts = [i for i, (a, b) in enumerate(zip(reference, found)) if a != b]
        raise AssertionError("other bits than without: %s of %s; %s" % (parts, out, err))


def killed(reference, what, out, seed, seconds):
    r = random.Random(seed)
    for _ in range(r.randint(1, 3)):
        process = start(what, out)
        time.sleep(r.random() * seconds)
        number = r.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
        try:
            os.killpg(process.pid, number)  # as a terminal, or a machine that stops, does it
            if number == signal.SIGSTOP:
                time.sleep(r.random() * 0.1)
                os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate(timeout=TIMEOUT)
        if number != signal.SIGTERM and isinstance(what, Script):
            clean_up(out)  # nothing can clean up after SIGKILL; what is left must not disturb, and is told
    ends_as(reference, what, out)


def clean_up(out):
    for name in os.listdir(os.path.dirname(out)):
        if name != os.path.basename(out):
            path = os.path.join(os.path.dirname(out), name)
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def full(reference, what, out, at):
    err = finish(start(what, out, **faulty(dir=os.path.dirname(out), at=at, how="full")), [0, 1])
    if err and not (err.count("error: ") <= 1 and "No space left" in err):
        raise AssertionError("expected one line on the full disk, found: " + err)
    if isinstance(what, Script):
        clean_up(out)
    ends_as(reference, what, out)


def power(reference, what, out, at, seed):
    top = os.path.dirname(out)
    kept = top + "-kept"
    os.makedirs(kept)
    process = start(what, out, **faulty(dir=top, at=at, how="power", kept=kept))
    process.communicate(timeout=TIMEOUT)
    try:
        os.killpg(process.pid, signal.SIGKILL)  # its children stop with it
    except ProcessLookupError:
        pass
    after_power_cut(top, kept, random.Random(seed * 1000 + at))
    shutil.rmtree(kept)
    if isinstance(what, Script):
        clean_up(out)
    ends_as(reference, what, out)


def after_power_cut(directory, kept, r):
    """Makes of a directory what the disk may hold: of every directory the entries that were synced last or those that
    it has; of every file the content that was synced last, or where more came after it, other bytes."""
    inodes = {}
    for folder, folders, files in os.walk(directory):
        for name in folders + files:
            path = os.path.join(folder, name)
            inodes[os.lstat(path).st_ino] = path
    made = directory + "-after"

    def restore(inode, source, target):
        os.mkdir(target)
        entries = []
        for name in os.listdir(source) if source else []:
            status = os.lstat(os.path.join(source, name))
            entries.append(("d" if stat.S_ISDIR(status.st_mode) else "f", status.st_ino, name))
        synced = os.path.join(kept, "d-%d" % inode)
        if os.path.exists(synced) and r.random() < 0.7:
            entries = []
            for line in read(synced, "r").splitlines():
                kind, number, name = line.split(" ", 2)
                entries.append((kind, int(number), name))
        elif not os.path.exists(synced) and r.random() < 0.5:
            entries = []
        for kind, number, name in entries:
            now = inodes.get(number)
            if kind == "d":
                restore(number, now, os.path.join(target, name))
                continue
            content = os.path.join(kept, "i-%d" % number)
            safe = read(content) if os.path.exists(content) else b""
            whole = read(now) if now else safe
            if whole != safe:  # what was not synced
                rest = len(whole) - len(safe) if whole.startswith(safe) else 0
                choices = [safe, whole, safe + bytes(rest), safe + whole[len(safe) : len(safe) + rest // 2]]
                whole = r.choice(choices)
            write(os.path.join(target, name), whole)

    restore(os.lstat(directory).st_ino, directory, made)
    shutil.rmtree(directory)
    os.rename(made, directory)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="in all (default: 200)")
    parser.add_argument("--every", type=int, default=1, help="take every n-th write (default: 1, all)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of what is tortured, or kills, full, power")
    args = parser.parse_args()
    everything = build_world()
    only = args.only or []
    chosen = [w for w in everything if w.name in only] or everything
    kinds = [k for k in ("kills", "full", "power") if k in only] or ["kills", "full", "power"]
    passed = failed = 0
    try:
        for what in chosen:
            folder = W.path("reference", what.name.replace(" ", "-"))
            os.makedirs(folder)
            began = time.time()
            finish(start(what, folder + "/out"), [0])
            seconds = time.time() - began
            reference = what.result(folder + "/out")
            log = W.path("events")
            counted = W.path("counted", what.name.replace(" ", "-"))
            os.makedirs(counted)
            finish(start(what, counted + "/out", **faulty(dir=counted, at=0, how="power", log=log)), [0])
            events = int(read(log, "r"))
            cases = []
            if "kills" in kinds:
                n = max(1, args.kills // len(chosen))
                cases += [("kills", i, (killed, args.seed * 1000 + i, seconds)) for i in range(n)]
            first = 1 + args.seed % args.every
            for kind in ("full", "power"):
                if kind in kinds:
                    seeds = (args.seed,) if kind == "power" else ()
                    at = range(first, events + 1, args.every)
                    cases += [(kind, n, (full if kind == "full" else power, n, *seeds)) for n in at]

            def one(case):
                kind, number, (function, *arguments) = case
                out = W.path("cases", "%s-%s-%d" % (what.name.replace(" ", "-"), kind, number), "out")
                os.makedirs(os.path.dirname(out))
                try:
                    function(reference, what, out, *arguments)
                    return kind, number, ""
                except Exception as e:
                    return kind, number, str(e) or traceback.format_exc()
                finally:
                    shutil.rmtree(os.path.dirname(out), ignore_errors=True)

            counts = {}
            with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
                for kind, number, error in pool.map(one, cases):
                    good, bad = counts.get(kind, (0, 0))
                    counts[kind] = (good + (not error), bad + bool(error))
                    if error and bad < 5:
                        print("FAIL %s %s %d: %s" % (what.name, kind, number, error.strip().replace("\n", "\n    ")))
            for kind, (good, bad) in counts.items():
                print("%-4s %-12s %-5s %3d, %d failed" % ("FAIL" if bad else "ok", what.name, kind, good + bad, bad))
                passed, failed = passed + good, failed + bad
            sys.stdout.flush()
    finally:
        shutil.rmtree(W.dir, ignore_errors=True)
    print("%d passed, %d failed" % (passed, failed))
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
