"""Classifiers in both directions: transformers answers as finetune_cls does, and the other way round; its metrics are
scikit-learn's.

python test/hf/test_classifier.py        (needs dev/requirements.txt; finetune_cls and data/tokenize built; no network)
"""

import csv
import json
import math
import os
import random
import shutil
import sys
import tempfile
import unittest
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import peft
import torch
from safetensors.torch import load_file
from sklearn import metrics
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import make_tiny_bert
from test_interchange import ROOT, TOKENIZE, Warnings, run

FINETUNE = os.environ.get("FINETUNE_CLS", os.path.join(ROOT, "build/cpu-fp32/finetune_cls"))
TOLERANCE = 1e-4
WORDS = make_tiny_bert.WORDS


def some_texts(seed, n):
    """Every third one a pair, with a tab between its texts; upper case, unknown words and accents among them."""
    rng = random.Random(seed)

    def text():
        words = rng.choices(WORDS + ["walked", "Tiger", "über", "日", "x9"], k=rng.randint(1, 14))
        return " ".join(w.upper() if rng.random() < 0.1 else w for w in words)

    return [text() + ("\t" + text() if i % 3 == 2 else "") for i in range(n)]


def make_classifier(directory, labels, seed=1, bias=None, kind="Bert", **config):
    """A random classifier with a tokenizer, as transformers saves them: weights N(0, 0.15), of attention N(0, 0.3) and
    of the classifier N(0, 1),
    so that the words of a text matter to the row of [CLS]."""

    def std(name):
        if "classifier" in name and "pre_" not in name and "dense" not in name:
            return 1
        return 0.3 if ("attention" in name or "attn" in name) and not make_tiny_bert.is_norm(name) else 0.15

    names = dict(id2label=dict(enumerate(labels)), label2id={name: k for k, name in enumerate(labels)})
    model = make_tiny_bert.make(directory, seed, kind, "ForSequenceClassification", std, **names, **config)
    if bias is not None:
        with torch.no_grad():
            model.classifier.bias.copy_(torch.tensor(bias))
        model.save_pretrained(directory)
    return model


def read_theirs(directory):
    """(model, tokenizer, what from_pretrained complained about)"""
    with Warnings() as log:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            directory, output_loading_info=True, dtype=torch.float32
        )
        tokenizer = AutoTokenizer.from_pretrained(directory)
    return (
        model.eval(),
        tokenizer,
        log.messages + ["%s: %s" % (kind, sorted(names)) for kind, names in info.items() if names],
    )


def their_probabilities(model, tokenizer, texts, **options):
    rows = []
    if model.config.model_type != "bert":
        options["return_token_type_ids"] = False
    for text in texts:
        with torch.no_grad():
            rows.append(model(**tokenizer(*text.split("\t"), return_tensors="pt", **options)).logits.softmax(-1)[0])
    return torch.stack(rows)


class Classifier(unittest.TestCase):
    def setUp(self):
        for program in (FINETUNE, TOKENIZE):
            if not os.path.exists(program):
                self.fail("expected %s, found nothing: run make test-hf" % program)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = folder.name

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def our_probabilities(self, directory, texts, labels):
        done = run(FINETUNE, "predict", "--model", directory, "--json", input="".join(t + "\n" for t in texts))
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([a["text"] for a in answers], list(texts))
        for a in answers:
            self.assertEqual(list(a["probabilities"]), list(labels))
            self.assertEqual(a["label"], max(labels, key=a["probabilities"].get))
            self.assertAlmostEqual(sum(a["probabilities"].values()), 1, places=9)
        return torch.tensor([[a["probabilities"][name] for name in labels] for a in answers])

    def assert_same(self, ours, theirs):
        self.assertEqual(ours.shape, theirs.shape)
        self.assertGreater(theirs.std(0).max().item(), 0.03)  # a comparison of equal rows would prove nothing
        worst = (ours - theirs).abs().max().item()
        self.assertLessEqual(worst, TOLERANCE)
        return worst

    def assert_refused(self, part, *command):
        done = run(*command, ok=False)
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)
        self.assertIn(part, done.stderr)

    def make_data(self, tokenizer, labels, name="data", seed=1, examples=200):
        """train.bin and val.bin: the label is a word of the text; every third example is a pair."""
        data = self.path(name)
        os.makedirs(data)
        rng = random.Random(seed)
        for part, n in (("train", examples), ("val", 40)):
            with open(self.path(name, part + ".tsv"), "w") as f:
                f.write("text\ttext2\tlabel\n")
                for i, text in enumerate(some_texts(rng.random(), n)):
                    f.write(
                        "%s %s%s\t%s\n"
                        % (WORDS[i % len(labels)], text, "" if "\t" in text else "\t", labels[i % len(labels)])
                    )
            run(
                TOKENIZE,
                "pack",
                "--tokenizer",
                tokenizer,
                "--kind",
                "classify",
                "--labels",
                ",".join(labels),
                "--in",
                self.path(name, part + ".tsv"),
                "--out",
                self.path(name, part + ".bin"),
            )
        return data

    def test_we_read_theirs(self):
        for labels in (["negative", "positive"], ["anger", "joy", 'love "of" all', "ärger", "calm"]):
            directory = self.path("theirs%d" % len(labels))
            make_classifier(directory, labels, seed=len(labels))
            model, tokenizer, complaints = read_theirs(directory)
            self.assertEqual(complaints, [])
            texts = some_texts(1, 40)
            worst = self.assert_same(
                self.our_probabilities(directory, texts, labels), their_probabilities(model, tokenizer, texts)
            )
            print(
                "\nread theirs, %d classes: largest difference of a probability %.1e" % (len(labels), worst),
                file=sys.stderr,
            )

    def test_we_read_other_kinds(self):
        """With what comes of each head: relu, dropout and tanh, gelu and a norm, and the mean over a text."""
        labels = ["no", "yes", "perhaps"]
        for kind, config in (
            ("DistilBert", {}),
            ("Roberta", {}),
            ("ModernBert", {}),
            ("ModernBert", {"classifier_pooling": "mean"}),
        ):
            with self.subTest(kind=kind, **config):
                directory = self.path(kind + "".join(config))
                make_classifier(directory, labels, kind=kind, **config)
                model, tokenizer, complaints = read_theirs(directory)
                self.assertEqual(complaints, [])
                texts = some_texts(6, 30)
                self.assert_same(
                    self.our_probabilities(directory, texts, labels), their_probabilities(model, tokenizer, texts)
                )

    def test_they_read_our_other_kinds(self):
        """Trained from a masked LM of each kind. config.json has what theirs has, in every key that is in both."""
        labels = ["no", "yes"]
        for kind, more in (("DistilBert", {}), ("Roberta", {}), ("ModernBert", {"classifier_pooling": "mean"})):
            with self.subTest(kind=kind):
                tiny, out = self.path("tiny" + kind), self.path("run" + kind)
                make_tiny_bert.make(tiny, kind=kind, **more)
                if kind == "DistilBert":
                    data = self.make_data(tiny, labels)
                flags = ["--steps", "20", "--lr", "3e-3", "--batch", "16", "--max-len", "40", "--dropout", "0"]
                run(FINETUNE, "--init", tiny, "--data", data, "--out", out, *flags)
                model, tokenizer, complaints = read_theirs(os.path.join(out, "best"))
                self.assertEqual(complaints, [])
                self.assertEqual(type(model).__name__, kind + "ForSequenceClassification")
                self.assertEqual(model.config.id2label, dict(enumerate(labels)))
                configs = []
                for directory in (tiny, os.path.join(out, "best")):
                    with open(os.path.join(directory, "config.json")) as f:
                        configs.append(json.load(f))
                ours = {k: v for k, v in configs[1].items() if k in configs[0]}
                theirs = {k: v for k, v in configs[0].items() if k in ours}
                for key in list(theirs):
                    if "dropout" in key or key in ("architectures", "tie_word_embeddings"):
                        del ours[key], theirs[key]
                self.assertEqual(ours, theirs)
                self.assertGreater(len(ours), 10)
                texts = some_texts(7, 20)
                self.assert_same(
                    self.our_probabilities(out, texts, labels), their_probabilities(model, tokenizer, texts)
                )

    def test_adapters_in_both_directions(self):
        """PeftModel answers with the adapters that we train as we do, and we with those that it saves as it does."""
        labels = ["no", "yes"]
        tiny = self.path("tinyBert")
        make_tiny_bert.make(tiny)
        data = self.make_data(tiny, labels)
        flags = ["--steps", "30", "--lr", "1e-2", "--batch", "16", "--max-len", "40", "--lora-r", "3"]
        texts = some_texts(8, 20)
        for kind in make_tiny_bert.KINDS:
            with self.subTest(kind=kind):
                tiny, out = self.path("tiny" + kind), self.path("run" + kind)
                make_tiny_bert.make(tiny, kind=kind)
                run(FINETUNE, "--init", tiny, "--data", data, "--out", out, *flags)
                best = os.path.join(out, "best")
                base = AutoModelForSequenceClassification.from_pretrained(tiny, config=AutoConfig.from_pretrained(best))
                with Warnings() as log:
                    model = peft.PeftModel.from_pretrained(base, best).eval()
                self.assertEqual([m for m in log.messages if "is deprecated" not in m], [])  # of PEFT by transformers
                tokenizer = AutoTokenizer.from_pretrained(best)
                self.assert_same(
                    self.our_probabilities(out, texts, labels), their_probabilities(model, tokenizer, texts)
                )
                again = self.path("again" + kind)
                with torch.no_grad():  # another one, which differs in adapters and head
                    for name, p in model.named_parameters():
                        if "lora_" in name or "modules_to_save" in name:
                            p.mul_(0.8)
                model.save_pretrained(again)
                model.config.save_pretrained(again)
                self.assert_same(
                    self.our_probabilities(again, texts, labels), their_probabilities(model, tokenizer, texts)
                )

    def test_a_model_whose_labels_have_no_names(self):
        directory = self.path("plain")
        model = make_classifier(directory, ["LABEL_0", "LABEL_1"])
        texts = some_texts(2, 20)
        ours = self.our_probabilities(directory, texts, ["LABEL_0", "LABEL_1"])
        self.assert_same(ours, their_probabilities(model, AutoTokenizer.from_pretrained(directory), texts))

    def test_the_shape_of_minilm(self):
        """12 heads of 32 channels."""
        directory, labels = self.path("minilm"), ["contradiction", "entailment", "neutral"]
        make_classifier(directory, labels, hidden_size=384, num_attention_heads=12, intermediate_size=1536)
        model, tokenizer, _ = read_theirs(directory)
        texts = some_texts(3, 24)
        self.assert_same(self.our_probabilities(directory, texts, labels), their_probabilities(model, tokenizer, texts))

    def test_what_is_too_long_is_cut_as_theirs(self):
        """Longest first. Of two long segments and an odd number of places transformers gives the odd one to the longer,
        we (and Google's BERT) to the first."""
        directory, labels = self.path("long"), ["a", "b"]
        make_classifier(directory, labels)
        model, tokenizer, _ = read_theirs(directory)
        texts = [
            " ".join(["the", "old"] * 40),
            "\t".join([" ".join(["man"] * 60), " ".join(["night", "came"] * 25)]),
            "she\t" + " ".join(["river", "again"] * 40),
            " ".join(["said"] * 70) + "\tvery long",
            "\t".join([" ".join(["house"] * 30), " ".join(["day"] * 20)]),
        ]
        ours = self.our_probabilities(directory, texts + ["never !"], labels)
        theirs = their_probabilities(model, tokenizer, texts + ["never !"], truncation=True, max_length=48)
        self.assertLessEqual((ours - theirs).abs().max().item(), TOLERANCE)
        done = run(FINETUNE, "predict", "--model", directory, *texts)
        self.assertIn("5 texts have more than 48 tokens and were cut", done.stderr)

    def test_they_read_ours(self):
        labels = ["no", "yes", "per haps"]
        tiny = self.path("tiny")
        make_tiny_bert.make(tiny)
        data = self.make_data(tiny, labels)
        out = self.path("run")
        run(
            FINETUNE,
            "--init",
            tiny,
            "--data",
            data,
            "--out",
            out,
            "--steps",
            "30",
            "--lr",
            "3e-3",
            "--batch",
            "16",
            "--max-len",
            "40",
        )
        best = self.path("run", "best")
        model, tokenizer, complaints = read_theirs(best)
        self.assertEqual(complaints, [])
        self.assertEqual(type(model).__name__, "BertForSequenceClassification")
        self.assertEqual(model.config.id2label, dict(enumerate(labels)))
        self.assertEqual(model.config.label2id, {name: k for k, name in enumerate(labels)})
        self.assertEqual(model.config.problem_type, "single_label_classification")
        self.assertEqual(tokenizer.model_max_length, 40)
        texts = some_texts(4, 30)
        worst = self.assert_same(
            self.our_probabilities(out, texts, labels), their_probabilities(model, tokenizer, texts)
        )
        print("\nwe write: largest difference of a probability %.1e" % worst, file=sys.stderr)
        # what the run says of val.bin is what transformers makes of the same texts
        with open(self.path("data", "val.tsv"), newline="") as f:
            rows = list(csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE))
        pairs = [r["text"] + ("\t" + r["text2"] if r["text2"] else "") for r in rows]
        p = their_probabilities(model, tokenizer, pairs)
        gold = torch.tensor([labels.index(r["label"]) for r in rows])
        with open(self.path("run", "results.json")) as f:
            val = json.load(f)["val"]
        self.assertAlmostEqual(val["loss"], -p[range(len(rows)), gold].log().mean().item(), delta=TOLERANCE)
        self.assertAlmostEqual(val["accuracy"], (p.argmax(-1) == gold).float().mean().item(), places=6)
        # and back: what transformers saves after reading ours are our bits
        again = self.path("again")
        shutil.copytree(best, again)
        model.save_pretrained(again)
        for name, tensor in load_file(os.path.join(best, "model.safetensors")).items():
            self.assertTrue(torch.equal(load_file(os.path.join(again, "model.safetensors"))[name], tensor), name)
        self.assertTrue(
            torch.equal(self.our_probabilities(again, texts, labels), self.our_probabilities(out, texts, labels))
        )

    def test_training_goes_on_from_theirs(self):
        theirs, labels = self.path("theirs"), ["bad", "good"]
        make_classifier(theirs, labels, seed=2)
        before = load_file(os.path.join(theirs, "model.safetensors"))

        def train(data, out):
            """A run whose learning rate is so small that the model stays what it was."""
            done = run(
                FINETUNE,
                "--init",
                theirs,
                "--data",
                data,
                "--out",
                self.path(out),
                "--steps",
                "1",
                "--lr",
                "1e-12",
                "--batch",
                "16",
                "--max-len",
                "40",
            )
            return done.stdout, load_file(self.path(out, "last", "model.safetensors"))

        same, after = train(self.make_data(theirs, labels, "same"), "run-same")
        self.assertNotIn("newly initialised", same)
        for name, tensor in before.items():
            self.assertLessEqual((after[name] - tensor).abs().max().item(), 1e-6, name)
        texts = some_texts(5, 20)
        self.assert_same(
            self.our_probabilities(self.path("run-same", "last"), texts, labels),
            self.our_probabilities(theirs, texts, labels),
        )
        for name, others in (("more", ["bad", "fair", "good"]), ("other", ["down", "up"]), ("order", ["good", "bad"])):
            text, after = train(self.make_data(theirs, others, name), "run-" + name)
            if name == "order":
                self.assertIn("the rows of its classifier go with their names", text)
                continue
            self.assertIn("newly initialised: classifier.weight, classifier.bias", text)
            self.assertIn("not used here: classifier.", text)
            self.assertEqual(after["classifier.weight"].shape[0], len(others))
            self.assertLessEqual(
                (after["bert.pooler.dense.weight"] - before["bert.pooler.dense.weight"]).abs().max().item(), 1e-6
            )
            self.assertLess(after["classifier.weight"].std().item(), 0.05)  # N(0, 0.02), where theirs is N(0, 1)

    def test_what_ours_refuses(self):
        """One line on standard error, exit code 1."""
        directory = self.path("base")
        make_classifier(directory, ["a", "b", "c"])
        data = self.make_data(directory, ["a", "b", "c"])
        for changes, part in (
            ({"problem_type": "regression"}, "problem_type"),
            ({"problem_type": "multi_label_classification"}, "problem_type"),
            ({"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}, "regression"),
            ({"id2label": {"0": "a", "2": "b"}}, "id2label"),
            ({"id2label": {"0": "a", "1": "a", "2": "b"}}, "id2label"),
            ({"id2label": {"0": "a", "1": "b"}}, "classifier.weight"),
        ):
            bad = self.path("bad")
            shutil.rmtree(bad, ignore_errors=True)
            shutil.copytree(directory, bad)
            with open(os.path.join(bad, "config.json")) as f:
                values = json.load(f)
            with open(os.path.join(bad, "config.json"), "w") as f:
                json.dump({**values, **changes}, f)
            self.assert_refused(part, FINETUNE, "predict", "--model", bad, "the old man")
            self.assert_refused(part, FINETUNE, "eval", "--model", bad, "--data", os.path.join(data, "val.tsv"))
            if part != "classifier.weight":  # training makes a new classifier where the labels differ
                self.assert_refused(
                    part, FINETUNE, "--init", bad, "--data", data, "--out", self.path("out"), "--steps", "1"
                )
        encoder = self.path("encoder")
        make_tiny_bert.make(encoder)
        self.assert_refused("fine-tune it first", FINETUNE, "predict", "--model", encoder, "the old man")

    def test_byte_level(self):
        """RoBERTa and ModernBERT with byte-level BPE: pairs as theirs, also where the data are packed"""
        labels = ["no", "yes", "perhaps"]
        for kind in make_tiny_bert.BYTE_KINDS:
            with self.subTest(kind=kind):
                directory = self.path(kind)
                make_classifier(directory, labels, seed=3, kind=kind, byte_level=True)
                model, tokenizer, complaints = read_theirs(directory)
                self.assertEqual(complaints, [])
                texts = some_texts(8, 30) + ["a %s b\tc" % tokenizer.mask_token]
                expected = their_probabilities(model, tokenizer, texts)
                self.assert_same(self.our_probabilities(directory, texts, labels), expected)
                data, out = self.make_data(directory, labels, "data " + kind), self.path("run " + kind)
                run(FINETUNE, "--init", directory, "--data", data, "--out", out, "--epochs", "1", "--lr", "1e-5")
                model, tokenizer, complaints = read_theirs(os.path.join(out, "best"))
                self.assertEqual(complaints, [])
                expected = their_probabilities(model, tokenizer, texts)
                self.assert_same(self.our_probabilities(os.path.join(out, "best"), texts, labels), expected)

    def test_figures_are_those_of_scikit_learn(self):
        """Random models asked about texts with random labels; with K > 2 class 0 is never right, and class 1 never
        predicted."""
        for K in (2, 3, 7):
            labels = ["class%d" % k for k in range(K)]
            directory, file, out = self.path("model%d" % K), self.path("set%d.tsv" % K), self.path("out%d" % K)
            make_classifier(directory, labels, seed=K, bias=[0.0] * K if K == 2 else [0.0, -100.0] + [0.0] * (K - 2))
            rng = random.Random(K)
            with open(file, "w") as f:
                f.write("text\ttext2\tlabel\n")
                for text in some_texts(K, 300):
                    f.write(
                        "%s%s\t%s\n" % (text, "" if "\t" in text else "\t", rng.choice(labels[1 if K > 2 else 0 :]))
                    )
            ours = json.loads(
                run(FINETUNE, "eval", "--model", directory, "--data", file, "--out", out, "--json").stdout
            )
            with open(os.path.join(out, "predictions.tsv"), newline="") as f:
                rows = list(csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE))
            gold, predicted = [r["gold"] for r in rows], [r["prediction"] for r in rows]
            self.assertEqual(len(rows), 300)
            self.assertGreater(len(set(predicted)), 1)
            if K > 2:
                self.assertNotIn("class0", gold)
                self.assertNotIn("class1", predicted)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                precision, recall, f1, n = metrics.precision_recall_fscore_support(
                    gold, predicted, labels=labels, zero_division=0
                )
            self.assertEqual(ours["confusion"], metrics.confusion_matrix(gold, predicted, labels=labels).tolist())
            self.assertAlmostEqual(ours["accuracy"], metrics.accuracy_score(gold, predicted), places=12)
            self.assertAlmostEqual(
                ours["macro_f1"],
                metrics.f1_score(gold, predicted, labels=labels, average="macro", zero_division=0),
                places=12,
            )
            self.assertAlmostEqual(ours["mcc"], metrics.matthews_corrcoef(gold, predicted), places=12)
            for k, name in enumerate(labels):
                c = ours["classes"][name]
                self.assertEqual(c["n"], n[k])
                for key, value in (("precision", precision[k]), ("recall", recall[k]), ("f1", f1[k])):
                    self.assertAlmostEqual(c[key], value, places=12)
            # the mean loss, of probabilities with six digits
            p = [[float(r["p(%s)" % name]) for name in labels] for r in rows]
            if min(row[labels.index(g)] for row, g in zip(p, gold)) > 1e-3:
                self.assertAlmostEqual(ours["loss"], metrics.log_loss(gold, p, labels=labels), places=3)
            # Wilson's interval as statsmodels' proportion_confint(..., method="wilson") works it out
            share, count, z = ours["accuracy"], 300, 1.959963984540054
            centre, half = (
                (share + z * z / (2 * count)) / (1 + z * z / count),
                z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count),
            )
            for x, y in zip(ours["interval"], (centre - half, centre + half)):
                self.assertAlmostEqual(x, y, places=12)


if __name__ == "__main__":
    unittest.main(verbosity=2)
