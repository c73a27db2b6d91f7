"""Runs what a visitor asks for, and remembers it while they look at it."""

import ctypes
import hashlib
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from timm.data import create_transform, resolve_data_config
from torch import Tensor, nn

from msr_zoo.engine import EventEngine
from msr_zoo.event_fit import why_not
from msr_zoo.event_input import EventInput, read_recording
from msr_zoo.events import Events
from msr_zoo.neurons import LIF
from msr_zoo.predict import check_answers, read_picture
from msr_zoo.pretrained import WEIGHTS_NAME
from msr_zoo.tally import Tally
from msr_zoo.watch.recording import film
from msr_zoo.watch.shelf import Recent, load, model_bytes
from msr_zoo.watch.trace import Source, Trace, trace

MODEL_BYTES = 1 << 30
TRACE_BYTES = 128 << 20
EVENT_BYTES = 128 << 20
BYTES_AN_EVENT = 13  # two int16, an int64, a bool
MAX_STEPS = 16
LATEST_MS = 86_400_000


@dataclass(frozen=True)
class Request:
    """One network and what it is to look at.

    A model of three channels sees the picture, one of two a window of the recording: `length_ms`
    from `begin_ms` on, as long as it was trained on where that is 0. `steps` 0 is the model's own.
    """

    model: str
    picture: str | None = None
    recording: str | None = None
    steps: int = 0
    begin_ms: float = 0.0
    length_ms: float = 0.0


# A network, where it came from, and the engine that runs it if one can, with a tally.
_Loaded = tuple[nn.Module, Source, tuple[EventEngine, Tally] | None]


class Watcher:
    """Keeps the latest models, recordings and traces, each kind within a bound in bytes.

    Threads may share it. `folders` says whether a model may be the path of a weights folder.
    """

    def __init__(self, *, folders: bool) -> None:
        self.folders = folders
        self._models: Recent[_Loaded] = Recent(MODEL_BYTES, model_bytes)
        self._traces: Recent[Trace] = Recent(TRACE_BYTES, Trace.bytes)
        self._events: Recent[Events] = Recent(
            EVENT_BYTES, lambda events: len(events) * BYTES_AN_EVENT
        )

    def model(self, name: str) -> tuple[nn.Module, Source]:
        """The network of that name; ValueError in a sentence where it cannot be had."""
        return self._loaded(name)[:2]

    def _loaded(self, name: str) -> _Loaded:
        if not name:
            raise ValueError("choose a model")

        def make() -> _Loaded:
            model, source = load(name, self.folders)
            check_answers(model)
            if not any(isinstance(module, LIF) for module in model.modules()):
                raise ValueError(f"{source.name} has no spiking neurons to watch")
            counted = None if why_not(model) else (EventEngine(model), Tally(model))
            return model, source, counted

        return self._models.get(_version(name), make)

    def trace(self, request: Request) -> Trace:
        """What the network did; ValueError in a sentence for what cannot be shown to it."""
        if not 0 <= request.steps <= MAX_STEPS:
            raise ValueError(f"steps must lie between 1 and {MAX_STEPS}, got {request.steps}")
        model, source = self.model(request.model)
        module: Any = model
        seen = request.recording if module.in_chans == 2 else request.picture
        if not seen:
            what = "an event recording" if module.in_chans == 2 else "a picture"
            raise ValueError(f"{source.name} takes {what}; give one")
        window = (request.begin_ms, request.length_ms) if module.in_chans == 2 else ()
        key = (*_version(request.model), request.steps, digest(seen), *window)
        seen_by = self._traces.get(key, lambda: self._run(request))
        _give_back()
        return seen_by

    def _run(self, request: Request) -> Trace:
        model, source, counted = self._loaded(request.model)
        module: Any = model
        if module.in_chans == 2:
            frames, _ = self.frames(model, request)
            return trace(model, frames[None], source, counted=counted)
        image = read_picture(str(request.picture))
        x: Any = create_transform(**resolve_data_config(model=model))(image)
        return trace(model, x[None], source, request.steps or None, counted)

    def frames(self, model: nn.Module, request: Request) -> tuple[Tensor, tuple[int, int]]:
        """Frames (T, 2, H, W) of the window, and its interval in µs on the recording's clock."""
        if not all(0 <= ms < LATEST_MS for ms in (request.begin_ms, request.length_ms)):
            raise ValueError("a window begins and lasts 0 ms or more, and a day at most")
        length = round(request.length_ms * 1000)
        if request.length_ms and not length:
            raise ValueError(f"a window lasts 0.001 ms or more, got {request.length_ms}")
        own = EventInput.of(model)
        own = replace(own, num_steps=request.steps or own.num_steps)
        events = own.prepared(self.events(str(request.recording)))
        if not len(events):
            raise ValueError("the recording holds no events but those of hot pixels")
        begin = int(events.t[0]) + round(request.begin_ms * 1000)
        end = begin + (length or own.window_us or max(1, int(events.t[-1]) + 1 - begin))
        first, last = np.searchsorted(events.t, (begin, end))
        if first == last:
            raise ValueError(
                f"no events in the {(end - begin) / 1000:,.10g} ms from "
                f"{request.begin_ms:,.10g} ms on, and the recording ends after "
                f"{events.duration / 1000:,.0f} ms"
            )
        return own.frames(events[first:last], (begin, end)), (begin, end)

    def events(self, path: str) -> Events:
        """The events of a recording; what is damaged is left out, as the server's log tells."""
        return self._events.get(digest(path), lambda: read_recording(path))

    def film(self, request: Request) -> str:
        """The recording as a player of pictures, with the window marked that the model sees."""
        events = self.events(str(request.recording))
        model, _ = self.model(request.model)
        _, (begin, end) = self.frames(model, request)
        origin = int(events.t[0])
        return film(events, begin - origin, end - begin, Path(str(request.recording)).name)


def _give_back() -> None:
    """Hand freed memory to the system: glibc keeps it, scattered over the heaps of its threads.

    Without it a server grows by some 100 MB before it stays flat. Costs milliseconds.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim:
        trim(0)


def digest(path: str) -> str:
    """What tells a file's content apart; ValueError where there is no such file."""
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"{Path(path).name}: cannot be read ({error.strerror})") from error


def _version(name: str) -> tuple[str, int]:
    """What tells a model apart; a folder may be written anew while the page is open."""
    weights = os.path.join(name.removeprefix("local-dir:"), WEIGHTS_NAME)
    # Where Path raises OSError for a name that no file can have, this is False.
    return name, os.stat(weights).st_mtime_ns if os.path.isfile(weights) else 0
