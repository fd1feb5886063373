"""Warp on torch's stream: what both launch is done in order, and can be in one CUDA graph."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

from uncap.envs.engine_warp import warp


def on_torchs_stream(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Have Warp launch on torch's present stream, or on the processor.

    Where Warp is on that stream already, nothing is done: Warp knows what is being captured by its
    own object of the stream, and another object of the same stream does not have the capture.

    Args:
        device: torch's.
    """
    if device.type != "cuda":
        return warp.ScopedDevice("cpu")
    stream = torch.cuda.current_stream(device)
    if warp.device_from_torch(device).stream.cuda_stream == stream.cuda_stream:
        return contextlib.nullcontext()
    return warp.ScopedStream(warp.stream_from_torch(stream), sync_enter=False)
