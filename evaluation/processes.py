"""Works that do not depend on each other, at once: each in a process of its own.

The processes share the cores, so that there are as many at once as there are threads. Signals go
to the parent alone: it asks all of them to save and to end. They end at once when the parent does,
however it ends. With one thread, or one work, all is done in the parent, one after the other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from typing import Any, Protocol

from uncap.envs.cores import default_threads, set_threads
from uncap.evaluation import imports, runs
from uncap.evaluation.training import STEPS_SHOWN, Session

POLL = 0.2  # s between two looks at whether a stop was asked for
SIGNALS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
# A server that has imported everything once, and forks: not on Windows
_METHODS = ("forkserver", "spawn")
WARM = "uncap.evaluation.warm"  # what it imports


class Item(Protocol):
    """What one work is about; it can be pickled, and is a key."""

    @property
    def words(self) -> str:
        """What it is called in messages."""
        ...


Work = Callable[[Any, Session], bool]  # (item, session) -> whether it finished; False if stopped
OnDone = Callable[[Any], None]


def do_all(
    phase: str, work: Work, items: Sequence[Item], session: Session, on_done: OnDone
) -> bool:
    """Do one work for each item.

    Args:
        phase: what all of it is called in reports of progress.
        work: a function of a module; reports and asks for a stop through its session.
        items: one for each work.
        session: the job.
        on_done: called with each item whose work has finished, in this process.

    Returns:
        Whether all finished; False if a stop was asked for.

    Raises:
        Exception: what a work raised, after the others have saved and ended.
        RunError: a process was killed.
    """
    board = _Board(phase, len(items), session)
    threads = default_threads()
    at_once = min(threads, len(items))
    if at_once > 1:
        return _Processes(work, items, session, on_done, board, at_once, threads).run()
    for item in items:
        own = dataclasses.replace(session, report=board.reporter(item))
        if not work(item, own):
            return False
        board.end(item)
        on_done(item)
    return True


class _Board:
    """How far all works are, as one phase.

    Args:
        phase: its name.
        total: number of works.
        session: whose report it is.
    """

    def __init__(self, phase: str, total: int, session: Session):
        self.phase = phase
        self.total = total
        self.session = session
        self._running: dict[Item, tuple[float, str]] = {}  # share done, and a text
        self._ended = 0

    def reporter(self, item: Item) -> Callable[[str, int, int, str], None]:
        """The report of one work's session."""

        def report(phase: str, done: int, total: int, text: str) -> None:
            self.put(item, done / total, text)
            self.show()

        return report

    def put(self, item: Item, share: float, text: str) -> None:
        """Note how far a work is; an empty text keeps the last one."""
        _, before = self._running.get(item, (0.0, ""))
        self._running[item] = (share, text or before)

    def end(self, item: Item) -> None:
        """Note that a work has finished."""
        self._running.pop(item, None)
        self._ended += 1

    def show(self) -> None:
        """Report to the job's session."""
        done = self._ended + sum(share for share, _ in self._running.values())
        texts = [f"{item.words} {text}".strip() for item, (_, text) in self._running.items()]
        total = STEPS_SHOWN * self.total
        self.session.report(
            self.phase, min(total, round(STEPS_SHOWN * done)), total, ", ".join(texts)
        )


@dataclasses.dataclass
class _Worker:
    """A process, and the parent's ends of its pipes."""

    item: Item
    process: Any
    orders: connection.Connection
    news: connection.Connection
    told: bool = False  # to stop


class _Processes:
    """Some works at once."""

    def __init__(
        self,
        work: Work,
        items: Sequence[Item],
        session: Session,
        on_done: OnDone,
        board: _Board,
        at_once: int,
        threads: int,
    ):
        self.work = work
        self.waiting = list(items)
        self.session = session
        self.on_done = on_done
        self.board = board
        self.at_once = at_once
        self.threads_each = max(1, threads // at_once)
        self.running: list[_Worker] = []
        self.error: BaseException | None = None
        self._context = _context()

    @property
    def stopping(self) -> bool:
        """Whether the processes shall save and end."""
        return self.error is not None or self.session.stop()

    def run(self) -> bool:
        """Do all; False if stopped."""
        with _server_ends():
            self._do_all()
        if self.error is not None:
            raise self.error
        return not self.waiting and not self.session.stop()

    def _do_all(self) -> None:
        try:
            while self.running or (self.waiting and not self.stopping):
                while self.waiting and len(self.running) < self.at_once and not self.stopping:
                    self.running.append(self._start(self.waiting.pop(0)))
                self._pass_on_stop()
                self._listen()
                self.board.show()
        finally:
            for worker in self.running:
                worker.orders.close()  # ends it at once
            for worker in self.running:
                worker.process.join()

    def _start(self, item: Item) -> _Worker:
        their_orders, orders = self._context.Pipe(duplex=False)
        news, their_news = self._context.Pipe(duplex=False)
        plain = dataclasses.replace(self.session, report=_nothing, stop=_nothing)
        pipes = (their_orders, their_news)
        arguments = (self.work, item, plain, self.threads_each, *pipes, imports.names())
        process = self._context.Process(target=_work, args=arguments)
        with _signals_wait():
            process.start()
        their_orders.close()  # so that the end of one side is seen by the other
        their_news.close()
        self.board.put(item, 0.0, "")
        return _Worker(item, process, orders, news)

    def _pass_on_stop(self) -> None:
        if self.stopping:
            for worker in self.running:
                if not worker.told:
                    worker.told = True
                    with contextlib.suppress(OSError):  # it has ended
                        worker.orders.send("stop")

    def _listen(self) -> None:
        ready = connection.wait([worker.news for worker in self.running], POLL)
        for worker in [worker for worker in self.running if worker.news in ready]:
            try:
                kind, value = worker.news.recv()
            except (EOFError, OSError):
                self._ended(worker, None)
                continue
            if kind == "report":
                self.board.put(worker.item, *value)
            else:
                self._ended(worker, (kind, value))

    def _ended(self, worker: _Worker, last_news: tuple[str, Any] | None) -> None:
        worker.process.join()
        self.running.remove(worker)
        worker.orders.close()
        worker.news.close()
        kind, value = last_news or ("killed", None)
        if kind == "done" and value:
            self.board.end(worker.item)
            self.on_done(worker.item)
        elif kind == "failed":
            self.error = self.error or value
        elif kind == "killed":
            self.error = self.error or runs.RunError(
                f"{worker.item.words}: its process was killed (exit {worker.process.exitcode}), as "
                "systems do that have too little memory; what it had saved is kept, and the same "
                "command goes on"
            )


def _context() -> Any:
    available = multiprocessing.get_all_start_methods()
    method = next(name for name in _METHODS if name in available)
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([WARM])
    return context


def _nothing(*_: Any) -> bool:
    """In place of what the process makes itself."""
    return False


@contextlib.contextmanager
def _server_ends() -> Iterator[None]:
    """End the fork server if it is started in this block.

    Signals do not come to it, nor to what it forks: another user of the process's one server could
    not end its processes, and would wait for them forever.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        yield
        return
    from multiprocessing import forkserver

    server: Any = forkserver._forkserver  # pyright: ignore[reportAttributeAccessIssue]
    was_running = server._forkserver_pid is not None
    try:
        yield
    finally:
        if not was_running:
            server._stop()


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Signals come when the block has ended; in the processes that it starts, never."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # it would let signals through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(
    work: Work,
    item: Item,
    session: Session,
    threads: int,
    orders: connection.Connection,
    news: connection.Connection,
    modules: Sequence[str],
) -> None:
    """What a process does."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    asked = threading.Event()
    threading.Thread(target=_obey, args=(orders, asked), daemon=True).start()
    set_threads(threads)

    def report(phase: str, done: int, total: int, text: str) -> None:
        news.send(("report", (done / total, text)))

    own = dataclasses.replace(session, report=report, stop=asked.is_set)
    try:
        for name in modules:
            imports.load(name)
        last_news = ("done", work(item, own))
    except Exception as error:
        last_news = ("failed", _portable(error))
    with contextlib.suppress(OSError):  # the parent is gone
        news.send(last_news)


def _obey(orders: connection.Connection, asked: threading.Event) -> None:
    """Note that a stop was asked for; end when the parent has ended."""
    with contextlib.suppress(EOFError, OSError):
        while orders.recv():
            asked.set()
    os._exit(1)


def _portable(error: Exception) -> Exception:
    """An error as it can be sent: of its own class, if one line makes it, with that line."""
    try:
        portable = type(error)(str(error))
    except TypeError:  # it is made of more
        portable = RuntimeError(f"{type(error).__name__}: {error}")
    return portable
