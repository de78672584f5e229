"""Published figures, and the slides that STRank's script validates and tests on.

Sources: HEST-bench's leaderboard (README of mahmoodlab/HEST, August 2024; H0-mini 2025): Pearson, PCA-256 and ridge.
Nishimura et al., STRank, NeurIPS 2025, Table 2: Spearman, CONCH features, linear head, one test slide a task.
"""

from __future__ import annotations

import re

TASKS = ("IDC", "PRAD", "PAAD", "SKCM", "COAD", "READ", "CCRCC", "LUNG", "LYMPH_IDC")  # HCC is not in the average

_LEADERBOARD = """
ResNet50     .4741 .3075 .3889 .4822 .2528 .0812 .2231 .4917 .2322
CTransPath   .511  .3427 .4378 .5106 .2285 .11   .2279 .4985 .2353
Phikon       .5327 .342  .4432 .5355 .2585 .1517 .2423 .5468 .2373
CONCH        .5363 .3548 .4475 .5791 .2533 .1674 .2179 .5312 .2507
Remedis      .529  .3471 .4644 .5818 .2856 .1145 .2647 .5336 .2473
GigaPath     .5508 .3708 .4768 .5538 .301  .186  .2391 .5399 .2493
UNI          .5702 .314  .4764 .6254 .263  .1762 .2427 .5511 .2565
H0-mini      .5862 .3684 .4919 .6011 .2494 .1863 .2670 .5481 .2629
Virchow      .5702 .3309 .4875 .6088 .311  .2019 .2637 .5459 .2594
Virchow2     .5922 .3465 .4661 .6174 .2578 .2084 .2788 .5605 .2582
UNIv1.5      .5989 .3645 .4902 .6401 .2925 .2240 .2522 .5586 .2597
H-optimus-0  .5982 .385  .4932 .6432 .2991 .2292 .2654 .5582 .2595
"""
LEADERBOARD = {
    line.split()[0]: dict(zip(TASKS, map(float, line.split()[1:]), strict=True))
    for line in _LEADERBOARD.strip().splitlines()
}

STRANK_TASKS = ("IDC", "PRAD", "PAAD", "COAD", "READ", "CCRCC", "LYMPH_IDC")
_STRANK = """
mse                     .393 .484 .307 .556 .140 .093 .168
poisson                 .314 .485 .336 .524 .172 .091 .134
negative_binomial       .199 .491 .119 .538 .160 .075 .126
margin_ranking_released .317 .317 .181 .566 .047 .059 .110
pairwise                .494 .458 .346 .613 .136 .127 .228
pearson_pooled          .472 .459 .307 .640 .105 .102 .198
listwise                .510 .459 .343 .597 .140 .125 .238
"""
STRANK = {
    line.split()[0]: dict(zip(STRANK_TASKS, map(float, line.split()[1:]), strict=True))
    for line in _STRANK.strip().splitlines()
}

# Validation and test slide of each task. In PRAD and READ both are of one patient, in PRAD it is trained on as well.
STRANK_SLIDES = {
    "IDC": ("TENX95", "NCBI783"),
    "PRAD": ("MEND139", "MEND140"),
    "PAAD": ("TENX116", "TENX126"),
    "COAD": ("TENX111", "TENX147"),
    "READ": ("ZEN36", "ZEN40"),
    "CCRCC": ("INT1", "INT2"),
    "LYMPH_IDC": ("NCBI681", "NCBI682"),
}

_OTHER_NAMES = {
    "hoptimus": "hoptimus0",
    "univ1": "uni",
    "conchv1": "conch",
    "uni2h": "uni2",
    "resnet50trunc": "resnet50",
}
_TASK_NAMES = {"ccrcc": "CCRCC", "luad": "LUNG", "lung": "LUNG", "lymphidc": "LYMPH_IDC", "idclymphnode": "LYMPH_IDC"}


def leaderboard(encoder: str, task: str) -> float:
    """The leaderboard's Pearson correlation; NaN where it has none. Spelling does not matter.

    >>> leaderboard("uni_v1", "LUAD"), leaderboard("hoptimus0", "IDC")
    (0.5511, 0.5982)
    """
    wanted = _plain(encoder)
    wanted = _OTHER_NAMES.get(wanted, wanted)
    by_name = {_plain(name): row for name, row in LEADERBOARD.items()}
    return by_name.get(wanted, {}).get(task_name(task), float("nan"))


def strank_table(loss: str, task: str) -> float:
    """STRank's Spearman correlation; NaN where it has none.

    >>> strank_table("listwise", "ccRCC")
    0.125
    """
    return STRANK.get(loss, {}).get(task_name(task), float("nan"))


def task_name(task: str) -> str:
    """As the benchmark's folders spell it.

    >>> task_name("ccRCC"), task_name("IDC")
    ('CCRCC', 'IDC')
    """
    return _TASK_NAMES.get(_plain(task), task.upper())


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
