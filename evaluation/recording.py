"""Who acts in recordings: experts, final policies of runs, and half-trained ones."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from uncap.agents import checkpoints, demonstrations
from uncap.agents.demonstrations import EXPERT, DemoConfig
from uncap.agents.policy import Acting, load_policy
from uncap.agents.pretrained import NAMES, located
from uncap.envs.conditioning import UNSEEN
from uncap.evaluation import runs
from uncap.evaluation.config import DemosConfig
from uncap.evaluation.protocol import BUILT_IN
from uncap.evaluation.rows import restore
from uncap.evaluation.training import HALF_TRAINED

MEDIUM = 0.5  # of the final policy's success: what `medium` policies are nearest to
PERTURB = 0.2  # share of random actions where the expert alone acts
_TOLD = ("conditioning", "known", "sensors", "episode_steps")  # keys of a checkpoint's JSON part


class Recorded(NamedTuple):
    """What is recorded, and who acts."""

    settings: DemoConfig
    actors: tuple[demonstrations.Actor, ...]


def recorded(config: DemosConfig, rows: Sequence[str]) -> Recorded:
    """What `demos` records.

    Args:
        config: its flags.
        rows: in which they act.

    Raises:
        ValueError: no such policy; policies that do not see the same; rows that they cannot be
            told of.
        RunError: a run without what is asked for.
    """
    if config.grade != "final" and all(name in BUILT_IN for name in config.policy):
        raise ValueError(f"--grade {config.grade} is of run folders: give one by --policy")
    actors: list[demonstrations.Actor] = []
    told: dict[str, Any] = {}
    for name in config.policy:
        if name in BUILT_IN:
            actors.append(EXPERT if name == EXPERT.name else _built_in(name))
            continue
        for folder in _checkpoints(pathlib.Path(name), config.grade):
            run = _run_of(folder)
            restore(run, runs.open_run(run))
            policy, meta = load_policy(folder)
            own = {key: meta[key] for key in _TOLD}
            if told and not _same(own, told):
                raise ValueError(
                    f"{folder} is told or senses something else than the policies before it: "
                    "record them apart"
                )
            told = own
            _check_rows(folder, meta, rows)
            label = f"{run.name}/{folder.name}"
            actors.append(demonstrations.Actor(label, Acting(policy, meta["tasks"])))
    perturb = config.perturb
    if perturb is None:
        perturb = PERTURB if all(actor is EXPERT for actor in actors) else 0.0
    settings = DemoConfig(
        config.episodes,
        config.seed,
        told.get("conditioning", "parameters"),
        perturb,
        told.get("sensors", "full"),
        told.get("known"),
        told.get("episode_steps"),
        config.engine,
    )
    return Recorded(settings, tuple(actors))


def dataset_id(config: DemosConfig) -> str:
    """Minari's id of the recording: the task set, and the grade of policies."""
    if config.policy == (EXPERT.name,):
        return f"uncap/{config.task_set}-v0"
    grade = "policy" if config.grade == "final" else config.grade
    return f"uncap/{config.task_set}-{grade}-v0"


def _built_in(name: str) -> demonstrations.Actor:
    return demonstrations.Actor(name, BUILT_IN[name])


def _checkpoints(path: pathlib.Path, grade: str) -> list[pathlib.Path]:
    """The folders of the policies that a word of `--policy` names.

    Raises:
        ValueError: it names none.
        RunError: none were kept in the run.
    """
    if str(path) in NAMES:
        if grade != "final":
            raise ValueError(f"--grade {grade} is of runs of your own: {path} has its end only")
        return [located(path) / "checkpoint"]
    if path.parent.name == HALF_TRAINED and checkpoints.exists(path):
        return [path]
    if not (path / "config.json").exists():
        raise ValueError(
            f"there is no run folder {path} and no policy {path.name} (policies: "
            f"{', '.join((*BUILT_IN, *NAMES))}; half-trained ones: RUN/{HALF_TRAINED}/...)"
        )
    if runs.open_run(path).get("job", {}).get("alone") is True:
        raise runs.RunError(
            f"{path} has a policy per row: name one, such as {path}/{runs.PARTS}/ROW"
        )
    if grade == "final":
        return [path / "checkpoint"]
    kept = sorted(folder for folder in path.glob(f"{HALF_TRAINED}/*") if checkpoints.exists(folder))
    if not kept:
        raise runs.RunError(
            f"{path} has no half-trained policies: train with --checkpoints to keep some"
        )
    return kept if grade == "replay" else [_nearest(kept, path / "checkpoint")]


def _nearest(kept: Sequence[pathlib.Path], final: pathlib.Path) -> pathlib.Path:
    """The first of the policies whose success in validation is nearest half of the final one's."""
    wanted = MEDIUM * _validation(final)
    return min(kept, key=lambda folder: abs(_validation(folder) - wanted))


def _validation(folder: pathlib.Path) -> float:
    """Success in validation of a checkpoint's policy."""
    return float(checkpoints.load(folder)[1]["validation"])


def _run_of(checkpoint: pathlib.Path) -> pathlib.Path:
    """The run folder of a checkpoint: of the final policy, or of a half-trained one."""
    there = checkpoint.parent
    return there.parent if there.name == HALF_TRAINED else there


def _check_rows(folder: pathlib.Path, meta: dict[str, Any], rows: Sequence[str]) -> None:
    """Refuse rows that a policy cannot be told of.

    Raises:
        ValueError: there is one.
    """
    told = meta["conditioning"]
    new = [row for row in rows if row not in meta["tasks"]]
    if isinstance(told, str) and told not in UNSEEN and new:
        raise ValueError(
            f"{folder} was not trained on {', '.join(new)}, and {told} has no vector for a row "
            "that was not trained: choose another --task-set"
        )


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two policies are told of their tasks in the same way, and sense the same."""
    if isinstance(a["conditioning"], str) or isinstance(b["conditioning"], str):
        return a == b
    names = sorted(a["conditioning"])
    return names == sorted(b["conditioning"]) and all(a[key] == b[key] for key in _TOLD[2:])
