#!/usr/bin/env bash
# Entity typing on OpenEntity with both adapters. The original's README names its best values for one adapter alone
# (--learning_rate 5e-6, and --warmup_steps 500 with fac, 1000 with lin), and none for both.
set -euo pipefail
ROOT=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
exec bash "$ROOT/scripts/launch.sh" "$ROOT/examples/run_finetune_openentity_adapter.py" \
    --model_type roberta \
    --model_name_or_path roberta-large \
    --config_name roberta-large \
    --do_train \
    --do_eval \
    --task_name=entity_type \
    --data_dir="$ROOT/data/OpenEntity" \
    --output_dir="$ROOT/proc_data" \
    --comment 'combine-adapter-trf' \
    --max_seq_length=256 \
    --per_gpu_eval_batch_size=4 \
    --per_gpu_train_batch_size=4 \
    --learning_rate=1e-4 \
    --gradient_accumulation_steps=1 \
    --max_steps=12000 \
    --model_name=roberta-large \
    --warmup_steps=120 \
    --save_steps=1000 \
    --eval_steps=1000 \
    --freeze_bert="" \
    --freeze_adapter="True" \
    --adapter_size 768 \
    --adapter_skip_layers 0 \
    --meta_fac_adaptermodel="$ROOT/pretrained_models/fac-adapter/pytorch_model.bin" \
    --meta_lin_adaptermodel="$ROOT/pretrained_models/lin-adapter/pytorch_model.bin" \
    "$@"
