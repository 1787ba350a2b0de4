"""Weight-sharing layers: the largest layer's weights, of which a leading part is active. No search code.

Each layer keeps its active sizes as attributes, computes with that part of its weights, and returns an
independent plain torch layer from `extract()`.
"""

from nas_compress.elastic.attention import Attention, DotProduct, ElasticAttention
from nas_compress.elastic.bottleneck import Bottleneck, ElasticBottleneck, ElasticConvNorm
from nas_compress.elastic.channels import by_importance, norm_tensors, permute
from nas_compress.elastic.conv import ElasticConv2d, ElasticDepthwiseConv2d
from nas_compress.elastic.feed_forward import ElasticFeedForward, FeedForward
from nas_compress.elastic.image_tokens import (
    ElasticPatchEmbedding,
    ElasticTokenClassifier,
    PatchEmbedding,
    TokenClassifier,
)
from nas_compress.elastic.inverted_residual import ACTIVATIONS, ElasticInvertedResidual, InvertedResidual
from nas_compress.elastic.linear import ElasticEmbedding, ElasticJointBiasLinear, ElasticLinear
from nas_compress.elastic.norm import ElasticBatchNorm2d, ElasticLayerNorm
from nas_compress.elastic.pre_norm import ElasticPreNormLayer, PreNormLayer
from nas_compress.elastic.relative_attention import RelativeDotProduct, RelativePositions
from nas_compress.elastic.squeeze_excite import ElasticSqueezeExcite, SqueezeExcite
from nas_compress.supernets.widths import make_divisible

__all__ = [
    "ACTIVATIONS",
    "Attention",
    "Bottleneck",
    "DotProduct",
    "ElasticAttention",
    "ElasticBatchNorm2d",
    "ElasticBottleneck",
    "ElasticConv2d",
    "ElasticConvNorm",
    "ElasticDepthwiseConv2d",
    "ElasticEmbedding",
    "ElasticFeedForward",
    "ElasticInvertedResidual",
    "ElasticJointBiasLinear",
    "ElasticLayerNorm",
    "ElasticLinear",
    "ElasticPatchEmbedding",
    "ElasticPreNormLayer",
    "ElasticSqueezeExcite",
    "ElasticTokenClassifier",
    "FeedForward",
    "InvertedResidual",
    "PatchEmbedding",
    "PreNormLayer",
    "RelativeDotProduct",
    "RelativePositions",
    "SqueezeExcite",
    "TokenClassifier",
    "by_importance",
    "make_divisible",
    "norm_tensors",
    "permute",
]
