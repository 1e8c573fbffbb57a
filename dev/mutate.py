#!/usr/bin/env python3
"""Breaks the code in one place at a time and looks whether a test notices.

    python3 dev/mutate.py [REGEX]          runs the mutations in whose file, function or text REGEX is found (all without it)
                                           and writes what caught each of them into test/mutations.md
    python3 dev/mutate.py --check          is every mutation of dev/mutations.txt still one place of the code? (seconds)
    python3 dev/mutate.py --fix            the same, and rewrites those of which it is clear what they have become
    python3 dev/mutate.py --rename OLD NEW [OLD NEW ...]
                                           rewrites the mutations after something was renamed: an identifier, a function with
                                           its struct (Bpe::encode), or a few tokens (dropout.at dropout.counters)
    python3 dev/mutate.py --table          writes test/mutations.md again, with the results it has

A mutation names a function and a piece of its code, with the place that changes in [[ ]], and says what stands there instead
("nothing" takes a statement away). The code is compared token by token, so that white space, line breaks, comments and braces do not
matter, nor in which file the function is; commas and semicolons count as the same. The piece has to occur once in the function.

All mutations go into one copy of the tree, each as (mutant == 17 ? wrong : right), so that the tests are built once; the environment
variable MUTANT says which one is alive. Hence a place is a whole expression; a statement is an expression of type void.
Only code that the CPU runs is mutated: what is compiled for a GPU or its emulation alone is not looked at.
"""
import collections
import concurrent.futures
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile

import cpp

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROWS, TABLE = os.path.join(TOP, "dev/mutations.txt"), os.path.join(TOP, "test/mutations.md")
FLAGS = ("-x c++ -std=c++17 -O1 -march=native -fno-math-errno -fno-trapping-math -fno-signed-zeros -fassociative-math "
         "-freciprocal-math -fopenmp -DNO_MAIN -DDOCTEST_CONFIG_SUPER_FAST_ASSERTS -include mutant.h -I. -Itest").split()
LIBRARIES = ["-lopenblas", "-lutf8proc"]
TESTS = {"gradients": ["-DPRECISION_FP64"], "fixtures": ["-DPRECISION_FP64"], "ops": [], "classifier": [], "metrics": [],
         "labelled": [], "bin": [], "bpe": [], "gpt_gradients": ["-DPRECISION_FP64"], "gpt": [], "sft": ["-DPRECISION_FP64"],
         "instruct": []}
ASSIGNMENTS = "= += -= *= /= %= &= |= ^= <<= >>=".split()
MUTANT_H = """#include <cstdlib>
inline const int mutant = getenv("MUTANT") ? atoi(getenv("MUTANT")) : 0;
"""

def read(path):
    with open(path, encoding="utf8") as f:
        return f.read()


def write(path, text):
    with open(path, "w", encoding="utf8") as f:
        f.write(text)


# ---- rows of dev/mutations.txt

Row = collections.namedtuple("Row", "function test text new")  # text: C++ with [[the place]]; new: C++ or "nothing"


def load(text):
    """Rows, with comments and empty lines between them as they are. A line that is not indented is a function and the test that is asked
    first; each row below it is  text => new  and continues in lines that are indented by more than four spaces."""
    items, above = [], ()
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            items.append(line)
        elif not line.startswith(" "):
            above = line.split()
        elif line.startswith("     "):
            items[-1][2] += " " + line.strip()
        else:
            items.append([*above, line.strip()])
    return [item if isinstance(item, str) else Row(*item[:2], *map(str.strip, item[2].rsplit("=>", 1))) for item in items]


def dump(items):
    lines, above = [], None
    for item in items:
        if isinstance(item, str):
            lines.append(item)
            continue
        if above != item[:2]:
            lines.append(f"{item.function}  {item.test}")
            above = item[:2]
        parts = [f"    {item.text}  =>  {item.new}"]
        if len(parts[0]) > 120:
            parts = ["    " + item.text, f"        =>  {item.new}"]
        for part in parts:
            lines.append("")
            for word in re.split(r"(?<! ) (?! )", part):
                if len(lines[-1]) + len(word) >= 120:
                    lines.append(" " * 7)
                lines[-1] += " " * (lines[-1] != "") + word
    return "\n".join(lines) + "\n"


def pattern(row):
    """The compared texts of a row, and where among them its place begins and ends."""
    tokens = cpp.tokenize(row.text)
    pairs = cpp.closing(tokens)
    opened = next((i for i, t in enumerate(tokens) if t.text == "[" and pairs.get(i + 1, -2) + 1 == pairs.get(i)
                   and tokens[i + 1].start == t.end), None)
    if opened is None or pairs[opened] - opened < 4:
        sys.exit(f"{row.function}: expected a [[place]] in: {row.text}")
    closed = pairs[opened] - 1
    flat = cpp.plain(tokens[:opened] + tokens[opened + 2:closed] + tokens[closed + 2:])
    return [t for t, _, _ in flat], sum(i < opened for _, i, _ in flat), sum(i < closed - 2 for _, i, _ in flat)


class Place(collections.namedtuple("Place", "piece begin first last end")):
    """Where a row is in the code: at the texts [begin, end) of a piece, the place itself at [first, last)."""

    def tokens(self, begin, end):
        return range(self.piece.plain[begin][1], self.piece.plain[end - 1][2] + 1)

    def span(self):
        inside = self.tokens(self.first, self.last)
        return self.piece.tokens[inside[0]].start, self.piece.tokens[inside[-1]].end

    def line(self):
        return f"{self.piece.path}:{self.piece.source.count(chr(10), 0, self.span()[0]) + 1}"

    def text(self):
        """The row's text as the code has it now."""
        inside, out = self.tokens(self.first, self.last), ""
        for i in self.tokens(self.begin, self.end):
            t = self.piece.tokens[i]
            out += " " * (out != "" and t.start > self.piece.tokens[i - 1].end) + "[[" * (i == inside[0]) + t.text + "]]" * (i == inside[-1])
        return out

    def whole(self):
        """Is the place an expression of its own, which parentheses around it would not change?"""
        tokens, inside = self.piece.tokens, self.tokens(self.first, self.last)
        texts, i, depth, loosest = [t.text for t in tokens] + [""], inside[0], 0, 99
        while i in inside:
            depth += (texts[i] in cpp.OPENS) - (texts[i] in cpp.CLOSES)
            if depth < 0 or depth == 0 and texts[i] in ",;":
                return False
            if depth == 0 and texts[i] == "<" and (args := re.match(r"<( [\w:,]+)+ >(?= [(:])", " ".join(texts[i:i + 20]))):
                i += args[0].count(" ")  # arguments of a template
            elif depth == 0 and i > inside[0] and cpp.binary(tokens, i):
                loosest = min(loosest, cpp.RANK[texts[i]])
            i += 1
        before, after = texts[inside[0] - 1], texts[inside[-1] + 1]
        if before == ")":
            opened = {v: k for k, v in cpp.closing(tokens).items()}[inside[0] - 1]
            left = 0 if texts[opened - 1] in ("if", "for", "while", "switch") else 98  # else a cast
        elif before in "([{,;}?:" or before in ("return", "else", "do", "case"):
            left = 0
        elif before in cpp.RANK:
            left = (cpp.RANK[before] or -1) + 1 if cpp.binary(tokens, inside[0] - 1) else 98
        else:
            left = 98 if before in ("!", "~", "++", "--") else 100
        if after in (".", "->", "(", "[", "++", "--"):
            right = 100 if texts[inside[0]] in ("!", "-", "+", "*", "&", "~", "++", "--") else 98
        else:
            right = 0 if after in ")]},;:" else 100 if cpp.RANK.get(after, 0) == 0 else cpp.RANK[after] + (after == "?")
        return depth == 0 and loosest >= left and loosest >= right


def places(code, row):
    """All places that a row fits, in the pieces that have the name of its function."""
    want, first, last = pattern(row)
    return [Place(p, k, k + first, k + last, k + len(want)) for p in cpp.named(code, row.function) for k in range(len(p.texts) - len(want) + 1)
            if p.texts[k] == want[0] and p.texts[k:k + len(want)] == want]


def nearest(code, row):
    """The place in the row's function that differs least from it, what is written otherwise there, and whether it is clearly the row's."""
    want, first, last = pattern(row)
    names = re.compile(r"[A-Za-z_]")
    best = []
    for piece in cpp.named(code, row.function):
        have = piece.texts
        # cost[i][j]: the fewest changes from the first i texts of the row to some texts of the piece that end at j
        cost = [[0] * (len(have) + 1)]
        for i, w in enumerate(want):
            line, above = [i + 1], cost[-1]
            for j, h in enumerate(have):
                line.append(min(above[j] + (w != h and 2 - bool(names.match(w) and names.match(h))), above[j + 1] + 1, line[j] + 1))
            cost.append(line)
        best += [(c, piece, cost, j) for j, c in enumerate(cost[-1])]
    if not best:
        return None
    least = min(b[0] for b in best)
    ...


def nearest(code, row):
    """The place in the row's function that differs least from the row; what differs; and the row for that place where it is beyond doubt
    that this is what it has become: a few names changed or something came in between, there is no second such place."""
    want, first, last = pattern(row)
    ends = []  # (changes, piece, where it ends, pairs of equal or changed texts as a linked list) of the cheapest way to each end
    for piece in cpp.named(code, row.function):
        line = [(0, None)] * (len(piece.texts) + 1)
        for i, w in enumerate(want):
            above, line = line, [(i + 1, None)]
            for j, h in enumerate(piece.texts):
                line.append(min((above[j][0] + (w != h), (above[j][1], i, j)), (above[j + 1][0] + 1, above[j + 1][1]), (line[j][0] + 1, line[j][1]),
                                key=lambda cell: cell[0]))
        ends += [(n, piece, j, pairs) for j, (n, pairs) in enumerate(line) if pairs]
    if not ends:
        return None, [], None
    n, piece, end, link = min(ends, key=lambda e: e[0])
    doubt = sum(e[0] <= n and (e[1] is not piece or abs(e[2] - end) > len(want) // 2) for e in ends)
    pairs = []
    while link:
        link, *pair = link
        pairs.insert(0, pair)
    texts, begin, end = piece.texts, pairs[0][1], pairs[-1][1] + 1
    into = {want[i]: texts[j] for i, j in pairs if want[i] != texts[j]}
    differs = [f"{a} -> {b}" for a, b in into.items()]
    differs += ["missing: " + want[i] for i in range(len(want)) if i not in [p[0] for p in pairs]]
    differs += ["new: " + texts[j] for j in range(begin, end) if j not in [p[1] for p in pairs]]
    inside = [j for i, j in pairs if first <= i < last]
    if not inside:
        return Place(piece, begin, begin, end, end), differs, None
    low = max([j + 1 for i, j in pairs if i < first], default=begin)
    high = min([j for i, j in pairs if i >= last], default=end)
    found = next((p for f in range(inside[0], low - 1, -1) for l in range(inside[-1] + 1, high + 1)
                  for p in [Place(piece, begin, f, l, end)] if p.whole()), None)
    if doubt or not found or 4 * n > len(want) + 1 or not all(re.match(r"[A-Za-z_]", a) and re.match(r"[A-Za-z_]", b) for a, b in into.items()):
        return found or Place(piece, begin, inside[0], inside[-1] + 1, end), differs, None
    new = row.new
    for old, now in into.items():
        new = renamed(new, old, now)
    if [t.text for t in cpp.tokenize(new)] == [t.text for t in cpp.tokenize(re.search(r"\[\[(.*)\]\]", found.text())[1])]:
        return found, differs, None
    return found, differs, Row(row.function, row.test, found.text(), new)


def renamed(text, old, new):
    """A text in which some tokens in a row are spelled otherwise."""
    tokens, want = cpp.tokenize(text), [t.text for t in cpp.tokenize(old)]
    for i in reversed(range(len(tokens) - len(want) + 1)):
        if [t.text for t in tokens[i:i + len(want)]] == want:
            text = text[:tokens[i].start] + new + text[tokens[i + len(want) - 1].end:]
    return text

def check(code, rows):
    """(row, what is wrong with it, the row to put in its place or None) of all that are not one place of the code."""
    for number, row in enumerate(rows):
        found = places(code, row)
        if row.test not in TESTS:
            yield row, f"there is no test {row.test} among {' '.join(TESTS)}", None
        elif row in rows[:number]:
            yield row, "is there twice", None
        elif len(found) > 1:
            yield row, "occurs more than once, add some of the code beside it:" + "".join(f"\n    {p.line()}" for p in found), None
        elif found and not found[0].whole():
            yield row, f"the place is not a whole expression: {found[0].line()}", None
        elif not found:
            near, differs, fixed = nearest(code, row)
            elsewhere = [p for some in code.values() for piece in some
                         for p in places({piece.name.split("::")[-1]: [piece]}, row._replace(function=piece.name))]
            if not fixed and len(elsewhere) == 1 and len(pattern(row)[0]) > 4:
                yield row, f"is now in {elsewhere[0].piece.name}: {elsewhere[0].line()}", row._replace(function=elsewhere[0].piece.name)
            elif near:
                yield row, f"is not there; nearest: {near.line()}\n    {near.text()}\n    {', '.join(differs)}", fixed
            else:
                yield row, "there is no such function", None


def rename(code, row, old, new):
    """The row with some tokens in a row spelled otherwise, if its function has none of them any more, or is not there."""
    if any(renamed(p.source[p.tokens[0].start:p.tokens[-1].end], old, old + " ") != p.source[p.tokens[0].start:p.tokens[-1].end]
           for p in cpp.named(code, row.function)):
        return row
    return Row(renamed(row.function, old, new), row.test, renamed(row.text, old, new), renamed(row.new, old, new))


# ---- the results

PAGE = """# Mutations

Do the tests notice when something is wrong? `python3 dev/mutate.py` breaks the code in one place at a time, as `dev/mutations.txt` says,
and runs the tests until one fails. It also makes this page: {caught} of {all} mutations are caught. The code in [[ ]] is replaced by what is in
the third column; "nothing" takes a statement away. "Caught by" is the first test case that fails, in the last run that the row was part of.

| function | code | instead | caught by |
|---|---|---|---|
"""
NOT_RUN, SURVIVES = "not run yet", "**survives**"


def table(rows, results):
    lines, caught = [], 0
    for row in rows:
        result = results.get((row.function, row.text, row.new), NOT_RUN)
        caught += result not in (NOT_RUN, SURVIVES)
        cells = [f"`{row.function}`", f"`{row.text}`", row.new if row.new == "nothing" else f"`{row.new}`", result]
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |\n")
    return PAGE.replace("{caught}", str(caught)).replace("{all}", str(len(rows))) + "".join(lines)


def recorded(page):
    """What caught each row, as the page says: by function, text and what stands instead."""
    lines = [[c.replace("\\|", "|").strip("`") for c in text.removeprefix("| ").removesuffix(" |").split(" | ")] for text in page.splitlines() if text.startswith("| `")]
    return {tuple(cells[:3]): cells[3] for cells in lines if len(cells) == 4}


# ---- running

def mutated(source, places):
    """A file's text with the (number, Place, row) in it; places may lie in one another."""
    spans = {}
    for number, place, row in places:
        spans.setdefault(place.span(), []).append((number, place, row))

    def render(low, high, todo):
        out, at = "", low
        while todo:
            start, end = todo[0]
            inner = [s for s in todo[1:] if s[0] < end]
            code = render(start, end, inner)
            for number, place, row in spans[start, end]:
                assigns = any(place.piece.tokens[i].text in ASSIGNMENTS for i in place.tokens(place.first, place.last))
                if row.new == "nothing":
                    code = f"(mutant == {number} ? (void)0 : (void)({code}))"
                elif assigns:
                    code = f"(mutant == {number} ? (void)({row.new}) : (void)({code}))"
                else:
                    code = f"(mutant == {number} ? ({row.new}) : ({code}))"
            out += source[at:start] + code
            todo, at = todo[1 + len(inner):], end
        return out + source[at:high]
    return render(0, len(source), sorted(spans, key=lambda s: (s[0], -s[1])))


def copy_tree(code, rows, to):
    """The tests, and the sources with all rows in them, each as the mutant of its number from 1."""
    shutil.copytree(os.path.join(TOP, "test"), os.path.join(to, "test"))
    found = collections.defaultdict(list)
    for number, row in enumerate(rows, 1):
        place, = places(code, row)
        found[place.piece.path].append((number, place, row))
    for path in cpp.sources(TOP):
        os.makedirs(os.path.dirname(os.path.join(to, path)), exist_ok=True)
        write(os.path.join(to, path), mutated(read(os.path.join(TOP, path)), found[path]))
    write(os.path.join(to, "mutant.h"), MUTANT_H)


def run(code, rows):
    """What caught each row."""
    with tempfile.TemporaryDirectory(prefix="mutate_") as tree, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        copy_tree(code, rows, tree)
        tests = {f[:-len(".cpp")]: os.path.relpath(os.path.join(folder, f), tree)
                 for folder, _, files in os.walk(os.path.join(tree, "test")) for f in files if f.endswith(".cpp")}
        shared = [tests["main"]] + [p for p in cpp.sources(tree) if p.endswith(".cpp") and all(m.path != p for m in code["main"])]

        def command(*words, **more):
            return subprocess.run(["nice", "-n", "10", *words], cwd=tree, capture_output=True, text=True, **more)

        def build(source, target, *flags):
            done = command(*["ccache"] * bool(shutil.which("ccache")), "g++", *FLAGS, *flags, "-c", source, "-o", target)
            if done.returncode:
                sys.exit(f"{source} does not compile:\n{done.stderr[:4000]}")

        def caught_by(test, number):
            """The test case that fails, or None."""
            try:
                done = command(f"./{test}", "--abort-after=1", "--no-colors", env={**os.environ, "MUTANT": str(number)}, timeout=300,
                               preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30)))  # for endless loops that want all of it
            except subprocess.TimeoutExpired:
                return f"test_{test}: hangs"
            case = re.search(r"TEST CASE:  (.*)", done.stdout)
            return None if done.returncode == 0 else f"test_{test}: {case[1] if case else 'crashes'}"

        def ask(number, ready):
            first = rows[number - 1].test
            return next(filter(None, (caught_by(test, number) for test in sorted(ready, key=lambda t: t != first))), SURVIVES)

        result = [SURVIVES] * len(rows)
        list(pool.map(lambda i: build(shared[i], f"{i}.o"), range(len(shared))))
        for ready in ([t for t in TESTS if any(r.test == t for r in rows)], [t for t in TESTS if all(r.test != t for r in rows)]):
            left = [n for n in range(1, len(rows) + 1) if result[n - 1] == SURVIVES]  # the second time: by the tests that nobody asks first
            if not left:
                break
            list(pool.map(lambda t: build(tests["test_" + t], t + ".o", *TESTS[t]), ready))
            for test in ready:
                done = command("g++", "-fopenmp", test + ".o", *(f"{i}.o" for i in range(len(shared))), *LIBRARIES, "-o", test)
                if done.returncode or (found := caught_by(test, 0)):
                    sys.exit(done.stderr or f"without a mutation there is a failure: {found}")
            for n, found in zip(left, pool.map(lambda n: ask(n, ready), left)):
                result[n - 1] = found
    return result


def main():
    verb, args = (sys.argv[1:] or [""])[0], sys.argv[2:]
    if verb in ("-h", "--help"):
        print(__doc__)
        return 0
    items, code, results = load(read(ROWS)), cpp.pieces(TOP), recorded(read(TABLE))
    rows = [i for i in items if isinstance(i, Row)]
    into = {}  # rows that change
    if verb == "--rename":
        if not args or len(args) % 2:
            sys.exit("--rename: expected OLD NEW")
        for row in rows:
            new = row
            for old, now in zip(args[::2], args[1::2]):
                new = rename(code, new, old, now)
            into[row] = new
    wrong = [] if verb in ("--rename", "--table") else list(check(code, rows))
    if verb == "--fix":
        into = {row: fixed for row, _, fixed in wrong if fixed}
    for row, what, fixed in wrong:
        print(f"{row.function}: {row.text}  =>  {row.new}\n    {what}")
        if fixed:
            print(f"    {'now' if verb == '--fix' else '--fix would make it'} {fixed.function}: {fixed.text}  =>  {fixed.new}")
    if not verb.startswith("--"):
        if wrong:
            return 1
        chosen = [row for row in rows if re.search(verb, " ".join((places(code, row)[0].piece.path, row.function, row.text)))]
        for row, result in zip(chosen, run(code, chosen)):
            results[row.function, row.text, row.new] = result
            print(f"{row.function}: {row.text}  =>  {row.new}: {result}")
    if verb in ("--fix", "--rename"):
        for row, new in into.items():
            results[new.function, new.text, new.new] = results.get((row.function, row.text, row.new), NOT_RUN)
        rows = [into.get(row, row) for row in rows]
        write(ROWS, dump([into.get(item, item) for item in items]))
        print(f"{sum(row != new for row, new in into.items())} rows changed")
    page = table(rows, results)
    if verb == "--check":
        print(f"{len(rows) - len(wrong)} of {len(rows)} mutations are one place of the code")
        if page != read(TABLE):
            print("test/mutations.md has other rows than dev/mutations.txt: dev/mutate.py --table")
            return 1
    else:
        write(TABLE, page)
    return 1 if any(row not in into for row, _, _ in wrong) or SURVIVES in page else 0


if __name__ == "__main__":
    sys.exit(main())
