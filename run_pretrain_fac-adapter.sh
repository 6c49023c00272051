#!/usr/bin/env bash
# Factual adapter: relation classification on T-REx. As published: NGPU=4.
set -euo pipefail
ROOT=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
exec bash "$ROOT/scripts/launch.sh" "$ROOT/examples/run_pretrain_fac_adapter.py" \
    --model_type roberta \
    --model_name=roberta-large \
    --data_dir="$ROOT/data/trex-rc" \
    --output_dir="$ROOT/trex_output" \
    --restore True \
    --do_train \
    --do_eval \
    --evaluate_during_training 'True' \
    --task_name=trex \
    --comment 'fac-adapter' \
    --per_gpu_train_batch_size=64 \
    --per_gpu_eval_batch_size=64 \
    --num_train_epochs 5 \
    --max_seq_length 64 \
    --gradient_accumulation_steps 1 \
    --learning_rate 5e-5 \
    --warmup_steps=1200 \
    --save_steps 1000 \
    --eval_steps 10000 \
    --adapter_size 768 \
    --adapter_skip_layers 0 \
    --adapter_transformer_layers 2 \
    --meta_adapter_model="" \
    "$@"
