"""The data directory that a run makes: a folder to work in, then all files are put in place at once.

No run replaces or removes a file that it was given to read, or that no data script made. A data directory lists what a
run made there in made.sha256, as sha256sum does: a later run replaces and removes these files alone, and only if they
are unchanged.
"""

import contextlib
import fcntl
import filecmp
import os
import re
import shlex
import shutil
import tempfile

from .download import sha256
from .errors import Failure, Usage
from .tokenizer import TOKENIZER_FILES

MANIFEST = "made.sha256"
MANIFEST_HEAD = "# made by a data script, which may replace these files if they are unchanged\n"
OUTPUT = re.compile(r"(train|val|test|test_\w+)\.(bin|txt|tsv|jsonl)")
output_ids = {}  # (device, inode): path of the files in --out that this run may replace or remove


WORK_PREFIX = "making."
WORK = re.compile(r"making\.[a-z0-9_]{8}")  # as mkdtemp names it


def lock_folder(path):
    """A descriptor that holds the lock of a folder; None if another process has it, or it is no folder"""
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(folder)
        return None
    return folder


@contextlib.contextmanager
def work_dir(out):
    """A folder to work in, inside the data directory; it is removed afterwards, whatever happened. What a run that was
    killed left there goes, too: its lock ended with it."""
    os.makedirs(out, exist_ok=True)
    try:
        for name in os.listdir(out):
            left = lock_folder(os.path.join(out, name)) if WORK.fullmatch(name) else None
            if left is not None:
                shutil.rmtree(os.path.join(out, name), ignore_errors=True)
                os.close(left)
        for last in [False] * 9 + [True]:  # until it is locked, another run may take it for one that was left
            work = tempfile.mkdtemp(prefix=WORK_PREFIX, dir=out)
            lock = lock_folder(work)
            if last or (lock is not None and os.path.isdir(work)):
                break
            shutil.rmtree(work, ignore_errors=True)
    except OSError as e:
        raise Failure("cannot write to %s: %s" % (out, e.strerror))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if lock is not None:
            os.close(lock)


# ---------------------------------------------------------------- inputs are no outputs
def remember_outputs(out, more=()):
    """Notes which files of `out` this run may replace: those of a data set, and these."""
    names = os.listdir(out) if os.path.isdir(out) else []
    for name in names:
        path = os.path.join(out, name)
        if (OUTPUT.fullmatch(name) or name in [*TOKENIZER_FILES, MANIFEST, *more]) and os.path.exists(path):
            found = os.stat(path)
            output_ids[found.st_dev, found.st_ino] = path


def refuse_output(path):
    """An input that is a file of --out, by whatever name, would be lost."""
    found = os.stat(path) if os.path.isfile(path) else None
    if found and (found.st_dev, found.st_ino) in output_ids:
        raise Usage(
            "%s: this input is the file %s, which the run may replace; give another --out"
            % (path, output_ids[found.st_dev, found.st_ino])
        )


# ---------------------------------------------------------------- what an earlier run made
def manifest_line(folder, name):
    return "%s  %s\n" % (sha256(os.path.join(folder, name)), name)


def read_manifest(out):
    """The lines of the manifest, None if there is none"""
    path = os.path.join(out, MANIFEST)
    if not os.path.lexists(path):
        return None
    head, lines = "", []
    if os.path.isfile(path) and not os.path.islink(path):
        with open(path, encoding="utf-8", errors="replace", newline="") as f:
            head, *lines = [*f] or [""]
    if head != MANIFEST_HEAD:
        raise Usage(
            "%s: expected the list of what a data script made, found something else; remove it or give another --out"
            % path
        )
    return set(lines)


def sync(path):
    """What was written to a file, or the names in a folder, reach the disk: a power cut leaves what this run can be
    repeated with."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_manifest(work, out, lines):
    with open(os.path.join(work, MANIFEST), "w", encoding="utf-8", newline="") as f:
        f.write(MANIFEST_HEAD + "".join(sorted(lines)))
    sync(os.path.join(work, MANIFEST))
    os.replace(os.path.join(work, MANIFEST), os.path.join(out, MANIFEST))
    sync(out)


def has_bin_magic(path):
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as f:
        return f.read(8) == b"tunebin\n"


def is_ours(out, name, manifest):
    """Did an earlier run make this file? A .bin file without a manifest may be the user's, from data/tokenize."""
    path = os.path.join(out, name)
    if not manifest or os.path.islink(path) or not os.path.isfile(path):
        return False
    return manifest_line(out, name) in manifest


def refuse_foreign(out, names, source, made=False):
    """Refuses to replace a file in `out` that no run made, unless `source`, a folder, holds the same bytes under this
    name. made: source holds all that the run makes; else a .bin file without a manifest, and where source is None its
    tokenizer, is left to decide when they are made. A tokenizer file that would stay beside another tokenizer is
    refused, too."""
    manifest = read_manifest(out)
    learned = source is None and manifest is None and has_bin_magic(os.path.join(out, "train.bin"))
    for name in dict.fromkeys([*TOKENIZER_FILES, *names]):
        path = os.path.join(out, name)
        undecided = learned and name in TOKENIZER_FILES or not made and manifest is None and has_bin_magic(path)
        if not os.path.lexists(path) or undecided or is_ours(out, name, manifest):
            continue
        same = source and os.path.isfile(path) and os.path.isfile(os.path.join(source, name))
        if not same or not filecmp.cmp(path, os.path.join(source, name), shallow=False):
            raise Usage(
                "%s: the run would replace this file, which no data script made or which was changed since; "
                "remove it or give another --out" % path
            )


# ---------------------------------------------------------------- the end of a run
def output_names(args, parts, kept):
    """The files of these parts of the data. kept: the ending of the text that --keep-text leaves"""
    return [part + ending for part in parts for ending in [".bin"] + ([kept] if args.keep_text else [])]


def put_in_place(work, out, names, others=()):
    """Everything is made: now the files get their names, the tokenizer's files too. Files of an earlier run that this
    one does not make must not stay beside them: of data, of a tokenizer, and of names in `others`."""
    refuse_foreign(out, names, work, made=True)
    manifest = read_manifest(out)
    names = [n for n in dict.fromkeys([*TOKENIZER_FILES, *names]) if os.path.exists(os.path.join(work, n))]
    known = {*TOKENIZER_FILES, *names, *others}
    ours = [n for n in os.listdir(out) if (OUTPUT.fullmatch(n) or n in known) and is_ours(out, n, manifest)]
    # what else is there has the same bytes, and stays the user's
    new = [n for n in names if n in ours or not os.path.lexists(os.path.join(out, n))]
    lines = {manifest_line(work, n) for n in new}
    for name in new:
        sync(os.path.join(work, name))
    # the old files and the new ones, so that a run that is killed here can be repeated
    write_manifest(work, out, lines | {manifest_line(out, n) for n in ours})
    for name in new:
        os.replace(os.path.join(work, name), os.path.join(out, name))
    for name in set(ours) - set(new):
        os.remove(os.path.join(out, name))
    sync(out)
    write_manifest(work, out, lines)


def print_next(args, tokenizer, program, run):
    """Prints the command that trains on what was made. run: what its --out is called where ours has no name"""
    weights = ("model.safetensors", "model.safetensors.index.json")
    is_model = any(os.path.exists(os.path.join(tokenizer, n)) for n in weights)
    model = shlex.quote(args.tokenizer) if is_model else "MODEL"
    out = args.out.rstrip("/") or "/"
    name = shlex.quote(os.path.basename(out) or run)
    print("\nnext: ./%s --init %s --data %s --out runs/%s" % (program, model, shlex.quote(out), name))
