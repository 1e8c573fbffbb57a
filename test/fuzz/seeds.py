"""Inputs for the fuzzer to begin with: a folder of each reader's files, and a dictionary of the words that matter.

    python3 test/fuzz/seeds.py OUT

OUT/NAME/* are inputs as test/fuzz/fuzz.cpp takes them (several files with a separator between them), OUT/NAME.dict the
strings of the headers that read them. data/tokenize, built, makes the .bin files and the tokenizers.
"""

import json
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOKENIZE = os.environ.get("TOKENIZE", str(ROOT / "data" / "tokenize"))
SEPARATOR = b"\x1e"
TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json"]
TOKENIZER_FILES += ["merges.txt", "config.json", "generation_config.json", "added_tokens.json"]
TEXT = "The king said to his three sons: go and find 12 apples.\nCaf\u00e9 d\u00e9j\u00e0 vu, \u4e2d\u6587!\n\n" * 8
HEADERS = {
    "json": ["base/json.cpp"],
    "safetensors": ["train/safetensors.h", "train/tensors_io.h"],
    "tokenizer": ["text/*.h"],
    "config": ["train/gpt_config.h", "train/bert_config.h", "train/config_json.h"],
    "rows": ["text/labelled_rows.h", "text/instruct_rows.h", "text/line_reader.h", "text/csv.h"],
    "template": ["text/chat_template.h"],
    "run": ["train/resume.h", "train/run_log.h", "train/lora.h", "device/matmul_plans.h"],
    "bin": ["data/bin_file.h"],
}


def safetensors(tensors, metadata=None):
    """A file of tensors {name: (dtype, shape, bytes)}"""
    header, at = {"__metadata__": metadata} if metadata else {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values())


def files(*contents):
    return SEPARATOR.join(c if isinstance(c, bytes) else c.encode() for c in contents)


def dumped(*values):
    return files(*(json.dumps(v, ensure_ascii=False) if v is not None else "" for v in values))


def tokenizer(directory):
    parts = [pathlib.Path(directory) / name for name in TOKENIZER_FILES]
    return files(*(p.read_bytes() if p.exists() else b"" for p in parts))


def tokenizers(folder):
    """(of WordPiece, of BPE): inputs, and a directory of each to pack with"""
    text = folder / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    found = {}
    for kind in ("wordpiece", "bpe"):
        out = folder / kind
        command = [TOKENIZE, "learn", "--type", kind, "--size", "330", "--out", str(out), str(text)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found[kind] = out
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##b", "the", ",", "caf", "##\u00e9"]
    special = [
        {"id": i, "content": c, "single_word": False, "lstrip": c == "[MASK]", "rstrip": False, "normalized": False}
        for i, c in enumerate(names[:5])
    ]
    rules = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{**t, "special": True} for t in special],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}, {"type": "StripAccents"}],
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {c: i for i, c in enumerate(names)},
        },
    }
    letters = {c: i for i, c in enumerate(["<unk>", "<s>", "</s>", "\u2581", "a", "b", "ab", "\u2581ab", "<0x0A>"])}
    metaspace = {
        "added_tokens": [
            {"id": i, "content": c, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
            for i, c in enumerate(["<unk>", "<s>", "</s>"])
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "\u2581"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": letters,
            "merges": ["a b", "\u2581 ab"],
        },
    }
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", "eos_token": "</s>"}
    return (
        {
            "learned": tokenizer(found["wordpiece"]),
            "rules": dumped(rules, {"tokenizer_class": "PreTrainedTokenizerFast", "mask_token": "[MASK]"}),
            "words": files("", json.dumps({"do_lower_case": False}), "", "\n".join(names) + "\n"),
        },
        {"learned": tokenizer(found["bpe"]), "metaspace": dumped(metaspace, config)},
        found,
    )


def bins(folder, directories):
    """A packed file of each kind"""
    rows = {
        "text": ("wordpiece", "x.txt", TEXT),
        "classify": ("wordpiece", "x.csv", 'text,label\n"a king",good\nthree sons,bad\napples,good\n'),
        "instruct": (
            "bpe",
            "x.jsonl",
            '{"task": "t", "instruction": "add", "input": "1", "output": "2"}\n'
            '{"task": "u", "instruction": "sub", "input": "", "output": "3"}\n',
        ),
    }
    found = {}
    for kind, (tokenizer_kind, name, content) in rows.items():
        source, out = folder / name, folder / (kind + ".bin")
        source.write_text(content, encoding="utf-8")
        command = [TOKENIZE, "pack", "--tokenizer", str(directories[tokenizer_kind]), "--in", str(source)]
        command += ["--out", str(out)] + (["--kind", kind] if kind != "text" else [])
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found["bin_" + kind] = {"packed": out.read_bytes()}
    return found


def configs():
    gpt2 = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 61, "n_positions": 32}
    gpt2.update(n_embd=16, n_layer=2, n_head=2, activation_function="gelu_new", layer_norm_epsilon=1e-5)
    llama = {"model_type": "llama", "vocab_size": 61, "hidden_size": 16, "intermediate_size": 32, "rms_norm_eps": 1e-5}
    llama.update(num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64)
    llama.update(hidden_act="silu", rope_theta=10000.0, tie_word_embeddings=True, attention_bias=False)
    scaled = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaled.update(original_max_position_embeddings=32, rope_theta=500000.0)
    smollm3 = {**llama, "model_type": "smollm3", "no_rope_layers": [1, 0], "rope_parameters": scaled}
    qwen3 = {**llama, "model_type": "qwen3", "head_dim": 8, "use_sliding_window": False}
    bert = {"model_type": "bert", "vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 1, "hidden_act": "gelu"}
    bert.update(num_attention_heads=2, intermediate_size=32, max_position_embeddings=64, type_vocab_size=2)
    bert.update(id2label={"0": "no", "1": "yes"}, label2id={"no": 0, "yes": 1}, layer_norm_eps=1e-12)
    stops = {"eos_token_id": [1, 2], "bos_token_id": 0}
    kinds = {"gpt2": gpt2, "llama": llama, "smollm3": smollm3, "qwen3": qwen3}
    return {
        "gpt_config": {name: dumped(config, stops) for name, config in kinds.items()},
        "bert_config": {"bert": dumped(bert)},
    }


def main():
    out = pathlib.Path(sys.argv[1])
    floats = bytes(4 * 28)
    tensor_file = safetensors(
        {
            "wte.weight": ("F32", [7, 4], floats),
            "h.0.q.weight": ("BF16", [4, 4], bytes(32)),
            "h.0.k.weight": ("F16", [4, 4], bytes(32)),
        },
        {"format": "pt"},
    )
    index = {"metadata": {"total_size": 176}, "weight_map": {"wte.weight": "model.safetensors"}}
    rows = [{"text": "a king", "text2": "sons", "label": "good"}, {"text": "caf\u00e9", "text2": "", "label": 1}]
    lines = "\n".join(json.dumps(r) for r in rows) + "\n"
    turns = [{"role": "system", "content": "short"}, {"role": "user", "content": "hi"}]
    turns.append({"role": "assistant", "content": "ho"})
    instructions = [
        {"instruction": "add", "input": "1", "output": ["2", "two"], "task": "t", "options": ["2", "3"]},
        {"messages": turns},
        {"prompt": "a", "completion": "b", "examples": [{"input": "1", "output": "2"}]},
    ]
    marks = {
        "begin": "",
        "system": "<|im_start|>system\n{text}<|im_end|>\n",
        "user": "<|im_start|>user\n{text}<|im_end|>\n",
        "assistant": "<|im_start|>assistant\n{text}<|im_end|>\n",
    }
    template = {"name": "x", "text": "{instruction}\n{input}{output}", "without_input": "{instruction}{output}"}
    template.update(example="\nInput: {input}\nOutput: {output}", shots=0)
    chatml = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    chatml += (
        "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    plan = {"ta": False, "tb": True, "add": False, "m": 8, "n": 8, "k": 8, "lda": 8, "ldb": 8, "ldc": 8, "in_bytes": 2}
    plan.update(out_bytes=2, alignment=16, epilogue="none", algorithm="separate", us=1.5)
    lora = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["c_attn"], "fan_in_fan_out": True}
    lora["base_model_name_or_path"] = "/nothing"
    module = "base_model.model.transformer.h.0.attn.c_attn.lora_%s.weight"
    pair = {module % "A": ("F32", [2, 4], bytes(32)), module % "B": ("F32", [12, 2], bytes(96))}
    counters = {"step": 3, "next_sequence": 7, "tokens": 1e6, "seconds": 2.5, "best_loss": 1.25, "best_score": -1.25}
    counters.update(best_step=2, stale=1)
    flags = {"program": "sft", "flags": {"resume": False, "data": "x"}}
    value = {"a": [1, -2.5e-3, True, None, "\u00e9\U0001f600"], "b": {"c": {}}, "d": ['\\"\b\f\n']}

    targets = {
        "json": {"value": dumped(value)},
        "members": {"value": dumped(value)},
        "safetensors": {"file": tensor_file, "empty": safetensors({})},
        "tensors": {"file": tensor_file, "sharded": files(tensor_file, json.dumps(index))},
        "chat_template": {
            "config": dumped({"chat_template": chatml}),
            "jinja": files("", chatml),
            "ours": dumped(None, None, template),
            "turns": dumped(None, None, {**template, "turns": marks}),
        },
        "csv": {"table": b'text,text2,label\n"a ""king""\n",b,good\nx,,bad\n', "bare": b"text,label\na,b\n"},
        "tsv": {"table": b"text\tlabel\na\tgood\nb\tbad\n"},
        "jsonl": {"rows": lines.encode(), "array": json.dumps(rows, indent=1).encode()},
        "lines": {"texts": TEXT.encode()},
        "instruct": {
            "rows": "\n".join(json.dumps(r) for r in instructions).encode(),
            "array": json.dumps(instructions).encode(),
        },
        "plans": {"lines": (json.dumps(plan) + "\n").encode() * 2},
        "adapter": {"peft": files(json.dumps(lora), safetensors(pair))},
        "metrics": {"lines": b'{"step": 1, "loss": 2.5}\n{"step": 2, "loss": null}\n{"step": 101}\n'},
        "progress": {"counters": dumped(counters)},
        "run_config": {"flags": dumped(flags)},
        **configs(),
    }
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        targets["wordpiece"], targets["bpe"], directories = tokenizers(folder)
        targets.update(bins(folder, directories))
    words = {}
    for group, headers in HEADERS.items():
        text = "".join(p.read_text(encoding="utf-8") for h in headers for p in sorted((ROOT / "common").glob(h)))
        words[group] = sorted(set(re.findall(r'"([A-Za-z_<>|\[\]/{}.][\w<>|\[\]/{}. -]{1,30})"', text)))
    group_of = {"members": "json", "tensors": "safetensors", "wordpiece": "tokenizer", "bpe": "tokenizer"}
    group_of.update(gpt_config="config", bert_config="config", chat_template="template", csv="rows", tsv="rows")
    group_of.update(jsonl="rows", lines="rows", instruct="rows", plans="run", adapter="run", metrics="run")
    group_of.update(progress="run", run_config="run", bin_text="bin", bin_classify="bin", bin_instruct="bin")
    for name, inputs in targets.items():
        (out / name).mkdir(parents=True, exist_ok=True)
        for title, content in inputs.items():
            (out / name / title).write_bytes(content)
        with open(out / (name + ".dict"), "w") as f:
            f.writelines('"%s"\n' % w for w in words[group_of.get(name, name)])


if __name__ == "__main__":
    main()
