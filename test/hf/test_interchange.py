"""Checkpoints in both directions: transformers reads what train_bert writes, train_bert what transformers writes;
logits to 1e-4.

python test/hf/test_interchange.py        (needs dev/requirements.txt; train_bert and data/tokenize built; no network)
"""

import json
import logging
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
import make_tiny_bert

TRAIN_BERT = os.environ.get("TRAIN_BERT", os.path.join(ROOT, "build/cpu-fp32/train_bert"))
TOKENIZE = os.environ.get("TOKENIZE", os.path.join(ROOT, "data", "tokenize"))
TEXTS = [
    "the old man was very [MASK] .",
    "[MASK]",
    "She went to the [MASK] house, and [MASK] came in the night!",
    "river 42 [MASK] tiger [MASK] [MASK] walked?",
]
TOLERANCE = 1e-4

transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)


def run(*command, ok=True, **more):
    done = subprocess.run(command, capture_output=True, text=True, **more)
    if ok and done.returncode != 0:
        raise AssertionError(
            "%s: exit code %d\n%s%s" % (shlex.join(command), done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        )
    return done


class Warnings(logging.Handler):
    """Everything that transformers logs at WARNING or above, and Python's own warnings."""

    def __enter__(self):
        self.messages = []
        self.log = logging.getLogger("transformers")
        self.log.addHandler(self)
        self.caught = warnings.catch_warnings()
        self.caught.__enter__()
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *rest: self.messages.append(str(message))
        return self

    def __exit__(self, *error):
        self.caught.__exit__(*error)
        self.log.removeHandler(self)

    def emit(self, record):
        if record.levelno >= logging.WARNING:
            self.messages.append(record.getMessage())


def read_theirs(directory):
    """(model, tokenizer, what from_pretrained complained about: a list of texts)"""
    with Warnings() as log:
        model, info = AutoModelForMaskedLM.from_pretrained(directory, output_loading_info=True, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(directory)
    complaints = log.messages + ["%s: %s" % (kind, sorted(names)) for kind, names in info.items() if names]
    return model.eval(), tokenizer, complaints


def their_logits(model, tokenizer, texts=TEXTS):
    """(masks, V): the logits of every [MASK] of every text, in order."""
    rows = []
    for text in texts:
        batch = tokenizer(text, return_tensors="pt", return_token_type_ids=model.config.model_type == "bert")
        with torch.no_grad():
            logits = model(**batch).logits[0]
        rows.append(logits[batch["input_ids"][0] == tokenizer.mask_token_id])
    return torch.cat(rows)


class Interchange(unittest.TestCase):
    def setUp(self):
        for program in (TRAIN_BERT, TOKENIZE):
            if not os.path.exists(program):
                self.fail("expected %s, found nothing: run make test-hf" % program)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = folder.name
        self.tiny = self.path("tiny")
        make_tiny_bert.make(self.tiny)

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def our_logits(self, directory, texts=TEXTS):
        out = self.path("logits.safetensors")
        if os.path.exists(out):  # fill-mask replaces no file
            os.remove(out)
        run(TRAIN_BERT, "fill-mask", "--model", directory, "--json", "--logits", out, *texts)
        return load_file(out)["logits"]

    def assert_same(self, ours, theirs, tolerance=TOLERANCE):
        self.assertEqual(ours.shape, theirs.shape)
        self.assertGreater(theirs.std().item(), 0.05)  # a comparison of zeros would prove nothing
        worst = (ours - theirs).abs().max().item()
        self.assertLessEqual(worst, tolerance)
        return worst

    def rewrite(self, name, change):
        """A copy of the tiny model with changed tensors: change(name, tensor) gives a new pair or None."""
        directory = self.path(name)
        shutil.copytree(self.tiny, directory)
        path = os.path.join(directory, "model.safetensors")
        pairs = [change(n, t) for n, t in load_file(path).items()]
        save_file(dict(p for p in pairs if p), path, metadata={"format": "pt"})
        return directory

    def test_we_read_theirs(self):
        model, tokenizer, complaints = read_theirs(self.tiny)
        self.assertEqual(complaints, [])
        self.assertEqual(len(their_logits(model, tokenizer)), 7)
        worst = self.assert_same(self.our_logits(self.tiny), their_logits(model, tokenizer))
        print("\nread theirs: largest difference %.1e" % worst, file=sys.stderr)
        # the json names the same words
        lines = run(TRAIN_BERT, "fill-mask", "--model", self.tiny, "--json", *TEXTS).stdout.splitlines()
        ids = [mask[0]["id"] for line in lines for mask in json.loads(line)["masks"]]
        self.assertEqual(ids, their_logits(model, tokenizer).argmax(-1).tolist())

    def test_we_read_other_kinds(self):
        for kind in ("DistilBert", "Roberta", "ModernBert"):
            with self.subTest(kind=kind):
                directory = self.path(kind)
                make_tiny_bert.make(directory, kind=kind)
                model, tokenizer, complaints = read_theirs(directory)
                self.assertEqual(complaints, [])
                self.assert_same(self.our_logits(directory), their_logits(model, tokenizer))

    def test_byte_level(self):
        """RoBERTa and ModernBERT with byte-level BPE: masks and words as theirs, also of a model that was trained on"""
        for kind in make_tiny_bert.BYTE_KINDS:
            with self.subTest(kind=kind):
                self.tiny = self.path(kind)
                make_tiny_bert.make(self.tiny, kind=kind, byte_level=True)
                model, tokenizer, complaints = read_theirs(self.tiny)
                self.assertEqual(complaints, [])
                texts = [t.replace("[MASK]", tokenizer.mask_token) for t in [*TEXTS, "Éé  日[MASK], [MASK]\t?"]]
                self.assert_same(self.our_logits(self.tiny, texts), their_logits(model, tokenizer, texts))
                out = self.path("run " + kind)
                self.train(out, "--init", self.tiny, "--whole-words")
                last = os.path.join(out, "last")
                model, tokenizer, complaints = read_theirs(last)
                self.assertEqual(complaints, [])
                self.assert_same(self.our_logits(last, texts), their_logits(model, tokenizer, texts))

    def test_the_longest_text(self):
        model, tokenizer, _ = read_theirs(self.tiny)
        text = ["[MASK] " + "the " * 44 + "."]  # with [CLS] and [SEP] 48 tokens, as many as there are positions
        self.assert_same(self.our_logits(self.tiny, text), their_logits(model, tokenizer, text))
        done = run(TRAIN_BERT, "fill-mask", "--model", self.tiny, text[0] + " .", ok=False)
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1))

    def test_we_read_other_spellings(self):
        expected = self.our_logits(self.tiny)
        old = self.rewrite(
            "gamma",
            lambda n, t: (
                n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"),
                t,
            ),
        )
        self.assertIn("bert.embeddings.LayerNorm.gamma", load_file(os.path.join(old, "model.safetensors")))
        self.assertTrue(torch.equal(self.our_logits(old), expected))
        bare = self.rewrite("bare", lambda n, t: (n.removeprefix("bert."), t))
        self.assertTrue(torch.equal(self.our_logits(bare), expected))
        full = self.rewrite("full", lambda n, t: (n, t))  # with the copies and the buffer that old files have
        path = os.path.join(full, "model.safetensors")
        tensors = load_file(path)
        tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()
        tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].clone()
        tensors["bert.embeddings.position_ids"] = torch.arange(48).reshape(1, -1)
        tensors["bert.pooler.dense.weight"] = torch.randn(64, 64)
        save_file(tensors, path)
        self.assertTrue(torch.equal(self.our_logits(full), expected))

    def test_we_read_half_precision(self):
        for dtype in (torch.float16, torch.bfloat16, torch.float64):
            directory = self.rewrite(str(dtype), lambda n, t: (n, t.to(dtype)))
            model, tokenizer, _ = read_theirs(directory)
            self.assertEqual(model.dtype, torch.float32)
            self.assert_same(self.our_logits(directory), their_logits(model, tokenizer))

    def test_we_read_shards(self):
        model, _, _ = read_theirs(self.tiny)
        directory = self.path("shards")
        shutil.copytree(self.tiny, directory)
        os.remove(os.path.join(directory, "model.safetensors"))
        model.save_pretrained(directory, max_shard_size="100KB")
        self.assertIn("model.safetensors.index.json", os.listdir(directory))
        self.assertTrue(torch.equal(self.our_logits(directory), self.our_logits(self.tiny)))

    def test_a_pickle_is_refused_with_a_command_that_helps(self):
        directory = self.rewrite("pickle", lambda n, t: (n, t))
        path = os.path.join(directory, "model.safetensors")
        torch.save(load_file(path), os.path.join(directory, "pytorch_model.bin"))
        os.remove(path)
        done = run(TRAIN_BERT, "fill-mask", "--model", directory, TEXTS[0], ok=False)
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)
        command = done.stderr[done.stderr.index("python3 data/") :]
        for zipped in (True, False):  # as torch.save writes since 1.6, and before
            torch.save(
                load_file(os.path.join(self.tiny, "model.safetensors")),
                os.path.join(directory, "pytorch_model.bin"),
                _use_new_zipfile_serialization=zipped,
            )
            run("sh", "-c", "cd %s && %s" % (shlex.quote(ROOT), command))
            self.assertTrue(torch.equal(self.our_logits(directory), self.our_logits(self.tiny)))
            os.remove(path)

    def test_a_complaint_would_be_seen(self):
        """The check that from_pretrained does not complain is one: a missing tensor, and a superfluous one, show in the
        log and in the report."""
        worse = self.rewrite(
            "worse",
            lambda n, t: (
                None if n == "cls.predictions.bias" else (n.replace("layer.0.output.dense", "layer.0.output.danse"), t)
            ),
        )
        _, _, complaints = read_theirs(worse)
        for part in ("missing_keys", "unexpected_keys", "danse"):
            self.assertIn(part, " ".join(complaints))
        self.assertTrue(any("_keys:" not in c for c in complaints), "nothing was logged")

    def make_data(self):
        """A data directory packed with the tiny model's tokenizer."""
        data = tempfile.mkdtemp(dir=self.dir)
        rng = random.Random(1)
        for name, lines in (("train", 400), ("val", 40)):
            text = "".join(
                " ".join(rng.choices(make_tiny_bert.WORDS, k=rng.randint(3, 30)))
                + "\n"
                + ("<|endoftext|>\n" if i % 4 == 3 else "")
                for i in range(lines)
            )
            with open(self.path(name + ".txt"), "w") as f:
                f.write(text)
            run(
                TOKENIZE,
                "pack",
                "--tokenizer",
                self.tiny,
                "--kind",
                "text",
                "--in",
                self.path(name + ".txt"),
                "--out",
                os.path.join(data, name + ".bin"),
            )
        for name in os.listdir(self.tiny):
            if "token" in name or name == "vocab.txt":
                shutil.copy(os.path.join(self.tiny, name), data)
        return data

    def train(self, out, *flags):
        run(
            TRAIN_BERT,
            "train",
            "--data",
            self.make_data(),
            "--out",
            out,
            "--steps",
            "2",
            "--warmup",
            "1",
            "--batch-tokens",
            "256",
            "--max-len",
            "48",
            "--lr",
            "0.01",
            "--dropout",
            "0",
            *flags,
        )

    def check_we_write(self, out, *flags, kind="Bert"):
        self.train(out, *flags)
        last = os.path.join(out, "last")
        model, tokenizer, complaints = read_theirs(last)
        self.assertEqual(complaints, [])
        self.assertEqual(type(model).__name__, kind + "ForMaskedLM")
        ours, theirs = self.our_logits(last), their_logits(model, tokenizer)
        if flags[0] == "--init":
            worst = self.assert_same(ours, theirs)
        else:  # fresh weights: the logits are small
            worst = (ours - theirs).abs().max().item()
            self.assertGreater(theirs.std().item(), 1e-4)
            self.assertLessEqual(worst, min(TOLERANCE, 0.01 * theirs.std().item()))
        print("\nwe write: largest difference %.1e" % worst, file=sys.stderr)
        # and back: what transformers saves after reading ours are our bits
        again = self.path("again")
        shutil.copytree(last, again)
        model.save_pretrained(again)
        for name, tensor in load_file(os.path.join(last, "model.safetensors")).items():
            self.assertTrue(torch.equal(load_file(os.path.join(again, "model.safetensors"))[name], tensor), name)
        self.assertTrue(torch.equal(self.our_logits(again), ours))
        return model, tokenizer

    def test_we_write_after_training_theirs(self):
        model, tokenizer = self.check_we_write(self.path("run"), "--init", self.tiny)
        before = load_file(os.path.join(self.tiny, "model.safetensors"))
        for name, p in model.named_parameters():
            self.assertFalse(torch.equal(p, before[name]), name + " did not learn")
        self.assertEqual(tokenizer(TEXTS)["input_ids"], AutoTokenizer.from_pretrained(self.tiny)(TEXTS)["input_ids"])

    def check_tokenizer_is_kept(self, change):
        """change(write): alters the tokenizer of the tiny model by write(name, text or object). It is then copied by
        data/text.py and saved by train_bert. Returns our ids and transformers' of the saved directory, which must be
        the same, and the directory."""
        tiny, data, out = (self.path(n) for n in ("tiny", "data", "run"))

        def write(name, value):
            with open(os.path.join(tiny, name), "w", encoding="utf-8") as f:
                f.write(value if isinstance(value, str) else json.dumps(value))

        change(write)
        model = AutoModelForMaskedLM.from_pretrained(tiny)
        model.resize_token_embeddings(len(make_tiny_bert.VOCAB) + 2)  # room for two added tokens
        model.save_pretrained(tiny)
        before = {n: self.bytes(tiny, n) for n in os.listdir(tiny) if n not in ("config.json", "model.safetensors")}
        with open(self.path("text.txt"), "w") as f:
            f.write("<|endoftext|>\n".join("the old man was very tall .\n" for _ in range(300)))
        script = os.path.join(ROOT, "data", "text.py")
        run(sys.executable, script, self.path("text.txt"), "--tokenizer", tiny, "--out", data)
        run(TRAIN_BERT, "--data", data, "--init", tiny, "--out", out, "--steps", "1", "--max-len", "48")
        last = os.path.join(out, "last")
        for name, content in before.items():
            if name != "tokenizer_config.json":
                self.assertEqual(self.bytes(last, name), content, name)
        config = json.loads(self.bytes(last, "tokenizer_config.json"))
        for key, value in json.loads(before["tokenizer_config.json"]).items():
            if key not in ("model_max_length", "tokenizer_class"):
                self.assertEqual(config[key], value, key)
        rng = random.Random(3)
        parts = [
            "the",
            "The",
            "[E1]",
            "[e1]",
            "the cat",
            "The  Cat",
            "[MASK]",
            "caf\u00e9",
            "d'ing",
            "!?",
            "\u4e2d",
            "a.b",
        ]
        texts = [rng.choice(["", " "]).join(rng.choices(parts, k=6)) for _ in range(500)]
        lines = "".join(json.dumps(t) + "\n" for t in texts)
        ids = [
            [
                json.loads(line)
                for line in run(TOKENIZE, "encode", "--json", "--tokenizer", d, input=lines).stdout.splitlines()
            ]
            for d in (tiny, last)
        ]
        self.assertEqual(ids[0], ids[1])
        self.assertEqual(ids[1], AutoTokenizer.from_pretrained(last)(texts, add_special_tokens=False)["input_ids"])
        return texts, ids[1], config

    def bytes(self, *path):
        with open(os.path.join(*path), "rb") as f:
            return f.read()

    def test_the_tokenizer_is_saved_whole(self):
        """transformers' own, with added tokens and a chat template"""

        def change(write):
            theirs = AutoTokenizer.from_pretrained(self.tiny)
            theirs.add_special_tokens({"additional_special_tokens": ["[E1]"]})
            theirs.add_tokens(["the cat"])
            theirs.chat_template = "{{ messages }}"
            theirs.save_pretrained(self.tiny)
            self.theirs = theirs

        texts, ids, config = self.check_tokenizer_is_kept(change)
        self.assertEqual(ids, self.theirs(texts, add_special_tokens=False)["input_ids"])
        self.assertEqual(config["tokenizer_class"], "BertTokenizer")

    def test_other_rules_are_saved_whole(self):
        """tokenizer.json with rules that are not BERT's, though the class in tokenizer_config.json is: what we save is
        read by its rules"""

        def change(write):
            rules = json.loads(self.bytes(self.tiny, "tokenizer.json"))
            steps = [{"type": "NFD"}, {"type": "Lowercase"}, {"type": "StripAccents"}]
            rules["normalizer"] = {"type": "Sequence", "normalizers": steps}
            rules["pre_tokenizer"] = {"type": "Whitespace"}
            write("tokenizer.json", rules)
            self.theirs = tokenizers.Tokenizer.from_file(os.path.join(self.tiny, "tokenizer.json"))

        texts, ids, config = self.check_tokenizer_is_kept(change)
        self.assertEqual(ids, [e.ids for e in self.theirs.encode_batch(texts, add_special_tokens=False)])
        self.assertEqual(config["tokenizer_class"], "PreTrainedTokenizerFast")

    def test_a_tokenizer_of_many_files_is_saved_whole(self):
        """vocab.txt, added_tokens.json and special_tokens_map.json, as they were before tokenizer.json"""

        def change(write):
            os.remove(os.path.join(self.tiny, "tokenizer.json"))
            n = len(make_tiny_bert.VOCAB)
            write("added_tokens.json", {"[E1]": n, "the cat": n + 1})
            write("special_tokens_map.json", {"additional_special_tokens": ["[E1]"], "cls_token": "[CLS]"})
            write("tokenizer_config.json", {"do_lower_case": False, "model_max_length": 40, "chat_template": "x"})
            self.theirs = AutoTokenizer.from_pretrained(self.tiny)

        texts, ids, config = self.check_tokenizer_is_kept(change)
        self.assertEqual(ids, self.theirs(texts, add_special_tokens=False)["input_ids"])
        self.assertEqual(config["model_max_length"], 40)

    def test_we_write_a_modernbert_from_scratch(self):
        flags = "--arch modernbert --layers 4 --hidden-size 64 --heads 2".split()
        config = self.check_we_write(self.path("run"), *flags, kind="ModernBert")[0].config
        self.assertEqual((config.intermediate_size, config.local_attention, config.pad_token_id), (96, 128, 0))
        self.assertEqual(config.layer_types, ["full_attention", *["sliding_attention"] * 2, "full_attention"])

    def test_we_write_from_scratch(self):
        model, _ = self.check_we_write(
            self.path("run"),
            "--layers",
            "3",
            "--hidden-size",
            "64",
            "--heads",
            "2",
            "--ffn-dim",
            "96",
            "--positions",
            "50",
        )
        config = model.config
        self.assertEqual(
            (
                config.num_hidden_layers,
                config.hidden_size,
                config.num_attention_heads,
                config.intermediate_size,
                config.max_position_embeddings,
            ),
            (3, 64, 2, 96, 50),
        )
        self.assertEqual(
            (config.vocab_size, config.pad_token_id, config.layer_norm_eps, config.hidden_act),
            (len(make_tiny_bert.VOCAB), 0, 1e-12, "gelu"),
        )

    def test_what_ours_refuses(self):
        """One line on standard error, exit code 1."""

        def config(**changes):
            directory = self.path("bad")
            shutil.rmtree(directory, ignore_errors=True)
            shutil.copytree(self.tiny, directory)
            path = os.path.join(directory, "config.json")
            with open(path) as f:
                values = json.load(f)
            with open(path, "w") as f:
                json.dump({**values, **changes}, f)
            return directory

        for changes, part in (
            ({"hidden_act": "relu"}, "hidden_act"),
            ({"model_type": "gpt2"}, "model_type"),
            ({"num_attention_heads": 3}, "num_attention_heads"),
            ({"vocab_size": 1000}, "word_embeddings.weight"),
            ({"num_hidden_layers": 3}, "layer.2"),
            ({"intermediate_size": 128}, "intermediate"),
        ):
            done = run(TRAIN_BERT, "fill-mask", "--model", config(**changes), TEXTS[0], ok=False)
            self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)
            self.assertIn(part, done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
