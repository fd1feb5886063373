"""Tensors that NumPy's functions take, so that formulas are written once for NumPy and torch.

NumPy hands a call to the class of its arguments where that asks for it: `__array_ufunc__` (NEP 13)
and `__array_function__` (NEP 18). `TensorArray` asks for it, and calls torch. So a formula of
`rewards.py`, `observations.py`, `experts.py`, `episodes.py` or `measures.py` runs as it stands.

Everything has a fixed shape and stays on the device: what would have to look at values (a branch on
one, a list of those that are true) raises TypeError. So does a function of NumPy's without a row in
`functions.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from numpy.lib.mixins import NDArrayOperatorsMixin
from torch import Tensor

from uncap.envs.device.functions import FUNCTIONS, OF_TENSORS, UFUNCS

# In annotations: a TensorArray, which type checkers take for the NumPy array in whose place it is
Array: TypeAlias = np.ndarray

_CONSTANTS: dict[tuple[Any, ...], Tensor] = {}  # on their devices, by what they hold


def constant(value: Any, device: torch.device, floats: torch.dtype) -> Tensor:
    """A tensor of a constant, which is copied to the device once.

    A formula's constants are so known after its first call: none is copied while a CUDA graph is
    captured, where a copy from the host is not allowed.

    Args:
        value: a number or an array that a formula holds.
        device: where it goes.
        floats: type of numbers that are not whole.
    """
    array = np.asarray(value)
    key = (array.tobytes(), array.shape, array.dtype.str, device, floats)
    if key not in _CONSTANTS:
        dtype = floats if array.dtype.kind == "f" else None
        _CONSTANTS[key] = torch.as_tensor(array.copy(), dtype=dtype, device=device)
    return _CONSTANTS[key]


class TensorArray(NDArrayOperatorsMixin):
    """A tensor in the place of a NumPy array.

    Args:
        tensor: the numbers; they are not copied.
        floats: type of the numbers that are not whole, in which a formula is computed.
    """

    __slots__ = ("floats", "tensor")

    def __init__(self, tensor: Tensor, floats: torch.dtype):
        self.tensor = tensor
        self.floats = floats

    def __repr__(self) -> str:
        return f"TensorArray({self.tensor!r})"

    def __len__(self) -> int:
        return len(self.tensor)

    def __bool__(self) -> bool:
        raise TypeError("a formula for the device must not branch on values: use np.where")

    @property
    def shape(self) -> tuple[int, ...]:
        """As NumPy's."""
        return tuple(self.tensor.shape)

    @property
    def ndim(self) -> int:
        """As NumPy's."""
        return self.tensor.ndim

    def __getitem__(self, key: Any) -> TensorArray:
        if any(isinstance(part, TensorArray) for part in _parts(key)):
            raise TypeError("a formula for the device must not select by values: use np.where")
        return self._like(self.tensor[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        """Write into slices; or, where the first part of the key is a mask (n,), one number."""
        mask, *rest = _parts(key)
        if isinstance(mask, TensorArray):
            target = self[(slice(None), *rest)]
            columns = (slice(None), *[None] * (target.ndim - 1))
            np.copyto(target, value, where=mask[columns])  # pyright: ignore[reportArgumentType]
        else:
            self.tensor[key] = self.plain(value)

    def copy(self) -> TensorArray:
        """As NumPy's."""
        return self._like(self.tensor.clone())

    def astype(self, dtype: Any) -> TensorArray:
        """As NumPy's; every type with a fraction is the one that formulas are computed in."""
        kind = np.dtype(dtype).kind
        types = {"f": self.floats, "b": torch.bool, "i": torch.int64}
        return self._like(self.tensor.to(types[kind]))

    def reshape(self, *shape: int) -> TensorArray:
        """As NumPy's."""
        return self._like(self.tensor.reshape(*shape))

    def sum(self, axis: int) -> TensorArray:
        """As NumPy's."""
        return self._like(self.tensor.sum(axis))

    def mean(self, axis: int) -> TensorArray:
        """As NumPy's."""
        return self._like(self.tensor.mean(axis))

    def max(self, axis: int) -> TensorArray:
        """As NumPy's."""
        return self._like(self.tensor.amax(axis))

    def min(self, axis: int) -> TensorArray:
        """As NumPy's."""
        return self._like(self.tensor.amin(axis))

    def plain(self, value: Any) -> Any:
        """A formula's argument as torch takes it: Arrays and constants as tensors."""
        if isinstance(value, TensorArray):
            return value.tensor
        if isinstance(value, np.ndarray):
            return constant(value, self.tensor.device, self.floats)
        if isinstance(value, (list, tuple)):
            return [self.plain(part) for part in value]
        return value.item() if isinstance(value, np.generic) else value

    def dense(self, value: Any) -> Tensor:
        """The same, but numbers are tensors, too."""
        plain = self.plain(value)
        if isinstance(plain, Tensor):
            return plain
        return constant(plain, self.tensor.device, self.floats)

    def _like(self, tensor: Tensor) -> TensorArray:
        return TensorArray(tensor, self.floats)

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any
    ) -> Any:
        if method != "__call__" or kwargs or ufunc not in UFUNCS:
            raise TypeError(f"np.{ufunc.__name__} is not known on the device, or not in this way")
        to_tensor = self.dense if ufunc in OF_TENSORS else self.plain
        values = [to_tensor(value) for value in inputs]
        if _makes_floats(ufunc, values):
            values = [x.to(self.floats) if isinstance(x, Tensor) else x for x in values]
        result = UFUNCS[ufunc](*values)
        if out is None:
            return self._like(result)
        out[0].tensor.copy_(result)
        return out[0]

    def __array_function__(
        self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any
    ) -> Any:
        if function not in FUNCTIONS:
            raise TypeError(f"np.{function.__name__} is not known on the device")
        context = _first_array((*args, *kwargs.values()))
        result = FUNCTIONS[function](context, *args, **kwargs)
        return None if result is None else self._like(result)


def wrapped(tensor: Tensor, floats: torch.dtype) -> Array:
    """A tensor as NumPy's functions take it, see `TensorArray`."""
    return cast(np.ndarray, TensorArray(tensor, floats))


def tensor_of(array: Array) -> Tensor:
    """The tensor of a TensorArray."""
    return cast(TensorArray, array).tensor


def _parts(key: Any) -> tuple[Any, ...]:
    """The parts of an index."""
    return key if isinstance(key, tuple) else (key,)


def _makes_floats(ufunc: np.ufunc, values: Sequence[Any]) -> bool:
    """Whether numbers with fractions come of tensors without: torch would choose their type."""
    if any(isinstance(value, Tensor) and value.is_floating_point() for value in values):
        return False
    return ufunc is np.divide or any(isinstance(value, float) for value in values)


def _first_array(values: Sequence[Any]) -> TensorArray:
    """The first TensorArray among arguments, or in their lists."""
    for value in values:
        if isinstance(value, TensorArray):
            return value
        if isinstance(value, (list, tuple)):
            for part in value:
                if isinstance(part, TensorArray):
                    return part
    raise TypeError("no TensorArray among the arguments")
