"""Write the tables of docs/supernets.md from the registry: `python docs/make_supernets.py`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from nas_compress.space import CoupledSpace, Dimension, SearchSpace
from nas_compress.supernets import replay_of, supernets
from nas_compress.supernets.base import Supernet
from nas_compress.supernets.trained import is_remote

PAGE = Path(__file__).with_name("supernets.md")
TASKS = ("images", "text", "questions", "translation", "speech")

Row = tuple[str, ...]


def render() -> str:
    """Return the page with new tables between its marks."""
    nets = networks()
    tables = {"sizes": _table(_SIZES, (_sizes(*each) for each in nets)), "genes": _table(_GENES, map(_genes, nets))}
    return re.sub(r"(<!-- (\w+): begin -->\n).*?(<!-- \2: end -->)", _fill(tables), PAGE.read_text("utf-8"), flags=re.S)


@cache
def networks() -> list[tuple[Supernet, dict[str, Any]]]:
    """Return every registered super-network, without memory for its weights, and what the registry knows of it."""
    names = [name for name in supernets if replay_of(name) is None]
    with torch.device("meta"):
        made = [(supernets.get(name)(seed=0), dict(supernets.entry(name).info)) for name in names]
    return sorted(made, key=lambda each: (_task(each[1]), not each[1]["metrics"], _family(each[0]), each[0].name))


def _task(info: dict[str, Any]) -> int:
    return TASKS.index(info.get("task", "images"))


def _family(net: Supernet) -> str:
    return str(net.describe()["family"])


def _fill(tables: dict[str, str]) -> Callable[[re.Match[str]], str]:
    return lambda match: match[1] + tables[match[2]] + match[3]


_SIZES = ("name", "family", "task", "data", "MACs", "parameters", "trained weights")
_GENES = ("name", "what is elastic", "distinct sub-networks")


def _table(head: Row, rows: Iterable[Row]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _sizes(net: Supernet, info: dict[str, Any]) -> Row:
    ends = net.space.smallest(), net.space.largest()
    macs, params = (" to ".join(_short(count(end)) for end in ends) for count in (net.macs, net.params))
    task, metrics = TASKS[_task(info)], ", ".join(info["metrics"]) or "no metric of quality"
    data, address = info["dataset"], info["weights"]
    task = f"{task} ({metrics})"
    return f"`{net.name}`", _family(net), task, f"`{data}`" if data else "-", macs, params, _weights(address)


def _weights(address: str | None) -> str:
    """Return a link to where a super-network's weights come from."""
    if address is None:
        return "-"
    return f"[{address.split('/')[2]}]({address})" if is_remote(address) else "[in the package](trained.md)"


def _short(number: int) -> str:
    """Return a count to three digits: `"41.5M"`."""
    scale, letter = next((s, letter) for s, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if number >= 0.9995 * s)
    return f"{number / scale:.{3 - len(str(int(number / scale)))}f}{letter}"


def _genes(each: tuple[Supernet, dict[str, Any]]) -> Row:
    space = each[0].space
    return f"`{space.name}`", "; ".join(_elastic(space)), f"{space.size():,}"


def _elastic(space: SearchSpace) -> Iterator[str]:
    for dimension in space.dimensions:
        if any(len(choices) > 1 for choices in dimension.choices):
            yield f"`{dimension.name}` {_choices(dimension)}"
    if isinstance(space, CoupledSpace):
        for coupling in space.couplings:
            yield f"`{coupling.dimension}` follows `{coupling.leader}`"


def _choices(dimension: Dimension) -> str:
    """Return the values of a dimension's genes, neighbours of the same values together: `"20 x {3, 5, 7}"`."""
    groups: list[list[Any]] = []
    for choices in dimension.choices:
        if groups and groups[-1][1] == choices:
            groups[-1][0] += 1
        else:
            groups.append([1, choices])
    return ", ".join(f"{count} x {_values(choices)}" if count > 1 else _values(choices) for count, choices in groups)


def _values(choices: Sequence[Any]) -> str:
    """Return the legal values of a gene; long rows of numbers by their ends and their step."""
    if len(choices) > 4 and not isinstance(choices[0], str):
        steps = {after - before for before, after in zip(choices, choices[1:], strict=False)}
        if len(steps) == 1:
            return f"{{{choices[0]}, {choices[1]}, ..., {choices[-1]}}}"
    return f"{{{', '.join(map(str, choices))}}}"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
