"""Objects whose state is NumPy arrays, with tensors in their place that stay where they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch

from uncap.envs.device.arrays import Array, TensorArray, wrapped

Owner = TypeVar("Owner")


def _copied(values: np.ndarray, device: torch.device, floats: torch.dtype) -> Array:
    """A copy of values on a device."""
    dtype = floats if values.dtype.kind == "f" else None
    return wrapped(torch.as_tensor(values.copy(), dtype=dtype, device=device), floats)


def on_device(owner: Owner, device: torch.device, floats: torch.dtype) -> Owner:
    """The owner, whose arrays are replaced by copies on a device; those in dictionaries, too."""
    for name, value in vars(owner).items():
        if isinstance(value, np.ndarray):
            setattr(owner, name, _copied(value, device, floats))
        elif isinstance(value, dict):
            for key, part in value.items():
                if isinstance(part, np.ndarray):
                    value[key] = _copied(part, device, floats)
    return owner


def tensors_of(owner: Any) -> dict[str, torch.Tensor]:
    """The tensors that stand in the place of an owner's arrays, those in dictionaries, too."""
    found = {}
    for name, value in vars(owner).items():
        parts = (
            {f"{name}.{key}": part for key, part in value.items()}
            if isinstance(value, dict)
            else {name: value}
        )
        found |= {key: part.tensor for key, part in parts.items() if isinstance(part, TensorArray)}
    return found


def copies_of(memory: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Copies of tensors by name, in the processor's memory."""
    return {name: value.to("cpu", copy=True).numpy() for name, value in memory.items()}


def refuse_unlike(memory: Mapping[str, torch.Tensor], copies: Mapping[str, np.ndarray]) -> None:
    """Refuse copies that `write_back` cannot write.

    Raises:
        ValueError: another shape, or a tensor that is not among the copies.
    """
    for name, value in memory.items():
        if name not in copies or copies[name].shape != tuple(value.shape):
            raise ValueError(f"it has no {name} of shape {tuple(value.shape)}")


def write_back(memory: Mapping[str, torch.Tensor], copies: Mapping[str, np.ndarray]) -> None:
    """Write what `copies_of` gave over the tensors that it was of.

    Raises:
        ValueError: see `refuse_unlike`; nothing is written.
    """
    refuse_unlike(memory, copies)
    for name, value in memory.items():
        value.copy_(torch.as_tensor(copies[name]))


def in_place(owner: Any, change: Callable[[], Any]) -> Any:
    """What `change` returns; new arrays that it gives the owner are written over the old ones.

    A CUDA graph reads and writes the same memory every time.
    """
    before = {name: value for name, value in vars(owner).items() if isinstance(value, TensorArray)}
    result = change()
    for name, array in before.items():
        new = getattr(owner, name)
        if new is not array:
            array[:] = new
            setattr(owner, name, array)
    return result
