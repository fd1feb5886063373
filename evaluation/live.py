"""One closure, opened while someone looks: who acts, what is told, and what is recorded.

Physics, observations, rewards and success are those of `ClosureVectorEnv`, with n = 1. Who draws
it and who asks for changes is elsewhere: `live_page.py` is the browser, `live_window.py` MuJoCo's
own viewer. Nothing here may be called from two threads at once.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from gymnasium.vector import AutoresetMode

from uncap.agents.demonstrations import Recording, append, check_installed
from uncap.envs import CLOSURES, ClosureVectorEnv
from uncap.envs.conditioning import CONDITIONINGS, UNSEEN
from uncap.envs.pool import VARIANT_STREAMS

if TYPE_CHECKING:  # commands import this module
    from uncap.evaluation.commands import Actor

AXES = ("dx", "dy", "dz", "yaw", "fingers")  # of an action, see `ClosureBatch.step`
FINGERS = AXES.index("fingers")
# Control steps after the fingers were told to move until time waits: they have closed
SETTLE = 10
_ENTROPY = 0x11FE  # separates the starts from those of training, evaluation and demonstrations


class Live:
    """A closure that is being opened, by a policy or by hand.

    Variants are those of training, so that a policy may be trained on what is recorded.

    Args:
        actor: the policy, and what it is told.
        task: the row to begin with.
        seed: of the starts.
        out: folder for what is recorded.

    Attributes:
        tasks: rows that can be chosen, and that a policy can be told of.
        env: the environment.
        task: the row that is opened.
        told: the row that the policy is told of.
        by_hand: whether the hand's action is executed, instead of the policy's.
        hand: (5,) the hand's action.
        waits: whether time stands still while the hand is at rest.
        action: (5,) float32, executed last.
        info: of the environment; numbers.
        reward: of the last control step.
        ended: whether the episode has ended.
        recording: of this episode; None: it is not recorded.
        saved: the dataset's folder, once an episode is saved.

    Raises:
        ValueError: a row that the policy cannot act in.
    """

    def __init__(self, actor: Actor, task: str, seed: int, out: pathlib.Path, engine: str = "cpu"):
        self.tasks = choices(actor, task)
        self.out = out
        self.seed = seed
        self.env = ClosureVectorEnv(
            self.tasks,
            1,
            conditioning=actor.conditioning,
            known_tasks=actor.known_tasks,
            threads=1,
            autoreset_mode=AutoresetMode.DISABLED,
            variant_seed=VARIANT_STREAMS["train"],
            sensors=actor.sensors,
            episode_steps=actor.episode_steps,
            privileged=True,  # what is recorded
            engine=engine,
        )
        self.tells = _tells(actor)
        self._policy = actor.policy
        self._starts = 0
        self._idle = SETTLE  # control steps since a person told the fingers to move
        self.by_hand = False
        self.waits = True
        self.hand = _at_rest(1.0)
        self.recording: Recording | None = None
        self.saved: pathlib.Path | None = None
        self.task = self.told = task
        self.start()

    def start(self, task: str | None = None) -> None:
        """Begin an episode at a new start; a recording that has not ended is dropped.

        Args:
            task: a row to change to; the policy is told the truth of it.
        """
        if task is not None:
            self.task = self.told = task
        sequence = np.random.SeedSequence([_ENTROPY, self.seed, self._starts])
        self._starts += 1
        self._start_seed = int(sequence.generate_state(1)[0])
        options = {"task": self.task}
        self._observation, self.info = self.env.reset(seed=[self._start_seed], options=options)
        self._act = self._policy(self.env)
        self.action = np.array(_at_rest(1.0), np.float32)  # hands start open
        self.hand = _at_rest(1.0)
        self.reward = 0.0
        self.ended = False
        self.recording = None
        self._idle = SETTLE

    @property
    def steps(self) -> tuple[int, int]:
        """Control steps of this episode so far, and of a whole one."""
        return int(self.info["steps"][0]), int(self.env.max_steps[0])

    @property
    def success(self) -> bool:
        """Whether the closure has been open for the last 5 control steps."""
        return bool(self.info["success"][0])

    @property
    def progress(self) -> float:
        """Fraction of the way to open."""
        return float(self.info["progress"][0])

    def move(self, action: np.ndarray) -> None:
        """Take over, with an action (5,) that is executed until the next one."""
        fingers = self.hand[FINGERS] if self.by_hand else self.action[FINGERS]
        self.by_hand = True
        self.hand = np.clip(np.asarray(action, float), -1.0, 1.0)
        if self.hand[FINGERS] != fingers:
            self._idle = 0

    def take_over(self) -> None:
        """Take over with the hand at rest, and the fingers as they are told to be."""
        self.move(_at_rest(float(self.action[FINGERS])))

    def give_back(self) -> None:
        """Let the policy act again."""
        self.by_hand = False

    def record(self) -> None:
        """Begin an episode by hand that is recorded; it is saved when it ends.

        Raises:
            ValueError: no Minari.
        """
        check_installed()
        self.start()
        self.take_over()
        self.recording = Recording(self.task, self._start_seed)
        self._see(self.recording)

    def save(self) -> pathlib.Path:
        """Save what is recorded, and record no more; the episode goes on.

        Returns:
            The dataset's folder.

        Raises:
            ValueError: nothing is recorded; see `append`.
            OSError: it cannot be written.
        """
        if self.recording is None:
            raise ValueError("nothing is recorded: begin with a recording")
        self.saved = append(self.out, self.recording)
        self.recording = None
        return self.saved

    def step(self) -> bool:
        """Act once; False if the episode has ended, or time waits for the hand.

        Raises:
            ValueError, OSError: the recording that has ended cannot be saved, see `save`.
        """
        resting = not self.hand[:FINGERS].any() and self._idle >= SETTLE
        if self.ended or (self.by_hand and self.waits and resting):
            return False
        self._idle += 1
        self.action = np.asarray(self._chosen(), np.float32)
        self._observation, reward, terminated, truncated, self.info = self.env.step(
            self.action[None]
        )
        self.reward = float(reward[0])
        self.ended = bool(terminated[0] or truncated[0])
        if self.recording is not None:
            self.recording.act(self.action, self.reward, self.ended, self.by_hand)
            self._see(self.recording)
            if self.ended:
                self.save()
        return True

    def _chosen(self) -> np.ndarray:
        """The action (5,) of who acts; a policy with a memory looks on when it does not act."""
        if not self.by_hand:
            return self._act(*self._told())[0]
        if recall := getattr(self._act, "recall", None):
            self._act(*self._told())
            recall.acted(self.hand[None])
        return self.hand

    def _told(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """What the policy gets: its observation, and the index (1,) of the task it is told of."""
        told = np.array([self.tasks.index(self.told)])
        seen = {name: value for name, value in self._observation.items() if name != "privileged"}
        if "task" in seen:
            seen["task"] = self.env.told(told)
        return seen, told

    def _see(self, recording: Recording) -> None:
        recording.see(self._observation["privileged"][0], self.success, self.progress)

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


def _at_rest(fingers: float) -> np.ndarray:
    """The action (5,) of a hand at rest with its fingers at an opening in [-1, 1]."""
    return np.array([0.0, 0.0, 0.0, 0.0, fingers])


def choices(actor: Actor, task: str) -> tuple[str, ...]:
    """Rows that a policy can act in: those that it was trained on first; task is among them."""
    if isinstance(actor.conditioning, Mapping):  # vectors that came with the policy
        known = [name for name in actor.conditioning if name in CLOSURES]
    elif actor.conditioning in UNSEEN:
        known = [*actor.trained, *CLOSURES]
    else:
        known = actor.trained
    return tuple(dict.fromkeys((*known, task)))


def _tells(actor: Actor) -> bool:
    """Whether a policy is told anything of its task."""
    if isinstance(actor.conditioning, Mapping):
        return True
    return bool(actor.trained) and CONDITIONINGS[actor.conditioning].task_input != "nothing"
