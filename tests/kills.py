"""The kill harness: commands are killed at random moments, gone on with, and must end the same.

A command, algorithm or file joins by a row of `JOBS`. Processes are forked from one that has
imported everything, so that what is killed is work, and not its beginning.
"""

import dataclasses
import importlib.util
import json
import multiprocessing
import os
import pathlib
import runpy
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from uncap.agents import demonstrations
from uncap.evaluation import kept
from uncap.evaluation.same import compare

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
LEFT_OVER = ("latest", "transfer", "device", kept.FILE)  # of a run that is not finished
PATIENCE = 300.0  # s for a process to end
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["warm"])


@dataclasses.dataclass(frozen=True)
class Job:
    """A command that is killed.

    Attributes:
        begin: its words, where OUT is the folder that it makes, DEMOS a recording,
            GRID a grid, STUDY a study and RAY a Ray cluster's address.
        again: to go on; by default the same.
        begun: a file in OUT that says that it can go on; before, it begins anew.
        finished: a file in OUT that says that it need not; by default it can in any case.
        copied: the job that has made OUT, where this one adds to it.
        script: a script that is run in place of the command line.
        signals: that kill it.
        differences: a line for everything in which two folders differ.
    """

    begin: str
    again: str = ""
    begun: str = "config.json"
    finished: str = ""
    copied: str = ""
    script: str = ""
    signals: tuple[int, ...] = SIGNALS
    differences: Callable[[pathlib.Path, pathlib.Path], Iterable[str]] = compare


def same_recordings(a: pathlib.Path, b: pathlib.Path) -> Iterable[str]:
    """A line for every column in which two recordings differ."""
    ours, theirs = demonstrations.load(a), demonstrations.load(b)
    return [name for name in ours if not np.array_equal(ours[name], theirs[name])]


def same_files(a: pathlib.Path, b: pathlib.Path) -> Iterable[str]:
    """A line for every file in which two folders differ."""
    ours, theirs = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
        for folder in (a / "uncap", b / "uncap")
    )
    return [str(name) for name in ours | theirs if ours.get(name) != theirs.get(name)]


def same_evaluations(a: pathlib.Path, b: pathlib.Path) -> Iterable[str]:
    """A line for everything in which two evaluations differ; they have no checkpoint."""
    return [line for line in compare(a, b) if line != "no checkpoint"]


def same_exports(a: pathlib.Path, b: pathlib.Path) -> Iterable[str]:
    """A line for everything in which two runs and their exported policies differ."""
    yield from compare(a, b)
    if (a / "policy.onnx").read_bytes() != (b / "policy.onnx").read_bytes():
        yield "policy.onnx: other bytes"


def same_forecasts(a: pathlib.Path, b: pathlib.Path) -> Iterable[str]:
    """A line for everything in which two runs and what was forecast of them differ."""
    yield from compare(a, b)
    if (a / "forecast.json").read_bytes() != (b / "forecast.json").read_bytes():
        yield "forecast.json: other bytes"


def same_settings(a: pathlib.Path, b: pathlib.Path) -> Iterable[str]:
    """A line for everything in which two runs and the settings that they chose differ."""
    yield from compare(a, b)
    ours, theirs = (json.loads((run / "arm_settings.json").read_text()) for run in (a, b))
    if ours["arms"] != theirs["arms"]:
        yield "arm_settings.json: other settings or scores"


def same_sequences(a: pathlib.Path, b: pathlib.Path) -> Iterable[str]:
    """A line for every file in which two sequences differ."""
    names = ("sequence.json", "sequence.csv", "sequence.png")
    return [name for name in names if (a / name).read_bytes() != (b / name).read_bytes()]


_SMALL = (
    "--quick --no-videos --task-set unrelated --num-envs 4 --episodes 1 --validation-episodes 1 "
    "--validations 1 --out OUT"
)
_STEPS = "--env-steps 400 --transfer-steps 0"
_DAGGER = "--dagger.steps-per-task 160 --dagger.rollout 8 --dagger.updates 2 --dagger.minibatch 32"
_WARM_PPO = "--ppo.warm-rollout 10 --ppo.critic-warmup 1 --ppo.warm-epochs 1"
_TRANSFER = (
    "--env-steps 400 --transfer-steps 120 --transfer.points 1 --transfer.episodes 1 "
    "--transfer.num-envs 4 --ppo.rollout 10"
)
_CLONE = "--warm-start clone --clone.epochs 12 --clone.updates 4 --clone.minibatch 32 --demos DEMOS"
_SAC = (
    "--algorithm sac --sac.learning-starts 40 --sac.train-freq 5 --sac.gradient-steps 3 "
    "--sac.batch-size 32"
)
_PPO = f"{_SMALL} {_STEPS} {_DAGGER} {_WARM_PPO} --ppo.guidance 2"
_COMPOSED = "composed-right-ccw-up-0 composed-pressleft-screwccw-0"
_RESUME = "--resume OUT --no-videos"
JOBS = {
    "quick": Job(
        f"{_SMALL} {_DAGGER} {_WARM_PPO} --ppo.guidance 2 {_TRANSFER} --cosines --threads 1",
        _RESUME,
    ),
    "scratch": Job(
        f"{_SMALL} {_STEPS} --ppo.rollout 10 --warm-start none --sampling by_failure --checkpoints",
        _RESUME,
    ),
    "clone": Job(f"{_SMALL} {_STEPS} {_WARM_PPO} {_CLONE}", _RESUME),
    "sac": Job(f"{_SMALL} {_STEPS} {_DAGGER} {_SAC} --sampling by_failure", _RESUME),
    "sac-demos": Job(f"{_SMALL} {_STEPS} {_SAC} {_CLONE}", _RESUME),
    "plain": Job(
        f"{_SMALL} --algorithm plain_ppo --warm-start none --env-steps 1600 --transfer-steps 0",
        _RESUME,
    ),
    "recurrent": Job(
        f"{_SMALL} --algorithm recurrent_ppo --conditioning none --warm-start none "
        "--env-steps 1600 --transfer-steps 0 --attempts 2 --episode-steps 5",
        _RESUME,
    ),
    "alone": Job(f"{_PPO} --alone", _RESUME),
    "history": Job(
        f"{_PPO} --conditioning history --popart --head per_task --reward sparse", _RESUME
    ),
    "composed": Job(
        _PPO.replace("--task-set unrelated", f"--tasks {_COMPOSED}")
        + " --conditioning stage --body attention",
        _RESUME,
    ),
    "memory": Job(
        _PPO.replace("--task-set unrelated", "--tasks bottle bottle-left").replace(
            "--dagger.rollout 8",
            "--dagger.rollout 5 --dagger.told 0.3 --dagger.other 0.3 --dagger.trials 2 "
            "--dagger.memory-every 1",
        )
        + " --conditioning belief --attempts 2 --episode-steps 5 --memory-size 8",
        _RESUME,
    ),
    "arm": Job(f"{_PPO} --sensors arm --body transformer", _RESUME),
    "sac-arm": Job(f"{_SMALL} {_STEPS} {_DAGGER} {_SAC} --sensors arm", _RESUME),
    "transfer": Job(
        "transfer OUT --target jar --env-steps 200 --methods fine_tune adapter demos_then_rl-1 "
        "--all-controls",
        copied="scratch",
    ),
    "tune_transfer": Job(
        "tune_transfer OUT --targets jar --trials 2 --env-steps 200 --num-envs 4 "
        "--methods fine_tune demos-1 "
        "--out OUT/arm_settings.json",
        copied="scratch",
        differences=same_settings,
    ),
    "sequence": Job(
        "sequence reach puck --learner replay --steps 400 --episodes 1 --num-envs 4 --width 8 "
        "--kept-episodes 1 --out OUT",
        begun="",
        differences=same_sequences,
    ),
    "forecast": Job(
        "forecast OUT --targets jar mug --out OUT/forecast.json",
        copied="scratch",
        differences=same_forecasts,
    ),
    "export": Job("export OUT", copied="scratch", differences=same_exports),
    "export_memory": Job("export OUT", copied="memory", differences=same_exports),
    "disturb": Job(
        "evaluate random --tasks button --episodes 2 --disturb delay=2 --disturb push --out OUT",
        begun="results.json",
        finished="results.json",
        differences=same_evaluations,
    ),
    "demos": Job(
        "demos --task-set unrelated --episodes 2 --out OUT",
        begun="",
        finished="uncap/unrelated-v0",
        differences=same_recordings,
    ),
    "lerobot": Job(
        "demos --task-set unrelated --episodes 2 --format lerobot --out OUT",
        begun="",
        finished="uncap/unrelated",
        differences=same_files,
    ),
    "compare": Job(
        "compare GRID --out OUT",
        begun="cells",
    ),
    "shard": Job(
        "compare GRID --shard 2/2 --out OUT",
        begun="cells",
    ),
    "tune": Job(
        "tune STUDY --out OUT",
        begun="cells",
    ),
}
if importlib.util.find_spec("mujoco_warp"):
    JOBS["device"] = Job(
        "--task-set puck,block: --width 8 --num-envs 4 --starts 2 --env-steps 240 --rollout 5 "
        "--updates 2 --minibatch 32 --save-every 0.001 --device cpu --out OUT",
        "--resume OUT",
        begun="device/tensors.safetensors",
        finished="results.json",
        script="benchmarks/gpu_train.py",
    )
if importlib.util.find_spec("ray"):
    JOBS["ray"] = Job("compare GRID --ray RAY --out OUT", begun="cells")


def work(words: list[str], log: pathlib.Path, script: str = "") -> None:
    """Run the command line, or a script, in this process, which was forked for it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # whoever started the fork server
    with open(log, "a") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    sys.argv = [script or "train.py", *words]
    if script:
        runpy.run_path(str(ROOT / script), run_name="__main__")
        return
    from uncap.evaluation.cli import main

    main()


class Killing:
    """Runs a job, killed now and then, in folders of its own.

    Args:
        job: a row.
        folder: for the runs.
        given: folders by the words that stand for them (upper case), and runs by their jobs' names.

    Attributes:
        whole: the run that was not killed.
        seconds: that it took.
        kills: so far, by signal.
    """

    def __init__(
        self, job: Job, folder: pathlib.Path, given: Mapping[str, pathlib.Path] | None = None
    ):
        self.job = job
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        tests = ROOT / "tests"
        own = {"GRID": tests / "kill.toml", "STUDY": tests / "kill_tune.toml"}
        self.given = {**own, **(given or {})}
        self.kills: dict[int, int] = dict.fromkeys(job.signals, 0)
        self._runs = 0
        self.whole = folder / "whole"
        began = time.perf_counter()
        self._finish(self.whole)
        self.seconds = time.perf_counter() - began

    def killed(
        self, rng: np.random.Generator, kills: int, signals: Sequence[int] | None = None
    ) -> list[str]:
        """Kill a run so many times, or until it is done, and let it end.

        Args:
            rng: draws moments and signals.
            kills: at most.
            signals: that kill it; by default all that the job has.

        Returns:
            What is different from the whole run, and what was left over; nothing is right.
        """
        self._runs += 1
        run = self.folder / str(self._runs)
        moments = []
        for _ in range(kills):
            process = self._start(run)
            moment = float(rng.uniform(0, self.seconds / 2))  # what was done is not done again
            number = int(rng.choice(signals or self.job.signals))
            process.join(moment)
            if process.is_alive() and process.pid:
                os.kill(process.pid, number)
                self.kills[number] += 1
                moments.append(f"{signal.Signals(number).name} after {moment:.2f} s")
            self._wait(process, run, may_fail=True)
            if self.job.finished and (run / self.job.finished).exists():
                break
        self._finish(run)
        found = [*self.job.differences(self.whole, run), *leftovers(run)]
        if not found:
            shutil.rmtree(run)
        return [f"{run} ({'; '.join(moments)}): {line}" for line in found]

    def _start(self, run: pathlib.Path):
        job = self.job
        begun = (run / job.begun).exists()
        if not begun:
            shutil.rmtree(run, ignore_errors=True)
            if job.copied:
                shutil.copytree(self.given[job.copied], run)
        text = (begun and job.again) or job.begin
        words = filled(text, {**self.given, "OUT": run})
        process = _CONTEXT.Process(target=work, args=(words, self._log(run), job.script))
        process.start()
        return process

    def _finish(self, run: pathlib.Path) -> None:
        if not self.job.finished or not (run / self.job.finished).exists():
            self._wait(self._start(run), run, may_fail=False)

    def _wait(self, process, run: pathlib.Path, may_fail: bool) -> None:
        process.join(PATIENCE)
        assert process.exitcode is not None, f"{run} does not end"
        log = self._log(run).read_text(errors="replace") if self._log(run).exists() else ""
        assert may_fail or process.exitcode == 0, log[-2000:]
        assert "Traceback" not in log, log[-2000:]

    def _log(self, run: pathlib.Path) -> pathlib.Path:
        return run.with_suffix(".log")


def filled(text: str, given: Mapping[str, pathlib.Path]) -> list[str]:
    """The words of a command; those in capitals stand for folders. A run may be called `sac`.

    What is in such a folder is named behind it: OUT/file.
    """
    words = []
    for word in text.split():
        folder, slash, inside = word.partition("/")
        words.append(f"{given[folder]}{slash}{inside}" if folder.isupper() else word)
    return words


def leftovers(run: pathlib.Path) -> list[str]:
    """What a finished run should not hold any more."""
    return [
        f"left over: {path}"
        for path in run.rglob("*")
        if path.name in LEFT_OVER or ".tmp" in path.name
    ]
