"""Our byte-level BPE against transformers' GPT2TokenizerFast: the same ids, in both directions of a tokenizer
directory.

    python test/hf/test_bpe.py        (needs transformers, and data/tokenize built)

Four vocabularies: GPT-2's (where the shared data are), one learned from English, one from generated text of all
scripts, single bytes.

Known differences come from tables of different age only (which characters are letters): generated strings use
characters that Unicode 8 assigns,
as in test_tokenizer.py. <|endoftext|> in the text is one token for both.
"""

import json
import lzma
import os
import random
import subprocess
import sys
import tempfile
import unittest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from test_tokenizer import SHARED, TOKENIZE, characters, generate, ours
from transformers import AutoTokenizer, GPT2TokenizerFast

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
            f.write(text)
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

    def compare(self, directory, theirs, texts):
        mine = ours(directory, texts)
        self.assertEqual(len(mine), len(texts))
        for text, ids, expected in zip(texts, mine, theirs(texts, verbose=False)["input_ids"]):
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


if __name__ == "__main__":
    unittest.main()
