"""What SIGTERM means while something may be saved first: a machine is about to be taken away."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def told_to_end() -> Iterator[list[bool]]:
    """A list that SIGTERM makes true instead of ending the process.

    Whoever listened before is told too, and afterwards listens again.
    """
    ending: list[bool] = []
    former = signal.getsignal(signal.SIGTERM)

    def tell(number: int, frame: FrameType | None) -> None:
        ending.append(True)
        if callable(former):
            former(number, frame)

    signal.signal(signal.SIGTERM, tell)
    try:
        yield ending
    finally:
        # None: a listener that no Python code put there, and none can put back.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if former is None else former)
