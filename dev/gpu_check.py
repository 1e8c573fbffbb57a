"""What dev/gpu_check.sh runs once it has found a GPU and a Python: see there. Logs of every step: runs/gpu-check/
(--dry-run: a folder that is removed)."""

import argparse
import datetime
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "test"))
from run import count  # noqa: E402

LIMIT = 530  # seconds of a stage
PROGRAMS = ["train_bert", "finetune_cls", "train_gpt", "sft"]
KERNEL_TESTS, FIXTURES = ["test_kernels", "test_flash", "test_ptx"], ["test_fixtures", "test_gpt_fixtures"]
BENCHES = ["bench_kernels", "bench_attention"]
# Of one H200, measured with PyTorch on random data; each result says what was measured beside it.
PEAK_TFLOPS, PEAK_TB_S = 790, 4.3
# Loss traces beside the CPU's in fp32: differences allowed in any of the first 20 steps.
# fp32: sums in another order differ by 1e-6 of a loss of 6; 20 steps of AdamW, which divides by sqrt(v), make up to a
# hundred times that of it.
# bf16: stored values are off by 2**-9, a logit of size 1 by 0.002 and as much by the roundings before it; the mean over
# the targets cancels most of it.
# On the shim the largest of the four programs' differences was 0.0013 (train_bert); sums in another order change
# roundings, not their size: four times that.
TRACE_LIMIT = {"fp32": 0.001, "bf16": 0.005}


class Failed(Exception):
    pass


class NotRun(Exception):
    pass


class Check:
    def __init__(self, a, work, torch):
        self.dry, self.work, self.a, self.torch = a.dry_run, work, a, torch
        self.device = "shim" if a.dry_run else "gpu"
        # at tiny sizes more threads only wait for each other
        self.threads = {"OMP_NUM_THREADS": "1"} if a.dry_run else {}
        self.deadline = None
        self.made = set()  # by this call

    # ------------------------------------------------------------ running
    def run(self, command, log, stdin=None, **env):
        """Output of a command; it and its children are killed when the stage's time is up"""
        left = self.deadline - time.time()
        if left < 2:
            raise TimeoutError
        command = [str(c) for c in command]
        path = self.work / "log" / (re.sub(r"\W+", "_", log) + ".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w") as err:
            try:
                child = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=err,
                    text=True,
                    start_new_session=True,
                    env={**os.environ, "TOKENIZERS_PARALLELISM": "false", **self.threads, **env},
                )
            except OSError as e:
                raise Failed("cannot run %s: %s" % (command[0], e.strerror)) from None
            try:
                out, _ = child.communicate(stdin, timeout=left)
            except BaseException as e:  # also Ctrl-C and a signal: nothing is left running
                os.killpg(child.pid, signal.SIGKILL)
                child.communicate()
                if isinstance(e, subprocess.TimeoutExpired):
                    raise TimeoutError from None
                raise
        with open(path, "a") as f:
            f.write("\n$ %s\n%s" % (shlex.join(command), out))
        if child.returncode:
            raise Failed(
                "%s: exit code %d: %s"
                % (
                    shlex.join(command)[:200],
                    child.returncode,
                    (out + path.read_text())[-1500:] if not out else out[-1500:] + path.read_text()[:500],
                )
            )
        return out

    def make(self, device, precision, *targets):
        self.run(["make", "DEVICE=" + device, "PRECISION=" + precision, *targets], "make %s %s" % (device, precision))

    def doctest(self, name, *flags, wrapper=(), **env):
        out = self.run([*wrapper, self.test_binary(name), *flags], " ".join([*wrapper[:3], name]), **env)
        passed, failed, skipped = count(out, 0)
        if failed or not passed:
            raise Failed(out[-1500:])
        return {"passed": passed, "skipped": skipped}

    def test_binary(self, name):
        return "build/test/" + name + ("_shim" if name in FIXTURES else "") if self.dry else "build/gpu-fp32/" + name

    # ------------------------------------------------------------ build
    def programs(self, device, precision):
        self.make(device, precision, *("build/%s-%s/%s" % (device, precision, p) for p in PROGRAMS))

    def build(self):
        yield "CPU", lambda: self.make("cpu", "fp32", "data/tokenize", *("build/cpu-fp32/" + p for p in PROGRAMS))
        yield "programs, bf16", lambda: self.programs(self.device, "bf16")
        if not self.dry:
            yield "programs, fp32", lambda: self.programs("gpu", "fp32")
        yield "tests", lambda: self.make(self.device, "fp32", *map(self.test_binary, KERNEL_TESTS + FIXTURES))
        yield (
            "benchmarks",
            lambda: self.make(self.device, "bf16", *("build/%s-bf16/%s" % (self.device, b) for b in BENCHES)),
        )

    # ------------------------------------------------------------ kernels: against the CPU's loops, each in fp32 and
    # bf16
    def kernels(self):
        for name in KERNEL_TESTS:
            yield name, lambda name=name: self.doctest(name, *(["-tc=gelu*,tanh*,mma*,tiles*"] if self.dry else []))

    # ------------------------------------------------------------ models: fixtures, and loss traces of whole runs
    def models(self):
        for name in (
            FIXTURES
        ):  # their memory is managed, and the host reads it: every kernel has to be done when its launch returns
            yield name, lambda name=name: self.doctest(name, CUDA_LAUNCH_BLOCKING="1")
        yield "data", self.toy
        for program in PROGRAMS:
            for precision in ["bf16"] if self.dry else ["fp32", "bf16"]:
                yield (
                    "%s, %s" % (program, precision),
                    lambda program=program, precision=precision: self.trace(program, precision),
                )
        yield "resume", self.resume

    def toy(self):
        self.made.add("toy")
        self.run(
            [
                sys.executable,
                "data/toy.py",
                "--out",
                self.work / "toy",
                "--documents",
                400,
                "--stories",
                400,
                "--rows",
                240,
            ],
            "toy",
        )

    def train(self, program, device, precision):
        toy, out = self.work / "toy", self.work / ("%s-%s-%s" % (program, device, precision))
        if out in self.made:
            return out
        subprocess.run(["rm", "-rf", str(out)], check=True)
        steps = 4 if self.dry else 20
        fresh = [
            "--layers",
            2,
            "--hidden-size",
            64,
            "--heads",
            2,
            "--max-len",
            64,
            "--batch-tokens",
            512 if self.dry else 2048,
            "--eval-tokens",
            512,
            "--lr",
            1e-3,
            "--dropout",
            0.1,
            "--warmup",
            0,
        ]
        tune = ["--batch", 8, "--max-len", 64, "--warmup", 0]
        bert, gpt = (self.work / ("%s-cpu-fp32" % p) / "last" for p in ("train_bert", "train_gpt"))
        flags = {
            "train_bert": ["--data", toy / "text", *fresh],
            "train_gpt": ["--data", toy / "gpt/text", *fresh],
            "finetune_cls": ["--init", bert, "--data", toy / "reviews", "--dev-split", 0, "--eval-every", steps, *tune],
            "sft": ["--init", gpt, "--data", toy / "reasons", "--eval-rows", 1, "--max-new-tokens", 4, *tune],
        }[program]
        for first, then in (("train_bert", "finetune_cls"), ("train_gpt", "sft")):
            if program == then:
                self.train(first, "cpu", "fp32")
        self.run(
            ["build/%s-%s/%s" % (device, precision, program), "--out", out, "--steps", steps, *flags],
            "%s %s %s" % (program, device, precision),
        )
        self.made.add(out)
        return out

    def trace(self, program, precision):
        if "toy" not in self.made:
            self.toy()
        cpu, ours = (
            [m["loss"] for m in map(json.loads, open(self.train(program, d, p) / "metrics.jsonl")) if "loss" in m]
            for d, p in (("cpu", "fp32"), (self.device, precision))
        )
        worst, limit = max(abs(x - y) for x, y in zip(cpu, ours)), TRACE_LIMIT[precision]
        result = {"steps": len(ours), "worst": round(worst, 6), "limit": limit, "cpu": cpu, "ours": ours}
        if len(cpu) != len(ours) or not worst <= limit:
            raise Failed("losses differ by %g, expected at most %g: CPU %s, ours %s" % (worst, limit, cpu, ours))
        return result

    def resume(self):
        """Of two copies of a run one continues, the other is stopped once more on the way: the same bits at the end,
        since the plans of products are kept"""
        if "toy" not in self.made:
            self.toy()
        a, b = self.work / "resume-a", self.work / "resume-b"
        subprocess.run(["rm", "-rf", str(a), str(b)], check=True)
        program, n = "build/%s-bf16/train_gpt" % self.device, 2 if self.dry else 20
        fresh = [
            "--data",
            self.work / "toy/gpt/text",
            "--layers",
            2,
            "--hidden-size",
            64,
            "--heads",
            2,
            "--max-len",
            64,
            "--batch-tokens",
            512,
            "--eval-tokens",
            512,
            "--warmup",
            0,
        ]
        self.run([program, *fresh, "--schedule", "constant", "--out", a, "--steps", n], "resume, first")
        subprocess.run(["cp", "-r", str(a), str(b)], check=True)
        for out, steps in ((a, 3 * n), (b, 2 * n), (b, 3 * n)):
            self.run([program, "--resume", "--out", out, "--steps", steps], "resume %s %d" % (out.name, steps))
        if (a / "last/model.safetensors").read_bytes() != (b / "last/model.safetensors").read_bytes():
            raise Failed("a run that was resumed twice differs from one that was resumed once: %s, %s" % (a, b))

    # ------------------------------------------------------------ sanitize
    def sanitize(self):
        for tool in ("memcheck", "racecheck"):
            for name in KERNEL_TESTS:
                yield (
                    "%s, %s" % (tool, name),
                    lambda name=name, tool=tool: self.doctest(
                        name,
                        *(["-tc=gelu*,tanh*,mma*,tiles*"] if self.dry else []),
                        wrapper=self.sanitizer(tool),
                        TEST_SMALL="1",
                    ),
                )

    def sanitizer(self, tool):
        if self.dry:
            return []
        beside_nvcc = os.path.join(
            os.path.dirname(shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"), "compute-sanitizer"
        )
        program = shutil.which("compute-sanitizer") or shutil.which(beside_nvcc)
        if not program:
            raise NotRun("there is no compute-sanitizer on this machine")
        return [program, "--tool", tool, "--error-exitcode", "9"]

    # ------------------------------------------------------------ bench
    def bench(self):
        dry = ["--dry-run"] if self.dry else []

        def python(script, *flags, stdin=None):
            return [
                json.loads(line)
                for line in self.run(
                    [sys.executable, "dev/bench/" + script, *flags, *dry],
                    script + " " + " ".join(map(str, flags[:2])),
                    stdin=stdin,
                ).splitlines()
            ]

        def beside(name):
            ours = self.run(["build/%s-bf16/%s" % (self.device, name)], name)
            if self.dry:
                ours = "".join(line + "\n" for line in ours.splitlines()[:4])
            return {"rows": python("kernels_gpu.py", stdin=ours)}

        if self.torch:
            yield "peak", lambda: python("kernels_gpu.py", "--peak")[0]
        for row in ("gpt2", "bert128", "bert512", "finetune", "sft"):
            yield "train " + row, lambda row=row: python("train_gpu.py", "--row", row, "--work", self.work / "bench")[0]
        yield "attention", lambda: beside("bench_attention")
        yield "kernels", lambda: beside("bench_kernels")

    # ------------------------------------------------------------ a stage
    def stage(self, name, result):
        """Runs the steps of a stage until its time is up; each is kept with its own date and commit, in place of an
        older one"""
        self.deadline = time.time() + LIMIT
        steps, left = result["stages"].setdefault(name, {"steps": {}})["steps"], []
        if name != "build":  # what it needs, if it is not there; make says what failed
            try:
                for _, step in self.build():
                    step()
            except (Failed, TimeoutError) as e:
                say("  %s: the build did not finish: %s" % (name, e))
        for step, f in getattr(self, name)():
            if self.a.step and step != self.a.step:
                continue
            begin, row = time.time(), {"date": now(), "commit": commit()}
            try:
                row.update(ok=True, **(f() or {}))
            except Failed as e:
                row.update(ok=False, said=str(e))
            except NotRun as e:
                row.update(ok=None, said="not run: " + str(e))
            except TimeoutError:
                left.append(step)
                if steps.get(step, {}).get("ok"):
                    continue  # an older result stays
                row.update(ok=None, said="did not finish in the stage's %d seconds" % LIMIT)
            except Exception as e:  # a file is missing, or holds no numbers: the other steps still tell something
                row.update(ok=False, said="%s: %s" % (type(e).__name__, e))
            row["seconds"] = round(time.time() - begin, 1)
            steps[step] = row
            say(
                "  %-28s %-12s %6.1f s%s"
                % (
                    step,
                    {True: "ok", False: "FAILED", None: "not run"}[row["ok"]],
                    row["seconds"],
                    "" if row["ok"] else "\n" + row["said"],
                )
            )
        result["stages"][name]["not_finished"] = left
        if left:
            say('  not finished: %s; once more: --only %s --step "%s"' % (", ".join(left), name, left[0]))


STAGES = ["build", "kernels", "models", "sanitize", "bench"]


def say(text):
    print(text, flush=True)


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def output(*command):
    try:
        return subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ).stdout.strip()
    except OSError:
        return ""


def commit():
    return (
        output("git", "rev-parse", "--short", "HEAD") + ("+" if output("git", "status", "--porcelain", "-uno") else "")
        or "unknown"
    )


def machine(dry):
    name, driver = (
        (
            output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader").splitlines()
            or ["dry run, none"]
        )[0].split(", ")
        if not dry
        else ("dry run", "none")
    )
    versions = {
        "nvcc": (
            re.findall(
                r"release (\S+),", output("nvcc", "--version") or output("/usr/local/cuda/bin/nvcc", "--version")
            )
            or ["none"]
        )[0]
    }
    for module in ("torch", "transformers"):
        versions[module] = output(sys.executable, "-c", "import %s; print(%s.__version__)" % (module, module)) or "none"
    return {"gpu": name, "driver": driver, "versions": versions}


# ---------------------------------------------------------------- the table
def ratio(x):
    return "" if x is None else "%.2f x" % x


def markdown(r):
    versions = ", ".join("%s %s" % v for v in r["versions"].items())
    text = ["# %s" % r["gpu"], "", "%s, driver %s, %s. `dev/gpu_check.sh`" % (r["date"], r["driver"], versions)]
    if r["dry_run"]:
        text += ["", "**A dry run on the CPU: it proves the command; no figure here means anything.**"]
    text += ["", "| stage | step | result | commit |", "|---|---|---|---|"]
    for name in STAGES:
        for step, s in r["stages"].get(name, {"steps": {"": {"ok": None, "commit": ""}}})["steps"].items():
            more = (
                "%d tests" % s["passed"]
                if "passed" in s
                else "losses within %g of the CPU's (limit %g)" % (s["worst"], s["limit"])
                if "worst" in s
                else "ok"
            )
            text.append(
                "| %s | %s | %s | %s |"
                % (name, step, more if s["ok"] else "**failed**" if s["ok"] is False else "not yet run", s["commit"])
            )
    steps = {k: s for k, s in r["stages"].get("bench", {"steps": {}})["steps"].items() if s["ok"]}
    rows = [s for k, s in steps.items() if k.startswith("train ")]
    if rows:
        text += [
            "",
            "| training, bf16 | tune.cu | MFU | of the floor | PyTorch | tune.cu is |",
            "|---|---|---|---|---|---|",
        ]
        for s in rows:
            sides = "; ".join(
                "%s %s" % (k, v if isinstance(v, str) else format(v, ",.0f")) for k, v in s["pytorch"].items()
            )
            text.append(
                "| %s | %s %s | %.1f %% | %s | %s | %s the best |"
                % (
                    s["what"],
                    format(s["ours"], ",.0f"),
                    s["unit"],
                    100 * s["mfu"],
                    "%.0f %%" % (100 * s["of_floor"]) if s["of_floor"] else "",
                    sides,
                    ratio(s["ratio_to_best"]),
                )
            )
    if "attention" in steps:
        text += [
            "",
            "| attention, heads of | tokens | causal | dropout | forward, us | PyTorch | backward, us | PyTorch |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for s in steps["attention"]["rows"]:
            peer = s["pytorch_us"] if isinstance(s["pytorch_us"], dict) else {"": s["pytorch_us"]}
            forward, backward = (
                "; ".join("%s %s" % (k, v if isinstance(v, str) else "%.1f" % v[i]) for k, v in peer.items())
                for i in (0, 1)
            )
            text.append(
                "| %d | %d x %d | %s | %g | %.1f | %s | %.1f | %s |"
                % (
                    s["HS"],
                    s["N"] // s["T"],
                    s["T"],
                    "yes" if s["causal"] else "no",
                    s["dropout"],
                    s["forward_us"],
                    forward,
                    s["backward_us"],
                    backward,
                )
            )
    if "kernels" in steps:
        peak = steps.get("peak", {"tflops": PEAK_TFLOPS, "tb_s": PEAK_TB_S})
        text += [
            "",
            "Peaks in the same run: %.0f TFLOP/s, %.2f TB/s." % (peak["tflops"], peak["tb_s"]),
            "",
            "| kernel | shape | us | of the peak | PyTorch, us | tune.cu is |",
            "|---|---|---|---|---|---|",
        ]
        for s in steps["kernels"]["rows"]:
            fraction = s["tflops"] / peak["tflops"] if s["flop"] else s["tb_s"] / peak["tb_s"]
            peer = s["pytorch_us"]
            text.append(
                "| %s | %s | %.1f | %.0f %% of %s | %s |"
                % (
                    s["kernel"],
                    s["shape"],
                    s["us"],
                    100 * fraction,
                    "TFLOP/s" if s["flop"] else "TB/s",
                    peer + " | " if isinstance(peer, str) else "%.1f | %s" % (peer, ratio(peer / s["us"])),
                )
            )
    return "\n".join(text) + "\n"


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    p = argparse.ArgumentParser(prog="dev/gpu_check.sh")
    p.add_argument("out", type=pathlib.Path, help="folder of GPU.json and GPU.md")
    p.add_argument("--only", choices=STAGES)
    p.add_argument("--step", help="of --only")
    p.add_argument("--dry-run", action="store_true", help="tiny sizes, on the shim and on PyTorch's CPU")
    a = p.parse_args()
    if a.step and not a.only:
        p.error("--step: expected --only STAGE with it")
    facts = machine(a.dry_run)
    a.out.mkdir(parents=True, exist_ok=True)
    path = a.out / (re.sub(r"\s+", "_", facts["gpu"]) + ".json")
    result = json.loads(path.read_text()) if path.exists() else {"stages": {}}
    result.update(dry_run=a.dry_run, date=now(), commit=commit(), **facts)
    with tempfile.TemporaryDirectory() as tmp:
        check = Check(
            a, pathlib.Path(tmp) if a.dry_run else ROOT / "runs/gpu-check", facts["versions"]["torch"] != "none"
        )
        for stage in [a.only] if a.only else STAGES:
            say("%s on %s%s" % (stage, facts["gpu"], ", on the shim" if a.dry_run else ""))
            check.stage(stage, result)
            path.write_text(json.dumps(result, indent=1) + "\n")
            path.with_suffix(".md").write_text(markdown(result))
    say("wrote %s and %s" % (path, path.with_suffix(".md").name))
    ran = [a.only] if a.only else STAGES
    sys.exit(
        0
        if all(s["ok"] for stage in ran for s in result["stages"][stage]["steps"].values())
        and not any(result["stages"][s]["not_finished"] for s in ran)
        else 1
    )


if __name__ == "__main__":
    main()
