"""Batches of simulated event recordings: pictures that move before a simulated camera.

Everything is drawn anew for every picture and epoch: how it moves, and for every few pictures what
the camera is like. Ranges were chosen by the real recordings of dvs128-objects in windows of
100 ms; results/event_statistics.json has both side by side.
"""

import math
from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from msr_zoo.event_input import EventInput
from msr_zoo.events import normalized
from msr_zoo.events.simulate import CHUNK, Sensor, simulate_frames
from pictures import Pictures
from recipes import Recipe
from seeds import seeded

# Pictures of 32 px at one and a half times their size, so that their objects are about as large as
# hand-held ones before a camera of 128 px, at a seventh of the cost of its whole field of view.
SIZE = (48, 48)
DURATION_US = 100_000
INTERVALS = 4  # between instants, at least: the fastest picture moves 2.5 px in one
GAMMA = 2.2  # of the pictures, whose light moves before the camera


def event_input(num_steps: int) -> EventInput:
    """How a recording becomes what a network saw in these batches."""
    return EventInput(window_us=DURATION_US, num_steps=num_steps, size=SIZE)


def draw_maps(batch: int, instants: int, generator: Generator) -> Tensor:
    """Draw motions (B, instants, 2, 3), as `simulate_frames` takes them, along arcs.

    A picture is up to 5 px from the centre half way, and moves 1.5 to 10 px in the whole time,
    turning by up to a quarter of a circle; it is tilted by up to 15° and 3° more, is 0.8 to 1.3
    times SIZE, and may be mirrored.
    """

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(batch, 1).uniform_(low, high, generator=generator)

    part = torch.linspace(0, 1, instants)
    stride = uniform(math.log(1.5), math.log(10)).exp() / (instants - 1) * 2 / SIZE[0]
    heading = uniform(-math.pi, math.pi) + uniform(-math.pi / 2, math.pi / 2) * part
    way = torch.stack([heading.cos(), heading.sin()], -1) * stride[..., None]
    start = torch.stack([uniform(-5, 5), uniform(-5, 5)], -1) * 2 / SIZE[0]
    place = start + way.cumsum(1) - way.sum(1, keepdim=True) / 2  # (B, instants, 2)
    tilt = uniform(-15, 15) * math.pi / 180 + uniform(-3, 3) * math.pi / 180 * part
    zoom = uniform(math.log(0.8), math.log(1.3)).exp()
    mirror = uniform(-1, 1).sign()
    cos, sin = tilt.cos() / zoom, tilt.sin() / zoom
    turn = torch.stack([cos * mirror, -sin * mirror, sin, cos], -1).unflatten(-1, (2, 2))
    return torch.cat([turn, -(turn @ place[..., None])], -1)


def draw_sensor(generator: Generator) -> Sensor:
    """Draw a camera: thresholds of 0.25 to 0.75, lower for brighter, with mismatch and noise."""
    first, second, third = torch.rand(3, generator=generator).tolist()
    threshold = 0.25 * 3**first
    return Sensor(
        on_threshold=threshold * (0.6 + 0.4 * second),
        off_threshold=threshold,
        mismatch=0.1 * threshold,
        leak_hz=0.05,
        shot_hz=0.5 * third,
    )


class SimulatedEvents:
    """One split of pictures (N, H, W, C), as normalised event frames (B, T, 2, H, W)."""

    def __init__(
        self,
        recipe: Recipe,
        pictures: Pictures,
        train: bool,
        device: torch.device,
        rank: int,
        world: int,
    ) -> None:
        self.recipe, self.train, self.rank, self.world = recipe, train, rank, world
        self.split, self.classes = pictures.split, pictures.classes
        self.num_pictures = len(pictures.labels)
        self.images = torch.from_numpy(pictures.images)
        self.labels = torch.from_numpy(pictures.labels)
        self.device = device

    def __len__(self) -> int:
        batch = self.recipe.batch_size
        return self.num_pictures // batch if self.train else -(-self.num_pictures // batch)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Simulate batch by batch; the test split moves before the same cameras in every epoch."""
        steps = self.recipe.phase(epoch).num_steps
        order = torch.arange(self.num_pictures)
        if self.train:
            order = torch.randperm(self.num_pictures, generator=seeded(self.recipe.seed, epoch))
        for batch in range(first, len(self)):
            start = batch * self.recipe.batch_size
            chosen = order[start : start + self.recipe.batch_size][self.rank :: self.world]
            seed = (self.recipe.seed, epoch, batch, self.rank) if self.train else (0, 0, batch, -1)
            generator = seeded(*seed)
            frames = [recorded(self.images[few], steps, generator) for few in chosen.split(CHUNK)]
            yield torch.cat(frames).to(self.device), self.labels[chosen].to(self.device)


def recorded(images: Tensor, steps: int, generator: Generator) -> Tensor:
    """Move pictures, uint8 (B, H, W, C), before one camera: normalised (B, T, 2, *SIZE)."""
    return normalized(counted(images, steps, generator))


def counted(images: Tensor, steps: int, generator: Generator) -> Tensor:
    """The counts of the same."""
    luma = images.float() @ torch.tensor([0.299, 0.587, 0.114])
    light = (luma / 255).clamp_(0, 1) ** GAMMA
    return simulate_frames(
        light,
        draw_maps(len(images), max(INTERVALS // steps, 2) * steps + 1, generator),
        duration_us=DURATION_US,
        size=SIZE,
        steps=steps,
        sensor=draw_sensor(generator),
        generator=generator,
    )
