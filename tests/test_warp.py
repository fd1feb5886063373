"""The engine warp beside the engine cpu, on Warp's CPU device: the same closures, in float32.

The kernels are compiled once, in a minute, and then kept in Warp's cache.
"""

import csv
import functools
import json
import multiprocessing
import os
import pickle
import types

import numpy as np
import pytest

pytest.importorskip("mujoco_warp")

from uncap.envs import CLOSURES, ClosureVectorEnv
from uncap.envs.batch import ClosureBatch
from uncap.envs.contacts import contacts
from uncap.envs.engines import EngineUnavailable
from uncap.envs.experts import expert_action
from uncap.envs.mechanisms import LIFT, TILT_Y, TWIST
from uncap.evaluation import cli
from uncap.evaluation.progress import make_console

# caps and bars; a thread, a gate, a live gate, a hinge, a spring, and two composed mechanisms
SEQUENCES = ("composed-right-ccw-up-0", "composed-down-screwcw-left-0")
ROWS = ("jar", "valve", "cork", "radiator-cap", "pill-box", "flip-mug", "pump", *SEQUENCES)
EACH = 2  # simulations of a row
N = EACH * len(ROWS)
STEPS = 110


pytestmark = pytest.mark.usefixtures("warp_on_the_cpu")


@functools.cache
def environment(engine: str) -> ClosureVectorEnv:
    """One for all tests, which begin with a reset: making it takes seconds."""
    return ClosureVectorEnv(
        ROWS, N, engine=engine, autoreset_mode="Disabled", threads=1, episode_steps=STEPS
    )


def of_row(name: str) -> np.ndarray:
    """Ids of its simulations."""
    return np.flatnonzero(np.arange(N) % len(ROWS) == ROWS.index(name))


# The same episodes on both


@functools.cache
def episodes() -> dict[str, dict[str, np.ndarray]]:
    """The expert's episodes on warp, and the same actions on cpu: (steps, n, ...) by name."""
    envs = {engine: environment(engine) for engine in ("cpu", "warp")}
    found = {engine: [] for engine in envs}
    for env in envs.values():
        env.reset(seed=3)
    for _ in range(STEPS):
        action = expert_action(envs["warp"].batch.measure())
        for engine, env in envs.items():
            *_, info = env.step(action)
            own = env.batch
            found[engine].append(
                {
                    "qpos": own.qpos.copy(),
                    "lid": own.qpos[:, own.lid_qpos_columns].copy(),
                    "touched": own.touched.copy(),
                    "stage": own.stage.copy(),
                    "released": own.released.copy(),
                    "success": info["success"],
                }
            )
    return {
        engine: {name: np.array([step[name] for step in steps]) for name in steps[0]}
        for engine, steps in found.items()
    }


def test_experts_open_every_row():
    assert episodes()["warp"]["success"][-1].mean() >= 0.95
    assert episodes()["cpu"]["success"][-1].mean() >= 0.95


# median over simulations of the worst coordinate's difference, m or rad, after so many steps
@pytest.mark.parametrize(("steps", "most"), [(2, 2e-6), (10, 1e-5), (30, 5e-5), (60, 1e-3)])
def test_positions_agree(steps, most):
    cpu, warp = episodes()["cpu"]["qpos"], episodes()["warp"]["qpos"]
    difference = np.abs(cpu - warp)[steps - 1].max(1)
    assert 0 < np.median(difference) < most


def test_lids_go_the_same_way_until_they_are_off():
    cpu, warp = episodes()["cpu"], episodes()["warp"]
    held = ~cpu["released"] & ~warp["released"]  # (steps, n)
    difference = np.where(held, np.abs(cpu["lid"] - warp["lid"]).max(2), 0.0).max(0)  # (n,)
    assert np.median(difference) < 1e-4
    assert difference.max() < 0.05


@pytest.mark.parametrize("name", ["touched", "stage", "released"])
def test_what_latches_latches_in_the_same_step(name):
    cpu, warp = episodes()["cpu"][name], episodes()["warp"][name]
    assert np.array_equal(cpu[-1], warp[-1])
    assert (cpu == warp).mean() > 0.99
    assert len(np.unique(warp)) > 1


def test_nothing_ran_out_of_room():
    episodes()
    own = environment("warp").batch
    assert own.sim.overflows == 0
    assert not own.diverged.any()


# Every world has its own model


def test_a_reset_of_some_gives_them_their_own_shapes():
    cpu, warp = environment("cpu"), environment("warp")
    some = np.arange(N) % 3 == 0
    for env in (cpu, warp):
        env.reset(seed=5)
        before = env.batch.variant.copy()
        env.reset(seed=6, options={"reset_mask": some})
        assert (env.batch.variant != before)[some].any()
        assert np.array_equal(env.batch.variant[~some], before[~some])
    for field in warp.batch._expanded:
        assert np.array_equal(
            warp.batch._expanded[field], cpu.batch._expanded[field], equal_nan=True
        )
    assert np.allclose(
        cpu.batch.measure()["grip_offset"], warp.batch.measure()["grip_offset"], atol=1e-6
    )
    for _ in range(14):  # until the fingers have closed
        action = expert_action(cpu.batch.measure())
        cpu.step(action)
        warp.step(action)
    closed = cpu.batch.measure()["holds"]
    assert closed[some].any() and closed[~some].any()
    opening = np.abs(cpu.batch.measure()["opening"] - warp.batch.measure()["opening"])
    assert np.median(opening) < 1e-5 and opening.max() < 1e-3  # m: on shapes of the same size
    # what a picture shows (N); where a contact has just begun, forces differ
    shown = [[contacts(env.batch, i).forces for i in np.flatnonzero(closed)] for env in (cpu, warp)]
    assert [len(forces) for forces in shown[0]] == [len(forces) for forces in shown[1]]
    pressed = np.array([[np.abs(forces).sum() for forces in own] for own in shown])  # (2, k)
    assert (pressed > 1.0).all()
    assert np.median(np.abs(pressed[1] / pressed[0] - 1)) < 1e-2


def test_a_shape_that_a_world_does_not_have_is_tiny():
    warp = environment("warp")
    warp.reset(seed=7)
    scene, sim = warp.batch.sim._scene, warp.batch.sim
    cylinder, box = 5, 6  # of MuJoCo
    grips = [scene.model.geom("grip").id, scene.model.ngeom - 1]
    assert sorted(scene.model.geom_type[grips]) == [cylinder, box]
    sizes = sim.arrays["geom_size"].numpy()[:, grips]  # (n, 2, 3)
    is_bar = np.array([CLOSURES[ROWS[i % len(ROWS)]].grip == "bar" for i in range(N)])
    has = np.where(is_bar[:, None], box, cylinder) == scene.model.geom_type[grips]
    assert is_bar.any() and not is_bar.all()
    assert np.allclose(sizes[~has], 1e-3)
    assert (sizes[has].max(-1) > 4e-3).all()


# Laws


def moved(forces: dict[str, tuple[int, float]], steps: int, before=lambda own: None) -> np.ndarray:
    """Pull lids by a joint of each row (N, N m), with the hand away; their joints (n, 6)."""
    env = environment("warp")
    env.reset(seed=11)
    own = env.batch
    own.hand_over(np.arange(N))  # the forces act without a touch
    force = own.sim.bind("qfrc_applied")
    for name, (joint, value) in forces.items():
        force[of_row(name), own.lid_dof_columns.start + joint] = value
    before(own)
    for _ in range(steps):
        own.step(np.tile([0, 0, 0, 0, 1.0], (N, 1)))
    return own.qpos[:, own.lid_qpos_columns].copy()


def drawn(name: str, field: str) -> np.ndarray:
    """A number of a row's variants, (EACH,)."""
    own = environment("warp").batch
    return np.array([getattr(own.pool[own.variant[i]], field) for i in of_row(name)])


def test_what_is_closed_stays_closed():
    lid = moved(
        {
            "jar": (LIFT, 30.0),  # a thread locks itself
            "radiator-cap": (LIFT, 30.0),  # it has not been turned
            "pill-box": (TWIST, -3.0),  # it is not pressed
            "valve": (TWIST, 0.01),  # below its breakaway torque
            "flip-mug": (LIFT, 30.0),
        },
        steps=20,
    )
    assert np.abs(lid[of_row("jar"), LIFT]).max() < 1e-4
    assert np.abs(lid[of_row("jar"), TWIST]).max() < 1e-3
    assert np.abs(lid[of_row("radiator-cap"), LIFT]).max() < 2e-3
    assert np.abs(lid[of_row("pill-box"), TWIST]).max() < 2e-2
    assert np.abs(lid[of_row("valve"), TWIST]).max() < 1e-3
    assert np.abs(lid[of_row("flip-mug"), LIFT]).max() < 1e-4
    assert not environment("warp").batch.released.any()


def test_what_is_worked_goes_its_way():
    directions = {name: CLOSURES[name].direction for name in ROWS}
    lid = moved(
        {
            "jar": (TWIST, 1.5 * directions["jar"]),
            "cork": (LIFT, 60.0),
            "valve": (TWIST, 3.0 * directions["valve"]),
            "flip-mug": (TILT_Y, -2.0),
        },
        steps=4,
    )
    own = environment("warp").batch
    jar = of_row("jar")
    held = jar[~own.released[jar]]
    lead = own.now["ratio"][held]  # m/rad
    assert np.allclose(lid[held, LIFT], lead * lid[held, TWIST], atol=1e-4)
    assert (own.progress()[np.r_[jar, of_row("valve"), of_row("flip-mug")]] > 0.1).all()
    assert own.released[of_row("cork")].all()


def test_a_spring_is_pressed_by_its_force():
    half = {}

    def press(own):
        force = own.sim.bind("qfrc_applied")
        half["ids"] = of_row("pump")
        force[half["ids"], own.lid_dof_columns.start + LIFT] = -0.75 * drawn("pump", "force")

    lid = moved({}, 20, press)
    # half of the force at rest, all of it at the depth
    assert np.allclose(lid[half["ids"], LIFT], -0.5 * drawn("pump", "depth"), rtol=0.1)


# State


def state_after(env: ClosureVectorEnv, steps: int) -> np.ndarray:
    for _ in range(steps):
        env.step(expert_action(env.batch.measure()))
    return env.batch.sim.state.copy()


def test_what_follows_a_snapshot_is_the_same():
    env = environment("warp")
    env.reset(seed=1)
    state_after(env, 9)
    snapshot = env.snapshot()
    expected = state_after(env, 6)
    env.restore(snapshot)
    assert np.array_equal(state_after(env, 6), expected)


def test_a_snapshot_of_another_engine_is_refused():
    cpu, warp = environment("cpu"), environment("warp")
    for env, other in ((cpu, warp), (warp, cpu)):
        env.reset(seed=1)
        names = f"its engine is '{env.batch.engine}', not '{other.batch.engine}'"
        with pytest.raises(ValueError, match=names):
            other.restore(env.snapshot())


def _send_state(env, connection):
    connection.send(state_after(env, 4))


def test_a_copy_and_a_forked_child_have_the_same_future():
    env = environment("warp")
    env.reset(seed=2)
    state_after(env, 5)
    copied = pickle.loads(pickle.dumps(env))
    assert copied.batch.engine == "warp"
    if "fork" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        child = context.Process(target=_send_state, args=(env, theirs))
        child.start()
        assert ours.poll(120), "the child hangs"
        forked = ours.recv()
        child.join(20)
    expected = state_after(env, 4)
    assert np.array_equal(state_after(copied, 4), expected)
    assert np.array_equal(forked, expected)


@pytest.mark.parametrize("value", [1e12, np.nan, np.inf])
def test_a_simulation_that_diverges_is_put_back_alone(value):
    env = environment("warp")
    env.reset(seed=4)
    state_after(env, 12)
    snapshot = env.snapshot()
    action = expert_action(env.batch.measure())
    env.step(action)
    expected = env.batch.sim.state.copy()
    env.restore(snapshot)
    before = env.batch.qpos[3].copy()
    env.batch.qvel[3, env.batch.lid_dof_columns.start] = value
    *_, info = env.step(action)
    others = np.arange(N) != 3
    assert info["diverged"][3] == 1 and not info["diverged"][others].any()
    assert np.array_equal(env.batch.sim.state[others], expected[others])
    assert np.array_equal(env.batch.qpos[3], before)
    assert not env.batch.qvel[3].any()


# What it lacks


def test_worlds_without_room_for_their_contacts_are_counted(monkeypatch):
    from uncap.envs import engine_warp

    monkeypatch.setattr(engine_warp, "CONTACTS", 0)
    monkeypatch.setattr(engine_warp, "LEAST_CONTACTS", 1)
    env = ClosureVectorEnv("jar", 2, engine="warp")
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="more contacts or constraints") as said:
        state_after(env, 12)  # until it is held
    assert env.batch.sim.overflows > 0
    assert len(said) == 1


def test_a_driver_that_is_missing_is_said_by_uncap_alone(capfd):
    from uncap.envs import engine_warp

    with engine_warp._without(engine_warp._NO_DRIVER):
        os.write(2, b"Warp CUDA warning: Could not find or load the NVIDIA CUDA driver.\n")
        os.write(2, b"another line\n")
    os.write(2, b"later\n")
    assert sorted(capfd.readouterr().err.splitlines()) == ["another line", "later"]


@pytest.mark.parametrize(("asked", "warned"), [("", 1), ("cpu", 0)])
def test_the_processor_in_place_of_a_gpu_is_said(asked, warned, monkeypatch, recwarn):
    from uncap.envs import engine_warp

    monkeypatch.setenv("UNCAP_WARP_DEVICE", asked)
    engine_warp._warn_of_the_processor(types.SimpleNamespace(is_cuda=False))
    assert len(recwarn) == warned
    for said in recwarn:
        assert "finds no GPU and runs on the processor" in str(said.message)


def test_a_driver_whose_graphs_have_no_loops_is_said_and_works(monkeypatch):
    from uncap.envs import engine_warp

    chosen = types.SimpleNamespace(is_cuda=True)
    for supported in (True, False):
        monkeypatch.setattr(
            engine_warp.warp, "is_conditional_graph_supported", lambda known=supported: known
        )
        assert engine_warp._loops(chosen) == supported
    assert engine_warp._loops(types.SimpleNamespace(is_cuda=False))

    def looping(*_, **__):
        raise RuntimeError("Conditional graph nodes require CUDA driver 12.4+")

    monkeypatch.setattr(engine_warp, "_loops", lambda chosen: False)
    monkeypatch.setattr(engine_warp.warp, "capture_while", looping)
    with pytest.warns(UserWarning, match="^the GPU's driver is older than CUDA 12.4.*slower$"):
        env = ClosureVectorEnv("valve", 1, engine="warp")
    env.reset(seed=3)
    env.batch.sim.model.opt.iterations = 2  # all of them take a while
    env.batch.sim.step(1)
    assert not env.batch.sim.model.opt.graph_conditional


def test_physics_that_cannot_be_recorded_is_launched_and_said(monkeypatch):
    """As where CUDA has no pools of memory, without which a graph allocates nothing."""
    from uncap.envs import engine_warp

    env = environment("warp")
    env.reset(seed=1)
    snapshot = env.snapshot()
    expected = state_after(env, 2)
    env.restore(snapshot)
    reason = "Failed to allocate memory during graph capture because memory pools are not enabled"

    def capturing(**_):
        raise RuntimeError(f"Failed to allocate 4 bytes on device 'cuda:0':  {reason}")

    monkeypatch.setattr(engine_warp.warp, "ScopedCapture", capturing)
    monkeypatch.setattr(env.batch.sim, "_graphs", {})
    with pytest.warns(UserWarning, match=f"no graph of the physics: .*{reason}; its kernels are"):
        found = state_after(env, 2)
    assert np.array_equal(found, expected)


def test_a_device_that_is_not_there_is_said_in_one_line(monkeypatch):
    monkeypatch.setenv("UNCAP_WARP_DEVICE", "cuda:7")
    with pytest.raises(EngineUnavailable, match=r"^UNCAP_WARP_DEVICE=cuda:7: .* only cpu.*$"):
        ClosureBatch(("jar",), 1, engine="warp")


def test_a_field_that_worlds_share_is_refused():
    with pytest.raises(ValueError, match="^MuJoCo Warp has geom_condim once for all"):
        environment("warp").batch.sim.expand("geom_condim")


# Learning

TOY = (
    "--quick --tasks jar valve --num-envs 4 --dagger.steps-per-task 80 --dagger.rollout 8 "
    "--dagger.updates 2 --env-steps 120 --ppo.warm-rollout 10 --ppo.critic-warmup 1 "
    "--validations 1 --validation-episodes 1 --episodes 1 --transfer-steps 0 --no-videos"
)


def test_learning_is_on_warp_and_evaluations_are_on_the_cpu(tmp_path, opened_engines):
    run = tmp_path / "run"
    cli.run([*TOY.split(), "--engine", "warp", "--out", str(run)], make_console())
    assert json.loads((run / "config.json").read_text())["job"]["engine"] == "warp"
    with open(run / "metrics.csv") as file:
        phases = {row["phase"] for row in csv.DictReader(file)}
    assert phases >= {"dagger", "ppo"}
    assert opened_engines[0] == "warp" and set(opened_engines[1:]) == {"cpu"}
    results = json.loads((run / "results.json").read_text())
    assert results["train"]["env_steps"] >= 120
