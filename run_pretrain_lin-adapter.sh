#!/usr/bin/env bash
# Linguistic adapter: dependency heads. As published: NGPU=4.
set -euo pipefail
ROOT=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
exec bash "$ROOT/scripts/launch.sh" "$ROOT/examples/run_pretrain_lin_adapter.py" \
    --model_type roberta \
    --model_name=roberta-large \
    --data_dir="$ROOT/data/find_head" \
    --output_dir="$ROOT/find_head_output" \
    --restore True \
    --do_train \
    --do_eval \
    --evaluate_during_training True \
    --task_name=find_head \
    --comment 'lin-adapter' \
    --per_gpu_train_batch_size=32 \
    --per_gpu_eval_batch_size=8 \
    --num_train_epochs 10 \
    --max_seq_length 64 \
    --gradient_accumulation_steps 1 \
    --learning_rate 2e-5 \
    --warmup_steps=500 \
    --save_steps 1000 \
    --eval_steps 2000 \
    --adapter_size 768 \
    --adapter_skip_layers 0 \
    --meta_adapter_model="" \
    "$@"
