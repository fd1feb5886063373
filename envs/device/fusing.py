"""Functions of tensors, traced once and compiled into few kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx


def fused(
    function: Callable[..., Any], *examples: Tensor, compiler: str = "inductor"
) -> Callable[..., Any]:
    """The same function, as a list of torch's operations that is compiled at its first call.

    It is traced by running it, operation by operation: what is done to tensors that it has from
    elsewhere is done, and is part of the compiled function, too. What Python remembers is not. With
    PyTorch's own compiler, the operations of a control step become kernels a fifth as many.

    Args:
        function: of tensors, without a branch on their values.
        examples: inputs of the shapes, types and device that it will get.
        compiler: a backend of `torch.compile`.
    """
    graph = make_fx(lambda *inputs: function(*inputs))(*examples)
    return torch.compile(graph, fullgraph=True, backend=compiler)
