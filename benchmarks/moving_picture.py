"""The moving picture of the README: a policy opens the default's eight closures, as one WebP.

python benchmarks/moving_picture.py pretrained --out docs/opening.webp
"""

from __future__ import annotations

import argparse
import pathlib
import sys

import numpy as np
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from uncap import TASK_SETS, ClosureVectorEnv  # noqa: E402
from uncap.agents.files import replacing  # noqa: E402
from uncap.evaluation.commands import actors  # noqa: E402

EVERY = 2  # control steps between two frames
SIZE = (210, 158)  # pixels of each closure
COLUMNS = 4
LAST = 1500  # ms that the open closures are seen


def main() -> None:
    """Act, draw, and write the picture; print what was opened."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("policy", help="run folder, or the policy pretrained or expert")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="file, .webp")
    parser.add_argument("--seed", type=int, default=0, help="of the starts")
    options = parser.parse_args()
    rows = TASK_SETS["first"].train
    actor, *_ = actors(pathlib.Path(options.policy), rows)
    env = ClosureVectorEnv(
        rows,
        len(rows),
        conditioning=actor.conditioning,
        known_tasks=actor.known_tasks,
        sensors=actor.sensors,
        autoreset_mode="Disabled",
        render_mode="rgb_array",
    )
    observation, info = env.reset(seed=options.seed)
    act = actor.policy(env)
    pictures = [picture(env.render())]
    steps = int(env.max_steps.min())
    for step in range(1, steps + 1):
        observation, _, _, _, info = env.step(act(observation, info["task_index"]))
        if step % EVERY == 0:
            pictures.append(picture(env.render()))
    duration = round(1000 * EVERY / env.metadata["render_fps"])
    durations = [duration] * (len(pictures) - 1) + [LAST]
    with replacing(options.out) as temporary:
        first, *others = pictures
        first.save(
            temporary,
            format="WEBP",
            save_all=True,
            append_images=others,
            duration=durations,
            loop=0,
            quality=55,
            method=6,
        )
    opened = ", ".join(row for row, success in zip(rows, info["success"], strict=True) if success)
    print(f"{options.out}: {options.out.stat().st_size:,} bytes; opened: {opened}")


def picture(frames: tuple[np.ndarray, ...]) -> Image.Image:
    """Frames (height, width, 3) beside and below each other."""
    small = [np.asarray(Image.fromarray(frame).resize(SIZE, Image.LANCZOS)) for frame in frames]
    lines = [np.hstack(small[k : k + COLUMNS]) for k in range(0, len(small), COLUMNS)]
    return Image.fromarray(np.vstack(lines))


if __name__ == "__main__":
    main()
