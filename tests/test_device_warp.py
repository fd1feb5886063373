"""Episodes on MuJoCo Warp's own memory, on Warp's CPU device, are those of the CPU's engine."""

import numpy as np
import pytest
import torch

pytest.importorskip("mujoco_warp")

from uncap.envs import ClosureVectorEnv
from uncap.envs.batch import ClosureBatch
from uncap.envs.device.closures import DeviceClosures
from uncap.envs.device.starts import Starts, numbers_of
from uncap.envs.device.warp_worlds import WarpWorlds
from uncap.envs.experts import expert_action

ROWS = ("bottle", "valve", "radiator-cap", "flip-mug")  # caps, and a bar
STEPS = 20


def test_a_row_opens_on_warp_as_on_the_cpu(monkeypatch):
    monkeypatch.setenv("UNCAP_WARP_DEVICE", "cpu")
    n = len(ROWS)
    env = ClosureVectorEnv(ROWS, n, threads=1, conditioning="stages")
    want, _ = env.reset(seed=0)
    worlds = WarpWorlds(ClosureBatch(ROWS, n, threads=1), n)
    closures = DeviceClosures(
        ClosureBatch(ROWS, n, threads=1), worlds, told="stages", starts=1, expert=True
    )
    closures._starts = Starts(numbers_of(env.batch), worlds.arrays)
    got, _ = closures.reset()
    for _ in range(STEPS):
        for name, values in want.items():
            np.testing.assert_allclose(got[name], values, atol=0.03)  # of forces
        action = expert_action(env.batch.measure())
        want, reward, _, _, info = env.step(action)
        got, got_reward, _, _, got_info = closures.step(torch.as_tensor(action))
        np.testing.assert_allclose(got_reward, reward, atol=1e-3)
    assert (info["progress"] > 0.1).all()
    np.testing.assert_allclose(got_info["expert"], expert_action(env.batch.measure()), atol=1e-2)
