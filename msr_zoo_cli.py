"""The `msr-zoo` command: what it accepts, and how it fails.

A module of its own, because importing anything inside `msr_zoo` imports torch, and help must not
wait for that. What the commands do stands in msr_zoo/cli.py.
"""

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

DEFAULT_MODEL = "msresnet20.cifar10"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *args: Any) -> NoReturn:
        from msr_zoo import __version__

        print(f"msr-zoo {__version__}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="msr-zoo",
        description="Pretrained MS-ResNet deep residual spiking neural networks.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    text = "list the models, and where their weights are"
    commands.add_parser("list", help=text, description=text.capitalize() + ".")

    text = "tell what is known about one model"
    info = commands.add_parser("info", help=text, description=text.capitalize() + ".")
    info.add_argument("name", metavar="NAME", help="a model's name, with or without a tag")

    text = "name what is in pictures or event recordings, and show how the network spiked"
    predict = commands.add_parser("predict", help=text, description=text.capitalize() + ".")
    predict.add_argument(
        "pictures",
        nargs="*",
        metavar="FILE",
        help="a picture, or an event recording for a model of two channels; or a folder of them, "
        "which prints a line of JSON each",
    )
    predict.add_argument("--example", action="store_true", help="a picture of a cat we ship")
    predict.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME|DIR",
        help="a model's name or a weights folder (default: %(default)s)",
    )
    predict.add_argument(
        "--topk", type=int, default=5, metavar="K", help="labels shown (default: 5)"
    )
    predict.add_argument("--json", action="store_true", help="print a line of JSON a file")
    predict.add_argument(
        "--windows", action="store_true", help="print the best label of each window of a recording"
    )

    text = "learn your own classes from event recordings or pictures"
    finetune = commands.add_parser(
        "finetune",
        help=text,
        description=text.capitalize() + ". DATA holds <class>/<file>, or <session>/<class>/<file>: "
        "then one session is tested on, never a part of what was trained on. Writes a weights "
        "folder that predict and the app take.",
    )
    finetune.add_argument("data", metavar="DATA", help="a folder of class or session folders")
    finetune.add_argument(
        "--model",
        metavar="NAME|DIR",
        help="what to start from (default: msresnet20_dvs, for pictures msresnet20.cifar10)",
    )
    finetune.add_argument(
        "--scratch", action="store_true", help="start from random weights, not from the model's"
    )
    finetune.add_argument(
        "--upright",
        action="store_true",
        help="for what must not be turned or mirrored in training, such as digits",
    )
    finetune.add_argument("--out", metavar="DIR", help="the folder to write (default: MODEL.DATA)")
    finetune.add_argument(
        "--test",
        metavar="SESSION",
        help="the session to test on (default: test or val, or the last by name)",
    )
    finetune.add_argument(
        "--by-time",
        action="store_true",
        help="test on the end of every recording, if there is only one of each class",
    )
    finetune.add_argument(
        "--window-ms",
        type=int,
        metavar="N",
        help="length of a sample of a recording (default: 100, whole if shorter than a second)",
    )
    finetune.add_argument(
        "--num-steps",
        type=int,
        metavar="T",
        help="frames that a recording's sample is cut into (default: 2; of pictures, the model's)",
    )
    finetune.add_argument("--epochs", type=int, metavar="N", help="epochs at most")
    finetune.add_argument("--lr", type=float, metavar="X", help="learning rate")
    finetune.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")

    text = "turn a checkpoint of the authors into a weights folder"
    convert = commands.add_parser("convert", help=text, description=text.capitalize() + ".")
    convert.add_argument(
        "checkpoint", metavar="FILE.pth", help="a checkpoint of MS-ResNet's authors"
    )
    convert.add_argument("--arch", required=True, metavar="NAME", help="the model it belongs to")
    convert.add_argument("--out", required=True, metavar="DIR", help="the folder to write")
    convert.add_argument(
        "--num-steps",
        type=int,
        metavar="T",
        help="steps it was trained with (default: the paper's)",
    )

    text = "measure how fast a model runs here, beside what else could do its work"
    bench = commands.add_parser(
        "bench",
        help=text,
        description=text.capitalize() + ": the engine, torch, the bare convolutions in float32 and "
        "bfloat16, one pass of the non-spiking twin, and SpikingJelly 2.0 where it is installed.",
    )
    bench.add_argument(
        "name",
        nargs="?",
        default=DEFAULT_MODEL,
        metavar="NAME",
        help="with a tag, or a weights folder: with its weights; without: random weights that "
        "fire at a rate of 0.15 (default: %(default)s)",
    )
    bench.add_argument(
        "--batch", type=int, metavar="N", help="inputs at once (default: 32 up to 64 px, else 1)"
    )
    bench.add_argument("--threads", type=int, metavar="N", help="threads (default: torch's)")
    bench.add_argument(
        "--seconds", type=float, default=20.0, metavar="S", help="measure about so long"
    )
    bench.add_argument("--json", action="store_true", help="print JSON")
    text = "serve a page on which a network is watched as it thinks"
    app = commands.add_parser("app", help=text, description=text.capitalize() + ".")
    app.add_argument("--host", default="127.0.0.1", help="address (default: %(default)s)")
    app.add_argument(
        "--port", type=int, metavar="N", help="port (default: the first free one from 7860)"
    )
    app.add_argument("--share", action="store_true", help="give it a public address for a week")

    text = "measure how well each block keeps the norm of gradients"
    isometry = commands.add_parser(
        "isometry",
        help=text,
        description=text.capitalize() + ": phi(JJ^T) of its Jacobian J, the spread, and the ratio "
        "of gradient norms, for the picture of a cat we ship (noise where a model takes no "
        "pictures). 1, 0 and 1 are those of an isometry. For more pictures: "
        "training/studies/isometry.py.",
    )
    isometry.add_argument("name", metavar="NAME", help="a model's name, or a weights folder")
    isometry.add_argument(
        "--pretrained", action="store_true", help="with its weights, not as initialised"
    )
    isometry.add_argument(
        "--probes", type=int, default=8, metavar="N", help="random vectors (default: 8)"
    )
    isometry.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _has_gradio() -> bool:
    return importlib.util.find_spec("gradio") is not None


def _serve(args: argparse.Namespace) -> int:
    """Run the page, which is installed as msr_zoo_app, and in a clone is the folder app."""
    if not _has_gradio():
        raise ValueError("the page needs gradio: pip install 'msr-zoo[app]'")
    if args.port is not None and not 1 <= args.port <= 65535:
        raise ValueError(f"--port must lie between 1 and 65535, got {args.port}")
    beside = Path(__file__).parent
    files = (beside / name / "app.py" for name in ("msr_zoo_app", "app"))
    file = next((file for file in files if file.is_file()), None)
    spec = importlib.util.spec_from_file_location("msr_zoo_app", file) if file else None
    if spec is None or spec.loader is None:
        raise ValueError("this installation of msr-zoo has no page: install it once more")
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    try:
        page.serve(host=args.host, port=args.port, share=args.share)
    except OSError as error:
        where = f"{args.host}, port {args.port or 'from 7860 on'}"
        raise ValueError(f"the page cannot be served at {where}; is it taken?") from error
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
    try:
        if args.command == "app":
            return _serve(args)
        from msr_zoo import cli

        status = cli.COMMANDS[args.command](args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader has gone; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError) as error:
        print(f"msr-zoo: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
