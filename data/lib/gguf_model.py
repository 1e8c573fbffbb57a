"""A GGUF file of a Llama, Qwen2 or Qwen3 -> a Hugging Face directory: config.json, generation_config.json,
model.safetensors, tokenizer.json, tokenizer_config.json. What the directory cannot say is refused by its key."""

import json
import os
import struct

from .errors import nearest
from .gguf import GGUF
from .safetensors import write_safetensors
from .sentencepiece_model import added_tokens, bpe_model, merges_by_score, rules

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}

GPT2_SPLIT = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
# the same without the splitting, after a regular expression of the model's own
BYTES = dict(GPT2_SPLIT, use_regex=False)


def split_by(digits):
    """Qwen's and Llama 3's pre-tokeniser, with so many digits together"""
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
        r"\s+(?!\S)|\s+" % digits
    )
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, BYTES]}


# tokenizer.ggml.pre -> pre_tokenizer, normalizer, ignore_merges, whether a text begins with BOS by itself
PRE_TOKENIZERS = {
    "gpt-2": (GPT2_SPLIT, None, False, False),
    "smollm": (
        {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, GPT2_SPLIT]},
        *(None, False, False),
    ),
    "qwen2": (split_by(""), {"type": "NFC"}, False, False),
    "llama-bpe": (split_by("{1,3}"), None, True, True),
}


class Metadata:
    """The metadata of a file with checks. Keys that nobody asked for are refused at the end: each may be a rule."""

    def __init__(self, gguf):
        self.gguf, self.asked = gguf, set()

    def get(self, key, kind, default=None, what=None):
        """A value of this Python type; what is missing and has no default is refused"""
        self.asked.add(key)
        value = self.gguf.metadata.get(key)
        if value is None and default is None:
            self.gguf.fail("expected the key %s, found none; nearest: %s", key, nearest(key, self.gguf.metadata))
        if value is None:
            return default
        if type(value) is not kind and not (kind is float and type(value) is int):
            self.gguf.fail("%s: expected %s, found %.60r", key, what or kind.__name__, value)
        return value

    def integer(self, key, default=None, least=1, most=1 << 30):
        value = self.get(key, int, default)
        if value is not default and not least <= value <= most:
            self.gguf.fail("%s: expected an integer from %d to %d, found %d", key, least, most, value)
        return value

    def number(self, key, default=None, most=1e12):
        value = float("%.7g" % self.get(key, float, default))  # as it was before it became a float of 4 bytes
        if not 0 < value <= most:
            self.gguf.fail("%s: expected a number above 0, at most %g, found %g", key, most, value)
        return value

    def expect(self, key, values):
        """The key, where it is there, must have one of these values."""
        self.asked.add(key)
        if key in self.gguf.metadata and self.gguf.metadata[key] not in values:
            self.gguf.fail(
                "%s: expected %s, found %.60r: the decoders here have nothing else",
                key,
                " or ".join(map(repr, values)),
                self.gguf.metadata[key],
            )

    def refuse_the_rest(self, prefixes):
        for key in self.gguf.metadata:
            if key.startswith(prefixes) and key not in self.asked:
                self.gguf.fail("%s: this key is not known here; what it asks for would be ignored", key)


# ---------------------------------------------------------------- config.json
def rope_scaling(gguf, meta, arch, config):
    """Llama 3's scaling, which the file holds as one factor for each pair of dimensions"""
    meta.expect(arch + ".rope.scaling.type", ["none"])
    factors = gguf.tensors.get("rope_freqs.weight")
    if not factors:
        return None
    found = (
        list(struct.unpack("<%df" % factors.count, b"".join(gguf.numbers(factors)))) if factors.kind == "F32" else []
    )
    half, theta = config["head_dim"] // 2, config["rope_theta"]
    for original in (8192, 4096, 16384):
        factor = max(found, default=0)
        expected = []
        for i in range(half):
            wavelength = 2 * 3.141592653589793 * theta ** (i / half)
            smooth = min(
                1, max(0, (original / wavelength - 1) / (4 - 1))
            )  # 0 from wavelength = original, 1 to original / 4
            expected.append(1 / ((1 - smooth) / factor + smooth) if factor >= 1 else 0)
        if len(found) == half and all(abs(a - b) <= 1e-4 * b for a, b in zip(found, expected)):
            return {
                "rope_type": "llama3",
                "factor": round(factor, 4),
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": original,
            }
    gguf.fail("rope_freqs.weight: expected the factors of Llama 3's scaling (low 1, high 4), found others")


def make_config(gguf, meta):
    arch = meta.get("general.architecture", str)
    if arch not in ARCHITECTURES:
        gguf.fail("general.architecture: expected %s, found %r", ", ".join(ARCHITECTURES), arch)
    if gguf.metadata.get("split.count", 1) != 1:
        gguf.fail("expected one file that holds the whole model, found one of %s", gguf.metadata["split.count"])
    embedding = gguf.tensors.get("token_embd.weight")
    if not embedding or len(embedding.shape) != 2:
        gguf.fail(
            "expected a matrix token_embd.weight, found none; nearest: %s", nearest("token_embd.weight", gguf.tensors)
        )
    width = meta.integer(arch + ".embedding_length", most=1 << 20)
    heads = meta.integer(arch + ".attention.head_count", most=1 << 16)
    size = meta.integer(arch + ".attention.key_length", max(1, width // heads), most=1 << 16)
    config = {
        "architectures": [ARCHITECTURES[arch]],
        "model_type": arch,
        "dtype": DTYPES[embedding.dtype],
        "vocab_size": embedding.shape[0],
        "max_position_embeddings": meta.integer(arch + ".context_length"),
        "hidden_size": width,
        "intermediate_size": meta.integer(arch + ".feed_forward_length", most=1 << 24),
        "num_hidden_layers": meta.integer(arch + ".block_count", most=10000),
        "num_attention_heads": heads,
        "num_key_value_heads": meta.integer(arch + ".attention.head_count_kv", heads, most=1 << 16),
        "head_dim": size,
        "hidden_act": "silu",
        "rms_norm_eps": meta.number(arch + ".attention.layer_norm_rms_epsilon", most=0.1),
        "rope_theta": meta.number(arch + ".rope.freq_base", 10000.0),
        "tie_word_embeddings": "output.weight" not in gguf.tensors,
        "initializer_range": 0.02,
        "use_cache": True,
    }
    if size % 2 or heads % config["num_key_value_heads"]:
        gguf.fail(
            "expected heads of an even size, query heads a multiple of the key heads, found size %d, %d and %d heads",
            *(size, heads, config["num_key_value_heads"]),
        )
    if arch != "qwen2":  # of which q, k and v always have biases
        config["attention_bias"] = "blk.0.attn_q.bias" in gguf.tensors
    meta.expect(arch + ".vocab_size", [config["vocab_size"]])
    meta.expect(arch + ".attention.value_length", [size])
    meta.expect(arch + ".rope.dimension_count", [size])
    meta.expect(arch + ".expert_count", [0])
    meta.expect(arch + ".expert_used_count", [0])
    meta.expect(arch + ".attention.causal", [True])
    meta.refuse_the_rest(arch + ".") if arch + ".rope.scaling.type" not in gguf.metadata else None
    scaling = rope_scaling(gguf, meta, arch, config)
    meta.refuse_the_rest(arch + ".")
    if scaling:
        config["rope_scaling"] = scaling
    return config


# ---------------------------------------------------------------- model.safetensors
def wanted_tensors(gguf, config):
    """[(name in the checkpoint, Tensor, order of its rows or None)] of all tensors, each with the shape of config"""
    C, V, FF = config["hidden_size"], config["vocab_size"], config["intermediate_size"]
    heads, kv, size = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    shapes = {
        **{"attn_norm": [C], "ffn_norm": [C], "attn_q_norm": [size], "attn_k_norm": [size]},
        **{"attn_q": [heads * size, C], "attn_k": [kv * size, C], "attn_v": [kv * size, C]},
        **{"attn_output": [C, heads * size], "ffn_gate": [FF, C], "ffn_up": [FF, C], "ffn_down": [C, FF]},
    }
    outside = {"token_embd.weight": [V, C], "output_norm.weight": [C], "output.weight": [V, C]}
    optional = {"output.weight"} | {"attn_%s.bias" % x for x in ("q", "k", "v", "output")}
    qwen3 = config["model_type"] == "qwen3"
    if config["model_type"] == "qwen2" or config["attention_bias"]:
        optional -= {"attn_%s.bias" % x for x in ("q", "k", "v", *(["output"] if "attention_bias" in config else []))}
    wanted = []

    def add(name, to, shape, heads=None):
        tensor = gguf.tensors.get(name)
        if not tensor:
            if name.split(".", 2)[-1] in optional or name in optional:
                return
            gguf.fail("expected the tensor %s, found none; nearest: %s", name, nearest(name, gguf.tensors))
        if tensor.shape != shape:
            gguf.fail("%s: expected shape %s, as the metadata say, found %s", name, shape, tensor.shape)
        # only now, when the file is as large as its metadata say
        rows = [h * size + 2 * j + s for h in range(heads or 0) for s in range(2) for j in range(size // 2)]
        wanted.append((to, tensor, rows or None))

    for name, to in OUTSIDE.items():
        add(name, to, outside[name])
    for layer in range(config["num_hidden_layers"]):
        for part, to in LAYER.items():
            if part.endswith(("q_norm", "k_norm")) and not qwen3:
                continue
            # llama.cpp turns neighbours in a head, Hugging Face its halves: of llama's q and k the rows are in the
            # order of pairs
            n = {"attn_q": heads, "attn_k": kv}.get(part) if config["model_type"] == "llama" else None
            add("blk.%d.%s.weight" % (layer, part), "model.layers.%d.%s.weight" % (layer, to), shapes[part], n)
            if part in ("attn_q", "attn_k", "attn_v", "attn_output"):
                bias = "blk.%d.%s.bias" % (layer, part)
                add(bias, "model.layers.%d.%s.bias" % (layer, to), shapes[part][:1], n)
    used = {t.name for _, t, _ in wanted} | {"rope_freqs.weight"}
    foreign = [name for name in gguf.tensors if name not in used]
    if foreign:
        gguf.fail("expected the tensors of a %s, found %s as well", config["model_type"], foreign[0])
    return wanted


def write_weights(gguf, wanted, path):
    """Returns (tensors, bytes)."""
    width = {"F32": 4, "F16": 2, "BF16": 2}
    wanted = sorted(wanted, key=lambda w: -width[w[1].dtype])  # wide types first, so that all are aligned

    def pieces():
        for _, t, rows in wanted:
            if rows and len(t.shape) == 1:  # the numbers of a bias are its rows
                data, n = b"".join(gguf.numbers(t)), width[t.dtype]
                yield b"".join(data[r * n : r * n + n] for r in rows)
            else:
                yield from gguf.numbers(t, rows)

    return write_safetensors(path, [(name, t.dtype, t.shape) for name, t, _ in wanted], pieces())


# ---------------------------------------------------------------- tokenizer.json
def begin_with(token, token_id):
    """The post-processor that puts BOS before a text"""
    special = {token: {"id": token, "ids": [token_id], "tokens": [token]}}
    one, a, b = ({"SpecialToken": {"id": token, "type_id": 0}}, *({"Sequence": {"id": x, "type_id": 0}} for x in "AB"))
    second = [{k: dict(v, type_id=1)} for d in (one, b) for k, v in d.items()]
    return {"type": "TemplateProcessing", "single": [one, a], "pair": [one, a, *second], "special_tokens": special}


def make_tokenizer(gguf, meta, config):
    """-> tokenizer.json, tokenizer_config.json, generation_config.json"""
    key = "tokenizer.ggml."
    kind = meta.get(key + "model", str)
    tokens = meta.get(key + "tokens", list, what="an array of strings")
    types = meta.get(key + "token_type", list, [1] * len(tokens), "an array of integers")
    vocab = {t: i for i, t in enumerate(tokens)}
    if not all(type(t) is str for t in tokens) or len(vocab) != len(tokens) or len(types) != len(tokens):
        gguf.fail(
            "%stokens: expected different strings, a type of each, found %d, of which %d differ, and %d types",
            *(key, len(tokens), len(vocab), len(types)),
        )
    if len(tokens) != config["vocab_size"]:
        gguf.fail(
            "%stokens: expected as many as the embedding has rows, %d, found %d", key, config["vocab_size"], len(tokens)
        )
    merges = [m.split(" ", 1) for m in meta.get(key + "merges", list, [], "an array of strings") if type(m) is str]
    wrong = next(
        (m for m in merges if len(m) != 2 or m[0] not in vocab or m[1] not in vocab or "".join(m) not in vocab), None
    )
    if wrong:
        gguf.fail("%smerges: expected two tokens that make one, found %.60r", key, " ".join(wrong))
    ids = {}
    for name in ("bos", "eos", "unknown", "padding", "eot"):
        at = "%s%s_token_id" % (key, name)
        if at in gguf.metadata:
            ids[name] = meta.integer(at, least=0, most=len(tokens) - 1)
    for ignored in (
        "fim_pre",
        "fim_suf",
        "fim_mid",
        "fim_pad",
        "fim_rep",
        "fim_sep",
        "prefix",
        "suffix",
        "middle",
        "eom",
        "mask",
        "cls",
        "seperator",
        "separator",
    ):
        meta.asked.add("%s%s_token_id" % (key, ignored))  # names of tokens, no rules
    meta.expect(key + "add_eos_token", [False])
    added = added_tokens([(text, 0.0, t) for text, t in zip(tokens, types)])
    model = bpe_model(vocab, merges)
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    if kind == "gpt2":
        pre = meta.get(key + "pre", str)
        if pre not in PRE_TOKENIZERS:
            gguf.fail(
                "%spre: expected %s, found %r: the way it splits text is not known here",
                key,
                ", ".join(PRE_TOKENIZERS),
                pre,
            )
        meta.expect(key + "add_space_prefix", [False])
        meta.asked.add(key + "scores")
        pre_tokenizer, normalizer, model["ignore_merges"], begins = PRE_TOKENIZERS[pre]
        decoder, post = byte_level, dict(byte_level, trim_offsets=False)
    elif kind == "llama":
        meta.expect(key + "pre", ["default"])
        scores = meta.get(key + "scores", list, what="an array of numbers")
        if len(scores) != len(tokens) or not all(type(s) is float and s - s == 0 for s in scores):
            gguf.fail("%sscores: expected %d finite numbers, found %d", key, len(tokens), len(scores))
        meta.expect(key + "remove_extra_whitespaces", [False])
        normalizer, pre_tokenizer, decoder = rules(meta.get(key + "add_space_prefix", bool, True))
        begins, post = True, None
        model.update(unk_token=tokens[ids.get("unknown", 0)], fuse_unk=True, byte_fallback=True)
        model["merges"] = merges or merges_by_score(list(zip(tokens, scores, types)))
    else:
        gguf.fail("%smodel: expected gpt2 or llama, found %r", key, kind)
    begins = meta.get(key + "add_bos_token", bool, begins)
    if begins:
        if "bos" not in ids:
            gguf.fail("expected the key %sbos_token_id, since texts begin with that token, found none", key)
        template = begin_with(tokens[ids["bos"]], ids["bos"])
        post = {"type": "Sequence", "processors": [post, template]} if post else template
    tokenizer = {
        **{"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": normalizer},
        **{"pre_tokenizer": pre_tokenizer, "post_processor": post, "decoder": decoder, "model": model},
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": {str(a["id"]): {k: a[k] for k in a if k != "id"} for a in added},
    }
    for name, to in (("bos", "bos_token"), ("eos", "eos_token"), ("unknown", "unk_token"), ("padding", "pad_token")):
        if name in ids:
            settings[to] = tokens[ids[name]]
    if "tokenizer.chat_template" in gguf.metadata:
        settings["chat_template"] = meta.get("tokenizer.chat_template", str)
    meta.refuse_the_rest(key)
    ends = [ids[x] for x in ("eos", "eot") if x in ids]
    generation = {"_from_model_config": True}
    for name, to in (("bos", "bos_token_id"), ("padding", "pad_token_id")):
        if name in ids:
            generation[to] = config[to] = ids[name]
    if ends:
        generation["eos_token_id"] = config["eos_token_id"] = ends[0] if len(set(ends)) == 1 else ends
    return tokenizer, settings, generation


FILES = ("generation_config.json", "tokenizer.json", "tokenizer_config.json", "config.json")


def write_json(path, value):
    with open(path, "x", encoding="utf-8") as f:
        f.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def convert(path, folder, name=None):
    """Writes the directory into `folder`. Returns (config, tensors, how they were stored)."""
    gguf = GGUF(path, name)
    with gguf.file:
        meta = Metadata(gguf)
        config = make_config(gguf, meta)
        wanted = wanted_tensors(gguf, config)
        tokenizer, settings, generation = make_tokenizer(gguf, meta, config)
        for file, value in zip(FILES, (generation, tokenizer, settings, config)):
            write_json(os.path.join(folder, file), value)
        count, _ = write_weights(gguf, wanted, os.path.join(folder, "model.safetensors"))
        return config, count, ", ".join(sorted({t.kind for _, t, _ in wanted}))
