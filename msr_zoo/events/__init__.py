"""Event cameras: recordings, their tensors, data sets and augmentations."""

from .augment import Augmentation, event_mix
from .folder import EventFolder, Holdout
from .frames import around_median, normalized, to_frames, without_hot_pixels
from .read import read_events
from .stream import DamagedRecordingWarning, Events, RecordingError
from .windows import Window, cut

__all__ = [
    "Augmentation",
    "DamagedRecordingWarning",
    "EventFolder",
    "Events",
    "Holdout",
    "RecordingError",
    "Window",
    "around_median",
    "cut",
    "event_mix",
    "normalized",
    "read_events",
    "to_frames",
    "without_hot_pixels",
]
