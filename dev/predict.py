#!/usr/bin/env python3
"""How long a training step should take on one H200, from what its kernels execute in the emulator
(test/emulator/README.md). Predicted, never measured: no GPU has run this.

    make predict                                     # needs nvcc, no GPU; writes dev/results/predicted.md
    python3 dev/predict.py --rows gpt2 bert128       # some rows, to stdout

    gpt2      GPT-2 124M, 8 x 64 windows of 1024 tokens a step                     bert128   BERT-base masked LM, 32,768
    finetune  BERT-base classifier, 32 examples of SST-2's lengths a step          bert512   tokens a step, dropout 0.1
    sft       GPT-2 124M on instructions of mixed lengths, 32 rows a step

The programs run as a user would start them, with the shapes and data of dev/bench/train_gpu.py, but of each launch only
--sample blocks (EMULATOR_SAMPLE) and no matrix product. The log of the emulator (EMULATOR_COUNTS) has, for each
launch, how often each line of PTX was executed, what it asks of global and shared memory, and for each product its
shape. Which machine instructions ptxas made of a line, nvdisasm says (PyPI: nvidia-cuda-nvdisasm; NVDISASM=PATH);
without it the emulator's table of PTX opcodes has to do (test/emulator/count.cpp). MODEL below makes a time of it.
"""

import argparse
import bisect
import collections
import json
import math
import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "dev"), str(ROOT / "dev/bench"), str(ROOT / "dev/lib")]
import ptxas  # noqa: E402
import train_gpu as bench  # noqa: E402

TABLE = ROOT / "dev/results/predicted.md"

# ---------------------------------------------------------------- the model of an H200
SMS = 132
CLOCK = 1.7e9  # Hz under load; the most is 1.98
# warp instructions a clock of a multiprocessor: CUDA C++ programming guide, "Arithmetic Instructions", lanes / 32
RATE = {"fma": 4, "imad": 2, "alu": 2, "fp64": 2, "mufu": 0.5, "lsu": 1}
ISSUE = 4
MMA = 1.6  # clocks of a multiprocessor for an mma of 16 x 8 x 16: mma.sync gets some 60 % of what the data sheet has
MEMORY, L2 = 3.5e12, 5.5e12  # bytes/s: of a stream (4.3 were measured at most), and from the L2 cache
PRODUCT = 600e12  # FLOP/s of cuBLASLt on average (790 were measured at most)
# What does not run beside the busiest unit: with 8 warps on a multiprocessor this part of the time of all others, with
# more warps less. Fitted to FLASH_ATTENTION_2, whose instructions and tiles are those of our attention.
OVERLAP, OVERLAP_WARPS = 0.35, 8
# TFLOP/s forward, published by Shah et al., FlashAttention-3 (2024), figure 5, for an H100; and what this model says of
# our kernel at these shapes (dev/bench/attention.cu, 32,768 tokens, in the emulator)
FLASH_ATTENTION_2 = [
    ("heads of 64, T = 512", 282, 294),
    ("heads of 64, T = 1024", 306, 302),
    ("heads of 64, causal, T = 512", 180, 191),
    ("heads of 64, causal, T = 1024", 229, 264),
    ("heads of 128, causal, T = 512", 191, 219),
    ("heads of 128, causal, T = 1024", 260, 210),
]
DEPENDENT = 2  # clocks between two instructions of a warp, at best
LAUNCH, ROUND_TRIP = 1.0e-6, 0.7e-6  # s: from one kernel of a graph to the next; memory's answer, twice in a kernel

MODEL = f"""
A multiprocessor is busy with a block for as long as the busiest of its units, and for a part of the others' time:

- issue: {ISSUE} warp instructions a clock; FMA 4, integer products 2 on the same pipe, ALU 2, FP64 2, MUFU 1/2
- load/store: an instruction a clock, a wavefront of shared memory or a line of global memory a clock
- tensor cores: {MMA} clocks an `mma` of 16 x 8 x 16 (mma.sync has some 60 % of the data sheet's rate)
- of the others {OVERLAP} at {OVERLAP_WARPS} resident warps, in inverse proportion to their number
- a warp's next instruction comes {DEPENDENT} clocks after the last one at best: what bounds small grids

Blocks are shared out whole over {SMS} multiprocessors at {CLOCK / 1e9} GHz, as many at a time as registers and shared
memory allow. All together wait for memory, {MEMORY / 1e12} TB/s, for what they read and write, each byte once, and for
the L2 cache, {L2 / 1e12} TB/s, for every sector. A kernel takes the longest of these, at least two answers of memory of
{ROUND_TRIP * 1e6:.1f} us, and starts {LAUNCH * 1e6:.0f} us after the one before has ended. A product takes
{PRODUCT / 1e12:.0f} TFLOP/s or the time of its bytes, longer where 128 x 128 tiles, split along k, do not fill the
multiprocessors evenly. cuBLASLt's epilogues are taken to be fused and to cost nothing, but for that of bias gradients:
it reads its operand once more. What the host does, and copies over the bus, run beside all this.

Attention's forward pass in TFLOP/s, beside FlashAttention-2 on an H100 (Shah et al., FlashAttention-3, 2024, figure 5):
"""

# machine instruction → pipe; what is in none of them only takes a place in the instruction stream
SASS = {
    "fma": "FFMA FADD FMUL HFMA2 HADD2 HMUL2 FFMA32I FADD32I FMUL32I",
    "imad": "IMAD IDP",
    "alu": "IADD3 LOP3 SHF ISETP FSETP SEL FSEL FMNMX IMNMX VIMNMX LEA PRMT MOV PLOP3 F2FP VIADD IABS P2R R2P BMSK "
    "SGXT VOTE I2FP IADD SHL SHR LOP R2UR FSWZADD HSETP2 HMNMX2 VOTEU I2I MOV32I",
    "fp64": "DADD DFMA DMUL DSETP",
    "mufu": "MUFU F2I I2F F2F POPC FLO BREV FCHK FRND",
    "lsu": "LDG STG LDS STS LDSM LDGSTS ATOM ATOMG ATOMS RED SHFL LD ST LDL STL MATCH REDUX",
    "tensor": "HMMA IMMA DMMA",
}
PIPE_OF = {op: pipe for pipe, ops in SASS.items() for op in ops.split()}
# what is one machine instruction in any case: how many copies of a line's are there?
ANCHOR = re.compile(r"(ld|st)\.(global|shared)|ldmatrix|mma\.|shfl|cp\.async\.c[ag]|ex2\.|atom|red\.")


def find_nvdisasm():
    wheels = [p for d in sys.path for p in pathlib.Path(d or ".").glob("nvidia/*/bin/nvdisasm")]
    for p in [os.environ.get("NVDISASM"), "/usr/local/cuda/bin/nvdisasm", shutil.which("nvdisasm"), *wheels]:
        if p and os.path.exists(p):
            return p
    return None


class Machine:
    """The machine code of an object's kernels: for each line of its PTX how many instructions of each pipe"""

    def __init__(self, obj, nvdisasm, tmp):
        data = obj.read_bytes()
        at = data.rfind(b".target sm_90")
        begin, end = data.rfind(b"\0", 0, at) + 1, data.find(b"\0", at)
        ptx, cubin = tmp / (obj.stem + ".ptx"), tmp / (obj.stem + ".cubin")
        ptx.write_bytes(data[begin:end])
        self.lines = data[begin:end].decode().split("\n")
        nvcc = ptxas.find_nvcc()
        tool = [
            str(p) for p in [pathlib.Path(nvcc).with_name("ptxas"), shutil.which("ptxas")] if p and os.path.exists(p)
        ]
        subprocess.run([tool[0], "-arch=sm_90", "-O3", "-lineinfo", str(ptx), "-o", str(cubin)], check=True)
        sass = subprocess.run([nvdisasm, "-c", "-gp", str(cubin)], check=True, capture_output=True, text=True).stdout
        self.kernels, now, line = {}, None, 0  # {name: [(line, pipe)]}
        for text in sass.splitlines():
            if m := re.match(r"\.text\.(\S+):", text):
                now = self.kernels[m[1]] = []
            elif text.startswith("$__internal"):  # the slow way of a division: hardly ever taken
                now = []
            elif m := re.search(r'nv_debug_ptx_txt", line (\d+)', text):
                line = int(m[1])
            elif (m := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_]+)", text)) and m[1] != "NOP":
                now.append((line, PIPE_OF.get(m[1], "control")))
        self.weights, self.bodies, name, start = {}, {}, None, None
        for i, text in enumerate(self.lines):  # {name: lines of the braces, from 0}
            if m := re.search(r"\.entry (\w+)", text):
                name, start = m[1], None
            if name and start is None and text.startswith("{"):
                start = i
            if name and text == "}":
                self.bodies[name], name = (start, i), None

    def weights_of(self, name):
        """[(line, {pipe: instructions})], in order. Where ptxas copied a loop's body, each copy counts for its part."""
        if name in self.weights:
            return self.weights[name]
        start, end = self.bodies[name]
        block_of, block, copies = {}, 0, collections.defaultdict(list)
        found = collections.Counter((line, pipe) for line, pipe in self.kernels[name])
        for i in range(start, end):
            text = self.lines[i].strip()
            if text.endswith(":") or text.startswith("@") or text.startswith("bra"):
                block += 1
            block_of[i + 1] = block
            if ANCHOR.search(text):
                n = max(found[i + 1, p] for p in ("lsu", "tensor", "mufu"))
                if n:
                    copies[block].append(n)
        by_line = collections.defaultdict(collections.Counter)
        for line, pipe in self.kernels[name]:
            some = copies.get(block_of.get(line))
            by_line[line][pipe] += 1 / statistics.median_low(some) if some else 1
        self.weights[name] = sorted(by_line.items())
        return self.weights[name]

    def pipes(self, launch):
        """Machine instructions that the launch's blocks executed, by pipe"""
        shift = launch["entry"] - (self.bodies[launch["kernel"]][0] + 1)
        runs = launch["lines"]
        first = [r[0] for r in runs]
        total = collections.Counter()
        for line, pipes in self.weights_of(launch["kernel"]):
            at = bisect.bisect_right(first, line + shift) - 1
            if at < 0:
                times = runs[0][2]  # before the first instruction: as often as that
            elif line + shift <= runs[at][1]:
                times = runs[at][2]
            else:
                continue  # never executed
            for pipe, n in pipes.items():
                total[pipe] += n * times
        return total


# ---------------------------------------------------------------- times
def resident(threads, registers, shared):
    """Blocks on a multiprocessor: CUDA C++ programming guide, "Technical Specifications per Compute Capability" """
    warps = math.ceil(threads / 32)
    by_registers = 65536 // (math.ceil(registers * 32 / 256) * 256 * warps)
    by_shared = (228 << 10) // (math.ceil((shared + 1024) / 128) * 128)
    return max(1, min(32, 64 // warps, by_registers, by_shared))


def kernel_time(launch, pipes, registers):
    """(seconds, {unit: seconds that it is busy}, warps on a multiprocessor)"""
    ran, blocks = launch["ran"], launch["blocks"]
    warps = math.ceil(launch["threads"] / 32)
    at_once = min(resident(launch["threads"], registers, launch["shared"]), math.ceil(blocks / SMS))
    share = math.ceil(blocks / SMS) / ran / CLOCK  # of one multiprocessor: seconds for a clock of all that ran
    of = collections.Counter(pipes)
    total = sum(of.values())
    unit = {
        "issue": total / ISSUE,
        "FMA": of["fma"] / RATE["fma"] + of["imad"] / RATE["imad"],
        "ALU": of["alu"] / RATE["alu"],
        "FP64": of["fp64"] / RATE["fp64"],
        "MUFU": of["mufu"] / RATE["mufu"],
        "load/store": max(of["lsu"] / RATE["lsu"], launch["wavefronts"][0] + launch["l1_lines"]),
        "tensor": of["tensor"] * MMA,
    }
    unit = {k: v * share for k, v in unit.items()}
    # what a clock of the issue slots is spent on counts once: the pipes behind it are not a further cost
    apart = [
        unit["tensor"],
        max(unit["issue"], unit["FMA"], unit["ALU"], unit["FP64"]),
        unit["MUFU"],
        unit["load/store"],
    ]
    lost = OVERLAP * min(2, OVERLAP_WARPS / (warps * at_once)) * (sum(apart) - max(apart))
    scale = blocks / ran
    unit["memory"] = sum(launch["memory"]) / MEMORY
    unit["L2"] = (launch["loads"][1] + launch["stores"][1]) * 32 * scale / L2
    waves = math.ceil(blocks / (SMS * at_once))
    unit["latency"] = 2 * ROUND_TRIP + waves * total / ran / warps * DEPENDENT / CLOCK
    busy = max(apart) + lost
    return LAUNCH + max(busy, unit["memory"], unit["L2"], unit["latency"]), unit, at_once * warps


BGRADB, BIAS, GELU, DGELU = 512, 4, 164, 192


def product_time(p):
    m, n, k, element, out, add, epilogue = p
    flops = 2 * m * n * k
    moved = element * (m * k + n * k) + out * m * n * (2 if add else 1)
    if epilogue in (GELU, DGELU):
        moved += out * m * n
    sums = element * n * k / MEMORY if epilogue == BGRADB else 0
    tiles = math.ceil(m / 128) * math.ceil(n / 128)
    # few tiles are split along k, into parts of 256 at least
    splits = [tiles * s for s in range(1, max(1, min(16, k // 256)) + 1)]
    busy = max(t / (math.ceil(t / SMS) * SMS) for t in splits) if tiles < 4 * SMS else 1
    return LAUNCH + max(flops / PRODUCT / busy, moved / MEMORY, 2 * ROUND_TRIP) + sums, sums


# ---------------------------------------------------------------- runs
class Row:
    """A workload: the program, what is counted a second and how many of it a step has, how often a run's micro-batches
    come in a real step, tokens a step, and what was counted by hand: that many a second"""

    def __init__(self, what, program, unit, per_step, scale=1, tokens=32768, by_hand=None):
        self.what, self.program, self.unit, self.per_step = what, program, unit, per_step
        self.scale, self.tokens, self.by_hand = scale, tokens, by_hand


ROWS = {
    "gpt2": Row(
        "GPT-2 124M, T = 1024, 8 x 64 windows a step, no dropout",
        *("train_gpt", "tokens", 8 * 65536),
        scale=8,
        tokens=8 * 65536,
        by_hand=555000,
    ),
    "bert128": Row("BERT-base masked LM, T = 128, dropout 0.1", "train_bert", "sequences", 256, by_hand=5700),
    "bert512": Row("BERT-base masked LM, T = 512, dropout 0.1", "train_bert", "sequences", 64, by_hand=1300),
    "finetune": Row("BERT-base classifier, SST-2's lengths, dropout 0.1", "finetune_cls", "examples", 32, tokens=None),
    "sft": Row("GPT-2 124M, instructions of mixed lengths, no dropout", "sft", "rows", 32, tokens=None),
}
# counted by hand, in ns a token
BY_HAND = [("gpt2", "attention, forward", 80), ("gpt2", "attention, backward", 250), ("bert128", "GELU", 163)]


def run(command, **env):
    done = subprocess.run(
        [str(c) for c in command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **env},
    )
    if done.returncode:
        sys.exit("%s: exit code %d\n%s" % (" ".join(map(str, command)), done.returncode, done.stdout[-2000:]))


def start(name, work, sample):
    """Runs the row's program, which leaves WORK/NAME.jsonl"""
    log, s = work / (name + ".part"), bench.Sizes(False)
    shutil.rmtree(work / name, ignore_errors=True)
    env = {"EMULATOR_SAMPLE": str(sample), "EMULATOR_COUNTS": str(log)}
    program = lambda p: ROOT / "build/emulated-bf16" / p  # noqa: E731
    model = ["--layers", 12, "--hidden-size", 768, "--eval-every", 0, "--eval-tokens", 1024, "--lr", 1e-4]
    gpt, bert = work / "gpt2-data", work / "bert-data"
    if name in ("gpt2", "sft") and not (gpt / "val.bin").exists():
        bench.byte_level(gpt, s.gpt.V)
        bench.pack_text(gpt, 2100000, bench.gpt_text)
    if name not in ("gpt2", "sft") and not (bert / "val.bin").exists():
        bench.pack_text(bert, 13 * s.mlm_tokens, bench.bert_text(bench.wordpiece(bert, s.bert.V)))
    if name == "gpt2":  # one of the 8 micro-batches is enough: they are alike
        flags = ["--max-len", 1024, "--positions", 1024, "--batch-tokens", 65536, "--dropout", 0]
        run([program("train_gpt"), "--data", gpt, *model, *flags, "--steps", 1, "--out", work / name], **env)
    elif name.startswith("bert"):
        flags = ["--max-len", name[4:], "--positions", 512, "--batch-tokens", s.mlm_tokens, "--dropout", 0.1]
        run([program("train_bert"), "--data", bert, *model, *flags, "--steps", 1, "--out", work / name], **env)
    else:
        init = work / ("bert128" if name == "finetune" else "gpt2") / "last"
        if not init.exists():
            start("bert128" if name == "finetune" else "gpt2", work, sample)
        folder = work / (name + "-data")
        folder.mkdir(exist_ok=True)
        rng = random.Random(3)
        if name == "finetune":
            words = bench.letters(s.bert.V - 5)
            length = lambda: min(60, 1 + int(rng.expovariate(1 / 11.5)))  # noqa: E731
            rows = "".join("%s\t%s\n" % (" ".join(rng.choices(words, k=length())), "ab"[i % 2]) for i in range(640))
            (folder / "rows.tsv").write_text("text\tlabel\n" + rows)
            read, flags = (
                ["data/classify.py", folder / "rows.tsv"],
                ["--max-len", 128, "--dropout", 0.1, "--dev-split", 0],
            )
        else:
            word = lambda: "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=6))  # noqa: E731
            text = lambda mean: " ".join(  # noqa: E731
                word() for _ in range(max(1, min(40, int(rng.lognormvariate(mean, 0.8)))))
            )
            rows = [json.dumps({"instruction": text(2.3), "output": text(2.6)}) for _ in range(640)]
            (folder / "rows.jsonl").write_text("\n".join(rows) + "\n")
            read = ["data/instructions.py", folder / "rows.jsonl", "--template", "short", "--max-len", 512]
            flags = ["--max-len", 512, "--dropout", 0]
        run([sys.executable, *read, "--tokenizer", init, "--out", folder, "--val-fraction", 0.02])
        flags += ["--data", folder, "--init", init, "--batch", 32, "--steps", 10, "--out", work / name]
        run([program(ROWS[name].program), *flags], **env)
    log.rename(work / (name + ".jsonl"))


def steps_of(log):
    """[[line]]: what each step of a run launched (of a sample no product is timed for a plan)"""
    steps, now = [], []
    for line in map(json.loads, open(log)):
        if line.get("to") == 0 and not any("kernel" in x for x in now):
            now = []  # what came before the first step
        if "graph" in line or ("copy" in line and line["to"] != line["from"]):
            continue  # copies over the bus run beside the kernels
        now.append(line)
        if "adamw_update" in line.get("kernel", ""):
            steps.append(now)
            now = []
    return steps


class Part:
    """All launches of a kernel, or products of a kind, in a step"""

    def __init__(self):
        self.n, self.s, self.warps = 0, 0.0, 0
        self.units, self.ptx, self.sass = (collections.Counter() for _ in range(3))
        self.bytes = self.sectors = self.wavefronts = self.least = self.flops = self.sums = 0


def predict(row, log, machine, registers):
    """{kernel: Part} of a mean step"""
    steps = steps_of(log)
    parts = collections.defaultdict(Part)
    names = ptxas.demangle(sorted({x["kernel"] for step in steps for x in step if "kernel" in x}))
    for step in steps:
        first = next(i for i, x in enumerate(step) if "kernel" in x)
        last = next(i for i, x in enumerate(step) if "norm_chunks" in x.get("kernel", ""))
        for i, x in enumerate(step):  # what comes before, and the update, comes once a step
            times = (row.scale if first <= i < last else 1) / len(steps)
            if "kernel" in x:
                name = names[x["kernel"]]
                part, scale = parts[name], times * x["blocks"] / x["ran"]
                table = {k: v[0] for k, v in x["pipes"].items()}
                pipes = machine.pipes(x) if machine else table
                s, unit, part.warps = kernel_time(x, pipes, registers[name])
                for k, v in unit.items():
                    part.units[k] += times * v
                for into, counts in ((part.ptx, table), (part.sass, pipes)):
                    for k, v in counts.items():
                        into[k] += scale * v
                both = [a + b for a, b in zip(x["loads"], x["stores"])]
                part.bytes += scale * both[0]
                part.sectors += scale * both[1]
                part.wavefronts += scale * x["wavefronts"][0]
                part.least += scale * x["wavefronts"][1]
            elif "product" in x:
                m, n, k, _, _, add, epilogue = x["product"]
                s, sums = product_time(x["product"])
                kind = {BIAS: ", bias", GELU: ", bias and GELU", DGELU: ", GELU's derivative"}
                name = "product" + (", weight gradient" if add else kind.get(epilogue, ""))
                part = parts[name]
                part.flops += times * 2 * m * n * k
                part.sums += times * sums
            else:
                name, moved = ("fill", x["fill"]) if "fill" in x else ("copy", 2 * x["copy"])
                part, s = parts[name], LAUNCH + moved / MEMORY
            part.n += times
            part.s += times * s
    return dict(parts)


# ---------------------------------------------------------------- the page
def group(name):
    for key, what in (
        ("product", "matrix products"),
        ("flash_forward", "attention, forward"),
        ("flash", "attention, backward"),
        ("attention_delta", "attention, backward"),
        ("layernorm", "LayerNorm, dropout, residual"),
        ("add_chunks", "LayerNorm, dropout, residual"),
        ("Gelu", "GELU"),
        ("crossentropy", "cross-entropy"),
        ("embedding", "embeddings"),
        ("adamw", "AdamW and norm"),
        ("norm_", "AdamW and norm"),
    ):
        if key in name:
            return what
    return "other"


def number(x):
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if x >= size:
            return "%.3g%s" % (x / size, letter)
    return "%.3g" % x


def table(header, rows):
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for r in rows:
        yield "| " + " | ".join(map(str, r)) + " |"
    yield ""


def groups_of(parts):
    groups = collections.Counter()
    for name, p in parts.items():
        groups[group(name)] += p.s
    return groups


def rate_of(row, parts):
    rate = row.per_step / sum(p.s for p in parts.values())
    return format(round(rate, 2 - int(math.log10(rate))), ",.0f") + " " + row.unit + "/s"


def kernels_of(row, parts):
    total, groups = sum(p.s for p in parts.values()), groups_of(parts)
    yield "## " + row.what
    yield ""
    shares = ("%s %.0f %%" % (g, 100 * s / total) for g, s in groups.most_common() if s > 0.005 * total)
    yield "%.3g ms a step: %s, predicted. %s." % (total * 1e3, rate_of(row, parts), "; ".join(shares))
    yield ""
    rows = []
    for name, p in sorted(parts.items(), key=lambda x: -x[1].s):
        if p.s < 0.004 * total:
            continue
        cells = [""] * 5
        if p.sass:
            most = max((v, k) for k, v in p.sass.items())
            cells = [
                "%s, %.0f %% %s" % (number(sum(p.sass.values())), 100 * most[0] / sum(p.sass.values()), most[1]),
                "%s, x %.2f" % (number(p.bytes), 32 * p.sectors / p.bytes) if p.bytes else "",
                "x %.2f" % (p.wavefronts / p.least) if p.least else "",
                p.warps,
                ", ".join("%s %.0f %%" % (k, 100 * v / p.s) for k, v in p.units.most_common(3)),
            ]
        elif p.flops:
            cells[4] = "%.0f TFLOP/s" % (p.flops / p.s * 1e-12)
        us = "%.0f" if p.s / p.n > 1e-4 else "%.1f"
        rows.append(
            ["`%s`" % name if p.sass else name, "%.4g" % p.n, "%.3g" % (p.s * 1e3), us % (p.s / p.n * 1e6), *cells]
        )
    head = ["kernel", "a step", "ms", "us each", "warp instructions", "bytes, sectors", "banks", "warps", "busy"]
    yield from table(head, rows)


def gains(row, parts):
    """[(what, seconds that a step would be shorter)], as far as the model can say: work that would not be done"""
    of = lambda *keys: [p for name, p in parts.items() if any(k in name for k in keys)]  # noqa: E731
    shorter = 0
    for name, after in (("GeluOf<erf>", 195 / 438), ("GeluGradient<erf>", 227 / 545)):
        for p in of(name):
            less = [v * (after if k in ("issue", "FMA", "ALU", "MUFU", "latency") else 1) for k, v in p.units.items()]
            shorter += p.s - p.n * LAUNCH - max(less)
    if shorter:
        yield "GELU by erf with one exponential and a polynomial: 195 and 227 instructions for 438 and 545", shorter
    sums = sum(p.sums for p in parts.values())
    yield "bias gradients inside LayerNorm, GELU and attention, not in cuBLASLt's epilogue", sums
    if "no dropout" in row.what:
        backward = sum(p.units["memory"] for p in of("layernorm_backward"))
        yield "LayerNorm backward without dropout: one gradient for sum and branch", backward / 5
    if row.unit == "tokens":
        yield "every row has a target: nothing gathered nor scattered", sum(p.s for p in of("copy_rows"))
    yield "delta in the prologue of dq, which then reads `out`", sum(p.s / 2 for p in of("attention_delta"))
    if row.scale == 1 and "fill" in parts:
        yield "the first micro-batch sets its gradients (beta = 0): nothing to clear", parts["fill"].s


# of heads of 64, T = 512, 32,768 tokens, one layer, by this model (dev/bench/attention.cu in the emulator)
MORE_GAINS = """Not in the table, from attention alone at T = 512: its three passes (forward, dq, and dk with dv) take
175, 237 and 356 us a layer without dropout, 249, 300 and 405 with it.

- Two decisions from each hash would spare up to half of that difference: 1.1 ms, 2 % of a step of BERT-base at T = 512.
- Rescaling the sums only where a row has a new maximum would spare 64 of some 780 instructions a tile and warp of the
  forward pass: 1.4 % of it, since the tensor cores bound it.
"""
HEAD = """# Predicted speed of one H200

**Predicted, never measured**: no GPU has run this project. `make predict` wrote this page. The programs ran in the
[emulator](../../test/emulator/README.md) at full size, of each launch %d blocks and no matrix product; how often each
instruction was executed, and which memory it asked for, was counted and scaled to all blocks."""
MACHINE_CODE = """## Machine code beside PTX

Warp instructions of a step, as the table of PTX opcodes in `test/emulator/count.cpp` estimates them / as nvdisasm shows
them; the first column is machine code over table. ptxas turns many additions and moves of integers into products
(IMAD), so that the FMA pipe shares the work of the ALU.
"""
# on differences to the counts by hand
NOTES = """The counts by hand took the same rates of products and memory. Where they differ:

- Attention of GPT-2: the tiles that warps really multiply, skip or mask are counted here, not estimated.
- Attention of BERT with dropout: a hash for each score keeps the ALU as busy as the tensor cores, and little of it
  overlaps. By hand that was taken to cost less.
- GELU by erf: eight elements take 438 machine instructions forward and 545 backward, as counted by hand.
- Bias gradients: by hand up to 83 ns a token of GPT-2; here cuBLASLt's epilogue costs one more reading of its operand.
- Nothing here waits for the host, and no product is slower than its shape; by hand some of both was allowed for.
"""


def page(rows, sample, nvdisasm):
    """rows: {name: parts}"""
    yield HEAD % sample
    if nvdisasm:
        yield "Machine instructions are those that ptxas makes of each line of PTX (nvdisasm)."
    else:
        yield "Machine instructions are estimated from PTX opcodes (`test/emulator/count.cpp`): there was no nvdisasm."
    yield ""
    summary = []
    for name, parts in rows.items():
        row, total = ROWS[name], sum(p.s for p in parts.values())
        by_hand = format(row.by_hand, ",") if row.by_hand else ""
        launches = sum(p.n for p in parts.values())
        summary.append([row.what, "**%s**" % rate_of(row, parts), by_hand, "%.3g" % (total * 1e3), "%.0f" % launches])
    yield from table(["workload, bf16", "predicted", "counted by hand", "ms a step", "launches a step"], summary)
    compared = []
    for name, what, hand in BY_HAND:
        if name in rows:
            ns = groups_of(rows[name])[what] / ROWS[name].tokens * 1e9
            compared.append([ROWS[name].what, what, hand, "%.0f" % ns])
    yield from table(["workload", "of it, ns a token", "by hand", "here"], compared)
    yield NOTES
    yield "## The model"
    yield MODEL
    yield from table(["", "published", "this model, of our kernel"], FLASH_ATTENTION_2)
    for name, parts in rows.items():
        yield from kernels_of(ROWS[name], parts)
    if nvdisasm:
        yield MACHINE_CODE
        both, pipes = {}, ("fma", "imad", "alu", "mufu", "lsu", "tensor", "control")
        for parts in rows.values():
            both.update({k: p for k, p in parts.items() if p.sass and k not in both})
        yield from table(
            ["kernel", "all", *pipes],
            [
                ["`%s`" % k, "%.2f" % (sum(p.sass.values()) / sum(p.ptx.values()))]
                + ["%s / %s" % (number(p.ptx[x]), number(p.sass[x])) if p.ptx[x] + p.sass[x] else "" for x in pipes]
                for k, p in sorted(both.items())
            ],
        )
    yield "## What would make it faster"
    yield ""
    yield "Work that need not be done, by the same model, each by itself:"
    yield ""
    saved = collections.defaultdict(dict)
    for name, parts in rows.items():
        total = sum(p.s for p in parts.values())
        for what, s in gains(ROWS[name], parts):
            saved[what][name] = "%.3g ms, %.1f %%" % (s * 1e3, 100 * s / total)
    yield from table(["change", *rows], [[what, *(of.get(name, "") for name in rows)] for what, of in saved.items()])
    yield MORE_GAINS


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    p.add_argument("--sample", type=int, default=16, help="blocks of a launch that run (default 16)")
    p.add_argument("--work", type=pathlib.Path, help="keeps data and logs here, and takes the logs that it finds there")
    p.add_argument("--write", action="store_true", help="into dev/results/predicted.md")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        work = (a.work or tmp).resolve()
        work.mkdir(parents=True, exist_ok=True)
        nvdisasm, rows, machines = find_nvdisasm(), {}, {}
        for name in a.rows:
            log = work / (name + ".jsonl")
            if not log.exists():
                start(name, work, a.sample)
            # finetune_cls has the kernels of train_bert, sft those of train_gpt
            obj = (
                ROOT / "build/gpu-bf16" / ("sft.o" if ROWS[name].program in ("train_gpt", "sft") else "finetune_cls.o")
            )
            if obj not in machines:
                machines[obj] = Machine(obj, nvdisasm, tmp) if nvdisasm else None
            registers = {k: v[0] for k, v in ptxas.read_ptxas([str(obj)]).items()}
            rows[name] = predict(ROWS[name], log, machines[obj], registers)
        text = "\n".join(page(rows, a.sample, nvdisasm)).rstrip() + "\n"
        if a.write:
            TABLE.write_text(text)
        else:
            print(text)


if __name__ == "__main__":
    main()
