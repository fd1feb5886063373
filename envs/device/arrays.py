"""Tensors that NumPy's functions take, so that formulas are written once for NumPy and torch.

NumPy hands a call to the class of its arguments where that asks for it: `__array_ufunc__` (NEP 13)
and `__array_function__` (NEP 18). `Array` asks for it, and calls torch. A formula of `rewards.py`,
`observations.py`, `experts.py`, `episodes.py` or `measures.py` runs on Arrays as it stands.

Everything has a fixed shape and stays on the device: what would have to look at values (a branch on
one, a list of those that are true) raises TypeError. What torch has no row for here does, too.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.lib.mixins import NDArrayOperatorsMixin
from torch import Tensor

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


class Array(NDArrayOperatorsMixin):
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
        return f"Array({self.tensor!r})"

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

    def __getitem__(self, key: Any) -> Array:
        if any(isinstance(part, Array) for part in _parts(key)):
            raise TypeError("a formula for the device must not select by values: use np.where")
        return self._like(self.tensor[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        """Write into slices; or, where the first part of the key is a mask (n,), one number."""
        mask, *rest = _parts(key)
        if isinstance(mask, Array):
            target = self[(slice(None), *rest)]
            columns = (slice(None), *[None] * (target.ndim - 1))
            np.copyto(target, value, where=mask[columns])  # pyright: ignore[reportArgumentType]
        else:
            self.tensor[key] = self.plain(value)

    def copy(self) -> Array:
        """As NumPy's."""
        return self._like(self.tensor.clone())

    def astype(self, dtype: Any) -> Array:
        """As NumPy's; every type with a fraction is the one that formulas are computed in."""
        kind = np.dtype(dtype).kind
        types = {"f": self.floats, "b": torch.bool, "i": torch.int64}
        return self._like(self.tensor.to(types[kind]))

    def reshape(self, *shape: int) -> Array:
        """As NumPy's."""
        return self._like(self.tensor.reshape(*shape))

    def sum(self, axis: int) -> Array:
        """As NumPy's."""
        return self._like(self.tensor.sum(axis))

    def mean(self, axis: int) -> Array:
        """As NumPy's."""
        return self._like(self.tensor.mean(axis))

    def max(self, axis: int) -> Array:
        """As NumPy's."""
        return self._like(self.tensor.amax(axis))

    def min(self, axis: int) -> Array:
        """As NumPy's."""
        return self._like(self.tensor.amin(axis))

    def plain(self, value: Any) -> Any:
        """A formula's argument as torch takes it: Arrays and constants as tensors."""
        if isinstance(value, Array):
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

    def _like(self, tensor: Tensor) -> Array:
        return Array(tensor, self.floats)

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any
    ) -> Any:
        if method != "__call__" or kwargs or ufunc not in _UFUNCS:
            raise TypeError(f"np.{ufunc.__name__} is not known on the device, or not in this way")
        to_tensor = self.dense if ufunc in _OF_TENSORS else self.plain
        result = _UFUNCS[ufunc](*[to_tensor(value) for value in inputs])
        if out is None:
            return self._like(result)
        out[0].tensor.copy_(result)
        return out[0]

    def __array_function__(
        self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any
    ) -> Any:
        if function not in _FUNCTIONS:
            raise TypeError(f"np.{function.__name__} is not known on the device")
        context = _first_array((*args, *kwargs.values()))
        result = _FUNCTIONS[function](context, *args, **kwargs)
        return None if result is None else self._like(result)


def _parts(key: Any) -> tuple[Any, ...]:
    """The parts of an index."""
    return key if isinstance(key, tuple) else (key,)


def _first_array(values: Sequence[Any]) -> Array:
    """The first Array among arguments, or in their lists."""
    for value in values:
        if isinstance(value, Array):
            return value
        if isinstance(value, (list, tuple)):
            for part in value:
                if isinstance(part, Array):
                    return part
    raise TypeError("no Array among the arguments")


def _larger(a: Any, b: Any) -> Tensor:
    """The larger one, element by element, of two tensors, or of a tensor and a number."""
    if not isinstance(b, Tensor):
        return a.clamp(min=b)
    return torch.maximum(a, b) if isinstance(a, Tensor) else b.clamp(min=a)


def _smaller(a: Any, b: Any) -> Tensor:
    """The smaller one, likewise."""
    if not isinstance(b, Tensor):
        return a.clamp(max=b)
    return torch.minimum(a, b) if isinstance(a, Tensor) else b.clamp(max=a)


_UFUNCS: dict[np.ufunc, Callable[..., Tensor]] = {
    np.add: operator.add,
    np.subtract: operator.sub,
    np.multiply: operator.mul,
    np.divide: operator.truediv,
    np.remainder: operator.mod,
    np.power: operator.pow,
    np.negative: operator.neg,
    np.absolute: torch.abs,
    np.sign: torch.sign,
    np.bitwise_and: operator.and_,
    np.bitwise_or: operator.or_,
    np.invert: operator.invert,
    np.equal: operator.eq,
    np.not_equal: operator.ne,
    np.less: operator.lt,
    np.less_equal: operator.le,
    np.greater: operator.gt,
    np.greater_equal: operator.ge,
    np.maximum: _larger,
    np.minimum: _smaller,
    np.sqrt: torch.sqrt,
    np.exp: torch.exp,
    np.sin: torch.sin,
    np.cos: torch.cos,
    np.arctan2: torch.atan2,
    np.hypot: torch.hypot,
    np.tanh: torch.tanh,
    np.arcsinh: torch.asinh,
    np.floor: torch.floor,
    np.isfinite: torch.isfinite,
}
_OF_TENSORS = {np.arctan2, np.hypot}  # torch takes no numbers there


def _where(context: Array, condition: Any, x: Any, y: Any) -> Tensor:
    return torch.where(context.dense(condition), context.dense(x), context.dense(y))


def _clip(context: Array, a: Any, low: Any, high: Any) -> Tensor:
    return _smaller(_larger(context.plain(a), context.plain(low)), context.plain(high))


def _copy_to(context: Array, target: Array, source: Any, *, where: Any = True) -> None:
    chosen = torch.where(context.dense(where), context.dense(source), target.tensor)
    target.tensor.copy_(chosen)


def _concatenate(context: Array, arrays: Sequence[Any], axis: int = 0) -> Tensor:
    return torch.cat(context.plain(arrays), axis)


def _stack(context: Array, arrays: Sequence[Any], axis: int = 0) -> Tensor:
    return torch.cat([array.unsqueeze(axis) for array in context.plain(arrays)], axis)


def _max(context: Array, a: Any, axis: int, *, keepdims: bool = False) -> Tensor:
    return context.plain(a).amax(axis, keepdim=keepdims)


def _norm(context: Array, x: Any, *, axis: int, keepdims: bool = False) -> Tensor:
    return torch.linalg.vector_norm(context.plain(x), dim=axis, keepdim=keepdims)


def _einsum(context: Array, letters: str, a: Any, b: Any) -> Tensor:
    """Of two arrays, as a product and a sum: matrix products are slow on so few columns."""
    first, second, result = letters.replace("->", ",").split(",")
    everything = result + "".join(sorted({*first, *second} - {*result}))
    product = 1
    for own, value in ((first, a), (second, b)):
        order = [own.index(letter) for letter in everything if letter in own]
        columns = tuple(slice(None) if letter in own else None for letter in everything)
        product = product * context.dense(value).permute(order)[columns]
    summed = tuple(range(len(result), len(everything)))
    return product.sum(summed) if summed else product


_FUNCTIONS: dict[Callable[..., Any], Callable[..., Tensor | None]] = {
    np.where: _where,
    np.clip: _clip,
    np.copyto: _copy_to,
    np.concatenate: _concatenate,
    np.stack: _stack,
    np.max: _max,
    np.einsum: _einsum,
    np.linalg.norm: _norm,
    np.round: lambda context, a: torch.round(context.plain(a)),
    np.cross: lambda context, a, b: torch.linalg.cross(
        *torch.broadcast_tensors(context.dense(a), context.dense(b))
    ),
    np.take_along_axis: lambda context, a, indices, axis: torch.take_along_dim(
        context.dense(a), context.dense(indices), axis
    ),
    np.zeros_like: lambda context, a: torch.zeros_like(context.plain(a)),
}
