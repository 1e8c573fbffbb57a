#!/bin/bash
# SST-2 from nothing: 4 layers of 256 channels learn English from raw text by masked LM, then sentiment from labels.
# Takes less than 90 minutes on two cores.
#
#   bash dev/recipes/sst2.sh TEXT LABELS OUT
#
# TEXT    a folder with books_simple.txt.xz and books_fiction.txt.xz (novels, <|endoftext|> between them),
#         imdb_unsup_slice.txt.xz (film reviews without labels), rocstories_from_superni.txt.xz (a five-sentence story a
#         line). With a network, data/books.py and data/imdb.py --unlabelled make such text.
# LABELS  what data/sst2.py --from takes: train.tsv, dev.tsv and the labelled test.tsv of SST-2
# OUT     everything that is made
#
# What matters, the most important first: short sequences first (a model with learned positions that begins with long
# ones stays on a plateau for millions of tokens); text of the domain at the end (film reviews, and the sentences of
# SST-2's training part without their labels: Gururangan et al. 2020); a mask rate of 0.2 (more to learn from each
# token).
set -euo pipefail
[ $# = 3 ] || { sed -n '2,16p' "$0" | cut -c3-; exit 2; }
TEXT=$1 LABELS=$2 OUT=$3
cd "$(dirname "$0")/../.."
mkdir -p "$OUT/text"
for name in books_simple books_fiction imdb_unsup_slice; do xz -dc "$TEXT/$name.txt.xz" > "$OUT/text/$name.txt"; done
# a line is a document
xz -dc "$TEXT/rocstories_from_superni.txt.xz" | sed 's/$/\n<|endoftext|>/' > "$OUT/text/stories.txt"

# 1. English: all of the text.
data/text.py "$OUT"/text/{books_simple,books_fiction,imdb_unsup_slice,stories}.txt --val-fraction 0.01 \
    --out "$OUT/english"
./train_bert --data "$OUT/english" --out "$OUT/bert1" --size mini --init-std 0.04 --dropout 0 \
    --max-len 32 --positions 128 --mlm-probability 0.2 \
    --lr 1e-3 --schedule constant --warmup 100 --steps 2400 --eval-every 300 --log-every 50

# 2. The language of film reviews, at twice the length; the learning rate falls to 0.
data/sst2.py --from "$LABELS" --with-test --tokenizer "$OUT/bert1" --keep-text --out "$OUT/sst2"
tail -n +2 "$OUT/sst2/train.tsv" | cut -f1 | sed 's/$/\n<|endoftext|>/' > "$OUT/text/sst2.txt"
data/text.py "$OUT"/text/{imdb_unsup_slice,stories,sst2}.txt --tokenizer "$OUT/bert1" --val-fraction 0.02 \
    --out "$OUT/reviews"
./train_bert --init "$OUT/bert1/last" --data "$OUT/reviews" --out "$OUT/bert2" \
    --dropout 0 --max-len 64 --mlm-probability 0.2 \
    --lr 1e-3 --schedule linear --warmup 50 --steps 2400 --eval-every 300 --log-every 50

# 3. Sentiment.
FINETUNE="--seeds 3 --epochs 3 --lr 3e-4 --log-every 200"
./finetune_cls --init "$OUT/bert2/last" --data "$OUT/sst2" --out "$OUT/sentiment" $FINETUNE
echo "text to sentiment, three seeds: $((SECONDS / 60)) minutes"

# To compare: the same network without pretraining, and a bag of words.
./finetune_cls --init "$OUT/bert2/last" --data "$OUT/sst2" --out "$OUT/scratch" $FINETUNE --from-scratch
dev/baselines/bag_of_words.py --train "$OUT/sst2/train.tsv" --ngrams 2 \
    --test "$OUT/sst2/val.tsv" --test "$OUT/sst2/test.tsv"
