#!/usr/bin/env bash
# Entity typing on FIGER with both adapters. The paper's: --learning_rate 5e-6 --warmup_steps 1000, 2048 a step.
set -euo pipefail
ROOT=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
exec bash "$ROOT/scripts/launch.sh" "$ROOT/examples/run_finetune_figer_adapter.py" \
    --model_type roberta \
    --model_name_or_path roberta-large \
    --config_name roberta-large \
    --do_train \
    --evaluate_during_training \
    --do_eval \
    --task_name=entity_type \
    --data_dir="$ROOT/data/FIGER" \
    --output_dir="$ROOT/proc_data" \
    --comment 'figer-adapter' \
    --max_seq_length=256 \
    --per_gpu_eval_batch_size=4 \
    --per_gpu_train_batch_size=4 \
    --learning_rate=3e-5 \
    --gradient_accumulation_steps=1 \
    --max_steps=-1 \
    --model_name=roberta-large \
    --warmup_steps=120 \
    --save_steps=100 \
    --eval_steps=2000 \
    --freeze_bert="" \
    --freeze_adapter="True" \
    --adapter_size 768 \
    --adapter_skip_layers 0 \
    --task_adapter '' \
    --meta_fac_adaptermodel="$ROOT/pretrained_models/fac-adapter/pytorch_model.bin" \
    --meta_lin_adaptermodel="$ROOT/pretrained_models/lin-adapter/pytorch_model.bin" \
    "$@"
