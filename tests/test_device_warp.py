"""Episodes on MuJoCo Warp's own memory, on Warp's CPU device, are those of the CPU's engine."""

import numpy as np
import pytest
import torch

pytest.importorskip("mujoco_warp")

from uncap.envs import ClosureVectorEnv, engine_warp
from uncap.envs.batch import ClosureBatch
from uncap.envs.device.closures import DeviceClosures
from uncap.envs.device.starts import Starts, numbers_of
from uncap.envs.device.warp_worlds import WarpWorlds
from uncap.envs.experts import expert_action

ROWS = ("bottle", "valve", "radiator-cap", "flip-mug")  # caps, and a bar
STEPS = 19  # the radiator cap comes off in the next: what hits what then differs


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


def test_pushes_delay_and_noise_act_on_warp(monkeypatch):
    """One world is pushed, of two that are otherwise alike; and the state has noise."""
    monkeypatch.setenv("UNCAP_WARP_DEVICE", "cpu")
    disturb = {"push": 3, "delay": 1, "noise": 1}
    batch = ClosureBatch(("bottle",), 2, threads=1, disturb=disturb)
    closures = DeviceClosures(batch, WarpWorlds(batch, 2), starts=1, history=2)
    draws = closures.step_of.draws

    def renew(generator):
        draws.uniform[:] = torch.tensor([[0.0, 0.5], [0.9, 0.5]])  # along x, and not at all
        draws.normal[:] = 1.0

    monkeypatch.setattr(draws, "renew", renew)
    closures.reset()
    for _ in range(2):
        observation, *_ = closures.step(torch.ones(2, 5))
    hand = closures.step_of.measured["tcp"].tensor
    assert 1e-3 < hand[0, 0] - hand[1, 0] < 0.1  # m
    assert observation["state"].shape == (2, 72)
    assert torch.allclose(observation["state"][:, 35], observation["state"][:, 71])  # the bar's
    noise = observation["state"][:, 71] - closures.step_of.observe()[:, 35]
    assert ((noise > 0.004) & (noise < 0.011)).all()


def test_worlds_without_room_for_their_contacts_are_said(monkeypatch):
    monkeypatch.setenv("UNCAP_WARP_DEVICE", "cpu")
    monkeypatch.setattr(engine_warp, "CONTACTS", 0)
    monkeypatch.setattr(engine_warp, "LEAST_CONTACTS", 1)
    worlds = WarpWorlds(ClosureBatch(("jar",), 2, threads=1), 2)
    closures = DeviceClosures(ClosureBatch(("jar",), 2, threads=1), worlds, starts=1, expert=True)
    _, info = closures.reset()
    closures.check()
    for _ in range(12):  # until it is held
        _, _, _, _, info = closures.step(info["expert"])
    with pytest.warns(UserWarning, match="more contacts or constraints"):
        closures.check()
    assert worlds.engine.overflows > 0
