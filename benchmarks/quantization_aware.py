"""Search with quantization in the loop, against search and then quantize, at equal time: hypervolume of both fronts.

    python benchmarks/quantization_aware.py digits_resnet --folder outputs/quantization_aware --seeds 0 1 2
    python benchmarks/quantization_aware.py cifar10_resnet --checkpoint FILE --dataset-path FOLDER

Three searches for each seed, all by `dynas` for accuracy and latency (ONNX Runtime, batch 1, one thread):

- `sequential`: a search in fp32, then int8 forms of its front, measured;
- `joint`: a search with the precision of every stage in the space, each sub-network measured as it is quantized;
- `joint, warm`: a third of the evaluations in fp32, then the joint search, which starts from that.

The time is that of `sequential`, quantization of its front included, in CPU seconds of this process on one thread,
which are wall seconds where nothing else runs; the others count up to the last trial that ends before it. In the end
all fronts of a seed are measured again in one run, latency in turns. There are two figures: with the accuracy on the
search-validation images, which is what the searches looked for, and with that on the test images. The reference point
of the hypervolume is the latency of the largest fp32 sub-network and the accuracy of the worst network measured there,
less a tenth of the range; the figure is a percentage of what lies between that and 0 ms, 100 %.

With `--few`, further lines tell how the joint search does on few evaluations when an fp32 search has been made before,
whose time does not count: cold, and warm.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nas_compress import NAS, NASConfig
from nas_compress.compression.benchmark import Artefact, ArtefactFigures, measure_artefacts
from nas_compress.data import load_data
from nas_compress.search import pareto
from nas_compress.search.trial import Trial
from nas_compress.space import Architecture
from nas_compress.study import StudyProgress
from nas_compress.supernets import supernets
from nas_compress.training.config import SupernetTrainConfig
from nas_compress.training.trainer import train_supernet
from nas_compress.weights import write_state

FEW = (10, 20, 30)
"""Evaluations at which cold and warm joint searches are compared."""

DIRECTIONS = ("maximize", "minimize")


@dataclass(frozen=True)
class Timed:
    """A trial and the CPU seconds that had passed when it was done."""

    trial: Trial
    seconds: float


class Bench:
    """The searches of one seed; what they need from the command line."""

    def __init__(self, arguments: argparse.Namespace, seed: int) -> None:
        self.arguments, self.seed = arguments, seed
        self.folder = Path(arguments.folder) / arguments.supernet / f"seed{seed}"
        self.folder.mkdir(parents=True, exist_ok=True)

    def agent(self, name: str, evaluations: int, *, precision: bool, warm: str | None = None) -> NAS:
        """Return an agent that begins anew."""
        config = NASConfig(approach="dynas", seed=self.seed)
        section, given = config.section, self.arguments
        section.supernet, section.supernet_ckpt_path = given.supernet, given.checkpoint
        section.dataset, section.dataset_path = given.dataset, given.dataset_path
        section.metrics, section.num_evals, section.population = ["acc", "latency"], evaluations, min(20, evaluations)
        section.calibration_images, section.latency.budget_s = given.calibration_images, given.latency_seconds
        section.test_fraction = given.fraction
        section.results_csv_path = self.folder / f"{name}.csv"
        if precision:
            section.precision = {"by": given.by}  # type: ignore[assignment]
        if warm is not None:
            section.warm_start = self.folder / f"{warm}.csv"
        for path in (section.results_csv_path, section.results_csv_path.with_suffix(".jsonl")):
            path.unlink(missing_ok=True)
        return NAS(config)

    def search(self, agent: NAS, limit: float = float("inf"), spent: float = 0.0) -> list[Timed]:
        """Return what a search measured within a limit of CPU seconds, of which some are spent before it."""
        found: list[Timed] = []
        agent.data, agent.supernet  # noqa: B018  # load first: all arms need them
        start = time.process_time()

        def note(progress: StudyProgress) -> None:
            found.append(Timed(progress.trial, spent + time.process_time() - start))
            if found[-1].seconds > limit:
                raise OutOfTimeError

        try:
            agent.search(note)
        except OutOfTimeError:
            found.pop()
        return found


class OutOfTimeError(Exception):
    """Ends a search."""


def front(trials: Sequence[Trial]) -> list[Trial]:
    """Return the non-dominated ones of those that succeeded."""
    ok = [t for t in trials if t.ok]
    costs = pareto.costs([[t.values["acc"], t.values["latency"]] for t in ok], DIRECTIONS)
    return [ok[i] for i in np.flatnonzero(pareto.non_dominated(costs))]


def sequential(bench: Bench) -> tuple[NAS, list[Trial], float]:
    """Return the agent that quantizes, the trials of the fp32 search and of its quantized front, and the time."""
    searched = bench.search(bench.agent("fp32", bench.arguments.evaluations, precision=False))
    agent = bench.agent("quantized", 1, precision=True)
    space, objectives = agent.supernet.space, agent.objectives()
    trials = [Trial(space.canonicalize(s.trial.architecture), s.trial.values, s.trial.error) for s in searched]
    start = time.process_time()
    best = [t.architecture for t in front(trials)]
    for architecture in space.lowered_too(best)[::2]:  # type: ignore[attr-defined]
        subnet = agent.build(architecture)
        trials.append(Trial(architecture, {o.name: o.measure(subnet, architecture).value for o in objectives}))
    return agent, trials, searched[-1].seconds + time.process_time() - start


def again(agent: NAS, architectures: Sequence[Architecture], folder: Path) -> dict[Architecture, ArtefactFigures]:
    """Measure architectures in one run, on the test images."""
    artefacts = {}
    for number, architecture in enumerate(architectures):
        path = folder / f"final_{number}.onnx"
        path.write_bytes(agent.build(architecture).onnx)
        artefacts[str(number)] = Artefact(path, agent.supernet.resolution(architecture))  # type: ignore[operator]
    images: Any = agent.data.split("test")
    figures = measure_artefacts(artefacts, images, eval_batch_size=10)  # small batches: all sessions are open at once
    return dict(zip(architectures, figures.values(), strict=True))


Points = dict[Architecture, tuple[float, float]]
"""Accuracy in % and latency in ms."""


def volumes(fronts: dict[str, list[Architecture]], points: Points, worst: float) -> Any:
    """Return the hypervolume of each front in %, and the reference point (accuracy in %, latency in ms)."""
    accuracies = [accuracy for accuracy, _ in points.values()]
    low = min(accuracies) - 0.1 * (max(accuracies) - min(accuracies) or 1.0)
    scale = np.array([100.0 - low, worst])
    found = {}
    for name, architectures in fronts.items():
        costs = np.array([(100.0 - points[a][0], points[a][1]) for a in architectures]) / scale
        found[name] = 100 * pareto.hypervolume(costs[pareto.non_dominated(costs)], np.ones(2))
    return found, (low, worst)


def run(bench: Bench) -> dict[str, Any]:
    """Run the searches of a seed and measure their fronts."""
    evaluations = bench.arguments.evaluations
    agent, trials, seconds = sequential(bench)
    joint = bench.search(bench.agent("joint", 3 * evaluations, precision=True), seconds)
    short = bench.search(bench.agent("short", max(10, evaluations // 3), precision=False))
    late = bench.search(bench.agent("warm", 3 * evaluations, precision=True, warm="short"), seconds, short[-1].seconds)
    warmth = WARMTH if bench.arguments.few else {}
    few = {n: bench.search(bench.agent(f"few_{n}", max(FEW), precision=True, warm=w)) for n, w in warmth.items()}
    space = agent.supernet.space
    found = {
        "sequential": trials,
        "joint": [t.trial for t in joint],
        "joint, warm": [Trial(space.canonicalize(t.trial.architecture), t.trial.values) for t in (*short, *late)],
        **{f"{name}, {n:2d}": [t.trial for t in timed[:n]] for name, timed in few.items() for n in FEW},
    }
    fronts = {name: [t.architecture for t in front(each)] for name, each in found.items()}
    every = list(dict.fromkeys([space.largest(), *(a for each in fronts.values() for a in each)]))
    figures = again(agent, every, bench.folder)
    latencies = {a: f.latency.median_ms for a, f in figures.items()}
    seen = {t.architecture: t.values["acc"] for each in found.values() for t in each if t.ok}
    worst = latencies[space.largest()]
    searched = {a: (seen[a], latencies[a]) for a in every}
    tested = {a: (figures[a].quality.value, latencies[a]) for a in every}
    sizes = {name: (len(found[name]), len(fronts[name])) for name in found}
    return {
        "search-validation": volumes(fronts, searched, worst),
        "test": volumes(fronts, tested, worst),
        "sizes": sizes,
        "seconds": seconds,
    }


WARMTH = {"cold": None, "warm": "fp32"}


def checkpoint(arguments: argparse.Namespace) -> Path:
    """Train the super-network where no weights are given, once for a folder."""
    path = Path(arguments.folder) / f"{arguments.supernet}.safetensors"
    if not path.exists():
        name = arguments.dataset or supernets.entry(arguments.supernet).info["dataset"]
        data: Any = load_data(name, arguments.dataset_path, {})
        net: Any = supernets.get(arguments.supernet)(num_classes=len(data.classes), seed=0)
        path.parent.mkdir(parents=True, exist_ok=True)
        train_supernet(net, data, SupernetTrainConfig(epochs=arguments.epochs, seed=0))
        write_state(path, net.state_dict())
    return path


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("supernet", nargs="?", default="digits_resnet")
    parser.add_argument("--checkpoint", type=Path, help="trained weights; without them, they are trained")
    parser.add_argument("--dataset")
    parser.add_argument("--dataset-path", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("outputs/quantization_aware"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--evaluations", type=int, default=60, help="of the fp32 search")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--by", default="stage", choices=["stage", "block", "network"])
    parser.add_argument("--calibration-images", type=int, default=500, help="for BN recalibration")
    parser.add_argument("--fraction", type=float, default=1.0, help="of the search-validation images, the first ones")
    parser.add_argument("--latency-seconds", type=float, default=0.3, help="for each sub-network, in the searches")
    parser.add_argument("--few", action="store_true", help="few evaluations, cold and warm, too")
    arguments = parser.parse_args()
    arguments.checkpoint = arguments.checkpoint or checkpoint(arguments)
    return arguments


def main() -> None:
    """Run all seeds and print a table."""
    arguments = parse()
    torch.set_num_threads(1)
    rows = []
    for seed in arguments.seeds:
        rows.append(run(Bench(arguments, seed)))
        report(f"seed {seed}: {rows[-1]['seconds']:.0f} CPU s", rows[-1:])
    report(f"{len(rows)} seeds", rows)


def report(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print the hypervolumes of seeds: mean, standard deviation, and how many are at least those of `sequential`."""
    print(title)
    for part in ("search-validation", "test"):
        points = ", ".join(f"{row[part][1][0]:.2f} % and {row[part][1][1]:.4f} ms" for row in rows)
        print(f"  accuracy on {part} images; reference {points}")
        for name in rows[0]["sizes"]:
            values = [row[part][0][name] for row in rows]
            ahead = sum(row[part][0][name] >= row[part][0]["sequential"] for row in rows)
            sizes = ", ".join("{} trials, {} in front".format(*row["sizes"][name]) for row in rows)
            print(f"    {name:12s} {np.mean(values):6.2f} ± {np.std(values):5.2f} %, {ahead} of {len(rows)}  ({sizes})")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
