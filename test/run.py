"""Runs test programs, as many at once as there are cores, adds up what their runners count, and prints "N passed, N
failed" at the end.

    python3 test/run.py [--each] [--jobs N] COMMAND... [--then COMMAND...]

Understands doctest and unittest; any other command (all of them with --each) counts as one test by its exit code and by
saying nothing of a warning. A program that dies, or ends with an error without counting a failure, is one failure.
Output is shown only of what failed. Commands start in the order in which they are given (so the longest come first),
and are reported in that order, with the seconds that each took and those of processor time. What follows --then starts
when all before it is done.
"""

import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile
import time


def count(output, code):
    """(passed, failed, skipped) of a runner's output"""
    passed = failed = skipped = 0
    for ok, bad in re.findall(r"\[doctest\] test cases:\s+\d+ \|\s+(\d+) passed \|\s+(\d+) failed", output):
        passed += int(ok)
        failed += int(bad)
    for n in re.findall(r"^Ran (\d+) tests? in", output, re.M):
        bad = sum(int(x) for x in re.findall(r"(?:failures|errors|unexpected successes)=(\d+)", output))
        skipped = sum(int(x) for x in re.findall(r"skipped=(\d+)", output))
        passed += int(n) - bad - skipped
        failed += bad
    if code != 0 and failed == 0:
        failed += 1
    return passed, failed, skipped


def run(command, at_once):
    """(output, exit code, seconds, seconds of processor time) of a command and its children"""
    environment = dict(os.environ)
    if at_once > 1:  # OpenMP threads that spin for long while they wait would take the cores from the other commands
        environment.setdefault("GOMP_SPINCOUNT", "5000")
    begin = time.time()
    with tempfile.TemporaryFile() as out:
        # a make among the commands shares the jobs of the one that runs this: it inherits its file descriptors
        child = subprocess.Popen(
            ["bash", "-c", command], stdout=out, stderr=subprocess.STDOUT, env=environment, close_fds=False
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        output = out.read().decode(errors="replace")
    return output, child.returncode, time.time() - begin, usage.ru_utime + usage.ru_stime


def report(command, each, output, code, seconds, processor):
    """Prints how a command went → (passed, failed)"""
    passed, failed, skipped = count(output, code)
    if each or passed + failed + skipped == 0:
        good = code == 0 and not re.search(r"\bwarning\b", output, re.I)
        passed, failed = int(good), int(not good)
    if failed:
        print(output)
    for line in output.splitlines():
        if "skipped" in line.lower() and "doctest" not in line and not re.match(r"^(OK|FAILED) \(", line):
            print("  " + line.strip())
    counts = f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")
    print(f"{'FAIL' if failed else 'ok  '} {command}: {counts} ({seconds:.1f} s, {processor:.1f} s CPU)", flush=True)
    return passed, failed


def run_group(commands, each, at_once):
    """Runs commands side by side and reports them in their order → (passed, failed)"""
    total_passed = total_failed = 0
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        running = [pool.submit(run, command, at_once) for command in commands]
        try:
            for command, done in zip(commands, running):
                passed, failed = report(command, each, *done.result())
                total_passed += passed
                total_failed += failed
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    return total_passed, total_failed


def main():
    commands = sys.argv[1:]
    if commands in ([], ["-h"], ["--help"]):
        print(__doc__)
        return
    each = commands[0] == "--each"
    commands = commands[each:]
    at_once = len(os.sched_getaffinity(0))
    if commands[0] == "--jobs":
        at_once = int(commands[1])
        commands = commands[2:]
    total_passed = total_failed = 0
    while commands:
        end = commands.index("--then") if "--then" in commands else len(commands)
        passed, failed = run_group(commands[:end], each, at_once)
        total_passed += passed
        total_failed += failed
        commands = commands[end + 1 :]
    print(f"{total_passed} passed, {total_failed} failed")
    sys.exit(total_failed != 0)


if __name__ == "__main__":
    main()
