"""Rows as data/tokenize reads them, which is the only reader: labelled rows of tables and JSON, objects of JSON files.
Rows that cannot be used are told, counted and left out (errors.bad_rows).

A labelled row is (text, second text or None, label, where), all strings. `where` is "FILE, line N", for errors.
"""

import json
import os
import subprocess
import threading

from .data_dir import refuse_output
from .errors import Failure, Usage, bad_rows
from .file_kinds import check_begin
from .text_files import READ_ERRORS, ROW_ENDINGS, inner_name, text_files
from .tokenizer import tokenize_program


def read_rows(name, words, blocks=None):
    """What `data/tokenize rows` makes of these words: a dict a row. blocks: a function that yields the bytes of its
    standard input, which is called `name`"""
    failed = []

    def feed():
        try:
            for block in blocks():
                program.stdin.write(block)
            program.stdin.close()
        except BrokenPipeError:
            pass  # the program has said why
        except Exception as e:  # told by the thread that reads
            failed.append(e)
            program.kill()

    command = [tokenize_program(), "rows", *(["--name=" + name] if blocks else []), *words]
    program = subprocess.Popen(command, stdin=subprocess.PIPE if blocks else subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        thread = threading.Thread(target=feed, daemon=True)
        if blocks:
            thread.start()
        for line in program.stdout:
            row = json.loads(line)
            if "error" in row:
                bad_rows.add(row["error"])
            else:
                yield row, row["where"]
        if blocks:
            thread.join()
        code = program.wait()
    finally:
        program.kill()
        program.wait()
        program.stdout.close()
    if failed:
        raise failed[0] if isinstance(failed[0], Failure) else Failure("cannot read %s: %s" % (name, failed[0]))
    if code:
        raise (Usage if code == 2 else Failure)("")  # it has said what is wrong


def file_blocks(name, opener):
    """The bytes of a file"""
    try:
        with opener() as f:
            block = f.read(1 << 16)
            check_begin(block, name)
            while block:
                yield block
                block = f.read(1 << 16)
    except READ_ERRORS as e:
        raise Failure("cannot read %s: %s" % (name, getattr(e, "strerror", None) or e))


def parquet_blocks(path):
    """The rows of a Parquet file as JSON lines"""
    try:
        from pyarrow import parquet
    except ImportError:
        raise Failure(
            "%s: Parquet is read where pyarrow is installed (pip install pyarrow); or save it as .jsonl" % path
        )
    for batch in parquet.ParquetFile(path).iter_batches(1024):
        yield "".join(json.dumps(row, default=str) + "\n" for row in batch.to_pylist()).encode()


def json_objects(name, opener):
    """Yields (object, where) of a file of JSON: an array of objects, an object a line, or objects of several lines"""
    for row, where in read_rows(name, ["--objects", "-"], lambda: file_blocks(name, opener)):
        yield row["row"], where


def labelled_rows(path, flags=(), label=None, encoding="utf-8"):
    """The labelled rows of a file, also compressed or in a .zip that holds one such file; or of a folder with a folder
    of texts for each class. flags: of data/tokenize rows; label: of all rows"""
    if not os.path.exists(path):
        raise Failure("cannot read %s: there is no such file or folder" % path)
    name, blocks = path, None
    is_table = lambda file: inner_name(file).lower().endswith(ROW_ENDINGS)
    tables = os.path.isdir(path) and any(is_table(f) for _, _, files in os.walk(path) for f in files)
    if tables or path.lower().endswith(".zip"):
        files = text_files([path], ROW_ENDINGS, encoding)
        if len(files) > 1:
            raise Failure(
                "%s: expected one file with rows, found %d: %s"
                % (path, len(files), ", ".join(os.path.basename(f[0]) for f in files)[:200])
            )
        name, opener = files[0]
        blocks = lambda: file_blocks(name, opener)
    elif path.lower().endswith(".parquet"):
        blocks = lambda: parquet_blocks(path)
    elif encoding != "utf-8" and not os.path.isdir(path):
        [(name, opener)] = text_files([path], ROW_ENDINGS, encoding)
        blocks = lambda: file_blocks(name, opener)
    refuse_output(name)
    yield from labelled(name, flags, label, blocks)


def labelled(name, flags=(), label=None, blocks=None):
    """The labelled rows of read_rows()"""
    source = "-" if blocks else name
    words = [*flags, *(["--class=%s=%s" % (label, source)] if label else ["--", source])]
    for row, where in read_rows(name, words, blocks):
        yield row["text"], row.get("text2"), row["label"], where


def field(row, key, where, types=str):
    """row[key], which has to be there and of one of the types"""
    if not isinstance(row, dict):
        raise Failure("%s: expected an object with a key %s, found %.40s" % (where, key, json.dumps(row)))
    if key not in row:
        raise Failure("%s: expected a key %s, found none: %s" % (where, key, ", ".join(row)[:200]))
    if not isinstance(row[key], types):
        expected = {str: "a string", list: "a list", dict: "an object"}.get(types, "a string or a list")
        raise Failure("%s: %s: expected %s, found %.40s" % (where, key, expected, json.dumps(row[key])))
    return row[key]
