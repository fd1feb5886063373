"""What the report says of rows that were not trained, and of what went wrong."""

import copy
import dataclasses
import re

import numpy as np
import pytest
import stored

from uncap.envs import CLOSURES, TASK_SETS, register, sample_closure
from uncap.envs.splits import NOVELTIES
from uncap.evaluation import experiment, report, runs, unseen, unseen_report
from uncap.evaluation.commands import transfer_lines
from uncap.evaluation.protocol import Episode, summary


@pytest.fixture
def figures(monkeypatch):
    """The figures that the page would hold."""
    found = []

    def keep(figure) -> str:
        found.append(figure)
        return ""

    monkeypatch.setattr(report, "picture", keep)
    monkeypatch.setattr(unseen_report, "picture", keep)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run folder with results."""
    run = tmp_path_factory.mktemp("made") / "run"
    experiment.start(run, stored.TINY, 0, "a test")
    trained = TASK_SETS["first"].train
    episodes = [Episode(task, 0, True, True, 1.0, 9, 0.5, 3.0) for task in trained]
    runs.update_results(run, **summary(episodes))
    return run


def page_of(run, **results) -> str:
    """The text of the report of a run with other results."""
    runs.write_json(run / "results.json", {**runs.read_results(run), **results})
    words = re.sub("<[^>]*>", " ", report.write_report(run).read_text())
    return " ".join(words.split())


def entry(**changes) -> dict:
    return {**copy.deepcopy(stored.TRANSFER), **changes}


def test_the_first_figure_is_success_against_distance(made, figures):
    far = entry(distance=1.23, nearest="mug", unseen=["turn_then_lift"], zero_shot=0.25)
    text = page_of(made, transfer={"canister": far, "thermos": entry()})
    axes = figures[0].axes[0]
    assert "distance" in axes.get_xlabel()
    assert [label.get_text() for label in axes.texts] == ["thermos", "canister (1 new)"]
    assert "no source is lifted only after it was turned" in text
    assert text.index("thermos 0.35 tumbler") < text.index("canister 1.23 mug")  # by distance
    assert (
        "fine tune 0.50 [0.20, 0.80] for good after 10 [10, never] steps 0.25 [0.00, 0.50] "
        "+0.00 [-0.30, 0.30] -0.10 [-0.40, 0.20] on scratch +0.25 [0.00, 0.50] at the end "
        "0.90 of 24 episodes 0.10 [0.00, 0.20] "
        "3 x 200 (50 before the end) scratch 0.50 never 0.25 In brackets: "
    ) in text
    assert "jumpstart +0 points (-30 to +30)" in text
    drawn = np.concatenate([line.get_xydata() for line in axes.lines])
    assert {0.25, 0.5} <= set(drawn[:, 1])


def test_a_run_of_an_older_version_is_placed_by_its_rows(made, figures):
    old = {k: v for k, v in entry().items() if k not in ("distance", "nearest", "unseen")}
    text = page_of(made, transfer={"thermos": old, "of-a-friend": old})
    assert "thermos 0.35 tumbler nothing that no source asks for" in text
    assert "of-a-friend is not placed: its distance is not stored" in text
    assert "zero-shot 0.50" in transfer_lines({"thermos": old})[0]


def test_many_rows_are_grouped_by_mechanism(made, figures):
    rng = np.random.default_rng(0)
    task = {"low": 0.0, "high": 1.0, "success_any": 0.5, "progress": 0.5, "steps_to_success": None}
    per_task = {}
    for mechanism, success in (*[("screw", 1.0)] * 6, *[("press", 0.0)] * 5, ("press", 1.0)):
        row = sample_closure(rng, mechanism=mechanism)
        register(row)
        per_task[row.name] = {**task, "success": success, "episodes": 10}
    text = page_of(
        made,
        transfer={},
        held_out={"mean_success": 0.5, "worst_success": 0.0, "per_task": per_task},
    )
    assert not figures[0].axes[0].texts
    assert re.search(r"screw 6 [\d.]+ to [\d.]+ no[^%]* 100 % ", text)
    assert re.search(r"press 6 [^%]*no source is pressed down against a spring[^%]* 17 % ", text)
    for name in per_task:
        del CLOSURES[name]


@pytest.mark.parametrize(
    ("results", "says"),
    [
        ({}, "diverged and were put back: none. Actions that were not finite: none."),
        ({"diverged": 3}, "put back: 3 (evaluation). Actions that were not finite: none."),
        (
            {"transfer": {"thermos": entry(curves={"scratch": [{**stored.CURVE, "diverged": 2}]})}},
            "put back: 2 (transfer to thermos, scratch).",
        ),
    ],
)
def test_what_went_wrong_is_said_and_so_is_that_nothing_did(made, results, says, figures):
    faults = {"diverged": 0, "invalid_actions": 0, "transfer": {"thermos": entry()}}
    before = runs.read_results(made)
    results = {**before, **faults, **results}
    assert says in report._faults_line(results)
    older = {k: v for k, v in results.items() if k not in faults}
    assert "put back: not recorded. Actions" in report._faults_line(older)


def test_the_end_of_the_warm_start_is_not_covered(made, figures):
    """The legend stands beside the axes, the words within them."""
    metrics = [
        {"phase": "dagger", "env_steps": "60", "success/jar": "0.5", "validation": "0.5"},
        {"phase": "ppo", "env_steps": "80", "success/jar": "1.0", "validation": "1.0"},
    ]
    axes = report._learning_figure(metrics, "success").axes[0]
    figure = axes.figure
    figure.canvas.draw()
    [words] = axes.texts
    legend, text = axes.get_legend().get_window_extent(), words.get_window_extent()
    assert words.get_text().strip() == "warm start ends"
    assert not legend.overlaps(text)
    assert text.x0 >= axes.bbox.x0
    assert text.x1 <= axes.bbox.x1


def test_many_rows_of_kinds_are_grouped_by_kind(tmp_path, figures):
    """One colour and one line for each kind, however many mechanisms there are."""
    run = tmp_path / "run"
    job = dataclasses.replace(stored.TINY, task_set="composed-8")
    experiment.start(run, job, 0, "a test")
    split = TASK_SETS["composed-8"]
    found = [
        Episode(row, 0, k % 2 == 0, True, 1.0, 9, 0.5, 3.0) for k, row in enumerate(split.held_out)
    ]
    trained = [Episode(row, 0, True, True, 1.0, 9, 0.5, 3.0) for row in split.train]
    runs.update_results(run, **summary(trained))
    text = page_of(run, held_out=unseen.by_novelty(split, summary(found)))
    [_, labels] = figures[0].axes[0].get_legend_handles_labels()
    assert labels[1:] and {label.rsplit(" ", 1)[0] for label in labels[1:]} == {
        "seen",
        *(kind.replace("_", " ") for kind in NOVELTIES),
    }
    assert re.search(r"new length 8 16 50 % \(28 % to 72 %\)", text)
    assert "stages off" in text
