#!/usr/bin/env python3
"""Breaks the inline PTX (common/device/ptx.cuh), and how flash.cuh uses it, in one place at a time, and looks whether
the tests in the emulator notice: what dev/mutate.py is for the code that the CPU runs.

    python3 dev/mutate_ptx.py [REGEX]    all, or those in whose description or code REGEX is found

Needs nvcc and what `make test-gpu` has built. Of each mutation nvcc makes PTX for compute_90, which runs in place of
what the tests were built with. Exit code 0: all are noticed.
"""

import collections
import glob
import os
import re
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PTX, FLASH = "common/device/ptx.cuh", "common/ops/flash.cuh"
Row = collections.namedtuple("Row", "what file old new")
X4, WAIT = "ldmatrix.sync.aligned.m8n8.x4", "cp.async.wait_group %0;"
COPY_4, COPY_16 = "cp.async.ca.shared.global [%0], [%1], 4", "cp.async.cg.shared.global [%0], [%1], 16"
QUERIES = "__syncthreads();  // the queries are there"
ROWS = [
    Row("mma: two registers of A swapped", PTX, '"r"(a[1]), "r"(a[2])', '"r"(a[2]), "r"(a[1])'),
    Row("mma: the registers of B swapped", PTX, '"r"(b[0]), "r"(b[1])', '"r"(b[1]), "r"(b[0])'),
    Row("mma: A and B swapped", PTX, "{%4,%5,%6,%7}, {%8,%9}", "{%6,%7,%8,%9}, {%4,%5}"),
    Row("mma: halves of the sums swapped", PTX, "{%8,%9}, {%0,%1,%2,%3}", "{%8,%9}, {%2,%3,%0,%1}"),
    Row("mma: the sums are written, not read", PTX, '"+f"(d[0]), "+f"(d[1])', '"=f"(d[0]), "=f"(d[1])'),
    Row("mma: other numbers", PTX, "f32.bf16.bf16.f32", "f32.f16.f16.f32"),
    Row("ldmatrix: transposed", PTX, X4 + ".shared", X4 + ".trans.shared"),
    Row("ldmatrix.trans: not transposed", PTX, X4 + ".trans.shared", X4 + ".shared"),
    Row("ldmatrix: two results swapped", PTX, X4 + ".shared.b16 {%0,%1,%2,%3}", X4 + ".shared.b16 {%0,%2,%1,%3}"),
    Row("ldmatrix: half of the matrices", PTX, X4 + ".shared.b16 {%0,%1,%2,%3}", X4[:-1] + "2.shared.b16 {%0,%1}"),
    Row("cp.async: nobody waits", PTX, WAIT, ""),
    Row("cp.async: one group fewer is waited for", PTX, '"n"(N) :', '"n"(N + 1) :'),
    Row("cp.async: no group", PTX, "cp.async.commit_group;", ""),
    Row("cp.async: what is not there is read", PTX, '"r"(there ? 16 : 0)', '"r"(16)'),
    Row("cp.async: 4 bytes of 16", PTX, COPY_16, COPY_4),
    Row("cp.async: 16 bytes of 4", PTX, COPY_4, COPY_16),
    Row("cp.async: from shared to global memory", PTX, "cg.shared.global [%0], [%1]", "cg.shared.global [%1], [%0]"),
    Row("cvt: halves swapped", PTX, '"f"(high), "f"(low)', '"f"(low), "f"(high)'),
    Row("cvt: towards zero", PTX, "cvt.rn.bf16x2", "cvt.rz.bf16x2"),
    Row("ex2: what is tiny is kept", PTX, "ex2.approx.ftz", "ex2.approx"),
    Row("flash: the queries are not waited for", FLASH, "cp_async_wait<1>();\n        " + QUERIES, QUERIES),
    Row("flash: the keys are not waited for", FLASH, "cp_async_wait<0>();", "cp_async_wait<1>();"),
    Row("flash: a barrier is missing", FLASH, QUERIES, ""),
    Row("flash: the values not transposed", FLASH, "ldmatrix_x4_trans(y,", "ldmatrix_x4(y,"),
]  # fmt: skip


def read(path):
    with open(path, encoding="utf8") as f:
        return f.read()


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf8") as f:
        f.write(text)


def failure(headers, test):
    """What is wrong with a test whose device code is compiled with the headers of a folder first; None: nothing"""
    source = "test/%s/%s.cu" % ("device" if test == "test_ptx" else "ops", test)
    cublas = glob.glob(os.path.join(TOP, ".deps/nvidia/*/include")) + glob.glob("/usr/local/cuda/targets/*/include")
    includes = ["-I" + folder for folder in (headers, TOP, *cublas)]
    ptx = os.path.join(headers, "out.ptx")
    nvcc = ["nice", "-n", "10", "nvcc", "-std=c++17", "-O3", "-arch=compute_90", "-Xcompiler", "-fopenmp", *includes]
    built = subprocess.run([*nvcc, "-ptx", source, "-o", ptx], cwd=TOP, capture_output=True, text=True)
    if built.returncode:
        return "does not compile"
    run = {"env": {**os.environ, "EMULATOR_PTX": ptx, "TEST_SMALL": "1"}, "capture_output": True, "text": True}
    done = subprocess.run([os.path.join(TOP, "build/emulated-fp32", test)], **run)
    if done.returncode == 0:
        return None
    case = re.search(r"TEST CASE:  (.*)", done.stdout)
    said = re.search(r"^emulator: (?:.*?thread \S+: )?(.*?);", done.stderr, re.M)
    return ": ".join(filter(None, (test, case and case[1], said and said[1])))


def main():
    wanted = sys.argv[1] if sys.argv[1:] else ""
    if wanted in ("-h", "--help"):
        print(__doc__)
        return 0
    rows = [row for row in ROWS if re.search(wanted, " ".join(row))]
    tests = {row.file: "test_flash" if row.file == FLASH else "test_ptx" for row in rows}
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="mutate_ptx_") as headers:
        for test in tests.values():
            if what := failure(headers, test):
                sys.exit(f"without a mutation there is a failure: {what}")
        for row in rows:
            source, path = read(os.path.join(TOP, row.file)), os.path.join(headers, row.file)
            if row.old not in source:
                sys.exit(f"{row.what}: {row.file} has no {row.old}")
            write(path, source.replace(row.old, row.new, 1))
            what = failure(headers, tests[row.file])
            os.unlink(path)
            survivors += what is None
            print(f"{row.what}: {what or 'SURVIVES'}", flush=True)
    print(f"{len(rows) - survivors} of {len(rows)} mutations are caught")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
