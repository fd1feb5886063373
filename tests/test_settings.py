"""Settings: their limits, their places, and the command line and the grids made from them."""

import dataclasses
import json
import pathlib
import re

import pytest

from uncap.agents import tables
from uncap.agents.config import CloneConfig, DaggerConfig, NetworkConfig, PPOConfig, SACConfig
from uncap.agents.settings import (
    REQUIRED,
    Setting,
    as_words,
    check,
    flags,
    from_dict,
    load,
    nested,
    replaced,
    setting,
    without_none,
)
from uncap.agents.tables import ALGORITHMS, BODIES
from uncap.envs.tables import Row, Table
from uncap.evaluation import flags as command_line
from uncap.evaluation.cli import COMMANDS
from uncap.evaluation.config import QUICK, JobConfig, TrainConfig, TransferConfig, TransferRunConfig
from uncap.evaluation.grid import axes

ROOT = pathlib.Path(__file__).parent.parent
TABLES = {name: table for name, table in vars(tables).items() if isinstance(table, Table)}
TRAIN_FLAGS = list(flags(TrainConfig()))
COMMAND_FLAGS = [
    pytest.param(flag, id=f"{name} {flag.name}")
    for name, command in COMMANDS.items()
    for flag in flags(command.config)
]


def even(value: int) -> str | None:
    return "must be even" if value % 2 else None


def known_or_a_letter(name: str) -> None:
    """The function of a setting that accepts further values than its choices."""
    if len(name) > 1:
        raise ValueError(f"{name} is more than a letter")


@dataclasses.dataclass(frozen=True)
class Engine:
    """Settings that nest in others."""

    power: float = setting(1.0, "in kW", above=0)
    max_turns: int | None = setting(None, "per minute", least=1, flag="turns")
    note: str = "no setting"


@dataclasses.dataclass(frozen=True)
class Car:
    """Settings with others nested in them."""

    seats: int = setting(4, "how many", least=1)
    engine: Engine = Engine()
    spare: Engine = nested(Engine(power=0.5))


# Limits


@pytest.mark.parametrize(
    ("limits", "allowed", "refused", "says"),
    [
        ({"least": 1}, 1, 0, "--x must be at least 1, not 0"),
        ({"above": 0}, 0.1, 0.0, "--x must be above 0, not 0.0"),
        ({"below": 1}, 0.9, 1, "--x must be below 1, not 1"),
        ({"most": 1}, 1, 1.5, "--x must be at most 1, not 1.5"),
        ({"least": 0, "most": 1}, 0, -1, "--x must be at least 0, not -1"),
        ({"check": even}, 2, 3, "--x must be even, not 3"),
        (
            {"choices": ("a", "be")},
            "be",
            "bee",
            "unknown x 'bee': did you mean 'be'? allowed: a, b",
        ),
        ({"choices": ("a", "b")}, ("a", "b"), ("a", "c"), "unknown x 'c': allowed: a, b"),
        ({"choices": "uncap.agents.tables:HEADS"}, "shared", "shard", "did you mean 'shared'?"),
        (
            {"choices": ("ab",), "accepts": f"{__name__}:known_or_a_letter"},
            "a",
            "abc",
            "abc is more than a letter",
        ),
    ],
)
def test_a_limit_gives_one_line_with_what_is_allowed(limits, allowed, refused, says):
    found = Setting("words", **limits)
    assert found.problem(allowed, "--x") is None
    assert found.problem(None, "--x") is None  # not given
    problem = found.problem(refused, "--x")
    assert says in problem
    assert "\n" not in problem


def test_unknown_choices_are_named_by_their_flag():
    [flag] = [flag for flag in TRAIN_FLAGS if flag.key == "warm_start"]
    assert flag.setting.problem("cloned", flag.name).startswith("unknown warm start 'cloned'")


def test_choices_and_their_words():
    assert Setting("words").names() == ()
    assert Setting("words", choices=("a", "b")).names() == ("a", "b")
    assert Setting("words", choices=("a", "b")).words() == {}
    heads = Setting("words", choices="uncap.agents.tables:HEADS")
    assert heads.names() == ("shared", "per_task")
    assert heads.words()["per_task"] == "a linear output for every task"


def test_check_names_the_first_setting_that_is_wrong():
    check(Car())
    with pytest.raises(ValueError, match=r"^--engine.power must be above 0, not -1$"):
        check(Car(engine=Engine(power=-1), spare=Engine(power=-2)))
    with pytest.raises(ValueError, match="^--turns must be at least 1, not 0$"):
        check(Engine(max_turns=0))


# Places


def test_flags_have_keys_and_paths():
    found = list(flags(Car()))
    assert [(flag.key, flag.path, flag.default) for flag in found] == [
        ("seats", ("seats",), 4),
        ("engine.power", ("engine", "power"), 1.0),
        ("turns", ("engine", "max_turns"), None),  # renamed: without the prefix
        ("power", ("spare", "power"), 0.5),  # nested(): without the prefix
        ("turns", ("spare", "max_turns"), None),
    ]
    assert [flag.type for flag in found] == [int, float, int, float, int]
    assert found[1].name == "--engine.power"
    assert found[1].get(Car(engine=Engine(power=3))) == 3


def test_flags_of_an_instance_default_to_its_values():
    [seats, *_] = flags(Car(seats=2))
    assert seats.default == 2


def test_flags_of_a_class_default_to_its_fields_and_may_be_required():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Needy:
        run_folder: str = setting(REQUIRED, "needed")
        seed: int = setting(0, "not needed")

    run_folder, seed = flags(Needy)
    assert run_folder.default is REQUIRED
    assert run_folder.name == "--run-folder"
    assert seed.default == 0


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (int, int),
        (int | None, int),
        (None | pathlib.Path, pathlib.Path),
        (tuple[str, ...], tuple[str, ...]),
        (int | str, int | str),
        (int | str | None, int | str | None),
    ],
)
def test_a_type_without_none(hint, expected):
    assert without_none(hint) == expected


def test_replaced_changes_what_is_at_its_paths_alone():
    changes = {
        ("seats",): 2,
        ("engine", "power"): 3.0,
        ("engine", "max_turns"): 9,
        ("spare", "power"): 4.0,
    }
    expected = Car(2, Engine(3.0, 9), Engine(4.0))
    assert replaced(Car(), changes) == expected
    assert replaced(Car(), {}) == Car()
    with pytest.raises(TypeError):
        replaced(Car(), {("wheels",): 4})


@pytest.mark.parametrize("job", [JobConfig(), QUICK], ids=["default", "quick"])
def test_a_job_comes_back_from_json(job):
    text = json.dumps(dataclasses.asdict(job))
    back = from_dict(JobConfig, json.loads(text))
    for name in ("network", "ppo", "sac", "dagger", "clone", "transfer"):
        assert type(getattr(back, name)) is type(getattr(job, name))
    for flag in flags(job):
        assert json.dumps(flag.get(back)) == json.dumps(flag.get(job))  # tuples come back as lists
    assert json.dumps(dataclasses.asdict(back)) == text
    check(back)
    pairs = tuple(map(tuple, back.ppo.deviations))
    assert replaced(back, {("ppo", "deviations"): pairs}) == job


def test_what_was_not_stored_has_its_default_and_unknown_names_are_refused():
    assert from_dict(Car, {"seats": 2, "engine": {"power": 3}}) == Car(2, Engine(3))
    with pytest.raises(TypeError, match="wheels"):
        from_dict(Car, {"wheels": 4})
    with pytest.raises(TypeError, match="cylinders"):
        from_dict(Car, {"engine": {"cylinders": 4}})


# What is declared


@pytest.mark.parametrize("flag", COMMAND_FLAGS)
def test_a_setting_has_help_and_a_default_within_its_limits(flag):
    text = flag.setting.help
    assert text.strip() == text != ""
    assert "\n" not in text
    if flag.default is not REQUIRED:
        assert flag.setting.problem(flag.default, flag.name) is None
    if flag.setting.choices is not None:
        assert flag.setting.names()
    if flag.setting.accepts:
        assert callable(load(flag.setting.accepts))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_flags_of_a_command_are_unique(name):
    names = [flag.name for flag in flags(COMMANDS[name].config)]
    assert names
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("part", "config", "derived"),
    [
        ("ppo", PPOConfig, set()),
        ("sac", SACConfig, set()),
        ("dagger", DaggerConfig, set()),
        ("clone", CloneConfig, set()),
        ("transfer", TransferConfig, set()),
        (
            "network",
            NetworkConfig,
            {"embedding", "blind", "sensors", "memory"},
        ),  # follow from the job
    ],
)
def test_every_number_is_a_flag_and_an_axis(part, config, derived):
    fields = {field.name for field in dataclasses.fields(config)} - derived
    found = [flag for flag in TRAIN_FLAGS if flag.path[:2] == ("job", part)]
    assert sorted(flag.path[-1] for flag in found) == sorted(fields)
    allowed = axes()
    for flag in found:
        assert allowed[flag.key].path == flag.path


def test_every_setting_of_a_job_is_an_axis():
    assert set(axes()) == {flag.key for flag in TRAIN_FLAGS} - {
        "seed",
        "out",
        "resume",
        "tasks",
        "held_out",
    }


# The command line


def another(flag):
    """A value of a flag that is not its default."""
    if flag.setting.choices is not None:
        return next(name for name in flag.setting.names() if name != flag.default)
    if flag.type is bool:
        return not flag.default
    if flag.type is int:
        return 7 if flag.default is None else flag.default + 1
    if flag.type is float:
        return 7.5 if flag.default is None else flag.default / 2 or 0.5
    return flag.type(ROOT / "some where/else")  # a path


def typed(flag, value) -> list[str]:
    """A flag with its value as words of the command line."""
    if flag.type is bool and not value:
        group, dot, own = flag.name.removeprefix("--").rpartition(".")
        return [f"--{group}{dot}no-{own}"]
    if flag.type is bool:
        return [flag.name]
    return [flag.name, str(value)]


SIMPLE = [flag for flag in TRAIN_FLAGS if flag.type in (bool, int, float, str, pathlib.Path)]
VALUES = {flag.key: another(flag) for flag in SIMPLE}


@pytest.fixture(scope="module")
def parsed() -> list[tuple[set[str], TrainConfig]]:
    """Which flags were given, and what came of it, for some command lines.

    Given are the flags whose number has a 1, or a 0, as a certain binary digit. So, for any two
    flags, the one is given without the other on some of the few lines: parsing is slow.
    """
    lines = []
    for digit in range(len(SIMPLE).bit_length()):
        for bit in (0, 1):
            given = [flag for k, flag in enumerate(SIMPLE) if k >> digit & 1 == bit]
            words = [word for flag in given for word in typed(flag, VALUES[flag.key])]
            config = command_line.parse(TrainConfig(), words, "train")
            lines.append(({flag.key for flag in given}, config))
    return lines


@pytest.mark.parametrize("flag", SIMPLE, ids=lambda flag: flag.name)
def test_a_value_ends_up_at_its_path_and_nowhere_else(flag, parsed):
    assert VALUES[flag.key] != flag.default
    for given, config in parsed:
        expected = VALUES[flag.key] if flag.key in given else flag.default
        assert flag.get(config) == expected
        assert type(flag.get(config)) is type(expected)


def test_only_the_schedule_has_no_simple_type():
    others = [flag.key for flag in TRAIN_FLAGS if flag not in SIMPLE]
    of_names = ["transfer.targets", "transfer.methods", "transfer.controls", "tasks", "held_out"]
    assert others == ["ppo.deviations", *of_names]
    words = "--ppo.deviations 0 0.4 1000 0.1"
    config = command_line.parse(TrainConfig(), words.split(), "train")
    expected = replaced(TrainConfig(), {("job", "ppo", "deviations"): ((0, 0.4), (1000, 0.1))})
    assert config == expected


def parsed_cell(values: dict) -> TrainConfig:
    """What the command line makes of a grid's words for some flags."""
    given = [word for key, value in values.items() for word in as_words(key, value)]
    return command_line.parse(TrainConfig(), [*given, "--seed", "3"], "train")


def test_the_words_of_a_grid_are_understood():
    given = {key: VALUES.get(key, flag.default) for key, flag in axes().items()}
    config = parsed_cell(given)
    assert {key: axes()[key].get(config) for key in given} == given
    assert config.seed == 3


def test_a_grid_can_turn_a_switch_with_a_prefix_off():
    assert not parsed_cell({"sac.per_task_temperature": False}).job.sac.per_task_temperature


def test_without_flags_a_command_keeps_its_defaults():
    default = TrainConfig(job=QUICK)
    assert command_line.parse(default, [], "train") == default


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("flag", ["--ppo.gae-lambda", "--sac.target-entropy", "--minutes"])
def test_numbers_that_are_none_are_refused(flag, value):
    with pytest.raises(ValueError, match=f"^{flag} must be finite, not {value}$"):
        command_line.parse(TrainConfig(), [f"{flag}={value}"], "train")


def test_a_schedule_with_a_number_that_is_none_is_refused():
    with pytest.raises(ValueError, match="^--ppo.deviations must be finite"):
        command_line.parse(TrainConfig(), ["--ppo.deviations", "0", "nan"], "train")


def test_an_empty_folder_name_is_refused():
    for word in ("", " "):
        with pytest.raises(ValueError, match="^--demos must name a folder"):
            command_line.parse(TrainConfig(), ["--demos", word], "train")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--sede 3", "unknown flag --sede: did you mean --seed"),
        ("--ppo.learning_rat=3", "did you mean --ppo.learning-rate"),
        ("--no-video", "did you mean --no-videos"),
        ("--seed", "--seed needs a value: a whole number"),
        ("--seed 1.5", "--seed must be a whole number, not '1.5'"),
        ("--minutes soon", "--minutes must be a number, not 'soon'"),
        ("--seed 1 --seed 2", "--seed is given twice"),
        ("--videos --no-videos", "--videos is given twice"),
        ("--ppo.deviations 0", "--ppo.deviations"),
        ("jar", "jar"),
        ("-x", "-x"),
        ("--seed 4294967296", "--seed must be at most 4294967295, not 4294967296"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(line, says):
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        command_line.parse(TrainConfig(), line.split(), "train")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize("missing", ["run", "target"])
def test_what_is_missing_is_named(missing):
    given = {"run": ["a-run"], "target": ["--target", "jar"]}
    del given[missing]
    words = [word for part in given.values() for word in part]
    help_of = {"run": "run folder", "target": "--target"}[missing]
    with pytest.raises(ValueError, match=help_of):
        command_line.parse(TransferRunConfig, words, "transfer")


def test_the_flags_that_were_typed_are_known():
    words = "--no-videos --ppo.learning_rate=0.001 --env-steps 3 --quick"
    config = command_line.parse(TrainConfig(), words.split(), "train")
    assert config.given == {"videos", "ppo.learning_rate", "env_steps", "quick"}
    assert command_line.parse(TrainConfig(), [], "train").given == frozenset()


def test_a_table_that_is_a_number_is_refused():
    with pytest.raises(TypeError, match="PPOConfig must be a table, not 3"):
        from_dict(JobConfig, {"ppo": 3})


def test_values_out_of_their_limits_are_refused():
    with pytest.raises(ValueError, match="^--sac.tau must be at most 1, not 1.5$"):
        command_line.parse(TrainConfig(), ["--sac.tau", "1.5"], "train")


# Tables


@pytest.mark.parametrize(
    ("table", "name"), [(table, name) for table in TABLES for name in TABLES[table]]
)
def test_every_row_can_be_loaded_and_has_its_words(table, name):
    assert callable(TABLES[table][name])
    assert TABLES[table].rows[name].words


def test_there_are_seven_tables():
    expected = {"BODIES", "HEADS", "MEMORIES", "RULES", "SAMPLINGS", "ALGORITHMS", "WARM_STARTS"}
    assert set(TABLES) == expected


def test_a_taken_name_is_refused():
    row = Row("uncap.agents.bodies:MLP", "my own body")
    with pytest.raises(ValueError, match="'mlp' is already a body"):
        BODIES.register("mlp", row)
    own = Table("body", {})
    own.register("mlp", row)
    assert own["mlp"] is BODIES["mlp"]
    with pytest.raises(ValueError, match="'mlp' is already a body"):
        own.register("mlp", row)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_what_an_algorithm_fixes_are_flags_within_their_limits(name):
    allowed = axes()
    for key, value in ALGORITHMS[name].fixed.items():
        flag = allowed[key]
        assert type(value) is flag.type
        assert flag.setting.problem(value, flag.name) is None
