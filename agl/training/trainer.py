"""The loop: epochs, batches, forward, objective, step, events. It knows no plugin by name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agl import registry
from agl.bilevel.gates import gate_of, gated_scores
from agl.bilevel.objective import coefficients
from agl.config import Training
from agl.data.batches import Batch, Sampler
from agl.errors import UserError
from agl.scoring import Target
from agl.seeds import seeded
from agl.training import merging
from agl.training.adamw import AdamW
from agl.training.checks import batches_of, check_losses, check_scores, check_whole_slides
from agl.training.events import Event, Listener
from agl.training.parallel import Ranks, alone, current
from agl.training.shared_norm import share_batch_norm
from agl.training.task import Task
from agl.training.wide import loss_in_one, losses_in_one


@dataclass
class Trainer:
    """Trains one task; everything else happens in plugins, at the events of the loop.

    The random state of an epoch depends on the seed and the epoch's number alone, so a resumed training draws what an
    uninterrupted one would have drawn.
    """

    task: Task
    settings: Training
    sampler: Sampler
    seed: int = 0
    plugins: Sequence[Listener] = ()
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    ranks: Ranks = field(default_factory=current)
    epoch: int = 0  # epochs finished
    step: int = 0
    stop: bool = False

    def __post_init__(self) -> None:
        self.task.model.to(self.device)
        if self.ranks.size > 1:
            share_batch_norm(self.task.model)
        self.task.weights = self.task.weights.to(self.device)
        if isinstance(self.task.loss, nn.Module):
            self.task.loss.to(self.device)
        self.optimizer = AdamW(
            self._parameter_groups(),
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),  # one sweep over the heads instead of ten
        )
        self.combine = self.task.combine
        alone_here = self.ranks.size == 1 and self.task.loader.is_sparse
        self.in_one = loss_in_one(self.task) if alone_here else None
        self.augment = registry.bind("augment", self.settings.augment)
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.settings.precision)
        self.autocast = half if self.device.type == "cuda" else None
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.autocast is torch.float16)

    def fit(self) -> None:
        """Train from the current epoch to the last one, or until a plugin asks to stop."""
        merging.check_merged(self.task)
        self.emit("fit_start")
        with self.task.loader.read_by(self.settings.workers, pin=self.device.type == "cuda"):
            while self.epoch < self.settings.epochs and not self.stop:
                self._set_learning_rate()
                self.task.model.train()  # before the event: a look-ahead trains as the epoch will
                self.emit("epoch_start")
                record = self._train_epoch() | self.validate()
                self.epoch += 1
                self.emit("epoch_end", {"epoch": self.epoch} | record)
        self.emit("fit_end")

    def emit(self, event: Event, *details: Any) -> None:
        """Tell every plugin, in their order. What a plugin computes is each process's own."""
        for plugin in self.plugins:
            with alone():
                getattr(plugin, event)(self, *details)

    def _train_epoch(self) -> dict[str, float]:
        slides = np.asarray(self.task.loader.dataset.slide_codes)[self.task.train]
        rng = seeded(self.seed, "batches", self.epoch)
        batches = batches_of(self.sampler, slides, self.settings.batch_size, rng)
        check_whole_slides(self.task.model, slides, batches, self.ranks.size)
        noise = seeded(self.seed, "noise", self.epoch, *([self.ranks.rank] if self.ranks.rank else []))
        torch.manual_seed(int(noise.integers(2**62)))
        generator = torch.Generator(self.device).manual_seed(int(seeded(self.seed, "loss", self.epoch).integers(2**62)))
        turns = seeded(self.seed, "augment", self.epoch)
        totals = np.zeros(3)
        parts, sparse = [self.task.train[rows] for rows in batches], self.in_one is not None
        for batch in self.task.loader.batches(parts, share=self.ranks.share, sparse=sparse):
            batch = self.augment(batch.to(self.device), turns, self.ranks.share(len(batch.spots)))
            loss, primary, auxiliary = self.objective(batch, generator)
            if not math.isfinite(value := loss.item()):
                raise UserError(self._not_finite(batch))
            self._descend(loss, primary, auxiliary)
            self.step += 1
            totals += len(batch.spots) * np.array([value, primary.mean().item(), _mean(auxiliary)])
            self.emit("step_end", primary.detach(), auxiliary.detach())
        total, primary_loss, auxiliary_loss = (totals / sum(map(len, batches))).tolist()
        shown = {"loss": total, "primary_loss": primary_loss}
        return shown | ({"auxiliary_loss": auxiliary_loss} if len(self.task.weights) else {})

    def objective(self, batch: Batch, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The loss to descend, and the losses per primary and per auxiliary gene."""
        task = self.task
        if self.in_one is not None and batch.counts.layout == torch.sparse_csr:
            with torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None):
                hidden = task.model.trunk(batch.inputs)
                draws = {"generator": generator} if self._draws and generator is not None else {}
                total, losses = losses_in_one(task, self.in_one, hidden, batch, draws)
            return total, losses[: task.n_primary], losses[task.n_primary :]
        gated = task.gate == "trunk" and len(task.weights) > 0
        with torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            scores = self._gated(batch.inputs) if gated else task.model(batch.inputs)
        check_scores(scores, len(batch.inputs), batch.counts.shape[1])
        scores = self.ranks.gather(scores, len(batch.counts))
        gene_loss = partial(task.loss, slides=batch.slides, library_size=batch.library_size)
        wide = scores if scores.dtype == torch.float64 else scores.float()
        losses = gene_loss(wide, batch.counts, **({"generator": generator} if self._draws else {}))
        check_losses(losses, scores.shape[1])
        primary, auxiliary = losses[: task.n_primary], losses[task.n_primary :]
        weights = torch.ones_like(task.weights) if gated else task.weights
        return self.combine(primary, auxiliary, weights, strength=task.strength), primary, auxiliary

    def _gated(self, inputs: Tensor) -> Tensor:
        """Scores whose gradient reaches the trunk weighted, and the heads unweighted."""
        task, head = self.task, self.task.model.head
        both = [task.weights, torch.ones_like(task.weights)]
        in_trunk, in_head = (coefficients(self.combine, w, task.n_primary, strength=task.strength) for w in both)
        scores = gated_scores(task.model.trunk(inputs), head.weight, head.bias, gate_of(in_trunk, in_head))
        start = getattr(task.model, "start", None)
        return scores if start is None else scores + start(inputs)

    def _descend(self, loss: Tensor, primary: Tensor, auxiliary: Tensor) -> None:
        if not loss.requires_grad:
            raise UserError(
                "Expected a loss that depends on the scores, received one without a gradient. Do not detach the scores "
                "or convert them to NumPy; `agl.testing.check_loss` tests a loss of your own."
            )
        self.optimizer.zero_grad(set_to_none=True)
        if self.task.merge is not None and len(auxiliary):
            merging.backward(self.task, primary, auxiliary, self.ranks, self.scaler.get_scale())
        else:
            self.scaler.scale(loss).backward()
            self.ranks.sum_gradients(self.task.model.parameters())
        if self.settings.clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.task.model.parameters(), self.settings.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def validate(self) -> dict[str, float]:
        """Mean SCC and PCC of the primary genes on the validation spots, per slide."""
        return self._target.mean_scores(self.predict(self.task.validation)[:, : self.task.n_primary])

    @cached_property
    def _target(self) -> Target:
        spots, dataset = self.task.validation, self.task.loader.dataset
        counts = torch.from_numpy(self.task.loader.counts[spots][:, : self.task.n_primary].toarray().astype(np.float32))
        return Target(counts, dataset.library_size[spots], np.asarray(dataset.slide_codes)[spots])

    @torch.no_grad()
    def predict(self, spots: np.ndarray) -> Tensor:
        """Scores `[spot, gene]` on the CPU, in evaluation mode."""
        self.task.model.eval()
        rows = self._scored_together(spots)
        parts = [spots[part] for part in rows]
        mine = [parts[i] for i in self.ranks.round_robin(len(parts))]
        batches = (inputs.to(self.device, non_blocking=True) for inputs in self.task.loader.inputs_in_turn(mine))
        with torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            scored = [self.task.model(inputs).float().cpu() for inputs in batches]
        return torch.cat(self.ranks.all_gather(scored))[np.argsort(np.concatenate(rows))]

    def _scored_together(self, spots: np.ndarray) -> list[np.ndarray]:
        """Rows of `spots`, part by part: slides where the model looks at them as a whole, else what memory allows."""
        if getattr(self.task.model, "whole_slides", False):
            codes = np.asarray(self.task.loader.dataset.slide_codes)[spots]
            return [np.flatnonzero(codes == code) for code in np.unique(codes)]
        at_once = 128 if self.task.loader.from_disk else 1024  # a network's maps of patches fill the memory
        return np.split(np.arange(len(spots)), np.arange(at_once, len(spots), at_once))

    @cached_property
    def _draws(self) -> bool:
        """Whether the loss draws random numbers."""
        import inspect

        target = self.task.loss.forward if isinstance(self.task.loss, nn.Module) else self.task.loss
        return "generator" in inspect.signature(target).parameters

    def _parameter_groups(self) -> list[dict[str, Any]]:
        own = list(self.task.loss.parameters()) if isinstance(self.task.loss, nn.Module) else []
        model = [parameter for parameter in self.task.model.parameters() if parameter.requires_grad]
        return [{"params": model}] + ([{"params": own, "weight_decay": 0.0}] if own else [])

    def _set_learning_rate(self) -> None:
        share = 0.5 * (1 + math.cos(math.pi * self.epoch / self.settings.epochs))
        factor = share if self.settings.schedule == "cosine" else 1.0
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * factor

    def _not_finite(self, batch: Batch) -> str:
        slides = batch.slides[self.ranks.share(len(batch.slides))]
        bad = [
            slide
            for slide in slides.unique().tolist()
            if not bool(torch.isfinite(batch.inputs[slides == slide].float()).all())
        ]
        names = [self.task.loader.dataset.slide_names[slide] for slide in bad]
        where = f" The inputs of slide {', '.join(names)} are not finite." if names else ""
        advice = (
            "Lower training.learning_rate or set training.clip=1."
            if self.step
            else "It is so from the very first step: look at the loss (`agl.testing.check_loss`) and its arguments."
        )
        place = f"at epoch {self.epoch + 1}, step {self.step + 1}"
        return f"Expected a finite loss, received NaN or infinity {place}.{where} {advice}"

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed training needs, after a finished epoch."""
        loss = self.task.loss.state_dict() if isinstance(self.task.loss, nn.Module) else {}
        return {
            "epoch": self.epoch,
            "step": self.step,
            "stop": self.stop,
            "model": self.task.model.state_dict(),
            "loss": loss,
            "weights": self.task.weights,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "merge": merging.state_of(self.task.merge),
            "plugins": {
                name: state for name, plugin in self._named_plugins().items() if (state := plugin.state_dict())
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.epoch, self.step, self.stop = state["epoch"], state["step"], state["stop"]
        self.task.model.load_state_dict(state["model"])
        if isinstance(self.task.loss, nn.Module):
            self.task.loss.load_state_dict(state["loss"])
        self.task.weights = state["weights"].to(self.device)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        merging.take_back(self.task.merge, state.get("merge"))
        named = self._named_plugins()
        for name, saved in state["plugins"].items():
            named[name].load_state_dict(saved)

    def _named_plugins(self) -> dict[str, Listener]:
        """Plugins by class and number within the class: those without a state may come and go."""
        named: dict[str, Listener] = {}
        for plugin in self.plugins:
            kind = type(plugin).__name__
            number = sum(type(other).__name__ == kind for other in named.values())
            named[f"{kind}/{number}"] = plugin
        return named


def _mean(losses: Tensor) -> float:
    return losses.mean().item() if losses.numel() else 0.0
