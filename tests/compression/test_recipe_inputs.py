"""What a recipe is given is looked at before any work: here, what it asks of a super-network of the user's own."""

import pytest

from nas_compress import Recipe
from nas_compress.compression.inputs import check_inputs
from nas_compress.compression.state import State
from nas_compress.errors import ConfigError
from nas_compress.supernets import supernets

TRAIN = {"train_supernet": {"epochs": 1}}


@pytest.fixture
def own(monkeypatch):
    """Register a super-network as users do, with as little as possible."""
    monkeypatch.setattr(supernets, "_entries", dict(supernets._entries))
    supernets.register("own")(supernets.get("digits_resnet"))


def recipe(tmp_path, *steps, **changes) -> Recipe:
    return Recipe(**{"supernet": "own", "dataset": "digits", "output": tmp_path / "run", "steps": steps, **changes})


def nas(**options):
    return {"nas": {"approach": "random", "metrics": ["acc", "macs"], "num_evals": 3, **options}}


def test_a_supernet_may_be_registered_with_nothing_but_its_name(own, tmp_path):
    whole = recipe(tmp_path, TRAIN, nas(search_space={"d": [0]}), "select", "export")
    whole.check()
    check_inputs(State(whole, whole.folder))
    with pytest.raises(ConfigError, match="dataset: is not set; known: "):
        recipe(tmp_path, TRAIN, dataset=None).check()
    with pytest.raises(ConfigError, match="supernet_ckpt_path: is not set, and 'own' comes without weights"):
        recipe(tmp_path, nas()).check()


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (
            [{"train_supernet": {"epochs": 1, "algorithm": "progressive_shrinking"}}],
            r"steps\[0\].train_supernet.epochs: 1 epochs are too few",
        ),
        (
            [
                {
                    "train_supernet": {
                        "algorithm": "progressive_shrinking",
                        "stages": [{"epochs": 1, "elastic": {"depht": None}}],
                    }
                }
            ],
            r"steps\[0\].train_supernet.stages: stage 1: 'depht' is no dimension",
        ),
        ([TRAIN, nas(search_space={"dd": [1]}), "select"], r"steps\[1\].nas.search_space: .*'dd'"),
        ([TRAIN, nas(warm_start=__file__), "select"], r"steps\[1\].nas.warm_start: "),
        ([TRAIN, {"select": {"architecture": {"d": [99]}}}], r"steps\[1\].select.architecture: "),
    ],
)
def test_what_steps_name_of_a_space_is_checked_once_the_space_is_known(own, tmp_path, steps, expected):
    whole = recipe(tmp_path, *steps)
    whole.check()  # knows no space
    with pytest.raises(ConfigError, match=expected):
        check_inputs(State(whole, whole.folder))
