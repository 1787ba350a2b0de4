"""The quickstart in Python, step by step: what a recipe does, with the functions that its steps call.

    python examples/quickstart.py --output outputs/example

It takes two minutes or so on two cores; `--epochs 2 --evaluations 20` gives a poor net in half a minute.
"""

import argparse
from pathlib import Path

from nas_compress import NAS, NASConfig, NASError
from nas_compress.compression.benchmark import Artefact, measure_artefacts
from nas_compress.compression.export import export_onnx
from nas_compress.compression.quantize import quantize_onnx
from nas_compress.data import load_data
from nas_compress.data.base import batches
from nas_compress.objectives.calibration import calibrated_subnet
from nas_compress.supernets import load_supernet
from nas_compress.training.config import DistillConfig, SupernetTrainConfig
from nas_compress.training.trainer import finetune, train_supernet


def main() -> None:
    """Train, search, choose, fine-tune, quantize, export, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/example"))
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--evaluations", type=int, default=60)
    arguments = parser.parse_args()
    folder: Path = arguments.output

    # A super-network of fifty million sub-networks that share weights, trained with the sandwich rule.
    data = load_data("digits")
    supernet = load_supernet("digits_mbv3", trained=False, seed=0)
    train_supernet(supernet, data, SupernetTrainConfig(epochs=arguments.epochs), checkpoint_dir=folder / "training")
    print(f"{supernet.space.size():.3g} sub-networks of {supernet.name}")

    # The search looks at search-validation images alone.
    config = NASConfig(approach="dynas", seed=0)
    config.dynas.metrics = ["acc", "macs", "latency"]
    config.dynas.population, config.dynas.num_evals = 20, arguments.evaluations
    config.dynas.latency.budget_s = 0.3
    config.dynas.results_csv_path = folder / "search_results.csv"
    result = NAS(config, supernet=supernet, data=data).search()
    result.plot(folder / "front.png", x="latency")
    chosen = result.best({"latency": "<= 0.5 x largest"}, maximize="acc").architecture
    print(f"chosen: {chosen}")

    # Extraction gives plain torch layers; BN statistics are recalibrated for each sub-network.
    largest = supernet.space.largest()
    teacher = calibrated_subnet(supernet, largest, data, images=2000)
    subnet = calibrated_subnet(supernet, chosen, data, images=2000)
    size, full = supernet.resolution(chosen), supernet.resolution(largest)
    finetune(subnet, data, size, DistillConfig(epochs=4), teacher=teacher, teacher_resolution=full)

    # The files are what is measured in the end, on test images that nothing has seen so far.
    export_onnx(teacher, supernet.example_input(1, largest), folder / "largest_fp32.onnx")
    export_onnx(subnet, supernet.example_input(1, chosen), folder / "chosen_fp32.onnx")
    calibration = [images for images, _ in batches(data.train, 64, size, limit=256)]
    quantize_onnx(folder / "chosen_fp32.onnx", folder / "chosen_int8.onnx", calibration)
    files = {"largest_fp32": full, "chosen_fp32": size, "chosen_int8": size}
    artefacts = {name: Artefact(folder / f"{name}.onnx", resolution) for name, resolution in files.items()}
    for name, figures in measure_artefacts(artefacts, data.test).items():
        accuracy, latency = figures.quality, figures.latency
        print(
            f"{name:12s}  {accuracy.value:.2f} ± {accuracy.spread:.2f} % of {len(data.test)} test images, "
            f"{latency.median_ms:.4f} ± {latency.error_ms:.4f} ms (ONNX Runtime, batch 1, 1 thread)"
        )


if __name__ == "__main__":
    try:
        main()
    except NASError as error:
        raise SystemExit(f"error: {error}") from None
