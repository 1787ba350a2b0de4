"""The steps of a recipe, one function each: from the state and the step's options to an outcome in plain data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

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
    net = load_supernet(recipe.supernet, trained=False, num_classes=len(state.data.classes), seed=recipe.seed)
    config = SupernetTrainConfig(seed=recipe.seed, **options.model_dump())
    folder = state.folder / "steps" / "training"
    log = train(net, state.data, config, checkpoint_dir=folder, progress=_training_tick(tick))
    write_state(state.folder / "supernet.safetensors", net.state_dict(), {"supernet": net.describe()})
    return {"weights": "supernet.safetensors", "epochs": len(log), "train_accuracy": log[-1].accuracy}


def nas(state: State, options: NasStep, tick: Tick) -> Outcome:
    """Search the super-network; the archive keeps every measurement."""
    result = state.search(lambda p: tick(p.done, p.total, f"{p.done} of {p.total} architectures"))
    result.plot(state.folder / "pareto.png", x=options.metrics[-1] if len(options.metrics) > 1 else None)
    return {"evaluations": len(result), "front": len(result.front()), "hypervolume": result.hypervolume()}


def select(state: State, options: SelectStep, tick: Tick) -> Outcome:
    """Choose an architecture, and extract and recalibrate it and the largest one."""
    from nas_compress.objectives.calibration import calibrated_subnet

    direction, metric = options.goal
    goal: dict[str, Any] = {direction: metric}
    trial = state.search().best(options.constraints, **goal)
    outcome: Outcome = {"architecture": trial.architecture.to_dict(), "values": dict(trial.values), "networks": {}}
    images = state.recipe.nas_config(state.folder / "search_results.csv").section.calibration_images
    state.outcomes["select"] = outcome
    for done, role in enumerate((LARGEST, CHOSEN)):
        tick(done, 2, f"recalibrating the {role} sub-network")
        subnet = calibrated_subnet(state.supernet, state.architecture(role), state.data, images)
        outcome["networks"][role] = state.keep_network("select", role, subnet)
    return outcome


def finetune(state: State, options: FinetuneStep, tick: Tick) -> Outcome:
    """Train the chosen sub-network alone; kept where it is better on the search-validation images."""
    from nas_compress.data.base import batches
    from nas_compress.objectives.calibration import CALIBRATION_BATCH, recalibrate_bn
    from nas_compress.objectives.quality import accuracy
    from nas_compress.training.config import FinetuneConfig
    from nas_compress.training.trainer import finetune as train

    net, data = state.supernet, state.data
    before, tuned = state.network(CHOSEN), state.network(CHOSEN)
    size = net.resolution(state.architecture(CHOSEN))
    values = options.model_dump()
    teacher = state.network(LARGEST) if values.pop("teacher") == LARGEST else None
    train(
        tuned,
        data,
        size,
        FinetuneConfig(seed=state.recipe.seed, **values),
        teacher=teacher,
        teacher_resolution=net.resolution(state.architecture(LARGEST)),
        checkpoint_dir=state.folder / "steps" / "finetuning",
        progress=_training_tick(tick),
    )
    recalibrate_bn(tuned, (x for x, _ in batches(data.train, CALIBRATION_BATCH, size)))
    scores = {name: accuracy(m, data.val, size).value for name, m in (("before", before), ("after", tuned))}
    kept = tuned if scores["after"] >= scores["before"] else before
    return {"val_accuracy": scores, "networks": {CHOSEN: state.keep_network("finetune", CHOSEN, kept)}}


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
    source, target = state.folder / "steps" / "quantize_fp32.onnx", "steps/quantize_int8.onnx"
    export_onnx(state.network(CHOSEN), images[0], source, _metadata(state, CHOSEN))
    tick(1, 2, f"calibrating on {sum(map(len, images))} images")
    quantize_onnx(
        source,
        state.folder / target,
        images,
        method=options.method,
        per_channel=options.per_channel,
        exclude=options.exclude,
    )
    return {"engine": "onnxruntime", "file": target}


def _quantize_inc(state: State, images: list[Tensor], tick: Tick) -> Outcome:
    from nas_compress.compression.inc import quantize_inc

    tick(0, 1, "quantizing with Intel Neural Compressor")
    target = "steps/quantize_int8.pt2"
    quantize_inc(state.network(CHOSEN), images[0][:1], images).save(state.folder / target)
    return {"engine": "inc", "file": target}


def export(state: State, options: ExportStep, tick: Tick) -> Outcome:
    """Write the largest and the chosen sub-network, and the int8 one where there is one, under `models/`."""
    from nas_compress.compression.export import export_onnx
    from nas_compress.files import replacing
    from nas_compress.weights import write_state

    files: dict[str, str] = {}
    for done, role in enumerate((LARGEST, CHOSEN)):
        tick(done, 3, f"exporting the {role} sub-network")
        module, name = state.network(role), f"models/{role}_fp32"
        if "onnx" in options.formats:
            example = state.supernet.example_input(2, state.architecture(role))
            export_onnx(module, example, state.folder / f"{name}.onnx", _metadata(state, role))
            files[f"{role} fp32"] = f"{name}.onnx"
        if "safetensors" in options.formats:
            write_state(state.folder / f"{name}.safetensors", module.state_dict(), _metadata(state, role))
    if "quantize" in state.outcomes:
        source = state.folder / state.outcomes["quantize"]["file"]
        files[f"{CHOSEN} int8"] = f"models/{CHOSEN}_int8{source.suffix}"
        with replacing(state.folder / files[f"{CHOSEN} int8"]) as temporary:
            shutil.copyfile(source, temporary)
    return {"files": files}


def benchmark(state: State, options: BenchmarkStep, tick: Tick) -> Outcome:
    """Measure the exported files on test images that neither training nor search saw."""
    from nas_compress.compression.benchmark import Artefact, measure_artefacts
    from nas_compress.objectives.timing import TimingSettings

    settings = options.latency.model_dump()
    threads = settings.pop("threads")
    del settings["backend"]
    files, net = state.outcomes["export"]["files"], state.supernet
    roles = {name: name.split()[0] for name in files}
    sizes = {name: net.resolution(state.architecture(role)) for name, role in roles.items()}
    tick(0, 1, f"measuring {len(files)} files on {len(state.data.test)} test images")
    figures = measure_artefacts(
        {name: Artefact(state.folder / file, sizes[name]) for name, file in files.items()},
        state.data.test,
        batch_size=options.batch_size,
        threads=threads,
        eval_batch_size=options.eval_batch_size,
        settings=TimingSettings(**settings),
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
