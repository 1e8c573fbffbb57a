"""Reading rows: labelled rows of CSV, TSV and JSONL; rows of JSON objects.

A labelled row is (text, second text or None, label, where), all strings. `where` is "FILE, line N", for errors.
"""

import csv
import json
import os

from .errors import Failure
from .text_files import inner_name, json_objects, strict_lines, text_files

ROW_ENDINGS = (".csv", ".tsv", ".jsonl")


def csv_cells(name, opener):
    """Yields (number of the line where the row begins, cells) of a file as RFC 4180 defines it."""
    csv.field_size_limit(1 << 30)
    last = 0  # the number of the last line that was read

    def lines():
        nonlocal last
        for last, line in strict_lines(name, opener):
            yield line[:-2] + "\n" if line.endswith("\r\n") else line

    reader = csv.reader(lines(), strict=True)
    while True:
        begin = last + 1
        try:
            yield begin, next(reader)
        except StopIteration:
            return
        except csv.Error as e:
            if "unexpected end of data" in str(e):
                raise Failure(
                    "%s, line %d: expected a closing quote of the row that begins here, found the end of the file"
                    % (name, begin)
                )
            raise Failure("%s, line %d: expected a row of CSV, found something else: %s" % (name, begin, e))


def tsv_cells(name, opener):
    """Yields (line number, cells). There is no quoting: a quote is a character like any other."""
    for number, line in strict_lines(name, opener):
        yield number, line.rstrip("\r\n").split("\t")


def table_rows(name, cells, text="text", text2=None, label="label", header=True):
    """The labelled rows of a table whose first line names its columns; without such a line (header=False) the columns
    are called 1, 2, 3 … text2: the name of a column that has to be there, or None: column "text2" if it is there. An
    empty cell there means no second text."""
    columns = None
    blank = 0  # the number of an empty line: allowed at the end only
    for number, row in cells:
        where = "%s, line %d" % (name, number)
        if row in ([], [""]):
            blank = blank or number
            continue
        if blank:
            expected = "a row" if columns else "the names of the columns"
            raise Failure("%s, line %d: expected %s, found an empty line" % (name, blank, expected))
        if columns is None:
            columns = [c.strip() for c in row] if header else [str(i + 1) for i in range(len(row))]
            for wanted in [text, label] + ([text2] if text2 else []):
                if columns.count(wanted) != 1:
                    raise Failure(
                        "%s: expected one column %s, found %s: %s; name them with --text, --text2, --label%s"
                        % (
                            where,
                            wanted,
                            "several" if wanted in columns else "none",
                            ", ".join(columns)[:200],
                            "" if header else " NUMBER",
                        )
                    )
            text_at = columns.index(text)
            text2_at = columns.index(text2 or "text2") if (text2 or "text2") in columns else None
            label_at = columns.index(label)
            if header:
                continue
        if len(row) != len(columns):
            raise Failure("%s: expected %d columns, found %d" % (where, len(columns), len(row)))
        yield row[text_at], row[text2_at] if text2_at is not None else None, row[label_at], where


def jsonl_rows(name, opener, text="text", text2=None, label="label"):
    """The labelled rows of a file of JSON objects; a label may also be an integer or true/false."""
    for row, where in json_objects(name, opener):
        found = []
        for key, needed, types in (
            (text, True, (str,)),
            (text2 or "text2", bool(text2), (str, type(None))),
            (label, True, (str, int)),
        ):
            value = row.get(key)
            if needed and key not in row:
                raise Failure(
                    "%s: expected a key %s, found none: %s; name them with --text, --text2, --label"
                    % (where, key, ", ".join(row)[:200])
                )
            if not isinstance(value, types) and (needed or value is not None):
                expected = "a string or an integer" if int in types else "a string"
                raise Failure("%s: %s: expected %s, found %.40s" % (where, key, expected, json.dumps(value)))
            found.append(json.dumps(value) if isinstance(value, int) else value)
        yield *found, where


def labelled_rows(path, text="text", text2=None, label="label", header=True, encoding="utf-8"):
    """The labelled rows of one file .csv, .tsv or .jsonl, also compressed, or in a .zip that holds one such file"""
    files = text_files([path], ROW_ENDINGS, encoding)
    if len(files) > 1:
        raise Failure(
            "%s: expected one file with rows, found %d: %s"
            % (path, len(files), ", ".join(os.path.basename(f[0]) for f in files)[:200])
        )
    name, opener = files[0]
    ending = os.path.splitext(inner_name(name))[1].lower()
    if ending == ".jsonl":
        return jsonl_rows(name, opener, text, text2, label)
    if ending not in ROW_ENDINGS:
        raise Failure(
            "%s: expected a file that ends in .csv, .tsv or .jsonl (or these with .gz, .xz, .bz2, .zip)" % path
        )
    cells = csv_cells(name, opener) if ending == ".csv" else tsv_cells(name, opener)
    return table_rows(name, cells, text, text2, label, header)


# ---------------------------------------------------------------- rows of JSON objects: text_files.json_objects
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
