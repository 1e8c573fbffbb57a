"""Chat templates against transformers: a packed row is apply_chat_template's ids, token for token, and what sft writes
is a template that transformers renders to the same ids.

python test/hf/test_chat.py        (needs dev/requirements.txt, and data/tokenize built)

The templates below are our own, with the marks and rules of those that SmolLM2, Qwen 2.5, Qwen3 and Llama 3 carry.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import unittest

import peft
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)
from test_bpe import ENGLISH, texts
from test_tokenizer import TOKENIZE
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from dev.lib.bin_file import parse_bin

SFT = os.environ.get("SFT", os.path.join(ROOT, "build/cpu-fp32/sft"))
CHATML = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN25 = r"""{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
{%- else %}
    {{- '<|im_start|>system\nYou are a friend.<|im_end|>\n' }}
{%- endif %}
{%- for m in messages %}
    {%- if m.role != 'system' %}
        {{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}"""
QWEN3 = r"""{%- for m in messages %}
    {%- if m.role == 'assistant' and loop.last %}
        {{- '<|im_start|>assistant\n<think>\n\n</think>\n\n' + m.content.lstrip('\n') + '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}"""
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + "
    "m['content'] | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
LLAMA32 = r"""{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] | trim %}{%- set rest = messages[1:] %}
{%- else %}{%- set system = '' %}{%- set rest = messages %}{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n' }}
{{- 'Today Date: ' + (date_string if date_string is defined else '26 Jul 2024') + '\n\n' + system + '<|eot_id|>' }}
{%- for m in rest %}
    {{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"""
CHAT_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LLAMA_TOKENS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
# name, chat_template, special tokens, other added tokens, eos_token, NFC?
KINDS = [
    ("chatml", CHATML, CHAT_TOKENS, [], "<|im_end|>", False),
    ("qwen2.5", QWEN25, CHAT_TOKENS, [], "<|im_end|>", True),
    ("qwen3", QWEN3, CHAT_TOKENS, ["<think>", "</think>"], "<|im_end|>", True),
    ("llama3", LLAMA3, LLAMA_TOKENS, [], "<|eot_id|>", False),
    ("llama3.2", LLAMA32, LLAMA_TOKENS, [], "<|eot_id|>", False),
]


def make_tokenizer(folder, template, special, added, eos, nfc):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    if nfc:
        t.normalizer = normalizers.NFC()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    t.train_from_iterator(
        [ENGLISH, "system user assistant\n\n\n  \n" * 50],
        trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False),
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=t)
    fast.add_special_tokens({"eos_token": eos, "bos_token": special[0], "additional_special_tokens": special})
    fast.add_tokens(added)
    fast.chat_template = template
    fast.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def conversations(n, seed, markers):
    """Messages of one to three turns, some with a system message; texts of all kinds without the markers"""
    rng = random.Random(seed)
    pool = [t for t in texts(4 * n, seed) if t.strip() and not any(m in t for m in markers) and len(t) < 400]
    pool = [t for t in pool if "\0" not in t and t.strip("\n") == t] + ["Say so.", "I'll\n\ncome", "12 of 30"] * 20
    made = []
    for _ in range(n):
        messages = [{"role": "system", "content": rng.choice(pool)}] if rng.random() < 0.4 else []
        for _ in range(rng.randint(1, 3)):
            messages.append({"role": "user", "content": rng.choice(pool)})
            messages.append({"role": "assistant", "content": rng.choice(pool)})
        made.append(messages)
    return made


def pack(folder, rows, *flags):
    """→ (ids of each row, what `pack` printed)"""
    with open(os.path.join(folder, "rows.jsonl"), "w", encoding="utf-8") as f:
        f.writelines(json.dumps({"messages": m}) + "\n" for m in rows)
    out = os.path.join(folder, "rows.bin")
    if os.path.exists(out):
        os.remove(out)
    command = [
        TOKENIZE,
        "pack",
        "--tokenizer",
        folder,
        "--kind",
        "instruct",
        "--in",
        os.path.join(folder, "rows.jsonl"),
    ]
    done = subprocess.run([*command, "--out", out, *flags], capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(done.stderr)
    with open(out, "rb") as f:
        data = parse_bin(f.read())
    return [list(data.ids[a:b]) for a, b in zip(data.offsets, data.offsets[1:])], done.stdout


class Chat(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = folder.name

    def test_rows_are_those_of_apply_chat_template(self):
        for name, template, special, added, eos, nfc in KINDS:
            with self.subTest(name):
                folder = os.path.join(self.dir, name)
                theirs = make_tokenizer(folder, template, special, added, eos, nfc)
                rows = conversations(300, 7, special + added)
                ids, _ = pack(folder, rows)
                self.assertEqual(len(ids), len(rows))
                for messages, found in zip(rows, ids):
                    expected = theirs.apply_chat_template(messages, tokenize=True, return_dict=False)
                    self.assertEqual(expected, found, messages)
                    if special[0] == "<|begin_of_text|>":
                        self.assertEqual(found.count(expected[0]), 1)  # BOS exactly once

    def test_special_tokens_in_a_text_stay_text(self):
        for name, template, special, added, eos, nfc in KINDS:
            with self.subTest(name):
                folder = os.path.join(self.dir, name)
                theirs = make_tokenizer(folder, template, special, added, eos, nfc)
                quiet = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "cd"}]
                loud = [
                    {"role": "user", "content": "a%sb %s" % (eos, special[-1])},
                    {"role": "assistant", "content": "c%s%sd" % (special[1], eos)},
                ]
                (one, other), _ = pack(folder, [quiet, loud])
                for token in special:
                    number = theirs.convert_tokens_to_ids(token)
                    self.assertEqual(one.count(number), other.count(number), token)
                self.assertIn("a%sb" % eos, theirs.decode(other))

    def test_what_is_supervised(self):
        for name, template, special, added, eos, nfc in KINDS:
            with self.subTest(name):
                folder = os.path.join(self.dir, name)
                make_tokenizer(folder, template, special, added, eos, nfc)
                messages = [
                    {"role": "system", "content": "S"},
                    {"role": "user", "content": "u"},
                    {"role": "assistant", "content": "first answer"},
                    {"role": "user", "content": "v"},
                    {"role": "assistant", "content": "second"},
                ]
                _, shown = pack(folder, [messages], "--show", "1")
                self.assertIn("\u27e6first answer%s\u27e7" % eos, shown)
                self.assertIn("\u27e6second%s\u27e7" % eos, shown)
                self.assertEqual(shown.count("\u27e6"), 2)

    def test_unknown_templates_are_refused(self):
        for template in (
            "{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}",
            "{{ '<|im_start|>' + messages[0]['content'] }}",
            CHATML.replace("'\n'", "'<|im_sep|>'"),
            QWEN3.replace("enable_thinking", "reasoning"),
            LLAMA32.replace("26 Jul 2024", "1 Jan 2030"),
        ):
            folder = os.path.join(self.dir, str(len(os.listdir(self.dir))))
            make_tokenizer(folder, template, CHAT_TOKENS + LLAMA_TOKENS, [], "<|im_end|>", False)
            with self.assertRaisesRegex(AssertionError, "chat_template is none of those that are known.*--template"):
                pack(folder, conversations(1, 1, []))
            ids, _ = pack(folder, conversations(1, 1, []), "--template", "chatml")
            self.assertEqual(len(ids), 1)

    def test_what_sft_writes_is_a_template_for_transformers(self):
        """Of plain text, of a chat template that the model brought along, of one that it did not have"""
        for name, given in (("alpaca", CHATML), ("short", None), ("chatml", None), ("auto", QWEN25), ("qwen3", None)):
            with self.subTest(name):
                folder, data, out = (os.path.join(self.dir, name + part) for part in ("", "-data", "-out"))
                theirs = make_tokenizer(folder, given, CHAT_TOKENS, [], "<|im_end|>", False)
                ids = dict(bos_token_id=theirs.bos_token_id, eos_token_id=theirs.eos_token_id)
                config = GPT2Config(vocab_size=len(theirs), n_positions=2048, n_embd=64, n_layer=1, n_head=2, **ids)
                GPT2LMHeadModel(config).save_pretrained(folder)
                rows = [m for m in conversations(60, 3, CHAT_TOKENS) if sum(len(t["content"]) for t in m) < 100]
                ids, _ = pack(folder, rows, "--template", name)
                os.mkdir(data)
                os.rename(os.path.join(folder, "rows.bin"), os.path.join(data, "train.bin"))
                flags = ["--steps", "1", "--batch", "2", "--max-len", "2048", "--eval-rows", "0"]
                command = [SFT, "--init", folder, "--data", data, "--out", out, *flags]
                done = subprocess.run(command, capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, done.stderr)
                tuned = AutoTokenizer.from_pretrained(os.path.join(out, "last"))
                bos = [tuned.bos_token_id] if name in ("alpaca", "short") else []
                for messages, found in zip(rows, ids):
                    expected = tuned.apply_chat_template(messages, tokenize=True, return_dict=False)
                    self.assertEqual(expected, bos + found, messages)
                    self.assertEqual(
                        tuned.apply_chat_template(messages, tokenize=False).count(tuned.bos_token), len(bos)
                    )
                # as text: GPT-2's pre-tokenizer makes one token of a last "\n\n" and two of one before an answer
                asked = tuned.apply_chat_template(rows[0][:-1], add_generation_prompt=True, tokenize=False)
                self.assertTrue(tuned.decode(bos + ids[0]).startswith(asked))

    def test_adapters_answer_in_peft_as_here(self):
        """PEFT keeps the generation_config of the model that is adapted, in which something else ends a text; that of
        our adapters' directory ends an answer as it was tuned. A whole model's is its own."""
        folder, data = os.path.join(self.dir, "base"), os.path.join(self.dir, "data")
        theirs = make_tokenizer(folder, CHATML, CHAT_TOKENS, [], "<|im_end|>", False)
        other, end = (theirs.convert_tokens_to_ids(t) for t in ("<|endoftext|>", "<|im_end|>"))
        config = LlamaConfig(
            vocab_size=len(theirs),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            eos_token_id=other,
            bos_token_id=other,
        )
        torch.manual_seed(1)
        LlamaForCausalLM(config).save_pretrained(folder)
        asked = [{"role": "user", "content": "Say so."}]
        pack(folder, [[*asked, {"role": "assistant", "content": "So."}]] * 8)
        os.mkdir(data)
        os.rename(os.path.join(folder, "rows.bin"), os.path.join(data, "train.bin"))
        prompt = theirs.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=False)
        for name, lora in (("adapted", ["--lora-r", "8"]), ("tuned", [])):
            with self.subTest(name):
                out = os.path.join(self.dir, name)
                flags = ["--steps", "60", "--lr", "1e-2", "--batch", "4", "--max-len", "64", "--eval-rows", "0", *lora]
                command = [SFT, "--init", folder, "--data", data, "--out", out, *flags]
                done = subprocess.run(command, capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, done.stderr)
                last = os.path.join(out, "last")
                if lora:
                    model = peft.PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(folder), last)
                    self.assertEqual(model.generation_config.eos_token_id, other)
                    model.generation_config = GenerationConfig.from_pretrained(last)
                else:
                    model = LlamaForCausalLM.from_pretrained(last)
                found = model.generate(prompt, do_sample=False, max_new_tokens=20)[0, prompt.shape[1] :].tolist()
                self.assertEqual(theirs.decode(found), "So.<|im_end|>")
                self.assertEqual(found[-1], end)
                command = [SFT, "generate", "--model", last, "--max-new-tokens", "20", "Say so."]
                ours = subprocess.run(command, capture_output=True, text=True)
                self.assertEqual((ours.returncode, ours.stdout.strip()), (0, "So."), ours.stderr)


if __name__ == "__main__":
    unittest.main()
