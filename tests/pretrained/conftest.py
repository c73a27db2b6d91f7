import huggingface_hub
import pytest
from case import NAME, SMALL, register
from hub_server import hub_server

import msr_zoo
from msr_zoo import hub, pretrained


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A weights folder, made at other settings than the variant's, and the model in it."""
    model = msr_zoo.create_model(
        "msresnet20", **SMALL, num_steps=3, decay=0.5, threshold=0.75, zero_init_last=False
    )
    folder = tmp_path_factory.mktemp("made") / NAME
    hub.save_pretrained(model, folder, card="# test", full_precision=True)
    return folder, model.eval()


@pytest.fixture
def weights(made, monkeypatch):
    folder, _ = made
    register(monkeypatch, pretrained.digest_of(folder / "model.safetensors"))
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture
def server(monkeypatch, tmp_path):
    """The Hub that huggingface_hub's client knows: its address is a constant read at import."""
    constants = huggingface_hub.constants
    monkeypatch.delenv("MSR_ZOO_MIRROR", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with hub_server() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server
