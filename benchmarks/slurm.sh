#!/bin/bash
# A grid of trainings as an array of Slurm jobs: each trains a shard of it, and all write into one
# folder, which lies on a file system that they share.
#
#     sbatch benchmarks/slurm.sh benchmarks/bodies.toml --out runs/bodies
#     uncap compare benchmarks/bodies.toml --out runs/bodies    # the table, when all have ended
#
# Submitted again as a whole, it goes on with what is not finished, with as many shards or others:
# `sbatch --array=1-32 ...`. Wait until the first array has ended.
#SBATCH --job-name=uncap
#SBATCH --array=1-8
#SBATCH --cpus-per-task=4
#SBATCH --mem-per-cpu=2G
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --output=uncap-%A-%a.log

set -euo pipefail
[ $# -ge 1 ] || { echo "usage: sbatch $0 GRID [OPTIONS of compare]" >&2; exit 2; }
grid=$1
shift
# exec: the SIGTERM 120 s before the time ends reaches the comparison, which saves its trainings
exec uncap compare "$grid" --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_MAX" \
    --jobs "$SLURM_CPUS_PER_TASK" "$@"
