"""Rollout videos, drawn from recorded states."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import imageio.v2 as imageio
import numpy as np
from gymnasium.vector import AutoresetMode
from PIL import Image, ImageDraw, ImageFont

from uncap.agents.files import replacing
from uncap.envs import CLOSURES, ClosureVectorEnv
from uncap.envs.batch import CONTROL_DT, ClosureBatch
from uncap.envs.pool import VARIANT_STREAMS
from uncap.envs.render import Camera
from uncap.envs.tables import lookup
from uncap.evaluation.beliefs import kinds_of
from uncap.evaluation.protocol import EVALUATION_SEED, Policy

_FULL_WIDTH = 640  # pixels; a narrower film is a draft
_TEXT_COLOR = (245, 245, 245)
_GOOD_COLOR = (130, 230, 150)
_OTHER_COLOR = (245, 205, 120)
_BAR_COLOR = (18, 22, 28, 200)
_BELIEVED = 5  # rows, or mechanisms, at most whose belief is drawn


class State(NamedTuple):
    """What a camera needs to draw one simulation."""

    qpos: np.ndarray  # (nq,) joint positions
    mocap_pos: np.ndarray  # (1, 3) m, of the container
    mocap_quat: np.ndarray  # (1, 4), of the container


def first_state(batch: ClosureBatch) -> State:
    """The state of the batch's first simulation, copied."""
    return State(batch.qpos[0].copy(), batch.mocap_pos[0].copy(), batch.mocap_quat[0].copy())


@dataclasses.dataclass
class _Episode:
    """A recorded episode: what was before each control step, and the outcome."""

    success: bool = False
    progress: float = 0.0
    states: list[State] = dataclasses.field(default_factory=list)
    successes: list[bool] = dataclasses.field(default_factory=list)
    progresses: list[float] = dataclasses.field(default_factory=list)
    beliefs: list[dict[str, float]] = dataclasses.field(default_factory=list)
    pictures: list[np.ndarray] = dataclasses.field(default_factory=list)  # as it sees them, if any


def record(  # noqa: PLR0913 - what a film may choose, nearly all by name
    policy: Policy,
    task: str,
    path: pathlib.Path,
    *,
    conditioning: str,
    known_tasks: Sequence[str] | None,
    sensors: str = "full",
    episode_steps: int | None = None,
    attempts: int = 1,
    width: int = _FULL_WIDTH,
    seed: int = EVALUATION_SEED,
    on_frame: Callable[[int, int], object] = lambda done, total: None,
    variants: str = "evaluation",
    engine: str = "cpu",
) -> dict[str, Any]:
    """Film one evaluation episode; or all attempts of a trial, with what the policy believes.

    Beside a policy that sees pictures are these.

    Args:
        policy: see `protocol.evaluate`.
        task: a row.
        path: the .mp4 to write, whole or not at all.
        conditioning: what the policy is told of its task.
        known_tasks: rows that `one_hot` has components for.
        sensors: what the policy senses.
        episode_steps: control steps of the episode; by default what the row says.
        attempts: episodes of the trial.
        width: of the picture in pixels, 4 : 3. A film narrower than 640 is a draft: every
            second frame, edges not smoothed.
        seed: of the start; by default that of the evaluation's first.
        variants: from which stream they are drawn, a row of `pool.VARIANT_STREAMS`.
        engine: what runs the simulation, a row of `uncap.envs.engines.ENGINES`.
        on_frame: called with (frames done, all of them) after each.

    Returns:
        {success, progress, frames}, of the last attempt.

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
        variant_seed=lookup(VARIANT_STREAMS, variants, "stream of variants"),
        sensors=sensors,
        episode_steps=episode_steps,
        attempts=attempts,
        engine=engine,
    )
    episodes = _play(env, policy, seed)
    draft = width < _FULL_WIDTH
    every = 2 if draft else 1
    frames_per_second = round(1 / CONTROL_DT / every)
    still = frames_per_second // 2  # frames for which the outcome stands
    variant = env.batch.pool[env.batch.variant[0]]
    camera = Camera(variant, width, width * 3 // 4, smooth=not draft)
    text = f"{task}: {CLOSURES[task].description}"
    total = sum(-(-len(episode.states) // every) + still for episode in episodes)
    frames = _counted(_frames(episodes, camera, text, every, still), total, on_frame)
    _write_film(path, frames, frames_per_second)
    camera.close()
    return {
        "success": episodes[-1].success,
        "progress": episodes[-1].progress,
        "frames": sum(len(episode.states) + still for episode in episodes),
    }


def _counted(
    frames: Iterable[np.ndarray], total: int, on_frame: Callable[[int, int], object]
) -> Iterator[np.ndarray]:
    """The frames, counted as they are taken."""
    for done, frame in enumerate(frames, start=1):
        yield frame
        on_frame(done, total)


def _play(env: ClosureVectorEnv, policy: Policy, seed: int) -> list[_Episode]:
    """Play the attempts of one trial in an environment of one simulation."""
    act = policy(env)
    observation, info = env.reset(seed=[seed])
    episodes = []
    for attempt in range(env.attempts):
        if attempt:
            observation, info = env.reset(options={"next_attempt": True})
        episode = _Episode()
        done = False
        while not done:
            episode.states.append(first_state(env.batch))
            episode.successes.append(bool(info["success"][0]))
            episode.progresses.append(float(info["progress"][0]))
            action = act(observation, info["task_index"])
            episode.beliefs.append(_believed(act))
            if "rgb" in observation:
                episode.pictures.append(observation["rgb"][0].copy())
            observation, _, _, truncated, info = env.step(action)
            done = bool(truncated[0])
        episode.success = bool(info["success"][0])
        episode.progress = float(info["progress"][0])
        episodes.append(episode)
    return episodes


def _believed(act: Any) -> dict[str, float]:
    """What a policy believes in most, and how much; nothing without a belief."""
    recall = getattr(act, "recall", None)
    if recall is None or not recall.memory.is_belief:
        return {}
    kinds = kinds_of(act.tasks)
    belief = kinds.sums(recall.known())[0]
    most = np.argsort(-belief, kind="stable")[:_BELIEVED]
    return {kinds.names[k]: float(belief[k]) for k in most}


def _frames(
    episodes: Sequence[_Episode], camera: Camera, text: str, every: int, still: int
) -> Iterator[np.ndarray]:
    """The frames of a film, with captions; an episode's last one stands for `still` frames."""
    for number, episode in enumerate(episodes, start=1):
        of_trial = f"attempt {number}: " if len(episodes) > 1 else ""
        for k in range(0, len(episode.states), every):
            success = episode.successes[k]
            outcome = f"{'open' if success else 'opening'}  {100 * episode.progresses[k]:.0f} %"
            frame = caption(camera.draw(*episode.states[k]), text, of_trial + outcome, success)
            yield _beside(frame, episode, k)
        outcome = of_trial + ("success" if episode.success else "not opened")
        last = caption(camera.draw(*episode.states[-1]), text, outcome, episode.success)
        for _ in range(still):
            yield _beside(last, episode, -1)


def _beside(frame: np.ndarray, episode: _Episode, k: int) -> np.ndarray:
    """A frame beside what the policy believed in control step k, or saw."""
    if episode.pictures:
        return with_pictures(frame, episode.pictures[k])
    return with_belief(frame, episode.beliefs[k])


def with_pictures(frame: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """A frame with the pictures that a policy sees at its right, one below the other.

    Args:
        frame: (height, width, 3) uint8.
        seen: (size, size, 3 x pictures) uint8.

    Returns:
        A new frame, wider.
    """
    height, width = frame.shape[:2]
    pictures = np.split(seen, seen.shape[-1] // 3, axis=-1)
    side = height // len(pictures)  # pixels
    panel = -(-side // 16) * 16  # films want multiples of 16
    image = Image.new("RGB", (width + panel, height), _BAR_COLOR[:3])
    image.paste(Image.fromarray(frame), (0, 0))
    for k, picture in enumerate(pictures):
        drawn = Image.fromarray(np.ascontiguousarray(picture)).resize(
            (side, side), Image.Resampling.NEAREST
        )
        image.paste(drawn, (width, k * side))
    return np.asarray(image)


def with_belief(frame: np.ndarray, belief: Mapping[str, float]) -> np.ndarray:
    """A frame with a panel at its right: a bar for each row that is believed in.

    Args:
        frame: (height, width, 3) uint8.
        belief: in each row, by name.

    Returns:
        A new frame, wider by a half; the same without a belief.
    """
    if not belief:
        return frame
    height, width = frame.shape[:2]
    panel = width // 2 // 16 * 16  # pixels: films want multiples of 16
    image = Image.new("RGB", (width + panel, height), _BAR_COLOR[:3])
    image.paste(Image.fromarray(frame), (0, 0))
    pen = ImageDraw.Draw(image)
    size = max(12, width // 40)  # pixels, of the letters
    font = ImageFont.load_default(size=size)
    left, line = width + size, 3 * size
    pen.text((left, size), "it believes that this is", font=font, fill=_TEXT_COLOR)
    for k, (name, share) in enumerate(belief.items(), start=1):
        top = size + k * line
        pen.text((left, top), f"{name}  {share:.2f}", font=font, fill=_TEXT_COLOR)
        long = int(share * (panel - 2 * size))
        pen.rectangle((left, top + 4 * size // 3, left + long, top + 2 * size), fill=_GOOD_COLOR)
    return np.asarray(image)


def _write_film(path: pathlib.Path, frames: Iterable[np.ndarray], frames_per_second: int) -> None:
    """Write frames as an .mp4, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        film: Any = imageio.get_writer(  # Any: its annotated class lacks append_data
            temporary,
            fps=frames_per_second,
            codec="libx264",
            quality=7,
            macro_block_size=16,
            ffmpeg_log_level="error",
        )
        with film:
            for frame in frames:
                film.append_data(frame)


def caption(frame: np.ndarray, text: str, outcome: str, good: bool) -> np.ndarray:
    """Write the task into a bar at the top of a frame, and the outcome into one at the bottom.

    Args:
        frame: (height, width, 3) uint8.
        text: the upper line.
        outcome: the lower line.
        good: whether the outcome is a success, for its colour.

    Returns:
        A new frame. An empty line has no bar.
    """
    image = Image.fromarray(frame)
    size = max(12, image.width // 36)  # pixels, of the letters
    bar = 9 * size // 5  # pixels, of a bar's height
    pen = ImageDraw.Draw(image, "RGBA")
    font = ImageFont.load_default(size=size)
    outcome_color = _GOOD_COLOR if good else _OTHER_COLOR

    def fits(text: str) -> bool:
        return pen.textlength(text, font=font) <= image.width - size

    for top, line, color in (
        (0, text, _TEXT_COLOR),
        (image.height - bar, outcome, outcome_color),
    ):
        if line:
            pen.rectangle((0, top, image.width, top + bar), fill=_BAR_COLOR)
            words = shortened(line, fits)
            pen.text((size // 2, top + size // 3), words, font=font, fill=color)
    return np.asarray(image)


def shortened(line: str, fits: Callable[[str], bool]) -> str:
    """A line, or as many of its first words as fit, and three dots.

    Args:
        line: the text.
        fits: whether a text fits.
    """
    words = line.split(" ")
    found = line
    while not fits(found) and len(words) > 1:
        words.pop()
        found = " ".join(words) + " ..."
    return found
