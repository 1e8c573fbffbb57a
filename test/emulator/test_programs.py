#!/usr/bin/env python3
"""The GPU build of the four programs in the emulator (README.md beside this file), beside the CPU build: what nvcc made
of the kernels trains a few steps, most of them as CUDA graphs, and has the losses of the loops; a run that is resumed
has the bits of one that was not stopped; masks, texts, labels and answers are those of the CPU.

    make DEVICE=cpu && make test-gpu                       # builds all that is needed, and runs this
    python3 test/emulator/test_programs.py Bf16.test_sft   # once it is built

Needs Python 3.9 and nothing else.
"""

import json
import os
import struct
import sys
import unittest

TEST = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TEST, os.path.join(TEST, "programs")]
import harness
import test_finetune_cls as classification
import test_sft as instruction
from harness import TOKENIZE, W, binary, metrics, resume, run, train

NAMES = ("train_bert", "finetune_cls", "train_gpt", "sft")
CPU = {name: binary(name.upper(), "build/cpu-fp32/" + name) for name in NAMES}
SMALL = "--layers 2 --hidden-size 64 --max-len 32 --batch-tokens 256".split()
RUN = "--steps 4 --warmup 0 --schedule constant --eval-every 2".split()


def pretrain(out, program, data, *flags):
    run(["train", "--data", W.path(data), "--out", W.path(out), *SMALL, *flags], program=program)


def build_world():
    W.make("bpe", {"bytes": 400}, documents=100)
    run("learn --type wordpiece --size 256 --out words train.txt".split(), program=TOKENIZE)
    for part in ("train", "val"):
        pack = ["pack", "--tokenizer", "words", "--kind", "text", "--in", part + ".txt"]
        run([*pack, "--out", "words/%s.bin" % part], program=TOKENIZE)
    learn = "--lr 5e-3 --steps 200 --eval-every 0 --eval-tokens 512".split()
    pretrain("bert", CPU["train_bert"], "words", "--positions", 64, *learn)
    pretrain("gpt", CPU["train_gpt"], "bytes", *learn, "--max-len", 64)
    classification.pack(
        "labelled",
        {"train": classification.make_rows(3, 160), "val": classification.make_rows(4, 20)},
        tokenizer="bert",
    )
    for name, seed, n in (("train", 1, 96), ("val", 2, 6), ("test", 3, 3)):
        instruction.pack("rows/%s.bin" % name, instruction.make_rows(seed, n), tokenizer="gpt")
    run(train("cls", *classification.SMALL, "--epochs", 3, data="labelled", init="bert"), program=CPU["finetune_cls"])
    run(train("tuned", *instruction.SMALL, "--epochs", 6, data="rows", init="gpt"), program=CPU["sft"])


def setUpModule():
    harness.set_up(build_world, "a text, two tokenizers, data and four models")


class Programs:
    """What holds for both precisions. LOSS, LOGIT: by how much they may differ from the CPU's in fp32; SURE: how many
    times as much where a model is wrong and sure of it"""

    def gpu(self, name):
        return os.path.join(harness.ROOT, "build/emulated-%s" % self.PRECISION, name)

    def check_run(self, name, args, times=1):
        """The same steps by both, and by the emulated program once more in two parts."""
        out = "%s-%s" % (self.id().split(".")[-1], self.PRECISION)
        command = lambda part, *more: [*args, "--out", W.path(out + part), *more]
        run(command("-cpu", *RUN), program=CPU[name])
        run(command("", *RUN), program=self.gpu(name))
        cpu, gpu = metrics(W.path(out + "-cpu")), metrics(W.path(out))
        for key, limit in (("loss", self.LOSS), ("val_loss", self.LOSS), ("norm", 10 * self.LOSS)):
            there = [m[key] for m in cpu if key in m]
            self.assertTrue(there)
            self.assert_close(there, [m[key] for m in gpu if key in m], times * limit)
        run(command("-parts", *RUN, "--steps", 2), program=self.gpu(name))
        resume(out + "-parts", "--steps", 4, program=self.gpu(name))
        self.assert_same_run(out, out + "-parts")

    def pretraining(self, data, *flags):
        return ["train", "--data", W.path(data), *SMALL, "--eval-tokens", 256, "--lr", 3e-3, "--dropout", 0.1, *flags]

    def test_train_bert(self):
        self.check_run("train_bert", self.pretraining("words"))

    def test_train_gpt(self):
        # one batch: from the second step on all is a graph
        self.check_run("train_gpt", self.pretraining("bytes", "--recompute", "--overfit-one-batch"))

    def test_llama(self):
        """RMSNorm, RoPE, SwiGLU and grouped heads"""
        flags = "--arch llama --heads 2 --kv-heads 1 --dropout 0".split()
        self.check_run("train_gpt", self.pretraining("bytes", *flags))

    def tuning(self, init, data, *flags):
        return ["train", "--init", W.path(init), "--data", W.path(data), "--log-every", 1, *flags]

    def test_finetune_cls(self):
        # every text is cut, so all batches have the same sizes
        flags = "--batch 8 --max-len 16 --lr 1e-3 --freeze 1 --accum 2 --examples 96".split()
        self.check_run("finetune_cls", self.tuning("bert", "labelled", *flags))

    ANSWERS = "--batch 4 --lr 3e-3 --eval-rows 6 --max-new-tokens 4".split()

    def test_sft(self):
        self.check_run("sft", self.tuning("gpt", "rows", *self.ANSWERS, "--dropout", 0.1), self.SURE)

    def test_adapters(self):
        self.check_run("sft", self.tuning("gpt", "rows", *self.ANSWERS, "--lora-r", 4), self.SURE)

    def test_what_they_say(self):
        """What was trained on a CPU answers as there."""

        def both(name, args, **more):
            return [run(args, program=p, **more).out for p in (CPU[name], self.gpu(name))]

        text = "the king [MASK] the country , for the [MASK] is wise ."
        logits = [W.path("logits-%s-%s.bin" % (self.PRECISION, i)) for i in range(2)]
        for program, path in zip((CPU["train_bert"], self.gpu("train_bert")), logits):
            run(["fill-mask", "--model", "bert", "--logits", path, text], program=program)
        data = [harness.read_safetensors(path)[0]["logits"][2] for path in logits]
        cpu, gpu = (struct.unpack("<%df" % (len(d) // 4), d) for d in data)
        self.assert_close(cpu, gpu, self.LOGIT)
        prompts = ["the king", "the farmer ploughs the garden , for the", "the queen visits the"]
        write = ["generate", "--model", "gpt", "--greedy", "--max-new-tokens", 12, *prompts]
        self.assertEqual(*both("train_gpt", write))
        rows = harness.jsonl(instruction.make_rows(3, 6))
        self.assertEqual(*both("sft", ["generate", "--model", "tuned", "--max-new-tokens", 6], text=rows))
        texts = ["the king is wise .", "the queen is proud , and so on " * 4]
        said = both("finetune_cls", ["predict", "--json", "--model", "cls", *texts])
        for a, b in zip(*(s.splitlines() for s in said)):
            for label, p in json.loads(a)["probabilities"].items():
                self.assertAlmostEqual(p, json.loads(b)["probabilities"][label], delta=self.LOGIT)


# In fp32 both differ in the order of sums alone, as the shim and the CPU do, whose limits these are.
class Fp32(Programs, harness.Case):
    PRECISION, LOSS, SURE, LOGIT = "fp32", 1e-4, 1, 1e-3


# What is stored in bf16 is off by up to 2**-9 of its size: a logit of size 1 by 0.002, of size 10 by 0.02, and as much
# again comes from the roundings before it. A loss is a mean over targets, of which a part cancels: 0.002 was seen, and
# 0.013 where a model that can only continue texts is asked for answers and has a loss of 9.
class Bf16(Programs, harness.Case):
    PRECISION, LOSS, SURE, LOGIT = "bf16", 0.005, 8, 0.1


if __name__ == "__main__":
    unittest.main()
