"""Speed of the environments, as a ratio to bare physics in the same process, and of policies."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
from gymnasium.vector import AutoresetMode

from uncap.agents.config import LearnerConfig, NetworkConfig, PPOConfig
from uncap.agents.learner import Learner
from uncap.agents.policy import Acting
from uncap.agents.tables import BODIES
from uncap.envs import ClosureVectorEnv
from uncap.envs.batch import CONTROL_DT
from uncap.envs.scene import SUBSTEPS
from uncap.evaluation.protocol import Policy

Clock = Callable[[], float]  # seconds
BLOCK = 10  # control steps of environment, then of bare physics


def benchmark(  # noqa: PLR0913 - what is measured, by name
    tasks: tuple[str, ...],
    num_envs: int,
    steps: int,
    threads: int,
    seed: int,
    observation: str = "state",
    sensors: str = "full",
    engine: str = "cpu",
    on_block: Callable[[int, int], object] = lambda done, total: None,
) -> dict:
    """Random policy at 20 Hz against bare physics, from the same states with the same controls.

    Environment and bare physics alternate in blocks of ten control steps. Every bare step
    repeats the physics of an environment step, so that both have the same contacts and run
    under the same load of the machine.

    Args:
        tasks: rows of the table.
        num_envs: number of sub-environments.
        steps: control steps, rounded up to whole blocks.
        threads: of the physics; 0: as many as `cores.set_threads` says.
        seed: of the starts and the actions.
        observation: see `ClosureVectorEnv`.
        sensors: likewise.
        engine: likewise.
        on_block: called with (blocks done, all of them) after each.

    Returns:
        env_steps_per_second, simulated_seconds_per_second, fraction_of_raw_physics,
        startup_seconds (compiling every variant and the first reset), and
        peak_memory_gb of the process, libraries included; None where it is not known.
    """
    began = time.perf_counter()
    env = ClosureVectorEnv(
        tasks,
        num_envs,
        threads=threads,
        observation=observation,
        sensors=sensors,
        engine=engine,
    )
    env.reset(seed=seed)
    startup_seconds = time.perf_counter() - began
    rng = np.random.default_rng(seed)
    blocks = math.ceil(steps / BLOCK)
    env_seconds = 0.0
    physics_seconds = 0.0
    for done in range(1, blocks + 1):
        seconds, stepped = environment_block(env, rng)
        env_seconds += seconds
        physics_seconds += physics_block(env, stepped)
        on_block(done, blocks)
    control_steps = blocks * BLOCK
    env_steps_per_second = num_envs * control_steps / env_seconds
    return {
        "engine": engine,
        "threads": env.batch.sim.threads,
        "num_envs": num_envs,
        "observation": observation,
        "sensors": sensors,
        "control_steps": control_steps,
        "env_steps_per_second": env_steps_per_second,
        "simulated_seconds_per_second": env_steps_per_second * CONTROL_DT,
        "fraction_of_raw_physics": physics_seconds / env_seconds,
        "rows": len(tasks),
        "startup_seconds": startup_seconds,
        "peak_memory_gb": _peak_memory(),
    }


def _peak_memory() -> float | None:
    """Most gigabytes that this process has had; None where the system does not say (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1e3  # bytes there, kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def environment_block(
    env: ClosureVectorEnv, rng: np.random.Generator, clock: Clock = time.perf_counter
) -> tuple[float, list[tuple[np.ndarray, np.ndarray]]]:
    """BLOCK random control steps.

    Returns:
        Seconds in `env.step`, and for each step the physics' states before it and its controls.
    """
    seconds = 0.0
    stepped = []
    for _ in range(BLOCK):
        action = rng.uniform(-1, 1, (env.num_envs, 5))
        state = env.batch.sim.state.copy()
        began = clock()
        env.step(action)
        seconds += clock() - began
        stepped.append((state, env.batch.ctrl.copy()))
    return seconds, stepped


def physics_block(
    env: ClosureVectorEnv,
    stepped: Sequence[tuple[np.ndarray, np.ndarray]],
    clock: Clock = time.perf_counter,
) -> float:
    """Repeat the physics of control steps; seconds. The environment's state stays what it was."""
    sim = env.batch.sim
    seconds = 0.0
    kept = sim.state.copy()
    for state, controls in stepped:
        sim.state[:] = state
        env.batch.ctrl[:] = controls
        began = clock()
        sim.step(SUBSTEPS)
        seconds += clock() - began
    sim.state[:] = kept
    return seconds


def inference(
    tasks: tuple[str, ...],
    num_envs: int,
    repeats: int = 200,
    on_body: Callable[[int, int, str], object] = lambda done, total, name: None,
) -> dict[str, dict[str, float]]:
    """Median milliseconds of a policy's `act` on one thread.

    Args:
        tasks: rows of the table.
        num_envs: a batch size; the other is 1.
        repeats: calls that are timed.
        on_body: called with (bodies done, all of them, name) after each.

    Returns:
        {body: {batch size: milliseconds}}.
    """
    found = {}
    for done, body in enumerate(BODIES, start=1):
        config = LearnerConfig(
            num_envs=num_envs, network=NetworkConfig(body), ppo=PPOConfig(rollout=8)
        )
        learner = Learner(tasks, config, seed=0)
        policy = Acting(learner.policy, tasks)
        found[body] = {
            str(batch_size): _act_milliseconds(policy, tasks, batch_size, repeats)
            for batch_size in (num_envs, 1)
        }
        learner.env.close()
        on_body(done, len(BODIES), body)
    return found


def _act_milliseconds(
    policy: Policy, tasks: tuple[str, ...], batch_size: int, repeats: int
) -> float:
    """The median of `repeats` calls with the same observation."""
    env = ClosureVectorEnv(
        tasks, batch_size, conditioning="parameters", autoreset_mode=AutoresetMode.DISABLED
    )
    observation, info = env.reset(seed=0)
    act = policy(env)
    milliseconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        act(observation, info["task_index"])
        milliseconds.append(1000 * (time.perf_counter() - began))
    env.close()
    return float(np.median(milliseconds))
