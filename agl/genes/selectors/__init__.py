"""Selectors: learned weights of the auxiliary genes, with hyper-parameters tuned in the outer problem."""

from agl.genes.selectors.base import Selector
from agl.genes.selectors.comparison import DWA, FAMO, AMALScalars, AutoLambda, FixedStrength, UncertaintyWeights
from agl.genes.selectors.dkgsb import DkGSB
from agl.genes.selectors.mixture import PriorMixture
from agl.genes.selectors.observed import GradientSimilarity, InfluenceGates
from agl.genes.selectors.topk import budgeted_topk

__all__ = [
    "DWA",
    "FAMO",
    "AMALScalars",
    "AutoLambda",
    "DkGSB",
    "FixedStrength",
    "GradientSimilarity",
    "InfluenceGates",
    "PriorMixture",
    "Selector",
    "UncertaintyWeights",
    "budgeted_topk",
]
