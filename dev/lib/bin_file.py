"""Reading the .bin files of a data directory: common/data/bin_file.h has the format. Standard library only."""

import collections
import struct

# kind: 1 text, 2 classify, 3 instruct; width: bytes of a token; offsets (sequences + 1) and ids (tokens) of the
# sequences; end: where what the kind adds begins
BinFile = collections.namedtuple("BinFile", "magic version kind width header sequences tokens vocab offsets ids end")


def read_header(data):
    """(magic, version, kind, width, size of the header, sequences, tokens, size of the vocabulary)"""
    return struct.unpack_from("<8sIIIIQQQ", data)


def parse_bin(data):
    """The header and the sequences of the bytes of a file"""
    fields = read_header(data)
    _, _, _, width, header, sequences, tokens, _ = fields
    offsets = struct.unpack_from("<%dQ" % (sequences + 1), data, header)
    begin = header + 8 * (sequences + 1)
    ids = struct.unpack_from("<%d%s" % (tokens, {2: "H", 4: "I"}[width]), data, begin)
    return BinFile(*fields, offsets, ids, begin + width * tokens)


def mean_length(path):
    """Tokens of a sequence, on average"""
    with open(path, "rb") as f:
        _, _, _, _, _, sequences, tokens, _ = read_header(f.read(256))
    return tokens / sequences
