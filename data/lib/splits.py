"""Which documents and rows are for validation. It depends on their text and the seed only, not on their order.

A part of the data (train, val, test) lies in a file in which its rows stand one after the other; a row is known by
(hash of its text, offset in the file, size in bytes, …).
"""

import collections
import hashlib
import re

from .errors import Failure, Usage


def draw_key(seed, digest):
    """Sorted by this, texts stand in an order that the seed draws."""
    return hashlib.sha256(b"%d " % seed + digest).digest()


def split_documents_by_hash(documents, val_fraction, seed):
    """-> (train, val) of at least two documents (hash, offset, size): at least one in each"""
    order = sorted(documents, key=lambda d: draw_key(seed, d[0]))
    count = min(max(1, round(val_fraction * len(documents))), len(documents) - 1)
    chosen = set(order[:count])
    return [d for d in documents if d not in chosen], [d for d in documents if d in chosen]


def split_in_two(text, val_fraction):
    """The only document -> (training part, validation part), cut at the end of a paragraph, else of a line, else
    between words"""
    wanted = int(len(text) * (1 - val_fraction))
    for pattern in (r"\n[ \t]*\n", r"\n", r"\s"):
        ends = [m.end() for m in re.finditer(pattern, text)]
        if ends:
            cut = min(ends, key=lambda e: abs(e - wanted))
            return text[:cut], text[cut:]
    raise Failure("the only document is one word: there is nothing to split into training and validation text")


def split_rows(args, files, rows, others, what, left_out, all_of=lambda row: row[:1], class_of=lambda row: ""):
    """Changes `rows` and `files`, both by part: rows of train that are in another part, too, are counted and perhaps
    left out; without a part val, one is split off train; at most --limit rows of each part are drawn.

    rows      part -> its rows. What the hash is of (the text, the question) is called `what` in messages.
    others    the parts whose texts train should not have
    left_out  how the message about rows that were left out ends; "": such rows are only counted
    all_of    row -> the hashes of all its texts, where it has several
    class_of  row -> its class: each is divided for itself

    Rows of the same text stay on one side of the split."""
    draw = lambda row: draw_key(args.seed, row[0])

    def leave_out(part, texts):
        other = [r for r in rows["train"] if texts.isdisjoint(all_of(r))]
        if len(other) < len(rows["train"]):
            count = len(rows["train"]) - len(other)
            print("%d rows of train have a %s that is in %s, too%s" % (count, what, part, left_out))
        if left_out:
            rows["train"] = other

    for part in others:
        leave_out(part, {r[0] for r in rows[part]})
    if "val" not in rows and args.val_fraction == 0:
        if not others:
            raise Usage(
                "--val-fraction 0: expected a test part with it, found none: nothing would say how good a model is"
            )
    elif "val" not in rows:
        chosen = draw_texts(rows["train"], args.val_fraction, args.seed, what, class_of)
        rows["val"] = [r for r in rows["train"] if r[0] in chosen]
        rows["train"] = [r for r in rows["train"] if r[0] not in chosen]
        leave_out("val", chosen)
        files["val"] = files["train"]
    if args.limit:
        for part in rows:
            rows[part] = sorted(sorted(rows[part], key=draw)[: args.limit], key=lambda r: r[1])


def draw_texts(rows, fraction, seed, what, class_of):
    """The hashes of the texts that are for validation: of each class about this fraction of its rows, at least one text
    and not all. A class with one text has none of them."""
    count = collections.Counter(r[0] for r in rows)
    classes = collections.defaultdict(set)  # class -> its texts
    for row in rows:
        classes[class_of(row)].add(row[0])
    chosen, taken, single = set(), set(), []
    for name in sorted(classes, key=lambda c: (len(classes[c]), c)):  # a text of several classes belongs to the rarest
        texts = sorted(classes[name] - taken, key=lambda t: draw_key(seed, t))
        taken.update(texts)
        if len(classes[name]) == 1:
            single.append(name)
        want = max(1, round(fraction * sum(count[t] for t in texts)))
        for text in texts[:-1]:
            if want <= 0:
                break
            chosen.add(text)
            want -= count[text]
    for name, texts in classes.items():  # where all texts of a class belong to rarer ones
        if texts <= chosen:
            chosen.remove(min(texts))
    if not chosen:
        raise Failure(
            "expected at least 2 different %ss%s to divide into training and validation, found %d"
            % (what, " of one class" if len(classes) > 1 else "", max(map(len, classes.values())))
        )
    if single:
        names = ", ".join(single[:20]) + (" …" if len(single) > 20 else "")
        print("note: %d classes have one %s only, which stays in train: %s" % (len(single), what, names))
    return chosen


def copy_rows(source, rows, path, end=b""):
    """The rows' bytes -> path, each with this end"""
    with open(path, "wb") as out:
        for _, offset, size, *_ in rows:
            source.seek(offset)
            out.write(source.read(size) + end)


def sample_names(names, seed, n):
    """n of the names (None: all) in an order that the seed draws; a smaller n gives the first of them"""
    order = sorted(names, key=lambda name: hashlib.sha256(("%s %s" % (seed, name)).encode()).digest())
    return order if n is None else order[:n]
