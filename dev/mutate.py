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
from mutations import NOT_RUN, SURVIVES, Row, check, dump, load, page_of, places, renamed, results_of

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROWS, PAGE = "dev/mutations.txt", "test/mutations.md"
FLAGS = (
    "-x c++ -std=c++17 -I. -include mutant.h -O1 -march=native -fno-math-errno -fno-trapping-math -fno-signed-zeros "
    "-fassociative-math -freciprocal-math -fopenmp -DONEDNN -DDOCTEST_CONFIG_SUPER_FAST_ASSERTS"
).split()
IN_DOUBLE = ("test_gradients", "test_fixtures", "test_gpt_gradients", "test_sft")
LIBRARIES = ("-fopenmp", "-lopenblas", "-ldnnl", "-lutf8proc")
MUTANT_H = '#include <cstdlib>\ninline const int mutant = getenv("MUTANT") ? atoi(getenv("MUTANT")) : 0;\n'
ASSIGNMENTS = "= += -= *= /= %= &= |= ^= <<= >>=".split()


def read(path):
    with open(os.path.join(TOP, path), encoding="utf8") as f:
        return f.read()


def write(path, text):
    path = os.path.join(TOP, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf8") as f:
        f.write(text)


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
    command, *names = sys.argv[1:] or [""]
    if command in ("-h", "--help"):
        print(__doc__)
        return 0
    if (
        command.startswith("--")
        and command not in ("--check", "--fix", "--rename", "--table")
        or (command == "--rename") != bool(names)
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

    if command == "--table":
        write(PAGE, page_of(rows, results))
        return 0
    if command == "--rename":
        into = dict(zip(names[::2], names[1::2]))
        for key, result in results.items():
            results[key] = re.sub(r"^\w+", lambda test: into.get(test[0], test[0]), result)
        save({row: renamed(code, row, into) for row in rows})
        return 0

    wrong = list(check(code, rows, tests))
    for row, what, fixed in wrong:
        print(f"{row.function}: {row.code}  =>  {row.new}\n    {what}")
        if fixed:
            print(f"    {'now' if command == '--fix' else '--fix:'} {fixed.function}: {fixed.code}  =>  {fixed.new}")
    if command == "--fix":
        save({row: fixed for row, _, fixed in wrong if fixed})
        return int(any(not fixed for _, _, fixed in wrong))
    print(f"{len(rows) - len(wrong)} of {len(rows)} mutations are one place of the code")
    if command == "--check":
        in_step = page_of(rows, results) == read(PAGE)
        if not in_step:
            print(f"{PAGE} has other rows than {ROWS}: python3 dev/mutate.py --table")
        return int(bool(wrong) or not in_step)
    if wrong:
        return 1
    chosen = [row for row in rows if re.search(command, " ".join((places(code, row)[0].piece.path, *row[:3])))]
    try:
        run(code, chosen, tests, results)
    finally:
        write(PAGE, page_of(rows, results))
    survivors = [row for row in chosen if results[row.function, row.code, row.new] == SURVIVES]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutations are caught")
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main())
