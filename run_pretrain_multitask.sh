#!/usr/bin/env bash
# "RoBERTa + multitask", a control: the backbone itself on relations and dependency heads by turns. Not published are
# its rate, batch and duration: these are the factual adapter's, NGPU=4, but for the rate, which is fine-tuning's.
set -euo pipefail
ROOT=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
exec bash "$ROOT/scripts/launch.sh" "$ROOT/examples/run_pretrain_multitask.py" \
    --model_name=roberta-large \
    --data_dir="$ROOT/data" \
    --output_dir="$ROOT/multitask_output" \
    --restore True \
    --do_train \
    --do_eval \
    --evaluate_during_training True \
    --task_name=multitask \
    --per_gpu_train_batch_size=64 \
    --per_gpu_eval_batch_size=64 \
    --num_train_epochs 5 \
    --max_seq_length 64 \
    --gradient_accumulation_steps 1 \
    --learning_rate 1e-5 \
    --warmup_steps=1200 \
    --save_steps 1000 \
    --eval_steps 10000 \
    "$@"
