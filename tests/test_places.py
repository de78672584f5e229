"""Names that stay inside the output folder, and files that end."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from agl.config import load
from agl.errors import UserError
from agl.papers.strank_synthetic.settings import read_study
from agl.places import not_a_file, regular_file, safe_name, shortened

GOOD = [
    "run",
    "recommend/her2st",
    "a.b",
    "..a",
    "50 %",
    "it's",
    'a "b"',
    "<script>alert(1)</script>",
    "ü",
    "🧬👨‍👩‍👧",
    "x" * 255,
]
BAD = {
    "../../x": "leads out of the output folder",
    "a/../../b": "leads out",
    "..": "leads out",
    "/etc/x": "leads out",
    "": "has an empty part",
    "a//b": "has an empty part",
    "a/": "has an empty part",
    ".": "has an empty part",
    "a\nb": "control character U+000A",
    "a\x00b": "control character U+0000",
    "a\x1b[31mb": "control character U+001B",
    "a\u2028b": "control character U+2028",
    "a\udcffb": "control character U+DCFF",
    "x" * 256: "the name is too long",
    "ü" * 128: "the name is too long",
}


@pytest.mark.parametrize("name", GOOD, ids=repr)
def test_a_name_that_may_be_a_folder(name: str, tmp_path: Path) -> None:
    assert safe_name(name, "name") == name
    (tmp_path / name).mkdir(parents=True)
    assert tmp_path in (tmp_path / name).resolve().parents


@pytest.mark.parametrize(("name", "why"), BAD.items(), ids=lambda value: repr(value)[:20])
def test_a_name_that_may_not(name: str, why: str) -> None:
    with pytest.raises(UserError, match=re.escape(why)) as caught:
        safe_name(name, "name")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("read", [load, read_study])
@pytest.mark.parametrize("word", ["name=../../x", "name=/x", 'name="a\\nb"', "name=", 'output="a\\0b"', "output="])
def test_configs_and_studies_refuse_them(read, word: str) -> None:
    with pytest.raises(UserError, match=r"Expected (name|output) as"):
        read([word])


def test_what_is_no_file_that_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = tmp_path / "good"
    good.write_text("x")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "here").symlink_to(tmp_path / "there")
    (tmp_path / "there").symlink_to(tmp_path / "here")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "link").symlink_to(good)
    for name, size in (("holes", 2 << 30), ("small holes", 1 << 20)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    monkeypatch.chdir(tmp_path)  # the address of a socket is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
    said = {
        "good": None,
        "link": None,
        "small holes": None,
        "holes": "it is 2,147,483,648 bytes of empty space, as of a download that has not come",
        "pipe": "it is a pipe",
        "here": "its links lead in a circle",
        "dangling": "there is no such file",
        "nothing": "there is no such file",
        "good/inside": "there is no such file",
        "socket": "it is a device or a socket, not a file",
        "a\0b": "no file can have that name",
        ".": "it is a folder",
        "/dev/zero": "it is a device or a socket, not a file",
    }
    assert {name: not_a_file(tmp_path / name) for name in said} == said
    assert regular_file(good, "a list") == good
    with pytest.raises(UserError, match=r"Expected a list, received '.*/pipe': it is a pipe\."):
        regular_file(tmp_path / "pipe", "a list")


def test_long_values_are_cut_in_the_middle() -> None:
    assert shortened([1, 2]) == "[1, 2]"
    cut = shortened("a" * 1000 + "z")
    assert len(cut) == 80
    assert cut.startswith("'aaa")
    assert cut.endswith("az'")
