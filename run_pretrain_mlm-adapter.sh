#!/usr/bin/env bash
# Domain adapter: masked language modelling on plain text, data/domain/{train,dev}.txt.
set -euo pipefail
ROOT=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
exec bash "$ROOT/scripts/launch.sh" "$ROOT/examples/run_pretrain_mlm_adapter.py" \
    --model_name=roberta-large \
    --data_dir="$ROOT/data/domain" \
    --output_dir="$ROOT/mlm_output" \
    --restore True \
    --do_train \
    --do_eval \
    --evaluate_during_training True \
    --task_name=mlm \
    --comment 'mlm-adapter' \
    --per_gpu_train_batch_size=32 \
    --per_gpu_eval_batch_size=32 \
    --num_train_epochs 5 \
    --max_seq_length 128 \
    --gradient_accumulation_steps 1 \
    --learning_rate 5e-5 \
    --warmup_steps=500 \
    --save_steps 1000 \
    --adapter_size 768 \
    --adapter_skip_layers 0 \
    --meta_adapter_model="" \
    "$@"
