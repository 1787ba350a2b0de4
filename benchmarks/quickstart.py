"""The quickstart over several seeds: what the chosen int8 sub-network gains and loses against the largest one.

    python benchmarks/quickstart.py --seeds 0 1 2

Prints a table and how many runs reach each goal: at least 4 times fewer MACs, at least 2 times faster in ONNX
Runtime, at most 1 point of test accuracy lost. All figures of a run are measured in turns in one process.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from nas_compress.pipeline import compress
from nas_compress.recipe import Recipe
from nas_compress.report import compare

GOALS = {"MACs": 4.0, "latency": 2.0, "accuracy": -1.0}


def run(seed: int, template: str, folder: Path) -> dict[str, Any]:
    """Run the recipe once in a new folder and return the comparison, with the seconds it took."""
    recipe = Recipe.from_yaml(template)
    recipe.seed, recipe.output = seed, folder
    start = time.perf_counter()
    artefacts = {entry["name"]: entry for entry in compress(recipe).artefacts}
    seconds = time.perf_counter() - start
    comparison = compare(artefacts["chosen int8"], artefacts["largest fp32"])
    return {**comparison, "seconds": seconds, "artefacts": artefacts}


def parse() -> argparse.Namespace:
    """Read the command line; folders of finished or begun runs are refused, for a run would go on in them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipe", default="quickstart")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmark_quickstart"))
    parser.add_argument("--require", action="store_true", help="exit with 1 unless every run reaches every goal")
    arguments = parser.parse_args()
    arguments.folders = {seed: arguments.output / f"seed{seed}" for seed in arguments.seeds}
    for folder in arguments.folders.values():
        if folder.exists():
            parser.error(f"{folder} exists, and its run would be read back; delete it or give another --output")
    return arguments


def main() -> None:
    """Run, print, and exit with 1 where a goal that is required is missed."""
    arguments = parse()
    print(
        "seed  acc largest  acc chosen  acc int8   points lost   MACs   latency (int8)  latency (fp32)  file   seconds"
    )
    reached = dict.fromkeys(GOALS, 0)
    for seed, folder in arguments.folders.items():
        row = run(seed, arguments.recipe, folder)
        accuracy = [row["artefacts"][n]["accuracy"]["value"] for n in ("largest fp32", "chosen fp32", "chosen int8")]
        fp32 = compare(row["artefacts"]["chosen fp32"], row["artefacts"]["largest fp32"])["latency"]
        found = {"MACs": row["macs"], "latency": row["latency"]["value"], "accuracy": row["accuracy"]["value"]}
        for goal, bound in GOALS.items():
            reached[goal] += found[goal] >= bound
        speed = row["latency"]
        print(
            f"{seed:4d}  {accuracy[0]:11.2f}  {accuracy[1]:10.2f}  {accuracy[2]:8.2f}  "
            f"{-found['accuracy']:6.2f} ± {row['accuracy']['spread']:.2f}  {row['macs']:4.1f}x  "
            f"{speed['value']:5.2f} ± {speed['spread']:.2f}x  {fp32['value']:6.2f} ± {fp32['spread']:.2f}x  "
            f"{row['size']:4.1f}x  {row['seconds']:7.0f}",
            flush=True,
        )
    total = len(arguments.folders)
    print(", ".join(f"{goal} {'>= ' + str(bound)}: {reached[goal]} of {total}" for goal, bound in GOALS.items()))
    if arguments.require and any(count < total for count in reached.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
