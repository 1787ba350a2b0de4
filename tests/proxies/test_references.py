"""Values against straightforward computations of the same formulas."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from networks import bert_case, classes, cnn, draw
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.errors import EvaluationError
from nas_compress.proxies.base import cross_entropy
from nas_compress.proxies.entropy import entropy
from nas_compress.proxies.gradsign import gradsign
from nas_compress.proxies.jacob_cov import jacob_cov
from nas_compress.proxies.naswot import agreement, naswot
from nas_compress.proxies.ntk import ntk_condition_number
from nas_compress.proxies.nuclear_norm import attention_weights, nuclear_norm_diversity
from nas_compress.proxies.saliency import fisher, grad_norm, grasp, snip
from nas_compress.proxies.size import macs, params
from nas_compress.proxies.synflow import synflow
from nas_compress.proxies.zen import gaussian_complexity, zen_score

IMAGES, LABELS = draw(6, 3, 8, 8).double(), classes(6, 5)


@pytest.fixture
def network() -> nn.Sequential:
    """In training mode as the published code has it, but for dropout; in double precision for exact comparisons."""
    module = cnn().double().train()
    module[-2].p = 0.0
    return module


def weights(module: nn.Module) -> list[nn.Parameter]:
    return [part.weight for part in module.modules() if isinstance(part, nn.Conv2d | nn.Linear)]


def backward(module: nn.Module, images: Tensor = IMAGES, labels: Tensor = LABELS) -> list[Tensor]:
    """Return the gradients of the weights."""
    module.zero_grad()
    F.cross_entropy(module(images), labels).backward()
    return [weight.grad.clone() for weight in weights(module)]


def test_grad_norm_and_snip_are_those_of_a_backward_pass(network: nn.Sequential) -> None:
    gradients = backward(copy.deepcopy(network))
    norm = sum(g.norm().item() for g in gradients)
    change = sum((w * g).abs().sum().item() for w, g in zip(weights(network), gradients, strict=True))
    assert grad_norm(network, IMAGES, LABELS) == pytest.approx(norm, rel=1e-10)
    assert snip(network, IMAGES, LABELS) == pytest.approx(change, rel=1e-10)


def test_grasp_is_the_change_of_the_gradient_along_the_gradient(network: nn.Sequential) -> None:
    step, gradients = 1e-6, backward(copy.deepcopy(network))
    moved = []
    for sign in (1, -1):
        other = copy.deepcopy(network)
        with torch.no_grad():
            for weight, gradient in zip(weights(other), gradients, strict=True):
                weight += sign * step * gradient
        moved.append(backward(other))
    curved = [(plus - minus) / (2 * step) for plus, minus in zip(*moved, strict=True)]
    expected = -sum((w * hg).sum().item() for w, hg in zip(weights(network), curved, strict=True))
    assert grasp(network, IMAGES, LABELS) == pytest.approx(expected, rel=1e-4)


class Masked(nn.Module):
    """A layer whose output is multiplied by a mask for each sample and channel."""

    def __init__(self, layer: nn.Module, mask: Tensor) -> None:
        super().__init__()
        self.layer, self.mask = layer, mask

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return y * self.mask.view(*self.mask.shape, *[1] * (y.ndim - 2))


def test_fisher_is_half_the_mean_square_of_the_gradients_of_channel_masks(network: nn.Sequential) -> None:
    other, masks = copy.deepcopy(network), []
    for index, layer in enumerate(other):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            masks.append(torch.ones(6, len(layer.weight), dtype=torch.float64, requires_grad=True))
            other[index] = Masked(layer, masks[-1])
    gradients = torch.autograd.grad(F.cross_entropy(other(IMAGES), LABELS), masks)
    expected = sum(float(g.square().mean(0).sum()) / 2 for g in gradients)
    assert fisher(network, IMAGES, LABELS) == pytest.approx(expected, rel=1e-10)


def test_fisher_is_of_the_layers_outputs_before_what_changes_them_in_place(network: nn.Sequential) -> None:
    plain = nn.Sequential(*(part for part in network if not isinstance(part, nn.BatchNorm2d)))
    expected = fisher(plain, IMAGES, LABELS)
    for part in plain:
        if isinstance(part, nn.ReLU):
            part.inplace = True
    assert fisher(plain, IMAGES, LABELS) == expected


def test_gradsign_is_that_of_a_loop_over_samples(network: nn.Sequential) -> None:
    rows = [torch.cat([g.flatten() for g in backward(network, IMAGES[i, None], LABELS[i, None])]) for i in range(6)]
    expected = np.abs(np.sign(torch.stack(rows).numpy()).sum(0)).sum()
    assert gradsign(network, IMAGES, LABELS) == expected


def test_gradsign_of_alike_samples_counts_every_sample_for_every_weight_that_matters() -> None:
    module, x = nn.Linear(4, 3).double(), draw(1, 4).double().repeat(5, 1)
    assert gradsign(module, x, torch.full((5,), 2)) == 5 * 12


def test_jacob_cov_is_that_of_numpy_and_a_loop_over_samples() -> None:
    module = cnn(norm=False).double().eval()
    rows = []
    for image in IMAGES:
        x = image[None].clone().requires_grad_()
        module(x).sum().backward()
        rows.append(x.grad.flatten().numpy())
    v = np.linalg.eigvals(np.corrcoef(np.stack(rows))).real
    expected = -np.sum(np.log(v + 1e-5) + 1 / (v + 1e-5))
    assert jacob_cov(module, IMAGES) == pytest.approx(expected, rel=1e-6)


def test_jacob_cov_is_best_for_independent_samples() -> None:
    """With orthogonal, centred gradients all eigenvalues are 1, where log v + 1 / v is least."""

    class Quadratic(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return x.square().sum(1, keepdim=True) / 2 + 0 * super().forward(x)

    rows = torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])
    assert jacob_cov(Quadratic(4, 1), rows) == pytest.approx(-3, abs=1e-4)


def codes_of(module: nn.Sequential, x: Tensor) -> Tensor:
    """Return the codes of all ReLUs, shape (N, units)."""
    codes = []
    for layer in copy.deepcopy(module):
        if isinstance(layer, nn.ReLU):
            codes.append((x > 0).flatten(1))
        x = layer(x)
    return torch.cat(codes, 1)


def test_naswot_counts_equal_codes(network: nn.Sequential) -> None:
    codes = codes_of(network, IMAGES)
    kernel = np.array([[int((a == b).sum()) for a in codes] for b in codes], dtype=float)
    assert torch.equal(agreement(codes), torch.from_numpy(kernel))
    assert naswot(network, IMAGES) == pytest.approx(np.linalg.slogdet(kernel)[1], rel=1e-12)


def test_naswot_sees_functions_and_in_place_operations() -> None:
    class Functional(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu_(super().forward(x)) + F.relu6(super().forward(x))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Functional(4, 50)
    x = draw(5, 4)
    codes = (F.linear(x, module.weight, module.bias) > 0).repeat(1, 2)
    expected = np.linalg.slogdet(agreement(codes).numpy())[1]
    assert naswot(module, x) == pytest.approx(expected, rel=1e-12)


def test_naswot_wants_activations_and_samples_that_differ() -> None:
    with pytest.raises(EvaluationError, match="naswot: the network has no activation"):
        naswot(nn.Linear(4, 3), draw(5, 4))
    with pytest.raises(EvaluationError, match="naswot: two samples have the same activations"):
        naswot(nn.Sequential(nn.Linear(4, 30), nn.ReLU()), draw(1, 4).repeat(3, 1))


@pytest.mark.parametrize("proxy", [jacob_cov, naswot, ntk_condition_number])
def test_what_compares_samples_wants_two(proxy: Callable[[nn.Module, Tensor], float]) -> None:
    with pytest.raises(EvaluationError, match=f"{proxy.__name__} wants at least two samples, has 1"):
        proxy(cnn(), draw(1, 3, 8, 8))


def test_synflow_is_conserved_from_layer_to_layer() -> None:
    """Without biases every layer carries the whole output (Tanaka et al., 2020, theorem 1)."""
    module = cnn(norm=False, bias=False).double().eval()
    positive = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in positive.parameters():
            parameter.abs_()
        flow = float(positive(torch.ones(1, 3, 8, 8).double()).sum())
    assert synflow(module, (1, 3, 8, 8)) == pytest.approx(len(weights(module)) * flow, rel=1e-12)


def test_synflow_passes_batch_norm_by(network: nn.Sequential) -> None:
    with torch.no_grad():
        for part in network:
            if isinstance(part, nn.BatchNorm2d):
                part.weight.fill_(7.0)
    plain = nn.Sequential(*(part for part in network if not isinstance(part, nn.BatchNorm2d)))
    assert synflow(network, (4, 3, 8, 8)) == pytest.approx(synflow(plain, (1, 3, 8, 8)), rel=1e-12)
    assert synflow(network, (4, 3, 8, 8), normalisation=True) != pytest.approx(synflow(network, (4, 3, 8, 8)))


def test_ntk_of_a_linear_network_is_the_condition_of_the_inputs() -> None:
    module, x = nn.Linear(20, 3, bias=False).double(), draw(5, 20).double()
    expected = np.linalg.cond((x @ x.T).numpy())
    assert ntk_condition_number(module, x) == pytest.approx(expected, rel=1e-8)
    assert ntk_condition_number(module, x, coupled=True) == pytest.approx(expected, rel=1e-8)


def test_ntk_is_that_of_a_loop_with_the_statistics_of_the_batch(network: nn.Sequential) -> None:
    fixed = copy.deepcopy(network)
    for part in fixed:
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    fixed(IMAGES)
    fixed.eval()
    for part in fixed:  # running variances are those of samples, outputs are normalised with those of populations
        if isinstance(part, nn.BatchNorm2d):
            count = 6 * 64 if part.num_features == 8 else 6 * 16
            part.running_var.mul_((count - 1) / count)
    rows = []
    for image in IMAGES:
        fixed.zero_grad()
        fixed(image[None]).sum().backward()
        rows.append(torch.cat([weight.grad.flatten() for weight in weights(fixed)]))
    gradients = torch.stack(rows)
    expected = np.linalg.cond((gradients @ gradients.T).numpy())
    assert ntk_condition_number(network, IMAGES) == pytest.approx(expected, rel=1e-6)


def test_coupled_ntk_is_that_of_backward_passes_through_the_batch(network: nn.Sequential) -> None:
    other, rows = copy.deepcopy(network), []
    outputs = other(IMAGES)
    for output in outputs:
        other.zero_grad()
        output.sum().backward(retain_graph=True)
        rows.append(torch.cat([weight.grad.flatten() for weight in weights(other)]))
    gradients = torch.stack(rows)
    expected = np.linalg.cond((gradients @ gradients.T).numpy())
    assert ntk_condition_number(network, IMAGES, coupled=True) == pytest.approx(expected, rel=1e-6)


def test_ntk_of_alike_samples_is_the_largest_value() -> None:
    assert ntk_condition_number(nn.Linear(4, 2), draw(1, 4).repeat(3, 1)) == pytest.approx(1e7)


@pytest.mark.parametrize(("norm", "order"), [("nuclear", "nuc"), ("frobenius", "fro")])
def test_nuclear_norms_are_those_of_numpy(norm: str, order: str) -> None:
    case = bert_case()
    module = copy.deepcopy(case.module).double()
    module(*case.inputs).sum().backward()
    layers = [
        part for layer in module.layers for part in layer.attention.inner.children() if isinstance(part, nn.Linear)
    ]
    assert len(layers) == len(attention_weights(module)) == 4 * len(module.layers)
    expected = sum(
        np.linalg.norm(layer.weight.detach().numpy(), order) * np.linalg.norm(layer.weight.grad.numpy(), order)
        for layer in layers
    )
    assert nuclear_norm_diversity(case.module, case.inputs, norm=norm) == pytest.approx(expected, rel=1e-4)


def test_attention_of_torch_is_found_and_networks_without_are_refused() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    assert attention_weights(layer) == ["self_attn.in_proj_weight", "self_attn.out_proj.weight"]
    assert nuclear_norm_diversity(nn.Sequential(layer, nn.Linear(16, 3)), (2, 5, 16)) > 0
    with pytest.raises(EvaluationError, match="no attention"):
        nuclear_norm_diversity(cnn(), (2, 3, 8, 8))


def test_gaussian_complexity_of_a_linear_network_is_the_size_of_its_noise() -> None:
    module = nn.Linear(10, 7, bias=False)
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(7, 10, generator=generator)
    torch.randn(6, 10, generator=generator)
    noise = torch.randn(6, 10, generator=generator)
    expected = float((0.01 * noise @ weight.T).abs().sum(1).mean().log())
    assert gaussian_complexity(module, (6, 10), seed=5) == pytest.approx(expected, abs=1e-3)
    assert zen_score(module, (6, 10), seed=5) == pytest.approx(expected, abs=1e-3)


def test_zen_score_gives_back_what_batch_norm_takes_away() -> None:
    module = cnn(bias=False).double()
    before = zen_score(module, (6, 3, 8, 8), gaussian=False), gaussian_complexity(module, (6, 3, 8, 8), gaussian=False)
    with torch.no_grad():
        module[0].weight *= 1000
        module[1].eps = 1e-5 * 1e6
    after = zen_score(module, (6, 3, 8, 8), gaussian=False), gaussian_complexity(module, (6, 3, 8, 8), gaussian=False)
    assert after[1] == pytest.approx(before[1], abs=1e-4)
    assert after[0] == pytest.approx(before[0] + np.log(1000), abs=1e-4)


def test_zen_score_passes_dead_branches_by() -> None:
    class Dead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(12)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.norm(torch.zeros_like(x))

    module = cnn()
    longer = nn.Sequential(*module[:9], Dead(), *module[9:])
    assert zen_score(longer, (6, 3, 8, 8), seed=1) == zen_score(module, (6, 3, 8, 8), seed=1)


def test_zen_score_looks_at_the_features_before_pooling() -> None:
    module = cnn()
    longer = nn.Sequential(*module, nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5))
    assert zen_score(longer, (6, 3, 8, 8), gaussian=False) == zen_score(module, (6, 3, 8, 8), gaussian=False)


def test_sizes_are_counts() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.Flatten(), nn.Linear(4 * 36, 5))
    assert params(module) == 4 * 27 + 5 * 145
    assert macs(module, (2, 3, 8, 8)) == 36 * 4 * 27 + 5 * 144


def test_cross_entropy_takes_labels_of_samples_positions_and_answers() -> None:
    logits = draw(3, 6, 2)
    assert cross_entropy(logits[:, 0], classes(3, 2)) == F.cross_entropy(logits[:, 0], classes(3, 2))
    everywhere = classes(18, 2).view(3, 6)
    assert cross_entropy((logits,), everywhere) == F.cross_entropy(logits.transpose(1, 2), everywhere)
    ends = classes(6, 6).view(3, 2)
    expected = (F.cross_entropy(logits[..., 0], ends[:, 0]) + F.cross_entropy(logits[..., 1], ends[:, 1])) / 2
    torch.testing.assert_close(cross_entropy(logits, ends), expected)


class Sum(nn.Module):
    """A linear layer for each of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(8, 16)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.first(x) + self.second(y)


def test_zen_moves_all_inputs_by_the_noise_alone() -> None:
    """A layer over the two inputs side by side changes as much as the sum of a layer for each."""
    both = gaussian_complexity(Sum(), (draw(256, 8), draw(256, 8)))
    assert both == pytest.approx(gaussian_complexity(nn.Linear(16, 16), (256, 16)), abs=0.1)


class Excited(nn.Module):
    """Channels times weights that follow from their means."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.weight(x.mean((2, 3), keepdim=True)))


def excited(*later: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), Excited(), *later)


def test_zen_takes_a_pooling_that_is_multiplied_back_for_no_end_of_the_network() -> None:
    head = nn.Flatten(), nn.Linear(8 * 64, 10)
    more = nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
    shallow, deep = (gaussian_complexity(excited(*layers, *head), (4, 3, 8, 8)) for layers in ((), more))
    assert deep > shallow + 1


def test_zen_takes_the_features_before_the_last_pooling_of_a_network_with_others() -> None:
    body = excited(nn.Conv2d(8, 8, 3, padding=1))
    head = nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 16, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 10)
    found = (gaussian_complexity(each, (4, 3, 8, 8), gaussian=False) for each in (nn.Sequential(*body, *head), body))
    assert next(found) == next(found)


def test_entropy_is_the_log_variance_of_a_gaussian_linear_network() -> None:
    """Without activations the bound is reached: each layer multiplies the variance by its fan-in."""
    network = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2, bias=False),
        nn.Conv2d(8, 16, 2, bias=False),
        nn.Flatten(),
        nn.Linear(256, 64, False),
    ).double()
    outputs = []
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        for parameter in network.parameters():
            parameter.data.normal_(generator=generator)
        with torch.no_grad():
            outputs.append(network(torch.randn(16, 4, 7, 7, generator=generator, dtype=torch.float64)))
    assert entropy(network) == pytest.approx(np.log(4 / 2 * 9) + np.log(8 * 4) + np.log(256))
    assert entropy(network) == pytest.approx(torch.stack(outputs).var().log().item(), abs=0.1)


def test_entropy_grows_with_depth_faster_than_with_width() -> None:
    def chain(*widths: int) -> nn.Sequential:
        return nn.Sequential(*(nn.Linear(n, m) for n, m in zip(widths, widths[1:], strict=False)))

    deep, wide = chain(*[32] * 9), chain(*[64] * 4)
    assert params(deep) < params(wide) and entropy(deep) > entropy(wide)
