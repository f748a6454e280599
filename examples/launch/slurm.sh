#!/usr/bin/env bash
# Trains a recipe on several machines under Slurm, one process a GPU.
#
#   sbatch --nodes 8 examples/launch/slurm.sh clip vit_l_14 --data DIR --out RUN --set training.parallel=fsdp2
#
# DIR and RUN must be folders that all machines see. Where a process dies, all are started again, three times at most,
# and go on from the last checkpoint. Two minutes before the job's time is over each is asked to stop, which writes a
# checkpoint; the same sbatch line goes on from it. A machine that fails makes Slurm begin the job again (--requeue).
#SBATCH --job-name=diptych
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 # else a restart finds the addresses of the dead

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
srun torchrun --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "$SLURM_GPUS_ON_NODE" --max-restarts 3 \
  --rdzv-backend c10d --rdzv-endpoint "${nodes[0]}:29500" --rdzv-id "$SLURM_JOB_ID" -m diptych train "$@" --resume
