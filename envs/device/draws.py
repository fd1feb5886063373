"""What is drawn in every control step: pushes on the hands, and noise of the states.

It is drawn before the step, into memory that stays: a CUDA graph holds no generator. What becomes
of the numbers is the CPU's formula, see `variation.Variation`.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor


class Draws:
    """The present control step's draws, of n worlds.

    Args:
        varied: names of the quantities that vary: of others nothing is drawn.
        like: (n, ...), a tensor of their device and type.
        size: numbers of a state.

    Attributes:
        uniform: (n, 2) in [0, 1), of pushes: whether there is one, and which way; None without.
        normal: (n, size), of the noise; None without.
    """

    def __init__(self, varied: Collection[str], like: Tensor, size: int):
        self.uniform = like.new_zeros(len(like), 2) if "push" in varied else None
        self.normal = like.new_zeros(len(like), size) if "noise" in varied else None

    def renew(self, generator: torch.Generator) -> None:
        """Draw for the next control step.

        Args:
            generator: on their device.
        """
        if self.uniform is not None:
            self.uniform.uniform_(generator=generator)
        if self.normal is not None:
            self.normal.normal_(generator=generator)
