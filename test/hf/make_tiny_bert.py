"""Writes a tiny random masked LM or classifier of BERT's kind with a tokenizer, as transformers saves them. No network.

python test/hf/make_tiny_bert.py DIR [--seed 1]
"""

import argparse
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertTokenizerFast, PreTrainedTokenizerFast

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


# With byte-level BPE: more rows than tokens
BYTES = dict(vocab_size=400, pad_token_id=1, bos_token_id=0, eos_token_id=2, cls_token_id=0, sep_token_id=2)
BYTE_KINDS = {"Roberta": dict(max_position_embeddings=130), "ModernBert": dict(max_position_embeddings=128)}


def write_byte_level(directory, kind):
    """A byte-level BPE tokenizer learned from the words, by RoBERTa's names and rules or by ModernBERT's"""
    roberta = kind == "Roberta"
    cls, pad, sep, unk, mask = (
        ("<s>", "<pad>", "</s>", "<unk>", "<mask>") if roberta else ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")
    )
    special = [
        AddedToken(name, special=True, normalized=False, lstrip=name == mask) for name in (cls, pad, sep, unk, mask)
    ]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=340, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator([" ".join(WORDS)] * 4, trainer)
    ends = [(sep, tokenizer.token_to_id(sep)), (cls, tokenizer.token_to_id(cls))]
    if roberta:
        tokenizer.post_processor = processors.RobertaProcessing(*ends, add_prefix_space=False)
    else:
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.add_tokens([AddedToken(" " * n, normalized=True) for n in (4, 3, 2)])
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
        )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token=cls, pad_token=pad, sep_token=sep, unk_token=unk, mask_token=special[4]
    ).save_pretrained(directory)


def is_norm(name):
    return any(part in name for part in ("LayerNorm.weight", "layer_norm.weight", "norm.weight"))


def write_wordpiece(directory):
    vocab = os.path.join(directory, "vocab.txt")
    with open(vocab, "w", encoding="utf-8") as f:
        f.write("\n".join(VOCAB) + "\n")
    BertTokenizerFast(vocab, do_lower_case=True).save_pretrained(directory)
    if not os.path.exists(vocab):  # transformers 5 writes tokenizer.json only
        with open(vocab, "w", encoding="utf-8") as f:
            f.write("\n".join(VOCAB) + "\n")


def make(directory, seed=1, kind="Bert", head="ForMaskedLM", std=None, byte_level=False, **config):
    """Weights N(0, 0.15) or std(name), those of norms around 1: no two alike, attention far from uniform. Returns the
    model."""
    os.makedirs(directory, exist_ok=True)
    if byte_level:
        write_byte_level(directory, kind)
        config = {**BYTES, **BYTE_KINDS[kind], **config}
    else:
        write_wordpiece(directory)
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
