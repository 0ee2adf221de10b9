"""The network of the flow model: a U-Net of three levels that knows time and class."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class UNet(nn.Module):
    """Map images, times in [0, 1] and classes to velocities of the images' shape (n, c, h, w).

    Parameters
    ----------
    channels : int
        Of the images.
    width : int
        Channels at the first level; a multiple of 8. The next two have twice as many.
    classes : int
        Number of classes.
    """

    def __init__(self, channels: int, width: int, classes: int) -> None:
        super().__init__()
        told = 4 * width
        self.width = width
        self.label = nn.Embedding(classes, told)
        self.time = nn.Sequential(nn.Linear(width, told), nn.SiLU(), nn.Linear(told, told))
        sizes = (width, 2 * width, 2 * width)
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList(
            _Block(a, b, told) for a, b in zip((width, *sizes), sizes, strict=False)
        )
        self.middle = _Block(sizes[2], sizes[2], told)
        self.up = nn.ModuleList(
            _Block(a + skip, b, told)
            for a, skip, b in ((sizes[2], sizes[2], sizes[1]), (sizes[1], sizes[1], width),
                               (width, width, width))
        )  # fmt: skip
        self.last = nn.Sequential(
            nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1)
        )

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        """Give the velocity."""
        told = functional.silu(self.time(_waves(time, self.width)) + self.label(label))
        x = self.first(x)
        passed = []
        for block in self.down:
            x = block(x, told)
            passed.append(x)
            x = functional.avg_pool2d(x, 2)
        x = self.middle(x, told)
        for block in self.up:
            x = functional.interpolate(x, scale_factor=2.0)
            x = block(torch.cat([x, passed.pop()], dim=1), told)
        out: Tensor = self.last(x)
        return out


class _Block(nn.Module):
    def __init__(self, into: int, out: int, told: int) -> None:
        super().__init__()
        self.before = nn.Sequential(
            nn.GroupNorm(8, into), nn.SiLU(), nn.Conv2d(into, out, 3, padding=1)
        )
        self.told = nn.Linear(told, 2 * out)
        self.norm = nn.GroupNorm(8, out)
        self.after = nn.Conv2d(out, out, 3, padding=1)
        self.across = nn.Conv2d(into, out, 1) if into != out else nn.Identity()

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        scale, shift = self.told(told)[:, :, None, None].chunk(2, dim=1)
        h = self.norm(self.before(x)) * (1 + scale) + shift
        out: Tensor = self.across(x) + self.after(functional.silu(h))
        return out


def _waves(time: Tensor, width: int) -> Tensor:
    frequencies = torch.exp(
        torch.arange(width // 2, device=time.device) * (-math.log(1000) / (width // 2))
    )
    angles = 1000 * time[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
