"""The folder app/ is a Hugging Face Space as it is."""

import re
import tomllib

from serving import ROOT


def front_matter() -> dict[str, str]:
    text = (ROOT / "app" / "README.md").read_text(encoding="utf-8")
    block = re.match(r"---\n(.*?)\n---\n", text, re.S)[1]
    return {
        key: value.strip(' "') for key, value in (line.split(":", 1) for line in block.split("\n"))
    }


def test_the_space_runs_the_page_with_the_gradio_that_we_ask_for():
    told = front_matter()
    assert (ROOT / "app" / told["app_file"]).is_file()
    assert told["sdk"] == "gradio"
    assert len(told["short_description"]) <= 60  # what the Hub takes
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    low = next(
        re.search(r">=([\d.]+)", r)[1]
        for r in project["optional-dependencies"]["app"]
        if "gradio" in r
    )
    version = [[int(n) for n in text.split(".")] for text in (told["sdk_version"], low)]
    assert version[0] >= version[1]
    (requirement,) = (ROOT / "app" / "requirements.txt").read_text(encoding="utf-8").split()
    assert requirement == f"{project['name']}[app]"
    assert told["license"] == project["license"].lower()


def test_the_page_is_a_thin_skin():
    lines = (ROOT / "app" / "app.py").read_text(encoding="utf-8").count("\n")
    assert lines < 150
