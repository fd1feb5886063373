"""The laws of the stages and the audit on the engine warp, on Warp's CPU device: a sample.

`pytest --engine warp` runs all tests of a file there; `benchmarks/warp_parity.py --audit` audits
all rows.
"""

import importlib
import pathlib
import sys

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
