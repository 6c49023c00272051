#!/usr/bin/env bash
# Classification of your own texts (csv, tsv, JSON, Parquet); add --data_dir and your adapters, --adapter name=folder.
set -euo pipefail
ROOT=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
exec bash "$ROOT/scripts/launch.sh" "$ROOT/examples/run_finetune_classification_adapter.py" \
    --model_name_or_path roberta-large \
    --do_train \
    --do_eval \
    --task_name=classification \
    --data_dir="$ROOT/data/classification" \
    --output_dir="$ROOT/proc_data" \
    --max_seq_length=128 \
    --per_gpu_eval_batch_size=32 \
    --per_gpu_train_batch_size=32 \
    --learning_rate=1e-5 \
    --num_train_epochs=3 \
    --warmup_proportion=0.1 \
    --save_steps=250 \
    --freeze_adapter="True" \
    "$@"
