"""The arms of a transfer: methods, and the controls that make their figures mean something.

An arm says what a learner begins with, what it is told, which of its weights learn, whether it
clones expert episodes first, and whether it learns by reinforcement. A new one is a row.

References of the methods (`agents/adaptation.py` and `agents/meta.py` have further ones):
    Cover and Hart (1967), Nearest neighbor pattern classification.
    Pomerleau (1989), ALVINN: an autonomous land vehicle in a neural network.
    Fernandez and Veloso (2006), Probabilistic policy reuse in a reinforcement learning agent.
    Yosinski et al. (2014), How transferable are features in deep neural networks?
    Duan et al. (2016), RL^2: fast reinforcement learning via slow reinforcement learning.
    Alain and Bengio (2016), Understanding intermediate layers using linear classifier probes.
    Finn et al. (2017), Model-agnostic meta-learning for fast adaptation of deep networks.
    Nichol et al. (2018), On first-order meta-learning algorithms.
    Rajeswaran et al. (2018), Learning complex dexterous manipulation with deep reinforcement
        learning and demonstrations.
    Lester et al. (2021), The power of scale for parameter-efficient prompt tuning.
    Hu et al. (2022), LoRA: low-rank adaptation of large language models.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any, Literal, NamedTuple

from uncap.envs.conditioning import CONDITIONINGS, TRANSFERABLE
from uncap.envs.tables import lookup

# What the number at the end of an arm's name counts, and the largest
MOST = {"expert episodes": 1000, "attempts": 100, "nearest policies": 1000}
TAUGHT_STEPS = 100_000  # environment steps for which an expert teaches a target, at most


@dataclasses.dataclass(frozen=True)
class Arm:
    """A row of METHODS or CONTROLS.

    Attributes:
        words: one line: what it does; of a control, what it rules out.
        begins: with the weights of the source; of another run, whose mechanisms are not the
            target's; of one policy of a run that has one per row; of a run with a memory; or from
            nothing.
        told: of the target itself; of the nearest trained row; of a trained row that opens
            otherwise, drawn from `distances.others`; or noise of the size of a task vector.
        trains: what learns, a row of `adaptation.TRAINS`.
        counts: what the number at the end of its name counts, of MOST; empty without one.
        adapts: trained to adapt before it clones, a row of `meta.WAYS`; empty if it is not.
        taught: whether the target's expert teaches it, by DAgger, for as many steps as others
            learn by reinforcement, at most TAUGHT_STEPS.
        reinforces: whether it learns by reinforcement.
        total: whether its budget has the steps of the source's training in it, too.
        is_expensive: whether it is left out unless it is asked for.
    """

    words: str
    begins: Literal["source", "unrelated", "specialist", "memory", "nothing"] = "source"
    told: Literal["own", "nearest", "another", "noise"] = "own"
    trains: str = "all"
    counts: Literal["", "expert episodes", "attempts", "nearest policies"] = ""
    adapts: str = ""
    taught: bool = False
    reinforces: bool = True
    total: bool = False
    is_expensive: bool = False

    @property
    def demos(self) -> bool:
        """Whether it clones expert episodes first."""
        return self.counts == "expert episodes"

    @property
    def draws(self) -> bool:
        """Whether something in it is drawn by its seed; else seeds repeat the same episodes."""
        learns = self.reinforces or self.demos or self.taught
        return learns or self.told in ("another", "noise")


METHODS = {
    "zero_shot": Arm("the policy as it is", trains="none", reinforces=False),
    "nearest_task": Arm(
        "as it is, told of the most similar row that it was trained on (nearest neighbour: "
        "Cover and Hart, 1967)",
        told="nearest",
        trains="none",
        reinforces=False,
    ),
    "fine_tune": Arm("all weights, by reinforcement (fine-tuning: Yosinski et al., 2014)"),
    "head_only": Arm(
        "the output layer, by reinforcement (a probe: Alain and Bengio, 2016)", trains="head"
    ),
    "conditioning_only": Arm(
        "the task vector, by reinforcement (cf. prompt tuning: Lester et al., 2021)",
        trains="conditioning",
    ),
    "adapter": Arm("low-rank matrices, by reinforcement (LoRA: Hu et al., 2022)", trains="adapter"),
    "specialist": Arm(
        "of a run with a policy per row, the one of the K-th nearest row, by reinforcement (cf. "
        "policy reuse: Fernandez and Veloso, 2006)",
        begins="specialist",
        counts="nearest policies",
    ),
    "demos": Arm(
        "clones K expert episodes (behaviour cloning: Pomerleau, 1989)",
        counts="expert episodes",
        reinforces=False,
    ),
    "demos_then_rl": Arm(
        "clones K expert episodes, then reinforcement (cf. Rajeswaran et al., 2018)",
        counts="expert episodes",
    ),
    "reptile": Arm(
        "clones K expert episodes, after Reptile on the source's rows (Nichol et al., 2018)",
        counts="expert episodes",
        adapts="reptile",
        reinforces=False,
    ),
    "fomaml": Arm(
        "clones K expert episodes, after first-order MAML on the source's rows (Finn et al., 2017)",
        counts="expert episodes",
        adapts="fomaml",
        reinforces=False,
    ),
    "attempts": Arm(
        "a policy with a memory, in K attempts at each closure (RL^2: Duan et al., 2016)",
        begins="memory",
        counts="attempts",
        trains="none",
        reinforces=False,
    ),
}
CONTROLS = {
    "scratch": Arm(
        "from nothing, with as many steps on the target: whether these alone would do",
        begins="nothing",
    ),
    "demos_from_nothing": Arm(
        "the same K expert episodes from nothing: what they are worth without the source",
        begins="nothing",
        counts="expert episodes",
        reinforces=False,
    ),
    "demos_then_rl_from_nothing": Arm(
        "the same, then reinforcement: what both are worth without the source",
        begins="nothing",
        counts="expert episodes",
    ),
    "shuffled": Arm(
        "told of a trained row of another mechanism, drawn (without any, of the farthest): whether "
        "it listens to what it is told",
        told="another",
        trains="none",
        reinforces=False,
    ),
    "noise": Arm(
        "its task vector replaced by noise: whether it uses one at all",
        told="noise",
        trains="none",
        reinforces=False,
    ),
    "scratch_total": Arm(
        "from nothing, with the source's steps as well: whether learning alone would do",
        begins="nothing",
        total=True,
        is_expensive=True,
    ),
    "unrelated": Arm(
        "fine-tuned from a run of rows of other mechanisms: whether any source would do",
        begins="unrelated",
        is_expensive=True,
    ),
    "expert_taught": Arm(
        "from nothing, taught by the target's expert for as many steps, at most "
        f"{TAUGHT_STEPS:,}: the upper bound",
        begins="nothing",
        taught=True,
        reinforces=False,
        is_expensive=True,
    ),
}
ARMS = METHODS | CONTROLS


def parted(name: str) -> tuple[str, int]:
    """The row of an arm and the number at the end of its name, 0 without one.

    Args:
        name: such as `fine_tune`, or `demos-5`.

    Raises:
        ValueError: no such arm; a number that is missing, too large, or not allowed.
    """
    stem, dash, number = name.rpartition("-")
    row = stem if dash and number.isascii() and number.isdigit() else name
    arm = lookup(ARMS, row, "method or control")
    if not arm.counts:
        if row != name:
            raise ValueError(f"{row} takes no number, as in {name}")
        return row, 0
    most = MOST[arm.counts]
    if row == name or not 1 <= int(number) <= most or number != str(int(number)):
        raise ValueError(f"{row} needs a number of {arm.counts}, 1 to {most:,}: such as {row}-5")
    return row, int(number)


def spaced(name: str) -> str:
    """An arm's name in words."""
    return name.replace("_", " ")


def arm_of(name: str) -> Arm:
    """The row of an arm, see `parted`."""
    return ARMS[parted(name)[0]]


def method(name: str) -> None:
    """Refuse what is no method.

    Raises:
        ValueError: see `parted`; or it is a control.
    """
    row, _ = parted(name)
    lookup(METHODS, row, "method")


def control(name: str) -> None:
    """Refuse what is no control.

    Raises:
        ValueError: see `parted`; or it is a method.
    """
    row, _ = parted(name)
    lookup(CONTROLS, row, "control")


class Source(NamedTuple):
    """What decides which arms can be.

    Attributes:
        conditioning: what the source is told of its task, a row of CONDITIONINGS.
        rows: how many it was trained on.
        runs: what is named beside it, of RUNS.
    """

    conditioning: str
    rows: int
    runs: Collection[str] = ()


class Run(NamedTuple):
    """A row of RUNS: a run that an arm begins with, where that is not the source.

    Attributes:
        setting: that names its folder.
        words: what it is.
    """

    setting: str
    words: str


RUNS = {
    "unrelated": Run("unrelated", "a run of rows of other mechanisms"),
    "specialist": Run("specialists", "a run that was trained with --alone"),
    "memory": Run("memory", "a run with a memory"),
}
# What can be exchanged for another vector, and what can be learned as one that stays
TOLD = tuple(name for name in TRANSFERABLE if CONDITIONINGS[name].task_input == "vector")
TOLD_ONCE = tuple(name for name in TOLD if not CONDITIONINGS[name].staged)


def named_runs(config: Any) -> tuple[str, ...]:
    """The rows of RUNS whose folders a configuration names."""
    return tuple(begins for begins, run in RUNS.items() if getattr(config, run.setting, None))


def check(names: Sequence[str], source: Source, prefix: str = "--") -> None:
    """Refuse arms that cannot be.

    Args:
        names: of arms.
        source: what it is transferred from.
        prefix: of the flags that name runs.

    Raises:
        ValueError: what the first of them needs, or a run that none of them begins with.
    """
    if source.conditioning not in TRANSFERABLE:
        raise ValueError(
            f"a transfer needs a source of --conditioning {', '.join(TRANSFERABLE)}: this one has "
            f"{source.conditioning}"
        )
    for name in names:
        if problem := why_not(name, source, prefix):
            raise ValueError(problem)
    used = {arm_of(name).begins for name in names}
    for begins in source.runs:
        if begins not in used:
            raise ValueError(
                f"{prefix}{RUNS[begins].setting} has no effect: none of these arms begins with it: "
                f"{', '.join(names)}"
            )


def why_not(name: str, source: Source, prefix: str = "--") -> str | None:
    """Why an arm cannot be, in one line; None if it can, see `check`."""
    arm, given = arm_of(name), source.conditioning
    if arm.told != "own" and given not in TOLD:
        return (
            f"{name} needs a source that is told of its task by a vector (--conditioning "
            f"{', '.join(TOLD)}): this one has {given}"
        )
    if arm.trains == "conditioning" and given not in TOLD_ONCE:
        return (
            f"{name} needs a source that is told of its task by a vector that stays "
            f"(--conditioning {', '.join(TOLD_ONCE)}): this one has {given}"
        )
    if arm.told == "another" and source.rows < 2:
        return f"{name} needs a source that was trained on two rows or more: this one has one"
    if arm.begins in RUNS and arm.begins not in source.runs:
        run = RUNS[arm.begins]
        return f"{name} needs {prefix}{run.setting} RUN, {run.words}"
    return None


def default_controls(methods: Sequence[str], expensive: bool, source: Source) -> tuple[str, ...]:
    """The controls of methods: all cheap ones that can be, and the expensive ones where asked for.

    Args:
        methods: names of arms.
        expensive: with those that train long; a run of unrelated rows that is named asks for its
            own.
        source: what it is transferred from.
    """
    found = [
        row
        for row, arm in CONTROLS.items()
        if not arm.demos
        and (expensive or not arm.is_expensive or arm.begins == "unrelated")
        and why_not(row, source) is None
    ]
    cloning = [name for name in methods if arm_of(name).demos]
    reinforced = [name for name in cloning if arm_of(name).reinforces]
    for row, those in (
        ("demos_from_nothing", cloning),
        ("demos_then_rl_from_nothing", reinforced),
    ):
        found += [f"{row}-{number}" for number in sorted({parted(name)[1] for name in those})]
    return tuple(found)


def left_out(source: Source) -> list[str]:
    """Why controls are not there although all were asked for: a line for each.

    Args:
        source: what it is transferred from.
    """
    rows = [row for row, arm in CONTROLS.items() if not arm.demos]
    return [f"left out: {problem}" for row in rows if (problem := why_not(row, source))]
