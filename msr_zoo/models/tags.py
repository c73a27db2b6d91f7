"""Every weights entry, complete: what the model is, what it was trained for, and its digest."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import generate_default_cfgs

from msr_zoo.neurons import DECAY, THRESHOLD

# The one place where the owner of our Hub repositories is named.
HUB_OWNER = "msr-zoo"

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


@dataclass(frozen=True, kw_only=True)
class Tag:
    """Weights of one model; those that we made have a digest, checked wherever they come from.

    `num_steps`, `decay` and `threshold` are not in the tensors, so a strict load cannot notice a
    wrong one. `narrow` weights know a small data set of their own, and are nobody's default.
    """

    num_steps: int
    cfg: Mapping[str, Any]
    sha256: str | None = None
    decay: float = DECAY
    threshold: float = THRESHOLD
    narrow: bool = False

    def model_args(self) -> dict[str, Any]:
        return {"num_steps": self.num_steps, "decay": self.decay, "threshold": self.threshold}


_IMAGENET = {
    "num_classes": 1000,
    "input_size": (3, 224, 224),
    "pool_size": (7, 7),
    "interpolation": "bilinear",
    "mean": IMAGENET_DEFAULT_MEAN,
    "std": IMAGENET_DEFAULT_STD,
}
_CIFAR10 = {
    "num_classes": 10,
    "input_size": (3, 32, 32),
    "pool_size": (8, 8),
    "crop_pct": 1.0,
    "interpolation": "bilinear",
    "mean": (0.4914, 0.4822, 0.4465),
    "std": (0.2470, 0.2435, 0.2616),
    "label_names": CIFAR10_CLASSES,
}
_DVS = {
    "num_classes": 10,
    "input_size": (2, 128, 128),
    "pool_size": (8, 8),
    "mean": (0.0, 0.0),
    "std": (1.0, 1.0),
}

_PAPERS = {
    "msresnet": "arXiv:2112.08954",
    "spiking_resnet": "arXiv:2011.05280",
    "sew_resnet": "arXiv:2102.04159",
    "resnet_twin": "arXiv:2112.08954",
}

TAGS = {
    "msresnet18.in1k": Tag(num_steps=6, cfg=_IMAGENET),
    "msresnet34.in1k": Tag(num_steps=6, cfg=_IMAGENET),
    "msresnet104.in1k": Tag(num_steps=5, cfg={**_IMAGENET, "test_input_size": (3, 288, 288)}),
    "msresnet20.cifar10": Tag(
        num_steps=4,
        sha256="890ed2b647ca40401441c895f0e3dc6024cdbbee7f8b9e8d3cd65f36a95c5954",
        cfg=_CIFAR10,
    ),
    "msresnet32.cifar10": Tag(
        num_steps=4,
        sha256="9d720a8b18c3e9c5d8bc540a8255afa9480b891d4dd783a87f39a6bd375ac66b",
        cfg=_CIFAR10,
    ),
    "msresnet56.cifar10": Tag(
        num_steps=4,
        sha256="62137bc297918470ccc709fd72d5a00f55868a00d4fed9e62f29bf55ddd691d9",
        cfg=_CIFAR10,
    ),
    "msresnet110.cifar10": Tag(
        num_steps=4,
        sha256="bb0613fb78df319e1648b961ec7fc82f46311462def3613060b785293cfbb5f8",
        cfg=_CIFAR10,
    ),
    "resnet_twin20.cifar10": Tag(
        num_steps=1,
        sha256="58fefced9a1a7cedf427d4555668b95b4104af1cf1a21d90076e9174d165c291",
        cfg=_CIFAR10,
    ),
    "resnet_twin110.cifar10": Tag(
        num_steps=1,
        sha256="3a63ea9f063ce16f6c683aa9c793e7fdbc58c00fbade126c6304302d271fa5f3",
        cfg=_CIFAR10,
    ),
    "msresnet20_dvs.cifar10_events": Tag(
        num_steps=1,
        sha256="781ff8dea320055d4eff4fed410818ffd719448070a922ad09488478c79c254d",
        cfg={**_DVS, "label_names": CIFAR10_CLASSES},
        narrow=True,  # fine-tuning gains by them where epochs are few, and nothing where not
    ),
    "msresnet20_dvs.dvs128_objects": Tag(
        num_steps=2,
        sha256="e1dbadd26d521d8c0b35392cb638a982f825b7cd0f73df8f822f4da0d2e1a9f9",
        cfg={
            **_DVS,
            "num_classes": 5,
            "input_size": (2, 48, 48),
            "label_names": ("box", "cutter", "mug", "pencil", "scissors"),
        },
        narrow=True,
    ),
    "msresnet20_dvs.nmnist": Tag(
        num_steps=3,
        sha256="0bc5a623391f683469b529a193d1c6178acf927b85a64408153a34d508664e33",
        cfg={
            **_DVS,
            "num_classes": 10,
            "input_size": (2, 48, 48),
            "label_names": tuple("0123456789"),
        },
        narrow=True,
    ),
}

# Variants without weights of ours yet: what they are meant for.
_UNTRAINED = {
    **{f"{family}{n}": _CIFAR10 for family in _PAPERS for n in (20, 32, 44, 56, 110, 482)},
    **{f"{family}{n}": _IMAGENET for family in _PAPERS for n in (18, 34)},
    "msresnet20_dvs": _DVS,
}


def default_cfgs(family: str) -> Any:
    """timm's configurations of the variants whose names begin with `family`."""
    cfgs = {
        name: {**tag.cfg, "hf_hub_id": f"{HUB_OWNER}/{name}", "license": "apache-2.0"}
        for name, tag in TAGS.items()
    }
    tagged = {name.partition(".")[0] for name, tag in TAGS.items() if not tag.narrow}
    cfgs |= {name: dict(cfg) for name, cfg in _UNTRAINED.items() if name not in tagged}
    common = {"first_conv": "stem.0", "classifier": "fc", "paper_ids": _PAPERS[family]}
    grouped = generate_default_cfgs(
        {name: {**common, **cfg} for name, cfg in cfgs.items() if name.startswith(family)}
    )
    for arch, default in grouped.items():
        # timm would make the first tag with weights the default.
        if arch not in tagged and default.tags[0]:
            default.tags.remove("")
            default.tags.appendleft("")
    return grouped
