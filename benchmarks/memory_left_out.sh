#!/usr/bin/env bash
# Told nothing, and a mechanism that was never seen: success by attempt, one to five, of a policy
# that was taught trials of three, beside the scripted search, which knows the unseen closures of
# all eight mechanisms.
#
# What is done is not done again: the same command goes on.
#
#     bash benchmarks/memory_left_out.sh GRID OUT [MECHANISM ...]
#
# GRID is memory_left_out.toml or memory_left_out_composed.toml. The mechanisms are those that are
# evaluated: all eight, unless some are named.
set -euo pipefail
grid=${1:?the grid}
out=${2:?the folder for the runs}
shift 2
mechanisms=(push_twist bayonet pull slide screw turn flip press)
wanted=("$@")
[ $# -gt 0 ] || wanted=("${mechanisms[@]}")
for name in "${wanted[@]}"; do
    if [[ " ${mechanisms[*]} " != *" $name "* ]]; then
        echo "no mechanism $name; allowed: ${mechanisms[*]}" >&2
        exit 2
    fi
done
steps=$(sed -n 's/^episode_steps = \([0-9]*\).*/\1/p' "$grid")

python train.py compare "$grid" --jobs 2 --out "$out"

measured() {  # FOLDER POLICY ROWS...: evaluate a policy once
    local folder=$1 policy=$2
    shift 2
    if [ ! -f "$folder/results.json" ]; then
        python train.py evaluate "$policy" --attempts 5 --episodes 10 --tasks "$@" --out "$folder" \
            ${length:+--episode-steps "$length"}
    fi
}

for mechanism in "${wanted[@]}"; do
    cell=$(echo "$out"/cells/*-without-"$mechanism"*-seed0)
    unseen=("unseen-${mechanism//_/-}-"{0..15})
    others=()
    for other in "${mechanisms[@]}"; do
        [ "$other" = "$mechanism" ] || others+=("unseen-${other//_/-}-"{0..3})
    done
    length="" measured "$out/attempts/$mechanism/memory" "$cell" "${unseen[@]}" "${others[@]}"
    length=$steps measured "$out/attempts/$mechanism/search" search "${unseen[@]}" "${others[@]}"
done
python benchmarks/attempts_table.py "$out/attempts"
