"""PopDB: a smaller search space from where a finished search went.

An evolutionary search crowds around the Pareto front. Clustering all its architectures by density finds these
crowds; elastic values that hardly occur in them leave the space. What remains suits searches on related hardware.

Source: Sarah et al., 2022, "A Hardware-Aware System for Accelerating Deep Neural Network Optimization", sections 4.6
(population density-based constraints) and 5.3 (a threshold of 1 %). HDBSCAN: Campello et al., 2013, "Density-based
clustering based on hierarchical density estimates".
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import HDBSCAN

from nas_compress.errors import ConfigError, suggest
from nas_compress.space import Architecture, SearchSpace, Value
from nas_compress.space.search_space import FloatMatrix, IntMatrix

Choices = dict[str, list[Value]]
"""Values by gene (`"ks[3]"`)."""


@dataclass(frozen=True)
class PopDB:
    """A restricted space and how it came about.

    Attributes:
        space: The space before.
        restriction: The values that are left, for the genes that lost some: fit for `SearchSpace.restrict` and for
            `search_space` of a search config.
        restricted: The space after.
        frequencies: How often each value of a gene occurs among the clustered architectures that use the gene, as a
            part of 1. Genes that fewer than `min_cluster_size` of them use are left out: they keep all their values.
        architectures: Number of distinct architectures that were clustered.
        clusters: Number of clusters.
        noise: Number of architectures outside all clusters; they do not count.
    """

    space: SearchSpace
    restriction: Choices
    restricted: SearchSpace
    frequencies: Mapping[str, Mapping[Value, float]]
    architectures: int
    clusters: int
    noise: int

    @property
    def dropped(self) -> Choices:
        """The values that left the space, for the genes that lost some."""
        choices = _choices(self.space)
        return {gene: [v for v in choices[gene] if v not in left] for gene, left in self.restriction.items()}

    @property
    def dropped_by_dimension(self) -> dict[str, Choices]:
        """`dropped`, one mapping per dimension; that of a dimension which lost nothing is empty."""
        grouped: dict[str, Choices] = {d.name: {} for d in self.space.dimensions}
        for gene, values in self.dropped.items():
            grouped[gene.partition("[")[0]][gene] = values
        return grouped

    @property
    def unreachable(self) -> list[str]:
        """The genes that no architecture of the restricted space uses, since its depths end before them."""
        lost = _reachable(self.space) - _reachable(self.restricted)
        return [gene for gene in self.space.gene_names if gene in lost]

    @property
    def size_before(self) -> int:
        """Number of distinct sub-networks of the space before."""
        return self.space.size()

    @property
    def size_after(self) -> int:
        """Number of distinct sub-networks of the space after."""
        return self.restricted.size()


def popdb(
    space: SearchSpace,
    architectures: Sequence[Architecture],
    *,
    threshold: float | Mapping[str, float] = 0.01,
    min_cluster_size: int = 50,
    min_samples: int = 10,
) -> PopDB:
    """Restrict a space to the values that are frequent where a finished search was dense.

    Architectures count once, in canonical form, whatever their order. Each gene is judged on its own; genes that the
    restricted space never uses keep all their values.

    Args:
        space: The space that was searched.
        architectures: All architectures that the search evaluated, several thousand at best. The time grows with the
            square of their number.
        threshold: Values whose frequency is at or under it leave the space: one part of 1, or one per dimension
            (`{"ks": 0.02}`), where dimensions that are not named keep all their values.
        min_cluster_size: Fewest architectures that make a cluster, at least 2; also the fewest that must use a gene
            for its values to be judged.
        min_samples: Neighbours that an architecture must have nearby to count as in a dense place, at least 1.

    Raises:
        ArchitectureError: An architecture does not fit the space.
        ConfigError: An option is out of range, there are too few architectures, none is in a cluster, or the threshold
            leaves a gene without any value.
    """
    limits = _limits(space, threshold)
    _check_sizes(min_cluster_size, min_samples)
    rows = np.unique(space.encode(architectures).reshape(-1, len(space.cardinalities)), axis=0)
    labels = _clusters(space, rows, min_cluster_size, min_samples)
    frequencies = _frequencies(space, rows[labels >= 0], min_cluster_size)
    restriction = _restriction(space, frequencies, limits)
    return PopDB(
        space=space,
        restriction=restriction,
        restricted=space.restrict(restriction),
        frequencies=frequencies,
        architectures=len(rows),
        clusters=int(labels.max()) + 1,
        noise=int(np.sum(labels < 0)),
    )


def parse_thresholds(texts: Sequence[str], space: SearchSpace) -> dict[str, float]:
    """Read thresholds by dimension of a space: `0.01` is that of all dimensions that no `NAME=0.02` names.

    Raises:
        ConfigError: A text is neither, or a threshold is given twice.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        if name in found:
            raise ConfigError(f"--threshold: gives {f'{name!r} twice' if name else 'two numbers for all dimensions'}")
        try:
            found[name] = float(number)
        except ValueError:
            raise ConfigError(f"--threshold: {text!r} is no number, nor NAME=NUMBER, such as ks=0.02") from None
    rest = found.pop("", None)
    return ({} if rest is None else {d.name: rest for d in space.dimensions}) | found


def _choices(space: SearchSpace) -> Choices:
    """Return the legal values of every gene."""
    rows = (list(values) for dimension in space.dimensions for values in dimension.choices)
    return dict(zip(space.gene_names, rows, strict=True))


def _reachable(space: SearchSpace) -> set[str]:
    """Return the genes that some architecture uses: those that the largest does."""
    used = space.active(space.encode([space.largest()]))[0]
    return {gene for gene, on in zip(space.gene_names, used, strict=True) if on}


def _limits(space: SearchSpace, threshold: float | Mapping[str, float]) -> dict[str, float]:
    """Return the threshold by dimension, for the dimensions that have one."""
    names = [d.name for d in space.dimensions]
    limits = dict(threshold) if isinstance(threshold, Mapping) else dict.fromkeys(names, threshold)
    for name, value in limits.items():
        if name not in names:
            raise ConfigError(
                f"threshold: space {space.name!r} has no dimension {name!r}{suggest(name, names)}; it has "
                f"{', '.join(names)}"
            )
        if not isinstance(value, Real) or not 0 <= value < 1:
            of = f" of {name}" if isinstance(threshold, Mapping) else ""
            raise ConfigError(f"threshold{of}: {value!r} is not allowed; wants a part of 1, 0 <= threshold < 1")
    return limits


def _check_sizes(min_cluster_size: int, min_samples: int) -> None:
    for name, value, least in (("min_cluster_size", min_cluster_size, 2), ("min_samples", min_samples, 1)):
        try:
            valid = operator.index(value) >= least
        except TypeError:
            valid = False
        if not valid:
            raise ConfigError(f"{name}: {value!r} is not allowed; wants a whole number >= {least}")


def _clusters(space: SearchSpace, rows: IntMatrix, min_cluster_size: int, min_samples: int) -> NDArray[np.int64]:
    """Return the cluster of each architecture from 0, shape (n,); noise is negative."""
    advice = "give the results of a longer search, or lower"
    needed = max(min_cluster_size, min_samples)
    if len(rows) < needed:
        cause = "min_samples" if needed > min_cluster_size else "min_cluster_size"
        raise ConfigError(f"{len(rows)} distinct architectures are fewer than {cause} ({needed}); {advice} {cause}")
    clustering = HDBSCAN(min_cluster_size=min_cluster_size, min_samples=min_samples, copy=True)
    labels: NDArray[np.int64] = clustering.fit(_points(space, rows)).labels_
    if labels.max() < 0:
        raise ConfigError(
            f"none of {len(rows)} distinct architectures is in a cluster (min_cluster_size {min_cluster_size}, "
            f"min_samples {min_samples}): the search did not crowd anywhere; {advice} min_cluster_size or min_samples"
        )
    return labels


def _points(space: SearchSpace, rows: IntMatrix) -> FloatMatrix:
    """Return coordinates for distances, shape (n, f): scaled ranks, 0 for inactive genes, no constant genes."""
    points: FloatMatrix = (rows + 1) / space.cardinalities * space.active(rows)
    return points[:, space.cardinalities > 1]


def _frequencies(space: SearchSpace, rows: IntMatrix, fewest: int) -> dict[str, dict[Value, float]]:
    """Return the relative frequencies of values, for the genes that at least `fewest` architectures use."""
    active = space.active(rows)
    frequencies = {}
    for gene, (name, values) in enumerate(_choices(space).items()):
        used = rows[active[:, gene], gene]
        if len(used) >= fewest:
            parts = np.bincount(used, minlength=len(values)) / len(used)
            frequencies[name] = dict(zip(values, parts.tolist(), strict=True))
    return frequencies


def _restriction(
    space: SearchSpace, frequencies: Mapping[str, Mapping[Value, float]], limits: Mapping[str, float]
) -> Choices:
    """Return the values above the thresholds, for the genes that lose some and that can still be used then."""
    restriction: Choices = {}
    for gene, parts in frequencies.items():
        limit = limits.get(gene.partition("[")[0], -1.0)
        left = [value for value, part in parts.items() if part > limit]
        if not left:
            value, part = max(parts.items(), key=lambda item: item[1])
            raise ConfigError(
                f"threshold: {limit:g} leaves {gene} without a value; its most frequent one, {value}, occurs in a part "
                f"of {part:.3g}: lower the threshold under that"
            )
        if len(left) < len(parts):
            restriction[gene] = left
    reachable = _reachable(space.restrict(restriction))
    return {gene: values for gene, values in restriction.items() if gene in reachable}
