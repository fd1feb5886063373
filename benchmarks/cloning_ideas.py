"""Ways to clone a few expert episodes into a trained policy, beside each other.

    python benchmarks/cloning_ideas.py RUN TARGET [TARGET ...] [--seeds 3] [--ideas NAME ...]

The targets are rows that were left out of the run's sources, and are not those of a study: ideas
are judged here. Prints a line of a Markdown table for each idea: success by the number of cloned
episodes, the mean over targets and seeds, and that of each seed.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from one_line import above_zero  # noqa: E402

from uncap.agents.adaptation import train_only  # noqa: E402
from uncap.agents.config import CloneConfig  # noqa: E402
from uncap.agents.dagger import Rehearse, Teacher, Tensors  # noqa: E402
from uncap.agents.episodes import labelled  # noqa: E402
from uncap.agents.policy import Acting, load_policy  # noqa: E402
from uncap.envs import CLOSURES  # noqa: E402
from uncap.envs.tables import lookup  # noqa: E402
from uncap.evaluation import runs  # noqa: E402
from uncap.evaluation.curves import DEMO_SEED  # noqa: E402
from uncap.evaluation.protocol import evaluate, summary  # noqa: E402
from uncap.evaluation.training import VALIDATION_SEED  # noqa: E402

NUMBERS = (1, 5)  # of episodes that are cloned
SOURCE_SEED = 4_000_000  # of the starts of the source's episodes
PERTURB = 0.3  # share of random bursts in the episodes
EPISODES = 100  # of an evaluation
AVERAGED = 0.99  # share of the average's own weights that a step keeps


@dataclasses.dataclass(frozen=True)
class Idea:
    """How the episodes are cloned.

    Attributes:
        updates: minibatches of 512 states.
        rate: of Adam.
        trains: which weights, a row of TRAINS.
        rehearses: whether half of each minibatch is of expert episodes of the source's rows.
        averages: whether a moving average of the weights acts, not the last ones.
        noise: deviation of what is added to the states, in deviations of the cloned ones.
    """

    updates: int = 300
    rate: float = 3e-4
    trains: str = "all"
    rehearses: bool = False
    averages: bool = False
    noise: float = 0.0


IDEAS = {
    "the defaults": Idea(),
    "few small steps": Idea(updates=100, rate=1e-4),
    "the output layer alone": Idea(updates=1000, rate=1e-3, trains="head"),
    "half of each minibatch of the source's rows": Idea(rehearses=True),
    "a moving average of the weights": Idea(averages=True),
    "noise on the states": Idea(noise=0.1),
    "three times as much noise": Idea(noise=0.3),
    "noise, and 1,000 minibatches": Idea(noise=0.1, updates=1000),
    "noise, and half of each minibatch of the source's rows": Idea(noise=0.1, rehearses=True),
}


class Cloning:
    """Clones into copies of a run's policy, and measures them.

    Args:
        run: its folder.
    """

    def __init__(self, run: pathlib.Path):
        self.checkpoint = run / "checkpoint"
        _, self.meta = load_policy(self.checkpoint)
        self._of_source: Tensors = {}

    def success(self, idea: Idea, target: str, number: int, seed: int) -> float:
        """Share of the validation episodes of a target that a policy opens."""
        policy, meta = load_policy(self.checkpoint)
        seed += DEMO_SEED
        data = labelled(meta, target, number, seed, PERTURB)
        rng = np.random.default_rng(np.random.SeedSequence([seed, 5]))
        train_only(policy, idea.trains, data["task"][0])
        self._fit(policy, data, idea, rng)
        table = evaluate(
            Acting(policy, (target,)),
            (target,),
            EPISODES,
            conditioning=meta["conditioning"],
            known_tasks=meta["known"],
            seed=VALIDATION_SEED,
            variants="validation",
            sensors=meta["sensors"],
            episode_steps=meta["episode_steps"],
        )
        return summary(table)["mean_success"]

    def _fit(self, policy: Any, data: Tensors, idea: Idea, rng: np.random.Generator) -> None:
        config = CloneConfig(updates=1, minibatch=512, learning_rate=idea.rate, noise=idea.noise)
        teacher = Teacher(policy, config, idea.updates, rng, fused=False, falls_to=1.0)
        teacher.rehearse = self._rehearsal() if idea.rehearses else None
        weights = [value for value in teacher.parameters() if value.requires_grad]
        average = [value.detach().clone() for value in weights]
        for step in range(idea.updates):
            teacher.fit(data)
            kept = min(AVERAGED, step / (step + 10))  # the first steps are forgotten sooner
            for mean, value in zip(average, weights, strict=True):
                mean.lerp_(value.detach(), 1 - kept)
        if idea.averages:
            for mean, value in zip(average, weights, strict=True):
                value.data.copy_(mean)

    def _rehearsal(self) -> Rehearse:
        """An expert episode of each of the source's rows, from which states are drawn."""
        if not self._of_source:
            rows = self.meta["tasks"]
            parts = [labelled(self.meta, name, 1, SOURCE_SEED, PERTURB) for name in rows]
            self._of_source = {n: torch.cat([part[n] for part in parts]) for n in parts[0]}

        def rehearse(batch: Tensors, rng: np.random.Generator) -> Tensors:
            rows = rng.integers(len(self._of_source["label"]), size=len(batch["label"]))
            return {name: self._of_source[name][torch.as_tensor(rows)] for name in batch}

        return rehearse


def line(cloning: Cloning, name: str, targets: Sequence[str], seeds: int) -> str:
    """A line of the table."""
    cells = [name]
    for number in NUMBERS:
        of_seeds = {
            target: [cloning.success(IDEAS[name], target, number, s) for s in range(seeds)]
            for target in targets
        }
        mean = np.mean(list(itertools.chain(*of_seeds.values())))
        parts = (
            f"{target} {', '.join(f'{success:.2f}' for success in found)}"
            for target, found in of_seeds.items()
        )
        cells.append(f"{mean:.2f} ({'; '.join(parts)})")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=pathlib.Path, help="folder of a run")
    parser.add_argument("targets", nargs="+", help="rows that were left out of its sources")
    parser.add_argument(
        "--seeds", type=above_zero(int), default=3, help="sets of episodes that are cloned"
    )
    parser.add_argument("--ideas", nargs="+", choices=IDEAS, default=list(IDEAS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        cloning = Cloning(options.run)
        for target in options.targets:
            lookup(CLOSURES, target, "closure")
        runs.check_unseen(f"{options.run} was trained on", cloning.meta["tasks"], options.targets)
    except ValueError as error:
        parser.error(str(error))
    heads = ["idea", *(f"{n} episode{'s' * (n > 1)}" for n in NUMBERS)]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name in options.ideas:
        print(line(cloning, name, options.targets, options.seeds), flush=True)


if __name__ == "__main__":
    main()
