"""The steps of a recipe, one function each: from the state and the step's options to an outcome in plain data."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_compress.compression.changes import change, keep
from nas_compress.compression.outcome import Outcome, Tick, metadata_of, training_tick
from nas_compress.compression.state import CHOSEN, LARGEST, State
from nas_compress.compression.verdict import measure, measure_pair
from nas_compress.files import replacing
from nas_compress.recipe import BenchmarkStep, ExportStep, NasStep, SelectStep, TrainSupernetStep

if TYPE_CHECKING:
    from nas_compress.space import Architecture
    from nas_compress.supernets.base import Supernet
    from nas_compress.training.checkpoint import EpochLog


def train_supernet(state: State, options: TrainSupernetStep, tick: Tick) -> Outcome:
    """Train the recipe's super-network from random weights."""
    from nas_compress.report.training import write_training
    from nas_compress.supernets.checkpoint import save_checkpoint

    net, log = trained_supernet(state, options, tick)
    weights = "supernet.safetensors"
    save_checkpoint(net, state.folder / weights)
    files = [weights, *write_training(state.folder, log)]
    return {"weights": weights, "files": files, "log": [asdict(epoch) for epoch in log]}


def trained_supernet(state: State, options: TrainSupernetStep, tick: Tick) -> tuple[Supernet, list[EpochLog]]:
    """Return the recipe's super-network, trained from random weights, and the log of its training."""
    from nas_compress.training.config import SupernetTrainConfig
    from nas_compress.training.trainer import train_supernet as train

    net = state.random_supernet()
    config = SupernetTrainConfig(seed=state.recipe.seed, **options.model_dump())
    return net, train(net, state.data, config, checkpoint_dir=state.work, progress=training_tick(tick))


def nas(state: State, options: NasStep, tick: Tick) -> Outcome:
    """Search the super-network; the archive keeps every measurement."""
    result = state.search(lambda p: tick(p.done, p.total, p.note))
    files = ["search_results.csv", "search_results.jsonl"]
    for name in files:
        _copy(state.work / name, state.folder / name)
    if options.approach == "denas":
        files.append("search_results.best_structure.json")
        _copy(state.work / files[-1], state.folder / files[-1])
    result.plot(state.folder / "pareto.png", x=options.metrics[-1] if len(options.metrics) > 1 else None)
    outcome: Outcome = {"evaluations": len(result), "front": len(result.front()), "files": [*files, "pareto.png"]}
    if result.provenance["stopped"]["rule"] == "time_budget":
        made = f"{len(result)} of {options.num_evals} evaluations"
        outcome["note"] = f"out of time after {made}; another time_budget goes on from there"
    return outcome


def select(state: State, options: SelectStep, tick: Tick) -> Outcome:
    """Choose an architecture, extract it and the largest one (images: recalibrated), and measure the two.

    Where nothing was trained yet, there is no largest one, and nothing to measure.
    """
    limits = _limits(state, options)
    architecture, values = _choose(state, options, limits)
    outcome: Outcome = {"architecture": architecture.to_dict(), "values": values, "constraints": limits}
    outcome["timed"] = _timed(state)
    state.outcomes["select"] = outcome
    made: Outcome = {"networks": {}, "models": {}, "costs": {}, "files": []}
    for done, role in enumerate(state.roles):
        tick(done, 3, f"extracting and exporting the {role} sub-network")
        subnet = state.domain.subnet(state.supernet, state.architecture(role), state.calibration_images)
        kept = keep(state, subnet, f"{role} fp32")
        made = {key: [*made[key], *kept[key]] if key == "files" else made[key] | kept[key] for key in made}
    if LARGEST not in state.roles:
        return outcome | made
    tick(2, 3, "measuring the two")
    largest, chosen = (state.folder / file for file in made["models"].values())
    made["measured"] = measure_pair(state, (largest, LARGEST), (chosen, CHOSEN))
    return outcome | made


def _limits(state: State, options: SelectStep) -> dict[str, Any]:
    """Return the limits of a selection; those relative to an architecture that was not measured, as numbers."""
    from nas_compress.approaches import canonical
    from nas_compress.constraints import limit_texts, parse_constraint
    from nas_compress.objectives import AnalyticObjective

    nas = state.recipe.step("nas")
    if not isinstance(nas, NasStep) or nas.approach != "denas":
        return dict(options.constraints)
    metrics = {o.name: o for o in state.agent.metrics()}
    limits: dict[str, list[str]] = {}
    for name, text in limit_texts(options.constraints):
        metric = metrics[canonical(name)]
        limit = parse_constraint(text, name=metric.name, unit=metric.unit)
        if limit.relative and isinstance(metric, AnalyticObjective):
            value = float(metric.compute([state.agent.space.largest()])[0])
            text = f"{limit.op} {limit.limit({metric.name: value}):.15g} {metric.unit}".rstrip()
        limits.setdefault(name, []).append(text)
    return limits


def _timed(state: State) -> dict[str, Any] | None:
    """Return what the search's latencies are of, and so limits on them; None where it has none."""
    nas = state.recipe.step("nas")
    if not isinstance(nas, NasStep) or "latency" not in nas.measured:
        return None
    how = nas.latency
    return {
        "backend": how.backend, "precision": how.precision, "threads": how.threads, "batch_size": nas.batch_size,
    }  # fmt: skip


def _choose(state: State, options: SelectStep, limits: Mapping[str, Any]) -> tuple[Architecture, dict[str, float]]:
    """Return the chosen architecture and what the search measured of it."""
    from nas_compress.space import Architecture

    named, space = options.architecture, state.supernet.space
    if named is None:
        result = state.search()
        direction, metric = options.goal([metric.name for metric in result.metrics])
        goal: dict[str, Any] = {direction: metric}
        trial = result.best(limits, **goal)
        return trial.architecture, dict(trial.values)
    if isinstance(named, str):
        return (space.largest() if named == LARGEST else space.smallest()), {}
    return space.canonicalize(Architecture(named)), {}


def export(state: State, options: ExportStep, tick: Tick) -> Outcome:
    """Write the networks of the recipe, and the quantized one where there is one, under `models/`."""
    from nas_compress.weights import write_state

    artefacts: dict[str, str] = {}
    files = []
    for name, source in state.models.items():
        target = f"models/{name.replace(' ', '_')}{source.suffix}"
        if source.suffix == ".safetensors":  # written below
            artefacts[name] = target
        elif "onnx" in options.formats or source.suffix != ".onnx":
            tick(len(artefacts), len(state.models), f"writing {target}")
            _copy(source, state.folder / target)
            artefacts[name] = target
    if "safetensors" in options.formats:
        for role in state.roles:
            files.append(f"models/{role}_fp32.safetensors")
            write_state(state.folder / files[-1], state.network(role).state_dict(), metadata_of(state, role))
    return {"artefacts": artefacts, "files": list(dict.fromkeys([*files, *artefacts.values()]))}


def benchmark(state: State, options: BenchmarkStep, tick: Tick) -> Outcome:
    """Measure the exported files on the test part, which neither training nor search saw."""
    files = state.outcomes["export"]["artefacts"]
    roles = {name: name.split()[0] for name in files}
    counted = state.domain.task.counted
    tick(0, 1, f"measuring {len(files)} files on the test {counted}")
    figures = measure(
        state,
        {name: (state.folder / file, roles[name]) for name, file in files.items()},
        "test",
        options.runs,
        options.latency,
        options.eval_batch_size,
    )
    entries = [
        {
            "name": name,
            "file": files[name],
            "precision": name.split()[1],
            "architecture": state.architecture(role).to_dict(),
            **state.costs(f"{role} fp32"),
            **figures[name],
        }
        for name, role in roles.items()
    ]
    return {"artefacts": entries, f"test_{counted}": len(state.data.test), "data": state.data.fingerprint}


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


STEPS: Mapping[str, Callable[[State, Any, Tick], Outcome]] = {
    "train_supernet": train_supernet,
    "nas": nas,
    "select": select,
    "finetune": change,
    "distill": change,
    "prune": change,
    "quantize": change,
    "export": export,
    "benchmark": benchmark,
}
"""The function of each step of a recipe, by its name there."""
