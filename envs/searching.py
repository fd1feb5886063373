"""A scripted opener that is not told which closure it has: it tries, notices and remembers.

It takes the closure for one of the rows that look like it and does what their expert would do.
Where it holds the lid and works, and the lid does not go that way, the hypothesis is dropped, for
the rest of the trial. It is the baseline of every policy that finds out by trying.
"""

from __future__ import annotations

import numpy as np

from uncap.envs.closures import CLOSURES, groups
from uncap.envs.experts import expert_action
from uncap.envs.looks import GRIPS
from uncap.envs.mechanisms import MECHANISMS
from uncap.envs.telling import JOINTS, OF_ORDER, STAGE_SIZE, STAGES_SIZE
from uncap.envs.vector_env import ClosureVectorEnv

PATIENCE = 12  # control steps without progress, of a lid that is held, until a guess is dropped
UNHELD = 40  # control steps without holding what the guess would hold, likewise
PROGRESS = 0.02  # that counts as some
MOVED = 0.1  # progress with a guess from which on the lid goes that way


class Searcher:
    """Opens closures of an environment by trying what they could be.

    A guess with which the lid does not move is dropped for the rest of the trial, and one with
    which it moves and then stops for the rest of the attempt: some closures open by one guess
    after the other. What moves the lid one way rules out what would move it the other way.

    Args:
        env: rows that look alike are each other's hypotheses; a row without twins is known.

    Attributes:
        alive: bool (n, hypotheses), what each closure may still be.
        useful: bool (n, hypotheses), what has moved its lid in this trial.
        guess: (n,) index among the hypotheses, of what it is taken for now.
    """

    def __init__(self, env: ClosureVectorEnv):
        self.env = env
        self.hypotheses = hypotheses(env.tasks)  # (tasks, h) indices of tasks; -1: no more
        self._opposed = _opposed(env.tasks, self.hypotheses)  # (tasks, h, h)
        n, most = env.num_envs, self.hypotheses.shape[1]
        self.alive = np.zeros((n, most), bool)
        self.useful = np.zeros((n, most), bool)
        self.guess = np.zeros(n, np.int64)
        self._left = np.zeros((n, most), bool)  # to be tried in this attempt
        self._stuck = np.zeros(n, np.int64)  # control steps without progress
        self._unheld = np.zeros(n, np.int64)  # control steps without holding it
        self._begun = np.zeros(n)  # progress when the present guess was taken up
        self._reached = np.zeros(n)  # progress, of the present guess
        self._trial = np.full((n, 3), -1)  # task, variant, attempt

    @property
    def taken_for(self) -> np.ndarray:
        """Index (n,) of the row that each closure is taken for now."""
        return self.hypotheses[self.env.task, self.guess]

    def act(self, followed: np.ndarray | bool = True) -> np.ndarray:
        """Actions (n, 5) for the environment's present states.

        Args:
            followed: bool (n,), whether its guess was acted upon in the last control step: else
                that a lid did not move says nothing.
        """
        self._notice_new_episodes()
        taken_for = self.taken_for
        measured = self.env.batch.measure_as(taken_for)
        self._judge(measured, followed)
        changed = self.taken_for != taken_for
        if changed.any():
            measured = self.env.batch.measure_as(self.taken_for)
            self._reached[changed] = measured["progress"][changed]
            self._begun[changed] = measured["progress"][changed]
        return expert_action(measured)

    def _notice_new_episodes(self) -> None:
        """Forget everything where a trial begins, and how far the lid was where an attempt does."""
        env = self.env
        now = np.column_stack([env.task, env.batch.variant, env.attempt])
        begins = env.steps == 0  # (n,) an episode
        new_trial = begins & ((now[:, 2] == 0) | (now[:, :2] != self._trial[:, :2]).any(1))
        self.alive[new_trial] = self.hypotheses[env.task[new_trial]] >= 0
        self.useful[new_trial] = False
        self._left[begins] = self.alive[begins]
        self.guess[begins] = self._next(begins)
        self._stuck[begins] = 0
        self._unheld[begins] = 0
        self._begun[begins] = 0.0
        self._reached[begins] = 0.0
        self._trial = now

    def _next(self, which: np.ndarray) -> np.ndarray:
        """The first guesses of those that are left, those before the others that were useful."""
        return (self._left[which] * (1 + self.useful[which])).argmax(1)

    def _judge(self, measured: dict[str, np.ndarray], followed: np.ndarray | bool) -> None:
        """Drop the guesses that were tried for long enough, without progress."""
        progress = measured["progress"]
        moves = progress > self._reached + PROGRESS
        self._reached = np.where(moves, progress, self._reached)
        trying = (progress < 1.0) & followed
        self._stuck = np.where(moves, 0, self._stuck + (trying & measured["holds"]))
        self._unheld = np.where(measured["holds"], 0, self._unheld + trying)
        self._note_useful(self._reached >= self._begun + MOVED)
        spent = (self._stuck >= PATIENCE) | (self._unheld >= UNHELD)
        self._drop(np.flatnonzero(spent & (self.alive.sum(1) > 1)))

    def _note_useful(self, moved: np.ndarray) -> None:
        """Note which guesses have moved the lid, and what that rules out.

        Args:
            moved: bool (n,), whether the present guess has.
        """
        some = np.flatnonzero(moved)
        first = some[~self.useful[some].any(1)]  # else the lid may have been on its way back
        ruled_out = self._opposed[self.env.task[first], self.guess[first]]  # (k, h)
        self.alive[first] &= ~ruled_out
        self._left[first] &= ~ruled_out
        self.useful[some, self.guess[some]] = True

    def _drop(self, wrong: np.ndarray) -> None:
        """Go on to the next guess, and from the last one to the first again.

        Args:
            wrong: numbers (k,) of closures.
        """
        guess = self.guess[wrong]
        self.alive[wrong, guess] &= self.useful[wrong, guess]
        self._left[wrong, guess] = False
        again = wrong[~self._left[wrong].any(1)]
        self._left[again] = self.alive[again]
        self.guess[wrong] = self._next(wrong)
        self._stuck[wrong] = 0
        self._unheld[wrong] = 0


def _opposed(tasks: tuple[str, ...], guesses: np.ndarray) -> np.ndarray:
    """Which guesses would move the lid the other way first, bool (tasks, h, h).

    Args:
        tasks: rows of an environment.
        guesses: (tasks, h), see `hypotheses`.
    """
    vectors = np.array([CLOSURES[name].vector for name in tasks])
    firsts = vectors[:, :JOINTS] * np.sign(vectors[:, JOINTS, None])  # (tasks, joints), -1, 0 or 1
    signs = firsts[guesses] * (guesses >= 0)[:, :, None]  # (tasks, h, joints)
    return np.einsum("taj,tbj->tab", signs, signs) < 0


def hypotheses(tasks: tuple[str, ...]) -> np.ndarray:
    """What each task may be, (tasks, most): indices of tasks in the order of trying; -1 behind.

    Of a named row these are the rows that look like it. The look of a drawn one tells only how it
    is held: it may be of each kind among the drawn ones that are held so. What must be pressed is
    tried first: pressing a lid that need not be pressed does no harm.

    Args:
        tasks: rows of an environment.
    """
    index = {name: k for k, name in enumerate(tasks)}
    found = dict(groups(tasks))
    kinds = {grip: _kinds(tasks, grip) for grip in GRIPS}
    by_name = {name: group for group in found.values() for name in group}
    by_name |= {name: kinds[CLOSURES[name].grip] for name in tasks if _is_drawn(name)}
    rows = []
    for name in tasks:
        order = sorted(by_name[name], key=lambda other: not _is_pressed(other))
        rows.append([index[other] for other in order])
    most = max(map(len, rows))
    return np.array([row + [-1] * (most - len(row)) for row in rows])


def known(tasks: tuple[str, ...]) -> list[str]:
    """The rows among these that a search has one hypothesis on: it acts there as the expert."""
    several = (hypotheses(tasks) >= 0).sum(1) > 1
    return [name for name, unknown in zip(tasks, several, strict=True) if not unknown]


def _is_drawn(name: str) -> bool:
    """Whether a row is one of `drawn.ROW_NAMES` or `composed.ROW_NAMES`."""
    return name.split("-")[0] in ("drawn", "unseen", "composed")


def _kinds(tasks: tuple[str, ...], grip: str) -> tuple[str, ...]:
    """A drawn row of each kind that is held so: the one that goes farthest.

    With too short a way, an expert would take a lid for open before it is.
    """
    found: dict[bytes, str] = {}
    for name in tasks:
        if not _is_drawn(name) or CLOSURES[name].grip != grip:
            continue
        kind = _kind(name)
        if kind not in found or _way(name) > _way(found[kind]):
            found[kind] = name
    return tuple(found.values())


def _kind(name: str) -> bytes:
    """The stages of a row and which way they go, without the amounts, and how it is held."""
    vector = CLOSURES[name].vector
    stages = vector[:STAGES_SIZE].reshape(-1, STAGE_SIZE).copy()
    stages[:, JOINTS] = np.sign(stages[:, JOINTS])
    return stages.tobytes() + vector[OF_ORDER : OF_ORDER + 2].tobytes()


def _way(name: str) -> float:
    """How far the stages of a row go, in the units of `telling`."""
    stages = CLOSURES[name].vector[:STAGES_SIZE].reshape(-1, STAGE_SIZE)
    return float(np.abs(stages[:, JOINTS]).sum())


def _is_pressed(name: str) -> bool:
    """Whether a row's lid is kept down while it opens."""
    return any(stage.pressed for stage in MECHANISMS[CLOSURES[name].mechanism].stages)
