import copy

import pytest
import torch

from nas_compress.elastic import Bottleneck, ElasticBottleneck, ElasticConvNorm, by_importance


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def randomize(module):
    generator = torch.Generator().manual_seed(1)
    for name, tensor in module.state_dict().items():
        if name.endswith("running_var") or name.endswith("norm.weight"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
    return module.eval()


def test_conv_norm_uses_the_leading_channels():
    layer = randomize(ElasticConvNorm(6, 8, 3, 2))
    layer.set_active(4, 5)
    x = noise(2, 4, 7, 7)
    with torch.no_grad():
        y = layer(x)
        torch.testing.assert_close(layer.extract().eval()(x), y)
    assert y.shape == (2, 5, 4, 4)


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize(("stride", "projects"), [(1, False), (1, True), (2, True)])
def test_bottleneck_computes_the_residual_block(size, stride, projects):
    block = randomize(ElasticBottleneck(12, 8, 12, stride=stride, projects=projects))
    inside = 10 if projects else 9
    block.set_active(inside, 5, 9)
    x = noise(2, inside, size, size)
    with torch.no_grad():
        y = block(x)
        plain = block.extract().eval()
        torch.testing.assert_close(plain(x), y)
        main = plain.restore(torch.relu(plain.spatial(torch.relu(plain.reduce(x)))))
        skip = x
        if projects:
            full = torch.nn.functional.pad(x, (0, size % 2, 0, size % 2), mode="replicate") if stride == 2 else x
            skip = plain.project(full.unfold(2, stride, stride).unfold(3, stride, stride).mean((4, 5)))
        torch.testing.assert_close(torch.relu(main + skip), y)
    assert type(plain) is Bottleneck
    assert y.shape == (2, 9, -(-size // stride), -(-size // stride))
    assert not any(isinstance(m, (ElasticConvNorm, ElasticBottleneck)) for m in plain.modules())


def test_sorting_the_middle_keeps_the_largest_block():
    block = randomize(ElasticBottleneck(12, 8, 12, stride=2, projects=True))
    other = copy.deepcopy(block)
    other.sort_middle()
    x = noise(2, 12, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(other(x), block(x), atol=1e-5, rtol=1e-5)
    for layer in (other.restore, other.spatial):
        norms = layer.conv.weight.detach().abs().sum((0, 2, 3))
        assert torch.all(norms[:-1] >= norms[1:] - 1e-5)
    assert not torch.equal(other.restore.conv.weight, block.restore.conv.weight)


def test_importance_adds_up_what_several_layers_read():
    first, second = torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([[0.0, -5.0, 0.5], [0.0, 0.0, 1.0]])
    assert by_importance(first).tolist() == [0, 2, 1]
    assert by_importance(first, second[:, :, None, None]).tolist() == [1, 2, 0]
