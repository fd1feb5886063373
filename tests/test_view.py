"""A live look: who acts, what is told and recorded, the page's controls, and a real browser."""

import contextlib
import io
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import types
from unittest import mock

import browser
import numpy as np
import pytest
from rich.console import Console

from uncap.agents import demonstrations, files
from uncap.envs import CLOSURES, ClosureVectorEnv
from uncap.envs.batch import CONTROL_DT
from uncap.envs.contacts import contacts
from uncap.envs.experts import expert_action
from uncap.evaluation import commands, live_page, live_scene, live_window
from uncap.evaluation.commands import Actor, actors
from uncap.evaluation.config import ViewConfig
from uncap.evaluation.live import AXES, FINGERS, SETTLE, Live, choices
from uncap.evaluation.live_page import STILL, Page
from uncap.evaluation.protocol import BUILT_IN

ROOT = pathlib.Path(__file__).parent.parent


class Told:
    """A policy that notes what it is told."""

    def __init__(self, env):
        self.seen = []

    def __call__(self, observation, task_index):
        assert set(observation) == {"state", "task"}
        self.seen.append((observation["task"][0], int(task_index[0])))
        return np.zeros((1, 5))


def of(policy, rows=("button", "reach"), conditioning="one_hot"):
    return Actor(policy, conditioning, rows, rows, rows)


@pytest.fixture
def live(tmp_path):
    made = Live(of(BUILT_IN["expert"]), "button", 0, tmp_path / "out")
    yield made
    made.close()


@pytest.fixture
def minari():
    return pytest.importorskip("minari")


# The loop


def test_the_policy_acts_as_in_any_other_environment(live):
    env = ClosureVectorEnv("button", 1, autoreset_mode="Disabled", threads=1)
    env.reset(seed=[live._start_seed])
    for _ in range(5):
        action = expert_action(env.batch.measure()).astype(np.float32)
        _, reward, *_ = env.step(action)
        assert live.step()
        np.testing.assert_array_equal(live.env.batch.qpos, env.batch.qpos)
        assert live.reward == reward[0]
    assert live.steps == (5, CLOSURES["button"].steps)
    before = live._start_seed
    live.start("reach")
    assert (live.task, live.told, live.steps[0]) == ("reach", "reach", 0)
    assert live._start_seed != before


def test_a_policy_can_be_told_of_another_task_while_it_acts(tmp_path):
    live = Live(of(Told), "button", 0, tmp_path)
    live.step()
    live.told = "reach"
    live.step()
    assert [(vector.tolist(), index) for vector, index in live._act.seen] == [
        ([1.0, 0.0], 0),
        ([0.0, 1.0], 1),
    ]
    assert live.env.task_names == ("button",)
    live.start()
    assert live.told == "reach"  # until another task is chosen
    live.start("button")
    assert live.told == "button"
    assert live.tells
    live.close()


def test_what_can_be_chosen():
    assert choices(of(Told), "button") == ("button", "reach")
    parameters = choices(of(Told, conditioning="parameters"), "mug")
    assert parameters[:2] == ("button", "reach")
    assert set(parameters) == set(CLOSURES)
    kept = {"button": np.zeros(3), "gone": np.zeros(3)}
    assert choices(of(Told, conditioning=kept), "button") == ("button",)
    with pytest.raises(ValueError, match="no component for unseen task mug"):
        Live(of(Told), "mug", 0, pathlib.Path())
    [expert] = actors(pathlib.Path("expert"), ("jar",))
    assert set(choices(expert, "jar")) == set(CLOSURES)


def test_the_hand_takes_over_and_time_waits_for_it(live):
    x = live.env.batch.measure()["tcp"][0, 0]
    live.move(np.array([1.0, 0, 0, 0, 1]))
    for _ in range(10):
        assert live.step()
    assert live.env.batch.measure()["tcp"][0, 0] > x + 0.03
    live.take_over()
    assert not live.step()
    live.move(np.array([0, 0, 0, 0, -1.0]))
    assert sum(live.step() for _ in range(3 * SETTLE)) == SETTLE  # the fingers close
    assert live.env.batch.measure()["opening"][0] < 0.003
    live.waits = False
    assert live.step()
    live.give_back()
    live.step()
    assert live.action[:FINGERS].any()


class Remembering:
    """A policy with a memory that notes what it sees and what was done."""

    def __init__(self, env):
        self.recall, self.seen, self.done = self, 0, []

    def __call__(self, observation, task_index):
        self.seen += 1
        return np.zeros((1, 5))

    def acted(self, action):
        self.done.append(action[0])


def test_a_memory_goes_on_while_the_hand_acts(tmp_path):
    live = Live(of(Remembering), "button", 0, tmp_path / "out")
    by_hand = np.array([0.5, 0.0, 0.0, 0.0, 1.0])
    live.step()
    live.move(by_hand)
    live.step()
    assert live._act.seen == 2
    assert np.array_equal(live._act.done, [by_hand])
    live.close()


def test_fingers_stay_as_they_are_when_the_hand_takes_over(live):
    live.action = np.array([0, 0, 0, 0, -0.5], np.float32)
    live.take_over()
    assert live.hand.tolist() == [0, 0, 0, 0, -0.5]


def test_an_episode_ends_once(live):
    for _ in range(live.steps[1]):
        live.step()
    assert live.ended and live.success
    assert not live.step()


def test_contacts_are_those_of_the_simulation(live):
    assert not len(contacts(live.env.batch).points)  # the hand is in the air
    for _ in range(30):  # to the button, and down
        live.step()
    before = live.env.snapshot()["batch"]["state"]
    found = contacts(live.env.batch)
    np.testing.assert_array_equal(live.env.snapshot()["batch"]["state"], before)
    measured = live.env.batch.measure()
    assert np.abs(found.points - measured["tcp"]).max() < 0.03
    pushed = measured["touch"].sum()  # N, both fingers downwards; a physics step earlier
    assert -found.forces.sum(0)[2] == pytest.approx(pushed, rel=0.3)


# Recording


def push_down(live, steps):
    live.move(np.array([0.1, 0, -0.5, 0, -1]))
    for _ in range(steps):
        live.step()


def test_what_is_done_by_hand_is_read_back_and_repeats(live, minari):
    live.record()
    assert live.by_hand and live.recording is not None
    seed = live.recording.seed
    push_down(live, live.steps[1])
    assert live.recording is None  # it has ended, and is saved
    assert live.saved == live.out / "uncap" / "by-hand-v0"
    data = demonstrations.load(live.out)
    assert len(data["state"]) == CLOSURES["button"].steps
    np.testing.assert_array_equal(data["label"][0], np.float32([0.1, 0, -0.5, 0, -1]))
    np.testing.assert_array_equal(data["task"][0], CLOSURES["button"].vector)

    [episode] = minari.MinariDataset(live.saved / "data")
    env = ClosureVectorEnv(
        "button", 1, conditioning="parameters", autoreset_mode="Disabled", threads=1
    )
    observation, _ = env.reset(seed=[seed])
    for action, state in zip(episode.actions, episode.observations["state"], strict=False):
        np.testing.assert_array_equal(observation["state"][0], state)
        observation, *_ = env.step(action[None])
    np.testing.assert_array_equal(observation["state"][0], episode.observations["state"][-1])
    assert episode.truncations.tolist() == [False] * (len(episode) - 1) + [True]
    assert episode.infos["by_hand"].all()


def test_episodes_are_added_also_of_other_tasks_and_cut_short(live, minari):
    for task in ("button", "reach"):
        live.start(task)
        live.record()
        push_down(live, 3)
        live.save()
    assert [path.name for path in (live.out / "uncap").iterdir()] == ["by-hand-v1"]
    assert not list(live.out.glob(".demos*"))
    assert demonstrations.metadata(live.out)["tasks"] == ["button", "reach"]
    data = demonstrations.load(live.out)
    assert data["index"].tolist() == [0] * 3 + [1] * 3
    assert demonstrations.task_indices(live.out, ("reach",)).tolist() == [-1, 0]
    stored = minari.MinariDataset(live.saved / "data")
    assert stored.spec.dataset_id == "uncap/by-hand-v1"
    seeds = [one["seed"] for one in stored.storage.get_episode_metadata([0, 1])]
    assert len(set(seeds)) == 2 and seeds[1] == live._start_seed


def test_a_recording_that_cannot_be_added_leaves_what_there_was(live, minari, monkeypatch):
    live.record()
    push_down(live, 2)
    live.save()
    live.record()
    with pytest.raises(ValueError, match="not one control step"):
        live.save()
    push_down(live, 2)

    def full(path):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "flush", full)
        with pytest.raises(OSError, match="No space"):
            live.save()
    assert len(demonstrations.load(live.out)["state"]) == 2
    assert live.recording is not None  # it can be saved, still
    live.save()
    assert len(demonstrations.load(live.out)["state"]) == 4

    arrays = live.saved / "data" / "main_data.hdf5"
    arrays.write_bytes(arrays.read_bytes()[:-1] + b"x")
    live.record()
    push_down(live, 1)
    with pytest.raises(ValueError, match="damaged"):
        live.save()
    with pytest.raises(ValueError, match="nothing is recorded"):
        Live(of(Told), "reach", 0, live.out).save()


# The page, without a browser


class Control:
    """A control of the page, which a test uses as a person would."""

    def __init__(self, value=None, label=""):
        self.value = value
        self.content = ""
        self.label = label
        self._called = lambda event: None

    def on_update(self, called):
        self._called = called

    on_click = on_update

    def use(self, value=None, client_id=0):
        self.value = value
        self._called(types.SimpleNamespace(client_id=client_id, target=self))


class Gui:
    """Makes controls, which are found by their labels."""

    def __init__(self):
        self.made = {}
        self.configure_theme = self.set_panel_label = mock.Mock()

    def add_folder(self, label):
        return contextlib.nullcontext()

    def _keep(self, label, value=None):
        return self.made.setdefault(label, Control(value, label))

    def add_dropdown(self, label, options, initial_value, **_):
        return self._keep(label, initial_value)

    def add_checkbox(self, label, initial_value, **_):
        return self._keep(label, initial_value)

    def add_slider(self, label, least, most, step, initial_value):
        return self._keep(label, initial_value)

    def add_button(self, label, **_):
        return self._keep(label)

    def add_html(self, content):
        return self._keep(f"html {len(self.made)}")

    def add_progress_bar(self, value):
        return self._keep("progress", value)


class FakePage:
    """A page whose time passes as a test says."""

    def __init__(self, live):
        self.now = 0.0
        self.said = []
        self.gui = Gui()
        self.scene = mock.Mock(forces=True)
        server = types.SimpleNamespace(gui=self.gui)
        self.page = Page(server, live, self.scene, self.said.append, lambda: self.now)

    def __getitem__(self, label):
        return self.gui.made[label]

    def go_on(self, steps=1, dt=CONTROL_DT):
        for _ in range(steps):
            self.page.tick()
            self.now += dt


@pytest.fixture
def page(live):
    return FakePage(live)


def test_the_page_steps_as_time_passes(page, live):
    page.go_on(10, dt=CONTROL_DT / 2)
    assert live.steps[0] == 5
    page["pause"].use(True)
    page.go_on(5)
    assert live.steps[0] == 5
    page["pause"].use(False)
    page["speed"].use(0.5)
    page.go_on(10)
    assert live.steps[0] in (10, 11)
    assert page.scene.show.call_count == live.steps[0]
    assert page["progress"].value == 100 * live.progress
    shown = " ".join(control.content for control in page.gui.made.values())
    for words in ("button", f"step {live.steps[0]} of", "reach", "left finger", "policy"):
        assert words in shown


def test_the_policy_starts_anew_after_a_while(page, live):
    page.go_on(live.steps[1])
    assert live.ended
    page.go_on(round(STILL / CONTROL_DT) - 2)
    assert live.ended
    page.go_on(5)
    assert not live.ended and live.steps[0] < 5


def test_a_slider_takes_over_and_a_checkbox_gives_back(page, live):
    page.go_on(3)
    page["dz"].use(0.5)
    page.go_on()
    assert live.by_hand and page["by hand"].value
    assert live.action.tolist() == [0, 0, 0.5, 0, live.hand[FINGERS]]
    page["fingers"].use(-1.0)
    page["dz"].use(0.25)
    page["dz"].use(0.0, client_id=None)  # the page's own update of a control asks for nothing
    page.go_on()
    assert live.action.tolist() == [0, 0, 0.25, 0, -1]
    page["rest"].use()
    page.go_on()
    assert [page[axis].value for axis in AXES] == [0, 0, 0, 0, -1]
    page["by hand"].use(False)
    page.go_on()
    assert not live.by_hand
    page["by hand"].use(True)
    page["time waits for the hand"].use(False)
    page["draw contact forces"].use(False)
    page.go_on()
    assert live.by_hand and not live.waits and not page.scene.forces


def test_tasks_are_chosen_and_told_on_the_page(page, live):
    page["told of"].use("reach")
    page.go_on(2)
    assert (live.task, live.told, live.steps[0]) == ("button", "reach", 2)
    page["task"].use("reach")
    page.go_on()
    assert live.task == "reach"
    assert live.steps[0] == 1
    page["new start"].use()
    page.go_on()
    assert (live.task, live.steps[0]) == ("reach", 1)


def test_the_page_records_and_says_where(page, live, minari):
    page["record"].use()
    page["dx"].use(0.5)
    page.go_on(4)
    assert page["record"].label == "stop and save"
    page["record"].use()
    page.go_on()
    assert page["record"].label == "record"
    assert page.said == [f"recorded: {live.out / 'uncap' / 'by-hand-v0'}"]
    assert len(demonstrations.load(live.out)["state"]) == 4
    page["record"].use()
    page["dx"].use(0.5)
    page.go_on(live.steps[1])  # to the episode's end
    assert page.said[1:] == [f"recorded: {live.out / 'uncap' / 'by-hand-v1'}"]


def test_the_page_says_mistakes_and_goes_on(page, live, monkeypatch):
    monkeypatch.setattr(demonstrations, "_minari", mock.Mock(side_effect=ValueError("no <b>")))
    page["record"].use()
    page.go_on(2)
    assert page.said == ["error: no <b>"]
    assert live.recording is None
    assert any("no &lt;b&gt;" in control.content for control in page.gui.made.values())
    assert live.steps[0] == 2


def test_what_is_drawn_of_a_variant_has_names_of_its_own():
    server = mock.Mock()
    below = live_scene._Below(server, "/3")
    below.scene.add_frame("/bodies", show_axes=False)
    server.scene.add_frame.assert_called_once_with("/3/bodies", show_axes=False)
    below.scene.remove_by_name("/forces")
    server.scene.remove_by_name.assert_called_once_with("/forces")
    assert below.atomic is server.atomic


# The command


def test_a_port_that_is_taken_is_said():
    with socket.socket() as taken:
        taken.bind((live_page.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} cannot be used"):
            live_page._free_port(port)
    assert live_page._free_port(None) >= live_page.FIRST_PORT


class Window:
    """MuJoCo's viewer, without a window."""

    def __init__(self, keys, pressed, frames):
        self.keys, self.pressed, self.frames = keys, pressed, frames
        self.m = mock.Mock()

    def is_running(self):
        self.frames -= 1
        return self.frames >= 0

    def lock(self):
        return contextlib.nullcontext()

    def sync(self):
        for key in self.pressed.get(self.frames, ()):
            self.keys(key)


def test_the_window_plays_pauses_and_starts_anew(live, monkeypatch):
    monkeypatch.setattr(live_window.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(live_window.mujoco, "mj_forward", lambda model, data: None)
    data = types.SimpleNamespace(
        qpos=np.zeros(live.env.batch.qpos.shape[1]), mocap_pos=np.zeros(3), mocap_quat=np.zeros(4)
    )
    keys = live_window.Keys()
    live_window._play(live, keys, Window(keys, {}, 5), data)  # and it is closed
    assert live.steps[0] == 5
    variant = live.env.batch.variant[0]
    pressed = {3: [live_window.PAUSE], 1: [live_window.NEW_START]}
    live_window._play(live, keys, Window(keys, pressed, 5), data)
    assert live.steps[0] == 0
    assert live.env.batch.variant[0] == variant
    assert keys.paused and not keys.new_start
    keys.paused = False
    live_window._play(live, keys, Window(keys, {}, live.steps[1] + 25), data)
    assert 0 < live.steps[0] < 10  # after the outcome stood for a second


def test_a_display_is_asked_for(monkeypatch):
    if sys.platform != "linux":
        pytest.skip("other systems have a display")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    for display in ("", ":77"):
        monkeypatch.setenv("DISPLAY", display)
        with pytest.raises(ValueError, match="--native needs a display"):
            live_window.check_display()


@pytest.mark.parametrize("records", [False, True])
def test_ctrl_c_ends_with_one_line(records, tmp_path, monkeypatch):
    def look(live, port, say):
        say(f"port {port}")
        if records:
            live.record()
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "actors", lambda run, tasks: [of(BUILT_IN["expert"])])
    monkeypatch.setattr(live_page, "check_installed", lambda: None)
    monkeypatch.setattr(live_page, "look", look)
    said = Console(file=io.StringIO())
    config = ViewConfig(run=pathlib.Path("expert"), task="reach", port=9, out=tmp_path / "out")
    commands.view(config, said)
    lost = "; the recording that had not ended is dropped" if records else ""
    assert said.file.getvalue().splitlines() == ["port 9", f"ended{lost}"]
    assert not (tmp_path / "out").exists()


def test_a_missing_library_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "mjviser", None)
    with pytest.raises(ValueError, match=r'pip install "uncap\[view\]"'):
        live_page.check_installed()


# A real browser (optional, since it draws in software for a minute: UNCAP_BROWSER=1 asks for it)

needs_browser = pytest.mark.skipif(
    "UNCAP_BROWSER" not in os.environ or browser.found() is None,
    reason="optional: UNCAP_BROWSER=1, and Chromium",
)


@contextlib.contextmanager
def viewing(out: pathlib.Path):
    """The command in a process of its own: its address, and how it ended."""
    process = subprocess.Popen(
        [sys.executable, ROOT / "train.py", "view", "expert", "--task", "jar", "--out", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout
    try:
        line = process.stdout.readline()
        address = re.search(r"http://\S+", line)
        assert address, line + process.communicate(timeout=10)[1]
        yield process, address.group()
    finally:
        process.kill()
        process.communicate()


@needs_browser
def test_a_browser_shows_takes_over_and_records(tmp_path, minari):
    pytest.importorskip("mjviser", reason="optional: uncap[view]")
    from PIL import Image

    with viewing(tmp_path / "out") as (process, address):
        with browser.opened(address, tmp_path / "browser") as tab:
            text = "(document.body?.innerText ?? '')"
            browser.wait_for(lambda: "jar | policy | step" in tab.run(text))
            browser.wait_for(lambda: tab.run("document.querySelectorAll('canvas').length"))
            record = "[...document.querySelectorAll('button')].find(b => b.innerText == 'record')"
            browser.wait_for(lambda: tab.run(f"{record} !== undefined"))
            tab.run(f"{record}.click()")
            browser.wait_for(lambda: "recording: 0 steps" in tab.run(text))
            # the second slider is dx, after the speed
            tab.run("document.querySelectorAll('[role=slider]')[1].focus()")
            tab.press("ArrowRight", 39, times=10)
            browser.wait_for(lambda: "saved: " in tab.run(text))  # when the episode has ended
            (tmp_path / "seen.png").write_bytes(tab.picture())
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert said.splitlines()[-1] == "ended"
    assert not errors
    seen = np.asarray(Image.open(tmp_path / "seen.png").convert("RGB"), int)
    red = (seen[..., 0] > 120) & (seen[..., 1:].max(-1) < 80)
    assert red.sum() > 100  # of the jar, also after a new start
    data = demonstrations.load(tmp_path / "out")
    assert data["label"][:, 0].max() > 0.2  # dx, by the slider
    assert (data["state"] != data["state"][0]).any()
    if "UNCAP_SHOTS" in os.environ:  # a folder, to look at it
        shutil.copy(tmp_path / "seen.png", os.environ["UNCAP_SHOTS"])
