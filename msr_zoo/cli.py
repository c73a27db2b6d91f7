"""The commands of `msr-zoo`; what they accept is in msr_zoo_cli.py, which starts without torch."""

import argparse
import json
import math
import os
import sys
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timm.models import model_entrypoint
from torch import nn
from tqdm import tqdm

from msr_zoo import at_hand, finetuning, report
from msr_zoo.bench.measure import measure
from msr_zoo.convert import convert_checkpoint
from msr_zoo.event_input import recordings_in
from msr_zoo.events import DamagedRecordingWarning
from msr_zoo.isometry import example_batch, measure_isometry
from msr_zoo.models.ms_resnet import MSResNet
from msr_zoo.models.tags import TAGS
from msr_zoo.neurons import LIF
from msr_zoo.predict import EXAMPLE, Prediction, Predictor, pictures_in
from msr_zoo.pretrained import WHEEL
from msr_zoo.registry import create_model, is_model, list_models, load_pretrained, model_info


def list_(args: argparse.Namespace) -> int:
    rows = [("MODEL", "TAG", "PARAMETERS", "T", "INPUT", "WEIGHTS", "TOP-1")]
    notes = []
    for name in list_models(include_tags=True):
        results, model = _results(name), _shape_of(name)
        arch, _, tag = name.partition(".")
        rows.append(
            (
                arch,
                tag or "-",
                f"{_parameters(model):,}",
                str(_steps(name, model)),
                _by(model_info(name).input_size),
                at_hand.place(name),
                _top1(results),
            )
        )
        if results:
            notes.append(f"{name}: {_provenance(results)}")
    print("\n".join(report.table(rows, right=(2, 3, 6))))
    print(
        "\nWEIGHTS  wheel: installed with the package; mirror: in MSR_ZOO_MIRROR;\n"
        "         cached: fetched from the Hub before; Hub: would be asked for, and in1k\n"
        "         is not published yet; -: none"
    )
    print("TOP-1    measured by this project; -: not measured")
    for note in notes:
        print(textwrap.fill(note, 80, initial_indent=" " * 9, subsequent_indent=" " * 9))
    return 0


def info(args: argparse.Namespace) -> int:
    cfg = model_info(args.name)
    # Without a tag, the one whose weights `pretrained=True` would load.
    tagged = f"{cfg.architecture}.{cfg.tag}"
    name = tagged if tagged in TAGS else args.name
    model = _shape_of(name)
    tag, results = TAGS.get(name), _results(name)
    spikes = any(isinstance(module, LIF) for module in model.modules())
    about = (model_entrypoint(name.partition(".")[0]).__doc__ or "").partition("\n")[0]
    lines = {
        "Model": name,
        "About": about,
        "Parameters": f"{_parameters(model):,}",
        "Steps (T)": str(_steps(name, model)),
        "Neuron": f"decay {model.decay:g}, threshold {model.threshold:g}" if spikes else "-",
        "Input": f"{_by(cfg.input_size)}, mean {_numbers(cfg.mean)}, std {_numbers(cfg.std)}",
        "Classes": _classes(cfg.num_classes, cfg.label_names),
        "Weights": at_hand.place(name),
        "sha256": (tag.sha256 if tag else None) or "-",
        "Licence": cfg.license or "-",
        "Top-1": f"{_top1(results)} ({_provenance(results)})" if results else "- (not measured)",
    }
    for key, value in lines.items():
        print(f"{key:<12}{value}")
    return 0


def predict(args: argparse.Namespace) -> int:
    if not args.pictures and not args.example:
        raise ValueError("give a picture, a recording, a folder of them, or --example")
    if args.topk < 1:
        raise ValueError(f"--topk must be at least 1, got {args.topk}")
    paths = [*args.pictures, *([str(EXAMPLE)] if args.example else [])]
    as_json = args.json or any(Path(path).is_dir() for path in paths)
    predictor = Predictor(load_pretrained(args.model), top_k=args.topk)
    if predictor.takes_recordings and args.example:
        raise ValueError(f"--example is a picture, and {args.model} takes event recordings")
    files_in = recordings_in if predictor.takes_recordings else pictures_in
    # One bad path or picture does not take the answers on the others away.
    files, status = [], 0
    for path in paths:
        try:
            files += files_in(path)
        except ValueError as error:
            print(f"msr-zoo: {error}", file=sys.stderr)
            status = 2
    for file in tqdm(files, unit="file", disable=None if len(files) > 1 else True, leave=False):
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", DamagedRecordingWarning)
                result = predictor(file)
        except ValueError as error:
            tqdm.write(f"msr-zoo: {error}", file=sys.stderr)
            status = 2
            continue
        for warning in caught:
            tqdm.write(f"msr-zoo: {warning.message}", file=sys.stderr)
        with tqdm.external_write_mode(file=sys.stdout):
            _show(result, args, as_json, last=file == files[-1])
    return status


def _show(result: Prediction, args: argparse.Namespace, as_json: bool, last: bool) -> None:
    # "." and ".." name nothing.
    model = args.model if Path(args.model).name.strip(".") else str(Path(args.model).resolve())
    if as_json:
        print(json.dumps({"model": model, **result.as_dict()}), flush=True)
    else:
        lines = report.prediction(result, model, windows=args.windows)
        print("\n".join(lines) + ("" if last else "\n"), flush=True)


def finetune(args: argparse.Namespace) -> int:
    changes = {
        key: getattr(args, key) for key in ("epochs", "lr") if getattr(args, key) is not None
    }
    if args.window_ms is not None and args.window_ms < 1:
        raise ValueError(f"--window-ms must be at least 1, got {args.window_ms}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DamagedRecordingWarning)
        tuned = finetuning.finetune(
            args.data,
            out=args.out,
            model=args.model,
            pretrained=not args.scratch,
            upright=args.upright,
            test=args.test,
            by_time=args.by_time,
            window_us=args.window_ms and 1000 * args.window_ms,
            num_steps=args.num_steps,
            changes=changes,
            seed=args.seed,
            report=lambda line: print(line, file=sys.stderr, flush=True),
        )
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"msr-zoo: {message}", file=sys.stderr)
    print("\n".join(report.finetuned(tuned)))
    return 0


def convert(args: argparse.Namespace) -> int:
    if not is_model(args.arch):
        model_info(args.arch)  # raises, and names close matches
    out = convert_checkpoint(args.checkpoint, args.arch, args.out, num_steps=args.num_steps)
    print(f"Wrote {out}; try: msr-zoo predict --example --model {out}")
    return 0


def bench(args: argparse.Namespace) -> int:
    # Above, there is no memory, or no thread.
    for name, most in (("batch", 4096), ("threads", os.cpu_count() or 1), ("seconds", math.inf)):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise ValueError(f"--{name} must be more than 0, got {value:g}")
        if value is not None and value > most:
            raise ValueError(f"--{name} must be at most {most}, got {value:,}")
    trained = Path(args.name).is_dir() or bool({".", ":"} & set(args.name))
    torch.manual_seed(0)  # an untrained network is the same one every time
    model: Any = (
        load_pretrained(args.name) if trained else create_model(args.name, zero_init_last=False)
    )
    pixels = model.pretrained_cfg["input_size"][-1]
    if type(model) is not MSResNet:
        raise ValueError(f"{args.name} is no MS-ResNet, and the comparison is made for these")
    batch = args.batch or (32 if pixels <= 64 else 1)
    if args.threads:
        torch.set_num_threads(args.threads)
    result = measure(args.name, model.eval(), batch, trained=trained, seconds=args.seconds)
    if args.json:
        print(json.dumps(result))
    else:
        print("\n".join(report.bench(result)))
    return 0


def isometry(args: argparse.Namespace) -> int:
    torch.manual_seed(0)  # an untrained network is the same one every time
    if Path(args.name).is_dir() and not args.pretrained:
        raise ValueError(f"{args.name} is a weights folder; add --pretrained to use its weights")
    model = load_pretrained(args.name) if args.pretrained else create_model(args.name)
    blocks = measure_isometry(model, *example_batch(model), probes=args.probes)
    if args.json:
        record = {"model": args.name, "pretrained": args.pretrained, "probes": args.probes}
        print(json.dumps({**record, "blocks": [block.as_dict() for block in blocks]}))
    else:
        print("\n".join(report.isometry(blocks)))
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "list": list_,
    "info": info,
    "predict": predict,
    "finetune": finetune,
    "convert": convert,
    "isometry": isometry,
    "bench": bench,
}


def _shape_of(name: str) -> Any:
    """The model without its tensors."""
    with torch.device("meta"):
        return create_model(name)


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _steps(name: str, model: Any) -> int:
    return int(TAGS[name].num_steps if name in TAGS else model.num_steps)


def _results(name: str) -> dict[str, Any]:
    """What was measured with the weights at hand; empty if nothing is known."""
    path = WHEEL / name / "results.json"
    found = path if path.is_file() else at_hand.in_mirror(name, "results.json")
    try:
        results = json.loads(found.read_text(encoding="utf-8")) if found else {}
    except (OSError, ValueError):
        return {}
    return results if isinstance(results, dict) else {}


def _top1(results: dict[str, Any]) -> str:
    top1 = results.get("top1")
    if not isinstance(top1, list) or not top1:
        return "-"
    mean = sum(top1) / len(top1)
    return f"{100 * mean:.2f} %" if mean <= 1 else f"{mean:.2f} %"


def _provenance(results: dict[str, Any]) -> str:
    seeds = len(results.get("top1") or ())
    parts = [
        f"{results.get('data', 'unnamed data')}, {results.get('split', 'test')}",
        f"{results['num_pictures']:,} {_samples(results)}" if results.get("num_pictures") else "",
        f"mean of {seeds} seeds" if seeds > 1 else "one seed" if seeds else "",
        f"commit {str(results['commit'])[:10]}" if results.get("commit") else "",
    ]
    return ", ".join(part for part in parts if part)


def _samples(results: dict[str, Any]) -> str:
    """What a model was tested on: fine-tuned ones know how many files it came from."""
    return f"samples of {results['num_files']} files" if "num_files" in results else "pictures"


def _classes(count: int, names: Any) -> str:
    return f"{count}" + (f": {', '.join(names)}" if names and len(names) <= 20 else "")


def _by(size: Any) -> str:
    return "x".join(str(n) for n in size)


def _numbers(values: Any) -> str:
    return "(" + ", ".join(f"{v:g}" for v in values) + ")"
