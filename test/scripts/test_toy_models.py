#!/usr/bin/env python3
"""The trained models in data/toy/models are what `make demo && python3 dev/recipes/toy_models.py` makes: the sizes, the
tokenizers and BF16 weights of that recipe, small, and they answer.

make && python3 test/scripts/test_toy_models.py             half a minute on two cores
"""

import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # test/harness.py
import harness
from harness import ROOT, TIMEOUT, TOKENIZE, binary, environment

sys.dont_write_bytecode = True
sys.path[:0] = [os.path.join(ROOT, "dev/demo"), os.path.join(ROOT, "dev/recipes")]
import steps  # noqa: E402
import toy_models  # noqa: E402

PROGRAMS = {name: binary(name.upper(), "build/cpu-fp32/" + name) for name in ("finetune_cls", "sft")}
MODELS = pathlib.Path(ROOT, "data/toy/models")
SENTIMENT, INSTRUCT = MODELS / "sentiment", MODELS / "instruct"


def run(command, text=""):
    done = subprocess.run(
        [str(c) for c in command],
        cwd=ROOT,
        env=environment(),
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT,
    )
    if done.returncode:
        raise AssertionError(f"{done.args}: {done.returncode}\n{done.stdout[-1000:]}\n{done.stderr[-1000:]}")
    return done.stdout


def header(model):
    with open(model / "model.safetensors", "rb") as f:
        (length,) = struct.unpack("<Q", f.read(8))
        return json.loads(f.read(length))


class ToyModels(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="tune_toy_models_")
        cls.toy = pathlib.Path(cls.folder.name)
        # the whole data of the demo, as the decoder's vocabulary is learned from it
        run([sys.executable, "data/toy.py", "--out", cls.toy])

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_size(self):
        files = [f for f in MODELS.rglob("*") if f.is_file()]
        self.assertLessEqual(sum(f.stat().st_size for f in files), 2_000_000)
        self.assertEqual({f.parent.name for f in files}, set(toy_models.MODELS))
        self.assertLessEqual({f.name for f in files}, {*toy_models.FILES, "config.json", "model.safetensors"})

    def test_sizes_of_the_recipe(self):
        names = {  # flag of the recipe: its name in config.json
            SENTIMENT: {
                "layers": "num_hidden_layers",
                "hidden-size": "hidden_size",
                "heads": "num_attention_heads",
                "ffn-dim": "intermediate_size",
                "positions": "max_position_embeddings",
            },
            INSTRUCT: {"layers": "n_layer", "hidden-size": "n_embd", "heads": "n_head", "max-len": "n_positions"},
        }
        for model, flags in ((SENTIMENT, steps.ENCODER), (INSTRUCT, steps.DECODER)):
            config = json.loads((model / "config.json").read_text())
            for flag, key in names[model].items():
                self.assertEqual(config[key], int(flags[flags.index("--" + flag) + 1]), (model.name, flag))
            vocabulary = "vocab.txt" if model == SENTIMENT else "vocab.json"
            self.assertTrue((model / vocabulary).exists())
            tensors = header(model)
            tensors.pop("__metadata__", None)
            self.assertEqual({t["dtype"] for t in tensors.values()}, {"BF16"})
            width = config[names[model]["hidden-size"]]
            self.assertIn([config["vocab_size"], width], [t["shape"] for t in tensors.values()])
        self.assertEqual(
            json.loads((SENTIMENT / "config.json").read_text())["id2label"], {"0": "negative", "1": "positive"}
        )

    def test_tokenizers_of_the_recipe(self):
        for model, data, files in (
            (SENTIMENT, "text", ["vocab.txt"]),
            (INSTRUCT, "instruct", ["vocab.json", "merges.txt"]),
        ):
            for file in files:
                self.assertEqual((model / file).read_bytes(), (self.toy / data / file).read_bytes(), file)

    def test_rounding(self):
        """To the nearest BF16, ties to even"""
        for value, expected in ((1.0, 0x3F80), (1.00390625, 0x3F80), (1.01171875, 0x3F82), (-2.5, 0xC020), (0.0, 0)):
            self.assertEqual(toy_models.to_bf16(struct.pack("<f", value)), struct.pack("<H", expected), value)

    def test_predict(self):
        """Reviews whose opinion words no label used: the demo's claim"""
        rows = [line.split("\t") for line in (self.toy / "reviews/test.tsv").read_text().splitlines()[1:501]]
        text = "".join(review + "\n" for review, _ in rows)
        answers = run([PROGRAMS["finetune_cls"], "predict", "--model", SENTIMENT], text).splitlines()
        self.assertEqual(len(answers), len(rows))
        right = sum(answer.split("\t")[0] == label for answer, (_, label) in zip(answers, rows))
        self.assertGreaterEqual(right / len(rows), 0.9)
        answers = run([PROGRAMS["finetune_cls"], "predict", "--model", SENTIMENT, "the soup was superb ."])
        self.assertEqual(answers.split("\t")[0], "positive")

    def test_wordings(self):
        """Instructions in wordings that tuning never saw"""
        out = self.toy / "answers"
        run(
            [PROGRAMS["sft"], "eval", "--model", INSTRUCT, "--data", self.toy / "instruct/test_wordings.bin"]
            + ["--rows", 1, "--batch", 64, "--max-new-tokens", 24, "--out", out]
        )
        results = json.loads((out / "results.json").read_text())["test_wordings"][str(INSTRUCT)]
        self.assertEqual(len(results["tasks"]), 171)
        self.assertGreaterEqual(results["exact_match"], 0.75)

    def test_answers(self):
        question, words = "please name the last two foods", "soup , cake , pear , lemon"
        answer = run([PROGRAMS["sft"], "generate", "--model", INSTRUCT, question, "--input", words])
        self.assertEqual(answer.strip(), "pear , lemon")
        answer = run([PROGRAMS["sft"], "chat", "--model", INSTRUCT], f"{question} : {words}\n")
        self.assertIn("pear , lemon", answer)


if __name__ == "__main__":
    harness.main(**PROGRAMS, tokenize=TOKENIZE)
