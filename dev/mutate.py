#!/usr/bin/env python3
"""Breaks the code in one place at a time and looks whether a test notices.

python3 dev/mutate.py [REGEX]   runs the mutations of dev/mutations.txt, or those in whose file, function, code or test
                                REGEX is found, and writes what caught each of them into test/mutations.md
python3 dev/mutate.py --check   is every mutation one place of the code? (seconds; make test asks as well)
python3 dev/mutate.py --fix     the same, and rewrites those of which it is clear what they have become
python3 dev/mutate.py --rename OLD NEW [OLD NEW ...]
                                follows the code when something in it was renamed: a variable, a function, a struct with
                                its method (Bpe::encode), a member (dropout.at dropout.counters), a test (test_bin)
python3 dev/mutate.py --table   writes test/mutations.md again, with the results that it has

A mutation names a function and some of its code, with the place that changes in [[ ]], and says what stands there
instead; "nothing" takes a statement away. The code is compared token by token: white space, line breaks, comments,
braces and the file that the function is in do not matter, and a comma is as good as a semicolon. It has to occur once.

All mutations go into one copy of the tree, each as (mutant == 17 ? wrong : right), so that the tests are built once;
the environment variable MUTANT says which one is alive. A place is therefore a whole expression; a statement is one of
type void. Only code that the CPU runs is mutated.
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
ROWS, PAGE = "dev/mutations.txt", "test/mutations.md"
FLAGS = (
    "-x c++ -std=c++17 -I. -include mutant.h -O1 -march=native -fno-math-errno -fno-trapping-math -fno-signed-zeros "
    "-fassociative-math -freciprocal-math -fopenmp -DNO_MAIN -DDOCTEST_CONFIG_SUPER_FAST_ASSERTS"
).split()
IN_DOUBLE = ("test_gradients", "test_fixtures", "test_gpt_gradients", "test_sft")
LIBRARIES = ("-fopenmp", "-lopenblas", "-lutf8proc")
MUTANT_H = '#include <cstdlib>\ninline const int mutant = getenv("MUTANT") ? atoi(getenv("MUTANT")) : 0;\n'
ASSIGNMENTS = "= += -= *= /= %= &= |= ^= <<= >>=".split()
NOT_RUN, SURVIVES = "not run yet", "**survives**"

# test: who is asked first. code: C++ with the [[place]]. new: C++ in its stead, or "nothing"
Row = collections.namedtuple("Row", "function test code new")


def read(path):
    with open(os.path.join(TOP, path), encoding="utf8") as f:
        return f.read()


def write(path, text):
    path = os.path.join(TOP, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf8") as f:
        f.write(text)


# ---------------------------------------------------------------- dev/mutations.txt and test/mutations.md
def load(text):
    """Rows, with comments and empty lines between them as strings. A line that is not indented is a function and a
    test; a row below it is  code  =>  new  and continues in lines that are indented by more than four spaces."""
    items, above = [], ()
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            items.append(line)
        elif not line.startswith(" "):
            above = line.split()
        elif line.startswith("     "):
            items[-1][-1] += " " + line.strip()
        else:
            items.append([*above, line.strip()])
    return [i if isinstance(i, str) else Row(*i[:2], *(part.strip() for part in i[2].rsplit("=>", 1))) for i in items]


def dump(items):
    lines, above = [], None
    for item in items:
        if isinstance(item, str):
            lines.append(item)
            continue
        if above != item[:2]:
            lines.append(f"{item.function}  {item.test}")
            above = item[:2]
        parts = [f"    {item.code}  =>  {item.new}"]
        if len(parts[0]) > 120:
            parts = ["    " + item.code, f"        =>  {item.new}"]
        for part in parts:
            lines.append("")
            for word in re.split(r"(?<! ) (?! )", part):
                if len(lines[-1]) + len(word) >= 120:
                    lines.append(" " * 7)
                lines[-1] += " " * (lines[-1] != "") + word
    return "\n".join(lines) + "\n"


def page_of(rows, results):
    lines = []
    for row in rows:
        cells = [f"`{row.function}`", f"`{row.code}`", "nothing" if row.new == "nothing" else f"`{row.new}`"]
        cells.append(results.get((row.function, row.code, row.new), NOT_RUN))
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |\n")
    caught = sum(not line.endswith((f" {NOT_RUN} |\n", f" {SURVIVES} |\n")) for line in lines)
    return f"""# Mutations

Do the tests notice when something is wrong? `python3 dev/mutate.py` breaks the code in one place at a time, as
`dev/mutations.txt` says, runs the tests until one fails, and writes this page: {caught} of {len(rows)} mutations are
caught. The code in [[ ]] is replaced by the third column; "nothing" takes a statement away. "Caught by" is the first
test case that failed in the last run that the row was part of.

| function | code | instead | caught by |
|---|---|---|---|
{"".join(lines)}"""


def results_of(page):
    """What caught each row, by function, code and what stands instead."""
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    return {tuple(c.strip("`").replace("\\|", "|") for c in line[:3]): line[3].replace("\\|", "|") for line in lines}


# ---------------------------------------------------------------- rows and the code
class Place:
    """Where a row is: its code is [begin, end) of what is compared of a piece, and what changes is [first, last)."""

    def __init__(self, piece, begin, first, last, end):
        self.piece, self.tokens = piece, piece.tokens
        self.code = range(piece.compared[begin][1], piece.compared[end - 1][2] + 1)  # numbers of tokens
        self.place = range(piece.compared[first][1], piece.compared[last - 1][2] + 1)
        self.span = self.tokens[self.place[0]].start, self.tokens[self.place[-1]].end  # bytes of the file
        self.line = f"{piece.path}:{piece.source.count(chr(10), 0, self.span[0]) + 1}"

    def spelled(self):
        """The row's code as it stands there, in one line."""
        out = ""
        for i in self.code:
            gap = " " if i > self.code[0] and self.tokens[i].start > self.tokens[i - 1].end else ""
            out += gap + "[[" * (i == self.place[0]) + self.tokens[i].text + "]]" * (i == self.place[-1])
        return out

    def whole(self):
        """Can it be an expression: no bracket is left open, no statement ends, no member or scope is cut off."""
        texts, depth = [self.tokens[i].text for i in self.place], 0
        for text in texts:
            depth += (text in ("(", "[", "{")) - (text in (")", "]", "}"))
            if depth < 0 or (depth == 0 and text in (",", ";")):
                return False
        before = self.tokens[self.place[0] - 1].text
        return depth == 0 and texts[0] != "[" and not {before, texts[0], texts[-1]} & {".", "->", "::"}


def wanted(row):
    """What is compared of a row, and where in it the place begins and ends."""
    tokens = cpp.tokenize(row.code)
    texts = [t.text for t in tokens]
    pairs = cpp.closing(texts)
    for i in cpp.occurrences(texts, ["[", "["]):
        if pairs.get(i, 0) - 1 == pairs.get(i + 1) > i + 2 and tokens[i].end == tokens[i + 1].start:
            last = pairs[i + 1]
            found = cpp.comparable(tokens[:i] + tokens[i + 2 : last] + tokens[last + 2 :])
            return [t for t, _, _ in found], sum(k < i for _, k, _ in found), sum(k < last - 2 for _, k, _ in found)
    sys.exit(f"{ROWS}: {row.function}: expected a [[place]] in: {row.code}")


def fits(pieces, row):
    """All places in some pieces that a row fits."""
    texts, first, last = wanted(row)
    found = [(piece, k) for piece in pieces for k in cpp.occurrences(piece.texts, texts)]
    return [Place(piece, k, k + first, k + last, k + len(texts)) for piece, k in found]


def places(code, row):
    """Those in its function."""
    return fits(cpp.named(code, row.function), row)


def align(texts, pieces):
    """Where some texts are most nearly: (changes, piece, {number of a text: number of what stands for it in the piece},
    is there a second place as near)."""
    ends = []  # (changes, piece, end, linked list of what stands for what): the cheapest way to each end in each piece
    for piece in pieces:
        line = [(0, None)] * (len(piece.texts) + 1)
        for i, want in enumerate(texts):
            above, line = line, [(i + 1, None)]
            for j, have in enumerate(piece.texts):
                same = above[j][0] + (want != have), (above[j][1], i, j)
                gone, new = above[j + 1], line[j]
                line.append(min(same, (gone[0] + 1, gone[1]), (new[0] + 1, new[1]), key=lambda way: way[0]))
        ends += [(changes, piece, end, link) for end, (changes, link) in enumerate(line) if link]
    if not ends:
        return None
    changes, piece, end, link = min(ends, key=lambda e: e[0])
    second = any(e[0] <= changes and (e[1] is not piece or abs(e[2] - end) > len(texts) // 2) for e in ends)
    stands = {}
    while link:
        link, i, j = link
        stands[i] = j
    return changes, piece, stands, second


def nearest(code, row):
    """(place, what differs, the row as it would be there or None) of the code that differs least, in the row's function
    or, if that is gone, anywhere. The row is given where there is little doubt: a few names are others or something
    came between, and no second place is as near."""
    texts, first, last = wanted(row)
    here = cpp.named(code, row.function)
    alike = [
        p for some in code.values() for p in some if 4 * len(set(texts).intersection(p.texts)) > 3 * len(set(texts))
    ]
    found = align(texts, here or alike)
    if not found:
        return None, "", None
    changes, piece, stands, doubt = found
    begin, end = min(stands.values()), max(stands.values()) + 1
    now = collections.defaultdict(set)
    for i, j in stands.items():
        now[texts[i]].add(piece.texts[j])
    differs = [f"{old} is {new}" for old in now for new in now[old] if new != old]
    differs += [f"{text} is gone" for i, text in enumerate(texts) if i not in stands]
    differs += [f"{piece.texts[j]} is new" for j in range(begin, end) if j not in stands.values()]
    # the place, with what came in at its borders if it is no expression without
    inside = [j for i, j in stands.items() if first <= i < last] or [begin]
    low = max((j + 1 for i, j in stands.items() if i < first), default=begin)
    high = min((j for i, j in stands.items() if i >= last), default=end)
    borders = [(a, b) for a in range(min(inside), low - 1, -1) for b in range(max(inside) + 1, high + 1)]
    place = next((p for p in (Place(piece, begin, a, b, end) for a, b in borders) if p.whole()), None)
    doubt = doubt or 4 * changes > len(texts) + 1 or len(stands) < len(texts) or (not here and len(texts) < 8)
    names = [text for old in now for text in (old, *now[old]) if now[old] != {old}]
    if not place or doubt or not all(name[0].isalpha() or name[0] == "_" for name in names):
        return place or Place(piece, begin, begin, end, end), ", ".join(differs), None
    new = cpp.respelled(row.new, {old: min(now[old]) for old in now if len(now[old]) == 1})
    function = row.function if here else piece.name
    return place, ", ".join(differs), Row(function, row.test, place.spelled(), new)


def check(code, rows, tests):
    """(row, what is wrong with it, what it may become or None) of all that are not one place of the code."""
    found = {row: places(code, row) for row in rows}
    taken = {(p.piece.path, p.span, row.new) for row in rows for p in found[row]}
    for row in rows:
        if row.test not in tests:
            yield row, f"there is no {row.test}.cpp in test/", None
        elif rows.count(row) > 1:
            yield row, "stands there twice", None
        elif len(found[row]) > 1:
            yield row, "occurs more than once, needs more of the code: " + ", ".join(p.line for p in found[row]), None
        elif not found[row]:
            place, differs, fixed = None, "", None
            away = fits([piece for some in code.values() for piece in some], row)
            if len(away) == 1:
                place, name = away[0], away[0].piece.name
                if len(wanted(row)[0]) > 4 or name.split("::")[-1] == row.function.split("::")[-1]:
                    fixed = row._replace(function=name)
            else:
                place, differs, fixed = nearest(code, row)
            if fixed and ((place.piece.path, place.span, fixed.new) in taken or len(places(code, fixed)) != 1):
                fixed = None
            near = f", but at {place.line} in {place.piece.name}: {place.spelled()}\n    {differs}" if place else ""
            yield row, "is not there" + near.rstrip(), fixed
        elif not found[row][0].whole():
            yield row, f"is no whole expression: {found[row][0].line}", None


def renamed(code, row, into):
    """A row after renamings {old: new}: all if it fits only then, else those of names that its function has no more."""

    def after(into):
        return Row(*(cpp.respelled(text, into) for text in row))

    if len(places(code, row)) != 1 and len(places(code, after(into))) == 1:
        return after(into)
    here = [t.text for piece in cpp.named(code, row.function) for t in piece.tokens]
    return after(
        {old: new for old, new in into.items() if not cpp.occurrences(here, [t.text for t in cpp.tokenize(old)])}
    )


# ---------------------------------------------------------------- running them
def mutated(source, found):
    """A file's text with all (number, place, row) of it in it; one place may lie in another."""
    spans = collections.defaultdict(list)
    for number, place, row in found:
        spans[place.span].append((number, place, row))

    def render(low, high, todo):
        out, at = "", low
        while todo:
            start, end = todo[0]
            inner = [span for span in todo[1:] if span[0] < end]
            code = render(start, end, inner)
            for number, place, row in spans[start, end]:
                if row.new == "nothing":
                    code = f"(mutant == {number} ? (void)0 : (void)({code}))"
                elif any(place.tokens[i].text in ASSIGNMENTS for i in place.place):
                    code = f"(mutant == {number} ? (void)({row.new}) : (void)({code}))"
                else:
                    code = f"(mutant == {number} ? ({row.new}) : ({code}))"
            out += source[at:start] + code
            todo, at = todo[1 + len(inner) :], end
        return out + source[at:high]

    return render(0, len(source), sorted(spans, key=lambda span: (span[0], -span[1])))


def copy_tree(code, rows, to):
    """The tests, and the sources with all rows in them, each the mutant of its number from 1."""
    shutil.copytree(os.path.join(TOP, "test"), os.path.join(to, "test"))
    found = collections.defaultdict(list)
    for number, row in enumerate(rows, 1):
        (place,) = places(code, row)
        found[place.piece.path].append((number, place, row))
    for path in cpp.sources(TOP):
        write(os.path.join(to, path), mutated(read(path), found[path]))
    write(os.path.join(to, "mutant.h"), MUTANT_H)


def test_files():
    """The tests in C++, by name, wherever below test/ they are."""
    walk = os.walk(os.path.join(TOP, "test"))
    files = [os.path.relpath(os.path.join(folder, name), TOP) for folder, _, names in walk for name in names]
    return {os.path.basename(f)[:-4]: f for f in files if f.endswith(".cpp")}


def run(code, rows, tests, results):
    """Puts into results what catches each row."""
    compiler = ["ccache", "g++"] if shutil.which("ccache") else ["g++"]
    programs = [main.path for main in code["main"]]
    shared = [tests["main"]] + [p for p in cpp.sources(TOP) if p.endswith(".cpp") and p not in programs]
    asked = {row.test for row in rows}
    others = {row.test for row in load(read(ROWS)) if isinstance(row, Row)} - asked
    with tempfile.TemporaryDirectory(prefix="mutate_") as tree:
        pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
        copy_tree(code, rows, tree)

        def command(*words, **more):
            return subprocess.run(["nice", "-n", "10", *words], cwd=tree, capture_output=True, text=True, **more)

        def build(source, target, *flags):
            done = command(*compiler, *FLAGS, *flags, "-c", source, "-o", target)
            if done.returncode:
                sys.exit(f"{source} does not compile:\n{done.stderr[:4000]}")

        def build_test(test):
            build(tests[test], f"{test}.o", *(["-DPRECISION_FP64"] if test in IN_DOUBLE else []))
            done = command("g++", f"{test}.o", *(f"{i}.o" for i in range(len(shared))), *LIBRARIES, "-o", test)
            if done.returncode:
                sys.exit(f"{test} does not link:\n{done.stderr[:4000]}")

        def caught_by(test, number):
            """The test case that fails, or None."""
            run = {"env": {**os.environ, "MUTANT": str(number), "OMP_NUM_THREADS": "2"}, "timeout": 300}
            memory = 8 << 30  # an endless loop may want all there is
            run["preexec_fn"] = lambda: resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
            try:
                done = command(f"./{test}", "--abort-after=1", "--no-colors", **run)
            except subprocess.TimeoutExpired:
                return f"{test}: hangs"
            case = re.search(r"TEST CASE:  (.*)", done.stdout)
            return None if done.returncode == 0 else f"{test}: {case[1] if case else 'crashes'}"

        def survives(number, ready):
            row = rows[number - 1]
            order = sorted(ready, key=lambda test: (test != row.test, test))
            found = next(filter(None, (caught_by(test, number) for test in order)), None)
            if found or ready is others:
                results[row.function, row.code, row.new] = found or SURVIVES
                print(f"{row.function}: {row.code}  =>  {row.new}: {found or SURVIVES}", flush=True)
            return not found

        list(pool.map(build, shared, (f"{i}.o" for i in range(len(shared)))))
        alive = list(range(1, len(rows) + 1))
        for ready in (asked, others):  # the others only if something survives those that are asked first
            if alive:
                list(pool.map(build_test, sorted(ready)))
                for failure in filter(None, (caught_by(test, 0) for test in ready)):
                    sys.exit(f"without a mutation there is a failure: {failure}")
                left = list(pool.map(lambda number: survives(number, ready), alive))
                alive = [number for number, survived in zip(alive, left) if survived]


def main():
    verb, *names = sys.argv[1:] or [""]
    if verb in ("-h", "--help"):
        print(__doc__)
        return 0
    if (
        verb.startswith("--")
        and verb not in ("--check", "--fix", "--rename", "--table")
        or (verb == "--rename") != bool(names)
        or len(names) % 2
    ):
        print(
            "expected [REGEX], --check, --fix, --table or --rename OLD NEW [OLD NEW ...]; see --help", file=sys.stderr
        )
        return 2
    items, results, code, tests = load(read(ROWS)), results_of(read(PAGE)), cpp.pieces(TOP), test_files()
    rows = [item for item in items if isinstance(item, Row)]

    def save(now):
        """Writes both files, with rows as they are now and their results."""
        for row, new in now.items():
            results[new.function, new.code, new.new] = results.get((row.function, row.code, row.new), NOT_RUN)
        write(ROWS, dump([now.get(item, item) for item in items]))
        write(PAGE, page_of([now.get(row, row) for row in rows], results))
        print(f"{sum(row != new for row, new in now.items())} rows rewritten")

    if verb == "--table":
        write(PAGE, page_of(rows, results))
        return 0
    if verb == "--rename":
        into = dict(zip(names[::2], names[1::2]))
        for key, result in results.items():
            results[key] = re.sub(r"^\w+", lambda test: into.get(test[0], test[0]), result)
        save({row: renamed(code, row, into) for row in rows})
        return 0

    wrong = list(check(code, rows, tests))
    for row, what, fixed in wrong:
        print(f"{row.function}: {row.code}  =>  {row.new}\n    {what}")
        if fixed:
            print(f"    {'now' if verb == '--fix' else '--fix:'} {fixed.function}: {fixed.code}  =>  {fixed.new}")
    if verb == "--fix":
        save({row: fixed for row, _, fixed in wrong if fixed})
        return int(any(not fixed for _, _, fixed in wrong))
    print(f"{len(rows) - len(wrong)} of {len(rows)} mutations are one place of the code")
    if verb == "--check":
        in_step = page_of(rows, results) == read(PAGE)
        if not in_step:
            print(f"{PAGE} has other rows than {ROWS}: python3 dev/mutate.py --table")
        return int(bool(wrong) or not in_step)
    if wrong:
        return 1
    chosen = [row for row in rows if re.search(verb, " ".join((places(code, row)[0].piece.path, *row[:3])))]
    try:
        run(code, chosen, tests, results)
    finally:
        write(PAGE, page_of(rows, results))
    survivors = [row for row in chosen if results[row.function, row.code, row.new] == SURVIVES]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutations are caught")
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main())
