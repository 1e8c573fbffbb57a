"""What the compiler made of the attention kernels: no spills, no local memory, as many blocks per SM as flash.cuh says, tensor-core
instructions, and 16 bytes at a time.

    python3 test/machine_code.py PTXAS_LOG CUBIN       what nvcc -Xptxas -v said, and the machine code (looked at where there is a cuobjdump)
    python3 test/machine_code.py --write PTXAS_LOG     writes the table of what each kernel takes, test/machine_code.tsv

A different compiler may use a few registers more or less: the table holds only for the compiler that it names, the limits for all.
"""
import collections
import glob
import os
import re
import shutil
import site
import subprocess
import sys

TABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "machine_code.tsv")
BLOCKS = 2  # per SM, in a register file of 65,536; 256 threads: 1
# instruction: what for
EVERY = {"HMMA.16816.F32.BF16": "products of bf16 on the tensor cores", "LDSM.16.M88.4": "ldmatrix", "LDSM.16.MT88.4": "ldmatrix.trans",
         "LDGSTS.E.BYPASS.128": "cp.async of 16 bytes", "STG.E.128": "16 bytes to global memory", "MUFU.EX2": "ex2"}
FEW = {"LDL": "local memory", "STL": "local memory", "STG.E.U16": "2 bytes to global memory", "LDG.E.U16": "2 bytes from global memory"}


def compiler():
    out = subprocess.run([os.environ.get("NVCC", "nvcc"), "--version"], capture_output=True, text=True).stdout
    return "nvcc " + (re.search(r"V(\d+\.\d+\.\d+)", out) or ["", "?"])[1]


def short(name):
    """flash_dq_kernel<64> of a mangled name"""
    m = re.match(r"_ZN3gpu\d+([a-z_0-9]+?_kernel)(?:I(.*?)EEv|E)", name)
    if not m:
        return name
    args = re.findall(r"Li(\d+)|Lb([01])", m[2] or "")
    return m[1] + ("<%s>" % ", ".join(i or ("false", "true")[int(b)] for i, b in args) if args else "")


def read_log(path):
    """{(kernel, architecture): (registers, bytes of stack, of spills)}"""
    kernels, name, memory = {}, None, (0, 0)
    for line in open(path):
        if m := re.search(r"Compiling entry function '(\S+)' for '(\S+)'", line):
            name = short(m[1]), m[2]
        elif m := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            memory = int(m[1]), int(m[2]) + int(m[3])
        elif m := re.search(r"Used (\d+) registers", line):
            kernels[name] = (int(m[1]), *memory)
    return {k: v for k, v in kernels.items() if k[0].startswith(("flash_", "attention_"))}


def find_cuobjdump():
    where = [os.path.join(d, "nvidia/*/bin/cuobjdump") for d in [".deps"] + site.getsitepackages()] + ["/usr/local/cuda/bin/cuobjdump"]
    return os.environ.get("CUOBJDUMP") or shutil.which("cuobjdump") or next((p for w in where for p in glob.glob(w)), None)


def instructions(cuobjdump, cubin):
    """{kernel: {instruction: how many}}"""
    out = subprocess.run([cuobjdump, "-sass", cubin], capture_output=True, text=True, check=True).stdout
    kernels, now = collections.defaultdict(collections.Counter), None
    for line in out.splitlines():
        if m := re.search(r"Function : (\S+)", line):
            now = short(m[1])
        elif m := re.match(r"\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_.]+)", line):
            kernels[now][m[1]] += 1
    return kernels


def main():
    if sys.argv[1:2] == ["--write"]:
        with open(TABLE, "w") as f:
            f.write("# %s -O3: registers of a thread, bytes of stack, bytes spilled. Written by test/machine_code.py --write\n" % compiler())
            for (kernel, arch), figures in sorted(read_log(sys.argv[2]).items()):
                f.write("\t".join([kernel, arch, *map(str, figures)]) + "\n")
        return
    bad = []
    log, cubin = sys.argv[1:3]
    kernels = read_log(log)
    if len({k for k, _ in kernels}) < 12:
        bad.append("%s: expected 12 attention kernels or more, found %d: what did nvcc -Xptxas -v print?" % (log, len({k for k, _ in kernels})))
    for (kernel, arch), (registers, stack, spilled) in kernels.items():
        if stack or spilled:
            bad.append("%s, %s: %d bytes of local memory, %d of spills: expected none" % (kernel, arch, stack, spilled))
        threads = 256 if re.match(r"flash_dkv_kernel<128|attention_delta|flash_dq_store", kernel) else 128
        if registers * threads * (1 if threads == 256 else BLOCKS) > 65536:
            bad.append("%s, %s: %d registers: two blocks of 128 threads do not fit an SM" % (kernel, arch, registers))
    lines = open(TABLE).read().splitlines()
    if compiler() not in lines[0]:
        print("the table of registers: skipped: it is for another compiler (%s), this one is %s" % (lines[0].split(":")[0].strip("# "), compiler()))
    else:
        table = {tuple(f[:2]): tuple(map(int, f[2:])) for f in (x.split("\t") for x in lines[1:])}
        for key in sorted(set(table) | set(kernels)):
            if table.get(key) != kernels.get(key):
                bad.append("%s, %s: registers, stack, spills are %s, %s says %s: if that is as it should be, run test/machine_code.py --write %s"
                           % (*key, kernels.get(key), os.path.basename(TABLE), table.get(key), log))
    cuobjdump = find_cuobjdump()
    if not cuobjdump:
        print("the machine code: skipped: there is no cuobjdump here")
    else:
        code = instructions(cuobjdump, cubin)
        tensor = {k: c for k, c in code.items() if re.match(r"flash_(forward|dq|dkv)_kernel", k)}
        if len(tensor) != 12:
            bad.append("%s: expected forward, dq, dkv and dkv with atomics for three head sizes, found %s" % (cubin, sorted(tensor)))
        for kernel, count in tensor.items():
            bad += ["%s: no %s (%s)" % (kernel, x, why) for x, why in EVERY.items() if not count[x]]
            bad += ["%s: %d %s (%s)" % (kernel, count[x], x, why) for x, why in FEW.items() if count[x]]
        for kernel, count in code.items():
            if re.match(r"attention_delta", kernel) and not count["LDG.E.128"]:
                bad.append("%s: no LDG.E.128 (16 bytes from global memory)" % kernel)
    for b in bad:
        print(b)
    if not bad:
        print("%d attention kernels, %s, %s" % (len(kernels), compiler(), "machine code looked at" if cuobjdump else "no cuobjdump"))
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
