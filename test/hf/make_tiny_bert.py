"""Writes a tiny random masked LM or classifier of BERT's kind with a tokenizer, as transformers saves them. No network.

python test/hf/make_tiny_bert.py DIR [--seed 1]
"""

import argparse
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
import transformers
from transformers import BertTokenizerFast

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = (
    "the a of and to in was he she it that old man woman house river"
    " night day long dark very said came went saw again never . , ! ? '"
).split()
LETTERS = list("abcdefghijklmnopqrstuvwxyz0123456789")
VOCAB = (
    SPECIALS + WORDS + [c for c in LETTERS if c not in WORDS] + ["##" + c for c in LETTERS] + ["##ing", "##ed", "##er"]
)


SIZE = dict(
    vocab_size=len(VOCAB),
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=96,
    max_position_embeddings=48,
)
# Those of other kinds: what is named otherwise (None: has no place there), and what differs. The tokenizer is BERT's.
KINDS = {
    "Bert": {},
    "DistilBert": dict(dim=64, n_layers=2, n_heads=2, hidden_dim=96),
    "Roberta": dict(pad_token_id=0, max_position_embeddings=49, type_vocab_size=1),
    "ModernBert": dict(
        num_hidden_layers=3,
        global_attn_every_n_layers=2,
        local_attention=8,
        pad_token_id=0,
        bos_token_id=2,
        cls_token_id=2,
        eos_token_id=3,
        sep_token_id=3,
        global_rope_theta=1000.0,
        local_rope_theta=100.0,
    ),
}


def is_norm(name):
    return any(part in name for part in ("LayerNorm.weight", "layer_norm.weight", "norm.weight"))


def make(directory, seed=1, kind="Bert", head="ForMaskedLM", std=None, **config):
    """Weights N(0, 0.15) or std(name), those of norms around 1: no two alike, attention far from uniform. Returns the
    model."""
    os.makedirs(directory, exist_ok=True)
    vocab = os.path.join(directory, "vocab.txt")
    with open(vocab, "w", encoding="utf-8") as f:
        f.write("\n".join(VOCAB) + "\n")
    BertTokenizerFast(vocab, do_lower_case=True).save_pretrained(directory)
    if not os.path.exists(vocab):  # transformers 5 writes tokenizer.json only
        with open(vocab, "w", encoding="utf-8") as f:
            f.write("\n".join(VOCAB) + "\n")
    model = getattr(transformers, kind + head)(
        getattr(transformers, kind + "Config")(**{**SIZE, **KINDS[kind], **config})
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            x = torch.randn(p.shape, generator=generator)
            p.copy_(x * (std(name) if std else 0.15) + is_norm(name))
    model.eval().save_pretrained(directory)
    return model


if __name__ == "__main__":
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("dir")
    args.add_argument("--seed", type=int, default=1)
    args = args.parse_args()
    make(args.dir, args.seed)
