"""The control step on tensors is the CPU's: compared after every step of the same episodes.

The CPU's batch plays; the tensors are given its actions, and its state after the physics. Numbers
of 64 bits must agree to 1e-9. Of those of 32 bits, one world in a thousand may differ by more than
1e-5 after a step: where a rule has a threshold and its quantity lies on it, rounding decides.
"""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from rows import COMPOSED
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from uncap.envs import CLOSURES, ClosureVectorEnv, conditioning, observations, rewards, robot
from uncap.envs.batch import STAGE_FIELDS, ClosureBatch, leashed, within_walls
from uncap.envs.device.arrays import TensorArray, tensor_of, wrapped
from uncap.envs.device.closures import DeviceClosures
from uncap.envs.device.fusing import traced
from uncap.envs.device.starts import DERIVED, STATE, Starts, numbers_of
from uncap.envs.device.step import DeviceStep
from uncap.envs.episodes import EpisodeTracker, Squeeze
from uncap.envs.experts import MOVES, Move, expert_action
from uncap.envs.models import MODELS
from uncap.envs.panda import ARM_RANGE, STEP_POSITION, STEP_YAW
from uncap.envs.rewards import REWARDS, Reward
from uncap.envs.scene import SUBSTEPS
from uncap.envs.warp_scene import FAR

ROWS = (*CLOSURES, *COMPOSED[::3])
STEPS = 80
RESTART_AT = 60  # of every third world, which gets another variant
# Fields that MuJoCo Warp has for all worlds together
NOT_PER_WORLD = ("geom_type", "jnt_limited", "dof_length", "bvh_aabb", "dof_M0")
WARP_SHAPES = {"site_xmat": (-1, 3, 3), "geom_aabb": (-1, 2, 3)}
FORMS = {"as MuJoCo": torch.float64, "as Warp": torch.float32}


class Played:
    """A batch of the CPU with what its environment remembers, step by step."""

    def __init__(self, rows, each, level="default"):
        n = each * len(rows)
        self.batch = ClosureBatch(rows, n, threads=1, variants=2, level=level, wrist=True)
        self.n = n
        self.task = np.arange(n) % len(rows)
        self.rngs = [np.random.default_rng(i) for i in range(n)]
        self.push = None  # (n, 3) N, of the last control step
        self.tracker = EpisodeTracker(n)
        self.squeeze = Squeeze(n)
        self._pushes = self.batch.variation.pushes
        self.batch.variation.pushes = self._keep_pushes
        names = (*STATE, *DERIVED, "eq_active", "xfrc_applied")
        self.host = {name: self.batch.sim.bind(name) for name in names} | self.batch._expanded
        self.after_physics = {}
        self._rest_untouched = self.batch._rest_untouched
        self.batch._rest_untouched = self._keep_and_rest
        self.reset(np.arange(n))

    def _keep_and_rest(self):
        self.after_physics = {name: self.host[name].copy() for name in (*STATE, *DERIVED)}
        self._rest_untouched()

    def _keep_pushes(self):
        self.push = self._pushes()
        return self.push

    def reset(self, ids):
        self.batch.reset(ids, self.task[ids], [self.rngs[i] for i in ids])
        self.tracker.restart(ids)
        self.squeeze.restart(ids)

    def measure(self):
        measured = self.batch.measure() | self.batch.measure_arm()
        measured["moved"] = self.squeeze.update(measured)
        return measured

    def count(self, measured, running):
        self.tracker.steps += running
        self.tracker.update(measured, running)


class Compared:
    """A `DeviceStep` beside it, and how far each of its values was off, world by world."""

    def __init__(self, played, floats, as_warp):
        self.played = played
        self.as_warp = as_warp
        self.off = {}  # what -> a list of (n,)
        self.arrays = {}
        for name, value in played.host.items():
            if as_warp and name in NOT_PER_WORLD:
                continue
            shape = WARP_SHAPES.get(name, value.shape[1:]) if as_warp else value.shape[1:]
            dtype = {"f": floats, "i": torch.int32}.get(value.dtype.kind, torch.bool)
            empty = torch.zeros(value.shape, dtype=dtype)
            self.arrays[name] = empty.reshape(played.n, *shape)
        self.arrays["eq_active"][:, 0] = 1  # the fingers', which is the engine's
        self.floats = floats
        fields = self.fields() if as_warp else None
        self.step = DeviceStep(played.batch, self.arrays, sensors="arm", fields=fields)
        self.restart(np.ones(played.n, bool))

    def fields(self):
        """The variants' model fields as MuJoCo Warp has them: joints have stops in all worlds."""
        tables = dict(MODELS.fields(self.played.batch.pool, STAGE_FIELDS))
        limited = tables["jnt_limited"][..., None]
        tables["jnt_range"] = np.where(limited, tables["jnt_range"], (-FAR, FAR))
        return tables

    def restart(self, chosen):
        starts = Starts(numbers_of(self.played.batch), self.arrays)
        self.step.restart(torch.as_tensor(chosen), starts, torch.arange(self.played.n))

    def tensor(self, values):
        dtype = self.floats if values.dtype.kind == "f" else None
        return torch.as_tensor(values, dtype=dtype)

    def control(self, action):
        """Send the action; pushes are those of the CPU."""
        if self.played.push is not None:
            push, draws = self.played.push, self.step.draws.uniform
            draws[:, 0] = torch.as_tensor(1.0 * ~push.any(1))
            draws[:, 1] = torch.as_tensor((np.arctan2(push[:, 1], push[:, 0]) / np.pi + 1) / 2)
        self.step.control(self.tensor(action))

    def given(self, state):
        for name, values in state.items():
            if name in self.arrays:
                self.arrays[name].copy_(self.tensor(values).reshape(self.arrays[name].shape))

    def compare(self, what, got, want):
        got = got.tensor if isinstance(got, TensorArray) else got
        got = np.asarray(got, float).reshape(len(want), -1)
        want = np.asarray(want, float).reshape(len(want), -1)
        off = np.abs(got - want) / np.maximum(1, np.abs(want))
        self.off.setdefault(what, []).append(np.nan_to_num(off, nan=np.inf).max(1, initial=0))

    def compare_arrays(self):
        for name, array in self.arrays.items():
            want = self.played.host[name]
            if self.as_warp and name == "jnt_range":
                limited = self.played.host["jnt_limited"].astype(bool)[..., None]
                want = np.where(limited, want, (-FAR, FAR))
            self.compare(name, array, want)

    def compare_lids(self):
        batch, lids = self.played.batch, self.step.lids
        for name in ("variant", "touched", "released", "stage"):
            self.compare(name, getattr(lids, name), getattr(batch, name))
        # elsewhere it is not read, and the batch keeps an old one
        offset = batch._thread_offset * batch.now["threaded"] * (batch.stage > 0)
        self.compare("thread_offset", lids.thread_offset * lids.now["threaded"], offset)

    def compare_measured(self, measured, got):
        for name, want in measured.items():
            if name == "pays":
                for term in rewards.TERMS:
                    self.compare(f"pays {term}", got["pays"][term], want[term])
            elif name == "bar_yaw_offset":  # a bar looks the same after half a turn
                self.compare(name, np.cos(2 * got[name]), np.cos(2 * want))
                self.compare(name, np.sin(2 * got[name]), np.sin(2 * want))
            else:
                self.compare(name, got[name], want)

    def compare_episodes(self, measured):
        step, tracker = self.step, self.played.tracker
        for name, want in vars(tracker).items():
            self.compare(name, getattr(step.episodes, name), want)
        self.compare("success", step.success, tracker.success)
        terms = rewards.reward_terms(measured, tracker.held_progress, tracker.success)
        reward, info = step.paid()
        for name in rewards.TERMS:
            self.compare(f"term {name}", info[name], terms[name])
        self.compare("reward", reward, rewards.total(terms))
        for sensors in ("full", "arm"):
            want = observations.observe(measured, tracker.held_progress, sensors=sensors)
            self.compare(f"observed {sensors}", step.observe(sensors), want)
        for name in ("stages", "parameters"):
            vectors = conditioning.vectors(name, self.played.batch.names)
            want = conditioning.told(vectors, self.played.task, self.played.batch.present_stage())
            self.compare(f"told {name}", step.told(torch.as_tensor(vectors)), want)


def play(rows, each, forms, level="default", steps=STEPS):
    """Episodes of noisy experts, in which `Compared` of every form look on; and what happened."""
    played = Played(rows, each, level)
    compared = {form: Compared(played, FORMS[form], form == "as Warp") for form in forms}
    noise = np.random.default_rng(0)
    happened = {"stages": [], "released": [], "success": [], "shut again": [], "grip": []}
    measured = played.measure()
    for each_form in compared.values():
        each_form.compare_measured(measured, each_form.step.measure())
    for k in range(steps):
        action = expert_action(measured)
        rough = noise.normal(size=action.shape) * (noise.random((played.n, 1)) < 0.3)
        action = np.clip(action + 0.3 * rough, -1, 1)
        if k % 20 < 10:  # some turn back what must stay turned
            back = measured["holds"] & measured["keeps_twist"]
            action[back, :3] = 0.0
            action[back, 3] = -np.sign(measured["twist_end"][back])
        before = played.batch.stage.copy()
        played.batch.step(action)
        happened["shut again"].append(played.batch.stage < before)
        chosen = np.zeros(played.n, bool)
        chosen[::3] = k == RESTART_AT
        for each_form in compared.values():
            each_form.control(action)
            each_form.compare("ctrl", each_form.arrays["ctrl"], played.batch.ctrl)
            each_form.given(played.after_physics)
            each_form.step.after_physics()
        if chosen.any():
            played.reset(np.flatnonzero(chosen))
        measured = played.measure()
        played.count(measured, ~chosen)
        for each_form in compared.values():
            if chosen.any():
                each_form.restart(chosen)
            each_form.compare_arrays()
            each_form.compare_lids()
            each_form.compare_measured(measured, each_form.step.measure())
            each_form.step.count(torch.as_tensor(~chosen))
            each_form.compare_episodes(measured)
            each_form.compare("expert", each_form.step.expert(), expert_action(measured))
        happened["stages"].append(played.batch.stage.copy())
        happened["released"].append(played.batch.released.copy())
        happened["success"].append(played.tracker.success)
        happened["grip"].append(measured["holds"])
    return compared, {what: np.array(values) for what, values in happened.items()}


@pytest.fixture(scope="module")
def episodes():
    return play(ROWS, 2, FORMS)


def check(compared, floats):
    assert len(compared.off) > 100
    off = {what: np.array(values) for what, values in compared.off.items()}  # (steps, n) each
    if floats == torch.float32:
        shares = {what: np.mean(values > 1e-5) for what, values in off.items()}
        assert {what: share for what, share in shares.items() if share > 1e-3} == {}
    else:
        # the CPU's observations have 32 bits
        limits = {what: 1e-6 if what.startswith("observed") else 1e-9 for what in off}
        worst = {what: values.max() for what, values in off.items()}
        assert {what: most for what, most in worst.items() if most > limits[what]} == {}


@pytest.mark.parametrize("form", FORMS)
def test_every_row_is_the_same_on_tensors(episodes, form):
    check(episodes[0][form], FORMS[form])


def test_all_that_can_happen_to_a_lid_has_happened(episodes):
    happened = episodes[1]
    assert {0, 1, 2} <= set(happened["stages"].ravel())
    assert happened["shut again"].any()
    let_go = happened["grip"][:-1] & ~happened["grip"][1:]
    assert let_go.any()
    for what in ("released", "success"):
        share = happened[what][RESTART_AT - 1].mean()
        assert 0.2 < share < 0.9


@pytest.mark.parametrize("level", ("randomised", "tilted"))
def test_variation_is_the_same_on_tensors(level):
    compared, _ = play(("jar", "radiator-cap", "pump", "valve"), 3, ("as MuJoCo",), level, steps=30)
    check(compared["as MuJoCo"], torch.float64)


def test_hands_anywhere_are_sent_alike():
    """Arms in any pose: walls, leashes and the ranges of joints act, which experts hardly meet."""
    n = 256
    played = Played(("reach",), n)
    batch = played.batch
    rng = np.random.default_rng(0)
    batch.qpos[:, robot.ARM] = rng.uniform(*ARM_RANGE.T, size=(n, 7))
    batch.sim.forward(np.arange(n))
    compared = Compared(played, torch.float64, as_warp=False)
    action = rng.uniform(-1, 1, (n, 5))
    offsets = STEP_POSITION * action[:, :3]
    ahead = batch._joint_steps(np.arange(n), offsets, STEP_YAW * action[:, 3])
    compared.step.control(torch.as_tensor(action))
    batch.step(action)
    compared.compare("ctrl", compared.arrays["ctrl"], batch.ctrl)
    assert np.max(compared.off["ctrl"]) < 1e-9
    hand = compared.arrays["site_xpos"][:, batch.model.site("tcp").id].numpy()
    assert (within_walls(offsets, hand) != offsets).any(1).mean() > 0.1
    assert (leashed(ahead) != ahead).any(1).mean() > 0.1
    assert (batch.ctrl[:, robot.ARM] == ARM_RANGE[:, 0]).any()


class Calls(TorchDispatchMode):
    """Notes on which devices the tensors of every call of torch are."""

    def __init__(self):
        super().__init__()
        self.devices = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
        self.devices.append({tensor.device.type for tensor in tensors})
        return result


class Small:
    """A `DeviceStep` of few worlds, without physics."""

    def __init__(self, device="cpu", level="default"):
        self.played = Played(("bottle", "radiator-cap", "pump", "puck"), 2, level)
        n = self.played.n
        compared = Compared(self.played, torch.float32, as_warp=True)
        self.arrays = {name: array.to(device) for name, array in compared.arrays.items()}
        self.step = DeviceStep(self.played.batch, self.arrays, "arm", fields=compared.fields())
        self.starts = Starts(numbers_of(self.played.batch), self.arrays)
        self.which = torch.arange(n, device=device)
        vectors = conditioning.vectors("stages", self.played.batch.names)
        self.vectors = torch.as_tensor(vectors, device=device)
        self.step.restart(torch.ones(n, dtype=torch.bool, device=device), self.starts, self.which)
        self.step.measure()

    def control(self, action):
        self.step.control(action)

    def after(self, running):
        """What follows the physics; those that are not running restart."""
        step = self.step
        step.after_physics()
        step.restart(~running, self.starts, self.which)
        step.measure()
        step.count(running)
        observed = step.observe(), step.observe("full"), step.told(self.vectors)
        reward, info = step.paid()
        return *observed, reward, *info.values(), step.expert()


@pytest.mark.parametrize("level", ("default", "randomised"))
def test_no_value_is_looked_at_and_nothing_comes_from_the_host(level):
    """Tensors of the device `meta` have shapes, but no values: a branch on one fails."""
    small = Small("meta", level)
    action = torch.zeros(small.played.n, 5, device="meta")
    running = torch.ones(small.played.n, dtype=torch.bool, device="meta")
    for _ in range(2):  # constants are copied once, in the first step
        with Calls() as calls:
            small.control(action)
            small.after(running)
    assert len(calls.devices) > 500
    assert {"meta"} == set().union(*calls.devices)


def test_a_recorded_step_can_be_replayed():
    """What is remembered stays in its memory, as in a CUDA graph, which repeats the same calls."""
    played = Played(("bottle", "radiator-cap", "pump", "puck"), 2)
    small, other = Small(), Small()
    action = torch.zeros(played.n, 5)
    running = torch.ones(played.n, dtype=torch.bool)
    control = traced(small.control, action)
    after = traced(small.after, running)
    other.control(action)
    other.after(running)  # to trace is to run
    for k in range(60):
        action = expert_action(played.measure())
        played.batch.step(action)
        running[::3] = k != 50
        for one in (small, other):
            for name, array in one.arrays.items():
                if name in played.after_physics:
                    values = torch.as_tensor(played.after_physics[name])
                    array.copy_(values.reshape(array.shape))
        control(torch.as_tensor(action, dtype=torch.float32))
        other.control(torch.as_tensor(action, dtype=torch.float32))
        for got, want in zip(after(running), other.after(running), strict=True):
            assert torch.equal(got, want)
        for name, want in other.arrays.items():
            assert torch.equal(small.arrays[name], want), name
    assert other.step.lids.released.tensor.any()
    assert other.step.success.any()


def floats(*shape):
    return np.random.default_rng(0).normal(size=shape)


@pytest.mark.parametrize(
    "formula",
    (
        lambda a, b: np.where(a > 0, 0.1, 0.3),
        lambda a, b: np.minimum(0.5, np.maximum(a, b)) - np.minimum(a, 0.2),
        lambda a, b: (a > 0) * 0.9 + 0.1 * (b > 0) - (a > b).astype(int) / 7,
        lambda a, b: np.einsum("ij,ij->i", a, b),
        lambda a, b: np.einsum("ij,kj->ki", a, b),
        lambda a, b: np.arctan2(a, 2.0) + np.hypot(3.0, b),
        lambda a, b: np.stack([a[:, 0], a[:, 1] > 0], 1),
        lambda a, b: (a * 7) % 2.0 + np.floor(b) + np.round(a * 3) + np.sign(b),
        lambda a, b: np.cross(a, np.array([1.0, 2.0, 3.0])) + np.array([1.0, 2.0, 3.0]) / b,
        lambda a, b: np.clip(a, -0.1, 0.2).max(1) - b.min(1) + a.mean(1) * b.sum(1),
        lambda a, b: np.max(np.abs(a), axis=1, keepdims=True) ** 2,
        lambda a, b: np.concatenate((a, b), 1).astype(int) + (a[:, :1] > b[:, :1]).astype(float),
        lambda a, b: np.linalg.norm(np.zeros_like(a) + b, axis=1) + np.sqrt(np.exp(a[:, 0])),
        lambda a, b: np.take_along_axis(a, (b[:, :1] > 0).astype(int), 1) == a,
    ),
)
def test_a_formula_gives_the_same_numbers_of_tensors(formula):
    a, b = floats(2, 5, 3)
    want = formula(a.copy(), b.copy())
    got = formula(*(wrapped(torch.as_tensor(x.copy()), torch.float64) for x in (a, b)))
    assert tuple(got.shape) == want.shape
    assert tensor_of(got).numpy().dtype.kind == want.dtype.kind
    np.testing.assert_allclose(tensor_of(got).numpy(), want, rtol=1e-13, atol=1e-15)


def test_arrays_are_written_in_place():
    tensor = torch.zeros(4, 3)
    array = wrapped(tensor, torch.float32)
    mask = wrapped(torch.tensor([True, False, True, False]), torch.float32)
    array[mask] = 1.0
    array[mask, 2] = 2.0
    array[:, 1] = wrapped(torch.arange(4.0), torch.float32)
    array += 1
    np.copyto(array[:, 0], 9.0, where=~mask)
    assert tensor.tolist() == [[2, 1, 3], [9, 2, 1], [2, 3, 3], [9, 4, 1]]


def test_what_cannot_stay_on_the_device_is_refused():
    array = wrapped(torch.ones(3), torch.float32)
    for formula in (
        lambda: 1 if array > 0 else 0,
        lambda: array[array > 0],
        lambda: np.flatnonzero(array),
        lambda: np.add.reduce(array),
    ):
        with pytest.raises(TypeError, match="device"):
            formula()


def test_a_reward_and_a_move_of_ones_own_run_on_tensors(monkeypatch):
    def own(info):
        return np.where(info["reach"] > 0.1, info["grasp"], 0.5)

    def wave(measured, mine, plan):
        plan.turn[mine] = 0.1
        plan.move[mine, 2] = 0.03

    monkeypatch.setitem(REWARDS, "own", Reward(own, ""))
    monkeypatch.setitem(MOVES, "wave", Move(wave, lambda measured: measured["at_mark"]))
    played = Played(("reach", "mug"), 2)
    compared = Compared(played, torch.float64, as_warp=False)
    compared.step = step = DeviceStep(played.batch, compared.arrays, reward="own")
    compared.restart(np.ones(played.n, bool))
    step.measure()
    measured = played.measure()
    terms = rewards.reward_terms(measured, played.tracker.held_progress, played.tracker.success)
    reward, _ = step.paid()
    assert np.allclose(reward, own(terms))
    action = expert_action(measured)
    assert (action[::2, 2:4] == (1.0, 0.25)).all()
    assert np.allclose(step.expert(), action)


def test_the_environments_do_not_load_torch():
    code = "import sys, uncap.envs.vector_env; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class OnMuJoCo:
    """An engine for `DeviceClosures`: MuJoCo on the CPU, whose memory the tensors are."""

    fields = None

    def __init__(self, batch):
        self._sim = batch.sim
        self.arrays = {}
        names = (*STATE, *DERIVED, "eq_active", "xfrc_applied")
        for name, array in (
            {name: batch.sim.bind(name) for name in names} | batch._expanded
        ).items():
            array.flags.writeable = True
            self.arrays[name] = torch.from_numpy(array)

    def step(self):
        self._sim.step(SUBSTEPS)

    def check(self):
        pass

    def captured(self, advance):
        return advance


def closures_on_mujoco(rows, n, level="default", disturb=None, **choices):
    wrist = choices.get("sensors", "full") != "full"
    batch = ClosureBatch(rows, n, threads=1, level=level, disturb=disturb, wrist=wrist)
    return DeviceClosures(batch, OnMuJoCo(batch), **choices)


def test_episodes_on_tensors_are_those_of_the_vector_environment():
    rows, each = ("bottle", "radiator-cap", "flip-mug", "puck"), 3
    n = each * len(rows)
    env = ClosureVectorEnv(rows, n, threads=1, conditioning="stages")
    closures = closures_on_mujoco(rows, n, told="stages", starts=each, expert=True)
    want, _ = env.reset(seed=0)
    in_rows = np.argsort(env.task, kind="stable")
    starts = {name: values[in_rows] for name, values in numbers_of(env.batch).items()}
    closures._starts = Starts(starts, closures._engine.arrays)
    got, _ = closures.reset()
    noise = np.random.default_rng(0)
    for k in range(80):
        for name in want:
            np.testing.assert_allclose(got[name], want[name], atol=1e-6)
        action = expert_action(env.batch.measure()) + 0.1 * noise.normal(size=(n, 5))
        action[0, 0] = np.nan if k == 3 else 0.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            want, reward, _, truncated, info = env.step(action)
        got, got_reward, got_terminated, got_truncated, got_info = closures.step(
            torch.as_tensor(action)
        )
        np.testing.assert_allclose(got_reward, reward, atol=1e-6)
        assert np.array_equal(got_truncated, truncated)
        assert not got_terminated.any()
        for name in info:
            np.testing.assert_allclose(got_info[name], info[name], atol=1e-6)
        np.testing.assert_allclose(
            got_info["expert"], expert_action(env.batch.measure()), atol=1e-6
        )
    assert info["success"].any() and info["invalid_action"].sum() == 1
    assert truncated.any() and not truncated.all()
    got, got_reward, _, _, got_info = closures.step(torch.as_tensor(action))
    assert (got_info["steps"][truncated] == 0).all() and (got_reward[truncated] == 0).all()
    assert (got_info["steps"][~truncated] == 81).all()
    assert np.array_equal(got_info["progress"][truncated], np.zeros(truncated.sum()))


def test_starts_are_taken_in_turn():
    rows, n = ("bottle", "mug"), 5
    closures = closures_on_mujoco(rows, n, starts=4)
    assert (closures.task == torch.tensor([0, 1, 0, 1, 0])).all()
    met = []
    for _ in range(3):
        which = closures.task * 4 + closures._turns._next % 4
        met.append(which.tolist())
        closures.reset()
    # the constructor took the first: of three worlds of a row, and of two
    assert met == [[3, 6, 0, 7, 1], [2, 4, 3, 5, 0], [1, 6, 2, 7, 3]]


def test_a_world_that_diverges_is_put_back_at_rest():
    small = Small()
    running = torch.ones(small.played.n, dtype=torch.bool)
    action = torch.full((small.played.n, 5), 0.3)
    small.arrays["qvel"][:] = 0.5
    small.control(action)
    before = {name: array.clone() for name, array in small.arrays.items()}
    for name in ("qpos", "qvel", "site_xpos", "sensordata"):
        small.arrays[name] += 0.01
        small.arrays[name][2] = torch.nan
    small.arrays["qvel"][5, 0] = 1e11
    small.after(running)
    assert small.step.episodes.divergences.tensor.tolist() == [0, 0, 1, 0, 0, 1, 0, 0]
    for world in (2, 5):
        assert torch.equal(small.arrays["qpos"][world], before["qpos"][world])
        assert torch.equal(small.arrays["site_xpos"][world], before["site_xpos"][world])
        assert (small.arrays["qvel"][world] == 0).all()
    assert torch.equal(small.arrays["site_xpos"][1], before["site_xpos"][1] + 0.01)
    assert (small.arrays["qvel"][1, :9] == 0.51).all()


class Conditions:
    """A vector environment and its counterpart on tensors, with the same starts and draws."""

    STEPS = 12  # of an episode

    def __init__(self, rows, each, **choices):
        n = each * len(rows)
        given = {**choices, "episode_steps": self.STEPS, "attempts": 2}
        self.env = ClosureVectorEnv(rows, n, threads=1, conditioning="stages", **given)
        self.closures = closures_on_mujoco(rows, n, told="stages", starts=2 * each, **given)
        self.closures._starts = Starts(self.starts(rows, each, given), self.closures._engine.arrays)
        self.closures._turns._next -= (
            self.closures._turns._sharing
        )  # the constructor took the first
        self.closures.step_of.draws.renew = lambda generator: self.draw()
        variation = self.env.batch.variation
        self.drawn = {}
        for name in ("pushes", "noise"):
            monkey = self._noting(name, getattr(variation, name))
            setattr(variation, name, monkey)

    def _noting(self, name, function):
        def called(*args):
            self.drawn[name] = function(*args)
            return self.drawn[name]

        return called

    def starts(self, rows, each, given):
        """Of two trials of two attempts for each world, in the order of `draw_starts`."""
        n = each * len(rows)
        env = ClosureVectorEnv(rows, n, threads=1, conditioning="stages", **given)
        env.reset(seed=0)
        found = [numbers_of(env.batch)]
        for _ in range(3):
            for _ in range(self.STEPS + 1):
                env.step(np.zeros((n, 5)))
            found.append(numbers_of(env.batch))
        stacked = {}
        for name in found[0]:
            values = np.stack([own[name] for own in found])  # (trials x attempts, n, ...)
            values = values.reshape(2, 2, each, len(rows), *values.shape[2:])
            values = np.moveaxis(values, 3, 0)  # (rows, trials, attempts, worlds, ...)
            values = np.moveaxis(values, 3, 2)  # (rows, trials, worlds, attempts, ...)
            stacked[name] = values.reshape(-1, *values.shape[4:])
        return stacked

    def draw(self):
        """Give the tensors what the CPU has drawn."""
        draws, variation = self.closures.step_of.draws, self.env.batch.variation
        push = self.drawn.get("pushes")
        if push is not None:
            draws.uniform[:, 0] = torch.as_tensor(1.0 * ~push.any(1))
            way = np.arctan2(push[:, 1], push[:, 0])
            draws.uniform[:, 1] = torch.as_tensor((way / np.pi + 1) / 2)
        noise = self.drawn.get("noise")
        if noise is not None:
            draws.normal[:] = torch.as_tensor(noise / variation.values["noise"][:, None])


CONDITIONS = {
    "pushes, noise and delay": {"level": "randomised", "privileged": True, "sensors": "arm"},
    "a history of noisy states": {"level": "randomised", "history": 3},
    "a disturbance": {"disturb": {"push": 2, "delay": 2, "noise": 1, "mass": 2}, "history": 2},
    "another level": {"level": "tilted", "privileged": True},
}


@pytest.mark.parametrize("named", CONDITIONS)
def test_conditions_are_those_of_the_vector_environment(named):
    """Trials, too: in them a variant stays, and starts are new."""
    rows, each = ("bottle", "radiator-cap", "flip-mug"), 2
    both = Conditions(rows, each, **CONDITIONS[named])
    env, closures = both.env, both.closures
    n = env.num_envs
    noise = np.random.default_rng(0)
    want, info = env.reset(seed=0)
    got, got_info = closures.reset()
    attempts, variants, pushed, compared = [], [], 0, 0
    for _ in range(4 * (both.STEPS + 1)):
        assert set(got) == set(want) and set(got_info) == set(info)
        alike = ~env.batch.touched  # from there on, contacts make more of rounding
        compared += alike.sum()
        for name in want:
            close = {"atol": 2e-6, "err_msg": name}
            np.testing.assert_allclose(got[name][alike], want[name][alike], **close)
        for name in info:
            close = {"atol": 1e-6, "err_msg": name}
            np.testing.assert_allclose(got_info[name][alike], info[name][alike], **close)
        attempts.append(info["attempt"])
        variants.append(env.batch.variant.copy())
        action = expert_action(env.batch.measure()) + 0.1 * noise.normal(size=(n, 5))
        want, _, _, _, info = env.step(action)
        got, _, _, _, got_info = closures.step(torch.as_tensor(action))
        if "pushes" in both.drawn and both.drawn["pushes"] is not None:
            pushed += both.drawn["pushes"].any()
    assert compared > 100
    assert np.unique(attempts).tolist() == [0, 1]
    first, second, third = (variants[k * (both.STEPS + 1)] for k in range(3))
    assert np.array_equal(first, second) and not np.array_equal(first, third)
    assert pushed > 3 or named == "another level"


def test_what_is_told_by_the_last_states_is_observed():
    closures = closures_on_mujoco(("bottle",), 2, told="history", starts=1)
    observation, _ = closures.reset()
    env = ClosureVectorEnv("bottle", 2, conditioning="history")
    assert observation["state"].shape == env.observation_space["state"].shape
    assert set(observation) == {"state"}


def test_what_is_drawn_on_a_device_is_as_often_and_as_far():
    closures = closures_on_mujoco(("bottle",), 64, disturb={"push": 1, "noise": 1}, starts=1)
    closures.reset()
    draws = closures.step_of.draws
    before = draws.normal.clone()
    chances = []
    for _ in range(50):
        draws.renew(closures._generator)
        chances.append(draws.uniform[:, 0] < 0.05)
    assert not torch.equal(before, draws.normal)
    assert 0.03 < torch.stack(chances).float().mean() < 0.07
    assert abs(float(draws.normal.std()) - 1) < 0.05
    again = closures_on_mujoco(("bottle",), 64, disturb={"push": 1, "noise": 1}, starts=1)
    again.reset()
    assert torch.equal(again.step_of.draws.normal, before)  # the same for a seed


@pytest.mark.parametrize(
    ("choices", "words"),
    (
        (
            {"disturb": {"camera": 1}},
            "^camera acts on pictures only, and the sensors 'full' on a device",
        ),
        ({"attempts": 0}, "^attempts must be"),
        ({"history": -1}, "^history must be"),
        ({"starts": 0}, "^the starts of each row must be"),
        ({"episode_steps": 0}, "^episode_steps must be"),
        ({"privileged": 1}, "^privileged must be"),
        ({"told": "one-hot"}, "did you mean 'one_hot'"),
    ),
)
def test_conditions_that_are_not_there_are_refused_in_a_line(choices, words):
    with pytest.raises(ValueError, match=words):
        closures_on_mujoco(("bottle",), 2, **choices)


def test_a_reward_on_tensors_knows_the_task_and_gives_numbers(monkeypatch):
    def own(info):
        return np.where(info["task_index"] == 0, info["attempt"] + 2.0, info["success"])

    monkeypatch.setitem(REWARDS, "own", Reward(own, ""))
    monkeypatch.setitem(REWARDS, "one", Reward(lambda info: 1.0, ""))
    closures = closures_on_mujoco(("bottle", "mug"), 2, reward="own", attempts=2)
    _, reward, *_ = closures.step(torch.zeros(2, 5))
    assert reward.tolist() == [2.0, 0.0]
    with pytest.raises(ValueError, match=r"must be numbers of shape \(2,\).*not 1.0"):
        closures_on_mujoco(("bottle", "mug"), 2, reward="one")


def test_a_snapshot_of_other_worlds_is_refused_before_anything_changes():
    rows = ("bottle", "mug")
    closures = closures_on_mujoco(rows, 2, starts=2)
    before = closures.snapshot()
    refused = [
        (closures_on_mujoco(("bottle", "jar"), 2, starts=2).snapshot(), "its tasks is"),
        (closures_on_mujoco(rows, 2, starts=3).snapshot(), "its starts of each row is 3, not 2"),
        (closures_on_mujoco(rows, 2, starts=2, attempts=2).snapshot(), "its attempts is 2, not 1"),
        (closures_on_mujoco(rows, 2, starts=2, reward="sparse").snapshot(), "its reward is"),
        (closures_on_mujoco(rows, 2, starts=2, told="stages").snapshot(), "its conditioning is"),
    ]
    for missing in ("generator", "seed", "of"):
        without = {name: value for name, value in before.items() if name != missing}
        refused.append((without, f"{missing} is missing"))
    for snapshot, words in refused:
        with pytest.raises(ValueError, match=words):
            closures.restore(snapshot)
    after = closures.snapshot()
    assert all(np.array_equal(after[name], before[name]) for name in before)


def test_a_snapshot_goes_on_with_the_starts_and_lengths_of_its_seed():
    """Into worlds that were made with another seed, and whose episodes are longer."""
    rows, n = ("bottle", "mug"), 2
    one = closures_on_mujoco(rows, n, starts=3)
    one.reset(seed=5)
    one.episode_steps.fill_(3)
    for _ in range(2):
        one.step(torch.zeros(n, 5))
    snapshot = one.snapshot()
    other = closures_on_mujoco(rows, n, starts=3, seed=1)
    other.restore(snapshot)
    for _ in range(9):  # two more starts of each
        want, reward, _, ended, _ = one.step(torch.full((n, 5), 0.2))
        got, again, _, ends, _ = other.step(torch.full((n, 5), 0.2))
        assert torch.equal(got["state"], want["state"]) and torch.equal(again, reward)
        assert torch.equal(ends, ended)
    assert torch.equal(other.reset()[0]["state"], one.reset()[0]["state"])


class WarmedUp(OnMuJoCo):
    """An engine that steps before it is asked to, as one does that captures a graph."""

    def captured(self, advance):
        for _ in range(3):
            advance()
        return advance


def test_steps_before_the_first_one_leave_nothing_behind():
    rows, n = ("bottle", "flip-mug"), 4
    played = []
    for kind in (OnMuJoCo, WarmedUp):
        batch = ClosureBatch(rows, n, threads=1, level="randomised")
        closures = DeviceClosures(batch, kind(batch), starts=3, history=2, attempts=2)
        found = []
        for reset in (False, True):  # it can be stepped as it was made, too
            if reset:
                found.append(closures.reset()[0]["state"].numpy().copy())
            for _ in range(3):
                observation, reward, *_, info = closures.step(torch.full((n, 5), 0.3))
                found += [observation["state"].numpy().copy(), reward.numpy().copy()]
                found += [info[name].numpy().copy() for name in ("steps", "attempt", "progress")]
        played.append(found)
    for one, other in zip(*played, strict=True):
        assert np.array_equal(one, other)
