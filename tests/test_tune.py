"""Tuning: studies that are refused, and runs of the stand-in for training of test_compare."""

import json
import pathlib

import pytest
from rich.console import Console
from test_compare import AXES, StandIn

from uncap.evaluation.config import TuneConfig
from uncap.evaluation.grid import axes
from uncap.evaluation.runs import RunError
from uncap.evaluation.tuning import read_study, tune

pytest.importorskip("optuna")
ROOT = pathlib.Path(__file__).parent.parent
STUDY = """
trials = 6
seeds = 2
[common]
videos = false
[tune]
conditioning = ["none", "one_hot"]
rate = { low = 1e-3, high = 10.0, log = true }
env_steps = { low = 100, high = 300, step = 100 }
"""
ONE = 'trials = 1\n[tune]\nconditioning = ["none"]\n'


class Tuning(StandIn):
    """Studies whose trainings are the stand-in's."""

    def __call__(self, study=STUDY, jobs=1, seed=0) -> dict:
        path = self.folder / "study.toml"
        path.write_text(study)
        config = TuneConfig(grid=path, out=self.out, jobs=jobs, seed=seed)
        return tune(config, AXES, Console(quiet=True), self.command)


@pytest.fixture
def job(tmp_path) -> Tuning:
    return Tuning(tmp_path)


def read_text(text, folder):
    path = folder / "study.toml"
    path.write_text(text)
    return read_study(path, AXES)


def test_the_best_trial_is_the_one_of_the_best_validation(job):
    found = job()
    assert [trial["number"] for trial in found["trials"]] == list(range(6))
    told = {trial["number"]: trial["values"]["conditioning"] for trial in found["trials"]}
    assert set(told.values()) == {"none", "one_hot"}
    best = {"none": 1.0, "one_hot": 0.6}  # of the stand-in
    for trial in found["trials"]:
        assert trial["scores"] == pytest.approx([best[trial["values"]["conditioning"]]] * 2)
        assert 1e-3 <= trial["values"]["rate"] <= 10
        assert trial["values"]["env_steps"] in (100, 200, 300)
    assert told[found["best"]] == "none"
    assert json.loads((job.out / "tune.json").read_text())["trials"] == found["trials"]


def test_a_mean_over_validations_rewards_a_quick_training(job):
    found = job('objective = "mean"\n' + ONE)
    assert found["trials"][0]["score"] == pytest.approx((0.2 + 1.0) / 2)


def test_the_same_seed_has_the_same_trials_and_another_seed_others(tmp_path):
    def values(name, seed):
        (tmp_path / name).mkdir()
        return [trial["values"] for trial in Tuning(tmp_path / name)(seed=seed)["trials"]]

    assert values("a", 0) == values("b", 0)
    assert values("c", 1) != values("d", 0)


def test_a_study_goes_on_where_it_was_and_takes_more_trials(job):
    fewer = job(STUDY.replace("trials = 6", "trials = 3"))
    trained = len(job.command_lines())
    more = job()
    assert more["trials"][:3] == fewer["trials"]
    assert len(job.command_lines()) == trained + 3 * 2  # two seeds each; nothing is trained again
    assert job() == more


def test_a_trial_that_was_not_finished_is_finished_with_its_own_values(job):
    first = job(STUDY.replace("trials = 6", "trials = 2"))
    results = job.cells / "trial-001-seed1" / "results.json"
    results.unlink()
    again = job(STUDY.replace("trials = 6", "trials = 2"))
    assert again["trials"] == first["trials"]
    assert "--resume" in job.command_lines()[-1]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "flags",
    [
        "[common]\ndeviations = [[0, 0.5], [9, 0.1]]\n[tune]\nrate = [1.0]\n",
        "[tune]\ndeviations = [[[0, 0.5], [9, 0.1]], [[0, 0.2]]]\n",
    ],
)
def test_flags_that_are_lists_of_pairs_belong_to_their_study(flags, job):
    found = job(f"trials = 2\n{flags}")
    assert [trial["score"] for trial in found["trials"]] == pytest.approx([1.0, 1.0])
    assert job(f"trials = 2\n{flags}") == found


def test_several_trials_are_trained_at_once(job):
    found = job(jobs=4)
    assert len(found["trials"]) == 6
    assert all(trial["score"] is not None for trial in found["trials"])


def test_a_training_that_fails_does_not_stop_the_others(job):
    study = 'trials = 4\nseeds = 2\n[common]\ntask_set = "bad"\n[tune]\nrate = [1, 2]\n'
    with pytest.raises(RunError, match="4 trainings failed: trial-000-seed1, "):
        job(study)
    found = json.loads((job.out / "tune.json").read_text())
    assert len(found["trials"]) == 4
    assert found["best"] is None
    assert "exit 1: error: diverged" in found["failed"]["trial-000-seed1"]


def test_a_folder_of_another_study_is_refused(job):
    job(ONE)
    with pytest.raises(RunError, match="flags that the study does not give"):
        job(ONE + "[common]\nenv_steps = 7\n")
    with pytest.raises(RunError, match="flags that the study does not give"):
        job(ONE.replace("none", "one_hot"))
    (job.out.parent / "else").mkdir()
    (job.out.parent / "else/a").write_text("")
    job.out = job.out.parent / "else"
    with pytest.raises(RunError, match="is no study"):
        job(ONE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing to tune: give"),
        ("[vary]\nrate = [1]", "unknown key 'vary'; allowed: name, seeds, common, trials"),
        ("trials = 0\n[tune]\nrate = [1]", "trials must be from 1 to 1,000, not 0"),
        ("trials = true\n[tune]\nrate = [1]", "trials must be a whole number, not True"),
        ('objective = "last"\n[tune]\nrate = [1]', "objective must be one of best, mean, not 'la"),
        ("[tune]\nrat = [1]", "unknown flag 'rat' in [tune]; allowed: conditioning"),
        ("[tune]\nrate = 1", "rate must be a list of values, or a range such as {low"),
        ("[tune]\nrate = []", "rate must be a list of values"),
        ("[tune]\nrate = {low = 1}", "rate must be a list of values, or a range"),
        ("[tune]\nrate = {low = 1, high = 2, mean = 1}", "keys: low, high, log, step"),
        ("[tune]\nrate = {low = 2.0, high = 1.0}", "[tune] rate: "),
        ("[tune]\nrate = {low = 0.0, high = 1.0, log = true}", "[tune] rate: "),
        ("[tune]\nrate = {low = 0.1, high = 1.0, log = 1}", "log must be true or false, not 1"),
        ('[tune]\nenv_steps = {low = 1, high = 9, step = "a"}', "step must be a whole number"),
        ("[tune]\nenv_steps = {low = 1, high = 9, step = 0.5}", "step must be a whole number"),
        ("[tune]\nenv_steps = {low = 1, high = 9, step = 0}", "[tune] env_steps: "),
        ('[tune]\nconditioning = {low = "none", high = "one_hot"}', "has no range: give a list"),
        ('[tune]\nconditioning = ["some"]', "some"),
        ("[common]\nrate = 1\n[tune]\nrate = [1]", "is in [common] and in [tune]"),
        ('name = "--"\n[tune]\nrate = [1]', "names no folder"),
        ("seeds = [1, 1]\n[tune]\nrate = [1]", "different whole numbers"),
        ("tune = 1", "tune must be a table"),
        ("[tune", "is not TOML"),
    ],
)
def test_a_study_that_is_not_one_is_refused_in_a_line(text, message, tmp_path):
    with pytest.raises(ValueError) as caught:
        read_text(text, tmp_path)
    assert message in str(caught.value)
    assert "study.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_study_of_the_repository_is_valid():
    study = read_study(ROOT / "benchmarks/tune.toml", axes())
    assert study.trials * len(study.seeds) <= 50
    assert set(study.space) == {"width", "body", "dagger.learning_rate", "dagger.updates"}
