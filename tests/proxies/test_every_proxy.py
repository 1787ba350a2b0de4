"""What holds of all proxies, on networks of each kind."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from networks import CASES, NOT_FIT, Case, cnn, cnn_case, draw
from torch import nn

from nas_compress.errors import ConfigError, EvaluationError, UnknownNameError
from nas_compress.proxies import proxies, score

PAIRS = [(kind, name) for kind in CASES for name in proxies if (kind, name) not in NOT_FIT]
SEEDED = [name for name in proxies if proxies.entry(name).info["seeded"]]


def run(case: Case, name: str, seed: int = 0) -> float:
    return score(case.module, case.inputs, [name], labels=case.labels, seed=seed, **case.options)[name]


def photograph(module: nn.Module) -> dict[str, Any]:
    """Everything of a network that a proxy could leave changed."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return {
        "values": {name: tensor.detach().clone() for name, tensor in tensors.items()},
        "identities": {name: id(tensor) for name, tensor in tensors.items()},
        "wanted": {name: tensor.requires_grad for name, tensor in tensors.items()},
        "gradients": {name: copy.deepcopy(tensor.grad) for name, tensor in tensors.items()},
        "versions": {name: tensor._version for name, tensor in tensors.items()},
        "modes": [part.training for part in module.modules()],
        "hooks": [[list(getattr(part, hook)) for hook in hooks] for part in module.modules()],
        "attributes": [sorted(part.__dict__) for part in module.modules()],
        "tracking": [getattr(part, "track_running_stats", None) for part in module.modules()],
    }


def assert_same(before: Any, after: Any) -> None:
    assert before.keys() == after.keys()
    for key, value in before.items():
        if key in ("values", "gradients"):
            for name, tensor in value.items():
                other = after[key][name]
                assert (tensor is None) == (other is None) and (tensor is None or torch.equal(tensor, other)), name
        else:
            assert value == after[key], key


def disturb(module: nn.Module) -> None:
    """Bring a network in an unusual state: a mix of modes, a frozen parameter, a gradient, a hook."""
    for index, part in enumerate(module.modules()):
        part.training = index % 3 != 0
    parameters = list(module.parameters())
    parameters[0].requires_grad_(False)
    parameters[-1].grad = torch.ones_like(parameters[-1])
    module.register_forward_hook(lambda *_: None)


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_leaves_the_network_and_the_global_generator_as_they_were(kind: str, name: str) -> None:
    case = CASES[kind]()
    disturb(case.module)
    before, generator = photograph(case.module), torch.get_rng_state()
    run(case, name)
    assert_same(before, photograph(case.module))
    assert torch.equal(generator, torch.get_rng_state())


@pytest.mark.parametrize("name", list(proxies))
def test_leaves_the_network_as_it_was_where_it_fails(name: str) -> None:
    case = cnn_case()._replace(inputs=draw(6, 4, 8, 8))
    if proxies.entry(name).info["needs"] == "nothing":
        pytest.skip("takes no inputs")
    disturb(case.module)
    before = photograph(case.module)
    with pytest.raises(EvaluationError):
        run(case, name)
    assert_same(before, photograph(case.module))


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_is_finite_and_the_same_every_time(kind: str, name: str) -> None:
    first, second = (run(CASES[kind](), name) for _ in range(2))
    assert math.isfinite(first)
    assert first == second


@pytest.mark.parametrize("name", list(proxies))
def test_does_not_depend_on_mode_gradients_or_running_statistics(name: str) -> None:
    if ("cnn", name) in NOT_FIT:
        pytest.skip("not for such networks")
    case = cnn_case()
    expected = run(case, name)
    case.module.requires_grad_(False).train()
    case.module(draw(32, 3, 8, 8, seed=9))
    assert run(case, name) == pytest.approx(expected)
    with torch.no_grad():
        assert run(case, name) == pytest.approx(expected)


@pytest.mark.parametrize("name", SEEDED)
def test_the_seed_counts_and_the_weights_do_not(name: str) -> None:
    case = cnn_case()
    assert run(case, name, seed=0) != run(case, name, seed=1)
    expected = run(case, name)
    with torch.no_grad():
        for parameter in case.module.parameters():
            parameter.mul_(3)
    assert run(case, name) == expected


@pytest.mark.parametrize("name", [name for name in proxies if proxies.entry(name).info["needs"] == "example"])
def test_data_free_proxies_take_the_shape_alone(name: str) -> None:
    case = CASES["vit"]()
    function = proxies.get(name)
    assert function(case.module, (6, 1, 8, 8)) == function(case.module, case.inputs)


@pytest.mark.parametrize("name", [name for name in proxies if proxies.entry(name).info["weights"] == "initialised"])
def test_weights_that_are_not_finite_are_refused(name: str) -> None:
    case = CASES["vit"]()
    with torch.no_grad():
        for parameter in case.module.parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(EvaluationError, match=r"nan|finite|activat"):
        run(case, name)


@pytest.mark.parametrize("name", [name for name in proxies if proxies.entry(name).info["needs"] == "labels"])
def test_missing_labels_are_refused_before_any_work(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} needs labels"):
        score(cnn(), draw(2, 3, 8, 8), ["params", name])


def test_scores_come_in_the_order_asked_for_by_registered_name() -> None:
    case = cnn_case()
    found = score(case.module, case.inputs, ["zen", "params", "ntk"])
    assert list(found) == ["zen_score", "params", "ntk_condition_number"]
    assert found["params"] == sum(p.numel() for p in case.module.parameters())


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'synflow'"):
        score(cnn(), draw(2, 3, 8, 8), ["sinflow"])


def test_every_entry_says_what_it_needs() -> None:
    for name in proxies:
        info = proxies.entry(name).info
        assert info["needs"] in ("nothing", "example", "inputs", "labels")
        assert info["direction"] in ("maximize", "minimize")
        function: Callable[..., float] = proxies.get(name)
        assert function.__name__ == name and function.__doc__


@pytest.mark.parametrize("name", [name for name in proxies if proxies.entry(name).info["needs"] == "labels"])
def test_labels_that_do_not_fit_are_refused(name: str) -> None:
    case = cnn_case()
    with pytest.raises(EvaluationError, match="the loss of the network's outputs cannot be computed"):
        run(case._replace(labels=case.labels + 100), name)
    with pytest.raises(EvaluationError, match=r"the loss has the shape \(\d,\)"):
        run(case._replace(options={"loss": lambda outputs, _: outputs[:, 0]}), name)


@pytest.mark.parametrize(("kind", "name"), [pair for pair in PAIRS if pair[0] == "bert"])
def test_runs_inside_inference_mode(kind: str, name: str) -> None:
    expected = run(CASES[kind](), name)
    case = CASES[kind]()
    with torch.inference_mode():
        assert run(case, name) == pytest.approx(expected)
