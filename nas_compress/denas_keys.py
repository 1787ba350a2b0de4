"""The keys of DE-NAS's configuration files, in the words of our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from nas_compress.settings import show

ModelType = Literal["cnn", "vit", "transformer", "bert", "asr"]
"""DE-NAS's domains; its files call `vit` `transformer`."""

SearchEngine = Literal["EvolutionarySearchEngine", "RandomSearchEngine", "BayesianOptimizationSearchEngine"]
"""DE-NAS's names of search engines."""

ENGINE: SearchEngine = "EvolutionarySearchEngine"
"""The one that is used where none is named."""

SUPERNETS: Mapping[str, str] = dict(
    zip(get_args(ModelType), ("denas_cnn", "denas_vit", "denas_vit", "bert_base_denas", "denas_asr"), strict=True)
)
"""The super-network of each domain in DE-NAS's published configuration."""

STRATEGIES: Mapping[str, str] = dict(zip(get_args(SearchEngine), ("denas", "random", "bo"), strict=True))
"""The strategy of each search engine."""

ELSEWHERE: Mapping[str, str] = {
    "seed": "stands in nas.search",
    "domain": "is called model_type here",
    "supernet_cfg": "is not read; name a super-network (supernet), and restrict it with nas.search.search_space",
    "plainnet_struct": "is that of denas_cnn; other chains are for Python (ConvChainSupernet)",
    "img_size": "is that of the super-network",
    "num_classes": "is that of the super-network",
    "patch_size": "is that of the super-network",
    "pretrained_bert": "is not read; a file with weights goes into supernet_ckpt_path",
    "pretrained_bert_config": "is not read; BertConfig.from_folder makes a super-network of a Hugging Face folder",
    "random_max_epochs": "is not needed: limits on computed metrics are met by construction",
    "sigopt_max_epochs": "is not needed; num_evals sets the budget",
    "scale_factor": "is not needed; choices of published spaces are already in steps",
}
"""Keys of DE-NAS's files that have no place in the section, and what to do instead."""

_LIMITS: Mapping[str, tuple[str, str, float, str]] = {
    "budget_model_size": ("params", "<=", 1, ""),
    "max_param_limits": ("params", "<=", 1e6, ""),
    "min_param_limits": ("params", ">=", 1e6, ""),
    "budget_flops": ("macs", "<=", 1, ""),
    "budget_num_layers": ("layers", "<=", 1, ""),
    "budget_latency_sec": ("latency", "<=", 1e3, " ms"),
}
"""DE-NAS's limits: metric, sign, our unit over theirs, and how ours is written."""

_SIZES = ("population", "crossover_num", "mutation_num")
"""What the size of a generation follows from; null, 0 and the like are left for validation."""

DENAS_KEYS: Mapping[str, Mapping[str, Any]] = {
    "population_num": {"type": "integer", "minimum": 1},
    "max_epochs": {"type": "integer", "minimum": 1},
    **{key: {"type": ["number", "null"], "exclusiveMinimum": 0} for key in _LIMITS},
}
"""Keys of DE-NAS's files that stand for keys of ours, with the JSON schema of their values."""


def translated(section: Mapping[str, Any], population: int) -> dict[str, Any]:
    """Return the settings of a section in our keys; those that DE-NAS does not have stay as they are.

    `population_num` is `population`; `max_epochs` gives `num_evals`, generation by generation; `budget_model_size`,
    `budget_flops` (DE-NAS counts multiply-accumulates), `budget_num_layers`, `budget_latency_sec`, `max_param_limits`
    and `min_param_limits` (millions) are limits.

    Args:
        section: The settings as they stand in a file.
        population: The size of a population where the section has none.

    Raises:
        ValueError: A key has no place here, is given in both spellings, or its value is no number.
    """
    if reasons := [f"{key} {ELSEWHERE[key]}" for key in section if key in ELSEWHERE]:
        raise ValueError("; ".join(reasons))
    ours = {key: value for key, value in section.items() if key not in DENAS_KEYS}
    if "population_num" in section:
        _refuse_both(section, "population_num", "population")
        ours["population"] = _number(section, "population_num", whole=True)
    if "max_epochs" in section:
        _refuse_both(section, "max_epochs", "num_evals")
        given = {key: int(_number(ours, key, whole=True)) for key in _SIZES if ours.get(key)}
        halves = (given.get(key, 0 if ours.get(key) == 0 else None) for key in _SIZES[1:])
        size = given.get("population", population)
        later = int(_number(section, "max_epochs", whole=True)) - 1
        ours["num_evals"] = size + later * sum(children(size, *halves))
    for key in (key for key in _LIMITS if key in section and section[key] is not None):
        metric, sign, factor, unit = _LIMITS[key]
        text = f"{sign} {_number(section, key) * factor:.15g}{unit}"
        ours["constraints"] = _with_limit(ours.get("constraints"), metric, text)
    return ours


def children(population: int, crossovers: int | None, mutants: int | None) -> tuple[int, int]:
    """Return the crossovers and the mutants of a generation after the first; None stands for half of the population."""
    half = population // 2
    return half if crossovers is None else crossovers, population - half if mutants is None else mutants


def _with_limit(constraints: Any, metric: str, text: str) -> Any:
    """Return constraints with one more; what is no mapping of texts is left for validation to refuse."""
    if constraints is not None and not isinstance(constraints, Mapping):
        return constraints
    given = dict(constraints or {})
    before = given.get(metric, [])
    given[metric] = [*(before if isinstance(before, list) else [before]), text]
    return given


def _number(section: Mapping[str, Any], key: str, *, whole: bool = False) -> float:
    value = section[key]
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not value > 0:
        raise ValueError(f"{key}: {show(value)} is not a {'whole ' if whole else ''}number over 0")
    return value


def _refuse_both(section: Mapping[str, Any], theirs: str, ours: str) -> None:
    if ours in section:
        raise ValueError(f"{theirs} and {ours} are both given; they say the same, give one")
