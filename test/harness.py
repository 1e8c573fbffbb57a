"""What the tests of the programs share: running, killing and resuming them, their files, a small text to train on, bad
inputs.

A test says with W.program which program it is about. Needs Python 3.9 and nothing else.
"""

import atexit
import collections
import hashlib
import json
import math
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def binary(variable, path):
    found = os.path.join(ROOT, os.environ.get(variable, path))
    return found if os.access(found, os.X_OK) else None


TOKENIZE = binary("TOKENIZE", "data/tokenize")
TIMEOUT = 300  # seconds; nothing here takes a tenth of it on an idle machine, on the shim included
TIME_FIELDS = {"tokens_per_s", "of_peak", "seconds"}  # all that may differ between two runs of the same flags


# ---------------------------------------------------------------- running programs
def command(args, program=None):
    return [program or W.program] + [a if isinstance(a, bytes) else str(a) for a in args]


def environment(**extra):
    # one thread unless a test wants more: at these sizes a second one gains nothing, and on a busy machine it waits at
    # every barrier
    return {**os.environ, "OMP_NUM_THREADS": "1", **{k: str(v) for k, v in extra.items()}}


def run(args, code=0, program=None, text="", full_disk=None, memory=None, stdout=subprocess.PIPE, cwd=None, **env):
    """Runs to the end and checks the exit code (None: any). text: standard input. full_disk: no file can grow beyond so
    many bytes. memory: the process gets no more bytes of it."""

    def limit():
        if full_disk is not None:
            # write() then fails with EFBIG, as it does with ENOSPC on a full disk
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (full_disk, full_disk))
        if memory is not None:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    done = subprocess.run(
        command(args, program),
        stdout=stdout,
        stderr=subprocess.PIPE,
        input=text if isinstance(text, bytes) else text.encode(),
        timeout=TIMEOUT,
        cwd=cwd or W.dir,
        env=environment(**env),
        preexec_fn=limit if full_disk is not None or memory is not None else None,
    )
    done.out, done.err = (done.stdout or b"").decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
    if code is not None and done.returncode != code:
        raise AssertionError(
            "exit code %d, expected %d: %s\n%s\n%s"
            % (done.returncode, code, done.args, done.out[-1000:], done.err[-2000:])
        )
    return done


def start(args, program=None, stdin=subprocess.DEVNULL, **env):
    return subprocess.Popen(
        command(args, program),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=stdin,
        cwd=W.dir,
        env=environment(**env),
    )


def wait_until(condition, process, what):
    """Until condition(); False if the process ended before."""
    end = time.time() + TIMEOUT
    while not condition():
        if process.poll() is not None:
            return False
        if time.time() > end:
            process.kill()
            raise AssertionError("waited %d s in vain for %s" % (TIMEOUT, what))
        time.sleep(0.001)
    return True


def finish(process):
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out.decode(), err.decode()


def stop(args, directory, lines, number):
    """Sends a signal after so many lines of metrics in a directory; → exit code, console, standard error"""
    for _ in range(10):
        process = start(args)
        wait_until(lambda: line_count(W.path(directory)) >= lines, process, "%d lines of metrics" % lines)
        process.send_signal(number)
        code, console, err = finish(process)
        if code != 0:
            return code, console, err
        shutil.rmtree(args[args.index("--out") + 1])  # it was done before the signal came: again
    raise AssertionError("ten runs were done before a signal reached them")


# ---------------------------------------------------------------- reading and forging files
def read(path, mode="rb"):
    with open(path, mode) as f:
        return f.read()


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())
    return path


def snapshot(directory):
    """Every file below a directory and a hash of its bytes."""
    return {
        os.path.relpath(os.path.join(d, f), directory): hashlib.sha256(read(os.path.join(d, f))).hexdigest()
        for d, _, files in os.walk(directory)
        for f in files
    }


def metrics(out):
    lines = []
    for line in read(os.path.join(out, "metrics.jsonl"), "r").splitlines():
        lines.append({k: v for k, v in json.loads(line).items() if k not in TIME_FIELDS})
    return lines


def steps_of(out):
    return [m for m in metrics(out) if "loss" in m]


def losses(out):
    return [m["loss"] for m in steps_of(out)]


def validations(out):
    return [m["val_loss"] for m in metrics(out) if "val_loss" in m]


def line_count(out):
    try:
        return read(os.path.join(out, "metrics.jsonl")).count(b"\n")
    except FileNotFoundError:
        return 0


def read_safetensors(path):
    """→ {name: (dtype, shape, bytes)}, metadata"""
    data = read(path)
    (n,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + n])
    metadata = header.pop("__metadata__", {})
    return {
        k: (v["dtype"], v["shape"], data[8 + n + v["data_offsets"][0] : 8 + n + v["data_offsets"][1]])
        for k, v in header.items()
    }, metadata


def inode_of(path):
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return None


def safetensors(tensors):
    """{name: (dtype, shape, bytes)} → the bytes of a file"""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    return with_header(json.dumps(header).encode()) + b"".join(data for _, _, data in tensors.values())


def with_header(text, size=None):
    return struct.pack("<Q", len(text) if size is None else size) + text


def checkpoint(directory):
    """What --resume continues from: the model's bytes, the optimiser's tensors, the counters (without the time)."""
    state, metadata = read_safetensors(os.path.join(directory, "training_state.safetensors"))
    counters = {k: v for k, v in json.loads(metadata["counters"]).items() if k not in TIME_FIELDS}
    name = (
        "adapter_model.safetensors"
        if os.path.exists(os.path.join(directory, "adapter_config.json"))
        else "model.safetensors"
    )
    return read(os.path.join(directory, name)), state, counters


def fnv1a(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def pack_bin(documents, vocab, fingerprint):
    """A .bin file (common/data/bin_file.h) of documents, lists of ids."""
    offsets = [0]
    for d in documents:
        offsets.append(offsets[-1] + len(d))
    ids = [i for d in documents for i in d]
    content = struct.pack("<%dQ" % len(offsets), *offsets) + struct.pack("<%dH" % len(ids), *ids)
    header = struct.pack(
        "<8sIIIIQQQQQQ", b"tunebin\n", 1, 1, 2, 256, len(documents), len(ids), vocab, fingerprint, 0, fnv1a(content)
    ).ljust(248, b"\0")
    return header + struct.pack("<Q", fnv1a(header)) + content


def unpack_bin(data):
    """→ documents, vocabulary size, fingerprint"""
    S, N, vocab, fingerprint = struct.unpack("<QQQQ", data[24:56])
    offsets = struct.unpack("<%dQ" % (S + 1), data[256 : 264 + 8 * S])
    ids = struct.unpack("<%dH" % N, data[264 + 8 * S :])
    return [list(ids[a:b]) for a, b in zip(offsets, offsets[1:])], vocab, fingerprint


# ---------------------------------------------------------------- files with a flaw
def patched(at, new):
    return lambda data: data[:at] + new + data[at + len(new) :]


def header_edit(edit):
    """Changes the JSON header of a safetensors file."""

    def change(data):
        (n,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + n])
        edit(header)
        return with_header(json.dumps(header).encode()) + data[8 + n :]

    return change


def config_edit(**changes):
    return lambda data: json.dumps({**json.loads(data), **changes})


def with_tensor(name, change):
    """A safetensors file with a tensor that is another: change(dtype, shape, bytes) → all three"""

    def forge(data):
        tensors, _ = read_safetensors(write(W.path("forged.safetensors"), data))
        tensors[name] = change(*tensors[name])
        return safetensors(tensors)

    return forge


def not_finite(dtype, shape, values):
    return dtype, shape, struct.pack("<f", math.nan) + values[4:]


# ---------------------------------------------------------------- a small world
WHO = "king queen farmer sailor doctor teacher painter hunter baker singer child soldier".split()
DOES = "rules visits ploughs crosses heals reads paints follows bakes sings breaks guards".split()
WHAT = "country garden meadow ocean village letter picture forest bread melody window castle".split()
HOW = "wise proud tired brave gentle patient silent quick hungry cheerful curious strong".split()


def make_text(seed, documents):
    """Sentences in which every word follows from the others: who does what, and how they are."""
    r = random.Random(seed)
    text = []
    for _ in range(documents):
        for _ in range(r.randint(3, 12)):
            i = r.randrange(len(WHO))
            text.append("the %s %s the %s , for the %s is %s ." % (WHO[i], DOES[i], WHAT[i], WHO[i], HOW[i]))
        text.append("<|endoftext|>")
    return "\n".join(text) + "\n"


class World:
    program = None  # what run() and start() run

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def make(self, kind, tokenizers, documents=300):
        """A temporary directory with train.txt and val.txt, and for each of the tokenizers, {name: size}, a directory
        with it, train.bin and val.bin."""
        self.dir = tempfile.mkdtemp(prefix="tune_test_")
        atexit.register(shutil.rmtree, self.dir)
        write(self.path("train.txt"), make_text(1, documents))
        write(self.path("val.txt"), make_text(2, documents // 10))
        for name, size in tokenizers.items():
            run(["learn", "--type", kind, "--size", size, "--out", name, "train.txt"], program=TOKENIZE)
            for part in ("train", "val"):
                run(
                    [
                        "pack",
                        "--tokenizer",
                        name,
                        "--kind",
                        "text",
                        "--in",
                        part + ".txt",
                        "--out",
                        "%s/%s.bin" % (name, part),
                    ],
                    program=TOKENIZE,
                )

    def variant(self, base, name, files):
        """A copy of a directory in which files are replaced (bytes), changed (a function of the bytes) or missing
        (None)."""
        copy = self.path("variants", name)
        if os.path.exists(copy):
            shutil.rmtree(copy)
        shutil.copytree(self.path(base), copy)
        for file, new in files.items():
            if new is None:
                os.unlink(os.path.join(copy, file))
            else:
                write(os.path.join(copy, file), new(read(os.path.join(copy, file))) if callable(new) else new)
        return copy


W = World()


def set_up(build, what):
    began = time.time()
    build()
    print("made %s in %s (%.1f s)" % (what, W.dir, time.time() - began), flush=True)


# ---------------------------------------------------------------- fine-tuning
def train(out, *flags, data="task", init="run"):
    return ["train", "--init", W.path(init), "--data", W.path(data), "--out", W.path(out), *flags]


def tune(out, *flags, data="task", init="run", code=0, **more):
    return run(train(out, *flags, data=data, init=init), code, **more)


def resume(out, *flags, code=0, **more):
    return run(["--resume", "--out", W.path(out), *flags], code, **more)


def results_of(out):
    return json.loads(read(W.path(out, "results.json")))


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


# ---------------------------------------------------------------- test cases
# a bad input that is not only a command line of W.program
Call = collections.namedtuple("Call", "args text program", defaults=("", None))


class Case(unittest.TestCase):
    maxDiff = 2000

    def assert_one_line(self, err):
        """The one form in which a program fails."""
        self.assertTrue(
            err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1,
            'expected one line "error: ...", found %r' % err,
        )
        self.assertGreater(len(err), 20)
        for word in ("std::", "what():", "terminate", "Sanitizer", "nlohmann", "(null)"):
            self.assertNotIn(word, err)

    def assert_close(self, a, b, limit):
        self.assertEqual(len(a), len(b))
        for i, (x, y) in enumerate(zip(a, b)):
            self.assertLessEqual(abs(x - y), limit, "step %d: %r and %r" % (i + 1, x, y))

    def assert_same_run(self, a, b):
        """Two run directories that one could not tell apart but by the clock."""
        a, b = W.path(a), W.path(b)
        self.assertEqual(metrics(a), metrics(b))
        model_a, state_a, counters_a = checkpoint(a + "/last")
        model_b, state_b, counters_b = checkpoint(b + "/last")
        self.assertEqual(counters_a, counters_b)
        self.assertTrue(state_a == state_b, "last/: the optimiser's state differs")
        self.assertTrue(model_a == model_b, "last/: the models differ")
        self.assertTrue(snapshot(a + "/best") == snapshot(b + "/best"), "best/ differs")
        self.assertEqual(sorted(os.listdir(a)), sorted(os.listdir(b)))

    def check_bad_inputs(self, table):
        """Rows: name, command line or Call, exit code, what the message has to say. Each: one line on standard error
        that says what is wrong, the right exit code, and nothing that was there before is harmed. What is left of
        bad-out is removed. SHOW=1 prints the messages."""
        after = snapshot(W.dir)
        for name, args, code, says in table:
            before = after
            with self.subTest(name):
                call = args if isinstance(args, Call) else Call(args)
                done = run(call.args, None, call.program, call.text)
                after = snapshot(W.dir)
                shutil.rmtree(W.path("bad-out"), ignore_errors=True)
                if os.environ.get("SHOW"):
                    print("\n%-50s %d %s" % (name, done.returncode, done.err.replace(W.dir + "/", "").rstrip()))
                self.assertEqual(done.returncode, code, done.err)
                self.assert_one_line(done.err)
                for part in says:
                    self.assertIn(part, done.err)
                self.assertEqual([f for f in before if after.get(f) != before[f]], [], "files that were there before")
                self.assertEqual([f for f in after if f not in before], [], "files that are left behind")
        print("%d bad inputs" % len(table))

    def check_full_output(self, *commands):
        """Output that cannot be written is an error."""
        with open("/dev/full", "w") as full:
            for args in commands:
                done = run(args, code=1, stdout=full)
                self.assert_one_line(done.err)
                self.assertIn("No space left", done.err)


def main(**programs):
    """Runs the tests of a file; the programs that it cannot do without."""
    for name, found in programs.items():
        if not found:
            sys.exit("error: %s is not built: run make" % name)
    began = time.time()
    result = unittest.main(verbosity=2, exit=False).result
    failed = len(
        {
            str(test).split(" (")[0] + str(getattr(test, "test_case", test))
            for test, _ in result.failures + result.errors
        }
    )
    for test, why in result.skipped:
        print("SKIPPED %s: %s" % (test, why))
    print(
        "%s: %d passed, %d failed%s, %.0f s"
        % (
            os.path.basename(sys.argv[0]),
            result.testsRun - failed - len(result.skipped),
            failed,
            ", %d skipped" % len(result.skipped) if result.skipped else "",
            time.time() - began,
        )
    )
    sys.exit(not result.wasSuccessful())
