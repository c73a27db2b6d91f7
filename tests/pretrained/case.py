"""A tag for tests, its weights, and how they are asked for."""

import dataclasses

import timm
import torch
from safetensors.torch import save
from timm.models import _registry

from msr_zoo.models import tags

NAME = "msresnet20.test"
REPO = f"{tags.HUB_OWNER}/{NAME}"
SMALL = {"depths": (1, 1, 1)}


def register(monkeypatch, sha256):
    """What a line in TAGS does when the package is imported."""
    cifar = tags.default_cfgs("msresnet")["msresnet20"].default
    cfg = {"num_classes": 10, "input_size": cifar.input_size}
    tag = tags.Tag(num_steps=3, decay=0.5, threshold=0.75, sha256=sha256, cfg=cfg)
    monkeypatch.setitem(tags.TAGS, NAME, tag)
    entry = tags.default_cfgs("msresnet")["msresnet20"].cfgs["test"]
    entry = dataclasses.replace(entry, architecture="msresnet20", tag="test")
    monkeypatch.setitem(_registry._model_pretrained_cfgs, NAME, entry)


def load(name=NAME, create_model=timm.create_model, **kwargs):
    return create_model(name, pretrained=True, **{**SMALL, **kwargs}).eval()


def bodies(server):
    """Downloads; the client asks its Hub for other things as well."""
    return [r for r in server.requests if r[0] == "GET" and "/api/" not in r[1]]


def assert_same(model, reference):
    picture = torch.rand(2, 3, 16, 16)
    assert torch.equal(model(picture), reference(picture))


def other_weights(made):
    """Weights that fit as well, but are not those of the tag."""
    state = {key: value + 1 for key, value in made[1].state_dict().items()}
    return save(state)
