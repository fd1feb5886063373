"""The gallery: every row gripped and open, its numbers, and how far it is from every other."""

from __future__ import annotations

import html
import os
import pathlib
from collections.abc import Callable

import matplotlib
import numpy as np
from gymnasium.vector import AutoresetMode
from PIL import Image

from envs import CLOSURES, TASK_SETS, ClosureVectorEnv, distance
from envs.experts import expert_action
from envs.render import Camera
from envs.structure import AXES
from evaluation.report import page, picture
from evaluation.video import caption

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

_WIDTH, _HEIGHT, _COLUMNS = 280, 210, 3  # pixels of one picture; rows side by side
_VIEW = (145.0, -20.0, 0.44)  # degrees, degrees, m: closer than a film's


def gallery(out: pathlib.Path, seed: int, on_row: Callable[[int, int, str], None]) -> pathlib.Path:
    """Write gallery.jpg, distances.png and gallery.html.

    Args:
        out: folder.
        seed: of the starts.
        on_row: called with (done, total, name) after each row.

    Returns:
        The page.

    Raises:
        RenderingUnavailable: OpenGL is missing; the message says what to install.
    """
    cells = []
    for k, name in enumerate(CLOSURES):
        cells.append(_pair(name, seed))
        on_row(k + 1, len(CLOSURES), name)
    blank = np.full_like(cells[0], 255)
    cells += [blank] * (-len(cells) % _COLUMNS)
    sheet = np.vstack([np.hstack(cells[k : k + _COLUMNS]) for k in range(0, len(cells), _COLUMNS)])
    out.mkdir(parents=True, exist_ok=True)
    _write(
        out / "gallery.jpg",
        lambda path: Image.fromarray(sheet).save(path, format="jpeg", quality=88),
    )
    matrix = _matrix()
    _write(out / "distances.png", lambda path: matrix.savefig(path, format="png", dpi=110))
    figure, axes = plt.subplots(figsize=(sheet.shape[1] / 150, sheet.shape[0] / 150), dpi=150)
    axes.imshow(sheet)
    axes.axis("off")
    figure.subplots_adjust(0, 0, 1, 1)
    body = f"<h1>Uncap: gallery</h1>{picture(figure)}{_table()}{_sets()}<h2>Structural distance</h2>{picture(matrix)}"
    _write(out / "gallery.html", lambda path: path.write_text(page("Uncap gallery", body)))
    return out / "gallery.html"


def _write(path: pathlib.Path, write: Callable[[pathlib.Path], object]) -> None:
    temporary = path.with_suffix(".tmp")
    write(temporary)
    os.replace(temporary, path)


def _pair(name: str, seed: int) -> np.ndarray:
    """The expert's grip before anything moved, and the end of its episode, (180, 480, 3)."""
    env = ClosureVectorEnv(name, 1, threads=1, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=[seed])
    batch, done = env.batch, False
    closed = None
    while not done:
        m = batch.measure()
        if m["progress"][0] < 0.05:
            closed = (batch.qpos[0].copy(), batch.mocap_pos[0].copy(), batch.mocap_quat[0].copy())
        _, _, _, truncated, info = env.step(expert_action(m))
        done = bool(truncated[0])
    camera = Camera(batch.pool[batch.variant[0]], _WIDTH, _HEIGHT)
    opened = camera.draw(batch.qpos[0], batch.mocap_pos[0], batch.mocap_quat[0], _VIEW)
    frames = [
        caption(camera.draw(*closed, _VIEW), name, "", True),
        caption(opened, CLOSURES[name].mechanism, "", bool(info["success"][0])),
    ]
    camera.close()
    return np.hstack(frames)


def _matrix():
    names = list(CLOSURES)
    values = np.array([[distance(a, b) for b in names] for a in names])
    figure, axes = plt.subplots(figsize=(9.5, 8.6))
    image = axes.imshow(values, cmap="viridis_r")
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    figure.colorbar(image, shrink=0.8, label="structural distance")
    figure.tight_layout()
    return figure


def _range(values: tuple[float, float], scale: float = 1.0) -> str:
    return "" if not any(values) else f"{scale * values[0]:.3g} to {scale * values[1]:.3g}"


def _table() -> str:
    head = (
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
    rows = []
    for name, c in CLOSURES.items():
        near = min((n for n in CLOSURES if n != name), key=lambda n, name=name: distance(name, n))
        cells = (
            f"<code>{name}</code>",
            c.description,
            c.mechanism,
            _range(c.grip_radius, 1e3),
            _range(c.angle),
            _range(c.lead, 1e3),
            _range(c.depth, 1e3),
            _range(c.torque),
            _range(c.force),
            c.steps,
            f"{near} ({distance(name, near):.2f})",
            html.escape(c.source),
        )
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return (
        "<h2>Rows</h2><table><tr>"
        + "".join(f"<th>{h}</th>" for h in head)
        + f"</tr>{''.join(rows)}</table>"
    )


def _sets() -> str:
    rows = [
        f"<tr><td><code>{t.name}</code></td><td>{t.probes}</td><td>{len(t.train)}</td><td>{', '.join(t.held_out)}</td>"
        f"<td><code>{t.hash}</code></td></tr>"
        for t in TASK_SETS.values()
    ]
    axes = ", ".join(AXES)
    return (
        f"<h2>Task sets</h2><table><tr><th>set</th><th>probes</th><th>rows trained</th><th>held out</th><th>hash</th></tr>"
        f"{''.join(rows)}</table><p class=note>The distance adds four axes: {axes}.</p>"
    )
