"""How the gradients of primary and of auxiliary genes become the one that a shared trunk follows.

A merge is called with `gradients` `[task, parameter]`, the trunk's by what the objective makes of each task's losses,
the primary genes' first, and gives `[parameter]`; `sum` is what training without one does. It may ask for `losses`
`[task]` and for `sizes`, numbers of entries of each of the trunk's tensors. A class is made once a run; with `groups`
the auxiliary genes are that many tasks, else one; what it must remember is in `state_dict` and `load_state_dict`. Heads
are private to their genes and follow their own losses.
"""

from agl.training.merges.balances import GradNorm, MetaBalance
from agl.training.merges.bargaining import NashMTL
from agl.training.merges.projections import cagrad, pcgrad, sum

__all__ = ["GradNorm", "MetaBalance", "NashMTL", "cagrad", "pcgrad", "sum"]
