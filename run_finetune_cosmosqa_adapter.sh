#!/usr/bin/env bash
# Multiple choice on CosmosQA with both adapters. The original divides its batch of 16 by the 8 accumulation steps
# (docs/deviations.md, 8): here that is micro-batches of 2. Its README's best: 64 a step, accumulation 32, which is
# micro-batches of 2 again; of which adapters, it does not say.
set -euo pipefail
ROOT=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
exec bash "$ROOT/scripts/launch.sh" "$ROOT/examples/run_finetune_cosmosqa_adapter.py" \
    --model_type roberta-large \
    --model_name_or_path roberta-large \
    --do_train \
    --do_eval \
    --data_dir="$ROOT/data/cosmosQA" \
    --preprocess_type read_examples_origin \
    --output_dir="$ROOT/proc_data/roberta_cosmosqa" \
    --max_seq_length 256 \
    --eval_steps 200 \
    --per_gpu_train_batch_size 2 \
    --gradient_accumulation_steps 8 \
    --warmup_steps 0 \
    --per_gpu_eval_batch_size 16 \
    --learning_rate 1e-5 \
    --adam_epsilon 1e-6 \
    --weight_decay 0 \
    --train_steps 20000 \
    --report_steps 20000000000 \
    --freeze_bert="" \
    --freeze_adapter="True" \
    --adapter_size 768 \
    --adapter_skip_layers 0 \
    --meta_fac_adaptermodel="$ROOT/pretrained_models/fac-adapter/pytorch_model.bin" \
    --meta_lin_adaptermodel="$ROOT/pretrained_models/lin-adapter/pytorch_model.bin" \
    "$@"
