"""Decoders in both directions: transformers computes the validation loss that train_gpt prints, of directories that
either of them wrote, and
writes on as train_gpt does, greedily, token for token.

    python test/hf/test_gpt.py        (needs dev/requirements.txt; train_gpt and data/tokenize built; no network)
"""

import json
import os
import re
import shutil
import sys
import tempfile
import unittest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from test_interchange import ROOT, TOKENIZE, Warnings, run

sys.path.insert(0, os.path.join(ROOT, "test"))
from harness import make_text, unpack_bin

TRAIN_GPT = os.environ.get("TRAIN_GPT", os.path.join(ROOT, "build/cpu-fp32/train_gpt"))
T = 48
PROMPTS = [
    "the king",
    "the farmer ploughs the garden , for the",
    'caf\u00e9 "the" ',
    "the queen visits the village , for the queen is proud .\nthe sailor",
    "a",
    "x" * 40,
]
SMALL = "--layers 2 --hidden-size 64 --max-len 48 --batch-tokens 512 --eval-every 0 --eval-tokens 0".split()


def eot_of(tokenizer):
    with open(os.path.join(tokenizer, "vocab.json")) as f:
        return json.load(f)["<|endoftext|>"]


def make_random(directory, tokenizer, vocab, seed=1):
    """A random GPT-2 as transformers saves it, with a tokenizer's files beside it"""
    eot = eot_of(tokenizer)
    config = GPT2Config(
        vocab_size=vocab, n_positions=T, n_embd=64, n_layer=3, n_head=2, bos_token_id=eot, eos_token_id=eot
    )
    return save_random(GPT2LMHeadModel(config), directory, tokenizer, seed)


def save_random(model, directory, tokenizer, seed, dtype=torch.float32, **how):
    """Saves a model with weights N(0, 0.15), those of norms around 1; returns it as it is read again, in floats."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(
                torch.randn(p.shape, generator=generator) * 0.15
                + name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight", "norm.weight"))
            )
    model.to(dtype).eval().save_pretrained(directory, **how)
    model = type(model).from_pretrained(directory, dtype=torch.float32).eval()
    for file in ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(tokenizer, file), directory)
    return model


def read_theirs(directory):
    """(model, tokenizer, what from_pretrained complained about)"""
    with Warnings() as log:
        model, info = AutoModelForCausalLM.from_pretrained(directory, output_loading_info=True, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(directory)
    return (
        model.eval(),
        tokenizer,
        log.messages + ["%s: %s" % (kind, sorted(names)) for kind, names in info.items() if names],
    )


def same_marks(text):
    """Bytes that are not UTF-8 become marks; how many, is a matter of taste."""
    return re.sub("\ufffd+", "\ufffd", text)


def their_loss(model, documents, eot):
    """Of all windows of at most T tokens of <|endoftext|> d0 ... dn, each predicting the token after it."""
    loss = targets = 0
    for d in documents:
        stream = [eot] + d + [eot]
        for i in range(0, len(d) + 1, T):
            x, y = torch.tensor([stream[i : i + T][: len(d) + 1 - i]]), torch.tensor(stream[i + 1 : i + 1 + T])
            with torch.no_grad():
                loss += torch.nn.functional.cross_entropy(model(input_ids=x).logits[0], y, reduction="sum").item()
            targets += len(y)
    return loss / targets, targets


class Gpt(unittest.TestCase):
    def setUp(self):
        for program in (TRAIN_GPT, TOKENIZE):
            if not os.path.exists(program):
                self.fail("expected %s, found nothing: run make test-hf" % program)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = folder.name
        for name, seed, documents in (("train", 1, 200), ("val", 2, 15)):
            with open(self.path(name + ".txt"), "w") as f:
                f.write(make_text(seed, documents))
        run(TOKENIZE, "learn", "--type", "bpe", "--size", "400", "--out", self.path("data"), self.path("train.txt"))
        for name in ("train", "val"):
            run(
                TOKENIZE,
                "pack",
                "--tokenizer",
                self.path("data"),
                "--kind",
                "text",
                "--in",
                self.path(name + ".txt"),
                "--out",
                self.path("data", name + ".bin"),
            )
        with open(self.path("data/val.bin"), "rb") as f:
            self.documents, self.vocab, _ = unpack_bin(f.read())

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def our_validation(self, out, *flags):
        """The last validation loss of a run of train_gpt."""
        run(TRAIN_GPT, "--data", self.path("data"), "--out", self.path(out), *SMALL[SMALL.index("--max-len") :], *flags)
        with open(self.path(out, "metrics.jsonl")) as f:
            return [json.loads(line) for line in f if "val_loss" in line][-1]

    def assert_same(self, directory, ours, begins, tolerance=1e-5, ends=None):
        model, tokenizer, complaints = read_theirs(directory)
        self.assertEqual(complaints, [])
        eot = tokenizer.eos_token_id
        self.assertEqual(
            (tokenizer.convert_ids_to_tokens(eot), model.generation_config.eos_token_id), ("<|endoftext|>", ends or eot)
        )
        loss, targets = their_loss(model, self.documents, eot)
        self.assertEqual(ours["val_targets"], targets)
        self.assertAlmostEqual(ours["val_loss"], loss, delta=tolerance)

        lines = run(
            TRAIN_GPT,
            "generate",
            "--model",
            directory,
            "--greedy",
            "--max-new-tokens",
            str(2 * T),
            "--json",
            input="".join(json.dumps({"prompt": p}) + "\n" for p in PROMPTS),
        ).stdout.splitlines()
        longest = 0
        for prompt, line in zip(PROMPTS, lines):
            answer = json.loads(line)
            # <|endoftext|> goes before it if tokenizer_config.json's add_bos_token says so
            x = tokenizer(prompt, return_tensors="pt")
            self.assertEqual(x["input_ids"][0, 0] == eot, begins)
            n = x["input_ids"].shape[1]
            with torch.no_grad():
                ids = model.generate(**x, do_sample=False, max_length=T, pad_token_id=eot)[0, n:].tolist()
            theirs = ids[:-1] if ids[-1] in (ends or [eot]) else ids
            if answer["stop"] == "context":  # we also say what follows the last token that fits
                self.assertEqual((answer["tokens"], len(ids)), (T - n + 1, T - n))
                text = same_marks(tokenizer.decode(theirs, clean_up_tokenization_spaces=False))
                self.assertTrue(same_marks(answer["text"]).startswith(text.rstrip("\ufffd")))
            else:
                self.assertEqual((answer["stop"], answer["tokens"]), ("end", len(theirs)))
                text = tokenizer.decode(theirs, clean_up_tokenization_spaces=False)
                self.assertEqual(same_marks(answer["text"]), same_marks(text))
            longest = max(longest, len(theirs))
        self.assertGreater(longest, 20)
        return loss

    def test_our_directory_in_transformers(self):
        ours = self.our_validation("run", *SMALL[:4], "--steps", "200", "--lr", "5e-3")
        loss = self.assert_same(self.path("run/best"), ours, True)
        print("trained: loss %.6f, theirs %.6f" % (ours["val_loss"], loss))
        self.assertLess(loss, 1)

    def test_their_directory_in_ours(self):
        """As it was saved, in half precision, without the prefix `transformer.`, and with the buffers of older files
        and a copy of the tied matrix."""
        model = make_random(self.path("theirs"), self.path("data"), self.vocab)
        state = load_file(self.path("theirs/model.safetensors"))
        self.assertEqual(next(n for n in state if "c_attn.weight" in n), "transformer.h.0.attn.c_attn.weight")
        bare = {n.removeprefix("transformer."): t for n, t in state.items()}
        old = dict(
            state,
            **{"transformer.h.%d.attn.bias" % l: torch.tril(torch.ones(1, 1, T, T)) for l in range(3)},
            **{"transformer.h.%d.attn.masked_bias" % l: torch.tensor(-1e4) for l in range(3)},
            **{"lm_head.weight": state["transformer.wte.weight"].clone()},
        )
        half = {n: t.bfloat16() for n, t in state.items()}
        eot = model.config.eos_token_id
        for name, tensors in (("theirs", state), ("bare", bare), ("old", old), ("half", half)):
            with self.subTest(name):
                if name != "theirs":
                    shutil.copytree(self.path("theirs"), self.path(name))
                    save_file(tensors, self.path(name, "model.safetensors"), metadata={"format": "pt"})
                    model.load_state_dict(
                        {n: t.float() for n, t in (half if name == "half" else state).items()}, strict=False
                    )
                ours = self.our_validation("from-" + name, "--init", self.path(name), "--steps", "1", "--lr", "1e-12")
                loss, targets = their_loss(model, self.documents, eot)
                self.assertEqual(ours["val_targets"], targets)
                self.assertAlmostEqual(ours["val_loss"], loss, delta=1e-4)  # of a random model: about 15
                # and what we wrote of it is read by transformers
                self.assert_same(self.path("from-" + name, "last"), ours, True, 1e-4)
                if name == "theirs":
                    self.assert_same(self.path(name), ours, False, 1e-4)

    def test_our_llama_in_transformers(self):
        flags = [*SMALL[:4], "--arch", "llama", "--heads", "2", "--kv-heads", "1"]
        ours = self.our_validation("run", *flags, "--steps", "200", "--lr", "5e-3")
        loss = self.assert_same(self.path("run/best"), ours, True)
        print("trained: loss %.6f, theirs %.6f" % (ours["val_loss"], loss))
        self.assertLess(loss, 1)

    def test_their_llamas_in_ours(self):
        """All four classes, in several files, in half precision; and what we write of them is read by transformers."""
        eot = eot_of(self.path("data"))
        sizes = dict(
            vocab_size=self.vocab,
            max_position_embeddings=T,
            hidden_size=48,
            intermediate_size=80,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            rms_norm_eps=1e-5,
            bos_token_id=eot,
            eos_token_id=[eot, 7],
            pad_token_id=None,
        )
        scaling = dict(
            rope_type="llama3",
            rope_theta=1e4,
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=T - 16,
        )
        models = {
            "llama": LlamaForCausalLM(LlamaConfig(rope_parameters=scaling, head_dim=32, **sizes)),
            "qwen2": Qwen2ForCausalLM(Qwen2Config(**sizes | dict(hidden_size=128), tie_word_embeddings=True)),
            "qwen3": Qwen3ForCausalLM(Qwen3Config(head_dim=32, tie_word_embeddings=True, **sizes)),
            "smollm3": SmolLM3ForCausalLM(SmolLM3Config(no_rope_layers=[1, 0, 1], head_dim=32, **sizes)),
        }
        how = {
            "llama": dict(max_shard_size="50KB"),
            "qwen2": dict(dtype=torch.bfloat16),
            "smollm3": dict(dtype=torch.float16),
        }
        for seed, (name, model) in enumerate(models.items()):
            with self.subTest(name):
                model = save_random(model, self.path(name), self.path("data"), seed + 5, **how.get(name, {}))
                files = [f for f in os.listdir(self.path(name)) if f.endswith(".safetensors")]
                self.assertEqual(len(files) > 2, name == "llama")
                ours = self.our_validation("from-" + name, "--init", self.path(name), "--steps", "1", "--lr", "1e-12")
                loss, targets = their_loss(model, self.documents, eot)
                self.assertEqual(ours["val_targets"], targets)
                self.assertAlmostEqual(ours["val_loss"], loss, delta=1e-4)  # of a random model: about 10
                self.assert_same(self.path("from-" + name, "last"), ours, True, 1e-4, [eot, 7])
                again = AutoModelForCausalLM.from_pretrained(self.path("from-" + name, "last"))
                self.assertIs(type(again), type(model))
                config, theirs = again.config.to_dict(), model.config.to_dict()
                for key in ("dtype", "architectures", "_name_or_path", "_attn_implementation_autoset"):
                    config.pop(key, None), theirs.pop(key, None)
                self.assertEqual(config, theirs)


if __name__ == "__main__":
    unittest.main()
