#!/usr/bin/env python3
"""The whole story on a small written world, without a network, in four minutes on two idle cores. An encoder
learns this world by masked LM, then sentiment from a hundred labels, and is asked about opinion words that no label
mentioned. A decoder reads about the world, learns to give reasons, then some two hundred kinds of instructions at once,
and is given tasks that were in none of them. `make demo` calls it.

    python3 dev/demo [OUT]             default: runs/demo
    python3 dev/demo --quick OUT       every step, each far too short to learn: does it run?

Ctrl-C stops; the same command continues: parts that are done are not repeated, a training that was interrupted is
resumed. Every command is printed, so that each step can be repeated and changed by hand. OUT/report.html has it all on
a page, as far as it got. Python's standard library is all it needs.
"""

import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "dev/lib"))
import bin_file  # noqa: E402

import page  # noqa: E402
import results  # noqa: E402
from steps import steps  # noqa: E402

TERMINAL = sys.stderr.isatty()


def say(text=""):
    print(text.rstrip(" "), flush=True)


def bar(fraction):
    return "#" * round(30 * fraction)


def shown(command):
    """A command as it is typed"""
    return " ".join("python3" if c == sys.executable else shlex.quote(str(c)) for c in command)


class Progress:
    """One line on a terminal, elsewhere a line every ten seconds"""

    def __init__(self):
        self.last, self.open = time.time(), False

    def show(self, text):
        if time.time() - self.last < (0.5 if TERMINAL else 10):
            return
        self.last = time.time()
        sys.stderr.write(f"\r  {text:<76.76}" if TERMINAL else f"  {text}\n")
        sys.stderr.flush()
        self.open = TERMINAL

    def clear(self):
        if self.open:
            sys.stderr.write(f"\r{'':78}\r")
            sys.stderr.flush()
        self.open = False


def how_far(log, step, elapsed):
    """A line about a step that has run for so long: the trainings print "step N/M | loss X", once for each seed"""
    text = log.read_text(errors="replace")
    found = re.findall(r"^(step (\d+)/(\d+) \| loss [\d.]+)", text, re.M)
    if not found or found[-1][1] == found[-1][2]:
        return f"{page.clock(elapsed)} of about {page.clock(step.seconds)}"
    line, at, last = found[-1]
    seeds = re.findall(r"^---- seed \d+ \((\d+) of (\d+)\)", text, re.M)
    seed, number = map(int, seeds[-1]) if seeds else (1, 1)
    done = (seed - 1 + int(at) / int(last)) / number
    return f"[{bar(done):30s}] {line} | {page.clock(elapsed * (1 - done) / done)} left"


def tell_validation(rows):
    """The rows of a metrics.jsonl in which a model was evaluated"""
    for row in rows:
        read = f"  {row['tokens'] / 1e6:5.1f} M tokens | loss {row.get('val_loss', 0):.3f} | "
        if "val_bits_per_byte" in row:
            bits = row["val_bits_per_byte"]
            say(read + f"{bits:.3f} bits per byte {bar(bits / 2)}")
        elif "val_accuracy" in row:
            say(read + f"guessed right {100 * row['val_accuracy']:4.1f} % {bar(row['val_accuracy'])}")


def read_state(path):
    """state.json -> (steps, files), refused unless a demo wrote it"""
    if not path.exists():
        return {}, []
    try:
        saved = json.loads(path.read_text())
        steps, files = saved["steps"], [tuple(file) for file in saved["files"]]
        for name, step in steps.items():
            steps[name] = {"command": step["command"], "seconds": step["seconds"] + 0, "done": step["done"]}
        return steps, [[name, size + 0, changed + 0] for name, size, changed in files]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        sys.stderr.write(f"error: {path}: expected what a demo wrote, found something else; give another directory\n")
        sys.exit(2)


class Demo:
    """OUT/state.json remembers of each step its command, the seconds that it took so far, and whether it is done; and
    which files the demo made, so that it removes no others"""

    def __init__(self, out, quick):
        self.out, self.steps = out, steps(out, quick)
        self.path = out / "state.json"
        self.state, self.made = read_state(self.path)
        self.summary = []  # (what was asked, the fraction that is right, what to compare it with)

    def files(self):
        """[name, size, time of change] of every file in OUT, without state.json, what becomes it, and what was set
        aside (a program whose demo was killed may still write there)"""
        others = re.compile(r"state\.json(\.making\w+)?|[\w-]+\.stopped-\d+/.*", re.S)
        paths = {str(p.relative_to(self.out)): p for p in self.out.rglob("*") if p.is_symlink() or not p.is_dir()}
        own = [name for name in sorted(paths) if not others.fullmatch(name)]
        return [[name, paths[name].lstat().st_size, paths[name].lstat().st_mtime_ns] for name in own]

    def refuse_foreign_files(self):
        """Those of a step that was killed are not known: they are left alone, see run()"""
        busy = [name for name, step in self.state.items() if not step["done"]]
        own = [f"{name}/" for name in busy] + [f"{name}.log" for name in busy] + ["toy/"] * ("toy-decoder" in busy)
        for file in self.files():
            if file not in self.made and not file[0].startswith(tuple(own)):
                name = self.out / file[0]
                sys.stderr.write(
                    f"error: {name}: the earlier demo did not make this file, or it was changed since; "
                    f"remove {self.out} or give another directory\n"
                )
                sys.exit(2)

    def forget_lost(self):
        """From the first step that is done and whose files somebody removed"""
        gone = [file[0] for file in self.made if not os.path.lexists(self.out / file[0])]
        for step in self.steps:
            own = (f"{step.name}/", f"{step.name}.log")
            if self.state.get(step.name, {}).get("done") and any(name.startswith(own) for name in gone):
                return self.forget_from(step)

    def save(self):
        self.made = self.files()
        handle, new = tempfile.mkstemp(prefix="state.json.making", dir=self.out)
        with open(handle, "w") as f:
            f.write(json.dumps({"steps": self.state, "files": self.made}, indent=1) + "\n")
        os.replace(new, self.path)

    def seconds(self):
        return sum(self.state[s.name]["seconds"] for s in self.steps if s.name in self.state)

    def announce(self):
        say("A small written world, and two models that learn it. What happens, and for how")
        say("long on two idle cores (Ctrl-C stops, the same command continues):\n")
        for step in self.steps:
            say(f"  {step.title:66s} {page.clock(step.seconds):>9s}")
            if step.look:
                say(f"       look at: {step.look}")
            if step.name == "from-scratch":
                say(f"       then a first page, {self.out}/report.html; later results are added to it")
        say(f"  {'all of it':66s} {page.clock(sum(s.seconds for s in self.steps)):>9s}")

    def set_aside(self, step):
        """What a step left gets another name; it is not removed: somebody may have put a file of their own there"""
        if (self.out / step.name).exists():
            (self.out / step.name).rename(self.out / f"{step.name}.stopped-{time.time_ns()}")

    def forget_from(self, step):
        """A step that is new, or of another command, or lost its files: what it and later ones left is of no use"""
        for later in self.steps[self.steps.index(step) :]:
            if self.state.pop(later.name, None):
                self.set_aside(later)
        self.save()

    def run(self, step):
        command = [str(c) for c in step.command]
        say(f"\n{step.title}\n  {shown(step.command)}")
        if self.state.get(step.name, {}).get("command") != command:
            self.forget_from(step)
            self.state[step.name] = {"command": command, "seconds": 0, "done": False}
        state = self.state[step.name]
        if state["done"]:
            say(f"  done before, in {page.clock(state['seconds'])}")
            tell_validation(self.validations(step))
            return
        run = self.out / step.name
        begun = step.resumable and any(run.glob("**/last"))
        if begun:
            command = [command[0], "--resume", "--out", str(run)]
            say(f"  continues: {shown(command)}")
        else:  # stopped before it saved anything
            self.set_aside(step)
        self.save()
        self.watch(step, command, "a" if begun else "w")
        state["done"] = True
        self.save()
        if any("tokens" in row for row in self.validations(step)):
            say(f"  {results.tokens(run):,.0f} tokens in {page.clock(state['seconds'])}")

    def validations(self, step):
        path = self.out / step.name / "metrics.jsonl"
        if not path.exists():
            return []
        lines = [line for line in path.read_text().splitlines(True) if '"val_loss"' in line and line.endswith("\n")]
        return [json.loads(line) for line in lines]

    def watch(self, step, command, mode):
        """Runs a command with its output in a file, and shows meanwhile how far it is. It has a process group of its
        own, so that Ctrl-C reaches it once, from here: it then saves."""
        state, before, begin = self.state[step.name], self.state[step.name]["seconds"], time.time()
        log, progress, told, child = self.out / f"{step.name}.log", Progress(), 0, None
        try:
            early = []  # Ctrl-C while the program starts waits until it can be told
            on_stop(lambda *_: early.append(True))
            with open(log, mode) as f:
                child = subprocess.Popen(command, stdout=f, stderr=subprocess.STDOUT, start_new_session=True)
            on_stop(signal.default_int_handler)
            if early:
                raise KeyboardInterrupt
            while child.poll() is None:
                time.sleep(0.1)
                state["seconds"] = before + time.time() - begin
                rows = self.validations(step)
                if len(rows) > told:
                    progress.clear()
                    tell_validation(rows[told:])
                    told = len(rows)
                progress.show(how_far(log, step, state["seconds"]))
        except KeyboardInterrupt:
            progress.clear()
            if child:
                stop(child)
            self.save()
            raise
        progress.clear()
        tell_validation(self.validations(step)[told:])
        if child.returncode:
            self.save()
            sys.stderr.write(log.read_text(errors="replace")[-2000:])
            sys.exit(f"error: the command above failed; its output is in {log}")

    def write_page(self):
        finished = {s.name for s in self.steps if self.state.get(s.name, {}).get("done")}
        page.write(self.out, self.steps, finished, {name: s["seconds"] for name, s in self.state.items()})
        self.save()

    # ---- what is said after a step, by its name
    def after_toy(self):
        log = (self.out / "toy.log").read_text()
        say("  " + next(line for line in log.splitlines() if "documents for training" in line))
        text = self.out / "toy/text"
        packed = bin_file.parse_bin((text / "train.bin").read_bytes())
        tokens = " ".join(map(str, packed.ids[: packed.offsets[1]])) + "\n"
        decode = ["data/tokenize", "decode", "--tokenizer", str(text)]
        sample = subprocess.run(decode, input=tokens, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        say(f"  the text:     {sample}")
        for line in (self.out / "toy/reviews/train.tsv").read_text().splitlines()[1:4]:
            review, label = line.split("\t")
            say(f"  {label + ':':13s} {review}")
        say("  The hundred labels use one half of the opinion words, the test uses the other half:")
        say("  no label says what these mean, only the text does, by what people do next.")

    def after_from_scratch(self):
        say("\nAccuracy on 2,000 new reviews, mean and standard deviation over the seeds; guessing gives 50 %:\n")
        say(f"  {'':22s} {'words that labels used':26s} {'words that no label used'}")
        found = results.sentiment(self.out)
        for name, of in found.items():
            say(f"  {name:22s} {str(of['val']):26s} {str(of['test']):14s} {bar(of['test'].mean)}")
        once, all_text = (results.tokens(self.out / run) for run in ("pretrained/seed-1", "bert"))
        say(f"\n  Pretraining read {all_text:,.0f} tokens without labels, each fine-tuning {once:,.0f}.")
        rest = ", ".join(f"{name} {100 * found[name]['test'].mean:.1f}" for name in ("from scratch", "bag of words"))
        what = "sentiment from 100 labels, opinion words that no label used"
        self.summary.append((what, found["pretrained"]["test"].mean, rest))
        say(f"  A first page: {self.out}/report.html")

    def after_reasons_answers(self):
        columns = f"{'exactly right':>14s} {'good or bad right':>18s} {'quotes the review':>18s}"
        say(f"\n  {'% of 300 new reviews':40s} {columns}")
        for part, of in results.reasons(self.out).items():
            what = results.REASONS[part]
            for name, r in of.items():
                say(f"  {what + ', ' + name:40s} {100 * r.exact:14.1f} {100 * r.side:18.1f} {100 * r.quotes:18.1f}")
            side = f"good or bad is right {100 * r.side:.1f}, quotes a word of the review {100 * r.quotes:.1f}"
            self.summary.append((f"a reason for it, {what}", r.exact, side))
        for part in results.REASONS:
            for a in results.read_answers(self.out / "reasons-answers/answers_2.jsonl", part)[:2]:
                say(f"    {'right' if a.right else 'wrong'}: {a.prompt} {a.answer}".replace("\n", " | "))

    def after_instruct(self):
        say("\nExactly right, % of answers, on what tuning never saw:\n")
        say(f"  {'':14s} {'':5s}  {'copy the':>9s} {'most frequent':>14s} {'before':>7s}         more than before,")
        columns = f"{'input':>9s} {'answer':>14s} {'tuning':>7s} {'tuned':>7s}  {'95 % interval':17s}"
        say(f"  {'held out':14s} {'tasks':>5s}  {columns}")
        for part, level in results.instructions(self.out).items():
            name, what = results.LEVELS[part]
            values = [100 * v for v in (level.copy, level.frequent, level.before, level.tuned)]
            more = f"{100 * level.gain:+.1f}, few differ"
            if level.gain_low is not None:
                more = f"{100 * level.gain_low:+.1f} to {100 * level.gain_high:+.1f}"
            columns = f"{values[0]:9.1f} {values[1]:14.1f} {values[2]:7.1f} {values[3]:7.1f}  {more:17s}"
            say(f"  {name:14s} {level.tasks:5d}  {columns}{what}")
            what = f"instructions, {name} that tuning never saw"
            self.summary.append((what, level.tuned, f"before tuning {values[2]:.1f}"))
        for part in results.LEVELS:
            a = results.read_answers(self.out / "instruct/answers.jsonl", part)[0]
            ends = f"(right: {a.expected.split(' / ')[0]})"
            say(f"    {results.LEVELS[part][0]}: {a.prompt} {a.answer} {ends}".replace("\n", " | "))

    def tell(self):
        """The results of all steps once more, and what to try"""
        say(f"\nAll of it took {page.clock(self.seconds())}:\n")
        for what, fraction, beside in self.summary:
            say(f"  {what:66s} {100 * fraction:5.1f} %   {beside}")
        say(f"\nOn one page: {self.out}/report.html. Now ask yourself, with words of this world:")
        for command in page.to_try(self.out)[:-1]:
            answer(command)
        say(f"\n  {shown(page.to_try(self.out)[-1])}")
        say("\nThe same on real data: README.md. To make all of it again: remove " + str(self.out))


def on_stop(handler):
    """Of Ctrl-C and of SIGTERM, which is taken as Ctrl-C"""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def stop(child):
    say("\nstopping: what was learned so far is saved (Ctrl-C once more: at once)")
    child.send_signal(signal.SIGINT)
    try:
        child.wait()
    except KeyboardInterrupt:
        child.kill()
        child.wait()


def answer(command):
    """Runs a command that the reader may repeat, and shows what it answers"""
    say("\n  " + shown(command))
    done = subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE)
    text = done.stdout.decode(errors="replace").rstrip("\n")
    say("\n".join("    " + line for line in text.split("\n")))


def main():
    quick = "--quick" in sys.argv
    words = [w for w in sys.argv[1:] if w != "--quick"]
    if words in (["--help"], ["-h"]):
        print(__doc__)
        return
    if len(words) > 1 or (words and words[0][:1] in ("", "-")) or (quick and not words):
        given = shlex.join(sys.argv[1:])
        sys.stderr.write(f"error: expected [OUT] or --quick OUT, found {given}; see python3 dev/demo --help\n")
        sys.exit(2)
    # relative to the repository, as in the commands that are printed
    out = pathlib.Path(os.path.relpath(words[0] if words else ROOT / "runs/demo", ROOT))
    os.chdir(ROOT)
    for program in ("train_bert", "finetune_cls", "train_gpt", "sft", "data/tokenize"):
        if not os.path.exists(program):
            sys.exit(f"error: expected {program}, found none: run make first")
    if out.exists() and not (out / "state.json").exists():
        sys.exit(
            f"error: {out}: expected a directory of an earlier demo or nothing, found something else: give another one"
        )
    out.mkdir(parents=True, exist_ok=True)
    on_stop(signal.default_int_handler)
    demo = Demo(out, quick)
    demo.refuse_foreign_files()
    demo.forget_lost()
    demo.save()
    demo.announce()
    for step in demo.steps:
        demo.run(step)
        if step.name in ("from-scratch", "reasons-answers", "instruct"):
            demo.write_page()
        getattr(demo, "after_" + step.name.replace("-", "_"), lambda: None)()
    demo.tell()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        again = "make demo" if len(sys.argv) == 1 else shown([sys.executable, "dev/demo", *sys.argv[1:]])
        say(f"stopped; to continue: {again}")
        sys.exit(130)
