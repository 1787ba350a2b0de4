import sys
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from nas_compress.data.translation import load, load_multi30k
from nas_compress.data.vocabulary import PAD
from nas_compress.errors import ConfigError, DataError, EvaluationError, MissingExtraError
from nas_compress.objectives.translation import Bleu, bleu, translate
from nas_compress.supernets.decoding import BeamSettings
from nas_compress.supernets.hat import build
from nas_compress.supernets.hat_config import HATConfig

sacrebleu = pytest.importorskip("sacrebleu")
pytest.importorskip("tokenizers")

TEXTS = [f"the {a} dog sees a {b} house near the river ." for a in ("old", "small", "red") for b in ("blue", "tall")]
CONFIG = HATConfig(
    encoder_embed_dim=(32, 64),
    decoder_embed_dim=(32, 64),
    encoder_ffn_embed_dim=(64, 128),
    decoder_ffn_embed_dim=(64, 128),
    encoder_layer_num=3,
    decoder_layer_num=(1, 2),
    encoder_self_attention_heads=(2, 4),
    decoder_self_attention_heads=(2, 4),
    decoder_ende_attention_heads=(2, 4),
    qkv_dim=64,
    source_vocabulary=200,
    target_vocabulary=200,
    max_positions=80,
    source_length=8,
    target_length=8,
    dropout=0.0,
)


def test_value_is_that_of_sacrebleu_with_a_spread():
    hypotheses = [text.replace("river", "lake") if i % 2 else text for i, text in enumerate(TEXTS)]
    measured = bleu(hypotheses, TEXTS)
    assert measured.value == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [TEXTS]).score)
    assert 0 < measured.spread < 30
    assert measured.provenance["sentences"] == 6 and "tok:13a" in measured.provenance["signature"]
    assert bleu(hypotheses, TEXTS) == measured
    assert bleu(TEXTS, TEXTS).value == pytest.approx(100)
    nothing = bleu(["x"] * 6, TEXTS)
    assert nothing.value == pytest.approx(0, abs=1) and nothing.spread == pytest.approx(0, abs=1)


def test_more_sentences_have_a_smaller_spread():
    few = [text.replace("river", "lake") if i % 2 else text for i, text in enumerate(TEXTS)]
    assert bleu(few * 9, TEXTS * 9).spread == pytest.approx(bleu(few, TEXTS).spread / 3, rel=0.25)


def test_wrong_numbers_of_references():
    for hypotheses, references in (([], []), (["a"], ["a", "b"])):
        with pytest.raises(EvaluationError, match="as many references"):
            bleu(hypotheses, references)


def test_without_the_library(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "sacrebleu"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"sacrebleu is not installed.*pip install '\.\[translation\]'"):
        bleu(["a"], ["a"])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    for part in ("train", "val", "test"):
        (folder / f"{part}.en").write_text("\n".join(TEXTS) + "\n")
        (folder / f"{part}.xx").write_text("\n".join(" ".join(reversed(t.split())) for t in TEXTS) + "\n")
    return load(folder, ("en", "xx"), vocabulary=200)


def fitted(data, **changes):
    tokens = len(data.target_vocabulary)
    return replace(CONFIG, source_vocabulary=tokens, target_vocabulary=tokens, **changes)


def trained(data, split, steps, *, config=None, lr=2e-3):
    """Train on all sentences of a split at once; return the net and the losses."""
    net = build("net", config or fitted(data), seed=0).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=lr, betas=(0.9, 0.98))
    source, previous, target = split.batch(torch.arange(len(split)))
    losses = []
    with net.activate(net.space.largest()):
        for _ in range(steps):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(source, previous).transpose(1, 2), target, ignore_index=PAD)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    return net.eval(), losses


def test_a_subnet_learns_and_its_translations_are_measured(data):
    net, losses = trained(data, data.train, 120)
    assert losses[-1] < 0.3 * losses[0]
    subnet = net.extract(net.space.largest())
    measured = Bleu(data, split="train").measure(subnet, net.space.largest())
    assert measured.value > 90
    assert translate(subnet, data.train, data, BeamSettings(beams=3)) == list(data.train.references)
    whole = translate(subnet, data.train, data, BeamSettings(beams=1))
    assert translate(subnet, data.train, data, BeamSettings(beams=1), tokens=1) == whole
    assert translate(subnet, data.train, data, BeamSettings(beams=1), limit=2) == whole[:2]


def test_gradients_reach_the_active_part_alone(data):
    net = build("net", fitted(data), seed=0).train()
    with net.activate(net.space.smallest()):
        net(*data.train.batch(torch.arange(2))[:2]).sum().backward()
    assert net.net.encoder[0].attention.query.weight.grad[:, 32:].abs().sum() == 0
    assert net.net.encoder[0].attention.query.weight.grad[:, :32].abs().sum() > 0
    assert net.net.decoder[1].attention.query.weight.grad is None


def test_the_objective_says_what_it_depends_on(data):
    objective = Bleu(data, fraction=0.5)
    context = objective.context()
    assert (context["split"], context["sentences"], context["data"]) == ("val", 3, data.fingerprint)
    assert context["decoding"]["beams"] == 1
    assert Bleu(data, settings=BeamSettings(beams=4)).context() != context
    assert (objective.name, objective.direction) == ("bleu", "maximize")
    net = build("net", fitted(data), seed=0).eval()
    architecture = net.space.smallest()
    assert objective.measure(net.extract(architecture), architecture).provenance["sentences"] == 3
    with pytest.raises(ConfigError, match="fraction = 0"):
        Bleu(data, fraction=0)
    with pytest.raises(DataError, match="split = 'dev'"):
        Bleu(data, split="dev")


def test_a_sentence_that_is_too_long_is_named(data):
    net = build("net", fitted(data, max_positions=9), seed=0).eval()
    with pytest.raises(EvaluationError, match="a sentence has .* tokens, the network takes 9 at most"):
        translate(net.extract(net.space.smallest()), data.val, data)


def test_a_net_of_another_vocabulary_is_refused(data):
    net = build("net", CONFIG, seed=0).eval()
    with pytest.raises(DataError, match=r"data 'translation' has \d+ source tokens, the net has 200"):
        translate(net.extract(net.space.smallest()), data.val, data)


@pytest.mark.slow
def test_the_small_net_learns_64_sentences_by_heart(shared_data):
    from nas_compress.data.translation import TranslationSplit
    from nas_compress.supernets import supernets

    data = load_multi30k(shared_data / "mt")
    split = TranslationSplit(data.train.sources[:64], data.train.targets[:64], data.train.references[:64])
    config = supernets.get("multi30k_hat")(seed=0).config
    net, _ = trained(data, split, 150, config=replace(config, dropout=0.0), lr=1e-3)
    subnet = net.extract(net.space.largest())
    for settings in (BeamSettings(beams=1), BeamSettings(beams=4)):
        assert bleu(translate(subnet, split, data, settings), split.references).value > 90
