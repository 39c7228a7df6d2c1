"""Signals that ask a run to stop: obeyed at once, but within a training at its next safe point."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# by SIGUSR1 and SIGUSR2 a cluster's launcher hears that its job is about to be taken away
AWAITED = (*STOPPING, signal.SIGUSR1, signal.SIGUSR2)


class Interrupted(SystemExit):
    """A signal stopped the verb; its exit code is the shell's, 128 + the number of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number).name


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """`STOPPING` signals raise `Interrupted`; one that is ignored (nohup), or has a handler already, is left alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    defaults = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in STOPPING}
    taken = {number: handler for number, handler in before.items() if handler in defaults}
    for number in taken:
        signal.signal(number, _raise)
    try:
        yield
    finally:
        for number, handler in taken.items():
            signal.signal(number, handler)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)


class SafePoint:
    """Keeps signals for the moments at which a training can be stopped and gone on with.

    What comes is noted, and handed to the handler that stood before (ours, a cluster launcher's) by `pass_on`; the same
    signal a second time goes there at once.
    """

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self.told: list[int] = []
        self.handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def __enter__(self) -> "SafePoint":
        if threading.current_thread() is threading.main_thread():
            found = {number: signal.getsignal(number) for number in AWAITED}
            self.handlers = {number: handler for number, handler in found.items() if callable(handler)}
        self.install()
        return self

    def install(self) -> None:
        """Take the signals, again where somebody has set handlers of their own since."""
        for number in self.handlers:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number in self.waiting:
            self.handlers[number](number, frame)
        else:
            self.waiting.append(number)

    def tell(self, number: int) -> None:
        """As if it had come here too: another process of this run was sent it. Its own coming is then no second time."""
        if number in self.handlers:
            self.told = [number]

    def pass_on(self) -> None:
        numbers, self.waiting, self.told = dict.fromkeys([*self.waiting, *self.told]), [], []
        for number in numbers:
            self.handlers[number](number, None)

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        if kind is None:
            self.pass_on()
