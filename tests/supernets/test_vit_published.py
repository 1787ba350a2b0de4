import ast
import copy
import json
import math
from dataclasses import replace
from importlib import metadata

import numpy as np
import pytest
import torch
from small_vits import SMALL_AUTOFORMER, SMALL_VIT_BASE, randomize
from torch import nn

from nas_compress.errors import ArchitectureError, CheckpointError
from nas_compress.supernets import supernets, vit_config
from nas_compress.supernets.checkpoint import load_checkpoint
from nas_compress.supernets.vit import ViTSupernet, build
from nas_compress.weights import write_state


def corners_and_samples(net, n):
    return [net.space.smallest(), net.space.largest(), *net.space.sample(np.random.default_rng(0), n)]


# -- spaces ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "embeds", "per_layer", "depths", "size"),
    [
        ("autoformer_tiny", 3, 2 * 2, (12, 13, 14), 1_056_964_608),
        ("autoformer_small", 3, 3 * 3, (12, 13, 14), 77_103_263_459_313),
        ("autoformer_base", 3, 3 * 2, (14, 15, 16), 10_108_977_168_384),
        ("denas_vit", 9, 3 * 7, (12, 13, 14, 15, 16), 13_518_870_812_664_381_228_645),
        ("vit_base_imagenet", 1, 4 * 3, (10, 11, 12), 9_721_026_183_168),
    ],
)
def test_published_spaces_have_their_exact_sizes(name, embeds, per_layer, depths, size):
    assert embeds * sum(per_layer**depth for depth in depths) == size
    assert supernets.entry(name).info["space"]().size() == size


def test_dynas_t_has_the_same_space():
    """Read from its source, as importing it takes much else."""
    try:
        files = metadata.files("dynast")
    except metadata.PackageNotFoundError:
        pytest.skip("dynast is not installed")
    source = next(file for file in files if file.name == "supernetwork_registry.py").read_text()
    published = next(
        ast.literal_eval(statement.value)["vit_base_imagenet"]
        for statement in ast.parse(source).body
        if isinstance(statement, ast.Assign) and statement.targets[0].id == "SUPERNET_PARAMETERS"
    )
    space = supernets.entry("vit_base_imagenet").info["space"]()
    assert {d.name: {"count": d.slots, "vars": list(d.choices[0])} for d in space.dimensions} == published


def test_published_measured_architectures_are_in_the_space_of_autoformer_tiny(shared_data):
    """They are written with `hidden_dim` and one entry for each layer in use; the file gives no parameters."""
    rows = json.loads((shared_data / "vit_bench" / "autoformer_groundtruth.json").read_text())
    net = supernets.get("autoformer_tiny")(seed=0)
    assert len(rows) == 200
    architectures = []
    for row in rows:
        genes = row["arch"]
        published = (genes["depth"], *genes["mlp_ratio"], *genes["num_heads"], genes["hidden_dim"])
        architecture = vit_config.AUTOFORMER_TINY.architecture(published)
        assert net.space.canonicalize(architecture) == architecture
        assert [s.heads for s in net.config.layers(architecture)] == genes["num_heads"]
        architectures.append(architecture)
    params = net.encoded_cost("params", net.space, net.space.encode(architectures))
    assert 4.8e6 < params.min() < params.max() < 10e6
    for architecture, count in zip(architectures[:3], params[:3], strict=True):
        assert sum(p.numel() for p in net.extract(architecture).parameters()) == count


@pytest.mark.parametrize("row", [(), (2, 1.5, 1.5, 1, 1), (4, *[1.5] * 4, *[1] * 4, 10), (0, 10)])
def test_a_row_that_does_not_go_with_its_depth_is_refused(row):
    with pytest.raises(ArchitectureError, match="depth up to 3"):
        SMALL_AUTOFORMER.architecture(row)


@pytest.mark.parametrize(
    ("config", "row", "published"),
    [
        (
            vit_config.AUTOFORMER_SMALL,
            (13, 3, 3.5, 3, 3.5, *[4] * 7, 3.5, 4, 6, 6, 5, 7, 5, 5, 5, 6, 6, 7, 7, 6, 7, 384),
            "22.9",
        ),
        (
            vit_config.AUTOFORMER_BASE,
            (14, 3.5, 3.5, 4, 3.5, 4, 3.5, 3.5, 3, 4, 4, 3, 4, 3, 3.5, *[9] * 5, 10, 9, 9, 10, 9, 10, 9, 9, 10, 576),
            "53.7",
        ),
    ],
)
def test_the_published_autoformers_have_the_published_parameters(config, row, published):
    with torch.device("meta"):
        net = ViTSupernet("published", config)
    assert f"{net.params(config.architecture(row)) / 1e6:.1f}" == published


def test_vit_base_has_the_parameters_and_macs_of_the_paper():
    with torch.device("meta"):
        net = supernets.get("vit_base_imagenet")()
    assert net.params(net.space.largest()) == 86_567_656
    assert f"{net.macs(net.space.largest()) / 1e9:.1f}" == "17.6"


# -- published checkpoints and references ------------------------------------------------------------------


def autoformer_state(config, seed=0):
    """Return random weights under the names and in the layout of AutoFormer's published checkpoints."""
    generator = torch.Generator().manual_seed(seed)
    e, w, f = config.features, max(config.heads) * config.head_size, config.hidden(config.features, max(config.mlp))
    entries, p = 2 * config.relative_positions + 2, config.patch_size
    shapes = {
        "cls_token": (1, 1, e), "pos_embed": (1, config.tokens, e),
        "patch_embed_super.proj.weight": (e, config.in_channels, p, p), "patch_embed_super.proj.bias": (e,),
        "norm.weight": (e,), "norm.bias": (e,),
        "head.weight": (config.num_classes, e), "head.bias": (config.num_classes,),
    }  # fmt: skip
    for i in range(max(config.depths)):
        for side in "kv":
            for way in "vh":
                shapes[f"blocks.{i}.attn.rel_pos_embed_{side}.embeddings_table_{way}"] = (entries, config.head_size)
        for layer, out, inside in (("attn.qkv", 3 * w, e), ("attn.proj", e, w), ("fc1", f, e), ("fc2", e, f)):
            shapes |= {f"blocks.{i}.{layer}.weight": (out, inside), f"blocks.{i}.{layer}.bias": (out,)}
        for norm in ("attn_layer_norm", "ffn_layer_norm"):
            shapes |= {f"blocks.{i}.{norm}.weight": (e,), f"blocks.{i}.{norm}.bias": (e,)}
    return {key: torch.randn(shape, generator=generator) * 0.3 for key, shape in shapes.items()}


def published_autoformer(state, config, architecture, images):
    """AutoFormer's sub-network on its own weights, straight from the published layout."""
    e, d = architecture["embed_dim"][0], config.head_size
    side = config.image_size // config.patch_size

    def norm(x, name):
        return nn.functional.layer_norm(x, (e,), state[f"{name}.weight"][:e], state[f"{name}.bias"][:e])

    def positions(prefix):
        places = torch.tensor([divmod(i, side) for i in range(side * side)])
        away = (places[None] - places[:, None]).clamp(-config.relative_positions, config.relative_positions)
        entry = nn.functional.pad(away + config.relative_positions + 1, (0, 0, 1, 0, 1, 0))
        vertical, horizontal = (state[f"{prefix}.embeddings_table_{way}"] for way in "vh")
        return vertical[entry[..., 0]] + horizontal[entry[..., 1]]

    weight, bias = state["patch_embed_super.proj.weight"][:e], state["patch_embed_super.proj.bias"][:e]
    patches = nn.functional.conv2d(images, weight, bias, stride=config.patch_size).flatten(2).transpose(1, 2)
    x = torch.cat((state["cls_token"][..., :e].expand(len(images), -1, -1), patches), 1) + state["pos_embed"][..., :e]
    for i in range(architecture["depth"][0]):
        block, heads, hidden = f"blocks.{i}", architecture["num_heads"][i], int(e * architecture["mlp_ratio"][i])
        w = d * heads
        qkv = torch.cat([state[f"{block}.attn.qkv.weight"][:, :e][part : 3 * w : 3] for part in range(3)])
        joint = norm(x, f"{block}.attn_layer_norm") @ qkv.T + state[f"{block}.attn.qkv.bias"][: 3 * w]
        query, key, value = (t.unflatten(2, (heads, d)).transpose(1, 2) for t in joint.chunk(3, 2))
        to_keys, to_values = (positions(f"{block}.attn.rel_pos_embed_{side}") for side in "kv")
        logits = query @ key.transpose(2, 3) + torch.einsum("nhid,ijd->nhij", query, to_keys)
        weights = (logits / math.sqrt(d)).softmax(3)
        mixed = weights @ value + torch.einsum("nhij,ijd->nhid", weights, to_values)
        mixed = mixed.transpose(1, 2).flatten(2)
        x = x + mixed @ state[f"{block}.attn.proj.weight"][:e, :w].T + state[f"{block}.attn.proj.bias"][:e]
        inner = norm(x, f"{block}.ffn_layer_norm") @ state[f"{block}.fc1.weight"][:hidden, :e].T
        inner = nn.functional.gelu(inner + state[f"{block}.fc1.bias"][:hidden])
        x = x + inner @ state[f"{block}.fc2.weight"][:e, :hidden].T + state[f"{block}.fc2.bias"][:e]
    return norm(x, "norm")[:, 1:].mean(1) @ state["head.weight"][:, :e].T + state["head.bias"]


def test_published_autoformer_checkpoints_load_and_give_their_outputs(tmp_path):
    state = autoformer_state(SMALL_AUTOFORMER)
    torch.save({"model": state}, tmp_path / "supernet.pth")
    net = build("small", SMALL_AUTOFORMER).eval()
    load_checkpoint(net, tmp_path / "supernet.pth")
    for architecture in corners_and_samples(net, 28):
        x = net.example_input(2, architecture)
        with torch.no_grad():
            expected = published_autoformer(state, SMALL_AUTOFORMER, architecture, x)
            torch.testing.assert_close(net.extract(architecture)(x), expected, atol=1e-4, rtol=1e-4)


def test_a_published_checkpoint_of_another_size_is_refused_with_key_and_shapes(tmp_path):
    torch.save({"model": autoformer_state(replace(SMALL_AUTOFORMER, stored_embed=20))}, tmp_path / "other.pth")
    net = build("small", SMALL_AUTOFORMER)
    with pytest.raises(CheckpointError, match=r"embedding.class_token .* has shape \(1, 1, 20\).* wants \(1, 1, 16\)"):
        load_checkpoint(net, tmp_path / "other.pth")
    torch.save({"model": {"fc.weight": torch.zeros(4, 3)}}, tmp_path / "stranger.pth")
    with pytest.raises(CheckpointError, match="it lacks embedding.class_token"):
        load_checkpoint(net, tmp_path / "stranger.pth")
    with pytest.raises(CheckpointError, match=r"layers.0.* shape"):
        load_checkpoint(build("small", SMALL_VIT_BASE), _hugging_face_file(tmp_path, heads=4, inner=64))


def _hugging_face(heads=4, inner=128, layers=4, hidden=64, scale=0.1, **sizes):
    transformers = pytest.importorskip("transformers")
    sizes = {"image_size": 32, "patch_size": 8, "num_labels": 5} | sizes
    config = transformers.ViTConfig(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=inner, **sizes
    )
    return randomize(transformers.ViTForImageClassification(config), scale=scale)


def _hugging_face_file(folder, **sizes):
    write_state(folder / "model.safetensors", _hugging_face(**sizes).state_dict())
    return folder / "model.safetensors"


def test_outputs_equal_those_of_transformers(tmp_path):
    """Sub-networks of fewer heads and hidden features, by transformers' own pruning and by cutting its layers."""
    reference = _hugging_face()
    write_state(tmp_path / "model.safetensors", reference.state_dict())
    net = build("small", SMALL_VIT_BASE).eval()
    load_checkpoint(net, tmp_path / "model.safetensors")
    for architecture in corners_and_samples(net, 28):
        pruned = copy.deepcopy(reference)
        pruned.vit.encoder.layer = pruned.vit.encoder.layer[: architecture["num_layers"][0]]
        for layer, sizes in zip(pruned.vit.encoder.layer, net.config.layers(architecture), strict=True):
            if not hasattr(layer.attention, "prune_heads"):
                pytest.skip("this version of transformers does not prune heads")
            layer.attention.prune_heads(set(range(sizes.heads, 4)))
            up, down = layer.intermediate.dense, layer.output.dense
            up.weight, up.bias = nn.Parameter(up.weight[: sizes.hidden]), nn.Parameter(up.bias[: sizes.hidden])
            down.weight = nn.Parameter(down.weight[:, : sizes.hidden])
        x = net.example_input(2, architecture)
        with torch.no_grad(), net.activate(architecture):
            expected = pruned(x).logits
            torch.testing.assert_close(net(x), expected, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(net.extract(architecture)(x), expected, atol=1e-4, rtol=1e-4)


def test_vit_base_gives_the_outputs_of_transformers():
    sizes = {"image_size": 224, "patch_size": 16, "num_labels": 1000, "layer_norm_eps": 1e-6}
    reference = _hugging_face(12, 3072, 12, 768, scale=0.02, **sizes)
    net = supernets.get("vit_base_imagenet")().eval()
    net.load_state_dict(net.from_published(reference.state_dict()))
    x = net.example_input(1)
    with torch.no_grad():
        torch.testing.assert_close(net(x), reference(x).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_outputs_equal_those_of_timm(timm_vision_transformer, pool):
    reference = randomize(
        timm_vision_transformer.VisionTransformer(
            img_size=32, patch_size=8, embed_dim=64, depth=4, num_heads=4, mlp_ratio=2, num_classes=5,
            global_pool="token" if pool == "class" else "avg", fc_norm=False,
        )
    )  # fmt: skip
    net = build("small", replace(SMALL_VIT_BASE, eps=1e-6, pool=pool)).eval()
    net.load_state_dict(net.from_published(reference.state_dict()))
    x = net.example_input(2)
    with torch.no_grad():
        torch.testing.assert_close(net(x), reference(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("inner", [("mlp.0", "mlp.3"), ("mlp.linear_1", "mlp.linear_2")])
def test_outputs_equal_those_of_torch_under_the_names_of_torchvision(inner):
    """torchvision's two generations of names, on torch's own transformer layers."""
    config = replace(SMALL_VIT_BASE, eps=1e-5)
    layers = [nn.TransformerEncoderLayer(64, 4, 128, 0.0, "gelu", batch_first=True, norm_first=True) for _ in range(4)]
    ends = nn.Conv2d(3, 64, 8, 8), nn.LayerNorm(64), nn.Linear(64, 5)
    patches, norm, head = randomize(nn.ModuleList([*ends, *layers]))[:3]
    class_token, positions = torch.randn(1, 1, 64), torch.randn(1, 17, 64)
    state = {"class_token": class_token, "encoder.pos_embedding": positions}
    state |= {f"conv_proj.{k}": v for k, v in patches.state_dict().items()}
    names = {"self_attn": "self_attention", "norm": "ln_", "linear1": inner[0], "linear2": inner[1]}
    for number, layer in enumerate(layers):
        for key, tensor in layer.state_dict().items():
            for ours, theirs in names.items():
                key = key.replace(ours, theirs)
            state[f"encoder.layers.encoder_layer_{number}.{key}"] = tensor
    state |= {f"encoder.ln.{k}": v for k, v in norm.state_dict().items()}
    state |= {f"heads.head.{k}": v for k, v in head.state_dict().items()}
    net = build("small", config).eval()
    net.load_state_dict(net.from_published(state))
    x = net.example_input(2)
    with torch.no_grad():
        tokens = torch.cat((class_token.expand(2, -1, -1), patches(x).flatten(2).transpose(1, 2)), 1) + positions
        for layer in layers:
            tokens = layer(tokens)
        torch.testing.assert_close(net(x), head(norm(tokens[:, 0])), atol=1e-4, rtol=1e-4)
