"""data/tokenize pack --kind instruct, and the scripts that make instruction data: what is written is what was meant;
bad input is one clear line that names the user's file and line, and an exit code.

    python3 test/scripts/test_instruct_data.py

Needs the standard library and data/tokenize; downloads come from a server in this process.
"""

import json
import os
import shutil
import struct
import sys
import unittest

sys.dont_write_bytecode = True
import test_data
from test_data import ROOT, TOKENIZE, Server, open_bytes, parse_bin

SHARED = os.path.join(ROOT, "..", "shared", "data", "instruction")
EOT = "<|endoftext|>"
ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n%s\n\n### Response:"
)
ALPACA_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n%s\n\n### Input:\n%s\n\n### Response:"
)


def byte_names():
    """GPT-2's printable character for each byte"""
    itself = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    others = [b for b in range(256) if b not in itself]
    return {**{b: chr(b) for b in itself}, **{b: chr(256 + i) for i, b in enumerate(others)}}


class Case(test_data.Case):
    def setUp(self):
        super().setUp()
        names = byte_names()
        self.tokens = [bytes([b]) for b in range(256)] + [b" y", b" ye", b" yes"] + [EOT.encode()]
        vocabulary = {"".join(names[b] for b in token): i for i, token in enumerate(self.tokens[:-1])}
        self.write("tok/vocab.json", json.dumps({**vocabulary, EOT: 259}))
        self.write("tok/merges.txt", "#version: 0.2\n\u0120 y\n\u0120y e\n\u0120ye s\n")
        self.write("tok/tokenizer_config.json", "{}")

    def rows(self, name="x.bin"):
        """[(prompt and answers as text, the supervised parts in brackets; task; text)] of a .bin, read by what the
        format says"""
        data = open_bytes(self.path(name))
        file = parse_bin(data)
        tasks, zero, text_bytes, names_bytes, K = struct.unpack_from("<IIQQQ", data, 72)
        self.assertEqual((*file[:5], file.vocab, zero), (b"tunebin\n", 1, 3, 2, 256, 260, 0))
        S, offset, ids, at = file.sequences, file.offsets, file.ids, file.end

        def take(form, n):
            nonlocal at
            at += struct.calcsize("<%d%s" % (n, form))
            return struct.unpack_from("<%d%s" % (n, form), data, at - struct.calcsize("<%d%s" % (n, form)))

        self.assertFalse(any(take("B", -at % 8)))
        text_at, span_at, spans, task = take("Q", S + 1), take("Q", S + 1), take("I", 2 * K), take("i", S)
        texts, self.names = data[at : at + text_bytes], json.loads(data[at + text_bytes :].decode())
        self.assertEqual((len(data), len(self.names["tasks"])), (at + text_bytes + names_bytes, tasks))
        found = []
        for s in range(S):
            row, done = "", 0
            tokens = ids[offset[s] : offset[s + 1]]
            decode = lambda part: b"".join(self.tokens[i] for i in part).decode()
            for k in range(span_at[s], span_at[s + 1]):
                begin, end = spans[2 * k], spans[2 * k + 1]
                self.assertEqual(tokens[end - 1], 259)
                row += decode(tokens[done:begin]) + "[" + decode(tokens[begin : end - 1]) + "]"
                done = end
            self.assertEqual((done, tokens.count(259)), (len(tokens), span_at[s + 1] - span_at[s]))
            found.append((row, self.names["tasks"][task[s]], json.loads(texts[text_at[s] : text_at[s + 1]])))
        return found

    def jsonl(self, name, *rows):
        self.write(name, "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return name

    def pack(self, *words):
        return self.tokenize("pack", "--tokenizer", "tok", "--kind", "instruct", "--out", "x.bin", *words)

    def make(self, name, *words):
        return self.script(name, "--tokenizer", "tok", "--out", "out", *words)

    def refused_make(self, code, message, name, *words):
        self.refused_script(code, message, name, "--tokenizer", "tok", "--out", "out", *words)
        self.assertEqual(os.listdir(self.path("out")) if os.path.exists(self.path("out")) else [], [])

    def of(self, part):
        return self.rows(os.path.join("out", part + ".bin"))

    def files(self):
        return set(os.listdir(self.path("out"))) - {
            "tokenizer.json",
            "vocab.json",
            "merges.txt",
            "tokenizer_config.json",
            "made.sha256",
        }


def row(i, **more):
    return dict({"instruction": "say %d" % i, "output": "it is %d" % i}, **more)


class Pack(Case):
    def test_forms_and_templates(self):
        self.jsonl(
            "a.jsonl",
            {
                "instruction": "is it?",
                "input": "so",
                "output": ["yes", "Yes!"],
                "task": "q/so",
                "options": ["yes", "Yes!", "no"],
            },
            {"prompt": "say " + EOT, "completion": EOT},
            {"instruction": "n", "output": " "},
        )
        self.jsonl(
            "b.jsonl",
            {
                "messages": [
                    {"role": "system", "content": "S"},
                    {"role": "user", "content": "u"},
                    {"role": "assistant", "content": "yes"},
                    {"role": "user", "content": "v"},
                    {"role": "assistant", "content": "b"},
                ]
            },
        )
        out = self.pack("--in", "a.jsonl", "b.jsonl", "--task", "rest")
        self.assertEqual(
            self.rows(),
            [
                (
                    ALPACA_INPUT % ("is it?", "so") + "[yes]",
                    "q/so",
                    {"input": "so", "outputs": ["yes", "Yes!"], "options": ["yes", "Yes!", "no"]},
                ),
                (ALPACA % ("say " + EOT) + "[" + EOT + "]", "rest", {"input": "say " + EOT, "outputs": [EOT]}),
                (ALPACA % "S\n\nu" + "[yes]" + ALPACA % "v" + "[b]", "rest", {"input": "v", "outputs": ["b"]}),
            ],
        )
        self.assertEqual(self.names["template"]["name"], "alpaca")
        self.assertIn("x.bin: 3 rows, ", out)
        self.assertIn(" 24 of them supervised", out)  # yes and end, 13 and end, yes and end, b and end
        self.assertIn("1 dropped with nothing to learn, 0 too long; template alpaca; 2 tasks: q/so 1, rest 2; in ", out)
        fingerprint = open_bytes(self.path("x.bin"))[56:64]
        # the short template; and the same as a file of JSON, as a model directory has it
        self.pack("--in", "a.jsonl", "--template", "short")
        self.assertEqual(
            [r[0] for r in self.rows()], ["is it?\nso\nanswer :[ yes]", "say %s\nanswer :[ %s]" % (EOT, EOT)]
        )
        self.assertEqual(self.names["tasks"], ["q/so", "all"])
        self.assertNotEqual(open_bytes(self.path("x.bin"))[56:64], fingerprint)
        before = open_bytes(self.path("x.bin"))
        self.write("template.json", json.dumps(self.names["template"]))
        self.pack("--in", "a.jsonl", "--template", "template.json")
        self.assertEqual(open_bytes(self.path("x.bin")), before)
        # a file of text
        self.write("mine.txt", "<{instruction}|{input}>\n{output}\n")
        self.pack("--in", "a.jsonl", "--template", "mine.txt")
        self.assertEqual([r[0] for r in self.rows()], ["<is it?|so>\n[yes]", "<say %s|>\n[%s]" % (EOT, EOT)])

    def test_shots_and_show(self):
        self.jsonl(
            "a.jsonl",
            row(1, input="x", examples=[{"input": "p", "output": "q"}, {"input": "r", "output": "s"}]),
            row(2),
        )
        self.pack("--in", "a.jsonl", "--template", "short")
        self.assertEqual([r[0] for r in self.rows()], ["say 1\nx\nanswer :[ it is 1]", "say 2\nanswer :[ it is 2]"])
        out = self.pack("--in", "a.jsonl", "--template", "short", "--shots", "2", "--show", "1")
        self.assertEqual(self.rows()[0][0], "say 1\np\nanswer : q\nr\nanswer : s\nx\nanswer :[ it is 1]")
        self.assertIn(
            "---- row 1 of 2, task all, 51 tokens, 9 supervised\n"
            "say 1\np\nanswer : q\nr\nanswer : s\nx\nanswer :\u27e6 it is 1%s\u27e7\n" % EOT,
            out,
        )
        self.assertNotIn("row 2 of 2", out)

    def test_overlong(self):
        self.jsonl("a.jsonl", row(1), row(2, input="a long, long input"), row(3, instruction="x" * 60))
        words = ["--in", "a.jsonl", "--template", "short", "--max-len", "30"]
        out = self.pack(*words)
        self.assertIn("2 too long (more than 30 tokens): 2 dropped;", out)
        self.assertIn("\n2 of 3 rows (66.7 %) were too long: --max-len takes longer ones\n", out)
        self.assertEqual([r[0] for r in self.rows()], ["say 1\nanswer :[ it is 1]"])
        out = self.pack(*words, "--overlong", "truncate")
        self.assertIn("2 too long (more than 30 tokens): 1 dropped, 1 with the end of their input cut off;", out)
        self.assertEqual(
            [r[0] for r in self.rows()], ["say 1\nanswer :[ it is 1]", "say 2\na long\nanswer :[ it is 2]"]
        )
        self.assertEqual(self.rows()[1][2]["input"], "a long")  # so that copying the input copies what was shown
        self.refused(
            1,
            "a.jsonl, line 2: expected at most 30 tokens (--max-len), found 42; --overlong drop leaves such rows out",
            TOKENIZE,
            "pack",
            "--tokenizer",
            "tok",
            "--kind",
            "instruct",
            "--out",
            "y.bin",
            *words,
            "--overlong",
            "error",
        )
        self.assertFalse(os.path.exists(self.path("y.bin")))

    def test_many_rows_in_many_threads(self):
        """More than one block of 4 MB: everything stays in its order"""
        self.jsonl("a.jsonl", *[row(i, input="z" * (i % 700), task="t%d" % (i % 25)) for i in range(15000)])
        self.assertIn("15000 rows", self.pack("--in", "a.jsonl", "--template", "short"))
        found = self.rows()
        self.assertEqual([r[0].split("\n")[0] for r in found], ["say %d" % i for i in range(15000)])
        self.assertEqual([r[1] for r in found], ["t%d" % (i % 25) for i in range(15000)])

    def refused_pack(self, code, message, *words):
        self.refused(
            code,
            message,
            TOKENIZE,
            "pack",
            "--kind",
            "instruct",
            "--out",
            "x.bin",
            "--on-error",
            "stop",
            *(words if "--tokenizer" in words else ("--tokenizer", "tok") + words),
        )
        self.assertFalse(os.path.exists(self.path("x.bin")))

    def test_bad_rows(self):
        good = json.dumps(row(1))
        for line, message in [
            (good[:-2], "line 2, column"),
            ("[]", "expected a JSON object"),
            ('{"instruction": "a"}', 'expected "output"'),
            ('{"output": "a"}', 'expected "instruction", "prompt" or "messages"'),
            ('{"instruction": "", "output": "a"}', 'expected a text in "instruction"'),
            ('{"instruction": [5], "output": "a"}', 'expected a string, a number or a boolean for "instruction"'),
            ('{"instruction": "a", "output": {"x": 1}}', 'expected a string, a number or a boolean for "output"'),
            ('{"instruction": "a", "output": "b", "options": ["c", "d"]}', "expected one of the options"),
            ('{"messages": [{"role": "user", "content": "u"}]}', "expected messages that end with the assistant's"),
            ('{"messages": [{"role": "bot", "content": "u"}]}', "expected the role user"),
            ('{"instruction": "a", "output": "b", "examples": [{"input": "c"}]}', "expected examples"),
            ('{"instruction": "a", "output": "\\udc00"}', "not JSON"),
        ]:
            with self.subTest(line):
                self.jsonl("a.jsonl", good, line)
                self.refused_pack(1, message, "--in", "a.jsonl")
                self.refused_pack(1, "a.jsonl, line 2", "--in", "a.jsonl")
        self.write("a.jsonl", good.encode() + b"\n" + good.encode().replace(b"say", b"s\xe9y") + b"\n")
        self.refused_pack(1, "a.jsonl, line 2: expected UTF-8, found the byte 0xe9", "--in", "a.jsonl")

    def test_bad_commands(self):
        self.jsonl("a.jsonl", row(1))
        self.write("empty.jsonl", "\n")
        self.jsonl("nothing.jsonl", row(1, output=""))
        self.write("no.txt", "{instruction}\n{input}\n")
        self.write("after.txt", "{instruction}{output} - the end")
        self.jsonl("input.jsonl", row(1, input="x"))
        self.write("noinput.txt", "{instruction}{output}")
        self.write("wp/vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
        for code, message, *words in [
            (1, "empty.jsonl: expected rows of instructions, found none", "--in", "empty.jsonl"),
            (1, "empty.jsonl: expected rows of instructions, found none", "--in", "a.jsonl", "empty.jsonl"),
            (1, "expected rows to learn, found none in 1: 1 dropped with nothing to learn", "--in", "nothing.jsonl"),
            (
                1,
                "expected rows to learn, found none in 1: 0 dropped with nothing to learn, "
                "1 too long (more than 9 tokens): 1 dropped",
                "--in",
                "a.jsonl",
                "--max-len",
                "9",
            ),
            (1, "no.txt: expected a template with {instruction}{output}", "--in", "a.jsonl", "--template", "no.txt"),
            (
                1,
                "after.txt: expected {output} at the end of the template",
                "--in",
                "a.jsonl",
                "--template",
                "after.txt",
            ),
            (
                1,
                "input.jsonl, line 1: expected a template with {input}",
                "--in",
                "input.jsonl",
                "--template",
                "noinput.txt",
            ),
            (
                2,
                "--template: expected alpaca, short, chatml, qwen3, llama3, llama3.2 or a file, found alpaka",
                "--in",
                "a.jsonl",
                "--template",
                "alpaka",
            ),
            (2, "--shots", "--in", "a.jsonl", "--shots", "3"),
            (2, "--overlong: expected --max-len N", "--in", "a.jsonl", "--overlong", "drop"),
            (2, "--overlong", "--in", "a.jsonl", "--max-len", "9", "--overlong", "cut"),
            (2, "--documents is not for --kind instruct", "--in", "a.jsonl", "--documents", "eot"),
            (2, "expected a name after --task", "--in", "a.jsonl", "--task", ""),
            (2, "wp: expected byte-level BPE", "--tokenizer", "wp", "--in", "a.jsonl"),
            (1, "none.jsonl", "--in", "none.jsonl"),
            (1, "expected a file, found a directory", "--in", "tok"),
        ]:
            with self.subTest(message):
                self.refused_pack(code, message, *words)
        self.refused(
            2,
            "--template is not for --kind text",
            TOKENIZE,
            "pack",
            "--tokenizer",
            "tok",
            "--kind",
            "text",
            "--in",
            "a.jsonl",
            "--out",
            "x.bin",
            "--template",
            "short",
        )


class Own(Case):
    """instructions.py"""

    def test_files_of_every_kind(self):
        rows = [row(i) for i in range(40)]
        self.jsonl("a.jsonl", *rows)
        self.write("b.json.xz", json.dumps(rows, indent=1))
        expected = None
        for name in ("a.jsonl", "b.json.xz"):
            self.assertIn(
                "next: ./sft --init MODEL --data out --out runs/out",
                self.make("instructions.py", name, "--val-share", "0.25"),
            )
            train, val = [{r[0] for r in self.of(part)} for part in ("train", "val")]
            self.assertEqual((len(train), len(val), len(train | val)), (30, 10, 40))
            self.assertEqual(expected or (train, val), (train, val))
            expected = train, val
            self.assertEqual(self.files(), {"train.bin", "val.bin"})
        self.assertIn(ALPACA % "say 7" + "[it is 7]", train | val)

    def test_tasks_holdout_and_flags(self):
        self.jsonl("one.jsonl", *[row(i) for i in range(9)], row(100, task="lists/first"))
        self.jsonl(
            "two.jsonl", *[row(i + 20, task="words/%s" % "ab"[i % 2]) for i in range(8)], row(101, task="lists/last")
        )
        self.jsonl("v.jsonl", row(50), row(51, task="words/a"))
        self.make(
            "instructions.py",
            "one.jsonl",
            "two.jsonl",
            "--val",
            "v.jsonl",
            "--holdout",
            "words,lists/last",
            "--template",
            "short",
            "--keep-text",
        )
        self.assertEqual(
            self.files(), {p + e for p in ("train", "val", "test_tasks", "test_families") for e in (".bin", ".jsonl")}
        )
        self.assertEqual({r[1] for r in self.of("train")}, {"one", "lists/first"})
        self.assertEqual([(r[0], r[1]) for r in self.of("val")], [("say 50\nanswer :[ it is 50]", "v")])
        self.assertEqual({r[1] for r in self.of("test_tasks")}, {"lists/last"})
        self.assertEqual({r[1] for r in self.of("test_families")}, {"words/a", "words/b"})
        # "family / name" is "family/name"; the name alone will do
        self.jsonl("spaces.jsonl", *[row(i, task="lists / %s" % "ab"[i % 2]) for i in range(20)])
        for name in ("lists/b", "b"):
            self.make("instructions.py", "spaces.jsonl", "--holdout", name)
            self.assertEqual(
                [{r[1] for r in self.of(part)} for part in ("train", "test_tasks")], [{"lists/a"}, {"lists/b"}]
            )
        # the model says how long a row may be, unless --max-len does
        model = os.path.join(self.dir, "model")
        shutil.copytree(self.path("tok"), os.path.join(model, "best"))
        self.write("model/best/config.json", json.dumps({"n_positions": 70}))
        self.jsonl("long.jsonl", *[row(i) for i in range(9)], {"instruction": "again " * 40, "output": "x"})
        for flags, rows in (
            (["--tokenizer", model], 9),
            (["--tokenizer", "tok"], 10),
            (["--tokenizer", model, "--max-len", "500"], 10),
        ):
            self.script("instructions.py", "long.jsonl", *flags, "--template", "short", "--out", "out")
            self.assertEqual(len(self.of("train")) + len(self.of("val")), rows, flags)
        self.refused_script(
            1,
            "too long (more than 3 tokens)",
            "instructions.py",
            "long.jsonl",
            "--tokenizer",
            "tok",
            "--max-len",
            "3",
            "--out",
            "out2",
        )
        self.refused_script(
            1,
            "take a shorter template",
            "instructions.py",
            "long.jsonl",
            "--tokenizer",
            "tok",
            "--max-len",
            "3",
            "--out",
            "out2",
        )
        self.make("instructions.py", "one.jsonl", "two.jsonl", "--holdout", "one")  # a task without a family
        self.assertEqual(self.files(), {"train.bin", "val.bin", "test_tasks.bin"})
        # again without: nothing of the first call stays
        self.make("instructions.py", "one.jsonl", "--limit", "3")
        self.assertEqual(self.files(), {"train.bin", "val.bin"})
        self.assertEqual(len(self.of("train")), 3)

    def test_equal_questions_stay_on_one_side(self):
        self.jsonl("a.jsonl", *[row(i % 30, output="%d" % i) for i in range(90)])
        self.make("instructions.py", "a.jsonl", "--val-fraction", "0.5")
        train, val = [{r[0].split("[")[0] for r in self.of(part)} for part in ("train", "val")]
        self.assertEqual((len(train), len(val), train & val), (15, 15, set()))
        self.jsonl("v.jsonl", row(3, instruction=" say  3", output="other"))
        self.assertIn(
            "3 rows of train have a question that is in val, too, and were left out",
            self.make("instructions.py", "a.jsonl", "--val", "v.jsonl"),
        )
        self.assertEqual(len(self.of("train")), 87)

    def test_no_turn_asks_what_is_held_out(self):
        """Conversations, and messages of one turn, beside rows that ask the same; what a held-out conversation asks
        before its end is not held out."""
        say = lambda *turns: [
            {"role": "assistant" if k % 2 else "user", "content": text} for k, text in enumerate(turns)
        ]
        held = [{"instruction": "who %d ?" % i, "output": "x", "task": "held/who"} for i in range(10)]
        held.append({"messages": say("what is first ?", "a", "and then ?", "b"), "task": "held/who"})
        leaks = [{"messages": say("who  %d ?" % i, "x", "why ?", "y"), "task": "a/talk"} for i in range(5)]
        leaks += [{"messages": say("who %d ?" % i, "x"), "task": "a/one"} for i in range(5, 8)] + [
            {"prompt": "who 8 ?", "completion": "x", "task": "a/two"}
        ]
        leaks += [{"messages": say("what is first ?", "c", "and then ?", "d", "and now ?", "e"), "task": "a/talk"}]
        fine = [{"messages": say("how %d ?" % i, "x", "who %d ?" % i, "y"), "task": "a/talk"} for i in range(10)] + [
            {"instruction": "what is first ?", "output": "z", "task": "a/b"}
        ]
        self.jsonl("talk.jsonl", *held, *leaks, *fine)
        out = self.make("instructions.py", "talk.jsonl", "--holdout", "held", "--template", "short")
        self.assertIn("10 rows of train have a question that is in test_families, too, and were left out", out)
        self.assertEqual(len(self.of("train")) + len(self.of("val")), len(fine))
        # nor does a turn of train ask what val, which is drawn, asks in the end
        pairs = [{"instruction": "q %d" % i, "output": "x"} for i in range(20)] + [
            {"messages": say("q %d" % i, "x", "more %d" % i, "y")} for i in range(20)
        ]
        self.jsonl("pairs.jsonl", *pairs)
        out = self.make("instructions.py", "pairs.jsonl", "--val-share", "0.5", "--keep-text", "--template", "short")
        read = lambda part: [json.loads(line) for line in open_bytes(self.path("out", part + ".jsonl")).splitlines()]
        asked = {r["instruction"] for r in read("val") if "instruction" in r}
        self.assertTrue(
            asked and asked.isdisjoint(r["messages"][0]["content"] for r in read("train") if "messages" in r)
        )
        gone = len(pairs) - len(read("train")) - len(read("val"))
        self.assertGreater(gone, 0)
        self.assertIn("%d rows of train have a question that is in val, too, and were left out" % gone, out)

    def test_refused(self):
        good = [row(i) for i in range(5)]
        self.jsonl("good.jsonl", *good)
        self.jsonl("bad.jsonl", *good, "", '{"instruction": "a"}')
        self.write("bad.json", json.dumps(good + [{"instruction": "a"}]))
        self.write("notarray.json", '{"data": []}')
        self.write("notobject.json", "[1]")
        self.write("cut.json", "[{")
        self.jsonl("cut.jsonl", *good, '{"instruction": "a", "out')
        self.jsonl("half.jsonl", *good, '{"instruction": "a\\ud800", "output": "b"}')
        self.write("latin.jsonl", json.dumps(good[0]).encode() + b"\n\xe9\n")
        self.write("empty.jsonl", "")
        self.jsonl("same.jsonl", *[row(1)] * 4)
        self.write("wp/vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
        self.write("t.txt", "{instruction}")
        for code, message, *words in [
            (
                1,
                'bad.jsonl, line 7: expected "output", found the keys "instruction"',
                "bad.jsonl",
                "--val",
                "good.jsonl",
            ),
            (1, 'bad.json, element 6: expected "output"', "bad.json", "--val", "v.jsonl"),
            (1, 'notarray.json, line 1: expected "instruction"', "notarray.json", "--val", "v.jsonl"),
            (1, "notobject.json, element 1: expected a JSON object", "notobject.json"),
            (
                1,
                "cut.json, element 1: expected a JSON object of at most 64 MB, found no end of what begins here",
                "cut.json",
            ),
            (1, "cut.jsonl, line 6, column 25: this is not JSON as expected", "cut.jsonl"),
            (
                1,
                "half.jsonl, line 6, column 25: this is not JSON as expected: syntax error while parsing value - "
                "invalid string: surrogate",
                "half.jsonl",
            ),
            (1, "latin.jsonl, line 2: expected UTF-8, found the byte 0xe9", "latin.jsonl"),
            (1, "there are no rows in the train part", "empty.jsonl"),
            (1, "expected at least 2 different questions", "same.jsonl"),
            (
                1,
                "--holdout: expected tasks or families of the files, found x; there are no tasks",
                "good.jsonl",
                "--holdout",
                "x",
            ),
            (1, "no rows are left for training", "good.jsonl", "--val", "good.jsonl"),
            (1, "there is no such file", "none.jsonl"),
            (1, "t.txt: expected a template with {instruction}{output}", "good.jsonl", "--template", "t.txt"),
            (
                2,
                "--template: expected auto, alpaca, short, chatml, qwen3, llama3, llama3.2 or a file, found x",
                "good.jsonl",
                "--template",
                "x",
            ),
            (2, "--shots: expected 0 to 2", "good.jsonl", "--shots", "3"),
            (2, "--overlong: expected --max-len N", "good.jsonl", "--overlong", "drop"),
            (2, "--max-len", "good.jsonl", "--max-len", "-1"),
            (2, "--val-fraction", "good.jsonl", "--val-fraction", "1"),
            (2, "--limit", "good.jsonl", "--limit", "0"),
        ]:
            with self.subTest(message):
                self.jsonl("v.jsonl", row(50))
                self.refused_make(code, message, "instructions.py", "--on-error", "stop", *words)
        self.refused_script(
            2, "wp: expected byte-level BPE", "instructions.py", "good.jsonl", "--tokenizer", "wp", "--out", "out2"
        )


class Keep(Case):
    """As of text, of instructions"""

    def test_files_of_others_and_inputs(self):
        self.jsonl(
            "rows.jsonl", *({"instruction": "say %d" % i, "output": str(i), "task": "t%d" % (i % 2)} for i in range(40))
        )
        self.write("out/test_notes.bin", "mine")
        self.write("out/val.jsonl", "mine")
        self.make("instructions.py", "rows.jsonl", "--holdout", "t1")
        self.assertTrue(os.path.exists(self.path("out/test_tasks.bin")))
        self.refused_script(
            2, "out/val.jsonl", "instructions.py", "rows.jsonl", "--tokenizer", "tok", "--out", "out", "--keep-text"
        )
        os.remove(self.path("out/val.jsonl"))
        self.make("instructions.py", "rows.jsonl", "--keep-text")
        self.assertEqual(
            (os.path.exists(self.path("out/test_tasks.bin")), open_bytes(self.path("out/test_notes.bin"))),
            (False, b"mine"),
        )
        before = {name: open_bytes(self.path("out", name)) for name in os.listdir(self.path("out"))}
        for words in (
            ["out/train.jsonl"],
            ["rows.jsonl", "--val", "out/val.jsonl"],
            ["rows.jsonl", "--template", "out/val.jsonl"],
        ):
            self.refused_script(
                2, "this input is the file out/", "instructions.py", *words, "--tokenizer", "tok", "--out", "out"
            )
        self.assertEqual(before, {name: open_bytes(self.path("out", name)) for name in os.listdir(self.path("out"))})


class Public(Case):
    """alpaca.py, dolly.py, superni.py, functions.py"""

    def test_alpaca_and_dolly(self):
        rows = [{"instruction": "do %d" % i, "input": "x" if i % 2 else "", "output": "out %d" % i} for i in range(20)]
        self.write("a/alpaca_data.json", json.dumps(rows, indent=4))
        self.make("alpaca.py", "--from", "a", "--val-share", "0.1")
        self.assertEqual(len(self.of("train")), 18)
        self.assertLessEqual(
            {r[0] for r in self.of("train")} | {r[0] for r in self.of("val")},
            {
                (ALPACA_INPUT % ("do %d" % i, "x") if i % 2 else ALPACA % ("do %d" % i)) + "[out %d]" % i
                for i in range(20)
            },
        )
        self.assertEqual(self.names["tasks"], ["alpaca"])
        self.write("b/alpaca_data.json", json.dumps(rows + [{"instruction": "a", "output": "b"}]))
        self.refused_script(
            1,
            "alpaca_data.json, element 21: expected a key input",
            "alpaca.py",
            "--from",
            "b",
            "--tokenizer",
            "tok",
            "--out",
            "out2",
        )
        self.jsonl(
            "databricks-dolly-15k.jsonl",
            *[
                {
                    "instruction": "do %d" % i,
                    "context": "",
                    "response": "out",
                    "category": "open_qa" if i % 2 else "summary",
                }
                for i in range(20)
            ],
        )
        self.make("dolly.py", "--from", "databricks-dolly-15k.jsonl", "--holdout", "summary")
        self.assertEqual({r[1] for r in self.of("train")} | {r[1] for r in self.of("val")}, {"dolly/open_qa"})
        self.assertEqual([r[1] for r in self.of("test_tasks")], ["dolly/summary"] * 10)
        self.refused_script(
            1,
            "--holdout: expected categories of Dolly, found x; there are open_qa, summary",
            "dolly.py",
            "--from",
            "databricks-dolly-15k.jsonl",
            "--holdout",
            "x",
            "--tokenizer",
            "tok",
            "--out",
            "out2",
        )

    def repository(self):
        """Six tasks as the public repository has them, and as two files"""
        tasks, instances, files = [], [], {}
        for n, (split, category) in enumerate(
            [
                ("train", "Question Answering"),
                ("train", "Misc."),
                ("train", "Misc."),
                ("test", "Misc."),
                ("test", "Title Generation"),
                ("excluded", "Misc."),
            ]
        ):
            name = "task%d_x" % n
            own = [
                {"id": "%s-%d" % (name, i), "input": "in %d" % i, "output": ["out %d" % i, "also"]} for i in range(150)
            ]
            examples = [
                {"input": "p", "output": "q", "explanation": ""},
                {"input": "r", "output": "s", "explanation": ""},
                {"input": "t", "output": "u", "explanation": ""},
            ]
            files["tasks/%s.json" % name] = json.dumps(
                {
                    "Categories": [category],
                    "Definition": ["Define %d." % n],
                    "Positive Examples": examples,
                    "Negative Examples": [],
                    "Instances": own,
                }
            ).encode()
            if split != "excluded":
                tasks.append(
                    {
                        "task": name,
                        "split": split,
                        "categories": [category],
                        "definition": ["Define %d." % n],
                        "positive_examples": examples,
                    }
                )
                instances += [dict(i, task=name, split=split) for i in own]
        for split, numbers in (("train", (0, 1, 2)), ("test", (3, 4))):
            files["splits/default/%s_tasks.txt" % split] = "".join("task%d_x\n" % n for n in numbers).encode()
        return files, tasks, instances

    def test_superni(self):
        files, tasks, instances = self.repository()
        for name, data in files.items():
            self.write("repo/" + name, data)
        self.jsonl("two/superni_tasks.jsonl", *tasks)
        self.write("two/superni_instances.jsonl.xz", "".join(json.dumps(i) + "\n" for i in instances))
        expected = None
        for source in ("repo", "two"):
            self.assertIn(
                "3 tasks of 2 categories for training, 2 held-out tasks",
                self.make("superni.py", "--from", source, "--shots", "1", "--per-task", "50", "--template", "short"),
            )
            self.assertEqual(self.files(), {"train.bin", "val.bin", "test_tasks.bin", "test_families.bin"})
            found = {part: self.of(part) for part in ("train", "val", "test_tasks", "test_families")}
            self.assertEqual(
                {p: len(r) for p, r in found.items()}, {"train": 147, "val": 3, "test_tasks": 100, "test_families": 100}
            )
            self.assertEqual(
                {r[1] for r in found["train"]}, {"question_answering/task0_x", "misc/task1_x", "misc/task2_x"}
            )
            self.assertEqual({r[1] for r in found["test_tasks"]}, {"misc/task3_x"})
            self.assertEqual(
                found["test_families"][7],
                (
                    "Define 4.\np\nanswer : q\nin 7\nanswer :[ out 7]",
                    "title_generation/task4_x",
                    {"input": "in 7", "outputs": ["out 7", "also"]},
                ),
            )
            self.assertEqual(expected or found, found)
            expected = found
        self.make("superni.py", "--from", "two", "--tasks", "1")
        one = {r[1] for r in self.of("train")}
        self.make("superni.py", "--from", "two", "--tasks", "2")
        two = {r[1] for r in self.of("train")}
        self.assertEqual((len(one), len(two), one < two), (1, 2, True))
        good = json.loads(files["tasks/task1_x.json"])
        for change, message in (
            ({"Instances": [1]}, "task1_x.json, instance 1: expected an object with a key input, found 1"),
            ({"Positive Examples": [5]}, "task1_x.json: expected an object with a key output, found 5"),
            (
                {"Positive Examples": [{"input": "a", "output": [3]}]},
                "task1_x.json: output: expected a string, found 3",
            ),
            ({"Categories": [7]}, "task1_x.json: expected a list of names as categories, found [7]"),
        ):
            self.write("repo/tasks/task1_x.json", json.dumps({**good, **change}))
            self.refused_script(1, message, "superni.py", "--tokenizer", "tok", "--out", "out2", "--from", "repo")
        # no example
        self.write("repo/tasks/task1_x.json", json.dumps({**good, "Positive Examples": [{"input": "a", "output": []}]}))
        self.make("superni.py", "--from", "repo", "--shots", "1")
        self.write("repo/tasks/task1_x.json", "{")
        for code, message, *words in [
            (1, "task1_x.json: expected a JSON object", "--from", "repo"),
            (1, "expected a folder, found none", "--from", "none"),
            (1, "there is no text in the folder tok", "--from", "tok"),
            (2, "--tasks: expected a number from 1", "--tasks", "0", "--from", "two"),
            (2, "--per-task: expected a number from 1", "--per-task", "0", "--from", "two"),
            (2, "--url: expected {file}", "--url", "http://x"),
        ]:
            with self.subTest(message):
                self.refused_script(code, message, "superni.py", "--tokenizer", "tok", "--out", "out2", *words)

    def test_downloads(self):
        url = test_data.start_server(self, Server)
        files, _, _ = self.repository()
        Server.files = {"/ni/" + name: data for name, data in files.items()}
        Server.breaks = 1
        words = ["--url", url + "/ni/{file}", "--cache", "cache", "--per-task", "20"]
        self.make("superni.py", *words)
        first = {part: self.of(part) for part in ("train", "val", "test_tasks", "test_families")}
        asked = len(Server.log)
        # two lists, five tasks, one that continued after a break; the excluded task is not downloaded
        self.assertEqual(asked, 2 + 5 + 1)
        self.make("superni.py", *words)
        self.assertEqual(({part: self.of(part) for part in first}, len(Server.log)), (first, asked))
        del Server.files["/ni/tasks/task2_x.json"]
        self.refused_script(
            1,
            "404",
            "superni.py",
            "--tokenizer",
            "tok",
            "--out",
            "out2",
            "--url",
            url + "/ni/{file}",
            "--cache",
            "cache2",
        )
        # the checksum of Alpaca's file is known
        Server.files["/a.json"] = b"[]"
        self.refused_script(
            1,
            "expected SHA-256",
            "alpaca.py",
            "--tokenizer",
            "tok",
            "--out",
            "out2",
            "--url",
            url + "/a.json",
            "--cache",
            "cache2",
        )
        Server.files["/d.jsonl"] = "".join(
            json.dumps({"instruction": "do %d" % i, "context": "", "response": "out", "category": "qa"}) + "\n"
            for i in range(9)
        ).encode()
        self.make("dolly.py", "--url", url + "/d.jsonl", "--cache", "cache3")
        self.assertEqual(len(self.of("train")), 8)

    def small_functions(self):
        """Made-up rows for every task of functions.py: (as one folder, as the two repositories have them)"""
        sys.path.insert(0, os.path.join(ROOT, "data"))
        self.addCleanup(sys.path.remove, os.path.join(ROOT, "data"))
        import functions

        one, two, annotations, web = [], [], {}, {}
        for family, kinds in functions.TASKS.items():
            for kind, (first, second, wordings) in kinds.items():
                for task in first:
                    rows = [{"input": "%s a%d, b%d" % (task, i, i), "output": "b%d" % i} for i in range(130)]
                    one += [dict(r, task=task) for r in rows]
                    web["/f/%s/%s.json" % ("extractive" if family == "list" else "abstractive", task)] = json.dumps(
                        rows
                    ).encode()
                for task in second:
                    rows = [{"input": "%s c%d, d%d" % (task, i, i), "output": "d%d" % i} for i in range(130)]
                    two += [dict(r, task=task) for r in rows]
                    annotations[task] = {
                        "annotations": ["do %s" % task, " do %s please " % task, "do %s" % task, "now %s" % task]
                    }
                    web["/i/raw/induce/%s.json" % task] = json.dumps(
                        {"examples": {str(i + 1): r for i, r in enumerate(rows[:100])}}
                    ).encode()
                    web["/i/raw/execute/%s.json" % task] = json.dumps(
                        {"examples": {str(i + 1): r for i, r in enumerate(rows[100:])}}
                    ).encode()
                    web["/i/annotations/%s.json" % task] = json.dumps(annotations[task]).encode()
        self.jsonl("f/function_vectors_tasks.jsonl", *one)
        self.jsonl("f/instruction_induction.jsonl", *two)
        self.write("f/instruction_induction_annotations.json", json.dumps(annotations))
        return functions, web

    def test_functions(self):
        functions, web = self.small_functions()
        self.assertEqual(functions.HELD_OUT, functions.draw_held_out())
        self.assertEqual((len(functions.KINDS), len(functions.HELD_OUT)), (46, 11))
        url = test_data.start_server(self, Server)
        Server.files = web
        expected = None
        for words in (
            ["--from", "f"],
            ["--functions-url", url + "/f/{file}", "--induction-url", url + "/i/{file}", "--cache", "cache"],
        ):
            self.assertIn(
                "35 tasks for training; kept out: " + ", ".join(functions.HELD_OUT),
                self.make("functions.py", *words, "--template", "short", "--keep-text"),
            )
            found = {
                part: [json.loads(line) for line in open_bytes(self.path("out", part + ".jsonl")).splitlines()]
                for part in ("train", "val", "test_wordings", "test_tasks")
            }
            self.assertEqual(expected or found, found)
            expected = found
        kinds = lambda part: {r["task"].split("/")[1] for r in found[part]}
        self.assertEqual(kinds("train"), set(functions.KINDS) - set(functions.HELD_OUT))
        self.assertEqual(
            (kinds("val"), kinds("test_wordings"), kinds("test_tasks")),
            (kinds("train"), kinds("train"), set(functions.HELD_OUT)),
        )
        inputs = {part: {r["input"] for r in found[part]} for part in found}
        for a, b in (("train", "val"), ("train", "test_wordings"), ("val", "test_wordings"), ("train", "test_tasks")):
            self.assertFalse(inputs[a] & inputs[b], (a, b))
        wordings = lambda part: {(r["task"], r["instruction"]) for r in found[part]}
        self.assertFalse(wordings("train") & wordings("test_wordings"))
        self.assertEqual(len(wordings("test_wordings")), 35)
        self.assertTrue(all(sum(t == task for t, _ in wordings("train")) >= 2 for task, _ in wordings("test_wordings")))
        chosen = [r for r in found["train"] if r["task"] == "list/choose_middle"]
        self.assertTrue(chosen and all(r["output"][0] in r["options"] for r in chosen))
        # few tasks are among more
        few = []
        for n in ("2", "5"):
            self.make("functions.py", "--from", "f", "--tasks", n, "--limit", "400")
            few.append({r[1] for r in self.of("train")})
        self.assertTrue(few[0] < few[1])
        self.assertEqual(len(few[0]), 2)
        self.refused_script(
            2,
            "--tasks: expected 1 to 35, found 36",
            "functions.py",
            "--from",
            "f",
            "--tasks",
            "36",
            "--tokenizer",
            "tok",
            "--out",
            "out2",
        )
        self.refused_script(
            2,
            "--induction-url: expected {file}",
            "functions.py",
            "--induction-url",
            "x",
            "--tokenizer",
            "tok",
            "--out",
            "out2",
        )
        annotations = open_bytes(self.path("f/instruction_induction_annotations.json"))
        for text, message in (
            ("{", "annotations.json: expected a JSON object"),
            ("[]", "annotations.json: expected a JSON object, found []"),
            ('{"antonyms": {}}', "antonyms: expected a key annotations"),
            ('{"antonyms": {"annotations": [1]}}', "annotations: expected a list of strings, found [1]"),
        ):
            self.write("f/instruction_induction_annotations.json", text)
            self.refused_script(1, message, "functions.py", "--from", "f", "--tokenizer", "tok", "--out", "out2")
        self.write("f/instruction_induction_annotations.json", annotations)
        self.write("f/function_vectors_tasks.jsonl", '{"task": "antonym", "input": "a", "output": "b"}\n')
        self.refused_script(
            1,
            "expected rows of this task, found none",
            "functions.py",
            "--from",
            "f",
            "--tokenizer",
            "tok",
            "--out",
            "out2",
        )

    @unittest.skipUnless(os.path.exists(SHARED), "../shared is not there")
    def test_shared_data(self):
        self.assertIn(
            "134 tasks of 29 categories for training, 8 held-out tasks",
            self.make("superni.py", "--from", SHARED, "--per-task", "10"),
        )
        with open(os.path.join(SHARED, "superni_official_test_tasks.txt")) as f:
            official = set(f.read().split())
        self.assertFalse({r[1].split("/")[1] for r in self.of("train")} & official)
        tests = self.of("test_families")
        self.assertEqual(len(tests), 800)
        self.assertLessEqual({r[1].split("/")[1] for r in tests}, official)
        self.make("functions.py", "--from", SHARED, "--template", "short", "--limit", "2000")
        self.assertEqual(len(self.of("test_tasks")), 1100)
        self.make("alpaca.py", "--from", SHARED)
        self.assertEqual(len(self.of("train")) + len(self.of("val")), 51974)  # 52,002 of which 28 have no answer


if __name__ == "__main__":
    unittest.main()
