"""The report of a run: what a reader meets first, and where it leads."""

import dataclasses
import re

import numpy as np
import pytest
import stored

from uncap.agents.warm_starts import Progress
from uncap.evaluation import experiment, pages, report, runs, training, video
from uncap.evaluation.metrics import Metrics


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    stored.make_run(folder)
    return folder


def page_of(run, **results) -> str:
    runs.update_results(run, **results)
    return report.write_report(run).read_text(encoding="utf-8")


def put_films(run, *names) -> None:
    (run / "videos").mkdir()
    for name in names:
        (run / "videos" / f"{name}.mp4").write_bytes(b"a film")


def test_films_of_held_out_rows_come_first_and_are_marked(run):
    config = runs.open_run(run)
    trained, held_out = config["train"][0], config["held_out"][-1]
    put_films(run, trained, held_out)
    text = page_of(run)
    films = re.findall(r"<figure id='film-([^']*)'.*?<figcaption class=note>(.*?)</figcap", text)
    assert [name for name, _ in films] == [held_out, trained]
    assert ["held out" in words for _, words in films] == [True, False]
    assert text.count("autoplay controls loop muted playsinline") == 2


def test_a_film_says_how_it_ended_where_that_is_known(run):
    first, second, third = runs.open_run(run)["train"][:3]
    put_films(run, first, second, third)
    text = page_of(
        run,
        films={
            first: {"success": True, "progress": 1.0},
            second: {"success": False, "progress": 0.42},
        },
    )
    assert f"<b>{first}</b>: opened<" in text
    assert f"<b>{second}</b>: not opened, 42 %<" in text
    assert f"<b>{third}</b><" in text


def test_the_worst_row_is_named_and_leads_to_its_film(run):
    results = runs.read_results(run)
    worst = list(results["per_task"])[1]
    results["per_task"][worst]["success"] = 0.25
    put_films(run, worst)
    changed = {"per_task": results["per_task"], "worst_success": 0.25}
    assert f"worst: {worst} 25 %." in page_of(run, **changed)  # of its film nothing is known
    outcome = {worst: {"success": False, "progress": 0.1}}
    text = page_of(run, films=outcome, **changed)
    assert f"worst: <a href='#film-{worst}'>{worst}</a> 25 %." in text
    assert f"id='film-{worst}'" in text


def test_validation_has_a_curve_for_every_row(run, monkeypatch):
    drawn = []
    monkeypatch.setattr(report, "picture", lambda figure: drawn.append(figure) or "")
    report.write_report(run)
    before = len(drawn)
    tasks = runs.open_run(run)["train"]
    columns = ["phase", "env_steps", "seconds", "loss", "validation"]
    (run / "metrics.csv").unlink()
    own = [f"{part}/{task}" for part in ("success", "validation") for task in tasks]
    metrics = Metrics(run / "metrics.csv", [*columns, *own])
    for step in (1, 2):
        rates = {f"validation/{task}": 0.5 * step for task in tasks}
        metrics.row(phase="ppo", env_steps=step, seconds=step, validation=0.5 * step, **rates)
    metrics.close()
    drawn.clear()
    report.write_report(run)
    assert len(drawn) == before + 1
    labels = [
        {line.get_label() for line in figure.axes[0].lines} for figure in drawn if figure.axes
    ]
    assert any({*tasks, "validation, mean"} <= names for names in labels)
    legends = [figure.axes[0].get_legend() for figure in drawn if figure.axes[0].get_legend()]
    assert legends


def test_cloning_takes_no_environment_steps(tmp_path, monkeypatch):
    def clone(learner, settings, on_progress):
        for epoch in (1, 2, 3):
            assert on_progress(Progress(epoch, 3, 0.5, env_steps=0))

    monkeypatch.setattr(training, "WARM_STARTS", {"clone": clone})
    job = dataclasses.replace(
        stored.TINY, task_set="unrelated", warm_start="clone", env_steps=16, validation_episodes=1
    )
    experiment.start(tmp_path / "run", job, 0, "a test")
    session = training.Session(tmp_path / "run", job, 0, lambda *_: None, lambda: False)
    assert training.Training(session, resume=False).run()
    rows = runs.read_run_metrics(tmp_path / "run").rows
    steps = [int(row["env_steps"]) for row in rows]
    assert steps == sorted(steps) and steps[-1] == 16
    assert [n for n, row in zip(steps, rows, strict=True) if row["phase"] == "clone"] == [0] * 4


def test_learning_without_steps_is_drawn_over_seconds():
    rows = [
        {"phase": "clone", "env_steps": "0", "seconds": f"{k}", "validation": f"{0.1 * k}"}
        for k in (1, 2, 3)
    ]
    axes = report._learning_figure(rows, "success").axes[0]
    assert axes.get_xlabel() == "seconds"
    assert axes.lines[0].get_xdata().tolist() == [1.0, 2.0, 3.0]
    rows.append({"phase": "ppo", "env_steps": "2000", "seconds": "4", "validation": "0.5"})
    axes = report._learning_figure(rows, "success").axes[0]
    assert "environment steps" in axes.get_xlabel()
    assert axes.lines[0].get_xdata().tolist() == [0.0, 0.0, 0.0, 2.0]


def test_of_many_rows_the_mean_is_drawn_and_named():
    """Of those that were practised: half of the rows open at first, then all of the second half."""
    names = [f"success/r{k:03}" for k in range(100)]
    first = {name: str(k % 2) for k, name in enumerate(names)}
    second = dict.fromkeys(names[:50], "") | dict.fromkeys(names[50:], "1")
    common = {"phase": "ppo", "validation": ""}
    rows = [{**common, "env_steps": "1000", **first}, {**common, "env_steps": "2000", **second}]
    axes = report._learning_figure(rows, "success").axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    mean = lines["mean of 100 rows"]
    assert mean.get_xdata().tolist() == [1.0, 2.0]
    assert mean.get_ydata().tolist() == [0.5, 0.75]  # the mean of up to ten updates
    assert [name for name in lines if not name.startswith("_")] == [
        "mean of 100 rows",
        "validation, mean",
    ]


def test_a_caption_ends_with_a_word():
    line = "reach: a mark in the air (control: no closure)"
    assert video.shortened(line, lambda text: len(text) <= 60) == line
    assert video.shortened(line, lambda text: len(text) <= 30) == "reach: a mark in the air ..."
    assert video.shortened("unbroken", lambda text: False) == "unbroken"


def test_a_page_fits_a_telephone():
    text = pages.page("t", pages.table([("a", "b")]))
    assert "width=device-width" in text
    assert "<div class=wide><table>" in text
    assert ".wide{overflow-x:auto}" in text


def test_a_belief_is_drawn_beside_a_frame():
    frame = np.zeros((240, 320, 3), np.uint8)
    assert video.with_belief(frame, {}) is frame
    sure, unsure = (video.with_belief(frame, {"jar": share}) for share in (1.0, 0.1))
    assert sure.shape == (240, 480, 3)  # of widths that films take
    assert (sure[:, :320] == 0).all()
    green = [(picture[:, 320:, 1] > 200).sum() for picture in (sure, unsure)]
    assert green[0] > 2 * green[1]


def test_attempts_are_set_beside_the_control_whose_memory_is_wiped(run):
    text = report.write_report(run).read_text("utf-8")
    assert "memory wiped before each" in text
    assert "after attempts 1 to 2 the mean belief in the true row is" in text
    assert "attempts of 40 control steps (2.0 s) at one closure" in page_of(run, attempt_steps=40)


def test_hundreds_of_rows_are_points_in_one_figure():
    row = {"success": 1.0, "low": 0.8, "high": 1.0}
    few = report._success_figure({f"row {i}": row for i in range(30)}, "rows")
    many = report._success_figure({f"row {i}": row for i in range(300)}, "rows")
    assert many.get_figheight() < few.get_figheight()
    assert many.axes[0].get_xlabel() == "300 rows, the least successful one first"
