"""Task sets of drawn closures: what their names say, and rows that are made when asked for."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from uncap.envs import CLOSURES, TASK_SETS, ClosureVectorEnv, drawn, named_set
from uncap.envs.drawn import SEEDS
from uncap.envs.grammar import sequence_of_row
from uncap.envs.mechanisms import MECHANISMS
from uncap.evaluation import rows
from uncap.evaluation.config import EvaluateConfig, TrainConfig, TransferRunConfig
from uncap.evaluation.flags import parse
from uncap.evaluation.protocol import BUILT_IN, evaluate


def mechanisms_of(names):
    return [CLOSURES[name].mechanism for name in names]


def test_small_sets_are_the_beginnings_of_large_ones():
    small, large = named_set("drawn-32"), named_set("drawn-256")
    assert small.train == large.train[:32]
    assert small.held_out == large.held_out
    assert len(set(large.train)) == 256
    assert len(small.held_out) == 48
    counts = [mechanisms_of(small.held_out).count(mechanism) for mechanism in SEEDS]
    assert counts == [6] * 8
    assert [mechanisms_of(small.train).count(mechanism) for mechanism in SEEDS] == [4] * 8


def test_the_mechanisms_are_those_of_closures():
    controls = {row.mechanism for row in CLOSURES.values() if row.control}
    closures = {row.mechanism for row in CLOSURES.values() if not row.control}
    assert set(SEEDS) == closures == set(MECHANISMS) - (controls - closures)
    for mechanism, seeds in SEEDS.items():
        assert {CLOSURES[name].mechanism for name in seeds} == {mechanism}


@pytest.mark.parametrize("mechanism", SEEDS)
def test_a_mechanism_is_left_out(mechanism):
    split = named_set(f"drawn-21-without-{mechanism}")
    assert len(split.train) == 21
    assert mechanism not in mechanisms_of(split.train)
    tested = mechanisms_of(split.held_out)
    assert tested.count(mechanism) == 16
    assert len(tested) == 44
    new = [name for name in split.held_out if split.is_of_new_mechanism(name)]
    assert mechanisms_of(new) == [mechanism] * 16
    composed = named_set(f"drawn-21-without-{mechanism}-composed")
    assert composed.held_out == split.held_out
    assert composed.train[:11] == split.train[:11]
    rows = composed.train[11:]
    assert len({CLOSURES[row].mechanism for row in rows}) == 10
    own = {
        sequence_of_row(CLOSURES[row]) for row in split.held_out if split.is_of_new_mechanism(row)
    }
    assert not own & {sequence_of_row(CLOSURES[row]) for row in rows}
    but_one = named_set(f"drawn-21-without-{mechanism}-but-1")
    assert len(but_one.train) == 21
    assert mechanisms_of(but_one.train).count(mechanism) == 1
    assert but_one.held_out == split.held_out
    assert [name for name in split.held_out if but_one.is_of_new_mechanism(name)] == new


@pytest.mark.parametrize(
    "name",
    [
        *("drawn-0", "drawn-x", "drawn-513", "drawn-08", "drawn-", "drawn", "drawn-1-without-"),
        *("drawn-8-without-lid", "drawn-8-without-push", "drawn-8-without-screw-but-2"),
    ],
)
def test_another_name_gets_one_line_that_names_what_there_is(name):
    with pytest.raises(ValueError, match="unknown task set") as error:
        parse(TrainConfig(), ["--task-set", name], "train")
    text = str(error.value)
    assert "\n" not in text
    assert "drawn-N-without-MECHANISM-composed, N from 1 to 512, MECHANISM one of pull" in text
    assert name not in TASK_SETS


def test_names_of_rows_are_taken_on_the_command_line(tmp_path):
    words = [str(tmp_path), "--tasks", "drawn-push-twist-3", "unseen-screw-0"]
    assert parse(EvaluateConfig, words, "evaluate").tasks[0] == "drawn-push-twist-3"
    words = [str(tmp_path), "--target", "unseen-screw-0"]
    assert parse(TransferRunConfig, words, "transfer").target == "unseen-screw-0"
    words[-1] = "unseen-screw-900000"
    with pytest.raises(ValueError, match="unknown closure 'unseen-screw-900000'"):
        parse(TransferRunConfig, words, "transfer")
    words[-1] = "unseen-push_twist-03"
    with pytest.raises(ValueError, match="did you mean 'unseen-push-twist-3'?"):
        parse(TransferRunConfig, words, "transfer")
    words[-1] = "unseen-flop-3"
    with pytest.raises(ValueError, match="MECHANISM one of pull, screw, turn, push-twist"):
        parse(TransferRunConfig, words, "transfer")


def test_rows_are_made_when_they_are_asked_for():
    code = (
        "import sys, uncap, uncap.evaluation.config\n"
        "assert 'uncap.envs.drawn' not in sys.modules\n"
        "before = list(uncap.CLOSURES), list(uncap.TASK_SETS)\n"
        "row = uncap.CLOSURES['unseen-flip-15']\n"
        "assert before == (list(uncap.CLOSURES), list(uncap.TASK_SETS))\n"
        "print(row)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(CLOSURES["unseen-flip-15"])


def test_the_split_hash_covers_the_numbers_of_drawn_rows(monkeypatch):
    before = named_set("drawn-8").hash
    changed = dataclasses.replace(CLOSURES["drawn-press-0"], mass=(0.01, 0.011))
    make = drawn.row
    monkeypatch.setattr(drawn, "row", lambda name: changed if name == changed.name else make(name))
    assert named_set("drawn-8").hash != before


def test_a_run_keeps_the_numbers_of_its_drawn_rows(tmp_path):
    names = named_set("drawn-2").train
    stored = rows.stored_rows(names)
    assert rows.restore(tmp_path, {"rows": stored}) == []
    stored[names[0]]["mass"] = [0.1, 0.11]
    [note] = rows.restore(tmp_path, {"rows": stored})
    assert "trained with another mass" in note


def test_drawn_rows_share_a_batch():
    env = ClosureVectorEnv(drawn._first("unseen", tuple(SEEDS), 16), 16)
    assert len(env.batch.pool) == 8 * 16
    env.close()
    assert len(named_set("drawn-512").train) == 512


def test_experts_open_drawn_rows():
    names = tuple(f"unseen-{mechanism.replace('_', '-')}-1" for mechanism in SEEDS)
    opened = evaluate(BUILT_IN["expert"], names, 2)
    assert np.mean([episode.success for episode in opened]) >= 0.9
