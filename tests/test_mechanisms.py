"""The laws of the mechanisms beyond screw, pull and turn: gates, springs, hinges and rails."""

import numpy as np
import pytest

from envs import CLOSURES
from envs.batch import ClosureBatch
from envs.mechanisms import LIFT, MECHANISMS, TILT_Y, TWIST, X, progress, released


def rows(*mechanisms):
    return [n for n, c in CLOSURES.items() if c.mechanism in mechanisms]


class Loads:
    """Eight variants of a row in the batch, with the hand away and forces on the lid's joints."""

    def __init__(self, name):
        self.batch, ids = ClosureBatch((name,), 8), np.arange(8)
        self.batch.reset(ids, np.zeros(8, int), [np.random.default_rng(i) for i in ids])
        self.xpos = self.batch.sim.bind("xpos")
        self.force, self.own = self.batch.sim.bind("qfrc_applied"), self.batch.constants

    def run(self, steps, **joints):
        """Apply joint forces (N or N m, by name of the joint) for some control steps; the lid's joints (8, 6)."""
        self.force[:] = 0
        for name, value in joints.items():
            self.force[:, self.batch.model.joint(f"lid_{name}").dofadr[0]] = value
        for _ in range(steps):
            away = np.where(
                self.batch.measure()["height"] < 0.25, 1.0, 0.0
            )  # up, and stay within reach
            self.batch.step(np.column_stack([np.zeros((8, 2)), away, np.zeros(8), np.ones(8)]))
        return self.batch.measure()["lid"]

    @property
    def torque(self):
        return np.array([v.torque for v in self.batch.pool])[self.batch.variant]

    @property
    def spring(self):
        return np.array([v.force for v in self.batch.pool])[self.batch.variant]


@pytest.mark.parametrize("name", rows("push_twist"))
def test_child_proof_cap_turns_only_while_pressed(name):
    loads = Loads(name)
    assert np.abs(loads.run(20, twist=3 * loads.torque)[:, TWIST]).max() < 1e-3
    half = loads.run(
        20, lift=-0.6 * loads.spring, twist=3 * loads.torque
    )  # a light press does not unlock it
    assert np.abs(half[:, TWIST]).max() < 1e-3
    assert np.abs(loads.run(10, lift=-1.5 * loads.spring)[:, TWIST]).max() < 1e-3
    turned = loads.run(4, lift=-1.5 * loads.spring, twist=1.4 * loads.torque)[:, TWIST]
    assert (turned > 0.1).all()
    stuck = loads.run(10)[:, TWIST]  # the spring lifts it, and it is locked where it is
    again = loads.run(20, twist=3 * loads.torque)
    assert np.abs(again[:, TWIST] - stuck)[~loads.batch.released].max(initial=0) < 2e-3


@pytest.mark.parametrize("name", rows("push_twist"))
def test_child_proof_cap_does_not_turn_below_its_torque_even_pressed(name):
    loads = Loads(name)
    assert (
        np.abs(loads.run(20, lift=-1.5 * loads.spring, twist=0.7 * loads.torque)[:, TWIST]).max()
        < 2e-3
    )


@pytest.mark.parametrize("name", rows("push_twist", "press"))
def test_spring_obeys_its_law_and_returns(name):
    loads = Loads(name)
    depth, weight = (
        loads.own["depth"],
        9.81 * np.array([v.mass for v in loads.batch.pool])[loads.batch.variant],
    )
    assert np.abs(loads.run(5)[:, LIFT]).max() < 1e-4
    pressed = loads.run(40, lift=-0.75 * loads.spring)[:, LIFT]
    # half the force at rest and all of it at the depth: three quarters hold it half way
    assert -pressed == pytest.approx(depth * (1 - 2 * (0.25 - weight / loads.spring)), rel=0.03)
    assert np.abs(loads.run(40)[:, LIFT]).max() < 1e-4


@pytest.mark.parametrize("name", rows("bayonet"))
def test_bayonet_does_not_lift_before_its_angle(name):
    loads = Loads(name)
    sense, angle = loads.own["direction"], loads.own["angle"]
    assert np.abs(loads.run(20, lift=30.0)[:, LIFT]).max() < 2e-4
    while (sense * loads.batch.measure()["lid"][:, TWIST] < 0.6 * angle).any():
        loads.run(1, twist=1.15 * sense * loads.torque)
    loads.run(3)
    before = loads.batch.measure()["lid"]
    early = sense * before[:, TWIST] < angle
    assert early.any()
    assert np.abs(loads.run(20, lift=30.0)[early, LIFT]).max() < 4e-4
    held = ~loads.batch.released
    while (sense * loads.batch.measure()["lid"][:, TWIST] < angle)[held].any():
        loads.run(1, twist=1.4 * sense * loads.torque)
    assert (sense * loads.run(20, twist=1.4 * sense * loads.torque)[:, TWIST] < 1.1 * angle + 0.1)[
        held
    ].all()  # its track ends
    loads.run(20, lift=30.0)
    assert loads.batch.released.all()


@pytest.mark.parametrize("name", rows("flip"))
def test_flip_lid_obeys_its_hinge(name):
    loads = Loads(name)
    assert (
        np.abs(loads.run(20, tilt_y=-0.6 * loads.torque, lift=20.0, x=20.0)).max() < 2e-3
    )  # below its torque it stays shut
    opened = loads.run(40, tilt_y=-(loads.torque + 0.3))
    assert (opened[:, TILT_Y] < -loads.own["angle"]).all()
    assert (
        np.abs(np.delete(opened, TILT_Y, axis=1)).max() < 2e-3
    )  # and it turns about its hinge only
    height = loads.xpos[:, loads.batch.model.body("lid").id, 2] - loads.own["seat"]
    assert height == pytest.approx(
        CLOSURES[name].cap_radius * np.sin(-opened[:, TILT_Y]), abs=2e-3
    )  # its axis lies at the rim


@pytest.mark.parametrize("name", rows("turn", "flip", "screw"))
def test_how_far_a_lid_that_stays_went_past_open_can_be_measured(name):
    loads = Loads(name)
    joint, j = ("tilt_y", TILT_Y) if CLOSURES[name].mechanism == "flip" else ("twist", TWIST)
    full = loads.own["full"][:, j]
    lid = loads.run(40, **{joint: np.sign(full) * 4 * loads.torque})
    past = np.abs(lid[:, j]) - np.abs(full)
    stays = CLOSURES[name].mechanism != "screw"
    assert (past > 0.05).all() or not stays
    assert np.allclose(loads.batch.measure()["beyond"], past if stays else 0.0)


@pytest.mark.parametrize("name", rows("slide"))
def test_slider_keeps_to_its_rail(name):
    loads = Loads(name)
    assert np.abs(loads.run(20, x=0.8 * loads.spring)).max() < 3e-4
    moved = loads.run(20, x=1.5 * loads.spring, y=20.0, lift=20.0, twist=0.5)
    assert (moved[:, X] > loads.own["depth"]).all() and (
        moved[:, X] < loads.own["depth"] + 0.004
    ).all()
    assert np.abs(np.delete(moved, X, axis=1)).max() < 1e-3


def test_progress_adds_the_shares_and_release_is_for_good():
    inverse, shares = (
        np.array([[0, 0, 1 / 0.01, 1 / 0.8, 0, 0]]),
        np.array([[0, 0, 0.5, 0.5, 0, 0]]),
    )
    for lift, twist, expected in (
        (0, 0, 0),
        (0, 0.4, 0.25),
        (0, 0.8, 0.5),
        (0.005, 0.8, 0.75),
        (0.02, 0.9, 1.0),
        (-0.01, -1, 0),
    ):
        assert progress(np.array([[0, 0, lift, twist, 0, 0]]), inverse, shares) == pytest.approx(
            expected
        )
    assert list(
        released(
            np.array([1.0, 1.0, 0.2]), np.array([True, False, True]), np.array([False, False, True])
        )
    ) == [True, False, True]


def test_every_mechanism_is_in_the_catalogue_and_adds_up():
    assert {c.mechanism for c in CLOSURES.values()} == set(MECHANISMS)
    for m in MECHANISMS.values():
        assert m.marked or sum(m.opens.values()) == 1.0
        assert set(m.opens) <= set(m.free)
