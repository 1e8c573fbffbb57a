"""Writes a tiny random BertForMaskedLM with its tokenizer, as transformers saves them. No network.

python test/hf/make_tiny_bert.py DIR [--seed 1]
"""

import argparse
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = (
    "the a of and to in was he she it that old man woman house river"
    " night day long dark very said came went saw again never . , ! ? '"
).split()
LETTERS = list("abcdefghijklmnopqrstuvwxyz0123456789")
VOCAB = (
    SPECIALS + WORDS + [c for c in LETTERS if c not in WORDS] + ["##" + c for c in LETTERS] + ["##ing", "##ed", "##er"]
)


def make(directory, seed=1):
    """Weights N(0, 0.15), LayerNorm weights around 1: no two alike, attention far from uniform. Returns the model."""
    os.makedirs(directory, exist_ok=True)
    vocab = os.path.join(directory, "vocab.txt")
    with open(vocab, "w", encoding="utf-8") as f:
        f.write("\n".join(VOCAB) + "\n")
    BertTokenizerFast(vocab, do_lower_case=True).save_pretrained(directory)
    if not os.path.exists(vocab):  # transformers 5 writes tokenizer.json only
        with open(vocab, "w", encoding="utf-8") as f:
            f.write("\n".join(VOCAB) + "\n")
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=len(VOCAB),
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=96,
            max_position_embeddings=48,
        )
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.15 + name.endswith("LayerNorm.weight"))
    model.eval().save_pretrained(directory)
    return model


if __name__ == "__main__":
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("dir")
    args.add_argument("--seed", type=int, default=1)
    args = args.parse_args()
    make(args.dir, args.seed)
