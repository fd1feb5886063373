"""What is remembered of the present episodes: what success asks for, and the last states."""

from __future__ import annotations

import numpy as np

from uncap.envs import rewards
from uncap.envs.angles import wrap

Measured = dict[str, np.ndarray]

_SQUEEZE = 0.002  # m of each finger, told to be so much narrower, from which on it squeezes
_STILL = 0.01  # m/s of each finger, below which it stands still


class EpisodeTracker:
    """What success asks for, of n sub-environments.

    Args:
        n: number of sub-environments.

    Attributes:
        steps: (n,) control steps of the present episodes.
        held_progress: (n,) progress in [0, 1] that was made under the hand's contact.
        last_progress: (n,) progress after the last control step.
        last_contact: (n,) whether the hand was at work then.
        open_steps: (n,) control steps for which the closure has been open without a break.
        succeeded: (n,) whether the episode has been a success at any time.
        invalid_actions: (n,) control steps of the episode whose action was not finite.
        divergences: (n,) how often the episode's simulation diverged and was put back.
    """

    def __init__(self, n: int):
        self.steps = np.zeros(n, int)
        self.held_progress = np.zeros(n)
        self.last_progress = np.zeros(n)
        self.last_contact = np.zeros(n, bool)
        self.open_steps = np.zeros(n, int)
        self.succeeded = np.zeros(n, bool)
        self.invalid_actions = np.zeros(n, int)
        self.divergences = np.zeros(n, int)

    @property
    def success(self) -> np.ndarray:
        """Whether each closure has been open for the last `rewards.HOLD_STEPS` steps, bool (n,)."""
        return self.open_steps >= rewards.HOLD_STEPS

    def restart(self, ids: np.ndarray) -> None:
        """Begin new episodes of sub-environments ids (k,)."""
        self.steps[ids] = 0
        self.held_progress[ids] = 0
        self.last_progress[ids] = 0
        self.last_contact[ids] = False
        self.open_steps[ids] = 0
        self.succeeded[ids] = False
        self.invalid_actions[ids] = 0
        self.divergences[ids] = 0

    def update(self, measured: dict[str, np.ndarray], running: np.ndarray) -> None:
        """Take in what was measured after a control step.

        Progress that is gained counts if a finger was at the lid when the step began, or if the
        hand holds it when the step ends: a lid that flies into a finger came by itself. Progress
        that is lost always counts.

        Args:
            measured: measurements, see `ClosureBatch.measure`.
            running: (n,) whether that step belonged to the present episode.
        """
        gain = measured["progress"] - self.last_progress  # (n,)
        at_work = np.where(measured["hold_rule"], measured["holds"], measured["contact"])
        counts = self.last_contact | at_work
        counted_gain = np.where(counts, gain, np.minimum(0, gain))
        held_progress = np.minimum(np.maximum(self.held_progress + counted_gain, 0), 1)
        self.held_progress = held_progress * running
        # a step that began an episode leaves what `restart` does: nothing gained, nothing touched
        self.last_progress = measured["progress"] * running
        self.last_contact = measured["contact"] & running
        is_open = rewards.is_open(measured, self.held_progress)
        self.open_steps = np.where(is_open & running, self.open_steps + 1, 0)
        self.succeeded |= self.success

    def snapshot(self) -> dict[str, np.ndarray]:
        """Every number, as arrays that `restore` takes; checkpoints hold them by these names."""
        return {
            "held_progress": self.held_progress.copy(),
            "last_progress": self.last_progress.copy(),
            "last_contact": self.last_contact.copy(),
            "open_steps": self.open_steps.copy(),
            "ever": self.succeeded.copy(),
            "steps": self.steps.copy(),
            "invalid": self.invalid_actions.copy(),
            "diverged": self.divergences.copy(),
        }

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """Return to a snapshot."""
        self.held_progress = snapshot["held_progress"].copy()
        self.last_progress = snapshot["last_progress"].copy()
        self.last_contact = snapshot["last_contact"].copy()
        self.open_steps = snapshot["open_steps"].copy()
        self.succeeded = snapshot["ever"].copy()
        self.steps = snapshot["steps"].copy()
        self.invalid_actions = snapshot["invalid"].copy()
        self.divergences = snapshot["diverged"].copy()


def squeezes(measured: Measured) -> np.ndarray:
    """Whether fingers are told to be narrower than they are, bool (n,).

    Args:
        measured: see `ClosureBatch.measure` and `ClosureBatch.measure_arm`.
    """
    return measured["finger_target"] < measured["opening"] - _SQUEEZE


def stalled(measured: Measured) -> np.ndarray:
    """Whether fingers squeeze and stand still: something is between them, bool (n,)."""
    return squeezes(measured) & (np.abs(measured["finger_speed"]) < _STILL)


class Squeeze:
    """How far the hands have moved since their fingers began to squeeze, of n sub-environments.

    An arm knows that of its joints alone: it tells a lid that was lifted from one that is held too
    high, and how far a lid was turned, also where it was let go and held anew.

    Args:
        n: number of sub-environments.

    Attributes:
        began: (n, 4) where the hand was when its fingers began to squeeze: m, and its yaw in rad;
            where it is now, if they do not squeeze.
        last: (n, 2) the hand's yaw (rad) after the last control step, and whether its fingers
            were stalled.
        turned: (n,) rad, by stalled fingers in this episode.
    """

    def __init__(self, n: int):
        self.began = np.zeros((n, 4))
        self.last = np.zeros((n, 2))
        self.turned = np.zeros(n)
        self._is_new = np.ones(n, bool)  # episodes without a pose yet

    def restart(self, ids: np.ndarray) -> None:
        """Forget the poses of sub-environments ids (k,), once the next one comes."""
        self._is_new[ids] = True

    def update(self, measured: Measured) -> np.ndarray:
        """Take in what is measured, see `ClosureBatch.measure_arm`.

        Returns:
            (n, 5) that the hands have moved (m, world frame) and turned (rad) since then, and
            that stalled fingers have turned in this episode (rad).
        """
        yaw = measured["hand_yaw"]  # (n,) rad
        pose = np.concatenate((measured["tcp"], yaw[:, None]), 1)  # (n, 4)
        stays = squeezes(measured) & ~self._is_new
        self.began = np.where(stays[:, None], self.began, pose)
        moved = pose - self.began
        moved[:, 3] = wrap(moved[:, 3])
        holds = stalled(measured)
        held = holds & (self.last[:, 1] > 0) & ~self._is_new
        turned = np.where(self._is_new, 0.0, self.turned)
        self.turned = turned + held * wrap(yaw - self.last[:, 0])
        self.last = np.stack((yaw, holds), 1)
        self._is_new[:] = False
        return np.concatenate((moved, self.turned[:, None]), 1)

    def snapshot(self) -> np.ndarray:
        """Every number, (n, 7)."""
        return np.concatenate((self.began, self.last, self.turned[:, None]), 1)

    def restore(self, numbers: np.ndarray) -> None:
        """Return to a snapshot."""
        self.began, self.last = numbers[:, :4].copy(), numbers[:, 4:6].copy()
        self.turned = numbers[:, 6].copy()
        self._is_new[:] = False


class StateHistory:
    """The last states of n sub-environments, oldest first.

    Args:
        n: number of sub-environments.
        length: how many states are kept.
        size: of one state.
    """

    def __init__(self, n: int, length: int, size: int):
        self._states = np.zeros((n, length, size), np.float32)
        self._is_new = np.ones(n, bool)  # episodes without a state yet

    def restart(self, ids: np.ndarray) -> None:
        """Forget the states of sub-environments ids (k,), once the next state comes."""
        self._is_new[ids] = True

    def append(self, state: np.ndarray) -> None:
        """Add the state (n, size) after a control step; the first of an episode in all places."""
        self._states[:] = np.concatenate((self._states[:, 1:], state[:, None]), 1)
        self.begin(state)

    def begin(self, state: np.ndarray) -> None:
        """Fill the places of new episodes with their states, rows of (n, size); the rest stays."""
        np.copyto(self._states, state[:, None], where=self._is_new[:, None, None])
        self._is_new[:] = False

    def stacked(self) -> np.ndarray:
        """All states of a sub-environment behind each other, (n, length x size)."""
        return self._states.reshape(len(self._states), -1).copy()

    def snapshot(self) -> np.ndarray:
        """The states, (n, length, size)."""
        return self._states.copy()

    def restore(self, states: np.ndarray) -> None:
        """Return to a snapshot."""
        self._states[:] = states
        self._is_new[:] = False
