"""A number of worker processes that share the calls given to them.

A worker lives on from call to call and is replaced after a number of calls, because TVM's compiler leaks
memory, and after a crash or a time-out. Each has a thread that waits for it, so that calls are made while the
caller does something else; the thread starts it before the first call comes.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Self

from tuning.errors import TuningError
from tuning.worker import Call, Outcome, Worker

_FOREVER = 1 << 30


class WorkerPool:
    """A number of workers; ``close`` ends them.

    Parameters
    ----------
    size : int
        How many calls are made at the same time.
    recycle_after : int
        Calls after which a process is replaced by a fresh one.
    """

    def __init__(self, size: int, recycle_after: int = _FOREVER) -> None:
        self._recycle_after = recycle_after
        self._size = 0
        self._waiting: deque[tuple[Call, Future[Outcome]]] = deque()
        self._changed = threading.Condition()
        self._threads: dict[int, threading.Thread] = {}
        self._workers: dict[int, Worker] = {}
        self._closed = False
        self.resize(size)

    @property
    def size(self) -> int:
        """How many calls are made at the same time."""
        return self._size

    def resize(self, size: int) -> None:
        """Make so many calls at the same time from now on; calls that are being made are not broken off."""
        with self._changed:
            self._size = size
            self._changed.notify_all()
            for seat in range(size):
                if seat not in self._threads:
                    thread = threading.Thread(target=self._serve, args=(seat,), daemon=True)
                    self._threads[seat] = thread
                    thread.start()

    def submit(self, call: Call) -> "Future[Outcome]":
        """Put a call in the queue.

        The future holds a ``TuningError`` if a worker process cannot be started at all, and is cancelled if
        the pool is closed before the call was made.
        """
        future: Future[Outcome] = Future()
        with self._changed:
            if self._closed:
                _cancel(future)
            else:
                self._waiting.append((call, future))
                self._changed.notify()
        return future

    def run(self, calls: Sequence[Call]) -> list[Outcome]:
        """Make the calls and return what became of them, in their order.

        Raises
        ------
        TuningError
            If a worker process cannot be started at all.
        """
        return [future.result() for future in [self.submit(call) for call in calls]]

    def close(self) -> None:
        """End every worker; calls that were not made are cancelled."""
        with self._changed:
            waiting, self._waiting = self._waiting, deque()
            threads = list(self._threads.values())
            self._size, self._closed = 0, True
            self._changed.notify_all()
            for worker in self._workers.values():
                worker.kill()
        for _, future in waiting:
            _cancel(future)
        for thread in threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _serve(self, seat: int) -> None:
        """Make calls, one after the other, until there are fewer seats than this one's number."""
        worker: Worker | None = None
        with suppress(TuningError):  # a call that comes tries again, and tells it
            worker = self._usable(seat, None)
        while (job := self._next(seat)) is not None:
            call, future = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                worker = self._usable(seat, worker)
                future.set_result(worker.call(call))
            except BaseException as error:
                future.set_exception(error)
        self._leave(seat, worker)

    def _next(self, seat: int) -> tuple[Call, "Future[Outcome]"] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or seat >= self._size)
            if seat < self._size:
                return self._waiting.popleft()
            del self._threads[seat]
            return None

    def _usable(self, seat: int, worker: Worker | None) -> Worker:
        """Return this worker, or a fresh one in its place if it is worn out or gone."""
        if worker is not None and worker.usable and worker.calls < self._recycle_after and worker.alive():
            return worker
        self._leave(seat, worker)
        fresh = Worker()
        with self._changed:
            self._workers[seat] = fresh
            if self._closed:
                fresh.kill()
        return fresh

    def _leave(self, seat: int, worker: Worker | None) -> None:
        with self._changed:
            if self._workers.get(seat) is worker:
                self._workers.pop(seat, None)
        if worker is not None:
            worker.close()


def _cancel(future: "Future[Outcome]") -> None:
    """Cancel, and tell those who wait for it."""
    future.cancel()
    future.set_running_or_notify_cancel()


def call(function: Callable[..., Any], *arguments: Any, seconds: float) -> Outcome:
    """Call a function of an importable module in a process of its own and return what became of it."""
    with WorkerPool(size=1) as pool:
        return pool.run([Call(function, arguments, seconds)])[0]
