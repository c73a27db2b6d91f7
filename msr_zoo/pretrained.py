"""Where weights come from: the wheel, a mirror, the Hub; their digests and their keys."""

import hashlib
import http.client
import os
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from huggingface_hub.errors import (
    EntryNotFoundError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from safetensors import SafetensorError, safe_open
from timm.models import PretrainedCfg
from torch import Tensor, nn
from tqdm import tqdm

WEIGHTS_NAME = "model.safetensors"
WHEEL = Path(__file__).parent / "weights"
MIRROR = "MSR_ZOO_MIRROR"


class WeightsError(RuntimeError):
    """Weights that are absent, swapped or not safetensors, said in a sentence or two."""


def locate(
    cfg: PretrainedCfg, ours: str, sha256: str | None, cache_dir: str | Path | None = None
) -> Path | None:
    """The checked safetensors file that `cfg` stands for, or None if it names none.

    `ours` is the name of the tag whose weights these are, empty if the caller names a source.
    """
    if cfg.source == "local-dir":
        return _in_folder(Path(str(cfg.file)))
    if cfg.source == "hf-hub":
        return verified(_from_hub(str(cfg.hf_hub_id), WEIGHTS_NAME, cache_dir), sha256)
    if cfg.state_dict:
        return None
    if cfg.file:
        return verified(Path(cfg.file), None)
    if cfg.url:
        return _download(str(cfg.url), None, cache_dir)
    if not cfg.hf_hub_id:
        return None
    if ours:
        return _search(ours, cfg.hf_hub_id, sha256, cache_dir)
    return verified(_from_hub(cfg.hf_hub_id, cfg.hf_hub_filename or WEIGHTS_NAME, cache_dir), None)


def _search(name: str, hub_id: str, sha256: str | None, cache_dir: str | Path | None) -> Path:
    """Look in the wheel, then the mirror, then the Hub; the first file found must be right."""
    file = WHEEL / name / WEIGHTS_NAME
    if file.is_file():
        return verified(file, sha256)
    tried = [f"the wheel ({WHEEL})"]
    if mirror := os.environ.get(MIRROR):
        try:
            if "://" in mirror:
                return _download(f"{mirror.rstrip('/')}/{name}/{WEIGHTS_NAME}", sha256, cache_dir)
            return verified(mirror_folder(mirror) / name / WEIGHTS_NAME, sha256)
        except OSError as error:
            tried.append(f"{MIRROR} ({mirror}: {reason(error)})")
    try:
        file = _from_hub(hub_id, WEIGHTS_NAME, cache_dir)
    except WeightsError as error:
        tried.append(str(error))
        raise WeightsError(
            f"No weights found for {name}: looked in {', '.join(tried)}. Go online, or set "
            f"{MIRROR} to a folder or URL that holds {name}/{WEIGHTS_NAME} (a weights folder "
            f'alone loads as create_model("local-dir:FOLDER", pretrained=True)).'
        ) from error
    return verified(file, sha256)


def mirror_folder(mirror: str) -> Path:
    try:
        return Path(mirror).expanduser()
    except RuntimeError as error:
        raise OSError(f"{MIRROR} is {mirror}, and there is no such home folder") from error


def verified(file: Path, sha256: str | None) -> Path:
    """The same path, once its content is known to be safetensors and to have the digest.

    Raises FileNotFoundError if there is no such file, WeightsError if it is not what it should be.
    """
    if file.suffix != ".safetensors":
        raise WeightsError(f"{file} is not named .safetensors, and only safetensors are loaded.")
    try:
        with safe_open(file, "pt"):
            pass
    except SafetensorError as error:
        # torch.save writes a pickle, in a zip since torch 1.6; reading one can run code.
        with file.open("rb") as stream:
            is_pickle = stream.read(2) in (
                b"PK",
                b"\x80\x02",
                b"\x80\x03",
                b"\x80\x04",
                b"\x80\x05",
            )
        if is_pickle:
            raise WeightsError(f"{file} is a pickle, and only safetensors are loaded.") from None
        raise WeightsError(f"{file} is not a whole safetensors file ({error}).") from error
    if sha256 and (found := digest_of(file)) != sha256:
        raise WeightsError(
            f"{file} has sha256 {found}, but the weights that were published have {sha256}: delete "
            f"it and fetch it from elsewhere."
        )
    return file


def digest_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _in_folder(folder: Path) -> Path:
    try:
        return verified(folder / WEIGHTS_NAME, None)
    except FileNotFoundError:
        raise WeightsError(
            f"{folder} holds no {WEIGHTS_NAME}, and pickles are never loaded."
        ) from None


def _from_hub(hub_id: str, filename: str, cache_dir: str | Path | None) -> Path:
    """Fetch through huggingface_hub, which resumes, caches and respects HF_HUB_OFFLINE."""
    repo_id, _, revision = hub_id.partition("@")
    try:
        return Path(
            huggingface_hub.hf_hub_download(
                repo_id, filename, revision=revision or None, cache_dir=cache_dir
            )
        )
    # The client's transport, and so its exceptions, differ from one of its versions to the next.
    except Exception as error:
        raise WeightsError(f"the Hub ({hub_id}/{filename}: {reason(error)})") from error


def reason(error: Exception) -> str:
    """Why a file was not had, in a few words."""
    if isinstance(error, LocalEntryNotFoundError):
        if huggingface_hub.constants.HF_HUB_OFFLINE:
            return "not in its cache, and HF_HUB_OFFLINE is set"
        return "not in its cache, and not reached"
    if isinstance(error, RepositoryNotFoundError):
        return "no such repository"
    if isinstance(error, EntryNotFoundError):
        return "no such file there"
    if isinstance(error, FileNotFoundError):
        return "not there"
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    return " ".join(str(error).split()) or type(error).__name__


def _download(url: str, sha256: str | None, cache_dir: str | Path | None) -> Path:
    """Fetch a URL once; only a file that is whole and right gets its name in the cache."""
    root = Path(cache_dir) if cache_dir else Path(torch.hub.get_dir()) / "checkpoints"
    file = root / f"msr_zoo-{hashlib.sha256(url.encode()).hexdigest()[:16]}" / WEIGHTS_NAME
    if file.is_file():
        return verified(file, sha256)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{os.getpid()}-{threading.get_ident()}.part.safetensors")
    try:
        with urllib.request.urlopen(url, timeout=30) as response, part.open("wb") as stream:
            size = int(response.headers.get("Content-Length", 0))
            # The bar shows on a terminal only.
            with tqdm.wrapattr(response, "read", total=size, disable=None, desc=url) as body:
                shutil.copyfileobj(body, stream)
        verified(part, sha256)
        part.replace(file)
    except WeightsError as error:
        raise WeightsError(f"{url}: {error}") from error
    # Of a URL that is none, or of broken HTTP.
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"{url}: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return file


def config_beside(place: str | Path | None) -> tuple[Path, bytes] | None:
    """The config.json beside weights, or in a folder of them; None where there is none."""
    if not place:
        return None
    weights = Path(place)
    file = (weights if weights.is_dir() else weights.parent) / "config.json"
    return (file, file.read_bytes()) if file.is_file() else None


def check_data(model: nn.Module) -> None:
    """Raise ValueError where a tensor has a shape and no more."""
    for key, tensor in model.state_dict().items():
        if tensor.is_meta:
            raise ValueError(f"{key} has no data: it is on the meta device, or an engine has it")


def check_keys(state_dict: Mapping[str, Tensor], model: Any) -> Mapping[str, Tensor]:
    """timm's `pretrained_filter_fn`: every key but the head's must be there, and no other.

    timm itself loads non-strictly once `num_classes` differs or with `features_only`, and a missing
    stage would then keep its random weights in silence.
    """
    cfg = model.pretrained_cfg
    head = {f"{cfg['classifier']}.{kind}" for kind in ("weight", "bias")}
    wanted = model.state_dict().keys() - head
    found = state_dict.keys() - head
    if wanted != found:
        raise RuntimeError(
            f"{cfg.get('file', 'the state dict')} does not fit {cfg['architecture']}: "
            f"missing {sorted(wanted - found)}, unexpected {sorted(found - wanted)}"
        )
    return state_dict
