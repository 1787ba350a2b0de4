import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_compress.recipe.order import order_problems
from nas_compress.recipe.steps import STEP_NAMES, Step, labels

TRAIN = ["finetune", "distill", "prune"]
KNOWN = {"select": {"architecture": "largest"}}
SPARSE = {"prune": {"pattern": "1x1"}}
PRECISIONS = {"nas": {"precision": {"by": "stage"}}}


def problems(*steps):
    return [problem.message for problem in order_problems([Step.model_validate(step) for step in steps])]


@pytest.mark.parametrize(
    "steps",
    [
        ["train_supernet"],
        ["nas"],
        ["train_supernet", "nas", "select"],
        ["train_supernet", KNOWN, "quantize", "export", "benchmark"],
        ["nas", "select", "export", "benchmark"],
        *(["nas", "select", *order, "quantize", "export"] for order in itertools.permutations(TRAIN)),
        ["nas", "select", "finetune", "prune", "finetune", "prune", "distill", "export"],
        ["nas", "select", "distill", SPARSE, "quantize"],
        [PRECISIONS],
        [PRECISIONS, "select", "distill", "quantize", "export"],
    ],
)
def test_legal_orders(steps):
    assert problems(*steps) == []


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (["nas", "train_supernet"], "'train_supernet' stands after 'nas'; move it before: the search needs"),
        ([KNOWN, "train_supernet"], "'train_supernet' stands after 'select'; move it before"),
        (["train_supernet", "select"], "'select' needs a 'nas' step before it (it chooses from the search's result)"),
        (["select", "nas"], "which comes later"),
        ([KNOWN, "nas"], "'nas' stands after 'select'; move it before: the choice is made from the search's result"),
        (
            ["nas", "quantize"],
            "'quantize' needs a 'select' step before it (it quantizes the chosen sub-network)",
        ),
        (["nas", "prune"], "'prune' needs a 'select' step before it"),
        (["nas", "select", "benchmark"], "'benchmark' needs a 'export' step before it"),
        (["nas", "nas"], "a second 'nas' step (the first is steps[0])"),
        *(
            (["nas", "select", "quantize", name], f"'{name}' stands after 'quantize'; move it before: quantized")
            for name in TRAIN
        ),
        *(
            (["nas", "select", "export", name], f"'{name}' stands after 'export'; move it before: the exported files")
            for name in [*TRAIN, "quantize"]
        ),
        *((["nas", "select", SPARSE, name], "which prunes single weights: training would fill") for name in TRAIN),
        (["nas", "select", SPARSE, SPARSE], "which prunes single weights"),
        ([PRECISIONS, "select", "export"], "'select' needs a 'quantize' step after it (the search has a 'precision'"),
        (["nas", KNOWN, "export"], "takes a known architecture, so that the 'nas' step is for nothing"),
    ],
)
def test_illegal_orders_say_why(steps, expected):
    assert any(expected in message for message in problems(*steps)), problems(*steps)


@given(st.lists(st.sampled_from(STEP_NAMES), max_size=7))
def test_a_legal_order_stays_legal_without_its_last_step(names):
    if names and not problems(*names):
        assert not problems(*names[:-1])


def test_labels_number_what_comes_again():
    assert labels(["nas", "prune", "finetune", "prune", "prune"]) == ["nas", "prune", "finetune", "prune_2", "prune_3"]
