"""How each arm of a transfer explores and how gently it learns: chosen by one rule, kept in a file.

The rule is the search of `tune_transfer`: the same for every arm, with the same budget, on rows
that were left out of a source's, never on a target.
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from uncap.agents.config import NetworkConfig, PPOConfig
from uncap.agents.settings import setting
from uncap.envs import CLOSURES
from uncap.envs.distances import is_same
from uncap.evaluation import runs
from uncap.evaluation.arms import ARMS, Arm, arm_of, parted
from uncap.evaluation.run_shapes import ARM_SETTINGS
from uncap.evaluation.shapes import as_settings


@dataclasses.dataclass(frozen=True)
class ArmSettings:
    """Settings of an arm; None: what the run has."""

    trains: str | None = setting(
        None,
        "which weights learn, of an arm that clones episodes into a trained policy",
        choices="uncap.agents.adaptation:TRAINS",
    )
    rate: float | None = setting(None, "learning rate of the actor by reinforcement", above=0)
    deviation: float | None = setting(None, "of the actions, at first", above=0)
    rollout: int | None = setting(None, "control steps per environment and update", least=1)
    falls: bool = setting(False, "whether the rate falls linearly to a tenth over the budget")
    leash: float = setting(
        0.0,
        "share of the distance to the first weights that each gradient step goes back "
        "(L2-SP: Li et al., 2018)",
        least=0,
        below=1,
    )
    critic_warmup: int | None = setting(
        None,
        "updates on the target that train the critic alone (default: none after source_critic, "
        "else what the run has)",
        least=0,
    )
    source_critic: int = setting(
        5,
        "updates before that, of the critic alone, on the rows that the policy was trained on: no "
        "part of the budget",
        least=0,
    )
    keep_best: bool = setting(
        False,
        "measure the weights that did best so far on validation starts, 20 episodes at each tenth "
        "of the budget, which are no part of it; not the last weights",
    )
    clone_updates: int = setting(300, "minibatches of cloning", least=1)
    clone_rate: float = setting(3e-4, "learning rate of cloning", above=0)
    clone_noise: float = setting(
        0.0, "deviation of noise on the cloned states, in deviations of these", least=0
    )
    perturb: float = setting(
        0.0,
        "share of random bursts in the expert episodes that are cloned; the same of all arms",
        least=0,
        most=0.9,
    )
    body: str | None = setting(
        None, "of a network that begins from nothing", choices="uncap.agents.tables:BODIES"
    )
    width: int | None = setting(None, "hidden units of that network's layers", least=4)

    def ppo(self, given: PPOConfig, warm: bool, trained: bool, budget: int) -> PPOConfig:
        """Settings of PPO.

        Args:
            given: those of the run.
            warm: whether reinforcement does not begin with nothing.
            trained: whether it begins with a trained policy: the critic, too, can be warmed up.
            budget: environment steps.
        """
        prefix = "warm_" if warm else ""
        critic_warmup = self.critic_warmup
        if critic_warmup is None and trained and self.source_critic:
            critic_warmup = 0
        changed: dict[str, Any] = {
            f"{prefix}learning_rate": self.rate,
            f"{prefix}rollout": self.rollout,
            "critic_warmup": critic_warmup,
            "anneal_steps": budget if self.falls else None,
        }
        if warm:
            changed["warm_deviation"] = self.deviation
        elif self.deviation is not None:
            (start, _), *later = given.deviations
            changed["deviations"] = (
                (start, self.deviation),
                *((steps, min(most, self.deviation)) for steps, most in later),
            )
        known = {name: value for name, value in changed.items() if value is not None}
        return dataclasses.replace(given, **known)

    def network(self, given: NetworkConfig) -> NetworkConfig:
        """The network of an arm that begins from nothing.

        Args:
            given: that of the run.
        """
        return dataclasses.replace(
            given, body=self.body or given.body, width=self.width or given.width
        )


def default(arm: Arm) -> ArmSettings:
    """The settings of an arm of which none were chosen.

    A source's network is made for many rows: what clones a few episodes of one has a plain one.

    Args:
        arm: a row of the table.
    """
    if arm.begins == "nothing" and arm.demos:
        return ArmSettings(body="mlp", width=256)
    return ArmSettings()


# Values that the search draws from, by what an arm does
FROZEN: dict[str, tuple[Any, ...]] = {"trains": ("all", "adapter", "head")}
REINFORCING: dict[str, tuple[Any, ...]] = {
    "rate": (5e-5, 1e-4, 2e-4, 3e-4),
    "deviation": (0.04, 0.1, 0.2, 0.35, 0.5),
    "rollout": (80, 160, 320),
    "falls": (False, True),
    "keep_best": (False, True),
}
WARM: dict[str, tuple[Any, ...]] = {"critic_warmup": (0, 1, 3), "leash": (0.0, 0.003, 0.03)}
OF_SOURCE: dict[str, tuple[Any, ...]] = {"source_critic": (0, 5)}
CLONING: dict[str, tuple[Any, ...]] = {
    "clone_updates": (100, 300, 1000, 2000),
    "clone_rate": (1e-4, 3e-4, 1e-3),
    "clone_noise": (0.0, 0.1, 0.3),
}
OF_DEMOS: dict[str, tuple[Any, ...]] = {"perturb": (0.0, 0.3)}
FROM_NOTHING: dict[str, tuple[Any, ...]] = {
    "body": ("mlp", "film", "attention"),
    "width": (64, 128, 256, 384),
}


def space(arm: Arm) -> dict[str, tuple[Any, ...]]:
    """The settings that make a difference to an arm, and the values that are tried.

    Args:
        arm: a row of the table.

    Returns:
        Values by setting; empty of an arm that learns nothing.
    """
    found: dict[str, tuple[Any, ...]] = {}
    from_nothing = arm.begins == "nothing"
    if arm.demos and not (from_nothing or arm.adapts):  # others that freeze weights are arms
        found |= FROZEN
    if arm.reinforces:
        found |= REINFORCING
        if not from_nothing or arm.demos:
            found |= WARM
        if not from_nothing:
            found |= OF_SOURCE
    if arm.demos:
        found |= OF_DEMOS
        if not arm.adapts:  # it clones as it was trained to
            found |= CLONING
    if from_nothing and not arm.taught:
        found |= FROM_NOTHING
    return found


REMEDY = "choose the settings anew with `tune_transfer`"


def read(path: pathlib.Path) -> dict[str, ArmSettings]:
    """What a file of `tune_transfer` chose, by arm.

    Raises:
        RunError: there is none, it is damaged, or its arms would clone different episodes.
    """
    chosen = {}
    for name, tried in _stored(path)["arms"].items():
        try:
            parted(name)
            chosen[name] = as_settings(ArmSettings, tried["chosen"])
            _check_frozen(name, chosen[name])
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            problem = " ".join(str(error).split())
            raise runs.RunError(f"{path} is damaged: {name}: {problem}; {REMEDY}") from None
    if len(_perturbs(chosen)) > 1:
        raise runs.RunError(
            f"{path} lets arms clone different episodes (perturb "
            f"{', '.join(map(str, sorted(_perturbs(chosen))))}), which cannot be compared; {REMEDY}"
        )
    return chosen


def _check_frozen(name: str, settings: ArmSettings) -> None:
    """Refuse settings that make another arm of an arm.

    Raises:
        ValueError: fewer of its weights would learn than it says.
    """
    way = settings.trains or "all"
    if way != "all" and way not in space(arm_of(name)).get("trains", ()):
        raise ValueError(f"trains {way} is no setting of it")


def _perturbs(chosen: Mapping[str, ArmSettings]) -> set[float]:
    """The perturbations of the episodes that arms clone: one, of arms that can be compared."""
    return {settings.perturb for name, settings in chosen.items() if arm_of(name).demos}


def notes(path: pathlib.Path, names: Sequence[str], budget: int) -> list[str]:
    """What a user of a file should know: arms that it says nothing of, and another budget.

    Args:
        path: of the file.
        names: of arms.
        budget: environment steps on the target.
    """
    tried = {parted(name)[0] for name in read(path)}
    missing = [name for name in names if space(arm_of(name)) and parted(name)[0] not in tried]
    found = []
    if missing:
        found.append(f"{path} has no settings for {', '.join(missing)}: they have the defaults")
    chosen_with = _stored(path).get("budget", budget)
    if chosen_with != budget:
        found.append(f"{path} was chosen with {chosen_with:,} environment steps, not {budget:,}")
    return found


def check_targets(path: pathlib.Path, targets: Sequence[str]) -> None:
    """Refuse targets on which a file's settings were chosen, or on a row that is the same.

    Args:
        path: of the file; an older one does not say its own targets.
        targets: of a transfer.

    Raises:
        RunError: they were; or see `read`.
    """
    read(path)
    chosen_on = _stored(path).get("targets", ())
    runs.check_unseen(f"{path} was chosen on", chosen_on, targets)
    for name, target in itertools.product(chosen_on, targets):
        known = name in CLOSURES and target in CLOSURES
        if known and is_same(CLOSURES[name], CLOSURES[target]):
            raise runs.RunError(
                f"{path} was chosen on {name}, which is nearly {target}, its mirror image or its "
                "look-alike: a target must be unseen"
            )


def _stored(path: pathlib.Path) -> dict[str, Any]:
    """What is in a file of `tune_transfer`, see `read`."""
    found = runs.read_shaped(path, ARM_SETTINGS, REMEDY)
    if not found:
        raise runs.RunError(f"there is no {path}: {REMEDY}")
    return found


def of_arm(chosen: Mapping[str, ArmSettings], name: str) -> ArmSettings:
    """The settings that were chosen for an arm; its defaults where it was not tried.

    Of an arm whose name ends in a number, those of the same row with the next smaller number that
    was tried, or else the smallest. The episodes that it clones are those of the others in any
    case.

    Args:
        chosen: see `read`.
        name: of the arm.
    """
    row, number = parted(name)
    numbers = {parted(tried)[1]: tried for tried in chosen if parted(tried)[0] == row}
    if not numbers:
        [perturb] = _perturbs(chosen) or {ArmSettings().perturb}
        return dataclasses.replace(default(ARMS[row]), perturb=perturb)
    below = [known for known in numbers if known <= number]
    return chosen[numbers[max(below) if below else min(numbers)]]
