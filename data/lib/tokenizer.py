"""Which tokenizer a folder holds, and running data/tokenize."""

import json
import os
import re
import shutil
import subprocess
import sys

from .errors import Failure, Usage, bad_rows
from .file_kinds import read_text

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# WordPiece; BPE, by two names; either; SentencePiece
VOCABULARIES = ("vocab.txt", "vocab.json", "encoder.json", "tokenizer.json", "tokenizer.model")
# All that can decide about ids or says how to use them. common/text/special_tokens.h has the same list
TOKENIZER_FILES = [*VOCABULARIES, "merges.txt", "vocab.bpe", "tokenizer_config.json", "special_tokens_map.json"]
TOKENIZER_FILES += ["added_tokens.json", "chat_template.jinja"]


def tokenizer_dir(path):
    """A data or model directory itself; of a run directory best/, else last/: the first that holds a vocabulary"""
    for folder in (path, os.path.join(path, "best"), os.path.join(path, "last")):
        if any(os.path.exists(os.path.join(folder, n)) for n in VOCABULARIES):
            return folder
    raise Failure(
        "--tokenizer %s: expected vocab.txt, vocab.json, tokenizer.json or tokenizer.model there, "
        "or in best/ or last/ below it, found none" % path
    )


def is_bpe(folder):
    """Is the tokenizer of the folder byte-level BPE, not WordPiece? Decided as data/tokenize does."""
    has = lambda *names: any(os.path.exists(os.path.join(folder, n)) for n in names)
    if has("vocab.txt") or has("vocab.json", "encoder.json", "merges.txt", "vocab.bpe"):
        return not has("vocab.txt")
    if not has("tokenizer.json"):
        return True  # tokenizer.model
    try:
        model = json.loads(read_text(os.path.join(folder, "tokenizer.json")))["model"]
        return model.get("type", "BPE" if "merges" in model else "") == "BPE"
    except (Failure, ValueError, LookupError, TypeError, AttributeError):
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
    config = config if isinstance(config, dict) else {}
    found = config.get("n_positions", config.get("max_position_embeddings", 0))
    return found if isinstance(found, int) else 0


def copy_tokenizer(folder, to):
    for name in TOKENIZER_FILES:
        if os.path.exists(os.path.join(folder, name)):
            shutil.copyfile(os.path.join(folder, name), os.path.join(to, name))


def tokenize_program():
    return os.environ.get("TOKENIZE", os.path.join(ROOT, "data", "tokenize"))


def run_tokenize(folder, *words):
    """data/tokenize, called in this folder"""
    sys.stdout.flush()
    check_exit(words[0], subprocess.run([os.path.abspath(tokenize_program()), *words], cwd=folder).returncode)


def check_exit(command, code):
    if code < 0:
        raise Failure("data/tokenize %s was ended by signal %d" % (command, -code))
    if code:
        raise (Usage if code == 2 else Failure)("")  # it has said what is wrong


def pack_rows(folder, kind, part, sources, *flags):
    """PART.jsonl -> PART.bin in this folder. What is wrong is said of the place where the row came from, not of the
    line of our file; sources: these places. Rows that cannot be used are left out."""
    sys.stdout.flush()
    files = ["--in", part + ".jsonl", "--out", part + ".bin", "--on-error", "stop" if bad_rows.stop else "skip"]
    command = [os.path.abspath(tokenize_program()), "pack", "--tokenizer", ".", "--kind", kind, *files, *flags]
    program = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE)
    named = 0
    left_out = r"error: (\d+) rows? (?:was|were) left out"
    try:
        for line in program.stderr:
            line = line.decode("utf-8", "replace")
            place = re.match(r"(?:left out|too long|error): (%s\.jsonl, line (\d+))" % re.escape(part), line)
            if place:
                line = line.replace(place[1], sources[int(place[2]) - 1], 1)
            count = re.match(left_out, line)
            if line.startswith("left out: "):
                bad_rows.add(line[len("left out: ") :].rstrip("\n"))
                named += 1
            elif count:
                bad_rows.uncounted += int(count[1]) - named
            else:
                sys.stderr.write(line)
        code = program.wait()
    finally:
        program.kill()
        program.stderr.close()
    if not (code == 1 and named and os.path.exists(os.path.join(folder, part + ".bin"))):
        check_exit("pack", code)
