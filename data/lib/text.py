"""Documents -> a data directory to pretrain on: train.bin, val.bin and a tokenizer, learned or given."""

import hashlib
import os
import shlex

from .arguments import encoding_flag, plain_parser
from .data_dir import output_names, put_in_place, refuse_foreign, work_dir
from .errors import Failure
from .splits import copy_rows, split_documents_by_hash, split_in_two
from .text_files import EOT
from .tokenizer import copy_tokenizer, is_bpe, run_tokenize, tokenizer_dir


def text_parser(description, examples, tokenizer_type="wordpiece", vocab_size=8192):
    """The flags of a script that makes text to pretrain on."""
    p = plain_parser(description, examples)
    p.add_argument(
        "--tokenizer-type",
        choices=["wordpiece", "bpe"],
        default=tokenizer_type,
        help="kind of vocabulary to learn: wordpiece for train_bert, bpe (byte-level) for train_gpt (default %s)"
        % tokenizer_type,
    )
    p.add_argument(
        "--vocab-size",
        type=int,
        default=vocab_size,
        metavar="N",
        help="learn a vocabulary of N tokens from the training part; 257 with bpe: single bytes (default %d)"
        % vocab_size,
    )
    p.add_argument(
        "--cased",
        action="store_true",
        help="wordpiece: keep upper case and accents in the learned vocabulary (default: lower-case, as BERT)",
    )
    p.add_argument("--tokenizer", metavar="DIR", help="use this tokenizer and learn none")
    p.add_argument(
        "--val-fraction",
        "--val-share",
        type=float,
        default=0.05,
        metavar="X",
        help="fraction of the documents that goes to val.bin, at least one (default 0.05)",
    )
    p.add_argument("--seed", type=int, default=1, metavar="N", help="which documents these are (default 1)")
    p.add_argument("--keep-text", action="store_true", help="leave train.txt and val.txt in the data directory")
    encoding_flag(p)
    return p


def spool_documents(documents, file):
    """Writes documents one after the other. Returns (hash, offset, size) of each; empty ones and exact repetitions are
    left out."""
    found, seen, repeated, offset = [], set(), 0, 0
    for text in documents:
        text = text.strip("\n")
        if not text.strip():
            continue
        data = (text + "\n").encode("utf-8", "replace")
        digest = hashlib.sha256(data).digest()
        if digest in seen:
            repeated += 1
            continue
        seen.add(digest)
        file.write(data)
        found.append((digest, offset, len(data)))
        offset += len(data)
    if repeated:
        print("%d documents are exact repetitions of others and were left out" % repeated)
    return found


def write_text_dataset(args, documents, val_documents=None):
    """Documents (strings, streamed) -> args.out. val_documents: those for validation, where a corpus says which"""
    tokenizer = tokenizer_dir(args.tokenizer) if args.tokenizer else None
    refuse_foreign(args.out, output_names(args, ["train", "val"], ".txt"), tokenizer)
    with work_dir(args.out) as work:
        train_path, val_path = (os.path.join(work, name) for name in ("train.txt", "val.txt"))
        end = (EOT + "\n").encode()
        with open(os.path.join(work, "all"), "w+b") as f, open(os.path.join(work, "all.val"), "w+b") as g:
            train = spool_documents(documents, f)
            if not train:
                raise Failure("there is no text in the input")
            if val_documents is not None:
                val = spool_documents(val_documents, g)
                if not val:
                    raise Failure("there is no text in the validation part of the input")
                copy_rows(f, train, train_path, end)
                copy_rows(g, val, val_path, end)
            elif len(train) == 1:
                print(
                    "there is one document only: its last %g %% become the validation text" % (100 * args.val_fraction)
                )
                f.seek(0)
                texts = split_in_two(f.read().decode("utf-8").strip(), args.val_fraction)
                if not all(text.strip() for text in texts):
                    raise Failure("the only document is too short to be split into training and validation text")
                for path, text in zip((train_path, val_path), texts):
                    with open(path, "w", encoding="utf-8", newline="") as part:
                        part.write(text)
                val = train
            else:
                train, val = split_documents_by_hash(train, args.val_fraction, args.seed)
                copy_rows(f, train, train_path, end)
                copy_rows(f, val, val_path, end)
        train_size, val_size = os.path.getsize(train_path), os.path.getsize(val_path)
        print(
            "%d documents for training (%.1f MB), %d for validation (%.1f MB)"
            % (len(train), train_size / 1e6, len(val), val_size / 1e6)
        )
        fraction = val_size / (train_size + val_size)
        if val_documents is None and fraction > max(0.2, 2 * args.val_fraction):
            print(
                "note: %.0f %% of the text is for validation, since documents stay whole; "
                "more and smaller ones divide better" % (100 * fraction)
            )
        pack_text(args, work, tokenizer)


def pack_text(args, work, tokenizer, documents="eot"):
    """train.txt and val.txt in the folder `work` -> args.out, with this tokenizer or one learned from train.txt"""
    if tokenizer:
        copy_tokenizer(tokenizer, work)
    else:
        case = [] if args.tokenizer_type == "bpe" else ["--no-lower-case"] if args.cased else ["--lower-case"]
        size = str(args.vocab_size)
        run_tokenize(work, "learn", "--type", args.tokenizer_type, "--size", size, "--out", ".", *case, "train.txt")
    for part in ("train", "val"):
        files = ["--in", part + ".txt", "--out", part + ".bin"]
        run_tokenize(work, "pack", "--tokenizer", ".", "--kind", "text", "--documents", documents, *files)
    bpe = is_bpe(work)
    put_in_place(work, args.out, output_names(args, ["train", "val"], ".txt"))
    out = shlex.quote(args.out.rstrip("/") or "/")
    if bpe:
        print("\nnext: ./train_gpt --data %s --out runs/gpt" % out)
    else:
        print("\nnext: ./train_bert --data %s --out runs/bert --max-len 32 --positions 128" % out)
