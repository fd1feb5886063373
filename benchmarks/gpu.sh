#!/usr/bin/env bash
# What a GPU machine without a network is asked, in one command, in the checkout:
#
#     WHEELS=FOLDER KERNELS=kernels.tar.xz bash benchmarks/gpu.sh OUT
#
# In this order: parity of the rows with the engine cpu, by the vector environment and by the
# control step on the device; speed with 4,096 and 16,384 worlds beside physics alone; trainings of
# `first`, `drawn-256` and `composed-128`, each with its success in rows that it has not seen, on
# the device (OUT/NAME-device.json, its own rows, too) and on the CPU; `first` and `mt16` by policies
# that see, with success under other colours and cameras. Every step writes OUT/NAME.log, and
# OUT/NAME.json where it has figures. Each may take its share of the time that is left; one that
# fails or is stopped does not end the others. OUT/summary.txt has a line for each.
#
# WHEELS has the packages that the machine lacks. Beforehand, with a network and Uncap installed:
#
#     bash benchmarks/gpu.sh pack FOLDER [HAVE]
#
# HAVE is what the machine has, `pip list --format=freeze` there, or names alone; PyTorch must be
# there. KERNELS is what Warp compiled on a GPU of the same kind, without which the first step
# takes minutes longer. Afterwards, on the machine, for the next one:
#
#     bash benchmarks/gpu.sh kernels kernels.tar.xz
#
# They are where Warp keeps them: in WARP_CACHE_PATH, else in $XDG_CACHE_HOME/warp or ~/.cache/warp.
#
# Environment, beside these: BUDGET (seconds in all, 360), PYTHON (python3), SITE (where the wheels
# are installed), TARGET (the Python of the machine, 3.12), PART (of the wheels, at most, 54M).
# UNCAP_WARP_DEVICE=cpu rehearses all of it without a GPU, with few ROWS (of parity), SIZES and
# STEPS (of speed), WORLDS (of trainings), and few worlds that are SEEING, with few STARTS each.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
caches=${XDG_CACHE_HOME:-$HOME/.cache}
kernels=${WARP_CACHE_PATH:-$caches/warp}  # where Warp keeps them, by version

fail() {
    echo "gpu.sh: $*" >&2
    exit 1
}

# Beforehand

needed() {  # HAVE: the packages of uncap[warp] that are not in that file, as NAME==VERSION
    "$python" - "$1" "$root/pyproject.toml" <<'PYTHON'
import re, sys, tomllib
from importlib.metadata import distribution
from pip._vendor.packaging.requirements import Requirement

def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()

lines = [line.split("#")[0].strip() for line in open(sys.argv[1])]
have = {plain(name): version for name, _, version in (line.partition("==") for line in lines)}
found, seen = {}, set()

def walk(requirements, extras):
    for text in requirements:
        wanted = Requirement(text)
        applies = not wanted.marker or any(wanted.marker.evaluate({"extra": e}) for e in extras)
        own = plain(wanted.name)
        if not applies or own == "torch" or (own, *sorted(wanted.extras)) in seen:
            continue
        if own in have and (not have[own] or wanted.specifier.contains(have[own], prereleases=True)):
            continue
        seen.add((own, *sorted(wanted.extras)))
        found[own] = distribution(own).version
        walk(distribution(own).requires or (), ["", *wanted.extras])

project = tomllib.load(open(sys.argv[2], "rb"))["project"]
walk([*project["dependencies"], *project["optional-dependencies"]["warp"]], [""])
print(*(f"{name}=={version}" for name, version in sorted(found.items())), sep="\n")
PYTHON
}

slim() {  # FOLDER: Warp's wheel without its compiler for processors, half of it
    "$python" - "$1" <<'PYTHON'
import pathlib, sys, zipfile

for path in pathlib.Path(sys.argv[1]).glob("warp_lang-*.whl"):
    whole = path.rename(path.with_suffix(".whole"))
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            if not item.filename.startswith(("warp/bin/warp-clang", "warp/examples/")):
                new.writestr(item, old.read(item))
    whole.unlink()
PYTHON
}

pack() {  # FOLDER HAVE
    local folder=$1 have=$2 work platform
    local -a platforms=()
    work=$(mktemp -d)
    needed "$have" >"$work/needed.txt" || fail "pack needs Uncap's own packages: pip install '.[warp]'"
    for platform in manylinux_2_34 manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014; do
        platforms+=(--platform "${platform}_x86_64")
    done
    "$python" -m pip download --quiet --no-deps --only-binary=:all: --implementation cp \
        --python-version "${TARGET:-3.12}" "${platforms[@]}" --dest "$work/wheels" \
        --requirement "$work/needed.txt" || fail "pip download failed"
    slim "$work/wheels"
    mkdir -p "$folder" && rm -f "$folder"/wheels.tar.*
    # in parts, for machines that take files of some size only
    tar cf - -C "$work/wheels" . | split -b "${PART:-54M}" - "$folder/wheels.tar." || fail "packing failed"
    rm -rf "$work"
    du -ch "$folder"/wheels.tar.*
}

# On the machine

limited() {  # SECONDS COMMAND...: and end all that it has started when they are over
    timeout -k 5 "$@" <&0 &
    echo $! >"$out/runs/.now"
    wait $!
}

stop() {  # at Ctrl-C, or SIGTERM: what is being done ends, and what was done is kept
    kill "$(cat "$out/runs/.now" 2>/dev/null)" 2>/dev/null
    note "stopped" "after $SECONDS of $budget s"
    exit 130
}

install() {  # what WHEELS holds, into SITE
    local wheels=$WHEELS site=${SITE:-$caches/uncap-site}
    if ls "$wheels"/wheels.tar.* >/dev/null 2>&1; then
        wheels=$out/runs/wheels
        mkdir "$wheels"
        cat "$WHEELS"/wheels.tar.* | tar xf - -C "$wheels"
    fi
    limited "$limit" "$python" -m pip install --quiet --no-index --no-deps --no-compile \
        --upgrade --target "$site" --find-links "$wheels" "$wheels"/*.whl || return
    rm -rf "$out/runs/wheels"
}

check() {  # one line that says what is missing
    limited "$limit" "$python" - <<'PYTHON'
import ctypes, importlib.util, os, sys

needs = "torch numpy scipy numba mujoco mujoco_warp warp gymnasium stable_baselines3 safetensors"
needs += " filelock tyro rich matplotlib imageio PIL gymnasium_robotics"
missing = [name for name in needs.split() if importlib.util.find_spec(name) is None]
if missing:
    sys.exit("these packages are missing: " + ", ".join(missing) + " (WHEELS, see gpu.sh)")
if os.environ.get("UNCAP_WARP_DEVICE") == "cpu":
    print("no GPU is used: a rehearsal on the processor")
    sys.exit()
try:
    is_there = ctypes.CDLL("libcuda.so.1").cuInit(0) == 0
except OSError:
    is_there = False
if not is_there:
    sys.exit("there is no GPU, or no driver for it (UNCAP_WARP_DEVICE=cpu rehearses without)")
import torch, warp

if not torch.cuda.is_available():
    sys.exit(f"PyTorch {torch.__version__} finds no GPU: it needs a build for CUDA")
warp.config.quiet = True
warp.init()
if not warp.is_cuda_available():
    sys.exit(f"Warp {warp.__version__} finds no GPU, and PyTorch does: its wheel is another's")
print(torch.cuda.get_device_name(), "PyTorch", torch.__version__, "CUDA", torch.version.cuda)
PYTHON
}

left() {  # seconds of the present step, at least one
    local seconds=$((began + limit - SECONDS))
    echo $((seconds > 1 ? seconds : 1))
}

parity() {  # NAME [--worlds]: in batches of 13 rows, each of which is kept when it is done
    local -a chosen=(${ROWS:+--rows $ROWS})
    limited "$limit" "$python" "$root/benchmarks/warp_parity.py" --together 13 \
        "${chosen[@]}" "${@:2}" --out "$out/$1.json"
}

speed() {
    local -a options=(--sizes ${SIZES:-4096 16384} --steps "${STEPS:-90}" --repeats 2)
    limited "$limit" "$python" "$root/benchmarks/gpu_speed.py" --task-sets mt24 \
        "${options[@]}" --out "$out/speed.json" || return
    limited "$(left)" "$python" "$root/benchmarks/gpu_speed.py" --task-sets composed-64 \
        --no-policy "${options[@]}" --out "$out/speed-composed.json"
}

unseen() {  # RUN: the rows that its task set holds out
    "$python" -c 'import json, sys; print(*json.load(open(sys.argv[1]))["held_out"])' \
        "$1/config.json"
}

train() {  # TASK_SET ALGORITHM BODY WIDTH STARTS: start and learning, then what measures them
    local run=$out/runs/$1 scores=$out/runs/$1-evaluation status
    limited $((limit * 3 / 4 + 1)) "$python" "$root/benchmarks/gpu_train.py" \
        --task-set "$1" --algorithm "$2" --body "$3" --width "$4" --num-envs "${WORLDS:-4096}" \
        --starts "${STARTS:-$5}" --minutes-in-all "$(awk "BEGIN { print $limit / 110 }")" \
        --no-state --out "$run"
    status=$?
    cp "$run/device.json" "$out/$1-device.json" 2>/dev/null
    [ -f "$run/config.json" ] || return "$status"
    limited "$(left)" "$python" "$root/train.py" evaluate "$run" --tasks $(unseen "$run") \
        --episodes 5 --out "$scores" && cp "$scores/results.json" "$out/$1.json"
}

pictures() {  # TASK_SET: half of the time is start and learning, the rest measures on the device
    local run=$out/runs/seen-$1 status
    limited "$limit" "$python" "$root/benchmarks/gpu_train.py" --pictures \
        --task-set "$1" --num-envs "${SEEING:-1024}" --starts "${STARTS:-256}" \
        --minutes-in-all "$(awk "BEGIN { print $limit / 110 }")" --episodes 32 --no-state \
        --out "$run"
    status=$?
    cp "$run/pictures.json" "$out/pictures-$1.json" 2>/dev/null
    return "$status"
}

quiet() {  # Warp's lines for every module, and for every step that reached a limit
    grep --line-buffered -v -e '^Module ' -e 'limit reached' || true
}

step() {  # NAME WEIGHT COMMAND...: for its share of the time that is left
    local name=$1 weight=$2 began=$SECONDS status words limit
    shift 2
    limit=$(((budget - SECONDS) * weight / weights))
    weights=$((weights - weight))
    if [ "$limit" -lt 1 ]; then
        echo "not begun: the time is over" >"$out/$name.log"
        note "$name" "$(said "$name")"
        return 1
    fi
    ("$@" </dev/null 2>&1 | quiet >"$out/$name.log") &
    wait $!
    status=$?
    words=$(said "$name")
    case $status in
        0 | 3) ;;
        124 | 137) words="stopped after its $limit s; $words" ;;
        *) words="failed ($status): $words" ;;
    esac
    note "$name" "$((SECONDS - began)) s  $words"
    return "$status"
}

said() {  # NAME: the last line of a step
    tail -n 1 "$out/$1.log" 2>/dev/null
}

note() {  # NAME WORDS: a line of the summary
    printf '%-14s %s\n' "$1" "$2" | tee -a "$out/summary.txt"
}

main() {
    if [ -e "$out" ] && [ -n "$(ls -A "$out")" ]; then
        fail "$out is not empty: name another folder"
    fi
    mkdir -p "$out/runs" && out=$(cd "$out" && pwd) || fail "cannot write into $out"
    export PYTHONPATH=${SITE:-$caches/uncap-site}:$root${PYTHONPATH:+:$PYTHONPATH}
    export PYTHONUNBUFFERED=1
    export UNCAP_WARP_DEVICE=${UNCAP_WARP_DEVICE:-cuda}  # rather an error than the processor
    trap stop INT TERM
    export WARP_CACHE_PATH=$kernels
    if [ -n "${KERNELS:-}" ]; then
        mkdir -p "$kernels" && tar xf "$KERNELS" -C "$kernels" --strip-components 1 ||
            fail "cannot unpack $KERNELS into $kernels"
    fi
    # weights of the steps to come: what one does not use is left to the others
    weights=5
    if [ -n "${WHEELS:-}" ]; then
        step install 2 install || fail "the wheels are not installed: $(said install)"
    fi
    step machine "$weights" check || fail "nothing was measured: $(said machine)"
    weights=345  # what is left of the seconds by default
    step parity 45 parity parity
    step worlds 40 parity worlds --worlds
    step speed 75 speed
    step first 45 train first ppo mlp 256 128
    step drawn-256 50 train drawn-256 dagger film 384 16
    step composed-128 45 train composed-128 dagger attention 384 16
    step pictures-first 25 pictures first
    step pictures-mt16 20 pictures mt16
    note "in all" "$SECONDS of $budget s"
    rm -f "$out/runs/.now"
}

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
}

case ${1:-} in
    "" | -h | --help) usage ;;
    pack) pack "${2:?the folder for the wheels}" "${3:-/dev/null}" ;;
    kernels)
        [ -d "$kernels" ] || fail "there are no kernels in $kernels: nothing has run yet"
        tar cJf "${2:?the archive to write}" -C "$kernels" --transform 's,^\.,warp,' .
        ;;
    *)
        out=$1
        budget=${BUDGET:-360}
        main
        ;;
esac
