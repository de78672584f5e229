"""Settings of a simulated task, and the four presets. Every number of a simulation is here or in its arguments.

What the presets are tuned to (4 patients x 150 spots, 600 genes, latent features; MLP trunk 128-128, AdamW, list loss
per slide, early stopping on a fifth of the training spots, patients 1 and 2 held out in turn; 5 seeds). Test Pearson
of the 50 primary genes alone, and the gain +- SE from adding one class with the mean auxiliary loss at strength 1 / 4:

    preset       alone   useful (oracle)            all                       harmful
    easy         .294    +.009+-.001 / +.018+-.001  +.002+-.002 / +.005+-.002  -.007+-.003 / -.026+-.002
    standard     .162    +.018+-.002 / +.031+-.003  +.002+-.001 / -.001+-.002  -.008+-.002 / -.030+-.004
    hard         .057    +.018+-.003 / +.032+-.004  -.001+-.001 / -.005+-.002  -.002+-.001 / -.008+-.003
    misleading   .150    +.015+-.002 / +.026+-.003  -.001+-.002 / -.006+-.002  -.009+-.002 / -.040+-.003

Useful genes won on every seed of every preset. Independent genes cost .005 to .035, noise genes up to .021. From
patches through the built-in features, standard: alone .119, useful +.007+-.005 / +.017+-.006 (4 of 5 seeds).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from agl.errors import DataError, did_you_mean

CLASSES = ("primary", "useful", "independent", "noise", "harmful")


@dataclass(frozen=True)
class GeneClass:
    """How the genes of one class behave.

    `share`: of the genes that are not primary (a fixed number is). `mean_count`: median over genes of the expected
    count of a spot. `signal`: standard deviation within a slide of the log-rate that the class's programmes cause.
    `dispersion`: alpha of the negative binomial, variance = mean + alpha mean^2. `batch`: size of the log-rate's
    response, up or down, to the slide's one batch factor. `conflict`: chance that a slide reverses the response to
    the programmes.
    """

    share: float
    mean_count: float
    signal: float
    dispersion: float
    batch: float = 0.0
    conflict: float = 0.0


@dataclass(frozen=True)
class SimulationSettings:
    """One kind of task. Programmes are counted as target (0, 1, ...), then other visible, then hidden ones."""

    classes: dict[str, GeneClass] = field(default_factory=dict)
    target_programmes: int = 4
    other_programmes: int = 8
    hidden_programmes: int = 2
    length_scale: float = 3.0  # of the programmes, in spot distances
    local_share: float = 0.5  # of a programme's variance that neighbouring spots do not share
    slide_shift: float = 0.3  # standard deviation of a programme's mean between slides
    slide_scale: float = 0.2  # log standard deviation of a gene's scale between slides
    ambient: float = 0.1  # additive counts in every spot of a slide, as a share of the gene's mean
    depth_spread: float = 0.35  # log standard deviation of the spots' library sizes
    latent_features: int = 256  # of features="latent"
    latent_bend: float = 0.7  # strength of the nonlinearity in the latent features
    latent_noise: float = 1.2  # measurement noise of a latent feature whose own spread is about 1
    stain_variation: float = 1.0  # 0: all slides stained and scanned alike


_STANDARD = SimulationSettings(
    classes={
        "primary": GeneClass(share=0.0, mean_count=4.0, signal=0.6, dispersion=1.8),
        "useful": GeneClass(share=0.2, mean_count=4.0, signal=0.7, dispersion=0.05),
        "independent": GeneClass(share=0.25, mean_count=4.0, signal=0.7, dispersion=0.1),
        "noise": GeneClass(share=0.4, mean_count=4.0, signal=0.0, dispersion=0.3),
        "harmful": GeneClass(share=0.15, mean_count=5.0, signal=0.9, dispersion=0.1, batch=0.3, conflict=0.5),
    }
)


def _changed(base: SimulationSettings, classes: dict[str, dict[str, float]], **changes: float) -> SimulationSettings:
    merged = {name: replace(base.classes[name], **classes.get(name, {})) for name in CLASSES}
    return replace(base, classes=merged, **changes)  # type: ignore[arg-type]


PRESETS: dict[str, SimulationSettings] = {
    "standard": _STANDARD,
    # Clean primaries, many useful genes: primary-only is good already, any sensible gene set helps.
    "easy": _changed(
        _STANDARD,
        {
            "primary": {"dispersion": 0.8},
            "useful": {"share": 0.4, "signal": 0.9},
            "independent": {"signal": 0.5},
            "noise": {"share": 0.25, "dispersion": 0.1},
            "harmful": {"share": 0.1, "signal": 0.5, "batch": 0.0},
        },
        latent_noise=0.6,
    ),
    # Few useful genes among many harmful ones, noisier primaries and features.
    "hard": _changed(
        _STANDARD,
        {
            "primary": {"dispersion": 3.5, "signal": 0.5},
            "useful": {"share": 0.08, "signal": 0.6},
            "harmful": {"share": 0.27},
        },
        latent_noise=1.5,
    ),
    # Useless genes are the highest and the most dispersed, and follow the slide's batch factor as primaries do.
    "misleading": _changed(
        _STANDARD,
        {
            "primary": {"batch": 1.5},
            "useful": {"mean_count": 2.0, "signal": 0.6, "dispersion": 0.02},
            "independent": {"mean_count": 3.0},
            "noise": {"mean_count": 8.0, "dispersion": 1.0, "batch": 1.2},
            "harmful": {"mean_count": 10.0, "dispersion": 0.5, "batch": 1.5},
        },
    ),
}


def settings_of(preset: str) -> SimulationSettings:
    """The settings of a preset by name.

    >>> settings_of("standard").target_programmes
    4
    """
    if preset not in tuple(PRESETS):  # a list or a number may come from a config
        raise DataError(
            f"Expected a preset ({', '.join(PRESETS)}), received '{preset}'." + did_you_mean(str(preset), PRESETS)
        )
    return PRESETS[preset]
