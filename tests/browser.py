"""A headless Chromium, told what to do by the DevTools protocol."""

import base64
import contextlib
import json
import pathlib
import shutil
import subprocess
import time
import urllib.request

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60.0  # s for something to come about
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--mute-audio",
    "--remote-debugging-port=0",
    "--window-size=720,560",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
]


def found() -> str | None:
    """The browser's program; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def wait_for(what, patience: float = PATIENCE):
    """What a function returns, once that is true.

    Raises:
        AssertionError: it does not come about.
    """
    end = time.monotonic() + patience
    while not (value := what()):
        assert time.monotonic() < end, "it does not come about"
        time.sleep(0.1)
    return value


class Tab:
    """An opened page."""

    def __init__(self, socket):
        self._socket = socket
        self._number = 0

    def ask(self, method: str, **parameters):
        """Send a command of the protocol; its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=PATIENCE))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def run(self, script: str):
        """The value of an expression in the page."""
        result = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def click(self, x: float, y: float) -> None:
        """Click at a place of the page, in its pixels."""
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str, code: int, times: int = 1) -> None:
        """Press a key."""
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                self.ask(
                    "Input.dispatchKeyEvent",
                    type=kind,
                    key=key,
                    code=key,
                    windowsVirtualKeyCode=code,
                )

    def picture(self) -> bytes:
        """What is seen, as PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])


@contextlib.contextmanager
def opened(address: str, folder: pathlib.Path):
    """A page, opened in a browser of its own; folder is for the browser's files."""
    from websockets.sync.client import connect

    program = found()
    assert program
    process = subprocess.Popen(
        [program, *FLAGS, f"--user-data-dir={folder}", address],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        noted = folder / "DevToolsActivePort"
        wait_for(lambda: noted.exists() and noted.read_text().count("\n"))
        port = noted.read_text().splitlines()[0]

        def page():
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
                pages = [one for one in json.load(answer) if one["type"] == "page"]
            return pages and pages[0]["webSocketDebuggerUrl"]

        with connect(wait_for(page), max_size=2**26) as socket:
            yield Tab(socket)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
