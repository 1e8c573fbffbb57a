"""Runs test programs one after the other, adds up what their runners count, and prints "N passed, N failed" at the end.

    python3 test/run.py [--each] COMMAND...

Understands doctest and unittest; any other command (all of them with --each) counts as one test by its exit code. A
program that
dies, or ends with an error without counting a failure, is one failure. Output is shown only of what failed.
"""

import re
import subprocess
import sys
import time


def count(output, code):
    """(passed, failed, skipped) of a runner's output"""
    passed = failed = skipped = 0
    for total, ok, bad in re.findall(r"\[doctest\] test cases:\s+(\d+) \|\s+(\d+) passed \|\s+(\d+) failed", output):
        passed, failed = passed + int(ok), failed + int(bad)
    for n in re.findall(r"^Ran (\d+) tests? in", output, re.M):
        bad = sum(int(x) for x in re.findall(r"(?:failures|errors|unexpected successes)=(\d+)", output))
        skipped = sum(int(x) for x in re.findall(r"skipped=(\d+)", output))
        passed, failed = passed + int(n) - bad - skipped, failed + bad
    if code != 0 and failed == 0:
        failed += 1
    return passed, failed, skipped


def main():
    commands = sys.argv[1:]
    if commands in ([], ["-h"], ["--help"]):
        print(__doc__)
        return
    each = commands[:1] == ["--each"]
    total_passed = total_failed = 0
    for command in commands[each:]:
        begin = time.time()
        done = subprocess.run(
            ["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace", close_fds=False
        )  # a make among them shares the jobs of the one that runs this
        passed, failed, skipped = count(done.stdout, done.returncode)
        if each or passed + failed + skipped == 0:
            good = done.returncode == 0 and not re.search(r"\bwarning\b", done.stdout, re.I)  # a build has to be silent
            passed, failed = int(good), int(not good)
        if failed:
            print(done.stdout)
        for line in done.stdout.splitlines():
            if "skipped" in line.lower() and "doctest" not in line and not re.match(r"^(OK|FAILED) \(", line):
                print("  " + line.strip())
        print(
            f"{'ok  ' if not failed else 'FAIL'} {command}: {passed} passed, {failed} failed{f', {skipped} skipped' if skipped else ''} ({time.time() - begin:.1f} s)",
            flush=True,
        )
        total_passed, total_failed = total_passed + passed, total_failed + failed
    print(f"{total_passed} passed, {total_failed} failed")
    sys.exit(total_failed != 0)


if __name__ == "__main__":
    main()
