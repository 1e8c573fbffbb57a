"""Reading a GGUF file: metadata, tensors, and their numbers, dequantised exactly as ggml does it.

    "GGUF", version 2 or 3, number of tensors, number of metadata pairs           little-endian
    metadata: key, type, value                                                    an array: type, count, values
    tensors:  name, dimensions (the fastest first), type, offset in the data      aligned
    data

The file is untrusted: every length is compared with what is left of the file before anything of that size is made.
"""

import math
import os
import struct
from array import array

from .errors import Failure
from .files import open_regular

MAX_PAIRS, MAX_TENSORS, MAX_NAME, MAX_NUMBERS = 1 << 16, 1 << 16, 1 << 16, 1 << 40
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
LOW, HIGH = bytes(i & 15 for i in range(256)), bytes(i >> 4 for i in range(256))
TWO_BITS = [bytes((i >> shift & 3) << 4 for i in range(256)) for shift in (0, 2, 4, 6)]


# ---------------------------------------------------------------- dequantisation
# Each takes whole blocks and yields lists of numbers: in double every one is exact but for the last rounding, that to
# float, so they are those of ggml bit for bit.
def q4_0(data):  # 32 numbers: scale, nibbles; first the low ones of all 16 bytes
    for d, q in struct.iter_unpack("<e16s", data):
        yield [d * (i - 8) for i in q.translate(LOW) + q.translate(HIGH)]


def q4_1(data):  # scale, minimum, nibbles
    for d, m, q in struct.iter_unpack("<ee16s", data):
        yield [m + d * i for i in q.translate(LOW) + q.translate(HIGH)]


def q8_0(data):  # scale, 32 signed bytes
    for d, *q in struct.iter_unpack("<e32b", data):
        yield [d * i for i in q]


def q4_k(data):  # 256 numbers: two scales, 8 pairs of (scale, minimum) of 6 bits, nibbles
    for d, dmin, s, q in struct.iter_unpack("<ee12s128s", data):
        scales = [b & 63 for b in s[:4]] + [s[8 + j] & 15 | s[j] >> 6 << 4 for j in range(4)]
        minima = [b & 63 for b in s[4:8]] + [s[8 + j] >> 4 | s[4 + j] >> 6 << 4 for j in range(4)]
        low, high = q.translate(LOW), q.translate(HIGH)
        for j in range(8):
            scale, minimum = d * scales[j], dmin * minima[j]
            at = j // 2 * 32
            yield [scale * i - minimum for i in (high if j % 2 else low)[at : at + 32]]


def q6_k(data):  # 256 numbers: nibbles, the two bits above them, 16 signed scales, their scale
    for ql, qh, *scales, d in struct.iter_unpack("<128s64s16be", data):
        for half in range(2):
            low, top = ql[64 * half : 64 * half + 64], qh[32 * half : 32 * half + 32]
            nibbles = int.from_bytes(low.translate(LOW) + low.translate(HIGH), "big")
            tops = int.from_bytes(b"".join(top.translate(t) for t in TWO_BITS), "big")
            q = (nibbles | tops).to_bytes(128, "big")
            for j in range(8):
                scale = d * scales[8 * half + j]
                yield [scale * (i - 32) for i in q[16 * j : 16 * j + 16]]


# type: (name, numbers in a block, bytes of a block, function or None, dtype in safetensors)
TYPES = {
    0: ("F32", 1, 4, None, "F32"),
    1: ("F16", 1, 2, None, "F16"),
    2: ("Q4_0", 32, 18, q4_0, "F32"),
    3: ("Q4_1", 32, 20, q4_1, "F32"),
    8: ("Q8_0", 32, 34, q8_0, "F32"),
    12: ("Q4_K", 256, 144, q4_k, "F32"),
    14: ("Q6_K", 256, 210, q6_k, "F32"),
    30: ("BF16", 1, 2, None, "BF16"),
}


def finite(data, dtype):
    """Is every number of these bytes finite?"""
    if dtype == "F32":
        values = array("f", data)
        return math.isfinite(sum(values))  # in double, where the sum of so few floats cannot overflow
    top = set(data[1::2])
    if dtype == "F16":
        return not any(b & 0x7C == 0x7C for b in top)
    return not any(b & 0x7F == 0x7F for b in top) or not any(x & 0x7F80 == 0x7F80 for x in array("H", data))


class Tensor:
    """shape: as in PyTorch, the slowest dimension first"""

    def __init__(self, name, shape, kind, offset, where):
        self.name, self.shape, self.offset = name, shape, offset
        if kind not in TYPES:
            raise Failure(
                "%s: %s: expected numbers as %s, found type %d: quantise the original model to one of these"
                % (where, name, ", ".join(t[0] for t in TYPES.values()), kind)
            )
        self.kind, block, width, self.function, self.dtype = TYPES[kind]
        self.count = math.prod(shape)
        row = shape[-1] if shape else 1
        if not 0 < self.count <= MAX_NUMBERS or row % block:
            raise Failure(
                "%s: %s: expected dimensions above 0, in rows of a multiple of %d numbers as %s has them, found %s"
                % (where, name, block, self.kind, tuple(shape))
            )
        self.row_bytes = row // block * width  # as stored
        self.size = self.count // block * width


class GGUF:
    """metadata: key -> value; tensors: name -> Tensor. name: what the user knows the file by, for errors"""

    def __init__(self, path, name=None):
        self.name = name or path
        self.file = open_regular(path, self.name)
        self.size = os.fstat(self.file.fileno()).st_size
        try:
            self.read_header()
        except BaseException:
            self.file.close()
            raise

    def fail(self, text, *values):
        raise Failure("%s: %s" % (self.name, text % values))

    def take(self, n, what):
        left = self.size - self.file.tell()
        if n > left:
            self.fail("%s: expected %d bytes, found %d: the file is cut off or damaged", what, n, left)
        return self.file.read(n)

    def number(self, letter, what):
        return struct.unpack("<" + letter, self.take(struct.calcsize("<" + letter), what))[0]

    def string(self, what, most=1 << 62):
        n = self.number("Q", what)
        if n > most:
            self.fail("%s: expected at most %d bytes, found %d", what, most, n)
        data = self.take(n, what)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            self.fail("%s: expected UTF-8, found the bytes %.40r", what, data)

    def value(self, kind, what):
        if kind == STRING:
            return self.string(what)
        if kind in NUMBERS:
            return self.number(NUMBERS[kind], what)
        if kind != ARRAY:
            self.fail("%s: expected a type from 0 to 12, found %d", what, kind)
        kind, count = self.number("I", what), self.number("Q", what)
        if kind in NUMBERS:
            width = struct.calcsize("<" + NUMBERS[kind])
            return list(struct.unpack("<%d%s" % (count, NUMBERS[kind]), self.take(count * width, what)))
        if kind != STRING:
            self.fail("%s: expected an array of numbers or strings, found type %d", what, kind)
        if count > (self.size - self.file.tell()) // 8:
            self.fail("%s: expected %d strings, found the end of the file", what, count)
        return [self.string(what) for _ in range(count)]

    def read_header(self):
        magic, version = self.take(4, "its magic"), self.number("I", "its version")
        if magic != b"GGUF":
            self.fail('expected a GGUF file, which begins with "GGUF", found %r', magic)
        if version not in (2, 3):
            self.fail(
                "expected version 2 or 3, little-endian, found %s",
                "big-endian numbers" if version in (2 << 24, 3 << 24) else version,
            )
        n_tensors, n_pairs = self.number("Q", "its number of tensors"), self.number("Q", "its number of keys")
        for n, most, what in ((n_tensors, MAX_TENSORS, "tensors"), (n_pairs, MAX_PAIRS, "keys")):
            if n > most:
                self.fail("expected at most %d %s, found %d: the file is damaged", most, what, n)
        self.metadata, self.tensors = {}, {}
        for i in range(n_pairs):
            key = self.string("key %d" % i, MAX_NAME)
            if key in self.metadata:
                self.fail("%s: is there twice", key)
            self.metadata[key] = self.value(self.number("I", key), key)
        for i in range(n_tensors):
            name = self.string("tensor %d" % i, MAX_NAME)
            if name in self.tensors:
                self.fail("%s: is there twice", name)
            n = self.number("I", name)
            if not 1 <= n <= 4:
                self.fail("%s: expected 1 to 4 dimensions, found %d", name, n)
            shape = [self.number("Q", name) for _ in range(n)][::-1]
            kind, offset = self.number("I", name), self.number("Q", name)
            self.tensors[name] = Tensor(name, shape, kind, offset, self.name)
        alignment = self.metadata.get("general.alignment", 32)
        if type(alignment) is not int or alignment not in [1 << i for i in range(3, 21)]:
            self.fail("general.alignment: expected a power of two from 8 to 1048576, found %r", alignment)
        self.start = -(-self.file.tell() // alignment) * alignment
        end = 0
        for t in sorted(self.tensors.values(), key=lambda t: t.offset):
            if t.offset % alignment or t.offset < end or t.offset + t.size > self.size - self.start:
                self.fail(
                    "%s: expected its %d bytes from an offset that is a multiple of %d, behind the tensor before (%d) "
                    "and within %d bytes of data, found offset %d: the file is cut off or damaged",
                    *(t.name, t.size, alignment, end, max(0, self.size - self.start), t.offset),
                )
            end = t.offset + t.size

    def numbers(self, tensor, rows=None, piece=1 << 20):
        """Yields the numbers of a tensor as bytes of its dtype. rows: in which order its rows are taken, for one
        that is permuted"""
        if rows is None:
            spans = [
                (at, min(piece // tensor.row_bytes * tensor.row_bytes or tensor.row_bytes, tensor.size - at))
                for at in range(0, tensor.size, piece // tensor.row_bytes * tensor.row_bytes or tensor.row_bytes)
            ]
        else:
            spans = [(r * tensor.row_bytes, tensor.row_bytes) for r in rows]
        for at, n in spans:
            self.file.seek(self.start + tensor.offset + at)
            data = self.take(n, tensor.name)
            if tensor.function:
                out = array("f")
                for block in tensor.function(data):
                    out.extend(block)
                data = out.tobytes()
            if not finite(data, tensor.dtype):
                self.fail(
                    "%s: expected finite numbers, found an infinite one or none: the file is damaged", tensor.name
                )
            yield data
