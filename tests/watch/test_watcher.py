"""Requests: what is accepted, what is refused in a sentence, and what stays in memory."""

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from html import unescape

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny

import msr_zoo
from msr_zoo.event_input import EventInput
from msr_zoo.events import read_events
from msr_zoo.hub import save_pretrained
from msr_zoo.predict import EXAMPLE
from msr_zoo.watch import shelf
from msr_zoo.watch.examples import example_pictures, example_recording
from msr_zoo.watch.shelf import Recent, choices, load
from msr_zoo.watch.show import Show
from msr_zoo.watch.watcher import MAX_STEPS, Request, Watcher

PICTURE = str(EXAMPLE)
DVS = "msresnet20_dvs (untrained)"


@pytest.fixture(scope="module")
def watcher():
    return Watcher(folders=True)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return example_recording(tmp_path_factory.mktemp("recording"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A weights folder as fine-tuning leaves it: two classes with names of their own."""
    folder = tmp_path_factory.mktemp("weights") / "mine"
    model = tiny(num_classes=2, num_steps=3)
    model.pretrained_cfg["label_names"] = ("cup", "pen")
    save_pretrained(model, folder, card="")
    return str(folder)


def test_weights_at_hand_come_first_and_untrained_networks_say_so(monkeypatch):
    monkeypatch.delenv("MSR_ZOO_MIRROR", raising=False)
    offered = choices(3)
    assert offered[0] == ("msresnet20.cifar10 (bundled)", "msresnet20.cifar10")
    assert ("msresnet110 (untrained)", "msresnet110 (untrained)") in offered
    assert [value for _, value in offered if value.startswith("msresnet20_dvs")] == []
    assert (DVS, DVS) in choices(2)
    assert len({value for _, value in offered}) == len(offered)


def test_a_mirror_counts_as_at_hand(monkeypatch, tmp_path):
    (tmp_path / "msresnet18.in1k").mkdir()
    (tmp_path / "msresnet18.in1k" / "model.safetensors").touch()
    monkeypatch.setenv("MSR_ZOO_MIRROR", str(tmp_path))
    offered = [shown for shown, _ in choices(3)]
    bundled = sum("(bundled)" in shown for shown in offered)
    assert offered.index("msresnet18.in1k (in the mirror)") == bundled
    assert any(shown.startswith("msresnet34.in1k (") for shown in offered[bundled + 1 :])


def test_an_untrained_network_is_the_same_one_every_time():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, source = load("msresnet20 (untrained)", folders=False)
    second, _ = load("msresnet20 (untrained)", folders=False)
    assert not source.trained
    assert torch.equal(torch.rand(1), expected)  # the caller's random numbers go on
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_visitors_who_load_at_once_get_the_same_untrained_network(monkeypatch):
    def slow(name, pretrained=False, **kwargs):
        layers = []
        for _ in range(2):
            layers.append(torch.nn.Linear(2, 2))
            time.sleep(0.1)
        return torch.nn.Sequential(*layers)

    monkeypatch.setattr(shelf, "create_model", slow)
    monkeypatch.setattr(shelf, "load_pretrained", slow)
    alone, _ = load(DVS, False)
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(load, (DVS, "msresnet20.cifar10", DVS), [False] * 3))
    for model in (made[0][0], made[2][0]):
        for a, b in zip(model.parameters(), alone.parameters(), strict=True):
            assert torch.equal(a, b)


def test_folders_are_for_this_machine_alone(folder):
    model, source = load(folder, folders=True)
    assert (model.num_classes, source.name, source.trained) == (2, "mine", True)
    for name in (folder, f"local-dir:{folder}", "/etc", "hf-hub:someone/something"):
        with pytest.raises(ValueError, match="is not among the models of this page"):
            load(name, folders=False)
    with pytest.raises(ValueError, match="neither a model of this page nor a weights folder"):
        load("hf-hub:someone/something", folders=True)
    with pytest.raises(ValueError, match="is no model of ours"):
        load("resnet18 (untrained)", folders=False)


def test_a_fine_tuned_folder_answers_with_its_classes(watcher, folder):
    seen = watcher.trace(Request(folder, PICTURE))
    assert seen.labels == ("cup", "pen")
    assert seen.steps == 3
    assert seen.source.trained


@pytest.mark.parametrize(
    ("name", "kwargs", "sentence"),
    [
        ("resnet_twin20", {}, "odd has no spiking neurons to watch"),
        ("msresnet20", {"num_classes": 0}, "a model without classes"),
        ("msresnet20", {"in_chans": 4}, "this model takes 4"),
    ],
)
def test_a_folder_that_cannot_be_watched_says_why(watcher, tmp_path, name, kwargs, sentence):
    model = msr_zoo.create_model(name, **kwargs)
    save_pretrained(model, tmp_path / "odd", card="")
    with pytest.raises(ValueError, match=sentence):
        watcher.trace(Request(str(tmp_path / "odd"), PICTURE))


def test_a_folder_written_anew_is_read_anew(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    watcher = Watcher(folders=True)
    first = watcher.model(str(copy))[0]
    assert watcher.model(str(copy))[0] is first
    os.utime(copy / "model.safetensors", ns=(1, 1))
    assert watcher.model(str(copy))[0] is not first


def test_the_picture_is_prepared_as_the_model_asks(watcher):
    seen = watcher.trace(Request("msresnet20.cifar10", PICTURE, steps=2))
    assert seen.steps == 2
    assert watcher.trace(Request("msresnet20.cifar10", PICTURE)).steps == 4
    predicted = msr_zoo.Predictor(
        msr_zoo.create_model("msresnet20.cifar10", pretrained=True, num_steps=2)
    )(PICTURE)
    assert seen.best(2, 5)[0][0] == next(iter(predicted.labels))
    assert dict(seen.best(2, 5)) == pytest.approx(dict(predicted.labels), abs=1e-3)
    assert seen.activity.total.ac == pytest.approx(predicted.activity.total.ac, rel=1e-3)
    small = Image.open(PICTURE).resize((32, 32), Image.Resampling.BILINEAR)
    expected = np.asarray(small).transpose(2, 0, 1) / 255
    assert np.allclose(seen.seen[0].numpy(), expected, atol=1e-5)


def test_a_window_of_a_recording_becomes_frames(watcher, recording):
    seen = watcher.trace(Request(DVS, None, recording, 5, 50, 100))
    assert (seen.steps, seen.source.trained) == (5, False)
    events = read_events(recording)
    t = events.t - events.t[0]
    inside = (t >= 50_000) & (t < 150_000)
    # Frames are scaled to a mean of 1 over cells with events, so their places tell.
    places = np.zeros((5, 2, 128, 128), bool)
    step = (t[inside] - 50_000) * 5 // 100_000
    places[step, events.polarity[inside].astype(int), events.y[inside], events.x[inside]] = True
    assert np.array_equal(seen.seen.numpy() > 0, places)
    own = EventInput.of(watcher.model(DVS)[0])
    assert watcher.trace(Request(DVS, None, recording)).steps == own.num_steps


def test_a_window_is_the_one_that_predict_tells_of(watcher, tmp_path):
    rng = np.random.default_rng(0)
    t = np.concatenate([np.arange(3_000, 90_000, 50), np.arange(250_000, 400_000, 50)])
    x, y, p = (rng.integers(0, side, len(t)) for side in (20, 16, 2))
    hot = np.arange(0, 400_000, 100)
    t, x, y, p = (
        np.r_[a, b] for a, b in ((t, hot), (x, 0 * hot + 3), (y, 0 * hot + 5), (p, 0 * hot))
    )
    order = np.argsort(t, kind="stable")
    file = str(tmp_path / "silent.npz")
    np.savez(file, t=t[order], x=x[order], y=y[order], p=p[order], width=20, height=16)
    own = EventInput(window_us=40_000, num_steps=4, size=(16, 20), drop_hot_pixels=True)
    model = tiny("msresnet20_dvs", num_classes=3)
    save_pretrained(model, tmp_path / "dvs", card="", events=own, full_precision=True)
    folder = str(tmp_path / "dvs")
    predictor = msr_zoo.Predictor(msr_zoo.create_model(f"local-dir:{folder}", pretrained=True))
    found = predictor(file).windows
    assert len(found) > 5
    for window in found:
        request = Request(folder, None, file, begin_ms=(window.begin - 3_000) / 1000)
        assert watcher.frames(predictor.model, request)[1] == (window.begin, window.end)
        labels = dict(watcher.trace(request).best(4, 3))
        assert labels == pytest.approx(dict(window.labels), abs=1e-3)
    with pytest.raises(ValueError, match="no events in the 40 ms from 150 ms on"):
        watcher.trace(Request(folder, None, file, begin_ms=150))


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (Request("", PICTURE), "choose a model"),
        (Request("msresnet20.cifar10"), "msresnet20.cifar10 takes a picture; give one"),
        (Request(DVS, PICTURE), "takes an event recording; give one"),
        (Request("msresnet20.cifar10", PICTURE, steps=MAX_STEPS + 1), "steps must lie between"),
        (Request("msresnet20.cifar10", PICTURE, steps=-1), "steps must lie between"),
        (
            Request("msresnet20.cifar10", PICTURE, steps=float("inf")),
            "steps must be a whole number",
        ),
        (
            Request("msresnet20.cifar10", PICTURE, steps=float("nan")),
            "steps must be a whole number",
        ),
        (Request("m" * 300, PICTURE), "neither a model of this page nor a weights folder"),
        (Request("msresnet20.cifar10", "/nowhere/cat.png"), "cat.png: cannot be read"),
        (Request(DVS, None, PICTURE), "chelsea.jpg is no"),
        (Request(DVS, None, "RECORDING", begin_ms=1e6), "the recording ends after 30"),
        (Request(DVS, None, "RECORDING", length_ms=0.0001), "a window lasts 0.001 ms or more"),
        (Request(DVS, None, "RECORDING", begin_ms="0"), "begin_ms must be a number, got '0'"),
        (Request(DVS, None, "RECORDING", length_ms=True), "length_ms must be a number, got True"),
        (Request(DVS, None, ["RECORDING"]), "recording must be text, got ['REC"),
        (Request(7, PICTURE), "model must be text, got 7"),
        (Request("msresnet20.cifar10", {"a": 1}), "picture must be text, got {'a': 1}"),
        (
            Request("msresnet20.cifar10", PICTURE, steps=1.9),
            "steps must be a whole number, got 1.9",
        ),
        (Request("msresnet20.cifar10", PICTURE, steps="2"), "steps must be a number, got '2'"),
        (Request(DVS, None, "RECORDING", begin_ms=-1), "a window begins"),
        (Request(DVS, None, "RECORDING", length_ms=float("nan")), "a window begins"),
        (Request(DVS, None, "RECORDING", length_ms=float("inf")), "a window begins"),
    ],
)
def test_what_cannot_be_shown_is_told_in_a_sentence(watcher, recording, request_, sentence):
    given = recording if request_.recording == "RECORDING" else request_.recording
    show = Show(watcher)
    arguments = (
        request_.picture,
        given,
        request_.model,
        request_.steps,
        request_.begin_ms,
        request_.length_ms,
    )
    (shown,) = show.watch(*arguments, False, "", 0, None)
    assert shown.body.startswith('<div class="mz"><p class="mz-problem" role="alert">')
    assert sentence in unescape(shown.body)
    assert shown.layers == ()
    with pytest.raises(ValueError, match=sentence.split(" ")[0]) as caught:
        show.activity(*arguments)
    assert "\n" not in str(caught.value)
    assert sentence in unescape(show.inside(*arguments, False, "", 0, "lif"))


def test_what_is_compared_and_looked_into_is_told_in_a_sentence_too(watcher):
    show = Show(watcher)
    first = (PICTURE, None, "msresnet20.cifar10", 1, 0, 0)
    for more, sentence in (
        (("no", "", 0, "lif"), "compare must be true or false, got 'no'"),
        ((True, [], 0, "lif"), "model_b must be text, got []"),
        ((True, "msresnet20.cifar10", 0.5, "lif"), "steps_b must be a whole number, got 0.5"),
        ((False, "", 0, ["lif"]), "layer must be text, got ['lif']"),
    ):
        (shown,) = show.watch(*first, *more)
        assert sentence in unescape(shown.body)
        assert sentence in unescape(show.inside(*first, *more))
    emptied = show.activity(*first[:3], None, None, None)
    assert emptied["steps"] == 4


def test_a_broken_file_is_named_without_its_folder(watcher, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_text("no picture")
    (shown,) = Show(watcher).watch(
        str(broken), None, "msresnet20.cifar10", 0, 0, 0, False, "", 0, None
    )
    assert "broken.png: not a picture" in shown.body
    assert str(tmp_path) not in shown.body
    cut = tmp_path / "cut.npz"
    cut.write_bytes(b"PK\x03\x04 and nothing more")
    html = Show(watcher).film(str(cut), DVS, 0, 0, 0)
    assert 'role="alert"' in html
    assert str(tmp_path) not in html


def test_weights_that_are_not_found_are_told_without_this_machines_folders(
    watcher, tmp_path, monkeypatch
):
    monkeypatch.setenv("MSR_ZOO_MIRROR", str(tmp_path / "ours"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    show = Show(watcher)
    (shown,) = show.watch(PICTURE, None, "msresnet18.in1k", 0, 0, 0, False, "", 0, None)
    assert "No weights found for msresnet18.in1k: looked in the wheel (weights)" in shown.body
    assert "MSR_ZOO_MIRROR (ours: not there)" in shown.body
    assert str(tmp_path) not in shown.body


def test_steps_stream_in_one_after_the_other(watcher):
    shown = list(
        Show(watcher).watch(
            PICTURE, None, "msresnet20.cifar10", 3, None, None, True, "msresnet20.cifar10", 1, "lif"
        )
    )
    assert len(shown) == 3
    for step, piece in enumerate(shown, start=1):
        assert f"step {step} of 3" in piece.body
        assert f'data-t="{step}"' in piece.body
        assert f'data-t="{step + 1}"' not in piece.body
        assert piece.layer == "lif"
    assert shown[0].layers[0] == "layer1.0.lif1"


def test_the_film_marks_the_window(watcher, recording):
    html = Show(watcher).film(recording, DVS, 0, 100, 100)
    marked = html.count('class="mz-in"')
    assert marked == pytest.approx(48 / 3, abs=2)
    assert "events in 300 ms" in html
    assert Show(watcher).film(None, DVS, 0, 0, 0) == ""


def test_recent_keeps_within_its_bound():
    made = []

    def make(n):
        made.append(n)
        return "x" * n

    recent = Recent(10, len)
    for n in (4, 5, 4, 6, 4):
        recent.get(n, lambda n=n: make(n))
        assert recent.bytes() <= 10
    assert made == [4, 5, 6]  # 4 was asked for again, so 5 went
    assert recent.get(40, lambda: make(40)) == "x" * 40  # alone it may be larger
    assert recent.bytes() == 40
    assert recent.get(41, lambda: make(41)) == "x" * 41  # but not of any size
    assert recent.bytes() == 40


def test_traces_are_made_once(watcher):
    request = Request("msresnet20.cifar10", PICTURE, steps=1)
    assert watcher.trace(request) is watcher.trace(request)


def test_examples_are_there(tmp_path):
    for picture in example_pictures(tmp_path):
        Image.open(picture).load()
    events = read_events(example_recording(tmp_path))
    assert (events.width, events.height) == (128, 128)
    assert 0.9 < events.duration / 300_000 <= 1
    assert 0.2 < events.polarity.mean() < 0.8
