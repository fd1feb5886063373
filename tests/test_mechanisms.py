"""The table of mechanisms, and the laws of those beyond screw, pull and turn."""

import ast
import dataclasses
import pathlib
import sys

import numpy as np
import pytest

from uncap.envs import CLOSURES, ClosureVectorEnv, mechanisms, register
from uncap.envs.batch import ClosureBatch
from uncap.envs.experts import MOVES, expert_action
from uncap.envs.mechanisms import (
    LIFT,
    MECHANISMS,
    TILT_Y,
    TWIST,
    Mechanism,
    Stage,
    X,
    progress,
    released,
)
from uncap.envs.rewards import TERMS

VARIANTS = 8


def rows(*mechanisms):
    """Names of the closures of these mechanisms."""
    return [name for name, closure in CLOSURES.items() if closure.mechanism in mechanisms]


class Loads:
    """Eight variants of a row in the batch, with the hand away and forces on the lid's joints."""

    def __init__(self, name):
        ids = np.arange(VARIANTS)
        self.batch = ClosureBatch((name,), VARIANTS)
        self.batch.reset(ids, np.zeros(VARIANTS, int), [np.random.default_rng(i) for i in ids])
        self.batch.hand_over(ids)  # the forces act without a touch
        self.xpos = self.batch.sim.bind("xpos")
        self.force = self.batch.sim.bind("qfrc_applied")
        self.own = self.batch.constants

    def run(self, steps, **joints):
        """Apply joint forces (N or N m, by name of the joint) for some control steps.

        Returns the lid's joints (8, 6).
        """
        self.force[:] = 0
        for name, value in joints.items():
            self.force[:, self.batch.model.joint(f"lid_{name}").dofadr[0]] = value
        action = np.zeros((VARIANTS, 5))
        action[:, 4] = 1.0  # open
        for _ in range(steps):
            # up, and stay within reach
            action[:, 2] = np.where(self.batch.measure()["height"] < 0.25, 1.0, 0.0)
            self.batch.step(action)
        return self.lid

    @property
    def lid(self):
        return self.batch.measure()["lid"]

    @property
    def torque(self):
        return self._of_variants("torque")

    @property
    def spring(self):
        return self._of_variants("force")

    @property
    def mass(self):
        return self._of_variants("mass")

    def _of_variants(self, field):
        values = np.array([getattr(variant, field) for variant in self.batch.pool])
        return values[self.batch.variant]  # (8,)


@pytest.mark.parametrize("name", rows("push_twist"))
def test_child_proof_cap_turns_only_while_pressed(name):
    loads = Loads(name)
    sense = loads.own["direction"]
    not_pressed = loads.run(20, twist=3 * sense * loads.torque)
    assert np.abs(not_pressed[:, TWIST]).max() < 1e-3
    light = loads.run(20, lift=-0.6 * loads.spring, twist=3 * sense * loads.torque)
    assert np.abs(light[:, TWIST]).max() < 1e-3  # a light press does not unlock it
    pressed = loads.run(10, lift=-1.5 * loads.spring)
    assert np.abs(pressed[:, TWIST]).max() < 1e-3
    turned = loads.run(4, lift=-1.5 * loads.spring, twist=1.4 * sense * loads.torque)
    assert (sense * turned[:, TWIST] > 0.1).all()
    stuck = loads.run(10)[:, TWIST]  # the spring lifts it, and it is locked where it is
    again = loads.run(20, twist=3 * sense * loads.torque)[:, TWIST]
    assert np.abs(again - stuck)[~loads.batch.released].max(initial=0) < 2e-3


@pytest.mark.parametrize("name", rows("push_twist"))
def test_child_proof_cap_does_not_turn_below_its_torque_even_pressed(name):
    loads = Loads(name)
    sense = loads.own["direction"]
    lid = loads.run(20, lift=-1.5 * loads.spring, twist=0.7 * sense * loads.torque)
    assert np.abs(lid[:, TWIST]).max() < 2e-3


@pytest.mark.parametrize("name", rows("push_twist", "press"))
def test_spring_obeys_its_law_and_returns(name):
    loads = Loads(name)
    depth = loads.own["depth"]
    weight = 9.81 * loads.mass
    assert np.abs(loads.run(5)[:, LIFT]).max() < 1e-4
    pressed = loads.run(40, lift=-0.75 * loads.spring)[:, LIFT]
    # half the force at rest and all of it at the depth: three quarters hold it half way
    expected = depth * (1 - 2 * (0.25 - weight / loads.spring))
    assert -pressed == pytest.approx(expected, rel=0.03)
    assert np.abs(loads.run(40)[:, LIFT]).max() < 1e-4


@pytest.mark.parametrize("name", rows("bayonet"))
def test_bayonet_does_not_lift_before_its_angle(name):
    loads = Loads(name)
    sense = loads.own["direction"]
    angle = loads.own["angle"]
    assert np.abs(loads.run(20, lift=30.0)[:, LIFT]).max() < 2e-4  # closed

    while (sense * loads.lid[:, TWIST] < 0.6 * angle).any():
        loads.run(1, twist=1.15 * sense * loads.torque)
    loads.run(3)
    early = sense * loads.lid[:, TWIST] < angle
    assert early.any()
    assert np.abs(loads.run(20, lift=30.0)[early, LIFT]).max() < 4e-4  # turned too little

    held = ~loads.batch.released
    while (sense * loads.lid[:, TWIST] < angle)[held].any():
        loads.run(1, twist=1.4 * sense * loads.torque)
    turned = sense * loads.run(20, twist=1.4 * sense * loads.torque)[:, TWIST]
    assert (turned < 1.1 * angle + 0.1)[held].all()  # its track ends
    loads.run(20, lift=30.0)
    assert loads.batch.released.all()


@pytest.mark.parametrize("name", rows("flip"))
def test_flip_lid_obeys_its_hinge(name):
    loads = Loads(name)
    shut = loads.run(20, tilt_y=-0.6 * loads.torque, lift=20.0, x=20.0)
    assert np.abs(shut).max() < 2e-3  # below its torque it stays shut
    opened = loads.run(40, tilt_y=-(loads.torque + 0.3))
    assert (opened[:, TILT_Y] < -loads.own["angle"]).all()
    # and it turns about its hinge only
    assert np.abs(np.delete(opened, TILT_Y, axis=1)).max() < 2e-3
    height = loads.xpos[:, loads.batch.model.body("lid").id, 2] - loads.own["seat"]
    at_the_rim = CLOSURES[name].cap_radius * np.sin(-opened[:, TILT_Y])
    assert height == pytest.approx(at_the_rim, abs=2e-3)


@pytest.mark.parametrize("name", rows("turn", "flip", "screw"))
def test_how_far_a_lid_that_stays_went_past_open_can_be_measured(name):
    loads = Loads(name)
    flips = CLOSURES[name].mechanism == "flip"
    joint_name, joint = ("tilt_y", TILT_Y) if flips else ("twist", TWIST)
    full = loads.batch.now["full"][:, joint]
    lid = loads.run(40, **{joint_name: np.sign(full) * 4 * loads.torque})
    past = np.abs(lid[:, joint]) - np.abs(full)
    stays = CLOSURES[name].mechanism != "screw"
    assert (past > 0.05).all() or not stays
    assert np.allclose(loads.batch.measure()["beyond"], past if stays else 0.0)


@pytest.mark.parametrize("name", rows("slide"))
def test_slider_keeps_to_its_rail(name):
    loads = Loads(name)
    depth = loads.own["depth"]
    assert np.abs(loads.run(20, x=0.8 * loads.spring)).max() < 3e-4
    moved = loads.run(20, x=1.5 * loads.spring, y=20.0, lift=20.0, twist=0.5)
    assert (moved[:, X] > depth).all()
    assert (moved[:, X] < depth + 0.004).all()
    assert np.abs(np.delete(moved, X, axis=1)).max() < 1e-3


@pytest.mark.parametrize(
    "lift, twist, expected",
    [
        (0, 0, 0),
        (0, 0.4, 0.25),
        (0, 0.8, 0.5),
        (0.005, 0.8, 0.75),
        (0.02, 0.9, 1.0),
        (-0.01, -1, 0),
    ],
)
def test_progress_adds_the_shares(lift, twist, expected):
    lid = np.array([[0, 0, lift, twist, 0, 0]])
    inverse_full = np.array([[0, 0, 1 / 0.01, 1 / 0.8, 0, 0]])
    shares = np.array([[0, 0, 0.5, 0.5, 0, 0]])
    start = np.zeros((1, 6))
    found = progress(lid, start, inverse_full, shares, done_before=np.zeros(1))
    assert found == pytest.approx(expected)
    latched = progress(lid, start, inverse_full, shares / 2, done_before=np.array([0.5]))
    assert latched == pytest.approx(0.5 + expected / 2)
    moved = progress(lid + 0.3, start + 0.3, inverse_full, shares, done_before=np.zeros(1))
    assert moved == pytest.approx(expected)


def test_release_is_for_good_and_only_of_lids_that_separate():
    free = released(
        progress_now=np.array([1.0, 1.0, 0.2]),
        separates=np.array([True, False, True]),
        was_released=np.array([False, False, True]),
    )
    assert list(free) == [True, False, True]


def test_every_mechanism_is_in_the_catalogue():
    assert {closure.mechanism for closure in CLOSURES.values()} == set(MECHANISMS)


@pytest.mark.parametrize("mechanism", MECHANISMS.values(), ids=MECHANISMS)
def test_a_mechanism_is_complete(mechanism):
    assert MECHANISMS[mechanism.name] is mechanism
    assert mechanism.marked == (not mechanism.stages)
    assert {stage.joint for stage in mechanism.stages} <= mechanism.free
    assert len(mechanism.words) > 20 and "\n" not in mechanism.words
    assert set(mechanism.pays or ()) <= set(TERMS)


def test_every_move_is_made():
    """By the expert, somewhere: a move that nobody makes is a dead row."""
    names = [*CLOSURES, "composed-down-0"]
    env = ClosureVectorEnv(names, len(names), autoreset_mode="Disabled")
    env.reset(seed=0)
    made = set()
    for _ in range(30):
        measured = env.batch.measure()
        made |= {name for name, move in MOVES.items() if move.made_by(measured).any()}
        env.batch.step(expert_action(measured))
    assert made == set(MOVES)


def test_the_table_of_mechanisms_needs_numpy_only():
    imported = set()
    for node in ast.walk(ast.parse(pathlib.Path(mechanisms.__file__).read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    assert imported <= sys.stdlib_module_names | {"numpy", "uncap.envs.tables"}


SAFETY_KNOB = Mechanism(
    name="safety_knob",
    words="press down against a spring and turn while it is down; nothing comes off",
    stages=(Stage(TWIST, keeps=LIFT),),
    pays=("reach", "grasp", "open"),
)


def add(monkeypatch, mechanism, like):
    """Register a mechanism and a closure of it, with the numbers of another one."""
    monkeypatch.setitem(MECHANISMS, mechanism.name, mechanism)
    closure = dataclasses.replace(CLOSURES[like], name="new-row", mechanism=mechanism.name)
    register(closure)
    return closure.name


def test_a_new_mechanism_is_one_row(monkeypatch, table):
    name = add(monkeypatch, SAFETY_KNOB, like="pill-box")
    env = ClosureVectorEnv((name, "pill-box"), 32, autoreset_mode="Disabled")
    env.reset(seed=0)
    for _ in range(CLOSURES[name].steps):
        _, reward, _, _, info = env.step(expert_action(env.batch.measure()))
        for term in TERMS:
            assert ((info[term] >= 0) & (info[term] <= 1)).all(), term
    new = info["task_index"] == 0
    assert new.sum() == 16
    assert info["success"][new].mean() >= 0.9
    assert not env.batch.released[new].any()
    assert not info["separate"][new].any()  # it does not pay this term
    assert info["separate"][~new].any()


def test_unknown_terms_are_refused(monkeypatch, table):
    name = add(monkeypatch, SAFETY_KNOB, like="pill-box")
    monkeypatch.setitem(MECHANISMS, "safety_knob", dataclasses.replace(SAFETY_KNOB, pays=("opn",)))
    with pytest.raises(KeyError, match="unknown reward term 'opn'"):
        ClosureVectorEnv(name, 1)
