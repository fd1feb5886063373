"""Episodes on MuJoCo Warp's own memory, on Warp's CPU device, are those of the CPU's engine."""

import contextlib
import gc
import os
import types

import numpy as np
import pytest
import torch

pytest.importorskip("mujoco_warp")

from uncap.envs import ClosureVectorEnv, engine_warp
from uncap.envs.batch import ClosureBatch
from uncap.envs.device import warp_worlds
from uncap.envs.device.closures import DeviceClosures
from uncap.envs.device.starts import Starts, numbers_of
from uncap.envs.device.warp_worlds import WarpWorlds
from uncap.envs.engines import EngineUnavailable
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


def test_worlds_whose_physics_cannot_be_recorded_are_stepped_and_that_is_said(monkeypatch):
    monkeypatch.setenv("UNCAP_WARP_DEVICE", "cpu")
    batch = ClosureBatch(("valve",), 1, threads=1)
    states = []
    for works in (True, False):
        worlds = WarpWorlds(batch, 1)
        closures = DeviceClosures(batch, worlds, starts=1)
        said = contextlib.nullcontext()
        if not works:

            def capturing(**_):
                raise RuntimeError("CUDA graph capture failed")

            monkeypatch.setattr(engine_warp.warp, "ScopedCapture", capturing)
            said = pytest.warns(UserWarning, match="no graph of the physics: CUDA graph capture")
        with said:
            closures.step(torch.zeros(1, 5))
        states.append(worlds.arrays["qpos"].clone())
    assert torch.equal(*states) and not worlds.is_captured


# What is done with CUDA, in its place something that notes it


class Cuda:
    """In place of `torch.cuda`: the present device and stream, and graphs that cannot be made."""

    def __init__(self, problem):
        self.problem = problem  # with what a capture fails
        self.now = ("cuda:0", "default of cuda:0")  # device, stream

    def Stream(self):  # noqa: N802 - torch's name
        device, _ = self.now
        return types.SimpleNamespace(name=f"side of {device}", wait_stream=lambda stream: None)

    def current_stream(self):
        return self.now[1]

    def set_stream(self, stream):
        self.now = (self.now[0], stream)

    @contextlib.contextmanager
    def device(self, device):
        before, self.now = self.now, (device, f"default of {device}")
        yield
        self.now = before

    @contextlib.contextmanager
    def stream(self, stream):
        before, self.now = self.now, (self.now[0], stream.name)
        yield
        self.now = before

    def synchronize(self):
        pass

    def CUDAGraph(self):  # noqa: N802 - likewise
        return types.SimpleNamespace(replay=lambda: None)

    @contextlib.contextmanager
    def graph(self, graph, stream, capture_error_mode):
        """As torch's: where the end of a capture fails, the stream stays."""
        self.set_stream(stream.name)
        try:
            yield
        finally:
            raise self.problem


def worlds_on_cuda(monkeypatch, device, problem):
    """Worlds that capture on a device of a `Cuda`, with nothing in them; and that."""
    monkeypatch.setenv("UNCAP_WARP_DEVICE", "cpu")
    cuda = Cuda(problem)
    monkeypatch.setattr(warp_worlds, "torch", types.SimpleNamespace(cuda=cuda))
    nothing = types.SimpleNamespace(
        stream_from_torch=lambda stream: stream,
        ScopedStream=lambda stream, sync_enter: contextlib.nullcontext(),
        ScopedCapture=lambda stream, external: contextlib.nullcontext(
            types.SimpleNamespace(graph=None)
        ),
    )
    monkeypatch.setattr(warp_worlds, "warp", nothing)
    engine = object.__new__(engine_warp.WarpEngine)
    engine.n, engine._has_stepped, engine._process = 7, True, os.getpid()
    engine.device = types.SimpleNamespace(is_cuda=True, name="a GPU")
    monkeypatch.setattr(engine_warp.warp, "ScopedDevice", lambda device: contextlib.nullcontext())
    worlds = object.__new__(WarpWorlds)
    worlds.engine, worlds._is_alone = engine, False
    worlds.arrays = {"qpos": types.SimpleNamespace(device=device)}
    return worlds, cuda


def test_a_capture_that_fails_leaves_the_stream_that_was_there(monkeypatch):
    worlds, cuda = worlds_on_cuda(monkeypatch, "cuda:1", RuntimeError("capture was invalidated"))
    seen = []

    def advance():
        seen.append(cuda.now)

    leaving = []
    set_stream = cuda.set_stream
    monkeypatch.setattr(
        cuda, "set_stream", lambda stream: (leaving.append(stream), set_stream(stream))
    )
    with pytest.warns(UserWarning, match="no CUDA graph of whole control steps: capture was inv"):
        assert worlds.captured(advance) is advance
    assert worlds._is_alone and gc.isenabled()
    assert set(seen) == {
        ("cuda:1", "side of cuda:1")
    }  # on the worlds' GPU, not torch's present one
    assert leaving[-1] == "default of cuda:1"
    assert cuda.now == ("cuda:0", "default of cuda:0")


def test_why_a_capture_failed_is_said_and_not_only_that_it_was_ended(monkeypatch):
    ended = RuntimeError("CUDA error: operation failed due to a previous error\nduring capture")
    worlds, _ = worlds_on_cuda(monkeypatch, "cuda:0", ended)

    def advance():
        raise RuntimeError("Conditional graph nodes require\nCUDA driver 12.4+")

    monkeypatch.setattr(worlds, "_warm_up", lambda *_: None)
    said = "control steps: Conditional graph nodes require CUDA driver 12.4\\+; the physics"
    with pytest.warns(UserWarning, match=said):
        worlds.captured(advance)


def test_too_little_memory_in_a_capture_that_it_ends_is_said_as_that(monkeypatch):
    worlds, _ = worlds_on_cuda(monkeypatch, "cuda:0", RuntimeError("capture was invalidated"))

    def advance():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr(worlds, "_warm_up", lambda *_: None)
    with pytest.raises(EngineUnavailable, match="^a GPU has too little memory for 7 simulations"):
        worlds.captured(advance)


@pytest.mark.parametrize("when", ["warm-up", "capture"])
def test_too_little_memory_for_a_graph_is_said_as_that(when, monkeypatch):
    problem = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
    worlds, cuda = worlds_on_cuda(monkeypatch, "cuda:0", problem)

    def advance():
        if when == "warm-up":
            raise problem

    with pytest.raises(EngineUnavailable, match="^a GPU has too little memory for 7 simulations"):
        worlds.captured(advance)
    assert cuda.now == ("cuda:0", "default of cuda:0") and gc.isenabled()


def test_too_little_memory_for_pictures_is_one_line(monkeypatch):
    def pictures(*_):
        raise RuntimeError("Failed to allocate 9 bytes on device 'cuda:0'")

    worlds, _ = worlds_on_cuda(monkeypatch, "cuda:0", None)
    worlds.engine.model = worlds.engine.data = None
    monkeypatch.setattr(warp_worlds, "Pictures", pictures)
    with pytest.raises(EngineUnavailable, match="too little memory for 7 simulations"):
        worlds.pictures([])


def test_a_torch_without_cuda_beside_a_gpu_is_said(monkeypatch):
    gpu = types.SimpleNamespace(is_cuda=True)
    monkeypatch.setattr(warp_worlds, "device", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineUnavailable, match="finds no GPU, and MuJoCo Warp does"):
        WarpWorlds(None, 4)
