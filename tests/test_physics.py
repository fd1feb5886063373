"""The laws of the closures' physics, for every row of the table."""

import mujoco
import numpy as np
import pytest

from envs import CLOSURES
from envs.batch import ClosureBatch
from envs.experts import expert_action
from envs.mechanisms import CONSTRAINTS, MECHANISMS
from envs.robot import DAMPING, HOME, yaw_of
from envs.scene import FINGERTIP, base_height, build, grip_height, seat_height

SCREWS = [n for n, c in CLOSURES.items() if c.mechanism == "screw"]
PULLS = [n for n, c in CLOSURES.items() if c.mechanism == "pull"]
TURNING = [n for n, c in CLOSURES.items() if c.mechanism in ("screw", "turn", "bayonet")]


class Bench:
    """One variant on MuJoCo's own loop, with the hand away at home."""

    def __init__(self, name, free=False):
        self.variant = CLOSURES[name].draw(np.random.default_rng(7))
        self.model = build(self.variant, free=free).compile()
        self.data = mujoco.MjData(self.model)
        self.data.qpos[:7] = self.data.ctrl[:7] = HOME
        self.data.mocap_pos[0] = [0.45, 0.25, 0.0]  # clear of the hand
        self.lid, self.q = self.model.body("lid").id, self.model.joint("lid_x").qposadr[0]
        self.v = self.model.joint("lid_x").dofadr[0]

    def run(self, seconds, force=0.0, torque=0.0):
        """Push the lid up (N) and turn it (N m) for a while; its six joints."""
        self.data.xfrc_applied[self.lid] = [0, 0, force, 0, 0, torque]
        for _ in range(round(seconds / self.model.opt.timestep)):
            mujoco.mj_step(self.model, self.data)
        return self.data.qpos[self.q : self.q + 6]


@pytest.mark.parametrize("name", CLOSURES)
def test_nothing_moves_by_itself(name):
    assert np.abs(Bench(name).run(5.0)).max() < 1e-4


@pytest.mark.parametrize("name", SCREWS)
def test_closed_screw_holds_thirty_newtons(name):
    lid = Bench(name).run(1.0, force=30.0)
    assert abs(lid[2]) < 1e-4
    assert abs(lid[3]) < 1e-3


@pytest.mark.parametrize("name", TURNING)
def test_turns_above_its_breakaway_torque_only(name):
    bench = Bench(name)
    sense = CLOSURES[name].direction
    assert abs(bench.run(0.3, torque=0.7 * sense * bench.variant.torque)[3]) < 1e-3
    assert sense * bench.run(0.3, torque=1.4 * sense * bench.variant.torque)[3] > 0.3


@pytest.mark.parametrize("name", TURNING)
def test_a_closed_lid_cannot_be_turned_further_shut(name):
    bench = Bench(name)
    sense = CLOSURES[name].direction
    assert -0.03 < sense * bench.run(0.5, torque=-3 * sense * bench.variant.torque)[3] < 1e-3


@pytest.mark.parametrize("name", SCREWS)
def test_lift_is_pitch_times_angle(name):
    bench = Bench(name)
    sense, v = CLOSURES[name].direction, bench.variant
    for _ in range(400):
        lid = bench.run(0.005, torque=1.4 * sense * v.torque)
        assert lid[2] == pytest.approx(v.depth * abs(lid[3]) / v.angle, abs=1e-4)
        if sense * lid[3] > v.angle:
            break
    assert sense * lid[3] > v.angle


@pytest.mark.parametrize("name", PULLS)
def test_pull_lid_stays_below_its_force_and_comes_off_above(name):
    bench = Bench(name)
    weight = bench.variant.mass * 9.81
    assert bench.run(1.0, force=0.9 * bench.variant.force)[2] < 1.5e-4
    assert bench.run(1.0, force=1.2 * bench.variant.force + weight)[2] > bench.variant.depth


@pytest.mark.parametrize("name", [n for n, c in CLOSURES.items() if c.separates])
def test_no_force_of_the_mechanism_remains_after_release(name):
    bench = Bench(name, free=True)
    for constraint in CONSTRAINTS:
        bench.data.eq_active[bench.model.equality(constraint).id] = 0
    bench.data.qpos[bench.q + 2] = 0.4
    bench.data.qpos[bench.q + 3] = 1.0
    bench.run(0.1)
    assert bench.data.qvel[bench.v + 2] == pytest.approx(-0.981, rel=0.01)
    assert np.abs(np.delete(bench.data.qvel[bench.v : bench.v + 6], 2)).max() < 1e-6


@pytest.mark.parametrize("name", CLOSURES)
def test_energy_never_grows_when_untouched(name):
    bench = Bench(name)
    moving = np.flatnonzero(MECHANISMS[CLOSURES[name].mechanism].engaged()[:6] == 0)
    bench.data.qvel[bench.v + moving] = np.where(
        moving >= 3, 0.5, 0.05
    )  # a lid that someone let go while moving it
    if CLOSURES[name].mechanism == "screw":
        bench.data.qvel[bench.v + 2] = 0.0  # the thread moves it
    bench.model.opt.enableflags |= mujoco.mjtEnableBit.mjENBL_ENERGY
    mujoco.mj_forward(bench.model, bench.data)
    first = bench.data.energy.sum()
    top = max(bench.run(0.05) is None or bench.data.energy.sum() for _ in range(20))
    assert top <= first + 1e-5


@pytest.mark.parametrize("height, tilt", [(0.02, 0.0), (0.02, 0.2), (0.15, 0.3), (0.30, 0.3)])
@pytest.mark.parametrize("name", [n for n, c in CLOSURES.items() if c.separates])
def test_a_dropped_lid_gains_no_energy_and_sinks_no_deeper_than_a_step(name, height, tilt):
    bench = Bench(name, free=True)
    for constraint in CONSTRAINTS:
        bench.data.eq_active[bench.model.equality(constraint).id] = 0
    bench.data.qpos[bench.q + 2], bench.data.qpos[bench.q + 4] = height, tilt
    bench.model.opt.enableflags |= mujoco.mjtEnableBit.mjENBL_ENERGY
    mujoco.mj_forward(bench.model, bench.data)
    first, depth, step = bench.data.energy.sum(), 0.0, bench.model.opt.timestep
    for _ in range(400):
        mujoco.mj_step(bench.model, bench.data)
        assert bench.data.energy.sum() <= first + 1e-4
        depth = max(depth, -min(bench.data.contact.dist[: bench.data.ncon], default=0.0))
    fall = (height + 0.2) * 2 * 9.81  # from the lid's seat down to the table
    assert depth < step * fall**0.5 + 0.001


@pytest.mark.parametrize(
    "name", [n for n, c in CLOSURES.items() if c.mechanism not in ("press", "reach")]
)
def test_fingers_do_not_enter_lids(name):
    batch = ClosureBatch((name,), 16)
    ids = np.arange(16)
    batch.reset(ids, np.zeros(16, int), [np.random.default_rng(i) for i in ids])
    for _ in range(50):
        m = batch.measure()
        assert (m["opening"][m["holds"]] > m["grip_radius"][m["holds"]] - 0.003).all()
        batch.step(expert_action(m))


@pytest.mark.parametrize(
    "name", [n for n, c in CLOSURES.items() if c.mechanism not in ("reach", "flip")]
)
def test_a_closed_fist_cannot_be_pressed_through_a_lid(name):
    batch = ClosureBatch((name,), 8)
    ids = np.arange(8)
    batch.reset(ids, np.zeros(8, int), [np.random.default_rng(i) for i in ids])
    for _ in range(50):
        offset = batch.measure()["grip_offset"]
        across = np.clip(
            4 * offset[:, :2] / 0.03, -1, 1
        )  # a hand that yields slides off what is narrow
        down = np.where(np.linalg.norm(offset[:, :2], axis=1) < 0.004, -1.0, 0.0)
        batch.step(np.column_stack([across, down, np.zeros(8), -np.ones(8)]))
    m = batch.measure()
    top = np.array([base_height(v) + v.grip_height - grip_height(v) for v in batch.pool])[
        batch.variant
    ]  # above the held point
    tips = -m["grip_offset"][:, 2] - FINGERTIP
    over = np.linalg.norm(m["grip_offset"][:, :2], axis=1) < 0.02
    assert over.all() or (
        CLOSURES[name].mechanism == "push" and over.any()
    )  # a puck slides from under it
    assert (tips > top - 0.004)[over].all()


@pytest.mark.parametrize("name", CLOSURES)
def test_random_steps_stay_finite(name):
    batch, ids = ClosureBatch((name,), 50), np.arange(50)
    rng = np.random.default_rng(0)
    for _ in range(2):  # 2 x 50 x 100 = 10,000 control steps
        batch.reset(ids, np.zeros(50, int), [np.random.default_rng(i) for i in ids])
        for _ in range(100):
            batch.step(rng.uniform(-1, 1, (50, 5)))
    assert np.isfinite(batch.qpos).all() and np.isfinite(batch.qvel).all()
    assert batch.diverged.sum() == 0


def test_a_diverged_simulation_goes_on_from_before_the_step_at_rest():
    batch, ids = ClosureBatch(("bottle",), 3), np.arange(3)
    batch.reset(ids, np.zeros(3, int), [np.random.default_rng(i) for i in ids])
    before = batch.qpos.copy()
    batch.qvel[1, batch.lid_dof_columns.start] = 1e12
    batch.step(np.tile([0, 0, 0, 0, 1.0], (3, 1)))
    assert list(batch.diverged) == [0, 1, 0]
    assert np.array_equal(batch.qpos[1], before[1]) and not batch.qvel[1].any()
    batch.step(np.tile([0, 0, 0, 0, 1.0], (3, 1)))
    assert list(batch.diverged) == [0, 1, 0] and np.abs(batch.qpos[1] - before[1]).max() < 0.02


FISTS = {"onto": [0.0, 0.0, -1.0], "across": [1.0, 0.0, -0.3], "aside": [0.0, 1.0, -0.3]}


@pytest.mark.parametrize("way", FISTS)
@pytest.mark.parametrize("name", CLOSURES)
def test_fingers_enter_neither_container_nor_lid(name, way):
    """The fist drives at full speed into container and lid, from above and from the side, against every variant."""
    batch, ids = ClosureBatch((name,), 16), np.arange(16)
    batch.reset(ids, np.zeros(16, int), [np.random.default_rng(i) for i in ids])
    models = [build(v).compile() for v in batch.pool]
    data = [mujoco.MjData(m) for m in models]
    drive, deepest = np.array([*FISTS[way], 0.0, -1.0]), 0.0
    for step in range(40):
        action = np.tile(drive, (16, 1))
        if way == "onto":  # over the container's shoulder, or its middle
            aim = batch.measure()["grip_offset"][:, :2] + np.linspace(-1, 1, 16)[:, None] * [
                0.0,
                CLOSURES[name].body[0],
            ]
            action[:, :2] = np.clip(aim / 0.03, -1, 1)
        batch.step(action)
        for i in np.flatnonzero(~batch.released):
            m, d = models[batch.variant[i]], data[batch.variant[i]]
            d.qpos[:], d.mocap_pos[:], d.mocap_quat[:] = (
                batch.qpos[i],
                batch.mocap_pos[i],
                batch.mocap_quat[i],
            )
            mujoco.mj_kinematics(m, d)
            mujoco.mj_comPos(m, d)
            mujoco.mj_collision(m, d)
            for c in d.contact[: d.ncon]:
                bodies = {m.body(m.geom_bodyid[g]).name for g in (c.geom1, c.geom2)}
                if (
                    bodies & {"lid", "container"}
                    and bodies & {"finger_left", "finger_right"}
                    and step > 10
                ):
                    deepest = max(deepest, -c.dist)
    assert deepest < 0.008


def test_heights_fit_the_workspace():
    for closure in CLOSURES.values():
        assert 0.05 < seat_height(closure.draw(np.random.default_rng(0))) < 0.30


@pytest.mark.parametrize(
    "name", [n for n, c in CLOSURES.items() if c.grip == "cap" and c.mechanism != "reach"]
)
def test_a_fist_that_leans_on_a_lid_does_not_hold_it(name):
    """Closed fingers press on the lid from above, over it and beside its middle."""
    batch, ids = ClosureBatch((name,), 16), np.arange(16)
    batch.reset(ids, np.zeros(16, int), [np.random.default_rng(i) for i in ids])
    aside, leaned = (
        np.linspace(-0.8, 0.8, 16)[:, None] * [0.0, 1.0] * CLOSURES[name].grip_radius[0],
        0,
    )
    for step in range(50):
        to, down = (
            batch.measure()["grip_offset"],
            np.full(16, -1.0 if step >= 15 else 0.0),
        )  # once the fist is made
        batch.step(
            np.clip(
                np.column_stack([(to[:, :2] + aside) / 0.03, down, np.zeros(16), -np.ones(16)]),
                -1,
                1,
            )
        )
        m = batch.measure()
        leaned += (m["touch"] > 0.5).all(1).sum()
        assert not m["holds"].any()
    assert leaned > 0  # both fingers did press on it


def test_a_hand_that_is_sent_nowhere_stays_and_yields():
    batch, ids = ClosureBatch(("mug",), 4), np.arange(4)
    batch.reset(ids, np.zeros(4, int), [np.random.default_rng(i) for i in ids])
    push, hand = batch.sim.bind("xfrc_applied"), batch.model.body("hand").id

    def moved(steps, force):
        before = batch.measure()["tcp"]
        push[:, hand, 1] = force
        for _ in range(steps):
            batch.step(np.tile([0.0, 0.0, 0.0, 0.0, 1.0], (4, 1)))
        return batch.measure()["tcp"] - before

    assert np.abs(moved(40, 0.0)).max() < 1e-4  # it does not sag
    assert (moved(5, 20.0)[:, 1] > 5e-3).all()
    assert (moved(5, 0.0)[:, 1] > -1e-4).all()  # nor does it spring back


def test_the_hand_is_moved_by_the_least_squares_of_mujocos_jacobian():
    batch, rng = ClosureBatch(("jar", "valve"), 4, threads=1), np.random.default_rng(0)
    batch.reset(np.arange(4), np.array([0, 1, 0, 1]), [np.random.default_rng(i) for i in range(4)])
    batch.qpos[:, :7] += rng.uniform(-0.1, 0.1, (4, 7))  # hands that lean
    batch.sim.forward(np.arange(4))
    offset, turn = 0.01 * rng.uniform(-1, 1, (4, 3)), rng.uniform(-0.4, 0.4, 4)
    found = batch._joint_steps(np.arange(4), offset, turn)
    for i in range(4):
        data, jac = mujoco.MjData(batch.model), np.zeros((6, batch.model.nv))
        tool = batch._hand.rotation[i]
        data.qpos[:7] = batch.qpos[i, :7]
        mujoco.mj_kinematics(batch.model, data)
        mujoco.mj_comPos(batch.model, data)
        mujoco.mj_jacSite(batch.model, data, jac[:3], jac[3:], batch.model.site("tcp").id)
        jac = jac[:, :7]
        c, s = (
            np.cos(yaw_of(tool[None]) + turn[i]).item(),
            np.sin(yaw_of(tool[None]) + turn[i]).item(),
        )
        lean = (
            np.array([[c, s, 0], [s, -c, 0], [0, 0, -1]]) @ tool.T
        )  # from the tool to where it is wanted, straight down
        error = np.array([*offset[i], *0.5 * (lean - lean.T)[[2, 0, 1], [1, 2, 0]]])
        assert np.abs(error[3:]).min() > 1e-3
        assert found[i] == pytest.approx(
            jac.T @ np.linalg.solve(jac @ jac.T + DAMPING * np.eye(6), error), abs=1e-9
        )
