"""The command line as a user meets it: the quick job end to end, interruption, and mistakes."""

import csv
import dataclasses
import functools
import json
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import time

import pytest
from rich.console import Console

from uncap.agents import checkpoints
from uncap.agents.tables import BODIES
from uncap.envs import CLOSURES
from uncap.envs.tables import Row
from uncap.evaluation import audit, commands, experiment, gallery
from uncap.evaluation.config import JobConfig, TransferRunConfig

ROOT = pathlib.Path(__file__).parent.parent
TRAIN = ROOT / "train.py"
UNRELATED = ["puck", "button", "block", "reach"]  # training rows of the task set of that name


def words(*arguments: str | pathlib.Path) -> list[str]:
    """The words of a command line: texts are split, paths stay whole."""
    found = []
    for argument in arguments:
        found += argument.split() if isinstance(argument, str) else [str(argument)]
    return found


def command(*arguments: str | pathlib.Path, **environment) -> subprocess.CompletedProcess:
    """Run `train.py` with some `words`, in a process of its own."""
    return subprocess.run(
        [sys.executable, str(TRAIN), *words(*arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=300,
    )


@pytest.fixture
def within(monkeypatch, capsys):
    """`command` in this process, which has imported everything already."""

    def run_within(*arguments: str | pathlib.Path) -> subprocess.CompletedProcess:
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", ["train.py", *words(*arguments)])
        status = 0
        try:
            runpy.run_path(str(TRAIN), run_name="__main__")
        except SystemExit as end:  # as the interpreter would: a text goes to stderr, and means 1
            status = end.code or 0
        out, err = capsys.readouterr()
        if isinstance(status, str):
            err += status
            status = 1
        return subprocess.CompletedProcess(arguments, status, out, err)

    return run_within


def read_json(path: pathlib.Path):
    return json.loads(path.read_text())


def metrics_of(run: pathlib.Path) -> list[dict[str, str]]:
    """The rows of a run's metrics.csv."""
    with open(run / "metrics.csv") as file:
        return list(csv.DictReader(file))


def unwrapped(text: str) -> str:
    """What a console printed, without the breaks of its lines: they may split a path."""
    return text.replace("\n", "")


def error_line(done: subprocess.CompletedProcess) -> str:
    """The one line that a command ended with, in failure."""
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    return lines[0]


# The quick job


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> pathlib.Path:
    """The folder of a quick run."""
    folder = tmp_path_factory.mktemp("quick") / "run"
    began = time.perf_counter()
    done = command("--quick --out", folder)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - began < 290  # about a minute on an idle machine
    assert str(folder / "report.html") in unwrapped(done.stdout)
    return folder


def test_quick_job_writes_the_run_folder(run):
    expected = {
        "config.json",
        "metrics.csv",
        "checkpoint",
        "episodes.csv",
        "results.json",
        "videos",
        "report.html",
    }
    assert expected <= {path.name for path in run.iterdir()}
    assert not list(run.rglob("*.tmp*"))
    results = read_json(run / "results.json")
    config = read_json(run / "config.json")
    assert set(results["per_task"]) == set(config["train"])
    assert set(results["transfer"]) == set(config["held_out"])
    assert not set(config["train"]) & set(config["held_out"])
    assert results["train"]["env_steps"] > 0
    assert results["total_seconds"] > 0
    assert results["mean_success"] > 0.3  # the quick policy is poor, not nothing
    curves = results["transfer"]["thermos"]["curves"]
    assert curves["fine_tune"][0]["steps"] == curves["scratch"][0]["steps"]
    assert results["transfer"]["canister"]["unseen"] == ["turn_then_lift"]
    assert results["transfer"]["thermos"]["nearest"] == "tumbler"


def test_videos_move(run):
    import imageio.v2 as imageio

    films = sorted((run / "videos").glob("*.mp4"))
    assert len(films) == 11
    frames = imageio.mimread(films[0], memtest=False)
    assert len(frames) >= 30
    first = frames[0].astype(float)
    middle = frames[len(frames) // 2]
    assert abs(first - middle).mean() > 2.0


def test_commands_on_a_run(run, tmp_path, within):
    done = within("evaluate", run, "--tasks mug valve --episodes 3 --out", tmp_path / "e")
    assert done.returncode == 0, done.stderr
    assert set(read_json(tmp_path / "e/results.json")["per_task"]) == {"mug", "valve"}
    smaller = (
        "transfer",
        run,
        "--target thermos --env-steps 2560 --methods fine_tune demos_then_rl-2",
    )
    assert "budget 5120, now 2560" in error_line(within(*smaller))
    done = within(*smaller, "--replace")
    assert done.returncode == 0, done.stderr
    assert "zero_shot" in done.stdout
    done = within("report", run)
    assert done.returncode == 0, done.stderr


def test_benchmark_measures_against_bare_physics(tmp_path, within):
    done = within("benchmark --steps 5 --num-envs 8 --out", tmp_path / "b.json")
    assert done.returncode == 0, done.stderr
    speed = read_json(tmp_path / "b.json")["one_thread"]
    assert 0 < speed["fraction_of_raw_physics"] < 1.5


# Other ways to train


def test_demonstrations_are_recorded_and_cloned(tmp_path, within):
    pytest.importorskip("minari")
    recording = tmp_path / "d"
    done = within("demos --task-set unrelated --episodes 2 --perturb 0 --out", recording)
    assert done.returncode == 0, done.stderr
    assert "uncap/unrelated-v0" in unwrapped(done.stdout)

    cloned = tmp_path / "run"
    done = within(
        "--quick --task-set unrelated --warm-start clone --env-steps 1280 --transfer-steps 0",
        "--no-videos --conditioning one_hot --cosines",
        "--demos",
        recording,
        "--out",
        cloned,
    )
    assert done.returncode == 0, done.stderr
    check_cloned(cloned)

    sac = tmp_path / "sac"
    done = within(
        "--quick --task-set unrelated --algorithm sac --env-steps 640 --transfer-steps 0",
        "--no-videos --demos",
        recording,
        "--out",
        sac,
    )
    assert done.returncode == 0, done.stderr
    last = metrics_of(sac)[-1]
    assert last["phase"] == "sac"
    assert last["env_steps"] == "7040"  # 1,600 of DAgger for each row, and 640

    other = tmp_path / "other"
    done = within("--quick --warm-start clone --demos", recording, "--out", other)
    assert done.returncode == 1
    assert done.stderr.startswith("error:")
    assert "no demonstrations of" in done.stderr


def check_cloned(run: pathlib.Path) -> None:
    """Check what a run of behaviour cloning with cosines has written."""
    trained = read_json(run / "results.json")["train"]
    seconds = sum(trained["seconds"].values())
    assert seconds == pytest.approx(trained["wall_seconds"], rel=0.02)
    assert "Do the tasks' gradients agree?" in (run / "report.html").read_text()
    rows = metrics_of(run)
    assert list(rows[0])[:5] == ["phase", "env_steps", "seconds", "loss", "validation"]
    losses = [float(row["loss"]) for row in rows if row["loss"]]
    assert losses[-1] < 0.8 * losses[0]
    phases = [row["phase"] for row in rows]
    assert phases.count("clone") == 11  # ten epochs, and their validation
    assert {row["env_steps"] for row in rows if row["phase"] == "clone"} == {"0"}
    assert phases[-1] == "ppo"


def test_minutes_end_the_warm_start_too(tmp_path, within):
    run = tmp_path / "run"
    done = within(
        "--quick --task-set unrelated --minutes 0.02 --validations 2 --transfer-steps 0",
        "--no-videos --out",
        run,
    )
    assert done.returncode == 0, done.stderr
    results = read_json(run / "results.json")
    assert results["train"]["env_steps"] < 4 * 1600
    assert "mean_success" in results
    rows = metrics_of(run)
    assert {row["phase"] for row in rows[:-1]} == {"dagger"}
    validated = [row for row in rows if row["validation"]]
    assert len(validated) >= 3  # along it, after it, at the end


def test_compare_trains_what_a_grid_says(tmp_path):
    grid = tmp_path / "g.toml"
    grid.write_text("""
        [common]
        quick = true
        warm_start = 'none'
        env_steps = 1280
        transfer_steps = 0
        videos = false
        [vary]
        body = ['mlp', 'film']
    """)
    done = command("compare", grid, "--out", tmp_path / "c")
    assert done.returncode == 0, done.stderr
    table = read_json(tmp_path / "c/compare.json")["configurations"]
    assert [row["configuration"] for row in table] == ["mlp", "film"]
    for row in table:
        assert row["env_steps"] == 1280
        assert row["n"] == 1
        assert row["at_equal_steps"] is not None
    grid.write_text(grid.read_text().replace("body", "bodi"))
    done = command("compare", grid, "--out", tmp_path / "c")
    assert done.returncode == 1
    assert "unknown flag 'bodi'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_alone_gives_every_row_its_own_policy_and_share(tmp_path, within):
    run = tmp_path / "run"
    done = within(
        "--quick --task-set unrelated --alone --warm-start none --env-steps 1280 --num-envs 16",
        "--out",
        run,
    )
    assert done.returncode == 0, done.stderr
    results = read_json(run / "results.json")
    assert list(results["per_task"]) == UNRELATED
    mean = sum(task["success"] for task in results["per_task"].values()) / 4
    assert results["mean_success"] == pytest.approx(mean)
    own = read_json(run / "alone/button/config.json")
    assert own["train"] == ["button"]
    assert own["job"]["num_envs"] == 4
    assert own["job"]["env_steps"] == 320
    assert "Success on the trained rows" in (run / "report.html").read_text()

    button = run / "alone/button/results.json"
    learned = button.stat().st_mtime_ns
    for name in ("results.json", "alone/puck/results.json"):
        (run / name).unlink()
    done = within("--resume", run)  # learns puck again, and leaves button as it is
    assert done.returncode == 0, done.stderr
    again = read_json(run / "results.json")
    assert list(again["per_task"]) == UNRELATED
    assert again["mean_success"] == results["mean_success"]
    assert button.stat().st_mtime_ns == learned

    done = within("evaluate", run, "--episodes 4 --out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert read_json(tmp_path / "again/results.json")["per_task"] == results["per_task"]
    done = within("evaluate", run, "--tasks jar")
    assert done.returncode == 1
    assert "runs there: block, button, puck, reach" in error_line(done)
    done = within("transfer", run, "--target jar")
    assert done.returncode == 1
    assert "a policy per row: transfer one of them" in error_line(done)


def test_transfer_of_a_run_without_one_takes_the_default_budget(tmp_path, monkeypatch):
    default = JobConfig().transfer
    without = dataclasses.replace(default, env_steps=0)
    config = dataclasses.replace(JobConfig(), transfer=without)
    experiment.start(tmp_path / "run", config, 0, "a test")
    asked = []

    def transfer_run(session, target, replace):
        asked.append(session.config.transfer.env_steps)
        entry = {"zero_shot": 0.5, "final": {"zero_shot": 0.5}, "area": {}}
        return {"transfer": {target: entry}}

    monkeypatch.setattr(experiment, "transfer_run", transfer_run)
    for steps in (None, 640):
        settings = TransferRunConfig(run=tmp_path / "run", target="thermos", env_steps=steps)
        commands.transfer(settings, Console(quiet=True))
    assert asked == [default.env_steps, 640]


def wait_for_updates(run: pathlib.Path, count: int) -> None:
    """Wait until a run has noted so many updates of PPO, for four minutes at most."""
    metrics = run / "metrics.csv"
    deadline = time.time() + 240
    while time.time() < deadline:
        if metrics.exists() and metrics.read_text().count("\nppo") >= count:
            return
        time.sleep(0.3)


def test_interrupt_saves_and_resumes(tmp_path):
    run = tmp_path / "run"
    flags = "--quick --env-steps 2000000 --no-videos --transfer-steps 0 --out"
    process = subprocess.Popen(
        [sys.executable, str(TRAIN), *words(flags, run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    wait_for_updates(run, 3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "--resume" in out
    _, meta = checkpoints.load(run / "latest")
    stopped = meta["env_steps"]
    assert stopped > 0

    done = command("--resume", run, f"--no-videos --env-steps {stopped + 1280}")
    assert done.returncode == 0, done.stderr
    changed = read_json(run / "config.json")["changed"]
    assert changed[0]["flags"] == {"env_steps": {"from": 2_000_000, "to": stopped + 1280}}
    steps = [int(row["env_steps"]) for row in metrics_of(run) if row["phase"] == "ppo"]
    *updates, last = steps  # the last row is the last validation's
    assert updates == sorted(set(updates))  # no update twice
    assert len(updates) == (stopped + 1280) // 640  # and none lost
    assert last == updates[-1]
    seconds = read_json(run / "results.json")["train"]["seconds"]
    # What was spent before the stop is known, too.
    assert seconds["rest"] < 0.2 * sum(seconds.values())


# Mistakes


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("trian", "did you mean 'train'"),
        ("evaluate expert --tasks botle", "'bottle'"),
        ("evaluate nonexistent", "no run folder"),
        ("evaluate expert --tasks jar mug jar", "--tasks names jar twice"),
        ("evaluate expert --episodes 0", "at least 1"),
        ("video expert --task jat", "'jar'"),
        ("video expert --task jar --out x.gif", ".mp4"),
        ("view expert --task jat", "did you mean 'jar'"),
        ("view exprt --task jar", "and no policy exprt"),
        ("view expert --task jar --port 0", "--port must be at least 1"),
        ("view expert --task jar --port 70000", "--port must be at most 65535"),
        ("view expert --task jar --port http", "--port"),
        ("view expert --task jar --native --port 8080", "--native has none"),
        ("train --env-steps -5", "at least 0"),
        ("train --conditioning onehot", "did you mean 'one_hot'"),
        ("train --ppo.learning-rate 0", "--ppo.learning-rate must be above 0, not 0.0"),
        ("train --ppo.gamma 1.5", "--ppo.gamma must be at most 1"),
        ("train --ppo.deviations 5 0.5", "--ppo.deviations must begin at 0 steps"),
        ("train --ppo.minibatches 999999", "fewer than 2"),
        ("train --body soft_modules --width 90", "multiple of the 4 modules"),
        ("train --rule pcgrd", "did you mean 'pcgrad'"),
        ("train --algorithm sac", "works with these flags only: --rule sum"),
        ("train --algorithm plain_ppo", "--warm-start none"),
        ("train --warm-start clone", "--demos FOLDER goes with"),
        ("train --task-set mt16/jarr", "'jar'"),
        ("demos --perturb 1", "--perturb must be below 1"),
        ("train --task-set frist", "'first'"),
        ("train --resume nowhere", "no run folder"),
        ("train --seed -1", "at least 0"),
        ("benchmark --num-envs 0", "at least 1"),
        ("benchmark --observation rbg", "rgb"),
        ("report .", "config.json is missing"),
    ],
)
def test_mistakes_get_one_clear_line(line, says, tmp_path, within):
    arguments = [line]
    if line.startswith("train") and "--resume" not in line:
        arguments += ["--out", tmp_path / "run"]
    assert says in error_line(within(*arguments))
    assert not (tmp_path / "run").exists()


def test_an_existing_folder_is_left_alone(tmp_path):
    (tmp_path / "precious").write_text("x")
    done = command("--quick --out", tmp_path)
    assert done.returncode != 0
    assert "not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_no_opengl_says_what_to_install(tmp_path):
    film = tmp_path / "v.mp4"
    done = command(
        "video expert --task mug --out",
        film,
        MUJOCO_GL="osmesa",
        PYOPENGL_PLATFORM="osmesa",
        LD_LIBRARY_PATH="",
    )
    if film.exists():
        pytest.skip("OSMesa is installed here")
    assert "apt install" in error_line(done)
    assert not list(tmp_path.iterdir())


# Help


@pytest.mark.parametrize(
    "name",
    ["train", "transfer", "evaluate", "video", "view", "report", "benchmark", "demos", "compare"],
)
def test_help(name, within):
    done = within(name, "--help")
    assert done.returncode == 0
    assert ("--seed" in done.stdout) == (name != "report")  # which draws nothing at random
    assert "--out" in done.stdout


def test_help_lists_every_setting_with_its_default_and_its_choices(within, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")  # one column: a default is not broken by the next one
    said = within("train --help").stdout
    for key, default in (("ppo.gae-lambda", "0.95"), ("sac.tau", "0.01"), ("clone.epochs", "100")):
        assert f"--{key}" in said
        assert f"(default: {default})" in said
    assert "{" + ",".join(BODIES) + "}" in said
    quick = within("train --quick --help").stdout
    assert "(default: 16)" in quick  # sub-environments


def test_the_list_of_commands_loads_neither_torch_nor_physics():
    code = """
import sys

sys.argv = ["train.py", "--help"]
from uncap.evaluation.cli import main

main()
heavy = {"torch", "mujoco", "numba"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "compare" in done.stdout


def test_a_row_added_at_run_time_is_a_choice(within, monkeypatch):
    monkeypatch.setitem(BODIES.rows, "mine", Row("uncap.agents.bodies:MLP", "my own body"))
    said = within("train --help").stdout
    assert "mine, my own body" in " ".join(said.split())
    done = within("train --body mien --out nowhere")
    assert "did you mean 'mine'" in done.stderr


def test_the_shell_completes_commands_flags_and_choices(within):
    said = within("--tyro-print-completion bash").stdout
    for word in ("evaluate", "--ppo.learning-rate", "soft_modules", "mt16"):
        assert word in said


# Pages and pictures


def test_gallery_shows_every_row(tmp_path, within, monkeypatch):
    from PIL import Image

    real = gallery._closed_and_open
    seen = real("jar", 0)
    pictures = {"cork": real, "jar": lambda *_: seen}  # of the others, the jar's
    monkeypatch.setattr(
        gallery,
        "_closed_and_open",
        lambda name, *others: pictures.get(name, pictures["jar"])(name, *others),
    )
    done = within("gallery --out", tmp_path / "g")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "g/gallery.html").read_text()
    for name in CLOSURES:
        assert f"<code>{name}</code>" in page
    _, height = Image.open(tmp_path / "g/gallery.jpg").size
    shown = len(CLOSURES) + len(gallery.COMPOSED)
    lines = -(-shown // 3)  # three closures a line, rounded up
    assert height == 210 * lines


def test_audit_reports_and_films_its_nearest_miss(tmp_path, within, monkeypatch):
    quick_search = functools.partial(audit.search, population=40, rounds=3)
    monkeypatch.setattr(audit, "search", quick_search)  # all of it is in test_audit.py
    done = within("audit --tasks slide-mug --out", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    assert '"candidates": 120' in done.stdout
    found = read_json(tmp_path / "a/audit.json")["slide-mug"]
    assert found["cheats"] == 0
    assert found["candidates"] == 120
    if "film" not in found:  # which says why there is no film
        assert (tmp_path / "a/slide-mug.mp4").stat().st_size > 10_000
