"""dev/mutate.py: its rows find their places in code that was moved, wrapped or renamed, and say what is wrong where
they do not; every row of dev/mutations.txt is one place of this tree.

python3 test/scripts/test_mutate.py        (standard library only)
"""

import os
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "dev"))
sys.dont_write_bytecode = True
import cpp  # noqa: E402
import mutate  # noqa: E402
import mutations  # noqa: E402

TESTS = {"test_sum": "test/ops/test_sum.cpp"}
SUM = """
#include "common.h"
namespace cpu {
// sum[c] = the sum of a column
template <typename T, int N = (3 > 2)>
void column_sum(T* sum, const T* inp, int R, int C) {  // (C), (R, C)
    int first = 0, last = R;
    for (int c = 0; c < C; c++) sum[c] = 0, count++;
    for (int r = first; r < last; r++)
        for (int c = 0; c < C; c++) sum[c] += inp[r * C + c] * scale(r);
}
}
#ifdef WITH_KERNELS
void cpu::column_sum(float* sum) { sum[0] += inp[r * C + c] * scale(r); }
#endif
namespace gpu { void column_sum(float* sum) { sum[0] += inp[r * C + c] * scale(r); } }
struct Window : Base<int> {
    int length = 3;
    explicit Window(int n) : Base(n), length{n + 1} { check(n > 0); }
    size_t operator()(size_t i) const { return i % length; }
    bool empty() const;
};
bool Window::empty() const { return length == 0; }
static const int SIZES[] = {1, 20, 300};
const auto twice = [](int x) { return x * 2; };
"""
# the same moved, wrapped, its chains of commas split
MOVED = """
namespace ops::cpu
{
template <typename T, int N = (3 > 2)>
void column_sum(
    T* sum, const T* inp, int R, int C)
{
    int first = 0;
    int last = R;
    for (int c = 0; c < C; c++) { sum[c] = 0; count++; }
    for (int r = first; r < last; r++) {
        for (int c = 0; c < C; c++) {
            sum[c] += inp[r * C + c]  // an element
                      * scale(r);
        }
    }
}
}
"""


def tree(files):
    """The declarations of a tree with these files."""
    with tempfile.TemporaryDirectory() as top:
        for path, text in files.items():
            os.makedirs(os.path.dirname(os.path.join(top, path)), exist_ok=True)
            with open(os.path.join(top, path), "w", encoding="utf8") as f:
                f.write(text)
        return cpp.pieces(top)


def row(function, code, new="0", test="test_sum"):
    return mutations.Row(function, test, code, new)


def at(code, *args):
    """What the code has at the place of a row."""
    (place,) = mutations.places(code, row(*args))
    return place.piece.source[slice(*place.span)]


class Tokens(unittest.TestCase):
    def texts(self, text):
        return [t.text for t in cpp.tokenize(text)]

    def test_literals(self):
        for text in (
            r'"not // a \" comment /*"',
            'R"-(raw )" // )-"',
            r"'\''",
            "'\"'",
            'u8"ß"',
            "1'000u",
            "1.5e-3f",
            ".5",
            "0x1p-3",
        ):
            self.assertEqual(self.texts(f"a={text};b"), ["a", "=", text, ";", "b"])

    def test_signs(self):
        self.assertEqual(
            self.texts("a+=b<<c->d::e<=f<g<int>>()"), "a += b << c -> d :: e <= f < g < int > > ( )".split()
        )

    def test_what_is_left_out(self):
        self.assertEqual(self.texts('a // "b \\\n c\n/* " // */ d\n #define e(f) \\\n  f + f\n g'), ["a", "d", "g"])
        gpu = "#ifdef __CUDACC__\n a\n#elif defined(SHIM)\n b\n#else\n c\n#endif\n d\n"
        self.assertEqual(self.texts(gpu), ["c", "d"])
        self.assertEqual(self.texts("#ifndef __CUDACC__\n a\n#else\n b\n#endif\n"), ["a"])
        self.assertEqual(
            self.texts("#ifdef OTHER\n a\n#ifdef WITH_KERNELS\n b\n#endif\n#else\n c\n#endif\n"), ["a", "c"]
        )


class Places(unittest.TestCase):
    def setUp(self):
        self.code = tree({"common/sum.h": SUM})

    def test_declarations(self):
        names = [p.name for some in self.code.values() for p in some]
        window = ["Window::" + n for n in ("Window", "operator()", "length", "empty", "empty")]
        self.assertCountEqual(names, ["cpu::column_sum", "gpu::column_sum", "SIZES", "twice", *window])

    def test_found(self):
        for function, code, place in (
            ("cpu::column_sum", "* [[scale(r)]]", "scale(r)"),
            (
                "column_sum",
                "for (int c = 0; c < C; c++) [[sum[c] += inp[r * C + c] * scale(r)]]",
                "sum[c] += inp[r * C + c] * scale(r)",
            ),
            ("gpu::column_sum", "inp[[[r * C]]", "r * C"),
            ("Window::Window", "length{[[n + 1]]}", "n + 1"),
            ("Window::Window", "check([[n > 0]])", "n > 0"),
            ("Window::operator()", "return [[i % length]];", "i % length"),
            ("Window::length", "= [[3]]", "3"),
            ("Window::empty", "[[length == 0]]", "length == 0"),
            ("SIZES", "[[20]]", "20"),
            ("twice", "x * [[2]]", "2"),
        ):
            with self.subTest(code):
                self.assertEqual(at(self.code, function, code), place)

    def test_moved_and_wrapped(self):
        rest = SUM[SUM.index("namespace gpu") :]
        moved = tree({"common/ops/column.cuh": MOVED, "common/rest.h": rest, "test/x.cpp": SUM, "build/x.cpp": SUM})
        for code in (
            "[[sum[c] = 0]], count",
            "c < C; c++) sum[c] = 0, [[count++]]",
            "c++) [[sum[c] += inp[r * C + c] * scale(r)]]",
            "for (int c = 0; c < C; c++) sum[c] += inp[[[r * C]] + c]",
        ):
            with self.subTest(code):
                before, after = (at(c, "cpu::column_sum", code) for c in (self.code, moved))
                self.assertEqual(before.split(), after.replace("// an element", "").split())

    def test_strings(self):
        code = tree({"a.h": 'void f() { fail("expected " "a number, "\n"found {}"); }'})
        self.assertEqual(at(code, "f", '[[fail("expected a number, found {}")]]')[:5], "fail(")
        self.assertEqual(mutations.places(code, row("f", '[[fail("expected a number; found {}")]]')), [])


class Check(unittest.TestCase):
    def setUp(self):
        self.code = tree({"common/sum.h": SUM})

    def check(self, *args, code=None):
        """What is wrong with one row, and what it may become."""
        ((_, what, fixed),) = mutations.check(code or self.code, [row(*args)], TESTS)
        return what, fixed

    def test_right(self):
        rows = [row("cpu::column_sum", "[[count++]]", "nothing"), row("Window::operator()", "[[i % length]]", "i")]
        self.assertEqual(list(mutations.check(self.code, rows, TESTS)), [])

    def test_refused(self):
        for args, what in (
            (
                ("cpu::column_sum", "[[c < C]]"),
                "occurs more than once, needs more of the code: common/sum.h:8, common/sum.h:10",
            ),
            (("column_sum", "[[inp[r * C + c]]]"), "more than once"),
            (("cpu::column_sum", "int first = [[0, last]] = R"), "no whole expression: common/sum.h:7"),
            (("cpu::column_sum", "inp[[[r * C + c] * scale]](r)"), "no whole expression"),
            (("SIZES", "[[20]]", "0", "test_gone"), "no test_gone.cpp"),
            (("colum_sum", "[[count++]]"), "is not there, but at common/sum.h:8 in cpu::column_sum: [[count++]]"),
        ):
            with self.subTest(what):
                self.assertIn(what, self.check(*args)[0])
        twice = [row("SIZES", "[[20]]")] * 2
        self.assertEqual([what for _, what, _ in mutations.check(self.code, twice, TESTS)], ["stands there twice"] * 2)
        same = [row("SIZES", "[[20]]"), row("SIZES", "1, [[20]]")]
        found = [what for _, what, _ in mutations.check(self.code, same, TESTS)]
        self.assertEqual(found, ["another row does the same at common/sum.h:24"] * 2)
        for code in ("sum[c]", "[[]]", "a[[b]"):
            with self.assertRaisesRegex(SystemExit, r"column_sum: expected a \[\[place\]\] in"):
                mutations.places(self.code, row("cpu::column_sum", code))

    def test_nearest(self):
        """The nearest code of its function, what differs, and the row as it is now if that is clear."""
        what, fixed = self.check("cpu::column_sum", "sum[c] += inp[r * C + c] * [[scale(row)]]", "scale(row + 1)")
        self.assertIn(
            "at common/sum.h:10 in cpu::column_sum: sum[c] += inp[r * C + c] * [[scale(r)]]\n    row is r", what
        )
        self.assertEqual(fixed, row("cpu::column_sum", "sum[c] += inp[r * C + c] * [[scale(r)]]", "scale(r + 1)"))
        code = tree({"a.h": "void f() { if (0 < model.dropout && training) model.forward(batch); g(0); }"})
        what, fixed = self.check("f", "if (0 < [[dropout]] && training)", "1", code=code)
        self.assertIn("at a.h:1 in f: if (0 < [[model.dropout]] && training)\n    model is new, . is new", what)
        self.assertEqual(fixed, row("f", "if (0 < [[model.dropout]] && training)", "1"))
        _, fixed = self.check("f", "model.forward([[data]]), g(0)", "data + 1", code=code)
        self.assertEqual(fixed, row("f", "model.forward([[batch]]); g(0)", "batch + 1"))
        # another number, two places that are as near, and too much that differs: shown, not rewritten
        for args in (
            ("SIZES", "const int SIZES[] = {1, [[30]], 300}"),
            ("cpu::column_sum", "for (int k = 0; [[k < C]]; k++)"),
            ("Window::empty", "return [[size() == 0]]"),
        ):
            what, fixed = self.check(*args)
            self.assertIn("is not there, but at common/sum.h:", what)
            self.assertIsNone(fixed, what)

    def test_elsewhere(self):
        code = tree(
            {"a.h": "struct Sum { void add() { if (first) total += value * weight; } void clear() { total = 0; } };"}
        )
        total = "[[total += value * weight]]"
        what, fixed = self.check("Sum::clear", total, code=code)
        self.assertEqual((what, fixed), (f"is not there, but at a.h:1 in Sum::add: {total}", row("Sum::add", total)))


class Rename(unittest.TestCase):
    def renamed(self, code, old, new, *args):
        return mutations.renamed(tree({"a.h": code}), row(*args), {old: new})

    def test_variable(self):
        got = self.renamed(
            "void f() { a += sums[n] * scale; }", "sum", "sums", "f", "a += [[sum[n]]] * scale", "sum[0]"
        )
        self.assertEqual(got, row("f", "a += [[sums[n]]] * scale", "sums[0]"))
        # only where the old name is gone
        args = "f", "a += [[sum[n]]]", "sum[0]"
        self.assertEqual(self.renamed("void f() { a += sum[n]; }", "sum", "sums", *args), row(*args))

    def test_all_at_once(self):
        code = tree({"a.h": "void f() { add(acts.x, a.y); }"})
        got = mutations.renamed(code, row("f", "add([[a.x]], q.y)", "q.x"), {"a": "acts", "q": "a"})
        self.assertEqual(got, row("f", "add([[acts.x]], a.y)", "a.x"))
        _, fixed = Check.check(self, "f", "add([[a.x]], q.y)", "q.x", code=code)
        self.assertEqual(fixed, got)

    def test_function(self):
        got = self.renamed(
            "void Bpe::encode_text() { cut(); }", "Bpe::encode", "Bpe::encode_text", "Bpe::encode", "[[cut()]]"
        )
        self.assertEqual(got, row("Bpe::encode_text", "[[cut()]]"))

    def test_tokens(self):
        got = self.renamed("int f() { return d.counters->at; }", "d.at", "d.counters", "f", "return [[d . at->at]]")
        self.assertEqual(got, row("f", "return [[d.counters->at]]"))

    def test_test(self):
        self.assertEqual(self.renamed("", "test_old", "test_sum", "f", "[[a]]", "0", "test_old").test, "test_sum")


class Files(unittest.TestCase):
    def test_rows(self):
        text = "# about sums\n\nsum  test_sum\n    a[[[b]]]  =>  c  \n    [[f(a,\n        b)]]\n        =>  nothing\n"
        items = mutations.load(text)
        self.assertEqual(items, ["# about sums", "", row("sum", "a[[[b]]]", "c"), row("sum", "[[f(a, b)]]", "nothing")])
        long = row("sum", "[[f(" + ", ".join(["argument"] * 40) + ', "a  b")]]', "nothing")
        written = mutations.dump(items + [long])
        self.assertLessEqual(max(map(len, written.splitlines())), 120)
        self.assertEqual(mutations.load(written), items + [long])

        for bad, what in (
            ("a", "1: expected a function and a test"),
            ("    [[a]] => b", "1: .* above this row"),
            ("f t\n    [[a]]", "2: expected code =>"),
        ):
            with self.assertRaisesRegex(SystemExit, "dev/mutations.txt:" + what):
                mutations.load(bad)

    def test_page(self):
        rows = [row("f", "[[a || b]]", "a"), row("f", "[[g()]]", "nothing"), row("f", "[[c | d]]", "0")]
        results = {("f", "[[a || b]]", "a"): "test_sum: <|a|>", ("f", "[[g()]]", "nothing"): mutations.SURVIVES}
        page = mutations.page_of(rows, results)
        self.assertIn("1 of 3 mutations are\ncaught", page)
        self.assertEqual(mutations.results_of(page), {**results, ("f", "[[c | d]]", "0"): mutations.NOT_RUN})

    def test_mutated(self):
        code = "int f() { if (a < b) g(a + b), c = a; return d; }"
        rows = [
            row("f", "[[a + b]]"),
            row("f", "[[g(a + b)]]", "nothing"),
            row("f", "[[c = a]]", "c = b"),
            row("f", "[[a + b]]", "a"),
        ]
        found = [(n, mutations.places(tree({"a.h": code}), r)[0], r) for n, r in enumerate(rows, 1)]
        inner = "(mutant == 4 ? (a) : ((mutant == 1 ? (0) : (a + b))))"
        statement = f"(mutant == 2 ? (void)0 : (void)(g({inner})))"
        assigned = "(mutant == 3 ? (void)(c = b) : (void)(c = a))"
        self.assertEqual(mutate.mutated(code, found), f"int f() {{ if (a < b) {statement}, {assigned}; return d; }}")

    def test_this_tree(self):
        """Every row of dev/mutations.txt is one place, and test/mutations.md has the same rows."""
        done = subprocess.run(
            [sys.executable, os.path.join(ROOT, "dev/mutate.py"), "--check"], capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(mutations.dump(mutations.load(mutate.read(mutate.ROWS))), mutate.read(mutate.ROWS))


if __name__ == "__main__":
    unittest.main()
