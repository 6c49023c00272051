#!/usr/bin/env bash
# GLUE with bottleneck adapters in BERT; flags and values are those of adapter-bert's README. GLUE_DIR and TASK choose.
set -euo pipefail
ROOT=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
TASK=${TASK:-MRPC}
exec bash "$ROOT/scripts/launch.sh" "$ROOT/examples/run_classifier.py" \
    --init_checkpoint bert-base-uncased \
    --task_name="$TASK" \
    --do_train=true \
    --do_eval=true \
    --data_dir="${GLUE_DIR:-$ROOT/data/glue}/$TASK" \
    --output_dir="$ROOT/proc_data" \
    --max_seq_length=128 \
    --train_batch_size=32 \
    --learning_rate=3e-4 \
    --num_train_epochs=5.0 \
    --bottleneck_size=64 \
    "$@"
