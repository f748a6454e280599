#!/usr/bin/env bash
# Trains a recipe on all GPUs of this machine, one process each.
#
#   bash examples/launch/one_node.sh clip vit_b_32 --data DIR --out RUN --set training.parallel=fsdp2
#
# Where a process dies, all are started again, three times at most, and go on from the last checkpoint: that is what
# --max-restarts and --resume do together. The same line goes on with a run that was stopped. GPUS=N takes fewer.
set -euo pipefail

gpus=${GPUS:-$(nvidia-smi --list-gpus | wc -l)}
exec torchrun --standalone --nproc-per-node "$gpus" --max-restarts 3 -m diptych train "$@" --resume
