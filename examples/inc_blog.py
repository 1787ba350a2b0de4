"""The example of Intel Neural Compressor's DyNAS blog: MobileNetV3 on ImageNet, accuracy against MACs.

    python examples/inc_blog.py /datasets/imagenet-ilsvrc2012

The folder has ImageNet's `train/` and `val/`. OFA's published weights are downloaded once; without a network, name the
file with `--checkpoint`.
"""

import argparse

from nas_compress import NAS, NASConfig, NASError


def main() -> None:
    """Search and plot the Pareto front."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset_path")
    parser.add_argument("--checkpoint")
    arguments = parser.parse_args()

    config = NASConfig(approach="dynas", search_algorithm="nsga2")
    config.dynas.supernet = "ofa_mbv3_d234_e346_k357_w1.2"
    config.dynas.metrics = ["acc", "macs"]
    config.dynas.population = 50
    config.dynas.num_evals = 250
    config.dynas.results_csv_path = "search_results.csv"
    config.dynas.batch_size = 64
    config.dynas.dataset_path = arguments.dataset_path
    config.dynas.supernet_ckpt_path = arguments.checkpoint

    result = NAS(config).search()
    print(result.to_dataframe().query("front"))
    result.plot("front.png")


if __name__ == "__main__":
    try:
        main()
    except NASError as error:
        raise SystemExit(f"error: {error}") from None
