"""Auxiliary-gene learning as a plugin: between epochs, tune which auxiliary genes count.

What a selector learns from depends on its `signal`: the hypergradient of the outer loss for its own parameters, the
influence of every gene's weight on the outer loss, the similarity of every gene's gradient with the primary genes', or
every gene's training loss. The trainer sees only new weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from agl import registry
from agl.bilevel.diagnostics import primary_share
from agl.bilevel.hypergradient import HyperGradient
from agl.bilevel.problem import NOTHING_SHARED, Problem
from agl.bilevel.settings import InnerSettings
from agl.bilevel.similarity import gradient_similarity
from agl.config import Outer
from agl.data.batches import Batch
from agl.errors import UserError
from agl.seeds import seeded
from agl.training.plugins import Plugin
from agl.training.signals import Signals
from agl.training.trainer import Trainer


class AuxiliarySelection(Plugin):
    """Tunes a selector and hands its weights to the training.

    Args:
        selector: gives the weights `[auxiliary gene]`; see `agl.genes.selectors`.
        settings: how often, how far, by which engine.
        outer_spots: spots of the outer problem, apart from the training and the test spots.
        seed: names the look-aheads' batches.
    """

    def __init__(self, selector: Any, settings: Outer, outer_spots: np.ndarray, *, seed: int = 0) -> None:
        self.selector, self.settings, self.outer_spots, self.seed = selector, settings, outer_spots, seed
        parameters = [parameter for parameter in selector.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate) if parameters else None
        self.signals = Signals()
        self.notes: dict[str, float] = {}
        self.shares: list[float] = []

    def fit_start(self, trainer: Trainer) -> None:
        """Refuse what cannot work before any time is spent on it."""
        if self.selector.signal != "losses" and not trainer.task.model.shares:
            raise UserError(NOTHING_SHARED)
        self.selector.to(trainer.device)
        self.selector.drawn_from(len(trainer.task.train) / self._batch_size(trainer.task.train))
        self.problem = Problem(
            model=trainer.task.model,
            gene_loss=trainer.task.loss,
            selector=self.selector,
            n_primary=trainer.task.n_primary,
            combine=trainer.task.combine,
            strength=trainer.task.strength,
            gate=trainer.task.gate,  # type: ignore[arg-type]
            inner_scale=self.settings.inner_scale,
            statistics=self.settings.statistics,
        )

    def epoch_start(self, trainer: Trainer) -> None:
        """An outer step where one is due; then the weights of this epoch."""
        settings = self.settings
        self.notes, self.shares = {}, []
        self.selector.on_epoch(trainer.epoch, trainer.settings.epochs)
        due = trainer.epoch >= settings.start and (trainer.epoch - settings.start) % settings.every == 0
        if due and self.selector.signal in ("hypergradient", "influence"):
            self._outer_step(trainer)
        elif due and self.selector.signal == "similarity":
            for turn in self._turns(trainer):
                (batch,) = self._inner(trainer, turn, 1)
                self.selector.observe(gradient_similarity(self.problem, batch, seed=self._draws(trainer, turn)))
        with torch.no_grad():
            trainer.task.weights = self.selector().detach().clone()

    def step_end(self, trainer: Trainer, primary: Tensor, auxiliary: Tensor) -> None:
        """Selectors that listen to the training losses hear each step's."""
        self.shares.append(primary_share(self.problem, primary, auxiliary, trainer.task.weights))
        if self.selector.signal == "losses":
            self.selector.observe(auxiliary)
            with torch.no_grad():
                trainer.task.weights = self.selector().detach().clone()

    def epoch_end(self, trainer: Trainer, record: dict[str, Any]) -> None:
        """k, a few parameters, and what the outer steps were like, for the history."""
        record["k"] = self.selector.k
        record["primary_share"] = float(np.mean(self.shares))
        for name, parameter in self.selector.named_parameters():
            if parameter.numel() <= 8:
                values = parameter.detach().flatten().tolist()
                record |= {f"phi/{name}" + (f"/{i}" if len(values) > 1 else ""): v for i, v in enumerate(values)}
        record |= self.notes

    def summary(self) -> dict[str, Any]:
        """How many genes were chosen, and whether the outer signal could be told from noise."""
        return {"k": self.selector.k, "candidates": int(self.selector().numel()), **self.signals.verdict()}

    def state_dict(self) -> dict[str, Any]:
        optimizer = self.optimizer.state_dict() if self.optimizer is not None else {}
        return {"selector": self.selector.state_dict(), "optimizer": optimizer, "signals": self.signals.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.selector.load_state_dict(state["selector"])
        self.signals.load_state_dict(state["signals"])
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state["optimizer"])

    def _outer_step(self, trainer: Trainer) -> None:
        """Several look-aheads, averaged, then a step of the selector; or a pass over the batches, a step after each."""
        found = self._passed(trainer) if self.settings.per == "batch" else self._averaged(trainer)
        if all(each.zero for each in found):
            self.signals.refused = found[0].zero
        read = [each.weights if self.selector.signal == "influence" else _flat(each.phi) for each in found]
        vectors = [vector for vector in read if vector is not None]
        self.notes = self.signals.add(torch.stack(vectors)) if vectors else {}
        self.notes["outer_before"] = float(np.mean([each.outer_before for each in found]))
        self.notes["outer_after"] = float(np.mean([each.outer_after for each in found]))

    def _averaged(self, trainer: Trainer) -> list[HyperGradient]:
        ranks = trainer.ranks
        mine = [self._look_ahead(trainer, turn).to("cpu") for turn in ranks.round_robin(self.settings.batches)]
        found = [each.to(trainer.device) for each in ranks.all_gather(mine)]
        self._learn(found)
        return found

    def _passed(self, trainer: Trainer) -> list[HyperGradient]:
        """Every look-ahead starts from the same model, and from the selector as the one before has left it."""
        found = []
        for turn in self._turns(trainer):
            leaders = trainer.ranks.broadcast(self._look_ahead(trainer, turn).to("cpu"))
            found.append(leaders.to(trainer.device))
            self._learn(found[-1:])
        return found

    def _learn(self, found: list[HyperGradient]) -> None:
        if self.selector.signal != "influence":
            self._descend([each.phi for each in found])
            return
        for each in found:
            if each.weights is not None:
                self.selector.observe(each.weights)

    def _descend(self, gradients: list[dict[str, Tensor]]) -> None:
        assert self.optimizer is not None
        named = dict(self.selector.named_parameters())
        for name in gradients[0]:
            named[name].grad = torch.stack([each[name] for each in gradients]).mean(0).to(named[name])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.selector.project()

    def _look_ahead(self, trainer: Trainer, turn: int) -> HyperGradient:
        settings = self.settings
        inner = self._inner(trainer, turn, 1 if settings.same_batch else settings.steps)
        outer = self._outer(trainer, turn)
        return registry.build(
            "engine",
            settings.engine,
            self.problem,
            inner * settings.steps if settings.same_batch else inner,
            outer,
            InnerSettings(
                optimizer=trainer.optimizer,
                warm=settings.warm,
                inner_optimizer=None if settings.inner_optimizer == "training" else settings.inner_optimizer,
                inner_lr=settings.inner_learning_rate,
                seed=self._draws(trainer, turn),
            ),
        )

    def _turns(self, trainer: Trainer) -> range:
        """Look-aheads of an outer step; per batch: the batches of a pass over the training spots."""
        if self.settings.per == "epoch":
            return range(self.settings.batches)
        return range(len(self._pass(trainer, trainer.task.train, "inner", 0)))

    def _inner(self, trainer: Trainer, turn: int, n: int) -> list[Batch]:
        """n batches of training spots, augmented as the training's."""
        drawn = self._drawn(trainer, trainer.task.train, "inner", turn, n)
        return self._loaded(trainer, drawn, "inner", turn, augmented=True)

    def _outer(self, trainer: Trainer, turn: int) -> Batch:
        """A batch of held-out spots."""
        drawn = self._drawn(trainer, self.outer_spots, "outer", turn, 1)
        return self._loaded(trainer, drawn, "outer", turn, augmented=self.settings.augment)[0]

    def _drawn(self, trainer: Trainer, spots: np.ndarray, purpose: str, turn: int, n: int) -> list[np.ndarray]:
        """n batches of these spots; per batch those of the pass from the turn's on, and it comes round again."""
        if self.settings.per == "batch":
            whole = self._pass(trainer, spots, purpose, 0)
            return [whole[(turn + i) % len(whole)] for i in range(n)]
        drawn: list[np.ndarray] = []
        draw = 0
        while len(drawn) < n:
            drawn += self._pass(trainer, spots, purpose, turn, draw)
            draw += 1
        return drawn[:n]

    def _pass(self, trainer: Trainer, spots: np.ndarray, purpose: str, *draw: int) -> list[np.ndarray]:
        """These spots in batches, drawn as the training draws its own."""
        slides = np.asarray(trainer.task.loader.dataset.slide_codes)[spots]
        rng = seeded(self.seed, purpose, trainer.epoch, *draw)
        return [spots[rows] for rows in trainer.sampler(slides, self._batch_size(spots), rng)]

    def _loaded(
        self, trainer: Trainer, drawn: list[np.ndarray], purpose: str, turn: int, *, augmented: bool
    ) -> list[Batch]:
        batches = [batch.to(trainer.device) for batch in trainer.task.loader.batches(drawn)]
        turns = seeded(self.seed, purpose, "augment", trainer.epoch, turn)
        return [trainer.augment(batch, turns) for batch in batches] if augmented else batches

    def _draws(self, trainer: Trainer, turn: int) -> int:
        """The seed of dropout and random losses."""
        return int(seeded(self.seed, "lookahead", trainer.epoch, turn).integers(2**31))

    def _batch_size(self, spots: np.ndarray) -> int:
        """At most half of the spots, so that look-aheads differ and their spread says something."""
        return min(self.settings.batch_size, max(2, len(spots) // 2))


def _flat(phi: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in phi.values()])
