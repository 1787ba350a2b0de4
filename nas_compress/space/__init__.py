"""Search spaces: plain descriptions of what can vary, free of any deep-learning library."""

from nas_compress.space.architecture import Architecture, Value
from nas_compress.space.catalog import bert_base_sst2, compofa_space, mobilenet_space, resnet_space
from nas_compress.space.couplings import CoupledSpace, Coupling
from nas_compress.space.dimension import Condition, Dimension, depth_conditions
from nas_compress.space.search_space import INACTIVE, SearchSpace

__all__ = [
    "INACTIVE",
    "Architecture",
    "Condition",
    "CoupledSpace",
    "Coupling",
    "Dimension",
    "SearchSpace",
    "Value",
    "bert_base_sst2",
    "compofa_space",
    "depth_conditions",
    "mobilenet_space",
    "resnet_space",
]
