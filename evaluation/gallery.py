"""The gallery: every row gripped and open, its numbers, and how far it is from every other."""

from __future__ import annotations

import html
import pathlib
from collections.abc import Callable

import matplotlib
import numpy as np
from gymnasium.vector import AutoresetMode
from PIL import Image

from uncap.agents.files import replacing, write_text
from uncap.envs import CLOSURES, TASK_SETS, Closure, ClosureVectorEnv, TaskSet, distance
from uncap.envs.experts import expert_action
from uncap.envs.render import Camera
from uncap.envs.structure import AXES
from uncap.evaluation.pages import page, picture, table
from uncap.evaluation.video import State, caption, first_state

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402 (after the back end is chosen)
from matplotlib.figure import Figure  # noqa: E402

_WIDTH = 280  # pixels of one picture
_HEIGHT = 210
_COLUMNS = 3  # rows of the table side by side
_VIEW = (145.0, -20.0, 0.44)  # degrees, degrees, m: closer than a film's
# Of the hundreds of composed rows, a few
COMPOSED = (
    *("composed-right-ccw-up-0", "composed-pressleft-screwccw-0", "composed-left-cw-swing-1"),
    *("composed-down-right-0", "composed-ccw-cw-0", "composed-presscw-up-0"),
    *("composed-screwccw-left-0", "composed-pressright-0", "composed-cw-left-screwcw-0"),
)
_CLOSED = 0.05  # progress up to which a closure is shown as closed
_SHEET_DPI = 150  # pixels per inch of the sheet's figure
_HEADS = (
    "row",
    "what the robot does",
    "mechanism",
    "grip radius (mm)",
    "angle (rad)",
    "lead (mm)",
    "travel (mm)",
    "torque (N m)",
    "force (N)",
    "steps",
    "nearest row",
    "numbers rest on",
)


def gallery(
    out: pathlib.Path,
    seed: int,
    on_row: Callable[[int, int, str], None],
    engine: str = "cpu",
) -> pathlib.Path:
    """Write gallery.jpg, distances.png and gallery.html.

    Args:
        out: folder.
        seed: of the starts.
        on_row: called with (done, total, name) after each row.
        engine: what runs the simulations, a row of `uncap.envs.engines.ENGINES`.

    Returns:
        The page.

    Raises:
        RenderingUnavailable: OpenGL is missing; the message says what to install.
    """
    pictures = []
    shown = (*CLOSURES, *COMPOSED)
    for done, name in enumerate(shown, start=1):
        pictures.append(_closed_and_open(name, seed, engine))
        on_row(done, len(shown), name)
    sheet = _sheet(pictures)
    matrix = _distance_figure()
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / "gallery.jpg") as temporary:
        Image.fromarray(sheet).save(temporary, format="jpeg", quality=88)
    with replacing(out / "distances.png") as temporary:
        matrix.savefig(temporary, format="png", dpi=110)
    body = "".join(
        (
            "<h1>Uncap: gallery</h1>",
            picture(_sheet_figure(sheet)),
            _row_table(),
            _set_table(),
            "<h2>Structural distance</h2>",
            picture(matrix),
        )
    )
    write_text(out / "gallery.html", page("Uncap gallery", body))
    return out / "gallery.html"


def _closed_and_open(name: str, seed: int, engine: str = "cpu") -> np.ndarray:
    """Two pictures of an expert's episode, (_HEIGHT, 2 * _WIDTH, 3) uint8.

    The left one is the last state in which the closure was closed, the right one the end.
    """
    mode = AutoresetMode.DISABLED
    env = ClosureVectorEnv(name, 1, threads=1, autoreset_mode=mode, engine=engine)
    env.reset(seed=[seed])
    closed, success = _play(env)
    batch = env.batch
    camera = Camera(batch.pool[batch.variant[0]], _WIDTH, _HEIGHT)
    opened_frame = camera.draw(*first_state(batch), _VIEW)
    closed_frame = camera.draw(*closed, _VIEW)
    camera.close()
    return np.hstack(
        [
            caption(closed_frame, name, "", True),
            caption(opened_frame, CLOSURES[name].mechanism, "", success),
        ]
    )


def _play(env: ClosureVectorEnv) -> tuple[State, bool]:
    """Play an expert's episode; the last state that was closed, and whether it succeeded."""
    closed = first_state(env.batch)
    done = False
    success = False
    while not done:
        measured = env.batch.measure()
        if measured["progress"][0] < _CLOSED:
            closed = first_state(env.batch)
        _, _, _, truncated, info = env.step(expert_action(measured))
        done = bool(truncated[0])
        success = bool(info["success"][0])
    return closed, success


def _sheet(pictures: list[np.ndarray]) -> np.ndarray:
    """The pictures of all rows, _COLUMNS side by side; the last line is filled up with white."""
    white = np.full_like(pictures[0], 255)
    cells = pictures + [white] * (-len(pictures) % _COLUMNS)
    lines = [np.hstack(cells[k : k + _COLUMNS]) for k in range(0, len(cells), _COLUMNS)]
    return np.vstack(lines)


def _sheet_figure(sheet: np.ndarray) -> Figure:
    height, width, _ = sheet.shape
    figure, axes = plt.subplots(figsize=(width / _SHEET_DPI, height / _SHEET_DPI), dpi=_SHEET_DPI)
    axes.imshow(sheet)
    axes.axis("off")
    figure.subplots_adjust(0, 0, 1, 1)
    return figure


def _distance_figure() -> Figure:
    names = list(CLOSURES)
    values = np.array([[distance(a, b) for b in names] for a in names])
    figure, axes = plt.subplots(figsize=(9.5, 8.6))
    image = axes.imshow(values, cmap="viridis_r")
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    figure.colorbar(image, shrink=0.8, label="structural distance")
    figure.tight_layout()
    return figure


def _row_table() -> str:
    """The numbers of every row, as HTML."""
    return "<h2>Rows</h2>" + table(map(_row_cells, CLOSURES.values()), _HEADS)


def _row_cells(row: Closure) -> tuple[str, ...]:
    """The cells of one row, in the order of _HEADS."""
    nearest, nearest_distance = _nearest(row.name)
    return (
        f"<code>{html.escape(row.name)}</code>",
        html.escape(row.description),
        html.escape(row.mechanism),
        _range(row.grip_radius, 1e3),
        _range(row.angle),
        _range(row.lead, 1e3),
        _range(row.depth, 1e3),
        _range(row.torque),
        _range(row.force),
        str(row.steps),
        f"{html.escape(nearest)} ({nearest_distance:.2f})",
        html.escape(row.source),
    )


def _nearest(name: str) -> tuple[str, float]:
    """The row that is closest to a row, and its distance."""
    distances = {other: distance(name, other) for other in CLOSURES if other != name}
    nearest = min(distances, key=distances.__getitem__)
    return nearest, distances[nearest]


def _range(values: tuple[float, float], scale: float = 1.0) -> str:
    """A range in words; empty where a row does not use it."""
    low, high = values
    if not (low or high):
        return ""
    return f"{scale * low:.3g} to {scale * high:.3g}"


def _set_table() -> str:
    """The task sets, as HTML."""
    heads = ("set", "probes", "rows trained", "held out", "hash")
    return (
        "<h2>Task sets</h2>"
        + table(map(_set_cells, TASK_SETS.values()), heads)
        + f"<p class=note>The distance adds four axes: {', '.join(AXES)}.</p>"
    )


def _set_cells(task_set: TaskSet) -> tuple[str, ...]:
    return (
        f"<code>{html.escape(task_set.name)}</code>",
        html.escape(task_set.probes),
        str(len(task_set.train)),
        html.escape(", ".join(task_set.held_out)),
        f"<code>{task_set.hash}</code>",
    )
