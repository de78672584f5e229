"""Means, spreads and orders by hand; the command; mistakes."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from agl.errors import UserError
from agl.papers.strank_synthetic.settings import METHODS, StudySettings, read_study
from agl.papers.strank_synthetic.tables import PUBLISHED, agreement, comparison, markdown


def rows(method: str, scores: list[list[float]], sampling: str = "uniform") -> list[dict]:
    """`scores[seed][function]`."""
    setting = {"sampling": sampling, "scale": 10.0, "offset": 10.0, "r": 100.0, "method": method}
    return [
        setting | {"seed": seed, "function": function, "oracle": value, "honest": value - 0.1, "last": value - 0.2}
        for seed, values in enumerate(scores)
        for function, value in enumerate(values)
    ]


def test_functions_are_averaged_first_then_seeds():
    frame = comparison(pd.DataFrame(rows("ListSTRank", [[0.9, 0.7], [0.6, 0.6]])))
    [row] = frame.to_dict("records")
    assert row["oracle"] == pytest.approx(0.7)
    assert row["oracle_sd"] == pytest.approx(0.1 * 2**0.5)  # of 0.8 and 0.6
    assert (row["honest"], row["last"], row["published"], row["seeds"]) == pytest.approx((0.6, 0.5, 0.945, 2))


def test_published_figures_stand_beside_the_published_setting_only():
    elsewhere = [row | {"offset": 0.0} for row in rows("ListSTRank", [[0.5]])]
    frame = comparison(pd.DataFrame(rows("ListSTRank", [[0.9]]) + elsewhere)).set_index("offset")
    assert frame.published[10.0] == 0.945
    assert pd.isna(frame.published[0.0])


def test_the_markdown_table_and_the_order_of_methods():
    frame = pd.DataFrame(
        rows("MSE", [[0.1]])
        + rows("PairSTRank", [[0.3]])
        + rows("ListSTRank", [[0.2]])
        + rows("PCC per tissue", [[0.4]])
    )
    text = markdown(comparison(frame))
    methods = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")][1:]
    assert methods == ["PCC per tissue", "PairSTRank", "ListSTRank", "MSE"]
    assert "| ListSTRank | 0.945 | 0.200 | 0.100 | 0.000 |" in text
    # three pairs, one of them the other way round: (2 - 1) / 3
    assert "oracle +0.33" in text


def test_no_order_of_two():
    assert agreement(comparison(pd.DataFrame(rows("MSE", [[0.1]]) + rows("NB", [[0.1]])))) == []


def test_published_figures_belong_to_known_methods():
    assert set(PUBLISHED) <= set(METHODS)


def test_the_command_prints_the_table_and_says_where(agl, tmp_path):
    words = ["functions=[0]", "seeds=[0]", "spots=100", "evaluation_spots=50", "epochs=1", f"output={tmp_path}"]
    code, out, err = agl("synthetic", *words)
    assert code == 0, err
    assert "### uniform: scale 10, offset 10, r 100" in out
    assert "| ListSTRank | 0.945 |" in out
    assert str(tmp_path) in out
    code, out, _ = agl("synthetic", *words, "--json")
    assert code == 0
    assert len(json.loads(out)) == 14


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("methods=[ListSTRnk]", "Did you mean 'ListSTRank'"),
        ("methods=[MSE, MSE]", "different labels"),
        ("methods=[]", "different labels"),
        ("methods=[{label: a, loss: lisstwise}]", "listwise"),
        ("methods=[{label: a, loss: {name: listwise, powr: 1}}]", "powr"),
        ("functions=[4]", "among 0, 1, 2, 3"),
        ("functions=[]", "among 0, 1, 2, 3"),
        ("seeds=[]", "seeds"),
        ("hidden=[1, 2, 3]", "one or two hidden layers"),
        ("hidden=[0]", "hidden"),
        ("r=[0]", "r"),
        ("offsets=[-1]", "offsets"),
        ("epochs=0", "epochs"),
        ("protocol=mine", "protocol"),
        ("spotz=3", "Did you mean 'spots'"),
        ("device=tpu", "device=cpu"),
        ("learning_rate=fast", "learning_rate"),
    ],
)
def test_mistakes_are_one_sentence_and_status_2(agl, tmp_path, word, said):
    code, _, err = agl("synthetic", "spots=20", "evaluation_spots=10", "epochs=1", f"output={tmp_path / 'out'}", word)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_a_study_file_of_another_command_says_which(agl, tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text("axes: {seed: [0]}\n")
    code, _, err = agl("synthetic", file)
    assert code == 2
    assert f"agl grid {file}" in err
    file.write_text("methods: [MSE]\n")
    code, _, err = agl("train", file)
    assert code == 2
    assert f"agl synthetic {file}" in err


def test_quick_needs_a_file(agl):
    code, _, err = agl("synthetic", "--quick")
    assert code == 2
    assert "Expected a study file beside --quick" in err


def test_where_the_runs_go_does_not_change_what_a_study_is(tmp_path):
    assert read_study([f"output={tmp_path}"]).folder.name == StudySettings().folder.name
    assert read_study(["epochs=3"]).folder.name != StudySettings().folder.name
    with pytest.raises(UserError):
        read_study(["no_such_file.yaml"])
