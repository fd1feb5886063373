"""Copies, other processes and snapshots: the same future bit for bit, or a refusal in one line."""

import copy
import json
import multiprocessing
import pathlib
import pickle

import numpy as np
import pytest

from uncap.agents.checkpoints import generator_in
from uncap.envs import Closure, ClosureEnv, ClosureVectorEnv, register, vector_env
from uncap.envs.batch import ClosureBatch
from uncap.envs.opengl import RenderingUnavailable
from uncap.envs.variation import LEVELS, Variation, generator_of, generator_words

ROOT = pathlib.Path(__file__).parent.parent
TASKS = ("bottle", "pill-box")
COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda env: pickle.loads(pickle.dumps(env))}
FORK = "fork" in multiprocessing.get_all_start_methods()
with_each_copy = pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)


def vector(**changes):
    chosen = {
        "seed": 3,
        "level": "randomised",
        "history": 2,
        "autoreset_mode": "SameStep",
        "assignment": "deck",
    }
    return ClosureVectorEnv(TASKS, 4, **{**chosen, **changes})


def future(env, steps=90, seed=1):
    """The bytes of what some steps of random actions return; they reach into the next episodes."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(steps):
        observation, reward, *_, info = env.step(rng.uniform(-1, 1, (env.num_envs, 5)))
        found.append(observation["state"].tobytes() + reward.tobytes())
        found.append(info["task_index"].tobytes() + info["progress"].tobytes())
    return found


def advanced(env, steps=30):
    env.reset(seed=5)
    future(env, steps, seed=0)
    return env


@with_each_copy
def test_a_copy_of_a_vector_environment_has_the_same_future(copied):
    env = advanced(vector())
    other = copied(env)
    expected = future(env)
    assert future(other) == expected
    fresh = vector()
    unstarted = copied(fresh)
    for one in (fresh, unstarted):
        one.reset()
    assert future(fresh, 5) == future(unstarted, 5)


@with_each_copy
def test_a_copy_of_a_single_environment_has_the_same_future(copied):
    env = ClosureEnv("mug")
    env.reset(seed=0)
    action = np.array([0.2, -0.1, -1.0, 0.3, 1.0])
    env.step(action)
    other = copied(env)
    for _ in range(10):
        one, two = env.step(action), other.step(action)
        assert np.array_equal(one[0]["state"], two[0]["state"])
        assert one[1:] == two[1:]


@with_each_copy
def test_a_copy_is_independent(copied):
    env = advanced(vector())
    expected = future(copied(env), 5)
    future(copied(env), 3, seed=9)
    assert future(env, 5) == expected


def in_another_process(pickled, connection):
    env = pickle.loads(pickled)
    connection.send(future(env, 20))
    connection.close()


def test_a_pickle_opens_in_a_new_process_though_its_row_is_not_registered_there(
    table, ink_bottle, tmp_path
):
    register(Closure(**ink_bottle))
    env = ClosureVectorEnv(("ink-bottle", "jar"), 2, seed=0)
    env.reset()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=in_another_process, args=(pickle.dumps(env), theirs))
    child.start()
    assert ours.poll(60)
    found = ours.recv()
    child.join(60)
    assert found == future(env, 20)


def step_in_child(env, connection):
    connection.send(future(env, 5))
    connection.close()


@pytest.mark.skipif(not FORK, reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_batch_that_was_made_before_a_fork_goes_on_in_the_child():
    env = advanced(vector(threads=2), 3)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=step_in_child, args=(env, theirs))
    child.start()
    try:
        assert ours.poll(60), "the child hangs"
        found = ours.recv()
        child.join(20)
        assert child.exitcode == 0
    finally:
        child.kill()
    assert found == future(env, 5)


def test_a_copy_with_pictures_makes_a_renderer_of_its_own():
    try:
        env = ClosureVectorEnv("jar", 1, observation="rgb")
    except RenderingUnavailable as error:
        pytest.skip(str(error))
    first, _ = env.reset(seed=0)
    other = pickle.loads(pickle.dumps(env))
    env.close()
    action = np.zeros((1, 5))
    assert np.array_equal(env.step(action)[0]["rgb"], other.step(action)[0]["rgb"])
    assert env.batch.pool == other.batch.pool


def test_a_snapshot_holds_the_deck_and_goes_into_a_new_environment():
    env = advanced(vector(), 85)
    saved = env.snapshot()
    expected = future(env)
    for other in (env, vector()):
        other.restore(saved)
        assert future(other) == expected


def test_a_single_environment_returns_to_a_snapshot():
    env = ClosureEnv("jar")
    env.reset(seed=0)
    saved = env.snapshot()
    action = np.array([0.5, 0.0, -1.0, 0.0, 1.0])
    expected = [env.step(action)[0]["state"] for _ in range(4)]
    env.restore(saved)
    assert np.array_equal([env.step(action)[0]["state"] for _ in range(4)], expected)


def test_a_snapshot_of_one_is_given_to_many_on_purpose():
    one = ClosureEnv("jar", level="randomised")
    many = ClosureVectorEnv("jar", 3, level="randomised")
    one.reset(seed=4)
    many.reset(seed=0)
    before = future(copy.deepcopy(many), 3)
    with pytest.raises(ValueError, match=r"of 1 sub-environment, not of 3.*copies=True"):
        many.restore(one.snapshot())
    assert future(many, 3) == before
    many.restore(one.snapshot(), copies=True)
    action = np.array([0.5, 0.0, -1.0, 0.0, 1.0])
    for _ in range(5):
        expected = one.step(action)[0]["state"]
        found = many.step(np.tile(action, (3, 1)))[0]["state"]
        assert np.array_equal(found, np.tile(expected, (3, 1)))


OTHERS = {
    "num_envs": lambda: ClosureVectorEnv("jar", 4),
    "tasks": lambda: ClosureVectorEnv("mug", 3),
    "history": lambda: ClosureVectorEnv("jar", 3, history=2),
    "level": lambda: ClosureVectorEnv("jar", 3, level="tilted"),
    "conditioning": lambda: ClosureVectorEnv("jar", 3, conditioning="none"),
    "digest of variants": lambda: ClosureVectorEnv("jar", 3, variant_seed=1),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_snapshot_of_something_else_is_refused_and_nothing_changes(name):
    other = OTHERS[name]()
    other.reset(seed=0)
    env = ClosureVectorEnv("jar", 3)
    env.reset(seed=0)
    expected = future(copy.deepcopy(env), 3)
    with pytest.raises(ValueError, match=f"something else: its {name} is"):
        env.restore(other.snapshot(), copies=True)
    assert future(env, 3) == expected


DAMAGES = {
    "no dictionary": lambda snapshot: [1],
    "empty": lambda snapshot: {},
    "no batch": lambda snapshot: {k: v for k, v in snapshot.items() if k != "batch"},
    "batch is a number": lambda snapshot: {**snapshot, "batch": 3},
    "of is noise": lambda snapshot: {**snapshot, "of": np.arange(5)},
    "of is nothing": lambda snapshot: {**snapshot, "of": np.frombuffer(b"{}", np.uint8)},
    "shape": lambda snapshot: {**snapshot, "steps": np.zeros(7, int)},
    "type": lambda snapshot: {**snapshot, "done": np.full(3, "x")},
    "nan": lambda snapshot: {**snapshot, "held_progress": np.full(3, np.nan)},
    "rngs": lambda snapshot: {**snapshot, "rngs": [{}, {}, {}]},
    "too few rngs": lambda snapshot: {**snapshot, "rngs": snapshot["rngs"][:2]},
    "task": lambda snapshot: {
        **snapshot,
        "batch": {**snapshot["batch"], "variant": np.array([0, 1, 99])},
    },
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_snapshot_is_refused_and_nothing_changes(damage):
    env = ClosureVectorEnv("jar", 3)
    env.reset(seed=0)
    expected = future(copy.deepcopy(env), 3)
    with pytest.raises(ValueError, match="snapshot") as refused:
        env.restore(damage(env.snapshot()))
    assert "\n" not in str(refused.value)
    assert future(env, 3) == expected


def test_a_snapshot_without_what_it_is_of_is_read():
    """Those of older versions: their arrays tell."""
    env = ClosureVectorEnv("jar", 3)
    env.reset(seed=0)
    old = {k: v for k, v in env.snapshot().items() if k not in ("of", "invalid", "diverged")}
    old["batch"].pop("of")
    old["rngs"] = json.loads(json.dumps(old["rngs"]))
    expected = future(copy.deepcopy(env), 3)
    env.restore(old)
    assert future(env, 3) == expected
    with pytest.raises(ValueError, match="damaged"):
        ClosureVectorEnv("jar", 2).restore(old)


def test_a_snapshot_holds_the_last_reward_which_a_memory_may_read():
    env = advanced(vector())
    env.last_reward[:] = 0.25
    snapshot = env.snapshot()
    other = vector()
    other.restore(snapshot)
    assert (other.last_reward == 0.25).all()
    del snapshot["last_reward"]  # older ones have none
    other.restore(snapshot)
    assert not other.last_reward.any()


def test_a_snapshot_before_the_first_reset_leads_back_to_before_it():
    env = ClosureVectorEnv("jar", 2, seed=0)
    fresh = env.snapshot()
    first, _ = env.reset()
    env.restore(fresh)
    assert np.array_equal(env.reset()[0]["state"], first["state"])


def test_variation_returns_to_a_snapshot_of_a_part():
    """Simulations that were not reset have no generator: the others keep their own."""
    level = LEVELS["randomised"]
    rngs = [np.random.default_rng(k) for k in range(2)]
    variation = Variation(level, 3)
    variation.draw(np.array([0, 2]), rngs)
    saved = variation.snapshot()
    ids = np.array([0, 2])
    expected = variation.noise(ids, 4)
    other = Variation(level, 3)
    other.restore(saved)
    assert np.array_equal(other.noise(ids, 4), expected)
    assert other._rngs[1] is None


SAVERS = {  # ways in which the program saves a generator, and makes it anew
    "words": lambda rng: generator_of(generator_words(rng)),
    "words in arrays": lambda rng: generator_of(np.array(generator_words(rng), np.uint64).tolist()),
    "states": lambda rng: vector_env._generator_in(json.loads(json.dumps(rng.bit_generator.state))),
    "states of learners": lambda rng: generator_in(rng.bit_generator.state),
}
# files that save them
HELD = ("variation.py", "vector_env.py", "checkpoints.py", "dagger.py", "meta.py")


@pytest.mark.parametrize("saved", SAVERS.values(), ids=SAVERS)
def test_a_saved_generator_keeps_the_half_of_a_draw(saved):
    """`integers` and others take half of 64 bits, and the next call the other half."""
    for before in range(1, 5):
        rng = np.random.default_rng(before)
        rng.integers(10, size=before)
        again = saved(rng)
        for one, two in ((rng, again), (again, rng)):
            assert one.integers(10) == two.integers(10)
        assert np.array_equal(rng.permutation(9), again.permutation(9))
        assert rng.random() == again.random()


def test_generators_are_saved_in_these_ways_only():
    files = [
        path for folder in ("envs", "agents", "evaluation") for path in ROOT.glob(f"{folder}/*")
    ]
    found = [
        path.name for path in files if path.suffix == ".py" and "bit_generator" in path.read_text()
    ]
    assert sorted(found) == sorted(HELD)


def test_variation_of_an_older_version_is_read():
    batch = ClosureBatch(("jar",), 2, level="randomised")
    ids, task = np.arange(2), np.zeros(2, int)
    batch.reset(ids, task, [np.random.default_rng(k) for k in range(2)])
    old = batch.snapshot()
    old["variation"]["rngs"] = old["variation"]["rngs"][:, :4]
    expected = batch.variation.noise(ids, 3)
    batch.restore(old)
    assert np.array_equal(batch.variation.noise(ids, 3), expected)


def test_a_batch_of_which_a_part_was_reset_can_be_copied():
    batch = ClosureBatch(("jar",), 3, level="randomised")
    batch.reset(np.array([1]), np.array([0]), [np.random.default_rng(0)])
    other = copy.deepcopy(batch)
    assert np.array_equal(batch.qpos, other.qpos)
    for one in (batch, other):
        one.reset(np.array([0, 2]), np.array([0, 0]), [np.random.default_rng(k) for k in (1, 2)])
        one.step(np.zeros((3, 5)))
    assert np.array_equal(batch.qpos, other.qpos)
