"""int8 torch modules made with INC: close to fp32, the same at every call, safe to read back."""

import copy
import io
import pickle
import subprocess
import sys
import zipfile

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from nas_compress.backends.hardware import has_bf16_dot_product
from nas_compress.backends.ipex import IpexBackend
from nas_compress.compression import inc_graph, inc_version, packages
from nas_compress.compression.inc import Int8Module, load_int8, quantize_inc
from nas_compress.compression.inc_graph import Quantizer
from nas_compress.errors import CheckpointError, ConfigError, DataError, EvaluationError, MissingExtraError

needs_bf16 = pytest.mark.skipif(not has_bf16_dot_product(), reason="this processor has no bf16")


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def int8(small, images):
    counters.clear()
    return quantize_inc(small, images[:4], images.split(16))


@pytest.fixture(scope="module")
def saved(int8, tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "net.pt2"
    int8.save(path)
    return path


def test_it_runs_int8_kernels(int8):
    assert counters["inductor"]["qconv_unary_lower_count"] == 2
    assert counters["inductor"]["qlinear_unary_lower_count"] == 1


class TwoOutputs(nn.Sequential):
    def forward(self, x):
        return super().forward(x), x


class Branches(nn.Sequential):
    def forward(self, x):
        y = super().forward(x)
        return 2 * y if y.sum() > 0 else y


@pytest.mark.parametrize(
    ("kind", "message"),
    [(TwoOutputs, "gives a tuple; INC wants"), (Branches, "torch.export cannot take this network: ")],
)
def test_what_a_network_must_not_do_is_said_in_a_line(kind, message, images, capfd):
    with pytest.raises(EvaluationError, match=message) as caught:
        Quantizer(kind(nn.Conv2d(1, 4, 3)), (images[:2],), [(images[:2],)], "static")
    assert "\n" not in str(caught.value) and not "".join(capfd.readouterr())


@pytest.mark.parametrize("batch", [1, 4, 7, 8])
def test_outputs_are_close_to_fp32_at_any_batch(small, int8, images, batch):
    with torch.no_grad():
        wanted = small(images[:batch])
    got = int8(images[:batch])
    assert got.shape == wanted.shape
    assert (got - wanted).abs().max() < 0.05 * wanted.abs().max()


def test_another_thread_count_still_runs_int8_kernels(int8, images):
    wanted, before = int8(images[:4]), torch.get_num_threads()
    counters.clear()
    torch.set_num_threads(before + 1)
    try:
        assert torch.allclose(int8(images[:4]), wanted, atol=1e-5)
    finally:
        torch.set_num_threads(before)
    assert counters["inductor"].get("qconv_unary_lower_count", 2) == 2


def test_quantizing_leaves_the_module_alone(small, int8):
    assert not any(module.training for module in small.modules())
    assert small[0].weight.requires_grad


def test_what_was_saved_computes_the_same(int8, saved, images):
    again = load_int8(saved, images[:4])
    assert torch.allclose(again(images[:8]), int8(images[:8]), atol=1e-5)


class Harmful:
    def __reduce__(self):
        return (pytest.fail, ("a pickle in the file was executed",))


def _rewritten(source, target, change):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return target


def test_no_pickle_in_a_file_is_executed(saved, tmp_path, images):
    harmful = io.BytesIO()
    torch.save(Harmful(), harmful)
    for content in (harmful.getvalue(), pickle.dumps(Harmful())):
        path = _rewritten(saved, tmp_path / "net.pt2", lambda n, b, c=content: c if n.endswith(".pt") else b)
        with pytest.raises(CheckpointError, match="net.pt2"):
            load_int8(path, images[:4])


def test_native_code_in_a_file_is_not_loaded(saved, tmp_path, images):
    path = _rewritten(saved, tmp_path / "net.pt2", lambda name, content: content)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("net/data/aotinductor/model/code.so", b"")
    with pytest.raises(CheckpointError, match="native code"):
        load_int8(path, images[:4])


class Writes(nn.Module):
    def forward(self, x):
        torch.save(x, "stolen.pt")
        return x


def test_torchscript_that_touches_files_is_not_read(tmp_path, images):
    path = tmp_path / "net.pt2"
    torch.jit.save(torch.jit.script(Writes()), path)
    with pytest.raises(CheckpointError, match="calls 'save', which is not run"):
        load_int8(path, images[:4])


@pytest.mark.parametrize("content", [None, b"", b"text", b"PK\x05\x06" + bytes(18)])
def test_a_missing_or_damaged_file_is_named(tmp_path, images, content):
    path = tmp_path / "net.pt2"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match="net.pt2"):
        load_int8(path, images[:4])


def test_outputs_that_change_from_call_to_call_are_refused(monkeypatch, images):
    class Drifts(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return x * self.calls

    monkeypatch.setattr(torch, "compile", lambda graph, **options: graph)
    with pytest.raises(EvaluationError, match="repeated calls differ"):
        Int8Module(Drifts(), images[:1])


def test_outputs_that_are_not_finite_are_refused(small, images):
    broken = copy.deepcopy(small)
    with torch.no_grad():
        broken[0].weight[0] = torch.nan
    with pytest.raises(EvaluationError, match="before it is quantized, gives outputs that are not finite"):
        quantize_inc(broken, images[:2], [images])


def _computing(graph):
    """Return, by name of the module, the operators that make the input and the weight of its computation."""
    nodes = [n for n in graph.graph.nodes if getattr(n.target, "_opname", "") in ("conv2d", "linear")]
    owners = [list(n.meta["nn_module_stack"].values())[-1][0].removeprefix("L['self'].") for n in nodes]
    names = [[getattr(each.target, "_opname", each.op) for each in n.args[:2]] for n in nodes]
    return dict(zip(owners, names, strict=True))


@pytest.mark.parametrize(
    ("approach", "int8"), [("static", {"0", "3", "7"}), ("dynamic", {"7"})], ids=["static", "dynamic"]
)
def test_layers_that_are_kept_have_no_quantized_inputs(small, images, approach, int8):
    quantizer = Quantizer(small, (images[:2],), [(images,)], approach)
    for kept in ((), ("3",), ("0", "7")):
        made_of = _computing(quantizer.graph(kept))
        quantized = {name for name, sources in made_of.items() if all("dequantize" in each for each in sources)}
        touched = {name for name, sources in made_of.items() if any("quantize" in each for each in sources)}
        assert quantized == touched == int8 - set(kept)


def test_keeping_all_layers_rounds_nothing(small, images):
    graph = Quantizer(small, (images[:2],), [(images,)], "static").graph(["0", "3", "7"])
    with torch.no_grad():
        assert torch.allclose(graph(images), small(images), atol=1e-6)


@needs_bf16
def test_bf16_is_close_and_kept_layers_stay_fp32(small, images):
    quantizer = Quantizer(small, (images[:2],), [], "mixed_precision")
    with torch.no_grad():
        wanted = small(images)
        outputs = [quantizer.graph(kept)(images) for kept in ((), ("3",), ("0", "3", "7"))]
    errors = [(output - wanted).abs().max().item() for output in outputs]
    assert 0 < errors[0] < 0.02 * wanted.abs().max()
    assert errors[2] == 0
    assert 0 < errors[1] != errors[0]


def test_a_module_name_does_not_stand_for_names_that_begin_with_it(images):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), *(nn.Linear(256 if not i else 4, 4) for i in range(12))).eval()
    quantizer = Quantizer(net, (images[:2],), [(images,)], "static")
    assert _computing(quantizer.graph(["1"]))["11"] == ["dequantize_per_tensor", "dequantize_per_channel"]


def test_quantizing_leaves_global_random_state_and_parameters_alone(small, images):
    before, state = copy.deepcopy(small.state_dict()), torch.get_rng_state()
    Quantizer(small, (images[:2],), [(images,)], "static").graph()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(small.state_dict()[name], value) for name, value in before.items())


class Positions(nn.Module):
    """Tokens with a learnt position, added to the output of a linear layer in one of several ways."""

    def __init__(self, way="plain"):
        super().__init__()
        self.way = way
        self.patches, self.embed, self.head = nn.Conv2d(1, 8, 4, stride=4), nn.Linear(8, 8), nn.Linear(8, 5)
        self.register_buffer("fixed", torch.randn(1, 16, 8))
        self.learnt, self.longer = nn.Parameter(torch.randn(1, 16, 8)), nn.Parameter(torch.randn(1, 20, 8))

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2)
        if self.way == "after a convolution":
            return self.head((x + self.learnt).mean(1))
        x = self.embed(x)
        if self.way == "activated":
            x = x.relu()
        added = {"buffer": self.fixed, "part": self.longer[:, :16]}.get(self.way, self.learnt)
        x = added + x if self.way == "in front" else x * added if self.way == "product" else x + added
        return self.head(x.relu().mean(1))


@pytest.mark.parametrize("way", ["plain", "buffer", "part", "in front"])
def test_linear_layers_added_to_a_constant_are_found(images, way):
    assert Quantizer(Positions(way).eval(), (images[:1],), [(images,)], "static").unsafe == ["embed"]


@pytest.mark.parametrize("way", ["after a convolution", "product", "activated"])
def test_other_layers_are_not_kept_for_a_constant(images, way):
    assert Quantizer(Positions(way).eval(), (images[:1],), [(images,)], "static").unsafe == []


@pytest.mark.slow
def test_a_layer_that_inductor_would_corrupt_stays_fp32_and_is_named(images):
    torch.manual_seed(0)
    net = Positions().eval()
    int8 = quantize_inc(net, images[:1], [images])
    assert int8.kept_fp32 == ("embed",)
    assert "embed" in int8.reason
    with torch.no_grad():
        assert (int8(images[:4]) - net(images[:4])).abs().max() < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("approach", ["static", "dynamic"])
def test_without_that_inductor_corrupts_the_parameter(images, approach, monkeypatch):
    """Should this fail with a newer torch, `Quantizer.unsafe` is no longer needed."""
    monkeypatch.setattr(inc_graph, "_added_to_constants", lambda graph: [])
    with pytest.raises(EvaluationError, match="repeated calls differ"):
        quantize_inc(Positions().eval(), images[:1], [images], approach=approach)


READ = """
import sys, torch
from pathlib import Path
from nas_compress.compression.inc import load_int8
folder = Path(sys.argv[1])
images = torch.load(folder / "images.pt", weights_only=True)
torch.save(load_int8(folder / "net.pt2", images)(images), folder / "outputs.pt")
"""


@pytest.mark.parametrize(
    "approach", ["static", *(pytest.param(name, marks=pytest.mark.slow) for name in ("dynamic", "mixed_precision"))]
)
def test_a_fresh_process_computes_the_same(small, images, tmp_path, approach, request):
    if approach == "mixed_precision" and not has_bf16_dot_product():
        pytest.skip("this processor has no bf16")
    static = approach == "static"
    net = request.getfixturevalue("int8") if static else quantize_inc(small, images[:4], [images], approach=approach)
    net.save(tmp_path / "net.pt2")
    torch.save(images[:4], tmp_path / "images.pt")
    subprocess.run([sys.executable, "-c", READ, tmp_path], check=True, timeout=600)
    assert torch.allclose(torch.load(tmp_path / "outputs.pt", weights_only=True), net(images[:4]), atol=1e-6)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.mix, self.head = nn.Embedding(20, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, tokens, mask):
        x = self.mix(self.words(tokens)).relu() * mask.unsqueeze(-1)
        return self.head(x.sum(1) / mask.sum(1, keepdim=True).clamp(min=1))


def test_several_inputs(images):
    torch.manual_seed(0)
    net = TwoInputs().eval()
    inputs = torch.arange(32).reshape(4, 8) % 20, (torch.arange(32).reshape(4, 8) % 3 > 0).float()
    graph = Quantizer(net, inputs, [inputs], "static").graph()
    with torch.no_grad():
        assert 0 < (graph(*inputs) - net(*inputs)).abs().max() < 0.05
    with pytest.raises(DataError, match="batch 0 has 1 inputs, the network takes 2"):
        quantize_inc(net, inputs, [inputs[0]])


def test_evaluating_a_graph_changes_neither_its_mode_nor_its_layout(small, images):
    from nas_compress.compression.inc_module import GraphModule

    graph = GraphModule(Quantizer(small, (images[:2],), [(images,)], "static").graph())
    wanted = graph(images)
    graph.eval().to(memory_format=torch.channels_last)
    assert torch.equal(graph(images), wanted)


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (lambda x: [], "at least one batch of calibration images"),
        (lambda x: [x[:0]], r"batch 0 has shape \(0, 1, 16, 16\), wanted \(n, 1, 16, 16\)"),
        (lambda x: [x, x[:, :, :8]], r"batch 1 has shape \(64, 1, 8, 16\), wanted \(n, 1, 16, 16\)"),
        (lambda x: [x.double()], "batch 0 has float64 values, the network takes float32"),
        (lambda x: [torch.where(x > 2, torch.nan, x)], "batch 0 has values that are not finite"),
    ],
)
def test_unusable_calibration_is_named(small, images, calibration, message):
    with pytest.raises(DataError, match=message):
        quantize_inc(small, images[:2], calibration(images))


def test_an_unknown_layer_is_named(small, images):
    with pytest.raises(ConfigError, match="no layer 'head'"):
        quantize_inc(small, images[:2], [images], keep_fp32=["head"])


def test_a_module_that_cannot_be_exported_is_refused_with_the_reason(images):
    class Branches(nn.Linear):
        def forward(self, x):
            x = super().forward(x.flatten(1))
            return x if x.sum() > 0 else -x

    with pytest.raises(EvaluationError, match="torch.export cannot take this network: .*data-dependent"):
        quantize_inc(Branches(256, 4).eval(), images[:2], [images])


def test_a_network_without_such_layers_is_refused(images):
    with pytest.raises(EvaluationError, match=r"dynamic: the network has none .* \(Linear\)"):
        quantize_inc(nn.Conv2d(1, 4, 3).eval(), images[:2], [images], approach="dynamic")


def test_a_processor_without_bf16_is_named(monkeypatch, small, images):
    monkeypatch.setattr(packages, "has_bf16_dot_product", lambda: False)
    with pytest.raises(EvaluationError, match="does not compute in bf16"):
        quantize_inc(small, images[:2], [images], approach="mixed_precision")


def test_a_missing_package_is_named(monkeypatch, small, images):
    monkeypatch.setattr(inc_version, "DISTRIBUTIONS", ("no-such-distribution",))
    with pytest.raises(MissingExtraError, match="no-such-distribution"):
        quantize_inc(small, images[:2], [images])


def _ipex_works():
    try:
        IpexBackend.check()
    except MissingExtraError:
        return False
    return True


@pytest.mark.skipif(_ipex_works(), reason="IPEX is installed")
def test_smoothquant_without_ipex_names_the_extra(small, images):
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[ipex\]'"):
        quantize_inc(small, images[:2], [images], approach="smoothquant")


THROUGH_IPEX = """
import os, sys, torch
from pathlib import Path
from torch import nn
from nas_compress.compression.inc import autotune_inc, load_int8, quantize_inc
from nas_compress.compression.options import AccuracyCriterion, TuningCriterion
from nas_compress.errors import ConfigError, EvaluationError
os.chdir(Path(sys.argv[1]).parent)
torch.manual_seed(0)
net = nn.Sequential(nn.Flatten(), nn.LayerNorm(256), nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, 5)).eval()
images = torch.randn(64, 1, 16, 16)
with torch.no_grad():
    net[1].weight[:4] = 50
    wanted = net(images)
for approach, kept in (("smoothquant", ()), ("static", ()), ("static", ("2", "4"))):
    int8 = quantize_inc(net, images[:1], images.split(16), approach=approach, keep_fp32=kept)
    error = (int8(images) - wanted).abs().max().item() / wanted.abs().max().item()
    int8.save(Path(sys.argv[1]))
    same = torch.equal(load_int8(Path(sys.argv[1]), images[:1])(images), int8(images))
    rounded = str(int8._graphs[0].inlined_graph).count("aten::quantize_per")
    print("RESULT", approach, len(kept), error < 0.05, rounded, same)
try:
    quantize_inc(net, images[:1], [images], approach="smoothquant", keep_fp32=["2"])
except ConfigError as error:
    print("RESULT", "refused", "keep_fp32" in str(error))
try:
    quantize_inc(net, images[:1], [images], approach="dynamic")
except EvaluationError as error:
    print("RESULT", "refused", "IPEX is loaded" in str(error))
tuned = autotune_inc(
    net, images[:16], [images], approach="smoothquant", criterion=AccuracyCriterion(tolerable_loss=0),
    tuning=TuningCriterion(), accuracy=lambda network: 90 if network is net else 80,
)
print("RESULT", tuned.accepted, [trial.algorithm[6:] for trial in tuned.trials])
"""


@pytest.mark.skipif(not _ipex_works(), reason="IPEX is not installed, or not for this torch")
def test_smoothquant_and_static_through_ipex(tmp_path):
    """In a process of its own: IPEX changes torch for the rest of one."""
    arguments = [sys.executable, "-c", THROUGH_IPEX, tmp_path / "net.pt2"]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=600)
    results = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert results == [
        ["smoothquant", "0", "True", "2", "True"],
        ["static", "0", "True", "2", "True"],
        ["static", "2", "True", "0", "True"],
        ["refused", "True"],
        ["refused", "True"],
        ["False", "['0.5',", "'0.25',", "'0.75']"],
    ]
    assert not (tmp_path / "nc_workspace").exists()
