"""The steps of a recipe that change the chosen network: training, pruning, quantization; each judged on what it did."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nas_compress.compression.inputs import teacher_size
from nas_compress.compression.outcome import Outcome, Tick, files_of, metadata_of, training_tick
from nas_compress.compression.state import CHOSEN, LARGEST, State
from nas_compress.compression.verdict import broken, measure_change, worse
from nas_compress.recipe import DistillStep, FinetuneStep, PruneStep, QuantizeStep
from nas_compress.recipe.steps import ChangingStep, Conditional
from nas_compress.space.precision import PRECISION

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas_compress.data.base import ImageData
    from nas_compress.supernets.base import Inputs
    from nas_compress.supernets.precision import PrecisionSupernet

logger = logging.getLogger(__name__)

FP32 = f"{CHOSEN} fp32"


def change(state: State, options: ChangingStep, tick: Tick) -> Outcome:
    """Run a step that changes the chosen network, measure before and after, and apply the step's conditions."""
    before = state.model(FP32)
    outcome = _CHANGES[type(options)](state, options, tick)
    tick(0, 1, "measuring before and after")
    after = next((state.folder / file for file in outcome["models"].values()), before)
    return judged(state, options, outcome | {"measured": measure_change(state, before, after)})


def judged(state: State, options: ChangingStep, outcome: Outcome) -> Outcome:
    """Apply the conditions of a step to what it made and measured.

    A change that one of them rejects leaves no files: the steps that follow go on with the network before it. Where
    nothing was made, only `stop_if` has something to say.
    """
    measured = outcome["measured"]
    if not outcome["models"]:
        measured["after"] = measured["before"]  # the same file: measured twice, its latencies would differ
        stop = broken(options.stop_if, measured)
        return outcome | {"dropped": "; ".join(filter(None, (outcome["dropped"], stop))), "stops": stop is not None}
    stop = broken(options.stop_if, measured)
    drop = stop or broken(options.skip_if, measured)
    if drop is not None:
        return _without_files(state, outcome) | {"dropped": drop, "stops": stop is not None}
    return _trained(state, outcome) if isinstance(options, FinetuneStep | DistillStep) else outcome


def _trained(state: State, outcome: Outcome) -> Outcome:
    """Take back a training that made the network worse by more than the standard error.

    Less is no reason: the untrained network was chosen for its figure on the very same examples, and flatters itself.
    """
    measured, costs = outcome["measured"], outcome["costs"]
    if not worse(measured):
        return outcome | {"kept": "after"}
    back = {"kept": "before", "measured": measured | {"after": measured["before"]}, "rejected": measured["after"]}
    return _without_files(state, outcome) | back | {"costs": costs}


def _without_files(state: State, outcome: Outcome) -> Outcome:
    """Remove the files that a step made, so that the network before it is the newest again."""
    for file in files_of(outcome):
        (state.folder / file).unlink(missing_ok=True)
    return outcome | {"networks": {}, "models": {}, "costs": {}, "files": []}


def keep(state: State, network: nn.Module, name: str = FP32) -> Outcome:
    """Store a network that the current step made: weights, MACs and parameters, and its ONNX file if it has one.

    Where networks are not written as ONNX, the weights are what is measured and deployed.
    """
    from nas_compress.compression.export import export_onnx
    from nas_compress.objectives.cost import count_macs

    role, domain = name.split()[0], state.domain
    weights = model = state.keep_network(role, network)
    example = state.supernet.example_input(2, state.architecture(role))
    if domain.task.no_onnx is None:
        model, sample = f"steps/{state.step}_{role}.onnx", domain.sample(state.resolution(role))
        told = metadata_of(state, role)
        export_onnx(network, example, state.folder / model, told, axes=domain.axes, sample=sample)
    return {
        "networks": {role: weights},
        "models": {name: model},
        "costs": {name: {"macs": count_macs(network, example), "params": sum(p.numel() for p in network.parameters())}},
        "files": list(dict.fromkeys([weights, model])),
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

    session = OnnxSession(teacher)
    return {"teacher": session, "teacher_resolution": teacher_size(state, session)}


def _train(state: State, config: Any, teacher: Mapping[str, Any], tick: Tick) -> Outcome:
    """Train the chosen network; whether that helped is for `change` to say."""
    from nas_compress.training.trainer import finetune as train

    size, network = state.resolution(CHOSEN), state.network(CHOSEN)
    train(network, state.data, size, config, checkpoint_dir=state.work, progress=training_tick(tick), **teacher)
    return keep(state, network)


def _prune(state: State, options: PruneStep, tick: Tick) -> Outcome:
    """Prune the chosen network, in turns with training."""
    from nas_compress.compression.prune import prune

    pruned = prune(
        state.network(CHOSEN),
        cast("ImageData", state.data),
        cast(int, state.resolution(CHOSEN)),
        options,
        seed=state.recipe.seed,
        checkpoint_dir=state.work,
        progress=training_tick(tick),
        **_teacher(state, options.training.teacher),
    )
    return {"pattern": options.pattern, **pruned.to_dict(), **keep(state, pruned.network)}


def _quantize(state: State, options: QuantizeStep, tick: Tick) -> Outcome:
    """Quantize the chosen network, calibrated on training examples."""
    from nas_compress.backends.base import as_tuple

    limit, name, counted = options.calibration_images, state.data.name, state.domain.task.counted
    inputs: list[Any] = state.domain.calibration(state.resolution(CHOSEN), limit)
    count = sum(len(as_tuple(batch)[0]) for batch in inputs)
    if count < limit:
        logger.warning("calibration_images = %d, and data %r has %d training %s", limit, name, count, counted)
    tick(0, 1, f"calibrating on {count} {counted}")
    if PRECISION in state.outcomes["select"]["architecture"]:
        return _quantize_as_searched(state, inputs)
    quantized = _quantize_inc if options.engine == "inc" else _quantize_onnx
    return {"engine": options.engine, **quantized(state, options, inputs)}


def _quantize_onnx(state: State, options: QuantizeStep, inputs: list[Inputs]) -> Outcome:
    from nas_compress.compression.quantize import quantize_onnx
    from nas_compress.compression.tune import quantize_within

    source, target = state.model(FP32), f"steps/{state.step}_int8.onnx"
    how: dict[str, Any] = {name: getattr(options, name) for name in ("approach", "exclude", "per_channel")}
    result: Outcome = {"models": {f"{CHOSEN} int8": target}, "files": [target]}
    if options.accuracy_criterion is None:
        quantize_onnx(source, state.folder / target, inputs, method=options.method or "minmax", **how)
        return result
    tuned = quantize_within(
        source,
        state.folder / target,
        inputs,
        accuracy=_quality_of_file(state),
        criterion=options.accuracy_criterion,
        tuning=options.tuning_criterion,
        method=options.method,
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
        accuracy=lambda module: state.domain.quality(module, "val", state.resolution(CHOSEN)).value,
        criterion=options.accuracy_criterion,
        tuning=options.tuning_criterion,
        approach=options.approach,
    )
    if tuned.network is None:
        result = {"models": {}, "files": [], "dropped": tuned.reason}
    else:
        tuned.network.save(state.folder / target)
    figures = {name: getattr(tuned, name) for name in ("accepted", "before", "after", "reason")}
    layers = {"fp32_layers": list(tuned.kept_fp32), "trials": [asdict(trial) for trial in tuned.trials]}
    return result | {"tuning": figures | layers}


def _quality_of_file(state: State) -> Callable[[Path], float]:
    """Return what measures the accuracy (or F1) of an ONNX file, in % on the search-validation part."""
    from nas_compress.backends.onnxruntime import OnnxSession

    return lambda path: state.domain.quality(OnnxSession(path), "val", state.resolution(CHOSEN)).value


_CHANGES: Mapping[type, Callable[[State, Any, Tick], Outcome]] = {
    FinetuneStep: _finetune,
    DistillStep: _distill,
    PruneStep: _prune,
    QuantizeStep: _quantize,
}
