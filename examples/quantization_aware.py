"""Search and then quantize, or search with the precisions in the space: which front is better, for as many evaluations?

    python examples/quantization_aware.py --output outputs/quantization_aware_example

Both arms look for accuracy and latency. The first one searches in fp32 and quantizes its front; the second one gives
every stage of the network a precision of its own, and measures each sub-network as it is quantized. In the end both
fronts are measured again in one run, and drawn. It takes a few minutes on two cores; `--epochs 1 --evaluations 8`
half a minute.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from nas_compress import NAS, Architecture, NASConfig, NASError
from nas_compress.compression.benchmark import Artefact, measure_artefacts
from nas_compress.data import load_data
from nas_compress.search import Trial, pareto
from nas_compress.supernets import load_supernet
from nas_compress.training.config import SupernetTrainConfig
from nas_compress.training.trainer import train_supernet

Points = Mapping[Architecture, tuple[float, float]]
"""Accuracy in % and latency in ms."""


def main() -> None:
    """Train, search both ways, measure both fronts again, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/quantization_aware_example"))
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--evaluations", type=int, default=40, help="of the search in fp32")
    arguments = parser.parse_args()
    folder: Path = arguments.output

    data = load_data("digits")
    supernet = load_supernet("digits_resnet", trained=False, seed=0)
    train_supernet(supernet, data, SupernetTrainConfig(epochs=arguments.epochs), checkpoint_dir=folder / "training")

    def agent(name: str, evaluations: int, precision: dict | None) -> NAS:
        config = NASConfig(approach="dynas", seed=0)
        config.dynas.metrics = ["acc", "latency"]
        config.dynas.population, config.dynas.num_evals = min(10, evaluations), evaluations
        config.dynas.latency.budget_s = 0.2
        config.dynas.precision = precision
        config.dynas.results_csv_path = folder / f"{name}.csv"
        return NAS(config, supernet=supernet, data=data)

    # Search, then quantize: every network of the fp32 front, all of it in int8. These evaluations count, too.
    by_stage = {"by": "stage", "values": ["fp32", "int8"]}
    searched = agent("fp32", arguments.evaluations, None).search()
    lowered = quantized(agent("int8", 1, by_stage), searched.front())
    count = len(searched) + len(lowered)

    # Precisions in the search, for as many evaluations.
    joint = agent("joint", count, by_stage)
    space = joint.space
    in_fp32 = [Trial(space.canonicalize(t.architecture), t.values) for t in searched.measured]
    fronts = {"search, then quantize": front([*in_fp32, *lowered]), "precisions in the search": joint.search().front()}

    # The fronts again, files as they are deployed, latencies in turns: only values of one run compare.
    every = dict.fromkeys([space.largest(), *(t.architecture for each in fronts.values() for t in each)])
    artefacts = {}
    for number, architecture in enumerate(every):
        path = folder / f"network_{number}.onnx"
        path.write_bytes(joint.build(architecture).onnx)
        artefacts[str(number)] = Artefact(path, supernet.resolution(space.without(architecture)))
    figures = dict(zip(every, measure_artefacts(artefacts, data.test).values(), strict=True))

    latencies = {a: each.latency.median_ms for a, each in figures.items()}
    slowest = latencies[space.largest()]
    panels = {
        "search-validation images": {
            t.architecture: (t.values["acc"], latencies[t.architecture]) for each in fronts.values() for t in each
        },
        "test images": {a: (each.quality.value, latencies[a]) for a, each in figures.items()},
    }
    names = {name: [t.architecture for t in trials] for name, trials in fronts.items()}
    print(f"{count} evaluations each; the largest sub-network in fp32 takes {slowest:.4f} ms")
    draw(names, panels, slowest).savefig(folder / "fronts.png", dpi=150)
    print(f"drawn in {folder / 'fronts.png'}")


def quantized(agent: NAS, trials: Sequence[Trial]) -> list[Trial]:
    """Measure what a search in fp32 found, in int8."""
    space = agent.space
    found = []
    for trial in trials:
        in_int8 = {**trial.architecture, "precision": ["int8"] * len(space.groups)}
        architecture = space.canonicalize(Architecture(in_int8))
        network = agent.build(architecture)
        values = {o.name: o.measure(network, architecture).value for o in agent.objectives()}
        found.append(Trial(architecture, values))
    return found


def front(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that no other one beats in accuracy and latency."""
    costs = pareto.costs([[t.values["acc"], t.values["latency"]] for t in trials], ("maximize", "minimize"))
    return [trials[i] for i in np.flatnonzero(pareto.non_dominated(costs))]


def draw(fronts: Mapping[str, Sequence[Architecture]], panels: Mapping[str, Points], slowest: float) -> Figure:
    """Draw and print the fronts on each kind of images; the hypervolumes are parts of the way to 0 ms and 100 %.

    The reference point is the latency of the largest sub-network in fp32, and an accuracy a tenth of the range below
    the worst.
    """
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, (images, points) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        accuracies = [accuracy for accuracy, _ in points.values()]
        low = min(accuracies) - 0.1 * (max(accuracies) - min(accuracies) or 1.0)
        for name, architectures in fronts.items():
            values = np.array(sorted((points[a] for a in architectures), key=lambda point: point[1]))
            costs = np.column_stack([100 - values[:, 0], values[:, 1]]) / [100 - low, slowest]
            kept = pareto.non_dominated(costs)
            volume = 100 * pareto.hypervolume(costs[kept], np.ones(2))
            axes.step(values[kept, 1], values[kept, 0], "o-", where="post", label=f"{name}: hypervolume {volume:.1f} %")
            print(f"{images}: {name}: hypervolume {volume:.2f} %, {kept.sum()} networks on the front")
        axes.plot(slowest, low, "kx", label=f"reference point: {low:.2f} %, {slowest:.3f} ms")
        axes.set(xlabel="latency in ms (ONNX Runtime, batch 1, 1 thread)", ylabel=f"accuracy on {images} in %")
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


if __name__ == "__main__":
    try:
        main()
    except NASError as error:
        raise SystemExit(f"error: {error}") from None
