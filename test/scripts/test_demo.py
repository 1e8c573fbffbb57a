#!/usr/bin/env python3
"""`make demo` in a hurry: every step of it runs, its figures come from the results, and its page needs nothing from
outside.

make && python3 test/scripts/test_demo.py             a minute on two cores
"""

import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
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
        for name in ("demo.py", "plot.py"):
            shutil.copy(os.path.join(ROOT, "dev", name), os.path.join(cls.dir, "dev"))
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
            [sys.executable, "dev/demo.py", *words],
            cwd=cls.dir,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=5 * TIMEOUT,
        )

    def test_terminal(self):
        text = self.done.stdout
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
        # the figures are those of the results; all of them stand at the end once more
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
                r"\n  %s +(\d+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)   ([+-][\d.]+)(?: to ([+-][\d.]+)|, few differ) "
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
            (1, 4, 4, 4),
        )
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

    def test_what_is_not_a_demo_stays(self):
        os.mkdir(os.path.join(self.dir, "mine"))
        done = self.demo("mine")
        self.assertEqual(done.returncode, 1)
        self.assertIn("mine: expected a directory of an earlier demo or nothing", done.stderr)
        self.assertEqual(os.listdir(os.path.join(self.dir, "mine")), [])
        for words in (("--fast",), ("--quick",), ("a", "b")):
            done = self.demo(*words)
            self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1))
            self.assertIn("expected [OUT] or --quick OUT", done.stderr)
        self.assertEqual(self.demo("--help").returncode, 0)


if __name__ == "__main__":
    harness.main(**PROGRAMS, tokenize=TOKENIZE)
