"""tokenizer.model, what the SentencePiece library writes -> the tokenizer.json that transformers converts it to. The
file is a protocol buffer: fields, each a number and a varint, 4 or 8 bytes, or so many bytes, which may hold fields
again. Only models of type BPE have merges."""

import struct

from .errors import Failure

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4  # types of pieces; also 5 unused, 6 byte
MARK = "\u2581"  # stands for a space


def merges_by_score(pieces):
    """[(text, score, type)] -> the merges: a piece of a higher score is made earlier, of one score the longer left part
    and the longer piece first. A piece can be made in several ways: every pair of pieces that gives it."""
    there = {text for text, _, _ in pieces}
    if sum(len(text) ** 2 for text in there) > 1 << 30:  # all ways to cut each; 128,000 pieces of 16 make 1 << 25
        raise Failure("expected pieces of a tokenizer, mostly of 16 characters at most, found much longer ones")
    merges = [
        (-score, -i, -len(text), [text[:i], text[i:]])
        for text, score, kind in pieces
        if kind == NORMAL
        for i in range(1, len(text))
        if text[:i] in there and text[i:] in there
    ]
    return [pair for *_, pair in sorted(merges, key=lambda m: m[:3])]


def added_tokens(pieces):
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    kinds = (UNKNOWN, CONTROL, USER_DEFINED)
    return [
        {"id": i, "content": text, **flags, "special": kind != USER_DEFINED}
        for i, (text, _, kind) in enumerate(pieces)
        if kind in kinds
    ]


def rules(space_before, first_only=False):
    """-> normalizer, pre_tokenizer, decoder. first_only: only the beginning of a text gets a space before it, not what
    follows a special token"""
    replace = lambda a, b: {"type": "Replace", "pattern": {"String": a}, "content": b}
    decoders = [replace(MARK, " "), {"type": "ByteFallback"}, {"type": "Fuse"}]
    if space_before:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    decoder = {"type": "Sequence", "decoders": decoders}
    if first_only:
        scheme = "first" if space_before else "never"
        return None, {"type": "Metaspace", "replacement": MARK, "prepend_scheme": scheme, "split": False}, decoder
    prepend = [{"type": "Prepend", "prepend": MARK}] if space_before else []
    return {"type": "Sequence", "normalizers": [*prepend, replace(" ", MARK)]}, None, decoder


def bpe_model(vocab, merges, **more):
    return {
        **{"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None},
        **{"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False},
        **more,
        **{"vocab": vocab, "merges": merges},
    }


def fields(data, file):
    """(number, value) of each field: of a varint an integer, else bytes"""
    wrong = Failure("%s: expected a SentencePiece model, found something else or a file that is cut off" % file)
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while shift < 64 and at < len(data):
            value |= (data[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if data[at - 1] < 128:
                return value & (1 << 64) - 1
        raise wrong

    while at < len(data):
        key = varint()
        kind = key & 7
        value = varint() if kind in (0, 2) else None
        size = {0: 0, 1: 8, 2: value, 5: 4}.get(kind)
        if key >> 3 == 0 or size is None or size > len(data) - at:
            raise wrong
        yield key >> 3, value if kind == 0 else data[at : at + size]
        at += size


class Message(dict):
    """The fields of bytes by their numbers; of several of one number the last"""

    def __init__(self, data, file):
        if type(data) is not bytes:
            raise Failure("%s: expected a SentencePiece model, found something else" % file)
        super().__init__(fields(data, file))
        self.file = file

    def value(self, number, default):
        value = self.get(number, default)
        if type(value) is not type(default):
            raise Failure("%s: expected a SentencePiece model, found something else in field %d" % (self.file, number))
        return value


def read_piece(data, file, i):
    piece = Message(data, file)
    text, score = piece.value(1, b""), piece.value(2, b"\0\0\0\0")
    try:
        text, score = text.decode("utf-8"), *struct.unpack("<f", score)
    except (UnicodeDecodeError, struct.error):
        text = ""
    if not text or score != score:
        raise Failure("%s: expected a text and a score for piece %d, found none" % (file, i))
    return text, score, piece.value(3, NORMAL)


def convert(data, file, first_only=False):
    """The bytes of tokenizer.model -> tokenizer.json, and {"bos_token": ...} of the roles that it names"""
    pieces, trainer, normalizer = [], Message(b"", file), Message(b"", file)
    for number, value in fields(data, file):
        if number == 1:
            pieces.append(read_piece(value, file, len(pieces)))
        elif number == 2:  # how it was trained
            trainer.update(Message(value, file))
        elif number == 3:  # how a text is normalised
            normalizer.update(Message(value, file))
    kind = trainer.value(3, 1)
    if not pieces or kind != 2:
        types = ("unknown", "unigram", "BPE", "word", "char")
        found = types[kind if kind < 5 else 0] if pieces else "no pieces"
        raise Failure("%s: expected a SentencePiece model of type BPE, found %s" % (file, found))
    if normalizer.value(2, b"") or normalizer.value(6, b""):
        name = normalizer.value(1, b"").decode("utf-8", "replace")
        raise Failure("%s: expected the normalizer identity, found %.60s: its rules are not supported" % (file, name))
    for there, rule in (
        (normalizer.value(4, 1), "remove_extra_whitespaces"),
        (not normalizer.value(5, 1), "escape_whitespaces = false"),
        (trainer.value(24, 0), "treat_whitespace_as_suffix"),
    ):
        if there:
            raise Failure("%s: the rule %s is not supported" % (file, rule))
    vocab = {}
    for i, (text, _, _) in enumerate(pieces):
        if vocab.setdefault(text, i) != i:
            raise Failure("%s: the piece %s has two ids, %d and %d" % (file, text, vocab[text], i))
    unknown = next((text for text, _, kind in pieces if kind == UNKNOWN), None)
    fallback = bool(trainer.value(35, 0))
    normalize, words, decoder = rules(bool(normalizer.value(3, 1)), first_only)
    tokenizer = {
        **{"version": "1.0", "truncation": None, "padding": None, "added_tokens": added_tokens(pieces)},
        **{"normalizer": normalize, "pre_tokenizer": words, "post_processor": None, "decoder": decoder},
        "model": bpe_model(vocab, merges_by_score(pieces), unk_token=unknown, fuse_unk=True, byte_fallback=fallback),
    }
    ids = (("bos_token", trainer.value(41, 1)), ("eos_token", trainer.value(42, 2)))  # 2^64 - 1: none
    return tokenizer, {role: pieces[i][0] for role, i in ids if i < len(pieces)}
