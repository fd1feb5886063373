"""RLlib trains on the environments as they are; it pins an older Gymnasium, so it is optional."""

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("ray.rllib")


def test_rllib_learns_an_update_on_flattened_observations():
    import ray
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.tune.registry import register_env

    import uncap  # noqa: F401  # registers the ids

    def make(_):
        return gym.wrappers.FlattenObservation(gym.make("Uncap/Jar-v0"))

    register_env("jar", make)
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        config = (
            PPOConfig()
            .environment("jar")
            .env_runners(num_env_runners=0)
            .training(train_batch_size_per_learner=160, minibatch_size=80, num_epochs=1)
        )
        algorithm = config.build_algo()
        found = algorithm.train()
        algorithm.stop()
    finally:
        ray.shutdown()
    assert found["env_runners"]["num_env_steps_sampled"] >= 160
    assert np.isfinite(found["env_runners"]["episode_return_mean"])
