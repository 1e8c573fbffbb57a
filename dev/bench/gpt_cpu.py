"""CPU training speed of train_gpt beside PyTorch's GPT2LMHeadModel: same machine, same run, alternating.

    make && python3 dev/bench/gpt_cpu.py             # in a Python with torch and transformers: dev/requirements.txt
    python3 dev/bench/gpt_cpu.py --rounds 5 --compile

4 layers, 256 wide, 4 heads, vocabulary 4096, 8 sequences of 128 tokens a step, every token a target, dropout 0.1, fp32,
AdamW, clipping at 1. Medians over the rounds, the ratio, and the fraction of the GEMM floor, as in bert_cpu.py.
"""

import pathlib
import tempfile

from bert_cpu import Torch, arguments, compare, make_data, ours

L, C, V, T, B = 4, 256, 4096, 128, 8


def gpt(threads, compiled):
    import torch
    import transformers

    torch.manual_seed(1)
    config = transformers.GPT2Config(
        vocab_size=V,
        n_positions=T,
        n_embd=C,
        n_layer=L,
        n_head=4,
        resid_pdrop=0.1,
        embd_pdrop=0.1,
        attn_pdrop=0.1,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
    )
    config._attn_implementation = "sdpa"
    ids = torch.randint(1, V, (B, T))
    return Torch(transformers.GPT2LMHeadModel(config), ids, ids, threads, compiled, betas=(0.9, 0.95), weight_decay=0.1)


def main():
    a = arguments(__doc__, steps=30)
    sides = {"PyTorch eager": gpt(a.threads, False).speed}
    if a.compile:
        sides["PyTorch compiled"] = gpt(a.threads, True).speed
    gemm = 6 * (12 * L * C * C + V * C) + 3 * 2 * L * T * C  # FLOP per token; attention is causal: half
    flags = f"--layers {L} --hidden-size {C} --heads 4 --batch-tokens {B * T} --max-len {T} --dropout 0.1".split()
    with tempfile.TemporaryDirectory() as tmp:
        folder = pathlib.Path(tmp)
        make_data(folder, "bpe", V)
        compare(
            a,
            f"fp32, 4 layers, 256 wide, V={V}, {B} x {T} tokens, dropout 0.1",
            "tokens/s",
            lambda r, peaks: ours("train_gpt", flags, folder, folder / f"run{r}", a.steps, a.threads, peaks),
            {name: lambda side=side: side(a.steps) for name, side in sides.items()},
            gemm,
        )


if __name__ == "__main__":
    main()
