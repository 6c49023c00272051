#!/usr/bin/env bash
# From a graph, text and a task to an answer whether the graph helped, on the demo's invented world; ten minutes on two busy cores.
set -euo pipefail
ROOT=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
cd "$ROOT"
OUT=${OUT:-output/own_knowledge}
SEEDS=${SEEDS:-42,43,44}
STEPS=${STEPS:-1500}
[ -x .venv/bin/python ] && PATH="$ROOT/.venv/bin:$PATH"
# A small encoder, short runs: docs/own_knowledge.md says what to choose for others.
SMALL=(--model_name_or_path pretrained_models/roberta-demo --max_seq_length 64 --adapter_size 64
    --adapter_attention_heads 4 --adapter_intermediate_size 256 --adapter_initializer_range 0.02 --adapter_dropout 0 --no_cuda)
step() {
    printf '\n$ %s\n' "$*"
    "$@"
}

step python scripts/make_own_knowledge_example.py --output_dir "$OUT/mine"
step python scripts/create_relation_dataset.py --triples "$OUT/mine/triples.tsv" --aliases "$OUT/mine/aliases.tsv" \
    --text "$OUT/mine/corpus" --sentences given --output "$OUT/kg-cleaned.jsonl"
step python scripts/create_subdataset-relation-classification.py --input "$OUT/kg-cleaned.jsonl" --output_dir "$OUT/kg-rc" \
    --min_examples 1
step bash run_pretrain_fac-adapter.sh "${SMALL[@]}" --data_dir "$OUT/kg-rc" --output_dir "$OUT/kg" --max_steps "$STEPS" \
    --per_gpu_train_batch_size 64 --per_gpu_eval_batch_size 128 --learning_rate 1.5e-3 --warmup_steps $((STEPS / 20)) \
    --eval_steps $((STEPS / 10)) --save_steps $((STEPS / 10)) --max_save_checkpoints 1 --logging_steps 100
KG=$(dirname "$(ls -t "$OUT"/kg/*/metrics.json | head -1)")/best
step python scripts/compare.py --seeds "$SEEDS" --workers 2 --output "$OUT/compare" -- \
    bash run_finetune_openentity_adapter.sh "${SMALL[@]}" --data_dir "$OUT/mine/task" --labels "$OUT/mine/task/labels.json" \
    --adapter "kg=$KG" --freeze_bert --max_steps 300 --per_gpu_train_batch_size 16 --per_gpu_eval_batch_size 128 --learning_rate 1e-3 \
    --warmup_steps 15 --eval_steps 50 --save_steps 50 --max_save_checkpoints 1
