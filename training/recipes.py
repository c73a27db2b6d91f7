"""What is trained, and how: each recipe is a value, and the command line may change any field."""

import re
from dataclasses import dataclass, replace
from typing import NamedTuple


class Phase(NamedTuple):
    """Epochs of one kind: T, and the pixels of a side of the pictures (None: the model's)."""

    epochs: int
    num_steps: int
    size: int | None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    model: str
    data: str  # a key of training.data.SOURCES, or the path of a folder or tar of class folders
    # Phases as EPOCHSxT or EPOCHSxT@SIZE, such as "20x1@24 10x1 5x4": the weights hardly depend on
    # T and size, the cost does. The last phase's T is that of the finished model.
    schedule: str
    batch_size: int  # pictures a step of the optimizer, over all processes
    lr: float  # at the end of the warm-up
    weight_decay: float
    optimizer: str = "sgd"  # or muon (Jordan, 2024), which learns more from an epoch
    warmup_epochs: float = 0.0
    nesterov: bool = False
    label_smoothing: float = 0.0
    ema_decay: float = 0.0  # of the mean of the weights that is measured and kept; 0 keeps the last
    tet: bool = False  # a loss of each step's logits (Deng et al., ICLR 2022), not of their mean
    cutout: int = 0  # pixels of a side of a square that is hidden (DeVries and Taylor, 2017)
    randaugment: int = 0  # magnitude, up to 30 (Cubuk et al., NeurIPS 2020); 0 leaves it out
    crop_padding: int = 0  # pixels; 0 takes a random resized crop; not for simulated events
    precision: str = "bfloat16"  # or float16 (with a gradient scaler), float32
    decay: float = -1.0  # of the membrane potentials; below 0: the model's own
    learned_decay: bool = False  # beginning with that, one for all neurons (Fang et al., ICCV 2021)
    rate_penalty: float = 0.0  # weight in the loss of the spikes a neuron a step
    pretrained: bool = False  # start from the weights that `model` names
    grown_from: str = ""  # a shallower trained model that the network begins as (grow.py)
    grown_lr: float = 1.0  # of what that gave, as a share of the other blocks' learning rate
    teacher: str = ""  # a trained model whose answers are learned too (Hinton et al., 2015)
    teacher_weight: float = 0.9  # of its answers in the loss; the labels have the rest
    seed: int = 0

    def check(self) -> None:
        """Raise ValueError for a field that no training could go by."""
        self.phases()
        least = {"batch_size": 1, "lr": 0, "weight_decay": 0, "crop_padding": 0, "rate_penalty": 0}
        for name, number in least.items():
            if not getattr(self, name) >= number:
                raise ValueError(f"{name} must be at least {number}, got {getattr(self, name)}")
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ValueError(
                f"warmup_epochs must be at least 0 and fewer than the {self.epochs} of the "
                f"schedule, got {self.warmup_epochs}"
            )
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(
                f"label_smoothing must be at least 0 and less than 1, got {self.label_smoothing}"
            )
        if self.optimizer not in ("sgd", "muon"):
            raise ValueError(f"optimizer must be sgd or muon, got {self.optimizer!r}")
        if self.precision not in ("float32", "float16", "bfloat16"):
            raise ValueError(
                f"precision must be float32, float16 or bfloat16, got {self.precision!r}"
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be at least 0 and less than 1, got {self.ema_decay}")
        if self.decay > 1:
            raise ValueError(f"decay must be at most 1, got {self.decay}")
        if self.learned_decay and self.ema_decay:
            raise ValueError("learned_decay has no mean of its values: leave ema_decay at 0")
        if self.pretrained and self.grown_from:
            raise ValueError(
                "pretrained weights cannot be grown into: choose pretrained or grown_from"
            )
        if self.grown_lr < 0:
            raise ValueError(f"grown_lr must be at least 0, got {self.grown_lr}")
        if self.grown_lr != 1 and not self.grown_from:
            raise ValueError("grown_lr is for a network that grows: give grown_from too")
        if self.cutout < 0:
            raise ValueError(f"cutout must be at least 0 pixels, got {self.cutout}")
        if not 0 <= self.randaugment <= 30:
            raise ValueError(f"randaugment must be between 0 and 30, got {self.randaugment}")
        if not 0 <= self.teacher_weight <= 1:
            raise ValueError(f"teacher_weight must be between 0 and 1, got {self.teacher_weight}")

    def phases(self) -> list[Phase]:
        """The schedule's phases; ValueError where it is none."""
        phases = []
        for word in self.schedule.split() or [""]:
            match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)(?:@([1-9]\d*))?", word)
            if not match:
                raise ValueError(
                    f"schedule must be phases such as 20x1@24 (epochs, T, pixels), got {word!r}"
                )
            epochs, num_steps, size = match.groups()
            phases.append(Phase(int(epochs), int(num_steps), int(size) if size else None))
        return phases

    @property
    def neuron(self) -> dict[str, float]:
        """The keywords of `create_model` for the neurons; none for the model's own."""
        return {} if self.decay < 0 else {"decay": self.decay}

    @property
    def epochs(self) -> int:
        return sum(phase.epochs for phase in self.phases())

    @property
    def num_steps(self) -> int:
        """T of the finished model."""
        return self.phases()[-1].num_steps

    def phase(self, epoch: int) -> Phase:
        """The phase that an epoch, counted from 0, lies in."""
        for phase in self.phases():
            if epoch < phase.epochs:
                return phase
            epoch -= phase.epochs
        return self.phases()[-1]


# Hu et al., TNNLS 2024: SGD with momentum 0.9, cosine, to be run with SyncBN on several GPUs.
PAPER_IMAGENET = Recipe(
    model="msresnet34",
    data="imagenet",
    schedule="125x6",
    batch_size=256,
    lr=0.1,
    weight_decay=1e-5,
    label_smoothing=0.1,
)
PAPER_CIFAR10 = Recipe(
    model="msresnet110",
    data="cifar10",
    schedule="200x6",
    batch_size=100,
    lr=0.1,
    weight_decay=1e-4,
    crop_padding=4,
)
# Crops of 24 px cost half of the picture's 32, and most of what is learned is learned at T = 1.
CIFAR10_TWO_CORES = Recipe(
    model="msresnet20",
    data="cifar10",
    schedule="24x1@24 14x1 3x2 7x4",
    batch_size=128,
    lr=0.02,
    weight_decay=0.05,
    optimizer="muon",
    warmup_epochs=0.6,
    crop_padding=4,
)
# On from the weights of the former, exported to runs/first: what a second descent is worth.
CIFAR10_TRAINED_ON = replace(
    CIFAR10_TWO_CORES, model="local-dir:runs/first", pretrained=True, schedule="20x2 9x4", lr=0.01
)
# On from the weights of that, exported to runs/second, which knew 90.5 % of the pictures that they
# had seen, and 85.5 % of others.
CIFAR10_TAUGHT = replace(
    CIFAR10_TRAINED_ON,
    model="local-dir:runs/second",
    teacher="resnet_twin20.cifar10",
    cutout=8,
    schedule="18x2 8x4",
)
# On from the weights of that, exported to runs/third, which no longer knew their pictures by heart.
CIFAR10_TAUGHT_ON = replace(CIFAR10_TAUGHT, model="local-dir:runs/third", schedule="8x2 12x4")
# On from the weights of that, exported to runs/fourth, at a learning rate that costs less to begin.
CIFAR10_TAUGHT_GENTLY = replace(
    CIFAR10_TAUGHT, model="local-dir:runs/fourth", schedule="6x2 13x4", lr=0.006
)
# Deeper networks, which begin as a shallower one: msresnet20's weights, followed by blocks that add
# nothing yet.
CIFAR10_GROWN = replace(
    CIFAR10_TAUGHT,
    model="msresnet32",
    pretrained=False,
    grown_from="msresnet20.cifar10",
    schedule="6x2 13x4",
    lr=0.006,
)
# Simulated recordings of CIFAR-10's pictures, for half an hour of one CPU core.
EVENTS_ONE_CORE = Recipe(
    model="msresnet20_dvs",
    data="cifar10-events",
    schedule="24x1",
    batch_size=128,
    lr=0.02,
    weight_decay=0.05,
    optimizer="muon",
    warmup_epochs=0.5,
)

RECIPES = {
    "paper-imagenet": PAPER_IMAGENET,
    "paper-cifar10": PAPER_CIFAR10,
    "cifar10-two-cores": CIFAR10_TWO_CORES,
    "cifar10-trained-on": CIFAR10_TRAINED_ON,
    "cifar10-taught": CIFAR10_TAUGHT,
    "cifar10-taught-on": CIFAR10_TAUGHT_ON,
    "cifar10-taught-gently": CIFAR10_TAUGHT_GENTLY,
    "cifar10-grown": CIFAR10_GROWN,
    "events-one-core": EVENTS_ONE_CORE,
}
