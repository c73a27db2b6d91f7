"""MS-ResNet (Hu et al., TNNLS 2024, arXiv 2112.08954): block, network, variants."""

from collections.abc import Callable
from typing import Any

import torch
from timm.layers import DropPath, SelectAdaptivePool2d, create_classifier
from timm.models import register_model
from timm.models._features import feature_take_indices
from timm.models._manipulate import checkpoint
from torch import Tensor, nn

from msr_zoo.kernels.spike_conv import SpikeConv2d
from msr_zoo.models import tags
from msr_zoo.models.build import build
from msr_zoo.neurons import DECAY, LIF, THRESHOLD

__all__ = ["MSBlock", "MSResNet"]


def fold(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Run a layer without memory on (T, B, ...) with the steps folded into the batch."""
    return layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class MSBlock(nn.Module):
    """LIF → conv3×3 → BN → LIF → conv3×3 → BN, plus a shortcut that carries potentials."""

    # conv1, conv2 and the shortcut's: those that see only spikes keep a bit of each for backward.
    convs: tuple[type[nn.Conv2d], ...] = (SpikeConv2d, SpikeConv2d, nn.Conv2d)

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        *,
        pool_shortcut: bool = False,
        drop_path: float = 0.0,
        neuron: Callable[[], nn.Module] = LIF,
    ) -> None:
        super().__init__()
        conv1, conv2, conv3 = self.convs
        self.lif1 = neuron()
        self.conv1 = conv1(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.lif2 = neuron()
        self.conv2 = conv2(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.shortcut = shortcut(in_channels, channels, stride, pool_shortcut, conv3)

    def forward(self, x: Tensor, num_steps: int) -> Tensor:
        """Potentials (T, B, C, H, W) in and out; (1, B, C, H, W) in if constant in time."""
        # What is constant in time passes the shortcut once; only spikes differ from step to step.
        branch = self.branch(x.expand(num_steps, -1, -1, -1, -1))
        # The shortcut adds potentials, and no LIF follows the addition (eq. 9 of the paper).
        return branch + fold(self.shortcut, x)

    def init_weights(self, zero_init_last: bool) -> None:
        if zero_init_last:
            nn.init.zeros_(self.bn2.weight)

    def branch(self, x: Tensor) -> Tensor:
        x = fold(lambda s: self.bn1(self.conv1(s)), self.lif1(x))
        return self.dropped(fold(lambda s: self.bn2(self.conv2(s)), self.lif2(x)))

    def dropped(self, x: Tensor) -> Tensor:
        """Drop a sample at all its steps or at none."""
        dropped: Tensor = self.drop_path(x.transpose(0, 1)).transpose(0, 1)
        return dropped


def shortcut(
    in_channels: int, channels: int, stride: int, pool: bool, conv: type[nn.Conv2d]
) -> nn.Module:
    """Identity, or a convolution that meets the new size and channel count."""
    if stride == 1 and in_channels == channels:
        return nn.Identity()
    meet = conv(in_channels, channels, 1, 1 if pool else stride, bias=False)
    layers: list[nn.Module] = [meet, nn.BatchNorm2d(channels)]
    if pool:
        layers.insert(0, nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False))
    return nn.Sequential(*layers)


def _stem(kind: str, in_chans: int, channels: int) -> nn.Sequential:
    def conv(before: int, kernel: int, stride: int, bias: bool = False) -> nn.Conv2d:
        return nn.Conv2d(before, channels, kernel, stride, kernel // 2, bias=bias)

    layers: dict[str, list[nn.Module]] = {
        "7x7": [conv(in_chans, 7, 2)],
        "3x3": [conv(in_chans, 3, 1)],
        "3x3s2": [conv(in_chans, 3, 2)],
        # The authors put nothing between these three convolutions.
        "deep": [
            conv(in_chans, 3, 2, bias=True),
            conv(channels, 3, 1, bias=True),
            conv(channels, 3, 1, bias=True),
        ],
    }
    return nn.Sequential(*layers[kind], nn.BatchNorm2d(channels))


class MSResNet(nn.Module):
    """A deep residual spiking network whose shortcuts carry potentials.

    Takes still pictures (B, C, H, W), shown at each of `num_steps` steps, or event frames and
    videos (B, T, C, H, W), which bring their own T. No state is kept between calls.
    """

    block: type[MSBlock] = MSBlock
    bn_scale = 0.5

    def __init__(
        self,
        depths: tuple[int, ...],
        channels: tuple[int, ...],
        *,
        stem: str = "7x7",
        first_stride: int = 2,
        pool_shortcut: bool = False,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        num_steps: int = 6,
        decay: float = DECAY,
        threshold: float = THRESHOLD,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        zero_init_last: bool = True,
    ) -> None:
        super().__init__()
        if num_steps < 1 or num_steps % 1:
            raise ValueError(f"num_steps must be a whole number of at least 1, got {num_steps}")
        if not len(depths) == len(channels) > 0:
            raise ValueError(f"depths {depths} and channels {channels} must be of the same stages")
        self.in_chans = in_chans
        self.num_steps = int(num_steps)
        self.decay = decay
        self.threshold = threshold
        self.drop_rate = drop_rate
        self.grad_checkpointing = False
        self.num_features = channels[-1]

        self.stem = _stem(stem, in_chans, channels[0])
        reduction = 1 if stem == "3x3" else 2
        self.feature_info: list[dict[str, Any]] = [
            {"num_chs": channels[0], "reduction": reduction, "module": "stem"}
        ]
        last = max(1, sum(depths) - 1)
        rates = iter(drop_path_rate * n / last for n in range(sum(depths)))
        before = channels[0]
        self.stages: list[str] = []
        for index, (depth, width) in enumerate(zip(depths, channels, strict=True), start=1):
            stride = first_stride if index == 1 else 2
            stage = []
            for i in range(depth):
                stage.append(
                    self.block(
                        before,
                        width,
                        stride if i == 0 else 1,
                        pool_shortcut=pool_shortcut,
                        drop_path=next(rates),
                        neuron=self._neuron,
                    )
                )
                before = width
            reduction *= stride
            name = f"layer{index}"
            self.add_module(name, nn.ModuleList(stage))
            self.stages.append(name)
            self.feature_info.append({"num_chs": width, "reduction": reduction, "module": name})
        self.lif = self._neuron()
        self.reset_classifier(num_classes, global_pool)
        self.init_weights(zero_init_last)

    def _neuron(self) -> nn.Module:
        return LIF(self.decay, self.threshold)

    def init_weights(self, zero_init_last: bool = True) -> None:
        """He initialisation for convolutions; tdBN scales of 0.5, and 0 at the end of a branch."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.constant_(module.weight, self.bn_scale)
        for module in self.modules():
            if isinstance(module, MSBlock):
                module.init_weights(zero_init_last)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        return {"stem": r"^stem", "blocks": r"^layer(\d+)" if coarse else r"^layer(\d+)\.(\d+)"}

    def no_weight_decay(self) -> set[str]:
        return set()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.grad_checkpointing = enable

    def get_classifier(self) -> nn.Module:
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        self.num_classes = num_classes
        getattr(self, "pretrained_cfg", {}).pop("label_names", None)  # of the classes it had
        pool = self.global_pool.pool_type if global_pool is None else global_pool
        self.global_pool: SelectAdaptivePool2d
        self.fc: nn.Module
        like = next(self.parameters())
        self.global_pool, self.fc = create_classifier(
            self.num_features, num_classes, pool, device=like.device, dtype=like.dtype
        )
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()
        self.global_pool.train(self.training)
        self.fc.train(self.training)

    def _before_blocks(self, x: Tensor, stem: nn.Module | None = None) -> tuple[Tensor, int]:
        """The first block's input, (1, B, C, H, W) if constant in time, and the number of steps."""
        stem = self.stem if stem is None else stem  # the engine's leaves its last norm out
        if x.dim() not in (4, 5) or x.shape[-3] != self.in_chans:
            raise ValueError(
                f"input must be (B, {self.in_chans}, H, W) or (B, T, {self.in_chans}, H, W), "
                f"got {tuple(x.shape)}"
            )
        if x.dim() == 4:
            return stem(x).unsqueeze(0), self.num_steps
        if x.shape[1] == 0:
            raise ValueError(f"input needs at least one step, got {tuple(x.shape)}")
        return fold(stem, x.transpose(0, 1)), x.shape[1]

    def _stage(self, name: str, x: Tensor, num_steps: int) -> Tensor:
        for block in self.get_submodule(name).children():
            args = (x, num_steps)
            x = checkpoint(block, *args) if self.grad_checkpointing else block(*args)
        return x

    def _spikes(self, x: Tensor) -> Tensor:
        """Spikes (T, B, C, H, W) of the last LIF."""
        x, num_steps = self._before_blocks(x)
        for name in self.stages:
            x = self._stage(name, x, num_steps)
        return self._after_blocks(x, num_steps)

    def _after_blocks(self, x: Tensor, num_steps: int) -> Tensor:
        return self.lif(x.expand(num_steps, -1, -1, -1, -1))

    def forward_features(self, x: Tensor) -> Tensor:
        """Firing rates of the last LIF (B, C, H, W): its spikes averaged over the steps."""
        return self._spikes(x).mean(0)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.global_pool(x)
        if self.drop_rate:
            x = nn.functional.dropout(x, p=self.drop_rate, training=self.training)
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_steps(self, x: Tensor, cumulative: bool = True) -> Tensor:
        """Logits (T, B, classes) as they stand after each step; the last are those of `forward`.

        Not cumulative, they are of each step's own spikes, and their mean is what `forward` gives.
        """
        return self.head_steps(self._spikes(x), cumulative)

    def head_steps(self, spikes: Tensor, cumulative: bool = True) -> Tensor:
        """Those logits from the spikes (T, B, C, H, W) of the last LIF."""
        if cumulative:
            steps = torch.arange(1, len(spikes) + 1, device=spikes.device).view(-1, 1, 1, 1, 1)
            spikes = spikes.cumsum(0) / steps
        return fold(self.forward_head, spikes)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Potentials (B, C, H, W) after the stem (index 0) and each stage, averaged over T.

        `norm` asks for the firing rates of neurons that would see these potentials.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt must be NCHW, got {output_fmt}")
        wanted, last = feature_take_indices(len(self.feature_info), indices)
        x, num_steps = self._before_blocks(x)
        intermediates = []
        for index in range(len(self.stages) + 1):
            if stop_early and index > last:
                break
            if index > 0:
                x = self._stage(self.stages[index - 1], x, num_steps)
            if index in wanted:
                intermediates.append((self._after_blocks(x, num_steps) if norm else x).mean(0))
        if intermediates_only:
            return intermediates
        return self._after_blocks(x, num_steps).mean(0), intermediates

    def prune_intermediate_layers(
        self,
        indices: int | list[int] = 1,
        prune_norm: bool = False,
        prune_head: bool = True,
    ) -> list[int]:
        """Drop the stages after the last index; gives the indices that are kept."""
        wanted, last = feature_take_indices(len(self.feature_info), indices)
        for name in self.stages[last:]:
            delattr(self, name)
        del self.stages[last:]
        if prune_norm:
            self.lif = nn.Identity()
        pruned = last < len(self.feature_info) - 1
        if pruned:
            self.num_features = self.feature_info[last]["num_chs"]
        if prune_head or pruned:
            self.reset_classifier(0, "")
        return wanted


default_cfgs = tags.default_cfgs("msresnet")

IMAGENET = {"channels": (64, 128, 256, 512)}
CIFAR = {"channels": (16, 32, 64), "stem": "3x3", "first_stride": 1}


def _create(variant: str, pretrained: bool, **kwargs: Any) -> MSResNet:
    model: MSResNet = build(MSResNet, variant, pretrained, **kwargs)
    return model


@register_model
def msresnet18(pretrained: bool = False, **kwargs: Any) -> MSResNet:
    """MS-ResNet-18 for 224 px pictures."""
    return _create("msresnet18", pretrained, **{"depths": (2, 2, 2, 2), **IMAGENET, **kwargs})


@register_model
def msresnet34(pretrained: bool = False, **kwargs: Any) -> MSResNet:
    """MS-ResNet-34 for 224 px pictures."""
    return _create("msresnet34", pretrained, **{"depths": (3, 4, 6, 3), **IMAGENET, **kwargs})


@register_model
def msresnet104(pretrained: bool = False, **kwargs: Any) -> MSResNet:
    """MS-ResNet-104 for 224 or 288 px pictures: a deep stem, and shortcuts that pool."""
    args = {"depths": (3, 8, 32, 8), **IMAGENET, "stem": "deep", "pool_shortcut": True}
    args = {**args, "drop_rate": 0.2, **kwargs}
    return _create("msresnet104", pretrained, defaults={"num_steps": 5}, **args)


@register_model
def msresnet20(pretrained: bool = False, **kwargs: Any) -> MSResNet:
    """MS-ResNet-20 for 32 px pictures."""
    return _create("msresnet20", pretrained, **{"depths": (3, 3, 3), **CIFAR, **kwargs})


@register_model
def msresnet32(pretrained: bool = False, **kwargs: Any) -> MSResNet:
    """MS-ResNet-32 for 32 px pictures."""
    return _create("msresnet32", pretrained, **{"depths": (5, 5, 5), **CIFAR, **kwargs})


@register_model
def msresnet44(pretrained: bool = False, **kwargs: Any) -> MSResNet:
    """MS-ResNet-44 for 32 px pictures."""
    return _create("msresnet44", pretrained, **{"depths": (7, 7, 7), **CIFAR, **kwargs})


@register_model
def msresnet56(pretrained: bool = False, **kwargs: Any) -> MSResNet:
    """MS-ResNet-56 for 32 px pictures."""
    return _create("msresnet56", pretrained, **{"depths": (9, 9, 9), **CIFAR, **kwargs})


@register_model
def msresnet110(pretrained: bool = False, **kwargs: Any) -> MSResNet:
    """MS-ResNet-110 for 32 px pictures."""
    return _create("msresnet110", pretrained, **{"depths": (18, 18, 18), **CIFAR, **kwargs})


@register_model
def msresnet482(pretrained: bool = False, **kwargs: Any) -> MSResNet:
    """MS-ResNet-482 for 32 px pictures."""
    return _create("msresnet482", pretrained, **{"depths": (80, 80, 80), **CIFAR, **kwargs})


@register_model
def msresnet20_dvs(pretrained: bool = False, **kwargs: Any) -> MSResNet:
    """MS-ResNet-20 for 128 px event frames of two polarities."""
    args = {"depths": (3, 3, 3), "channels": (16, 32, 64), "stem": "3x3s2"}
    return _create("msresnet20_dvs", pretrained, defaults={"num_steps": 10}, **{**args, **kwargs})
