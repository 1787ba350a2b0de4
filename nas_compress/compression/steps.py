"""The steps of a recipe, one function each: from the state and the step's options to an outcome in plain data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from nas_compress.compression.state import CHOSEN, LARGEST, State
from nas_compress.recipe import (
    BenchmarkStep,
    ExportStep,
    FinetuneStep,
    NasStep,
    QuantizeStep,
    SelectStep,
    TrainSupernetStep,
)

if TYPE_CHECKING:
    from torch import Tensor

    from nas_compress.supernets.base import ImageSupernet

Outcome = dict[str, Any]


class Tick(Protocol):
    """Reports how far a step is, in its own units of work."""

    def __call__(self, done: float, total: float, note: str = "") -> None:
        """Take the work done, the work in all, and a few words on where it stands."""


def train_supernet(state: State, options: TrainSupernetStep, tick: Tick) -> Outcome:
    """Train the recipe's super-network from random weights."""
    from nas_compress.supernets import load_supernet
    from nas_compress.training.config import SupernetTrainConfig
    from nas_compress.training.trainer import train_supernet as train
    from nas_compress.weights import write_state

    recipe = state.recipe
    classes = len(state.data.classes)
    net = load_supernet(recipe.supernet, trained=False, num_classes=classes, seed=recipe.seed)
    config = SupernetTrainConfig(seed=recipe.seed, **options.model_dump())
    folder, weights = state.work("train_supernet"), "supernet.safetensors"
    log = train(cast("ImageSupernet", net), state.data, config, checkpoint_dir=folder, progress=_training_tick(tick))
    write_state(state.folder / weights, net.state_dict(), {"supernet": net.describe()})
    shutil.rmtree(folder)
    return {"weights": weights, "files": [weights], "log": [asdict(epoch) for epoch in log]}


def nas(state: State, options: NasStep, tick: Tick) -> Outcome:
    """Search the super-network; the archive keeps every measurement."""
    result = state.search(lambda p: tick(p.done, p.total, p.note))
    files = ["search_results.csv", "search_results.jsonl"]
    for name in files:
        _copy(state.work("nas") / name, state.folder / name)
    result.plot(state.folder / "pareto.png", x=options.metrics[-1] if len(options.metrics) > 1 else None)
    return {"evaluations": len(result), "front": len(result.front()), "files": [*files, "pareto.png"]}


def select(state: State, options: SelectStep, tick: Tick) -> Outcome:
    """Choose an architecture, and extract and recalibrate it and the largest one."""
    from nas_compress.objectives.calibration import calibrated_subnet

    direction, metric = options.goal
    goal: dict[str, Any] = {direction: metric}
    trial = state.search().best(options.constraints, **goal)
    images = state.agent.config.section.calibration_images
    networks = {}
    for done, (role, architecture) in enumerate(((LARGEST, state.architecture(LARGEST)), (CHOSEN, trial.architecture))):
        tick(done, 2, f"recalibrating the {role} sub-network")
        subnet = calibrated_subnet(state.supernet, architecture, state.data, images)
        networks[role] = state.keep_network("select", role, subnet)
    return {
        "architecture": trial.architecture.to_dict(),
        "values": dict(trial.values),
        "constraints": options.constraints,
        "networks": networks,
        "files": list(networks.values()),
    }


def finetune(state: State, options: FinetuneStep, tick: Tick) -> Outcome:
    """Train the chosen sub-network alone.

    The trained weights are kept unless they are worse on the search-validation images by more than the standard
    error: the untrained ones were chosen for their accuracy on those very images, and flatter themselves.
    """
    from nas_compress.data.base import batches
    from nas_compress.objectives.calibration import CALIBRATION_BATCH, recalibrate_bn
    from nas_compress.objectives.quality import accuracy
    from nas_compress.training.config import FinetuneConfig
    from nas_compress.training.trainer import finetune as train

    net, data = state.supernet, state.data
    before, tuned = state.network(CHOSEN), state.network(CHOSEN)
    size, folder = net.resolution(state.architecture(CHOSEN)), state.work("finetune")
    values = options.model_dump()
    teacher = state.network(LARGEST) if values.pop("teacher") == LARGEST else None
    train(
        tuned,
        data,
        size,
        FinetuneConfig(seed=state.recipe.seed, **values),
        teacher=teacher,
        teacher_resolution=net.resolution(state.architecture(LARGEST)),
        checkpoint_dir=folder,
        progress=_training_tick(tick),
    )
    recalibrate_bn(tuned, (x for x, _ in batches(data.train, CALIBRATION_BATCH, size)))
    old, new = (accuracy(module, data.val, size) for module in (before, tuned))
    better = new.value >= old.value - (new.spread or 0)
    kept = state.keep_network("finetune", CHOSEN, tuned if better else before)
    shutil.rmtree(folder)
    scores = {"before": old.value, "after": new.value, "spread": new.spread}
    return {
        "val_accuracy": scores,
        "kept": "after" if better else "before",
        "networks": {CHOSEN: kept},
        "files": [kept],
    }


def quantize(state: State, options: QuantizeStep, tick: Tick) -> Outcome:
    """Quantize the chosen sub-network to int8, calibrated on training images."""
    from nas_compress.data.base import batches
    from nas_compress.objectives.calibration import CALIBRATION_BATCH

    size = state.supernet.resolution(state.architecture(CHOSEN))
    limit = options.calibration_images
    images = [x for x, _ in batches(state.data.train, min(CALIBRATION_BATCH, limit), size, limit=limit)]
    if options.engine == "inc":
        return _quantize_inc(state, images, tick)
    from nas_compress.compression.export import export_onnx
    from nas_compress.compression.quantize import quantize_onnx

    tick(0, 2, "exporting to ONNX")
    source, target = "steps/quantize_fp32.onnx", "steps/quantize_int8.onnx"
    export_onnx(state.network(CHOSEN), images[0], state.folder / source, _metadata(state, CHOSEN))
    tick(1, 2, f"calibrating on {sum(map(len, images))} images")
    quantize_onnx(
        state.folder / source,
        state.folder / target,
        images,
        method=options.method,
        per_channel=options.per_channel,
        exclude=options.exclude,
    )
    return {"engine": "onnxruntime", "files": [target, source]}


def _quantize_inc(state: State, images: list[Tensor], tick: Tick) -> Outcome:
    from nas_compress.compression.inc import quantize_inc

    tick(0, 1, "quantizing with Intel Neural Compressor")
    target = "steps/quantize_int8.pt2"
    quantize_inc(state.network(CHOSEN), images[0][:1], images).save(state.folder / target)
    return {"engine": "inc", "files": [target]}


def export(state: State, options: ExportStep, tick: Tick) -> Outcome:
    """Write the largest and the chosen sub-network, and the int8 one where there is one, under `models/`."""
    from nas_compress.compression.export import export_onnx
    from nas_compress.weights import write_state

    artefacts: dict[str, str] = {}
    files = []
    for done, role in enumerate((LARGEST, CHOSEN)):
        tick(done, 3, f"exporting the {role} sub-network")
        module, name = state.network(role), f"models/{role}_fp32"
        if "onnx" in options.formats:
            example = state.supernet.example_input(2, state.architecture(role))
            export_onnx(module, example, state.folder / f"{name}.onnx", _metadata(state, role))
            artefacts[f"{role} fp32"] = f"{name}.onnx"
        if "safetensors" in options.formats:
            write_state(state.folder / f"{name}.safetensors", module.state_dict(), _metadata(state, role))
            files.append(f"{name}.safetensors")
    if "quantize" in state.outcomes:
        source = state.folder / state.outcomes["quantize"]["files"][0]
        artefacts[f"{CHOSEN} int8"] = f"models/{CHOSEN}_int8{source.suffix}"
        _copy(source, state.folder / artefacts[f"{CHOSEN} int8"])
    return {"artefacts": artefacts, "files": [*files, *artefacts.values()]}


def benchmark(state: State, options: BenchmarkStep, tick: Tick) -> Outcome:
    """Measure the exported files on test images that neither training nor search saw."""
    from nas_compress.compression.benchmark import Artefact, measure_artefacts

    files, net = state.outcomes["export"]["artefacts"], state.supernet
    roles = {name: name.split()[0] for name in files}
    sizes = {name: net.resolution(state.architecture(role)) for name, role in roles.items()}
    tick(0, 1, f"measuring {len(files)} files on {len(state.data.test)} test images")
    figures = measure_artefacts(
        {name: Artefact(state.folder / file, sizes[name]) for name, file in files.items()},
        state.data.test,
        batch_size=options.batch_size,
        threads=options.latency.threads,
        eval_batch_size=options.eval_batch_size,
        settings=options.latency.settings(),
    )
    entries = [
        {
            "name": name,
            "file": files[name],
            "precision": name.split()[1],
            "architecture": state.architecture(role).to_dict(),
            "macs": net.macs(state.architecture(role)),
            "params": net.params(state.architecture(role)),
            **figures[name].to_dict(),
        }
        for name, role in roles.items()
    ]
    return {"artefacts": entries, "test_images": len(state.data.test), "data": state.data.fingerprint}


def _copy(source: Path, target: Path) -> None:
    from nas_compress.files import replacing

    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def _metadata(state: State, role: str) -> dict[str, str]:
    """Return what a user of an exported file must know: how to prepare images, and what the outputs mean."""
    data, architecture = state.data, state.architecture(role)
    described = {
        "supernet": state.recipe.supernet,
        "architecture": architecture.to_dict(),
        "resolution": state.supernet.resolution(architecture),
        "mean": data.mean,
        "std": data.std,
        "classes": data.classes,
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in described.items()}


def _training_tick(tick: Tick) -> Callable[[Any], None]:
    """Return a training progress callback that reports steps of work."""

    def report(progress: Any) -> None:
        done = (progress.epoch - 1) * progress.steps + progress.step
        tick(done, progress.epochs * progress.steps, f"epoch {progress.epoch} of {progress.epochs}")

    return report


STEPS: Mapping[str, Callable[[State, Any, Tick], Outcome]] = {
    "train_supernet": train_supernet,
    "nas": nas,
    "select": select,
    "finetune": finetune,
    "quantize": quantize,
    "export": export,
    "benchmark": benchmark,
}
"""The function of each step of a recipe, by its name there."""
