#!/usr/bin/env bash
# Relation classification on TACRED with both adapters; the original's: NGPU=4. The best values of its README, which does
# not say of which adapters they are: --learning_rate 1e-5 --warmup_steps 200.
set -euo pipefail
ROOT=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
exec bash "$ROOT/scripts/launch.sh" "$ROOT/examples/run_finetune_tacred_adapter.py" \
    --model_type roberta \
    --model_name_or_path roberta-large \
    --config_name roberta-large \
    --do_train \
    --do_eval \
    --task_name=tacred \
    --data_dir="$ROOT/data/TACRED" \
    --output_dir="$ROOT/proc_data" \
    --comment 'combine-adapter-dif-trf' \
    --max_seq_length=184 \
    --per_gpu_eval_batch_size=8 \
    --per_gpu_train_batch_size=8 \
    --learning_rate=5e-6 \
    --gradient_accumulation_steps=1 \
    --max_steps=12000 \
    --model_name=roberta-large \
    --warmup_steps=1000 \
    --negative_sample=45000 \
    --save_steps=500 \
    --eval_steps=500 \
    --freeze_bert="" \
    --freeze_adapter="True" \
    --adapter_size 768 \
    --adapter_skip_layers 0 \
    --meta_fac_adaptermodel="$ROOT/pretrained_models/fac-adapter/pytorch_model.bin" \
    --meta_lin_adaptermodel="$ROOT/pretrained_models/lin-adapter/pytorch_model.bin" \
    "$@"
