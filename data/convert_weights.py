#!/usr/bin/env python3
"""pytorch_model.bin -> model.safetensors. Python's standard library only: neither torch nor numpy is needed.

    python3 data/convert_weights.py MODEL_DIR            MODEL_DIR/pytorch_model.bin -> MODEL_DIR/model.safetensors
    python3 data/convert_weights.py FILE.bin FILE.safetensors

A file of torch.save is a pickle and the bytes of the tensors, in a zip archive (since PyTorch 1.6) or one after the
other (before). A pickle is a program, which can call any function and make structures without end, so it is run by a
machine that knows the few instructions and names that a dictionary of tensors needs; another one is an error, and
nothing is called. Copies of the word embeddings (cls.predictions.decoder.*) are left out; other tensors that share
memory are each written whole, up to four times the size of the file. Names lose what a wrapper of the model put before
them: module., _orig_mod. and model.
"""

import argparse
import collections
import io
import math
import mmap
import os
import pickle
import struct
import zipfile
import zlib

from lib.errors import Failure, Usage, run_script
from lib.files import open_regular
from lib.safetensors import unwrapped, write_safetensors

STORAGES = {
    "DoubleStorage": ("F64", 8),
    "FloatStorage": ("F32", 4),
    "HalfStorage": ("F16", 2),
    "BFloat16Storage": ("BF16", 2),
    "LongStorage": ("I64", 8),
    "IntStorage": ("I32", 4),
    "ShortStorage": ("I16", 2),
    "CharStorage": ("I8", 1),
    "ByteStorage": ("U8", 1),
    "BoolStorage": ("BOOL", 1),
}
# what unpickling raises where the bytes are no pickle, or only a part of one
BROKEN_PICKLE = (
    *(pickle.UnpicklingError, EOFError, LookupError, ValueError, TypeError, AttributeError, ImportError),
    *(RecursionError, MemoryError, OverflowError),
)
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
Storage = collections.namedtuple("Storage", "key dtype width count")
Tensor = collections.namedtuple("Tensor", "storage offset shape strides")  # in elements


# ---------------------------------------------------------------- the pickle
def rebuild_tensor(storage, offset, shape, strides, *_):
    tensor = Tensor(storage, offset, tuple(shape), tuple(strides))
    if (
        type(storage) is not Storage
        or len(tensor.shape) != len(tensor.strides)
        or len(tensor.shape) > 64
        or not all(type(n) is int and 0 <= n < 1 << 40 for n in (offset, *tensor.shape, *tensor.strides))
    ):
        raise Failure("expected a tensor's storage, offset, shape and strides, found something else")
    if math.prod(tensor.shape) > storage.count:
        raise Failure(
            "expected a tensor of at most the %d numbers of its storage, found one that repeats them" % storage.count
        )
    return tensor


def rebuild_parameter(tensor, *_):
    return tensor


def make_dict(items=()):
    made = {}
    for key, value in items:
        set_item(made, key, value)
    return made


def set_item(target, key, value):
    if type(key) not in (str, int, float, bool, type(None)):  # to look for a nested one may take for ever
        raise Failure("expected names of tensors, found a key that is a %s" % type(key).__name__)
    if type(target) is not dict:
        raise Failure("expected a dictionary, found a %s" % type(target).__name__)
    target[key] = value


class Instructions(dict):
    def __missing__(self, code):
        raise Failure(
            "expected a dictionary of tensors, found instruction 0x%02x in the pickle: nothing of it was run" % code
        )


class Unpickler(pickle._Unpickler):  # the one in Python: its memory is bounded by what it reads
    dispatch = Instructions(
        {
            getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]]
            for name in (
                "PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 FLOAT "
                "BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES "
                "SHORT_BINBYTES EMPTY_LIST EMPTY_TUPLE EMPTY_DICT LIST TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS PUT "
                "BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BINPERSID"
            ).split()
        }
    )

    def __init__(self, file):
        super().__init__(file)
        self.storages = {}

    def set_items(self):
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2]):
            set_item(self.stack[-1], key, value)

    def set_one(self):
        value, key = self.stack.pop(), self.stack.pop()
        set_item(self.stack[-1], key, value)

    def build(self):
        self.stack.pop()  # attributes of a dictionary: versions of modules

    dispatch[pickle.SETITEM[0]] = set_one
    dispatch[pickle.SETITEMS[0]] = set_items
    dispatch[pickle.BUILD[0]] = build

    def find_class(self, module, name):
        if (module, name) in (("collections", "OrderedDict"), ("builtins", "dict")):
            return make_dict
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return rebuild_tensor
        if module == "torch._utils" and name == "_rebuild_parameter":
            return rebuild_parameter
        if module == "torch" and name == "Size":
            return tuple
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise Failure(
            "expected a dictionary of tensors, found %.60s.%.60s in the pickle: nothing of it was run" % (module, name)
        )

    def persistent_load(self, pid):
        kind, dtype, key, _, count, *view = pid
        if (
            kind != "storage"
            or (view and view[0] is not None)
            or dtype not in STORAGES.values()
            or type(key) is not str
            or type(count) is not int
            or count < 0
        ):
            raise Failure("expected tensors in storages of their own, found something else")
        return self.storages.setdefault(key, Storage(key, *dtype, count))


class Numbers(Unpickler):
    def find_class(self, module, name):
        raise Failure(
            "expected numbers and strings, found %.60s.%.60s in the pickle: nothing of it was run" % (module, name)
        )


# ---------------------------------------------------------------- the file
def read_zip(file, whole):
    """(state dictionary, function storage -> its bytes) of a file since PyTorch 1.6. whole: the file in memory"""
    archive = zipfile.ZipFile(file)
    members = [m for m in archive.namelist() if m.endswith("/data.pkl")]
    if len(members) != 1:
        raise Failure("expected one data.pkl in the archive, found %d: not a file of torch.save" % len(members))
    prefix = members[0][: -len("data.pkl")]
    checked = {}

    def member(name):
        if name in checked:
            return checked[name]
        info = archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise Failure("%s: expected a member that is stored, as torch.save does, found a compressed one" % name)
        names = struct.unpack_from("<HH", whole, info.header_offset + 26)
        begin = info.header_offset + 30 + sum(names)
        data = memoryview(whole)[begin : begin + info.file_size]
        if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
            raise Failure("%s: expected %d bytes with the archive's checksum, found others" % (name, info.file_size))
        checked[name] = data
        return data

    if prefix + "byteorder" in archive.namelist() and bytes(member(prefix + "byteorder")) != b"little":
        raise Failure("expected little-endian numbers, found big-endian ones")
    state = Unpickler(io.BytesIO(member(members[0]))).load()
    return state, lambda storage: member(prefix + "data/" + storage.key)


def read_legacy(whole):
    """The same of a file before PyTorch 1.6: magic, version, system, the dictionary, the keys of the storages, then of
    each its count and bytes"""
    if Numbers(whole).load() != LEGACY_MAGIC:
        raise Failure("expected a file of torch.save, found another pickle")
    version, system = Numbers(whole).load(), Numbers(whole).load()
    if version != 1001 or type(system) is not dict or not system.get("little_endian", True):
        raise Failure("expected version 1001, little-endian, found another")
    unpickler = Unpickler(whole)
    state, storages, at = unpickler.load(), unpickler.storages, {}
    for key in Numbers(whole).load():
        (count,) = struct.unpack("<q", whole.read(8))
        if type(key) is not str or key not in storages or count != storages[key].count:
            raise Failure("expected the storages of the tensors with their counts, found another of %d numbers" % count)
        at[key] = whole.tell()
        whole.seek(count * storages[key].width, 1)
    return state, lambda storage: memoryview(whole)[at[storage.key] :][: storage.count * storage.width]


def tensors_of(state):
    """The tensors of a state dictionary by name; of a training checkpoint, those of its state_dict or model."""
    for inner in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(inner), dict):
            state = state[inner]
    found = {k: v for k, v in state.items() if isinstance(v, Tensor)} if isinstance(state, dict) else {}
    if not found:
        raise Failure("expected a dictionary of tensors, found %s" % type(state).__name__)
    for name in found:
        if type(name) is not str or any("\ud800" <= c <= "\udfff" for c in name):
            raise Failure("expected names of tensors as text, found %.80r" % (name,))
    return unwrapped(found)


def contiguous(tensor, data):
    """The bytes of a tensor in row-major order. data: those of its storage"""
    shape, strides, width = tensor.shape, tensor.strides, tensor.storage.width
    count, last = math.prod(shape), tensor.offset + sum((n - 1) * s for n, s in zip(shape, strides))
    if count == 0:
        return b""
    if last >= len(data) // width:
        raise Failure("expected at least %d numbers in its storage, found %d" % (last + 1, len(data) // width))
    expected, row_major = 1, True
    for n, s in zip(reversed(shape), reversed(strides)):
        row_major = row_major and (n == 1 or s == expected)
        expected *= n
    if row_major:
        return data[tensor.offset * width : (tensor.offset + count) * width]
    numbers = data[: len(data) // width * width].cast("B" if width == 1 else {2: "H", 4: "I", 8: "Q"}[width])

    def piece(dimension, at):
        if dimension == len(shape) - 1 and strides[-1] > 0:
            return numbers[at : at + (shape[-1] - 1) * strides[-1] + 1 : strides[-1]].tobytes()
        if dimension == len(shape):
            return numbers[at : at + 1].tobytes()
        return b"".join(piece(dimension + 1, at + i * strides[dimension]) for i in range(shape[dimension]))

    return piece(0, tensor.offset)


def convert(source, target):
    """Returns (tensors, bytes) written."""
    with open_regular(source) as f:
        size = os.fstat(f.fileno()).st_size
        if size == 0:
            raise Failure("%s: expected a file of torch.save, found an empty one" % source)
        whole = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            state, data = read_zip(f, whole) if whole[:2] == b"PK" else read_legacy(whole)
            tensors = tensors_of(state)
        except (*BROKEN_PICKLE, struct.error, zipfile.BadZipFile) as e:
            raise Failure(
                "%s: expected a file of torch.save, found something else, or a part of one: %s"
                % (source, " ".join(str(e).split())[:200] or type(e).__name__)
            )
        except Failure as e:
            raise Failure("%s: %s" % (source, e))
        if any(name.endswith("embeddings.word_embeddings.weight") for name in tensors):
            tensors = {k: v for k, v in tensors.items() if not k.startswith("cls.predictions.decoder.")}
        total = sum(math.prod(t.shape) * t.storage.width for t in tensors.values())
        if total > 4 * size:
            raise Failure(
                "%s: expected tensors of about the %d bytes of the file, found %d: they share their numbers"
                % (source, size, total)
            )

        def pieces():
            for name, t in tensors.items():
                try:
                    piece = contiguous(t, data(t.storage))
                except (Failure, KeyError, zipfile.BadZipFile) as e:
                    raise Failure("%s: %s: %s" % (source, name, e))
                if len(piece) != math.prod(t.shape) * t.storage.width:
                    raise Failure(
                        "%s: %s: expected %d bytes, found %d: the file is cut short"
                        % (source, name, math.prod(t.shape) * t.storage.width, len(piece))
                    )
                yield piece

        return write_safetensors(target, [(k, t.storage.dtype, t.shape) for k, t in tensors.items()], pieces())


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("source", metavar="MODEL_DIR|FILE.bin")
    p.add_argument("target", nargs="?", metavar="FILE.safetensors")
    args = p.parse_args()
    source = os.path.join(args.source, "pytorch_model.bin") if os.path.isdir(args.source) else args.source
    target = args.target or os.path.join(os.path.dirname(source), "model.safetensors")
    if os.path.lexists(target):
        raise Usage(
            "%s: this file is there already and would be lost; remove it or name another FILE.safetensors" % target
        )
    count, size = convert(source, target)
    print("%s: %d tensors, %.1f MB" % (target, count, size / 1e6))


if __name__ == "__main__":
    run_script(main)
