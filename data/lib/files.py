"""Opening a file that is to be read: a regular file, no pipe or device (reading would wait or never end), and its
contents, not Git LFS's pointer to them. Members of archives, whose sizes are not believed."""

import json
import os
import shutil
import stat
import zipfile
import zlib

from .errors import Failure, nearest

LFS = b"version https://git-lfs.github.com/spec/"


def open_regular(path, name=None):
    """Opens a file to read its bytes. name: what the user knows it by, for errors"""
    name = name or path
    try:
        f = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    except OSError as e:
        hint = nearest_entry(path) if isinstance(e, FileNotFoundError) else ""
        raise Failure("cannot read %s: %s%s" % (name, e.strerror, hint))
    mode = os.fstat(f.fileno()).st_mode
    if not stat.S_ISREG(mode):
        f.close()
        found = "directory" if stat.S_ISDIR(mode) else "pipe or a device"
        raise Failure("cannot read %s: expected a file, found a %s" % (name, found))
    head = f.read(len(LFS))
    f.seek(0)
    if head == LFS:
        f.close()
        raise Failure(
            "%s: expected the file itself, found a Git LFS pointer: fetch the file itself with git lfs pull" % name
        )
    return f


def nearest_entry(path):
    """The end of a message, "; nearest: NAME": the name in the folder of `path` that is most like its own, where there
    is no such folder the one most like that; "" if there is none"""
    path = os.path.abspath(path)
    folder = os.path.dirname(path)
    if not os.path.exists(folder):
        return nearest_entry(folder)
    name = nearest(os.path.basename(path), os.listdir(folder) if os.path.isdir(folder) else [])
    return "; nearest: " + name if name else ""


def read_json(path, name=None, most=1 << 28):
    """The value in a JSON file of at most so many bytes"""
    name = name or path
    with open_regular(path, name) as f:
        data = f.read(most + 1)
    if len(data) > most:
        raise Failure("%s: expected at most %d bytes, found more" % (name, most))
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as e:
        raise Failure("%s: expected JSON, found something else: %s" % (name, e))


def check_member(info, name, times):
    """Refuses a member of an archive that is compressed so many times as no weights, no text can be: an archive of a
    few bytes must not fill memory or disk."""
    if info.file_size > times * info.compress_size + (1 << 20):
        raise Failure(
            "%s: expected a file that is compressed at most %d times, found %d bytes that become %d"
            % (name, times, info.compress_size, info.file_size)
        )


def extract_member(archive, member, target, name):
    """Copies one file of a model out of a zip archive."""
    info = archive.getinfo(member)
    check_member(info, name, 100)
    free = shutil.disk_usage(os.path.dirname(target)).free
    if info.file_size > free:
        raise Failure("%s: expected %d bytes free beside %s, found %d" % (name, info.file_size, target, free))
    try:
        with archive.open(member) as source, open(target, "xb") as f:
            shutil.copyfileobj(source, f, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as e:
        raise Failure("cannot read %s: %s" % (name, e))
