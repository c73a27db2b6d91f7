"""Start an event network from a picture network's blocks, which have the same shapes.

    python training/from_pictures.py msresnet20.cifar10 msresnet20_dvs --out runs/dvs-start

Everything that fits is taken over; the stem and the first shortcut, which do not, are drawn anew.
`training/train.py RECIPE --model local-dir:runs/dvs-start --pretrained true` goes on from there.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

import msr_zoo
from msr_zoo.hub import save_pretrained


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="a registered name with its tag, or local-dir:FOLDER")
    parser.add_argument("model", help="the network to start")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; it is new")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn anew")
    options = parser.parse_args(arguments)
    if options.out.exists():
        parser.error(f"{options.out} is there already")
    torch.manual_seed(options.seed)
    try:
        source: Any = msr_zoo.create_model(options.source, pretrained=True)
        model: Any = msr_zoo.create_model(options.model, num_classes=source.num_classes)
    except (ValueError, OSError, RuntimeError) as error:
        parser.error(str(error))
    known, own = source.state_dict(), model.state_dict()
    fits = {key: value for key, value in known.items() if key in own}
    fits = {key: value for key, value in fits.items() if value.shape == own[key].shape}
    model.load_state_dict(fits, strict=False)
    model.pretrained_cfg["label_names"] = list(source.pretrained_cfg["label_names"])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_pretrained(model, options.out, card=f"Blocks of {options.source}, not trained further.\n")
    drawn = sorted({key.rpartition(".")[0] for key in own.keys() - fits.keys()})
    print(f"{options.out}: {len(fits)} tensors of {options.source}; drawn anew: {', '.join(drawn)}")


if __name__ == "__main__":
    main()
