"""Tables of text on a console."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table


def show(columns: Sequence[str], lines: Sequence[Sequence[str]], console: Console) -> None:
    """Print a table: ruled on a terminal, else a line per row.

    Args:
        columns: headings.
        lines: cells of each row.
        console: to print on.
    """
    if console.is_terminal:
        ruled = Table(*columns)
        for cells in lines:
            ruled.add_row(*cells)
        console.print(ruled)
        return
    widths = [max(map(len, column)) for column in zip(columns, *lines, strict=True)]
    for cells in (columns, *lines):
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        console.print("  ".join(padded).rstrip())
