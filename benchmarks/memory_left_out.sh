#!/usr/bin/env bash
# Told nothing, and a mechanism that was never seen: success by attempt, one to five, of a policy
# that was taught trials of three, beside the scripted search, which knows the unseen closures of
# all eight mechanisms.
#
# What is done is not done again: the same command goes on.
#
#     bash benchmarks/memory_left_out.sh OUT [MECHANISM ...]
#
# The mechanisms are those that are evaluated: all eight, unless some are named.
set -euo pipefail
out=${1:?the folder for the runs}
shift
mechanisms=(push_twist bayonet pull slide screw turn flip press)
wanted=("$@")
[ $# -gt 0 ] || wanted=("${mechanisms[@]}")

python train.py compare benchmarks/memory_left_out.toml --jobs 2 --out "$out"

measured() {  # FOLDER POLICY ROWS...: evaluate a policy once
    local folder=$1 policy=$2
    shift 2
    if [ ! -f "$folder/results.json" ]; then
        python train.py evaluate "$policy" --attempts 5 --episodes 10 --tasks "$@" --out "$folder" \
            ${length:+--episode-steps "$length"}
    fi
}

for mechanism in "${wanted[@]}"; do
    unseen=("unseen-${mechanism//_/-}-"{0..15})
    others=()
    for other in "${mechanisms[@]}"; do
        [ "$other" = "$mechanism" ] || others+=("unseen-${other//_/-}-"{0..3})
    done
    cell=$(echo "$out"/cells/*-without-"$mechanism"-seed0)
    length="" measured "$out/attempts/$mechanism/memory" "$cell" "${unseen[@]}" "${others[@]}"
    length=100 measured "$out/attempts/$mechanism/search" search "${unseen[@]}" "${others[@]}"
done
python benchmarks/attempts_table.py "$out/attempts"
