#!/usr/bin/env python3
"""Makes test/fixtures/*.safetensors: what PyTorch + transformers compute, for our tests to compare with.

    python3 -m venv .venv && .venv/bin/pip install -r dev/requirements.txt && .venv/bin/python dev/fixtures.py

Everything is computed in float64 and stored as float32 (a relative error of at most 6e-8); the parameters are rounded
to float32 before, so that they are exact. All the files hold these tensors, in our packed form:

    tokens (N) types (N) seq_start (S+1)   I32   sequence s is tokens[seq_start[s] .. seq_start[s+1])
    rows (M) targets (M)                   I32   the rows of the N that have a target, ascending
    logits (M, V)   loss (1)               F32   loss: the mean over the M targets
    param/NAME  grad/NAME                  F32   before; gradient of the loss, not clipped
    after/NAME                             F32   after three AdamW steps on this batch, each with a fresh gradient,
                                                 clipped
    base/NAME                              F32   lora_lm: the frozen parameters
    given/NAME                             F32   bert_mlm, some parameters: after three AdamW steps, each of which is
                                                 given grad/*, clipped
    class_weights (K)                      F32   *_classifier: loss is CrossEntropyLoss(class_weights), Σ w l / Σ w;
                                                 logits are (M, K)
"""

import argparse
import json
import os
import sys
import types

import peft
import safetensors.torch
import torch
import transformers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    ModernBertForSequenceClassification,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)
from transformers.models.modernbert import modeling_modernbert

OPTIMISER = dict(lr=1e-3, betas=(0.9, 0.98), eps=1e-6)
DECAY, CLIP, STEPS = 0.01, 1.0, 3
GIVEN = (
    "embeddings.token_type_embeddings.weight",
    "layer.1.attention.output.dense.weight",
    "layer.0.attention.self.query.bias",
    "layer.0.output.LayerNorm.weight",
    "cls.predictions.bias",
)


def init(model, generator):
    """No two weights alike: N(0, 0.15), weights of norms around 1; rounded to float32."""
    for name, p in model.named_parameters():
        x = torch.randn(p.shape, generator=generator, dtype=torch.float64) * 0.15
        if name.endswith(("LayerNorm.weight", "ln_1.weight", "ln_2.weight", "ln_f.weight", "norm.weight")):
            x += 1
        with torch.no_grad():
            p.copy_(x.float().double())


def describe_optimiser(options, decay):
    return f"AdamW {options}, decay {decay} on matrices and embeddings, clip_grad_norm_ {CLIP}, {STEPS} steps"


def adamw_three_steps(model, gradient, options=OPTIMISER, decay=DECAY):
    """gradient(): fills .grad. Decay on matrices and embeddings only."""
    named = trained(model)
    groups = [
        dict(params=[p for n, p in named if p.ndim >= 2], weight_decay=decay),
        dict(params=[p for n, p in named if p.ndim < 2], weight_decay=0.0),
    ]
    optimiser = torch.optim.AdamW(groups, **options)
    for _ in range(STEPS):
        gradient()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
    return {n: p.detach().clone() for n, p in named}


def trained(model):
    """(name in a checkpoint, parameter) of those that are trained; PEFT's names hold the name of the adapter besides"""
    return [(n.replace(".default.", "."), p) for n, p in model.named_parameters() if p.requires_grad]


def training(model, fresh_gradient, optimiser, decay):
    """(the tensors param/, grad/ and after/, the norm of the gradient) of a model that has a fresh gradient"""
    before = {n: p.detach().clone() for n, p in trained(model)}
    grads = {n: p.grad.clone() for n, p in trained(model)}
    norm = torch.sqrt(sum((g**2).sum() for g in grads.values())).item()
    after = adamw_three_steps(model, fresh_gradient, optimiser, decay)
    found = {}
    for kind, values in (("param", before), ("grad", grads), ("after", after)):
        found |= {f"{kind}/{n}": x for n, x in values.items()}
    return found, norm


def bert_mlm():
    config = BertConfig(
        vocab_size=61,
        max_position_embeddings=32,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        type_vocab_size=2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        hidden_act="gelu",
        layer_norm_eps=1e-12,
        attn_implementation="eager",
    )
    model = "BertForMaskedLM L=2 C=64 NH=2 FF=128 V=61 maxT=32 types=2 eps=1e-12 gelu (erf), dropout 0"
    return encoder(config, BertForMaskedLM, 2, model, GIVEN)


def encoder(config, model_class, seed, description, given_names=()):
    """given_names: of the parameters of given/"""
    vocab, max_len, lengths, pad = 61, 32, [1, 5, 17, 32], config.pad_token_id
    generator = torch.Generator().manual_seed(seed)
    model = model_class(config).double().train()
    init(model, generator)
    has_types = getattr(config, "type_vocab_size", 1) > 1
    more = {}

    # A ragged batch: padded for PyTorch, packed for us. Type 1 from a third of a sequence on; about a third of the rows
    # have targets.
    padded = torch.full((len(lengths), max_len), pad)
    types, mask, labels = torch.zeros_like(padded), torch.zeros_like(padded), torch.full_like(padded, -100)
    for s, n in enumerate(lengths):
        # not the padding's: that is transformers' padding_idx, whose gradient PyTorch drops
        padded[s, :n] = torch.randint(pad + 1, vocab, (n,), generator=generator)
        types[s, (n + 2) // 3 : n] = has_types
        mask[s, :n] = 1
        chosen = torch.randperm(n, generator=generator)[: max(1, n // 3)]
        labels[s, chosen] = torch.randint(vocab, (len(chosen),), generator=generator)
    if has_types:
        more["token_type_ids"] = types
    real = mask.bool()
    packed_labels = labels[real]
    rows = (packed_labels >= 0).nonzero().flatten()

    def forward():
        out = model(input_ids=padded, attention_mask=mask, labels=labels, **more)
        logits = out.logits[real][rows]
        return logits, torch.nn.functional.cross_entropy(logits, packed_labels[rows]), out.loss

    def fresh_gradient():
        model.zero_grad()
        forward()[1].backward()

    in_float = forward()[0].detach()
    all_in_double(model)
    fresh_gradient()
    logits, loss, theirs = forward()
    assert abs(loss.item() - theirs.item()) < 1e-6, (loss, theirs)  # theirs may be computed in float32
    assert (logits - in_float).norm() < 1e-5 * logits.norm(), (logits - in_float).norm()
    tensors = {
        "tokens": padded[real],
        "types": types[real],
        "seq_start": torch.tensor([0] + lengths).cumsum(0),
        "rows": rows,
        "targets": packed_labels[rows],
        "logits": logits.detach(),
        "loss": loss.detach().reshape(1),
    }
    trained, norm = training(model, fresh_gradient, OPTIMISER, DECAY)
    tensors |= trained

    def given_gradient():
        for n, p in model.named_parameters():
            p.grad = trained[f"grad/{n}"].float().double()

    with torch.no_grad():
        for n, p in model.named_parameters():
            p.copy_(trained[f"param/{n}"])
    if given_names:
        given = adamw_three_steps(model, given_gradient)
        given = {f"given/{n}": x for n, x in given.items() if n.endswith(given_names)}
        assert len(given) == len(given_names)
        tensors |= given
    facts = {
        "model": description,
        "optimiser": describe_optimiser(OPTIMISER, DECAY),
        "grad_norm": repr(norm),
        "loss": repr(loss.item()),
        "config": config.to_json_string(),
    }
    return tensors, facts


def distilbert_mlm():
    """No types."""
    config = DistilBertConfig(
        vocab_size=61,
        max_position_embeddings=32,
        dim=64,
        n_layers=2,
        n_heads=2,
        hidden_dim=48,
        dropout=0.0,
        attention_dropout=0.0,
        attn_implementation="eager",
    )
    return encoder(config, DistilBertForMaskedLM, 10, "DistilBertForMaskedLM")


def roberta_mlm():
    """One type, and positions that begin behind the padding's."""
    config = RobertaConfig(
        vocab_size=61,
        max_position_embeddings=34,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        layer_norm_eps=1e-5,
        attn_implementation="eager",
    )
    return encoder(config, RobertaForMaskedLM, 11, "RobertaForMaskedLM")


def modernbert_mlm():
    """Layers 0 and 2 see everything, layer 1 four tokens to each side, of sequences of up to 32."""
    config = ModernBertConfig(
        vocab_size=61,
        max_position_embeddings=32,
        hidden_size=64,
        num_hidden_layers=3,
        global_attn_every_n_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        local_attention=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
        global_rope_theta=1000.0,
        local_rope_theta=100.0,
        attn_implementation="sdpa",
    )
    return encoder(config, ModernBertForMaskedLM, 12, "ModernBertForMaskedLM")


def classifier(config, model_class, seed, description):
    """Single texts and pairs, three classes with weights; the optimiser with finetune_cls's defaults."""
    vocab, max_len, lengths, weights = 37, 16, [3, 16, 7, 12, 1, 16, 5, 9], [1.0, 0.25, 3.0]
    optimiser = dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-8)
    generator = torch.Generator().manual_seed(seed)
    model = model_class(config).double().train()
    init(model, generator)
    has_types, pad = getattr(config, "type_vocab_size", 1) > 1, config.pad_token_id
    padded = torch.full((len(lengths), max_len), pad)
    types, mask = torch.zeros_like(padded), torch.zeros_like(padded)
    for s, n in enumerate(lengths):
        padded[s, :n] = torch.randint(pad + 1, vocab, (n,), generator=generator)
        types[s, (n + 2) // 3 : n] = has_types and s % 2  # every second one is a pair
        mask[s, :n] = 1
    more = {"token_type_ids": types} if has_types else {}
    labels = torch.tensor([0, 1, 2, 1, 0, 2, 2, 1])
    real = mask.bool()
    weight = torch.tensor(weights, dtype=torch.float64)

    def forward():
        logits = model(input_ids=padded, attention_mask=mask, **more).logits
        return logits, torch.nn.CrossEntropyLoss(weight)(logits, labels)

    def fresh_gradient():
        model.zero_grad()
        forward()[1].backward()

    in_float = forward()[0].detach()
    all_in_double(model)
    fresh_gradient()
    logits, loss = forward()
    assert (logits - in_float).norm() < 1e-5 * logits.norm(), (logits - in_float).norm()
    start = torch.tensor([0] + lengths).cumsum(0)
    tensors = {
        "tokens": padded[real],
        "types": types[real],
        "seq_start": start,
        "rows": start[:-1],
        "targets": labels,
        "class_weights": weight,
        "logits": logits.detach(),
        "loss": loss.detach().reshape(1),
    }
    trained, norm = training(model, fresh_gradient, optimiser, DECAY)
    tensors |= trained
    facts = {
        "model": description,
        "optimiser": describe_optimiser(optimiser, DECAY),
        "grad_norm": repr(norm),
        "loss": repr(loss.item()),
        "config": config.to_json_string(),
    }
    return tensors, facts


def bert_classifier():
    config = BertConfig(
        vocab_size=37,
        max_position_embeddings=16,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=1,
        intermediate_size=48,
        type_vocab_size=2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        hidden_act="gelu",
        layer_norm_eps=1e-12,
        attn_implementation="eager",
        num_labels=3,
    )
    return classifier(config, BertForSequenceClassification, 3, "BertForSequenceClassification")


def distilbert_classifier():
    config = DistilBertConfig(
        vocab_size=37,
        max_position_embeddings=16,
        dim=32,
        n_layers=2,
        n_heads=1,
        hidden_dim=48,
        dropout=0.0,
        attention_dropout=0.0,
        seq_classif_dropout=0.0,
        attn_implementation="eager",
        num_labels=3,
    )
    return classifier(config, DistilBertForSequenceClassification, 13, "DistilBertForSequenceClassification")


def roberta_classifier():
    config = RobertaConfig(
        vocab_size=37,
        max_position_embeddings=18,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=1,
        intermediate_size=48,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        layer_norm_eps=1e-5,
        attn_implementation="eager",
        num_labels=3,
    )
    return classifier(config, RobertaForSequenceClassification, 14, "RobertaForSequenceClassification")


def modernbert_classifier(pooling="cls", seed=15):
    config = ModernBertConfig(
        vocab_size=37,
        max_position_embeddings=16,
        hidden_size=32,
        num_hidden_layers=2,
        global_attn_every_n_layers=2,
        num_attention_heads=1,
        intermediate_size=24,
        local_attention=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
        classifier_pooling=pooling,
        attn_implementation="sdpa",
        num_labels=3,
    )
    return classifier(config, ModernBertForSequenceClassification, seed, "ModernBertForSequenceClassification")


def modernbert_mean_classifier():
    """Pooling by the mean over a text."""
    return modernbert_classifier("mean", 16)


def decoder(config, model_class, seed, description, lora=None):
    """lora: a LoraConfig of PEFT's; then its adapters are what is trained, and base/NAME are the model's parameters.

    A ragged batch, as bert_mlm; labels are shifted by transformers itself, so that row i of a sequence predicts its
    token i + 1."""
    vocab, max_len, lengths, decay = 61, 32, [1, 5, 17, 32], 0.1
    optimiser = dict(lr=1e-3, betas=(0.9, 0.95), eps=1e-8)
    generator = torch.Generator().manual_seed(seed)
    model = model_class(config).double().train()
    init(model, generator)
    base = {}
    if lora:
        base = {f"base/{n}": p.detach().clone() for n, p in model.named_parameters()}
        model = peft.get_peft_model(model, lora).double().train()
        with torch.no_grad():
            for _, p in trained(model):
                p.copy_((torch.randn(p.shape, generator=generator, dtype=torch.float64) * 0.3).float().double())
    padded = torch.zeros(len(lengths), max_len, dtype=torch.long)
    mask, labels = torch.zeros_like(padded), torch.full_like(padded, -100)
    for s, n in enumerate(lengths):
        padded[s, :n] = torch.randint(vocab, (n,), generator=generator)
        mask[s, :n] = 1
        if n > 1:  # about half of the tokens that follow another one
            chosen = 1 + torch.randperm(n - 1, generator=generator)[: max(1, n // 2)]
            labels[s, chosen] = padded[s, chosen]
    real = mask.bool()
    shifted = torch.full_like(labels, -100)
    shifted[:, :-1] = labels[:, 1:]
    targets = shifted[real]
    rows = (targets >= 0).nonzero().flatten()

    def forward():
        out = model(input_ids=padded, attention_mask=mask, labels=labels)
        logits = out.logits[real][rows]
        return logits, torch.nn.functional.cross_entropy(logits, targets[rows]), out.loss

    def fresh_gradient():
        model.zero_grad()
        forward()[1].backward()

    in_float = forward()[0].detach()
    all_in_double(model)
    fresh_gradient()
    logits, loss, theirs = forward()
    assert abs(loss.item() - theirs.item()) < 1e-6, (loss, theirs)  # theirs is computed in float32
    assert (logits - in_float).norm() < 1e-5 * logits.norm(), (logits - in_float).norm()
    tensors = {
        "tokens": padded[real],
        "types": torch.zeros_like(padded[real]),
        "seq_start": torch.tensor([0] + lengths).cumsum(0),
        "rows": rows,
        "targets": targets[rows],
        "logits": logits.detach(),
        "loss": loss.detach().reshape(1),
    }
    found, norm = training(model, fresh_gradient, optimiser, decay)
    tensors |= found | base
    facts = {
        "model": description,
        "optimiser": describe_optimiser(optimiser, decay),
        "grad_norm": repr(norm),
        "loss": repr(loss.item()),
        "config": config.to_json_string(),
    }
    return tensors, facts


def all_in_double(model):
    """transformers computes RMSNorm and the angles of RoPE in float32 even in a model of doubles. Here they are
    computed in double, so that 1e-6 can be asked for; the inverse frequencies are theirs, float32. So are ModernBERT's,
    one list of them for each kind of layers, and its rotation of queries and keys."""

    def rms_norm(self, x):
        return self.weight * (x * torch.rsqrt((x**2).mean(-1, keepdim=True) + self.variance_epsilon))

    def rotary(self, x, position_ids):
        angles = position_ids[..., None].double() * frequencies
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos() * self.attention_scaling, angles.sin() * self.attention_scaling

    def modern_rotary(self, x, position_ids, layer_type):
        angles = position_ids[..., None].double() * getattr(self, f"{layer_type}_inv_freq").double()
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos(), angles.sin()

    def rotated(q, k, cos, sin, unsqueeze_dim=1):
        cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
        return [x * cos + modeling_modernbert.rotate_half(x) * sin for x in (q, k)]

    modeling_modernbert.apply_rotary_pos_emb = rotated
    for module in model.modules():
        if type(module).__name__ == "ModernBertRotaryEmbedding":
            module.forward = types.MethodType(modern_rotary, module)
            continue
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = types.MethodType(rms_norm, module)
        if type(module).__name__.endswith("RotaryEmbedding"):
            frequencies = module.inv_freq.double()
            module.forward = types.MethodType(rotary, module)


def gpt2_lm():
    config = GPT2Config(
        vocab_size=61,
        n_positions=32,
        n_embd=64,
        n_layer=2,
        n_head=2,
        n_inner=128,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        activation_function="gelu_new",
        layer_norm_epsilon=1e-5,
        bos_token_id=60,
        eos_token_id=60,
        attn_implementation="eager",
    )
    description = "GPT2LMHeadModel L=2 C=64 NH=2 FF=128 V=61 maxT=32 eps=1e-5 gelu (tanh), dropout 0"
    return decoder(config, GPT2LMHeadModel, 4, description)


# What Llama and its relatives have in common here
LLAMA = dict(
    vocab_size=61,
    max_position_embeddings=32,
    num_hidden_layers=2,
    rms_norm_eps=1e-5,
    bos_token_id=60,
    eos_token_id=60,
    pad_token_id=None,
    attn_implementation="eager",
)


def llama_lm():
    """Groups of two heads of 32 channels, wider together than the model; "llama3" scaling, of whose three ranges of
    frequencies each has some; an output matrix of its own."""
    scaling = dict(
        rope_type="llama3",
        rope_theta=10000.0,
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=64,
    )
    config = LlamaConfig(
        hidden_size=24,
        intermediate_size=40,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        rope_parameters=scaling,
        tie_word_embeddings=False,
        **LLAMA | dict(max_position_embeddings=512),
    )
    return decoder(config, LlamaForCausalLM, 5, "LlamaForCausalLM, llama3 scaling, untied")


def qwen2_lm():
    """Biases of q, k and v. A small theta, so that every channel turns: where none does, the bias of the keys adds the
    same to all scores of a query and has no gradient but rounding, which AdamW would blow up."""
    config = Qwen2Config(
        hidden_size=64,
        intermediate_size=24,
        num_attention_heads=2,
        num_key_value_heads=1,
        rope_parameters=dict(rope_type="default", rope_theta=100.0),
        tie_word_embeddings=True,
        **LLAMA | dict(num_hidden_layers=1),
    )
    return decoder(config, Qwen2ForCausalLM, 6, "Qwen2ForCausalLM, biases of q, k and v")


def qwen3_lm():
    """RMSNorm on each head of q and k."""
    config = Qwen3Config(
        hidden_size=24,
        intermediate_size=40,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        rope_parameters=dict(rope_type="default", rope_theta=1e6),
        tie_word_embeddings=True,
        **LLAMA,
    )
    return decoder(config, Qwen3ForCausalLM, 7, "Qwen3ForCausalLM, RMSNorm on each head of q and k")


def smollm3_lm():
    """A layer without RoPE between two that have it; three heads share keys and values."""
    config = SmolLM3Config(
        hidden_size=24,
        intermediate_size=24,
        num_attention_heads=3,
        num_key_value_heads=1,
        head_dim=32,
        no_rope_layers=[1, 0, 1],
        rope_parameters=dict(rope_type="default", rope_theta=5e6),
        tie_word_embeddings=True,
        **LLAMA | dict(num_hidden_layers=3),
    )
    return decoder(config, SmolLM3ForCausalLM, 8, "SmolLM3ForCausalLM, layer 1 without RoPE")


def lora_lm():
    """Adapters of PEFT's on a Qwen2, on all matrices of its layers but two."""
    config = Qwen2Config(
        hidden_size=16,
        intermediate_size=24,
        num_attention_heads=2,
        num_key_value_heads=1,
        rope_parameters=dict(rope_type="default", rope_theta=100.0),
        tie_word_embeddings=True,
        **LLAMA,
    )
    names = ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"]
    lora = peft.LoraConfig(r=3, lora_alpha=7, lora_dropout=0.0, target_modules=names)
    return decoder(config, Qwen2ForCausalLM, 9, "Qwen2ForCausalLM with adapters of rank 3, alpha 7", lora)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--out", default=os.path.join(here, "..", "test", "fixtures"))
    args.add_argument("--only", default="", help="make only the file of this name")
    args = args.parse_args()
    out = args.out
    os.makedirs(out, exist_ok=True)
    torch.set_num_threads(1)
    for make in (
        bert_mlm,
        distilbert_mlm,
        roberta_mlm,
        modernbert_mlm,
        bert_classifier,
        distilbert_classifier,
        roberta_classifier,
        modernbert_classifier,
        modernbert_mean_classifier,
        gpt2_lm,
        llama_lm,
        qwen2_lm,
        qwen3_lm,
        smollm3_lm,
        lora_lm,
    ):
        name = make.__name__
        if args.only not in ("", name):
            continue
        tensors, facts = make()
        tensors = {n: (x.float() if x.is_floating_point() else x.int()).contiguous() for n, x in tensors.items()}
        facts |= {"made_by": "dev/fixtures.py", "torch": torch.__version__, "transformers": transformers.__version__}
        path = os.path.join(out, name + ".safetensors")
        about = {"about": json.dumps(facts)}  # one key: the library shuffles several
        safetensors.torch.save_file(tensors, path, metadata=about)
        size = f"{len(tensors)} tensors, {os.path.getsize(path)} bytes"
        print(f"{os.path.relpath(path)}: {size}, loss {facts['loss']}, norm {facts['grad_norm']}")
        if os.path.getsize(path) >= 1_000_000:
            sys.exit(f"{path}: expected less than 1 MB, so that it can be committed")


if __name__ == "__main__":
    main()
