"""Errors that the user can do something about, and how a script ends: exit code 1, or 2 for a wrong command line."""

import signal
import sys


class Failure(Exception):
    """Its text says what was expected, what was found, what to do. An empty one: somebody else has said it already."""


class Usage(Failure):
    """The command line is wrong: exit code 2."""


class Missing(Failure):
    """There is no such file, on the server or in the folder."""


class Denied(Failure):
    """The server does not give the file to us. code: 401 or 403"""

    def __init__(self, message, code):
        super().__init__(message)
        self.code = code


def visible(text):
    """Control characters (of a file's name, of a label), marks that turn the direction of writing, and what is no text,
    as escapes: a message is one line, and a terminal obeys none."""
    hidden = lambda c: (
        c < 32 or 127 <= c < 160 or 0x2028 <= c <= 0x202E or 0x2066 <= c <= 0x2069 or 0xD800 <= c <= 0xDFFF
    )
    return "".join(c.encode("unicode_escape").decode() if hidden(ord(c)) else c for c in text)


def nearest(word, names):
    """The name that takes the fewest letters to insert, delete or replace, of the 100 that begin and end most like the
    word; None if there are no names. Of long ones the first 200 letters count."""
    word = word[:200]
    begins = lambda name, word: next((i for i, (a, b) in enumerate(zip(name, word)) if a != b), len(name))

    def distance(name):
        row = range(len(name[:200]) + 1)
        for i, a in enumerate(word):
            last, row = row, [i + 1]
            for j, b in enumerate(name[:200]):
                row.append(min(row[j] + 1, last[j + 1] + 1, last[j] + (a != b)))
        return row[-1]

    alike = sorted(names, key=lambda n: -begins(n[:200], word) - begins(n[:200][::-1], word[::-1]))
    return min(alike[:100], key=distance, default=None)


class BadRows:
    """Rows that cannot be used: they are told, counted and left out; or (--on-error stop) the first ends the run."""

    SHOWN = 5

    def __init__(self):
        self.stop = False
        self.told, self.uncounted = set(), 0  # what was said; how many were not said

    def add(self, error):
        """error: "FILE, line N: expected ..., found ..."; said twice, it is the same row read twice"""
        if self.stop:
            raise Failure(error)
        if error not in self.told and len(self.told) < self.SHOWN:
            sys.stderr.write("left out: %s\n" % error)
        self.told.add(error)

    def finish(self):
        count = len(self.told) + self.uncounted
        if count:
            more = ", of which the first %d are named above" % self.SHOWN if count > self.SHOWN else ""
            raise Failure(
                "%d row%s left out%s; all else was made; --on-error stop ends at the first"
                % (count, "s were" if count > 1 else " was", more)
            )


bad_rows = BadRows()


def run_script(main):
    """Runs a script; its errors become one line and an exit code. It is 1, too, if rows were left out. File names that
    are not UTF-8 are printed as they are."""
    sys.stdout.reconfigure(errors="surrogateescape")

    def interrupt(number, frame):  # as Ctrl-C does: what was begun is removed, and programs that were started end
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # not under nohup
            signal.signal(number, interrupt)
    try:
        main()
        bad_rows.finish()
    except Failure as e:
        if str(e):
            sys.stderr.write("error: %s\n" % visible(str(e)))
        sys.exit(2 if isinstance(e, Usage) else 1)
    except OSError as e:
        sys.stderr.write("error: %s\n" % visible("%s%s" % (e.strerror or e, ": %s" % e.filename if e.filename else "")))
        sys.exit(1)
    except MemoryError:
        sys.stderr.write("error: out of memory\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; run the same command again, downloads continue where they stopped\n")
        sys.exit(130)
