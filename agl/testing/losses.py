"""The contract of a loss, as a test: does yours fit every gene set, selector and report?"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

N_SPOTS, N_GENES = 24, 5


class Example(NamedTuple):
    """A small batch: three unsorted slides, one of them a single spot; the last gene has no counts."""

    scores: Tensor
    counts: Tensor
    slides: Tensor
    library_size: Tensor


def check_loss(loss: Callable[..., Any], **options: Any) -> None:
    """Assert that a loss keeps the contract `loss(scores, counts, *, slides, library_size, generator?) -> [gene]`.

    Checked: shape and dtype of the value, finite value and gradient, gradient in the dtype of the scores, the order of
    spots does not matter, genes do not influence each other, arguments are not modified, slides may be any integers or
    None, the same generator gives the same value, half precision comes back as float32.

    Args:
        loss: a function, or an `nn.Module` class; a constructor argument `n_genes` is filled in.
        options: for the function's call or the class's constructor.

    Raises:
        AssertionError: with one sentence on what was expected and what came.

    >>> import strank
    >>> check_loss(strank.listwise_nll, count_power=0.5)
    >>> check_loss(lambda scores, counts, *, slides=None, library_size=None: (scores - counts).square().mean())
    Traceback (most recent call last):
        ...
    AssertionError: Expected a loss of shape [gene] = (5,), received (): reduce over spots only, not over genes.
    """
    call = _Call(loss, options)
    example = make_example()
    value = call(example)
    _check_value(value, example)
    _check_gradient(call, example)
    _check_untouched(call, example)
    _check_repeatable(call, example, value)
    _check_slides(call, example, value)
    _check_permutation(call, example, value)
    _check_gene_independence(call, example, value)
    _check_half_precision(call, example, value)


def make_example(seed: int = 0) -> Example:
    """The batch that `check_loss` uses."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(N_SPOTS, N_GENES, generator=generator)
    counts = torch.poisson(torch.full((N_SPOTS, N_GENES), 2.0), generator=generator)
    counts[:, -1] = 0
    slides = torch.tensor([7, 3])[torch.randint(0, 2, (N_SPOTS,), generator=generator)]
    slides[5] = 900
    library_size = counts.sum(1) + torch.randint(1, 20, (N_SPOTS,), generator=generator)
    return Example(scores, counts, slides, library_size)


def _expect(condition: object, message: str) -> None:
    if not condition:
        raise AssertionError(message)


class _Call:
    """The loss as a function of an example, however it was given."""

    def __init__(self, loss: Callable[..., Any], options: dict[str, Any]) -> None:
        self.options = options
        if inspect.isclass(loss) and issubclass(loss, nn.Module):
            wants_genes = "n_genes" in inspect.signature(loss).parameters
            self.function: Callable[..., Any] = loss(**({"n_genes": N_GENES} if wants_genes else {}), **options)
            self.options = {}
            signature = inspect.signature(self.function.forward)
        else:
            self.function = loss
            signature = inspect.signature(loss)
        self.is_random = "generator" in signature.parameters
        for name in ("slides", "library_size"):
            takes = name in signature.parameters or any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
            _expect(takes, f"Expected a loss that takes the argument {name}: add `{name}=None`, to use or to ignore.")

    def __call__(self, example: Example, *, seed: int = 1, **changed: Any) -> Tensor:
        arguments: dict[str, Any] = example._asdict() | changed
        if self.is_random:
            arguments["generator"] = torch.Generator().manual_seed(seed)
        scores, counts = arguments.pop("scores"), arguments.pop("counts")
        found = self.function(scores, counts, **arguments, **self.options)
        _expect(
            isinstance(found, Tensor), f"Expected a tensor [gene], received {type(found).__name__}: return the loss."
        )
        result: Tensor = found
        return result


def _check_value(value: Tensor, example: Example) -> None:
    _expect(
        value.shape == (N_GENES,),
        f"Expected a loss of shape [gene] = ({N_GENES},), received {tuple(value.shape)}: "
        "reduce over spots only, not over genes.",
    )
    _expect(value.is_floating_point(), f"Expected a floating-point loss, received {value.dtype}.")
    bad = (~value.isfinite()).nonzero().flatten().tolist()
    _expect(not bad, f"Expected finite values, received {value.tolist()}: genes {bad} are not (gene 4 has no counts).")


def _check_gradient(call: _Call, example: Example) -> None:
    scores = example.scores.clone().requires_grad_()
    value = call(example, scores=scores)
    _expect(
        value.requires_grad, "Expected a gradient to the scores, received none: do not detach or convert the scores."
    )
    (gradient,) = torch.autograd.grad(value.sum(), scores, allow_unused=True)
    _expect(
        gradient is not None, "Expected a gradient to the scores, received none: the value does not depend on them."
    )
    _expect(
        gradient.isfinite().all(), "Expected a finite gradient, received NaN or infinity: the last gene has no counts."
    )
    _expect(gradient.abs().sum() > 0, "Expected a gradient somewhere, received 0 everywhere.")


def _check_untouched(call: _Call, example: Example) -> None:
    mine = Example(*(tensor.clone() for tensor in example))
    call(mine)
    for name, before, after in zip(Example._fields, example, mine, strict=True):
        _expect(
            torch.equal(before, after), f"Expected {name} to be left alone, but the loss modified it: work on a copy."
        )


def _check_repeatable(call: _Call, example: Example, value: Tensor) -> None:
    for seed in (1, 2):  # whatever the global state is, the generator alone decides
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            again = call(example)
        _expect(
            torch.equal(again, value),
            "Expected the same value twice with equal generators, received two values: "
            "draw only from the argument `generator`.",
        )


def _check_slides(call: _Call, example: Example, value: Tensor) -> None:
    none = call(example, slides=None, library_size=None)
    _expect(none.shape == value.shape, f"Expected [gene] also for slides=None, received {tuple(none.shape)}.")
    codes = example.slides.unique(return_inverse=True)[1]
    renamed = call(example, slides=codes)
    _expect(
        torch.allclose(renamed, value, atol=1e-5),
        "Expected slide codes to be mere names, received another value for renumbered slides: "
        "use torch.unique(slides, return_inverse=True).",
    )


def _check_permutation(call: _Call, example: Example, value: Tensor) -> None:
    if call.is_random:  # another order is another draw
        return
    order = torch.arange(N_SPOTS).flip(0)
    permuted = call(Example(*(tensor[order] for tensor in example)))
    _expect(
        torch.allclose(permuted, value, rtol=1e-4, atol=1e-5),
        f"Expected the order of spots not to matter, received {permuted.tolist()} instead of {value.tolist()}.",
    )


def _check_gene_independence(call: _Call, example: Example, value: Tensor) -> None:
    scores = example.scores.clone()
    scores[:, 1] = scores[:, 1] * 3 + 1
    others = [gene for gene in range(N_GENES) if gene != 1]
    found = call(example, scores=scores)
    _expect(
        torch.allclose(found[others], value[others], rtol=1e-4, atol=1e-5),
        "Expected a gene's loss to depend on its own scores only, but changing gene 1 changed another: "
        "normalise over spots, not over genes.",
    )


def _check_half_precision(call: _Call, example: Example, value: Tensor) -> None:
    for dtype in (torch.bfloat16, torch.float64):
        scores = example.scores.to(dtype).requires_grad_()
        found = call(example, scores=scores)
        wanted = torch.float64 if dtype == torch.float64 else torch.float32
        _expect(
            found.dtype == wanted,
            f"Expected {wanted} for {dtype} scores, received {found.dtype}: accumulate in scores.float() at least.",
        )
        (gradient,) = torch.autograd.grad(found.sum(), scores)
        _expect(gradient.dtype == dtype, f"Expected the gradient as {dtype}, received {gradient.dtype}.")
        _expect(
            torch.allclose(found.to(value.dtype), value, rtol=0.05, atol=0.05),
            f"Expected about the same value for {dtype} scores, received {found.tolist()} instead of {value.tolist()}.",
        )
