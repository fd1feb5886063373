"""No command accepts a flag that has no effect: it is used, changed in the run, or refused."""

import ast
import dataclasses
import fnmatch
import inspect
import json
import pathlib

import pytest
import stored

from uncap.agents.settings import Flag, flags, load, replaced
from uncap.agents.tables import ALGORITHMS
from uncap.envs import CLOSURES
from uncap.evaluation import arms, curves, effects, experiment, transfer
from uncap.evaluation import flags as command_line
from uncap.evaluation.cli import COMMANDS
from uncap.evaluation.commands import check_job, check_seeds, train
from uncap.evaluation.config import JobConfig, TrainConfig, TransferConfig
from uncap.evaluation.grid import axes, read_grid
from uncap.evaluation.loggers import LOGGERS
from uncap.evaluation.progress import make_console
from uncap.evaluation.training import Session

ROOT = pathlib.Path(__file__).parent.parent
TRAIN_FLAGS = {flag.key: flag for flag in flags(TrainConfig())}
ALWAYS_USED = {  # by a new training, whatever else is given; the others need something
    "task_set": "which rows",
    "algorithm": "which algorithm",
    "warm_start": "which warm start",
    "demos": "refused where nothing reads it, see check_job",
    "conditioning": "the task vector",
    "sensors": "the state",
    "episode_steps": "the length of an episode",
    "alone": "a policy per row",
    "env_steps": "the budget",
    "minutes": "the budget",
    "num_envs": "the batch",
    "engine": "the batch",
    "threads": "the batch",
    "episodes": "of the evaluation",
    "validation_episodes": "of the validations",
    "validation_quota": "of the validations",
    "tensorboard": "a logger",
    "checkpoints": "what is kept",
    "wandb": "a logger",
    "transfer_steps": "refused where there is no transfer",
    "out": "the folder",
    "seed": "all that is random",
    "quick": "other defaults",
    "resume": "which run",
    "videos": "whether there are films",
    "tasks": "which rows",
    "held_out": "which rows, see with_own_rows",
}


def needs_something(flag: Flag) -> bool:
    """Whether a rule says when a flag of `train` has an effect."""
    in_group = len(flag.path) > 1 and flag.path[-2] in effects.GROUPS_OF_ALGORITHMS
    return in_group or any(fnmatch.fnmatchcase(flag.key, use.keys) for use in effects.USES)


@pytest.mark.parametrize("flag", TRAIN_FLAGS.values(), ids=lambda flag: flag.name)
def test_it_is_said_when_a_flag_of_train_has_an_effect(flag):
    assert needs_something(flag) != (flag.key in ALWAYS_USED)


PARTS = {
    "audit": ("_audit_row",),
    "evaluate": ("_evaluated", "_sides", "_about", "_episodes"),
    "demos": ("uncap.evaluation.recording:recorded", "uncap.evaluation.recording:dataset_id"),
    "sequence": (
        "uncap.evaluation.sequence:rows_of",
        "uncap.evaluation.sequence:TaskSequence",
    ),
    "transfer": ("_transfer_job",),
    "tune_transfer": ("_transfer_job",),
    "tune": ("uncap.evaluation.tuning:tune", "uncap.evaluation.tuning:_next"),
}  # get flags handed


def attributes_read() -> set[str]:
    """Names of all attributes that the program reads."""
    files = [p for folder in ("agents", "evaluation") for p in (ROOT / folder).glob("*.py")]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text("utf-8")))]
    return {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def test_every_setting_of_a_training_is_read_somewhere():
    read = attributes_read() | set(LOGGERS)  # which are read by their names
    assert {flag.path[-1] for flag in TRAIN_FLAGS.values()} <= read


@pytest.mark.parametrize(
    ("name", "field"),
    [
        (name, flag.path[0])
        for name, command in COMMANDS.items()
        if name not in ("train", "compare")  # compare hands its settings on, see below
        for flag in flags(command.config)
    ],
)
def test_a_command_reads_each_of_its_flags(name, field):
    source = inspect.getsource(load(COMMANDS[name].run))
    for part in PARTS.get(name, ()):
        where = part if ":" in part else f"uncap.evaluation.commands:{part}"
        source += inspect.getsource(load(where))
    assert f"config.{field}" in source


def test_compare_reads_each_of_its_flags():
    source = inspect.getsource(load("uncap.evaluation.compare:compare"))
    for flag in flags(COMMANDS["compare"].config):
        assert f"config.{flag.path[0]}" in source


# A new training


def check_line(line: str) -> None:
    """Check a command line of `train` as the command does."""
    config = command_line.parse(TrainConfig(), line.split(), "train")
    check_job(config.job)
    effects.check_effects(config)


PLAIN = "--algorithm plain_ppo --warm-start none --transfer-steps 0"
SAC = "--algorithm sac --transfer-steps 0"
SCRATCH = "--warm-start none"


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        ("--sac.tau 0.02", "--sac.tau"),
        (f"{SAC} --ppo.clip 0.1", "--ppo.clip"),
        (f"{PLAIN} --ppo.clip 0.1", "--ppo.clip"),
        (f"{PLAIN} --sac.tau 0.02", "--sac.tau"),
        (f"{PLAIN} --body film", "--body"),
        (f"{PLAIN} --width 64", "--width"),
        (f"{PLAIN} --head per_task", "--head"),
        (f"{SCRATCH} --dagger.updates 3", "--dagger.updates"),
        ("--clone.epochs 3", "--clone.epochs"),
        (f"{SCRATCH} --ppo.guidance 3", "--ppo.guidance"),
        (f"{SCRATCH} --transfer-steps 0 --ppo.warm-rollout 9", "--ppo.warm-rollout"),
        ("--transfer-steps 0 --ppo.rollout 9", "--ppo.rollout"),
        ("--transfer-steps 0 --ppo.correlation 0.5", "--ppo.correlation"),
        (f"{SAC} --sac.deviation 0.5", "--sac.deviation"),
        (f"{SAC} {SCRATCH} --sac.warm-deviation 0.5", "--sac.warm-deviation"),
        (f"{SAC} --sac.demo-share 0.3", "--sac.demo-share"),
        ("--transfer-steps 0 --transfer.points 3", "--transfer.points"),
        ("--conditioning one_hot --transfer.seeds 3", "--transfer.seeds"),
        ("--conditioning one_hot --transfer-steps 640", "--transfer-steps"),
        ("--alone --transfer-steps 640", "--transfer-steps"),
        ("--alone --sampling zipf", "--sampling"),
        ("--task-set mt16/jar --sampling zipf", "--sampling"),
        ("--alone --film-width 320", "--film-width"),
        ("--alone --videos", "--videos"),
        ("--no-videos --film-width 320", "--film-width"),
        ("--task-set drawn-8 --transfer.points 3", "--transfer.points"),
        ("--task-set drawn-8 --transfer-steps 640", "--transfer-steps"),
        ("--alone --transfer.targets thermos", "--transfer.targets"),
        ("--dagger.steps 9 --dagger.steps-per-task 9", "--dagger.steps-per-task"),
        ("--env-steps 0 --transfer-steps 0 --ppo.clip 0.1", "--ppo.clip"),
        ("--env-steps 0 --validations 3", "--validations"),
        ("--env-steps 0 --cosines", "--cosines"),
    ],
)
def test_a_flag_without_effect_is_refused_by_name(line, flag):
    with pytest.raises(ValueError, match=f"^{flag} has no effect"):
        check_line(line)


@pytest.mark.parametrize(
    "line",
    [
        "--ppo.rollout 9 --ppo.warm-rollout 90 --ppo.guidance 3",  # one in the transfer
        f"{SCRATCH} --ppo.warm-rollout 90 --ppo.rollout 9",
        f"{SAC} --sac.warm-deviation 0.5 --rule sum --no-popart --body film",
        f"{PLAIN} --no-cosines --sampling zipf",
        "--alone --no-videos --transfer-steps 0",
        "--conditioning one_hot --transfer-steps 0",
        "--task-set drawn-8 --transfer-steps 0 --env-steps 0 --dagger.steps 9 --width 8",
        "--env-steps 0 --ppo.clip 0.1",  # in the transfer
        "--task-set drawn-8 --transfer.targets unseen-pull-0 --transfer.points 3",
        "--transfer.targets thermos canister",
    ],
)
def test_flags_with_an_effect_are_taken(line):
    check_line(line)


@pytest.mark.parametrize(
    ("line", "targets"),
    [
        ("", ("thermos", "canister", "reach")),
        ("--transfer.targets reach thermos", ("reach", "thermos")),
        ("--task-set drawn-8", ()),
        ("--task-set drawn-8 --transfer.targets unseen-pull-0", ("unseen-pull-0",)),
        ("--transfer-steps 0 --task-set drawn-8", ()),
    ],
)
def test_a_job_transfers_to_the_rows_of_its_set_or_to_those_that_are_named(line, targets):
    config = command_line.parse(TrainConfig(), line.split(), "train")
    assert effects.targets_of(config.job) == targets


@pytest.mark.parametrize("row", ["jar", "no-such-row", "unseen-pull-0"])
def test_a_target_is_held_out_of_the_set(row):
    with pytest.raises(ValueError, match=f"unknown row held out of 'first' '{row}'"):
        check_line(f"--transfer.targets {row}")


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_groups_of_an_algorithm_are_groups(name):
    assert set(ALGORITHMS[name].groups) <= set(effects.GROUPS_OF_ALGORITHMS)


@pytest.mark.parametrize(
    ("seed", "config", "allowed"),
    [
        (2**32 - 1, TransferConfig(seeds=1, methods=("head_only",)), False),  # warms its critic up
        (2**32 - 1, TransferConfig(seeds=1, methods=()), True),
        (2**32 - 1, TransferConfig(seeds=2, methods=()), False),
        (2**32 - 2, TransferConfig(seeds=2, methods=()), True),
        (2**32 - 2, TransferConfig(seeds=1, methods=("demos-1",)), False),
    ],
)
def test_seeds_count_on_within_what_is_allowed(seed, config, allowed):
    if allowed:
        check_seeds(seed, config)
    else:
        with pytest.raises(ValueError, match="^--seed must be at most 42949[456]"):
            check_seeds(seed, config)


GRID = """
[common]
dagger.updates = 9
[vary]
warm_start = ['none', 'dagger']
"""


def test_a_flag_of_a_grid_is_left_out_of_the_cells_without_use_for_it(tmp_path):
    (tmp_path / "g.toml").write_text(GRID)
    scratch, warm = read_grid(tmp_path / "g.toml", axes()).cells
    assert scratch.arguments == ["--warm-start", "none", "--seed", "0"]
    assert "--dagger.updates" in warm.arguments
    (tmp_path / "g.toml").write_text(GRID.replace(", 'dagger'", ""))
    with pytest.raises(ValueError, match="in no cell has dagger.updates an effect"):
        read_grid(tmp_path / "g.toml", axes())


# A run that goes on


def is_numbered(name: str) -> bool:
    """Whether it is an arm that needs a number behind its name."""
    return name in arms.ARMS and bool(arms.ARMS[name].counts)


def another(flag: Flag):
    """A value of a flag that is not its default, and is none that another flag forbids."""
    own = {"transfer_steps": 1280, "film_width": 320, "videos": False, "validations": 3}
    own["transfer.targets"] = ("canister",)  # held out of the set
    if flag.key in own:
        return own[flag.key]
    if flag.setting.choices is not None:
        chosen = (flag.default,) if isinstance(flag.default, str) else flag.default or ()
        names = [name for name in flag.setting.names() if not is_numbered(name)]
        found = next(name for name in names if name not in chosen)
        return (found,) if isinstance(flag.default, tuple) else found
    if flag.type is bool:
        return not flag.default
    if flag.type is float:
        return flag.default / 2 if flag.default else 7.5
    if flag.type is int:
        return flag.default + 1 if flag.default else 7
    return ((0, 0.4), (9, 0.1)) if flag.key == "ppo.deviations" else flag.type("elsewhere")


def start(folder: pathlib.Path, **changes) -> pathlib.Path:
    """A run folder that was started, with a seed of 3."""
    run = folder / "run"
    experiment.start(run, dataclasses.replace(JobConfig(env_steps=1000), **changes), 3, "a test")
    return run


def resumed(run: pathlib.Path, values: dict) -> JobConfig:
    """The job of a run that goes on with flags by their keys."""
    kept, before = experiment.stored_job(run)
    given = replaced(TrainConfig(), {TRAIN_FLAGS[key].path: values[key] for key in values})
    config = dataclasses.replace(given, resume=run, given=frozenset({*values, "resume"}))
    job = effects.job_to_resume(run, before, kept["seed"], config)
    effects.note_changes(run, kept, before, job)
    return job


CHANGEABLE = {
    "env_steps",
    "minutes",
    "validations",
    "validation_episodes",
    "validation_quota",
    "episodes",
    "threads",
    "film_width",
    "tensorboard",
    "wandb",
    "transfer_steps",
    *(key for key in TRAIN_FLAGS if key.startswith("transfer.")),
}


@pytest.mark.parametrize(
    "flag",
    [flag for key, flag in TRAIN_FLAGS.items() if key not in ("resume", "videos")],
    ids=lambda flag: flag.name,
)
def test_a_flag_of_a_run_that_goes_on_is_changed_and_noted_or_refused(flag, tmp_path):
    run = start(tmp_path)
    before = (run / "config.json").read_bytes()
    value = another(flag)
    if flag.key in CHANGEABLE:
        assert TRAIN_FLAGS[flag.key].get(TrainConfig(job=resumed(run, {flag.key: value}))) == value
        kept, job = experiment.stored_job(run)
        assert TRAIN_FLAGS[flag.key].get(TrainConfig(job=job)) == value
        assert list(kept["changed"][0]["flags"]) == [flag.key]
    else:
        with pytest.raises(ValueError, match=f"^{flag.name} cannot be changed in"):
            resumed(run, {flag.key: value})
        assert (run / "config.json").read_bytes() == before


def test_a_flag_that_says_what_is_so_is_taken(tmp_path):
    run = start(tmp_path)
    before = (run / "config.json").read_bytes()
    resumed(run, {"seed": 3, "num_envs": 64, "ppo.deviations": JobConfig().ppo.deviations})
    assert (run / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("results", "key", "says"),
    [
        ({"train": {}}, "env_steps", "it has learned"),
        ({"train": {}}, "tensorboard", "it has learned"),
        ({"transfer": {"of all held-out rows": {}}}, "transfer_steps", "has been transferred"),
    ],
)
def test_what_is_done_cannot_be_changed(results, key, says, tmp_path):
    run = start(tmp_path)
    held_out = experiment.stored_job(run)[0]["held_out"]
    if "transfer" in results:
        results = {"transfer": dict.fromkeys(held_out, stored.TRANSFER)}
    (run / "results.json").write_text(json.dumps(results))
    with pytest.raises(ValueError, match=says):
        resumed(run, {key: another(TRAIN_FLAGS[key])})


@pytest.mark.parametrize("arm", ["zero_shot", "scratch"])
def test_the_curves_of_a_transfer_that_is_half_done_keep_their_settings(arm, tmp_path):
    """An arm that had finished when the transfer was stopped, and one that had not."""
    job = dataclasses.replace(stored.TINY, task_set="reach,puck:mug")
    run = stored.make_run(tmp_path / "run", job)
    resumed(run, {"transfer_steps": 32})  # nothing is saved yet
    which = curves.Which(CLOSURES["mug"], arm, 0)
    session = Session(run, experiment.stored_job(run)[1], 0, lambda *_: None, lambda: True)
    assert transfer.learn(which, session) == (arm == "zero_shot")
    before = (run / "config.json").read_bytes()
    target = run / "transfer" / "mug"
    for key in ("transfer_steps", "transfer.points", "transfer.methods"):
        says = f"cannot be changed in .*mug is half done: finish it, or remove {target} to begin"
        with pytest.raises(ValueError, match=says):
            resumed(run, {key: another(TRAIN_FLAGS[key])})
    assert (run / "config.json").read_bytes() == before
    assert resumed(run, {"transfer.seeds": 2, "episodes": 7}).transfer.seeds == 2
    target.rename(target.with_name("jar"))  # of the command `transfer`, and none of this job's
    assert resumed(run, {"transfer.points": 3}).transfer.points == 3


@pytest.mark.parametrize("key", ["env_steps", "episodes", "transfer_steps"])
def test_a_control_of_single_rows_is_not_changed(key, tmp_path):
    run = start(tmp_path, alone=True)
    with pytest.raises(ValueError, match="cannot be changed in .*--alone"):
        resumed(run, {key: another(TRAIN_FLAGS[key])})


def test_a_change_without_effect_is_refused(tmp_path):
    without = dataclasses.replace(TransferConfig(), env_steps=0)
    run = start(tmp_path, transfer=without)
    with pytest.raises(ValueError, match="^--transfer.points has no effect"):
        resumed(run, {"transfer.points": 3})
    with pytest.raises(ValueError, match="^--film-width has no effect"):
        resumed(run, {"film_width": 320, "videos": False})


def test_the_command_says_what_cannot_be_changed(tmp_path):
    run = start(tmp_path)
    config = command_line.parse(TrainConfig(), ["--resume", str(run), "--seed", "4"], "train")
    with pytest.raises(ValueError, match="^--seed cannot be changed in .*another training"):
        train(config, make_console())
