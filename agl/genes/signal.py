"""What a selector may learn from, see `agl.genes.selectors.base.Selector`."""

from __future__ import annotations

from typing import Literal

Signal = Literal["hypergradient", "influence", "similarity", "losses"]
