"""The pages of this project name what exists: links, anchors, files, programs, scripts and their flags. Python's
standard library is all it needs."""

import os
import pathlib
import re
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOT_OURS = {"build", "datasets", "models", "runs", "__pycache__"}
GENERATED = {
    "test/mutations.md",
    "dev/results/demo.md",
    "dev/results/predicted.md",
}  # they quote code, and what a run printed
PROGRAMS = ("train_bert", "finetune_cls", "train_gpt", "sft", "data/tokenize")


def tree():
    """Files of the repository, as paths from its root"""
    found = set()
    for folder, folders, files in os.walk(ROOT):
        at_root = pathlib.Path(folder) == ROOT
        folders[:] = [
            f for f in folders if not (f.startswith(".") and f != ".github") and not (at_root and f in NOT_OURS)
        ]
        found.update(str((pathlib.Path(folder) / f).relative_to(ROOT)) for f in files)
    return found


FILES = tree()
NAMES = {os.path.basename(f) for f in FILES}
PAGES = sorted(f for f in FILES if f.endswith(".md"))
WRITTEN = [page for page in PAGES if page not in GENERATED]


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


def without_code(text):
    """The lines of a page that are prose or tables: without fenced and indented blocks"""
    lines, fenced = [], False
    for line in text.split("\n"):
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith("    "):
            lines.append(line)
    return lines


def code_of(text):
    """The other lines, those that end in a backslash joined with the next one"""
    lines, fenced = [], False
    for line in text.split("\n"):
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            lines.append(line.strip())
    return re.sub(r"\\\n\s*", " ", "\n".join(lines)).split("\n")


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them"""
    found, counts = set(), {}
    for line in without_code(text_of(page)):
        heading = re.match(r"#+ +(.*)", line)
        if heading:
            plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading[1]).replace("`", "").strip().lower()
            slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
            count = counts[slug] = counts.get(slug, -1) + 1
            found.add(slug if count == 0 else "%s-%d" % (slug, count))
    return found


def help_of(command):
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    flags = set()
    for name in re.findall(r"--(?:\[no-\])?[a-z0-9][a-z0-9-]*", result.stdout):
        flags.add(name.replace("[no-]", ""))
        if "[no-]" in name:
            flags.add(name.replace("[no-]", "no-"))
    return flags


class Pages(unittest.TestCase):
    def setUp(self):
        self.problems = []

    def tearDown(self):
        self.assertFalse(self.problems, "\n  ".join([""] + self.problems))

    def expect(self, ok, problem, *args):
        if not ok:
            self.problems.append(problem % args)

    def test_readme_is_short(self):
        lines = text_of("README.md").count("\n")
        self.expect(lines <= 160, "README.md: expected at most 160 lines, found %d: move details to other pages", lines)

    def test_links(self):
        for page in PAGES:
            for target in re.findall(r"\]\(([^)\s]+)\)", "\n".join(without_code(text_of(page)))):
                if re.match(r"[a-z]+:", target):
                    continue
                path, _, anchor = target.partition("#")
                found = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
                exists = (ROOT / found).exists()
                self.expect(exists, "%s: the link %s leads nowhere", page, target)
                if exists and anchor:
                    self.expect(anchor in anchors(found), "%s: %s has no heading #%s", page, found, anchor)

    def test_paths(self):
        """Names in back-ticks that look like files of this tree: a path from the root or the page's folder, a name"""
        for page in WRITTEN:
            for word in re.findall(r"`([^`\s]+)`", "\n".join(without_code(text_of(page)))):
                word = word.removeprefix("./")
                is_path = re.match(r"(common|data|dev|test)/[\w./-]+$", word) and "." in word
                is_name = re.fullmatch(r"[\w./-]+\.(cu|cuh|cpp|h|py|sh|mk)", word)
                if not (is_path or is_name) or re.search(r"(?<![A-Za-z])(NAME|ROOM|FILE|DIR)(?![A-Za-z])", word):
                    continue  # a place for a name
                here = os.path.normpath(os.path.join(os.path.dirname(page), word))
                known = word in FILES or here in FILES or os.path.basename(word) == word in NAMES
                known = known or (ROOT / word).is_dir() or any(f.endswith("/" + word) for f in FILES)
                self.expect(known, "%s: there is no file %s", page, word)

    def test_scripts_and_their_flags(self):
        known = {}
        for page in WRITTEN:
            for line in code_of(text_of(page)):
                line = re.sub(r"(^|\s)#.*", "", line)
                for script, rest in re.findall(r"\b(?:python3?|bash) ((?:data|dev|test)/[\w/]+\.\w+)([^&|;]*)", line):
                    self.expect(script in FILES, "%s: there is no script %s", page, script)
                    if not re.fullmatch(r"data/\w+\.py", script):
                        continue
                    if script not in known:
                        known[script] = help_of([sys.executable, script, "--help"])
                    for flag in re.findall(r"(?:^|\s)(--[a-z][a-z0-9-]*)", rest):
                        self.expect(flag in known[script], "%s: %s has no %s", page, script, flag)

    def test_flags_of_programs(self):
        known = {}
        for program in PROGRAMS:
            for path in (ROOT / "build/cpu-fp32" / program, ROOT / program):
                if path.is_file() and program not in known:
                    known[program] = help_of([str(path), "--help"])
        if len(known) < len(PROGRAMS):
            self.skipTest("not all programs are built here")
        scripts = [f for f in FILES if re.match(r"(data|dev|test)/.*\.(py|sh)$", f)]
        sources = "\n".join((ROOT / f).read_text(encoding="utf-8") for f in scripts)
        any_flag = set.union(*known.values(), {"--label-smoothing"}) | set(re.findall(r"--[a-z][a-z0-9-]*", sources))
        # --label-smoothing: CONTRIBUTING's example of a flag that there is not
        for page in WRITTEN:
            for line in code_of(text_of(page)):
                line = re.sub(r"(^|\s)#.*", "", line)
                for program, rest in re.findall(r"(?:^|\s)(?:\./)?(%s)\s([^&|;]*)" % "|".join(PROGRAMS), line):
                    for flag in re.findall(r"(?:^|\s)(--[a-z][a-z0-9-]*)", rest):
                        self.expect(flag in known[program], "%s: ./%s has no %s", page, program, flag)
            prose = "\n".join(without_code(text_of(page)))
            for flag in re.findall(r"`(?:[^`]*\s)?(--[a-z][a-z0-9-]*)[^`]*`", prose):
                self.expect(flag in any_flag, "%s: nothing has a flag %s", page, flag)

    def test_lines(self):
        for page in WRITTEN:
            for line in without_code(text_of(page)):
                short = len(line) <= 120 or line.startswith("|")  # a row of a table is one line
                self.expect(short, "%s: expected at most 120 columns, found %d: %s", page, len(line), line)


class Repository(unittest.TestCase):
    """What is committed works in another place: no links to somewhere, nothing that .gitignore names, and no folder
    of one machine"""

    def git(self, *arguments):
        done = subprocess.run(["git", *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if done.returncode not in (0, 1):
            self.skipTest("no git, or no repository here")
        return done.stdout.decode().splitlines()

    def test_plain_files(self):
        self.assertEqual([], [line for line in self.git("ls-files", "-s") if not line.startswith("100")])
        self.assertEqual([], self.git("ls-files", "-c", "-i", "--exclude-standard"))

    def test_no_folder_of_one_machine(self):
        self.assertEqual([], self.git("grep", "-nE", r"/[w]ork/|/[h]ome/[a-z]+/|/[r]oot/|/[t]mp/w/"))


if __name__ == "__main__":
    unittest.main()
