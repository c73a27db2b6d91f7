"""The tables of benchmarks/README.md are those that its JSON files give."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]


def test_tables_come_from_results() -> None:
    command = [sys.executable, "-m", "benchmarks.tables", "--check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_figure_of_rates_draws_each_curve_where_its_values_are():
    panel = {"name": "64 × 64", "dense_ms": {"dense, float32": 8.0}}
    figure = runpy.run_path(str(ROOT / "benchmarks" / "engine_rate_figure.py"))
    svg = figure["draw"]((0.0, 0.3, 0.6), [{**panel, "ms": {"events, float32": [0.0, 2.0, 4.0]}}])
    root = ElementTree.fromstring(svg)
    lines = [e.attrib["points"] for e in root.iter() if e.tag.endswith("polyline")]
    # Two lines of the legend come first; the axis ends at 8 ms, which is the frame's upper edge.
    left, top, width, height = (figure[name] for name in ("LEFT", "TOP", "WIDTH", "HEIGHT"))
    bottom = top + height
    flat = [f"{left + x * width:.1f},{bottom - height:.1f}" for x in (0, 0.5, 1)]
    rising = [f"{left + x * width:.1f},{bottom - x * height / 2:.1f}" for x in (0, 0.5, 1)]
    assert [line.split() for line in lines[2:]] == [flat, rising]


def test_another_machines_table_is_that_of_its_own_results(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT)
    tables = runpy.run_path(str(ROOT / "benchmarks" / "tables.py"))
    here = tmp_path / "benchmarks"
    (here / "results").mkdir(parents=True)
    row = {"model": "m", "size": 32, "batch": 2, "num_steps": 1}
    row |= {"outside_convolutions": 0.25, "shares": {"neurons": 0.5}}
    (here / "results" / "step_share_cuda.json").write_text(json.dumps({"rows": [row]}))
    (here / "README.md").write_text("a\n<!-- step_share_cuda -->\n| old |\n<!-- end -->\nb\n")
    (tmp_path / "README.md").write_text("")
    monkeypatch.setitem(tables["main"].__globals__, "HERE", here)
    monkeypatch.setattr(sys, "argv", ["tables"])
    tables["main"]()
    lines = (here / "README.md").read_text().splitlines()
    assert lines[1:5:3] == ["<!-- step_share_cuda -->", "| m, 32 px, batch 2, T 1 | 25% | 50% |"]
    assert (lines[0], *lines[5:]) == ("a", "<!-- end -->", "b")
