#!/usr/bin/env bash
# SQuAD 1.1 and 2.0, RoBERTa's recipe (batches of 48); add --data_dir and your adapters, --adapter name=folder.
set -euo pipefail
ROOT=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
exec bash "$ROOT/scripts/launch.sh" "$ROOT/examples/run_finetune_squad_adapter.py" \
    --model_name_or_path roberta-large \
    --do_train \
    --do_eval \
    --task_name=squad \
    --data_dir="$ROOT/data/squad" \
    --output_dir="$ROOT/proc_data" \
    --max_seq_length=384 \
    --doc_stride=128 \
    --max_query_length=64 \
    --max_answer_tokens=30 \
    --per_gpu_eval_batch_size=32 \
    --per_gpu_train_batch_size=12 \
    --gradient_accumulation_steps=4 \
    --learning_rate=1.5e-5 \
    --weight_decay=0.01 \
    --adam_epsilon=1e-6 \
    --num_train_epochs=2 \
    --warmup_proportion=0.06 \
    --save_steps=500 \
    --freeze_adapter="True" \
    "$@"
