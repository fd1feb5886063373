#!/usr/bin/env bash
# Transfer to a mechanism that was left out (pressing and twisting), by methods beside controls.
#
# First the rule: how each arm explores and learns is chosen on another mechanism (sliding lids)
# that another source left out. Reinforcement after five episodes (the last of each list below) has
# the settings of that after one.
# What is done is not done again: the same command goes on.
#
#     bash benchmarks/push_twist.sh OUT [SEEDS] [SETTINGS]
#
# SETTINGS is a file of an earlier search, in the place of this one: benchmarks/push_twist.json is
# what this one chose.
set -euo pipefail
source "$(dirname "$0")/trained.sh"
out=${1:?the folder for the runs}
seeds=${2:-3}
settings=${3:-}

methods=(fine_tune demos-1 demos-5 demos_then_rl-1 demos_then_rl-5)
from_nothing=(scratch demos_from_nothing-1 demos_from_nothing-5
    demos_then_rl_from_nothing-1 demos_then_rl_from_nothing-5)

source_without() {  # MECHANISM FOLDER
    trained "$2" --task-set "drawn-224-without-$1" --body film --num-envs 224
}

if [ -z "$settings" ]; then
    settings=$out/settings.json
    source_without slide "$out/rule"
    python train.py tune_transfer "$out/rule" --targets slide-mug pencil-box --env-steps 100000 \
        --points 4 --trials 4 --num-envs 64 --methods "${methods[@]:0:4}" \
        --controls "${from_nothing[@]:0:4}" --out "$settings"
fi

source_without push_twist "$out/source"
for target in pill-box solvent-can; do
    python train.py transfer "$out/source" --target "$target" --env-steps 400000 --points 10 \
        --num-envs 64 --seeds "$seeds" --settings "$settings" --methods "${methods[@]}" \
        --controls shuffled noise "${from_nothing[@]}"
done
