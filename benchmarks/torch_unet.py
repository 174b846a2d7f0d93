"""The U-Net of `satmask.models.unet` in PyTorch, for comparison only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def convolve_twice(inside: int, outside: int) -> nn.Sequential:
    """Two 3×3 convolutions, each with batch normalisation and ELU."""
    parts: list[nn.Module] = []
    for channels in (inside, outside):
        parts += [nn.Conv2d(channels, outside, 3, padding=1), nn.BatchNorm2d(outside, eps=1e-3), nn.ELU(inplace=True)]
    return nn.Sequential(*parts)


class UNet(nn.Module):
    """A U-Net from normalised images `(batch, bands, height, width)` to scores before the sigmoid."""

    def __init__(self, bands: int, classes: int, filters: Sequence[int]) -> None:
        super().__init__()
        before = [bands, *filters]
        self.down = nn.ModuleList(map(convolve_twice, before, filters))
        levels = range(len(filters) - 1)
        self.up = nn.ModuleList(
            convolve_twice(filters[level] + filters[level + 1], filters[level]) for level in reversed(levels)
        )
        self.pool, self.grow = nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="nearest")
        self.scores = nn.Conv2d(filters[0], classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of each class."""
        skips = []
        for block in self.down[:-1]:
            x = block(x)
            skips.append(x)
            x = self.pool(x)
        x = self.down[-1](x)
        for block, skip in zip(self.up, reversed(skips), strict=True):
            x = block(torch.cat([self.grow(x), skip], dim=1))
        return self.scores(x)


def bce_dice(scores: torch.Tensor, truth: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy plus soft Dice, weighted a pixel."""
    cross = nn.functional.binary_cross_entropy_with_logits(scores, truth, weight.expand_as(truth))
    probabilities = torch.sigmoid(scores)
    both = (weight * probabilities * truth).sum(dim=(0, 2, 3))
    either = (weight * (probabilities + truth)).sum(dim=(0, 2, 3))
    return cross + (1 - (2 * both + 1) / (either + 1)).mean()
