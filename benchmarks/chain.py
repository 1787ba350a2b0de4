"""The whole chain against quantization alone and pruning alone of the largest sub-network.

    python benchmarks/chain.py fashion.yaml --output chain

The recipe names a super-network (one that comes trained, or its weights, or how to train them), the data, and has a
`nas` step with accuracy and latency. Its search gives three sub-networks, the most accurate ones under `--shares` of
the largest one's latency. Each is distilled and quantized, and distilled, pruned and quantized; the largest one is
quantized alone, and pruned alone, to each of `--alone`, and trained as long, and by the same teacher, as the others are
distilled. Quantization has the same options and accuracy criterion everywhere. All files are then measured on test
images, latencies in turns, for each batch size and number of threads, and loaded again in fresh processes by ONNX
Runtime alone, which must find the same accuracy exactly. Started again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nas_compress import Recipe, compress
from nas_compress.compression.benchmark import Artefact, ArtefactFigures, measure_artefacts
from nas_compress.compression.state import State
from nas_compress.objectives.timing import TimingSettings

SETTINGS = TimingSettings(min_runs=100, budget_s=4, tolerance=0.004)

FRESH = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
with numpy.load(sys.argv[2]) as file:
    images, labels = file["images"], file["labels"]
right = 0
for start in range(0, len(labels), 64):
    logits = session.run(None, {session.get_inputs()[0].name: images[start : start + 64]})[0]
    right += int((logits.argmax(1) == labels[start : start + 64]).sum())
print(100 * right / len(labels))
"""


def recipes(base: Recipe, options: argparse.Namespace) -> Iterator[tuple[str, Recipe]]:
    """Yield the recipes by name: what is done to the largest sub-network, and to three chosen ones."""
    largest_alone = {"select": {"architecture": "largest"}}
    distill = [{"distill": training(options, options.epochs)}] if options.epochs else []
    criterion = {"tolerable_loss": options.tolerable_loss}
    quantize = {"quantize": {"method": options.method, "calibration_images": 1000, "accuracy_criterion": criterion}}
    steps: dict[str, list[Any]] = {"largest int8": [largest_alone, quantize]}
    for sparsity in options.alone:
        trained = options.epochs or options.prune_epochs
        steps[f"largest pruned {sparsity:g}"] = [largest_alone, prune(options, sparsity, trained)]
    searched = state(base)
    result, corner = searched.search(), searched.agent.space.largest()
    largest = next(trial for trial in result if trial.architecture == corner)
    for share in options.shares:
        limit = f"<= {share * largest.values['latency']:.6f} ms"
        chosen = {"select": {"architecture": result.best({"latency": limit}, maximize="acc").architecture.to_dict()}}
        steps[f"chosen {share:g} int8"] = [chosen, *distill, quantize]
        if options.sparsity:
            smaller = prune(options, options.sparsity, options.prune_epochs)
            steps[f"chosen {share:g} pruned int8"] = [chosen, *distill, smaller, quantize]
    trained = None if base.step("train_supernet") is None else base.folder / "supernet.safetensors"
    for name, listed in steps.items():
        yield (
            name,
            Recipe(
                name=name.replace(" ", "_"),
                supernet=base.supernet,
                supernet_ckpt_path=base.supernet_ckpt_path or trained,
                dataset=base.dataset,
                dataset_path=base.dataset_path,
                seed=base.seed,
                output=options.output / name.replace(" ", "_"),
                steps=[*listed, {"export": {"formats": ["onnx"]}}],
            ),
        )


def training(options: argparse.Namespace, epochs: int) -> dict[str, Any]:
    """Return the options of a training from the labels and the largest sub-network."""
    return {
        "epochs": epochs,
        "batch_size": 128,
        "lr": options.lr,
        "weight_decay": options.weight_decay,
        "precision": options.precision,
        "augment": {"flip": options.flip},
    }


def prune(options: argparse.Namespace, sparsity: float, epochs: int) -> dict[str, Any]:
    """Return a step that prunes channels at once and trains what is left."""
    return {"prune": {"target_sparsity": sparsity, "rounds": 1, "training": training(options, epochs)}}


def state(base: Recipe) -> State:
    """Return the state of the base recipe, its search done."""
    result = compress(base, until="nas", progress=show)
    found = State(base, base.folder)
    found.outcomes = result.outcomes
    record = next(base.folder.glob("steps/nas-*"))
    found.work_keys["nas"] = record.name.removeprefix("nas-")
    return found


def show(progress: Any) -> None:
    """Print a line as each step ends."""
    if progress.done == progress.total and progress.note:
        print(f"  {progress.step}: {progress.note}", file=sys.stderr)


def artefacts(base: Recipe, options: argparse.Namespace) -> dict[str, Artefact]:
    """Run all recipes and return what they exported, by name."""
    found: dict[str, Artefact] = {}
    for name, recipe in recipes(base, options):
        print(name, file=sys.stderr)
        distilled = options.output / name.replace(" pruned", "").replace(" ", "_")
        if distilled != recipe.folder and distilled.exists() and not recipe.folder.exists():
            shutil.copytree(distilled, recipe.folder)  # its distillation serves both
        outcomes = compress(recipe, progress=show).outcomes
        exported, size = outcomes["export"]["artefacts"], outcomes["select"]["architecture"]["r"][0]
        for label, file in _named(name).items():
            found[label] = Artefact(recipe.folder / exported[file], size)
    return found


def _named(name: str) -> dict[str, str]:
    """Return what the table calls the files of a recipe, and what the recipe does."""
    if name.startswith("largest pruned"):
        return {name: "chosen fp32"}
    plain = {} if "pruned" in name else {f"{name.removesuffix(' int8')} fp32": "chosen fp32"}
    return plain | {name: "chosen int8"}


def fresh_accuracies(files: dict[str, Artefact], data: Any, folder: Path) -> dict[str, float]:
    """Return each file's accuracy in % on test images, in a process of its own that has ONNX Runtime alone."""
    found = {}
    for name, file in files.items():
        images = folder / f"test_{file.resolution}.npz"
        if not images.exists():
            parts = torch.arange(len(data.test)).split(64)
            pixels = torch.cat([data.test.images(part, file.resolution) for part in parts])
            np.savez(images, images=pixels.numpy(), labels=data.test.labels.numpy())
        command = [sys.executable, "-I", "-c", FRESH, str(file.path), str(images)]
        found[name] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def main() -> None:
    """Run everything and print a table for each batch size and number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="folder for everything")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.6, 0.75, 0.9])
    parser.add_argument("--epochs", type=int, default=6, help="of distillation (default 6); 0 for none")
    parser.add_argument("--prune-epochs", type=int, default=2, help="of training after pruning (default 2)")
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--weight-decay", type=float, default=3e-5)
    parser.add_argument("--flip", action="store_true", help="train on mirrored images too")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto", help="of training")
    parser.add_argument(
        "--sparsity", type=float, default=0.25, help="share of channels pruned in the chain; 0 for none"
    )
    parser.add_argument("--alone", type=float, nargs="+", default=[0.25, 0.5], help="shares pruned of the largest")
    parser.add_argument("--method", choices=["minmax", "entropy", "percentile"], default="percentile")
    parser.add_argument(
        "--tolerable-loss", type=float, default=0.003, help="share of the accuracy that quantization may cost"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    base = Recipe.from_yaml(options.recipe)
    files = artefacts(base, options)
    data = State(base, base.folder).data
    fresh = fresh_accuracies(files, data, options.output)
    tables = []
    for batch in options.batches:
        for threads in options.threads:
            figures = measure_artefacts(files, data.test, batch_size=batch, threads=threads, settings=SETTINGS)
            tables.append({name: each.to_dict() for name, each in figures.items()})
            _print(figures, batch, threads, fresh)
    (options.output / "chain.json").write_text(json.dumps(tables, indent=1))


def _print(figures: dict[str, ArtefactFigures], batch: int, threads: int, fresh: dict[str, float]) -> None:
    cpu = figures["largest fp32"].context["hardware"]["cpu"]
    print(f"\nONNX Runtime, batch {batch}, {threads} thread(s), {cpu}")
    print(f"{'network':28}{'accuracy (%)':>16}{'latency (ms)':>20}{'kB':>9}  fresh process")
    for name, each in figures.items():
        same = "same" if fresh[name] == each.quality.value else f"NOT the same: {fresh[name]:.4f}"
        accuracy = f"{each.quality.value:.2f} ± {each.quality.spread:.2f}"
        latency = f"{each.latency.median_ms:.4f} ± {each.latency.error_ms:.4f}"
        print(f"{name:28}{accuracy:>16}{latency:>20}{each.size_bytes / 1e3:>9.1f}  {same}")
    for alone in (name for name in figures if name.startswith("largest") and name != "largest fp32"):
        print(f"better than {alone} in accuracy and latency: {', '.join(_dominating(figures, alone)) or 'none'}")


def _dominating(figures: dict[str, ArtefactFigures], alone: str) -> Sequence[str]:
    other = figures[alone]
    return [
        name
        for name, each in figures.items()
        if name.startswith("chosen")
        and each.quality.value >= other.quality.value
        and each.latency.median_ms <= other.latency.median_ms
    ]


if __name__ == "__main__":
    main()
