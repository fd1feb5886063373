"""A live look in the browser: the page's controls, and the loop that serves it.

The server calls back in threads of its own. What it asks for waits in a queue until the loop,
which alone steps and draws, comes to it.
"""

from __future__ import annotations

import contextlib
import functools
import html
import importlib
import logging
import queue
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from uncap.envs.batch import CONTROL_DT
from uncap.envs.rewards import TERMS
from uncap.evaluation.live import AXES, Live

HOST = "127.0.0.1"  # this machine only
FIRST_PORT = 8080  # of those that are tried
STILL = 1.0  # s for which an outcome stands before the policy's next start
_EVERY = 0.2  # s between two updates of the numbers
_LINE = '<p style="margin:0.2em 0.8em">'
_ROW = (
    '<tr><td>{}</td><td style="width:45%"><div style="background:#4c8bf5;height:8px;'
    'border-radius:4px;width:{:.0f}%"></div></td><td style="text-align:right">{}</td></tr>'
)


def check_installed() -> None:
    """Refuse to go on without the libraries of the page.

    Raises:
        ValueError: they are not installed.
    """
    try:
        importlib.import_module("mjviser")
        importlib.import_module("viser")
    except ImportError:
        raise ValueError(
            'a look in the browser needs mjviser: pip install "uncap[view]" '
            "(--native needs none, but a display)"
        ) from None


class Page:
    """The controls beside the picture.

    Args:
        server: viser's.
        live: what they show and change.
        scene: what is drawn, see `live_scene.Scene`.
        say: prints a line.
        clock: of the time, in seconds.
    """

    def __init__(
        self,
        server: Any,
        live: Live,
        scene: Any,
        say: Callable[[str], object] = print,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.live = live
        self.scene = scene
        self._say = say
        self._clock = clock
        self._asked: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._next = clock()  # when the next control step is due
        self._ended = 0.0  # when the episode ended
        self._updated = -_EVERY  # when the numbers were updated
        self._problem = ""  # what could not be done, until something else is asked for
        self._followed: dict[str, Any] = {}  # what the controls were set to
        gui = server.gui
        gui.configure_theme(show_logo=False, show_share_button=False, control_layout="collapsible")
        gui.set_panel_label("Uncap")
        self._add_episode(gui)
        self._add_hand(gui)
        self._add_numbers(gui)

    def _add_episode(self, gui: Any) -> None:
        live = self.live
        self._task = gui.add_dropdown("task", live.tasks, initial_value=live.task)
        self._task.on_update(self._when_changed(live.start))
        self._told = gui.add_dropdown(
            "told of",
            live.tasks,
            initial_value=live.told,
            disabled=not live.tells,
            hint="what the policy is told that it opens, while it acts",
        )
        self._told.on_update(self._when_changed(lambda name: setattr(live, "told", name)))
        self._outcome = gui.add_html("")
        self._progress = gui.add_progress_bar(0.0)
        gui.add_button("new start").on_click(self._when_changed(lambda _: live.start()))
        self._pause = gui.add_checkbox("pause", False)
        self._speed = gui.add_slider("speed", 0.1, 2.0, 0.1, 1.0)

    def _add_hand(self, gui: Any) -> None:
        live = self.live
        with gui.add_folder("By hand"):
            self._by_hand = gui.add_checkbox("by hand", False, hint="off: the policy acts")
            self._by_hand.on_update(self._when_changed(self._take_over_or_give_back))
            waits = gui.add_checkbox(
                "time waits for the hand", live.waits, hint="while all is at rest"
            )
            waits.on_update(self._when_changed(lambda on: setattr(live, "waits", on)))
            self._sliders = [
                gui.add_slider(axis, -1.0, 1.0, 0.05, float(value))
                for axis, value in zip(AXES, live.hand, strict=True)
            ]
            for number, slider in enumerate(self._sliders):
                slider.on_update(self._when_changed(functools.partial(self._move, number)))
            gui.add_button("rest").on_click(self._when_changed(lambda _: live.take_over()))
            self._record = gui.add_button("record", hint="a new start by hand, saved at its end")
            self._record.on_click(self._when_changed(lambda _: self._record_or_save()))
            self._recorded = gui.add_html("")

    def _add_numbers(self, gui: Any) -> None:
        with gui.add_folder("Reward"):
            self._reward = gui.add_html("")
        with gui.add_folder("Contact"):
            self._contact = gui.add_html("")
            forces = gui.add_checkbox("draw contact forces", self.scene.forces)
            forces.on_update(self._when_changed(lambda on: setattr(self.scene, "forces", on)))

    def _when_changed(self, change: Callable[[Any], object]) -> Callable[[Any], None]:
        """A callback that leaves a change to the loop, with the control's value of now."""

        def called(event: Any) -> None:
            if event.client_id is not None:  # a person's, not our own update of a control
                self._asked.put(functools.partial(change, event.target.value))

        return called

    def _take_over_or_give_back(self, by_hand: bool) -> None:
        if by_hand:
            self.live.take_over()
        else:
            self.live.give_back()

    def _move(self, number: int, value: float) -> None:
        """Take over by a slider; what the others say stays as it is."""
        live = self.live
        if not live.by_hand:
            live.take_over()
        action = live.hand.copy()
        action[number] = value
        live.move(action)
        self._followed[AXES[number]] = live.hand[number]  # as the slider stands, or stood

    def _record_or_save(self) -> None:
        if self.live.recording is None:
            self.live.record()
        else:
            self._say_saved(self.live.save())

    def _say_saved(self, folder: Any) -> None:
        self._say(f"recorded: {folder}")

    def tick(self) -> float:
        """Do what was asked for, act if it is time, and show it; returns seconds to sleep."""
        changed = self._answer()
        now = self._clock()
        if now >= self._next:
            period = CONTROL_DT / self._speed.value
            self._next = max(self._next + period, now)
            if not self._pause.value:
                with self._mistakes_are_said():
                    changed |= self._act(now)
        if changed:
            self.scene.show()
        if changed or now - self._updated >= _EVERY:
            self._updated = now
            self._show_numbers()
        self._follow()
        return max(0.0, self._next - self._clock())

    def _act(self, now: float) -> bool:
        """Take a control step, or a new start after the policy's episode has ended."""
        live = self.live
        if live.ended and not live.by_hand and now - self._ended >= STILL:
            live.start()
            return True
        recorded = live.recording is not None
        stepped = live.step()
        if stepped and live.ended:
            self._ended = now
            if recorded and live.saved is not None:
                self._say_saved(live.saved)
        return stepped

    def _answer(self) -> bool:
        """Do what was asked for; whether anything was."""
        answered = False
        while not self._asked.empty():
            self._problem = ""
            with self._mistakes_are_said():
                self._asked.get()()
            answered = True
        return answered

    @contextlib.contextmanager
    def _mistakes_are_said(self) -> Iterator[None]:
        """Say in the page and on the console what cannot be done, and go on."""
        try:
            yield
        except (ValueError, OSError) as error:
            self._problem = " ".join(str(error).split())
            self._say(f"error: {self._problem}")

    def _follow(self) -> None:
        """Set the controls to what they control, where that has changed."""
        live = self.live
        values = {
            "task": (self._task, live.task),
            "told": (self._told, live.told),
            "by hand": (self._by_hand, live.by_hand),
        }
        hand = zip(AXES, self._sliders, live.hand.tolist(), strict=True)
        values |= {axis: (slider, value) for axis, slider, value in hand}
        for name, (control, value) in values.items():
            if self._followed.get(name) != value:
                self._followed[name] = control.value = value
        label = "record" if live.recording is None else "stop and save"
        if self._record.label != label:
            self._record.label = label

    def _show_numbers(self) -> None:
        live = self.live
        step, steps = live.steps
        who = "hand" if live.by_hand else "policy"
        outcome = "open" if live.success else "not open"
        outcome += ": the episode has ended" if live.ended else ""
        self._outcome.content = (
            f"{_LINE}<b>{live.task}</b> | {who} | step {step} of {steps} | "
            f"progress {100 * live.progress:.0f} % | {outcome}</p>"
        )
        self._progress.value = 100 * live.progress
        terms = {name: float(live.info[name][0]) for name in (*TERMS, "success")}
        rows = [_ROW.format(name, 100 * value, f"{value:.2f}") for name, value in terms.items()]
        total = _ROW.format("<b>reward</b>", 100 * live.reward, f"<b>{live.reward:.3f}</b>")
        self._reward.content = _table([total, *rows])
        measured = live.env.batch.measure()
        left, right = measured["touch"][0]  # N
        holds = "yes" if measured["holds"][0] else "no"
        self._contact.content = _table(
            [
                _ROW.format("left finger on the lid", min(100, left), f"{left:.1f} N"),
                _ROW.format("right finger on the lid", min(100, right), f"{right:.1f} N"),
                _ROW.format("lid between the fingers", 0, holds),
            ]
        )
        self._recorded.content = f"{_LINE}{self._recording()}</p>"

    def _recording(self) -> str:
        """How it is with the recording, as HTML."""
        live = self.live
        if self._problem:
            return f"<b>{html.escape(self._problem)}</b>"
        if live.recording is not None:
            return f"recording: {len(live.recording.steps)} steps"
        return f"saved: {html.escape(str(live.saved))}" if live.saved else ""


def _table(rows: list[str]) -> str:
    return f'<table style="width:100%;font-size:85%">{"".join(rows)}</table>'


def _free_port(port: int | None) -> int:
    """The port to serve on.

    Args:
        port: that was asked for; None: the first free one from FIRST_PORT on.

    Raises:
        ValueError: it is taken, or may not be used.
    """
    ports = (port,) if port is not None else range(FIRST_PORT, FIRST_PORT + 100)
    for each in ports:
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                tried.bind((HOST, each))
                return each
    raise ValueError(
        f"port {ports[0]} cannot be used here: it is taken, or not allowed; choose another --port"
    )


@contextlib.contextmanager
def _served(port: int) -> Iterator[Any]:
    """A viser server that prints nothing."""
    import rich
    import viser  # pyright: ignore[reportMissingImports] - optional

    logging.getLogger("websockets").setLevel(logging.CRITICAL)  # of visitors that leave
    quiet = rich.get_console().quiet
    rich.reconfigure(quiet=True)
    server = viser.ViserServer(HOST, port, verbose=False)
    try:
        yield server
    finally:
        server.stop()
        rich.reconfigure(quiet=quiet)


def look(live: Live, port: int | None, say: Callable[[str], object]) -> None:
    """Serve the page until Ctrl-C.

    Args:
        live: what is looked at.
        port: to serve on; None: one that is free.
        say: prints a line.

    Raises:
        ValueError: the port cannot be used.
    """
    from uncap.evaluation.live_scene import Scene

    with _served(_free_port(port)) as server:
        page = Page(server, live, Scene(server, live.env.batch), say)
        page.scene.show()
        say(f"look: http://localhost:{server.get_port()} (Ctrl-C ends it)")
        while True:
            time.sleep(page.tick())
