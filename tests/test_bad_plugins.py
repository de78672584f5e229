"""Components of one's own that do not fit: exit status 2, one sentence, no traceback, no folder left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_bad_input import QUICK, assert_one_sentence

PLUGIN = "from agl.training.plugins import Plugin\nclass mine(Plugin):\n    "
MODULE = "import torch\nclass mine(torch.nn.Module):\n    "
WEIGHTS = (
    "import torch\nclass mine(torch.nn.Module):\n"
    "    def __init__(self, candidates):\n        super().__init__()\n        self.n = len(candidates)\n"
)
SPLIT = "from agl.data.splitting.splits import Split\nimport numpy as np\n"
MISTAKES = [
    ("loss", "def mine(scores, counts): raise KeyError('x')", "mine.py failed in line 1, in mine: KeyError: 'x'"),
    ("loss", "def mine(scores): return scores.mean(0)", "mine.py is called with other arguments than it takes"),
    ("loss", "def mine(scores, counts): return 3.0", "one value per gene, shape (10,), received float"),
    ("loss", "def mine(scores, counts): return None", "one value per gene, shape (10,), received None"),
    ("loss", "class mine:\n    def __init__(self): raise RuntimeError('boom')", "failed in line 2, in __init__"),
    ("loss", MODULE + "def forward(self, scores, counts): return scores.mean(0)", "other arguments than it takes"),
    ("model", "def mine(n_features, n_genes): return None", "torch.nn.Module from the model"),
    (
        "model",
        "import torch\ndef mine(): return torch.nn.Linear(3, 3)",
        "score spots of 256 features, received an error",
    ),
    ("model", "import torch\ndef mine(n_features): return torch.nn.Linear(n_features, 3)", "received (2, 3)"),
    ("model", "def mine(n_features): raise RuntimeError('boom')", "failed in line 1, in mine: RuntimeError: boom"),
    ("primary", "def mine(training): return ['a']", "Expected whole numbers"),
    ("primary", "def mine(training): return 5", "Expected whole numbers"),
    ("primary", "def mine(training): return [0.5]", "Expected whole numbers"),
    ("primary", "def mine(training): return [99999]", "Expected gene positions from 0 to 149"),
    ("auxiliary.genes", "def mine(candidates): return ['a'] * len(candidates)", "Expected one weight in [0, 1]"),
    ("auxiliary.genes", "class mine:\n    def __init__(self, candidates): pass", "Expected a module whose value"),
    (
        "auxiliary.genes",
        WEIGHTS + "    def forward(self): return torch.ones(self.n)",
        "Expected signal as one of hypergradient, influence, similarity, losses in the selector",
    ),
    (
        "auxiliary.genes",
        WEIGHTS + "    signal = 'losses'\n    def forward(self): return torch.ones(self.n)",
        "found no k, chosen, drawn_from, on_epoch, observe. Inherit from agl.genes.selectors.base.Selector",
    ),
    (
        "auxiliary.genes",
        "import torch\nfrom agl.genes.selectors import Selector\nclass mine(Selector):\n"
        "    def forward(self): return torch.ones(self.n_genes)",
        "to have parameters that its signal, the hypergradient, could move",
    ),
    ("split", "def mine(spots): return 3", "Expected a list of agl.data.splitting.splits.Split"),
    ("split", "def mine(spots): return []", "received an empty list"),
    (
        "split",
        SPLIT + "def mine(spots): return [Split('a', np.arange(9), [], np.arange(40, 80), 'p', False)]",
        "Expected validation spots in every fold",
    ),
    ("plugins", "class mine: pass", "Expected a subclass of agl.training.plugins.Plugin"),
    ("plugins", PLUGIN + "def epoch_end(self, trainer): pass", "mine.py is called with other arguments"),
    ("plugins", PLUGIN + "def epoch_end(self, trainer, record): record['x'] = trainer.task.weights", "received Tensor"),
    ("plugins", PLUGIN + "def epoch_start(self, trainer): raise RuntimeError('boom')", "in epoch_start: RuntimeError"),
    ("training.sampler", "def mine(slides, batch_size, rng): return 3", "Expected a list of batches"),
    ("training.sampler", "def mine(slides, batch_size, rng): return []", "received none"),
    ("training.sampler", "def mine(slides, batch_size, rng): return [[99999]]", "Expected batches of positions"),
]


@pytest.mark.parametrize(("kind", "body", "part"), MISTAKES)
def test_a_component_of_ones_own(agl, sections: Path, tmp_path: Path, kind: str, body: str, part: str) -> None:
    (tmp_path / "mine.py").write_text(body + "\n")
    quick = [word for word in QUICK if not word.startswith(f"{kind}.")]
    word = "plugins=[mine.py:mine]" if kind == "plugins" else f"{kind}=mine.py:mine"
    assert_one_sentence(agl("train", f"data.root={sections}", *quick, "fold=0", word), part)
    assert not list(tmp_path.glob("runs/*/*")), "nothing was trained, so nothing may be left"


def test_a_summary_that_cannot_be_written(agl, sections: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN + "def summary(self): return {'x': object()}\n")
    words = [f"data.root={sections}", *QUICK, "fold=0", "plugins=[mine.py:mine]"]
    assert_one_sentence(agl("train", *words), "received object")
    assert not list(tmp_path.glob("runs/**/result.json*"))
