"""What the page's buttons do: requests in, HTML out, a piece a step."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msr_zoo.watch import page
from msr_zoo.watch.watcher import Request, Watcher


@dataclass(frozen=True)
class Shown:
    """The page after a step: its body, the inside of a layer, and the layers to choose from."""

    body: str
    detail: str
    layers: tuple[str, ...] = ()
    layer: str | None = None


class Show:
    """Every function of the page; mistakes of a visitor come back as a sentence, in HTML.

    What the functions are told is what the page's API tells: `model` is a value of
    `shelf.choices`, or a weights folder.
    """

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher

    def watch(
        self,
        picture: str | None,
        recording: str | None,
        model: str,
        steps: int,
        begin_ms: float,
        length_ms: float,
        compare: bool,
        model_b: str,
        steps_b: int,
        layer: str | None,
    ) -> Iterator[Shown]:
        """Show a picture, or a window of a recording, to a network: HTML of each step in turn.

        Of `picture` and `recording` the model takes one. `steps` 0 and `length_ms` 0 are the
        model's own; `compare` puts `model_b` with `steps_b` beside it.
        """
        try:
            first = _request(model, picture, recording, steps, begin_ms, length_ms)
            requests = [first, replace(first, model=model_b or "", steps=_whole(steps_b))]
            traces = [self.watcher.trace(request) for request in requests[: 1 + bool(compare)]]
        except ValueError as error:
            yield Shown(page.problem(told(error, picture, recording)), "")
            return
        layers = tuple(dict.fromkeys(name for trace in traces for name in trace.layers))
        layer = layer if layer in layers else layers[0]
        inside = page.detail(traces, layer)
        for step in range(1, max(trace.steps for trace in traces) + 1):
            yield Shown(page.body(traces, step), inside(step), layers, layer)

    def inside(
        self,
        picture: str | None,
        recording: str | None,
        model: str,
        steps: int,
        begin_ms: float,
        length_ms: float,
        compare: bool,
        model_b: str,
        steps_b: int,
        layer: str | None,
    ) -> str:
        """HTML of one layer: spike maps, raster, potentials. Arguments as for /watch."""
        try:
            first = _request(model, picture, recording, steps, begin_ms, length_ms)
            requests = [first, replace(first, model=model_b or "", steps=_whole(steps_b))]
            traces = [self.watcher.trace(request) for request in requests[: 1 + bool(compare)]]
            if not any(layer in trace.rates for trace in traces):
                raise ValueError(f"{traces[0].source.name} has no layer {layer!r}")
        except ValueError as error:
            return page.problem(told(error, picture, recording))
        return page.detail(traces, str(layer))(max(trace.steps for trace in traces))

    def film(
        self, recording: str | None, model: str, steps: int, begin_ms: float, length_ms: float
    ) -> str:
        """HTML of a recording as a film, the window marked that the model sees."""
        if not recording:
            return ""
        try:
            request = _request(model, None, recording, steps, begin_ms, length_ms)
            return self.watcher.film(request)
        except ValueError as error:
            return page.problem(told(error, recording))

    def activity(
        self,
        picture: str | None,
        recording: str | None,
        model: str,
        steps: int,
        begin_ms: float,
        length_ms: float,
    ) -> dict[str, Any]:
        """Answer after each step, firing rates, operations and energy, as JSON holds them."""
        try:
            request = _request(model, picture, recording, steps, begin_ms, length_ms)
            return self.watcher.trace(request).as_dict()
        except ValueError as error:
            raise ValueError(told(error, picture, recording)) from error


def _request(
    model: str | None,
    picture: str | None,
    recording: str | None,
    steps: float | None,
    begin_ms: float | None,
    length_ms: float | None,
) -> Request:
    """What a form holds as a request; a field that was emptied counts as 0."""
    window = (float(begin_ms or 0), float(length_ms or 0))
    return Request(model or "", picture, recording, _whole(steps), *window)


def _whole(steps: float | None) -> int:
    if steps and not math.isfinite(steps):
        raise ValueError(f"steps must be a number, got {steps}")
    return int(steps or 0)


def told(error: ValueError, *files: str | None) -> str:
    """An error's sentence, without the folders of this machine before a visitor's files."""
    sentence = " ".join(str(error).split())
    for file in files:
        if file:
            sentence = sentence.replace(file, Path(file).name)
    return sentence
