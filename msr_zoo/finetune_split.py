"""Who trains and who is tested: by session or recording, never by window."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

TEST_NAMES = ("test", "val", "validation")
TEST_SHARE = 0.2  # of each class's recordings, or of each recording's time
STOP_SHARE = 0.15  # of what is left, to tell when to stop
FEWEST = 4  # recordings a class with which some can be spared to tell when to stop
GAP_US = 1_000_000  # at least, between what is trained on and what is held out of one recording


@dataclass(frozen=True)
class Sample:
    """One picture or window: its class, its file's number, its session, and its µs in the file."""

    label: int
    source: int
    session: str | None = None
    begin: int = 0
    end: int = 0


@dataclass(frozen=True)
class Split:
    """Numbers of the samples to train on, to tell when to stop, and to test on; and why these.

    ``stop`` is empty where too little is there to hold some out.
    """

    train: tuple[int, ...]
    stop: tuple[int, ...]
    test: tuple[int, ...]
    how: str


def divide(
    samples: Sequence[Sample],
    classes: Sequence[str],
    *,
    test: str | None = None,
    by_time: bool = False,
    seed: int = 0,
) -> Split:
    """Divide samples by session where they have any, else by recording, or within each by time.

    ``test`` names the session to test on (default: test, val, or the last by name). With
    ``by_time`` the end of every recording is tested on. Raises ValueError where a class cannot be
    divided, or fewer than two are there.
    """
    if len(classes) < 2:
        raise ValueError(f"one class ({classes[0]}) is nothing to tell apart; two are needed")
    everyone = range(len(samples))
    sessions = sorted({s.session for s in samples if s.session is not None})
    if test is not None and test not in sessions:
        raise ValueError(f"there is no folder {test!r} to test on, only {sessions or 'classes'}")
    rng = np.random.default_rng(seed)
    stop: list[int] = []
    if by_time:
        if test is not None:
            raise ValueError("test on another session or on the end of each recording, not both")
        rest, tested = _by_time(samples, everyone, TEST_SHARE)
        how = f"the last {TEST_SHARE:.0%} of every recording"
    elif len(sessions) > 1 or test is not None:
        by_name = {name.lower(): name for name in sessions}
        chosen = test or next((by_name[n] for n in TEST_NAMES if n in by_name), sessions[-1])
        tested = [i for i in everyone if samples[i].session == chosen]
        others = [i for i in everyone if samples[i].session != chosen]
        stop = [i for i in others if str(samples[i].session).lower() in TEST_NAMES]
        if len(stop) == len(others):  # the others are needed to train on
            stop = []
        held = set(stop)
        rest = [i for i in others if i not in held]
        how = f"the session {chosen}"
    else:
        rest, tested = _by_source(samples, classes, everyone, TEST_SHARE, rng)
        how = f"{TEST_SHARE:.0%} of the files of every class"
    if not stop:
        rest, stop = _held_for_stopping(samples, classes, rest, by_time, rng)
    _check(samples, classes, rest, tested, how)
    return Split(tuple(rest), tuple(stop), tuple(tested), how)


def _sources(samples: Sequence[Sample], chosen: Iterable[int], label: int) -> list[int]:
    return sorted({samples[i].source for i in chosen if samples[i].label == label})


def _by_source(
    samples: Sequence[Sample],
    classes: Sequence[str],
    chosen: Iterable[int],
    share: float,
    rng: np.random.Generator,
) -> tuple[list[int], list[int]]:
    """Hold a share of the files of each class out, one at least."""
    chosen = list(chosen)
    held: set[int] = set()
    for label, name in enumerate(classes):
        own = _sources(samples, chosen, label)
        if len(own) == 1:
            raise ValueError(
                f"class {name!r} has only one file, and parts of it on both sides of a split would "
                "leak: record another session, or ask for a split in time (--by-time)"
            )
        count = min(max(1, round(share * len(own))), len(own) - 1)
        held |= set(rng.permutation(own)[:count].tolist())
    kept = [i for i in chosen if samples[i].source not in held]
    return kept, [i for i in chosen if samples[i].source in held]


def _by_time(
    samples: Sequence[Sample], chosen: Iterable[int], share: float
) -> tuple[list[int], list[int]]:
    """Hold the end of each file's chosen samples out, and drop those in the gap before it."""
    chosen = list(chosen)
    last = {samples[i].source: 0 for i in chosen}
    for i in chosen:
        last[samples[i].source] = max(last[samples[i].source], samples[i].end)
    kept, held = [], []
    for i in chosen:
        sample = samples[i]
        border = round((1 - share) * last[sample.source])
        if sample.begin >= border:
            held.append(i)
        # Training begins windows earlier and later and stretches them, by less than this.
        elif sample.end <= border - max(GAP_US, 2 * (sample.end - sample.begin)):
            kept.append(i)
    return kept, held


def _held_for_stopping(
    samples: Sequence[Sample],
    classes: Sequence[str],
    rest: list[int],
    by_time: bool,
    rng: np.random.Generator,
) -> tuple[list[int], list[int]]:
    """Files where every class has enough of them, else ends of recordings, else nothing."""
    labels = range(len(classes))
    if not by_time and all(len(_sources(samples, rest, label)) >= FEWEST for label in labels):
        return _by_source(samples, classes, rest, STOP_SHARE, rng)
    kept, held = _by_time(samples, rest, STOP_SHARE)
    both = all({samples[i].label for i in part} == set(labels) for part in (kept, held))
    return (kept, held) if both else (rest, [])


def _check(
    samples: Sequence[Sample],
    classes: Sequence[str],
    trained: Iterable[int],
    tested: Sequence[int],
    how: str,
) -> None:
    known = {samples[i].label for i in trained}
    for label, name in enumerate(classes):
        if label not in known:
            raise ValueError(f"class {name!r} has nothing to train on once {how} is held out")
    if not tested:
        raise ValueError(f"nothing is left to test on in {how}: the recordings are too short")
