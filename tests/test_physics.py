"""The laws of the closures' physics, for every row of the table."""

# mujoco's extension modules come without stubs: pyright knows none of their names
# pyright: reportAttributeAccessIssue=false

import mujoco
import numpy as np
import pytest
from rows import OF_EACH_KIND

from uncap.envs import CLOSURES
from uncap.envs.batch import STEP_POSITION, ClosureBatch
from uncap.envs.experts import expert_action
from uncap.envs.mechanisms import CONSTRAINTS, LIFT, MECHANISMS, TILT_X, TWIST
from uncap.envs.robot import DAMPING, HOME, yaw_of
from uncap.envs.scene import FINGERTIP, base_height, build, grip_height

SCREWS = [name for name, c in CLOSURES.items() if c.mechanism == "screw"]
PULLS = [name for name, c in CLOSURES.items() if c.mechanism == "pull"]
TURNING = [name for name, c in CLOSURES.items() if c.mechanism in ("screw", "turn", "bayonet")]
SEPARATING = [name for name, c in CLOSURES.items() if c.separates]
GRAVITY = 9.81  # m/s^2
OPEN_HAND = np.array([0.0, 0.0, 0.0, 0.0, 1.0])  # action of a hand that stays


def other_than(*mechanisms):
    """Names of the rows of all other mechanisms."""
    return [name for name, c in CLOSURES.items() if c.mechanism not in mechanisms]


def started(name, n):
    """A batch of n simulations of a row, at the start of their episodes."""
    batch = ClosureBatch((name,), n)
    start(batch)
    return batch


def start(batch):
    ids = np.arange(batch.n)
    batch.reset(ids, np.zeros(batch.n, int), [np.random.default_rng(i) for i in ids])


class Bench:
    """One variant on MuJoCo's own loop, with the hand away at home."""

    def __init__(self, name, free=False):
        self.variant = CLOSURES[name].draw(np.random.default_rng(7))
        self.model = build(self.variant, free=free).compile()
        self.data = mujoco.MjData(self.model)
        self.data.qpos[:7] = self.data.ctrl[:7] = HOME
        self.data.mocap_pos[0] = [0.45, 0.25, 0.0]  # clear of the hand
        self.body = self.model.body("lid").id
        q = self.model.joint("lid_x").qposadr[0]
        v = self.model.joint("lid_x").dofadr[0]
        self.lid = self.data.qpos[q : q + 6]  # view of the lid's joints (m, rad)
        self.lid_velocity = self.data.qvel[v : v + 6]  # view (m/s, rad/s)
        if free:
            for constraint in CONSTRAINTS:
                self.data.eq_active[self.model.equality(constraint).id] = 0

    def run(self, seconds, force=0.0, torque=0.0):
        """Push the lid up (N) and turn it (N m) for a while; its six joints."""
        self.data.xfrc_applied[self.body] = [0, 0, force, 0, 0, torque]
        for _ in range(round(seconds / self.model.opt.timestep)):
            mujoco.mj_step(self.model, self.data)
        return self.lid

    def watch_energy(self):
        """Have MuJoCo compute the energy from now on; the present one (J)."""
        self.model.opt.enableflags |= mujoco.mjtEnableBit.mjENBL_ENERGY
        mujoco.mj_forward(self.model, self.data)
        return self.energy

    @property
    def energy(self):
        return self.data.energy.sum()


@pytest.mark.parametrize("name", (*CLOSURES, *OF_EACH_KIND))
def test_nothing_moves_by_itself(name):
    assert np.abs(Bench(name).run(5.0)).max() < 1e-4


@pytest.mark.parametrize("name", SCREWS)
def test_closed_screw_holds_thirty_newtons(name):
    lid = Bench(name).run(1.0, force=30.0)
    assert abs(lid[LIFT]) < 1e-4
    assert abs(lid[TWIST]) < 1e-3


@pytest.mark.parametrize("name", TURNING)
def test_turns_above_its_breakaway_torque_only(name):
    bench = Bench(name)
    sense = CLOSURES[name].direction
    breakaway = sense * bench.variant.torque
    assert abs(bench.run(0.3, torque=0.7 * breakaway)[TWIST]) < 1e-3
    assert sense * bench.run(0.3, torque=1.4 * breakaway)[TWIST] > 0.3


@pytest.mark.parametrize("name", TURNING)
def test_a_closed_lid_cannot_be_turned_further_shut(name):
    bench = Bench(name)
    sense = CLOSURES[name].direction
    twist = bench.run(0.5, torque=-3 * sense * bench.variant.torque)[TWIST]
    assert -0.03 < sense * twist < 1e-3


@pytest.mark.parametrize("name", SCREWS)
def test_lift_is_pitch_times_angle(name):
    bench = Bench(name)
    sense = CLOSURES[name].direction
    variant = bench.variant
    for _ in range(400):
        lid = bench.run(0.005, torque=1.4 * sense * variant.torque)
        expected = variant.depth * abs(lid[TWIST]) / variant.angle
        assert lid[LIFT] == pytest.approx(expected, abs=1e-4)
        if sense * lid[TWIST] > variant.angle:
            break
    assert sense * lid[TWIST] > variant.angle


@pytest.mark.parametrize("name", PULLS)
def test_pull_lid_stays_below_its_force_and_comes_off_above(name):
    bench = Bench(name)
    variant = bench.variant
    weight = variant.mass * GRAVITY
    assert bench.run(1.0, force=0.9 * variant.force)[LIFT] < 1.5e-4
    assert bench.run(1.0, force=1.2 * variant.force + weight)[LIFT] > variant.depth


@pytest.mark.parametrize("name", SEPARATING)
def test_no_force_of_the_mechanism_remains_after_release(name):
    bench = Bench(name, free=True)
    bench.lid[LIFT] = 0.4
    bench.lid[TWIST] = 1.0
    bench.run(0.1)
    assert bench.lid_velocity[LIFT] == pytest.approx(-0.1 * GRAVITY, rel=0.01)
    assert np.abs(np.delete(bench.lid_velocity, LIFT)).max() < 1e-6


@pytest.mark.parametrize("name", (*CLOSURES, *OF_EACH_KIND))
def test_energy_never_grows_when_untouched(name):
    bench = Bench(name)
    mechanism = MECHANISMS[CLOSURES[name].mechanism]
    for joint in mechanism.free:  # a lid that someone let go while moving it
        bench.lid_velocity[joint] = 0.5 if joint >= TWIST else 0.05
    if mechanism.threaded:
        bench.lid_velocity[LIFT] = 0.0  # the thread moves it
    first = bench.watch_energy()
    for _ in range(20):
        bench.run(0.05)
        assert bench.energy <= first + 1e-5


@pytest.mark.parametrize("height, tilt", [(0.02, 0.0), (0.02, 0.2), (0.15, 0.3), (0.30, 0.3)])
@pytest.mark.parametrize("name", SEPARATING)
def test_a_dropped_lid_gains_no_energy_and_sinks_no_deeper_than_a_step(name, height, tilt):
    bench = Bench(name, free=True)
    bench.lid[LIFT] = height
    bench.lid[TILT_X] = tilt
    first = bench.watch_energy()
    deepest = 0.0
    for _ in range(400):
        mujoco.mj_step(bench.model, bench.data)
        assert bench.energy <= first + 1e-4
        distances = bench.data.contact.dist[: bench.data.ncon]
        deepest = max(deepest, -min(distances, default=0.0))
    fall = height + 0.2  # m, from above the lid's seat down to the table
    speed = (2 * GRAVITY * fall) ** 0.5  # m/s
    assert deepest < speed * bench.model.opt.timestep + 0.001


@pytest.mark.parametrize("name", other_than("press", "reach"))
def test_fingers_do_not_enter_lids(name):
    batch = started(name, 16)
    for _ in range(50):
        measured = batch.measure()
        holds = measured["holds"]
        assert (measured["opening"][holds] > measured["grip_radius"][holds] - 0.003).all()
        batch.step(expert_action(measured))


@pytest.mark.parametrize("name", other_than("reach", "flip"))
def test_a_closed_fist_cannot_be_pressed_through_a_lid(name):
    batch = started(name, 8)
    action = np.zeros((8, 5))
    action[:, 4] = -1.0  # closed
    for _ in range(50):
        offset = batch.measure()["grip_offset"]
        # a compliant hand slides off what is narrow: keep it over the axis
        action[:, :2] = np.clip(4 * offset[:, :2] / STEP_POSITION, -1, 1)
        centred = np.linalg.norm(offset[:, :2], axis=1) < 0.004
        action[:, 2] = np.where(centred, -1.0, 0.0)
        batch.step(action)
    offset = batch.measure()["grip_offset"]
    over = np.linalg.norm(offset[:, :2], axis=1) < 0.02
    # a puck slides from under it
    assert over.all() or (CLOSURES[name].mechanism == "push" and over.any())
    tops = [base_height(v) + v.grip_height - grip_height(v) for v in batch.pool]
    top = np.array(tops)[batch.variant]  # (8,) m above the held point
    tips = -offset[:, 2] - FINGERTIP  # (8,) m above the held point
    assert (tips > top - 0.004)[over].all()


@pytest.mark.parametrize("name", CLOSURES)
def test_random_steps_stay_finite(name):
    batch = ClosureBatch((name,), 50)
    rng = np.random.default_rng(0)
    for _ in range(2):  # 2 x 50 x 100 = 10,000 control steps
        start(batch)
        for _ in range(100):
            batch.step(rng.uniform(-1, 1, (50, 5)))
    assert np.isfinite(batch.qpos).all()
    assert np.isfinite(batch.qvel).all()
    assert batch.diverged.sum() == 0


def test_a_diverged_simulation_goes_on_from_before_the_step_at_rest():
    batch = started("bottle", 3)
    before = batch.qpos.copy()
    stay = np.tile(OPEN_HAND, (3, 1))
    batch.qvel[1, batch.lid_dof_columns.start] = 1e12
    batch.step(stay)
    assert list(batch.diverged) == [0, 1, 0]
    assert np.array_equal(batch.qpos[1], before[1])
    assert not batch.qvel[1].any()
    batch.step(stay)
    assert list(batch.diverged) == [0, 1, 0]
    assert np.abs(batch.qpos[1] - before[1]).max() < 0.02


class Overlaps:
    """How deep fingers are in closed lids and containers, by MuJoCo's own collision functions."""

    PARTS = {"lid", "container"}
    FINGERS = {"finger_left", "finger_right"}

    def __init__(self, batch):
        self.batch = batch
        self.models = [build(variant).compile() for variant in batch.pool]
        self.data = [mujoco.MjData(model) for model in self.models]

    def deepest(self):
        """Of all simulations whose lid is held (m)."""
        held = np.flatnonzero(~self.batch.released)
        return max((self._of_simulation(i) for i in held), default=0.0)

    def _of_simulation(self, i):
        model = self.models[self.batch.variant[i]]
        data = self.data[self.batch.variant[i]]
        data.qpos[:] = self.batch.qpos[i]
        data.mocap_pos[:] = self.batch.mocap_pos[i]
        data.mocap_quat[:] = self.batch.mocap_quat[i]
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_collision(model, data)
        depths = [-c.dist for c in data.contact[: data.ncon] if self._counts(model, c)]
        return max(depths, default=0.0)

    def _counts(self, model, contact):
        geoms = (contact.geom1, contact.geom2)
        bodies = {model.body(model.geom_bodyid[geom]).name for geom in geoms}
        return bodies & self.PARTS and bodies & self.FINGERS


FISTS = {"onto": [0.0, 0.0, -1.0], "across": [1.0, 0.0, -0.3], "aside": [0.0, 1.0, -0.3]}


@pytest.mark.parametrize("way", FISTS)
@pytest.mark.parametrize("name", CLOSURES)
def test_fingers_enter_neither_container_nor_lid(name, way):
    """The fist drives at full speed into containers and lids, from above and from the side."""
    batch = started(name, 16)
    overlaps = Overlaps(batch)
    # over the container's shoulder, or its middle
    aside = np.linspace(-1, 1, 16)[:, None] * [0.0, CLOSURES[name].body[0]]  # (16, 2) m
    action = np.tile([*FISTS[way], 0.0, -1.0], (16, 1))
    deepest = 0.0
    for step in range(40):
        if way == "onto":
            aim = batch.measure()["grip_offset"][:, :2] + aside
            action[:, :2] = np.clip(aim / STEP_POSITION, -1, 1)
        batch.step(action)
        if step > 10:
            deepest = max(deepest, overlaps.deepest())
    assert deepest < 0.008


def test_heights_fit_the_workspace():
    for closure in CLOSURES.values():
        assert 0.05 < closure.seat_height < 0.30


@pytest.mark.parametrize("name", [n for n in other_than("reach") if CLOSURES[n].grip == "cap"])
def test_a_fist_that_leans_on_a_lid_does_not_hold_it(name):
    """Closed fingers press on the lid from above, over it and beside its middle."""
    batch = started(name, 16)
    aside = np.linspace(-0.8, 0.8, 16)[:, None] * [0.0, CLOSURES[name].grip_radius[0]]  # (16, 2) m
    action = np.zeros((16, 5))
    action[:, 4] = -1.0  # closed
    leaned = 0
    for step in range(50):
        aim = batch.measure()["grip_offset"][:, :2] + aside
        action[:, :2] = np.clip(aim / STEP_POSITION, -1, 1)
        action[:, 2] = -1.0 if step >= 15 else 0.0  # once the fist is made
        batch.step(action)
        measured = batch.measure()
        leaned += (measured["touch"] > 0.5).all(1).sum()
        assert not measured["holds"].any()
    assert leaned > 0  # both fingers did press on it


def test_a_hand_that_is_sent_nowhere_stays_and_yields():
    batch = started("mug", 4)
    push = batch.sim.bind("xfrc_applied")
    hand = batch.model.body("hand").id

    def moved(steps, force):
        """How far (m) the hands move while they are pushed along y (N)."""
        before = batch.measure()["tcp"]
        push[:, hand, 1] = force
        for _ in range(steps):
            batch.step(np.tile(OPEN_HAND, (4, 1)))
        return batch.measure()["tcp"] - before

    assert np.abs(moved(40, 0.0)).max() < 1e-4  # it does not sag
    assert (moved(5, 20.0)[:, 1] > 5e-3).all()
    assert (moved(5, 0.0)[:, 1] > -1e-4).all()  # nor does it spring back


def arm_jacobian(model, arm):
    """MuJoCo's Jacobian (6, 7) of the tool, translation over rotation, at joint angles (7,)."""
    data = mujoco.MjData(model)
    data.qpos[:7] = arm
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    jacobian = np.zeros((6, model.nv))
    mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], model.site("tcp").id)
    return jacobian[:, :7]


def rotation_error(tool, turn):
    """Rotation vector (3,) from a tool (3, 3) to one straight down, turned by so much (rad)."""
    yaw = yaw_of(tool[None]).item() + turn
    cos, sin = np.cos(yaw), np.sin(yaw)
    wanted = np.array([[cos, sin, 0], [sin, -cos, 0], [0, 0, -1]])
    lean = wanted @ tool.T
    return 0.5 * (lean - lean.T)[[2, 0, 1], [1, 2, 0]]  # for small angles


def test_the_hand_is_moved_by_the_least_squares_of_mujocos_jacobian():
    n = 4
    ids = np.arange(n)
    batch = ClosureBatch(("jar", "valve"), n, threads=1)
    batch.reset(ids, ids % 2, [np.random.default_rng(i) for i in ids])
    rng = np.random.default_rng(0)
    batch.qpos[:, :7] += rng.uniform(-0.1, 0.1, (n, 7))  # hands that lean
    batch.sim.forward(ids)
    offset = 0.01 * rng.uniform(-1, 1, (n, 3))  # m
    turn = rng.uniform(-0.4, 0.4, n)  # rad
    found = batch._joint_steps(ids, offset, turn)
    for i in ids:
        jacobian = arm_jacobian(batch.model, batch.qpos[i, :7])
        error = np.array([*offset[i], *rotation_error(batch._hand.rotation[i], turn[i])])
        assert np.abs(error[3:]).min() > 1e-3
        damped = jacobian @ jacobian.T + DAMPING * np.eye(6)
        expected = jacobian.T @ np.linalg.solve(damped, error)
        assert found[i] == pytest.approx(expected, abs=1e-9)
