"""Errors that the user can do something about, and how a script ends: exit code 1, or 2 for a wrong command line."""

import sys


class Failure(Exception):
    """Its text says what was expected, what was found, what to do. An empty one: somebody else has said it already."""


class Usage(Failure):
    """The command line is wrong: exit code 2."""


class Missing(Failure):
    """There is no such file, on the server or in the folder."""


def run_script(main):
    """Runs a script; its errors become one line and an exit code. File names that are not UTF-8 are printed as they
    are."""
    sys.stdout.reconfigure(errors="surrogateescape")
    try:
        main()
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
