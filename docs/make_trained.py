"""Write docs/trained.md from the cards of the weights in the package: `python docs/make_trained.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from nas_compress.supernets import supernets
from nas_compress.supernets.trained import FOLDER, Card, Role, cards

PAGE = Path(__file__).with_name("trained.md")
METRICS = {"acc": "accuracy", "bleu": "BLEU", "wer": "word error rate"}

HEAD = """# Super-networks that come trained

Written from the cards in `nas_compress/trained/` by `python docs/make_trained.py`; do not edit.

These super-networks bring their weights with them: `supernet: NAME` in a config or a recipe, or `load_supernet(NAME)`,
needs no checkpoint. The file is compared with the SHA-256 on its card before it is read. For data with other classes,
a super-network is trained anew, or a file of yours is named in `supernet_ckpt_path`.
"""

NONE = "In this version there are none.\n"

TABLE = """Quality is that of sub-networks with the weights they inherit, on the official test part, with its standard
error; those for images had their batch normalisation recalibrated before, on training images changed as in training.
`median` is that of median MACs among 101 random ones.
"""

AGAIN = """## How they were trained

`nas-compress train-supernet RECIPE` trains one again. Its output folder and
`python benchmarks/ship_supernet.py NAME FOLDER --machine WORDS --seconds N` make both files.
"""

COLUMNS = ("name", "data", "sub-networks", "MACs", "quality", "smallest", "median", "largest", "training", "file")


def render(folder: Path = FOLDER) -> str:
    """Return the page about the cards in a folder."""
    found = cards(folder)
    if not found:
        return f"{HEAD}\n{NONE}"
    rows = [COLUMNS, ("---",) * len(COLUMNS), *map(_row, found)]
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in rows)
    return "\n".join([HEAD, TABLE, table, AGAIN, *map(_section, found)])


def _row(card: Card) -> Sequence[str]:
    size = supernets.entry(card.supernet).info["space"]().size()
    ends = (_short(card.result(role).macs) for role in ("smallest", "largest"))
    return (
        f"`{card.supernet}`",
        f"`{card.dataset}`",
        f"{size:,}",
        " to ".join(ends),
        f"{METRICS.get(card.metric, card.metric)}{f' ({card.unit})' if card.unit else ''}, {_examples(card)}",
        *(_value(card, role) for role in ("smallest", "median", "largest")),
        f"{_duration(card.seconds)}, {card.machine}",
        f"{card.size / 1e6:.1f} MB, {card.dtype}",
    )


def _value(card: Card, role: Role) -> str:
    result = card.result(role)
    return f"{result.value:.2f}" + (f" ± {result.spread:.2f}" if result.spread is not None else "")


def _examples(card: Card) -> str:
    """Return what the quality was measured on: `"10,000 images"`."""
    for counted in ("images", "sentences", "utterances"):
        if counted in card.conditions:
            return f"{card.conditions[counted]:,} {counted}"
    return card.conditions["split"]


def _section(card: Card) -> str:
    return "\n".join(_lines(card))


def _lines(card: Card) -> Iterator[str]:
    yield f"### `{card.supernet}`\n"
    facts = {key: value for key, value in card.conditions.items() if key not in ("dataset", "data", "split")}
    note = f" {card.note}" if card.note else ""
    yield f"- Data: `{card.dataset}`, fingerprint `{card.data}`; licence: {card.licence}.{note}"
    yield f"- Measured on the {card.conditions['split']} part: {_words(facts)}."
    yield f"- Parameters: {', '.join(f'{_short(r.params)} ({r.role})' for r in card.results)}."
    yield f"- Training: {_duration(card.seconds)}, {card.machine}; {_words(card.versions)}."
    yield f"- File: {card.size:,} bytes, SHA-256 `{card.sha256}`."
    yield "\n```yaml"
    yield yaml.safe_dump(card.recipe, sort_keys=False, allow_unicode=True, width=110) + "```\n"


def _words(facts: dict[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in facts.items())


def _short(number: float) -> str:
    """Return a count to three digits: `"5.52M"`."""
    scale, letter = next(((s, x) for s, x in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if number >= 0.9995 * s), (1.0, ""))
    return f"{number / scale:.{max(0, 3 - len(str(int(number / scale))))}f}{letter}"


def _duration(seconds: float) -> str:
    return (
        f"{seconds / 3600:.1f} h"
        if seconds >= 3600
        else f"{seconds / 60:.0f} min"
        if seconds >= 90
        else f"{seconds:.0f} s"
    )


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
