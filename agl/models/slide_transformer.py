"""Attention over all spots of a slide: what a spot shows, seen beside what every other spot shows and where it lies."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from agl.models.predictor import Predictor, Standardise

OCTAVES = 5  # of sines of a place, from two slides' width to a sixteenth of it


class SlideTransformer(Predictor):
    """Features + embedded place -> blocks of attention over the spots of one slide -> one linear head per gene.

    Source: HisToGene (Pang et al. 2021, bioRxiv 2021.11.28.470212), which attends over the patches of a section.
    Departures: features of an encoder in place of flattened pixels; places enter as sines of the distance from the
    slide's middle, not as one of 64 learned rows and columns, so that slides may be of any size; a block normalises
    before it attends, which trains without a warm-up; any loss.

    A batch is a slide: train with `training.sampler=slides`. Spots of the slide that are not asked for (those of
    another part of the split) are not attended to. Time grows with the square of a slide's spots.

    Args:
        width: of the hidden features.
        blocks: of attention.
        heads: of attention in each; they divide the width.
        dropout: behind attention and the layers that follow.

    >>> SlideTransformer(n_features=8, n_genes=3, width=16)(torch.zeros(5, 8)).shape
    torch.Size([5, 3])
    """

    places: ClassVar[bool] = True  # the last two features are the spot's place
    whole_slides: ClassVar[bool] = True  # what is scored together is a slide

    def __init__(
        self,
        n_features: int,
        n_genes: int,
        *,
        width: int = 128,
        blocks: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        if n_features < 3:
            raise ValueError(f"Expected a feature and a place, 3 columns or more, received {n_features}.")
        for name, value in (("width", width), ("blocks", blocks), ("heads", heads)):
            if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 1 << 12:
                raise ValueError(f"Expected {name} from 1 to {1 << 12:,}, received {value!r}.")
        if width % heads:
            raise ValueError(f"Expected heads that divide the width {width}, received {heads}.")
        if not 0 <= dropout < 1:
            raise ValueError(f"Expected dropout as a share of a layer, 0 or more and below 1, received {dropout}.")
        layers = [Standardise(n_features), Embedding(n_features - 2, width)]
        stack = [AttentionBlock(width, heads, dropout) for _ in range(blocks)]
        super().__init__(nn.Sequential(*layers, *stack, nn.LayerNorm(width)), width, n_genes)


class Embedding(nn.Module):
    """A spot's features and sines of its place, `[spot, feature + 2]` -> `[spot, width]`."""

    octaves: Tensor

    def __init__(self, n_features: int, width: int) -> None:
        super().__init__()
        self.shown = nn.Linear(n_features, width)
        self.place = nn.Linear(4 * OCTAVES, width, bias=False)
        self.register_buffer("octaves", math.pi / 4 * 2.0 ** torch.arange(OCTAVES), persistent=False)

    def forward(self, spots: Tensor) -> Tensor:
        """Hidden features."""
        angles = (spots[:, -2:, None] * self.octaves.to(spots)).flatten(1)
        hidden: Tensor = self.shown(spots[:, :-2]) + self.place(torch.cat([angles.sin(), angles.cos()], dim=1))
        return hidden


class AttentionBlock(nn.Module):
    """h + attention(h), then h + layers(h), each of h normalised; every spot attends to every other one."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.behind = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ask, self.answer = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.layers = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """`[spot, width]` -> `[spot, width]`."""
        parts = self.ask(self.before(hidden)).view(1, len(hidden), 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each [1, head, spot, width / heads]
        seen = scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape_as(hidden)
        hidden = hidden + self.dropout(self.answer(seen))
        return hidden + self.dropout(self.layers(self.behind(hidden)))
