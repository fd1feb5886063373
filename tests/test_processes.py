"""Works at once: what they leave behind in the process that started them."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PROGRAM = """
import multiprocessing, pathlib, signal, sys

sys.path.insert(0, sys.argv[1])
import makers
from uncap.envs import cores
from uncap.evaluation.processes import do_all
from uncap.evaluation.training import Session

if __name__ == "__main__":
    cores.set_threads(2)
    session = Session(pathlib.Path("."), None, 0, lambda *_: None, lambda: False)
    done = []
    things = [makers.Thing("a"), makers.Thing("b")]
    assert do_all("works", makers.work, things, session, done.append)
    assert sorted(thing.words for thing in done) == ["a", "b"]
    with multiprocessing.get_context("forkserver").Pool(2) as pool:
        print(pool.apply(makers.blocked_signals))
    print("ended")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork server")
def test_processes_of_others_can_be_ended_afterwards():
    """The fork server of works at once blocks signals: others would wait for ever for its ends."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, ROOT / "tests"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.splitlines() == ["[]", "ended"], done.stderr
