"""Pruning in rounds of training."""

import copy

import pytest
import torch
from torch import nn

from nas_compress.backends.onnxruntime import OnnxSession, to_onnx
from nas_compress.compression.options import PruneOptions
from nas_compress.compression.prune import cubic_sparsity, prune
from nas_compress.data.base import batches, memory_data
from nas_compress.errors import CheckpointError, ConfigError, DataError
from nas_compress.objectives.cost import count_macs
from nas_compress.supernets import load_supernet

NET = load_supernet("digits_mbv3", trained=False, seed=0)
SMALLEST = NET.space.smallest()
TRAINING = {"epochs": 2, "batch_size": 40, "teacher": None}


@pytest.fixture(scope="module")
def data():
    """Ten classes of 8x8 images, told apart by the column of a bright bar."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 60, (160, 1, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.arange(160) % 10
    for i, label in enumerate(labels.tolist()):
        pixels[i, :, :, label * 8 // 10] += 150 - 9 * label
    return memory_data("bars", (pixels[:120], labels[:120]), (pixels[120:], labels[120:]), list("abcdefghij"))


def subnet():
    return NET.extract(SMALLEST)


def options(pattern="channel", rounds=2, **changes):
    training = TRAINING | changes.pop("training", {})
    return PruneOptions(pattern=pattern, rounds=rounds, training=training, **changes)


def weights(module):
    return {key: tensor.clone() for key, tensor in module.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_sparsity_rises_fast_and_then_slowly():
    rising = [cubic_sparsity(0.8, done, 4) for done in range(5)]
    assert rising[0] == 0
    assert rising[-1] == 0.8
    steps = [after - before for before, after in zip(rising, rising[1:], strict=False)]
    assert all(first > second > 0 for first, second in zip(steps, steps[1:], strict=False))
    assert rising[2] == pytest.approx(0.8 * 7 / 8)


@pytest.mark.parametrize("scope", ["local", "global"])
def test_channels_are_pruned_to_the_target(data, scope):
    module = subnet()
    before, x = weights(module), next(batches(data.train, 4, 8))[0]
    outcome = prune(module, data, 8, options(round_to=2, pruning_scope=scope), seed=1)
    assert equal(weights(module), before)
    assert outcome.sparsity == pytest.approx(0.5, abs=0.05)
    assert count_macs(outcome.network, x) < 0.5 * count_macs(module, x)
    assert not outcome.network.training
    widths = {layer.name: layer.after for layer in outcome.layers}
    assert outcome.network.get_submodule("2.expand_conv").out_channels == widths["2.expand_conv"]
    with torch.no_grad():
        assert torch.allclose(OnnxSession(to_onnx(outcome.network, x))(x), outcome.network(x), atol=1e-4)


@pytest.mark.parametrize("scope", ["local", "global"])
def test_weights_are_pruned_exactly_and_stay_zero(data, scope):
    outcome = prune(subnet(), data, 8, options("1x1", target_sparsity=0.7, pruning_scope=scope), seed=1)
    assert outcome.sparsity == pytest.approx(0.7, abs=0.01)
    for layer in outcome.layers:
        part = outcome.network.get_submodule(layer.name)
        assert isinstance(part.weight, nn.Parameter)
        assert int(part.weight.count_nonzero()) == layer.after
        if scope == "local":
            assert layer.after == layer.before - round(0.7 * layer.before)
    assert outcome.network.state_dict().keys() == subnet().state_dict().keys()


def test_two_of_four_stay(data):
    outcome = prune(subnet(), data, 8, options("2:4", rounds=3), seed=1)
    assert outcome.sparsity == 0.5
    names = {layer.name for layer in outcome.layers}
    for name, part in outcome.network.named_modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            assert (name in names) == (part.weight.shape[1] % 4 == 0)
            if name in names:
                groups = part.weight.flatten(1) if part.weight.ndim == 2 else part.weight.permute(0, 2, 3, 1)
                assert (groups.reshape(-1, 4).count_nonzero(1) == 2).all()


@pytest.mark.parametrize("pattern", ["channel", "1x1"])
def test_the_seed_decides(data, pattern):
    one, again, other = (weights(prune(subnet(), data, 8, options(pattern), seed=seed).network) for seed in (1, 1, 2))
    assert equal(one, again)
    assert not equal(one, other)


class CrashError(Exception):
    pass


@pytest.mark.parametrize(
    ("pattern", "crash"), [("channel", (3, 2)), ("channel", (1, 1)), ("1x1", (4, 1)), ("2:4", (3, 1))]
)
def test_killed_and_resumed_is_the_same_network(data, tmp_path, pattern, crash):
    """Crashes in the middle of a round, in the first step of all, after an epoch, and in the first step of a round."""
    teacher = NET.extract(NET.space.largest())
    chosen = options(pattern, training={"teacher": "largest", "features": 0.5})
    work = {"seed": 3, "teacher": teacher, "teacher_resolution": 8}
    straight = prune(subnet(), data, 8, chosen, **work)
    steps = []

    def interrupt(progress):
        if (progress.epoch, progress.step) == crash:
            raise CrashError

    with pytest.raises(CrashError):
        prune(subnet(), data, 8, chosen, **work, checkpoint_dir=tmp_path, progress=interrupt)
    resumed = prune(subnet(), data, 8, chosen, **work, checkpoint_dir=tmp_path, progress=steps.append)
    assert equal(weights(resumed.network), weights(straight.network))
    assert resumed.layers == straight.layers
    assert (steps[0].epoch, steps[0].step) == (crash[0], 1)
    assert (steps[-1].epoch, steps[-1].epochs, steps[-1].share) == (4, 4, 1)
    assert all(step.share == pytest.approx((step.epoch - 1 + step.step / step.steps) / 4) for step in steps)
    assert [file.name for file in tmp_path.iterdir()] == ["round-0002.safetensors"]
    done = len(steps)
    again = prune(subnet(), data, 8, chosen, **work, checkpoint_dir=tmp_path, progress=steps.append)
    assert equal(weights(again.network), weights(straight.network))
    assert len(steps) == done


def test_other_work_in_the_folder_is_refused(data, tmp_path):
    prune(subnet(), data, 8, options(rounds=1), seed=1, checkpoint_dir=tmp_path)
    with pytest.raises(CheckpointError, match=r"round-0001\.safetensors is of other work: seed was 1 there, is 2 here"):
        prune(subnet(), data, 8, options(rounds=1), seed=2, checkpoint_dir=tmp_path)
    with pytest.raises(CheckpointError, match="is of other work: options was"):
        prune(subnet(), data, 8, options(rounds=2), seed=1, checkpoint_dir=tmp_path)
    (tmp_path / "round-0001.safetensors").write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match=r"round-0001\.safetensors is damaged .*delete its folder"):
        prune(subnet(), data, 8, options(rounds=1), seed=1, checkpoint_dir=tmp_path)


def test_the_teacher_is_used(data):
    teachers = [NET.extract(NET.space.largest()) for _ in range(2)]
    with torch.no_grad():
        teachers[1][-1][-1].bias.add_(torch.arange(10.0))
    chosen = options(rounds=1, training={"teacher": "largest"})
    outcomes = [weights(prune(subnet(), data, 8, chosen, seed=1, teacher=each).network) for each in teachers]
    outcomes.append(weights(prune(subnet(), data, 8, options(rounds=1), seed=1).network))
    assert not any(equal(outcomes[i], outcomes[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_teacher_and_options_must_agree(data):
    with pytest.raises(ConfigError, match="training.teacher = 'largest', but none is given"):
        prune(subnet(), data, 8, options(training={"teacher": "largest"}), seed=1)
    with pytest.raises(ConfigError, match="training.teacher = None, but one is given"):
        prune(subnet(), data, 8, options(), seed=1, teacher=subnet())


def test_what_does_not_fit_fails_before_any_training(data, tmp_path):
    steps = []
    for wrong in ({"excluded_op_names": ["nothing"]}, {"excluded_op_names": ["*"]}):
        for pattern in ("channel", "1x1", "2:4"):
            with pytest.raises(ConfigError, match="nothing"):
                prune(subnet(), data, 8, options(pattern, **wrong), seed=1, progress=steps.append)
    with pytest.raises(DataError, match="the sub-network does not take the images of 'bars'"):
        prune(nn.Sequential(nn.Conv2d(3, 3, 3)), data, 8, options(), seed=1, progress=steps.append)
    assert steps == []


class Counted(nn.Module):
    """A factor for each channel, stored under a name that says how many there are."""

    def __init__(self, channels):
        super().__init__()
        self.factors = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x):
        return x * self.factors

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        destination[f"{prefix}factors_{len(self.factors)}"] = self.factors.detach()


def test_what_could_not_be_read_back_fails_before_any_training(data):
    steps = []
    module = nn.Sequential(nn.Conv2d(1, 16, 3), Counted(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    message = r"the pruned Sequential could not be read back \(.* it lacks 1\.factors_16 .*\); use pattern 1x1"
    with pytest.raises(ConfigError, match=message):
        prune(module, data, 8, options(round_to=1), seed=1, progress=steps.append)
    assert steps == []


def test_excluded_layers_are_left_out(data):
    outcome = prune(subnet(), data, 8, options("1x1", rounds=1, excluded_op_names=["2", "0.*"]), seed=1)
    names = [layer.name for layer in outcome.layers]
    assert names and not any(name.startswith(("2.", "0.")) for name in names)
    assert (
        outcome.network.get_submodule("2.expand_conv").weight.count_nonzero() == subnet()[2].expand_conv.weight.numel()
    )


@pytest.mark.parametrize("name", ["digits_resnet", "digits_vit"])
def test_other_families(data, name):
    net = load_supernet(name, trained=False, seed=0)
    arch = net.space.smallest()
    module, size = net.extract(arch), net.resolution(arch)
    for pattern in ("channel", "1x1"):
        chosen = options(pattern, rounds=1, training={"epochs": 1, "optimizer": "adamw"})
        outcome = prune(module, data, size, chosen, seed=1)
        assert 0.3 < outcome.sparsity < 0.6
        assert outcome.network(next(batches(data.train, 3, size))[0]).shape == (3, 10)


def test_the_outcome_as_plain_data(data):
    outcome = prune(subnet(), data, 8, options(rounds=1, round_to=1), seed=1)
    plain = outcome.to_dict()
    assert plain["sparsity"] == outcome.sparsity
    assert plain["layers"][0] == {"name": "0.0", "before": 16, "after": 8}
    copy.deepcopy(outcome.network)


# -- options -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["channel", "1x1", "2:4"])
@pytest.mark.parametrize("teacher", ["largest", None])
def test_options_read_back(pattern, teacher):
    chosen = PruneOptions(pattern=pattern, training={"teacher": teacher})
    assert PruneOptions.parse(chosen.model_dump(mode="json")) == chosen


def test_options_that_contradict_one_another_are_refused():
    for wrong, message in (
        ({"pattern": "2:4", "target_sparsity": 0.5}, "target_sparsity has no effect with pattern '2:4'"),
        ({"pattern": "1x1", "round_to": 8}, "round_to has no effect with pattern '1x1'"),
        ({"pattern": "4:4"}, "pattern = '4:4' removes nothing"),
        ({"training": {"teacher": None, "features": 1.0}}, "features wants a teacher, and teacher is null"),
        ({"training": {"teacher": "x.onnx"}}, "'x.onnx' is not allowed"),
    ):
        with pytest.raises(ConfigError, match=message):
            PruneOptions(**wrong)
