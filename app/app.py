"""The page "watch a spiking network think": its components and wires. msr_zoo.watch draws."""

import functools
import inspect
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from msr_zoo.predict import EXAMPLE
from msr_zoo.watch.examples import example_pictures, example_recording
from msr_zoo.watch.marks import stylesheet
from msr_zoo.watch.page import FOOT, HEAD
from msr_zoo.watch.shelf import choices
from msr_zoo.watch.show import Show
from msr_zoo.watch.watcher import MAX_STEPS, Watcher

HERE = Path(__file__).parent
POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD
STEP_SECONDS = 0.25  # between steps that stream in, so that an eye can follow
AT_ONCE = 4  # requests that are computed together; others wait in the queue
WAITING = 64  # requests that may wait
TIDY = (3600, 86400)  # every hour, files of visitors that are a day old go
OWN = "(0: the network's own)"
FOLDER = "or the path of a weights folder"
EXAMPLES = tempfile.TemporaryDirectory(prefix="msr-zoo-")  # deletes itself when the page ends
OPEN = """element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-layer]');
  if (button) trigger('open', { layer: button.dataset.layer });
});"""
FONTS = (["system-ui", "sans-serif"], ["ui-monospace", "monospace"])  # fetched from nowhere
LOOK: dict[str, Any] = {
    "theme": gr.themes.Default(neutral_hue="stone", font=FONTS[0], font_mono=FONTS[1]),
    "css": stylesheet() + (HERE / "page.css").read_text(encoding="utf-8"),
    "head": f"<script>{(HERE / 'player.js').read_text(encoding='utf-8')}</script>",
    "max_file_size": "64mb",
    "footer_links": ["api", "settings"],
}


def build(*, folders: bool) -> gr.Blocks:
    """The page; with `folders` a visitor may name a weights folder on the server's disk."""
    show = Show(Watcher(folders=folders))

    @functools.wraps(show.watch)
    def watch(*given: Any) -> Iterator[tuple[Any, ...]]:
        for number, seen in enumerate(show.watch(*given[:-1])):
            time.sleep(STEP_SECONDS if number else 0)
            first = seen.layers and not number
            layers = gr.Dropdown(list(seen.layers), value=seen.layer) if first else gr.skip()
            yield seen.body, seen.detail, layers

    # The last argument is how gradio hears of weights being fetched, and shows a bar.
    told = inspect.signature(show.watch)
    bar = inspect.Parameter("progress", POSITIONAL, default=gr.Progress(track_tqdm=True))
    watch.__signature__ = told.replace(parameters=[*told.parameters.values(), bar])  # type: ignore[attr-defined]

    @functools.wraps(show.activity)
    def activity(*given: Any) -> dict[str, Any]:
        try:
            return show.activity(*given)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def opened(event: gr.EventData) -> str:
        return str(event.layer)

    def networks(channels: int) -> list[gr.Dropdown]:
        offered = choices(channels)
        return [gr.Dropdown(offered, value=offered[0][1]) for _ in range(2)]

    with gr.Blocks(
        title="Watch a spiking network think", analytics_enabled=False, delete_cache=TIDY
    ) as blocks:
        gr.HTML(HEAD)
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                with gr.Tab("Picture") as still:
                    picture = gr.Image(
                        str(EXAMPLE),
                        label="Picture",
                        type="filepath",
                        sources=["upload", "webcam", "clipboard"],
                        height=230,
                    )
                    examples = gr.Examples(example_pictures(Path(gr.__file__).parent), picture)
                with gr.Tab("Recording") as moving:
                    moving_cat = example_recording(EXAMPLES.name)
                    recording = gr.File(moving_cat, label="Event recording", height=110)
                    film = gr.HTML(label="film")
                    with gr.Row():
                        begin = gr.Number(0, label="Window begins at, ms", minimum=0)
                        length = gr.Number(0, label=f"lasts, ms {OWN}", minimum=0)
                offered: dict[str, Any] = {"choices": choices(3), "value": choices(3)[0][1]}
                # A custom value is a folder, or through the API a model of the other kind of input.
                offered |= {"allow_custom_value": True, "info": FOLDER if folders else None}
                model = gr.Dropdown(label="Network", **offered)
                steps = gr.Slider(0, MAX_STEPS, 0, step=1, label=f"Steps T {OWN}")
                compare = gr.Checkbox(label="Compare with another network, or another T")
                with gr.Group(visible=False) as beside:
                    model_b = gr.Dropdown(label="Second network", **offered)
                    steps_b = gr.Slider(0, MAX_STEPS, 1, step=1, label=f"Its steps T {OWN}")
                button = gr.Button("Watch", variant="primary")
            with gr.Column(scale=3, min_width=340):
                view = gr.HTML(label="page", js_on_load=OPEN)
                layer = gr.Dropdown([], label="Layer to look inside", allow_custom_value=True)
                detail = gr.HTML(label="inside a layer")
        gr.HTML(FOOT)

        # gradio would open files, and end without a sentence where one is broken or a field empty.
        for field in (picture, recording, steps, steps_b, begin, length):
            field.preprocess = lambda got: getattr(got, "path", got)  # type: ignore[method-assign]
        seen = [picture, recording, model, steps, begin, length]
        given = [*seen, compare, model_b, steps_b, layer]
        limit: dict[str, Any] = {"concurrency_limit": AT_ONCE, "concurrency_id": "network"}
        quiet: dict[str, Any] = {"api_visibility": "private"}
        picked = gr.State(0)  # counts the examples that were chosen
        examples.load_input_event.then(lambda n: n + 1, picked, picked, **quiet)
        # What renews answer and film, and what the answer alone. Of the inputs not `change`, which
        # comes again whenever a tab is opened.
        both = [button.click, recording.upload, model.change, steps.input, begin.submit]
        both.append(length.submit)
        answer_alone = [picture.input, picked.change, compare.input, model_b.input, steps_b.input]
        # One listener each: a run that is late never writes over the answer of a newer one.
        run, shown = {**limit, "trigger_mode": "always_last"}, [view, detail, layer]
        gr.on([*both, *answer_alone, blocks.load], watch, given, shown, api_name="watch", **run)
        cleared = [recording.clear, recording.delete]
        gr.on([*both, *cleared], show.film, [recording, *seen[2:]], film, api_name="film", **run)
        compare.change(lambda on: gr.Group(visible=on), compare, beside, **quiet)
        still.select(networks, gr.State(3), [model, model_b], **quiet)
        moving.select(networks, gr.State(2), [model, model_b], **quiet)
        layer.input(show.inside, given, detail, api_name="layer", **limit)
        view.open(opened, None, layer, **quiet).then(show.inside, given, detail, **limit, **quiet)
        answer = gr.JSON(label="activity", visible=False)
        gr.Button(visible=False).click(activity, seen, answer, api_name="activity", **limit)
    return blocks.queue(max_size=WAITING)


def serve(*, host: str, port: int | None, share: bool) -> None:
    """Serve the page until it is interrupted; folders may be named on this machine alone."""
    alone = host in ("127.0.0.1", "localhost", "::1") and not share
    build(folders=alone).launch(server_name=host, server_port=port, share=share, **LOOK)


if __name__ == "__main__":  # as a Hugging Face Space runs it
    build(folders=False).launch(**LOOK)
