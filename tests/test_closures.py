"""The table: names, ranges, rules, splits, distances and drawings."""

import dataclasses
import itertools
import json
import pathlib
import runpy
import shutil
import subprocess
import sys
from unittest.mock import Mock

import gymnasium as gym
import numpy as np
import pytest

import uncap
from uncap.envs.closures import CLOSURES, TASK_SETS, Closure, TaskSet, distance, register
from uncap.envs.env import ClosureEnv
from uncap.envs.looks import GRIPS, LOOKS, draw_container, draw_lid
from uncap.envs.mechanisms import MECHANISMS, TWIST, Stage, X
from uncap.envs.scene import build
from uncap.envs.tables import lookup
from uncap.envs.vector_env import ClosureVectorEnv

ROOT = pathlib.Path(__file__).parent.parent
ROWS = list(CLOSURES.values())


def test_importing_it_loads_no_physics():
    program = (
        "import sys, uncap\n"
        "uncap.sample_closure, uncap.distance('jar', 'mug')\n"
        "print(*{'mujoco', 'numba', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize("package", [uncap, uncap.envs])
def test_a_package_lists_and_loads_what_it_exports(package):
    for name in package.__all__:
        assert name in dir(package)
        assert hasattr(package, name)
    assert package.ClosureEnv is ClosureEnv
    assert package.ClosureVectorEnv is ClosureVectorEnv
    with pytest.raises(AttributeError, match=f"'{package.__name__}' has no .* 'ClosureEnvs'"):
        package.ClosureEnvs  # noqa: B018 (what the attribute does is the test)


def test_a_folder_of_the_checkout_is_no_package_of_its_own():
    with pytest.raises(ImportError, match="import uncap instead"):
        runpy.run_path(str(ROOT / "envs/__init__.py"), run_name="envs")


def test_the_folders_are_found_without_symbolic_links(tmp_path):
    for name in ("envs", "agents", "evaluation"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "uncap").mkdir()
    shutil.copy(ROOT / "uncap/__init__.py", tmp_path / "uncap")
    (tmp_path / "uncap/envs").write_text("../envs")  # as git writes a link on Windows
    code = "import uncap; print(uncap.envs.__name__, uncap.envs.__file__)"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["uncap.envs", str(tmp_path / "envs/__init__.py")]


@pytest.mark.parametrize("row", ROWS, ids=CLOSURES)
def test_row_is_registered_and_within_its_ranges(row):
    assert row.gym_id in gym.registry
    assert row.source and row.description
    rng = np.random.default_rng(0)
    for _ in range(20):
        variant = row.draw(rng)
        for name in ("grip_radius", "grip_height", "angle", "torque", "force", "mass"):
            low, high = getattr(row, name)
            assert low <= getattr(variant, name) <= high
        if MECHANISMS[row.mechanism].threaded:
            turns = variant.angle / (2 * np.pi)
            leads = [abs(lead) for lead in row.lead]
            assert min(leads) * turns <= variant.depth <= max(leads) * turns
    assert np.abs(row.vector).max() <= 3.5


def test_ids_spell_hyphens_as_capitals():
    assert CLOSURES["gas-cap"].gym_id == "Uncap/GasCap-v0"
    assert "Uncap/First-v0" in gym.registry


def test_a_negative_lead_opens_clockwise():
    assert CLOSURES["gas-cap"].direction == -1
    assert CLOSURES["bottle"].direction == 1


def test_a_reserved_band_lies_between_trained_rows():
    for name, narrower, wider in (("thermos", "bottle", "tumbler"), ("decanter", "mug", "cork")):
        band_low, band_high = CLOSURES[name].grip_radius
        for trained in (narrower, wider):
            low, high = CLOSURES[trained].grip_radius
            assert band_low >= high or band_high <= low


def test_distance_is_a_metric():
    between = np.array([[distance(a, b) for b in CLOSURES] for a in CLOSURES])  # (rows, rows)
    assert between == pytest.approx(between.T)
    by_way_of = between[:, :, None] + between[None]  # (rows, rows, rows): a to b and b to c
    assert (between[:, None] <= by_way_of + 1e-9).all()
    assert (np.diag(between) == 0).all()
    assert (between + np.eye(len(between)) > 0).all()
    assert distance("thermos", "tumbler") < distance("thermos", "cork")


@pytest.mark.parametrize("name", TASK_SETS)
def test_every_held_out_row_whose_mechanism_is_trained_has_a_band_of_its_own(name):
    split = TASK_SETS[name]
    trained = {CLOSURES[row].mechanism for row in split.train}
    expected = {row for row in split.held_out if CLOSURES[row].mechanism in trained}
    assert set(split.reserved) == expected


def test_tables_refuse_duplicates_overlaps_and_unknown_names():
    register(ROWS[0])  # the same row: a notebook's cell, run twice
    with pytest.raises(ValueError, match="already registered, as another closure"):
        register(dataclasses.replace(ROWS[0], mass=(0.01, 0.02)))
    with pytest.raises(ValueError, match="both trained and held out"):
        TaskSet("x", ("jar",), ("jar",), "")
    with pytest.raises(ValueError, match="thermos overlaps the torque reserved for tumbler"):
        TaskSet("x", ("thermos",), ("tumbler",), "", {"tumbler": "torque"})
    with pytest.raises(KeyError, match="did you mean 'tumbler'"):
        lookup(CLOSURES, "tumbller", "closure")
    with pytest.raises(KeyError, match="unknown closure"):
        ClosureVectorEnv("spaceship", 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mechanism": "skrew"}, "mechanism of ink-bottle 'skrew': did you mean 'screw'"),
        ({"grip": "bars"}, "grip of ink-bottle 'bars': did you mean 'bar'"),
        ({"look": "jarr"}, "look of ink-bottle 'jarr': did you mean 'jar'"),
        ({"torque": (0.3, 0.2)}, r"torque must be \(low, high\), not \(0.3, 0.2\)"),
        ({"grip_radius": (0.03, 0.05)}, r"grip_radius must lie in \[0.006, 0.0355\]"),
        ({"angle": (0.0, 2.0)}, "a screw needs an angle above 0"),
        ({"mechanism": "flip", "angle": (0.0, 1.0)}, "a flip needs an angle above 0"),
        ({"mechanism": "pull"}, "a pull needs a depth above 0"),
        ({"mechanism": "slide"}, "a slide needs a depth above 0"),
        ({"mechanism": "reach"}, "a reach needs a depth above 0"),
        ({"mechanism": "flip"}, "a flip needs an angle of at most 1.1 and a torque of at least"),
        ({"lead": (0.0, 0.0)}, "a screw needs a lead"),
        ({"lead": (-0.004, 0.004)}, "a screw needs a lead, of one sign"),
    ],
)
def test_a_row_that_cannot_be_built_or_held_is_refused(ink_bottle, changes, message):
    Closure(**ink_bottle)
    with pytest.raises(ValueError, match=message):
        Closure(**{**ink_bottle, **changes})


@pytest.mark.parametrize("row", ROWS, ids=CLOSURES)
def test_a_row_depends_on_its_mechanism_but_not_on_the_name_of_it(row, monkeypatch):
    renamed = dataclasses.replace(MECHANISMS[row.mechanism], name="renamed")
    monkeypatch.setitem(MECHANISMS, "renamed", renamed)
    twin = dataclasses.replace(row, mechanism="renamed")
    assert (twin.vector == row.vector).all()
    variant = row.draw(np.random.default_rng(0))
    twin_variant = twin.draw(np.random.default_rng(0))
    assert dataclasses.replace(twin_variant, closure=row) == variant
    assert strokes(twin_variant) == strokes(variant)


def strokes(variant) -> list:
    """What a pen is asked to draw of a variant."""
    pen = Mock()
    draw_container(pen, variant)
    draw_lid(pen, variant, 0.006)
    return pen.mock_calls


def test_a_row_of_numpys_numbers_is_one_of_pythons(ink_bottle):
    plain = Closure(**ink_bottle)
    of_numpy = {
        name: [*np.asarray(value)] if isinstance(value, tuple) else value
        for name, value in ink_bottle.items()
    }
    row = Closure(**{**of_numpy, "steps": np.int64(plain.steps)})
    assert row == plain
    assert "np." not in repr(row)  # sets are hashed by it
    assert json.loads(json.dumps(dataclasses.asdict(row)))["steps"] == plain.steps


@pytest.mark.parametrize("name", ["drawn-screw-7", "composed-right-ccw-up-7"])
def test_a_drawn_row_gets_an_id_where_it_is_registered(name):
    row = lookup(CLOSURES, name, "closure")
    assert row.gym_id not in gym.registry
    register(row)
    register(row)  # which changes nothing
    assert gym.make_vec(row.gym_id, 1).unwrapped.tasks == (name,)
    gym.registry.pop(row.gym_id)


@pytest.mark.parametrize(("look", "grip"), itertools.product(LOOKS, GRIPS))
def test_every_look_can_be_drawn_with_every_grip(ink_bottle, look, grip):
    row = Closure(**{**ink_bottle, "look": look, "grip": grip})
    variant = row.draw(np.random.default_rng(0))
    build(variant, visual=True, meshes=False).compile()


def test_every_variant_compiles_to_the_same_sizes():
    rng = np.random.default_rng(0)
    sizes = set()
    for row in ROWS:
        for free in (False, True):
            m = build(row.draw(rng), free=free).compile()
            sizes.add((m.nq, m.nv, m.nu, m.neq, m.ngeom, m.nbody, m.nbvh, m.nsensordata))
    assert len(sizes) == 1


def test_the_visual_twin_has_the_same_state():
    variant = CLOSURES["bottle"].draw(np.random.default_rng(0))
    plain = build(variant).compile()
    drawn = build(variant, visual=True).compile()
    assert (plain.nq, plain.nmocap) == (drawn.nq, drawn.nmocap)
    assert drawn.ngeom > plain.ngeom


def test_a_gates_key_needs_its_way_too(monkeypatch, ink_bottle):
    stages = (Stage(TWIST), Stage(X, keeps=TWIST))
    turn_then_slide = dataclasses.replace(MECHANISMS["slide"], stages=stages)
    monkeypatch.setitem(MECHANISMS, "bolt", turn_then_slide)
    fields = {**ink_bottle, "mechanism": "bolt", "lead": (0.0, 0.0), "depth": (0.02, 0.03)}
    with pytest.raises(ValueError, match="a bolt needs an angle above 0"):
        Closure(**{**fields, "angle": (0.0, 0.0)})
    assert Closure(**fields).direction == 1.0


def test_a_misspelt_name_gets_a_short_line():
    with pytest.raises(ValueError) as near:
        lookup(CLOSURES, "jarr", "closure")
    assert str(near.value).startswith("unknown closure 'jarr': did you mean 'jar'")
    assert "allowed" not in str(near.value)
    with pytest.raises(ValueError) as far:
        lookup(CLOSURES, "zzzzzz", "closure")
    assert "allowed: bottle, jar" in str(far.value)
    with pytest.raises(ValueError) as made:
        lookup(TASK_SETS, "drawn-600", "task set")
    assert "drawn-N" in str(made.value) and "alike" not in str(made.value)
