"""Which targets will gain: what predictors say, and how right they were."""

import dataclasses
import io
import json
import pathlib

import numpy as np
import pytest
import stored
from rich.console import Console

from uncap.agents.config import DaggerConfig, LearnerConfig, NetworkConfig
from uncap.agents.learner import Learner
from uncap.envs import CLOSURES, named_set
from uncap.evaluation import beginnings, cli, forecast, runs

TARGETS = ("thermos", "canister", "mug", "jar")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> pathlib.Path:
    """A run that was taught two rows for a moment."""
    job = dataclasses.replace(stored.TINY, task_set="bottle,valve:thermos,canister,mug,reach")
    folder = stored.make_run(tmp_path_factory.mktemp("forecast") / "run", job)
    config = LearnerConfig(num_envs=4, warm=True, network=NetworkConfig(width=32))
    learner = Learner(named_set(job.task_set).train, config, 0)
    learner.imitate_experts(DaggerConfig(steps=3200, updates=40), lambda *_: True)
    learner.save(folder / "checkpoint")
    learner.closures.close()
    return folder


@pytest.fixture(scope="module")
def source(run) -> forecast.Source:
    return forecast.source_of(run, lambda row: None)


def test_what_predictors_say_of_a_trained_row_and_of_others(source):
    """Of a row that was trained nothing is new, and gradients agree more."""
    own, other = (forecast.predictions(source, name) for name in ("bottle", "reach"))
    assert own["distance"] == own["directed"] == 0.0 < other["directed"] <= 1.0
    assert other["distance"] > 0.5
    assert own["disagreement"] < other["disagreement"]
    assert -1.0 <= other["cosine"] < own["cosine"] <= 1.0
    assert own == forecast.predictions(source, "bottle")  # again the same


def test_first_attempts_of_a_memory_are_asked_where_there_is_one(run, source, tmp_path):
    assert "first_attempt" not in forecast.predictions(source, "jar")
    job = dataclasses.replace(stored.TINY, task_set="bottle,valve:reach", conditioning="belief")
    memory = stored.make_run(tmp_path / "memory", job)
    with_memory = dataclasses.replace(source, memory=beginnings.remembering(memory, ("reach",)))
    assert forecast.predictions(with_memory, "reach")["first_attempt"] == 0.0
    with pytest.raises(ValueError, match="has no memory"):
        beginnings.remembering(run, ())
    asked: list[str] = []
    with pytest.raises(ValueError, match="memory was trained on valve: a target must be unseen"):
        forecast.source_of(run, asked.append, memory, targets=("reach", "valve"))
    assert not asked  # before anything is looked at


def test_a_gradient_is_that_of_the_actors_distance(source):
    demo = forecast.demonstration(source.meta, "bottle")
    assert len(demo.action) == CLOSURES["bottle"].steps
    found = forecast.imitation_gradient(source.policy, demo)
    parameters = list(source.policy.actor.parameters())
    assert len(found) == sum(parameter.numel() for parameter in parameters)
    step = 1e-3 / found.norm()
    before = forecast.disagreement(source, "bottle", demo)
    offset = 0
    for parameter in parameters:
        change = found[offset : offset + parameter.numel()].reshape(parameter.shape)
        parameter.data -= step * change
        offset += parameter.numel()
    after = forecast.disagreement(source, "bottle", demo)
    for parameter, value in zip(
        parameters, np.split(found.numpy(), _ends(parameters)), strict=True
    ):
        parameter.data += step * np.reshape(value, parameter.shape)
    assert after < before


def _ends(parameters) -> list[int]:
    return np.cumsum([parameter.numel() for parameter in parameters])[:-1].tolist()


@pytest.mark.parametrize(
    ("predicted", "found", "expected"),
    [
        ([1, 2, 3, 4, 5], [0.1, 0.2, 0.3, 0.4, 0.9], 1.0),
        ([1, 2, 3, 4, 5], [0.9, 0.4, 0.3, 0.2, 0.1], -1.0),
        ([1, 2, 3, 4], [0.2, 0.1, 0.4, 0.3], 0.6),  # 1 - 6 x 4 / (4 x 15)
    ],
)
def test_rank_correlations_by_hand(predicted, found, expected):
    value, low, high = forecast.correlation(predicted, found, 0) or (0, 0, 0)
    assert value == pytest.approx(expected)
    assert low <= value <= high


def test_too_few_targets_have_no_correlation():
    assert forecast.correlation([1, 2, 3], [1, 2, 3], 0) is None
    assert forecast.correlation([1, 1, 1, 1], [1, 2, 3, 4], 0) is None
    assert forecast.correlation([1, 2, 3, 4], [0, 0, 0, 0], 0) is None


def said(*words) -> str:
    console = Console(file=io.StringIO(), markup=False, width=1000)
    cli.run(words, console)
    return console.file.getvalue()  # type: ignore


def test_the_command_says_how_right_it_was_where_that_is_known(run, tmp_path):
    printed = said("forecast", str(run), "--targets", "thermos", "jar")
    assert "no correlations: they need outcomes of 4 targets or more" in printed
    finals = dict(zip(TARGETS, (0.9, 0.5, 0.2, 0.7), strict=True))
    entries = {
        name: {
            **stored.TRANSFER,
            "zero_shot": rate,
            "final": {"zero_shot": rate, "fine_tune": rate, "scratch": 0.1},
        }
        for name, rate in finals.items()
    }
    runs.update_results(run, transfer=entries)
    printed = said("forecast", str(run), "--targets", *TARGETS, "--out", str(tmp_path / "f.json"))
    assert "rank correlation of distance with zero-shot success: -" in printed
    assert "rank correlation of cosine with gain of fine_tune on scratch: " in printed
    found = json.loads((tmp_path / "f.json").read_text())
    assert list(found["predicted"]) == list(TARGETS)
    assert set(found["predicted"]["jar"]) == set(forecast.PREDICTORS) - {"first_attempt"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--targets", "bottle"), "was trained on bottle: a target must be unseen"),
        (("--targets", "botle"), "unknown"),
    ],
)
def test_what_cannot_be_forecast_gets_one_line(run, words, says):
    with pytest.raises((ValueError, SystemExit), match=says):
        said("forecast", str(run), *words)
