"""Angles."""

from __future__ import annotations

import numpy as np


def wrap(angle: np.ndarray) -> np.ndarray:
    """Angle in [-pi, pi) (rad)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi
