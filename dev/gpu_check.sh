#!/usr/bin/env bash
# Proof and measurement on a GPU, in one command that needs no network:
#
#   dev/gpu_check.sh OUT                     everything; OUT/NVIDIA_H200.json and OUT/NVIDIA_H200.md (the GPU's name), and a log of each stage
#   dev/gpu_check.sh OUT --only bench        one stage: build, kernels, models, sanitize or bench; it adds its part to the result
#   dev/gpu_check.sh OUT --dry-run           the same steps with tiny sizes on the CPU, the kernels on the shim: is the command itself sound?
#
# What it needs: nvcc, the libraries of dev/setup.sh (or their copy in .deps/, by make deps), for sanitize compute-sanitizer, for bench a Python with
# torch and transformers (PYTHON=..., else .venv/bin/python, else python3). Where there is no GPU it says so and exits 2.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${PYTHON:-}" ]; then PYTHON=python3; if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi; fi
exec "$PYTHON" dev/gpu_check.py "$@"
