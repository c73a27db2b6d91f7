import json

import pytest
import torch
from case import SMALL
from huggingface_hub.errors import HfHubHTTPError

import msr_zoo


def test_pushed_model_comes_back_by_its_name(server, made):
    model = made[1]
    card = "---\nlicense: apache-2.0\n---\n# pushed"
    pushed = {"full_precision": True, "token": server.token, "private": True}
    url = msr_zoo.push_to_hub(model, "pushed", card=card, **pushed)
    assert url.startswith(f"{server.url}/me/pushed/commit/")
    asked = server.repositories["me/pushed"]
    assert asked.get("visibility") == "private" or asked.get("private")  # before client 2.0
    assert server.commits == ["Add model"]
    files = {"README.md", "config.json", "model.safetensors"}
    assert server.files.keys() == {f"me/pushed/{name}" for name in files}
    assert server.files["me/pushed/README.md"].decode() == card
    assert json.loads(server.files["me/pushed/config.json"])["spiking"]["T"] == 3

    again = msr_zoo.create_model("hf-hub:me/pushed", pretrained=True).eval()
    picture = torch.rand(2, 3, 16, 16)
    assert torch.equal(again(picture), model(picture))


def test_pushing_again_commits_to_the_same_repository(server):
    for seed in range(2):
        torch.manual_seed(seed)
        model = msr_zoo.create_model("msresnet20", **SMALL)
        message = f"Seed {seed}"
        msr_zoo.push_to_hub(
            model, "pushed", card="", token=server.token, commit_message=message
        )
    assert list(server.repositories) == ["me/pushed"]
    assert server.commits == ["Seed 0", "Seed 1"]


def test_a_token_that_may_not_write_uploads_nothing(server):
    model = msr_zoo.create_model("msresnet20", **SMALL)
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        msr_zoo.push_to_hub(model, "pushed", card="", token="hf_read")
    assert not server.files
    assert not server.repositories
