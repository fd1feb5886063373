"""What runs the simulations: a table of engines, imported when they are asked for.

An engine holds n simulations of one scene as NumPy arrays with a row each. What is written into
them is the simulations' state, or their own model, at the next call.
"""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from uncap.envs.tables import UnknownName, brief


class EngineUnavailable(RuntimeError):
    """What an engine needs is not installed, or not there; the message is one line."""


# What PyTorch and MuJoCo Warp say of it
_LACKS_MEMORY = re.compile(
    r"out of memory|not enough memory|can't allocate memory|failed to allocate \d+ bytes", re.I
)
_NO_POOLS = "memory pools are not"  # so says Warp, which then allocates nothing in a graph


def lacks_memory(error: BaseException) -> bool:
    """Whether an error of NumPy, PyTorch or MuJoCo Warp says that there is too little memory."""
    text = str(error)
    said = _LACKS_MEMORY.search(text) is not None and _NO_POOLS not in text
    return isinstance(error, MemoryError) or said


def first_cause(error: BaseException) -> BaseException:
    """The error that others came of: they were raised while it was handled."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return error


@contextlib.contextmanager
def within_memory(refusal: str) -> Iterator[None]:
    """Say in one line that there is too little memory, whichever library finds that.

    Args:
        refusal: the line; it says what needs less.

    Raises:
        EngineUnavailable: there is.
    """
    try:
        yield
    except EngineUnavailable:
        raise
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        raise EngineUnavailable(refusal) from error


class Scene(NamedTuple):
    """What an engine makes simulations of.

    Attributes:
        spec: makes the MjSpec of the first variant.
        model: the MjModel that is compiled from it.
        fields: values (models, ...) of the model fields in which the variants differ, by name.
    """

    spec: Callable[[], Any]
    model: Any
    fields: Mapping[str, np.ndarray]


class Engine(Protocol):
    """n simulations of a scene. Units and frames are MuJoCo's.

    Attributes:
        state: (n, size) the simulations' states, live, laid out as MuJoCo's `mjSTATE_INTEGRATION`.
        lost: true in a forked child: make the engine anew before it is used.
        threads: of the processor, that step.
    """

    state: np.ndarray
    lost: bool
    threads: int

    def bind(self, name: str) -> np.ndarray:
        """A live array (n, ...) of a field of MjData.

        State is a view of `state`, which can be written. Other fields cannot; every call computes
        them for the simulations that it is asked for, and after `step` they are those of the last
        step's beginning.
        """
        ...

    def expand(self, name: str) -> np.ndarray:
        """A live array (n, ...) of a field of MjModel, to write the simulations' own values."""
        ...

    def reset(self, ids: np.ndarray) -> None:
        """Set the states of simulations ids (k,) to the model's; nothing is computed."""
        ...

    def place(self, ids: np.ndarray) -> None:
        """Compute where things are in simulations ids (k,)."""
        ...

    def forward(self, ids: np.ndarray) -> None:
        """Compute everything in simulations ids (k,), as `mj_forward` does."""
        ...

    def step(self, steps: int) -> None:
        """Advance all simulations by a number of physics steps."""
        ...

    def diverged(self) -> np.ndarray:
        """Ids (k,) of the simulations that diverged in the last `step`."""
        ...

    def get_model(self, simulation: int) -> Any:
        """An MjModel with the fields of one simulation."""
        ...

    def get_data(self, simulation: int) -> Any:
        """An MjData with the state of one simulation; nothing is computed."""
        ...


class EngineRow(NamedTuple):
    """Where an engine is, `module:name` of what makes it, and one line on it."""

    make: str
    words: str


ENGINES = {
    "cpu": EngineRow("uncap.envs.engine_cpu:CpuEngine", "MuJoCo on the processor's cores"),
    "warp": EngineRow("uncap.envs.engine_warp:WarpEngine", "MuJoCo Warp on a GPU, in float32"),
}


def engine_row(name: str) -> EngineRow:
    """The row of an engine.

    Raises:
        UnknownName: no such engine; the message says what each of them is.
    """
    if isinstance(name, str) and name in ENGINES:
        return ENGINES[name]
    allowed = ", ".join(f"{known} ({row.words})" for known, row in ENGINES.items())
    raise UnknownName(f"unknown engine {brief(name)}: allowed: {allowed}")


def open_engine(name: str, scene: Scene, n: int, threads: int) -> Engine:
    """Make n simulations of a scene.

    Args:
        name: a row of ENGINES.
        scene: what they are of.
        n: how many.
        threads: of the processor; results do not depend on it.

    Raises:
        KeyError: unknown engine; all are named.
        EngineUnavailable: what it needs is not there.
    """
    module, _, made = engine_row(name).make.partition(":")
    return getattr(importlib.import_module(module), made)(scene, n, threads)
