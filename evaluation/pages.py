"""HTML pages: one style, tables, and figures that a page holds in itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLACK = "#1d232b"
BLUE = "#2463c2"
GREEN = "#2f9e5b"
GREY = "#8a94a0"
ORANGE = "#d9772b"
WIDTH = 8.5  # inches, of a page's figures
matplotlib.rcParams["text.parse_math"] = False  # names of rows and labels are no formulas
_CURVE_COLORS = matplotlib.color_sequences["tab10"]
_CURVE_STYLES = ("-", "--", ":")
_DPI = 130
_VIEWPORT = "<meta name=viewport content='width=device-width,initial-scale=1'>"  # for telephones
_STYLE = (
    "body{font:15px/1.55 system-ui,sans-serif;max-width:1040px;margin:36px auto;"
    "padding:0 20px;color:#1d232b}\n"
    "h1{margin-bottom:0}"
    "h2{margin-top:36px;border-bottom:1px solid #dde2e8;padding-bottom:4px}"
    "table{border-collapse:collapse}\n"
    "td,th{padding:4px 14px 4px 0;text-align:left;border-bottom:1px solid #eceff3}"
    "code{background:#f2f4f7;padding:2px 5px;border-radius:4px}\n"
    ".films{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:12px}"
    "video{width:100%;border-radius:6px}\n"
    ".wide{overflow-x:auto}"  # what is wider than the page is moved within it
    "figure:target{outline:3px solid #d9772b;outline-offset:3px;border-radius:6px}"
    ".big{font-size:40px;font-weight:650;margin-right:8px}"
    ".note{color:#5b6672}"
    "img{max-width:100%}"
)


def page(title: str, body: str) -> str:
    """A self-contained HTML page; title and body are HTML already."""
    head = f"<meta charset=utf-8>{_VIEWPORT}<title>{title}</title><style>{_STYLE}</style>"
    return f"<!doctype html>{head}{body}"


def row(cells: Iterable[object], tag: str = "td") -> str:
    """A table row; the cells are HTML already.

    Args:
        cells: one entry per column.
        tag: `td`, or `th` for a heading.
    """
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"


def table(rows: Iterable[Iterable[object]], heading: Iterable[object] | None = None) -> str:
    """A table; its cells are HTML already."""
    head = "" if heading is None else row(heading, "th")
    body = "".join(row(cells) for cells in rows)
    return f"<div class=wide><table>{head}{body}</table></div>"


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure (inches) with one pair of axes; nobody has to close it."""
    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


def curve_look(k: int) -> tuple:
    """Colour and line style of curve k: 30 that differ, then from the beginning."""
    color = _CURVE_COLORS[k % len(_CURVE_COLORS)]
    style = _CURVE_STYLES[k // len(_CURVE_COLORS) % len(_CURVE_STYLES)]
    return color, style


def picture(figure: Figure) -> str:
    """An <img> element that holds the figure."""
    buffer = io.BytesIO()
    figure.tight_layout()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return f"<img src='data:image/png;base64,{in_base64(buffer.getvalue())}'>"


def in_base64(content: bytes) -> str:
    """What follows `base64,` in a data URL."""
    return base64.b64encode(content).decode()


def percent(share: float) -> str:
    """A share in whole per cent."""
    return f"{100 * share:.0f} %"
