#!/usr/bin/env python3
"""pytorch_model.bin -> model.safetensors. Python's standard library only: neither torch nor numpy is needed.

    python3 dev/convert_weights.py MODEL_DIR             MODEL_DIR/pytorch_model.bin -> MODEL_DIR/model.safetensors
    python3 dev/convert_weights.py FILE.bin FILE.safetensors

A file of torch.save is a pickle and the bytes of the tensors, in a zip archive (since PyTorch 1.6) or one after the
other (before). A pickle
can call any function, so it is read with a list of the few that a dictionary of tensors needs; another name is an error
and nothing is called.
Copies of the word embeddings (cls.predictions.decoder.*) are left out; other tensors that share memory are each written
whole.
"""

import argparse
import collections
import json
import os
import pickle
import struct
import sys
import tempfile
import zipfile

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
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
Storage = collections.namedtuple("Storage", "key dtype width count")
Tensor = collections.namedtuple("Tensor", "storage offset shape strides")  # in elements


class Failure(Exception):
    pass


def rebuild_tensor(storage, offset, shape, strides, *_):
    tensor = Tensor(storage, offset, tuple(shape), tuple(strides))
    if (
        not isinstance(storage, Storage)
        or len(tensor.shape) != len(tensor.strides)
        or not all(isinstance(n, int) and n >= 0 for n in (offset, *tensor.shape, *tensor.strides))
    ):
        raise Failure("expected a tensor's storage, offset, shape and strides, found %.80r" % (tensor,))
    return tensor


def rebuild_parameter(tensor, *_):
    return tensor


class Unpickler(pickle.Unpickler):
    def __init__(self, file):
        super().__init__(file)
        self.storages = {}

    def find_class(self, module, name):
        if (module, name) in (("collections", "OrderedDict"), ("builtins", "dict")):
            return {"OrderedDict": collections.OrderedDict, "dict": dict}[name]
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return rebuild_tensor
        if module == "torch._utils" and name == "_rebuild_parameter":
            return rebuild_parameter
        if module == "torch" and name == "Size":
            return tuple
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise Failure(
            "expected a dictionary of tensors, found %s.%s in the pickle: nothing of it was run" % (module, name)
        )

    def persistent_load(self, pid):
        kind, (dtype, width), key, _, count, *view = pid
        if kind != "storage" or (view and view[0] is not None):
            raise Failure("expected tensors in storages of their own, found %.60r" % (pid,))
        return self.storages.setdefault(key, Storage(key, dtype, width, count))


def read_zip(path):
    """(state dictionary, function storage -> bytes) of a file since PyTorch 1.6"""
    archive = zipfile.ZipFile(path)
    members = [m for m in archive.namelist() if m.endswith("/data.pkl")]
    if len(members) != 1:
        raise Failure("expected one data.pkl in the archive, found %d: not a file of torch.save" % len(members))
    prefix = members[0][: -len("data.pkl")]
    if prefix + "byteorder" in archive.namelist() and archive.read(prefix + "byteorder") != b"little":
        raise Failure("expected little-endian numbers, found big-endian ones")
    with archive.open(members[0]) as f:
        return Unpickler(f).load(), lambda storage: archive.read(prefix + "data/" + storage.key)


def read_legacy(path):
    """The same of a file before PyTorch 1.6: magic, version, system, the dictionary, the keys of the storages, then of
    each its count and bytes"""
    f = open(path, "rb")
    if pickle_of_numbers(f) != LEGACY_MAGIC:
        raise Failure("expected a file of torch.save, found another pickle")
    version, system = pickle_of_numbers(f), pickle_of_numbers(f)
    if version != 1001 or not system.get("little_endian", True):
        raise Failure("expected version 1001, little-endian, found %s, %s" % (version, system))
    unpickler = Unpickler(f)
    state, storages, at = unpickler.load(), unpickler.storages, {}
    for key in pickle_of_numbers(f):
        (count,) = struct.unpack("<q", f.read(8))
        if key not in storages or count != storages[key].count:
            raise Failure(
                "expected %s numbers of storage %s, found %d"
                % (storages[key].count if key in storages else "no", key, count)
            )
        at[key] = f.tell()
        f.seek(count * storages[key].width, 1)

    def data(storage):
        f.seek(at[storage.key])
        return f.read(storage.count * storage.width)

    return state, data


class Numbers(pickle.Unpickler):
    def find_class(self, module, name):
        raise Failure("expected numbers and strings, found %s.%s in the pickle: nothing of it was run" % (module, name))


def pickle_of_numbers(f):
    return Numbers(f).load()


def tensors_of(state):
    """The tensors of a state dictionary by name; of a training checkpoint, those of its state_dict or model."""
    for inner in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(inner), dict):
            state = state[inner]
    found = {k: v for k, v in state.items() if isinstance(v, Tensor)} if isinstance(state, dict) else {}
    if not found:
        raise Failure("expected a dictionary of tensors, found %s" % type(state).__name__)
    return found


def number_of(shape):
    n = 1
    for s in shape:
        n *= s
    return n


def contiguous(tensor, data):
    """The bytes of a tensor in row-major order. data: those of its storage"""
    shape, strides, width = tensor.shape, tensor.strides, tensor.storage.width
    last = tensor.offset + sum((n - 1) * s for n, s in zip(shape, strides))
    if number_of(shape) and not 0 <= last < len(data) // width:
        raise Failure("expected at least %d numbers in its storage, found %d" % (last + 1, len(data) // width))
    expected, row_major = 1, True
    for n, s in zip(reversed(shape), reversed(strides)):
        row_major = row_major and (n == 1 or s == expected)
        expected *= n
    if row_major:
        return data[tensor.offset * width : (tensor.offset + number_of(shape)) * width]
    numbers = memoryview(data).cast("B" if width == 1 else {2: "H", 4: "I", 8: "Q"}[width])

    def piece(dimension, at):
        if dimension == len(shape) - 1 and strides[-1] > 0:
            return numbers[at : at + (shape[-1] - 1) * strides[-1] + 1 : strides[-1]].tobytes()
        if dimension == len(shape):
            return numbers[at : at + 1].tobytes()
        return b"".join(piece(dimension + 1, at + i * strides[dimension]) for i in range(shape[dimension]))

    return piece(0, tensor.offset)


def convert(source, target):
    """Returns (tensors, bytes) written."""
    try:
        with open(source, "rb") as f:
            is_zip = f.read(2) == b"PK"
        state, data = (read_zip if is_zip else read_legacy)(source)
        tensors = tensors_of(state)
    except (
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
        ImportError,
        struct.error,
        zipfile.BadZipFile,
    ) as e:
        raise Failure(
            "%s: expected a file of torch.save, found something else, or a part of one: %s"
            % (source, " ".join(str(e).split()))
        )
    except Failure as e:
        raise Failure("%s: %s" % (source, e))
    if any(name.endswith("embeddings.word_embeddings.weight") for name in tensors):
        tensors = {k: v for k, v in tensors.items() if not k.startswith("cls.predictions.decoder.")}
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, t in tensors.items():
        size = number_of(t.shape) * t.storage.width
        header[name] = {"dtype": t.storage.dtype, "shape": list(t.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    handle, part = tempfile.mkstemp(prefix="converting.", dir=os.path.dirname(os.path.abspath(target)))
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            for name, t in tensors.items():
                try:
                    piece = contiguous(t, data(t.storage))
                except (Failure, KeyError, zipfile.BadZipFile) as e:
                    raise Failure("%s: %s: %s" % (source, name, e))
                if len(piece) != number_of(t.shape) * t.storage.width:
                    raise Failure(
                        "%s: %s: expected %d bytes, found %d: the file is cut short"
                        % (source, name, number_of(t.shape) * t.storage.width, len(piece))
                    )
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(part, 0o666 & ~umask)
        os.replace(part, target)
    finally:
        if os.path.exists(part):
            os.remove(part)
    return len(tensors), offset


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("source", metavar="MODEL_DIR|FILE.bin")
    p.add_argument("target", nargs="?", metavar="FILE.safetensors")
    args = p.parse_args()
    source = os.path.join(args.source, "pytorch_model.bin") if os.path.isdir(args.source) else args.source
    target = args.target or os.path.join(os.path.dirname(source), "model.safetensors")
    if os.path.lexists(target):
        sys.stderr.write(
            "error: %s: this file is there already and would be lost; remove it or name another FILE.safetensors\n"
            % target
        )
        sys.exit(2)
    try:
        count, size = convert(source, target)
        print("%s: %d tensors, %.1f MB" % (target, count, size / 1e6))
    except (Failure, OSError) as e:
        sys.stderr.write("error: %s\n" % e)
        sys.exit(1)


if __name__ == "__main__":
    main()
