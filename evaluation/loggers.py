"""Loggers that get what metrics.csv gets, if asked for and installed.

They get stable-baselines3's diagnostics of every update, too, by its own names: losses,
`train/approx_kl`, `rollout/ep_rew_mean` and so on.
"""

from __future__ import annotations

import importlib.util
import pathlib
from collections.abc import Mapping

from uncap.evaluation.runs import RunError


class TensorBoard:
    """Writes event files into tensorboard/ of the run folder.

    Args:
        run: the folder.
        first_step: what an earlier session wrote from this step on is not shown: it begins anew.
    """

    def __init__(self, run: pathlib.Path, first_step: int = 0):
        from torch.utils.tensorboard import SummaryWriter  # its package is optional

        self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=first_step)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Write metrics by name, at a number of environment steps."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()  # what it holds back is lost when the process is killed

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


class WeightsAndBiases:
    """A run of the project `uncap`, named as the run folder.

    With WANDB_MODE=offline it writes local files only.
    """

    def __init__(self, run: pathlib.Path, first_step: int = 0):
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
