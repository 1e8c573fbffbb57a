#!/usr/bin/env python3
"""The trained toy models in data/toy/models, taken from a finished demo: its pretrained sentiment classifier (first
seed) and its decoder after instruction tuning. Weights are rounded to BF16, so that both together stay under 2 MB.

    make demo && python3 dev/recipes/toy_models.py [runs/demo [data/toy/models]]

test/scripts/test_toy_models.py checks that what is committed is of this kind. Python's standard library only.
"""

import array
import json
import pathlib
import shutil
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "data/toy/models"
MODELS = {"sentiment": "pretrained/seed-1/last", "instruct": "instruct/best"}  # folder of the demo
FILES = ["vocab.txt", "vocab.json", "merges.txt", "tokenizer_config.json", "template.json", "generation_config.json"]


def to_bf16(data):
    """The bytes of little-endian floats, each rounded to the nearest BF16 (ties to even): its upper 16 bits"""
    words = array.array("I", data)
    return array.array("H", [(w + 0x7FFF + (w >> 16 & 1)) >> 16 for w in words]).tobytes()


def copy_weights(source, to):
    """A safetensors file of F32 tensors -> one of BF16 tensors"""
    data = source.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    body, tensors, parts, at = data[8 + length :], {}, [], 0
    for name, tensor in header.items():
        if name == "__metadata__":
            tensors[name] = tensor
            continue
        if tensor["dtype"] != "F32":
            sys.exit(f"error: {source}: expected {name} as F32, found {tensor['dtype']}")
        begin, end = tensor["data_offsets"]
        parts.append(to_bf16(body[begin:end]))
        tensors[name] = {"dtype": "BF16", "shape": tensor["shape"], "data_offsets": [at, at + len(parts[-1])]}
        at += len(parts[-1])
    text = json.dumps(tensors, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    to.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def main():
    if any(word.startswith("-") for word in sys.argv[1:]):
        print(__doc__)
        sys.exit(0 if sys.argv[1:] in (["--help"], ["-h"]) else 2)
    demo = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "runs/demo")
    out = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else COMMITTED)
    for name in MODELS:
        if out.resolve() != COMMITTED and (out / name).exists():  # whose files these are is not known
            sys.stderr.write(f"error: {out / name}: expected nothing there, found something; give another folder\n")
            sys.exit(2)
    for name, folder in MODELS.items():
        source, to = demo / folder, out / name
        if not (source / "model.safetensors").exists():
            sys.exit(f"error: {source}: expected a trained model, found none: run make demo to its end first")
        to.mkdir(parents=True, exist_ok=True)
        copy_weights(source / "model.safetensors", to / "model.safetensors")
        config = json.loads((source / "config.json").read_text())
        config["dtype"] = "bfloat16"
        (to / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        for file in FILES:
            if (source / file).exists():
                shutil.copyfile(source / file, to / file)
        print(f"{to}: {sum(f.stat().st_size for f in to.iterdir()):,} bytes")


if __name__ == "__main__":
    main()
