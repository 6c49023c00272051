#!/usr/bin/env bash
# Load RoBERTa-large with the factual adapter, infer, save, load again. Further flags win: "$@" comes last.
# The example's own taps are the original's 0, 11 and 23; with another backbone they follow its depth.
set -euo pipefail
ROOT=$(dirname "$(realpath "${BASH_SOURCE[0]}")")

exec env NGPU=1 NNODES=1 LAUNCH= bash "$ROOT/scripts/launch.sh" "$ROOT/examples/run_example.py" \
    --model_name_or_path roberta-large \
    --output_dir="$ROOT/proc/roberta_adapter" \
    --freeze_bert="" \
    --freeze_adapter="True" \
    --fusion_mode concat \
    --adapter_transformer_layers 2 \
    --adapter_size 768 \
    --adapter_skip_layers 0 \
    --meta_fac_adaptermodel="$ROOT/pretrained_models/fac-adapter/pytorch_model.bin" \
    --meta_lin_adaptermodel="" \
    "$@"
