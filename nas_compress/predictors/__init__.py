"""Predictors: light regressions from features of architectures to the value of an objective."""

from nas_compress.predictors.base import HeldOutScores, Predictor, held_out_scores
from nas_compress.registry import Entry, Registry

__all__ = ["HeldOutScores", "Predictor", "held_out_scores", "predictors"]

predictors: Registry[type[Predictor]] = Registry(
    "predictor",
    {
        "gp": Entry(
            "nas_compress.predictors.gp:GaussianProcessRegression",
            "Gaussian process with a linear and an RBF kernel",
        ),
        "ridge": Entry(
            "nas_compress.predictors.ridge:RidgeRegression",
            "ridge regression, its penalty by leave-one-out error",
        ),
        "svr": Entry(
            "nas_compress.predictors.svr:SupportVectorRegression",
            "RBF support vector regression, C by cross-validation",
        ),
    },
)
"""The predictors by name."""
