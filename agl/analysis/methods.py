"""What the methods of a report are called, and which of them the others are compared with."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd

from agl.analysis.tables import BLOCK, METHOD
from agl.errors import UserError, did_you_mean

# What a baseline may be named by; a block is not chosen but compared within.
NAMEABLE = ("method", "study", "features", "model", "loss", "auxiliary", "control", "settings")
IDENTITY = [column for column in METHOD if column not in BLOCK]


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs with two more columns: `block` (data, split and primary genes in words) and `method`, short and unique.

    A method is called by its loss and its auxiliary genes, a baseline by its model; the rest (features, say) is told
    where methods differ in it.
    """
    frame = frame.copy()
    differing = [column for column in BLOCK if frame[column].nunique() > 1]
    frame["block"] = frame[differing or ["data"]].agg(" · ".join, axis=1)
    trained = frame[frame.loss != "-"]
    say_model = trained.model.nunique() > 1
    frame["method"] = [_words(row, say_model) for row in frame.itertuples()]
    seen_by = frame.groupby(["block", "method"]).features.transform("nunique")
    frame["method"] = frame.method.where(seen_by == 1, frame.method + " on " + frame.features)
    if (frame.groupby(["block", "method"])[IDENTITY].nunique() > 1).any(axis=None):
        frame["method"] = frame.method + " · " + frame.study
    return frame


@dataclass(frozen=True)
class Reference:
    """Which method each method of one block is compared with.

    Attributes:
        words: for the caption.
        of: method -> the method it is compared with; methods without a counterpart are not in it.
    """

    words: str
    of: dict[str, str]


def reference(block: pd.DataFrame, baseline: str | None) -> Reference | None:
    """The comparisons a block asks for.

    Args:
        block: runs of one block, from `named`.
        baseline: a method's name, or what it is like: "loss=mse, auxiliary=none". If that fits several methods, each
            method is compared with the one that is like itself in everything else ("auxiliary=none": the same model
            and loss without auxiliary genes). None: `usual_baseline`.

    Returns:
        None where the block has a single method.

    Raises:
        UserError: nothing in the block is like that, with the nearest name.
    """
    methods = _methods(block)
    if baseline is None:
        if len(methods) < 2:
            return None
        baseline = usual_baseline(block)
    fitting = _fitting(methods, baseline)
    if len(fitting) == 1:
        only = str(fitting.index[0])
        return Reference(only, {str(name): only for name in methods.index if name != only and _competes(methods, name)})
    wanted = _parsed(baseline)
    free = [column for column in IDENTITY if column not in wanted]
    pairs = {}
    for name, row in methods.iterrows():
        alike = fitting.index[(fitting[free] == row[free]).all(axis=1)]
        if len(alike) == 1 and name not in fitting.index and _competes(methods, name):
            pairs[str(name)] = str(alike[0])
    if not pairs:
        raise UserError(
            f"Expected a baseline that fits one method, or one for each, received {baseline!r}, which fits "
            f"{', '.join(map(str, fitting.index))}. Name one of them."
        )
    return Reference(f"the same method with {baseline}", pairs)


def matched_reference(block: pd.DataFrame) -> Reference | None:
    """What auxiliary genes add: every method with some against the same method with none. None if there are no such."""
    if not ({"none"} < set(block.auxiliary) - {"-"}):
        return None
    try:
        return reference(block, "auxiliary=none")
    except UserError:
        return None


def usual_baseline(block: pd.DataFrame) -> str:
    """The method that learns primary genes alone, with the loss that most auxiliary genes were tried with."""
    competing = block[block.control == ""] if (block.control == "").any() else block
    plain = competing[competing.auxiliary == "none"]
    if plain.empty:
        plain = competing
    tried = competing.groupby("loss").auxiliary.nunique()
    return str(plain.method.iloc[int(plain.loss.map(tried).to_numpy().argmax())])


def find_method(block: pd.DataFrame, name: str) -> str:
    """The method a user named, in full or by what it is like; exactly one."""
    fitting = _fitting(_methods(block), name)
    if len(fitting) > 1:
        names = ", ".join(map(str, fitting.index))
        raise UserError(f"Expected one method, received {name!r}, which fits {names}. Name one of them.")
    return str(fitting.index[0])


def _methods(block: pd.DataFrame) -> pd.DataFrame:
    return block.drop_duplicates("method")[["method", *IDENTITY]].set_index("method", drop=False)


def _competes(methods: pd.DataFrame, name: object) -> bool:
    """A permuted control shows what nothing looks like; it takes no part in the tests."""
    return bool(methods.control.to_dict()[name] == "" or (methods.control != "").all())


def _fitting(methods: pd.DataFrame, text: str) -> pd.DataFrame:
    if text in methods.index:
        return methods.loc[[text]]
    wanted = _parsed(text)
    if not wanted:
        raise UserError(
            f"Expected a method of these runs, received {text!r}.{did_you_mean(text, methods.index)} "
            'Or say what it is like: "loss=mse, auxiliary=none".'
        )
    fitting = methods
    for column, value in wanted.items():
        known = sorted(set(methods[column]))
        kept = fitting[fitting[column] == value]
        if kept.empty:  # without its arguments
            kept = fitting[fitting[column].str.split("(").str[0] == value]
        if kept.empty and value in {*known, *(word.split("(")[0] for word in known)}:
            raise UserError(
                f"Expected a method with {text}, found none. The methods are {', '.join(map(str, methods.index))}."
            )
        if kept.empty:
            raise UserError(f"Expected a method with {column}={value}, found none.{did_you_mean(value, known)}")
        fitting = kept
    return fitting


def _parsed(text: str) -> dict[str, str]:
    """`loss=mse, auxiliary=top(k=5, by=mean)` -> {loss: mse, auxiliary: top(k=5, by=mean)}; {} for a plain name.

    >>> _parsed("loss=mse, auxiliary=top(k=5, by=mean)")
    {'loss': 'mse', 'auxiliary': 'top(k=5, by=mean)'}
    """
    found = {}
    for part in re.split(r",\s*(?=\w+=)(?![^()]*\))", text):
        key, equals, value = part.partition("=")
        key = key.strip().removesuffix(".genes")
        if not equals or not key.isidentifier():
            return {}
        if key not in NAMEABLE:
            raise UserError(
                f"Expected a baseline by {', '.join(NAMEABLE)}, received {key!r}.{did_you_mean(key, NAMEABLE)}"
            )
        found[key] = value.strip().strip("\"'")
    return found


def _words(row: object, say_model: bool) -> str:
    model, loss, auxiliary = (str(getattr(row, word)) for word in ("model", "loss", "auxiliary"))
    control, settings = (str(getattr(row, word)) for word in ("control", "settings"))
    words = model if loss == "-" else f"{model}: {loss}" if say_model else loss
    words += f" + {auxiliary}" if auxiliary not in ("-", "none") else ""
    words += f" [{_shortened(settings)}]" if settings else ""
    return words + (f" ({control})" if control else "")


def _shortened(settings: str) -> str:
    """Keys without the sections they lie in, unless two would then read the same.

    >>> _shortened("training.learning_rate=0.003, model.hidden=[0.5, 0.7]")
    'learning_rate=0.003, hidden=[0.5, 0.7]'
    """
    keys = re.findall(r"([\w.]+)=", settings)
    last = [key.rpartition(".")[2] for key in keys]
    return re.sub(r"[\w.]+\.(?=\w+=)", "", settings) if len(set(last)) == len(last) else settings
