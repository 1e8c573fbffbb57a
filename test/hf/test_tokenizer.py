"""Our WordPiece against transformers' BertTokenizerFast and, rule by rule, against Hugging Face's tokenizers: the same
ids, in both directions of a tokenizer directory.

    python test/hf/test_tokenizer.py        (needs transformers, and data/tokenize built)

Known differences, all from tables of different age: utf8proc has Unicode 14 or later; BertTokenizerFast knows
punctuation, controls
and combining marks as of Unicode 8. Generated strings use characters that Unicode 8 assigns, except the four whose
category has
changed since: U+166D, U+1734, U+A9BD, U+111C9.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import unicodedata
import unittest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import tokenizers
from transformers import AutoTokenizer, BertTokenizerFast

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOKENIZE = os.environ.get("TOKENIZE", os.path.join(ROOT, "data", "tokenize"))
SHARED = os.path.join(ROOT, "..", "shared", "data")
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

# Blocks as Unicode 8 has them. Holes in a block are left out with the help of Python's table, characters added later by
# hand.
BLOCKS = [
    (0x01, 0x7F),
    (0x80, 0x17F),
    (0x1E00, 0x1EFF),
    (0x1F00, 0x1FFF),
    (0x300, 0x36F),
    (0x370, 0x3FF),
    (0x400, 0x52F),
    (0x591, 0x5F4),
    (0x600, 0x61C),
    (0x61E, 0x6FF),
    (0x904, 0x97F),
    (0xE01, 0xE5B),
    (0x10D0, 0x10FF),
    (0x1100, 0x11FF),
    (0x2000, 0x2064),
    (0x20A0, 0x20BE),
    (0x20D0, 0x20F0),
    (0x2100, 0x218B),
    (0x2190, 0x2BD1),
    (0x3000, 0x30FF),
    (0x4E00, 0x4E7F),
    (0xAC00, 0xAC7F),
    (0xE000, 0xE010),
    (0xF900, 0xF97F),
    (0xFB00, 0xFB4F),
    (0xFE00, 0xFE0F),
    (0xFE20, 0xFE6B),
    (0xFEFF, 0xFEFF),
    (0xFF01, 0xFF60),
    (0xFFF9, 0xFFFD),
    (0x10400, 0x1044F),
    (0x1D165, 0x1D172),
    (0x1D400, 0x1D7CB),
    (0x1F300, 0x1F579),
    (0x1F600, 0x1F64F),
    (0x20000, 0x2007F),
    (0x2B820, 0x2B83F),
    (0x2B920, 0x2B93F),
    (0x2F800, 0x2F87F),
]
NEWER = set([0x8E2, 0x560, 0x588, 0x5EF] + list(range(0x2B4E, 0x2BD2)) + [0x2427])


def characters():
    return [
        chr(c)
        for low, high in BLOCKS
        for c in range(low, high + 1)
        if c not in NEWER and unicodedata.category(chr(c)) != "Cn"
    ]


def generate(n, seed):
    """n strings: letters of all scripts, marks, controls, emojis, special tokens, very long words, final sigmas."""
    rng, chars = random.Random(seed), characters()
    blocks = [[c for c in chars if low <= ord(c) <= high] for low, high in BLOCKS]
    marks = [c for c in chars if unicodedata.category(c)[0] == "M"]
    texts = []
    for _ in range(n):
        local = rng.choice(blocks) if rng.random() < 0.5 else chars
        parts = []
        for _ in range(rng.randint(0, 12)):
            kind = rng.random()
            if kind < 0.45:
                parts.append("".join(rng.choice(local) for _ in range(rng.randint(1, 8))))
            elif kind < 0.6:
                parts.append(
                    rng.choice("aeoöñΣσİıßǅ한")
                    + "".join(rng.choice(marks) for _ in range(rng.randint(1, 4)))
                    + rng.choice("abcΣ")
                )
            elif kind < 0.7:
                parts.append(
                    rng.choice(
                        SPECIALS
                        + ["[mask]", "[MASK", "##ing", "ΌΔΥΣΣΕΎΣ", "don't", "U.S.A.", "3.14", "a\u0000b", "x\u200dy"]
                    )
                )
            elif kind < 0.73:
                parts.append(rng.choice("aé中") * rng.choice([99, 100, 101, 250]))
            else:
                parts.append(
                    "".join(rng.choice("abcdefghijklmnopqrstuvwxyzABCDEFG.,'") for _ in range(rng.randint(1, 10)))
                )
        texts.append(rng.choice(["", " ", " ", "\u3000", "\t", "\u00a0"]).join(parts))
    return texts


def ours(tokenizer, texts):
    """Our ids, through data/tokenize encode --json."""
    lines = "".join(json.dumps(t) + "\n" for t in texts)
    run = subprocess.run(
        [TOKENIZE, "encode", "--tokenizer", tokenizer, "--json"],
        input=lines.encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    return [json.loads(line) for line in run.stdout.splitlines()]


class InFolder(unittest.TestCase):
    def setUp(self):
        self.assertTrue(os.path.exists(TOKENIZE), "expected data/tokenize, found nothing: run make")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = folder.name


class Tokenizer(InFolder):
    def compare(self, directory, theirs, texts):
        mine = ours(directory, texts)
        self.assertEqual(len(mine), len(texts))
        unknown = 0
        for text, ids, expected in zip(texts, mine, theirs(texts, add_special_tokens=False)["input_ids"]):
            if ids == expected:
                unknown += ids.count(theirs.unk_token_id)
                continue
            self.fail(
                "%r: ours %s, theirs %s"
                % (text, theirs.convert_ids_to_tokens(ids), theirs.convert_ids_to_tokens(expected))
            )
        return unknown

    def learn(self, texts, size, *flags):
        path = os.path.join(self.dir, "text.txt")
        directory = tempfile.mkdtemp(dir=self.dir)  # learn replaces no tokenizer
        with open(path, "w", encoding="utf-8", newline="") as f:
            f.write("\n".join(texts).replace("\0", ""))  # a text has no NUL
        subprocess.run(
            [TOKENIZE, "learn", "--type", "wordpiece", "--size", str(size), "--out", directory, *flags, path],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        return directory

    def lines(self, *path):
        with open(os.path.join(*path), "rb") as f:
            return sum(1 for _ in f)

    def stock(self, name):
        path = os.path.join(SHARED, "vocab", name)
        if not os.path.exists(path):
            print("\nSKIPPED: %s is not here" % path, file=sys.stderr)
            self.skipTest("no " + path)
        directory = os.path.join(self.dir, "stock")
        os.makedirs(directory)
        with open(os.path.join(directory, "vocab.txt"), "wb") as out, open(path, "rb") as f:
            out.write(f.read())
        with open(os.path.join(directory, "tokenizer_config.json"), "w") as f:
            json.dump({"do_lower_case": "uncased" in name}, f)
        return directory, BertTokenizerFast(path, do_lower_case="uncased" in name)

    def test_every_character(self):
        """A vocabulary of single characters shows every decision about every character, between letters."""
        chars = set()
        for c in characters():
            for form in (c, unicodedata.normalize("NFD", c)):
                chars.update(form)
                chars.update(form.lower())
        chars = sorted(c for c in chars if not c.isspace() and unicodedata.category(c) not in ("Cc", "Cf", "Co"))
        path = os.path.join(self.dir, "vocab.txt")
        with open(path, "w", encoding="utf-8") as f:
            f.write("\n".join(SPECIALS + chars + ["##" + c for c in chars]) + "\n")
        texts = ["a%sB%sc %s" % (c, c, c) for c in characters()]
        for lower in (True, False):
            with open(os.path.join(self.dir, "tokenizer_config.json"), "w") as f:
                json.dump({"do_lower_case": lower}, f)
            theirs = BertTokenizerFast(path, do_lower_case=lower)
            self.assertEqual(self.compare(self.dir, theirs, texts), 0)
            self.compare(self.dir, theirs, generate(1000, 7 + lower))

    def test_learned_loads_with_transformers(self):
        """What we write loads with AutoTokenizer, and gives our ids on 2,000 generated strings; also decoded."""
        texts = generate(2000, 1)
        for flags in (["--lower-case"], ["--no-lower-case"]):
            directory = self.learn(
                generate(3000, 2) + ["the quick brown fox, isn't it? jumped over the lazy dogs!"] * 20, 6000, *flags
            )
            theirs = AutoTokenizer.from_pretrained(directory)
            self.assertEqual((len(theirs), theirs.is_fast), (self.lines(directory, "vocab.txt"), True))
            self.assertEqual(
                [
                    theirs.pad_token_id,
                    theirs.unk_token_id,
                    theirs.cls_token_id,
                    theirs.sep_token_id,
                    theirs.mask_token_id,
                ],
                list(range(5)),
            )
            self.assertEqual(theirs("a", "b")["input_ids"][0], 2)
            self.assertEqual(theirs("a", "b")["token_type_ids"], [0, 0, 0, 1, 1])
            self.compare(directory, theirs, texts)
            ids = ours(directory, ["The quick, brown fox isn't [MASK]; it jumps... over 3 dogs! Is it?"])
            run = subprocess.run(
                [TOKENIZE, "decode", "--tokenizer", directory, "--json"],
                input=json.dumps(ids[0]).encode(),
                stdout=subprocess.PIPE,
                check=True,
            )
            self.assertEqual(json.loads(run.stdout), theirs.decode(ids[0]))

    def test_theirs_loads_with_us(self):
        """A directory that transformers has saved, which need not hold vocab.txt."""
        texts = generate(300, 3)
        for flag in ("--lower-case", "--no-lower-case"):
            directory, saved = self.learn(generate(1000, 4), 2000, flag), os.path.join(self.dir, "saved")
            theirs = AutoTokenizer.from_pretrained(directory)
            theirs.save_pretrained(saved)
            self.compare(saved, theirs, texts)

    def test_stock_uncased(self):
        directory, theirs = self.stock("bert-base-uncased-vocab.txt")
        self.compare(directory, theirs, generate(2000, 5))
        path = os.path.join(SHARED, "reference", "bert_uncased_squad_questions.jsonl")
        with open(path, encoding="utf-8") as f:
            rows = [json.loads(line) for line in f]
        self.assertEqual(ours(directory, [r["text"] for r in rows]), [r["ids"] for r in rows])
        self.compare(directory, theirs, [r["text"] for r in rows])
        print("\n%d texts of SQuAD: the same ids" % len(rows), file=sys.stderr)

    def test_stock_cased(self):
        directory, theirs = self.stock("bert-base-cased-vocab.txt")
        self.compare(directory, theirs, generate(2000, 6))


# ------------------------------------------------------------ rules of tokenizer.json
BERT = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None}
BERT["lowercase"] = True
WORDS = {"type": "BertPreTokenizer"}


def sequence(key, *rules):
    return {"type": "Sequence", key: [dict({"type": r}) if isinstance(r, str) else r for r in rules]}


def normalizers(*rules):
    return sequence("normalizers", *rules)


def cuts(*rules):
    return sequence("pretokenizers", *rules)


NORMALIZERS = [
    None,
    BERT,
    dict(BERT, clean_text=False),
    dict(BERT, handle_chinese_chars=False),
    dict(BERT, strip_accents=False),
    dict(BERT, strip_accents=True, lowercase=False),
    dict(BERT, lowercase=False),
    {"type": "Lowercase"},
    {"type": "StripAccents"},
    {"type": "NFC"},
    {"type": "NFD"},
    {"type": "NFKC"},
    {"type": "NFKD"},
    {"type": "Replace", "pattern": {"String": "a"}, "content": "Ab e\u0301"},
    normalizers("NFD", "Lowercase", "StripAccents"),
    normalizers("NFKD", "StripAccents", "NFC"),
    normalizers(
        {"type": "Replace", "pattern": {"String": "''"}, "content": '"'},
        normalizers("NFKC"),
        dict(BERT, lowercase=False),
    ),
]
CUTS = [
    WORDS,
    {"type": "Whitespace"},
    {"type": "WhitespaceSplit"},
    cuts("WhitespaceSplit", {"type": "Punctuation", "behavior": "Isolated"}),
    cuts({"type": "Punctuation", "behavior": "Isolated"}, "WhitespaceSplit"),
    cuts("Whitespace", {"type": "Digits", "individual_digits": True}, {"type": "Punctuation", "behavior": "Isolated"}),
    cuts({"type": "Digits", "individual_digits": False}, WORDS),
]


def added_token(id, content, **flags):
    token = {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False}
    return {**token, "normalized": False, "special": True, **flags}


class Rules(InFolder):
    """Vocabularies of single characters and some longer pieces, so that every decision shows in the ids"""

    @classmethod
    def setUpClass(cls):
        cls.texts = generate(2000, 11)
        chars = set()
        for text in cls.texts:
            for form in ("NFC", "NFD", "NFKC", "NFKD"):
                whole = unicodedata.normalize(form, text)
                chars.update(whole, whole.lower())
        chars = sorted(c for c in chars if not c.isspace() and c != "\0")
        pieces = ["...", "ing", "don't", "U.S.A.", "3.14", "##ing", "a\u0301"]
        cls.vocab = list(dict.fromkeys(SPECIALS + chars + ["##" + c for c in chars] + pieces))

    def tokenizer(self, normalizer=None, pre_tokenizer=WORDS, added=(), unk="[UNK]", **more):
        """tokenizer.json in a directory of its own; its path, and the tokenizer as Hugging Face reads it"""
        directory = tempfile.mkdtemp(dir=self.dir)
        ids = {t: i for i, t in enumerate(self.vocab)}
        tokens = [added_token(i, t) for i, t in enumerate(SPECIALS)] + list(added)
        model = {"type": "WordPiece", "unk_token": unk, "continuing_subword_prefix": "##"}
        model.update(max_input_chars_per_word=100, vocab=ids)
        rules = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens}
        rules.update(normalizer=normalizer, pre_tokenizer=pre_tokenizer, post_processor=None, decoder=None, model=model)
        rules.update(more)
        path = os.path.join(directory, "tokenizer.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(rules, f)
        return directory, tokenizers.Tokenizer.from_file(path)

    def check(self, texts, **rules):
        directory, theirs = self.tokenizer(**rules)
        expected = [e.ids for e in theirs.encode_batch(texts, add_special_tokens=False)]
        for text, mine, ids in zip(texts, ours(directory, texts), expected):
            if mine != ids:
                name = theirs.id_to_token
                self.fail("%r: ours %s, theirs %s; %s" % (text, [*map(name, mine)], [*map(name, ids)], rules))
        return directory

    def test_normalizers(self):
        for rule in NORMALIZERS:
            self.check(self.texts, normalizer=rule)

    def test_pre_tokenizers(self):
        for rule in CUTS:
            self.check(self.texts, pre_tokenizer=rule)
            self.check(self.texts, normalizer=BERT, pre_tokenizer=rule)

    def test_pairs_of_rules(self):
        for rule in NORMALIZERS:
            self.check(self.texts[:200], normalizer=rule, pre_tokenizer=random.Random(str(rule)).choice(CUTS))

    def test_models(self):
        for pre_tokenizer in CUTS[:3]:
            self.check(self.texts, normalizer=BERT, pre_tokenizer=pre_tokenizer, unk="a")

    def test_added_tokens(self):
        """Added tokens with all flags, in and beyond the vocabulary, in random texts made of them"""
        rng = random.Random(5)
        for rule in NORMALIZERS * 2:
            added, n = [], len(self.vocab)
            for content in rng.sample(
                [
                    "[E1]",
                    "[E12]",
                    "<|x|>",
                    "É",
                    "\u0301a",
                    "ing",
                    "Don't",
                    "the cat",
                    "a",
                    "b c",
                    "E1",
                    "\u4e2d",
                    "[e2]",
                ],
                7,
            ):
                flags = {k: rng.random() < 0.4 for k in ("single_word", "lstrip", "rstrip", "normalized", "special")}
                known = content in self.vocab
                token = added_token(self.vocab.index(content) if known else n, content, **flags)
                n += not known
                added.append(token)
            texts = []
            for _ in range(400):
                parts = [
                    rng.choice(added)["content"] if rng.random() < 0.6 else rng.choice(self.texts)[:6] for _ in "12345"
                ]
                text = rng.choice(["", " ", "x", "\u00a0\n"]).join(parts)
                texts.append(text.swapcase() if rng.random() < 0.2 else text)
            self.check(texts, normalizer=rule, added=added, pre_tokenizer=rng.choice(CUTS))


if __name__ == "__main__":
    unittest.main()
