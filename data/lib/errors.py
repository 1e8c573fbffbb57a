"""Errors that the user can do something about, and how a script ends: exit code 1, or 2 for a wrong command line."""

import sys


class Failure(Exception):
    """Its text says what was expected, what was found, what to do. An empty one: somebody else has said it already."""


class Usage(Failure):
    """The command line is wrong: exit code 2."""


class Missing(Failure):
    """There is no such file, on the server or in the folder."""


class BadRows:
    """The rows that cannot be used: they are told, counted and left out; or (--on-error stop) the first ends the run."""

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
    """Runs a script; its errors become one line and an exit code. It is 1, too, if rows were left out."""
    try:
        main()
        bad_rows.finish()
    except Failure as e:
        if str(e):
            sys.stderr.write("error: %s\n" % e)
        sys.exit(2 if isinstance(e, Usage) else 1)
    except OSError as e:
        sys.stderr.write("error: %s%s\n" % (e.strerror or e, ": " + e.filename if e.filename else ""))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; run the same command again, downloads continue where they stopped\n")
        sys.exit(130)
