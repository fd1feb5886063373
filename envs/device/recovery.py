"""Worlds that diverge are put back to before the control step, at rest."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from uncap.envs.device.starts import DERIVED, STATE
from uncap.envs.scene import DIVERGES, LARGEST


class Recovery:
    """Remembers the state before a control step, for the worlds that diverge in it.

    What follows of the state (where things are, what is sensed) is put back, too, where the CPU's
    batch computes it anew: it is that of the last physics step before.

    Args:
        arrays: the engine's, (n, ...) by MuJoCo's names.
    """

    def __init__(self, arrays: Mapping[str, Tensor]):
        kept = [name for name in (*STATE, *DERIVED) if name in arrays and name != "ctrl"]
        self._arrays = {name: arrays[name] for name in kept}
        self._before = {name: array.clone() for name, array in self._arrays.items()}

    def keep(self) -> None:
        """Remember the state as it is."""
        for name, array in self._arrays.items():
            self._before[name].copy_(array)

    def recover(self) -> Tensor:
        """Put back the worlds that have diverged; bool (n,), which they are."""
        stepped = [self._arrays[name] for name in DIVERGES if name in self._arrays]
        # NaN is not below it, either
        diverged = ~(torch.cat(stepped, 1).abs() < LARGEST).all(1)
        for name, array in self._arrays.items():
            mask = diverged.reshape(-1, *[1] * (array.ndim - 1))
            array.copy_(torch.where(mask, self._before[name], array))
        self._arrays["qvel"].masked_fill_(diverged[:, None], 0.0)
        return diverged
