#!/usr/bin/env bash
# Train with several processes on this machine, or on several machines.
#
#   tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
#
# On each of several machines, with the same MASTER_ADDR and PORT:
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 tools/dist_train.sh CONFIG 8
# GPUS is the number of processes on this machine. Without GPUs they run on
# the CPU (gloo).
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
    exit 2
fi
case "$2" in
'' | *[!0-9]* | 0*)
    echo "error: expected the number of GPUS, 1 or more, got '$2'" >&2
    exit 2
    ;;
esac
if [ "${NNODES:-1}" -gt 1 ] && [ -z "${NODE_RANK:-}" -o -z "${MASTER_ADDR:-}" ]; then
    echo "error: expected NODE_RANK and MASTER_ADDR with NNODES=$NNODES, got" \
        "NODE_RANK='${NODE_RANK:-}' MASTER_ADDR='${MASTER_ADDR:-}'" >&2
    exit 2
fi
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    --nproc_per_node="$2" \
    "$(dirname "$0")/train.py" "$1" --launcher pytorch "${@:3}"
