"""The laws of the stages and the audit on the engine warp, on Warp's CPU device: a sample.

`pytest --engine warp` runs all tests of a file there; `benchmarks/warp_parity.py --audit` audits
all rows of the table, and a sample of the composed ones.
"""

import importlib
import pathlib
import sys

import numpy as np
import pytest

pytest.importorskip("mujoco_warp")

from test_stages import PAIRS, Bench, stages_in_their_order, text

from uncap.agents.files import read_json, write_json
from uncap.envs.grammar import KINDS
from uncap.evaluation.audit import search

ROOT = pathlib.Path(__file__).parent.parent


def sample_of_pairs():
    """Pairs of stages in which every kind is, and each for the first time in one of them."""
    left, found = set(KINDS), []
    while left:
        best = max(PAIRS, key=lambda pair: len(left & set(pair)))
        found.append(best)
        left -= set(best)
    return found


SAMPLE = sample_of_pairs()


pytestmark = pytest.mark.usefixtures("warp_on_the_cpu")


def test_every_kind_of_stage_is_in_the_sample():
    assert {kind for pair in SAMPLE for kind in pair} == set(KINDS)
    assert len(SAMPLE) <= len(KINDS)


@pytest.mark.parametrize("sequence", SAMPLE, ids=map(text, SAMPLE))
def test_no_stage_opens_before_its_turn_and_all_do_in_order(sequence):
    stages_in_their_order(Bench(sequence, n=2, engine="warp"))


# turned or lifted by the palm, pushed
@pytest.mark.parametrize("name", ["cork", "slide-mug"])
def test_a_search_for_cheats_finds_none(name):
    found = search(name, 7, population=20, rounds=2, engine="warp")
    assert found.candidates == 40
    assert found.cheats == 0
    assert found.untouched >= 0.0


def test_the_script_audits_rows_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    parity = importlib.import_module("warp_parity")
    words = ["--audit", "--plans", "10", "--rounds", "1", "--rows", "slide-mug", "reach", "--out"]
    out = tmp_path / "deeper/audit.json"
    monkeypatch.setattr(sys, "argv", ["warp_parity.py", *words, str(out)])
    for again in (False, True):
        with pytest.raises(SystemExit) as end:
            parity.main()
        assert end.value.code == 0
        printed = capsys.readouterr().out
        assert ("plans 10  cheats 0" in printed) is not again  # `reach` asks for no contact
        assert printed.endswith("1 rows, 0 with a cheat\n")
    kept = read_json(out, "")
    assert kept["rows"]["slide-mug"]["cheats"] == 0
    # what was found is judged, too, when nothing is left to do
    kept["rows"]["slide-mug"]["cheats"] = 2
    write_json(out, kept)
    with pytest.raises(SystemExit) as end:
        parity.main()
    assert end.value.code == 1
    # what was made otherwise is not
    for others, said in (
        (["--plans", "11"], "plans"),
        (["--rounds", "2", "--plans", "11"], "plans, rounds"),
        (["--rows", "nonsense"], "unknown closure 'nonsense'"),
    ):
        monkeypatch.setattr(sys, "argv", ["warp_parity.py", *words, str(out), *others])
        with pytest.raises(SystemExit) as end:
            parity.main()
        assert end.value.code.startswith("error: ") and said in end.value.code
    kept["made_with"]["code"] = "0"
    write_json(out, kept)
    monkeypatch.setattr(sys, "argv", ["warp_parity.py", *words, str(out)])
    with pytest.raises(SystemExit, match="made with other code: choose another --out, or remove"):
        parity.main()


AGREES = {
    "success": 1.0,
    "success_on_cpu": 1.0,
    "median": 1e-6,
    "most": 1e-2,
    "latched_otherwise": 9,
    "otherwise": 1,
    "diverged": 0,
    "diverged_on_cpu": 0,
    "overflows": 0,
    "episodes": 8,
    "seconds": 1.0,
}


@pytest.fixture
def parity(monkeypatch, capsys):
    """The script; `parity.main_with(*words)` gives its exit status, and the lines it printed."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    script = importlib.import_module("warp_parity")

    def main_with(*words):
        monkeypatch.setattr(sys, "argv", ["warp_parity.py", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            script.main()
        return end.value.code, capsys.readouterr().out.splitlines()

    monkeypatch.setattr(script, "main_with", main_with, raising=False)
    return script


def test_the_control_step_on_the_device_is_compared_with_the_cpu(parity):
    """From the same starts: from others, lids would be anywhere."""
    found = parity.compared(["jar", "valve"], 2, worlds=True)
    for name, row in found.items():
        assert row["success"] == row["success_on_cpu"] == 1.0
        assert 0 < row["most"] < 1e-4
        assert 0 < row["seen"] < 1e-4 and 0 < row["paid"] < 1e-4
        assert row["graph"] == "physics"  # on CUDA the control step
        assert parity.disagreements(row, 1e-3) == []
        assert "graph: physics" in parity.line(name, row)


def test_differences_are_of_the_steps_in_which_both_lids_are_on(parity):
    def seen(lid, released, state, reward, stage=0, success=False, diverged=False):
        flags = [np.array([flag, False]) for flag in (success, diverged, released)]
        latches = np.array([[0, 0], [released, 0], [stage, 0]])
        joints = np.array([[lid, 0.0], [0.0, 0.0]])
        states = np.array([[state, 0.0], [0.0, 0.0]])
        rewards = np.array([reward, 0.0])
        return parity.Seen(flags[0], flags[1], joints, flags[2], latches, states, rewards)

    both = parity.Differences(2)
    zero = seen(0.0, False, 0.0, 0.0)
    for _ in range(4):
        both.add(np.array([True, True]), seen(0.1, False, 0.4, 0.3, stage=1), zero)
    both.add(np.array([True, True]), seen(9.0, True, 9.0, 9.0, success=True), zero)
    both.add(np.array([False, True]), seen(9.0, True, 9.0, 9.0, diverged=True), zero)
    row = parity.of_row(both, slice(0, None, 2), worlds=True)
    assert row["median"] == row["most"] == 0.1
    np.testing.assert_allclose([row["seen"], row["paid"]], [0.2, 0.3])
    assert (row["success"], row["success_on_cpu"]) == (1.0, 0.0)
    assert (row["latched_otherwise"], row["otherwise"]) == (5, 1)
    assert (row["diverged"], row["diverged_on_cpu"]) == (0, 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"success": 0.9, "success_on_cpu": 0.9}, ""),  # as hard on both
        ({"diverged": 1, "diverged_on_cpu": 1}, ""),
        ({"success": 0.9, "success_on_cpu": 1.0}, "success 0.90, cpu 1.00"),
        ({"median": 2e-3}, "apart 2.0e-03"),
        ({"median": float("nan")}, "apart nan"),
        ({"seen": 2e-3}, "observed apart 2.0e-03"),
        ({"paid": 2e-3}, "paid apart 2.0e-03"),
        ({"diverged": 2}, "2 put back, none on cpu"),
        ({"overflows": 3}, "3 worlds of its batch without room for contacts"),
        ({"otherwise": 2}, ""),
        ({"otherwise": 3}, "latches differ in 3 of 8 episodes"),
    ],
)
def test_a_row_fails_for_what_is_named(change, said, parity):
    assert ", ".join(parity.disagreements({**AGREES, **change}, 1e-3)) == said


def test_batches_that_are_done_are_kept_and_what_fails_is_said(parity, monkeypatch, tmp_path):
    out = tmp_path / "parity.json"
    words = ["--rows", "jar", "valve", "cork", "--together", 2, "--out", out]

    def killed(names, *_):
        if "cork" in names:
            raise KeyboardInterrupt
        return {name: AGREES for name in names}

    monkeypatch.setattr(parity, "compared", killed)
    assert parity.main_with(*words)[0] == 130
    assert set(read_json(out, "")["rows"]) == {"jar", "valve"}
    hard = {**AGREES, "success": 0.5, "success_on_cpu": 0.5, "diverged": 1}
    monkeypatch.setattr(parity, "compared", lambda names, *_: {name: hard for name in names})
    status, lines = parity.main_with(*words)
    assert status == 1 and len(lines) == 3
    assert lines[1] == "less than 95% on both: cork (0.50, cpu 0.50)"
    assert lines[2] == "3 rows, 1 that do not agree: cork (1 put back, none on cpu)"
    status, _ = parity.main_with(*words, "--worlds")
    assert status == f"error: {out} was made with other worlds: choose another --out, or remove it"
