"""What a user types, and every word that comes back."""

import io
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

import msr_zoo
import msr_zoo_cli
from msr_zoo import at_hand, cli, report
from msr_zoo.event_input import EventInput
from msr_zoo.hub import save_pretrained
from msr_zoo.models import ms_resnet
from msr_zoo.predict import EXAMPLE

BARE = """
import sys, types
import msr_zoo_cli
assert "torch" not in sys.modules
stub = types.ModuleType("msr_zoo")
stub.cli = types.SimpleNamespace(COMMANDS={"list": lambda args: print("x\\n" * 1000000)})
sys.modules["msr_zoo"] = stub
try:
    status = msr_zoo_cli.main(sys.argv[1:])
finally:
    assert "torch" not in sys.modules
sys.exit(status)
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A weights folder of a network that nobody trained."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    model = msr_zoo.create_model("msresnet20", num_steps=3, zero_init_last=False)
    save_pretrained(model, folder, card="")
    return str(folder)


def run(capsys, *argv) -> tuple[int, str, str]:
    try:
        status = msr_zoo_cli.main([str(arg) for arg in argv])
    except SystemExit as end:
        status = int(end.code or 0)
    out, err = capsys.readouterr()
    return status, out, err


def refused(capsys, *argv) -> str:
    """The one sentence that a mistake gets."""
    status, out, err = run(capsys, *argv)
    assert status == 2
    assert out == ""
    assert err.startswith("msr-zoo")
    assert err.count("\n") == 1
    return err


def bare(*argv, **kwargs) -> subprocess.Popen:
    """The command in a process of its own, with a stand-in for the package behind it."""
    command = [sys.executable, "-c", BARE, *argv]
    return subprocess.Popen(command, text=True, stderr=subprocess.PIPE, **kwargs)


@pytest.mark.parametrize("argv", [[], ["--help"], ["predict", "--help"]])
def test_help_imports_no_torch(argv):
    process = bare(*argv, stdout=subprocess.PIPE)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("usage: msr-zoo")
    assert max(len(line) for line in out.splitlines()) <= 80


def test_a_reader_that_goes_is_no_error():
    process = bare("list", stdout=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), err) == (141, "")


def test_an_interrupt_is_quiet(capsys, monkeypatch):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, "list", interrupted)
    assert run(capsys, "list") == (130, "", "")


def test_version(capsys):
    assert run(capsys, "--version") == (0, f"msr-zoo {msr_zoo.__version__}\n", "")


def test_list_names_every_model(capsys, monkeypatch, tmp_path):
    for module in (cli, at_hand):
        monkeypatch.setattr(module, "WHEEL", tmp_path / "wheel")
    monkeypatch.setenv("MSR_ZOO_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setattr(at_hand.huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    for place, name in (("wheel", "msresnet18.in1k"), ("mirror", "msresnet34.in1k")):
        (tmp_path / place / name).mkdir(parents=True)
        (tmp_path / place / name / "model.safetensors").touch()
    results = {
        "data": "D",
        "split": "val",
        "num_pictures": 5000,
        "top1": [0.5, 0.51],
        "commit": "c" * 40,
    }
    (tmp_path / "wheel/msresnet18.in1k/results.json").write_text(json.dumps(results))
    (tmp_path / "mirror/msresnet34.in1k/results.json").write_text("cut {")
    status, out, err = run(capsys, "list")
    assert (status, err) == (0, "")
    rows = [line.split() for line in out.split("\n\n")[0].splitlines()]
    assert [row[0] for row in rows[1:]] == [
        n.partition(".")[0] for n in msr_zoo.list_models(include_tags=True)
    ]
    told = {row[0]: row[1:] for row in rows}
    assert told["msresnet18"] == ["in1k", "11,693,736", "6", "3x224x224", "wheel", "50.50", "%"]
    assert told["msresnet34"] == ["in1k", "21,801,896", "6", "3x224x224", "mirror", "-"]
    assert told["msresnet104"] == ["in1k", "77,350,504", "5", "3x224x224", "Hub", "-"]
    assert told["msresnet44"][1:3] == ["661,338", "6"]
    note = "msresnet18.in1k: D, val, 5,000 pictures, mean of 2 seeds, commit cccccccccc"
    assert note in " ".join(out.split())
    assert max(len(line) for line in out.splitlines()) <= 80


def test_info(capsys):
    status, out, err = run(capsys, "info", "msresnet104.in1k")
    assert (status, err) == (0, "")
    told = {line[:12].strip(): line[12:] for line in out.splitlines()}
    assert told["About"] == ms_resnet.msresnet104.__doc__
    assert told["Parameters"] == "77,350,504"
    assert told["Steps (T)"] == "5"
    assert told["Neuron"] == "decay 0.25, threshold 0.5"
    assert told["Input"].startswith("3x224x224, mean (0.485, 0.456, 0.406)")
    assert run(capsys, "info", "msresnet20")[1].count("airplane, automobile, bird, cat") == 1


def test_info_of_an_unknown_name(capsys):
    assert "msresnet34" in refused(capsys, "info", "msresnet35")
    assert "there is msresnet20, msresnet20.cifar10" in refused(capsys, "info", "msresnet20.foo")
    assert "msresnet20.cifar10" in refused(capsys, "isometry", "msresnet20.foo")


def test_weights_that_the_hub_is_known_not_to_have_are_not_cached(monkeypatch, tmp_path):
    hub_id = msr_zoo.model_info("msresnet18.in1k").hf_hub_id
    repo = tmp_path / f"models--{hub_id.replace('/', '--')}"
    (repo / ".no_exist" / "abc").mkdir(parents=True)
    (repo / ".no_exist" / "abc" / "model.safetensors").touch()
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    real = at_hand.huggingface_hub.try_to_load_from_cache
    monkeypatch.setattr(
        at_hand.huggingface_hub,
        "try_to_load_from_cache",
        lambda *asked: real(*asked, cache_dir=tmp_path),
    )
    assert at_hand.place("msresnet18.in1k") == "Hub"


def test_predict_example(capsys, weights):
    status, out, err = run(capsys, "predict", "--example", "--model", weights)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[:2] == ["chelsea.jpg", f"{weights}, 3 steps"]
    assert sum(line.rstrip("▏▎▍▌▋▊▉█ ").endswith("%") for line in lines) == 5
    for stage in ("layer1", "layer2", "layer3", "lif"):
        assert any(line.split()[:1] == [stage] for line in lines)
    assert any("spikes a neuron" in line.lower() and "188,416 neurons" in line for line in lines)
    assert max(len(line) for line in lines[2:]) <= 80


def test_a_twin_is_not_compared_with_itself(capsys):
    status, out, _ = run(capsys, "predict", "--example", "--model", "resnet_twin20.cifar10")
    assert status == 0
    assert "Energy  " in out
    assert "without spikes" not in out


def test_predict_json(capsys, weights):
    argv = ("predict", EXAMPLE, EXAMPLE, "--model", weights, "--json", "--topk", 2)
    status, out, err = run(capsys, *argv)
    assert (status, err) == (0, "")
    first, second = map(json.loads, out.splitlines())
    assert first == second
    assert (first["picture"], first["model"]) == (str(EXAMPLE), weights)
    assert [set(label) for label in first["labels"]] == [{"label", "probability"}] * 2
    ops = first["synaptic_operations"]
    joules = 4.6e-12 * ops["mac"] + 0.9e-12 * ops["ac"]
    assert first["energy_joules"] == pytest.approx(joules)
    assert len(first["rates"]["layer1.0.lif1"]) == 3


def test_predict_a_folder_tells_of_a_bad_picture_and_goes_on(capsys, weights, tmp_path):
    for name in ("a.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(EXAMPLE.read_bytes())
    (tmp_path / "b.jpg").write_text("no picture")
    status, out, err = run(capsys, "predict", tmp_path, "--model", weights)
    assert status == 2
    assert [json.loads(line)["picture"][-5:] for line in out.splitlines()] == ["a.jpg", "c.jpg"]
    assert err == f"msr-zoo: {tmp_path / 'b.jpg'}: not a picture\n"


def test_predict_tells_of_a_mistyped_path_and_goes_on(capsys, weights, tmp_path):
    wrong, folder = tmp_path / "wrong.jpg", tmp_path / "empty"
    folder.mkdir()
    argv = ("predict", EXAMPLE, wrong, folder, EXAMPLE, "--json", "--model", weights)
    status, out, err = run(capsys, *argv)
    assert status == 2
    assert [json.loads(line)["picture"] for line in out.splitlines()] == [str(EXAMPLE)] * 2
    assert err.splitlines() == [
        f"msr-zoo: {wrong}: no such file or folder",
        f"msr-zoo: {folder}: no picture in this folder",
    ]


def test_predict_names_a_model_in_the_current_folder(capsys, weights, monkeypatch):
    monkeypatch.chdir(weights)
    _, out, _ = run(capsys, "predict", "--example", "--model", ".")
    assert out.splitlines()[1] == f"{weights}, 3 steps"
    _, out, _ = run(capsys, "predict", "--example", "--json", "--model", ".")
    assert json.loads(out)["model"] == weights


def test_info_of_the_twin_has_no_neurons(capsys):
    _, out, _ = run(capsys, "info", "resnet_twin20")
    assert "Neuron      -\n" in out
    _, out, _ = run(capsys, "info", "sew_resnet20")
    assert "Neuron      decay 0.25, threshold 0.5\n" in out


def test_bench(capsys, weights):
    few = ("--batch", 2, "--seconds", 0.1, "--threads", torch.get_num_threads())
    status, out, err = run(capsys, "bench", weights, *few, "--json")
    assert (status, err) == (0, "")
    result = json.loads(out)
    names = [row["name"] for row in result["rows"]]
    assert {"torch, float32", "bare convolutions, bfloat16"} < set(names)
    assert {"non-spiking twin, float32", "non-spiking twin, bfloat16"} < set(names)
    assert ("engine, float32" in names) == (result["why_not"] is None)
    assert all(row["median_ms"] > 0 and row["n"] >= 3 for row in result["rows"])
    assert (result["input"], result["steps"]) == ([2, 3, 32, 32], 3)
    lines = report.bench(result)
    assert lines[0].startswith(f"{weights}, its weights: 3 steps, batch 2, 32 x 32 px, firing rate")
    rows = [line.split() for line in lines if line.startswith(tuple(names))]
    assert len(rows) == len(names)
    assert rows[0][-1] == "1.00"


def test_bench_refuses_in_one_sentence(capsys, tmp_path):
    assert "--batch must be more than 0, got 0" in refused(capsys, "bench", "--batch", 0)
    assert "--batch must be at most 4096, got 1,000,000,000" in refused(
        capsys, "bench", "--batch", 10**9
    )
    assert f"--threads must be at most {os.cpu_count()}, got 100,000" in refused(
        capsys, "bench", "--threads", 100_000
    )
    assert "sew_resnet20 is no MS-ResNet" in refused(capsys, "bench", "sew_resnet20")
    assert "close matches: msresnet" in refused(capsys, "bench", "msresnet19")


def test_predict_recordings(capsys, tmp_path):
    torch.manual_seed(0)
    model = msr_zoo.create_model("msresnet20_dvs", num_classes=3, zero_init_last=False)
    wanted = EventInput(window_us=50_000, num_steps=2, size=(16, 16))
    msr_zoo.save_pretrained(model, tmp_path / "dvs", card="", events=wanted)
    lines = [f"{1000 * i},{i % 16},{i % 16},{i % 2}" for i in range(102)]
    (tmp_path / "dot.csv").write_text("\n".join(["t,x,y,p", *lines, "102000,70000,"]))
    argv = ("predict", tmp_path / "dot.csv", "--model", tmp_path / "dvs")
    status, out, err = run(capsys, *argv, "--windows")
    assert status == 0
    assert "dot.csv" in err
    assert err.startswith("msr-zoo: ")
    assert err.count("\n") == 1
    assert out.splitlines()[1] == f"{tmp_path / 'dvs'}, 2 steps, mean over 2 windows"
    rows = [line.split()[:2] for line in out.splitlines() if "class" in line]
    assert rows[-2:] == [["0.000", "0.050"], ["0.050", "0.100"]]
    status, out, err = run(capsys, *argv, "--json")
    assert [w["begin_us"] for w in json.loads(out)["windows"]] == [0, 50_000]
    example = ("predict", "--example", "--model", tmp_path / "dvs")
    assert "takes event recordings" in refused(capsys, *example)


def test_predict_refuses_in_one_sentence(capsys, weights, tmp_path):
    assert "--example" in refused(capsys, "predict")
    assert "missing.jpg: no such file" in refused(capsys, "predict", tmp_path / "missing.jpg")
    assert "no picture in this folder" in refused(capsys, "predict", tmp_path)
    assert "--topk" in refused(capsys, "predict", "--example", "--topk", 0)
    assert "--topk" in refused(capsys, "predict", "--example", "--topk", "many")
    example = ("predict", "--example", "--model")
    assert "close matches: msresnet" in refused(capsys, *example, "msresnet19")
    assert "no such folder" in refused(capsys, *example, tmp_path / "nowhere")
    assert "config.json cannot be read" in refused(capsys, *example, tmp_path)
    assert "msresnet44" in refused(capsys, *example, "msresnet44")
    (tmp_path / "config.json").write_text('{"architecture": "resnet18"}')
    assert "names no model of ours ('resnet18')" in refused(capsys, *example, tmp_path)
    (tmp_path / "config.json").write_text('{"architecture": "msresnet20"}')
    assert "config.json has no pretrained_cfg" in refused(capsys, *example, tmp_path)
    (tmp_path / "config.json").write_text('{"architecture": "msresnet20", "pretrained_cfg": {}}')
    assert "holds no model.safetensors" in refused(capsys, *example, tmp_path)
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    assert "text.jpg: not a picture" in refused(capsys, "predict", text, "--model", weights)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"pretrained_cfg": None}, "has no pretrained_cfg"),
        ({"model_args": {"depth": 3}}, "describes no model of ours"),
        ({"model_args": {"num_steps": "4"}}, "describes no model of ours"),
        ({"model_args": {"num_steps": 2.5}}, "num_steps must be a whole number of at least 1"),
        ({"model_args": {"channels": []}}, "must be of the same stages"),
        ({"num_classes": "10"}, "num_classes in config.json is '10', and 10 in its model_args"),
        ({"num_classes": 7}, "num_classes in config.json is 7, and 10 in its model_args"),
        ({"pretrained_cfg": {"interpolation": "linear"}}, "must be one of nearest, bilinear"),
        ({"pretrained_cfg": {"input_size": 32}}, "input_size in config.json is no list of whole"),
        ({"pretrained_cfg": {"input_size": [32, 32]}}, "input_size in config.json must be of 3"),
        ({"pretrained_cfg": {"crop_pct": "1"}}, "crop_pct in config.json is no number: '1'"),
        ({"pretrained_cfg": {"mean": ["a"]}}, "mean in config.json is no list of numbers"),
        ({"label_names": 5}, "label_names in config.json is no list of names"),
    ],
)
def test_a_foreign_config_is_refused_in_one_sentence(capsys, weights, tmp_path, edit, words):
    folder = tmp_path / "w"
    shutil.copytree(weights, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **edit}))
    assert words in refused(capsys, "predict", "--example", "--model", folder)


def test_convert_refuses_in_one_sentence(capsys, tmp_path):
    out = tmp_path / "out"
    argv = ("convert", tmp_path / "x.pth", "--out", out, "--arch")
    assert "close matches: msresnet" in refused(capsys, *argv, "msresnet19")
    assert "x.pth" in refused(capsys, *argv, "msresnet20")
    assert "--out" in refused(capsys, "convert", "x.pth", "--arch", "msresnet20")
    assert not out.exists()


def test_convert_calls_the_converter(capsys, monkeypatch):
    def converted(path, arch, out, *, num_steps):
        assert (path, arch, num_steps) == ("x.pth", "msresnet20", 4)
        return out

    monkeypatch.setattr(cli, "convert_checkpoint", converted)
    argv = ("convert", "x.pth", "--arch", "msresnet20", "--out", "dir", "--num-steps", 4)
    status, out, _ = run(capsys, *argv)
    assert (status, out) == (0, "Wrote dir; try: msr-zoo predict --example --model dir\n")


def test_bars_are_in_proportion_and_plain_where_the_terminal_is(monkeypatch):
    assert [line.count("█") for line in report.bars({"a": 0.5, "b": 0.25, "c": 0})] == [40, 20, 0]
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    lines = report.bars({"a": 1, "b": 0.5})
    assert report.microjoules(1e-6) == "1 uJ"
    assert [line.count("#") for line in lines] == [40, 20]
    assert all(line.isascii() for line in lines)
    (line,) = report.bars({"a name that does not fit in its column": 1})
    assert line.split("  ")[1] == "a name that does not ..."


def test_app_without_gradio_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr(msr_zoo_cli, "_has_gradio", lambda: False)
    assert "the page needs gradio: pip install 'msr-zoo[app]'" in refused(capsys, "app")


def test_app_refuses_a_port_that_is_none(capsys, monkeypatch):
    monkeypatch.setattr(msr_zoo_cli, "_has_gradio", lambda: True)
    assert "--port" in refused(capsys, "app", "--port", "many")
    assert "--port must lie between 1 and 65535, got 70000" in refused(
        capsys, "app", "--port", 70000
    )


@pytest.mark.parametrize("name", ["msr_zoo_app", "app"])
def test_app_is_served_from_a_wheel_and_from_a_clone(capsys, monkeypatch, tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "app.py").write_text("def serve(**given): print(sorted(given.items()))")
    monkeypatch.setattr(msr_zoo_cli, "__file__", str(tmp_path / "msr_zoo_cli.py"))
    monkeypatch.setattr(msr_zoo_cli, "_has_gradio", lambda: True)
    status, out, err = run(capsys, "app", "--host", "0.0.0.0", "--port", 7000, "--share")
    assert (status, err) == (0, "")
    assert out == "[('host', '0.0.0.0'), ('port', 7000), ('share', True)]\n"


def test_app_says_that_a_port_is_taken(capsys, monkeypatch, tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "app.py").write_text("def serve(**given): raise OSError('gradio says')")
    monkeypatch.setattr(msr_zoo_cli, "__file__", str(tmp_path / "msr_zoo_cli.py"))
    monkeypatch.setattr(msr_zoo_cli, "_has_gradio", lambda: True)
    message = refused(capsys, "app", "--port", 7000)
    assert "cannot be served at 127.0.0.1, port 7000; is it taken?" in message
