"""Put the weights that a recipe trained into the package, with a card of what they are.

    nas-compress train-supernet recipe.yaml
    python benchmarks/ship_supernet.py fashion_mnist_mbv3 outputs/recipe --seconds 4260 --machine "one core of a Xeon"
    python docs/make_trained.py && python docs/make_supernets.py

FOLDER is the recipe's output folder: its `supernet.safetensors`, `recipe.yaml` and `steps.json` are read. The smallest,
a median and the largest sub-network are measured on the official test part, images after BN recalibration, from the
file as it is stored. The files are the package's `nas_compress/trained/NAME.safetensors` and `NAME.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import safe_open

from nas_compress.data import load_data
from nas_compress.data.base import ImageData
from nas_compress.data.fit import Data, check_network
from nas_compress.data.speech import SpeechData
from nas_compress.data.translation import TranslationData
from nas_compress.errors import CheckpointError, ConfigError, NASError
from nas_compress.objectives.base import Objective
from nas_compress.objectives.calibration import calibrated_subnet, calibration_conditions
from nas_compress.objectives.quality import Accuracy, SentenceAccuracy
from nas_compress.objectives.speech import WordErrorRate
from nas_compress.objectives.translation import Bleu
from nas_compress.recipe import Recipe
from nas_compress.space import Architecture
from nas_compress.supernets import load_supernet, supernets
from nas_compress.supernets.base import ImageSupernet, Supernet
from nas_compress.supernets.trained import FOLDER, Card, Result, Role, sha256, weights_file, write_card
from nas_compress.weights import Tensors, read_header, read_state, write_state

MOST_BYTES = 6_000_000
"""The package stays small: a larger file is refused."""

CALIBRATION_IMAGES = 2000
SAMPLED = 101
"""Random architectures, of which the median by MACs is measured."""

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

LICENCES = {
    "digits": "CC BY 4.0 (UCI Optical Recognition of Handwritten Digits)",
    "fashion_mnist": "MIT (Zalando SE)",
    "cifar10": "none stated (Krizhevsky, 2009)",
    "multi30k": "none stated; captions of Flickr30k (Elliott et al., 2016)",
    "fsdd": "CC BY-SA 4.0",
}
"""Licences of data sources."""

PACKAGES = ("nas-compress", "torch", "numpy", "tokenizers", "sacrebleu", "jiwer")


def ship(
    name: str,
    folder: Path,
    *,
    machine: str,
    seconds: float,
    to: Path = FOLDER,
    dtype: str = "fp32",
    licence: str | None = None,
    note: str = "",
    dataset_path: Path | None = None,
    calibration_images: int = CALIBRATION_IMAGES,
) -> Card:
    """Write weights and card of a trained super-network and return the card.

    Args:
        name: Its registered name.
        folder: The output folder of the recipe that trained it.
        machine: What it was trained on, in a few words.
        seconds: Time that the training took.
        to: Where the two files go.
        dtype: What matrices are stored in: fp32, fp16 or bf16; vectors and statistics stay as they are.
        licence: That of the data, where `LICENCES` does not say.
        note: What else is to be known of the data or the training, in a sentence.
        dataset_path: Where the data are now, in place of the recipe's folder.
        calibration_images: Training images for BN recalibration.

    Raises:
        NASError: The folder is not what such a recipe leaves, or the file is too large.
    """
    recipe, outcome = read_run(name, folder)
    dataset = recipe.dataset or supernets.entry(name).info["dataset"]
    licence = licence or LICENCES.get(dataset)
    if licence is None:
        raise ConfigError(f"the licence of data {dataset!r} is not known here; give --licence")
    data = load_data(dataset, dataset_path or recipe.dataset_path)
    training = {"dataset": dataset, "data": data.fingerprint, "licence": licence, "recipe": training_recipe(recipe)}
    training |= {"note": note, "log": outcome["log"], "seconds": seconds, "machine": machine, "versions": versions()}
    file = weights_file(name, to)
    draft = file.with_name(f".{name}.draft.safetensors")
    try:
        trained = folder / "supernet.safetensors"
        write_state(draft, stored(read_state(trained), dtype), read_header(trained))
        described = {"supernet": name, "sha256": sha256(draft), "size": small(draft, dtype), "dtype": dtype}
        card = Card(**described, **training, **measure(load_supernet(name, draft), data, calibration_images))
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    write_card(card, to)
    return card


def small(path: Path, dtype: str) -> int:
    """Return the size of a file in bytes, if it is one to ship."""
    size = path.stat().st_size
    if size > MOST_BYTES:
        fewer = "store them in fewer bits (--dtype fp16), or " if dtype == "fp32" else ""
        raise CheckpointError(
            f"the weights take {size:,} bytes in {dtype}, allowed are {MOST_BYTES:,}; {fewer}train a smaller one"
        )
    return size


def read_run(name: str, folder: Path) -> tuple[Recipe, dict[str, Any]]:
    """Return the recipe of a folder, and what its training came to.

    Raises:
        NASError: The folder lacks one of them, or they are of another super-network or another training.
    """
    recipe, record, weights = Recipe.from_yaml(folder / "recipe.yaml"), folder / "steps.json", "supernet.safetensors"
    if recipe.supernet != name:
        raise ConfigError(f"{folder / 'recipe.yaml'} is about supernet {recipe.supernet!r}, not {name!r}")
    try:
        step = json.loads(record.read_text(encoding="utf-8"))["steps"]["train_supernet"]
        outcome, trained = step["outcome"], step["files"][weights]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{record} holds no finished 'train_supernet' step") from error
    if not (folder / weights).is_file() or sha256(folder / weights) != trained:
        raise CheckpointError(f"{folder / weights} is not the file that the recipe's training wrote")
    with safe_open(folder / weights, framework="pt") as file:
        made_of = json.loads((file.metadata() or {}).get("supernet", "null"))
    usual = supernets.get(name)(seed=0).describe()
    if made_of is not None and made_of != json.loads(json.dumps(usual)):
        raise CheckpointError(f"{folder / weights} is of another {name!r} than the registered one: {made_of}")
    return recipe, dict(outcome)


def training_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return what makes the weights again: the recipe up to its training, without this machine's folders."""
    plain = recipe.to_dict()
    kept = {key: value for key, value in plain.items() if key not in ("dataset_path", "output", "latency", "steps")}
    kept = {key: value for key, value in kept.items() if value is not None and value != {}}
    return {**kept, "steps": [step for step in plain["steps"] if "train_supernet" in step]}


def stored(state: Mapping[str, torch.Tensor], dtype: str) -> Tensors:
    """Return weights as the file holds them: matrices in `dtype`, all else as it is."""
    wanted = DTYPES[dtype]
    return {k: t.to(wanted) if t.is_floating_point() and t.ndim > 1 else t for k, t in state.items()}


def objective(net: Supernet, data: Data) -> Objective:
    """Return the quality that belongs to the task, on the test part."""
    if isinstance(data, ImageData):
        image_net = cast(ImageSupernet, net)
        return Accuracy(data, image_net.resolution, macs_of=image_net.macs, split="test")
    if isinstance(data, TranslationData):
        return Bleu(data, split="test")
    if isinstance(data, SpeechData):
        return WordErrorRate(data, split="test")
    return SentenceAccuracy(cast(Any, data), split="test")


def measure(net: Supernet, data: Data, calibration_images: int) -> dict[str, Any]:
    """Return the card's fields on quality: the metric, the results of three sub-networks, what else they depend on."""
    check_network(data, net)
    quality, results = objective(net, data), []
    conditions = quality.context()
    if isinstance(data, ImageData):
        conditions |= calibration_conditions(cast(ImageSupernet, net), calibration_images)
    for role, architecture in chosen(net).items():
        if isinstance(data, ImageData):
            subnet = calibrated_subnet(cast(ImageSupernet, net), architecture, data, calibration_images)
        else:
            subnet = net.extract(architecture)
        found = quality.measure(subnet, architecture)
        costs = {"macs": net.macs(architecture), "params": net.params(architecture)}
        genes = architecture.to_dict()
        results.append(Result(role=role, architecture=genes, value=found.value, spread=found.spread, **costs))
    return {"metric": quality.name, "unit": quality.unit, "conditions": conditions, "results": results}


def chosen(net: Supernet) -> dict[Role, Architecture]:
    """Return the sub-networks to measure: both ends of the space, and the median by MACs of 101 random ones."""
    sampled = sorted(net.space.sample(np.random.default_rng(0), SAMPLED), key=net.macs)
    return {"smallest": net.space.smallest(), "median": sampled[SAMPLED // 2], "largest": net.space.largest()}


def versions() -> dict[str, str]:
    """Return the versions of what the training and the figures depend on, as far as it is installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and ship."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="registered name of the super-network")
    parser.add_argument("folder", type=Path, help="output folder of the recipe that trained it")
    parser.add_argument("--machine", required=True, help="what it was trained on, in a few words")
    parser.add_argument("--seconds", type=float, required=True, help="time that the training took")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help="what matrices are stored in")
    parser.add_argument("--licence", help="that of the data, where it is not known here")
    parser.add_argument("--note", default="", help="what else is to be known, in a sentence")
    parser.add_argument("--dataset-path", type=Path, help="where the data are, if not in the recipe's folder")
    parser.add_argument("--to", type=Path, default=FOLDER, help="where the two files go")
    options = vars(parser.parse_args(arguments))
    try:
        card = ship(options.pop("name"), options.pop("folder"), **options)
    except NASError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for each in card.results:
        print(f"{each.role}: {card.metric} {each.value:.2f} +- {each.spread or 0:.2f} {card.unit}, {each.macs:,} MACs")
    print(f"{weights_file(card.supernet, options['to'])}: {card.size:,} bytes, sha256 {card.sha256}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
