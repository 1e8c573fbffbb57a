"""The rows of dev/mutations.txt: reading and writing them and the page of their results, finding their places in the
code, saying what is wrong where they have none. dev/mutate.py says what a row is.
"""

import collections
import re
import sys

import cpp

NOT_RUN, SURVIVES = "not run yet", "**survives**"

# test: who is asked first. code: C++ with the [[place]]. new: C++ in its stead, or "nothing"
Row = collections.namedtuple("Row", "function test code new")


# ---------------------------------------------------------------- dev/mutations.txt and test/mutations.md
def load(text):
    """Rows, with comments and empty lines between them as strings. A line that is not indented is a function and a
    test; a row below it is  code  =>  new  and continues in lines that are indented by more than four spaces."""
    items, above = [], None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            items.append(line)
        elif not line.startswith(" "):
            above = line.split()
            if len(above) != 2:
                sys.exit(f"dev/mutations.txt:{number}: expected a function and a test, found: {line}")
        elif line.startswith("     ") and items and isinstance(items[-1], list):
            items[-1][-1] += " " + line.strip()
        elif above:
            items.append([*above, number, line.strip()])
        else:
            sys.exit(f"dev/mutations.txt:{number}: expected a function and a test above this row: {line.strip()}")
    for i, item in enumerate(items):
        if isinstance(item, list):
            function, test, number, row = item
            if "=>" not in row:
                sys.exit(f"dev/mutations.txt:{number}: expected code => new, found: {row}")
            items[i] = Row(function, test, *(part.strip() for part in row.rsplit("=>", 1)))
    return items


def dump(items):
    lines, above = [], None
    for item in items:
        if isinstance(item, str):
            lines.append(item)
            continue
        if above != item[:2]:
            lines.append(f"{item.function}  {item.test}")
            above = item[:2]
        parts = [f"    {item.code}  =>  {item.new}"]
        if len(parts[0]) > 120:
            parts = ["    " + item.code, f"        =>  {item.new}"]
        for part in parts:
            lines.append("")
            for word in re.split(r"(?<! ) (?! )", part):
                if len(lines[-1]) + len(word) >= 120:
                    lines.append(" " * 7)
                lines[-1] += " " * (lines[-1] != "") + word
    return "\n".join(lines) + "\n"


def page_of(rows, results):
    lines = []
    for row in rows:
        cells = [f"`{row.function}`", f"`{row.code}`", "nothing" if row.new == "nothing" else f"`{row.new}`"]
        cells.append(results.get((row.function, row.code, row.new), NOT_RUN))
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |\n")
    caught = sum(not line.endswith((f" {NOT_RUN} |\n", f" {SURVIVES} |\n")) for line in lines)
    return f"""# Mutations

Do the tests notice when something is wrong? `python3 dev/mutate.py` breaks the code in one place at a time, as
`dev/mutations.txt` says, runs the tests until one fails, and writes this page: {caught} of {len(rows)} mutations are
caught. The code in [[ ]] is replaced by the third column; "nothing" takes a statement away. "Caught by" is the first
test case that failed in the last run that the row was part of.

| function | code | instead | caught by |
|---|---|---|---|
{"".join(lines)}"""


def results_of(page):
    """What caught each row, by function, code and what stands instead."""
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    return {tuple(c.strip("`").replace("\\|", "|") for c in line[:3]): line[3].replace("\\|", "|") for line in lines}


# ---------------------------------------------------------------- rows and the code
class Place:
    """Where a row is: its code is [begin, end) of what is compared of a piece, and what changes is [first, last)."""

    def __init__(self, piece, begin, first, last, end):
        self.piece, self.tokens = piece, piece.tokens
        self.code = range(piece.compared[begin][1], piece.compared[end - 1][2] + 1)  # numbers of tokens
        self.place = range(piece.compared[first][1], piece.compared[last - 1][2] + 1)
        self.span = self.tokens[self.place[0]].start, self.tokens[self.place[-1]].end  # bytes of the file
        self.line = f"{piece.path}:{piece.source.count(chr(10), 0, self.span[0]) + 1}"

    def spelled(self):
        """The row's code as it stands there, in one line."""
        out = ""
        for i in self.code:
            gap = " " if i > self.code[0] and self.tokens[i].start > self.tokens[i - 1].end else ""
            out += gap + "[[" * (i == self.place[0]) + self.tokens[i].text + "]]" * (i == self.place[-1])
        return out

    def whole(self):
        """Can it be an expression: no bracket is left open, no statement ends, no member or scope is cut off."""
        texts, depth = [self.tokens[i].text for i in self.place], 0
        for text in texts:
            depth += (text in ("(", "[", "{")) - (text in (")", "]", "}"))
            if depth < 0 or (depth == 0 and text in (",", ";")):
                return False
        before = self.tokens[self.place[0] - 1].text
        return depth == 0 and texts[0] != "[" and not {before, texts[0], texts[-1]} & {".", "->", "::"}


def wanted(row):
    """What is compared of a row, and where in it the place begins and ends."""
    tokens = cpp.tokenize(row.code)
    texts = [t.text for t in tokens]
    pairs = cpp.closing(texts)
    for i in cpp.occurrences(texts, ["[", "["]):
        if pairs.get(i, 0) - 1 == pairs.get(i + 1) > i + 2 and tokens[i].end == tokens[i + 1].start:
            last = pairs[i + 1]
            found = cpp.comparable(tokens[:i] + tokens[i + 2 : last] + tokens[last + 2 :])
            return [t for t, _, _ in found], sum(k < i for _, k, _ in found), sum(k < last - 2 for _, k, _ in found)
    sys.exit(f"dev/mutations.txt: {row.function}: expected a [[place]] in: {row.code}")


def fits(pieces, row):
    """All places in some pieces that a row fits."""
    texts, first, last = wanted(row)
    found = [(piece, k) for piece in pieces for k in cpp.occurrences(piece.texts, texts)]
    return [Place(piece, k, k + first, k + last, k + len(texts)) for piece, k in found]


def places(code, row):
    """Those in its function."""
    return fits(cpp.named(code, row.function), row)


def align(texts, pieces):
    """Where some texts are most nearly: (changes, piece, {number of a text: number of what stands for it in the piece},
    is there a second place as near)."""
    ends = []  # (changes, piece, end, linked list of what stands for what): the cheapest way to each end in each piece
    for piece in pieces:
        line = [(0, None)] * (len(piece.texts) + 1)
        for i, want in enumerate(texts):
            above, line = line, [(i + 1, None)]
            for j, have in enumerate(piece.texts):
                same = above[j][0] + (want != have), (above[j][1], i, j)
                gone, new = above[j + 1], line[j]
                line.append(min(same, (gone[0] + 1, gone[1]), (new[0] + 1, new[1]), key=lambda way: way[0]))
        ends += [(changes, piece, end, link) for end, (changes, link) in enumerate(line) if link]
    if not ends:
        return None
    changes, piece, end, link = min(ends, key=lambda e: e[0])
    second = any(e[0] <= changes and (e[1] is not piece or abs(e[2] - end) > len(texts) // 2) for e in ends)
    stands = {}
    while link:
        link, i, j = link
        stands[i] = j
    return changes, piece, stands, second


def nearest(code, row):
    """(place, what differs, the row as it would be there or None) of the code that differs least, in the row's function
    or, if that is gone, anywhere. The row is given where there is little doubt: a few names are others or something
    came between, and no second place is as near."""
    texts, first, last = wanted(row)
    here = cpp.named(code, row.function)
    alike = [
        p for some in code.values() for p in some if 4 * len(set(texts).intersection(p.texts)) > 3 * len(set(texts))
    ]
    found = align(texts, here or alike)
    if not found:
        return None, "", None
    changes, piece, stands, doubt = found
    begin, end = min(stands.values()), max(stands.values()) + 1
    now = collections.defaultdict(set)
    for i, j in stands.items():
        now[texts[i]].add(piece.texts[j])
    differs = [f"{old} is {new}" for old in now for new in now[old] if new != old]
    differs += [f"{text} is gone" for i, text in enumerate(texts) if i not in stands]
    differs += [f"{piece.texts[j]} is new" for j in range(begin, end) if j not in stands.values()]
    # the place, with what came in at its borders if it is no expression without
    inside = [j for i, j in stands.items() if first <= i < last] or [begin]
    low = max((j + 1 for i, j in stands.items() if i < first), default=begin)
    high = min((j for i, j in stands.items() if i >= last), default=end)
    borders = [(a, b) for a in range(min(inside), low - 1, -1) for b in range(max(inside) + 1, high + 1)]
    place = next((p for p in (Place(piece, begin, a, b, end) for a, b in borders) if p.whole()), None)
    doubt = doubt or 4 * changes > len(texts) + 1 or len(stands) < len(texts) or (not here and len(texts) < 8)
    names = [text for old in now for text in (old, *now[old]) if now[old] != {old}]
    if not place or doubt or not all(name[0].isalpha() or name[0] == "_" for name in names):
        return place or Place(piece, begin, begin, end, end), ", ".join(differs), None
    new = cpp.respelled(row.new, {old: min(now[old]) for old in now if len(now[old]) == 1})
    function = row.function if here else piece.name
    return place, ", ".join(differs), Row(function, row.test, place.spelled(), new)


def check(code, rows, tests):
    """(row, what is wrong with it, what it may become or None) of all that are not one place of the code."""
    found = {row: places(code, row) for row in rows}
    taken = collections.Counter((p.piece.path, p.span, row.new) for row in found for p in found[row])
    for row in rows:
        if row.test not in tests:
            yield row, f"there is no {row.test}.cpp in test/", None
        elif rows.count(row) > 1:
            yield row, "stands there twice", None
        elif len(found[row]) > 1:
            yield row, "occurs more than once, needs more of the code: " + ", ".join(p.line for p in found[row]), None
        elif not found[row]:
            place, differs, fixed = None, "", None
            away = fits([piece for some in code.values() for piece in some], row)
            if len(away) == 1:
                place, name = away[0], away[0].piece.name
                if len(wanted(row)[0]) > 4 or name.split("::")[-1] == row.function.split("::")[-1]:
                    fixed = row._replace(function=name)
            else:
                place, differs, fixed = nearest(code, row)
            if fixed and ((place.piece.path, place.span, fixed.new) in taken or len(places(code, fixed)) != 1):
                fixed = None
            near = f", but at {place.line} in {place.piece.name}: {place.spelled()}\n    {differs}" if place else ""
            yield row, "is not there" + near.rstrip(), fixed
        elif not found[row][0].whole():
            yield row, f"is no whole expression: {found[row][0].line}", None
        elif taken[found[row][0].piece.path, found[row][0].span, row.new] > 1:
            yield row, f"another row does the same at {found[row][0].line}", None


def renamed(code, row, into):
    """A row after renamings {old: new}: all if it fits only then, else those of names that its function has no more."""

    def after(into):
        return Row(*(cpp.respelled(text, into) for text in row))

    if len(places(code, row)) != 1 and len(places(code, after(into))) == 1:
        return after(into)
    here = [t.text for piece in cpp.named(code, row.function) for t in piece.tokens]
    return after(
        {old: new for old, new in into.items() if not cpp.occurrences(here, [t.text for t in cpp.tokenize(old)])}
    )
