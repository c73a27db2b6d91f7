"""What the engine is compared with; of the contestants of a group, the fastest counts."""

from typing import Any

GROUPS = {
    "torch, float32": ("torch, float32",),
    "bare convolutions, float32": ("bare convolutions, float32",),
    "bare convolutions, bfloat16": ("bare convolutions, bfloat16",),
    "SpikingJelly, eager": ("SpikingJelly, float32", "SpikingJelly, BN folded, bfloat16"),
    "SpikingJelly, compiled": (
        "SpikingJelly, BN folded, compiled, float32",
        "SpikingJelly, BN folded, compiled, bfloat16",
        "SpikingJelly, BN folded, compiled by block, float32",
        "SpikingJelly, BN folded, compiled by block, bfloat16",
    ),
    "non-spiking twin, float32": ("non-spiking twin, float32",),
    "non-spiking twin, bfloat16": ("non-spiking twin, bfloat16",),
    "twin's bare convolutions, int8": ("twin's bare convolutions, int8",),
}


def fastest(row: dict[str, Any], group: str) -> float | None:
    """Milliseconds of the fastest contestant of a group that was measured."""
    times = [row["times"][name]["median_ms"] for name in GROUPS[group] if name in row["times"]]
    return min(times, default=None)


def ratios(row: dict[str, Any], engine: str) -> dict[str, float]:
    """The engine's time over that of the fastest in each group."""
    best = {group: fastest(row, group) for group in GROUPS}
    mine = row["times"][engine]["median_ms"]
    return {group: round(mine / ms, 3) for group, ms in best.items() if ms}
