"""The table of engines, and what is said where one is not there."""

import importlib
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from uncap.envs import ClosureEnv, ClosureVectorEnv
from uncap.envs.batch import ClosureBatch
from uncap.envs.engines import ENGINES, EngineUnavailable, within_memory
from uncap.evaluation import config, grid
from uncap.evaluation.cli import COMMANDS, main, run
from uncap.evaluation.progress import make_console

UNKNOWN = (
    "unknown engine 'gpu': allowed: cpu (MuJoCo on the processor's cores), "
    "warp (MuJoCo Warp on a GPU, in float32)"
)
STEPS_NOTHING = {"table", "export", "report"}


@pytest.mark.parametrize(
    "make", [ClosureVectorEnv, ClosureEnv, lambda t, **k: ClosureBatch(t, 1, **k)]
)
def test_an_unknown_engine_is_refused_in_one_line(make):
    with pytest.raises(ValueError) as refusal:
        make(("jar",), engine="gpu")
    assert str(refusal.value) == UNKNOWN


@pytest.mark.parametrize("command", ["train", "evaluate expert", "audit", "gallery", "compare g"])
def test_so_it_is_by_commands(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["uncap", *command.split(), "--engine", "gpu"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == f"error: {UNKNOWN}"


@pytest.fixture
def without_warp(monkeypatch):
    """As where the extra is not installed."""
    monkeypatch.setitem(sys.modules, "mujoco_warp", None)
    for name in ("engine_warp", "device.warp_worlds", "device.pictures", "device.streams"):
        monkeypatch.delitem(sys.modules, f"uncap.envs.{name}", raising=False)


def test_an_extra_that_is_missing_is_named(without_warp):
    with pytest.raises(EngineUnavailable) as refusal:
        ClosureVectorEnv("jar", engine="warp")
    assert str(refusal.value) == ('the engine warp needs MuJoCo Warp: pip install "uncap[warp]"')


def test_so_it_is_for_worlds_on_a_device(without_warp):
    with pytest.raises(EngineUnavailable, match="the engine warp needs MuJoCo Warp"):
        importlib.import_module("uncap.envs.device.warp_worlds")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("Failed to allocate 99 bytes on device 'cuda:0'"),
        RuntimeError("Warp CUDA error 2: out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_too_little_memory_is_one_line_whoever_finds_it(error):
    said = "^fewer worlds need less$"
    with pytest.raises(EngineUnavailable, match=said), within_memory("fewer worlds need less"):
        raise error


def test_other_errors_stay_what_they_are():
    for error in (
        RuntimeError("shapes differ"),
        EngineUnavailable("no device to allocate on"),
        RuntimeError(
            "Failed to allocate 4 bytes on device 'cuda:0':  Failed to allocate memory during "
            "graph capture because memory pools are not supported on device 'cuda:0'."
        ),
    ):
        with pytest.raises(type(error), match=str(error)), within_memory("fewer worlds"):
            raise error


def test_so_it_is_by_a_command(without_warp, monkeypatch):
    words = ["uncap", "evaluate", "expert", "--tasks", "jar", "--episodes", "1"]
    monkeypatch.setattr(sys, "argv", [*words, "--engine", "warp"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 'error: the engine warp needs MuJoCo Warp: pip install "uncap[warp]"'


def test_commands_warn_users_in_one_line():
    code = (
        "import warnings; from uncap.evaluation.program import warn_in_lines; warn_in_lines(); "
        "warnings.warn('no GPU:\\nslower'); warnings.warn('of a program', RuntimeWarning)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    first, second, *_ = done.stderr.splitlines()
    assert first == "warning: no GPU: slower"
    assert second.endswith("RuntimeWarning: of a program")


def test_the_cpu_engine_imports_no_other():
    code = (
        "import sys; from uncap.envs import ClosureVectorEnv; ClosureVectorEnv('jar'); "
        "print([name for name in ('warp', 'mujoco_warp') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "[]\n"


def test_every_engine_has_words_and_is_a_choice_of_the_commands_that_step():
    assert all(row.words for row in ENGINES.values())
    assert "engine" in grid.axes()
    having = {name for name, command in COMMANDS.items() if _has_engine(command.config)}
    assert having == set(COMMANDS) - STEPS_NOTHING


@pytest.mark.parametrize("command", ["train", "transfer", "tune_transfer", "sequence", "compare"])
def test_the_help_of_what_learns_says_where_evaluations_are(command, capsys):
    with pytest.raises(SystemExit):
        run([command, "--help"], make_console())
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "evaluations have cpu" in said


def test_an_engine_of_a_comparison_is_that_of_the_cells_that_say_none(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text('[common]\nwidth = 8\n[vary]\nengine = ["cpu", "warp"]\n')
    said = grid.read_grid(path, grid.axes())
    assert said.on("warp") == said
    path.write_text("[vary]\nwidth = [8, 16]\n")
    silent = grid.read_grid(path, grid.axes())
    assert silent.on(None) == silent
    assert [dict(cell.configuration.flags) for cell in silent.on("warp").cells] == [
        {"engine": "warp", "width": 8},
        {"engine": "warp", "width": 16},
    ]
    assert "--engine warp" in " ".join(silent.on("warp").cells[0].arguments)


def test_cells_that_an_engine_makes_the_same_are_refused(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text('[[cells]]\nwidth = 8\n[[cells]]\nwidth = 8\nengine = "warp"\n')
    with pytest.raises(ValueError, match="are the same configuration"):
        grid.read_grid(path, grid.axes()).on("warp")


def _has_engine(settings) -> bool:
    if isinstance(settings, config.TrainConfig):
        return hasattr(settings.job, "engine")
    return "engine" in settings.__dataclass_fields__


def test_a_snapshot_that_does_not_name_its_engine_is_of_the_cpu():
    env = ClosureVectorEnv("jar", 2)
    env.reset(seed=0)
    snapshot = env.snapshot()
    own = json.loads(bytes(snapshot["of"]))
    assert own.pop("engine") == "cpu"
    for part in (snapshot, snapshot["batch"]):
        named = {
            key: value for key, value in json.loads(bytes(part["of"])).items() if key != "engine"
        }
        part["of"] = np.frombuffer(json.dumps(named).encode(), np.uint8)
    env.step(np.zeros((2, 5)))
    env.restore(snapshot)
    assert np.array_equal(env.batch.sim.state, snapshot["batch"]["state"])
