"""Runs the fuzzer on every reader for some seconds, as many at once as there are cores; ends with "N passed, N failed".

    python3 test/fuzz/run.py [--seconds 60] [--jobs N] [--only NAME ...]      (make fuzz builds it first)

What is found (inputs that reach new code) stays in build/clang++/fuzz/corpus/NAME, where the next run begins; an input
that fails is kept as build/clang++/fuzz/found/NAME-KIND-HASH, and the command that repeats it is printed.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "clang++" / "fuzz"
FUZZ = BUILD / "fuzz"
# An input may be 16 KB: everything that a file can hold fits, and a run of a few microseconds stays one.
FLAGS = ["-max_len=16384", "-timeout=10", "-rss_limit_mb=2000", "-print_final_stats=1", "-close_fd_mask=0"]


def fuzz(name, seconds):
    """(name, executions, edges covered, error or "") of one reader"""
    corpus, found = BUILD / "corpus" / name, BUILD / "found"
    corpus.mkdir(parents=True, exist_ok=True)
    found.mkdir(parents=True, exist_ok=True)
    seeds = BUILD / "seeds"
    command = [FUZZ, *FLAGS, f"-max_total_time={seconds}", f"-dict={seeds}/{name}.dict"]
    command += [f"-artifact_prefix={found}/{name}-", corpus, seeds / name]
    env = dict(os.environ, FUZZ=name, ASAN_OPTIONS="detect_leaks=1:allocator_may_return_null=0")
    done = subprocess.run([str(c) for c in command], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    text = done.stderr.decode(errors="replace")
    runs = re.search(r"stat::number_of_executed_units: (\d+)", text)
    covered = re.findall(r"cov: (\d+)", text)
    error = ""
    if done.returncode != 0:
        kept = re.search(r"Test unit written to (\S+)", text)
        why = re.search(r"^(fuzz: .*|SUMMARY: .*|==\d+== ?ERROR: .*|.*runtime error: .*)$", text, re.M)
        error = why.group(1) if why else "exit code %d" % done.returncode
        error += "\n    FUZZ=%s %s %s" % (name, FUZZ.relative_to(ROOT), kept.group(1) if kept else "")
    return name, int(runs.group(1)) if runs else 0, int(covered[-1]) if covered else 0, error


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="+", metavar="NAME")
    args = parser.parse_args()
    names = args.only or subprocess.run([FUZZ], stdout=subprocess.PIPE, check=True, text=True).stdout.split()
    subprocess.run([sys.executable, str(ROOT / "test/fuzz/seeds.py"), str(BUILD / "seeds")], check=True)
    failed = runs = 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for name, executed, covered, error in pool.map(lambda n: fuzz(n, args.seconds), names):
            print("%-4s fuzz %-14s %9d inputs, %5d edges" % ("FAIL" if error else "ok", name, executed, covered))
            if error:
                print("    " + error)
            failed += bool(error)
            runs += executed
            sys.stdout.flush()
    print("%d inputs to %d readers, %d s each" % (runs, len(names), args.seconds))
    print("%d passed, %d failed" % (len(names) - failed, failed))
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
