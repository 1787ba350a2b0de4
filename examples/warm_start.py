"""A search for another CPU configuration begins where an earlier one ended.

    python examples/warm_start.py --output outputs/warm_start_example

A super-network is searched for accuracy and latency at batch 1, then for batches of eight, once from scratch and once
from the results of the first search. Both get as many measurements; the hypervolume after each says what the start was
worth. It takes a few minutes; `--epochs 1 --evaluations 10` a minute.
"""

import argparse
from pathlib import Path

from nas_compress import NAS, NASConfig, NASError
from nas_compress.data import load_data
from nas_compress.supernets import load_supernet
from nas_compress.training.config import SupernetTrainConfig
from nas_compress.training.trainer import train_supernet


def main() -> None:
    """Train, search, search again, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/warm_start_example"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=30)
    arguments = parser.parse_args()
    folder: Path = arguments.output

    data = load_data("digits")
    supernet = load_supernet("digits_mbv3", trained=False, seed=0)
    train_supernet(supernet, data, SupernetTrainConfig(epochs=arguments.epochs), checkpoint_dir=folder / "training")

    def search(name: str, batch: int, warm_start: Path | None = None):
        config = NASConfig(approach="dynas", seed=0)
        config.dynas.metrics = ["acc", "latency"]
        config.dynas.population, config.dynas.num_evals = 5, arguments.evaluations
        config.dynas.batch_size, config.dynas.latency.budget_s = batch, 0.2
        config.dynas.warm_start = warm_start
        config.dynas.results_csv_path = folder / f"{name}.csv"
        return NAS(config, supernet=supernet, data=data).search()

    search("batch_1", 1)
    results = {
        "from scratch": search("batch_8_scratch", 8),
        "from the earlier search": search("batch_8_warm", 8, folder / "batch_1.csv"),
    }
    slowest = max(trial.values["latency"] for result in results.values() for trial in result)
    for name, result in results.items():
        volume = result.hypervolume({"acc": 0, "latency": slowest})
        print(f"{name}: hypervolume {volume:.4f} after {len(result)} evaluations, {len(result.front())} on the front")


if __name__ == "__main__":
    try:
        main()
    except NASError as error:
        raise SystemExit(f"error: {error}") from None
