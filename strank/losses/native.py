"""The list, Pearson and pair losses compiled from native.c: one pass per list in blocks that stay in the cache.

They are several times as fast as the torch versions, which stay the reference and serve wherever this one does not:
without a compiler at installation, on a GPU, in other precisions, and where only the value is asked for.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from strank import compiled
from strank import groups as spots_by_slide
from strank.losses.analytic import Outcome, columns

_VERSION = 6  # of the interface in native.c: a file built from another one is left alone
_WORTH_A_THREAD = 1 << 20  # elements
_POINTER, _WHOLE, _NUMBER = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


class _Tables(ctypes.Structure):
    _fields_ = (
        *((name, _POINTER) for name in ("scores", "counts", "gradient")),
        *((name, _WHOLE) for name in ("scores_step", "counts_step", "gradient_step")),
    )


_ARGUMENTS = {  # after the tables
    "strank_multinomial": (_POINTER, _POINTER, _WHOLE, _POINTER, _NUMBER, _WHOLE, _POINTER),
    "strank_pearson": (_POINTER, _POINTER, _WHOLE, _POINTER, _NUMBER, _WHOLE, _POINTER, _POINTER),
    "strank_all_pairs": (_POINTER, _POINTER, _WHOLE, _POINTER, _NUMBER, _WHOLE, _POINTER),
    "strank_squares": (_POINTER, _WHOLE, _POINTER, _WHOLE, _POINTER),
    "strank_rates": (_POINTER, _WHOLE, _POINTER, _WHOLE, _POINTER),
    "strank_pairs": (_POINTER, _WHOLE, _WHOLE, _POINTER, _NUMBER, _WHOLE, _POINTER),
}
_INDICES, _VALUES = ("int32", "int64"), ("float32", "float64", "int32", "int64")


def _load() -> ctypes.CDLL | None:
    found = compiled.load(Path(__file__).with_name("_native"), "strank_version", _VERSION)
    if found is not None:
        for name, types in _ARGUMENTS.items():
            getattr(found, name).argtypes = (_POINTER, *types)
            getattr(found, name).restype = None
        found.strank_line_up.argtypes = (_POINTER, _POINTER, _WHOLE, _WHOLE, _POINTER, _POINTER, _POINTER)
        found.strank_line_up.restype = _WHOLE
        for index in _INDICES:
            bounds_of = getattr(found, f"strank_bounds_{index}")
            bounds_of.argtypes, bounds_of.restype = (_POINTER, _POINTER, _WHOLE, _POINTER, _WHOLE, _POINTER), None
        for index, value in itertools.product(_INDICES, _VALUES):
            fill_from = getattr(found, f"strank_fill_{index}_{value}")
            fill_from.argtypes = (_POINTER, _POINTER, _POINTER, _POINTER, _WHOLE, _POINTER, _POINTER, _WHOLE)
            fill_from.restype = None
    return found


library = _load()


def serves(scores: Tensor, *others: Tensor | None) -> bool:
    """Whether the compiled version takes these tensors."""
    return (
        library is not None
        and scores.dtype == torch.float32
        and scores.numel() > 0
        and all(tensor is None or tensor.device.type == "cpu" for tensor in (scores, *others))
    )


def multinomial(
    scores: Tensor,
    counts: Tensor,
    groups: Tensor | None,
    keep: Tensor | None,
    offset: Tensor | None,
    count_power: float,
) -> Outcome:
    """`strank.listwise_nll`: lists by `groups` `[spot]` among the spots in `keep`, `offset` `[spot]` on the scores."""
    return _by_list("strank_multinomial", scores, counts, groups, keep, offset, count_power)


def all_pairs(
    scores: Tensor,
    counts: Tensor,
    groups: Tensor | None,
    keep: Tensor | None,
    offset: Tensor | None,
    count_power: float,
) -> Outcome:
    """`all_pairs.AllPairs`, arguments as of `multinomial`."""
    return _by_list("strank_all_pairs", scores, counts, groups, keep, offset, count_power)


def squares(scores: Tensor, counts: Tensor, keep: Tensor | None, factor: Tensor | None) -> Outcome:
    """`strank.mse`, not centred, with targets log(1 + counts x `factor`), `factor` `[spot]`."""
    return _by_spot("strank_squares", scores, counts, keep, factor)


def rates(scores: Tensor, counts: Tensor, keep: Tensor | None, offset: Tensor | None) -> Outcome:
    """`strank.poisson_nll` with log rates of scores + `offset` `[spot]`."""
    return _by_spot("strank_rates", scores, counts, keep, offset)


def _by_spot(name: str, scores: Tensor, counts: Tensor, keep: Tensor | None, per_spot: Tensor | None) -> Outcome:
    values = scores.new_zeros(1, scores.shape[1], dtype=torch.float64)
    keep = None if keep is None else keep.contiguous()
    arguments = (_pointer(keep), len(scores), _pointer(per_spot))
    return _mean_over_spots(scores, values, _run(name, scores, counts, arguments, values, keep))


def _by_list(
    name: str,
    scores: Tensor,
    counts: Tensor,
    groups: Tensor | None,
    keep: Tensor | None,
    offset: Tensor | None,
    count_power: float,
) -> Outcome:
    order, lengths = line_up(groups, len(scores), keep)
    values = scores.new_zeros(1, scores.shape[1], dtype=torch.float64)
    arguments = (_pointer(order), lengths.data_ptr(), len(lengths), _pointer(offset), count_power)
    return _mean_over_spots(scores, values, _run(name, scores, counts, arguments, values, keep))


def _mean_over_spots(scores: Tensor, values: Tensor, gradient: Tensor) -> Outcome:
    scale = 1 / len(scores)
    return Outcome(values[0].to(scores.dtype) * scale, scale, gradient)


def pearson(
    scores: Tensor,
    counts: Tensor,
    groups: Tensor | None,
    keep: Tensor | None,
    factor: Tensor | None,
    count_power: float,
) -> Outcome:
    """`strank.pearson_loss` with targets log(1 + counts x `factor`), `factor` `[spot]`."""
    order, lengths = line_up(groups, len(scores), keep)
    values = scores.new_zeros(2, scores.shape[1], dtype=torch.float64)
    arguments = (_pointer(order), lengths.data_ptr(), len(lengths), _pointer(factor), count_power)
    gradient = _run("strank_pearson", scores, counts, arguments, values, keep)
    value, defined = values.to(scores.dtype)
    scale = 1 / defined.clamp(min=1)
    return Outcome(value * scale, scale, gradient)


def pairs(scores: Tensor, counts: Tensor, partners: Tensor, offset: Tensor | None, count_power: float) -> Outcome:
    """`strank.pairwise_nll` for `partners` `[partner, spot]`; a spot that is its own partner takes no part."""
    values = scores.new_zeros(1, scores.shape[1], dtype=torch.float64)
    arguments = (partners.data_ptr(), *partners.shape, _pointer(offset), count_power)
    gradient = _run("strank_pairs", scores, counts, arguments, values, None)
    scale = 1 / (2 * partners.numel())
    return Outcome(values[0].to(scores.dtype) * scale, scale, gradient)


def line_up(groups: Tensor | None, n_spots: int, keep: Tensor | None) -> tuple[Tensor | None, Tensor]:
    """`strank.groups.line_up`, by counting where the codes are near each other."""
    if groups is None or library is None:
        return spots_by_slide.line_up(groups, n_spots, keep)
    codes, room = groups.long().contiguous(), 4 * n_spots + 64
    scratch = torch.empty(room + 2 * n_spots, dtype=torch.long)
    keep = None if keep is None else keep.contiguous()
    places = scratch.data_ptr()
    order, lengths = places + 8 * room, places + 8 * (room + n_spots)
    n_lists = library.strank_line_up(codes.data_ptr(), _pointer(keep), n_spots, room, places, order, lengths)
    if n_lists < 0:
        return spots_by_slide.line_up(groups, n_spots, keep)
    return scratch[room : room + n_spots], scratch[room + n_spots : room + n_spots + n_lists]


def bounds(indices: Tensor, start: Tensor, edges: Tensor) -> Tensor | None:
    """`[edge, spot]`: each spot's first entry at or behind each gene of the ascending `edges`; None as `fill`."""
    tensors = (indices, start, edges)
    if library is None or not all(tensor.device.type == "cpu" and tensor.is_contiguous() for tensor in tensors):
        return None
    found = torch.empty(len(edges), len(start) - 1, dtype=torch.long)
    name = f"strank_bounds_{str(indices.dtype).removeprefix('torch.')}"
    arguments = (indices.data_ptr(), start.data_ptr(), len(start) - 1, edges.data_ptr(), len(edges), found.data_ptr())
    getattr(library, name)(*arguments)
    return found


def fill(indices: Tensor, values: Tensor, begin: Tensor, end: Tensor, place: Tensor, out: Tensor) -> bool:
    """Adds sparse entries to `out`, float32 `[spot, gene]`; False where this version does not take them."""
    kinds = [str(tensor.dtype).removeprefix("torch.") for tensor in (indices, values)]
    tensors = (indices, values, begin, end, place, out)
    if library is None or kinds[1] not in _VALUES or out.dtype != torch.float32:
        return False
    if not all(tensor.device.type == "cpu" and tensor.is_contiguous() for tensor in tensors):
        return False
    pointers = [tensor.data_ptr() for tensor in tensors]
    getattr(library, f"strank_fill_{kinds[0]}_{kinds[1]}")(*pointers[:4], len(begin), *pointers[4:], out.shape[1])
    return True


def _run(
    name: str, scores: Tensor, counts: Tensor, arguments: tuple[Any, ...], values: Tensor, keep: Tensor | None
) -> Tensor:
    """Calls a function for ranges of genes, in threads if that pays; adds to `values`, returns the gradient."""
    make: Callable[..., Tensor] = torch.empty if keep is None else torch.zeros
    gradient = make(scores.shape, dtype=scores.dtype)
    function = getattr(library, name)

    def some(genes: slice) -> None:
        parts = (scores, counts) if len(ranges) == 1 else (scores[:, genes], counts[:, genes])
        s, c = _plain(parts[0]), _plain(parts[1])
        out = (
            gradient.data_ptr() + genes.start * gradient.element_size()
        )  # no views: of small batches they take longest
        tables = _Tables(s.data_ptr(), c.data_ptr(), out, s.stride(0), c.stride(0), gradient.stride(0))
        first = values.data_ptr() + genes.start * values.element_size()
        sums = (first + row * values.stride(0) * values.element_size() for row in range(len(values)))
        function(ctypes.byref(tables), *arguments, s.shape[1], *sums)

    ranges = list(_ranges(scores, counts))
    workers = min(torch.get_num_threads(), len(ranges), scores.numel() // _WORTH_A_THREAD)
    if workers > 1:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(some, ranges))
    else:
        for genes in ranges:
            some(genes)
    return gradient


def _ranges(scores: Tensor, counts: Tensor) -> Iterator[slice]:
    """Genes by thread, or in blocks where a table must be converted, so that only a block of it ever is."""
    n_spots, n_genes = scores.shape
    if not _is_plain(scores) or not _is_plain(counts):
        return columns(n_spots, n_genes)
    return columns(n_spots, n_genes, max(_WORTH_A_THREAD, -(-scores.numel() // torch.get_num_threads())))


def _is_plain(table: Tensor) -> bool:
    return table.dtype == torch.float32 and (table.stride(1) == 1 or table.shape[1] == 1)


def _plain(table: Tensor) -> Tensor:
    return table if _is_plain(table) else table.to(torch.float32).contiguous()


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
