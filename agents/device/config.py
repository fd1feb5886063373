"""Settings of learning with thousands of environments on an accelerator."""

from __future__ import annotations

import dataclasses

from uncap.agents.config import DaggerConfig, PPOConfig
from uncap.agents.settings import setting
from uncap.envs.pool import VARIANTS


@dataclasses.dataclass(frozen=True)
class WideConfig:
    """What learning has at this width; the rest is as on the CPU.

    A round of DAgger is short, so that the policy acts on what it has learned, and its minibatches
    are large: small ones leave a GPU idle. A rollout of PPO is half an episode, in minibatches of
    16,384. These values are not tuned.

    How long learning takes is not among them: what is called after each round or update says so.
    """

    num_envs: int = setting(4096, "worlds", least=1)
    starts: int = setting(1024, "starts of each row, which its worlds take in turn", least=1)
    variants: int = setting(
        512,
        "variants of all rows together, at most: each takes some 30 ms to compile before anything "
        "is learned; a row has at least one, and no more than environments draw",
        least=1,
    )
    states: int = setting(
        4_000_000,
        "labelled states of DAgger that are kept, about 0.3 kB each; new ones then take the place "
        "of the oldest",
        least=1,
    )
    dagger: DaggerConfig = DaggerConfig(rollout=10, updates=100, minibatch=4096)
    ppo: PPOConfig = PPOConfig(
        rollout=40,
        minibatches=10,
        epochs=4,
        deviations=((0, 0.5), (10_000_000, 0.2), (40_000_000, 0.2), (60_000_000, 0.08)),
    )

    def variants_of(self, rows: int) -> int:
        """Variants of each of so many rows."""
        return min(VARIANTS, max(1, self.variants // rows))


# With pictures a state takes 42 kB, and a minibatch what a convolutional network makes of it
PICTURED = WideConfig(
    states=400_000,
    dagger=DaggerConfig(rollout=10, updates=50, minibatch=1024, learning_rate=3e-4),
)
