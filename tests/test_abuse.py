"""The environments under abuse: every wrong call gets one line, and nothing breaks.

To join: a row of CALLS; values that anything may be given, in VALUES; a kind of random call, in
KINDS. `random_call` can make any number of calls, from a seed.
"""

import copy
import functools
import pathlib
import traceback

import gymnasium as gym
import numpy as np
import pytest
from rows import INK_BOTTLE as ROW

from uncap.envs import (
    CLOSURES,
    TASK_SETS,
    Closure,
    ClosureEnv,
    ClosureVectorEnv,
    TaskSet,
    distance,
    register,
    sample_closure,
)
from uncap.envs.batch import ClosureBatch
from uncap.envs.closures import named_set
from uncap.envs.contacts import contacts
from uncap.envs.opengl import RenderingUnavailable

HERE = pathlib.Path(__file__).resolve()
ENVS = HERE.parent.parent / "envs"
OURS = (ValueError, TypeError, gym.error.Error, RenderingUnavailable)
RNG = np.random.default_rng(0)


def answer(call):
    """The line that refuses a call; None where it is taken.

    A refusal comes from our own code, or from Python's where a function is called, never from
    deep inside a library.
    """
    try:
        call()
    except OURS as error:
        raised_in = pathlib.Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve()
        assert raised_in.is_relative_to(ENVS) or raised_in == HERE, f"from {raised_in}: {error!r}"
        line = str(error)
        assert line and "\n" not in line
        return line
    return None


def started(kind, *args, **kwargs):
    env = kind(*args, **kwargs)
    env.reset(seed=0)
    return env


@functools.cache
def vector():
    return started(ClosureVectorEnv, ("jar", "mug"), 3, autoreset_mode="SameStep", threads=1)


@functools.cache
def single():
    return started(ClosureEnv, "jar")


def still_works(env):
    env.reset(seed=1)
    count = getattr(env, "num_envs", None)
    env.step(np.zeros(5 if count is None else (count, 5)))


def make(**changes):
    return lambda: ClosureVectorEnv(**{"tasks": "jar", "num_envs": 2, "threads": 1, **changes})


def make_one(**changes):
    return lambda: ClosureEnv(**{"task": "jar", **changes})


def make_batch(**changes):
    return lambda: ClosureBatch(**{"names": ("jar",), "n": 2, "threads": 1, **changes})


def reset(**how):
    return lambda: vector().reset(**how)


def reset_one(**how):
    return lambda: single().reset(**how)


def step(actions):
    return lambda: vector().step(actions)


def step_one(action):
    return lambda: single().step(action)


def restore(damage):
    return lambda: vector().restore(damage(vector().snapshot()))


def row(**changes):
    return lambda: Closure(**{**ROW, **changes})


CALLS = {  # what must be refused, and words of the line that refuses it
    "no tasks": (make(tasks=[]), "tasks must be"),
    "a number among tasks": (make(tasks=("jar", 3)), "tasks must be names, not 3"),
    "tasks are a number": (make(tasks=5), "tasks must be"),
    "tasks are nothing": (make(tasks=None), "tasks must be"),
    "tasks are a set of names": (make(tasks={"jar"}), "tasks must be"),
    "unknown task": (make(tasks="jarr"), "did you mean 'jar'"),
    "empty task": (make(tasks=""), "unknown closure"),
    "nested tasks": (make(tasks=[["jar"]]), "tasks must be names"),
    "bytes": (make(tasks=b"jar"), "tasks must be"),
    "half an environment": (make(num_envs=2.5), "num_envs must be a whole number"),
    "no environment": (make(num_envs=0), "num_envs must be at least 1"),
    "minus one environment": (make(num_envs=-1), "num_envs must be at least 1"),
    "too many environments": (make(num_envs=10**9), "num_envs must be at most"),
    "environments are text": (make(num_envs="4"), "num_envs must be a whole number"),
    "environments are true": (make(num_envs=True), "num_envs must be a whole number"),
    "environments are nothing": (make(num_envs=None), "num_envs must be a whole number"),
    "minus one thread": (make(threads=-1), "threads must be at least 0"),
    "a million threads": (make(threads=10**6), "threads must be at most"),
    "threads are text": (make(threads="all"), "threads must be a whole number"),
    "history is text": (make(history="x"), "history must be a whole number"),
    "no history": (make(history=0), "history must be at least 1"),
    "history is huge": (make(history=10**9), "history must be at most"),
    "negative variant seed": (make(variant_seed=-1), "variant_seed must be at least 0"),
    "variant seed is a float": (make(variant_seed=0.5), "variant_seed must be a whole number"),
    "negative seed": (make(seed=-3), "seed must be at least 0"),
    "seed is text": (make(seed="1"), "seed must be a whole number"),
    "unknown autoreset": (make(autoreset_mode="Same"), "unknown autoreset_mode"),
    "autoreset is a number": (make(autoreset_mode=3), "unknown autoreset_mode"),
    "unknown observation": (make(observation="rgbd"), "unknown observation"),
    "observation is a list": (make(observation=["state"]), "observation must be a name"),
    "unknown level": (make(level="hard"), "unknown level"),
    "level is nothing": (make(level=None), "level must be a name"),
    "level is a table": (make(level={}), "level must be a name"),
    "unknown factor": (make(disturb={"frictio": 1}), "unknown factor 'frictio': did you mean"),
    "factor is a number": (make(disturb={3: 1}), "factor must be a name"),
    "unknown strength": (make(disturb={"mass": 4}), "the strength of mass must be at most 3"),
    "strength is a float": (make(disturb={"mass": 1.0}), "the strength of mass must be a whole"),
    "disturbances are a name": (make(disturb="mass"), "disturb must be strengths by factor"),
    "no pictures to disturb": (make(disturb={"camera": 1}), "camera acts on pictures only"),
    "single: unknown factor": (make_one(disturb={"tiltt": 1}), "did you mean 'tilt'"),
    "batch: unknown strength": (make_batch(disturb={"mass": -1}), "must be at least 0"),
    "unknown sensors": (make(sensors="leg"), "unknown sensors 'leg': allowed: full, arm"),
    "sensors are nothing": (
        make(sensors=None),
        "sensors must be a name, not None: allowed: full, arm",
    ),
    "sensors are a list": (make(sensors=["arm"]), "sensors must be a name"),
    "no steps": (make(episode_steps=0), "episode_steps must be at least 1, not 0"),
    "steps are a fraction": (make(episode_steps=2.5), "episode_steps must be a whole number"),
    "privileged is a number": (make(privileged=1), "privileged must be True or False, not 1"),
    "unknown conditioning": (make(conditioning="onehot"), "unknown conditioning"),
    "conditioning is nothing": (make(conditioning=None), "conditioning must be a name"),
    "vectors are text": (make(conditioning={"jar": "x"}), "vectors of a conditioning"),
    "vectors are not finite": (make(conditioning={"jar": [np.nan]}), "vectors of a conditioning"),
    "vectors of two sizes": (
        make(tasks=("jar", "mug"), conditioning={"jar": [1.0], "mug": [1.0, 2.0]}),
        "vectors of a conditioning",
    ),
    "known tasks are a number": (make(known_tasks=3), "known_tasks must be"),
    "no known tasks": (make(known_tasks=()), "known_tasks must be"),
    "unseen task": (make(known_tasks=("mug",)), "no component for unseen task jar"),
    "unknown reward": (make(reward="dens"), "did you mean 'dense'"),
    "single: reward is a function": (make_one(reward=len), "reward must be a name"),
    "unknown assignment": (make(assignment="decks"), "did you mean 'deck'"),
    "unknown argument": (make(colour="red"), "unexpected keyword argument 'colour'"),
    "single: no task": (make_one(task=None), "tasks must be a name, or a sequence"),
    "single: no tasks": (make_one(task=()), "tasks must be a name, or a sequence"),
    "unknown render mode": (make(render_mode="human"), "unknown render_mode"),
    "unhashable render mode": (make(render_mode=[]), "render_mode must be a name"),
    "single: unknown render mode": (make_one(render_mode="human"), "unknown render_mode"),
    "single: unhashable render mode": (make_one(render_mode=[]), "unknown render_mode"),
    "single: unknown sensors": (make_one(sensors="am"), "did you mean 'arm'"),
    "single: history": (make_one(history=-1), "history must be at least 1"),
    "batch: no names": (make_batch(names=()), "tasks must be"),
    "batch: no simulations": (make_batch(n=0), "number of simulations must be at least 1"),
    "batch: no variants": (make_batch(variants=0), "variants must be at least 1"),
    "batch: variants are a float": (make_batch(variants=2.0), "variants must be a whole"),
    "batch: variant seed": (make_batch(variant_seed=-2), "variant_seed must be at least 0"),
    "contacts of none": (lambda: contacts(vector().batch, 3), "the simulation must be at most 2"),
    "contacts of all": (lambda: contacts(vector().batch, None), "the simulation must be a whole"),
    "too few seeds": (reset(seed=[1, 2]), "seed must be one, or a list of 3"),
    "too many seeds": (reset(seed=np.arange(4)), "seed must be one, or a list of 3"),
    "no seeds": (reset(seed=[]), "seed must be one, or a list of 3"),
    "a negative seed among them": (reset(seed=[1, 2, -3]), "seed must be at least 0"),
    "seeds are floats": (reset(seed=np.arange(3.0)), "seed must be a whole number"),
    "seeds are a matrix": (reset(seed=np.zeros((3, 1), int)), "seed must be a whole number"),
    "reset's seed is text": (reset(seed="seed"), "seed must be a whole number"),
    "reset's seed is a table": (reset(seed={1: 2}), "seed must be a whole number"),
    "reset's seed is infinite": (reset(seed=np.inf), "seed must be a whole number"),
    "options are a list": (reset(options=["task"]), "options must be a dictionary"),
    "unknown option": (reset(options={"level": "tilted"}), "unknown option 'level' of reset"),
    "an option that is a number": (reset(options={3: 4}), "unknown option 3 of reset"),
    "a task that is not there": (reset(options={"task": "cork"}), "unknown task of this"),
    "too few tasks": (reset(options={"task": ["mug", "jar"]}), "or 3 of them, not 2"),
    "task is an index": (reset(options={"task": 1}), "the option task must be"),
    "mask of another size": (reset(options={"reset_mask": [True]}), "reset_mask must be bool"),
    "mask of numbers": (reset(options={"reset_mask": [1, 0, 1]}), "reset_mask must be bool"),
    "mask is text": (reset(options={"reset_mask": "all"}), "reset_mask must be bool"),
    "mask is ragged": (reset(options={"reset_mask": [[True], []]}), "reset_mask must be bool"),
    "single: seeds": (reset_one(seed=[1]), "seed must be a whole number"),
    "single: mask": (reset_one(options={"reset_mask": [True]}), "unknown option 'reset_mask'"),
    "single: another task": (reset_one(options={"task": "mug"}), "unknown task of this"),
    "actions of too few": (step(np.zeros((2, 5))), "actions must have shape (3, 5)"),
    "actions of another size": (step(np.zeros((3, 4))), "actions must have shape (3, 5)"),
    "one action": (step(np.zeros(5)), "actions must have shape (3, 5)"),
    "no actions": (step(None), "actions must"),
    "actions are text": (step("left"), "actions must be numbers"),
    "actions are a table": (step({"x": 1}), "actions must be numbers"),
    "actions are ragged": (step([[1], [1, 2], []]), "actions must be numbers"),
    "actions are complex": (step(np.full((3, 5), 1j)), "actions must be numbers"),
    "single: a batch of actions": (step_one(np.zeros((1, 5))), "action"),
    "single: an action of text": (step_one(["a"] * 5), "an action must be numbers"),
    "single: no action": (step_one(None), "action"),
    "single: a short action": (step_one(np.zeros(4)), "action"),
    "no snapshot": (restore(lambda s: None), "a snapshot is the dictionary"),
    "empty snapshot": (restore(lambda s: {}), "batch is missing"),
    "a state of another size": (
        restore(lambda s: {**s, "batch": {**s["batch"], "state": np.zeros((3, 2))}}),
        "state must be float64 of shape",
    ),
    "a snapshot of a batch": (restore(lambda s: s["batch"]), "the snapshot is"),
    "a generator too few": (restore(lambda s: {**s, "rngs": s["rngs"][1:]}), "rngs are not"),
    "a single one's snapshot": (
        lambda: vector().restore(single().snapshot()),
        "the snapshot is of something else: its tasks is ['jar']",
    ),
    "many into one": (lambda: single().restore(vector().snapshot()), "the snapshot is of"),
    "probabilities": (lambda: setattr(vector(), "probabilities", [1]), "probabilities must"),
    "a name with a space": (row(name="ink bottle"), "the name of a closure must be"),
    "no name": (row(name=""), "the name of a closure must be"),
    "a name that is a path": (row(name="my/jar"), "the name of a closure must be"),
    "a name that is a number": (row(name=7), "the name of a closure must be"),
    "a name with markup": (row(name="[red]"), "the name of a closure must be"),
    "a range of one number": (row(torque=(0.2,)), "torque must be 2 numbers"),
    "a range that is not finite": (row(torque=(0.2, np.nan)), "torque must be 2 numbers"),
    "a range of text": (row(mass="ab"), "mass must be 2 numbers"),
    "half a step": (row(steps=80.5), "steps must be a whole number"),
    "a huge body": (row(body=(30.0, 70.0)), "sizes must lie in"),
    "no neck": (row(neck=(0.015, 0.0)), "those of body and neck at least 0.001"),
    "a body without a height": (row(body=(0.03, 0.0)), "those of body and neck at least"),
    "a lid above the hand's reach": (row(body=(0.03, 0.4)), "must be at most 0.27 m high"),
    "a bar of no length": (row(grip="bar", bar_half=0.0), "bar_half of a bar must be"),
    "a thread that opens clockwise": (row(clockwise=True), "has a negative lead, not clockwise"),
    "register a number": (lambda: register(5), "must be a Closure or a TaskSet"),
    "a closure with a set's id": (
        lambda: register(Closure(**{**ROW, "name": "first"})),
        "would have the id Uncap/First-v0, which is registered",
    ),
    "a set with a closure's id": (
        lambda: register(TaskSet("jar", ("mug",), (), "")),
        "would have the id Uncap/Jar-v0, which is registered",
    ),
    "another row of a taken name": (
        lambda: register(Closure(**{**ROW, "name": "jar"})),
        "already registered, as another closure",
    ),
    "a set with a name for paths": (
        lambda: register(TaskSet("../x", ("mug",), (), "")),
        "the name of a task set must be",
    ),
    "a set of nothing": (lambda: TaskSet("x", (), (), ""), "no row is trained"),
    "a set of no rows": (lambda: TaskSet("x", None, (), ""), "rows must be names"),
    "a set with a row twice": (lambda: TaskSet("x", ("jar", "jar"), (), ""), "is named twice"),
    "a range reserved for no row": (
        lambda: TaskSet("x", ("jar",), ("mug",), "", reserved={"mugg": "grip_radius"}),
        "did you mean 'mug'",
    ),
    "a range that does not exist": (
        lambda: TaskSet("x", ("jar",), ("mug",), "", reserved={"mug": "grip_radios"}),
        "did you mean 'grip_radius'",
    ),
    "no name of a set": (lambda: named_set(None), "task set must be a name"),
    "a drawn row's group": (
        lambda: register(Closure(**{**ROW, "group": "drawn-screw-3"})),
        "must be that of drawn-screw-3, of its group",
    ),
    "a set whose rows are text": (lambda: TaskSet("x", "jar", (), ""), "rows must be names"),
    "distance of a number": (lambda: distance(3, "jar"), "closure must be a name"),
    "distance on no axis": (lambda: distance("jar", "mug", "size"), "unknown axis 'size'"),
    "no generator": (lambda: sample_closure(0), "rng must be a generator"),
    "a distance that is text": (
        lambda: sample_closure(RNG, near="jar", distance="far"),
        "a distance needs",
    ),
    "a distance that is not finite": (
        lambda: sample_closure(RNG, near="jar", distance=np.nan),
        "a distance needs",
    ),
    "an axis that the row has no numbers of": (
        lambda: sample_closure(RNG, near="composed-right-ccw-up-0", distance=0.3, axis="motion"),
        "allowed: geometry, dynamics",
    ),
    "vectors of too few stages": (
        make(conditioning=dict.fromkeys(("jar", "mug"), np.zeros((2, 5)))),
        "4 for each task",
    ),
    "an unknown mechanism": (lambda: sample_closure(RNG, "skrew"), "did you mean 'screw'"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_gets_one_line(name):
    call, words = CALLS[name]
    tables = dict(CLOSURES), dict(TASK_SETS), set(gym.registry)
    line = answer(call)
    assert line is not None and words in line, line
    assert (dict(CLOSURES), dict(TASK_SETS), set(gym.registry)) == tables


def test_environments_go_on_after_wrong_calls():
    still_works(vector())
    still_works(single())


# Random calls

VALUES = (
    None,
    True,
    -1,
    0,
    1,
    2,
    2.5,
    np.nan,
    np.inf,
    10**9,
    2**70,
    np.int8(3),
    np.float32(0.5),
    "",
    "jar",
    "mug",
    "jarr",
    "[/red]",
    "\0",
    b"jar",
    [],
    ["jar"],
    ("jar", "mug"),
    ("jar", 3),
    [None],
    [1, 2, 3],
    [[1], [2, 3]],
    {},
    {"jar": 1},
    {"task": "mug"},
    {"reset_mask": [True, False, True]},
    {"reset_mask": None, "task": None},
    {"reset_mask": np.zeros(3, bool)},
    set(),
    object,
    print,
    np.array(2),
    np.arange(3),
    np.array([True, False, True]),
    np.zeros((3, 5)),
    np.full((3, 5), np.nan),
    np.full((3, 5), 1e300),
    np.zeros((3, 5), "U3"),
    np.array([object()] * 3),
    np.zeros((0, 5)),
    np.zeros((2, 3, 5)),
)
ARGUMENTS = (
    "tasks",
    "num_envs",
    "conditioning",
    "threads",
    "seed",
    "known_tasks",
    "autoreset_mode",
    "variant_seed",
    "history",
    "level",
    "assignment",
    "disturb",
    "sensors",
    "episode_steps",
    "privileged",
)


def any_value(rng):
    return VALUES[rng.integers(len(VALUES))]


def random_make(rng):
    names = rng.choice(ARGUMENTS, rng.integers(1, 4), replace=False)
    return make(**{str(name): any_value(rng) for name in names})


def random_reset(rng):
    return reset(seed=any_value(rng), options=any_value(rng))


def random_step(rng):
    env = single() if rng.random() < 0.3 else vector()
    value = any_value(rng)
    return lambda: env.step(value)


def random_restore(rng):
    def damage(snapshot):
        inner = snapshot["batch"] if rng.random() < 0.5 else snapshot
        name = list(inner)[rng.integers(len(inner))]
        other = list(inner)[rng.integers(len(inner))]
        inner[name] = inner[other] if rng.random() < 0.3 else any_value(rng)
        return snapshot

    return restore(damage)


def random_row(rng):
    names = rng.choice(list(ROW), rng.integers(1, 3), replace=False)
    return row(**{str(name): any_value(rng) for name in names})


def random_method(rng):
    one, two = any_value(rng), any_value(rng)
    methods = (
        lambda: register(one),
        lambda: TaskSet(one, two, (), ""),
        lambda: distance(one, two),
        lambda: sample_closure(RNG, near=one, distance=two),
        lambda: setattr(copy.deepcopy(vector()), "probabilities", one),
    )
    return methods[rng.integers(len(methods))]


KINDS = (random_make, random_reset, random_step, random_restore, random_row, random_method)


def random_call(seed):
    """A call with arguments that may be wrong."""
    rng = np.random.default_rng(seed)
    return KINDS[rng.integers(len(KINDS))](rng)


def abuse(seeds):
    """Make random calls, and see that each is answered well and the environments go on."""
    for seed in seeds:
        try:
            answer(random_call(seed))
            still_works(vector())
            still_works(single())
        except Exception as error:
            raise AssertionError(f"random_call({seed}): {error!r}") from error


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of actions that are not finite
@pytest.mark.parametrize("first", range(0, 100, 25))
def test_random_calls_are_answered_well(first):
    abuse(range(first, first + 25))
