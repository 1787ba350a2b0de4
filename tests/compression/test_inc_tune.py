"""Tuning with INC: the criterion holds for what is handed back, or the outcome says that it does not."""

import pytest
import torch
from torch import nn

from nas_compress.compression.inc import Int8Module, autotune_inc
from nas_compress.compression.inc_graph import Quantizer
from nas_compress.compression.inc_sensitivity import sensitivities
from nas_compress.compression.inc_tune import _Search
from nas_compress.compression.options import AccuracyCriterion, TuningCriterion
from nas_compress.errors import EvaluationError


class Disturbed(nn.Sequential):
    """Linear layers in a chain; layer `WORST` has inputs of which one is large, so that int8 drowns the others."""

    WORST = "4"

    def __init__(self):
        torch.manual_seed(0)
        super().__init__(
            nn.Flatten(), nn.Linear(256, 16), nn.ReLU(), nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16),
            nn.ReLU(), nn.Linear(16, 5),
        )  # fmt: skip
        with torch.no_grad():
            self[3].weight[0] *= 2000
            self[4].weight[:, 0] = 0


@pytest.fixture(scope="module")
def net():
    return Disturbed().eval()


@pytest.fixture(scope="module")
def agreement(net, images):
    """Return what measures how many % of the images a network puts in the same class as the original."""
    with torch.no_grad():
        wanted = net(images).argmax(1)

    def measure(network):
        with torch.no_grad():
            return 100 * (network(images).argmax(1) == wanted).float().mean().item()

    return measure


@pytest.fixture
def uncompiled(monkeypatch):
    """Leave the networks uncompiled, which takes seconds each."""
    monkeypatch.setattr(torch, "compile", lambda graph, **options: graph)


def tune(net, images, accuracy, loss, kind="relative", **tuning):
    return autotune_inc(
        net,
        images[:16],
        images.split(32),
        accuracy=accuracy,
        criterion=AccuracyCriterion(criterion=kind, tolerable_loss=loss),
        tuning=TuningCriterion(**tuning),
    )


def test_the_layer_that_int8_drowns_is_the_most_sensitive(net, images):
    errors = sensitivities(net, (images,), ["1", "3", "4", "5", "7"])
    assert max(errors, key=errors.get) == Disturbed.WORST
    assert not any(layer._forward_pre_hooks for layer in net)


def test_sensitivity_tells_what_the_quantized_graph_loses(net, images):
    """Errors of graphs in which INC quantizes one layer alone."""
    names = ["1", "3", "4", "5", "7"]
    estimated = sensitivities(net, (images[:32],), names)
    quantizer = Quantizer(net, (images[:2],), [(images[:32],)], "static")
    with torch.no_grad():
        wanted = net(images[:32])
        for name in ("1", Disturbed.WORST):
            graph = quantizer.graph([other for other in names if other != name])
            error = (graph(images[:32]) - wanted).pow(2).mean().item()
            assert error == pytest.approx(estimated[name], rel=0.3)


def test_a_tolerant_criterion_keeps_nothing(uncompiled, net, images, agreement):
    tuned = tune(net, images, agreement, 0.9)
    assert tuned.accepted
    assert tuned.before == 100
    assert tuned.kept_fp32 == ()
    assert [trial.compiled for trial in tuned.trials] == [False, True]


@pytest.mark.parametrize(("kind", "loss"), [("relative", 0.02), ("absolute", 2)])
def test_as_few_layers_as_it_takes_go_back_to_fp32(uncompiled, net, images, agreement, kind, loss):
    tuned = tune(net, images, agreement, loss, kind)
    assert tuned.accepted
    assert tuned.kept_fp32 == (Disturbed.WORST,)
    assert tuned.after == agreement(tuned.network) >= 98
    assert [trial.algorithm for trial in tuned.trials[:2]] == ["minmax", "kl"]
    assert all(trial.accuracy < 98 for trial in tuned.trials[:2])


def test_what_cannot_be_met_is_said_and_nothing_is_quantized(uncompiled, net, images, agreement):
    def never(network):
        return agreement(network) - (0 if isinstance(network, Disturbed) else 30)

    tuned = tune(net, images, never, 0.01)
    assert not tuned.accepted and tuned.network is None
    assert tuned.after == tuned.before == 100 and len(tuned.kept_fp32) == 5
    best = max(trial.accuracy for trial in tuned.trials)
    assert tuned.reason.startswith("nothing was quantized") and f"kept {best:.2f} %" in tuned.reason


def test_a_network_that_only_holds_uncompiled_is_not_accepted(uncompiled, net, images, agreement):
    tuned = tune(net, images, lambda network: 50 if isinstance(network, Int8Module) else agreement(network), 0.02)
    assert not tuned.accepted and tuned.network is None
    assert [trial.accuracy for trial in tuned.trials if trial.compiled][0] == 50


@pytest.mark.parametrize("limit", [{"max_trials": 1}, {"timeout": 1e-9}])
def test_it_ends_in_time(uncompiled, net, images, agreement, limit):
    tuned = tune(net, images, agreement, 0, **limit)
    assert not tuned.accepted
    assert [trial.compiled for trial in tuned.trials] == [False]


def test_logits_that_are_not_finite_are_a_failed_trial(uncompiled, net, images, agreement):
    def fails(network):
        if not isinstance(network, Disturbed):
            raise EvaluationError("the network gives logits that are not finite")
        return 90.0

    assert not tune(net, images, fails, 0.5, max_trials=3).accepted


def test_an_accuracy_of_zero_is_refused(net, images):
    with pytest.raises(EvaluationError, match="accuracy above 0"):
        tune(net, images, lambda network: 0.0, 0.01)


@pytest.mark.parametrize("needed", range(1, 12))
def test_the_fewest_layers_are_found_by_bisection(needed):
    class Counted(_Search):
        def _try(self, layers, algorithm):
            self.tried.append(len(layers))
            return len(layers) >= needed

        def _may_go_on(self):
            return True

    search = Counted(None, None, AccuracyCriterion(), TuningCriterion(), 90.0)
    search.tried = []
    search.trials = [type("Trial", (), {"algorithm": "minmax", "accuracy": 1.0})()]
    search.try_layers([str(number) for number in range(12)])
    assert min(tried for tried in search.tried if tried >= needed) == needed
    assert needed - 1 in (0, *search.tried)
    assert max(search.tried) < 12


@pytest.mark.slow
def test_the_criterion_holds_compiled(net, images, agreement):
    tuned = tune(net, images, agreement, 0.02)
    assert tuned.accepted
    assert agreement(tuned.network) == tuned.after >= 98


def test_incs_autotune_returns_a_model_that_misses_the_tolerance(net, images):
    """Why what it returns is evaluated again."""
    from neural_compressor.torch.quantization import TuningConfig, autotune

    quantizer = Quantizer(net, (images[:2],), [(images,)], "static")
    scores = iter([100.0, 10.0])
    config = TuningConfig(config_set=[quantizer.config()], tolerable_loss=0.01)
    assert autotune(quantizer.exported(), config, lambda graph: next(scores), run_fn=quantizer.calibrate) is not None
