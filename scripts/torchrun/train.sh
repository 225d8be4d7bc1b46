#!/usr/bin/env bash
# Train with torchrun, on one machine or several.
#
#   scripts/torchrun/train.sh configs/gan/dcgan_digits.yaml                      # all GPUs of this machine
#   NPROC=2 scripts/torchrun/train.sh RECIPE.yaml --trainer.accelerator cpu     # two processes on the CPU
#   scripts/torchrun/train.sh RECIPE.yaml --run_name long --ckpt_path last      # go on with a run
#
# On several machines run the same line on each, with the recipe at the same path and NODE_RANK counting from 0:
#
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=first-host scripts/torchrun/train.sh RECIPE.yaml
#   NNODES=2 NODE_RANK=1 MASTER_ADDR=first-host scripts/torchrun/train.sh RECIPE.yaml
#
# The first word is the recipe, everything after it goes to `lightning_gen fit`. Variables, from the environment:
#   NPROC        processes on this machine; default: its GPUs, or 1
#   NNODES       machines; default 1
#   NODE_RANK    number of this machine; needed when NNODES > 1
#   MASTER_ADDR  name or address of machine 0, and
#   MASTER_PORT  a free port on it; used when NNODES > 1; default 29500
#   PYTHON       the interpreter; default: python
set -euo pipefail

if [[ $# -lt 1 ]]; then
  echo "usage: [NPROC=…] [NNODES=… NODE_RANK=… MASTER_ADDR=…] $0 RECIPE.yaml [options of lightning_gen fit]" >&2
  exit 2
fi
config=$1
shift

python=${PYTHON:-python}
nnodes=${NNODES:-1}
nproc=${NPROC:-$("$python" -c 'import torch; print(max(torch.cuda.device_count(), 1))')}

if [[ $nnodes == 1 ]]; then
  rendezvous=(--standalone) # a free port on this machine
else
  rendezvous=(
    --node-rank "${NODE_RANK:?NODE_RANK must be set when NNODES > 1: 0 on the first machine, 1 on the next}"
    --master-addr "${MASTER_ADDR:?MASTER_ADDR must be set when NNODES > 1: the name of machine 0}"
    --master-port "${MASTER_PORT:-29500}"
  )
fi

exec "$python" -m torch.distributed.run --nnodes "$nnodes" --nproc-per-node "$nproc" "${rendezvous[@]}" \
  -m lightning_gen fit --config "$config" \
  --trainer.num_nodes "$nnodes" --trainer.devices "$nproc" "$@"
