"""Task sets of composed mechanisms: what is trained, what is held out, and why it is new."""

import hashlib
import itertools
import subprocess
import sys

import numpy as np
import pytest

from uncap.envs import CLOSURES, TASK_SETS, ClosureVectorEnv, named_set, pictograms
from uncap.envs.closures import TaskSet
from uncap.envs.grammar import KINDS, is_valid, sequence_of_row
from uncap.envs.splits import NOVELTIES, OF_EACH, PARTS, SPLITS, shares_seen, split
from uncap.evaluation.unseen import by_novelty

every_split = pytest.mark.parametrize("name", SPLITS)
COMPLETE = 128  # trained mechanisms from which on the kinds of novelty hold


def mechanisms(rows):
    return {sequence_of_row(CLOSURES[row]) for row in rows}


def neighbours(sequences):
    return {pair for sequence in sequences for pair in itertools.pairwise(sequence)}


def test_small_sets_are_parts_of_large_ones():
    small, large = named_set("composed-16"), named_set("composed-64")
    assert mechanisms(small.train) < mechanisms(large.train)
    assert len(mechanisms(small.train)) == 16 and len(mechanisms(large.train)) == 64
    assert len(set(small.train)) == len(set(large.train)) == 256
    assert small.held_out_kinds["new_order"] == large.held_out_kinds["new_order"]
    assert small.hash != large.hash != named_set("composed-64-b").hash


@pytest.mark.parametrize("name", ["composed-8", "composed-128-b", "composed-224-b-final"])
def test_what_is_held_out_is_of_kinds(name):
    found = named_set(name)
    kinds = found.held_out_kinds
    assert list(kinds) == ["seen", *NOVELTIES]
    assert [len(rows) for rows in kinds.values()] == [32, *[2 * OF_EACH] * len(NOVELTIES)]
    assert found.held_out == tuple(itertools.chain(*kinds.values()))
    trained = mechanisms(found.train)
    assert mechanisms(kinds["seen"]) <= trained
    for kind in NOVELTIES:
        assert not mechanisms(kinds[kind]) & trained
        assert all(found.is_of_new_mechanism(row) for row in kinds[kind])
    assert not any(found.is_of_new_mechanism(row) for row in kinds["seen"])


@pytest.mark.parametrize(("name", "digest"), [("a", "fb8237b57e9b41d3"), ("b", "cb148329339f7d65")])
def test_splits_are_fixed(name, digest):
    """Another kind of stage or rule would draw them anew: figures would be of other mechanisms."""
    assert hashlib.sha256(repr(split(name)).encode()).hexdigest()[:16] == digest


@every_split
def test_the_parts_share_no_mechanism_with_each_other_or_with_what_is_trained(name):
    found = split(name)
    sides = [set(found.trained), *(set(found.novel(part)) for part in PARTS)]
    assert [len(side) for side in sides] == [224, 24, 24]
    assert len(set().union(*sides)) == sum(map(len, sides))
    assert all(is_valid(sequence) for side in sides for sequence in side)
    assert split(name) is found
    assert split("a").novel("final") != split("b").novel("final")


@every_split
def test_even_the_smallest_set_has_every_kind_of_stage(name):
    found = split(name)
    assert {kind for sequence in found.trained[:8] for kind in sequence} == set(KINDS)
    counts = [sum(kind in s for s in found.trained[:COMPLETE]) for kind in KINDS]
    assert max(counts) < 3 * min(counts)  # balanced


@every_split
@pytest.mark.parametrize("part", PARTS)
def test_held_out_mechanisms_are_new_in_the_way_that_their_kind_says(name, part):
    found = split(name)
    trained = found.trained[:COMPLETE]
    bags = {tuple(sorted(s)) for s in trained}
    together = {frozenset(pair) for s in found.trained for pair in itertools.combinations(s, 2)}
    for sequence in found.held_out[part]["new_order"]:
        assert tuple(sorted(sequence)) in bags
    for sequence in found.held_out[part]["new_combination"]:
        pairs = {frozenset(pair) for pair in itertools.combinations(sequence, 2)}
        assert pairs - together
    for sequence in found.held_out[part]["new_length"]:
        assert {sequence[:2], sequence[1:]} <= set(trained)
        assert frozenset(sequence) not in {frozenset(s) for s in found.trained}


@every_split
def test_shares_of_pairs_seen_are_counted_and_grow(name):
    found = split(name)
    rows = [shares_seen(found, k, "dev") for k in (8, 32, 128, 224)]
    for kind in NOVELTIES:
        shares = [row[kind] for row in rows]
        assert shares == sorted(shares) and 0 <= shares[0] < shares[-1] <= 1
        pairs = [pair for s in found.held_out["dev"][kind] for pair in itertools.pairwise(s)]
        seen = neighbours(found.trained[:32])
        assert rows[1][kind] == pytest.approx(np.mean([pair in seen for pair in pairs]))
    assert rows[2]["new_length"] == 1


@pytest.mark.parametrize(
    "name",
    ["composed-7", "composed-225", "composed-08", "composed-32-c", "composed-x", "composed-"],
)
def test_other_names_are_no_sets(name):
    assert name not in TASK_SETS
    with pytest.raises(KeyError, match="composed-K-final") as refused:
        named_set(name)
    assert "\n" not in str(refused.value)


def test_success_is_summed_up_by_kind():
    row = {"success": 0.5, "episodes": 4}
    rows = ("thermos", "cork", "mug")
    task_set = TaskSet(
        "kinds",
        ("jar",),
        rows,
        "kinds",
        held_out_kinds={"near": ("thermos",), "far": ("cork", "mug")},
    )
    per_task = {"thermos": {**row, "success": 1.0}, "cork": row, "mug": {**row, "success": 0.0}}
    found = by_novelty(task_set, {"per_task": per_task})["per_kind"]
    assert [found[kind]["success"] for kind in ("near", "far")] == [1.0, 0.25]
    assert found["far"]["episodes"] == 8 and found["far"]["rows"] == 2
    assert found["far"]["low"] < 0.25 < found["far"]["high"]


def test_sets_and_rows_are_made_when_they_are_asked_for():
    script = (
        "import sys, uncap; loaded = set(sys.modules); assert 'mujoco' not in loaded;"
        "assert not any(name.startswith('composed') for name in uncap.CLOSURES);"
        "assert 'composed-8' in uncap.TASK_SETS"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_one_batch_holds_composed_and_named_rows():
    names = ("jar", "composed-right-ccw-up-0", "pump")
    mixed = ClosureVectorEnv(names, 3, autoreset_mode="Disabled")
    alone = ClosureVectorEnv(names[:1], 1, autoreset_mode="Disabled")
    states = []
    for env in (mixed, alone):
        env.reset(seed=[5] * env.num_envs)
        rng = np.random.default_rng(0)
        for _ in range(30):
            action = np.repeat(rng.uniform(-1, 1, (1, 5)), env.num_envs, 0)
            observation, *_ = env.step(action)
        states.append(observation["state"][0])
    assert np.array_equal(*states)  # the jar is the same beside the others


def test_a_slide_is_drawn_towards_where_it_goes_on_both_sides_of_the_container():
    places = []

    class Pen:
        def cylinder(self, *_):
            pass

        def shape(self, _, place, *__):
            places.append(place)

    pictograms.draw_signs(Pen(), CLOSURES["composed-left-ccw-0"])  # type: ignore[arg-type]
    signs = np.split(np.array(places), len(pictograms._FACING))
    for sign in signs:  # the arrow comes first: its line, then its head
        line = sign[: len(pictograms._LINE)]
        head = sign[len(pictograms._LINE) : len(pictograms._ARROW)]
        assert head[:, 0].mean() < line[:, 0].mean()  # to the left: x falls
