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

from evaluation import audit
from evaluation.config import JobConfig, TransferRunConfig

ROOT = pathlib.Path(__file__).parent.parent


def command(*arguments, **environment) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=300,
    )


@pytest.fixture
def within(monkeypatch, capsys):
    """`command` in this process, which has imported everything already."""

    def run_within(*arguments) -> subprocess.CompletedProcess:
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
        status = 0
        try:
            runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
        except SystemExit as end:  # as the interpreter would: a text goes to stderr, and means 1
            status = end.code or 0
        out, err = capsys.readouterr()
        said = status if isinstance(status, str) else ""
        return subprocess.CompletedProcess(arguments, 1 if said else status, out, err + said)

    return run_within


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quick") / "run"
    began = time.perf_counter()
    done = command("--quick", "--out", folder)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - began < 290  # about a minute on an idle machine
    assert str(folder / "report.html") in done.stdout.replace("\n", "")
    return folder


def test_quick_job_writes_the_run_folder(run):
    names = {p.name for p in run.iterdir()}
    assert {
        "config.json",
        "metrics.csv",
        "checkpoint",
        "episodes.csv",
        "results.json",
        "videos",
        "report.html",
    } <= names
    results, config = (json.loads((run / n).read_text()) for n in ("results.json", "config.json"))
    assert set(results["per_task"]) == set(config["train"])
    assert set(results["transfer"]) == set(config["held_out"])
    assert not set(config["train"]) & set(config["held_out"])
    assert results["train"]["env_steps"] > 0 and results["total_seconds"] > 0
    assert results["mean_success"] > 0.3  # the quick policy is poor, not nothing
    entry = results["transfer"]["thermos"]
    assert entry["curves"]["pretrained"][0]["steps"] == entry["curves"]["scratch"][0]["steps"]
    assert not list(run.rglob("*.tmp*"))


def test_videos_move(run):
    import imageio.v2 as imageio

    films = sorted((run / "videos").glob("*.mp4"))
    assert len(films) == 10
    frames = imageio.mimread(films[0], memtest=False)
    assert len(frames) >= 30
    assert abs(frames[0].astype(float) - frames[len(frames) // 2]).mean() > 2.0


def test_commands_on_a_run(run, tmp_path, within):
    done = within(
        "evaluate", run, "--tasks", "mug", "valve", "--episodes", "3", "--out", tmp_path / "e"
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads((tmp_path / "e/results.json").read_text())["per_task"]) == {
        "mug",
        "valve",
    }
    done = within("transfer", run, "--target", "decanter", "--env-steps", "2560", "--few-shot", "2")
    assert done.returncode == 0 and "zero_shot" in done.stdout, done.stderr
    assert within("report", run).returncode == 0
    done = within("benchmark", "--steps", "5", "--num-envs", "8", "--out", tmp_path / "b.json")
    assert done.returncode == 0
    assert (
        0
        < json.loads((tmp_path / "b.json").read_text())["one_thread"]["fraction_of_raw_physics"]
        < 1.5
    )


def test_demonstrations_are_recorded_and_cloned(tmp_path, within):
    pytest.importorskip("minari")
    done = within(
        "demos",
        "--task-set",
        "unrelated",
        "--episodes",
        "2",
        "--perturb",
        "0",
        "--out",
        tmp_path / "d",
    )
    assert done.returncode == 0 and "uncap/unrelated-v0" in done.stdout.replace("\n", ""), (
        done.stderr
    )
    flags = (
        "--quick",
        "--task-set",
        "unrelated",
        "--warm-start",
        "clone",
        "--demos",
        tmp_path / "d",
        "--env-steps",
        "1280",
    )
    done = within(
        *flags,
        "--transfer-steps",
        "0",
        "--no-videos",
        "--conditioning",
        "one_hot",
        "--cosines",
        "--out",
        tmp_path / "run",
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert sum(results["train"]["seconds"].values()) == pytest.approx(
        results["train"]["wall_seconds"], rel=0.02
    )
    page = (tmp_path / "run/report.html").read_text()
    assert "Do the tasks pull the same way?" in page
    with open(tmp_path / "run/metrics.csv") as file:
        rows = list(csv.DictReader(file))
    phases, losses = [r["phase"] for r in rows], [float(r["loss"]) for r in rows if r["loss"]]
    assert losses[-1] < 0.8 * losses[0]
    assert (
        phases.count("clone") == 11 and phases[-1] == "ppo"
    )  # ten epochs and their validation, then the last one
    done = within(
        "--quick",
        "--task-set",
        "unrelated",
        "--algorithm",
        "sac",
        "--demos",
        tmp_path / "d",
        "--env-steps",
        "640",
        "--transfer-steps",
        "0",
        "--no-videos",
        "--out",
        tmp_path / "sac",
    )
    assert done.returncode == 0, done.stderr
    assert (
        (tmp_path / "sac/metrics.csv").read_text().splitlines()[-1].startswith("sac,7040,")
    )  # 1,600 of DAgger for each row
    done = within(
        "--quick", "--warm-start", "clone", "--demos", tmp_path / "d", "--out", tmp_path / "other"
    )
    assert (
        done.returncode == 1
        and done.stderr.startswith("error:")
        and "no demonstrations of" in done.stderr
    )


def test_minutes_end_the_warm_start_too(tmp_path, within):
    done = within(
        "--quick",
        "--task-set",
        "unrelated",
        "--minutes",
        "0.02",
        "--validations",
        "2",
        "--transfer-steps",
        "0",
        "--no-videos",
        "--out",
        tmp_path / "run",
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["train"]["env_steps"] < 4 * 1600 and "mean_success" in results
    with open(tmp_path / "run/metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert {r["phase"] for r in rows[:-1]} == {"dagger"} and sum(
        bool(r["validation"]) for r in rows
    ) >= 3  # along it, after it, at the end


def test_compare_trains_what_a_grid_says(tmp_path):
    grid = tmp_path / "g.toml"
    grid.write_text(
        "[common]\nquick = true\nwarm_start = 'none'\nenv_steps = 1280\ntransfer_steps = 0\nvideos = false\n"
        "[vary]\nbody = ['mlp', 'film']\n"
    )
    done = command("compare", grid, "--out", tmp_path / "c")
    assert done.returncode == 0, done.stderr
    table = json.loads((tmp_path / "c/compare.json").read_text())["configurations"]
    assert [row["configuration"] for row in table] == ["mlp", "film"] and all(
        row["env_steps"] == 1280 and row["n"] == 1 for row in table
    )
    assert all(row["at_equal_steps"] is not None for row in table)
    grid.write_text(grid.read_text().replace("body", "bodi"))
    done = command("compare", grid, "--out", tmp_path / "c")
    assert (
        done.returncode == 1
        and "unknown flag 'bodi'" in done.stderr
        and done.stderr.count("\n") == 1
    )


def test_alone_gives_every_row_its_own_policy_and_share(tmp_path, within):
    run = tmp_path / "run"
    done = within(
        "--quick",
        "--task-set",
        "unrelated",
        "--alone",
        "--warm-start",
        "none",
        "--env-steps",
        "1280",
        "--num-envs",
        "16",
        "--out",
        run,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((run / "results.json").read_text())
    assert list(results["per_task"]) == ["puck", "button", "block", "reach"]
    assert results["mean_success"] == pytest.approx(
        sum(t["success"] for t in results["per_task"].values()) / 4
    )
    own = json.loads((run / "alone/button/config.json").read_text())
    assert (
        own["train"] == ["button"]
        and own["job"]["num_envs"] == 4
        and own["job"]["env_steps"] == 320
    )
    assert "Success per task" in (run / "report.html").read_text()
    learned = (run / "alone/button/results.json").stat().st_mtime_ns
    for name in ("results.json", "alone/puck/results.json"):
        (run / name).unlink()
    done = within("--resume", run)  # learns puck again, and leaves button as it is
    assert done.returncode == 0, done.stderr
    again = json.loads((run / "results.json").read_text())
    assert (
        list(again["per_task"]) == ["puck", "button", "block", "reach"]
        and again["mean_success"] == results["mean_success"]
    )
    assert (run / "alone/button/results.json").stat().st_mtime_ns == learned
    done = within("evaluate", run, "--episodes", "4", "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert (
        json.loads((tmp_path / "again/results.json").read_text())["per_task"] == results["per_task"]
    )
    for words, reason in (
        (("evaluate", run, "--tasks", "jar"), "runs there: block, button, puck, reach"),
        (("transfer", run, "--target", "jar"), "a policy per row: transfer one of them"),
    ):
        done = within(*words)
        assert done.returncode == 1 and reason in done.stderr and "\n" not in done.stderr.strip()


def test_transfer_of_a_run_without_one_takes_the_default_budget(tmp_path, monkeypatch):
    from rich.console import Console

    from evaluation import commands, experiment

    default = JobConfig().transfer.env_steps
    without = dataclasses.replace(JobConfig().transfer, env_steps=0)
    config = dataclasses.replace(JobConfig(), transfer=without)
    experiment.start(tmp_path / "run", config, 0, "a test")
    asked = []

    def transfer_run(session, target):
        asked.append(session.config.transfer.env_steps)
        names = ("zero_shot", "steps_to_threshold", "jumpstart", "final", "area")
        return {"transfer": {target: dict.fromkeys(names)}}

    monkeypatch.setattr(experiment, "transfer_run", transfer_run)
    for steps in (None, 640):
        settings = TransferRunConfig(run=tmp_path / "run", target="thermos", env_steps=steps)
        commands.transfer(settings, Console(quiet=True))
    assert asked == [default, 640]


def test_interrupt_saves_and_resumes(tmp_path):
    folder = tmp_path / "run"
    arguments = [
        sys.executable,
        str(ROOT / "train.py"),
        "--quick",
        "--out",
        str(folder),
        "--env-steps",
        "2000000",
        "--no-videos",
        "--transfer-steps",
        "0",
    ]
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    deadline = time.time() + 240
    while time.time() < deadline:
        metrics = folder / "metrics.csv"
        if metrics.exists() and metrics.read_text().count("\nppo") >= 3:
            break
        time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "--resume" in out, err
    stopped = json.loads((folder / "latest/meta.json").read_text())["env_steps"]
    assert stopped > 0
    config = json.loads((folder / "config.json").read_text())
    config["job"]["env_steps"] = stopped + 1280
    (folder / "config.json").write_text(json.dumps(config))
    done = command("--resume", folder, "--no-videos")
    assert done.returncode == 0, done.stderr
    rows = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()[1:]]
    steps = [int(r[1]) for r in rows if r[0] == "ppo"]
    *updates, last = steps  # the last row is the last validation's
    assert (
        updates == sorted(set(updates)) and len(updates) == (stopped + 1280) // 640
    )  # no update lost, none twice
    assert last == updates[-1]
    seconds = json.loads((folder / "results.json").read_text())["train"]["seconds"]
    assert seconds["rest"] < 0.2 * sum(
        seconds.values()
    )  # what was spent before the stop is known, too


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trian"], "did you mean 'train'"),
        (["evaluate", "expert", "--tasks", "botle"], "'bottle'"),
        (["evaluate", "nonexistent"], "no run folder"),
        (["evaluate", "expert", "--episodes", "0"], "at least 1"),
        (["video", "expert", "--task", "jat"], "'jar'"),
        (["video", "expert", "--task", "jar", "--out", "x.gif"], ".mp4"),
        (["train", "--env-steps", "-5"], "at least 1"),
        (["train", "--conditioning", "onehot"], "did you mean 'one_hot'"),
        (["train", "--ppo.learning-rate", "0"], "--ppo.learning-rate must be above 0, not 0.0"),
        (["train", "--ppo.gamma", "1.5"], "--ppo.gamma must be at most 1"),
        (["train", "--ppo.deviations", "5", "0.5"], "--ppo.deviations must begin at 0 steps"),
        (["train", "--ppo.minibatches", "999999"], "fewer than 2"),
        (["train", "--body", "soft_modules", "--width", "90"], "multiple of the 4 modules"),
        (["train", "--rule", "pcgrd"], "did you mean 'pcgrad'"),
        (["train", "--algorithm", "sac"], "works with these flags only: --rule sum"),
        (["train", "--algorithm", "plain_ppo"], "--warm-start none"),
        (["train", "--warm-start", "clone"], "--demos FOLDER goes with"),
        (["train", "--task-set", "mt16/jarr"], "'jar'"),
        (["demos", "--perturb", "1"], "--perturb must be below 1"),
        (["train", "--task-set", "frist"], "'first'"),
        (["train", "--resume", "nowhere"], "no run folder"),
        (["train", "--seed", "-1"], "at least 0"),
        (["benchmark", "--num-envs", "0"], "at least 1"),
        (["benchmark", "--observation", "rbg"], "rgb"),
        (["report", "."], "config.json is missing"),
    ],
)
def test_mistakes_get_one_clear_line(arguments, says, tmp_path, within):
    done = within(
        *arguments,
        *(
            ["--out", tmp_path / "run"]
            if arguments[0] == "train" and "--resume" not in arguments
            else []
        ),
    )
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and says in lines[0], done.stderr
    assert not (tmp_path / "run").exists()


def test_an_existing_folder_is_left_alone(tmp_path):
    (tmp_path / "precious").write_text("x")
    done = command("--quick", "--out", tmp_path)
    assert done.returncode != 0 and "not empty" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]


def test_no_opengl_says_what_to_install(tmp_path):
    done = command(
        "video",
        "expert",
        "--task",
        "mug",
        "--out",
        tmp_path / "v.mp4",
        MUJOCO_GL="osmesa",
        PYOPENGL_PLATFORM="osmesa",
        LD_LIBRARY_PATH="",
    )
    if (tmp_path / "v.mp4").exists():
        pytest.skip("OSMesa is installed here")
    assert done.returncode != 0
    assert "apt install" in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["train", "transfer", "evaluate", "video", "report", "benchmark", "demos", "compare"]
)
def test_help(name, within):
    done = within(name, "--help")
    assert done.returncode == 0
    assert "--seed" in done.stdout and "--out" in done.stdout


def test_help_lists_every_setting_with_its_default_and_its_choices(within):
    said = within("train", "--help").stdout
    for key, default in (("ppo.gae-lambda", "0.95"), ("sac.tau", "0.01"), ("clone.epochs", "100")):
        assert f"--{key}" in said and f"(default: {default})" in said
    assert "{mlp,film,soft_modules,moore,paco,transformer}" in said
    quick = within("train", "--quick", "--help").stdout
    assert "(default: 16)" in quick  # sub-environments


def test_the_list_of_commands_loads_neither_torch_nor_the_environments():
    code = (
        "import sys; sys.argv = ['train.py', '--help']; import train; train._main(); "
        "heavy = {'torch', 'mujoco', 'numba', 'gymnasium', 'envs'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "compare" in done.stdout


def test_a_row_added_at_run_time_is_a_choice(within, monkeypatch):
    from agents.tables import BODIES
    from envs.tables import Row

    monkeypatch.setitem(BODIES.rows, "mine", Row("agents.bodies:MLP", "my own body"))
    assert "mine, my own body" in " ".join(within("train", "--help").stdout.split())
    done = within("train", "--body", "mien", "--out", "nowhere")
    assert "did you mean 'mine'" in done.stderr


def test_the_shell_completes_commands_flags_and_choices(within):
    said = within("--tyro-print-completion", "bash").stdout
    for word in ("evaluate", "--ppo.learning-rate", "soft_modules", "mt16"):
        assert word in said


def test_gallery_shows_every_row(tmp_path, within):
    done = within("gallery", "--out", tmp_path / "g")
    assert done.returncode == 0, done.stderr
    from PIL import Image

    from envs import CLOSURES

    page = (tmp_path / "g/gallery.html").read_text()
    assert all(f"<code>{name}</code>" in page for name in CLOSURES)
    sheet = Image.open(tmp_path / "g/gallery.jpg")
    assert sheet.size[1] == 210 * -(-len(CLOSURES) // 3)


@pytest.mark.parametrize(
    ("page", "block"),
    [(p, k) for p in ("README.md", "docs/stable_baselines3.md") for k in range(3)],
)
def test_code_of_the_documentation_runs(page, block, monkeypatch, table):
    text = (ROOT / page).read_text()
    blocks = [part.split("```")[0] for part in text.split("```python")[1:]]
    assert len(blocks) == 3
    monkeypatch.chdir(ROOT)
    exec(compile(blocks[block], page, "exec"), {"__name__": "example"})


def test_audit_reports_and_films_its_nearest_miss(tmp_path, within, monkeypatch):
    monkeypatch.setattr(
        audit, "search", functools.partial(audit.search, population=40, rounds=3)
    )  # all of it is in test_audit.py
    done = within("audit", "--tasks", "slide-mug", "--out", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "a/audit.json").read_text())["slide-mug"]
    assert (
        found["cheats"] == 0 and found["candidates"] == 120 and '"candidates": 120' in done.stdout
    )
    assert "film" in found or (tmp_path / "a/slide-mug.mp4").stat().st_size > 10_000
