"""The kill harness: commands are killed at random moments, gone on with, and must end the same.

A command, algorithm or file joins by a row of `JOBS`. Processes are forked from one that has
imported everything, so that what is killed is work, and not its beginning.
"""

import dataclasses
import multiprocessing
import os
import pathlib
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable

import numpy as np

from evaluation.same import compare

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
LEFT_OVER = ("latest", "transfer")  # folders of a run that is not finished
PATIENCE = 300.0  # s for a process to end
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["warm"])


@dataclasses.dataclass(frozen=True)
class Job:
    """A command that is killed.

    Attributes:
        begin: its words, where OUT is the folder that it makes and DEMOS a recording.
        again: to go on.
        begun: a file in OUT that says that it can go on; before, it begins anew.
        signals: that kill it.
        differences: a line for everything in which two folders differ.
    """

    begin: str
    again: str = "--resume OUT --no-videos"
    begun: str = "config.json"
    signals: tuple[int, ...] = SIGNALS
    differences: Callable[[pathlib.Path, pathlib.Path], Iterable[str]] = compare


_SMALL = (
    "--quick --no-videos --task-set unrelated --num-envs 4 --episodes 1 --validation-episodes 1 "
    "--validations 1 --ppo.rollout 10 --ppo.warm-rollout 10 --ppo.critic-warmup 1 "
    "--dagger.steps-per-task 240 --dagger.rollout 8 --dagger.updates 4 --env-steps 400 "
    "--transfer.points 1 --transfer.episodes 1 --transfer.num-envs 4 "
)
_NO_TRANSFER = f"{_SMALL} --transfer-steps 0 --out OUT"
_CLONE = "--warm-start clone --clone.epochs 12 --clone.updates 4 --demos DEMOS"
_SAC = "--algorithm sac --sac.learning-starts 40 --sac.train-freq 5 --sac.gradient-steps 3"
JOBS = {
    "quick": Job(f"{_SMALL} --transfer-steps 120 --cosines --out OUT"),
    "scratch": Job(f"{_NO_TRANSFER} --warm-start none --sampling by_failure"),
    "clone": Job(f"{_NO_TRANSFER} {_CLONE}"),
    "sac": Job(f"{_NO_TRANSFER} {_SAC} --sampling by_failure"),
    "sac-demos": Job(f"{_NO_TRANSFER} {_SAC} {_CLONE}"),
    "plain": Job(f"{_NO_TRANSFER} --algorithm plain_ppo --warm-start none --env-steps 1600"),
    "alone": Job(f"{_NO_TRANSFER} --alone"),
    "history": Job(f"{_NO_TRANSFER} --conditioning history --popart --head per_task"),
}


def work(words: list[str], log: pathlib.Path) -> None:
    """Run the command line in this process, which was forked for it."""
    with open(log, "a") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    sys.argv = ["train.py", *words]
    import train

    train._main()


class Killing:
    """Runs a job, killed now and then, in folders of its own.

    Args:
        job: a row.
        folder: for the runs.
        demos: a recording, for jobs that take one.

    Attributes:
        whole: the run that was not killed.
        seconds: that it took.
        kills: so far, by signal.
    """

    def __init__(self, job: Job, folder: pathlib.Path, demos: pathlib.Path | None = None):
        self.job = job
        self.folder = folder
        self.demos = demos
        self.kills: dict[int, int] = dict.fromkeys(job.signals, 0)
        self._runs = 0
        self.whole = folder / "whole"
        began = time.perf_counter()
        self._finish(self.whole)
        self.seconds = time.perf_counter() - began

    def killed(self, rng: np.random.Generator, kills: int) -> list[str]:
        """Kill a run so many times, or until it is done, and let it end.

        Args:
            rng: draws moments and signals.
            kills: at most.

        Returns:
            What is different from the whole run, and what was left over; nothing is right.
        """
        self._runs += 1
        run = self.folder / str(self._runs)
        moments = []
        for _ in range(kills):
            process = self._start(run)
            moment = float(rng.uniform(0, self.seconds))
            number = int(rng.choice(self.job.signals))
            process.join(moment)
            if process.is_alive() and process.pid:
                os.kill(process.pid, number)
                self.kills[number] += 1
                moments.append(f"{signal.Signals(number).name} after {moment:.2f} s")
            self._wait(process, run, may_fail=True)
        self._finish(run)
        found = [*self.job.differences(self.whole, run), *leftovers(run)]
        if not found:
            shutil.rmtree(run)
        return [f"{run} ({'; '.join(moments)}): {line}" for line in found]

    def _start(self, run: pathlib.Path):
        begun = (run / self.job.begun).exists()
        if not begun:
            shutil.rmtree(run, ignore_errors=True)
        given = {"OUT": str(run), "DEMOS": str(self.demos)}
        text = self.job.again if begun else self.job.begin
        words = [given.get(word, word) for word in text.split()]
        process = _CONTEXT.Process(target=work, args=(words, self._log(run)))
        process.start()
        return process

    def _finish(self, run: pathlib.Path) -> None:
        self._wait(self._start(run), run, may_fail=False)

    def _wait(self, process, run: pathlib.Path, may_fail: bool) -> None:
        process.join(PATIENCE)
        assert process.exitcode is not None, f"{run} does not end"
        log = self._log(run).read_text(errors="replace") if self._log(run).exists() else ""
        assert may_fail or process.exitcode == 0, log[-2000:]
        assert "Traceback" not in log, log[-2000:]

    def _log(self, run: pathlib.Path) -> pathlib.Path:
        return run.with_suffix(".log")


def leftovers(run: pathlib.Path) -> list[str]:
    """What a finished run should not hold any more."""
    return [
        f"left over: {path}"
        for path in run.rglob("*")
        if path.name in LEFT_OVER or ".tmp" in path.name
    ]
