"""The headers of common/: each compiles by itself, none includes itself in the end, and no room includes a higher one.

python3 test/scripts/test_headers.py        (standard library and g++ only)
"""

import glob
import os
import re
import subprocess
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# From the bottom to the top, as in common/README.md: a room includes from itself and from those before it. Evaluation
# takes callables and no model, so it sees neither a device nor training.
ROOMS = ["base", "device", "ops", "text", "data", "train", "eval"]
ALLOWED = {room: set(ROOMS[: i + 1]) for i, room in enumerate(ROOMS)}
ALLOWED["eval"] -= {"device", "ops", "train"}
# with -DSHIM these headers take what they are from the shim: the one thing outside common/
SHIM = {
    "common/device/launch.cuh": "test/device/shim.h",
    "common/device/device.cuh": "test/device/shim_memory.h",
    "common/device/ptx.cuh": "test/device/shim_ptx.h",
    "common/ops/gemm.cuh": "test/device/shim_gemm.h",
}


def headers():
    paths = [os.path.relpath(p, ROOT) for p in sorted(glob.glob(os.path.join(ROOT, "common", "*", "*")))]
    return [p for p in paths if p.endswith((".h", ".cuh"))] + list(SHIM.values())


def room_of(path):
    return path.split("/")[1]  # the shim is in test/device/, and may include what common/device/ may


def includes(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return re.findall(r'^\s*#\s*include "([^"]+)"', f.read(), re.M)


def find_cycle(graph):
    """A list of files, each of which includes the next, and the last of which is the first; or None"""
    done, path = set(), []

    def visit(file):
        if file in path:
            return path[path.index(file) :] + [file]
        if file in done:
            return None
        path.append(file)
        for other in graph.get(file, []):
            found = visit(other)
            if found:
                return found
        done.add(path.pop())
        return None

    return next(filter(None, map(visit, graph)), None)


def compile_alone(file, *flags, root=ROOT):
    """What g++ says of a file that holds nothing but this include; "" if it compiles"""
    deps = os.path.join(ROOT, ".deps", "include")
    command = ["g++", "-std=c++17", "-fsyntax-only", "-fopenmp", "-Wall", "-Wextra", "-DBLAS_LOOPS", *flags]
    command += ["-I", root, "-isystem", deps, "-x", "c++", "-"]
    done = subprocess.run(
        command, input=f'#include "{file}"\n', text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return done.stdout or ("" if done.returncode == 0 else f"exit code {done.returncode}")


class Order(unittest.TestCase):
    def test_every_header_is_in_a_known_room(self):
        self.assertEqual({room_of(h) for h in headers()}, set(ROOMS))

    def test_paths_begin_at_the_root_and_exist(self):
        for header in headers():
            for other in includes(header):
                shims = other == SHIM.get(header) or {header, other} <= set(SHIM.values())
                known = other.startswith("common/") or shims
                self.assertTrue(known, f"{header} includes {other}")
                self.assertTrue(os.path.exists(os.path.join(ROOT, other)), f"{header} includes {other}")

    def test_no_room_includes_a_higher_one(self):
        for header in headers():
            for other in includes(header):
                self.assertIn(room_of(other), ALLOWED[room_of(header)], f"{header} includes {other}")

    def test_no_cycles(self):
        self.assertIsNone(find_cycle({h: includes(h) for h in headers()}))
        self.assertEqual(find_cycle({"a": ["b"], "b": ["c"], "c": ["b"]}), ["b", "c", "b"])  # it would find one

    def test_json_and_unicode_libraries_are_included_once(self):
        found = []
        for path in sorted(glob.glob(os.path.join(ROOT, "common", "*", "*")) + glob.glob(os.path.join(ROOT, "*.cu"))):
            if not os.path.isfile(path):
                continue
            with open(path, encoding="utf-8") as f:
                found += [
                    os.path.basename(path) for _ in re.findall(r"#include <(?:nlohmann/json.hpp|utf8proc.h)>", f.read())
                ]
        self.assertEqual(found, ["json.cpp", "unicode.cpp"])


class Map(unittest.TestCase):
    def test_every_header_is_in_the_map(self):
        with open(os.path.join(ROOT, "common", "README.md"), encoding="utf-8") as f:
            page = f.read()
        missing = [h for h in headers() if not re.search(r"`(test/device/)?%s`" % re.escape(os.path.basename(h)), page)]
        self.assertEqual([], missing, "common/README.md lacks them")


class Alone(unittest.TestCase):
    """Each header by itself: for the CPU, and, where it holds kernels, for the shim too. For nvcc: make test-gpu."""

    def check(self, room):
        jobs = []
        for header in headers():
            if room_of(header) == room:
                jobs.append((header,))
                if room in ("device", "ops") or header == "common/data/batch.h":
                    jobs.append((header, "-DSHIM"))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for job, said in zip(jobs, pool.map(lambda job: compile_alone(*job), jobs)):
                self.assertEqual(said, "", " ".join(job))

    def test_a_header_that_needs_another_is_found(self):
        with tempfile.TemporaryDirectory() as root:
            with open(os.path.join(root, "x.h"), "w") as f:
                f.write("#pragma once\ninline std::string x() { return {}; }\n")
            self.assertIn("std", compile_alone("x.h", root=root))


class Mac(unittest.TestCase):
    def test_flags(self):
        """What make would run there; nothing more of it can be tested here."""
        command = ["make", "-n", "V=1", "DEVICE=cpu", "UNAME=Darwin", "BREW=/brew", "O=build/mac", "all"]
        env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
        done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
        compile = next(line for line in done.stdout.splitlines() if line.endswith("cpu-fp32/sft.o") and " -c " in line)
        link = next(line for line in done.stdout.splitlines() if " -o build/mac/cpu-fp32/sft " in line)
        for flag in ("-Xpreprocessor -fopenmp", "-DACCELERATE_NEW_LAPACK", "-isystem /brew/opt/libomp/include"):
            self.assertIn(flag, compile)
        for flag in ("-framework Accelerate", "-L/brew/opt/libomp/lib", "-lomp"):
            self.assertIn(flag, link)
        self.assertNotIn("openblas", link)


for name in ROOMS:
    setattr(Alone, f"test_{name}", lambda self, room=name: self.check(room))

if __name__ == "__main__":
    unittest.main()
