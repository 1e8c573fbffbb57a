"""safetensors files: reading the header, which is checked, and writing; names without what a wrapper of the model put
before them."""

import json
import math
import os
import re
import struct
import tempfile

from .errors import Failure
from .files import open_regular

BITS = {
    **{"F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16},
    **{"U16": 16, "I8": 8, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4},
}
MAX_HEADER = 100000000


# ---------------------------------------------------------------- names
def unwrapped(tensors):
    """{name: value} without "module." (DataParallel) and "_orig_mod." (torch.compile), and without a "model." of a
    trainer, which is before all names: Llama's own, "model.layers." and so on, stays."""
    own = re.compile(r"model\.(layers|embed_tokens|norm)\.")
    while True:
        if all(n.startswith("model.") and not own.match(n) for n in tensors):
            names = [n[len("model.") :] for n in tensors]
        else:
            names = [re.sub(r"^(module\.|_orig_mod\.)+", "", n) for n in tensors]
        if names == [*tensors]:
            return tensors
        if len(set(names)) < len(names):
            raise Failure(
                "expected each tensor once, found one with and without the prefix module., _orig_mod. or model."
            )
        tensors = dict(zip(names, tensors.values()))


# ---------------------------------------------------------------- reading
def read_header(path, name=None):
    """-> ({tensor: {"dtype", "shape", "data_offsets"}}, where the data begin). name: what the user knows the file by"""
    name = name or path
    fail = lambda text, *values: Failure("%s: expected a safetensors file, found %s" % (name, text % values))
    with open_regular(path, name) as f:
        size = os.fstat(f.fileno()).st_size
        head = f.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER, max(0, size - 8)):
            raise fail("a header of %d bytes in a file of %d: it is another file, or cut short", length, size)
        try:
            header = json.loads(f.read(length).decode("utf-8"))
        except (ValueError, RecursionError) as e:
            raise fail("something else: %s", e)
    if not isinstance(header, dict):
        raise fail("no object in its header")
    tensors = {k: v for k, v in header.items() if k != "__metadata__"}
    covered = 0
    try:
        by_place = sorted(tensors.items(), key=lambda t: tuple(t[1]["data_offsets"]))
        for tensor, t in by_place:
            begin, end = t["data_offsets"]
            numbers = [begin, end, *t["shape"]]
            if t["dtype"] not in BITS or not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers):
                raise fail("%s: dtype %.20r, shape and offsets that are none", tensor, t["dtype"])
            if begin != covered or (end - begin) * 8 != math.prod(t["shape"]) * BITS[t["dtype"]]:
                raise fail("%s: bytes %d to %d, expected its numbers from %d on", tensor, begin, end, covered)
            covered = end
    except (KeyError, TypeError, ValueError):
        raise fail("a tensor without dtype, shape or data_offsets in its header")
    if size != 8 + length + covered:
        raise Failure(
            "%s: expected %d bytes, found %d: it was cut short, fetch it again" % (name, 8 + length + covered, size)
        )
    return tensors, 8 + length


# ---------------------------------------------------------------- writing
def write_safetensors(path, tensors, pieces):
    """tensors: [(name, dtype, shape)]; pieces: their bytes, in the same order, in as many pieces as you like. Replaces
    `path` when all is written. Returns (tensors, bytes)."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, shape in tensors:
        end = offset + math.prod(shape) * BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    handle, part = tempfile.mkstemp(prefix="writing.", dir=os.path.dirname(os.path.abspath(path)))
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            for piece in pieces:
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(part, 0o666 & ~umask)
        os.replace(part, path)
    finally:
        if os.path.exists(part):
            os.remove(part)
    return len(tensors), offset


def without_wrapper(path, name):
    """Writes the file again where its names have what unwrapped() takes off. Was it so?"""
    tensors, start = read_header(path, name)
    plain = unwrapped(tensors)
    if [*plain] == [*tensors]:
        return False
    order = sorted(plain, key=lambda n: plain[n]["data_offsets"])
    with open_regular(path, name) as f:
        f.seek(start)
        pieces = iter(lambda: f.read(1 << 20), b"")
        write_safetensors(path, [(n, plain[n]["dtype"], plain[n]["shape"]) for n in order], pieces)
    return True
