"""Our BPE against Hugging Face's tokenizers and transformers, and against sentencepiece: the same ids, in both
directions of a tokenizer directory.

    python test/hf/test_bpe.py        (needs transformers and sentencepiece, and data/tokenize and train_gpt built)

Bpe: GPT-2's rules, with its own vocabulary (where the shared data are), one learned from English, one from generated
text of all scripts, single bytes. Kinds: a small tokenizer of every kind of rules, with added tokens of every kind of
flags. SentencePiece: tokenizer.model.

Known differences come from tables of different age only (which characters are letters): generated strings use
characters that Unicode 8 assigns, as in test_tokenizer.py. A decoded text that is no UTF-8 keeps its bytes with us and
has U+FFFD with them.
"""

import json
import lzma
import os
import random
import shutil
import subprocess
import sys
import tempfile
import unittest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import sentencepiece
from test_gpt import TRAIN_GPT
from test_tokenizer import ROOT, SHARED, TOKENIZE, characters, generate, ours
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE
from transformers import AutoTokenizer, GPT2TokenizerFast

sys.path.insert(0, os.path.join(ROOT, "data"))
from lib import sentencepiece_model  # noqa: E402
from lib.errors import Failure  # noqa: E402

ENGLISH = (
    """It wasn't the first time: they'd said "I'll come", and we've all seen what that's worth, haven't we?  """
    """In 1987 -- or '88 --\nthey DIDN'T come at all.\n\n\tNobody knew why; perhaps 3,000 miles (that's 4,828 km) """
    """were too many...\n  She's asked him twice, he'd never told her.\n""" * 40
)


def texts(n, seed):
    """n strings: those of test_tokenizer.py, and what matters here: runs of white space of all kinds, contractions, end
    of text"""
    rng, chars = random.Random(seed), characters()
    spaces = [c for c in chars if c.isspace()] + [" "] * 30 + ["\n"] * 10 + ["\t"] * 4
    parts = [
        "'s",
        "'LL",
        "'ve",
        "n't",
        "''",
        "a",
        "Zeit",
        "12",
        "\u00b2",
        "...",
        "<|endoftext|>",
        "<|endoftext",
        "\U0001f600",
        "\u200d",
        "e\u0301",
        "\u4e2d\u6587",
    ]
    made = generate(n // 2, seed)
    while len(made) < n:
        text = ""
        for _ in range(rng.randint(0, 15)):
            kind = rng.random()
            text += (
                "".join(rng.choice(spaces) for _ in range(rng.randint(1, 4)))
                if kind < 0.4
                else rng.choice(parts)
                if kind < 0.8
                else rng.choice(chars)
            )
        made.append(text)
    made.append("a" * 5000 + " " * 5000 + "\u0436" * 3000)
    return made


class Bpe(unittest.TestCase):
    def setUp(self):
        self.assertTrue(os.path.exists(TOKENIZE), "expected data/tokenize, found nothing: run make")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = folder.name

    def learn(self, text, size, name):
        path, directory = os.path.join(self.dir, "text.txt"), os.path.join(self.dir, name)
        with open(path, "w", encoding="utf-8", newline="") as f:
            f.write(text.replace("\0", ""))  # no text has one
        subprocess.run(
            [TOKENIZE, "learn", "--type", "bpe", "--size", str(size), "--out", directory, path],
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return directory

    def shared(self, *names):
        path = os.path.join(SHARED, *names)
        if not os.path.exists(path):
            print("\nSKIPPED: %s is not here" % path, file=sys.stderr)
            self.skipTest("no " + path)
        return path

    def stock(self):
        """GPT-2's vocabulary under OpenAI's names, and transformers' reading of it"""
        vocab, merges = self.shared("vocab", "gpt2_encoder.json"), self.shared("vocab", "gpt2_vocab.bpe")
        directory = os.path.join(self.dir, "stock")
        os.makedirs(directory)
        for source, name in ((vocab, "encoder.json"), (merges, "vocab.bpe")):
            with open(source, "rb") as f, open(os.path.join(directory, name), "wb") as out:
                out.write(f.read())
        return directory, GPT2TokenizerFast(vocab=vocab, merges=merges)

    def compare_ids(self, mine, texts, theirs, **more):
        self.assertEqual(len(mine), len(texts))
        for text, ids, expected in zip(texts, mine, theirs(texts, verbose=False, **more)["input_ids"]):
            if ids != expected:
                at = next((i for i, (x, y) in enumerate(zip(ids, expected)) if x != y), min(len(ids), len(expected)))
                self.fail(
                    "%.200r, token %d: ours %s, theirs %s"
                    % (
                        text,
                        at,
                        theirs.convert_ids_to_tokens(ids[at : at + 9]),
                        theirs.convert_ids_to_tokens(expected[at : at + 9]),
                    )
                )

    def compare(self, directory, theirs, texts):
        mine = ours(directory, texts)
        self.compare_ids(mine, texts, theirs)
        lines = "".join(json.dumps(ids) + "\n" for ids in mine).encode()
        run = subprocess.run(
            [TOKENIZE, "decode", "--tokenizer", directory, "--json"], input=lines, stdout=subprocess.PIPE, check=True
        )
        self.assertEqual([json.loads(line) for line in run.stdout.splitlines()], texts)  # nothing is lost

    def test_learned_load_with_transformers(self):
        """What we write loads with AutoTokenizer and GPT2TokenizerFast, and gives our ids on 2,000 generated
        strings."""
        many = texts(2000, 1)
        for text, size, name in (
            (ENGLISH, 380, "english"),
            ("\n".join(texts(3000, 2)), 4000, "scripts"),
            ("ab", 257, "bytes"),
        ):
            directory = self.learn(text, size, name)
            for load in (AutoTokenizer, GPT2TokenizerFast):
                theirs = load.from_pretrained(directory)
                self.assertEqual(
                    (len(theirs), theirs.is_fast, theirs.eos_token_id, theirs.bos_token_id, theirs.model_max_length),
                    (size, True, size - 1, size - 1, 1024),
                )
                self.compare(directory, theirs, many)

    def test_theirs_load_with_us(self):
        """A directory that transformers has saved, which need not hold vocab.json and merges.txt."""
        directory, saved = self.learn("\n".join(texts(1000, 3)), 1000, "ours"), os.path.join(self.dir, "saved")
        theirs = AutoTokenizer.from_pretrained(directory)
        theirs.save_pretrained(saved)
        self.compare(saved, theirs, texts(500, 4))

    def test_every_character(self):
        """Every decision about every character shows between letters, digits, marks and spaces."""
        directory = self.learn(ENGLISH, 380, "english")
        self.compare(
            directory,
            AutoTokenizer.from_pretrained(directory),
            ["a%sb 1%s1 %s!%s  %s %s\n" % (c, c, c, c, c, c) for c in characters()],
        )

    def test_stock(self):
        directory, theirs = self.stock()
        self.assertEqual(ours(directory, ["Hello world, it's<|endoftext|>"]), [[15496, 995, 11, 340, 338, 50256]])
        self.compare(directory, theirs, texts(2000, 5))

    def test_shared_text(self):
        directory, theirs = self.stock()
        found = 0
        for name in (
            "tinyshakespeare.txt",
            "wikitext2_valid.txt",
            "wikitext2_test.txt",
            "books_valid.txt.xz",
            "books_simple.txt.xz",
            "books_fiction.txt.xz",
            "imdb_unsup_slice.txt.xz",
            "rocstories_from_superni.txt.xz",
        ):
            with (lzma.open if name.endswith(".xz") else open)(self.shared("pretrain", name), "rb") as f:
                f.seek(300000)
                text = f.read(1000000).decode("utf-8", "ignore")
            self.compare(directory, theirs, [text, text[:1000] * 2])
            found += len(text)
        print("\n%.1f MB of text: the same ids" % (found / 1e6), file=sys.stderr)

    def test_roberta(self):
        """vocab.json and merges.txt alone, and what transformers saves of them: ids, <mask>, pairs"""
        directory = os.path.join(self.dir, "roberta")
        learned = self.learn(ENGLISH, 600, "learned")
        os.makedirs(directory)
        with open(os.path.join(learned, "vocab.json"), encoding="utf-8") as f:
            tokens = [t for t in json.load(f) if t != "<|endoftext|>"]
        vocab = {t: i for i, t in enumerate(["<s>", "<pad>", "</s>", "<unk>", *tokens, "<mask>"])}
        with open(os.path.join(directory, "vocab.json"), "w", encoding="utf-8") as f:
            json.dump(vocab, f)
        shutil.copy(os.path.join(learned, "merges.txt"), directory)
        with open(os.path.join(directory, "config.json"), "w") as f:
            json.dump({"model_type": "roberta"}, f)
        rng, many = random.Random(3), [t.replace("<|endoftext|>", "<mask>") for t in texts(1000, 21)]
        many = [t if rng.random() < 0.5 else t[: len(t) // 2] + " <mask> " + t[len(t) // 2 :] for t in many]
        many += ["a <mask>.", "<s>a</s>", "<mask><mask>", "x </s></s> y"]
        pairs = list(zip(many, many[1:]))
        # roberta-base's own tokenizer.json, and transformers 4, give <mask> the space before it; 5 does not always
        mask = AddedToken("<mask>", special=True, lstrip=True, normalized=False)
        saved, theirs = os.path.join(self.dir, "saved"), AutoTokenizer.from_pretrained(directory, mask_token=mask)
        theirs.save_pretrained(saved)
        self.assertEqual((theirs.mask_token_id, theirs.pad_token_id), (len(vocab) - 1, 1))
        for folder in (directory, saved):
            self.compare_ids(ours(folder, many), many, theirs, add_special_tokens=False)
            mine = tokenize("encode", folder, pairs, "--add-special-tokens")
            for pair, x, y in zip(pairs, mine, theirs(*map(list, zip(*pairs)))["input_ids"]):
                self.assertEqual(x, y, pair)


# ---------------------------------------------------------------- every kind of rules
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
LLAMA3 = QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)


def level(**rules):
    return pre_tokenizers.ByteLevel(**{"add_prefix_space": False, **rules})


def split(regex):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated"), level(use_regex=False)])


def kinds():
    """name -> (normalizer, pre_tokenizer, options of the model); byte-level unless the options have an unk_token"""
    digits = lambda each: pre_tokenizers.Sequence([pre_tokenizers.Digits(each), level()])
    llama2 = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    fallback = {"unk_token": "<unk>", "byte_fallback": True, "fuse_unk": True}
    found = {
        "gpt2": (None, level(), {}),
        "roberta": (None, level(), {}),
        "roberta, spaces": (None, level(add_prefix_space=True), {}),
        "modernbert": (normalizers.NFC(), level(), {}),
        "smollm2": (None, digits(True), {}),
        "digit runs": (None, digits(False), {}),
        "qwen2": (normalizers.NFC(), split(QWEN2), {}),
        "llama3": (None, split(LLAMA3), {"ignore_merges": True}),
        "llama2": (llama2, None, fallback),
        "unk": (normalizers.NFC(), pre_tokenizers.Metaspace(), {"unk_token": "<unk>"}),
        "fused unk": (None, pre_tokenizers.Metaspace(split=False), {"unk_token": "<unk>", "fuse_unk": True}),
    }
    for scheme in ("always", "first", "never"):
        for cut in (True, False):
            metaspace = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=cut)
            found["metaspace %s %s" % (scheme, cut)] = (None, metaspace, fallback)
    return found


ADDED = [
    AddedToken("<|im_start|>", special=True, normalized=False),
    AddedToken("<|im_end|>", special=True, normalized=False),
    AddedToken("<s>", special=True, normalized=False),
    AddedToken("</s>", special=True, normalized=False),
    AddedToken("<mask>", special=True, lstrip=True, normalized=False),
    AddedToken("<r>", special=True, rstrip=True, normalized=False),
    AddedToken("<think>", special=False, normalized=False),
    AddedToken("word", special=False, single_word=True, normalized=True),
    AddedToken("Norm", special=False, normalized=True),
    AddedToken("caf\u00e9\u4e2d", special=False, normalized=True),  # no printable bytes: theirs would be undone
    AddedToken("<|im_end|>>", special=False, normalized=False),
    AddedToken("im_", special=False, normalized=False),
    AddedToken(" sp ", special=False, lstrip=True, rstrip=True, normalized=True),
]


def build(name, normalizer, pre_tokenizer, options, corpus):
    byte_level = "unk_token" not in options
    tokenizer = Tokenizer(BPE(**options))
    special = [] if byte_level else ["<unk>"]
    if options.get("byte_fallback"):
        special += ["<0x%02X>" % b for b in range(256)]
    tokenizer.pre_tokenizer = pre_tokenizer if byte_level else pre_tokenizers.Metaspace()
    alphabet = pre_tokenizers.ByteLevel.alphabet() if byte_level else ["▁", "a"]
    trainer = trainers.BpeTrainer(
        vocab_size=2500, special_tokens=special, initial_alphabet=alphabet, limit_alphabet=400, max_token_length=16
    )
    tokenizer.train_from_iterator(corpus, trainer)
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel() if byte_level else decoders.Metaspace()
    if options.get("byte_fallback"):
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        tokenizer.decoder = decoders.Sequence(steps[: 3 if "never" in name else 4])
    rules = json.loads(tokenizer.to_str())
    rules["pre_tokenizer"] = json.loads(pre_tokenizer.__getstate__()) if pre_tokenizer else None
    rules["added_tokens"] = rules["added_tokens"][: 0 if byte_level else 1]  # tokens of bytes are no added ones
    tokenizer = Tokenizer.from_str(json.dumps(rules))
    tokenizer.add_tokens(ADDED)
    bos, eos = (("<s>", tokenizer.token_to_id("<s>")), ("</s>", tokenizer.token_to_id("</s>")))
    if name.startswith("roberta"):
        tokenizer.post_processor = processors.RobertaProcessing(eos, bos, add_prefix_space="spaces" in name)
    if name == "modernbert":
        tokenizer.add_tokens([AddedToken(" " * n, special=False, normalized=True) for n in range(7, 1, -1)])
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[bos, eos]
        )
    if name in ("llama2", "llama3"):
        template = processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A <s> $B", special_tokens=[bos, eos])
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tokenizer


def chat_texts(n, seed):
    """n strings: those of texts(), and such as are full of added tokens, line ends, digits, marks of NFC"""
    rng = random.Random(seed)
    parts = [
        "'S",
        "'\u017f",
        "'lL",
        "1",
        "2024",
        "!\n",
        "!\r\n\n",
        "\r",
        "\t",
        "  ",
        "\n \n",
        "e\u0301",
        "q\u0307\u0323",
    ]
    parts += [
        "\u0323\u0307",
        "\u0041\u030a",
        "\u212b",
        "\u1100\u1161\u11a8",
        "▁",
        "▁▁",
        "<0x41>",
        "<unk>",
        "cafe\u0301\u4e2d",
    ]
    parts += ["<|im_", "wordy", "_word", "hello", " the", "of", "a", " "] + [t.content for t in ADDED] * 2
    made = texts(n // 2, seed)
    while len(made) < n:
        made.append("".join(rng.choice(parts) for _ in range(rng.randint(1, 15))))
    return made


def tokenize(command, directory, lines, *flags):
    run = subprocess.run(
        [TOKENIZE, command, "--tokenizer", directory, "--json", *flags],
        input="".join(json.dumps(line) + "\n" for line in lines).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    return [json.loads(line) for line in run.stdout.splitlines()]


class Kinds(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.dir = folder.name
        # no added token in what they learn from: theirs would be made of merges, ours are never
        corpus = [ENGLISH, *texts(2000, 7)]
        for t in ADDED:
            corpus = [text.replace(t.content, "") for text in corpus]
        cls.made = {}
        for name, rules in kinds().items():
            directory = os.path.join(cls.dir, name)
            os.makedirs(directory)
            cls.made[name] = directory, build(name, *rules, corpus)
            cls.made[name][1].save(os.path.join(directory, "tokenizer.json"))
            config = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": "{{ messages }}", "extra": [1]}
            with open(os.path.join(directory, "tokenizer_config.json"), "w") as f:
                json.dump(config, f)

    def same(self, tokenizer, texts, mine, theirs):
        self.assertEqual(len(mine), len(texts))
        for text, x, y in zip(texts, mine, theirs):
            if x != y:
                words = lambda ids: [tokenizer.id_to_token(i) for i in ids]
                self.fail("%.300r\nours   %.500s\ntheirs %.500s" % (text, words(x), words(y)))

    def compare(self, directory, tokenizer, texts):
        """Special tokens parsed, and with what the post-processor adds, also around two texts; left as text; back"""
        for flags in ([], ["--add-special-tokens"], ["--specials-as-text"]):
            tokenizer.encode_special_tokens = flags == ["--specials-as-text"]
            theirs = tokenizer.encode_batch(texts, add_special_tokens=flags == ["--add-special-tokens"])
            self.same(tokenizer, texts, tokenize("encode", directory, texts, *flags), [e.ids for e in theirs])
        tokenizer.encode_special_tokens = False
        pairs = list(zip(texts, texts[1:]))
        theirs = [e.ids for e in tokenizer.encode_batch(pairs, add_special_tokens=True)]
        self.same(tokenizer, pairs, tokenize("encode", directory, pairs, "--add-special-tokens"), theirs)
        ids = [e.ids for e in tokenizer.encode_batch(texts)]
        for flags in ([], ["--skip-special-tokens"]):
            theirs = tokenizer.decode_batch(ids, skip_special_tokens=bool(flags))
            for mine, expected in zip(tokenize("decode", directory, ids, *flags), theirs):
                self.assertEqual(mine, expected)

    def test_generated_strings(self):
        many = chat_texts(2000, 11)
        for name, (directory, tokenizer) in self.made.items():
            with self.subTest(name):
                self.compare(directory, tokenizer, many)

    def test_every_character(self):
        """Every decision about every character shows between letters, digits, marks, line ends and spaces."""
        every = ["a%sb 1%s1 %s!%s  %s %s\n%s\r'%s" % ((c,) * 8) for c in characters()]
        for name in ("smollm2", "qwen2", "llama3"):
            with self.subTest(name):
                directory, tokenizer = self.made[name]
                theirs = [e.ids for e in tokenizer.encode_batch(every, add_special_tokens=False)]
                self.same(tokenizer, every, tokenize("encode", directory, every), theirs)

    def test_shared_text(self):
        for file in ("tinyshakespeare.txt", "wikitext2_valid.txt", "books_valid.txt.xz", "imdb_unsup_slice.txt.xz"):
            path = os.path.join(SHARED, "pretrain", file)
            if not os.path.exists(path):
                print("\nSKIPPED: %s is not here" % path, file=sys.stderr)
                self.skipTest("no " + path)
            with (lzma.open if file.endswith(".xz") else open)(path, "rb") as f:
                text = f.read(400000).decode("utf-8", "ignore")
            for name in ("smollm2", "qwen2", "llama3", "llama2", "metaspace first False"):
                with self.subTest(name + ", " + file):
                    self.compare(*self.made[name], [text, text[:3000] * 2])

    def test_text_never_becomes_a_special_token(self):
        """Merges that end in a special token's content: theirs make the token of a user's text, ours do not."""
        tokenizer = Tokenizer.from_file(os.path.join(self.made["gpt2"][0], "tokenizer.json"))
        rules = json.loads(tokenizer.to_str())
        vocab, made, merges = rules["model"]["vocab"], "<", []
        for letter in "|x|>":  # GPT-2's words part at letters, so the merges would do nothing without ignore_merges
            merges.append([made, letter])
            made += letter
            vocab.setdefault(made, len(vocab))
        # (ids of the added tokens follow the vocabulary)
        rules["model"]["merges"] = merges
        rules["pre_tokenizer"] = {"type": "ByteLevel", "use_regex": False, "add_prefix_space": False}
        flags = {k: False for k in ("single_word", "lstrip", "rstrip", "normalized")}
        rules["added_tokens"] = [{"id": vocab["<|x|>"], "content": "<|x|>", "special": True, **flags}]
        directory = os.path.join(self.dir, "merged")
        os.makedirs(directory)
        with open(os.path.join(directory, "tokenizer.json"), "w") as f:
            json.dump(rules, f)
        self.assertEqual(tokenize("encode", directory, ["<|x|>"]), [[vocab["<|x|>"]]])
        self.assertEqual(tokenize("encode", directory, ["<|x|>"], "--specials-as-text"), [[vocab["<|x|"], vocab[">"]]])

    def test_saved(self):
        """What a program saves is loaded by AutoTokenizer, gives the same ids, and keeps all that was in the files."""
        self.assertTrue(os.path.exists(TRAIN_GPT), "expected %s, found nothing" % TRAIN_GPT)
        many = chat_texts(300, 12)
        for name in ("gpt2", "smollm2", "qwen2", "llama3", "llama2", "metaspace first False"):
            with self.subTest(name):
                directory, tokenizer = self.made[name]
                data, out = os.path.join(self.dir, "data"), os.path.join(self.dir, "run")
                for folder in (data, out):
                    shutil.rmtree(folder, ignore_errors=True)
                shutil.copytree(directory, data)
                for part in ("train", "val"):
                    with open(os.path.join(data, part + ".txt"), "w", encoding="utf-8") as f:
                        f.write(ENGLISH)
                    subprocess.run(
                        [
                            TOKENIZE,
                            "pack",
                            "--tokenizer",
                            data,
                            "--in",
                            f.name,
                            "--out",
                            os.path.join(data, part + ".bin"),
                        ],
                        stdout=subprocess.DEVNULL,
                        check=True,
                    )
                subprocess.run(
                    [TRAIN_GPT, "--data", data, "--out", out, "--steps", "1", "--layers", "1", "--hidden-size", "32"]
                    + ["--heads", "1", "--max-len", "32", "--batch-tokens", "128"],
                    stdout=subprocess.DEVNULL,
                    check=True,
                )
                saved = os.path.join(out, "last")
                auto = AutoTokenizer.from_pretrained(saved)
                mine = tokenize("encode", directory, many)
                self.assertEqual(mine, tokenize("encode", saved, many))
                self.same(tokenizer, many, mine, auto(many, add_special_tokens=False)["input_ids"])
                self.same(
                    tokenizer, many, tokenize("encode", saved, many, "--add-special-tokens"), auto(many)["input_ids"]
                )
                self.assertEqual((auto.bos_token, auto.eos_token), ("<s>", "</s>"))
                self.assertEqual(auto.chat_template, "{{ messages }}")
                with open(os.path.join(saved, "tokenizer_config.json")) as f:
                    self.assertEqual(json.load(f)["extra"], [1])


class SentencePiece(unittest.TestCase):
    """tokenizer.model, converted: ids and texts are those of the sentencepiece library."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = folder.name
        self.corpus = os.path.join(self.dir, "corpus.txt")
        with open(self.corpus, "w", encoding="utf-8", newline="") as f:
            f.write(ENGLISH + "\n".join(texts(1000, 3)).replace("\0", ""))

    def train(self, name, **rules):
        directory = os.path.join(self.dir, name)
        os.makedirs(directory)
        standard = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False, "byte_fallback": True}
        sentencepiece.SentencePieceTrainer.train(
            input=self.corpus,
            model_prefix=os.path.join(directory, "tokenizer"),
            minloglevel=2,
            **{"model_type": "bpe", "vocab_size": 4000, "character_coverage": 0.98, **standard, **rules},
        )
        return directory, sentencepiece.SentencePieceProcessor(os.path.join(directory, "tokenizer.model"))

    def convert(self, directory):
        """As data/pretrained.py does it for a whole model"""
        with open(os.path.join(directory, "tokenizer.model"), "rb") as f:
            tokenizer, _ = sentencepiece_model.convert(f.read(), f.name)
        with open(os.path.join(directory, "tokenizer.json"), "w") as f:
            json.dump(tokenizer, f)

    def test_ids_and_texts(self):
        many = [t.replace("\0", "") for t in chat_texts(2000, 21)]
        for name, rules in (("plain", {}), ("no space before", {"add_dummy_prefix": False})):
            directory, theirs = self.train(name, **rules)
            self.convert(directory)
            ids = tokenize("encode", directory, many, "--specials-as-text")
            for text, mine, expected in zip(many, ids, theirs.encode(many)):
                self.assertEqual(mine, expected, repr(text))
            self.assertEqual(tokenize("decode", directory, ids), [theirs.decode(i) for i in ids])

    def test_refused(self):
        for name, rules, message in (
            ("unigram", {"model_type": "unigram"}, "of type BPE, found unigram"),
            ("nmt", {"normalization_rule_name": "nmt_nfkc"}, "expected the normalizer identity, found nmt_nfkc"),
            ("spaces", {"remove_extra_whitespaces": True}, "the rule remove_extra_whitespaces is not supported"),
            ("suffix", {"treat_whitespace_as_suffix": True}, "the rule treat_whitespace_as_suffix is not supported"),
        ):
            directory, _ = self.train(name, **rules)
            with self.assertRaisesRegex(Failure, message):
                self.convert(directory)


if __name__ == "__main__":
    unittest.main()
