#!/usr/bin/env python3
"""What ptxas made of every kernel of every program, for the H100 and H200 (sm_90): registers, shared memory, and that
nothing spills.

    python3 dev/ptxas.py            compares with dev/results/ptxas.tsv, exits 1 where they differ
    python3 dev/ptxas.py --write    writes that table again (after looking at what changed)

Reads what nvcc said when the GPU build was compiled (build/gpu-*/*.o.ptxas; make test-gpu). finetune_cls holds the
kernels of train_bert, sft those of train_gpt.
With cuobjdump (of the toolkit, or CUOBJDUMP=PATH) it also looks at the machine code: kernels that are to move 16 bytes
at a time must do so, and the attention kernels in bf16 must use the tensor cores, ldmatrix and cp.async.
Exits 0 and says SKIPPED where there is no nvcc. Registers are those of one version of nvcc, named in the table; with
another version only spills and stack are checked.
"""

import collections
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TABLE = os.path.join(ROOT, "dev/results/ptxas.tsv")
OBJECTS = [
    f"build/gpu-{precision}/{program}.o" for program in ("finetune_cls", "sft") for precision in ("bf16", "fp32")
]
# kernel (its first template argument is the width, 16 bytes of it) → loads of 16 bytes, stores of 16 bytes that it must
# have at least
WIDE = {
    "layernorm_forward_kernel": (4, 2),
    "layernorm_backward_kernel": (4, 2),
    "embedding_forward_kernel": (3, 1),
    "embedding_runs_kernel": (8, 0),
    "copy_rows_kernel": (1, 1),
    "dropout_forward_kernel": (1, 1),
    "elementwise_kernel": (1, 1),
    "glu_forward_kernel": (2, 1),
    "glu_backward_kernel": (3, 2),
    "crossentropy_kernel": (1, 1),
}
ALWAYS_WIDE = {
    "adamw_update_kernel": (8, 6),
    "norm_chunks_kernel": (4, 0),
    "attention_delta_kernel": (1, 0),
    "rope_kernel": (4, 2),
    "qk_norm_rope_backward_kernel": (6, 2),
}
# attention in bf16 (common/ops/flash.cuh): blocks of how many threads, two of which fit a multiprocessor's 65,536
# registers (of 256 threads one)
FLASH = {"flash_forward_kernel": 128, "flash_dq_kernel": 128, "flash_dkv_kernel": 128, "flash_dkv_kernel<128": 256}
FLASH_HAS = {
    "HMMA.16816.F32.BF16": "products of bf16 on the tensor cores",
    "LDSM.16.M88.4": "ldmatrix",
    "LDSM.16.MT88.4": "ldmatrix.trans",
    "LDGSTS.E.BYPASS.128": "cp.async of 16 bytes",
    "STG.E.128": "16 bytes to global memory",
    "MUFU.EX2": "ex2",
}
FLASH_HAS_NOT = {"STG.E.U16": "2 bytes to global memory", "LDG.E.U16": "2 bytes from global memory"}


def find_nvcc():
    return next((p for p in ["/usr/local/cuda/bin/nvcc", shutil.which("nvcc")] if p and os.path.exists(p)), None)


def demangle(names):
    out = subprocess.run(
        ["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True
    ).stdout.splitlines()
    short = []
    for name in out:
        name = re.sub(r"^void ", "", name).replace("gpu::", "").replace("__nv_bfloat16", "bf16")
        depth, end = 0, len(name)
        for i, c in enumerate(name):  # up to the parameter list: the first ( outside of < >
            depth += (c == "<") - (c == ">")
            if c == "(" and depth == 0:
                end = i
                break
        name = re.sub(r"\((?:gpu::)?Gelu\)0", "erf", name[:end])
        short.append(re.sub(r"\((?:gpu::)?Gelu\)1", "tanh", name))
    return dict(zip(names, short))


def read_ptxas(paths):
    """{kernel: (registers, static shared memory, stack, spill stores, spill loads)}, of what ptxas said of sm_90"""
    rows = {}
    for path in paths:
        with open(path + ".ptxas") as f:
            found = re.findall(
                r"Compiling entry function '(\S+)' for 'sm_90'\n[^\n]*\n"
                r"\s*(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads\n"
                r"[^\n]*Used (\d+) registers([^\n]*)",
                f.read(),
            )
        names = demangle([f[0] for f in found])
        for name, stack, stores, loads, registers, rest in found:
            shared = re.search(r"(\d+) bytes smem", rest)
            rows[names[name]] = (int(registers), int(shared[1]) if shared else 0, int(stack), int(stores), int(loads))
    return rows


def too_many_registers(rows):
    bad = []
    for name, row in sorted(rows.items()):
        threads = next((FLASH[k] for k in sorted(FLASH, reverse=True) if name.startswith(k)), None)
        if threads and row[0] * 256 > 65536:
            bad.append(
                f"{name}: {row[0]} registers: {256 // threads} blocks of {threads} threads do not fit a multiprocessor"
            )
    return bad


def machine_code(cuobjdump, objects):
    """complaints about what an instruction is there for and is missing; how many kernels were asked, and are there"""
    count = {}  # {kernel: {instruction: how many}}
    for path in objects:
        sass = subprocess.run([cuobjdump, "-sass", "-arch", "sm_90", path], capture_output=True, text=True, check=True)
        for line in sass.stdout.splitlines():
            if "Function : " in line:
                now = count[line.split("Function : ")[1].strip()] = collections.Counter()
            elif m := re.match(r"\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_.]+)", line):
                now[m[1]] += 1
    of = lambda ops, start, part: sum(n for op, n in ops.items() if op.startswith(start) and part in op)  # noqa: E731
    bad, seen, names = [], 0, demangle(list(count))
    for mangled, ops in count.items():
        name = names[mangled]
        base, arguments = (
            name.split("<")[0],
            [a.strip() for a in name[name.find("<") + 1 : -1].split(",")] if "<" in name else [],
        )
        wanted = ALWAYS_WIDE.get(base) if base != "attention_delta_kernel" or "float" not in arguments else None
        if base in WIDE and arguments[0] in ("4", "8"):
            wanted = WIDE[base]
        if base == "layernorm_forward_kernel" and wanted and arguments[1] == "8" and arguments[0] == "8":
            wanted = (2, 2)  # one pack a lane
        seen += bool(wanted) + (base in FLASH)
        if wanted:
            loads, stores = of(ops, "LDG", ".128"), of(ops, "STG", ".128")
            if loads < wanted[0] or stores < wanted[1]:
                bad.append(
                    f"{name}: expected at least {wanted[0]} loads and {wanted[1]} stores of 16 bytes, "
                    f"found {loads} and {stores}"
                )
        if base in FLASH:
            bad += [f"{name}: no {op} ({why})" for op, why in FLASH_HAS.items() if not ops[op]]
            bad += [f"{name}: {ops[op]} {op} ({why})" for op, why in FLASH_HAS_NOT.items() if ops[op]]
        if of(ops, "LDL", "") or of(ops, "STL", ""):
            bad.append(
                f"{name}: expected no access to local memory, "
                f"found {of(ops, 'LDL', '')} loads and {of(ops, 'STL', '')} stores"
            )
    return bad, seen, len(count)


def main():
    if sys.argv[1:] not in ([], ["--write"]):
        print(__doc__)
        sys.exit(0 if sys.argv[1:] in (["-h"], ["--help"]) else 2)
    nvcc = find_nvcc()
    if not nvcc:
        print("ptxas: SKIPPED: there is no nvcc on this machine")
        return
    missing = [o for o in OBJECTS if not os.path.exists(os.path.join(ROOT, o + ".ptxas"))]
    if missing:
        sys.exit(f"ptxas: expected {missing[0]}.ptxas, found nothing: make DEVICE=gpu {' '.join(OBJECTS)}")
    version = re.search(r"V([\d.]+)", subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout)[1]
    objects = [os.path.join(ROOT, o) for o in OBJECTS]
    rows = read_ptxas(objects)
    if not rows:
        print("ptxas: SKIPPED: this build has no code for sm_90")
        return
    cuobjdump = os.environ.get("CUOBJDUMP") or next(
        (p for p in ["/usr/local/cuda/bin/cuobjdump", shutil.which("cuobjdump")] if p and os.path.exists(p)), None
    )
    if cuobjdump:
        bad, seen, all_kernels = machine_code(cuobjdump, objects)
        print(f"machine code of {all_kernels} kernels: {seen} were searched for the instructions they are written for")
    else:
        bad = []
        print("machine code: SKIPPED: there is no cuobjdump on this machine")
    bad += too_many_registers(rows)
    bad += [
        f"{name}: expected no stack and no spills, found {r[2]} bytes of stack, "
        f"{r[3]} and {r[4]} bytes of spill stores and loads"
        for name, r in sorted(rows.items())
        if any(r[2:])
    ]
    text = f"# ptxas of nvcc {version}, sm_90: python3 dev/ptxas.py --write\n"
    text += "kernel\tregisters\tshared\tstack\tspill stores\tspill loads\n"
    text += "".join("\t".join([name, *map(str, r)]) + "\n" for name, r in sorted(rows.items()))
    if sys.argv[1:]:
        os.makedirs(os.path.dirname(TABLE), exist_ok=True)
        with open(TABLE, "w") as f:
            f.write(text)
    else:
        with open(TABLE) as f:
            recorded = f.read()
        if f"nvcc {version}," not in recorded:
            print(
                f"table: SKIPPED: {os.path.relpath(TABLE, ROOT)} is of {recorded.split(',')[0][2:]}, "
                f"this is nvcc {version}; spills were checked"
            )
        elif recorded != text:
            old, new = set(recorded.splitlines()), set(text.splitlines())
            bad += ["in the table, not here: " + x for x in sorted(old - new)] + [
                "here, not in the table: " + x for x in sorted(new - old)
            ]
            bad += ["if that is meant: python3 dev/ptxas.py --write"]
    spills = any(any(r[2:]) for r in rows.values())
    most = max(r[0] for r in rows.values())
    print(f"{len(rows)} kernels, at most {most} registers; {'SPILLS' if spills else 'no stack, no spills'}")
    for line in bad:
        print(line)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
