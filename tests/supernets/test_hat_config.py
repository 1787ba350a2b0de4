import ast
import csv
import gzip
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hat_reference import SMALL

from nas_compress.errors import ArchitectureError, ConfigError
from nas_compress.supernets.hat_config import FEATURES, IWSLT_DE_EN, WMT_EN_DE, latency_features


def test_published_space_has_the_published_size():
    space = WMT_EN_DE.space("transformer_lt_wmt_en_de")
    encoder, per_layer = 2 * 2 * 3**6 * 2**6, 3 * 2 * 2 * 3
    assert space.size() == encoder * sum(per_layer**depth for depth in range(1, 7)) == 417846678672384
    assert f"{space.size():.1e}" == "4.2e+14"


def test_space_is_that_of_dynast():
    spec = importlib.util.find_spec("dynast")
    if spec is None:
        pytest.skip("DyNAS-T is not installed (pip install --no-deps dynast)")
    registry = Path(spec.submodule_search_locations[0], "supernetwork", "supernetwork_registry.py").read_text()
    tables = {n.targets[0].id: n.value for n in ast.parse(registry).body if isinstance(n, ast.Assign)}
    published = ast.literal_eval(tables["SUPERNET_PARAMETERS"])["transformer_lt_wmt_en_de"]
    space = WMT_EN_DE.space("ours")
    for dimension in space.dimensions:
        gene = published[dimension.name]
        assert dimension.choices == (tuple(sorted(gene["vars"])),) * gene["count"]
    assert list(published) == [d.name for d in space.dimensions]


def test_published_architectures_are_in_the_spaces(shared_data):
    rows = json.loads((shared_data / "hat" / "hat_searched_subtransformers_bleu.json").read_text())
    assert len(rows) == 44
    for row in rows:
        config = IWSLT_DE_EN if row["task"].startswith("iwslt") else WMT_EN_DE
        space, architecture = config.space("published"), config.architecture(row["arch"])
        canonical = space.canonicalize(architecture)
        assert space.decode(space.encode([canonical])) == [canonical]
        depth = row["arch"]["decoder-layer-num-subtransformer"]
        assert canonical["decoder_layer_num"] == (depth,)
        assert canonical["decoder_ffn_embed_dim"][:depth] == tuple(
            row["arch"]["decoder-ffn-embed-dim-all-subtransformer"]
        )


def test_latency_features_are_those_of_the_published_table(shared_data):
    with gzip.open(shared_data / "hat" / "hat_wmt14ende_latency.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6000 and all(name in rows[0] for name in FEATURES)
    published = np.array([[float(row[name]) for name in FEATURES] for row in rows])
    heads, hidden = (2, 4, 8), (512, 1024, 2048, 3072)  # latencies were measured in a wider space than was searched
    wider = replace(
        WMT_EN_DE,
        encoder_ffn_embed_dim=hidden,
        decoder_ffn_embed_dim=hidden,
        encoder_self_attention_heads=heads,
        decoder_self_attention_heads=heads,
        decoder_ende_attention_heads=heads,
    )
    drawn = wider.space("s").sample(np.random.default_rng(0), 6000)
    features = np.array([list(latency_features(a).values()) for a in drawn])
    assert np.all(published.min(0) >= features.min(0) - 1e-5) and np.all(published.max(0) <= features.max(0) + 1e-5)
    np.testing.assert_allclose(published.mean(0), features.mean(0), rtol=0.03)


def test_an_encoder_of_another_depth_is_refused():
    with pytest.raises(ArchitectureError, match="encoder-layer-num = 5; this net's encoder has 6"):
        WMT_EN_DE.architecture({"encoder-layer-num-subtransformer": 5})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder_embed_dim": ()}, "encoder_embed_dim is empty"),
        ({"encoder_embed_dim": (33,)}, "encoder_embed_dim holds 33; wants even widths"),
        ({"decoder_layer_num": (0, 1)}, "decoder_layer_num holds 0; wants at least 1"),
        ({"decoder_ende_attention_heads": (5,)}, "holds 5, which does not divide qkv_dim = 24"),
        ({"decoder_arbitrary_ende_attn": (0,)}, r"holds 0; allowed: -1 .* 1 to 2"),
        ({"decoder_arbitrary_ende_attn": (3,)}, r"holds 3; allowed: -1 .* 1 to 2"),
        ({"sharing": "some"}, "sharing = 'some'; allowed: all, output, none"),
        ({"target_vocabulary": 61}, "source_vocabulary = 60, target_vocabulary = 61"),
        ({"source_vocabulary": 4}, "source_vocabulary = 4; wants at least 5"),
        ({"qkv_dim": 0}, "qkv_dim = 0; wants at least 1"),
        ({"max_positions": 8}, "max_positions = 8 is less than"),
        ({"dropout": 1.0}, "dropout = 1.0; wants"),
    ],
)
def test_wrong_configuration(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(SMALL, **change)
