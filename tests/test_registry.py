"""Every built-in can be found, described and checked; a user's own file is as good."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from agl import registry
from agl.builtins import WHERE
from agl.catalogue import catalogue
from agl.config import Component
from agl.errors import UserError

BUILT_IN = [(kind, name) for kind in WHERE for name in registry.names(kind)]


@pytest.mark.parametrize(("kind", "name"), BUILT_IN)
def test_built_ins_are_where_the_table_says_and_say_what_they_are(kind: str, name: str) -> None:
    assert callable(registry.find(kind, name))
    assert len(catalogue(kind)[name]["summary"]) > 10


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    file = tmp_path / "mine.py"
    file.write_text(
        "def tweedie(scores, counts, *, slides=None, power=1.5, label='a'):\n    return power\n\nNOTHING = 3\n"
    )
    return f"{file}:tweedie"


def test_a_function_in_a_file_is_a_component(plugin: str) -> None:
    component = Component.model_validate({"name": plugin, "power": 1.3})
    loss = registry.bind("loss", component)
    assert loss(None, None) == 1.3
    assert registry.complete("loss", component).args == {"power": 1.3, "label": "a"}
    assert registry.build("loss", component, 1, 2, slides=3, unused=4) == 1.3


def test_a_files_content_is_part_of_the_digest(plugin: str, tmp_path: Path) -> None:
    before = registry.file_digests([Component(name=plugin)])
    (tmp_path / "mine.py").write_text("def tweedie(scores, counts): return 2\n")
    assert registry.file_digests([Component(name=plugin)]) != before
    assert registry.file_digests([Component(name="listwise")]) == {}


@pytest.mark.parametrize(
    ("name", "args", "ending"),
    [
        ("listwse", {}, "Did you mean 'listwise'? Your own: path/to/file.py:name or package.module:name."),
        ("nowhere.py:f", {}, "there is no such file."),
        ("no_such_module_x:f", {}, "received 'no_such_module_x': there is none."),
        ("{file}:twedie", {}, "Did you mean 'tweedie'?"),
        ("{file}:NOTHING", {}, "Known: tweedie."),
        ("{file}:tweedie", {"powr": 1}, "takes no argument 'powr'. Did you mean 'power'?"),
        ("{file}:tweedie", {"slides": 1}, "tweedie'. Leave it out."),
    ],
)
def test_mistakes_get_one_sentence(name: str, args: dict, ending: str, plugin: str) -> None:
    component = Component.model_validate({"name": name.replace("{file}:", plugin.rpartition(":")[0] + ":"), **args})
    with pytest.raises(UserError) as caught:
        registry.bind("loss", component)
    assert str(caught.value).endswith(ending), str(caught.value)


def test_a_word_that_another_kind_is_given_is_an_option_of_this_one(tmp_path: Path) -> None:
    """An engine is given `warm` by the framework; a loss may have an option of that name."""
    file = tmp_path / "mine.py"
    file.write_text("def heated(scores, counts, *, warm=0.0):\n    return warm + 0 * scores.sum(0)\n")
    loss = registry.bind("loss", Component.model_validate({"name": f"{file}:heated", "warm": 0.5}))
    assert loss(torch.zeros(2, 1), torch.zeros(2, 1)).tolist() == [0.5]


def test_a_file_that_fails_on_import_says_so(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("import no_such_package_y\n")
    with pytest.raises(UserError, match="could not be imported: ModuleNotFoundError"):
        registry.find("loss", f"{file}:f")


def test_kinds_have_plural_words_and_unknown_kinds_a_hint() -> None:
    assert registry.names("losses") == registry.names("loss")
    assert registry.names("gene-sets") == registry.names("gene_set")
    with pytest.raises(UserError, match="Did you mean 'loss'"):
        registry.names("lss")
