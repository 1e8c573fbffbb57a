#!/usr/bin/env python3
"""`make demo` in a hurry: every step of it runs, its numbers come from the results, its page needs nothing from
outside, and who stops it can continue.

make && python3 test/scripts/test_demo.py             a minute on two cores
"""

import html.parser
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # test/harness.py
import harness
from harness import ROOT, TIMEOUT, TOKENIZE, binary, environment

PROGRAMS = {
    name: binary(name.upper(), "build/cpu-fp32/" + name) for name in ("train_bert", "finetune_cls", "train_gpt", "sft")
}


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in ("meta", "path", "rect", "circle", "line", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


class Demo(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="tune_demo_")
        cls.dir = cls.folder.name
        os.mkdir(os.path.join(cls.dir, "dev"))
        shutil.copy(os.path.join(ROOT, "dev/plot.py"), os.path.join(cls.dir, "dev"))
        for name in ("demo", "lib"):
            shutil.copytree(os.path.join(ROOT, "dev", name), os.path.join(cls.dir, "dev", name))
        os.symlink(os.path.join(ROOT, "data"), os.path.join(cls.dir, "data"))
        for name, program in PROGRAMS.items():
            os.symlink(program, os.path.join(cls.dir, name))
        cls.done = cls.demo("--quick", "out")
        if cls.done.returncode:
            raise AssertionError(cls.done.stdout[-2000:] + cls.done.stderr[-2000:])

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @classmethod
    def demo(cls, *words):
        return subprocess.run(
            [sys.executable, "dev/demo", *words],
            cwd=cls.dir,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=5 * TIMEOUT,
        )

    def test_terminal(self):
        text = self.done.stdout
        # it says first what will happen, for how long, and what to look at
        plan = text[: text.index("\n1. A small written world")]
        self.assertEqual(len(re.findall(r"^  \d\. .*\d (?:s|min)$", plan, re.M)), 9)
        self.assertGreaterEqual(plan.count("look at: "), 6)
        self.assertIn("Ctrl-C stops, the same command continues", plan)
        for part in (
            "1. A small written world",
            "2. Masked LM",
            "3. Sentiment from 100 labels, pretrained, 3 seeds",
            "4. A decoder reads",
            "5. Fine-tuning for one task",
            "6. Instruction tuning",
            "./finetune_cls predict --model out/pretrained/seed-1",
            "./train_bert fill-mask --model out/bert",
            "./train_gpt generate --model out/gpt",
            "./sft generate --model out/instruct",
            "./sft chat --model out/instruct",
        ):
            self.assertIn(part, text)
        # the numbers are those of the results; all of them stand at the end once more
        end = text[text.index("All of it took") :]
        with open(os.path.join(self.dir, "out/instruct/results.json")) as f:
            results = json.load(f)
        for what in (
            "sentiment from 100 labels",
            "a reason for it, opinion words that tuning saw",
            "a reason for it, opinion words that it never saw",
        ):
            self.assertRegex(end, "\n  %s.* [0-9.]+ %%   " % what)
        for level in ("wordings", "operations", "compositions", "families"):
            row = re.search(
                r"\n  %s +(\d+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)  ([+-][\d.]+)(?: to ([+-][\d.]+)|, few differ) "
                % level,
                text,
            )
            found = results["test_" + level]
            self.assertEqual(
                [float(x) for x in row.groups()[1:5]],
                [
                    round(100 * found[m]["exact_match"], 1)
                    for m in ("copy the input", "most frequent answer", "before", "tuned")
                ],
            )
            self.assertGreater(float(row[3]), 0)
            self.assertEqual(int(row[1]), len(found["tuned"]["tasks"]))
            more = found["tuned"]["minus_first_model"]["exact_match"]
            self.assertEqual(
                [float(x) for x in row.groups()[5:] if x],
                [round(100 * more[k], 1) for k in (("low", "high") if "low" in more else ("mean",))],
            )
            self.assertRegex(
                end, "\n  instructions, %s that tuning never saw +%s %%   before tuning %s\n" % (level, row[5], row[4])
            )

    def test_page(self):
        with open(os.path.join(self.dir, "out/report.html")) as f:
            text = f.read()
        page = Page(text)
        self.assertEqual(page.open, [])
        self.assertEqual(
            (page.tags.count("h1"), page.tags.count("h2"), page.tags.count("table"), page.tags.count("svg")),
            (1, 6, 4, 5),
        )
        # every picture can be read without seeing it, and says in words what it shows
        self.assertEqual(page.attributes.count(("role", "img")), 5)
        labels = [value for key, value in page.attributes if key == "aria-label"]
        self.assertEqual((len(labels), page.tags.count("figcaption")), (5, 5))
        self.assertTrue(all(len(label) > 40 for label in labels))
        for a in ("right", "wrong"):  # answers of every set are marked
            self.assertEqual(page.attributes.count(("class", a)) > 0, a == "wrong" or "&#10003;" in text)
        self.assertEqual(text.count("<b>Where it fails:</b>"), 2)
        # nothing is loaded from anywhere
        self.assertEqual({key for key, _ in page.attributes} & {"src", "href", "xlink:href", "data", "action"}, set())
        self.assertEqual({tag for tag in page.tags} & {"script", "link", "img", "iframe", "object"}, set())
        self.assertEqual(set(re.findall(r"https?://[^\"' <]+", text)), {"http://www.w3.org/2000/svg"})
        self.assertNotIn("url(", text)

    def test_files_of_others_in_a_demo_stay(self):
        notes = os.path.join(self.dir, "out", "toy", "notes.txt")
        with open(notes, "w") as f:
            f.write("mine")
        try:
            done = self.demo("--quick", "out")
            self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1))
            self.assertIn("out/toy/notes.txt: the earlier demo did not make this file", done.stderr)
            self.assertTrue(os.path.exists(notes) and os.path.exists(os.path.join(self.dir, "out", "report.html")))
        finally:
            os.remove(notes)

    def test_what_is_lost_is_made_again(self):
        """A step whose files somebody removed, and what came after it; what is there of these is kept"""
        shutil.copytree(os.path.join(self.dir, "out"), os.path.join(self.dir, "saved"), symlinks=True)
        beside = os.path.join(self.dir, "out.state")
        with open(beside, "w") as f:
            f.write("mine")
        try:
            shutil.rmtree(os.path.join(self.dir, "out/reasons-answers"))
            again = self.demo("--quick", "out")
            self.assertEqual((again.returncode, again.stderr.count("Traceback")), (0, 0), again.stderr)
            self.assertEqual(again.stdout.count("\n  done before, in "), 7)
            self.assertTrue(os.path.exists(os.path.join(self.dir, "out/reasons-answers/results.json")))
            self.assertEqual(len([n for n in os.listdir(os.path.join(self.dir, "out")) if "instruct.stopped" in n]), 1)
            with open(beside) as f:
                self.assertEqual(f.read(), "mine")
        finally:
            shutil.rmtree(os.path.join(self.dir, "out"))
            os.rename(os.path.join(self.dir, "saved"), os.path.join(self.dir, "out"))

    def test_a_state_of_others(self):
        os.mkdir(os.path.join(self.dir, "others"))
        path = os.path.join(self.dir, "others/state.json")
        for text in ("", "{", "[]", "{}", '{"steps": null, "files": null}', '{"steps": {"toy": 1}, "files": []}'):
            with open(path, "w") as f:
                f.write(text)
            done = self.demo("--quick", "others")
            self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1))
            self.assertIn("others/state.json: expected what a demo wrote", done.stderr)
            with open(path) as f:
                self.assertEqual(f.read(), text)

    def state(self, out):
        try:
            with open(os.path.join(self.dir, out, "state.json")) as f:
                return json.load(f)["steps"]
        except (OSError, ValueError):
            return {}

    def test_again(self):
        """What is done is not repeated; a training that is not done is resumed"""
        before = os.stat(os.path.join(self.dir, "out/gpt/metrics.jsonl")).st_mtime_ns
        state = self.state("out")
        self.assertEqual((len(state), {s["done"] for s in state.values()}), (9, {True}))
        state["bert"]["done"] = False
        with open(os.path.join(self.dir, "out/state.json")) as f:
            files = json.load(f)["files"]
        with open(os.path.join(self.dir, "out/state.json"), "w") as f:
            json.dump({"steps": state, "files": files}, f)
        again = self.demo("--quick", "out")
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertEqual(again.stdout.count("\n  done before, in "), 8)
        self.assertIn("\n  continues: ./train_bert --resume --out out/bert\n", again.stdout)
        self.assertEqual(os.stat(os.path.join(self.dir, "out/gpt/metrics.jsonl")).st_mtime_ns, before)
        end = lambda text: text[text.index("\n  sentiment from 100 labels") :]
        self.assertEqual(end(again.stdout), end(self.done.stdout))

    def test_stop(self):
        """Ctrl-C: the program under way ends in its own way, what was done before is known"""
        words = [sys.executable, "dev/demo", "--quick", "stopped"]
        process = subprocess.Popen(
            words, cwd=self.dir, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        end = time.time() + TIMEOUT
        while "bert" not in self.state("stopped"):
            self.assertTrue(process.poll() is None and time.time() < end)
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT)
        self.assertEqual(process.returncode, 130, err)
        self.assertNotIn("Traceback", err)
        self.assertIn("stopped; to continue: python3 dev/demo --quick stopped", out)
        self.assertTrue(self.state("stopped")["toy"]["done"])
        self.assertNotIn("pretrained", self.state("stopped"))
        late = os.path.join(self.dir, "stopped", "toy.stopped-1")  # of a program whose demo was killed
        os.mkdir(late)
        with open(os.path.join(late, "late"), "w") as f:
            f.write("late")
        process = subprocess.Popen(words, cwd=self.dir, env=environment(), stdout=subprocess.PIPE, text=True)
        self.assertIn("A small written world", process.stdout.readline())
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=TIMEOUT)
        self.assertEqual((process.returncode, os.listdir(late)), (130, ["late"]))

    def test_what_is_not_a_demo_stays(self):
        os.mkdir(os.path.join(self.dir, "mine"))
        done = self.demo("mine")
        self.assertEqual(done.returncode, 1)
        self.assertIn("mine: expected a directory of an earlier demo or nothing", done.stderr)
        self.assertEqual(os.listdir(os.path.join(self.dir, "mine")), [])
        for words in (("--fast",), ("--quick",), ("",), ("a", "b")):
            done = self.demo(*words)
            self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1))
            self.assertIn("expected [OUT] or --quick OUT", done.stderr)
        self.assertEqual(self.demo("--help").returncode, 0)


if __name__ == "__main__":
    harness.main(**PROGRAMS, tokenize=TOKENIZE)
