"""Which tokenizer a folder holds, and running data/tokenize."""

import json
import os
import shutil
import subprocess
import sys

from .errors import Failure, Usage
from .file_kinds import read_text

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VOCABULARIES = ("vocab.txt", "vocab.json", "encoder.json", "tokenizer.json")  # WordPiece; BPE, by two names; either
TOKENIZER_FILES = [*VOCABULARIES, "merges.txt", "vocab.bpe", "tokenizer_config.json"]


def tokenizer_dir(path):
    """A data or model directory itself; of a run directory best/, else last/: the first that holds a vocabulary"""
    for folder in (path, os.path.join(path, "best"), os.path.join(path, "last")):
        if any(os.path.exists(os.path.join(folder, n)) for n in VOCABULARIES):
            return folder
    raise Failure(
        "--tokenizer %s: expected vocab.txt, vocab.json or tokenizer.json there, "
        "or in best/ or last/ below it, found none" % path
    )


def is_bpe(folder):
    """Is the tokenizer of the folder byte-level BPE, not WordPiece? Decided as data/tokenize does."""
    has = lambda *names: any(os.path.exists(os.path.join(folder, n)) for n in names)
    if has("vocab.txt") or has("vocab.json", "encoder.json", "merges.txt", "vocab.bpe"):
        return not has("vocab.txt")
    try:
        return json.loads(read_text(os.path.join(folder, "tokenizer.json")))["model"]["type"] == "BPE"
    except (Failure, ValueError, LookupError, TypeError):
        return False  # data/tokenize says what is wrong with it


def max_positions(folder):
    """How many tokens the decoder of a model directory takes; 0 if the folder holds no decoder"""
    path = os.path.join(folder, "config.json")
    if not os.path.exists(path):
        return 0
    try:
        config = json.loads(read_text(path))
    except ValueError as e:
        raise Failure("%s: this is not JSON as expected: %s" % (path, e))
    found = config.get("n_positions", 0) if isinstance(config, dict) else 0
    return found if isinstance(found, int) else 0


def copy_tokenizer(folder, to):
    for name in TOKENIZER_FILES:
        if os.path.exists(os.path.join(folder, name)):
            shutil.copyfile(os.path.join(folder, name), os.path.join(to, name))


def tokenize_program():
    return os.environ.get("TOKENIZE", os.path.join(ROOT, "data", "tokenize"))


def run_tokenize(folder, *words, edit_message=None):
    """data/tokenize, called in this folder. edit_message: a function that is applied to what it says on standard
    error"""
    sys.stdout.flush()
    run = subprocess.run(
        [os.path.abspath(tokenize_program()), *words], cwd=folder, stderr=subprocess.PIPE if edit_message else None
    )
    if edit_message:
        sys.stderr.write(edit_message(run.stderr.decode("utf-8", "replace")))
    if run.returncode < 0:
        raise Failure("data/tokenize %s was ended by signal %d" % (words[0], -run.returncode))
    if run.returncode:
        raise (Usage if run.returncode == 2 else Failure)("")  # it has said what is wrong
