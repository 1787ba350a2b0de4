"""Predictors: light regressions from features of architectures to the value of an objective."""

from nas_compress.predictors.base import HeldOutScores, Predictor, held_out_scores
from nas_compress.registry import Entry, Registry

__all__ = ["HeldOutScores", "Predictor", "held_out_scores", "predictors"]

predictors: Registry[type[Predictor]] = Registry(
    "predictor",
    {
        "auto": Entry(
            "nas_compress.predictors.auto:AutomaticChoice",
            "gp, ridge, svr or boosting, whichever ranks best in cross-validation, chosen at every fit",
        ),
        "boosting": Entry(
            "nas_compress.predictors.boosting:GradientBoosting",
            "gradient-boosted trees, their number and size by cross-validation",
        ),
        "ensemble": Entry(
            "nas_compress.predictors.ensemble:StackedEnsemble",
            "ridge, svr, gp and boosting, weighted by cross-validation",
        ),
        "gp": Entry(
            "nas_compress.predictors.gp:GaussianProcessRegression",
            "Gaussian process with a linear and an RBF kernel",
        ),
        "mlp": Entry(
            "nas_compress.predictors.mlp:MultiLayerPerceptron",
            "perceptrons with one hidden layer, their penalty by cross-validation",
        ),
        "ridge": Entry(
            "nas_compress.predictors.ridge:RidgeRegression",
            "ridge regression, its penalty by leave-one-out error",
        ),
        "svr": Entry(
            "nas_compress.predictors.svr:SupportVectorRegression",
            "RBF support vector regression, its settings by cross-validation",
        ),
    },
)
"""The predictors by name."""
