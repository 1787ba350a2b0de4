"""A train-free search in Python: the best score within a limit, trained from random weights, quantized to int8.

    python examples/train_free.py --output outputs/train_free_example

It takes some minutes on two cores; `--epochs 2 --evaluations 6` gives a poor net in seconds. Started again, it
goes on at the first step that is not done.
"""

import argparse
from pathlib import Path

from nas_compress import NASError, Recipe, compress, load_best_structure


def main() -> None:
    """Build the recipe, run it, print what was found and what it measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/train_free_example"))
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--evaluations", type=int, default=100)
    arguments = parser.parse_args()

    population = min(20, arguments.evaluations)
    search = {"population": population, "num_evals": arguments.evaluations, "score_seeds": 1, "score_reference": 16}
    steps = [
        {"nas": {"approach": "denas", **search, "constraints": {"macs": "<= 0.5 x largest"}}},
        "select",  # the best score
        {"finetune": {"epochs": arguments.epochs, "lr": 0.05}},  # from random weights, so with a higher learning rate
        {"quantize": {"accuracy_criterion": {"criterion": "absolute", "tolerable_loss": 0.5}}},
        "export",
        "benchmark",
    ]
    recipe = Recipe(name="train_free", supernet="digits_resnet", output=arguments.output, steps=steps)
    result = compress(recipe, progress=lambda p: print(f"{p.step}: {p.note}") if p.note == "done" else None)

    chosen = result.outcomes["select"]
    print(f"train-free score {chosen['values']['de_score']:.2f}: {chosen['architecture']}")
    network = load_best_structure(arguments.output / "search_results.best_structure.json", num_classes=10)
    print(f"{sum(weights.numel() for weights in network.parameters()):,} parameters")
    for file in result.artefacts:
        accuracy, latency, size = file["accuracy"], file["latency"], file["size_bytes"] / 1e3
        measured = f"{accuracy['value']:.2f} ± {accuracy['spread']:.2f} % of {accuracy['images']} test images"
        speed = f"{latency['median_ms']:.4f} ± {latency['error_ms']:.4f} ms"
        print(f"{file['name']:14s} {measured}, {speed}, {size:.0f} kB: {file['file']}")


if __name__ == "__main__":
    try:
        main()
    except NASError as error:
        raise SystemExit(f"error: {error}") from None
