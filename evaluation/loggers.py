"""Where metrics go beside metrics.csv, if asked for and installed."""

from __future__ import annotations

import importlib.util
import pathlib
from collections.abc import Mapping

from evaluation.runs import RunError


class TensorBoard:
    """Event files in tensorboard/ of the run folder."""

    def __init__(self, run: pathlib.Path):
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run / "tensorboard"))

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Write numbers by name, at a number of environment steps."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """End the log."""
        self._writer.close()


class WeightsAndBiases:
    """A run of the project `uncap`, named as the run folder; local files only where WANDB_MODE=offline."""

    def __init__(self, run: pathlib.Path):
        import wandb

        self._run = wandb.init(project="uncap", name=run.name, dir=str(run))

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Send numbers by name, at a number of environment steps."""
        self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        """End the run."""
        self._run.finish()


LOGGERS = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}
_INSTALL = {"tensorboard": "pip install 'uncap[tensorboard]'", "wandb": "pip install wandb"}


def require(name: str) -> None:
    """Ask for the package of a logger.

    Raises:
        RunError: it is not installed.
    """
    if importlib.util.find_spec(name) is None:
        raise RunError(f"--{name} needs the package {name}: {_INSTALL[name]}")
