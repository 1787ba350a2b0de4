"""A recipe in Python: search, prune, distill, quantize within a limit of accuracy, and look at what each step did.

    python examples/recipe.py --output outputs/recipe_example

It takes a few minutes on two cores; `--epochs 1 --evaluations 8` gives a poor net in a minute. Started again, it
goes on at the first step that is not done.
"""

import argparse
from pathlib import Path

from nas_compress import NASError, Recipe, compress


def main() -> None:
    """Build the recipe, run it, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/recipe_example"))
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--evaluations", type=int, default=40)
    arguments = parser.parse_args()

    search = {"metrics": ["acc", "latency"], "population": 8, "num_evals": arguments.evaluations}
    training = {"epochs": max(1, arguments.epochs // 3)}
    steps = [
        {"train_supernet": {"epochs": arguments.epochs}},
        {"nas": {**search, "latency": {"budget_s": 0.2}}},
        {"select": {"maximize": "acc", "constraints": {"latency": "<= 0.6 x largest"}}},
        {"prune": {"target_sparsity": 0.25, "rounds": 2, "training": training, "skip_if": "accuracy drop > 2 %"}},
        {"distill": training},
        {"quantize": {"accuracy_criterion": {"criterion": "absolute", "tolerable_loss": 0.5}}},
        "export",
        "benchmark",
    ]
    recipe = Recipe(name="example", supernet="digits_resnet", output=arguments.output, steps=steps)
    result = compress(recipe, progress=lambda p: print(f"{p.step}: {p.note}") if p.note == "done" else None)

    print(result.table().round(3).to_string(index=False))
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
