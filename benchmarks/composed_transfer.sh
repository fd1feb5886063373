#!/usr/bin/env bash
# Transfer to mechanisms never seen that a policy of 64 composed ones opens in less than half of
# the episodes, or to the least opened one: beside learning from nothing, and beside the same source
# told nothing.
#
# What is done is not done again: the same command goes on.
#
#     bash benchmarks/composed_transfer.sh OUT SETTINGS [SEEDS] [TARGETS]
#
# SETTINGS is a file of `tune_transfer`, such as that of push_twist.sh; TARGETS, how many at most.
set -euo pipefail
source "$(dirname "$0")/trained.sh"
out=${1:?the folder for the runs}
settings=${2:?the file of settings of the arms}
seeds=${3:-3}
targets=${4:-3}

source_told() {  # CONDITIONING FOLDER
    trained "$2" --task-set composed-64 --conditioning "$1" --body attention --num-envs 256
}

source_told parameters "$out/told"
source_told none "$out/nothing"
python benchmarks/least_opened.py "$out/told" > "$out/targets.txt"
head -n "$targets" "$out/targets.txt" | while read -r target; do
    python train.py transfer "$out/told" --target "$target" --env-steps 200000 --points 10 \
        --num-envs 64 --seeds "$seeds" --settings "$settings" --methods fine_tune demos_then_rl-1 \
        --controls scratch demos_then_rl_from_nothing-1 shuffled noise < /dev/null
    python train.py transfer "$out/nothing" --target "$target" --env-steps 200000 --points 10 \
        --num-envs 64 --seeds "$seeds" --settings "$settings" --methods fine_tune \
        --controls scratch < /dev/null
done
