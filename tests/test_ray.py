"""Cells on a Ray cluster of two nodes on this machine, whose trainings are a stand-in's."""

import contextlib
import io
import os
import pathlib
import re
import signal
import socket
import sys
import threading
import time

import pytest
from rich.console import Console
from test_compare import AXES

from uncap.agents.files import is_alive
from uncap.evaluation import imports, places, ray_cells, ray_cluster, ray_node
from uncap.evaluation.compare import compare
from uncap.evaluation.config import CompareConfig
from uncap.evaluation.grid import Cell, Configuration
from uncap.evaluation.ray_node import News, Trainer
from uncap.evaluation.runs import RunError

linux = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux ends a child with its parent"
)
# A training that keeps its state in latest/state, a number. At first it waits for an interrupt, and
# saves; gone on with, it waits for the file `go` beside its calls, but for what is saved then.
STUB = """
import json, os, pathlib, signal, sys, time

calls, *words = sys.argv[1:]
calls = pathlib.Path(calls)


def get(name):
    return words[words.index(name) + 1] if name in words else None


def wait_until(is_so):
    until = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


run = pathlib.Path(get("--resume") or get("--out"))
(run / "latest").mkdir(parents=True, exist_ok=True)
state = run / "latest" / "state"
began = state.read_text() if state.exists() else "0"
with open(calls, "a") as file:
    file.write(f"{run.name} {os.getpid()} {began} {' '.join(words)}" + chr(10))
print("line of", run.name)
if began == "0":
    (run / "config.json").write_text('{"format": 1}')
    if get("--task-set") != "first":
        asked = []
        signal.signal(signal.SIGINT, lambda *_: asked.append(1))
        state.write_text("1")
        wait_until(lambda: asked)
        state.write_text("2")
        sys.exit(0)
    state.write_text("2")
if began == "2":
    state.write_text("3")
    wait_until((calls.parent / "go").exists)
last = 0.6 if run.name.startswith("one_hot") else 1.0
lines = ["phase,env_steps,seconds,loss,validation", "ppo,100,10,,0.2", f"ppo,200,20,,{last}"]
(run / "metrics.csv").write_text(chr(10).join([*lines, ""]))
row = {"success": last, "low": 0, "high": 1, "episodes": 2, "success_any": 1, "progress": 1}
results = {
    "mean_success": last,
    "worst_success": last,
    "per_task": {"mug": {**row, "steps_to_success": 9}},
    "train": {"env_steps": 200, "wall_seconds": 22},
}
(run / "results.json").write_text(json.dumps(results))
state.unlink()
state.parent.rmdir()
"""
GRID = 'seeds = 1\n[common]\ntask_set = "first"\n[vary]\nconditioning = ["none", "one_hot"]\n'
SMALL = {"num_cpus": 1, "object_store_memory": 80 * 2**20}  # bytes


def wait_until(is_so) -> None:
    until = time.monotonic() + 60
    while not is_so() and time.monotonic() < until:
        time.sleep(0.05)


class Job:
    """Comparisons of the stand-in's trainings, on a cluster or here.

    Attributes:
        cells: folder of the run folders, here.
    """

    def __init__(self, folder: pathlib.Path, address: str | None):
        self.folder = folder
        self.address = address
        self.cells = folder / "out" / "cells"
        folder.mkdir(exist_ok=True)
        (folder / "stub.py").write_text(STUB)

    def __call__(self, grid: str = GRID, **more) -> dict:
        path = self.folder / "grid.toml"
        path.write_text(grid)
        given = {"grid": path, "out": self.folder / "out", "jobs": 2, "ray": self.address, **more}
        return compare(CompareConfig(**given), AXES, Console(file=io.StringIO()), self.command)

    def command(self, words) -> list[str]:
        return [
            sys.executable,
            "-S",
            *map(str, (self.folder / "stub.py", self.folder / "calls")),
            *words,
        ]

    def calls(self) -> dict[str, list[list[str]]]:
        """Process, state at the beginning and arguments of each training so far, by its cell."""
        found: dict[str, list[list[str]]] = {}
        for line in (self.folder / "calls").read_text().splitlines():
            name, *words = line.split()
            found.setdefault(name, []).append(words)
        return found

    def once(self, state: str, do) -> None:
        """Do something from a thread, once both cells have brought back a state."""

        def wait() -> None:
            wait_until(lambda: self.states() == [state, state])
            do()

        threading.Thread(target=wait).start()

    def states(self) -> list[str]:
        """What has come back of the cells that are not finished."""
        return [path.read_text() for path in self.cells.glob("*/latest/state")]


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster with two nodes, of a processor each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={**SMALL, "include_dashboard": False})
    made.second = made.add_node(**SMALL)
    yield made
    made.shutdown()


@pytest.fixture
def job(cluster, tmp_path, monkeypatch) -> Job:
    monkeypatch.setattr(ray_cells, "LOOK", 0.1)
    monkeypatch.setattr(ray_cluster, "_check_answers", lambda _: None)  # tested below
    return Job(tmp_path / "ray", cluster.address)


def results(folder: pathlib.Path) -> dict[str, bytes]:
    """Every file of a comparison and its cells, but the records of how they were started."""
    found = contents(folder)
    return {name: found[name] for name in found if not re.fullmatch(r"cells/[^/]*", name)}


def sealed(files: dict[str, bytes]) -> dict[str, bytes]:
    """The files without digests."""
    return {name: re.sub(rb'"sha256": "[0-9a-f]*"', b"", files[name]) for name in files}


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    """Every file under a folder, but who works there."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ray_node.runs.SIGNS
    }


@linux
def test_a_grid_on_a_cluster_that_is_stopped_and_loses_a_node_has_the_bytes_of_one_here(
    job, cluster, tmp_path
):
    grid = GRID.replace("first", "slow")
    job.once("1", lambda: os.kill(os.getpid(), signal.SIGINT))
    stopped = job(grid)
    assert [row["n"] for row in stopped["configurations"]] == [0, 0]
    assert job.states() == ["2", "2"]

    pytest.importorskip("ray", minversion="2.60")  # others may connect to the node that is killed
    ended: list[int] = []

    def kill() -> None:
        processes = [int(calls[-1][0]) for calls in job.calls().values()]
        cluster.remove_node(cluster.second, allow_graceful=False)
        wait_until(lambda: not all(map(is_alive, processes)))
        ended.extend(process for process in processes if not is_alive(process))
        (job.folder / "go").write_text("")

    job.once("3", kill)
    found = job(grid)
    assert found["failed"] == {}
    kept, lost = sorted(job.calls().values(), key=len)
    assert [words[1] for words in kept] == ["0", "2"]
    assert [words[1] for words in lost] == ["0", "2", "3"]
    assert ended == [int(lost[1][0])]  # with its node
    assert ["--resume" in words for words in lost] == [False, True, True]
    assert all(words[2:4] == ["--threads", "1"] for words in lost)

    here = Job(tmp_path / "here", None)
    (here.folder / "go").write_text("")
    here(GRID)
    ours, theirs = (results(each.folder / "out") for each in (here, job))
    flags = {name: content.replace(b"slow", b"first") for name, content in theirs.items()}
    assert sealed(flags) == sealed(ours)


def test_what_a_cluster_cannot_train_gets_one_line(cluster, monkeypatch):
    address = cluster.address
    with places.opened(address, None, list, []) as place:
        assert place.jobs in (1, 2)  # a node may have been killed
        for threads, paths, says in (
            (2, [], f"no node of {address} has 2 processors, which a cell takes"),
            (1, ["/no/such/folder"], f"of {address} has no /no/such/folder: what cells read"),
        ):
            with pytest.raises(ValueError, match=says) as caught:
                ray_cluster._check_nodes(address, threads, paths)
            assert "\n" not in str(caught.value)
        monkeypatch.setattr(ray_cluster, "versions", lambda: {"torch": "1.0"})
        with pytest.raises(ValueError, match="here it is 1.0: results would differ"):
            ray_cluster._check_nodes(address, 1, [])


# Without a cluster


def check_one_line(says: str, address: str, *flags: dict) -> None:
    """A cluster cannot be used, and a line says why."""
    with pytest.raises(ValueError, match=says) as caught, places.opened(address, 1, list, flags):
        pass
    assert "\n" not in str(caught.value)


def test_without_ray_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    check_one_line(r"pip install 'uncap\[ray\]'", "127.0.0.1:6379")


def test_an_address_where_nothing_answers_gets_one_line():
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    check_one_line(f"no Ray cluster answers at 127.0.0.1:{port}: ", f"127.0.0.1:{port}")
    for host in ("no.such.host.invalid", "a..b", "ü" * 70):
        check_one_line(f"no Ray cluster answers at {host}:1: ", f"{host}:1")


def test_a_server_that_is_no_cluster_is_given_up(monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr(ray_cluster, "PATIENCE", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        check_one_line(f"no cluster of Ray [0-9.]+ answers at {address} within 3 s", address)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (
            {"error": "No module named 'uncap'"},
            "cannot import Uncap: No module named 'uncap'; inst",
        ),
        ({"versions": {"python": "3.12.1"}, "missing": []}, "has python 3.12.1, here it is 3.11.9"),
        ({"versions": {"python": "3.11.9"}, "missing": ["/demos"]}, "has no /demos"),
        ({"versions": {"python": "3.11.9"}, "missing": []}, ""),
    ],
)
def test_what_a_node_lacks_is_said(found, says):
    line = ray_cluster._problem(found, {"python": "3.11.9"})
    assert line.startswith(says) and bool(line) == bool(says)


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    """Makes trainings of a line of Python, in folders that are removed."""
    monkeypatch.setattr(ray_node.tempfile, "tempdir", str(tmp_path))
    made = []

    def make(program: str, **files: bytes) -> Trainer:
        given = {f"run/{name}": content for name, content in files.items()}
        made.append(Trainer("run", ["python", "-Sc", program], given, {}, {}))
        return made[-1]

    yield make
    for each in made:
        each._process.kill()
        each._process.wait()
        with contextlib.suppress(ValueError):
            each._owned.close()


WRITES = """
import os
number = 0
while True:
    number += 1
    for name in ("a", "b"):
        with open(f"run/{name}.tmp", "w") as file:
            file.write(str(number))
        os.replace(f"run/{name}.tmp", f"run/{name}")
    with open("run/metrics.csv", "a") as file:
        file.write(f"{number}" + chr(10))
"""


def test_files_come_back_as_they_were_at_one_moment(trainer, monkeypatch):
    monkeypatch.setattr(ray_node, "READS", 2_000)
    monkeypatch.setattr(ray_node, "PAUSE", 0.0)
    training = trainer(WRITES, a=b"0", b=b"0")
    seen = {"a": 0, "b": 0}
    moments = set()
    until = time.monotonic() + 2
    while time.monotonic() < until:
        news = training.news()
        seen |= {
            name: int(news.files[f"run/{name}"]) for name in seen if f"run/{name}" in news.files
        }
        assert seen["a"] - seen["b"] in (0, 1)  # a is written first
        if "run/metrics.csv" in news.files:
            assert news.files["run/metrics.csv"].count(b"\n") >= seen["b"] - 1
        moments.add(seen["b"])
    assert len(moments) > 3


def test_what_a_training_leaves_comes_back_once_and_nothing_stays(trainer, tmp_path):
    program = "import os, sys; os.remove('run/old'); open('run/new', 'w').write('x'); sys.exit('7')"
    training = trainer(program, old=b"1", same=b"2")
    wait_until(lambda: training._process.poll() is not None)
    assert training.news() == News(1, {"run/new": b"x", "run.log": b"7\n"}, ("run/old",))
    assert list(tmp_path.iterdir()) == []


def test_folders_that_cells_name_are_those_of_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"demos": "first", "task_set": "first", "transfer.unrelated": "other"}
    cell = Cell(Configuration("", tuple(given.items())), 0)
    there = [str(tmp_path / name) for name in ("first", "other")]
    assert ray_cells.paths_of(given) == there
    words = ray_cells._absolute(cell.arguments)
    assert words[words.index("--demos") + 1] == there[0]
    assert words[words.index("--task-set") + 1] == "first"
    assert [word for word in words if "/" in word] == there


def test_modules_of_a_user_are_sent_along(tmp_path, monkeypatch):
    monkeypatch.setattr(imports, "_imported", ["mine", "parts.rows", "elsewhere"])
    for name in ("mine.py", "other.py", "parts/rows.py", "parts/deep/more.py", "parts/data.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    sent = ray_cells._own_modules(tmp_path)
    names = ("mine.py", "parts/rows.py", "parts/deep/more.py")
    assert sent == {name: name.encode() for name in names}


def test_what_comes_back_is_written_in_an_order_that_can_be_cut(tmp_path, monkeypatch):
    names = (
        *("run/results.json", "run/transfer/jar/curve.json", "run/metrics.csv", "run/config.json"),
        *("run/latest/tensors.safetensors", "run/checkpoint/tensors.safetensors", "run.log"),
    )
    written = []
    monkeypatch.setattr(ray_cells, "replacing", lambda path: noted(path, written))
    (tmp_path / "run/gone").mkdir(parents=True)
    (tmp_path / "run/gone/state").write_text("")
    ray_cells.keep(News(None, dict.fromkeys(names, b"x"), ("run/gone/state",)), tmp_path)
    turn = {name: written.index(name) for name in names}
    assert turn["run/config.json"] == 0
    assert turn["run/metrics.csv"] < turn["run/latest/tensors.safetensors"]
    assert turn["run/checkpoint/tensors.safetensors"] < turn["run/latest/tensors.safetensors"]
    assert turn["run/transfer/jar/curve.json"] == len(names) - 2
    assert turn["run/results.json"] == len(names) - 1
    assert not (tmp_path / "run/gone").exists()


@contextlib.contextmanager
def noted(path: pathlib.Path, written: list[str]):
    """A file to write; what is to be removed is there until the last one is written."""
    root = next(parent for parent in path.parents if (parent / "run").is_dir())
    assert (root / "run/gone/state").exists()
    written.append(str(path.relative_to(root)))
    yield path


def test_a_node_that_has_other_versions_trains_nothing(tmp_path):
    ours = {**ray_node.versions(), "numpy": "1.0"}
    with pytest.raises(RunError, match="here it is 1.0: results would differ"):
        Trainer("run", ["python", "-c", ""], {}, {}, ours)


def test_folders_that_a_kill_left_on_a_node_are_removed_later(trainer, tmp_path):
    for name, age in (("uncap-cell-old", 2 * ray_node.STALE), ("uncap-cell-new", 0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    training = trainer("")
    left = {path for path in tmp_path.iterdir() if path != training._folder}
    assert left == {tmp_path / "uncap-cell-new"}
