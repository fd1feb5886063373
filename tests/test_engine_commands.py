"""Every command that steps simulations does so on the engine that it is told: Warp's, on the CPU.

`train` is in test_warp.py. The cells of grids are trainings: test_engines.py has their flags.
"""

import dataclasses
import functools
import json
import pathlib

import pytest
import stored

pytest.importorskip("mujoco_warp")

from uncap.envs import CLOSURES, ClosureVectorEnv
from uncap.envs.opengl import RenderingUnavailable
from uncap.evaluation import audit, cli, commands, gallery, live, processes, video
from uncap.evaluation.progress import make_console

TINY = "--env-steps 8 --points 1 --num-envs 2 --controls"
ALONE, BESIDE = {"warp"}, {"warp", "cpu"}  # the latter measures on cpu, by design
# command line -> engines that it opens
LINES = {
    "evaluate expert --tasks cork --episodes 2 --episode-steps 2": ALONE,
    "audit --tasks slide-mug --out OUT": ALONE,
    "benchmark --task-set first/jar --num-envs 2 --steps 1": ALONE,
    "demos --task-set first/jar --episodes 1 --out OUT": ALONE,
    "gallery --out OUT": ALONE,
    "video RUN --task cork --out OUT.mp4": ALONE,
    "forecast RUN --targets thermos": ALONE,
    f"transfer RUN --target canister {TINY} scratch": BESIDE,
    f"tune_transfer RUN --targets thermos --trials 1 {TINY} scratch": BESIDE,
    "sequence cork jar --steps 8 --num-envs 2 --episodes 1 --out OUT": BESIDE,
}


@pytest.fixture
def run(tmp_path):
    job = dataclasses.replace(stored.TINY, task_set="cork,jar:thermos,canister", episode_steps=4)
    return stored.make_run(tmp_path / "run", job)


@pytest.fixture
def opened(run, monkeypatch, opened_engines):
    """The engines that are opened from now on; what takes long is made short."""
    monkeypatch.setenv("UNCAP_WARP_DEVICE", "cpu")
    monkeypatch.setattr(processes, "default_threads", lambda: 1)  # all in this process
    monkeypatch.setattr(commands, "inference", lambda *_, **__: {})
    monkeypatch.setattr(audit, "search", functools.partial(audit.search, population=4, rounds=1))
    monkeypatch.setattr(audit, "STEPS", 4)
    monkeypatch.setattr(video, "record", functools.partial(video.record, width=64))
    monkeypatch.setattr(gallery, "COMPOSED", ())
    monkeypatch.setattr(gallery, "CLOSURES", {name: CLOSURES[name] for name in ("cork", "jar")})
    short = functools.partial(ClosureVectorEnv, episode_steps=4)
    monkeypatch.setattr(gallery, "ClosureVectorEnv", short)
    return opened_engines


@pytest.mark.parametrize("line", LINES)
def test_a_command_steps_on_the_engine_that_it_is_told(line, run, opened, tmp_path):
    words = line.replace("RUN", str(run)).replace("OUT", str(tmp_path / "out")).split()
    try:
        cli.run([*words, "--engine", "warp"], make_console())
    except RenderingUnavailable as error:
        assert set(opened) == {"warp"}
        pytest.skip(str(error))
    assert set(opened) == LINES[line]
    if words[0] == "transfer":
        entry = json.loads((run / "results.json").read_text())["transfer"]["canister"]
        assert entry["engine"] == "warp"


def test_a_look_at_a_policy_is_on_the_engine_that_it_is_told(opened, tmp_path):
    [actor, *_] = commands.actors(pathlib.Path("expert"), ("cork",))
    look = live.Live(actor, "cork", 0, tmp_path / "out", "warp")
    look.close()
    assert opened == ["warp"]


def test_a_transfer_on_another_engine_than_before_is_refused(run, opened):
    words = f"transfer {run} --target canister {TINY} scratch".split()
    cli.run(words, make_console())
    with pytest.raises(ValueError, match="engine cpu, now warp"):
        cli.run([*words, "--engine", "warp"], make_console())


def test_pictures_of_demonstrations_on_warp_are_refused(opened):
    words = ["demos", "--format", "lerobot", "--pictures", "--engine", "warp"]
    with pytest.raises(ValueError, match="^--pictures goes with --engine cpu only"):
        cli.run(words, make_console())
    assert not opened
