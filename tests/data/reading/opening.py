"""A good h5ad, and the sentence that both commands say of what became of it."""

from __future__ import annotations

import pytest

from agl.data.checking.doctor import check
from agl.data.dataset import open_dataset
from agl.errors import UserError


@pytest.fixture
def section(tmp_path, make_slide, write_h5ad):
    """The path of a good h5ad in a folder of its own."""
    return write_h5ad(tmp_path / "data" / "S1.h5ad", make_slide("S1"))


def said(path):
    """The sentence of `open_dataset`, which `check` must say too."""
    with pytest.raises(UserError) as caught:
        open_dataset(path, features="none")
    message = str(caught.value)
    assert "\n" not in message
    assert message in [f.message for f in check(path).findings if f.level == "error"]
    return message
