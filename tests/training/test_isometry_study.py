import json
import sys
from xml.etree import ElementTree

import pytest

import msr_zoo
from msr_zoo.hub import save_pretrained
from msr_zoo.models import ms_resnet, rivals
from studies import isometry, isometry_figure


@pytest.fixture
def small(monkeypatch):
    for module in (ms_resnet, rivals):
        monkeypatch.setattr(module, "CIFAR", {**module.CIFAR, "channels": (4, 6, 8)})


def test_study_writes_what_it_measured(pictures, tmp_path, monkeypatch, small):
    folder = tmp_path / "trained"
    save_pretrained(msr_zoo.create_model("sew_resnet20", num_steps=2), folder, card="")
    out = tmp_path / "results" / "isometry.json"
    arguments = [
        "--depths", "20", "--weights", str(folder), "--seeds", "0", "1", "--batch-size", "2",
        "--num-steps", "2", "--probes", "2", "--data", str(pictures), "--out", str(out),
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["isometry.py", *arguments])
    isometry.main()
    results = json.loads(out.read_text())
    assert {"command", "commit", "device", "torch"} <= set(results)
    assert (results["n"], results["seeds"], results["probes"]) == (2, [0, 1], 2)
    names = [(run["network"], run["depth"], run["state"]) for run in results["runs"]]
    assert names == [
        *((name, 20, "initialised") for name in isometry.NETWORKS),
        ("SEW-ResNet", 20, "trained"),
    ]
    for run in results["runs"]:
        blocks = run["by_seed"]["0"] + run["by_seed"]["1"]
        assert len(blocks) == 18
        assert run["phi"][0] == pytest.approx(sum(block["phi"] for block in blocks) / 18)
    figure = ElementTree.parse(out.with_suffix(".svg")).getroot()
    curves = [e for e in figure.iter() if e.tag.endswith("polyline")]
    # A legend of four, then every run's curve in each of two rows.
    assert len(curves) == 4 + 2 * 5


def test_figure_puts_values_on_their_decades():
    # Geometric means over two seeds, 0.1 and 1; the gradient of 0 between them has no point.
    seeds = {
        seed: [{"phi": 1.0, "gradient_norm": norm} for norm in norms]
        for seed, norms in {"0": (100.0, 0.0, 1.0), "1": (1e-4, 1.0, 1.0)}.items()
    }
    run = {"network": "MS-ResNet", "depth": 20, "state": "initialised", "by_seed": seeds}
    text = isometry_figure.draw([run])
    left, top, height = isometry_figure.LEFT, isometry_figure.TOP, isometry_figure.HEIGHT
    right = left + isometry_figure.WIDTH
    assert f'"{left}.0,{top + height:.1f} {right}.0,{top:.1f}"' in text
