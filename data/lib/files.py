"""Opening a file that is to be read: a regular file, no pipe or device (reading would wait or never end), and its
contents, not Git LFS's pointer to them."""

import os
import stat

from .errors import Failure

LFS = b"version https://git-lfs.github.com/spec/"


def open_regular(path, name=None):
    """Opens a file to read its bytes. name: what the user knows it by, for errors"""
    name = name or path
    try:
        f = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    except OSError as e:
        raise Failure("cannot read %s: %s" % (name, "it is a directory" if os.path.isdir(path) else e.strerror))
    if not stat.S_ISREG(os.fstat(f.fileno()).st_mode):
        f.close()
        raise Failure("cannot read %s: expected a file, found a pipe, a device or a socket" % name)
    head = f.read(len(LFS))
    f.seek(0)
    if head == LFS:
        f.close()
        raise Failure(
            "%s: expected the file itself, found a pointer of Git LFS to it: run git lfs pull where it was cloned"
            % name
        )
    return f


def read_bytes(path, name=None, most=1 << 30):
    """All of a file that cannot be so large"""
    with open_regular(path, name) as f:
        size = os.fstat(f.fileno()).st_size
        if size > most:
            raise Failure("%s: expected at most %d bytes, found %d" % (name or path, most, size))
        return f.read()
