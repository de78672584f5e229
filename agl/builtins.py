"""Every built-in component by kind and name, and where it lives: a new one is a line here.

And by kind, what the framework supplies at a call: data, sizes, places. All other arguments are a config's to give.
"""

from __future__ import annotations

WHERE: dict[str, dict[str, str]] = {
    "loss": {
        "mse": "strank:mse",
        "poisson": "strank:poisson_nll",
        "negative_binomial": "strank:NegativeBinomialLoss",
        "margin_ranking": "strank:margin_ranking",
        "margin_ranking_released": "strank:margin_ranking_released",
        "pairwise": "strank:pairwise_nll",
        "listwise": "strank:listwise_nll",
        "dirichlet_multinomial": "strank:DirichletMultinomialLoss",
        "pearson": "strank:pearson_loss",
    },
    "model": {
        "linear": "agl.models.predictor:linear",
        "mlp": "agl.models.predictor:mlp",
        "resnet18": "agl.models.predictor:resnet18",
        "resnet50": "agl.models.predictor:resnet50",
        "nsl": "agl.models.stain:nsl",
    },
    "estimator": {
        "mean": "agl.models.baselines:TrainingMean",
        "ridge": "agl.models.baselines:Ridge",
        "hest-pca256": "agl.papers.hest.ridge:HestRidge",
        "hest-raw": "agl.papers.hest.ridge:HestRawRidge",
    },
    "primary": {
        "dispersion": "agl.genes.primary:dispersion",
        "variance": "agl.genes.primary:variance",
        "mean": "agl.genes.primary:mean",
        "moran": "agl.genes.primary:moran",
        "file": "agl.genes.primary:file",
    },
    "prior": {
        "dispersion": "agl.genes.priors:dispersion",
        "mean": "agl.genes.priors:mean",
        "variance": "agl.genes.priors:variance",
        "detection": "agl.genes.priors:detection",
        "coexpression": "agl.genes.priors:coexpression",
        "moran": "agl.genes.priors:moran",
        "file": "agl.genes.priors:file",
    },
    "gene_set": {
        "none": "agl.genes.sets:none",
        "all": "agl.genes.sets:all_genes",
        "random": "agl.genes.sets:random",
        "top": "agl.genes.sets:top",
        "coexpressed": "agl.genes.sets:coexpressed",
        "low_variance_coexpressed": "agl.genes.sets:low_variance_coexpressed",
        "file": "agl.genes.sets:file",
    },
    "selector": {
        "dkgsb": "agl.genes.selectors:DkGSB",
        "prior_mixture": "agl.genes.selectors:PriorMixture",
        "influence_gates": "agl.genes.selectors:InfluenceGates",
        "gradient_similarity": "agl.genes.selectors:GradientSimilarity",
        "uncertainty": "agl.genes.selectors:UncertaintyWeights",
        "amal": "agl.genes.selectors:AMALScalars",
        "fixed_strength": "agl.genes.selectors:FixedStrength",
        "famo": "agl.genes.selectors:FAMO",
    },
    "split": {
        "leave_one_patient_out": "agl.data.splitting.splits:leave_one_patient_out",
        "leave_one_slide_out": "agl.data.splitting.splits:leave_one_slide_out",
        "k_fold": "agl.data.splitting.splits:k_fold",
        "hest_csv": "agl.papers.hest.folds:hest_csv",
        "named_slides": "agl.data.splitting.named:named_slides",
        "spatial_blocks": "agl.data.splitting.splits:spatial_blocks",
        "random_spots": "agl.data.splitting.splits:random_spots",
    },
    "sampler": {
        "grouped": "agl.data.batches:grouped",
        "shuffled": "agl.data.batches:shuffled",
        "balanced": "agl.data.batches:balanced",
    },
    "objective": {
        "balanced": "agl.bilevel.objective:balanced",
        "sum": "agl.bilevel.objective:sum",
        "weighted_mean": "agl.bilevel.objective:weighted_mean",
    },
    "augment": {
        "none": "agl.data.augment:none",
        "dihedral": "agl.data.augment:dihedral",
    },
    "engine": {
        "auto": "agl.bilevel.engines:auto",
        "forward": "agl.bilevel.engines:forward",
        "jvp": "agl.bilevel.engines:jvp",
        "reverse": "agl.bilevel.engines:reverse",
        "higher": "agl.bilevel.engines:higher",
        "one_step": "agl.bilevel.engines:one_step",
        "finite_difference": "agl.bilevel.engines:finite_difference",
        "none": "agl.bilevel.engines:none",
    },
    "plugin": {},
}

GIVEN: dict[str, frozenset[str]] = {
    "loss": frozenset({"scores", "counts", "slides", "library_size", "generator", "n_genes"}),
    "model": frozenset({"n_genes", "n_features"}),
    "estimator": frozenset(),
    "primary": frozenset({"training", "seed", "root"}),
    "prior": frozenset({"training", "primary", "seed", "root"}),
    "gene_set": frozenset({"candidates", "seed", "root"}),
    "selector": frozenset({"candidates", "seed"}),
    "split": frozenset({"spots", "root", "seed", "validation_fraction", "validation_unit"}),
    "sampler": frozenset({"slides", "batch_size", "rng"}),
    "objective": frozenset({"primary", "auxiliary", "weights", "strength"}),
    "augment": frozenset({"batch", "rng", "held"}),
    "engine": frozenset({"problem", "inner_batches", "outer_batch", "settings"}),
    "plugin": frozenset({"seed"}),
}  # fmt: skip
