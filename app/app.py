"""The page "watch a spiking network think": its components and wires. msr_zoo.watch draws."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from msr_zoo.predict import EXAMPLE
from msr_zoo.watch.examples import example_recording
from msr_zoo.watch.marks import stylesheet
from msr_zoo.watch.shelf import choices
from msr_zoo.watch.show import Show
from msr_zoo.watch.watcher import MAX_STEPS, Request, Watcher

HERE = Path(__file__).parent
STEP_SECONDS = 0.25  # between steps that stream in, so that an eye can follow
AT_ONCE = 4  # requests that are computed together; others wait in the queue
WAITING = 64  # requests that may wait
UPLOAD = "64mb"
LOCAL = ("127.0.0.1", "localhost", "::1")
FONT = ["system-ui", "Segoe UI", "Roboto", "sans-serif"]  # none that has to be fetched
HERO = """<div class="mz-hero"><h1>Watch a spiking network think</h1><p>Its neurons say nothing
or one bit at each step, and only what fires costs anything. Give it a picture or the recording
of an event camera, and see every layer at work.</p></div>"""
OPEN = """element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-layer]');
  if (button) trigger('open', { layer: button.dataset.layer });
});"""
T = "steps T (0: the network's own)"


FOOT = """<p class="mz-foot">Operations and energy are counts, not measurements of a chip.</p>"""
LOOK: dict[str, Any] = {
    "theme": gr.themes.Default(neutral_hue="stone", font=FONT, font_mono=["ui-monospace", "Consolas", "monospace"]),
    "css": stylesheet() + (HERE / "page.css").read_text(encoding="utf-8"),
    "head": f"<script>{(HERE / 'player.js').read_text(encoding='utf-8')}</script>",
    "max_file_size": UPLOAD,
    "footer_links": ["api", "settings"],
}


class Picture(gr.Image):
    """Hands the file on unopened: gradio's own reading of a broken one ends without a sentence."""

    is_template = True

    def preprocess(self, payload: Any) -> Any:
        return payload.path if payload else None


def pictures() -> list[str]:
    """Pictures to begin with: one of ours, and some that gradio ships."""
    folder = Path(gr.__file__).parent / "media_assets" / "images"
    names = ("bus.png", "lion.jpg", "cheetah1.jpg", "tower.jpg", "groot.jpeg")
    return [str(EXAMPLE), *(str(folder / name) for name in names if (folder / name).is_file())]


def build(*, folders: bool) -> gr.Blocks:
    """The page; with `folders` a visitor may name a weights folder on the server's disk."""
    show = Show(Watcher(folders=folders))
    moving_cat = example_recording(tempfile.mkdtemp(prefix="msr-zoo-"))

    def watch(
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
    ) -> Iterator[tuple[Any, ...]]:
        """Show a picture, or a window of a recording, to a network: HTML of each step in turn.

        `steps` 0 and `length_ms` 0 are the network's own; `compare` puts `model_b` beside it.
        """
        given = (picture, recording, model, steps, begin_ms, length_ms, compare, model_b, steps_b)
        for number, seen in enumerate(show.watch(*given, layer)):
            time.sleep(STEP_SECONDS if number else 0)
            layers = gr.Dropdown(list(seen.layers), value=seen.layer) if seen.layers else gr.skip()
            yield seen.body, seen.detail, layers

    def activity(*given: Any) -> dict[str, Any]:
        try:
            return show.activity(*given)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def opened(event: gr.EventData) -> str:
        return str(event.layer)

    def networks(channels: int) -> tuple[gr.Dropdown, gr.Dropdown]:
        first = choices(channels)[0][1]
        one = gr.Dropdown(choices(channels), value=first)
        return one, gr.Dropdown(choices(channels), value=first)

    with gr.Blocks(title="Watch a spiking network think", analytics_enabled=False) as blocks:
        gr.HTML(HERO)
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                with gr.Tab("Picture") as still:
                    sources = ["upload", "webcam", "clipboard"]
                    picture = Picture(str(EXAMPLE), label="Picture", type="filepath", sources=sources, height=230)
                    gr.Examples(pictures(), picture, label="Examples")
                with gr.Tab("Recording") as moving:
                    recording = gr.File(moving_cat, label="Event recording", height=110)
                    film = gr.HTML()
                    with gr.Row():
                        begin = gr.Number(0, label="Window begins, ms", minimum=0)
                        length = gr.Number(0, label="lasts, ms (0: own)", minimum=0)
                first = choices(3)[0][1]
                model = gr.Dropdown(
                    choices(3), value=first, label="Network", allow_custom_value=folders,
                    info="or the path of a weights folder" if folders else None,
                )
                steps = gr.Slider(0, MAX_STEPS, 0, step=1, label=f"Number of {T}")
                compare = gr.Checkbox(label="Compare with another network, or another T")
                with gr.Group(visible=False) as beside:
                    model_b = gr.Dropdown(
                        choices(3), value=first, label="Second network", allow_custom_value=folders
                    )
                    steps_b = gr.Slider(0, MAX_STEPS, 1, step=1, label=f"Second number of {T}")
                button = gr.Button("Watch", variant="primary")
            with gr.Column(scale=3, min_width=340):
                view = gr.HTML(js_on_load=OPEN)
                layer = gr.Dropdown([], label="Layer to look inside", allow_custom_value=True)
                detail = gr.HTML()
        gr.HTML(FOOT)

        seen = [picture, recording, model, steps, begin, length]
        given = [*seen, compare, model_b, steps_b, layer]
        shown = [view, detail, layer]
        limit: dict[str, Any] = {"concurrency_limit": AT_ONCE, "concurrency_id": "network"}
        run: dict[str, Any] = {"inputs": given, "outputs": shown, "show_progress": "minimal", **limit}
        hidden: dict[str, Any] = {**run, "api_visibility": "private"}
        button.click(watch, **run, api_name="watch")
        changes = [picture.change, recording.change, model.input, steps.release, begin.submit]
        changes += [length.submit, compare.input, model_b.input, steps_b.release, blocks.load]
        gr.on(changes, watch, **hidden, trigger_mode="always_last")
        for tab, channels in ((still, 3), (moving, 2)):
            turned = tab.select(networks, gr.State(channels), [model, model_b])
            turned.then(watch, **hidden)
        compare.change(lambda on: gr.Group(visible=on), compare, beside, api_visibility="private")
        view.open(opened, None, layer, api_visibility="private")
        layer.change(show.inside, given, detail, api_name="layer", **limit)
        filmed = [recording, model, steps, begin, length]
        changes = [recording.change, model.change, steps.release, begin.submit, length.submit]
        gr.on(changes, show.film, filmed, film, api_name="film", **limit)
        gr.Button(visible=False).click(
            activity, seen, gr.JSON(visible=False), api_name="activity", **limit
        )
    return blocks.queue(max_size=WAITING)


def serve(*, host: str, port: int | None, share: bool) -> None:
    """Serve the page until it is interrupted; on this machine alone, folders may be named."""
    build(folders=host in LOCAL and not share).launch(
        server_name=host, server_port=port, share=share, **LOOK
    )


if __name__ == "__main__":  # as a Hugging Face Space does
    build(folders=False).launch(**LOOK)
