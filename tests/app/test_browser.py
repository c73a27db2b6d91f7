"""What a visitor clicks, in a real browser, and what they read afterwards."""

import json
import re
import xml.etree.ElementTree as ET

import pytest
from PIL import Image

from msr_zoo import create_model
from msr_zoo.event_input import EventInput
from msr_zoo.events import read_events
from msr_zoo.predict import EXAMPLE, Predictor
from msr_zoo.watch.examples import example_recording
from msr_zoo.watch.shelf import choices, load

# Every text that the output of the player has had, since the page was opened.
WATCH_STEPS = """() => {
  window.seen = [];
  new MutationObserver(() => {
    const text = document.querySelector('.mz-view output')?.textContent;
    if (text && window.seen.at(-1) !== text) window.seen.push(text);
  }).observe(document.body, { childList: true, subtree: true, characterData: true });
}"""


def thought(page, steps=4):
    """Wait until the last step is there."""
    page.locator(".mz-view output", has_text=f"step {steps} of {steps}").wait_for()


def best(page):
    return page.locator(".mz-answer .mz-best strong >> visible=true").first.inner_text()


def test_a_visitor_sees_a_network_think(visit):
    page = visit()
    thought(page)
    assert page.get_by_role("heading", level=1).inner_text() == "Watch a spiking network think"
    model = create_model("msresnet20.cifar10", pretrained=True)
    found = Predictor(model)(EXAMPLE, keep_spikes=True)
    label, p = next(iter(found.labels.items()))
    assert best(page) == label
    rows = page.get_by_role("list", name="Class probabilities after step 4")
    assert re.split(r"\s+", rows.get_by_role("listitem").first.inner_text())[:2] == [
        label,
        f"{100 * p:.0f}",
    ]
    cells = page.get_by_role("row", name="layer2.1.lif1").get_by_role("cell").all_inner_texts()
    rates = found.activity.rates["layer2.1.lif1"].tolist()
    assert cells[:4] == [f"{rate:.2f}" for rate in rates]
    assert f"{found.activity.spikes_per_neuron:.3f}" in page.locator(".mz-cost").inner_text()
    assert "untrained" not in page.locator(".mz-view").inner_text()


@pytest.mark.slow
def test_upload_a_picture_and_see_the_answer_stream(visit, tmp_path):
    page = visit()
    thought(page)
    picture = tmp_path / "upload.png"
    Image.open(EXAMPLE).rotate(90).save(picture)
    expected = next(iter(Predictor(create_model("msresnet20.cifar10", True))(picture).labels))
    page.evaluate(WATCH_STEPS)
    page.get_by_label("Remove Image").or_(page.get_by_label("Clear")).first.click()
    page.locator("input[type=file]").first.set_input_files(picture)
    page.wait_for_function("() => window.seen.includes('step 1 of 4')")
    # The page may still have been at work on the example that it opened with.
    answer = page.locator(".mz-answer .mz-best strong >> visible=true", has_text=expected)
    answer.first.wait_for()
    thought(page)
    assert best(page) == expected
    streamed = [text for text in page.evaluate("window.seen") if text.endswith("of 4")]
    assert streamed[-4:] == [f"step {step} of 4" for step in (1, 2, 3, 4)]


@pytest.mark.slow
def test_change_t(visit):
    page = visit()
    thought(page)
    steps = page.get_by_role("spinbutton", name=re.compile("Steps T")).first
    steps.fill("6")
    steps.press("Enter")
    page.get_by_role("button", name="Watch", exact=True).click()
    thought(page, 6)
    headings = page.get_by_role("columnheader").all_inner_texts()
    assert headings == ["layer", "1", "2", "3", "4", "5", "6", "rate at this step"]


@pytest.mark.slow
def test_pick_a_layer_by_mouse_and_by_keyboard(visit):
    page = visit()
    thought(page)
    page.locator('.mz-lif[data-layer="layer3.1.lif2"]').click()
    page.get_by_role("heading", name="layer3.1.lif2 64 channels of 8 × 8").wait_for()
    assert page.get_by_role("combobox", name="Layer to look inside").input_value() == (
        "layer3.1.lif2"
    )
    row = page.get_by_role("button", name="layer2.0.lif1", exact=True)
    row.focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="layer2.0.lif1 16 channels of 32 × 32").wait_for()
    maps = page.get_by_role("img", name="Spike maps of layer2.0.lif1, a tile a channel")
    assert maps.locator("image >> visible=true").count() == 1
    box = page.get_by_role("combobox", name="Layer to look inside")
    box.click()
    page.get_by_role("option", name="lif", exact=True).click()
    page.get_by_role("heading", name="lif 64 channels of 8 × 8").wait_for()


@pytest.mark.slow
def test_play_pause_and_step(visit):
    page = visit()
    thought(page)
    output = page.locator(".mz-view output")
    page.get_by_role("button", name="Step back").click()
    assert output.inner_text() == "step 3 of 4"
    assert page.get_by_role("list", name="Class probabilities after step 3").is_visible()
    assert page.locator(".mz-detail [data-t='3']").first.is_visible()
    assert not page.locator(".mz-detail [data-t='4']").first.is_visible()
    slider = page.get_by_role("slider", name="Step shown")
    slider.focus()
    slider.press("ArrowLeft")
    assert output.inner_text() == "step 2 of 4"
    page.locator('.mz-lif[data-layer="layer3.1.lif2"]').click()  # opened at that step
    page.get_by_role("heading", name="layer3.1.lif2 64 channels of 8 × 8").wait_for()
    assert page.locator(".mz-detail [data-t='2']").first.is_visible()
    assert not page.locator(".mz-detail [data-t='4']").first.is_visible()
    page.locator(".mz-view").get_by_role("button", name="Play").click()
    page.wait_for_function("document.querySelector('.mz-view output').textContent.includes('4 of')")
    page.wait_for_function("document.querySelector('.mz-view output').textContent.includes('1 of')")
    page.locator(".mz-view").get_by_role("button", name="Pause").click()
    still = output.inner_text()
    page.wait_for_timeout(1600)
    assert output.inner_text() == still


@pytest.mark.slow
def test_compare_and_export(visit, tmp_path):
    page = visit()
    thought(page)
    page.get_by_label("Compare with another network, or another T").check()
    page.locator(".mz-two").first.wait_for()
    thought(page)
    sides = page.locator(".mz-answer .mz-side")
    assert sides.count() == 2
    assert "msresnet20.cifar10 1 step" in " ".join(sides.nth(1).inner_text().split())
    page.get_by_role("button", name="Step back").click()
    saved = {}
    for kind in ("SVG", "PNG", "JSON"):
        with page.expect_download() as download:
            page.get_by_role("group", name="Export").get_by_text(kind, exact=True).click()
        saved[kind] = tmp_path / download.value.suggested_filename
        download.value.save_as(saved[kind])
    told = json.loads(saved["JSON"].read_text(encoding="utf-8"))
    assert [run["steps"] for run in told] == [4, 1]
    drawn = ET.parse(saved["SVG"]).getroot()
    words = " ".join("".join(drawn.itertext()).split())
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    assert "after step 3 of 4" in words
    assert "after step 4 of 4" not in words
    with Image.open(saved["PNG"]) as image:
        assert image.width > 1500
        # Colours of bars and of lines are in it: the styles went along.
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24)}
    assert {(180, 71, 11), (11, 98, 168)} <= colours


@pytest.mark.slow
def test_a_recording(visit, tmp_path):
    page = visit()
    thought(page)
    page.get_by_role("tab", name="Recording").click()
    model, source = load(choices(2)[0][1], folders=False)
    steps = EventInput.of(model).num_steps
    thought(page, steps)
    said = "untrained: random weights" in page.locator(".mz-answer").inner_text()
    assert said == (not source.trained)
    film = page.locator(".mz-film")
    assert "events in 300 ms" in film.inner_text()
    film.get_by_role("button", name="Play").click()
    page.wait_for_function(
        "!document.querySelector('.mz-film output').textContent.includes('picture 1 of')"
    )
    film.get_by_role("button", name="Pause").click()
    mine = tmp_path / "mine.csv"
    events = read_events(example_recording(tmp_path))[:20_000]
    rows = zip(events.x, events.y, events.t, events.polarity.astype(int), strict=True)
    mine.write_text("x,y,t_us,p\n" + "\n".join(",".join(map(str, row)) for row in rows))
    page.get_by_label("Clear").last.click()
    page.locator("input[type=file]").last.set_input_files(mine)
    page.get_by_role("img", name=re.compile("Events of mine.csv: 20 k events")).wait_for()
    thought(page, steps)


@pytest.mark.slow
def test_a_broken_file_gets_a_sentence_and_harms_nothing(visit, tmp_path):
    page = visit()
    thought(page)
    broken = tmp_path / "broken.png"
    broken.write_bytes(EXAMPLE.read_bytes()[:900])
    page.get_by_label("Remove Image").or_(page.get_by_label("Clear")).first.click()
    page.locator("input[type=file]").first.set_input_files(broken)
    alert = page.get_by_role("alert").filter(has_text="broken.png")
    alert.wait_for()
    assert "Traceback" not in alert.inner_text()
    page.locator(".gallery-item").first.click()
    thought(page)
    assert page.get_by_role("alert").filter(has_text="broken.png").count() == 0


LOOKS = {
    "desktop-light": {"color_scheme": "light"},
    "desktop-dark": {"color_scheme": "dark"},
    "phone": {
        "color_scheme": "light",
        "viewport": {"width": 390, "height": 844},
        "has_touch": True,
        "is_mobile": True,
        "device_scale_factor": 1,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("look", LOOKS)
def test_light_dark_and_phone(visit, screenshots, look):
    page = visit(**LOOKS[look])
    thought(page)
    page.get_by_role("button", name="Step back").click()
    page.get_by_role("button", name="Step on", exact=True).click()
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = page.evaluate("getComputedStyle(document.querySelector('.mz-panel')).backgroundColor")
    lightness = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3
    assert (lightness < 80) == (look == "desktop-dark")
    file = screenshots / f"{look}.png"
    if look == "phone":
        page.locator(".mz-view").scroll_into_view_if_needed()
        page.evaluate("document.querySelector('.mz-view').scrollIntoView()")
    page.screenshot(path=file)
    page.screenshot(path=screenshots / f"{look}-whole.png", full_page=True)
    with Image.open(file) as image:
        assert image.width == width
        few = image.convert("RGB").quantize(
            256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
    few.save(file, optimize=True)  # a quarter of the size, for the README


@pytest.mark.slow
def test_everything_is_reached_with_the_keyboard(visit):
    page = visit()
    thought(page)
    reached = set()
    for _ in range(140):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "(({ariaLabel, dataset, innerText, type}) => dataset.layer ?? dataset.do ?? "
                "ariaLabel ?? innerText ?? type)(document.activeElement)"
            )
        )
    assert {"play", "back", "on", "svg", "png", "layer1.0.lif1", "layer3.2.lif2", "lif"} <= reached
