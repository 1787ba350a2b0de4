"""The steps of a recipe that change the chosen network: training, pruning, quantization; each judged on what it did."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nas_compress.compression.outcome import Outcome, Tick, files_of, metadata_of, training_tick
from nas_compress.compression.state import CHOSEN, LARGEST, State
from nas_compress.compression.verdict import broken, measure_change
from nas_compress.recipe import DistillStep, FinetuneStep, PruneStep, QuantizeStep
from nas_compress.recipe.steps import ChangingStep, Conditional
from nas_compress.space.precision import PRECISION

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas_compress.supernets.precision import PrecisionSupernet

logger = logging.getLogger(__name__)

FP32 = f"{CHOSEN} fp32"


def change(state: State, options: ChangingStep, tick: Tick) -> Outcome:
    """Run a step that changes the chosen network, measure before and after, and apply the step's conditions.

    A change that a condition rejects leaves no files: the steps that follow go on with the network before it.
    """
    before, size = state.model(FP32), state.resolution(CHOSEN)
    outcome = _CHANGES[type(options)](state, options, tick)
    tick(0, 1, "measuring before and after")
    after = next((state.folder / file for file in outcome["models"].values()), before)
    outcome["measured"] = measure_change(state, (before, size), (after, size))
    if not outcome["models"]:
        return outcome | {"stops": False}
    stop = broken(options.stop_if, outcome["measured"])
    skip = stop or broken(options.skip_if, outcome["measured"])
    if skip is None:
        return outcome
    for file in files_of(outcome):
        (state.folder / file).unlink(missing_ok=True)
    return outcome | {"networks": {}, "models": {}, "files": [], "dropped": skip, "stops": stop is not None}


def keep(state: State, network: nn.Module, name: str = FP32) -> Outcome:
    """Store a network that the current step made, as weights and as ONNX, with its MACs and parameters."""
    from nas_compress.compression.export import export_onnx
    from nas_compress.objectives.cost import count_macs

    role = name.split()[0]
    weights, onnx = state.keep_network(role, network), f"steps/{state.step}_{role}.onnx"
    example = state.supernet.example_input(2, state.architecture(role))
    export_onnx(network, example, state.folder / onnx, metadata_of(state, role))
    return {
        "networks": {role: weights},
        "models": {name: onnx},
        "costs": {name: {"macs": count_macs(network, example), "params": sum(p.numel() for p in network.parameters())}},
        "files": [weights, onnx],
    }


def _finetune(state: State, options: FinetuneStep, tick: Tick) -> Outcome:
    """Train the chosen network on the labels."""
    from nas_compress.training.config import FinetuneConfig

    values = options.model_dump(exclude=set(Conditional.conditions))
    return _train(state, FinetuneConfig(seed=state.recipe.seed, **values), {}, tick)


def _distill(state: State, options: DistillStep, tick: Tick) -> Outcome:
    """Train the chosen network on the outputs of a teacher."""
    from nas_compress.training.config import DistillConfig

    values = options.model_dump(exclude={*Conditional.conditions, "teacher"})
    return _train(state, DistillConfig(seed=state.recipe.seed, **values), _teacher(state, options.teacher), tick)


def _teacher(state: State, teacher: Path | str | None) -> dict[str, Any]:
    """Return the teacher, and the resolution it takes, as the training functions want them."""
    if teacher is None:
        return {}
    if not isinstance(teacher, Path):
        return {"teacher": state.network(LARGEST), "teacher_resolution": state.resolution(LARGEST)}
    from nas_compress.backends.onnxruntime import OnnxSession

    return {"teacher": OnnxSession(teacher), "teacher_resolution": state.resolution(CHOSEN)}


def _train(state: State, config: Any, teacher: Mapping[str, Any], tick: Tick) -> Outcome:
    """Train the chosen network.

    The trained weights are kept unless they are worse on the search-validation images by more than the standard
    error: the untrained ones were chosen for their accuracy on those very images, and flatter themselves.
    """
    from nas_compress.data.base import batches
    from nas_compress.objectives.calibration import CALIBRATION_BATCH, recalibrate_bn
    from nas_compress.objectives.quality import accuracy
    from nas_compress.training.trainer import finetune as train

    data, size, folder = state.data, state.resolution(CHOSEN), state.work
    before, tuned = state.network(CHOSEN), state.network(CHOSEN)
    train(tuned, data, size, config, checkpoint_dir=folder, progress=training_tick(tick), **teacher)
    recalibrate_bn(tuned, (x for x, _ in batches(data.train, CALIBRATION_BATCH, size)))
    old, new = (accuracy(module, data.val, size) for module in (before, tuned))
    better = new.value >= old.value - (new.spread or 0)
    kept = keep(state, tuned if better else before)
    shutil.rmtree(folder)
    scores = {"before": old.value, "after": new.value, "spread": new.spread}
    return {"val_accuracy": scores, "kept": "after" if better else "before", **kept}


def _prune(state: State, options: PruneStep, tick: Tick) -> Outcome:
    """Prune the chosen network, in turns with training."""
    from nas_compress.compression.prune import prune

    pruned = prune(
        state.network(CHOSEN),
        state.data,
        state.resolution(CHOSEN),
        options,
        seed=state.recipe.seed,
        checkpoint_dir=state.work,
        progress=training_tick(tick),
        **_teacher(state, options.training.teacher),
    )
    kept = keep(state, pruned.network)
    shutil.rmtree(state.work, ignore_errors=True)
    return {"pattern": options.pattern, **pruned.to_dict(), **kept}


def _quantize(state: State, options: QuantizeStep, tick: Tick) -> Outcome:
    """Quantize the chosen network, calibrated on training images."""
    from nas_compress.data.base import batches
    from nas_compress.objectives.calibration import CALIBRATION_BATCH

    size, limit = state.resolution(CHOSEN), options.calibration_images
    images = [x for x, _ in batches(state.data.train, min(CALIBRATION_BATCH, limit), size, limit=limit)]
    count = sum(map(len, images))
    if count < limit:
        logger.warning("calibration_images = %d, and data %r has %d training images", limit, state.data.name, count)
    tick(0, 1, f"calibrating on {count} images")
    if PRECISION in state.outcomes["select"]["architecture"]:
        return _quantize_as_searched(state, images)
    quantized = _quantize_inc if options.engine == "inc" else _quantize_onnx
    return {"engine": options.engine, **quantized(state, options, images)}


def _quantize_onnx(state: State, options: QuantizeStep, images: list[Tensor]) -> Outcome:
    from nas_compress.compression.quantize import quantize_onnx
    from nas_compress.compression.tune import quantize_within

    source, target = state.model(FP32), f"steps/{state.step}_int8.onnx"
    how: dict[str, Any] = {"approach": options.approach, "exclude": options.exclude}
    # What is not asked for is tuning's to choose.
    how |= {name: getattr(options, name) for name in ("method", "per_channel") if name in options.model_fields_set}
    result: Outcome = {"models": {f"{CHOSEN} int8": target}, "files": [target]}
    if options.accuracy_criterion is None:
        quantize_onnx(source, state.folder / target, images, **how)
        return result
    tuned = quantize_within(
        source,
        state.folder / target,
        images,
        accuracy=_accuracy_of_file(state),
        criterion=options.accuracy_criterion,
        tuning=options.tuning_criterion,
        **how,
    )
    result["tuning"] = tuned.to_dict()
    if not tuned.quantized:
        (state.folder / target).unlink()
        result |= {"models": {}, "files": [], "dropped": tuned.reason}
    return result


def _quantize_as_searched(state: State, images: list[Tensor]) -> Outcome:
    """Quantize the modules that are quantized in the architecture that the search found, with the search's engine."""
    network = cast("nn.Sequential", state.network(CHOSEN))
    methods = state.searched_methods(len(network))
    engine = cast("PrecisionSupernet", state.agent.supernet).options.engine
    if not any(methods):
        reason = "the search found fp32 to be best in all of the network"
        return {"engine": engine, "models": {}, "files": [], "dropped": reason}
    quantized = _inc_as_searched if engine == "inc" else _onnx_as_searched
    return {"engine": engine, **quantized(state, network, methods, images)}


def _onnx_as_searched(state: State, network: nn.Module, methods: Sequence[str | None], images: list[Tensor]) -> Outcome:
    import onnx

    from nas_compress.compression.quantized import QuantizableNetwork
    from nas_compress.files import replacing

    model = onnx.load_model_from_string(QuantizableNetwork(network, images[0][:2], lambda: images).quantized(methods))
    count = sum(method is not None for method in methods)
    scheme = f"static int8, U8S8 QDQ, as searched: {count} of {len(methods)} modules"
    onnx.helper.set_model_props(model, {**metadata_of(state, CHOSEN), "quantization": scheme})
    target = f"steps/{state.step}_int8.onnx"
    with replacing(state.folder / target) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return {"models": {f"{CHOSEN} int8": target}, "files": [target], "precisions": scheme}


def _inc_as_searched(state: State, network: nn.Module, methods: Sequence[str | None], images: list[Tensor]) -> Outcome:
    from nas_compress.compression.quantized_inc import BF16, IncQuantizableNetwork

    halves, lowered = (sum(map(each, methods)) for each in (lambda m: m == BF16, lambda m: m is not None))
    precision = BF16 if halves == lowered else "int8"
    target = f"steps/{state.step}_{precision}.pt2"
    quantizable = IncQuantizableNetwork(network, images[0][:2], lambda: images)
    quantizable.compiled(methods, images[0][:1]).save(state.folder / target)
    scheme = f"static int8 by INC, as searched: {lowered - halves} of {len(methods)} modules"
    scheme += f", {halves} in bf16" * bool(halves)
    return {"models": {f"{CHOSEN} {precision}": target}, "files": [target], "precisions": scheme}


def _quantize_inc(state: State, options: QuantizeStep, images: list[Tensor]) -> Outcome:
    from nas_compress.compression.inc import autotune_inc, quantize_inc

    precision = "bf16" if options.approach == "mixed_precision" else "int8"
    target = f"steps/{state.step}_{precision}.pt2"
    result: Outcome = {"models": {f"{CHOSEN} {precision}": target}, "files": [target]}
    network, example = state.network(CHOSEN), images[0][:1]
    if options.accuracy_criterion is None:
        quantize_inc(network, example, images, approach=options.approach).save(state.folder / target)
        return result
    tuned = autotune_inc(
        network,
        example,
        images,
        accuracy=_accuracy_of_module(state),
        criterion=options.accuracy_criterion,
        tuning=options.tuning_criterion,
        approach=options.approach,
    )
    tuned.network.save(state.folder / target)
    figures = {name: getattr(tuned, name) for name in ("accepted", "before", "after", "reason")}
    layers = {"fp32_layers": list(tuned.kept_fp32), "trials": [asdict(trial) for trial in tuned.trials]}
    return result | {"tuning": figures | layers}


def _accuracy_of_file(state: State) -> Callable[[Path], float]:
    """Return what measures the accuracy of an ONNX file, in % of the search-validation images."""
    from nas_compress.backends.onnxruntime import OnnxSession
    from nas_compress.objectives.quality import accuracy

    size = state.resolution(CHOSEN)
    return lambda path: accuracy(OnnxSession(path), state.data.val, size).value


def _accuracy_of_module(state: State) -> Callable[[nn.Module], float]:
    from nas_compress.objectives.quality import accuracy

    size = state.resolution(CHOSEN)
    return lambda module: accuracy(module, state.data.val, size).value


_CHANGES: Mapping[type, Callable[[State, Any, Tick], Outcome]] = {
    FinetuneStep: _finetune,
    DistillStep: _distill,
    PruneStep: _prune,
    QuantizeStep: _quantize,
}
