"""Stored files under damage: each command answers in one line, or as if nothing had happened.

A case damages one file and lets every command that reads the folder have it. Nothing is trained:
what would act is replaced by what writes down with what it would have acted. A command answers
well if it

- ends with one line that names the file or its folder; or
- comes to the same as without the damage; or
- says something that it did not say without the damage.

A change that fits its digest was made on purpose; of it only the first is asked: no traceback,
no hang. FUZZ_CASES=1000 in the environment makes so many cases, `fuzz` is what they call.
"""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
import pickle
import random
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import stored
import torch
from gymnasium.envs.registration import EnvSpec
from matplotlib.figure import Figure
from rich.console import Console

from uncap.agents import checkpoints, demonstrations, files
from uncap.agents.config import DaggerConfig
from uncap.agents.demonstrations import DemoConfig
from uncap.agents.policy import load, load_policy
from uncap.envs import CLOSURES
from uncap.envs.closures import named_set
from uncap.envs.observations import SIZE
from uncap.evaluation import (
    commands,
    compare_report,
    curves,
    experiment,
    grid,
    kept,
    measured,
    report,
    runs,
    transfer,
    tuning,
    unseen_report,
)
from uncap.evaluation import compare as comparison
from uncap.evaluation.arm_settings import ArmSettings
from uncap.evaluation.config import (
    CompareConfig,
    EvaluateConfig,
    ReportConfig,
    TableConfig,
    TrainConfig,
    TransferConfig,
    TransferRunConfig,
    TuneConfig,
)
from uncap.evaluation.protocol import Episode, summary
from uncap.evaluation.training import Session, Training

CASES = int(os.environ.get("FUZZ_CASES", "50"))
SECONDS = 20  # that a command may take
CHECKPOINTS_TELL = checkpoints.FORMAT >= 2  # older ones have no digest
CHECKPOINTS = ("checkpoint", "latest")
ROW, TARGET = "button", "block"
PARTS = (  # drawn from
    *("run", "run", "run", "stopped", "transferring"),
    *("study", "tuned", "demos", "exported", "measured"),
    *("remembering", "taught"),
)
STUDY = """trials = 2
objective = "mean"
[common]
quick = true
[tune]
body = ["mlp", "film"]
"ppo.learning_rate" = {low = 1e-4, high = 1e-3, log = true}
"""
GRID = '[common]\nquick = true\n[vary]\nbody = ["mlp", "film"]\n'
VALUES = (
    None,
    True,
    -1,
    0,
    10**400,
    1e308,
    float("nan"),
    "",
    "[/a]<script>alert(1)</script>{x}$\\frac{",
    "../../etc/passwd",
    [],
    [[]],
    {},
    {"a": {"b": []}},
)


PART = "trained 0:1"  # of an evaluation


def played() -> list[Episode]:
    return [Episode(ROW, 0, True, True, 1.0, 9, 0.5, 3.0)]


class Said(Console):
    """A console that keeps what it is told."""

    def __init__(self):
        super().__init__(file=io.StringIO(), width=10_000, highlight=False, markup=False)

    def lines(self, folder: pathlib.Path) -> list[str]:
        """What was said, without the name of a folder."""
        return self.file.getvalue().replace(str(folder), "").splitlines()  # type: ignore


class Answer(NamedTuple):
    """What came of a command."""

    outcome: str  # a digest of what it would have done, or its one line
    said: list[str]
    failed: bool = False


# What the commands are asked, with a folder that holds all parts


def ask_report(folder: pathlib.Path, said: Said) -> Any:
    commands.report(ReportConfig(run=folder / "run"), said)
    return (folder / "run/report.html").read_text(encoding="utf-8").replace(str(folder), "")


def ask_evaluate(folder: pathlib.Path, said: Said) -> Any:
    found = commands.evaluate(EvaluateConfig(run=folder / "run", episodes=1), said)
    return {name: value for name, value in found.items() if name != "seconds"}


def ask_evaluate_memory(folder: pathlib.Path, said: Said) -> Any:
    """The policy with a memory, as a run and as an exported file."""
    run = folder / "remembering"
    found = commands.evaluate(EvaluateConfig(run=run, episodes=1, attempts=2), said)
    policy = load(run / "policy.onnx")
    action, state = policy.predict(np.zeros(SIZE))
    return {name: value for name, value in found.items() if name != "seconds"}, action, state


def ask_report_memory(folder: pathlib.Path, said: Said) -> Any:
    run = folder / "remembering"
    commands.report(ReportConfig(run=run), said)
    return (run / "report.html").read_text(encoding="utf-8").replace(str(folder), "")


def ask_go_on_evaluating(folder: pathlib.Path, said: Said) -> Any:
    found = kept.Kept(folder / "run")
    found.note_film("a film")
    return found.part(PART, played), found.has_film("a film")


def ask_resume(folder: pathlib.Path, said: Said) -> Any:
    commands.train(TrainConfig(resume=folder / "run"), said)


def ask_go_on(folder: pathlib.Path, said: Said) -> Any:
    return _go_on(folder / "stopped", said)


def ask_go_on_teaching(folder: pathlib.Path, said: Said) -> Any:
    return _go_on(folder / "taught", said)


def _go_on(run: pathlib.Path, said: Said) -> Any:
    _, job = experiment.stored_job(run)
    for line in [*experiment.notes(run), *experiment.lost_rows(run)]:
        said.print(line, markup=False)
    training = Training(Session(run, job, 0, lambda *_: None, lambda: True), resume=True)
    training.metrics.close()
    begun = training.budget.steps, training.best.score
    return begun, training.learner.policy, runs.read_metrics(run / "metrics.csv").rows


def ask_transfer(folder: pathlib.Path, said: Said) -> Any:
    commands.transfer(TransferRunConfig(run=folder / "run", target="jar"), said)


def begun() -> curves.Which:
    """A learner that is saved after its first update on the target, its first at all."""
    return curves.Which(CLOSURES[TARGET], "fine_tune", 0, ArmSettings(source_critic=0))


def ask_go_on_transfer(folder: pathlib.Path, said: Said) -> Any:
    run = folder / "transferring"
    _, job = experiment.stored_job(run)
    source, meta = load_policy(run / "checkpoint")
    session = Session(run, job, 0, lambda *_: None, lambda: True)
    which = begun()
    transfer._check_kept(which.folder(run), curves.common(job, source))
    curve = curves.Curve(source, meta, which, session)
    curve._resume()
    return curve.points, curve.learner.policy


def ask_compare(folder: pathlib.Path, said: Said) -> Any:
    study = folder / "study"
    config = CompareConfig(grid=study / "grid.toml", out=study / "out")
    return comparison.compare(config, grid.axes(), said, lambda words: ["false"])


def ask_tune(folder: pathlib.Path, said: Said) -> Any:
    study = folder / "tuned"
    config = TuneConfig(grid=study / "study.toml", out=study / "out")
    return tuning.tune(config, grid.axes(), said, lambda words: ["false"])


def ask_clone(folder: pathlib.Path, said: Said) -> Any:
    arrays = demonstrations.load(folder / "demos")
    return arrays, demonstrations.task_indices(folder / "demos", (ROW,))


def ask_act(folder: pathlib.Path, said: Said) -> Any:
    policy = load(folder / "exported/policy.onnx")
    return policy.predict(np.zeros(SIZE), task=ROW)[0], policy.reads.tasks, policy.reads.sensors


def ask_table(folder: pathlib.Path, said: Said) -> Any:
    files = (folder / "measured/a.json", folder / "measured/b.json")
    commands.table(TableConfig(results=files), said)
    return measured.ranked(files)


COMMANDS: dict[str, tuple[Callable[[pathlib.Path, Said], Any], ...]] = {
    "run": (ask_report, ask_evaluate, ask_go_on_evaluating, ask_resume, ask_transfer),
    "stopped": (ask_go_on,),
    "remembering": (ask_evaluate_memory, ask_report_memory),
    "taught": (ask_go_on_teaching,),
    "transferring": (ask_go_on_transfer,),
    "study": (ask_compare,),
    "tuned": (ask_tune,),
    "demos": (ask_clone,),
    "exported": (ask_act,),
    "measured": (ask_table,),
}
TELLING = ("damaged", "missing", "failed")  # a line that says what is wrong has one of these
DONE: list[Any] = []  # what the stand-ins were given


def fingerprint(value: Any) -> str:
    """A digest of nested values, arrays and policies."""
    found = hashlib.sha256()
    for part in _parts(value):
        found.update(part + b"\n")
    return found.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield repr(key).encode()
            yield from _parts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _parts(inner)
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape}".encode() + value.tobytes()
    elif hasattr(value, "state_dict"):
        yield from _parts({name: part.numpy() for name, part in value.state_dict().items()})
    else:
        yield repr(value).encode("utf-8", "replace")


@pytest.fixture(scope="module")
def stand_ins():
    """Nothing learns, acts or draws; `DONE` keeps with what it would have."""
    patch = pytest.MonkeyPatch()

    all_actors = commands.actors

    def actors(run, tasks, told=None):
        found = all_actors(run, tasks, told)
        DONE.extend((actor.policy.policy, *actor[1:]) for actor in found)
        return found

    def evaluate(policy, tasks, episodes, **about):
        DONE.append((tasks, episodes, about))
        return [Episode(task, 0, True, True, 1.0, 9, 0.5, 3.0) for task in tasks]

    def transfer_to(source, meta, targets, session, on_target, entries):
        DONE.append((source, meta["conditioning"], targets, session.config, session.seed))
        for target in targets:
            on_target(target, stored.TRANSFER)
        return True

    def run_job(job, resume, videos):
        DONE.append((job.session.config, job.session.seed, job.split.hash))

    def sketch(figure: Figure) -> str:
        lines = [line.get_xydata() for axes in figure.axes for line in axes.lines]
        return fingerprint([np.asarray(line) for line in lines])

    patch.setattr(commands, "actors", actors)
    patch.setattr(commands, "evaluate_policy", evaluate)
    patch.setattr(experiment, "transfer", transfer_to)
    patch.setattr(commands._Job, "run", run_job)
    patch.setattr(commands, "Interrupt", lambda say: lambda: False)
    patch.setattr(commands, "Bars", _Bars)
    patch.setattr(comparison, "Bars", _Bars)
    patch.setattr(tuning, "Bars", _Bars)
    patch.setattr(comparison, "POLL", 0.01)
    patch.setattr(report, "picture", sketch)
    patch.setattr(unseen_report, "picture", sketch)
    patch.setattr(compare_report, "picture", sketch)
    yield
    patch.undo()


class _Bars:
    """Progress that nobody sees."""

    def __init__(self, console: Said):
        self.progress = self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def __call__(self, *_):
        return None


def make_transferring(run: pathlib.Path, into: pathlib.Path) -> None:
    """A copy of a run whose transfer was stopped after its first update."""
    shutil.copytree(run, into)
    _, job = experiment.stored_job(into)
    session = Session(into, job, 0, lambda *_: None, lambda: True)
    assert not transfer.learn(begun(), session)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, stand_ins) -> pathlib.Path:
    """A folder with an undamaged run, comparison and recording, and what the commands answer."""
    pytest.importorskip("minari")
    folder = tmp_path_factory.mktemp("whole")
    budget = TransferConfig(env_steps=64, points=1, episodes=1, num_envs=2)
    job = dataclasses.replace(
        stored.TINY, task_set=f"unrelated/{ROW}", cosines=True, transfer=budget
    )
    stored.make_run(folder / "run", job)
    kept.Kept(folder / "run").part(PART, played)
    make_transferring(folder / "run", folder / "transferring")
    learning = dataclasses.replace(job, cosines=False, warm_start="none")
    stored.make_stopped(folder / "stopped", learning)
    remembering = dataclasses.replace(
        job,
        conditioning="belief",
        cosines=False,
        attempts=2,
        episode_steps=4,
        dagger=DaggerConfig(steps=48, rollout=4, updates=2),
    )
    stored.make_run(folder / "remembering", remembering)
    experiment.export_run(folder / "remembering", folder / "remembering/policy.onnx")
    stored.make_stopped(folder / "taught", remembering)
    study = folder / "study"
    (study / "out/cells").mkdir(parents=True)
    (study / "grid.toml").write_text(GRID)
    for cell in grid.read_grid(study / "grid.toml", grid.axes()).cells:
        run = study / "out/cells" / cell.name
        shutil.copytree(folder / "run", run, ignore=shutil.ignore_patterns(kept.FILE))
        record = {"flags": dict(cell.configuration.flags), "seed": 0, "jobs": 1}
        files.write_json(run.with_name(f"{run.name}.json"), record)
        shutil.rmtree(run / "checkpoint")  # compare does not read it
    tuned = folder / "tuned"
    (tuned / "out/cells").mkdir(parents=True)
    (tuned / "study.toml").write_text(STUDY)
    for number, body in enumerate(("mlp", "film")):
        run = tuned / f"out/cells/trial-{number:03}-seed0"
        shutil.copytree(folder / "run", run, ignore=shutil.ignore_patterns(kept.FILE))
        shutil.rmtree(run / "checkpoint")
        flags = {"quick": True, "body": body, "ppo.learning_rate": 3e-4}
        files.write_json(run.with_name(f"{run.name}.json"), {"flags": flags, "seed": 0, "jobs": 1})
    experiment.export_run(folder / "run", folder / "exported/policy.onnx")
    split = named_set(f"unrelated/{ROW}")
    told = {"conditioning": "none", "sensors": "full", "level": "default", "seed": 0}
    for name, success in (("a", True), ("b", False)):
        found = summary([Episode(ROW, 0, success, success, 1.0, 9, 0.5, 3.0)])
        about = measured.about(name, split, {**told, "episodes": 1, "seconds": 1.0})
        (folder / "measured").mkdir(exist_ok=True)
        files.write_json(folder / "measured" / f"{name}.json", {**found, **about})
    demonstrations.record(folder / "demos", "a-v0", (ROW,), DemoConfig(episodes=1))
    return folder


@pytest.fixture(scope="module")
def expected(whole, tmp_path_factory) -> dict[str, Answer]:
    """What every command answers to a copy of the undamaged folder."""
    copy = shutil.copytree(whole, tmp_path_factory.mktemp("copy") / "folder")
    found = {ask.__name__: answer(ask, copy) for asks in COMMANDS.values() for ask in asks}
    assert not [a for a in found.values() if a.failed]
    return found


def answer(ask: Callable[[pathlib.Path, Said], Any], folder: pathlib.Path) -> Answer:
    """What a command answers; other exceptions than those for users pass."""
    said = Said()
    DONE.clear()
    try:
        outcome = ask(folder, said)
    except (ValueError, OSError, RuntimeError) as error:  # as train.py
        return Answer(str(error), said.lines(folder), failed=True)
    return Answer(fingerprint([outcome, *DONE]), said.lines(folder))


# Damage


def flip(content: bytes, rng: random.Random) -> bytes:
    """Some bits are flipped."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 10, 100))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def empty(content: bytes, rng: random.Random) -> bytes:
    return b""


def noise(content: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(rng.randrange(1, 400))


def repeat(content: bytes, rng: random.Random) -> bytes:
    """A part of it stands there twice."""
    begin = rng.randrange(len(content))
    return content[:begin] + content[begin // 2 :]


def change_value(content: bytes, rng: random.Random) -> bytes:
    """A value of JSON is of another type or missing, and the digest fits: done on purpose."""
    value = json.loads(content)
    value.pop(files.DIGEST, None)
    node, key = value, None
    while isinstance(node, dict | list) and node:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        parent, key = node, rng.choice(keys)
        node = parent[key]
        if rng.random() < 0.3:
            break
    if key is not None:
        if isinstance(parent, dict) and rng.random() < 0.3:
            del parent[key]
        else:
            parent[key] = rng.choice(VALUES)
    return json.dumps(files.sealed(value) if rng.random() < 0.5 else value).encode()


def change_cell(content: bytes, rng: random.Random) -> bytes:
    """A cell of CSV, or a word of TOML, is another."""
    words = content.decode().replace("\n", ",\n,").split(",")
    words[rng.randrange(len(words))] = str(rng.choice(VALUES))
    return ",".join(words).replace(",\n,", "\n").encode()


ANY = (flip, truncate, empty, noise, repeat)
ON_PURPOSE = (change_value,)


def damages(path: pathlib.Path) -> tuple[Callable[[bytes, random.Random], bytes], ...]:
    """Kinds of damage that fit a file."""
    if path.suffix == ".json":
        return (*ANY, change_value, change_value)
    if path.suffix in (".csv", ".toml"):
        return (*ANY, change_cell)
    return ANY


def damage(path: pathlib.Path, rng: random.Random) -> tuple[str, bool]:
    """Damage a file; what was done, and whether on purpose."""
    draw = rng.random()
    begins_anew = path.parent.parent.name == TARGET  # a transfer without its state, as it should
    if draw < 0.08 and not begins_anew:
        path.unlink()
        return "missing", False
    if draw < 0.12:
        path.unlink()
        path.mkdir()
        return "a folder", False
    kind = rng.choice(damages(path))
    content = path.read_bytes()
    path.write_bytes(kind(content, rng) if content else b"\0")
    on_purpose = kind in ON_PURPOSE or path.suffix == ".toml"
    return kind.__name__, on_purpose


def targets(part: pathlib.Path) -> list[pathlib.Path]:
    """Files that commands read."""
    unread = (files.LOCK, files.OWNER, "report.html", "episodes.csv")
    found = [path for path in sorted(part.rglob("*")) if path.is_file()]
    tell = [path for path in found if CHECKPOINTS_TELL or path.parent.name not in CHECKPOINTS]
    return [
        path
        for path in tell
        if path.name not in unread and not path.name.startswith(("compare.", "tune."))
    ]


def fuzz(cases: int, whole: pathlib.Path, expected: dict[str, Answer], at: pathlib.Path) -> list:
    """Damage one file after the other; returns what was answered badly, a line each.

    Args:
        cases: how many.
        whole: the undamaged folder.
        expected: answers to it, by command.
        at: an empty folder to work in.
    """
    bad = []
    for seed in range(cases):
        rng = random.Random(seed)
        part = rng.choice(PARTS)
        folder = at / "folder"
        folder.mkdir()
        shutil.copytree(whole / part, folder / part)
        path = rng.choice(targets(folder / part))
        kind, on_purpose = damage(path, rng)
        ask = rng.choice(COMMANDS[part])
        case = f"case {seed}: {ask.__name__}, {kind} of {path.relative_to(folder)}"
        if problem := judge(ask, folder, expected[ask.__name__], on_purpose):
            bad.append(f"{case}: {problem}")
        shutil.rmtree(folder)
    return bad


def judge(ask: Callable, folder: pathlib.Path, usual: Answer, on_purpose: bool) -> str:
    """What is wrong with an answer; empty if nothing is."""
    began = time.monotonic()
    try:
        found = answer(ask, folder)
    except BaseException as error:  # a traceback
        return f"{type(error).__name__}: {error}"
    if time.monotonic() - began > SECONDS:
        return f"took {time.monotonic() - began:.0f} s"
    if found.failed:
        named = str(folder) in found.outcome and "\n" not in found.outcome
        return "" if named else f"not one line that names a file: {found.outcome!r}"
    new = " ".join(line for line in found.said if line not in usual.said)
    same = found.outcome == usual.outcome or any(word in new for word in TELLING)
    return "" if same or on_purpose else "another answer, without a word"


def test_damaged_files_are_answered_well(whole, expected, tmp_path):
    assert fuzz(CASES, whole, expected, tmp_path) == []


def test_the_judge_sees_bad_answers(whole, expected, tmp_path):
    def wrong(folder, said):
        return "something else"

    def breaks(folder, said):
        raise KeyError("x")

    def mumbles(folder, said):
        raise ValueError("no")

    usual = expected["ask_report"]
    assert "without a word" in judge(wrong, whole, usual, False)
    assert "KeyError" in judge(breaks, whole, usual, False)
    assert "not one line" in judge(mumbles, whole, usual, False)
    assert judge(wrong, whole, usual, True) == ""


# Code in files is not run

RUNS = "import pathlib; pathlib.Path({!r}).write_text('ran')"


class _Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: pathlib.Path):
        self.mark = mark

    def __reduce__(self):
        return exec, (RUNS.format(str(self.mark)),)


def test_no_stored_file_runs_code(whole, tmp_path):
    mark = tmp_path / "ran"
    pickled = pickle.dumps(_Payload(mark))
    pickle.loads(pickled)
    assert mark.exists()  # the payload works
    mark.unlink()
    python = RUNS.format(str(mark)).encode()
    rng = random.Random(0)
    kinds, read_by = set(), set()
    for part, asks in COMMANDS.items():
        folder = shutil.copytree(whole / part, tmp_path / "folder" / part)
        for path in targets(folder):
            before = path.read_bytes()
            kind = (
                path.name,
                path.parent.name if path.name == checkpoints.FILE else part == "study",
            )
            if kind in read_by:  # as in another part, by the same function
                continue
            read_by.add(kind)
            kinds.add(path.suffix)
            for beside in ("sitecustomize.py", "conftest.py", "__init__.py"):
                (path.parent / beside).write_bytes(python)
            for payload in (pickled, python, *carriers(path, mark, rng)):
                path.write_bytes(payload)
                for ask in asks if payload != python else asks[:1]:
                    assert "Error" not in judge(ask, folder.parent, Answer("", []), True)
            path.write_bytes(before)
        shutil.rmtree(folder.parent)
    assert kinds == {".json", ".csv", ".toml", ".safetensors", ".hdf5", ".onnx"}
    assert not mark.exists()


def carriers(path: pathlib.Path, mark: pathlib.Path, rng: random.Random) -> Iterator[bytes]:
    """Files of the kind that is expected, with something in them that a careless reader runs."""
    shell = f"$(touch {mark}) `touch {mark}`; touch {mark}"
    content = path.read_bytes()
    if path.suffix in (".csv", ".toml"):
        words = content.decode().split('"' if path.suffix == ".toml" else ",")
        words[rng.randrange(1, len(words), 2)] = shell
        yield ('"' if path.suffix == ".toml" else ",").join(words).encode()
    elif path.suffix == ".json":
        value = json.loads(content)
        value.pop(files.DIGEST, None)
        made = ("os:system", {"command": f"touch {mark}"})
        spec = EnvSpec("x-v0", entry_point=made[0], kwargs=made[1]).to_json()
        for name in ("env_spec", "eval_env_spec"):  # of Minari's, which can make environments
            value[name] = spec
        yield json.dumps(value).encode()
        without_spaces = {k: v for k, v in value.items() if not k.endswith("_space")}
        yield json.dumps(without_spaces).encode()  # then Minari makes the environment
        without_notes = {k: v for k, v in without_spaces.items() if k != "uncap"}
        yield json.dumps(without_notes).encode()
        yield json.dumps(with_shell(value, shell)).encode()
    elif path.suffix == ".safetensors":
        buffer = io.BytesIO()
        torch.save(_Payload(mark), buffer)
        yield buffer.getvalue()
    elif path.suffix == ".hdf5":
        yield with_pickles(content, pickle.dumps(_Payload(mark)))


def with_shell(value: Any, shell: str) -> Any:
    """A value of JSON whose texts are all a shell's command."""
    if isinstance(value, dict):
        return {key: with_shell(inner, shell) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_shell(inner, shell) for inner in value]
    return shell if isinstance(value, str) else value


def with_pickles(content: bytes, pickled: bytes) -> bytes:
    """An HDF5 file with a pickle in every attribute, and in place of one array."""
    import h5py

    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        for group in (file, *file.values()):
            for name in list(group.attrs):
                group.attrs[name] = np.void(pickled)
        first = next(iter(file.values()))
        del first["actions"]
        first["actions"] = np.full(9, np.void(pickled))
    return buffer.getvalue()
