"""Curves of trainings on a GPU beside those on a CPU, of toy run folders."""

import dataclasses
import importlib
import pathlib
import sys

import numpy as np
import pytest
import stored
from PIL import Image

from uncap.evaluation import experiment, runs
from uncap.evaluation.metrics import Metrics

ROOT = pathlib.Path(__file__).parent.parent

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(ROOT / "benchmarks")
    gpu_curves = importlib.import_module("gpu_curves")


def make_run(folder, engine, rows):
    job = dataclasses.replace(stored.TINY, task_set="bottle,mug:", engine=engine)
    experiment.start(folder, job, 0, "a test")
    columns = ["phase", "env_steps", "seconds", "success/bottle", "success/mug"]
    metrics = Metrics(folder / "metrics.csv", columns)
    for number, (seconds, bottle, mug) in enumerate(rows):
        rates = {"success/bottle": bottle, "success/mug": mug}
        metrics.row(phase="ppo", env_steps=number, seconds=seconds, **rates)
    metrics.close()
    return folder


def draw(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["gpu_curves.py", *map(str, words)])
    gpu_curves.main()
    return capsys.readouterr().out.splitlines()


def test_a_gpu_is_drawn_beside_a_cpu(tmp_path, monkeypatch, capsys):
    slow = [(10, None, None), (60, 0.0, 0.2), (120, 0.6, None), (600, 0.7, 0.9)]
    cpu = make_run(tmp_path / "on-cpu", "cpu", slow)
    gpu = make_run(tmp_path / "on-gpu", "warp", [(1, 0.1, 0.1), (5, 1.0, 0.9)])
    curve = gpu_curves.curve_of(cpu)
    # of each row the last rate, once one is known
    np.testing.assert_allclose(curve.seconds, [60, 120, 600])
    np.testing.assert_allclose(curve.success, [0.1, 0.4, 0.8])
    out = tmp_path / "deeper/curves.png"
    first, second, last = draw(monkeypatch, capsys, cpu, gpu, "--out", out)
    assert " ".join(first.split()) == (
        "on-cpu cpu to 0.5 600 s to 0.9 never at the end 0.800 after 600 s"
    )
    assert " ".join(second.split()) == (
        "on-gpu warp to 0.5 5 s to 0.9 5 s at the end 0.950 after 5 s"
    )
    assert last == f"picture: {out}"
    assert Image.open(out).size == (910, 546)


def test_a_run_without_a_success_is_said_in_a_line(tmp_path, monkeypatch, capsys):
    empty = make_run(tmp_path / "empty", "warp", [(1, None, None)])
    with pytest.raises(SystemExit, match="error: .*empty/metrics.csv has no success of any row"):
        draw(monkeypatch, capsys, empty)
    with pytest.raises(SystemExit, match="^error: .*none"):
        draw(monkeypatch, capsys, tmp_path / "none")
    assert issubclass(runs.RunError, ValueError)
