#!/usr/bin/env bash
# Proves and measures the GPU build on one GPU, without a network: everything it needs is in the repository, in .deps/
# (make deps) or made by it.
#
#   dev/gpu_check.sh OUT                     all stages, half an hour; writes OUT/GPU.json and OUT/GPU.md, named for
#                                            the GPU
#   dev/gpu_check.sh OUT --only STAGE        build | kernels | models | sanitize | bench, each under nine minutes; adds
#                                            its part to what OUT has
#   dev/gpu_check.sh OUT --only bench --step "train sft"      one step of a stage
#   dev/gpu_check.sh OUT --dry-run           every step with tiny sizes on the shim: proves this command, not the GPU
#
# Benchmarks need a Python with torch and transformers (PYTHON=..., .venv, or python3). Exit code: 0 all passed, 1 not
# all, 2 no GPU or wrong usage.
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ " $* " != *" --dry-run "* && " $* " != *" --help "* ]] && ! nvidia-smi -L 2>/dev/null | grep ^GPU >/dev/null; then
    echo "gpu-check: expected a GPU, found none (nvidia-smi): nothing was run; --dry-run tries it on the CPU" >&2
    exit 2
fi
python=${PYTHON:-}
for p in .venv/bin/python python3; do
    if [ -z "$python" ] && "$p" -c "import torch, transformers" 2>/dev/null; then python=$p; fi
done
exec "${python:-python3}" dev/gpu_check.py "$@"
