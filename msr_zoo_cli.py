"""The `msr-zoo` command: what it accepts, and how it fails.

A module of its own, because importing anything inside `msr_zoo` imports torch, and help must not
wait for that. What the commands do stands in msr_zoo/cli.py.
"""

import argparse
import os
import sys
from collections.abc import Sequence
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


def main(argv: Sequence[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
    try:
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
