"""Speed of the environments, as a ratio against bare physics in the same process, and of the policies."""

from __future__ import annotations

import resource
import time

import numpy as np
from gymnasium.vector import AutoresetMode

from agents.config import LearnerConfig, NetworkConfig, PPOConfig
from agents.learner import Acting, Learner
from agents.tables import BODIES
from envs import ClosureVectorEnv
from envs.batch import CONTROL_DT
from envs.scene import SUBSTEPS

BLOCK = 10  # control steps of environment, then of bare physics


def benchmark(
    tasks: tuple[str, ...],
    num_envs: int,
    steps: int,
    threads: int,
    seed: int,
    observation: str = "state",
) -> dict:
    """Random policy at 20 Hz against `Batch.step` from the same states with the same controls.

    Environment and bare physics alternate in blocks of ten control steps: every bare
    step repeats the physics of an environment step, so that both see the same contacts
    and the same load of the machine.

    Returns:
        env_steps_per_second, simulated_seconds_per_second, fraction_of_raw_physics,
        startup_seconds (compiling every variant and the first reset), and
        peak_memory_gb of the process, libraries included.
    """
    began = time.perf_counter()
    env = ClosureVectorEnv(tasks, num_envs, threads=threads, observation=observation)
    env.reset(seed=seed)
    startup = time.perf_counter() - began
    rng, sim = np.random.default_rng(seed), env.batch.sim
    whole = bare = 0.0
    for _ in range(-(-steps // BLOCK)):
        done = []
        for _ in range(BLOCK):
            action, before = rng.uniform(-1, 1, (num_envs, 5)), sim.state.copy()
            began = time.perf_counter()
            env.step(action)
            whole += time.perf_counter() - began
            done.append((before, env.batch.ctrl.copy()))
        after = sim.state.copy()
        for before, controls in done:
            sim.state[:] = before
            env.batch.ctrl[:] = controls
            began = time.perf_counter()
            sim.step(nstep=SUBSTEPS)
            bare += time.perf_counter() - began
        sim.state[:] = after
    steps = -(-steps // BLOCK) * BLOCK
    speed = num_envs * steps / whole
    return {
        "threads": env.batch.sim.nthread,
        "num_envs": num_envs,
        "observation": observation,
        "control_steps": steps,
        "env_steps_per_second": speed,
        "simulated_seconds_per_second": speed * CONTROL_DT,
        "fraction_of_raw_physics": bare / whole,
        "rows": len(tasks),
        "startup_seconds": startup,
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def inference(
    tasks: tuple[str, ...], num_envs: int, repeats: int = 200
) -> dict[str, dict[str, float]]:
    """Median milliseconds of a policy's `act` by body, for num_envs environments and for one, on one thread."""
    found = {}
    for body in BODIES:
        config = LearnerConfig(
            num_envs=num_envs, network=NetworkConfig(body), ppo=PPOConfig(rollout=8)
        )
        learner = Learner(tasks, config, seed=0)
        found[body] = {}
        for n in (num_envs, 1):
            env = ClosureVectorEnv(
                tasks, n, conditioning="parameters", autoreset_mode=AutoresetMode.DISABLED
            )
            observation, info = env.reset(seed=0)
            act, times = Acting(learner.policy, tasks)(env), []
            for _ in range(repeats):
                began = time.perf_counter()
                act(observation, info["task"])
                times.append(1000 * (time.perf_counter() - began))
            found[body][str(n)] = float(np.median(times))
            env.close()
        learner.env.close()
    return found
