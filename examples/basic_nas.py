"""INC's basic NAS: small CNNs for scikit-learn's digits, each built, trained and evaluated by the functions below.

    python examples/basic_nas.py --output outputs/basic

It takes about fifteen seconds. Started again, it answers from the record at once; with a larger `--trials` it goes on.
"""

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nas_compress import NAS, NASConfig, NASError

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}


def parts() -> list[Tensor]:
    """Return images and labels for training, for the search and for the final test: 60, 20 and 20 %."""
    images, labels = load_digits(return_X_y=True)
    train_x, rest_x, train_y, rest_y = train_test_split(images, labels, test_size=0.4, stratify=labels, random_state=0)
    val_x, test_x, val_y, test_y = train_test_split(rest_x, rest_y, test_size=0.5, stratify=rest_y, random_state=0)
    shaped = (torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16 for x in (train_x, val_x, test_x))
    return [part for x, y in zip(shaped, (train_y, val_y, test_y), strict=True) for part in (x, torch.tensor(y))]


TRAIN_X, TRAIN_Y, VAL_X, VAL_Y, TEST_X, TEST_Y = parts()


def build(params: dict) -> nn.Module:
    """Return an untrained network; `params` holds one value of each entry of the search space."""
    torch.manual_seed(0)  # the same architecture gives the same network in every run
    width, kernel = params["channels"], params["kernel"]
    layers: list[nn.Module] = []
    for channels_in, channels_out in [(1, width), (width, 2 * width)][: params["layers"]]:
        layers += [nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=not params["norm"])]
        layers += [nn.BatchNorm2d(channels_out)] if params["norm"] else []
        layers += [ACTIVATIONS[params["activation"]](), nn.MaxPool2d(2)]
    size = 8 // 2 ** params["layers"]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * params["layers"] * size**2, 10))


def train(model: nn.Module, epochs: int = 6) -> None:
    """Train in place."""
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    order = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(TRAIN_X), generator=order).split(64):
            optimizer.zero_grad()
            cross_entropy(model(TRAIN_X[batch]), TRAIN_Y[batch]).backward()
            optimizer.step()


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the accuracy in percent."""
    model.eval()
    with torch.no_grad():
        return 100 * (model(images).argmax(1) == labels).double().mean().item()


def evaluate(model: nn.Module) -> dict[str, float]:
    """Return one value per metric."""
    return {"acc": accuracy(model, VAL_X, VAL_Y), "params": sum(p.numel() for p in model.parameters())}


def main() -> None:
    """Search, choose the smallest network that is accurate enough, and test it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/basic"))
    parser.add_argument("--trials", type=int, default=15)
    parser.add_argument("--algorithm", choices=["bo", "grid", "random"], default="bo")
    arguments = parser.parse_args()

    config = NASConfig(
        approach="basic",
        search_space={
            "channels": [4, 8, 16, 32],
            "layers": [1, 2],
            "kernel": [3, 5],
            "activation": ["relu", "gelu"],
            "norm": [False, True],
        },
        search_algorithm=arguments.algorithm,
        metrics=["acc", "params"],
        higher_is_better=[True, False],
        max_trials=arguments.trials,
        seed=42,
    )
    config.basic.results_csv_path = arguments.output / "results.csv"
    agent = NAS(config)
    agent.model_builder = build
    agent.train_func = train
    agent.eval_func = evaluate
    result = agent.search()

    print(result.to_dataframe().query("front")[["architecture", "acc", "params"]].to_string(index=False))
    result.plot(arguments.output / "front.png", x="params")
    highest = result.best(maximize="acc").values["acc"]
    chosen = result.best({"acc": f">= {highest - 1}"}, minimize="params")
    model = agent.build(chosen.architecture)  # built and trained once more, with the same seeds
    print(f"chosen: {chosen.architecture}, {chosen.values['params']:.0f} parameters")
    print(f"{accuracy(model, TEST_X, TEST_Y):.2f} % of {len(TEST_X)} test images, which the search has not seen")


if __name__ == "__main__":
    try:
        main()
    except NASError as error:
        raise SystemExit(f"error: {error}") from None
