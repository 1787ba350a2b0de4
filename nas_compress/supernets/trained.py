"""The weights that come with the package: where they are, what they are (a card), and whether they are whole.

Both files of a super-network are in one folder, `NAME.safetensors` and `NAME.json`; `benchmarks/ship_supernet.py`
writes them. The registry knows the path of the first as it knows the address of published weights, by
`Entry.info["weights"]`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nas_compress.errors import CheckpointError
from nas_compress.files import replacing

FOLDER = Path(__file__).resolve().parents[1] / "trained"
"""Where the package keeps trained weights."""

Role = Literal["smallest", "median", "largest"]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Result(BaseModel):
    """One sub-network, measured on the test part with the weights it inherits.

    Attributes:
        role: The smallest of the space, the largest, or the one of median MACs among random ones.
        architecture: Its genes.
        macs: Multiply-accumulates for one input.
        params: Its parameters.
        value: The metric of the card.
        spread: The standard error of the value, in the same unit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Role
    architecture: dict[str, list[int | float | str]]
    macs: int
    params: int
    value: float
    spread: float | None


class Card(BaseModel):
    """What there is to know of a super-network's trained weights, as `NAME.json` holds it.

    Attributes:
        supernet: The registered name.
        sha256: Of the weights' file.
        size: Bytes of the weights' file.
        dtype: What the file holds matrices in; loaded, they are fp32.
        dataset: Name of the data source.
        data: Fingerprint of the data and its parts.
        licence: That of the data.
        note: What else is to be known of the data or the training, in a sentence; empty for nothing.
        recipe: What makes the weights again: `nas-compress train-supernet RECIPE`.
        log: What each epoch of training came to.
        seconds: Time that the training took.
        machine: What it ran on.
        versions: Versions of the packages that it ran with.
        metric: Name of the metric in the results.
        unit: Its unit.
        conditions: What the results depend on besides the weights: part and number of examples, precision, decoding.
        results: The smallest, a median and the largest sub-network.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["nas_compress trained super-network"] = "nas_compress trained super-network"
    version: Literal[1] = 1
    supernet: str
    sha256: Digest
    size: int = Field(gt=0)
    dtype: Literal["fp32", "fp16", "bf16"]
    dataset: str
    data: str
    licence: str
    note: str = ""
    recipe: dict[str, Any]
    log: list[dict[str, Any]]
    seconds: float = Field(gt=0)
    machine: str
    versions: dict[str, str]
    metric: str
    unit: str
    conditions: dict[str, Any]
    results: list[Result]

    def result(self, role: Role) -> Result:
        """Return the result of one of the sub-networks."""
        return next(result for result in self.results if result.role == role)


def weights_file(name: str, folder: Path = FOLDER) -> Path:
    """Return where the trained weights of a super-network are or would be."""
    return folder / f"{name}.safetensors"


def shipped(name: str, folder: Path = FOLDER) -> str | None:
    """Return the path of the weights that come with the package; None where there are none."""
    path = weights_file(name, folder)
    return str(path) if _card_file(path).is_file() else None


def is_remote(address: str) -> bool:
    """Return whether the registry's address of weights is to be downloaded from; others are paths."""
    return address.startswith(("https://", "http://"))


def cards(folder: Path = FOLDER) -> list[Card]:
    """Return the cards of all super-networks that come trained, by name.

    Raises:
        CheckpointError: A card is damaged.
    """
    return [read_card(weights_file(path.stem, folder)) for path in sorted(folder.glob("*.json"))]


def read_card(weights: Path) -> Card:
    """Return the card beside a file of weights.

    Raises:
        CheckpointError: It is missing or damaged, or of another super-network than the file's name says.
    """
    path = _card_file(weights)
    try:
        card = Card.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"no card for {weights}: cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"])) or "the file"
        raise CheckpointError(f"{path} is no card of trained weights: {where}: {problem['msg'].lower()}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is no card of trained weights: it is not text") from error
    if card.supernet != weights.stem:
        raise CheckpointError(f"{path} is the card of supernet {card.supernet!r}, not of {weights.stem!r}")
    return card


def verified(weights: str | Path) -> Path:
    """Return a file of weights that is, byte for byte, the one its card is about.

    Raises:
        CheckpointError: The file or its card is missing, damaged, or another one.
    """
    path = Path(weights)
    card = read_card(path)
    try:
        found = sha256(path)
    except OSError as error:
        raise CheckpointError(f"cannot read the weights {path}: {error.strerror}") from error
    if found != card.sha256:
        size = path.stat().st_size
        torn = f"it has {size:,} bytes, not {card.size:,}" if size != card.size else f"its sha256 is {found}"
        raise CheckpointError(
            f"{path} is not the file that its card is about ({torn}, the card has {card.sha256}); "
            "install nas-compress again, or name a file of your own in supernet_ckpt_path"
        )
    return path


def write_card(card: Card, folder: Path = FOLDER) -> Path:
    """Write a card beside its weights, all at once or not at all, and return its path.

    Raises:
        OutputError: The file cannot be written.
    """
    path = _card_file(weights_file(card.supernet, folder))
    with replacing(path) as temporary:
        temporary.write_text("\n".join(_lines(card)) + "\n", encoding="utf-8")
    return path


def _lines(card: Card) -> Iterator[str]:
    """Yield the card as JSON: fields one a line, and so the entries of lists."""
    fields = card.model_dump(mode="json")
    yield "{"
    for number, (name, value) in enumerate(fields.items(), 1):
        comma = "," if number < len(fields) else ""
        if isinstance(value, list) and value:
            rows = ",\n".join(f"  {json.dumps(row)}" for row in value)
            yield f" {json.dumps(name)}: [\n{rows}\n ]{comma}"
        else:
            yield f" {json.dumps(name)}: {json.dumps(value)}{comma}"
    yield "}"


def _card_file(weights: Path) -> Path:
    return weights.with_suffix(".json")


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
