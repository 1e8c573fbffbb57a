"""What `make demo` runs, in order. The recipes and the toy models are trained with the same flags."""

import sys
import typing

SEEDS = 3
ENCODER = (
    "--layers 3 --hidden-size 128 --heads 4 --ffn-dim 160 --max-len 32 --positions 64 --dropout 0 --init-std 0.04"
    " --mlm-probability 0.25 --lr 2e-3 --batch-tokens 2048 --eval-every 100 --log-every 10"
).split()
CLASSIFIER = "--dev-split 0 --batch 16 --lr 3e-4 --eval-every 1000000 --log-every 50".split()
DECODER = (
    "--layers 4 --hidden-size 96 --heads 3 --max-len 112 --dropout 0 --init-std 0.04 --lr 2e-3 --batch-tokens 1024"
    " --eval-every 400 --eval-tokens 16384 --log-every 20"
).split()
TUNING = "--batch 128 --max-len 64 --dropout 0 --lr 1.5e-3 --schedule linear --log-every 20 --max-new-tokens 24".split()
# How long each training takes: flags of `make demo`
LENGTHS = {
    "bert": ["--steps", 2200],
    "pretrained": ["--epochs", 40],
    "from-scratch": ["--epochs", 40],
    "gpt": ["--steps", 3600],
    "reasons": ["--epochs", 20],
    "instruct": ["--epochs", 1],
}


class Step(typing.NamedTuple):
    name: str  # its output is OUT/NAME and OUT/NAME.log
    title: str
    look: str  # what to look at
    seconds: int  # on two idle cores
    command: list
    resumable: bool = True  # a training: `--resume --out OUT/NAME` continues it


def steps(out, quick):
    """Of the directory `out`; quick: each training far too short to learn"""
    length = lambda name: ["--steps", 4] if quick else LENGTHS[name]
    toy = lambda only: [sys.executable, "data/toy.py", "--only", only, "--out", out / "toy"]
    data = lambda name: ["--data", out / "toy" / name]
    to = lambda name: ["--out", out / name]
    classify = lambda name: (
        ["./finetune_cls", "--init", out / "bert", *data("reviews"), *to(name), "--seeds", SEEDS]
        + CLASSIFIER
        + (["--from-scratch"] if name == "from-scratch" else [])
        + length(name)
    )
    tune = lambda name, *more: ["./sft", "--init", out / "gpt", *data(name), *to(name), *more, *TUNING, *length(name)]
    return [
        Step(
            "toy",
            "1. A small written world: text, and reviews, a hundred with labels",
            "the labels use one half of the opinion words; the test uses the other half",
            2,
            toy("encoder"),
            resumable=False,
        ),
        Step(
            "bert",
            "2. Masked LM: an encoder guesses the words that are hidden",
            "the bars: the fraction of hidden words that it guesses right",
            65,
            ["./train_bert", *data("text"), *to("bert"), *ENCODER, *length("bert")],
        ),
        Step(
            "pretrained",
            f"3. Sentiment from 100 labels, pretrained, {SEEDS} seeds",
            "accuracy on opinion words that no label used ...",
            5,
            classify("pretrained"),
        ),
        Step(
            "from-scratch",
            f"3. Sentiment from 100 labels, from scratch, {SEEDS} seeds",
            "... beside the same model without step 2",
            5,
            classify("from-scratch"),
        ),
        Step(
            "toy-decoder",
            "4. More of the world: lists, questions, reasons, instructions",
            "",
            10,
            toy("decoder"),
            resumable=False,
        ),
        Step(
            "gpt",
            "4. A decoder reads about the world: it guesses the next word",
            "the bits that it needs for a byte of text fall",
            90,
            ["./train_gpt", *data("gpt/text"), *to("gpt"), *DECODER, *length("gpt")],
        ),
        Step(
            "reasons",
            "5. Fine-tuning for one task: is the review good or bad, and why?",
            "the loss of the answers",
            18,
            tune("reasons", "--eval-rows", 1, "--eval-every", 40),
        ),
        Step(
            "reasons-answers",
            "5. ... and its answers about new reviews",
            "right for opinion words that tuning saw, 0 % for others",
            3,
            ["./sft", "eval", "--model", f"{out}/gpt,{out}/reasons"]
            + ["--data", out / "toy/reasons/val.bin", out / "toy/reasons/test.bin"]
            + ["--rows", 300, "--batch", 64, "--max-new-tokens", 24, *to("reasons-answers")],
            resumable=False,
        ),
        Step(
            "instruct",
            "6. Instruction tuning: 171 kinds of tasks, in many wordings",
            "what it never saw: wordings and compositions go well, new families do not",
            60,
            tune("instruct", "--eval-rows", 10, "--eval-every", 200),
        ),
    ]
