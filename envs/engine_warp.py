"""The engine on a GPU: MuJoCo Warp, in float32, all simulations as worlds of one model.

Simulations are held as NumPy arrays here, too. A call sends them to the device, computes all
worlds there, and fetches what it is asked for: the device remembers nothing between calls. Results
are those of a CPU but for rounding; on a GPU they are not the same bits from run to run.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's compiled names have no stubs)

from __future__ import annotations

import contextlib
import copy
import functools
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import mujoco
import numpy as np

from uncap.envs.engines import (
    EngineUnavailable,
    Scene,
    first_cause,
    lacks_memory,
    within_memory,
)
from uncap.envs.scene import DIVERGES, LARGEST
from uncap.envs.warp_scene import WarpScene

try:
    import mujoco_warp
    import warp
except ModuleNotFoundError:
    raise EngineUnavailable(
        'the engine warp needs MuJoCo Warp: pip install "uncap[warp]"'
    ) from None

DEVICE = "UNCAP_WARP_DEVICE"  # environment variable: cpu, cuda, cuda:1
# The most that was met with rough actions is 14 contacts and 52 rows of constraints
CONTACTS = 24  # of a world on average; all share them
LEAST_CONTACTS = 256  # of all worlds together
CONSTRAINTS = 80  # of each world
QUIET_SECONDS = 10.0  # that a call may take before it is said why, until the first step is made
COMPILING = "compiling MuJoCo Warp's kernels: minutes the first time, seconds from then on\n"
_NO_DRIVER = "Could not find or load the NVIDIA CUDA driver"  # so says Warp
_STATE = {  # by name, in the order of `mjSTATE_INTEGRATION`
    "time": mujoco.mjtState.mjSTATE_TIME,
    "qpos": mujoco.mjtState.mjSTATE_QPOS,
    "qvel": mujoco.mjtState.mjSTATE_QVEL,
    "qacc_warmstart": mujoco.mjtState.mjSTATE_WARMSTART,
    "ctrl": mujoco.mjtState.mjSTATE_CTRL,
    "qfrc_applied": mujoco.mjtState.mjSTATE_QFRC_APPLIED,
    "xfrc_applied": mujoco.mjtState.mjSTATE_XFRC_APPLIED,
    "eq_active": mujoco.mjtState.mjSTATE_EQ_ACTIVE,
    "mocap_pos": mujoco.mjtState.mjSTATE_MOCAP_POS,
    "mocap_quat": mujoco.mjtState.mjSTATE_MOCAP_QUAT,
}
# Of the state, what a step changes; the rest stays as it was written, without Warp's rounding
_STEPPED = ("time", *DIVERGES)
_PLACED = {"site_xpos", "site_xmat", "xpos", "xquat", "xmat", "xanchor", "xaxis"}  # by kinematics
# Model fields that Warp has once for all worlds, or not at all, and does without
_SHARED = {
    "geom_type",  # see `warp_scene`
    "jnt_limited",  # likewise
    "dof_length",  # of bodies that sleep
    "dof_M0",
    "bvh_aabb",
}
_OVERFLOWS = (
    mujoco_warp.OverflowType.NEFC
    | mujoco_warp.OverflowType.BROADPHASE
    | mujoco_warp.OverflowType.NARROWPHASE
)


class _Link:
    """NumPy's way to one of Warp's arrays.

    Attributes:
        array: Warp's, with a row for each world.
    """

    def __init__(self, array: Any):
        self.array = array
        self._near = array  # in the processor's memory
        if array.device.is_cuda:
            self._near = warp.empty(array.shape, dtype=array.dtype, device="cpu", pinned=True)
        self._numbers = self._near.numpy()

    def send(self, values: np.ndarray) -> None:
        """Send values (n, ...), in MuJoCo's shape, rounded to Warp's type."""
        self._numbers.reshape(values.shape)[...] = values
        if self._near is not self.array:
            warp.copy(self.array, self._near)

    def ask(self) -> None:
        """Begin to fetch."""
        if self._near is not self.array:
            warp.copy(self._near, self.array)

    def fetched(self, like: np.ndarray) -> np.ndarray:
        """What `ask` asked for (n, ...), in the shape of an array."""
        return self._numbers.reshape(like.shape)


class WarpEngine:
    """See `engines.Engine`.

    Args:
        scene: what is simulated.
        n: worlds.
        threads: not used.

    Attributes:
        device: Warp's.
        fields: values (models, ...) of the scene's fields by name, as Warp's model has them.
        model: MuJoCo Warp's.
        data: likewise.
        overflows: how often a world had more contacts or constraints than there is room for: those
            too many did not act. By world and control step.

    Raises:
        EngineUnavailable: no such device, or too little memory on it.
        ValueError: variants differ in a field that Warp has once for all worlds.
    """

    lost = False  # a fork leaves the processor's; of a GPU's nothing can be made, see `running`
    threads = 1

    def __init__(self, scene: Scene, n: int, threads: int):
        self.n = n
        self.device = device()
        _warn_of_the_processor(self.device)
        self.overflows = 0
        self._has_stepped = False  # all kernels are there
        self._process = os.getpid()
        self._scene = WarpScene(scene)
        self.fields = self._converted_tables(scene.fields)
        self._template = scene.model
        self._data_template = mujoco.MjData(scene.model)
        self._graphs: dict[str, Callable[[], None]] = {}  # what is computed, recorded
        with self.running():
            self.model = _put_model(self._scene.model, self.device)
            self.data = mujoco_warp.make_data(
                self._scene.model,
                nworld=n,
                naconmax=max(CONTACTS * n, LEAST_CONTACTS),
                njmax=CONSTRAINTS,
            )
        self._open_state()
        self._outputs: dict[str, np.ndarray] = {}
        self._fields: dict[str, np.ndarray] = {}
        self._sent: dict[str, np.ndarray] = {}  # of fields, as they were last sent
        for name in scene.fields:
            self.expand(name)

    def _converted_tables(self, tables: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The variants' model fields (models, ...) as Warp's model has them."""
        return {
            name: self._scene.converted(name, values, tables)
            for name, values in tables.items()
            if name not in _SHARED
        }

    @property
    def arrays(self) -> Mapping[str, Any]:
        """Warp's arrays of what is bound or expanded, by name, a row for each world."""
        return {name: link.array for name, link in self._links.items()}

    def _open_state(self) -> None:
        """Make the matrix of the states, with the model's own in every row."""
        model = self._scene.model
        first = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
        data = mujoco.MjData(model)
        mujoco.mj_getState(model, data, first, mujoco.mjtState.mjSTATE_INTEGRATION)
        self._first = first  # (size,)
        self.state = np.tile(first, (self.n, 1))
        self._parts: dict[str, np.ndarray] = {}  # views of `state`, (n, ...) by name
        begin = 0
        for name, component in _STATE.items():
            size = mujoco.mj_stateSize(model, component)
            shape = np.shape(getattr(data, name))
            self._parts[name] = self.state[:, begin : begin + size].reshape(self.n, *shape)
            begin += size
        assert begin == len(first), "the scene has a state that is not sent"
        self._links = {name: self._linked(getattr(self.data, name)) for name in _STATE}
        self._diverged = np.zeros(self.n, bool)

    def _linked(self, array: Any) -> _Link:
        """The way to an array; on a GPU it takes memory of the processor's."""
        with self.running():
            return _Link(array)

    def bind(self, name: str) -> np.ndarray:
        """See `engines.Engine`."""
        if name in self._parts:
            return self._parts[name]
        if name not in self._outputs:
            shape = np.shape(getattr(self._data_template, name))
            self._outputs[name] = np.zeros((self.n, *shape))
            self._links[name] = self._linked(getattr(self.data, name))
        read_only = self._outputs[name].view()
        read_only.flags.writeable = False
        return read_only

    def expand(self, name: str) -> np.ndarray:
        """See `engines.Engine`.

        Raises:
            ValueError: Warp has the field once for all worlds.
        """
        if name not in self._fields:
            own = np.asarray(getattr(self._template, name))
            self._fields[name] = np.tile(own, (self.n, *np.ones(own.ndim, int)))
            if name not in _SHARED:
                self._make_own(name)
        return self._fields[name]

    def _make_own(self, name: str) -> None:
        """Give each world values of its own in a field of Warp's model."""
        common = getattr(self.model, name, None)
        if common is None or not getattr(common, "_is_batched", False):
            raise ValueError(f"MuJoCo Warp has {name} once for all simulations")
        shape = (self.n, *common.shape[1:])
        with self.running():
            own = warp.zeros(shape, dtype=common.dtype)
        setattr(self.model, name, own)
        self._links[name] = self._linked(own)
        self._graphs.clear()  # they hold the array that was there

    def reset(self, ids: np.ndarray) -> None:
        """See `engines.Engine`."""
        self.state[ids] = self._first

    def place(self, ids: np.ndarray) -> None:
        """See `engines.Engine`."""
        with self.running():
            self._launch("place", lambda: mujoco_warp.fwd_kinematics(self.model, self.data))
            self._fetch([name for name in self._outputs if name in _PLACED], ids)

    def forward(self, ids: np.ndarray) -> None:
        """See `engines.Engine`."""
        with self.running():
            self._launch("forward", lambda: mujoco_warp.forward(self.model, self.data))
            self._fetch(list(self._outputs), ids)

    def step(self, steps: int) -> None:
        """See `engines.Engine`."""
        self._diverged = self._is_off()
        with self.running():
            self._launch("step", lambda: mujoco_warp.step(self.model, self.data), steps)
            self._fetch([*self._outputs, *_STEPPED], slice(None))
            self.count_overflows()
        self._diverged |= self._is_off()
        self._has_stepped = True

    def _launch(self, name: str, compute: Callable[[], None], times: int = 1) -> None:
        """Send what the device needs, and compute so many times.

        What is computed is recorded as a graph the first time.
        """
        self._send()
        if name not in self._graphs:
            compute()  # loads the kernels, which cannot be loaded while it is recorded
            self._graphs[name] = recorded(compute, self.device)
            self._send()
        for _ in range(times):
            self._graphs[name]()

    def count_overflows(self) -> None:
        """Count the worlds that had too little room since the last call; the first time, say it."""
        overflown = self.data.overflow.numpy() & _OVERFLOWS  # (n,)
        if not overflown.any():
            return
        if not self.overflows:
            warnings.warn(
                "a simulation had more contacts or constraints than the engine warp has room for: "
                "some did not act; `overflows` counts them",
                stacklevel=2,
            )
        self.overflows += int(np.count_nonzero(overflown))
        self.data.overflow.zero_()

    def _is_off(self) -> np.ndarray:
        """Which simulations have a number that is not finite, or too large, bool (n,)."""
        fine = np.ones(self.n, bool)
        for name in DIVERGES:
            fine &= (np.abs(self._parts[name]) < LARGEST).all(1)
        return ~fine

    def diverged(self) -> np.ndarray:
        """See `engines.Engine`."""
        return np.flatnonzero(self._diverged)

    def _send(self) -> None:
        """Send all states, and the fields that have changed."""
        with np.errstate(over="ignore", invalid="ignore"):  # of what is about to diverge
            for name, part in self._parts.items():
                self._links[name].send(part)
        changed = [name for name in self._fields if self._has_changed(name)]
        types = "geom_type" in changed
        if "jnt_limited" in changed and "jnt_range" in self._links:
            changed.append("jnt_range")
        for name, values in self._fields.items():
            if name in self._links and (name in changed or types and name.startswith("geom_")):
                self._links[name].send(self._scene.converted(name, values, self._fields))

    def _has_changed(self, name: str) -> bool:
        """Whether a field is not what was last sent, bit for bit: NaN is NaN."""
        values = self._fields[name]
        bits = f"u{values.itemsize}"
        if name in self._sent and np.array_equal(values.view(bits), self._sent[name].view(bits)):
            return False
        self._sent[name] = values.copy()
        return True

    def _fetch(self, names: list[str], ids: Any) -> None:
        """Fetch states and outputs by name, of simulations ids."""
        for name in names:
            self._links[name].ask()
        warp.synchronize_device(self.device)
        for name in names:
            values = self._outputs[name] if name in self._outputs else self._parts[name]
            values[ids] = self._links[name].fetched(values)[ids]

    def get_model(self, simulation: int) -> Any:
        """See `engines.Engine`."""
        model = copy.copy(self._scene.model)
        row = {name: values[simulation : simulation + 1] for name, values in self._fields.items()}
        for name, values in row.items():
            if name not in _SHARED:
                getattr(model, name)[:] = self._scene.converted(name, values, row)[0]
        # its tree of bounding volumes is of the first variant
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_MIDPHASE
        return model

    def get_data(self, simulation: int) -> Any:
        """See `engines.Engine`."""
        model = self._scene.model
        data = mujoco.MjData(model)
        whole = mujoco.mjtState.mjSTATE_INTEGRATION
        mujoco.mj_setState(model, data, self.state[simulation], whole)
        return data

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Use the device, say why it takes long, and make one line of what it lacks.

        Raises:
            EngineUnavailable: too little memory, or a process that CUDA does not follow.
        """
        if self.device.is_cuda and os.getpid() != self._process:
            raise EngineUnavailable(
                "CUDA does not survive a fork: make the environment in the process that steps it"
            )
        with (
            within_memory(
                f"{self.device.name} has too little memory for {self.n} simulations: fewer "
                "sub-environments need less"
            ),
            warp.ScopedDevice(self.device),
            contextlib.nullcontext() if self._has_stepped else _said_when_slow(),
        ):
            yield


def _put_model(model: Any, chosen: Any) -> Any:
    """MuJoCo Warp's model of MuJoCo's, such that what is computed on a device can be recorded."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*CUDA version < 12.4")  # said below, in a line
        made = mujoco_warp.put_model(model)
    made.opt.warn_overflow = 0  # they are counted
    if not _loops(chosen):
        made.opt.graph_conditional = False
        warnings.warn(
            "the GPU's driver is older than CUDA 12.4, and its graphs have no loops: every solve "
            f"has all its {made.opt.iterations} iterations, which is slower",
            stacklevel=3,
        )
    return made


def _loops(chosen: Any) -> bool:
    """Whether a graph on a device can hold a loop that ends early."""
    return not chosen.is_cuda or warp.is_conditional_graph_supported()


def recorded(compute: Callable[[], None], chosen: Any) -> Callable[[], None]:
    """What does the same as `compute`, recorded as a graph; where it cannot be, `compute` itself.

    Launching kernels one by one from Python takes longer than most of them.

    Args:
        compute: launches kernels that are loaded.
        chosen: Warp's device.

    Raises:
        RuntimeError: too little memory.
    """
    try:
        with warp.ScopedCapture(device=chosen) as capture:
            compute()
    except RuntimeError as error:
        cause = capture_problem(error)
        warnings.warn(
            f"no graph of the physics: {cause}; its kernels are launched one by one, which is "
            "slower",
            stacklevel=3,
        )
        return compute
    graph: Any = capture.graph  # there is one, now
    return functools.partial(warp.capture_launch, graph)


def capture_problem(error: RuntimeError) -> str:
    """Why a graph was not recorded, in one line.

    A capture that an error has ended is ended by another one, which says nothing of it.

    Raises:
        RuntimeError: there was too little memory, which fewer worlds need less of.
    """
    first = first_cause(error)
    for found in (error, first):
        if lacks_memory(found):
            raise found
    text = " ".join(str(first).split()) or type(first).__name__
    return text if isinstance(first, RuntimeError) else f"{type(first).__name__}: {text}"


def device() -> Any:
    """Warp's device that is asked for; else the first GPU, or the processor where there is none.

    Raises:
        EngineUnavailable: there is no such device.
    """
    _start()
    asked = os.environ.get(DEVICE, "")
    there = {str(device): device for device in warp.get_devices()}
    if warp.is_cuda_available():
        there["cuda"] = warp.get_preferred_device()
    if asked:
        if asked not in there:
            raise EngineUnavailable(
                f"{DEVICE}={asked}: MuJoCo Warp finds no such device, only {', '.join(there)}"
            )
        return there[asked]
    return warp.get_preferred_device()


@functools.cache
def _start() -> None:
    """Start Warp, quietly: a driver that is missing is said where one is needed."""
    level = warp.config.log_level
    warp.config.log_level = warp.LOG_ERROR
    with _without(_NO_DRIVER):
        warp.init()
    warp.config.log_level = max(level, warp.LOG_WARNING)  # not a line for every module


@contextlib.contextmanager
def _without(words: str) -> Iterator[None]:
    """Leave out the lines with some words that compiled code writes to the standard error."""
    with tempfile.TemporaryFile() as written:
        try:
            before = os.dup(2)
        except OSError:  # it is closed
            yield
            return
        try:
            os.dup2(written.fileno(), 2)
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
            written.seek(0)
            lines = written.read().decode(errors="replace").splitlines(keepends=True)
            sys.stderr.write("".join(line for line in lines if words not in line))


def _warn_of_the_processor(chosen: Any) -> None:
    """Warn where the processor is used, and was not asked for."""
    if not chosen.is_cuda and not os.environ.get(DEVICE):
        warnings.warn(
            "MuJoCo Warp finds no GPU and runs on the processor, slower than the engine cpu "
            f"({DEVICE}=cpu asks for that)",
            stacklevel=3,
        )


@contextlib.contextmanager
def _said_when_slow() -> Iterator[None]:
    """Say that kernels are compiled, if that takes long."""
    timer = threading.Timer(QUIET_SECONDS, sys.stderr.write, [COMPILING])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
