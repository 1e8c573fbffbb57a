"""dev/gpu_check.sh on a machine without a GPU: it says so, and a dry run on the shim goes through every step and writes
the same files.

python3 test/scripts/test_gpu_check.py        (standard library only; the programs are built: make tests)
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STEPS = {
    "build": {"CPU", "programs, bf16", "tests", "benchmarks"},
    "kernels": {"test_kernels", "test_flash", "test_ptx"},
    "models": {
        "test_fixtures",
        "test_gpt_fixtures",
        "data",
        "resume",
        *(p + ", bf16" for p in ("train_bert", "finetune_cls", "train_gpt", "sft")),
    },
    "sanitize": {
        tool + ", " + t for tool in ("memcheck", "racecheck") for t in ("test_kernels", "test_flash", "test_ptx")
    },
    "bench": {*("train " + r for r in ("gpt2", "bert128", "bert512", "finetune", "sft")), "attention", "kernels"},
}


def check(*flags, **env):
    return subprocess.run(
        ["bash", os.path.join(ROOT, "dev/gpu_check.sh"), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    )


class GpuCheck(unittest.TestCase):
    def test_no_gpu(self):
        with tempfile.TemporaryDirectory() as d:
            os.symlink("/bin/false", os.path.join(d, "nvidia-smi"))
            done = check(os.path.join(d, "out"), PATH=d + ":" + os.environ["PATH"])
            self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (2, "", 1))
            self.assertIn("expected a GPU", done.stderr)
            self.assertFalse(os.path.exists(os.path.join(d, "out")))

    def test_usage(self):
        for flags in ([], ["out", "--only", "everything"], ["out", "--step", "data"]):
            done = check(*flags, "--dry-run")
            self.assertEqual(done.returncode, 2, done.stdout)
            self.assertIn("error:", done.stderr)

    def test_dry_run(self):
        with tempfile.TemporaryDirectory() as out:
            done = check(out, "--dry-run", PYTHON=sys.executable)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertEqual(set(os.listdir(out)), {"dry_run.json", "dry_run.md"})
            with open(os.path.join(out, "dry_run.json")) as f:
                result = json.load(f)
            with open(os.path.join(out, "dry_run.md")) as f:
                table = f.read()
        self.assertTrue(result["dry_run"])
        self.assertIn("A dry run on the CPU", table)
        for key in ("gpu", "date", "commit", "driver"):
            self.assertTrue(result[key], key)
        self.assertEqual(set(result["versions"]), {"nvcc", "torch", "transformers"})
        self.assertEqual(set(result["stages"]), set(STEPS))
        for name, stage in result["stages"].items():
            with self.subTest(name):
                self.assertEqual(stage["not_finished"], [])
                self.assertEqual(set(stage["steps"]) - {"peak"}, STEPS[name])  # peak: only where there is a PyTorch
                for step in stage["steps"].values():
                    self.assertIs(step["ok"], True)
                    self.assertTrue(step["date"] and step["commit"])
        for step in STEPS["kernels"] | STEPS["sanitize"]:
            for stage in ("kernels", "sanitize"):
                if step in result["stages"][stage]["steps"]:
                    self.assertGreater(result["stages"][stage]["steps"][step]["passed"], 0)
        bench = result["stages"]["bench"]["steps"]
        for name, s in bench.items():
            if name.startswith("train "):
                self.assertGreater(s["ours"], 0)
                self.assertGreater(s["mfu"], 0)
                self.assertIn(s["what"], table)
                self.assertTrue(s["pytorch"])
                for side in s["pytorch"].values():
                    self.assertTrue(side.startswith("not run: ") if isinstance(side, str) else side > 0, side)
        for row in bench["kernels"]["rows"]:
            self.assertGreater(row["us"], 0)
            self.assertIn("pytorch_us", row)
        for row in bench["attention"]["rows"]:
            self.assertGreater(row["forward_us"], 0)

    def test_a_failure_is_told(self):
        """A program that dies is a failed step with what it said, and exit code 1; the other steps continue."""
        with tempfile.TemporaryDirectory() as out:
            done = check(out, "--dry-run", "--only", "kernels", PYTHON=sys.executable, SHIM_ORDER="sideways")
            self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
            with open(os.path.join(out, "dry_run.json")) as f:
                steps = json.load(f)["stages"]["kernels"]["steps"]
            self.assertEqual(
                {k: s["ok"] for k, s in steps.items()}, dict.fromkeys(["test_kernels", "test_flash", "test_ptx"], False)
            )
            self.assertIn("SHIM_ORDER", steps["test_kernels"]["said"])

    def test_what_is_missing_is_told(self):
        """A program, compute-sanitizer, a file: each is a step of its own that says so, and the others continue."""
        sys.path.insert(0, os.path.join(ROOT, "dev"))
        self.addCleanup(sys.path.remove, os.path.join(ROOT, "dev"))
        sys.dont_write_bytecode = True
        import gpu_check

        result = {"stages": {}}
        with (
            tempfile.TemporaryDirectory() as d,
            mock.patch.object(gpu_check, "say"),
            mock.patch.object(gpu_check.shutil, "which", return_value=None),
        ):
            c = gpu_check.Check(argparse.Namespace(dry_run=False, step=None), pathlib.Path(d), torch=False)
            c.build = lambda: ()
            c.test_binary = lambda name: "build/nowhere/" + name
            c.models = lambda: [
                ("a file", lambda: open("/nowhere")),
                ("nothing of some", lambda: max([])),
                ("right", dict),
            ]
            for stage in ("kernels", "sanitize", "models"):
                c.stage(stage, result)
        steps = {
            stage: {name: (s["ok"], s.get("said")) for name, s in found["steps"].items()}
            for stage, found in result["stages"].items()
        }
        self.assertEqual(
            steps["kernels"],
            {
                t: (False, "cannot run build/nowhere/%s: No such file or directory" % t)
                for t in ("test_kernels", "test_flash", "test_ptx")
            },
        )
        self.assertEqual(
            set(steps["sanitize"].values()), {(None, "not run: there is no compute-sanitizer on this machine")}
        )
        self.assertEqual([ok for ok, _ in steps["models"].values()], [False, False, True])
        self.assertIn("FileNotFoundError: ", steps["models"]["a file"][1])


if __name__ == "__main__":
    unittest.main()
