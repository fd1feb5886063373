"""Loggers that get the metrics in addition to metrics.csv, if asked for and installed."""

from __future__ import annotations

import importlib.util
import pathlib
from collections.abc import Mapping
from typing import Any

from evaluation.runs import RunError


class TensorBoard:
    """Writes event files into tensorboard/ of the run folder.

    A run that is resumed may have to repeat some updates. What earlier files say of these steps
    and later ones is withdrawn, so that each curve is one line.
    """

    def __init__(self, run: pathlib.Path):
        from torch.utils.tensorboard import SummaryWriter  # its package is optional

        self._make = SummaryWriter
        self._folder = run / "tensorboard"
        self._writer: Any = None  # made with the first step

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Write metrics by name, at a number of environment steps."""
        if self._writer is None:
            repeated = step if self._folder.exists() else None
            self._writer = self._make(str(self._folder), purge_step=repeated)
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close the event file."""
        if self._writer is not None:
            self._writer.close()


class WeightsAndBiases:
    """A run of the project `uncap`, named as the run folder.

    With WANDB_MODE=offline it writes local files only.
    """

    def __init__(self, run: pathlib.Path):
        import wandb  # pyright: ignore[reportMissingImports] - optional, in no extra

        self._run = wandb.init(project="uncap", name=run.name, dir=str(run))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Send metrics by name, at a number of environment steps."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


LOGGERS = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}
_INSTALL = {"tensorboard": "pip install 'uncap[tensorboard]'", "wandb": "pip install wandb"}


def require(name: str) -> None:
    """Check that a logger's package is installed; a mere folder of its name is none.

    Raises:
        RunError: it is not; the message says how to install it.
    """
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise RunError(f"--{name} needs the package {name}: {_INSTALL[name]}")
