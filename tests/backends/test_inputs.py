"""Networks of several inputs and outputs, integers among them, in every backend that is installed."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from nas_compress.backends import backends
from nas_compress.backends.onnxruntime import OnnxSession, to_onnx
from nas_compress.errors import ConfigError, EvaluationError, NASError

EAGER = ["torch", "onnxruntime", "openvino"]
"""The backends that take any batch and build in no time."""


class Tokens(nn.Module):
    """Two inputs, one of them integers; two outputs."""

    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(50, 16), nn.Linear(16, 4)

    def forward(self, input_ids, attention_mask):
        hidden = self.embed(input_ids) * attention_mask.unsqueeze(-1)
        return self.out(hidden).mean(1), hidden


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return Tokens().eval()


def tokens(batch, length=7):
    generator = torch.Generator().manual_seed(batch)
    return torch.randint(50, (batch, length), generator=generator), torch.ones(batch, length)


def installed(name):
    try:
        backends.get(name).check()
    except NASError as error:
        pytest.skip(str(error))
    return backends.get(name)


@pytest.mark.parametrize("name", EAGER)
def test_several_inputs_and_outputs_at_any_batch(net, name):
    session = installed(name)().compile(net, tokens(2))
    for batch in (1, 2, 5):
        outputs = session(*tokens(batch))
        assert isinstance(outputs, tuple) and len(outputs) == 2
        for got, wanted in zip(outputs, net(*tokens(batch)), strict=True):
            assert torch.allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize("name", EAGER)
def test_a_run_bound_to_several_inputs_can_be_repeated(net, name):
    session = installed(name)().compile(net, tokens(1))
    with session.bound(*tokens(3)) as run:
        first, second = (np.asarray(run()[0].detach() if name == "torch" else run()[0]) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_bf16_is_close_to_fp32_but_not_the_same_and_comes_back_as_fp32(net, name):
    session = installed(name)("bf16").compile(net, tokens(2))
    got, wanted = session(*tokens(2))[0], net(*tokens(2))[0]
    assert got.dtype == torch.float32
    assert 0 < (got - wanted).abs().max() < 0.05


@pytest.mark.parametrize("name", ["onnxruntime", "torch_compile"])
def test_a_precision_that_the_backend_lacks_is_refused(name):
    with pytest.raises(ConfigError, match=f"precision = 'bf16' does not go with backend '{name}'; allowed: fp32"):
        backends.get(name)("bf16")


def test_inputs_are_named_after_the_parameters_of_forward_and_outputs_are_counted(net):
    model = onnx.load_model_from_string(to_onnx(net, tokens(2)))
    assert [each.name for each in model.graph.input] == ["input_ids", "attention_mask"]
    assert [each.name for each in model.graph.output] == ["output_0", "output_1"]


def test_one_input_and_one_output_have_the_plain_names():
    model = onnx.load_model_from_string(to_onnx(nn.Linear(3, 2).eval(), torch.randn(1, 3)))
    assert [each.name for each in (*model.graph.input, *model.graph.output)] == ["input", "output"]


def test_further_axes_can_be_dynamic(net):
    axes = {"input_ids": {1: "length"}, "attention_mask": {1: "length"}, "output_1": {1: "length"}}
    session = OnnxSession(to_onnx(net, tokens(2), axes))
    for batch, length in ((1, 3), (4, 11)):
        outputs = session(*tokens(batch, length))
        assert torch.allclose(outputs[1], net(*tokens(batch, length))[1], atol=1e-5)
    with pytest.raises(EvaluationError, match="'input_ids' of shape"):
        OnnxSession(to_onnx(net, tokens(2)))(*tokens(1, 3))


@pytest.mark.parametrize("unused", [0, 1, 2])
def test_an_input_that_the_network_makes_no_use_of_stays_an_input(net, unused):
    class Three(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, first, second, third):
            return self.net(*[each for i, each in enumerate((first, second, third)) if i != unused])

    def three(batch, length=7):
        inputs = list(tokens(batch, length))
        inputs.insert(unused, torch.zeros(batch, length, dtype=torch.int64))
        return inputs

    axes = {name: {1: "length"} for name in ("first", "second", "third", "output_1")}
    for length, model in ((7, to_onnx(Three(), tuple(three(2)))), (9, to_onnx(Three(), tuple(three(2)), axes))):
        outputs = OnnxSession(model)(*three(4, length))
        assert torch.allclose(outputs[0], net(*tokens(4, length))[0], atol=1e-5)
    assert [each.name for each in onnx.load_model_from_string(model).graph.input] == ["first", "second", "third"]


def test_an_axis_of_something_unknown_is_refused(net):
    with pytest.raises(ConfigError, match="'ids' is no input or output; known: input_ids"):
        to_onnx(net, tokens(2), {"ids": {1: "length"}})


def test_a_network_that_returns_something_else_cannot_be_exported():
    class Named(nn.Module):
        def forward(self, x):
            return {"logits": x}

    with pytest.raises(EvaluationError, match="returns dict; wants a tensor or a tuple of tensors"):
        to_onnx(Named(), torch.randn(1, 3))


def test_a_wrong_number_or_type_of_inputs_is_named(net):
    session = OnnxSession(to_onnx(net, tokens(2)))
    with pytest.raises(EvaluationError, match=r"takes 2 inputs \(input_ids, attention_mask\), got 1"):
        session(tokens(2)[0])
    with pytest.raises(EvaluationError, match="cannot run the model"):
        session(tokens(2)[1], tokens(2)[1])
