"""Rollout videos, drawn from recorded states."""

from __future__ import annotations

import os
import pathlib

import imageio.v2 as imageio
import numpy as np
from gymnasium.vector import AutoresetMode
from PIL import Image, ImageDraw, ImageFont

from envs import CLOSURES, ClosureVectorEnv
from envs.batch import CONTROL_DT
from envs.render import Camera
from evaluation.protocol import EVALUATION_SEED, Policy


def record(
    policy: Policy,
    task: str,
    path: pathlib.Path,
    *,
    conditioning: str,
    known_tasks,
    start: int = 0,
    width: int = 640,
    seed: int = EVALUATION_SEED,
) -> dict:
    """Film one evaluation episode.

    Args:
        policy: see `protocol.evaluate`.
        task: a row.
        path: the .mp4 to write, whole or not at all.
        conditioning: what the policy is told.
        known_tasks: rows that `one_hot` has components for.
        start: which start.
        seed: of start 0; by default the evaluation's.
        width: of the picture, 4 : 3; a smaller film than 640 is a draft: every second frame, edges not smoothed.

    Returns:
        {success, progress, frames}.

    Raises:
        RenderingUnavailable: OpenGL is missing; the message says what to install.
    """
    env = ClosureVectorEnv(
        task,
        1,
        conditioning=conditioning,
        known_tasks=known_tasks,
        threads=1,
        autoreset_mode=AutoresetMode.DISABLED,
    )
    act = policy(env)
    observation, info = env.reset(seed=[seed + start])
    batch, states, infos, done = env.batch, [], [], False
    while not done:
        states.append((batch.qpos[0].copy(), batch.mocap_pos[0].copy(), batch.mocap_quat[0].copy()))
        infos.append(info)
        observation, _, _, truncated, info = env.step(act(observation, info["task"]))
        done = bool(truncated[0])
    success = bool(info["success"][0])
    draft = width < 640
    camera = Camera(batch.pool[batch.variant[0]], width, width * 3 // 4, smooth=not draft)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp.mp4")
    every = 2 if draft else 1
    fps = round(1 / CONTROL_DT / every)
    with imageio.get_writer(
        temporary,
        fps=fps,
        codec="libx264",
        quality=7,
        macro_block_size=16,
        ffmpeg_log_level="error",
    ) as film:
        for k in range(0, len(states), every):
            won = bool(infos[k]["success"][0])
            outcome = f"{'open' if won else 'opening'}  {100 * infos[k]['progress'][0]:.0f} %"
            text = f"{task}: {CLOSURES[task].description}"
            film.append_data(caption(camera.draw(*states[k]), text, outcome, won))
        last = caption(
            camera.draw(*states[-1]), text, "success" if success else "not opened", success
        )
        for _ in range(fps // 2):
            film.append_data(last)
    camera.close()
    os.replace(temporary, path)
    return {
        "success": success,
        "progress": float(info["progress"][0]),
        "frames": len(states) + fps // 2,
    }


def caption(frame: np.ndarray, text: str, outcome: str, good: bool) -> np.ndarray:
    """A bar at the top edge with the task, and one at the bottom with the outcome."""
    image = Image.fromarray(frame)
    size = max(12, image.width // 36)
    pen, font, bar = ImageDraw.Draw(image, "RGBA"), ImageFont.load_default(size=size), 9 * size // 5
    for top, line, color in (
        (0, text, (245, 245, 245)),
        (image.height - bar, outcome, (130, 230, 150) if good else (245, 205, 120)),
    ):
        if line:
            pen.rectangle((0, top, image.width, top + bar), fill=(18, 22, 28, 200))
        pen.text((size // 2, top + size // 3), line, font=font, fill=color)
    return np.asarray(image)
