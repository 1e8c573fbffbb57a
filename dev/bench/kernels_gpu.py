"""PyTorch's time for each kernel that our programs timed: reads their JSON lines, adds "pytorch_us" to each, and writes
them again.

    build/gpu-bf16/bench_kernels | python3 dev/bench/kernels_gpu.py
    build/gpu-bf16/bench_attention | python3 dev/bench/kernels_gpu.py
    python3 dev/bench/kernels_gpu.py --peak
        # TFLOP/s of a large bf16 product, TB/s of a large copy: what the rest is compared with

The same shapes in bf16, random inputs, medians of 20 launches by CUDA events (--dry-run: once, on the CPU, which means
nothing). Attention by the flash and cuDNN backends of scaled_dot_product_attention, sequences of one length as a batch;
LayerNorm and cross-entropy by torch.compile; the products by torch.nn.functional.linear and matmul (cuBLASLt picks by
its heuristic); AdamW fused, on fp32 parameters (it has no bf16 copy to write).
"""

import argparse
import json
import statistics
import sys
import time

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    torch = None

DEVICE = "cuda" if torch and torch.cuda.is_available() else "cpu"
TIMES = 20 if DEVICE == "cuda" else 1


def median_us(f):
    if DEVICE == "cpu":
        begin = time.perf_counter()
        f()
        return (time.perf_counter() - begin) * 1e6
    for _ in range(5):
        f()
    us = []
    for _ in range(TIMES):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        f()
        end.record()
        end.synchronize()
        us.append(begin.elapsed_time(end) * 1e3)
    return statistics.median(us)


def randn(*shape, grad=False, dtype="bfloat16"):
    return torch.randn(*shape, device=DEVICE, dtype=getattr(torch, dtype)).requires_grad_(grad)


def compiled(f):
    return torch.compile(f) if DEVICE == "cuda" else f


def forward_and_backward(f, inputs, dout):
    """(forward, backward) of f(*inputs); the forward pass keeps what the backward one needs, as ours does"""
    forward = median_us(lambda: f(*inputs))
    out = f(*inputs)
    return forward, median_us(lambda: torch.autograd.grad(out, inputs, dout, retain_graph=True))


def attention(row):
    """{"flash": (forward, backward), "cudnn": ...}; a backend that refuses says why"""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    B, T, NH, HS = row["N"] // row["T"], row["T"], row["NH"], row["HS"]
    qkv = [randn(B, T, NH, HS).transpose(1, 2).requires_grad_() for _ in range(3)]
    dout = randn(B, T, NH, HS).transpose(1, 2)
    result = {}
    for name, backend in (
        (("flash", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION))
        if DEVICE == "cuda"
        else (("cpu", SDPBackend.MATH),)
    ):
        try:
            with sdpa_kernel(backend):
                result[name] = forward_and_backward(
                    lambda q, k, v: F.scaled_dot_product_attention(
                        q, k, v, dropout_p=row["dropout"], is_causal=row["causal"]
                    ),
                    qkv,
                    dout,
                )
        except RuntimeError as e:
            result[name] = "not run: " + str(e).strip().splitlines()[0][:200]
    return result


def norm(kernel, shape):
    N, C = map(int, shape.split(" x "))
    x, branch, w, b = randn(N, C, grad=True), randn(N, C, grad=True), randn(C, grad=True), randn(C, grad=True)
    f = compiled(lambda x, branch, w, b: F.layer_norm(x + branch, (C,), w, b))
    return forward_and_backward(f, (x, branch, w, b), randn(N, C))[kernel.endswith("backward")]


def crossentropy(shape):
    N, V = map(int, shape.split(" x "))
    logits, targets = randn(N, V, grad=True), torch.randint(0, V, (N,), device=DEVICE)
    f = compiled(lambda logits, targets: F.cross_entropy(logits.float(), targets, reduction="sum"))
    return median_us(lambda: torch.autograd.grad(f(logits, targets), logits))


def adamw(kernel, shape):
    p = randn(int(shape), dtype="float32").requires_grad_()
    p.grad = randn(int(shape), dtype="float32")
    if kernel == "gradient norm":
        return median_us(lambda: torch.nn.utils.get_total_norm([p.grad]))
    return median_us(torch.optim.AdamW([p], lr=1e-6, weight_decay=0.1, fused=True).step)


def product(kernel, shape):
    rows, OC = shape.split(" -> ")
    (N, C), OC = map(int, rows.split(" x ")), int(OC)
    inp, w, b, dout = randn(N, C), randn(OC, C), randn(OC), randn(N, OC)
    if kernel.endswith("forward"):
        if " fc " in kernel:
            f = compiled(
                lambda x: F.gelu(F.linear(x, w, b), approximate="tanh" if kernel.startswith("GPT") else "none")
            )
            return median_us(lambda: f(inp))
        return median_us(lambda: F.linear(inp, w, None if kernel == "GPT-2 vocabulary forward" else b))
    if kernel.endswith("input"):
        return median_us(lambda: dout @ w)
    return median_us(lambda: dout.t() @ inp)


def one(row):
    if "T" in row:
        return attention(row)
    kernel, shape = row["kernel"], row["shape"]
    if kernel.startswith("layernorm"):
        return norm(kernel, shape)
    if kernel.startswith("cross-entropy"):
        return crossentropy(shape)
    if kernel in ("AdamW", "gradient norm"):
        return adamw(kernel, shape)
    return product(kernel, shape)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--peak", action="store_true")
    p.add_argument("--dry-run", action="store_true", help="on the CPU, once")
    a = p.parse_args()
    if torch is None and a.peak:
        sys.exit("error: expected PyTorch, found none")
    if torch and DEVICE == "cpu" and not a.dry_run:
        sys.exit("error: expected a GPU that PyTorch sees, found none: --dry-run goes through the motions on the CPU")
    if a.peak:
        n, m = (8192, 1 << 30) if DEVICE == "cuda" else (64, 1 << 12)
        x, y, big = randn(n, n), randn(n, n), randn(m)
        print(
            json.dumps(
                {"tflops": 2 * n**3 / median_us(lambda: x @ y) * 1e-6, "tb_s": 4 * m / median_us(big.clone) * 1e-6}
            )
        )
        return
    for line in sys.stdin:
        row = json.loads(line)
        try:
            row["pytorch_us"] = one(row) if torch else "not run: there is no PyTorch"
        except RuntimeError as e:
            row["pytorch_us"] = "not run: " + str(e).strip().splitlines()[0][:200]
        print(json.dumps(row), flush=True)
        if torch:
            torch.compiler.reset()


if __name__ == "__main__":
    main()
