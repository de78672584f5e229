"""The battery of objectives, over every built-in, and over ones that break it."""

from __future__ import annotations

import pytest

from agl import registry
from agl.errors import UserError
from agl.testing import check_objective


@pytest.mark.parametrize("name", registry.names("objective"))
def test_every_objective_keeps_the_contract(name: str) -> None:
    check_objective(registry.find("objective", name))


def test_options_are_passed_on() -> None:
    def shared(primary, auxiliary, weights, *, strength=1.0, share=0.5):
        return primary.mean() + share * strength * (weights * auxiliary).sum()

    check_objective(shared, share=0.1)
    with pytest.raises(AssertionError, match="Expected every primary gene to count"):
        check_objective(lambda p, a, w, *, strength=1.0: p[0] + (w * a).sum())


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda p, a, w, *, strength=1.0: p, AssertionError),
        (lambda p, a, w, *, strength=1.0: p.mean() + a.mean(), AssertionError),
        (lambda p, a, w, *, strength=1.0: p.square().mean() + (w * a).sum(), UserError),
        (lambda p, a, w, *, strength=1.0: p.mean() + (w * a).sum() / (strength * w.sum()), AssertionError),
    ],
)
def test_broken_ones_are_caught(wrong, error) -> None:
    with pytest.raises(error):
        check_objective(wrong)
