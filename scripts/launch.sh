#!/usr/bin/env bash
# Starts a recipe on one or several processes, in the folder where it is called; the run scripts call it.
#   NGPU=4 bash run_pretrain_fac-adapter.sh                                       four processes of this machine
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=host0 NGPU=8 bash run_...sh                  on each of two machines (rank 0, 1)
#   LAUNCH="accelerate launch --config_file mine.yaml" bash run_...sh             FSDP, DeepSpeed, ...
set -euo pipefail
ROOT=$(dirname "$(dirname "$(realpath "${BASH_SOURCE[0]}")")")
PYTHON=${PYTHON:-$([ -x "$ROOT/.venv/bin/python" ] && echo "$ROOT/.venv/bin/python" || echo python3)}
NGPU=${NGPU:-1} NNODES=${NNODES:-1}
if [ -n "${LAUNCH:-}" ]; then
    read -ra launch <<<"$LAUNCH"
elif [ "$NNODES" -gt 1 ]; then
    launch=("$PYTHON" -m torch.distributed.run --nnodes "$NNODES" --node_rank "${NODE_RANK:?0 on the first machine}"
        --master_addr "${MASTER_ADDR:?name of the first machine}" --master_port "${MASTER_PORT:-29500}" --nproc_per_node "$NGPU")
elif [ "$NGPU" -gt 1 ]; then
    launch=("$PYTHON" -m torch.distributed.run --standalone --nproc_per_node "$NGPU")
else
    launch=("$PYTHON")
fi
exec "${launch[@]}" "$@"
