#!/usr/bin/env bash
# Load RoBERTa-large with the factual adapter, infer, save, load again. Further flags win: "$@" comes last.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

python examples/run_example.py \
    --model_name_or_path roberta-large \
    --output_dir ./proc/roberta_adapter \
    --freeze_bert="" \
    --freeze_adapter="True" \
    --fusion_mode concat \
    --adapter_transformer_layers 2 \
    --adapter_size 768 \
    --adapter_list "0,11,23" \
    --adapter_skip_layers 0 \
    --meta_fac_adaptermodel="./pretrained_models/fac-adapter/pytorch_model.bin" \
    --meta_lin_adaptermodel="" \
    "$@"
