"""The page's HTML tells the figures of the trace, to eyes and to ears."""

import json
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from pages import read
from tiny import tiny

from msr_zoo.watch import page
from msr_zoo.watch.layer import BINS, histogram, look, mosaic, raster_sample
from msr_zoo.watch.trace import Source, trace


def test_the_table_holds_every_rate(picture_trace):
    root = read(page.body([picture_trace], 2))
    (table,) = root.find("table")
    rows = table.find("tbody")[0].find("tr")
    assert [row.find("button")[0].text for row in rows] == picture_trace.layers
    for row, layer in zip(rows, picture_trace.layers, strict=True):
        spikes = picture_trace.spikes(layer).flatten(1).double()
        cells = [cell.text for cell in row.find("td")]
        rates = [float(spikes[t].mean()) for t in range(2)]
        # The third step has not run yet; the bar tells the second.
        assert cells == [f"{rates[0]:.2f}", f"{rates[1]:.2f}", "", f"{rates[1]:.3f}"]


def test_the_answer_is_that_after_the_step(picture_trace):
    for step in (1, 3):
        (panel,) = read(page.body([picture_trace], step)).find("section", "mz-answer")
        chances = picture_trace.probabilities[step - 1]
        best = picture_trace.labels[int(chances.argmax())]
        assert panel.find("strong")[-1].text == best or best in panel.text
        items = [item.text for item in panel.find("li") if not item.hidden]
        assert len(items) == 5
        assert items[0].startswith(best)
        p = float(chances.max())
        assert items[0].endswith(f"{100 * p:.0f} %" if p >= 0.0995 else f"{100 * p:.1f} %")


def test_blocks_are_in_order_and_their_layers_can_be_chosen(picture_trace):
    (panel,) = read(page.body([picture_trace], 3)).find("section", "mz-blocks")
    buttons = panel.find("button", "mz-lif")
    assert [button.attrs["data-layer"] for button in buttons] == picture_trace.layers
    for button, layer in zip(buttons, picture_trace.layers, strict=True):
        rate = float(picture_trace.rates[layer][2])
        assert button.text == f"{rate:.2f}"
        assert f"{rate:.3f}" in button.attrs["aria-label"]


def test_a_deep_network_is_drawn_small(picture_trace):
    deep = trace(
        tiny(depths=(12, 12, 12)), torch.zeros(1, 3, 8, 8), Source("deep", trained=False), 1
    )
    root = read(page.body([deep], 1))
    assert root.find("div", "mz-compact")
    assert len(root.find("button", "mz-lif")) == 73
    assert not read(page.body([picture_trace], 1)).find("div", "mz-compact")


def test_costs_are_those_of_the_activity(picture_trace):
    (panel,) = read(page.body([picture_trace], 3)).find("section", "mz-cost")
    activity, total = picture_trace.activity, picture_trace.activity.total
    assert f"{activity.spikes_per_neuron:.3f}" in panel.text
    assert f"4.6 pJ · {total.mac:,.0f} + 0.9 pJ · {total.ac:,.0f}" in panel.text
    joules = (4.6 * total.mac + 0.9 * total.ac) * 1e-6
    assert f"{joules:.3g} µJ" in panel.text
    twin = 4.6e-6 * total.twin_mac
    assert f"twin: {twin:.4g} µJ = 4.6 pJ · {total.twin_mac:,.0f}" in panel.text
    assert panel.find("details")


def test_every_picture_has_words_and_every_scale_a_unit(picture_trace, event_trace):
    for seen in (picture_trace, event_trace):
        html = page.body([seen], seen.steps) + page.detail([seen], "lif")(seen.steps)
        root = read(html)
        for image in root.find("img"):
            named = image.parent.parent.attrs.get("aria-label")
            assert image.attrs["alt"] or named, "a picture without words"
        for svg in root.find("svg"):
            assert svg.attrs.get("aria-label") or svg.attrs.get("aria-hidden") == "true"
        for image in root.find("image"):
            assert image.find("title")
        assert all(e.attrs["aria-label"] for e in root.find("div", "mz-legend"))
        assert "spikes a neuron a step" in root.text
        for button in root.find("button"):
            assert button.text or button.attrs.get("aria-label")


def test_one_frame_of_each_picture_shows(event_trace):
    root = read(page.body([event_trace], 4) + page.detail([event_trace], "layer2.0.lif1")(4))
    groups = {}
    for frame in root.walk():
        if "data-t" in frame.attrs:
            groups.setdefault(id(frame.parent), []).append(frame)
    assert len(groups) > 10
    for frames in groups.values():
        assert [f.attrs["data-t"] for f in frames] == ["1", "2", "3", "4"]
        assert [f.attrs["data-t"] for f in frames if "hidden" not in f.attrs] == ["4"]


def test_an_untrained_network_says_so_and_its_name_is_escaped(event_trace, picture_trace):
    html = page.body([event_trace], 1)
    assert "<tiny>" not in html
    assert "untrained: random weights, its answer means nothing" in read(html).text
    assert "untrained" not in page.body([picture_trace], 1)


def test_a_single_network_is_named_once_with_its_steps(picture_trace):
    (heading,) = read(page.body([picture_trace], 1)).find("p", "mz-who")
    assert heading.text == "tiny.cifar10 3 steps"


def test_two_networks_stand_side_by_side(picture_trace, event_trace):
    root = read(page.body([picture_trace, event_trace], 5))
    assert root.find("div", "mz-two")
    for section in root.find("section"):
        sides = section.find("div", "mz-side")
        assert [side.attrs["data-steps"] for side in sides] == ["3", "5"]
        assert "tiny.cifar10" in sides[0].text
        # The shorter one stays at its last step.
        assert {f.attrs["data-t"] for f in sides[0].walk() if "data-t" in f.attrs} <= {
            "1",
            "2",
            "3",
        }
    inside = read(page.detail([picture_trace, event_trace], "layer1.1.lif1")(5))
    assert len(inside.find("svg", "mz-maps")) == 2
    gone = read(page.detail([picture_trace, event_trace], "layer9.9.lif1")(5))
    assert gone.text.count("has no layer layer9.9.lif1") == 2


def test_json_is_the_activity(picture_trace):
    (link,) = read(page.body([picture_trace], 3)).find("a", download="activity.json")
    told = json.loads(unquote(link.attrs["href"].partition(",")[2]))
    assert told == [json.loads(json.dumps(picture_trace.as_dict()))]


def test_a_mosaic_puts_each_channel_at_its_place(picture_trace):
    spikes = picture_trace.spikes("layer2.0.lif1")[1]  # (16, 32, 32)
    picture = mosaic(spikes)
    assert picture.shape == (2 * 33 - 1, 8 * 33 - 1)
    for channel in range(16):
        row, column = divmod(channel, 8)
        for y, x in ((0, 0), (5, 31), (31, 7)):
            assert picture[row * 33 + y, column * 33 + x] == bool(spikes[channel, y, x])
    assert picture.sum() == int(spikes.sum())


def test_histogram_counts_every_potential_and_splits_at_the_threshold(picture_trace):
    for layer in picture_trace.layers:
        u = picture_trace.potentials(layer)
        counts, edges = histogram(u, 0.5)
        assert counts.shape == (3, BINS)
        assert counts.sum(1).tolist() == [u[0].numel()] * 3
        nearest = int((edges - 0.5).abs().argmin())
        if 0 < nearest < BINS:
            assert float(edges[nearest]) == pytest.approx(0.5, abs=1e-4)
            fired = picture_trace.spikes(layer).flatten(1).sum(1)
            for step in range(3):
                over = int(counts[step, nearest:].sum())
                assert over == pytest.approx(int(fired[step]), abs=1 + 1e-4 * u[0].numel())
        bin_of = np.digitize(u[0].flatten().numpy(), edges.numpy()) - 1
        expected = np.bincount(bin_of.clip(0, BINS - 1), minlength=BINS)
        assert np.abs(counts[0].numpy() - expected).sum() <= 2e-3 * u[0].numel() + 2


def test_raster_shows_neurons_that_fire(picture_trace):
    spikes = picture_trace.spikes("layer1.0.lif1")
    indices, sample = raster_sample(spikes)
    assert len(indices) == 96
    assert len(set(indices.tolist())) == 96
    assert torch.equal(sample, spikes.flatten(1)[:, indices])
    assert sample.any(0).all()
    few = torch.zeros(2, 1, 10, 20, dtype=torch.bool)
    few[1, 0, 3, 4] = True
    indices, sample = raster_sample(few)
    assert 64 in indices.tolist()
    assert sample.sum() == 1


def test_inside_a_layer(picture_trace):
    root = read(page.detail([picture_trace], "layer1.0.lif2")(2))
    inside = look(picture_trace, "layer1.0.lif2")
    rate = float(picture_trace.rates["layer1.0.lif2"][1])
    assert inside.over[1] == pytest.approx(rate)
    assert f"{rate:.1%} of neurons fire" in root.text
    assert "16 channels of 32 × 32" in root.text
    with pytest.raises(ValueError, match=r"tiny\.cifar10 has no layer 'x'"):
        look(picture_trace, "x")
