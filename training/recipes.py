"""What is trained, and how: each recipe is a value, and the command line may change any field."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Recipe:
    model: str
    data: str  # a key of training.data.SOURCES, or the path of a folder or tar of class folders
    epochs: int
    batch_size: int  # pictures a step of the optimizer, over all processes
    lr: float  # at the end of the warm-up
    weight_decay: float
    num_steps: int  # T of the finished model
    early_num_steps: int  # T of the first epochs: the weights hardly depend on it, the cost does
    early_epochs: int = 0
    warmup_epochs: float = 0.0
    nesterov: bool = False
    label_smoothing: float = 0.0
    crop_padding: int = 0  # pixels; 0 takes a random resized crop; not for simulated events
    precision: str = "bfloat16"  # or float16 (with a gradient scaler), float32
    pretrained: bool = False  # start from the weights that `model` names
    seed: int = 0


# Hu et al., TNNLS 2024: SGD with momentum 0.9, cosine, to be run with SyncBN on several GPUs.
PAPER_IMAGENET = Recipe(
    model="msresnet34",
    data="imagenet",
    epochs=125,
    batch_size=256,
    lr=0.1,
    weight_decay=1e-5,
    num_steps=6,
    early_num_steps=6,
    label_smoothing=0.1,
)
PAPER_CIFAR10 = Recipe(
    model="msresnet110",
    data="cifar10",
    epochs=200,
    batch_size=100,
    lr=0.1,
    weight_decay=1e-4,
    num_steps=6,
    early_num_steps=6,
    crop_padding=4,
)
# Two CPU cores and little more than an hour: most of what is learned is learned at T = 1.
CIFAR10_TWO_CORES = Recipe(
    model="msresnet20",
    data="cifar10",
    epochs=34,
    batch_size=128,
    lr=0.2,
    weight_decay=5e-4,
    num_steps=4,
    early_num_steps=1,
    early_epochs=26,
    warmup_epochs=2,
    nesterov=True,
    crop_padding=4,
)
# Simulated recordings of CIFAR-10's pictures, for about five minutes of one CPU core, from blocks
# that know pictures: --model takes what training/from_pictures.py wrote.
EVENTS_ONE_CORE = Recipe(
    model="msresnet20_dvs",
    data="cifar10-events",
    epochs=5,
    batch_size=64,
    lr=0.05,
    weight_decay=5e-4,
    num_steps=2,
    early_num_steps=1,
    early_epochs=4,
    warmup_epochs=0.25,
    nesterov=True,
)

RECIPES = {
    "paper-imagenet": PAPER_IMAGENET,
    "paper-cifar10": PAPER_CIFAR10,
    "cifar10-two-cores": CIFAR10_TWO_CORES,
    "events-one-core": EVENTS_ONE_CORE,
}
