"""What torch does for NumPy's functions, see `arrays.py`: a new one is one row."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


class Context(Protocol):
    """Makes tensors of a call's arguments: see `arrays.TensorArray`."""

    def plain(self, value: Any) -> Any:
        """Arrays and constants as tensors; numbers as they are."""
        ...

    def dense(self, value: Any) -> Tensor:
        """The same, but numbers are tensors, too."""
        ...


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


UFUNCS: dict[np.ufunc, Callable[..., Any]] = {
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
OF_TENSORS = {np.arctan2, np.hypot}  # torch takes no numbers there


def _where(context: Context, condition: Any, x: Any, y: Any) -> Tensor:
    return torch.where(context.dense(condition), context.dense(x), context.dense(y))


def _clip(context: Context, a: Any, low: Any, high: Any) -> Tensor:
    return _smaller(_larger(context.plain(a), context.plain(low)), context.plain(high))


def _copy_to(context: Context, target: Any, source: Any, *, where: Any = True) -> None:
    written = context.dense(target)
    written.copy_(torch.where(context.dense(where), context.dense(source), written))


def _concatenate(context: Context, arrays: Sequence[Any], axis: int = 0) -> Tensor:
    return torch.cat(context.plain(arrays), axis)


def _stack(context: Context, arrays: Sequence[Any], axis: int = 0) -> Tensor:
    return torch.cat([array.unsqueeze(axis) for array in context.plain(arrays)], axis)


def _max(context: Context, a: Any, axis: int, *, keepdims: bool = False) -> Tensor:
    return context.plain(a).amax(axis, keepdim=keepdims)


def _norm(context: Context, x: Any, *, axis: int, keepdims: bool = False) -> Tensor:
    return torch.linalg.vector_norm(context.plain(x), dim=axis, keepdim=keepdims)


def _einsum(context: Context, letters: str, a: Any, b: Any) -> Tensor:
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


FUNCTIONS: dict[Callable[..., Any], Callable[..., Tensor | None]] = {
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
