"""Functions of tensors, traced once and compiled into few kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from uncap.envs.tables import lookup


def check_compiler(name: str | None) -> None:
    """Refuse what is no backend of `torch.compile`, those for finding faults among them.

    Args:
        name: of the backend; None: nothing is compiled.

    Raises:
        UnknownName: it is none; those for daily use are named.
    """
    if name is not None and name not in torch.compiler.list_backends(()):
        lookup(dict.fromkeys(torch.compiler.list_backends()), name, "compiler")


def traced(function: Callable[..., Any], *examples: Tensor) -> Callable[..., Any]:
    """The same function, as a list of torch's operations.

    It is traced by running it: what is done to tensors that it has from elsewhere is done, and is
    part of the list, too. What Python remembers is not.

    Args:
        function: of tensors, without a branch on their values.
        examples: inputs of the shapes, types and device that it will get.
    """
    return make_fx(lambda *inputs: function(*inputs))(*examples)


def fused(
    function: Callable[..., Any], *examples: Tensor, compiler: str = "inductor"
) -> Callable[..., Any]:
    """The same function, traced, and compiled at its first call, which takes minutes.

    With PyTorch's own compiler, the operations of a control step become a fifth as many kernels.

    Args:
        function: see `traced`.
        examples: likewise.
        compiler: a backend of `torch.compile`.
    """
    return torch.compile(traced(function, *examples), fullgraph=True, backend=compiler)
