"""Files are whole or not there and tell damage; a folder has one writer; text is UTF-8."""

import ast
import errno
import json
import multiprocessing
import os
import pathlib
import subprocess
import sys

import makers
import numpy as np
import pytest

from uncap.agents import files
from uncap.agents.files import Busy, FileError, owned, read_json, replacing, write_json, write_text
from uncap.evaluation import runs, video
from uncap.evaluation.metrics import Logged, Metrics, read_metrics
from uncap.evaluation.protocol import write_episodes

ROOT = pathlib.Path(__file__).parent.parent
CODE = [
    ROOT / "train.py",
    *(p for package in ("envs", "agents", "evaluation") for p in (ROOT / package).rglob("*.py")),
]


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "first")
    with pytest.raises(OSError, match="disk full"), replacing(path) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    assert path.read_text() == "first"
    write_text(path, "größer 瓶 \ud800")
    assert path.read_bytes().decode("utf-8") == "größer 瓶 &#55296;"
    assert os.listdir(tmp_path) == ["a.txt"]


def _metrics(path: pathlib.Path) -> None:
    Metrics(path, ["phase", "env_steps"]).close()


def _film(path: pathlib.Path) -> None:
    frames = [np.zeros((16, 16, 3), np.uint8)] * 2
    video._write_film(path, frames, 10)


WRITERS = {
    "a.json": lambda path: write_json(path, {"a": 1}),
    "a.html": lambda path: write_text(path, "<p>"),
    "episodes.csv": lambda path: write_episodes([], path),
    "metrics.csv": _metrics,
    "a.mp4": _film,
}


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_whatever_is_written_replaces_what_was_there_at_the_end(tmp_path, name, step, monkeypatch):
    path = tmp_path / name
    path.write_bytes(b"before")

    def kill(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(files.os, step, kill)
        with pytest.raises(Killed):
            WRITERS[name](path)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == [name]
    WRITERS[name](path)
    assert path.read_bytes() != b"before"
    assert os.listdir(tmp_path) == [name]


def test_json_comes_back_without_its_digest(tmp_path):
    path = tmp_path / "a.json"
    value = {"b": [1, 2.5, None, float("nan")], "a": {"瓶": "ü"}}
    write_json(path, value)
    assert str(read_json(path, "")) == str(value)
    assert list(json.loads(path.read_text())) == ["b", "a", "sha256"]
    path.write_text(json.dumps(json.loads(path.read_text()), indent=4, sort_keys=True))
    assert read_json(path, "")["a"] == value["a"]  # layout does not count


def test_damage_and_changes_by_hand_are_named_in_one_line(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"seed": 1})
    changed = json.loads(path.read_text()) | {"seed": 2}
    path.write_text(json.dumps(changed))
    with pytest.raises(FileError, match="a.json is damaged, or was changed by hand") as caught:
        read_json(path, "train anew")
    assert "train anew, or, if the change is yours, remove the key 'sha256'" in str(caught.value)
    del changed["sha256"]
    path.write_text(json.dumps(changed))
    assert read_json(path, "") == {"seed": 2}
    for content in (b"", b"{", b"[]", b"3", b"\xff\xfe", b"[" * 100_000, b"9" * 5_000):
        path.write_bytes(content)
        with pytest.raises(FileError, match=r"a\.json is damaged") as caught:
            read_json(path, "train anew")
        assert "\n" not in str(caught.value)


def in_another_process(code: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )


HOLD = """
import os, pathlib, sys
from uncap.agents.files import owned, replacing
folder = pathlib.Path(sys.argv[1])
with owned(folder), replacing(folder / "a.json") as temporary:
    temporary.write_text("half")
    if len(sys.argv) > 2:
        os._exit(9)  # as SIGKILL: nothing is tidied up
"""


def test_a_folder_has_one_writer_and_the_second_is_told_which(tmp_path):
    with owned(tmp_path):
        done = in_another_process(HOLD, tmp_path)
        assert f"is being written by process {os.getpid()}" in done.stderr
        with pytest.raises(Busy), owned(tmp_path):
            pass
        assert files.is_owned(tmp_path)
    assert not files.is_owned(tmp_path)
    assert in_another_process(HOLD, tmp_path).returncode == 0


def test_what_a_killed_writer_held_and_left_is_free_again(tmp_path):
    assert in_another_process(HOLD, tmp_path, "killed").returncode == 9
    assert len(list(tmp_path.glob(".a.*.tmp.json"))) == 1
    with owned(tmp_path):
        assert not list(tmp_path.glob(".a.*"))


def test_exactly_one_of_two_processes_makes_a_folder(tmp_path):
    with multiprocessing.get_context("forkserver").Pool(2) as pool:
        for number in range(20):
            path, default, exists = tmp_path / f"run{number}", number % 2 == 0, number % 4 < 2
            if exists:
                path.mkdir()
            made = pool.map(makers.create, [(path, 1, default), (path, 2, default)], chunksize=1)
            free = [path, *(path.with_name(f"{path.name}-{n}") for n in (2, 3))]
            if default:
                assert sorted(made) == free[exists : exists + 2]
            else:
                assert set(made) == {None, path}
            for seed, folder in enumerate(made, start=1):
                assert folder is None or runs.open_run(folder)["seed"] == seed


def test_a_full_disk_leaves_no_run_folder_and_names_the_file(tmp_path, monkeypatch):
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left") as caught:
        runs.create(tmp_path / "run", {})
    assert caught.value.filename == str(tmp_path / "run" / "config.json")
    assert os.listdir(tmp_path) == []


def test_a_new_run_that_never_began_is_removed(tmp_path):
    run = tmp_path / "run"
    for new in (True, False):
        runs.create(run, {})
        with pytest.raises(ValueError, match="no package"), runs.writing(run, new):
            Metrics(run / "metrics.csv", ["phase", "env_steps"]).close()
            raise ValueError("no package")
        assert run.exists() is not new
    with pytest.raises(ValueError, match="later"), runs.writing(run, new=True):
        metrics = Metrics(run / "metrics.csv", ["phase", "env_steps"])
        metrics.row(phase="ppo", env_steps=10)
        metrics.close()
        raise ValueError("later")
    assert run.exists()


def test_a_part_of_a_single_task_control_is_owned_with_the_whole(tmp_path):
    run = tmp_path / "run"
    part = run / "alone" / "button"
    for folder in (run, part):
        runs.create(folder, {})
    with runs.writing(run, new=False), pytest.raises(Busy), runs.writing(part, new=False):
        pass
    with runs.writing(part, new=False), pytest.raises(Busy), runs.writing(run, new=False):
        pass


# metrics.csv


@pytest.fixture
def metrics(tmp_path) -> pathlib.Path:
    """A file of four rows."""
    path = tmp_path / "metrics.csv"
    writer = Metrics(path, ["phase", "env_steps", "seconds", "success/mug"])
    for number in range(4):
        writer.row(phase="ppo", env_steps=10 * number, seconds=number / 7, **{"success/mug": 0.5})
    writer.close()
    return path


def steps_read(path: pathlib.Path) -> list[str]:
    return [row["env_steps"] for row in read_metrics(path).rows]


def test_metrics_are_read_as_written(metrics):
    found = read_metrics(metrics)
    assert found.problem == ""
    assert found.rows[1] == {
        "phase": "ppo",
        "env_steps": "10",
        "seconds": str(1 / 7),
        "success/mug": "0.5",
    }


def test_of_metrics_cut_in_a_line_the_whole_rows_are_kept_and_it_is_said(metrics):
    metrics.write_bytes(metrics.read_bytes()[:-12])
    assert steps_read(metrics) == ["0", "10", "20"]
    assert "1 of its 4 rows are left out (4)" in read_metrics(metrics).problem
    logged = Logged(rows=4, steps=30)
    Metrics(metrics, ["phase", "env_steps", "seconds", "success/mug"], logged).close()
    assert steps_read(metrics) == ["0", "10", "20"]
    assert read_metrics(metrics).problem == ""


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        (b"10,0.14", b"10,0.15", ["0", "20", "30"]),  # a number
        (b"\r\nppo,10", b"\r\nppp,10", ["0", "20", "30"]),
        (b"seconds", b"sekonds", []),  # the heading
        (b"env_steps", b"env_step", []),
    ],
)
def test_changed_metrics_are_left_out_and_named(metrics, old, new, kept):
    content = metrics.read_bytes()
    assert content.count(old) == 1
    metrics.write_bytes(content.replace(old, new))
    assert steps_read(metrics) == kept
    assert str(metrics) in read_metrics(metrics).problem


def test_metrics_of_an_older_version_or_changed_on_purpose_are_read(metrics):
    metrics.write_text("phase,env_steps,loss\nppo,640,nan\nppo,1280,\nppo,x,1\nppo,19")
    assert steps_read(metrics) == ["640", "1280"]
    assert "2 of its 4" in read_metrics(metrics).problem


# Text


def calls_without_encoding(tree: ast.AST) -> list[int]:
    """Lines of calls that read or write text and name no encoding."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        words = {keyword.arg: keyword.value for keyword in node.keywords}
        modes = [part.value for part in node.args if isinstance(part, ast.Constant)]
        binary = any(isinstance(mode, str) and "b" in mode and len(mode) < 4 for mode in modes)
        named = len(node.args) > {"read_text": 0, "write_text": 1}.get(name, 9)  # in its place
        opens = name in ("read_text", "write_text") and not named or (name == "open" and not binary)
        own = name == "write_text" and isinstance(function, ast.Name)  # `files.write_text`
        low_level = (
            isinstance(function, ast.Attribute) and getattr(function.value, "id", "") == "os"
        )
        texts = "text" in words and name in ("run", "Popen", "check_output")
        if ((opens and not own and not low_level) or texts) and "encoding" not in words:
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("path", CODE, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_text_is_read_and_written_in_a_named_encoding(path):
    assert calls_without_encoding(ast.parse(path.read_text(encoding="utf-8"))) == []


def test_the_check_of_encodings_sees_calls():
    wrong = "p.read_text()\np.write_text(t)\nopen(p)\nopen(p, 'w')\nsubprocess.run(c, text=True)"
    assert calls_without_encoding(ast.parse(wrong)) == [1, 2, 3, 4, 5]
    right = "open(p, 'rb')\np.read_text(encoding='utf-8')\nos.open(p, os.O_RDONLY)"
    assert calls_without_encoding(ast.parse(right)) == []
    assert calls_without_encoding(ast.parse("p.read_text('utf-8')")) == []
