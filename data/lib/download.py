"""URL -> file: a cache, checksums, a progress bar; an interrupted download continues where it stopped."""

import contextlib
import fcntl
import hashlib
import http.client
import itertools
import os
import re
import sys
import time
import urllib.error
import urllib.request

from .errors import Denied, Failure, Missing


class Progress:
    """A bar with the time left on a terminal; elsewhere a line every ten seconds. total: bytes, None if not known"""

    def __init__(self, label, total, done=0):
        self.label = label
        self.total = total
        self.first = done
        self.start = time.time()
        self.terminal = sys.stderr.isatty()
        self.last = self.start

    def update(self, done):
        now = time.time()
        if now - self.last < (0.2 if self.terminal else 10):
            return
        self.last = now
        rate = (done - self.first) / max(now - self.start, 1e-9)
        text = "%s %.1f MB, %.1f MB/s" % (self.label, done / 1e6, rate / 1e6)
        if self.total:
            fraction = min(1, done / self.total)
            bar = "#" * int(20 * fraction)
            left = (self.total - done) / rate if rate > 0 else 0
            sizes = "%.1f of %.1f MB" % (done / 1e6, self.total / 1e6)
            text = "%s [%-20s] %3d %%, %s, %.0f s left" % (self.label, bar, 100 * fraction, sizes, left)
        sys.stderr.write("\r%-78s" % text if self.terminal else text + "\n")
        sys.stderr.flush()

    def close(self):
        if self.terminal and self.last != self.start:
            sys.stderr.write("\r%78s\r" % "")


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        for block in iter(lambda: f.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def cache_dir():
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "tune.cu")


def set_aside(path):
    """Gives a file a name that is free: it is not removed, since nobody knows whose it is"""
    names = ("%s.other-%d" % (path, n) for n in itertools.count(1))
    other = next(name for name in names if not os.path.lexists(name))
    os.rename(path, other)
    sys.stderr.write("note: %s is not the file that is expected there; it is now %s\n" % (path, other))


def download(url, path, checksum=None, attempts=4, first=None, token=None):
    """URL -> path. A file that is there already is kept. An unfinished one (path.part) is continued by HTTP Range,
    unless the file at the URL has changed since. The name `path` appears only when everything is there and the SHA-256
    is right. Where the right one is not known (Gutenberg's books change), that of the download is kept in path.sha256,
    so that a copy that is damaged later is downloaded again. first: only so many bytes of the file's beginning. token:
    that says to the server who asks."""
    kept = path + ".sha256"
    if os.path.exists(path):
        expected = checksum
        if expected is None and os.path.exists(kept):
            with open(kept, encoding="ascii", errors="replace") as f:
                expected = f.read().strip()
        if expected is None or sha256(path) == expected:
            return path
        set_aside(path)  # of another version, or damaged, or the user's in a folder that --cache names
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    part = path + ".part"
    for attempt in range(attempts):
        try:
            fetch(url, part, first, token)
            break
        except urllib.error.HTTPError as e:
            if (e.code < 500 and e.code != 429) or attempt == attempts - 1:  # 429: too many requests for now
                message = "cannot download %s: the server says %d %s" % (url, e.code, e.reason)
                if e.code in (401, 403):
                    raise Denied(message, e.code)
                raise (Missing if e.code in (404, 410) else Failure)(message)
        except (OSError, http.client.HTTPException) as e:  # OSError: also URLError, time-out, connection reset
            if attempt == attempts - 1:
                reason = getattr(e, "reason", None) or e
                raise Failure(
                    "cannot download %s: %s; run the same command again to continue, or give it a local copy"
                    % (url, reason)
                )
        time.sleep(min(2**attempt, 8) * float(os.environ.get("DOWNLOAD_PAUSE", "1")))
    found = sha256(part)
    if checksum and found != checksum:
        os.remove(part)
        raise Failure(
            "%s: expected SHA-256 %s, found %s: the download was damaged or the file has changed"
            % (url, checksum, found)
        )
    if not checksum:
        with open(kept, "w", encoding="ascii") as f:
            f.write(found + "\n")
    os.replace(part, path)
    with contextlib.suppress(FileNotFoundError):
        os.remove(part + ".tag")
    return path


def request_of(url, token=None, method="GET"):
    request = urllib.request.Request(url, method=method, headers={"User-Agent": "tune.cu data scripts"})
    if token and (url.startswith("https://") or re.match(r"http://(127\.0\.0\.1|localhost)[:/]", url)):
        request.add_unredirected_header("Authorization", "Bearer " + token)  # not to where the server redirects
    return request


def fetch(url, part, first=None, token=None):
    """One attempt: appends to the file `part` what is missing from it."""
    have = os.path.getsize(part) if os.path.exists(part) else 0
    if first and have >= first:
        os.truncate(part, first)
        return
    request = request_of(url, token)
    tag = part + ".tag"  # which version of the file the part is of: the server's ETag, or its date
    if have or first:
        request.add_header("Range", "bytes=%d-%s" % (have, first - 1 if first else ""))
        if have and os.path.exists(tag):
            with open(tag, encoding="latin-1") as f:
                request.add_header("If-Range", f.read().strip())  # of another version the server sends everything
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as e:
        if e.code != 416 or not have:  # 416: the file ends where ours does, or is shorter now
            raise
        size = re.match(r"bytes \*/(\d+)$", e.headers.get("Content-Range") or "")
        if size and int(size.group(1)) == have:
            return
        os.remove(part)
        return fetch(url, part, first, token)
    with answer:
        if answer.status != 206 or not (answer.headers.get("Content-Range") or "").startswith("bytes %d-" % have):
            have = 0  # the server sends everything
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        if version and not version.startswith("W/"):  # a weak ETag cannot stand in If-Range
            with open(tag, "w", encoding="latin-1") as f:
                f.write(version)
        elif not have and os.path.exists(tag):
            os.remove(tag)
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        if first and total:
            total = min(total, first)  # a server without ranges sends everything
        progress = Progress(os.path.basename(part)[:-5], total, have)
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | (os.O_APPEND if have else 0)
        with os.fdopen(os.open(part, flags, 0o666), "wb") as f:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Failure("cannot download %s: another run downloads it: wait until %s is there" % (url, part[:-5]))
            if not have:
                f.truncate()
            elif os.fstat(f.fileno()).st_size != have:
                raise OSError("the part that is there has changed")
            for block in iter(lambda: answer.read(min(1 << 16, first - have) if first else 1 << 16), b""):
                f.write(block)
                have += len(block)
                progress.update(have)
        progress.close()
    if total is not None and have != total:
        raise OSError("the connection ended after %d of %d bytes" % (have, total))
