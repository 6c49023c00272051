#!/usr/bin/env bash
# Open-domain question answering on SearchQA with both adapters: the paper's values, which weigh no paragraphs. A batch
# is so many questions with all their paragraphs; --chunk_tokens says how many tokens are on the device at once.
set -euo pipefail
ROOT=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
exec bash "$ROOT/scripts/launch.sh" "$ROOT/examples/run_finetune_searchqa_adapter.py" \
    --model_name_or_path roberta-large \
    --do_train \
    --do_eval \
    --data_dir="$ROOT/data/searchqa" \
    --output_dir="$ROOT/proc_data/roberta_searchqa" \
    --mode all \
    --no_paragraph_confidence="True" \
    --num_paragraphs 50 \
    --num_paragraphs_test 50 \
    --max_answer_tokens 15 \
    --max_seq_length 128 \
    --per_gpu_train_batch_size 8 \
    --per_gpu_eval_batch_size 8 \
    --gradient_accumulation_steps 1 \
    --num_train_epochs 2 \
    --learning_rate 5e-6 \
    --warmup_steps 0 \
    --save_steps 2000 \
    --freeze_bert="" \
    --freeze_adapter="True" \
    --adapter_size 768 \
    --adapter_skip_layers 0 \
    --meta_fac_adaptermodel="$ROOT/pretrained_models/fac-adapter/pytorch_model.bin" \
    --meta_lin_adaptermodel="$ROOT/pretrained_models/lin-adapter/pytorch_model.bin" \
    "$@"
