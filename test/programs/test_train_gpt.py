#!/usr/bin/env python3
"""train_gpt as a user runs it: trained, killed, resumed, asked to write, fed with nonsense. What is said about runs
that are killed
and resumed is that of test_train_bert.py.

    make && python3 test/programs/test_train_gpt.py             all; about two minutes on two cores
    python3 test/programs/test_train_gpt.py Resume BadInput.test_table

Needs Python 3.9 and nothing else. Other binaries: TRAIN_GPT, TRAIN_GPT_SHIM, TRAIN_BERT, TOKENIZE in the environment.
"""

import sys
import json
import math
import os
import re
import shutil
import subprocess
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # test/harness.py
import harness
import test_train_bert as bert
from harness import (
    TOKENIZE,
    W,
    Call,
    Case,
    binary,
    config_edit,
    header_edit,
    losses,
    metrics,
    pack_bin,
    patched,
    read,
    read_safetensors,
    run,
    safetensors,
    start,
    unpack_bin,
    validations,
    write,
)
from test_train_bert import TINY, train

TRAIN_GPT = W.program = binary("TRAIN_GPT", "build/cpu-fp32/train_gpt")  # also for what is inherited
SHIM = binary("TRAIN_GPT_SHIM", "build/shim-fp32/train_gpt")
SHIM_BF16 = binary("TRAIN_GPT_SHIM_BF16", "build/shim-bf16/train_gpt")
CPU_BF16 = binary("TRAIN_GPT_CPU_BF16", "build/cpu-bf16/train_gpt")


def build_world():
    W.make("bpe", {"data": 400, "other": 300})
    # a trained model, whose last checkpoint can be resumed
    run(
        train(
            "run",
            *TINY,
            "--max-len",
            64,
            "--batch-tokens",
            512,
            "--lr",
            5e-3,
            "--steps",
            400,
            "--eval-every",
            100,
            "--eval-tokens",
            2048,
        )
    )


def setUpModule():
    harness.set_up(build_world, "a text, a tokenizer, data and a model")


def write_on(*flags, model="run", **more):
    return run(["generate", "--model", W.path(model), *flags], **more)


def as_json(prompts, *flags, **more):
    done = write_on("--json", *flags, text="".join(json.dumps({"prompt": p}) + "\n" for p in prompts), **more)
    return [json.loads(line) for line in done.out.splitlines()]


PROMPTS = [
    "the king",
    "the farmer ploughs the garden , for the",
    "",
    "the queen visits the village , for the queen is proud .\nthe sailor",
    "a",
    'caf\u00e9 "the" ',
]


# ---------------------------------------------------------------- learning
class Learning(Case):
    def test_overfits_one_batch(self):
        run(
            train(
                "overfit",
                *TINY,
                "--overfit-one-batch",
                "--steps",
                250,
                "--lr",
                3e-3,
                "--schedule",
                "constant",
                "--eval-every",
                0,
                "--log-every",
                50,
            )
        )
        trace = losses(W.path("overfit"))
        self.assertGreater(trace[0], 5)  # about ln 400
        # what stands at the beginning of a window cannot be known: 8 windows, of which each may begin with one of 12
        # subjects or anywhere
        self.assertLess(trace[-1], 0.15)

    def test_validation_loss_falls_below_unigrams(self):
        first = metrics(W.path("run"))[0]
        curve = validations(W.path("run"))
        print("validation %s, unigrams %.3f" % (" ".join("%.3f" % v for v in curve), first["unigram_loss"]))
        self.assertEqual(len(curve), 4)
        self.assertLess(curve[-1], 0.4 * first["unigram_loss"])

    def test_sizes_are_those_of_gpt2(self):
        """Parameters with 50,257 tokens and 1,024 positions, as they are published; batches that fit into no memory, so
        that nothing is trained"""
        for size, width, parameters in (
            ("gpt2", 768, 124439808),
            ("medium", 1024, 354823168),
            ("large", 1280, 774030080),
            ("xl", 1600, 1557611200),
        ):
            done = run(
                train("size-" + size, "--size", size, "--positions", 1024, "--batch-tokens", 1 << 22, "--verbose"),
                code=1,
            )
            vocab = int(re.search(r"transformer.wte.weight +(\d+) x %d " % width, done.out)[1])
            self.assertEqual(
                int(re.search(r"\n  total +([\d,]+)\n", done.out)[1].replace(",", "")),
                parameters - (50257 - vocab) * width,
            )
            self.assertIn("of memory, the device has", done.err)

    def test_bits_per_byte(self):
        """With all of val.bin validated on: the targets' bytes are those of the text, <|endoftext|> has none."""
        run(train("bits", *TINY, "--steps", 1, "--eval-tokens", 0))
        m = metrics(W.path("bits"))[-1]
        documents = [d for d in read(W.path("val.txt"), "r").split("<|endoftext|>\n") if d]
        ids, vocab, _ = unpack_bin(read(W.path("data/val.bin")))
        self.assertEqual(len(ids), len(documents))
        self.assertEqual(m["val_targets"], sum(map(len, ids)) + len(ids))
        names = json.loads(read(W.path("data/vocab.json")))
        size = {i: len(name) for name, i in names.items()}  # the text is ASCII: a character of a name is a byte
        size[names["<|endoftext|>"]] = 0
        byte_count = sum(size[i] for d in ids for i in d)
        self.assertAlmostEqual(
            m["val_bits_per_byte"], m["val_loss"] / math.log(2) * m["val_targets"] / byte_count, delta=1e-9
        )
        self.assertAlmostEqual(m["val_perplexity"], math.exp(m["val_loss"]), delta=1e-6)

    def test_init_goes_on_at_the_same_loss(self):
        run(
            train(
                "continued",
                "--init",
                W.path("run"),
                "--max-len",
                64,
                "--batch-tokens",
                256,
                "--steps",
                1,
                "--lr",
                1e-12,
                "--eval-tokens",
                2048,
            )
        )
        self.assertAlmostEqual(validations(W.path("continued"))[0], min(validations(W.path("run"))), delta=2e-6)

    def test_validation_data_do_not_depend_on_the_batch(self):
        for tokens in (128, 384):
            run(
                train(
                    "val%d" % tokens,
                    *TINY,
                    "--steps",
                    1,
                    "--lr",
                    1e-12,
                    "--dropout",
                    0,
                    "--eval-tokens",
                    700,
                    "--batch-tokens",
                    tokens,
                )
            )
        small, large = (metrics(W.path("val%d" % n)) for n in (128, 384))
        self.assertEqual(small[-1]["val_targets"], large[-1]["val_targets"])
        self.assertAlmostEqual(small[-1]["val_loss"], large[-1]["val_loss"], delta=2e-6)  # and packing changes no loss
        self.assertEqual(small[0]["unigram_loss"], large[0]["unigram_loss"])

    def test_samples_change_nothing(self):
        """A sample every second step, within a run with dropout: the run's numbers are those of one without."""
        flags = [*TINY, "--steps", 6, "--eval-every", 3, "--eval-tokens", 512]
        run(train("silent", *flags))
        text = run(train("talking", *flags, "--sample-every", 2, "--sample-prompt", "the king")).out
        self.assertEqual(text.count("sample: the king"), 3)
        self.assertEqual(metrics(W.path("silent")), metrics(W.path("talking")))
        self.assertEqual(read(W.path("silent/last/model.safetensors")), read(W.path("talking/last/model.safetensors")))

    def test_no_new_names(self):
        tensors, _ = read_safetensors(W.path("run/best/model.safetensors"))
        self.assertEqual(len(tensors), 2 + 2 * 12 + 2)
        self.assertEqual(tensors["transformer.h.0.attn.c_attn.weight"][1], [64, 192])  # (in, out)
        self.assertNotIn("lm_head.weight", tensors)
        self.assertEqual(
            set(os.listdir(W.path("run/best"))),
            {
                "config.json",
                "generation_config.json",
                "merges.txt",
                "model.safetensors",
                "tokenizer.json",
                "tokenizer_config.json",
                "vocab.json",
            },
        )


# ---------------------------------------------------------------- the same numbers
class SameNumbers(Case):
    def test_accumulation_equals_the_full_batch(self):
        """Documents of T - 1 tokens are one window of exactly T, so that half of the budget holds half of the
        windows."""
        documents, vocab, fingerprint = unpack_bin(read(W.path("data/train.bin")))
        bert.check_accumulation(self, pack_bin([d[:31] for d in documents if len(d) >= 31], vocab, fingerprint))

    def test_any_number_of_threads_gives_the_same_bits(self):
        bert.check_threads(self)

    def test_recompute_changes_no_bit(self):
        bert.check_recompute(self, (TRAIN_GPT, SHIM, SHIM_BF16))

    @unittest.skipUnless(SHIM, "build/shim-fp32/train_gpt is not built: make DEVICE=shim")
    def test_shim_equals_cpu(self):
        self.assert_close(bert.trace("cpu", TRAIN_GPT), bert.trace("shim", SHIM), 1e-4)

    # What is stored in bf16 is off by up to 2**-9 of its size, a logit of size 1 by 0.002, and as much again comes from
    # the roundings before it. The loss is a mean over many targets, of which a part cancels: 0.001 was seen; 0.005
    # leaves room for another order of sums on another machine.
    def test_bf16_follows_fp32(self):
        bert.check_bf16(self, TRAIN_GPT, SHIM_BF16, CPU_BF16)

    @unittest.skipUnless(SHIM, "build/shim-fp32/train_gpt is not built: make DEVICE=shim")
    def test_shim_writes_the_same(self):
        args = [
            "generate",
            "--model",
            W.path("run"),
            "--greedy",
            "--max-new-tokens",
            12,
            "--batch",
            2,
            *[p for p in PROMPTS if p],
        ]
        self.assertEqual(run(args).out, run(args, program=SHIM).out)


# ---------------------------------------------------------------- interrupted and resumed
class Resume(bert.Resume):
    SHIM = SHIM


# ---------------------------------------------------------------- the other architecture
LLAMA = [*TINY, *"--arch llama --heads 2 --kv-heads 1".split()]


class Llama(Case):
    @classmethod
    def setUpClass(cls):
        flags = "--max-len 64 --batch-tokens 512 --lr 5e-3 --steps 200 --eval-every 100 --eval-tokens 2048".split()
        run(train("llama", *LLAMA, *flags))

    def test_learns_and_writes(self):
        first = metrics(W.path("llama"))[0]
        self.assertLess(validations(W.path("llama"))[-1], 0.5 * first["unigram_loss"])
        for flags in (["--greedy"], ["--temperature", 0.9, "--top-p", 0.95, "--seed", 3]):
            one = as_json(PROMPTS, "--max-new-tokens", 20, "--batch", 1, *flags, model="llama")
            self.assertEqual(one, as_json(PROMPTS, "--max-new-tokens", 20, "--batch", 3, *flags, model="llama"))
            self.assertGreater(len({a["text"] for a in one}), 3)

    def test_is_a_llama_of_transformers(self):
        config = json.loads(read(W.path("llama/best/config.json")))
        self.assertEqual((config["model_type"], config["architectures"]), ("llama", ["LlamaForCausalLM"]))
        self.assertEqual((config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]), (2, 1, 32))
        self.assertEqual((config["intermediate_size"], config["attention_dropout"]), (192, 0))  # 8/3 x 64, in 64s
        tensors, _ = read_safetensors(W.path("llama/best/model.safetensors"))
        self.assertEqual(len(tensors), 1 + 2 * 9 + 1)
        self.assertEqual(tensors["model.layers.1.self_attn.k_proj.weight"][1], [32, 64])

    def test_sizes_are_about_those_of_gpt2(self):
        """Without the embeddings; batches that fit into no memory, so that nothing is trained"""
        for size, layers, width in (("mini", 4, 256), ("small", 6, 384), ("gpt2", 12, 768), ("large", 36, 1280)):
            done = run(
                train("l-" + size, "--arch", "llama", "--size", size, "--batch-tokens", 1 << 22, "--verbose"), code=1
            )
            total = int(re.search(r"\n  total +([\d,]+)\n", done.out)[1].replace(",", ""))
            vocab = int(re.search(r"model.embed_tokens.weight +(\d+) x %d " % width, done.out)[1])
            self.assertAlmostEqual((total - vocab * width) / (12 * layers * width**2), 1, delta=0.05)
            self.assertIn("of memory, the device has", done.err)

    def test_killed_and_resumed(self):
        flags = [*LLAMA, "--steps", 20, "--eval-every", 5, "--eval-tokens", 512, "--dropout", 0.1]
        run(train("llama-whole", *flags))
        bert.Resume.killed(self, "llama-killed", flags, 1, 3)
        self.assert_same_run("llama-whole", "llama-killed")
        self.assertEqual(json.loads(read(W.path("llama-killed/last/config.json")))["attention_dropout"], 0.1)

    def test_init_goes_on_at_the_same_loss(self):
        before = validations(W.path("llama"))[-1]
        flags = "--max-len 64 --batch-tokens 512 --lr 1e-9 --steps 1 --eval-tokens 2048".split()
        run(train("llama-more", "--init", W.path("llama/last"), *flags))
        self.assertAlmostEqual(validations(W.path("llama-more"))[-1], before, delta=1e-5)

    def test_recompute_threads_and_kernels(self):
        def trace(out, *flags, program=TRAIN_GPT, threads=1):
            flags = [*LLAMA, *"--steps 4 --eval-tokens 512 --lr 3e-3 --dropout 0.1 --warmup 0".split(), *flags]
            run(train(out, *flags), program=program, OMP_NUM_THREADS=threads)
            return losses(W.path(out)) + validations(W.path(out))

        exact = trace("llama-exact")
        trace("llama-threads", threads=3)
        self.assert_same_run("llama-exact", "llama-threads")
        trace("llama-again", "--recompute")
        self.assert_same_run("llama-exact", "llama-again")
        if SHIM:
            self.assert_close(exact, trace("llama-shim", program=SHIM), 1e-4)
            args = ["generate", "--model", W.path("llama"), "--greedy", "--max-new-tokens", 12, "--batch", 2, *PROMPTS]
            self.assertEqual(run(args).out, run(args, program=SHIM).out)
        for i, program in enumerate(filter(None, (SHIM_BF16, CPU_BF16))):  # 0.005: as test_bf16_follows_fp32
            self.assert_close(exact, trace("llama-bf16-%d" % i, program=program), 0.005)

    def test_bad_input(self):
        def edited(name, files):
            init = W.variant("llama/last", "llama " + name, files)
            return train("bad-out", "--init", W.path(init), "--max-len", 32)

        def config(name, **changes):
            return edited(name, {"config.json": config_edit(**changes)})

        def header(name, change):
            return edited(name, {"model.safetensors": header_edit(change)})

        k = "model.layers.0.self_attn.k_proj.weight"
        yarn = {"rope_type": "yarn", "factor": 4.0}
        self.check_bad_inputs(
            [
                ("gpt2 with fewer heads of keys", train("bad-out", *TINY, "--kv-heads", 3), 2, ["--kv-heads", "gpt2"]),
                ("kv heads", train("bad-out", *LLAMA, "--heads", 2, "--kv-heads", 3), 2, ["--kv-heads", "2", "3"]),
                ("unknown architecture", train("bad-out", *TINY, "--arch", "gemma"), 2, ["--arch", "gpt2", "gemma"]),
                (
                    "--init with --arch",
                    train("bad-out", "--init", W.path("llama"), "--arch", "llama"),
                    2,
                    ["--arch", "--init"],
                ),
                ("Gemma", config("gemma", model_type="gemma3_text"), 1, ["config.json", "qwen3", "gemma3_text"]),
                ("another activation", config("gelu", hidden_act="gelu"), 1, ["hidden_act", "silu", "gelu"]),
                ("biases", config("bias", attention_bias=True), 1, ["attention_bias", "true"]),
                ("scaling", config("yarn", rope_scaling=yarn), 1, ["rope_scaling", "rope_type", "yarn"]),
                ("a window", config("w", use_sliding_window=True), 1, ["use_sliding_window", "true"]),
                ("heads of another size", config("size", head_dim=64), 1, ["q_proj", "(128, 64)", "(64, 64)"]),
                ("more heads", config("heads", num_key_value_heads=2), 1, ["k_proj", "(64, 64)", "(32, 64)"]),
                ("untied", config("untied", tie_word_embeddings=False), 1, ["lm_head.weight", "found none"]),
                ("Qwen3", config("qwen3", model_type="qwen3"), 1, ["q_norm.weight", "found none"]),
                ("Qwen2", config("qwen2", model_type="qwen2"), 1, ["q_proj.bias", "found none"]),
                ("no keys", header("no k", lambda h: h.update(x=h.pop(k))), 1, [k]),
                ("turned keys", header("shape", lambda h: h[k].update(shape=h[k]["shape"][::-1])), 1, [k, "(64, 32)"]),
            ]
        )


# ---------------------------------------------------------------- writing
class Generate(Case):
    def test_it_has_learned_to_write(self):
        """In the text, what follows `the NAME VERB the OBJECT , for the` is the name again."""
        text = write_on("--greedy", "--max-new-tokens", 8, "--prompt", "the farmer ploughs the meadow , for the").out
        self.assertIn("for the farmer is tired .", text)

    def test_one_bad_row_costs_one_row(self):
        """Each line of JSON has its line of JSON, of text its place; an empty text can be continued."""
        flags = ["--greedy", "--max-new-tokens", 4]
        good, more = as_json(["the king", ""], *flags)
        long = json.dumps({"id": 7, "prompt": "the king rules " * 40})
        lines = ['{"prompt": "the king"}', "", long, '{"prompt": 3}', "{", '{"prompt": ""}', ""]
        done = write_on("--json", *flags, text="\n".join(lines) + "\n", code=1)
        found = [json.loads(line) for line in done.out.splitlines()]
        self.assertEqual((len(found), found[0], found[5]), (6, good, more))  # the last line is no row
        errors = ("an empty line", "the model takes 64", 'a text "prompt"', "line 5")
        for part, i in zip(errors, (1, 2, 3, 4)):
            self.assertIn(part, found[i]["error"])
            self.assertIn("standard input, line %d" % (i + 1), found[i]["error"])
        self.assertEqual((found[2]["id"], len(done.err.splitlines())), (7, 5))  # the last line is no error
        self.assertIn("error: 4 rows were left out", done.err)
        done = write_on(*flags, text=b"the king\ncaf\xe9\n" + b"the king rules " * 40 + b"\n\n", code=1)
        parts = [good["prompt"] + good["text"], "", "", more["text"]]
        self.assertEqual(done.out, "\n--------\n".join(parts) + "\n")
        self.assertEqual(write_on(*flags, "the king rules " * 40, code=1).out, "\n")

    def test_texts_are_printed_as_they_are_made(self):
        """The first is there long before the last."""
        write(W.path("many.jsonl"), '{"prompt": "the king"}\n' * 4000)
        with open(W.path("many.jsonl")) as many:
            process = start(["generate", "--model", "run", "--json", "--batch", 1], stdin=many)
        self.assertIn("text", json.loads(process.stdout.readline()))
        time.sleep(0.3)
        self.assertIsNone(process.poll())
        process.kill()
        process.communicate()

    def test_the_same_whatever_the_batch_and_the_order_of_words(self):
        for flags in (["--greedy"], ["--temperature", 0.9, "--top-k", 30, "--top-p", 0.95, "--seed", 3]):
            one = as_json(PROMPTS, "--max-new-tokens", 20, "--batch", 1, *flags)
            self.assertEqual([a["prompt"] for a in one], PROMPTS)
            self.assertEqual(one, as_json(PROMPTS, "--max-new-tokens", 20, "--batch", 3, *flags))
            self.assertEqual(one, as_json(PROMPTS, "--max-new-tokens", 20, *flags))
            plain = write_on("--max-new-tokens", 20, *flags, *PROMPTS).out
            self.assertEqual(plain, "\n--------\n".join(a["prompt"] + a["text"] for a in one) + "\n")

    def test_a_prompt_begins_a_text(self):
        """<|endoftext|> goes before it, as in training, unless it is there or the prompt is from the middle of a
        text."""
        words, said = (
            "the farmer ploughs the",
            [
                [a["text"] for a in as_json([eot + p for p in PROMPTS], "--max-new-tokens", 12, "--greedy")]
                for eot in ("", "<|endoftext|>")
            ],
        )
        self.assertEqual(*said)
        middle = as_json(PROMPTS, "--max-new-tokens", 12, "--greedy", "--add-bos", "no")
        self.assertNotEqual([a["text"] for a in middle], said[0])
        self.assertEqual(
            as_json(["<|endoftext|>" + words], "--greedy", "--add-bos", "no")[0]["text"],
            as_json([words], "--greedy")[0]["text"],
        )

    def test_of_one_long_text_a_prompt_is_the_middle(self):
        """A text of more than 16 windows: a model hardly reads its beginning, and a prompt is not put there.
        tokenizer_config.json says so, as transformers has it."""
        documents, vocab, fingerprint = unpack_bin(read(W.path("data/train.bin")))
        long = [i for d in documents for i in d]
        shutil.copytree(W.path("data"), W.path("one-text"))
        for n, begins in ((16 * 32, True), (16 * 32 + 1, False)):
            write(W.path("one-text/train.bin"), pack_bin([long[:n]], vocab, fingerprint))
            name = "one-text%d" % n
            out = run(
                train(
                    name,
                    "--init",
                    W.path("run"),
                    "--max-len",
                    32,
                    "--batch-tokens",
                    256,
                    "--steps",
                    1,
                    "--lr",
                    1e-12,
                    "--eval-tokens",
                    100,
                    "--sample-every",
                    1,
                    "--sample-prompt",
                    PROMPTS[1],
                    data="one-text",
                )
            ).out
            self.assertEqual(json.loads(read(W.path(name, "last/tokenizer_config.json")))["add_bos_token"], begins)
            said = {
                flag: as_json(PROMPTS, "--max-new-tokens", 12, "--greedy", "--add-bos", flag, model=name)
                for flag in ("auto", "yes", "no")
            }
            self.assertEqual(said["auto"], said["yes" if begins else "no"])
            self.assertNotEqual(said["yes"], said["no"])
            sampled = {
                flag: write_on("--prompt", PROMPTS[1], "--add-bos", flag, model=name).out for flag in ("yes", "no")
            }
            self.assertNotEqual(sampled["yes"], sampled["no"])
            self.assertIn("sample: " + sampled["yes" if begins else "no"], out)

    def test_the_rest_of_standard_input(self):
        """What a shell has read of it is not read again."""
        file = write(W.path("lines.txt"), "".join("%s\n" % p for p in ("skipped", *PROMPTS[:2])))
        with open(file) as f:
            done = subprocess.run(
                ["bash", "-c", 'read first; "$0" generate --model "$1" --max-new-tokens 3', TRAIN_GPT, W.path("run")],
                stdin=f,
                stdout=subprocess.PIPE,
                check=True,
            )
        self.assertTrue(done.stdout.decode().startswith(PROMPTS[0]))

    def test_one_prompt_streams_the_same(self):
        one = as_json(PROMPTS[1:2], "--max-new-tokens", 30)[0]
        for args in (["--prompt", PROMPTS[1]], [PROMPTS[1]]):
            self.assertEqual(write_on("--max-new-tokens", 30, *args).out, PROMPTS[1] + one["text"] + "\n")
        self.assertEqual(write_on("--max-new-tokens", 30, text=PROMPTS[1] + "\n").out, PROMPTS[1] + one["text"] + "\n")

    def test_streaming(self):
        """What is written is there as it is written: 4,000 tokens, which takes seconds. Else what comes first is all of
        it, or a full buffer."""
        run(
            train(
                "talker",
                *"--layers 4 --hidden-size 256 --max-len 32 --positions 4096".split(),
                *"--batch-tokens 128 --steps 1 --eval-tokens 32".split(),
            )
        )
        process = start(["generate", "--model", "talker", "--max-new-tokens", 4000, "--prompt", "the king", "--greedy"])
        self.assertLess(len(os.read(process.stdout.fileno(), 4096)), 4000)
        process.kill()
        process.communicate()

    def test_lines(self):
        """A line may end as in Windows, and the last one without an end."""
        known = [a["text"] for a in as_json(PROMPTS[:2], "--max-new-tokens", 8)]
        text = "%s\r\n%s" % tuple(json.dumps({"prompt": p}) for p in PROMPTS[:2])
        self.assertEqual(
            [
                json.loads(line)["text"]
                for line in write_on("--json", "--max-new-tokens", 8, text=text).out.splitlines()
            ],
            known,
        )
        row = '{"id": 1.50, "prompt": "the king", "big": 12345678901234567890123, '
        # what else it has stays, digit by digit
        self.assertTrue(
            write_on("--json", "--max-new-tokens", 1, text=row[:-2] + "}\n").out.startswith(row + '"text": ')
        )
        self.assertIn("standard input, line 3", write_on("--json", text='\n{"prompt": "a"}\nb\n', code=1).err)
        self.assertEqual(
            write_on("--max-new-tokens", 8, text="%s\r\n%s" % tuple(PROMPTS[:2])).out,
            write_on("--max-new-tokens", 8, *PROMPTS[:2]).out,
        )

    def test_seeds_and_temperature(self):
        texts = [
            as_json(["the"], "--max-new-tokens", 30, "--temperature", 1.5, "--seed", s)[0]["text"] for s in (1, 1, 2)
        ]
        self.assertEqual(texts[0], texts[1])
        self.assertNotEqual(texts[0], texts[2])
        greedy = as_json(["the"], "--max-new-tokens", 30, "--greedy")
        for flags in (["--temperature", 0], ["--top-k", 1], ["--top-p", 0]):
            self.assertEqual(as_json(["the"], "--max-new-tokens", 30, *flags), greedy)

    def test_stops(self):
        """At the end of a document, at the length that was wanted, and where the context is full, which is said."""
        short = as_json(["the"], "--max-new-tokens", 3, "--greedy")[0]
        self.assertEqual((short["tokens"], short["stop"]), (3, "length"))
        done = write_on("--greedy", "--json", "--max-new-tokens", 1000, "the king")
        answer = json.loads(done.out)
        self.assertEqual(
            done.err,
            "" if answer["stop"] == "end" else "1 of 1 texts end because the model's context of 64 tokens is full\n",
        )
        many = as_json(["the"] * 40, "--max-new-tokens", 200, "--temperature", 1.2, "--top-k", 0)
        self.assertTrue(any(x["stop"] == "end" for x in many))
        full = [x for x in many if x["stop"] == "context"]
        self.assertTrue(full)
        ids = json.loads(
            subprocess.run(
                [TOKENIZE, "encode", "--tokenizer", W.path("run/best"), "--json"],
                input=b'"the"\n',
                stdout=subprocess.PIPE,
                check=True,
            ).stdout
        )
        for x in full:
            # 64 that the model has seen, <|endoftext|> the first, and what it said to the last of them
            self.assertEqual(1 + len(ids) + x["tokens"], 65)

    def test_no_lines(self):
        self.assertEqual(write_on(text="").out, "")


# ---------------------------------------------------------------- bad inputs
WTE = "transformer.wte.weight"


class BadInput(Case):
    """Each: one line on standard error that says what is wrong, the right exit code, and nothing that was there before
    is harmed."""

    def init(self, name, files):
        return train(
            "bad-out",
            "--init",
            W.variant("run/best", name.replace(" ", "-"), files),
            "--max-len",
            32,
            "--batch-tokens",
            256,
            "--steps",
            3,
        )

    def data(self, name, files):
        return train("bad-out", *TINY, "--steps", 3, data=W.variant("data", name.replace(" ", "-"), files))

    def flags(self, *flags):
        return train("bad-out", *TINY, "--steps", 3, *flags)

    def ask(self, *flags, model="run", text=""):
        return Call(["generate", "--on-error", "stop", "--model", W.path(model), *flags], text)

    def table(self):
        model = read(W.path("run/best/model.safetensors"))
        documents, vocab, fingerprint = unpack_bin(read(W.path("data/train.bin")))
        write(W.path("file"), "a file, no directory\n")
        os.makedirs(W.path("pickle"), exist_ok=True)
        write(W.path("pickle/config.json"), read(W.path("run/best/config.json")))
        for file in ("vocab.json", "merges.txt"):
            write(W.path("pickle", file), read(W.path("run/best", file)))
        write(W.path("pickle/pytorch_model.bin"), b"PK\3\4")
        return [
            # data
            ("no data directory", train("bad-out", data="nowhere"), 1, ["nowhere", "train.bin"]),
            ("no val.bin", self.data("no val", {"val.bin": None}), 1, ["val.bin"]),
            (
                "no tokenizer",
                self.data("no tokenizer", {"vocab.json": None, "merges.txt": None, "tokenizer.json": None}),
                1,
                ["vocab.json"],
            ),
            (
                "data of another tokenizer",
                self.data("tokenizer", {"train.bin": read(W.path("other/train.bin"))}),
                1,
                ["another tokenizer"],
            ),
            (
                "damaged content",
                self.data("damage", {"train.bin": patched(264 + 8 * len(documents) + 20, b"\xff")}),
                1,
                ["damaged"],
            ),
            (
                ".bin of empty documents",
                self.data("empty documents", {"val.bin": pack_bin([[], []], vocab, fingerprint)}),
                1,
                ["val.bin", "no tokens"],
            ),
            ("empty val.bin", self.data("empty val", {"val.bin": b""}), 1, ["val.bin", "0 bytes"]),
            # checkpoints
            ("--init of nothing", self.flags("--init", W.path("nowhere")), 1, ["nowhere"]),
            ("--init with dimensions", self.flags("--init", W.path("run")), 2, ["--init", "dimensions"]),
            (
                "--init with another tokenizer's data",
                train("bad-out", "--init", W.path("run"), "--max-len", 32, data="other"),
                1,
                ["another tokenizer", "--tokenizer"],
            ),
            (
                "--init of a BERT",
                self.init("bert", {"config.json": config_edit(model_type="bert")}),
                1,
                ["config.json", "gpt2", "bert"],
            ),
            (
                "--init with fewer tokens",
                self.init("few tokens", {"config.json": config_edit(vocab_size=100, eos_token_id=99)}),
                1,
                ["100", str(vocab)],
            ),
            (
                "another activation",
                self.init("relu", {"config.json": config_edit(activation_function="relu")}),
                1,
                ["activation_function", "gelu_new", "relu"],
            ),
            (
                "an output matrix of its own",
                self.init("untied", {"config.json": config_edit(tie_word_embeddings=False)}),
                1,
                ["tie_word_embeddings"],
            ),
            ("heads that do not divide", self.init("heads", {"config.json": config_edit(n_head=3)}), 1, ["64", "3"]),
            (
                "heads of a size that is not implemented",
                self.init("head size", {"config.json": config_edit(n_head=16)}),
                1,
                ["32, 64 or 128"],
            ),
            (
                "another shape",
                self.init(
                    "shape", {"model.safetensors": header_edit(lambda h: h[WTE].update(shape=h[WTE]["shape"][::-1]))}
                ),
                1,
                [WTE, "64"],
            ),
            (
                "a tensor that is missing",
                self.init(
                    "missing",
                    {"model.safetensors": header_edit(lambda h: h.update({"x": h.pop("transformer.ln_f.bias")}))},
                ),
                1,
                ["transformer.ln_f.bias"],
            ),
            (
                "truncated model",
                self.init("truncated", {"model.safetensors": model[: len(model) // 2]}),
                1,
                ["model.safetensors", "cut off"],
            ),
            (
                "model of nothing",
                self.init("foreign", {"model.safetensors": safetensors({"x": ("F32", [1], b"\0" * 4)})}),
                1,
                ["found none of that name; nearest: x"],
            ),
            ("broken config.json", self.init("broken", {"config.json": lambda d: d[:50]}), 1, ["config.json"]),
            (
                "a model beyond all memory",
                self.init("giant", {"config.json": config_edit(n_positions=1 << 24, n_embd=1 << 20, n_head=1 << 14)}),
                1,
                ["as config.json says, found"],
            ),
            (
                "only a pytorch_model.bin",
                train("bad-out", "--init", W.path("pickle"), "--max-len", 32),
                1,
                ["pytorch_model.bin", "convert"],
            ),
            # the command line
            ("nothing given", [], 2, ["--data"]),
            ("unknown flag", self.flags("--mlm-probability", 0.1), 2, ["--mlm-probability"]),
            ("unknown size", self.flags("--size", "base"), 2, ["--size", "medium", "base"]),
            ("--max-len beyond the positions", self.flags("--positions", 16), 2, ["--max-len", "16"]),
            ("--max-len of one token", self.flags("--max-len", 1), 2, ["--max-len", "2"]),
            ("--max-len beyond --batch-tokens", self.flags("--max-len", 512), 2, ["--max-len", "--batch-tokens"]),
            ("--heads that do not divide", self.flags("--heads", 3), 2, ["--heads"]),
            ("--heads of a size that is not implemented", self.flags("--heads", 4), 2, ["32, 64 or 128"]),
            (
                "a sample prompt that is too long",
                self.flags("--sample-every", 1, "--sample-prompt", "the king rules " * 20),
                2,
                ["--sample-prompt", "32"],
            ),
            ("a flag of generate", self.flags("--top-k", 3), 2, ["--top-k", "generate"]),
            ("--resume with another --lr", ["--resume", "--out", W.path("run"), "--lr", 1], 2, ["--lr", "0.005"]),
            (
                "--resume with other data",
                ["--resume", "--out", W.path("run"), "--data", W.path("other")],
                1,
                ["tokenizer"],
            ),
            # writing
            ("generate without --model", ["generate", "the"], 2, ["--model"]),
            ("generate with no model", self.ask("the", model="nowhere"), 1, ["nowhere"]),
            ("generate with a tokenizer only", self.ask("the", model="data"), 1, ["data", "config.json"]),
            ("generate with only a pytorch_model.bin", self.ask("the", model="pickle"), 1, ["pytorch_model.bin"]),
            (
                "generate with a prompt that is too long",
                self.ask("the king rules " * 40),
                1,
                ["prompt 1", "tokens with <|endoftext|> before it, the model takes 64"],
            ),
            ("generate with bytes that are not UTF-8", self.ask("the", b"caf\xe9"), 1, ["prompt 2", "UTF-8"]),
            (
                "generate with lines that are not UTF-8",
                self.ask(text=b"the\ncaf\xe9\n"),
                1,
                ["standard input, line 2", "UTF-8"],
            ),
            (
                "generate with malformed JSON",
                self.ask("--json", text='{"prompt": "the"}\n{"prompt": \n'),
                1,
                ["standard input, line 2"],
            ),
            (
                "generate with JSON that has no prompt",
                self.ask("--json", text='{"prompt": "the"}\n{"text": "the"}\n'),
                1,
                ["line 2", "prompt"],
            ),
            (
                "generate with JSON that is no object",
                self.ask("--json", text='["the"]\n'),
                1,
                ["element 1", "expected a JSON object"],
            ),
            ("generate with a negative temperature", self.ask("--temperature", -1, "the"), 2, ["--temperature"]),
            ("generate with --top-p above 1", self.ask("--top-p", 1.5, "the"), 2, ["--top-p"]),
            ("generate no tokens", self.ask("--max-new-tokens", 0, "the"), 2, ["--max-new-tokens"]),
            ("generate with a flag of train", self.ask("--lr", 1, "the"), 2, ["--lr", "train"]),
        ]

    def test_table(self):
        self.check_bad_inputs(self.table())

    def test_memory_that_is_gone(self):
        """The plan fits what the system says that it has, but not what this process may have, as if another one had
        been faster."""
        tokens, limit = 1 << 17, 1 << 30
        flags = [*TINY, "--steps", 1, "--batch-tokens", tokens]
        done = run(train("no-memory", *flags), code=1, memory=limit)
        needed = float(
            re.fullmatch(
                r"error: could not get ([0-9.]+) MiB of (?:GPU memory, [0-9.]+ MiB are free|memory): "
                r"take a smaller batch or a smaller model\n",
                done.err,
            )[1]
        )
        self.assertGreater(needed * 2**20, limit)

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full here")
    def test_output_that_cannot_be_written(self):
        self.check_full_output(*(["generate", "--model", W.path("run"), *flags, "the"] for flags in ([], ["--json"])))


if __name__ == "__main__":
    harness.main(**{"train_gpt": TRAIN_GPT, "data/tokenize": TOKENIZE})
