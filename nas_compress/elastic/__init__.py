"""Weight-sharing layers: the largest layer's weights, of which a leading part is active. No search code.

Each layer keeps its active sizes as attributes, computes with that part of its weights, and returns an
independent plain torch layer from `extract()`.
"""

from nas_compress.elastic.channels import by_importance, make_divisible, norm_tensors, permute
from nas_compress.elastic.conv import ElasticConv2d, ElasticDepthwiseConv2d
from nas_compress.elastic.inverted_residual import ACTIVATIONS, ElasticInvertedResidual, InvertedResidual
from nas_compress.elastic.norm import ElasticBatchNorm2d
from nas_compress.elastic.squeeze_excite import ElasticSqueezeExcite, SqueezeExcite

__all__ = [
    "ACTIVATIONS",
    "ElasticBatchNorm2d",
    "ElasticConv2d",
    "ElasticDepthwiseConv2d",
    "ElasticInvertedResidual",
    "ElasticSqueezeExcite",
    "InvertedResidual",
    "SqueezeExcite",
    "by_importance",
    "make_divisible",
    "norm_tensors",
    "permute",
]
