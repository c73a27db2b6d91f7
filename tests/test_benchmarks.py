"""The tables of benchmarks/README.md are those that its JSON files give."""

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
