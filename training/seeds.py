"""Generators for what is drawn in training."""

from torch import Generator


def seeded(*seed: int) -> Generator:
    """A generator that depends on the numbers alone, so that a resumed run repeats itself."""
    mixed = 0
    for part in seed:
        mixed = (mixed * 1_000_003 + part + 1) % 2**63
    return Generator().manual_seed(mixed)
