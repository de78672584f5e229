"""Names and paths as users give them: what may become a folder, and what is a file that can be read to its end."""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from pathlib import Path

from agl.errors import UserError

MOST_LETTERS = 1000  # of a sentence; what a user gave may be a megabyte
LARGE = 1 << 30  # bytes of a file that is looked at for holes
LONGEST = 255  # bytes of a name in nearly all file systems
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of characters, ends of lines and paragraphs


def safe_name(name: str, key: str) -> str:
    """The name of a run or a study, which becomes a folder inside the output folder: `a`, `recommend/a`.

    Raises:
        UserError: a name that leads elsewhere (`../a`, `/a`), is empty or too long, or has a character that no file
            name should have.

    >>> safe_name("my study, 50 % <b>", "name")
    'my study, 50 % <b>'
    """
    parts = name.split("/")
    wrong = unwritable(name)
    if wrong is None and any(part in ("", ".", "..") for part in parts):
        wrong = "leads out of the output folder" if ".." in parts or name.startswith("/") else "has an empty part"
    if wrong is None and any(len(os.fsencode(part)) > LONGEST for part in parts):
        wrong = f"the name is too long: it has a part of more than {LONGEST} bytes"
    if wrong is not None:
        raise UserError(
            f"Expected {key} as a plain word, or several with / between them, received {shortened(name)}: {wrong}. "
            f"Choose another {key}."
        )
    return name


def safe_path(path: str, key: str) -> str:
    """A path from a config, if a file system could have it.

    Raises:
        UserError: a path with control characters, or an empty one.
    """
    wrong = unwritable(path) or ("is empty" if not path else None)
    if wrong is not None:
        raise UserError(f"Expected {key} as a path, received {shortened(path)}: {wrong}. Choose another.")
    return path


def unwritable(text: str) -> str | None:
    """What no file name should have: control characters, line ends, halves of characters."""
    found = sorted({f"U+{ord(letter):04X}" for letter in text if unicodedata.category(letter) in UNPRINTABLE})
    return f"has the control character {found[0]}" if found else None


def plain_line(text: str) -> str:
    """A sentence on one line, of bounded length and without control characters: a name may not write to the terminal.

    >>> plain_line("a\\n  b \\x1b[31mc")
    'a b \\\\x1b[31mc'
    """
    words = " ".join(text.split())
    if len(words) > MOST_LETTERS:
        words = f"{words[: MOST_LETTERS // 2]} ... {words[-MOST_LETTERS // 2 :]}"
    return "".join(repr(c)[1:-1] if unicodedata.category(c) in UNPRINTABLE else c for c in words)


def shortened(value: object, most: int = 80) -> str:
    """A value as it would be written in Python, cut in the middle where it is long.

    >>> shortened("a" * 200, 20)
    "'aaaaaaa ... aaaaaa'"
    """
    text = repr(value)
    if len(text) <= most:
        return text
    half = (most - 5) // 2
    return f"{text[: most - 5 - half]} ... {text[len(text) - half :]}"


def regular_file(path: str | Path, what: str) -> Path:
    """The path, if a file is there that can be read to its end.

    A pipe would be waited on for ever, and a device may never end; neither is opened.

    Raises:
        UserError: nothing there, a folder, a pipe, a device, links in a circle.
    """
    wrong = not_a_file(path)
    if wrong is not None:
        raise UserError(f"Expected {what}, received {shortened(str(path), 200)}: {wrong}.")
    return Path(path)


def expanded(path: str | Path) -> Path:
    """The path with a home folder in place of `~`; as it is where there is no such home."""
    return Path(os.path.expanduser(path))


def not_a_file(path: str | Path) -> str | None:
    """Why a path is no file that can be read; None where it is one."""
    try:
        found = os.stat(path)
    except OSError as error:
        known = {errno.ELOOP: "its links lead in a circle", errno.EACCES: "permission denied"}
        return known.get(error.errno or 0, "there is no such file")
    except ValueError:  # a NUL character
        return "no file can have that name"
    mode = found.st_mode
    if stat.S_ISREG(mode):
        holes = found.st_size > LARGE and found.st_blocks * 512 < found.st_size // 1000
        return f"it is {found.st_size:,} bytes of empty space, as of a download that has not come" if holes else None
    if stat.S_ISDIR(mode):
        return "it is a folder"
    return "it is a pipe" if stat.S_ISFIFO(mode) else "it is a device or a socket, not a file"
