"""The benchmark for a GPU, on Warp's CPU device: shares of a few worlds; without a GPU, a line."""

import argparse
import ctypes
import importlib
import json
import os
import pathlib
import subprocess
import sys
import time
import zipfile

import pytest
import torch
from PIL import Image

pytest.importorskip("mujoco_warp")

from uncap.agents.config import PPOConfig
from uncap.envs.batch import ClosureBatch
from uncap.envs.device.closures import DeviceClosures
from uncap.envs.device.warp_worlds import WarpWorlds

ROOT = pathlib.Path(__file__).parent.parent
GPU_SH = ROOT / "benchmarks/gpu.sh"
ROWS = ("jar", "valve")
N = 4
ROBOT = 9  # its joints; a lid that nobody has touched is put back after the physics

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(ROOT / "benchmarks")
    gpu_speed, gpu_scaling = map(importlib.import_module, ("gpu_speed", "gpu_scaling"))


pytestmark = pytest.mark.usefixtures("warp_on_the_cpu")


@pytest.fixture(scope="module")
def player():
    batch = ClosureBatch(ROWS, len(ROWS), threads=1)
    worlds = WarpWorlds(batch, N)
    return gpu_speed.Player(DeviceClosures(batch, worlds, starts=2), worlds, None)


def test_the_command_gives_a_table_and_a_file(tmp_path, monkeypatch, capsys):
    out = tmp_path / "deeper/speed.json"
    monkeypatch.setattr(gpu_speed, "WARM_UP", 1)
    monkeypatch.setattr(gpu_speed, "PROFILED", 1)
    monkeypatch.setattr(gpu_speed, "PPO", PPOConfig(rollout=2, minibatches=1, epochs=1))
    words = "--task-sets jar,valve: --sizes 4 --steps 1 --repeats 1 --starts 2 --least 2 --out"
    monkeypatch.setattr(sys, "argv", ["gpu_speed.py", *words.split(), str(out)])
    with pytest.raises(SystemExit) as end:
        gpu_speed.main()
    assert end.value.code == 0
    (found,) = json.loads(out.read_text())["lines"]
    assert (found["worlds"], found["rows"], found["memory"]) == (4, 2, {})
    printed = capsys.readouterr().out.splitlines()
    for actions in ("random", "policy", "ppo"):
        share = found[actions]["share"]
        assert (
            0 < share["least"] <= share["median"] <= share["most"] < 3
        )  # of one step, on any machine
        assert found[actions]["overflows"] == {}
        speed = f"{found[actions]['steps_per_second']['median']:,.0f}"
        (line,) = (line for line in printed if line.split()[2:3] == [actions])
        assert line.split()[3] == speed and f"{share['median']:.3f}" in line
    assert found["kernels"]["actions"] == "random"  # below 2 is every share
    assert found["kernels"]["longest"][0]["milliseconds"] > 0
    row = gpu_scaling.table(*gpu_scaling.lines_of([out])).splitlines()[-1]
    speed = f"{found['ppo']['steps_per_second']['median']:,.0f}"
    assert row.startswith("| `jar,valve:` | 4 |") and f" {speed} |" in row


# The scaling table, of made-up speeds


def speed(steps, share, **overflows):
    """What a player's speed is kept as."""
    shares = gpu_speed.spread([share - 0.01, share, share + 0.01])
    raw = gpu_speed.spread([steps / share] * 3)
    of_steps = gpu_speed.spread([steps - 10, steps, steps + 10])
    names = ("steps_per_second", "raw_steps_per_second", "share", "overflows")
    return dict(zip(names, (of_steps, raw, shares, overflows), strict=True))


def speeds(path, *lines, gpu="a GPU"):
    """A file that `gpu_speed.py` writes."""
    gpu_speed.write({"machine": {"gpu": gpu}, "options": {}, "lines": list(lines)}, path)
    return path


def line_of(task_set, worlds, **players):
    memory = {"torch": 1.0, "warp": 2.0, "all": 4.25}
    return {"task_set": task_set, "worlds": worlds, "memory": memory, **players}


def scale(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["gpu_scaling.py", *map(str, words)])
    gpu_scaling.main()


def test_speeds_of_all_files_make_a_table_and_a_picture(tmp_path, monkeypatch, capsys):
    wide = line_of("mt24", 16384, random=speed(440e3, 0.88, NEFC=2))
    players = {"random": speed(190e3, 0.95), "policy": speed(180e3, 0.9), "ppo": speed(150e3, 0.75)}
    first = speeds(tmp_path / "first.json", wide, line_of("mt24", 4096, **players))
    second = speeds(tmp_path / "second.json", line_of("composed-64", 64, random=speed(4e3, 0.5)))
    out = tmp_path / "deeper/scaling.md"
    scale(monkeypatch, first, second, "--out", out)
    heading, _, head, rule, *rows = out.read_text().splitlines()
    assert heading == "Measured on gpu a GPU."
    assert {line.count("|") for line in (head, rule, *rows)} == {12}
    assert rows == [
        "| `mt24` | 4,096 | 200,000 | 190,000 | 0.95 (0.94 to 0.96) | 180,000 | "
        "0.90 (0.89 to 0.91) | 150,000 | 0.75 (0.74 to 0.76) | 4.2 | none |",
        "| `mt24` | 16,384 | 500,000 | 440,000 | 0.88 (0.87 to 0.89) | - | - | - | - | 4.2 | "
        "NEFC 2 |",
        "| `composed-64` | 64 | 8,000 | 4,000 | 0.50 (0.49 to 0.51) | - | - | - | - | 4.2 | none |",
    ]
    assert rows[0] in capsys.readouterr().out
    assert Image.open(out.with_suffix(".png")).size == (1300, 546)


def test_what_makes_no_table_is_said_in_a_line(tmp_path, monkeypatch):
    one = speeds(tmp_path / "one.json", line_of("mt24", 64, random=speed(4e3, 0.5)))
    other = speeds(tmp_path / "other.json", gpu="another")
    empty, halved, damaged = (tmp_path / f"{name}.json" for name in ("empty", "half", "damaged"))
    speeds(empty)
    damaged.write_text("{")
    speeds(halved, line_of("mt24", 64, random={}))
    for files, said in (
        ([one, other], f"{other} is of another machine than {one}"),
        ([empty], "nothing was measured in"),
        ([damaged], "is not JSON"),
        ([halved], "a line of these files has no 'raw_steps_per_second'"),
        ([tmp_path / "none.json"], "none.json"),
    ):
        with pytest.raises(SystemExit) as end:
            scale(monkeypatch, *files, "--out", tmp_path / "table.md")
        assert end.value.code.startswith("error: ") and said in end.value.code
        assert "\n" not in end.value.code


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("--repeats 0", 2, "--repeats: must be a whole number above 0, not '0'"),
        ("--sizes 4 x", 2, "--sizes: must be a whole number above 0, not 'x'"),
        ("--task-sets nonsense", 1, "error: unknown task set 'nonsense': "),
        ("--task-sets mt8 --sizes 64 4", 1, "error: 8 rows need at least 8 worlds, one each, not"),
        ("--compiler inductr", 1, "error: unknown compiler 'inductr': did you mean 'inductor'?"),
    ],
)
def test_what_cannot_be_measured_is_one_line(words, status, said, monkeypatch, capsys, tmp_path):
    out = tmp_path / "speed.json"
    monkeypatch.setattr(sys, "argv", ["gpu_speed.py", *words.split(), "--out", str(out)])
    with pytest.raises(SystemExit) as end:
        gpu_speed.main()
    line = capsys.readouterr().err.splitlines()[-1] if status == 2 else end.value.code
    assert said in line and "\n" not in line
    assert not out.exists()


@pytest.mark.parametrize("script", ["gpu_speed", "warp_parity"])
def test_an_extra_that_is_missing_is_one_line(script, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setitem(sys.modules, "mujoco_warp", None)
    for name in (script, "uncap.envs.engine_warp"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    words = ["--rows", "jar", "--episodes", "1", "--out", str(tmp_path / "out.json")]
    monkeypatch.setattr(sys, "argv", [script, *words])
    with pytest.raises(SystemExit, match="^error: the engine warp needs MuJoCo Warp: pip install"):
        importlib.import_module(script).main()


def test_the_same_physics_is_done_twice_and_put_back(player):
    """The physics alone begins where the control step began, with the controls that it chose."""
    arrays = player.worlds.arrays
    seen = {"whole": [], "alone": []}
    step, now = player.step, {}

    def whole():
        step()
        now["qpos"] = arrays["qpos"].clone()
        seen["whole"].append(now["qpos"][:, :ROBOT])

    def alone():
        assert not torch.equal(arrays["qpos"], now["qpos"])
        player.worlds.step()
        seen["alone"].append(arrays["qpos"][:, :ROBOT].clone())

    player.step = whole
    try:
        gpu_speed.seconds_beside_physics(player, alone, 3)
    finally:
        del player.step
    for one, other in zip(seen["whole"], seen["alone"], strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(seen["whole"][0], seen["whole"][2])
    assert torch.equal(arrays["qpos"], now["qpos"])


def test_what_is_slow_around_the_physics_lowers_the_share(player):
    step = player.step

    def slow():
        step()
        time.sleep(0.2)

    player.step = slow
    try:
        options = argparse.Namespace(steps=1, repeats=2)
        found = gpu_speed.compared(player, lambda: time.sleep(0.1), options)
    finally:
        del player.step
    assert 0 < found["share"]["least"] <= found["share"]["most"] < 0.5
    assert found["raw_steps_per_second"]["most"] <= N / 0.1
    assert found["steps_per_second"]["most"] < N / 0.2


def test_episodes_that_end_are_counted(player):
    player.resets.zero_()
    player.closures.episode_steps.fill_(2)
    gpu_speed.seconds_beside_physics(player, player.worlds.step, 3)
    assert int(player.resets) == N


def test_worlds_that_lack_room_are_counted_by_kind(player):
    bits = gpu_speed.overflow_bits(player.worlds)
    gpu_speed.clear_overflows(player.worlds)
    assert gpu_speed.overflows(player.worlds) == {}
    bits[0] = 1 + 512
    bits[2] = 1
    assert gpu_speed.overflows(player.worlds) == {"NEFC": 2, "ITERATIONS": 1}
    gpu_speed.clear_overflows(player.worlds)


def run_script(*words: object, **environment: str) -> subprocess.CompletedProcess:
    settings = {**os.environ, "PYTHON": sys.executable}
    settings.pop("UNCAP_WARP_DEVICE")
    settings.pop("WARP_CACHE_PATH", None)
    settings |= environment
    return subprocess.run(
        ["bash", GPU_SH, *words], env=settings, capture_output=True, text=True, timeout=60
    )


def has_gpu() -> bool:
    try:
        return ctypes.CDLL("libcuda.so.1").cuInit(0) == 0
    except OSError:
        return False


@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
def test_a_machine_without_a_gpu_is_told_what_is_missing(tmp_path):
    out = tmp_path / "out"
    done = run_script(out, BUDGET="8")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("gpu.sh: nothing was measured: there is no GPU, or no driver")
    assert "there is no GPU" in (out / "machine.log").read_text()
    (line,) = (out / "summary.txt").read_text().splitlines()
    assert line.startswith("machine ")


def test_packages_that_are_missing_are_named(tmp_path):
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    (tmp_path / "python").chmod(0o755)
    done = run_script(tmp_path / "out", BUDGET="8", PYTHON=str(tmp_path / "python"))
    assert done.returncode == 1
    assert "these packages are missing: torch, numpy, " in done.stderr


def test_what_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "mine").write_text("mine")
    done = run_script(tmp_path, BUDGET="8")
    assert done.returncode == 1 and "is not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_script_is_one(tmp_path):
    subprocess.run(["bash", "-n", GPU_SH], check=True)
    assert "bash benchmarks/gpu.sh OUT" in run_script().stdout


# What is played in place of Python: nothing is simulated
STUB = """#!/bin/sh
case "$*" in
    *warp_parity.py*--together\ 13\ --worlds*/worlds.json) echo "13 rows, 0 that do not agree";;
    *warp_parity.py*) echo "Module mujoco_warp"; echo "2 rows, 1 that do not agree: jar"; exit 1;;
    *mt24*) echo "iteration limit reached"; echo "mt24 4096"; echo kept > {kept}; exec sleep 60;;
    *--task-set\ drawn*) mkdir -p {runs}/drawn-256; echo $* > {runs}/drawn-256/config.json
        echo kept > {runs}/drawn-256/device.json;;
    *"held_out"*) echo one two;;
    *evaluate*drawn*) echo "$UNCAP_WARP_DEVICE $*";;
    *) echo fine;;
esac
"""


def executable(path: pathlib.Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_a_step_that_fails_or_takes_too_long_does_not_end_the_others(tmp_path):
    out = tmp_path / "out"
    python = executable(
        tmp_path / "python", STUB.format(kept=out / "speed.json", runs=out / "runs")
    )
    began = time.monotonic()
    done = run_script(out, BUDGET="9", PYTHON=python, UNCAP_WARP_DEVICE="cuda:1")
    assert time.monotonic() - began < 20
    assert done.returncode == 0
    lines = (out / "summary.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == [
        *("machine", "parity", "worlds", "speed", "first", "drawn-256", "composed-128"),
        *("pictures-first", "pictures-mt16", "in"),
    ]
    assert lines[1].endswith("failed (1): 2 rows, 1 that do not agree: jar")
    assert lines[2].endswith("s  13 rows, 0 that do not agree")
    assert "stopped after its 2 s; mt24 4096" in lines[3] or "its 1 s" in lines[3]
    assert lines[7].endswith("fine") and lines[8].endswith("fine")
    # what is held out is measured, on the device that was asked for
    measured = (out / "drawn-256.log").read_text()
    assert measured.startswith("cuda:1 ") and " --tasks one two --episodes 5 " in measured
    assert (out / "drawn-256-device.json").read_text() == "kept\n"
    assert " --device" not in (out / "runs/drawn-256/config.json").read_text()
    assert (out / "parity.log").read_text() == "2 rows, 1 that do not agree: jar\n"
    assert (out / "speed.log").read_text() == "mt24 4096\n"
    assert (out / "speed.json").read_text() == "kept\n"


def test_a_signal_ends_it_and_what_it_has_started(tmp_path):
    out = tmp_path / "out"
    python = executable(
        tmp_path / "python", STUB.format(kept=out / "speed.json", runs=out / "runs")
    )
    settings = {**os.environ, "PYTHON": python, "BUDGET": "90"}
    process = subprocess.Popen(["bash", GPU_SH, out], env=settings, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    now = out / "runs/.now"
    while not ((out / "speed.json").exists() and now.exists() and now.read_text().strip()):
        assert time.monotonic() < deadline, "it does not begin"
        time.sleep(0.05)
    sleeping = int(now.read_text())
    os.kill(sleeping, 0)
    process.terminate()
    assert process.wait(10) == 130
    lines = (out / "summary.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["machine", "parity", "worlds", "stopped"]
    while time.monotonic() < deadline:
        try:
            os.kill(sleeping, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("it goes on")


@pytest.mark.parametrize("variable", ["WARP_CACHE_PATH", "XDG_CACHE_HOME"])
def test_kernels_are_taken_from_where_warp_keeps_them_and_put_there(variable, tmp_path):
    archive, out = tmp_path / "kernels.tar.xz", tmp_path / "out"
    for folder in ("here", "there"):
        caches = tmp_path / folder
        own = caches / "warp" if variable == "XDG_CACHE_HOME" else caches
        settings = {"XDG_CACHE_HOME": str(tmp_path / "other"), variable: str(caches)}
        if folder == "here":
            none = run_script("kernels", archive, **settings)
            assert none.returncode == 1 and none.stderr.count("\n") == 1
            assert f"there are no kernels in {own}" in none.stderr
            (own / "1.0").mkdir(parents=True)
            (own / "1.0/kernel").write_text("compiled")
            assert run_script("kernels", archive, **settings).returncode == 0
        else:
            python = executable(
                tmp_path / "python", f"#!/bin/sh\necho $WARP_CACHE_PATH >> {tmp_path}/seen\n"
            )
            run_script(out, KERNELS=str(archive), PYTHON=python, BUDGET="9", **settings)
            assert (own / "1.0/kernel").read_text() == "compiled"
            assert set((tmp_path / "seen").read_text().split()) == {str(own)}


# Packages without a network

DOWNLOAD = """#!/bin/sh
case "$*" in
    *"pip download"*)
        while [ $# -gt 0 ]; do
            case "$1" in --dest) dest=$2;; --requirement) asked=$2;; esac
            shift
        done
        mkdir -p "$dest"; cp {wheels}/*.whl "$dest"; cp "$asked" {asked};;
    *) exec {python} "$@";;
esac
"""


def make_wheel(folder: pathlib.Path, name: str, files: tuple[str, ...]):
    about = f"{name}-1.0.dist-info"
    texts = {
        **{file: "# text" for file in files},
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    texts[f"{about}/RECORD"] = "".join(f"{file},,\n" for file in (*texts, f"{about}/RECORD"))
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        for file, text in texts.items():
            wheel.writestr(file, text)


def test_what_a_machine_lacks_is_packed_and_installed_without_a_network(tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    make_wheel(wheels, "warp_lang", ("warp/__init__.py", "warp/bin/warp-clang.so"))
    make_wheel(wheels, "mujoco_warp", ("mujoco_warp/__init__.py",))
    asked, have, parts, site = (tmp_path / name for name in ("asked", "have", "parts", "site"))
    have.write_text("matplotlib\nnumpy==1.20.0\nscipy==1.17.0\n")
    text = DOWNLOAD.format(wheels=wheels, asked=asked, python=sys.executable)
    python = executable(tmp_path / "python", text)
    packed = run_script("pack", parts, have, PYTHON=python, PART="1K")
    assert packed.returncode == 0, packed.stderr
    names = {line.split("==")[0] for line in asked.read_text().splitlines()}
    assert {"mujoco-warp", "warp-lang", "mujoco", "gymnasium", "numpy"} <= names  # 1.20 is too old
    assert not {"matplotlib", "scipy", "torch", "uncap"} & names
    assert len(list(parts.glob("wheels.tar.*"))) > 1
    # what is missing on this machine comes after the wheels
    run_script(tmp_path / "out", PYTHON=python, WHEELS=str(parts), SITE=str(site), BUDGET="20")
    assert (site / "mujoco_warp/__init__.py").exists()
    assert [path.name for path in (site / "warp").rglob("*.*")] == ["__init__.py"]
