"""Our ROUGE-L and stemmer against the Python package rouge-score, and exact match against Super-NaturalInstructions'
definition.

    python test/hf/test_rouge.py                  (needs rouge-score, and build/test/test_rouge built)
    python test/hf/test_rouge.py --write FILE     writes test/fixtures/rouge.jsonl, which `make test` compares with

2,000 pairs of English: sentences of this repository's own texts, the second one of each pair the first with words left
out, exchanged, put
elsewhere or given another ending, or another sentence; and, where ../shared is there, 2,000 more of answers and inputs
of Super-NaturalInstructions.
"""

import json
import lzma
import os
import random
import re
import string
import subprocess
import sys
import tempfile
import unittest

from nltk.stem import porter
from rouge_score import rouge_scorer

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SHARED = os.path.join(ROOT, "..", "shared", "data", "instruction")
PROGRAM = os.environ.get("TEST_ROUGE", os.path.join(ROOT, "build", "test", "test_rouge"))
ENDINGS = """s es ies ied ed ing eed ational tional enci anci izer bli alli entli eli ousli ization ation ator alism
iveness fulness ousness aliti iviti biliti fulli logi icate ative alize iciti ical ful ness al ance ence er ic
able ible ant ement ment ent sion tion ion ou ism ate iti ous ive ize e l y ly ays""".split()
NAMES = ["README.md", "dev/tour.md", "test/README.md"]


def sentences():
    text = " ".join(open(os.path.join(ROOT, name), encoding="utf-8").read() for name in NAMES)
    return [s.strip() for s in re.split(r"(?<=[.:;|])\s+", text) if 3 <= len(s.split()) <= 60]


def words(n, seed):
    """n words: of the texts, and made of letters and endings that the stemmer has rules for"""
    rng = random.Random(seed)
    found = set(re.findall("[a-z0-9]+", " ".join(sentences()).lower()))
    found = set(rng.sample(sorted(found), min(len(found), n // 2)))
    found |= {
        "sky",
        "skies",
        "dying",
        "lying",
        "tying",
        "news",
        "innings",
        "outing",
        "cannings",
        "howe",
        "proceed",
        "succeed",
        "exceed",
        "yyyy",
        "ayyyb",
        "oed",
        "eed",
    }
    while len(found) < n:
        found.add(
            "".join(rng.choice("aeiouybcdlnrstwxz3") for _ in range(rng.randint(0, 5)))
            + "".join(rng.choice(ENDINGS) for _ in range(rng.randint(1, 3)))
        )
    return sorted(found)


def pairs(n, seed):
    rng, found = random.Random(seed), []
    all_of_them = sentences()
    while len(found) < n:
        a = rng.choice(all_of_them)
        b = a.split() if rng.random() < 0.9 else rng.choice(all_of_them).split()
        for _ in range(rng.randint(0, 6)):
            at, kind = rng.randrange(len(b)), rng.random()
            if kind < 0.3 and len(b) > 1:
                del b[at]
            elif kind < 0.6:
                b[at] = rng.choice(rng.choice(all_of_them).split())
            elif kind < 0.8:
                b.insert(rng.randrange(len(b)), b.pop(at))
            else:
                b[at] = b[at].rstrip("e") + rng.choice(["s", "ed", "ing", "ly", "\u0130", "\u212a", "-", "\u00e9", ""])
        found.append((" ".join(b), a))
    return found


def normal_form(s):
    """normalize_answer of Super-NaturalInstructions' evaluation"""
    return " ".join("".join(c for c in s.lower() if c not in set(string.punctuation)).split())


def lines(words, pairs):
    stemmer, scorer = porter.PorterStemmer(), rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
    for w in words:
        yield {"word": w, "stem": stemmer.stem(w)}
    for answer, reference in pairs:
        s = scorer.score(reference, answer)["rougeL"]
        yield {"answer": answer, "reference": reference, "p": s.precision, "r": s.recall, "f": s.fmeasure}
    for answer, _ in pairs:
        yield {"text": answer, "normal": normal_form(answer)}


def write(path, rows):
    with open(path, "w", encoding="utf-8", newline="\n") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False) + "\n")


class Rouge(unittest.TestCase):
    def compare(self, rows):
        self.assertTrue(
            os.path.exists(PROGRAM), "expected build/test/test_rouge, found nothing: make build/test/test_rouge"
        )
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "rouge.jsonl")
            write(path, rows)
            run = subprocess.run(
                [PROGRAM, "-tc=rouge: as rouge-score says"],
                cwd=ROOT,
                env=dict(os.environ, ROUGE_PAIRS=path),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            out = run.stdout.decode("utf-8", "replace")
            self.assertEqual(run.returncode, 0, out)
            self.assertIn(path + ": ", out)

    def test_generated(self):
        self.compare(lines(words(20000, 2), pairs(2000, 2)))

    def test_super_naturalinstructions(self):
        path = os.path.join(SHARED, "superni_instances.jsonl.xz")
        if not os.path.exists(path):
            self.skipTest("../shared is not there")
        rng = random.Random(3)
        rows = [json.loads(line) for line in lzma.open(path, "rt", encoding="utf-8")]
        chosen = [(row["input"], row["output"][0]) for row in rng.sample(rows, 1000)]  # copying the input
        chosen += [(rows[i]["output"][0], rows[i + 1]["output"][0]) for i in rng.sample(range(len(rows) - 1), 1000)]
        self.compare(
            lines(
                sorted({w for pair in chosen for text in pair for w in re.findall("[a-z0-9]+", text.lower())}), chosen
            )
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        write(sys.argv[2], lines(words(800, 1), pairs(150, 1)))
    else:
        unittest.main()
