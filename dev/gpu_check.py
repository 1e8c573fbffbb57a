"""The stages of dev/gpu_check.sh, which says how to call it.

    build     all programs and test binaries for the GPU, in bf16 and fp32, and the CPU programs that they are compared with
    kernels   every kernel natively against the CPU's loops, fp32 and bf16
    models    PyTorch's logits, loss and gradients (test/fixtures); then a run of each of the four programs on the GPU, in fp32 and bf16, against the CPU
    sanitize  compute-sanitizer's memcheck and racecheck: the kernel tests at small shapes, two steps of each program
    bench     training and single kernels beside PyTorch (dev/bench/train_gpu.py, kernels_gpu.py)

A stage has nine minutes. What it did not get to is listed as not finished; called again at the same commit, it does these and whatever failed.
Exit code: 0 all passed, 1 something failed or did not finish, 2 no GPU or a wrong command line.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROGRAMS = ("train_bert", "finetune_cls", "train_gpt", "sft")
STAGES = ("build", "kernels", "models", "sanitize", "bench")
WORK = ROOT / "build/gpu_check"  # data and runs

# Limits of |loss on the GPU − loss on the CPU| / loss, of the largest over the run's steps. fp32: the same arithmetic in another order, as on the
# shim, where the programs' tests allow 1e-4 over as few steps. bf16: weights, activations and logits have 8 bits, and every rounding is off by 2^-9 at
# most, 0.2 %; the loss is a mean over hundreds of targets, in which most of that cancels, but the rounded weights are what all of them see. Five such
# roundings, none cancelled, are 1 %.
LIMIT = {"fp32": 1e-4, "bf16": 1e-2}


class NoTime(Exception):
    pass


class Check:
    def __init__(self, a):
        self.out, self.dry, self.limit_s = pathlib.Path(a.out).resolve(), a.dry_run, a.limit
        self.gpu = "dry run" if self.dry else gpu_name()
        self.device = "shim" if self.dry else "gpu"
        self.name = re.sub(r"\W+", "_", self.gpu)
        self.commit = commit()
        self.lock = threading.Lock()
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.out / (self.name + ".json")
        earlier = path if path.exists() else ROOT / "dev/results" / path.name
        self.result = json.loads(earlier.read_text()) if earlier.exists() else {"gpu": self.gpu, "dry_run": self.dry, "stages": {}}

    # ---- a stage
    def run(self, stage):
        self.begin, self.stage = time.time(), stage
        before = self.result["stages"].get(stage, {})
        # at the same commit, what passed stays
        kept = [r for r in before.get("rows", []) if r["passed"]] if before.get("commit") == self.commit and not (self.commit or "+").endswith("+") and stage != "build" else []
        self.part = {"date": time.strftime("%Y-%m-%d"), "commit": self.commit, "machine": machine(), "rows": kept, "not_finished": []}
        self.result["stages"][stage] = self.part
        self.log = open(self.out / ("%s_%s.log" % (self.name, stage)), "w")
        print("%s:" % stage, flush=True)
        items = getattr(self, stage)()
        done = {r["what"] for r in kept}
        self.part["not_finished"] = [what for what, _ in items if what not in done]
        self.write()
        workers = max(1, (os.cpu_count() or 1) // 2) if stage == "build" else 1  # nvcc makes two architectures at a time
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda item: self.item(*item), [i for i in items if i[0] not in done]))
        self.part["seconds"] = round(time.time() - self.begin, 1)
        self.write()
        self.log.close()

    def item(self, what, do):
        """One row of the result: do() returns what it has to say, or raises"""
        begin = time.time()
        row = {"what": what, "passed": False}
        try:
            self.left()
            row.update(do() or {}, passed=True)
        except NoTime:
            print("  not finished: %s" % what, flush=True)
            return
        except (Exception, SystemExit) as e:  # whatever went wrong is this row's result, and the others go on
            row["error"] = str(e)[-1500:]
        row["seconds"] = round(time.time() - begin, 1)
        with self.lock:
            self.part["rows"].append(row)
            self.part["not_finished"].remove(what)
            print("  %s %s (%.1f s)%s" % ("ok  " if row["passed"] else "FAIL", what, row["seconds"], "" if row["passed"] else ": " + row["error"][-300:]), flush=True)
            self.write()

    def left(self):
        seconds = self.begin + self.limit_s - time.time()
        if seconds <= 0:
            raise NoTime
        return seconds

    def shell(self, *command, **env):
        """Output of a command; a failure raises, running out of the stage's time too."""
        command = [str(c) for c in command]
        try:
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=self.left(),
                                  env={**os.environ, **env})
        except subprocess.TimeoutExpired:
            raise NoTime
        with self.lock:
            self.log.write("$ %s\n%s\n" % (" ".join(command), done.stdout[-20000:]))
            self.log.flush()
        if done.returncode:
            raise RuntimeError("%s: exit code %d: %s" % (" ".join(command), done.returncode, done.stdout.strip()[-1000:]))
        return done.stdout

    def write(self):
        for ending, text in ((".json", json.dumps(self.result, indent=1) + "\n"), (".md", markdown(self.result))):
            tmp = self.out / (self.name + ending + ".tmp")
            tmp.write_text(text)
            tmp.replace(self.out / (self.name + ending))

    def make(self, device, precision, *targets):
        self.shell("make", "-j2", "DEVICE=" + device, "PRECISION=" + precision, *targets)

    def binary(self, name, precision="fp32"):
        if self.dry and name.startswith("test_"):
            return "build/test/" + name + ("_shim" if "fixtures" in name else "")
        return "build/%s-%s/%s" % (self.device, precision, name)

    # ---- build
    def build(self):
        targets = [(self.device, p, self.binary(t, p)) for p in ("bf16", "fp32") for t in PROGRAMS]
        targets += [(self.device, "fp32", self.binary(t)) for t in ("test_kernels", "test_flash", "test_fixtures", "test_gpt_fixtures")]
        targets += [(self.device, "bf16", self.binary(t, "bf16")) for t in ("bench_kernels", "bench_attention")]
        targets += [("cpu", "fp32", "build/cpu-fp32/" + t) for t in PROGRAMS]
        self.make("cpu", "fp32", "build/files.o", "build/test/main.o", "data/tokenize")  # what the others share
        return [(target, lambda d=device, p=precision, t=target: self.make(d, p, t)) for device, precision, target in targets]

    def need(self, *binaries):
        """For a stage by itself: builds what it runs."""
        missing = [b for b in binaries if not (ROOT / b).exists()]
        for device, precision in {tuple(b.split("/")[1].split("-")) if "-" in b else (self.device, "fp32") for b in missing}:
            mine = [b for b in missing if b.startswith("build/%s-%s/" % (device, precision)) or "-" not in b]
            self.shell("make", "-j%d" % max(2, (os.cpu_count() or 2) // 2), "DEVICE=" + device, "PRECISION=" + precision, *mine)
        if not (ROOT / "data/tokenize").exists():
            self.shell("make", "data/tokenize")

    # ---- kernels
    def tests(self, binary, *arguments, **env):
        out = self.shell(*arguments, binary, *(["-tc=gelu,dropout,bf16*"] if self.dry else []), **env)
        cases = re.search(r"test cases:\s+(\d+) \|\s+(\d+) passed \|\s+(\d+) failed", out)
        if not cases or cases.group(3) != "0":
            raise RuntimeError("%s: expected that all test cases pass, found: %s" % (binary, out[-500:]))
        return {"cases": int(cases.group(2))}

    def kernels(self):
        binaries = [self.binary(t) for t in ("test_kernels", "test_flash")]
        self.need(*binaries)
        return [(b.split("/")[-1] + ", fp32 and bf16", lambda b=b: self.tests(b, TEST_SMALL="1" if self.dry else "0")) for b in binaries]

    # ---- models
    def toy(self):
        if not (WORK / "toy/instruct_one/val.bin").exists():
            shutil.rmtree(WORK / "toy", ignore_errors=True)
            self.shell(sys.executable, "data/toy.py", "--out", WORK / "toy", "--documents", 2000, "--labels", 200, "--stories", 2000, "--rows", 2000)

    def flags(self, program, steps, init):
        """A small run of a program; init: the folder of the runs that finetune_cls and sft begin with"""
        common = ["--steps", steps, "--eval-every", 0, "--dropout", 0.1, "--warmup", 2]
        size = ["--layers", 2, "--width", 128, "--lr", 1e-3, "--eval-tokens", 1024]
        toy = WORK / "toy"
        return {"train_bert": ["--data", toy / "text", "--max-len", 32, "--batch-tokens", 512, "--accum", 2, *size],
                "finetune_cls": ["--data", toy / "reviews", "--init", init / "train_bert/last", "--max-len", 32, "--batch", 16, "--dev-split", 0, "--lr", 1e-4],
                "train_gpt": ["--data", toy / "gpt/text", "--max-len", 128, "--batch-tokens", 512, "--accum", 2, *size],
                "sft": ["--data", toy / "instruct_one", "--init", init / "train_gpt/last", "--batch", 8, "--lr", 1e-4]}[program] + common

    def train(self, binary, program, steps, out, *before):
        shutil.rmtree(out, ignore_errors=True)
        self.shell(*before, binary, *self.flags(program, steps, WORK / "cpu-fp32"), "--out", out)
        rows = [json.loads(line) for line in open(out / "metrics.jsonl")]
        return [r["loss"] for r in rows if "loss" in r]

    def compare(self, program, precision, steps):
        self.toy()
        for p in ("train_bert", "train_gpt", program):  # the first two are what the others begin with
            out = WORK / "cpu-fp32" / p
            if not (out / "last").exists() or (p == program and precision == "fp32"):
                self.train("build/cpu-fp32/" + p, p, steps, out)
        cpu = [json.loads(line)["loss"] for line in open(WORK / "cpu-fp32" / program / "metrics.jsonl") if '"loss"' in line]
        mine = self.train(self.binary(program, precision), program, steps, WORK / (self.device + "-" + precision) / program)
        if len(cpu) != len(mine):
            raise RuntimeError("expected %d losses, found %d" % (len(cpu), len(mine)))
        apart = max(abs(x - y) / max(x, 0.1) for x, y in zip(cpu, mine))
        if not apart <= LIMIT[precision]:
            raise RuntimeError("expected losses that differ by at most %g of the CPU's, found %.3g; CPU %s, GPU %s" % (LIMIT[precision], apart, cpu, mine))
        return {"steps": steps, "largest_difference": apart, "limit": LIMIT[precision], "first_loss": mine[0], "last_loss": mine[-1]}

    def models(self):
        fixtures = [self.binary(t) for t in ("test_fixtures", "test_gpt_fixtures")]
        self.need(*fixtures, *(self.binary(p, x) for p in PROGRAMS for x in ("fp32", "bf16")), *("build/cpu-fp32/" + p for p in PROGRAMS))
        shutil.rmtree(WORK / "cpu-fp32", ignore_errors=True)
        steps = 3 if self.dry else 20
        items = [(b.split("/")[-1] + ": PyTorch's logits, loss and gradients", lambda b=b: {"cases": self.cases(self.shell(b))}) for b in fixtures]
        for p in PROGRAMS:
            items += [("%s, %s: losses of %d steps beside the CPU's" % (p, x, steps), lambda p=p, x=x: self.compare(p, x, steps)) for x in ("fp32", "bf16")]
        return items

    def cases(self, out):
        return int(re.search(r"test cases:\s+(\d+)", out).group(1))

    # ---- sanitize
    def sanitize(self):
        sanitizer = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
        self.need(*(self.binary(t) for t in ("test_kernels", "test_flash")), *(self.binary(p, "bf16") for p in PROGRAMS),
                  *("build/cpu-fp32/" + p for p in ("train_bert", "train_gpt")))
        items = []
        for tool in ("memcheck", "racecheck"):
            before = [] if self.dry else [sanitizer, "--tool", tool, "--error-exitcode", 9]
            for t in ("test_kernels", "test_flash"):
                items.append(("%s: %s at small shapes" % (tool, t), lambda t=t, b=before: self.tests(self.binary(t), *b, TEST_SMALL="1")))
        for p in PROGRAMS:
            before = [] if self.dry else [sanitizer, "--tool", "memcheck", "--error-exitcode", 9]
            items.append(("memcheck: %s, bf16, 2 steps" % p, lambda p=p, b=before: self.steps(p, b)))
        return items

    def steps(self, program, before):
        self.toy()
        for p in ("train_bert", "train_gpt"):
            if not (WORK / "cpu-fp32" / p / "last").exists():
                self.train("build/cpu-fp32/" + p, p, 2, WORK / "cpu-fp32" / p)
        self.train(self.binary(program, "bf16"), program, 2, WORK / "sanitize" / program, *before)

    # ---- bench
    def bench(self):
        self.need(*(self.binary(p, "bf16") for p in PROGRAMS), *(self.binary(b, "bf16") for b in ("bench_kernels", "bench_attention")))
        dry = ["--dry-run"] if self.dry else []
        items = []
        for row in ("gpt2", "bert128", "finetune", "bert512", "sft"):
            items.append((row, lambda r=row: {"training": last_json(self.shell(sys.executable, "dev/bench/train_gpu.py", "--row", r, "--work", WORK / "bench", *dry))}))
        items.insert(1, ("kernels", lambda: {"kernels": last_json(self.shell(sys.executable, "dev/bench/kernels_gpu.py", *dry))}))
        return items


def last_json(text):
    return json.loads(text.strip().splitlines()[-1])


# ---------------------------------------------------------------- the machine
def first_line(*command):
    try:
        out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=120).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return None
    return out.splitlines()[0].strip() if out else None


def gpu_name():
    name = first_line("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    if not name:
        print("gpu-check: there is no GPU here (nvidia-smi names none): nothing was run; --dry-run tries the command without one", file=sys.stderr)
        sys.exit(2)
    return name


def commit():
    """of the tree, with + if files differ from it; COMMIT=... where the tree came without its history"""
    head = first_line("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    changed = head and first_line("git", "-C", str(ROOT), "status", "--porcelain", "-uno")
    return (head + ("+" if changed else "")) if head else os.environ.get("COMMIT")


def machine():
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    release = re.search(r"release [\d.]+, V([\d.]+)", subprocess.run([nvcc, "--version"], stdout=subprocess.PIPE, text=True).stdout) if os.path.exists(nvcc) else None
    return {"driver": first_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"), "nvcc": release and release.group(1), "cores": os.cpu_count(),
            "torch": first_line(sys.executable, "-c", "import torch; print(torch.__version__)"),
            "transformers": first_line(sys.executable, "-c", "import transformers; print(transformers.__version__)")}


# ---------------------------------------------------------------- the table
def number(x, form="%.2f"):
    return "" if x is None else form % x


def markdown(result):
    lines = ["# %s%s" % (result["gpu"], ": tiny sizes on the CPU, to try the command; no figure here means anything" if result["dry_run"] else ""), ""]
    lines += ["| stage | date | commit | driver, nvcc, torch | passed | failed | not finished |", "|---|---|---|---|---|---|---|"]
    for stage in STAGES:
        p = result["stages"].get(stage)
        if not p:
            lines.append("| %s | not yet run | | | | | |" % stage)
            continue
        good = sum(r["passed"] for r in p["rows"])
        versions = ", ".join(str(p["machine"][k]) for k in ("driver", "nvcc", "torch"))
        lines.append("| %s | %s | %s | %s | %d | %d | %s |" % (stage, p["date"], p["commit"], versions, good, len(p["rows"]) - good, ", ".join(p["not_finished"])))
    bench = [r for r in result["stages"].get("bench", {}).get("rows", []) if r["passed"]]
    training = [r["training"] for r in bench if "training" in r]
    if training:
        lines += ["", "| training, bf16 | tune.cu | MFU | of the floor | PyTorch | tune.cu is |", "|---|---|---|---|---|---|"]
        for t in training:
            sides = "; ".join("%s %s" % (k, v if isinstance(v, str) else format(v, ",.0f")) for k, v in t["pytorch"].items())
            ratios = "; ".join("%.2f x %s" % (v, k) for k, v in t["ratio"].items())
            lines.append("| %s | %s %s | %.1f %% | %s | %s | %s |" % (t["what"], format(t["ours"], ",.0f"), t["unit"], 100 * t["mfu"],
                                                                    number(t["of_floor"] and 100 * t["of_floor"], "%.0f %%"), sides, ratios))
    for k in (r["kernels"] for r in bench if "kernels" in r):
        lines += ["", "Peaks by PyTorch: %s TFLOP/s (bf16, 8192^3), %s TB/s (copy)." % (number(k["peak_tflops"], "%.0f"), number(k["copy_tb_s"])), "",
                  "| kernel, bf16 | shape | us | rate | of the peak | PyTorch, us | tune.cu is |", "|---|---|---|---|---|---|---|"]
        for r in k["rows"]:
            rate = "%.0f TFLOP/s" % r["tflops"] if "tflops" in r else "%.2f TB/s" % r["tb_s"]
            sides = "; ".join("%s %s" % (s, v if isinstance(v, str) else "%.1f" % v) for s, v in r["pytorch"].items())
            lines.append("| %s | %s | %.1f | %s | %s | %s | %s |" % (r["what"], r["shape"], r["us"], rate, number(r["of_peak"] and 100 * r["of_peak"], "%.0f %%"), sides,
                                                                  number(r["ratio"], "%.2f x")))
    failed = [(s, r) for s in STAGES for r in result["stages"].get(s, {}).get("rows", []) if not r["passed"]]
    if failed:
        lines += ["", "Failed:", ""] + ["- %s, %s: %s" % (s, r["what"], r["error"].replace("\n", " ")[-300:]) for s, r in failed]
    return "\n".join(lines) + "\n"


def main():
    p = argparse.ArgumentParser(prog="dev/gpu_check.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out", metavar="OUT", help="folder of the result")
    p.add_argument("--only", choices=STAGES, help="this stage alone")
    p.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU")
    p.add_argument("--limit", type=float, default=530, metavar="SECONDS", help="of a stage (default 530)")
    a = p.parse_args()
    check = Check(a)
    for stage in [a.only] if a.only else STAGES:
        check.run(stage)
    parts = [check.result["stages"][s] for s in ([a.only] if a.only else STAGES)]
    bad = sum(not r["passed"] for part in parts for r in part["rows"])
    unfinished = sum(len(part["not_finished"]) for part in parts)
    print("gpu-check%s: %d passed, %d failed, %d not finished: %s" % (" (dry run)" if a.dry_run else "", sum(r["passed"] for part in parts for r in part["rows"]), bad,
                                                                     unfinished, check.out / (check.name + ".md")))
    sys.exit(1 if bad or unfinished else 0)


if __name__ == "__main__":
    main()
