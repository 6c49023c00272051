#!/usr/bin/env bash
# Relation classification on SemEval-2010 Task 8 with both adapters; values as for TACRED, on one GPU.
set -euo pipefail
ROOT=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
exec bash "$ROOT/scripts/launch.sh" "$ROOT/examples/run_finetune_semeval_adapter.py" \
    --model_name_or_path roberta-large \
    --do_train \
    --do_eval \
    --task_name=semeval \
    --data_dir="$ROOT/data/semeval2010_task8" \
    --output_dir="$ROOT/proc_data" \
    --comment 'combine-adapter' \
    --max_seq_length=184 \
    --per_gpu_eval_batch_size=32 \
    --per_gpu_train_batch_size=32 \
    --learning_rate=1e-5 \
    --max_steps=3000 \
    --warmup_steps=200 \
    --save_steps=250 \
    --freeze_bert="" \
    --freeze_adapter="True" \
    --adapter_size 768 \
    --meta_fac_adaptermodel="$ROOT/pretrained_models/fac-adapter/pytorch_model.bin" \
    --meta_lin_adaptermodel="$ROOT/pretrained_models/lin-adapter/pytorch_model.bin" \
    "$@"
