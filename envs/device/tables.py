"""Tables of numbers on a device, of which every world has the row of its variant, or of its stage.

A row is gathered in one piece for each type of number, and its columns are views of that piece: a
gather of its own for each of sixty columns would cost a launch each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from uncap.envs.device.arrays import Array, wrapped

Columns = dict[str, Array]  # (n, ...) by name


class _Column(NamedTuple):
    """Where a column is in its group."""

    group: str
    first: int
    shape: tuple[int, ...]


class Table:
    """A structured NumPy array on a device.

    Args:
        table: of any shape; its rows are numbered as if it were flat. A column that is structured
            itself becomes columns named `outer.inner`.
        n: number of worlds.
        device: where it goes.
        floats: type of the numbers that are not whole.

    Attributes:
        columns: (n, ...) by name, of the rows that were taken last: views that stay where they
            are, as a CUDA graph needs.
    """

    def __init__(self, table: np.ndarray, n: int, device: torch.device, floats: torch.dtype):
        columns = _flat(table.reshape(-1))
        types = {"f": floats, "i": torch.int64, "b": torch.bool}
        parts: dict[str, list[np.ndarray]] = {}
        layout: dict[str, _Column] = {}
        for name, column in columns.items():
            group = column.dtype.kind
            wide = column.reshape(len(column), -1)
            found = parts.setdefault(group, [])
            first = sum(part.shape[1] for part in found)
            layout[name] = _Column(group, first, column.shape[1:])
            found.append(wide)
        self._groups = {
            group: torch.as_tensor(np.concatenate(found, 1), dtype=types[group], device=device)
            for group, found in parts.items()
        }
        self._rows = {
            group: numbers[:1].repeat(n, 1).contiguous()  # (n, width)
            for group, numbers in self._groups.items()
        }
        self.columns: Columns = {
            name: wrapped(self._view(column), floats) for name, column in layout.items()
        }

    def _view(self, column: _Column) -> Tensor:
        width = math.prod(column.shape)
        part = self._rows[column.group][:, column.first : column.first + width]
        return part.unflatten(1, column.shape) if column.shape else part[:, 0]

    def take(self, rows: Tensor) -> None:
        """Make rows (n,) int64 those that `columns` show."""
        for group, numbers in self._groups.items():
            torch.index_select(numbers, 0, rows, out=self._rows[group])


class Gathered:
    """Values of arrays that are gathered together.

    Args:
        tables: (rows, ...) by name.
        targets: the arrays that they are values of, (n, ...) by name, on their device.
        floats: type of the numbers on the device.

    Attributes:
        targets: of the tables.
    """

    def __init__(
        self,
        tables: Mapping[str, np.ndarray],
        targets: Mapping[str, Tensor],
        floats: torch.dtype,
    ):
        self.targets = {name: targets[name] for name in tables}
        self._sizes = [math.prod(table.shape[1:]) for table in tables.values()]
        device = next(iter(self.targets.values())).device
        self._table = torch.as_tensor(self._wide(tables), dtype=floats, device=device)

    def _wide(self, tables: Mapping[str, np.ndarray]) -> np.ndarray:
        """The targets' tables beside each other, (rows, width)."""
        found = (tables[name] for name in self.targets)
        return np.concatenate([table.reshape(len(table), -1) for table in found], 1)

    def replace(self, tables: Mapping[str, np.ndarray]) -> None:
        """Have other values, of tables of the same shapes, in the same memory."""
        self._table.copy_(torch.as_tensor(self._wide(tables)))

    def of(self, rows: Tensor) -> dict[str, Tensor]:
        """Values (n, ...) by name, of rows (n,) int64."""
        parts = self._table.index_select(0, rows).split(self._sizes, 1)
        return {
            name: part.reshape(target.shape)
            for (name, target), part in zip(self.targets.items(), parts, strict=True)
        }


def _flat(table: np.ndarray) -> dict[str, np.ndarray]:
    """Columns (rows, ...) by name."""
    columns = {}
    for name in table.dtype.names or ():
        if table.dtype[name].names:
            inner = _flat(table[name])
            columns |= {f"{name}.{key}": value for key, value in inner.items()}
        else:
            columns[name] = table[name]
    return columns
