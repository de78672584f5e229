"""A word in a config imports what says that it is a component, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agl import registry
from agl.config import Component
from agl.errors import UserError
from agl.origins import offered_by

SPY = "import pathlib\npathlib.Path({mark!r}).touch()\n"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write modules that can be imported, and leave a mark when they are."""
    monkeypatch.syspath_prepend(tmp_path)
    mark = tmp_path / "ran"

    def install(name: str, body: str = "") -> Path:
        file = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        for package in file.relative_to(tmp_path).parents[:-1]:
            (tmp_path / package / "__init__.py").write_text(SPY.format(mark=str(mark)))
        file.write_text(SPY.format(mark=str(mark)) + body)
        sys.modules.pop(name, None)
        return mark

    return install


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("os:system", "received 'os', which offers no components"),
        ("builtins:exec", "received 'builtins', which offers no components"),
        ("subprocess:run", "offers no components"),
        ("torch:load", "offers no components"),
        ("agl.runs.files:write_text", "offers no components"),
        ("agl.genes.sets:Path", "found none"),
        ("agl.genes.primary:UserError.with_traceback", "found none"),
        ("agl.estimators.committee:np", "which it has from elsewhere"),
        ("../../etc/passwd:foo", "received '../../etc/passwd': there is none"),
        ("..:foo", "there is none"),
        (":foo", "received '': there is none"),
        ("a b:foo", "there is none"),
        ("os.:x", "there is none"),
        ("os.path.nothing.more:x", "there is none"),
    ],
)
@pytest.mark.parametrize("kind", ["loss", "selector", "plugin"])
def test_what_offers_nothing_is_refused(kind: str, name: str, part: str) -> None:
    with pytest.raises(UserError) as caught:
        registry.find(kind, name)
    assert part in str(caught.value), str(caught.value)


def test_a_module_that_offers_nothing_is_not_even_run(installed) -> None:
    mark = installed("quiet_package.inner.losses", "def mine(scores, counts): return scores.mean(0)\n")
    with pytest.raises(UserError, match='Write AGL_COMPONENTS = \\("mine",\\) in it'):
        registry.find("loss", "quiet_package.inner.losses:mine")
    assert not mark.exists(), "looking must not run"
    assert "quiet_package" not in sys.modules


def test_a_module_that_offers_is_a_component(installed) -> None:
    body = 'AGL_COMPONENTS = ("mine",)\ndef mine(scores, counts, *, power=1.5): return power\ndef other(): ...\n'
    mark = installed("offering_package.losses", body)
    assert offered_by("offering_package.losses") == ("mine",)
    assert not mark.exists()
    assert registry.complete("loss", Component(name="offering_package.losses:mine")).args == {"power": 1.5}
    assert mark.exists()
    with pytest.raises(UserError, match="which offers mine"):
        registry.find("loss", "offering_package.losses:other")


def test_a_list_of_offers_that_is_made_by_running_is_none(installed) -> None:
    installed("clever", "AGL_COMPONENTS = tuple(['mine'])\ndef mine(scores, counts): ...\n")
    assert offered_by("clever") == ()
    installed("broken", "AGL_COMPONENTS = ('mine',\n")
    assert offered_by("broken") == ()


def test_an_offering_module_that_fails_says_so(installed) -> None:
    installed("failing", "AGL_COMPONENTS = ('mine',)\nraise OSError('no')\n")
    with pytest.raises(UserError, match="failing could not be imported: OSError: no"):
        registry.find("loss", "failing:mine")


def test_the_modules_of_built_ins_offer_what_they_define() -> None:
    assert callable(registry.find("loss", "strank:negative_binomial_nll"))
    assert callable(registry.find("loss", "agl.papers.hest.protocols:pearson_pooled"))
