"""What the page's buttons do: requests in, HTML out, a piece a step."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import huggingface_hub
import torch

from msr_zoo.pretrained import MIRROR, WHEEL
from msr_zoo.watch import page
from msr_zoo.watch.trace import Trace
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
            traces = self._traces(first, compare, model_b, steps_b)
            layer = _text("layer", layer)
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
            traces = self._traces(first, compare, model_b, steps_b)
            layer = _text("layer", layer)
            if not any(layer in trace.rates for trace in traces):
                raise ValueError(f"{traces[0].source.name} has no layer {layer!r}")
        except ValueError as error:
            return page.problem(told(error, picture, recording))
        return page.detail(traces, str(layer))(max(trace.steps for trace in traces))

    def _traces(self, first: Request, compare: bool, model_b: str, steps_b: int) -> list[Trace]:
        requests = [first]
        if compare is not None and _of("compare", compare, "true or false", bool):
            model, steps = _text("model_b", model_b) or "", _whole("steps_b", steps_b)
            requests.append(replace(first, model=model, steps=steps))
        return [self.watcher.trace(request) for request in requests]

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
    return Request(
        _text("model", model) or "",
        _text("picture", picture),
        _text("recording", recording),
        _whole("steps", steps),
        _number("begin_ms", begin_ms),
        _number("length_ms", length_ms),
    )


# What may come through the page's API is whatever JSON holds.


def _text(name: str, value: Any) -> str | None:
    return None if value is None else _of(name, value, "text", str)


def _number(name: str, value: Any) -> float:
    return 0 if value is None else _of(name, value, "a number", int, float)


def _whole(name: str, value: Any) -> int:
    if _number(name, value) % 1:  # of what is not finite the rest is not a number
        raise ValueError(f"{name} must be a whole number, got {value}")
    return int(value or 0)


def _of(name: str, value: Any, what: str, *kinds: type) -> Any:
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(f"{name} must be {what}, got {value!r:.40}")
    return value


def told(error: ValueError, *files: Any) -> str:
    """An error's sentence, without this machine's folders before files and weights."""
    mirror = os.environ.get(MIRROR, "")
    caches = (huggingface_hub.constants.HF_HUB_CACHE, torch.hub.get_dir())
    sentence = " ".join(str(error).split())
    for place in (*files, str(WHEEL), mirror, os.path.expanduser(mirror), *caches):
        if place and isinstance(place, str):
            sentence = sentence.replace(place, Path(place).name)
    return sentence
