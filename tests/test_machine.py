"""The machine under the program: paths, cores, a full disk, no memory, another system."""

import contextlib
import functools
import importlib.util
import json
import os
import pathlib
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import types

import pytest
from rich.console import Console

from uncap.agents import demonstrations, files, pretrained
from uncap.envs import ClosureVectorEnv, cores
from uncap.evaluation import (
    audit,
    cli,
    commands,
    config,
    experiment,
    gallery,
    live_page,
    protocol,
    training,
    video,
)
from uncap.evaluation.progress import Bars, Lines

ROOT = pathlib.Path(__file__).parent.parent
ROOTLESS = 65534  # the user `nobody`, for whom permissions count
TINY = (  # the whole job on one row, in about a second
    "--quick --task-set unrelated/reach --warm-start none --env-steps 40 --num-envs 1 "
    "--ppo.rollout 40 --validation-episodes 1 --episodes 1 --transfer-steps 0 --no-videos"
)


class Ended:
    """What a command came to: its exit status, and what it printed."""

    def __init__(self, status: int, out: str, err: str):
        self.status = status
        self.out = out
        self.err = err

    @property
    def line(self) -> str:
        """The one line of an error."""
        assert self.status != 0, self.out
        assert self.err.startswith("error: ") and "\n" not in self.err.strip(), self.err
        return self.err.strip()


@pytest.fixture
def call(monkeypatch, capsys):
    """A function that runs a command in this process, and returns what it came to."""

    def run(*words: str | pathlib.Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, words)])
        capsys.readouterr()
        status, said = 0, ""
        try:
            cli.main()
        except SystemExit as end:
            status, said = (1, end.code) if isinstance(end.code, str) else (end.code or 0, "")
        out, err = capsys.readouterr()
        return Ended(status, out, err + said)

    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> pathlib.Path:
    """A finished run of one row."""
    folder = tmp_path_factory.mktemp("tiny") / "run"
    words = [*TINY.split(), "--out", str(folder)]
    cli.run(words, Console(quiet=True))
    return folder


@pytest.fixture
def quick(monkeypatch):
    """Stand-ins for what takes long and is tested elsewhere."""
    speed = {"env_steps_per_second": 1.0}

    def film(policy, task, path, *, on_frame=lambda *_: None, **_):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a film")
        on_frame(1, 2)
        on_frame(2, 2)
        return {"success": False, "progress": 0.0}

    def draw(out, seed, on_row, engine):
        out.mkdir(parents=True, exist_ok=True)
        (out / "gallery.html").write_text("a page")
        return out / "gallery.html"

    def evaluate(policy, tasks, *_, **__):
        return [protocol.Episode(task, 0, True, True, 1.0, 9, 0.5, 3.0) for task in tasks]

    def measure(*workload):
        workload[-1](1, 30)
        return speed

    entry = {"zero_shot": 0.5, "final": {"zero_shot": 0.5}, "area": {}}

    def look(live, port, say):
        live.record()
        live.waits = False
        live.step()
        say(f"recorded: {live.save()}")

    monkeypatch.setattr(video, "record", film)
    monkeypatch.setattr(live_page, "check_installed", lambda: None)
    monkeypatch.setattr(live_page, "look", look)
    monkeypatch.setattr(gallery, "gallery", draw)
    monkeypatch.setattr(audit, "search", functools.partial(audit.search, population=10, rounds=1))
    monkeypatch.setattr(commands, "evaluate_policy", evaluate)
    monkeypatch.setattr(commands, "measure_speed", measure)
    monkeypatch.setattr(commands, "inference", lambda *_, on_body: on_body(1, 6, "mlp") or {})
    monkeypatch.setattr(commands, "write_report", lambda run: run / "report.html")
    monkeypatch.setattr(
        experiment, "transfer_run", lambda session, target, *_: {"transfer": {target: entry}}
    )


# Paths of users

# Every command, with what it writes: RUN is a run folder, OUT what is tested.
WRITES = {
    "train": (f"train {TINY} --out OUT", "config.json"),
    "transfer": ("transfer RUN --target jar --out OUT", None),
    "tune_transfer": (
        "tune_transfer RUN --targets jar --trials 1 --env-steps 80 --num-envs 4 --out OUT",
        None,
    ),
    "sequence": (
        "sequence reach puck --steps 80 --episodes 1 --num-envs 4 --width 8 --out OUT",
        "sequence.json",
    ),
    "forecast": ("forecast RUN --targets jar --out OUT", None),
    "evaluate": ("evaluate RUN --episodes 1 --out OUT", "results.json"),
    "video": ("video RUN --task reach --out OUT.mp4", None),
    "view": ("view RUN --task reach --out OUT", "uncap/by-hand-v0/data"),
    "report": ("report RUN --out OUT", None),
    "benchmark": ("benchmark --task-set unrelated/reach --out OUT", None),
    "gallery": ("gallery --out OUT", "gallery.html"),
    "audit": ("audit --tasks mug --out OUT", "audit.json"),
    "demos": ("demos --task-set unrelated --episodes 1 --out OUT", "uncap/unrelated-v0/data"),
}
READS = {
    "transfer": "transfer RUN --target jar",
    "tune_transfer": "tune_transfer RUN --targets jar --trials 1 --env-steps 80 --num-envs 4",
    "forecast": "forecast RUN --targets jar",
    "evaluate": "evaluate RUN --episodes 1",
    "video": "video RUN --task reach",
    "view": "view RUN --task reach",
    "report": "report RUN",
    "demos": "demos --policy RUN --task-set unrelated/reach --episodes 1",
}
NAMES = {
    "relative": "made/here",
    "spaces and letters": "mein Lauf/Öffnen 打开",
    "markup": "my run[seed=0]",
    "markup that ends": "x[/a]",
    "emoji": "a:cat:b",
    "quotes": 'it\'s a "run"; $HOME',
}
TOGETHER = ("spaces and letters", "markup that ends")  # all but one of the kinds, in two names


def fill(line: str, run: pathlib.Path, out: pathlib.Path | str = "") -> list[str]:
    """The words of a line, with paths in place of RUN and OUT."""
    return [word.replace("RUN", str(run)).replace("OUT", str(out)) for word in line.split()]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        pytest.param(command, name, id=f"{command}, {kind}")
        for command in WRITES
        for kind, name in NAMES.items()
        if command not in ("train", "view", "demos") or kind in TOGETHER  # these take longer
    ],
)
def test_a_command_writes_where_it_is_told(command, name, run, call, quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line, inside = WRITES[command]
    done = call(*fill(line, run, name))
    assert done.status == 0, done.err
    made = tmp_path / (f"{name}.mp4" if command == "video" else name)
    assert (made / inside if inside else made).exists()
    if command in ("train", "video", "view", "gallery", "demos"):  # these say where
        assert str(made) in done.out


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("command", READS)
def test_a_command_reads_what_it_is_told(command, name, run, call, quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, name)
    done = call(*fill(READS[command], pathlib.Path(name)))
    assert done.status == 0, done.err
    if command not in ("evaluate", "forecast", "view", "demos"):
        assert str(tmp_path / name) in done.out


@pytest.mark.parametrize("command", READS)
def test_a_run_that_is_missing_is_named(command, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "there is no run folder" in call(*fill(READS[command], "x[/a]")).line
    assert "x[/a]" in call(*fill(READS[command], "x[/a]")).line


@contextlib.contextmanager
def as_nobody():
    """Without root's right to write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(ROOTLESS)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions as on Unix")
@pytest.mark.parametrize("command", WRITES)
def test_a_folder_that_cannot_be_written_is_said_before_anything_is_done(
    command, run, call, tmp_path
):
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    for folder in (tmp_path, *tmp_path.parents[:3]):  # which pytest makes for its user alone
        if folder.stat().st_uid == os.getuid() and folder.is_relative_to("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)
    line, _ = WRITES[command]
    with as_nobody():
        done = call(*fill(line, run, closed / "new"))
    assert "cannot be written" in done.line
    assert str(closed) in done.line
    assert not list(closed.iterdir())


@pytest.mark.parametrize("command", WRITES)
def test_a_file_in_the_place_of_a_folder_is_said(command, run, call, tmp_path):
    (tmp_path / "taken").write_text("precious")
    line, _ = WRITES[command]
    assert "is no folder" in call(*fill(line, run, tmp_path / "taken" / "new")).line
    assert (tmp_path / "taken").read_text() == "precious"


@pytest.mark.parametrize("command", ["transfer", "report", "benchmark", "video"])
def test_a_folder_in_the_place_of_a_file_is_said(command, run, call, tmp_path):
    line, _ = WRITES[command]
    (tmp_path / "taken.mp4").mkdir()
    out = tmp_path / "taken" if command == "video" else tmp_path / "taken.mp4"
    assert "must name a file" in call(*fill(line, run, out)).line


@pytest.mark.parametrize("command", WRITES)
def test_an_empty_name_is_refused(command, run, call):
    line, _ = WRITES[command]
    words = [*fill(line, run)[:-1], ""]
    assert "--out must name" in call(*words).line


def test_paths_are_kept_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("flags_anew", ROOT / "evaluation" / "flags.py")
    assert spec is not None and spec.loader is not None
    anew = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, anew)
    spec.loader.exec_module(anew)
    parse = anew.parse
    made = parse(config.TrainConfig(), ["--demos", "d", "--out", "../r"], "train")
    assert made.job.demos == str(tmp_path / "d")
    assert made.out == tmp_path.parent / "r"
    assert parse(config.EvaluateConfig, ["expert"], "evaluate").run == pathlib.Path("expert")
    assert set(config.POLICIES) == {*protocol.BUILT_IN, *pretrained.NAMES}
    assert set(config.PRETRAINED) == set(pretrained.NAMES)


def test_a_working_directory_that_is_gone_is_said(call, tmp_path):
    before = pathlib.Path.cwd()
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    try:
        gone.rmdir()
        for line in ("evaluate expert --out e", "evaluate nowhere", "train --quick", "gallery"):
            assert "the working directory is gone" in call(*line.split()).line
    finally:
        os.chdir(before)


def test_the_stored_command_and_the_printed_one_can_be_typed(run, call, tmp_path, monkeypatch):
    out = tmp_path / "it's [here]"
    monkeypatch.setattr(commands._Job, "_learn", lambda self, resume: False)
    done = call(*TINY.split(), "--out", out)
    stored = json.loads((out / "config.json").read_text(encoding="utf-8"))["command"]
    assert shlex.split(stored)[-1] == str(out)
    [line] = [line for line in done.out.splitlines() if "go on with" in line]
    assert shlex.split(line.split(": ", 1)[1])[-2:] == ["--resume", str(out)]


# Ctrl-C

INSIDE = {  # what is running when it comes
    "evaluate": (commands, "evaluate_policy"),
    "video": (video, "_play"),
    "report": (commands, "write_report"),
    "benchmark": (commands, "inference"),
    "gallery": (gallery, "_closed_and_open"),
    "audit": (audit, "search"),
    "demos": (demonstrations, "_run"),
}


@pytest.mark.parametrize("command", INSIDE)
def test_ctrl_c_gets_one_line_and_leaves_nothing_half_done(
    command, run, call, quick, tmp_path, monkeypatch
):
    monkeypatch.undo()  # without what `quick` put in place of the work

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(*INSIDE[command], interrupted)
    monkeypatch.setattr(commands, "measure_speed", lambda *_: {})
    line, _ = WRITES[command]
    done = call(*fill(line, run, tmp_path / "new"))
    assert done.status == 130
    assert (done.out + done.err).splitlines() == ["interrupted"]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not (tmp_path / "new").exists() or command == "demos"  # a root of several recordings


def test_ctrl_c_in_an_audit_leaves_the_rows_that_are_done(call, quick, tmp_path, monkeypatch):
    searched = audit.search

    def search(name, seed, **more):
        if name == "mug":
            raise KeyboardInterrupt
        return searched(name, seed, **more)

    monkeypatch.setattr(audit, "search", search)
    assert call("audit", "--tasks", "reach", "mug", "--out", tmp_path / "a").status == 130
    assert list(files.read_json(tmp_path / "a" / "audit.json", "")) == ["reach"]


@pytest.mark.parametrize("command", ["evaluate", "gallery", "audit"])
def test_a_folder_that_another_process_fills_is_left_alone(command, run, call, quick, tmp_path):
    out = tmp_path / "new"
    out.mkdir()
    line, inside = WRITES[command]
    with files.owned(out):
        assert "is being written by process" in call(*fill(line, run, out)).line
    assert {path.name for path in out.iterdir()} <= {files.LOCK}
    (out / "episodes.csv").write_text("of an evaluation that was killed")
    assert call(*fill(line, run, out)).status == 0
    assert (out / inside).exists()
    if command == "evaluate":
        assert "not empty: choose another --out" in call(*fill(line, run, out)).line


def test_hidden_files_of_others_stay_in_a_folder_that_is_filled(call, quick, tmp_path):
    kept = [tmp_path / ".vimrc.tmp", tmp_path / "sub" / ".a.1.tmp.json"]
    (tmp_path / "sub").mkdir()
    for path in kept:
        path.touch()
    assert call("gallery", "--out", tmp_path).status == 0
    assert all(path.exists() for path in kept)


# Faults


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 128 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_ends_a_training_with_one_line(small_disk, call):
    done = call(*TINY.split(), "--out", small_disk / "run")
    assert "the disk is full" in done.line
    assert not (small_disk / "run" / "results.json").exists()


def test_a_full_disk_leaves_what_was_there(small_disk, run, call):
    kept = small_disk / "kept.html"
    kept.write_text("before")
    with open(small_disk / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    done = call("evaluate", run, "--episodes", "1", "--out", small_disk / "e")
    assert "the disk is full" in done.line
    assert kept.read_text() == "before"


def test_a_run_folder_that_is_removed_meanwhile_is_said(call, tmp_path, monkeypatch):
    out = tmp_path / "run"

    def evaluate_run(session):
        shutil.rmtree(session.run)
        return evaluated(session)

    evaluated = experiment.evaluate_run
    monkeypatch.setattr(experiment, "evaluate_run", evaluate_run)
    assert str(out) in call(*TINY.split(), "--out", out).line
    assert not out.exists()


def test_a_run_folder_that_is_removed_while_it_learns_is_said(call, tmp_path, monkeypatch):
    out = tmp_path / "run"

    def on_update(training):
        shutil.rmtree(out, ignore_errors=True)
        return noted(training)

    noted = training.Training._on_update
    monkeypatch.setattr(training.Training, "_on_update", on_update)
    assert str(out) in call(*TINY.split(), "--out", out).line
    assert not list(out.glob("results.json"))


def test_too_many_open_files_are_said(run, call):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)  # the first number that is free
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        done = call("evaluate", run, "--episodes", "1")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "too many files are open" in done.line


LITTLE_MEMORY = """
import pathlib, resource, sys
from uncap.evaluation.cli import main
from uncap.evaluation.progress import make_console

sys.argv = ["train.py", "evaluate", "expert", "--tasks", "reach", "--episodes", "1"]
main()
pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**27, -1))
sys.argv = ["train.py", "benchmark", "--num-envs", "100000", "--threads", "1"]
main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits as on Linux")
def test_too_little_memory_is_said_and_no_home_is_needed(tmp_path):
    environment = {key: os.environ[key] for key in ("PATH",) if key in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "mean         1.000" in done.stdout, done.stderr
    assert done.returncode == 1
    *_, last = done.stderr.strip().splitlines()
    assert re.match("error: .*(not enough|too little) memory", last)
    assert "Traceback" not in done.stderr


def test_an_error_of_the_program_is_no_mistake_of_the_user():
    said = cli.said
    assert said(KeyError("x")) == ""
    assert said(NotImplementedError("x")) == ""
    assert said(MemoryError()).startswith("there is not enough memory")
    assert said(RuntimeError("DefaultCPUAllocator: can't allocate memory")).startswith("there is")
    assert said(PermissionError(13, "Permission denied", "/x")) == "no permission for /x"
    assert said(RuntimeError("std::bad_alloc")).startswith("there is not enough memory")
    assert said(RuntimeError("can't start new thread")).startswith("no thread can be started")
    assert said(ValueError("a\n  b")) == "a b"


# Cores

GROUPS = {  # files under the root, and the cores that they allow
    "version 2": (
        {"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/b/cpu.max": "200000 100000"},
        2.0,
    ),
    "version 2, of a group above": (
        {
            "proc/self/cgroup": "0::/a/b",
            "sys/fs/cgroup/a/b/cpu.max": "max 100000",
            "sys/fs/cgroup/a/cpu.max": "150000 100000",
        },
        1.5,
    ),
    "version 2, a container's own root": (
        {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "50000 100000"},
        0.5,
    ),
    "version 1": (
        {
            "proc/self/cgroup": "4:memory:/x\n2:cpu,cpuacct:/a",
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "300000",
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000",
        },
        3.0,
    ),
    "version 1, another path in the container": (
        {
            "proc/self/cgroup": "1:cpu:/docker/abc",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
        2.0,
    ),
    "version 1, unlimited": (
        {
            "proc/self/cgroup": "1:cpu:/",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
        None,
    ),
    "not readable": ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "what"}, None),
    "another format": ({"proc/self/cgroup": "what\n\n"}, None),
    "no Linux": ({}, None),
}


@pytest.mark.parametrize("name", GROUPS)
def test_the_share_of_a_control_group_is_read(name, tmp_path):
    files, allowed = GROUPS[name]
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert cores.cpu_quota(tmp_path) == allowed


@pytest.mark.parametrize(("quota", "expected"), [(2.0, 2), (1.5, 2), (0.5, 1), (99.0, 64)])
def test_no_more_cores_are_taken_than_the_share(quota, expected, monkeypatch):
    monkeypatch.setattr(cores, "_affinity", lambda: 64)
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)
    assert cores.cores() == expected


def test_threads_are_what_was_asked_for():
    cores.set_threads(3)
    try:
        env = ClosureVectorEnv("reach", 4)
        assert env.batch.sim.threads == 3
        env.close()
    finally:
        cores.set_threads(0)
    assert cores.default_threads() == cores.cores()


def test_results_do_not_depend_on_threads(call):
    said = {
        call(*f"evaluate random --tasks jar --episodes 2 --threads {n}".split()).out for n in (1, 2)
    }
    assert len(said) == 1
    assert "jar" in said.pop()
    cores.set_threads(0)


# Progress where the output is no terminal


def test_lines_say_how_far_it_is():
    now = [100.0]
    lines = Lines(lambda _: None, clock=lambda: now[0])
    lines.show("evaluation [jar]", 0, 8, "")
    now[0] = 130.0
    assert lines.line() == "evaluation [jar]: 0 %, 0:00:30 taken, ? left"
    lines.show("evaluation [jar]", 2, 8, "text")
    lines.show("evaluation [jar]", 2, 8, "")
    assert lines.line() == "evaluation [jar]: 25 %, 0:00:30 taken, 0:01:30 left  text"
    lines.show("videos", 1, 1, "")
    assert lines.line() == "videos: 100 %, 0:00:00 taken, 0:00:00 left"


def test_a_line_comes_again_and_again_whether_or_not_something_is_reported():
    said = []
    enough = pytest.importorskip("threading").Event()

    def say(line: str) -> None:
        said.append(line)
        if len(said) == 3:
            enough.set()

    with Lines(say, every=0.01) as lines:
        lines.show("warm start", 1, 2, "")
        assert enough.wait(5)
    count = len(said)
    assert set(line.split(":")[0] for line in said) == {"warm start"}
    assert len(said) == count


def test_a_terminal_gets_bars(capsys):
    assert isinstance(Bars(Console(quiet=True)).progress, Lines)
    console = Console(force_terminal=True, width=120, markup=False)
    bars = Bars(console)
    with bars.progress:
        bars("transfer [/x]", 1, 2, "success [b]")
    out = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out)
    assert "transfer [/x]" in out
    assert "success [b]" in out


@pytest.mark.parametrize("command", [name for name in WRITES if name not in ("report", "view")])
def test_long_work_has_progress(command, run, call, quick, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(Lines, "show", lambda self, *report: shown.append(report))
    monkeypatch.setattr(commands, "evaluate_policy", protocol.evaluate)
    line, _ = WRITES[command]
    assert call(*fill(line, run, tmp_path / "new")).status == 0
    assert all(0 <= done <= total for _, done, total, _ in shown)
    parts = {done / total for _, done, total, _ in shown if total}
    assert len(parts) > 1 or command in ("transfer", "gallery")  # which do nothing here
    if command == "train":
        assert len([phase for phase, *_ in shown if phase == "evaluation"]) > 20


# Another system

BLOCKED = ("resource", "fcntl", "termios", "pwd", "grp")  # modules that Windows does not have


@pytest.mark.parametrize(
    "file",
    sorted(ROOT.glob("evaluation/*.py")) + [ROOT / "train.py"],
    ids=lambda file: file.stem,
)
def test_a_module_can_be_imported_on_windows(file, monkeypatch):
    import signal

    for name in BLOCKED:
        monkeypatch.setitem(sys.modules, name, None)
    unix = ("SIGHUP", "SIGKILL", "SIGALRM", "SIGUSR1", "SIGUSR2")
    fewer = types.ModuleType("signal")
    fewer.__dict__.update({k: v for k, v in vars(signal).items() if k not in unix})
    monkeypatch.setitem(sys.modules, "signal", fewer)
    runpy.run_path(str(file), run_name="imported")


@pytest.mark.parametrize("package", ["agents", "envs", "evaluation"])
def test_nothing_that_only_unix_has_is_imported_at_the_top(package):
    pattern = re.compile(rf"^(import|from) ({'|'.join(BLOCKED)})\b", re.MULTILINE)
    for file in (ROOT / package).glob("*.py"):
        assert not pattern.search(file.read_text(encoding="utf-8")), file.name


def test_memory_is_not_known_on_windows(monkeypatch):
    from uncap.evaluation.benchmark import _peak_memory

    found = _peak_memory()
    if sys.platform == "linux":
        assert found is not None and 0.05 < found < 100
    monkeypatch.setitem(sys.modules, "resource", None)
    assert _peak_memory() is None


# Security


def test_what_is_promised_is_written_down():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    for word in ("safetensors", "JSON", "TOML", "Minari"):
        assert word in text


@pytest.mark.parametrize("package", ["agents", "envs", "evaluation"])
def test_nothing_that_runs_code_is_used_to_load(package):
    pattern = re.compile(r"\bpickle\.loads?\(|torch\.load\(|\beval\(|\bexec\(|allow_pickle=True")
    for file in (ROOT / package).glob("*.py"):
        assert not pattern.search(file.read_text(encoding="utf-8")), file.name
