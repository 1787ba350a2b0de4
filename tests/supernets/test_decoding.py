import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from nas_compress.data.vocabulary import BOS, EOS, PAD
from nas_compress.errors import ConfigError, EvaluationError
from nas_compress.supernets.decoding import BeamSettings, FixedLengthDecoding, beam_search, greedy
from nas_compress.supernets.hat import build
from nas_compress.supernets.hat_config import HATConfig

CONFIG = HATConfig(
    encoder_embed_dim=(16, 24),
    decoder_embed_dim=(16, 24),
    encoder_ffn_embed_dim=(16, 32),
    decoder_ffn_embed_dim=(16, 32),
    encoder_layer_num=3,
    decoder_layer_num=(1, 2),
    encoder_self_attention_heads=(2, 4),
    decoder_self_attention_heads=(2, 4),
    decoder_ende_attention_heads=(2, 4),
    qkv_dim=16,
    source_vocabulary=20,
    target_vocabulary=20,
    sharing="none",  # else nets repeat the token before
    max_positions=40,
    source_length=8,
    target_length=8,
)


def subnets(config=CONFIG, count=6, sharpness=2.0):
    """Random nets with clear preferences, some of which end their sentences early."""
    net = build("net", config, seed=1).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim > 1:
                p.add_(torch.randn(p.shape, generator=generator) * 0.1)
        net.net.tables[-1].weight.mul_(sharpness)
        net.net.tables[-1].weight[EOS] *= 1.6
    return net, [net.extract(a) for a in net.space.sample(np.random.default_rng(0), count)]


def sources(config=CONFIG, rows=5):
    source = torch.randint(4, config.source_vocabulary, (rows, 8), generator=torch.Generator().manual_seed(2))
    source[:, -1] = EOS
    for row in range(1, rows):
        source[row, 8 - row :] = PAD
        source[row, 7 - row] = EOS
    return source


def limit(source, most=12):
    return torch.full((len(source),), most)


@pytest.fixture(scope="module")
def nets():
    return subnets()[1]


def forced(net, source, tokens):
    """Log-probabilities of the next token after each prefix, from the whole pass without a cache."""
    with torch.no_grad():
        logits = net(source[None], torch.tensor([[EOS, *tokens]]))[0]
    logits[:, [BOS, PAD]] = -torch.inf
    return logits.log_softmax(1)


def test_the_cache_gives_the_logits_of_the_whole_pass(nets):
    source = sources()
    previous = torch.randint(4, 20, (5, 9), generator=torch.Generator().manual_seed(1))
    previous[:, 0] = EOS
    for net in nets:
        with torch.no_grad():
            expected, state = net(source, previous), net.begin(source)
            steps = [net.step(previous[:, t : t + 1], state)[:, 0] for t in range(previous.shape[1])]
            torch.testing.assert_close(torch.stack(steps, 1), expected, atol=1e-5, rtol=1e-5)


def test_hypotheses_of_one_sentence_do_not_mix(nets):
    source, generator = sources(), torch.Generator().manual_seed(1)
    previous = torch.randint(4, 20, (5, 3, 6), generator=generator)
    for net in nets[:3]:
        with torch.no_grad():
            state = net.begin(source)
            steps = torch.stack([net.step(previous[:, :, t], state) for t in range(6)], 2)
            for beam in range(3):
                torch.testing.assert_close(steps[:, beam], net(source, previous[:, beam]), atol=1e-5, rtol=1e-5)


def test_select_keeps_sentences_and_hypotheses_together(nets):
    source, previous = sources(), torch.randint(4, 20, (5, 2, 3), generator=torch.Generator().manual_seed(1))
    kept, swapped = torch.tensor([3, 1]), torch.tensor([7, 6, 3, 2])
    with torch.no_grad():
        state = nets[0].begin(source)
        nets[0].step(previous[:, :, 0], state)
        state.select(swapped, kept)
        again = previous[kept].flip(1)
        got = nets[0].step(again[:, :, 1], state)
        expected = nets[0](source[kept], again[:, 0, :2])[:, -1], nets[0](source[kept], again[:, 1, :2])[:, -1]
        torch.testing.assert_close(got, torch.stack(expected, 1), atol=1e-5, rtol=1e-5)


def test_greedy_takes_the_most_probable_tokens(nets):
    source = sources()
    for net in nets:
        for sentence, tokens in zip(source, greedy(net, source, limit(source)), strict=True):
            choices = forced(net, sentence, tokens).argmax(1).tolist()
            assert tokens == choices[: len(tokens)] and EOS not in tokens
            assert choices[len(tokens)] == EOS or len(tokens) == 12


def test_each_sentence_has_its_own_limit(nets):
    source, limits = sources(), torch.tensor([1, 7, 3, 12, 2])
    alone = greedy(nets[1], source, limit(source, 30))
    assert greedy(nets[1], source, limits) == [t[:n] for t, n in zip(alone, limits.tolist(), strict=True)]
    for found, most in zip(beam_search(nets[1], source, limits), limits.tolist(), strict=True):
        assert all(len(h.tokens) <= most for h in found)


def test_one_beam_is_greedy():
    for net in subnets()[1]:
        source = sources()
        found = beam_search(net, source, limit(source), BeamSettings(beams=1))
        assert [h[0].tokens for h in found] == greedy(net, source, limit(source))


def test_some_sentences_end_before_their_limit_in_these_tests():
    lengths = {len(t) for net in subnets()[1] for t in greedy(net, sources(), limit(sources()))}
    assert 12 in lengths and len(lengths) > 3


@pytest.mark.parametrize("early_stop", [True, False])
@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.5])
def test_scores_are_log_probabilities_over_powers_of_lengths(penalty, early_stop):
    settings = BeamSettings(beams=3, length_penalty=penalty, early_stop=early_stop)
    source = sources()
    for net in subnets()[1][:3]:
        for sentence, found in zip(source, beam_search(net, source, limit(source), settings), strict=True):
            assert 1 <= len(found) <= 3
            assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
            assert len({tuple(h.tokens) for h in found}) == len(found)
            for hypothesis in found:
                log_probs = forced(net, sentence, hypothesis.tokens)
                ended = [*hypothesis.tokens, EOS]
                total = sum(float(log_probs[i, token]) for i, token in enumerate(ended))
                assert hypothesis.score == pytest.approx(total / len(ended) ** penalty, abs=1e-3)


def test_sentences_do_not_depend_on_their_batch():
    source = sources()
    for early_stop in (True, False):
        settings = BeamSettings(beams=3, early_stop=early_stop)
        for net in subnets()[1][:3]:
            together = beam_search(net, source, limit(source), settings)
            for row, found in zip(source, together, strict=True):
                alone = beam_search(net, row[row != PAD][None], torch.tensor([12]), settings)[0]
                assert [h.tokens for h in alone] == [h.tokens for h in found]


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_beam_as_wide_as_the_space_finds_the_best_sentence(penalty):
    config = replace(CONFIG, source_vocabulary=7, target_vocabulary=7)
    _, nets = subnets(config, count=3, sharpness=1.0)
    source = sources(config, rows=3)
    settings = BeamSettings(beams=200, length_penalty=penalty, early_stop=False)
    words = [2, 3, 4, 5, 6]
    for net in nets:
        for sentence, found in zip(source, beam_search(net, source, limit(source, 3), settings), strict=True):
            best = {}
            for length in range(4):
                for tokens in itertools.product(words[1:], repeat=length):
                    log_probs = forced(net, sentence, tokens)
                    total = sum(float(log_probs[i, t]) for i, t in enumerate([*tokens, EOS]))
                    best[tokens] = total / (length + 1) ** penalty
            expected = sorted(best, key=lambda tokens: -best[tokens])
            assert tuple(found[0].tokens) == expected[0]
            assert len(found) == len(best) and found[0].score == pytest.approx(best[expected[0]], abs=1e-4)


class Sure:
    """A network that is sure of six tokens, then of the end, and always gives the end a little chance."""

    def begin(self, source):
        return self

    def select(self, hypotheses, sentences=None):
        """Nothing is kept."""

    def step(self, tokens, state):
        self.length = getattr(self, "length", -1) + 1
        shares = torch.full((*tokens.shape, 8), 0.001)
        shares[..., EOS] = 0.04
        shares[..., 5 if self.length < 6 else EOS] = 0.95
        return shares.log()


@pytest.mark.parametrize("early_stop", [True, False])
def test_bad_hypotheses_that_end_early_do_not_end_the_search(early_stop):
    settings = BeamSettings(beams=2, early_stop=early_stop)
    found = beam_search(Sure(), torch.full((1, 3), 4), torch.tensor([12]), settings)
    assert found[0][0].tokens == [5] * 6 == greedy(Sure(), torch.full((1, 3), 4), torch.tensor([12]))[0]


def test_more_beams_find_better_sentences_on_average(nets):
    source = sources()

    def mean(beams):
        settings = BeamSettings(beams=beams, length_penalty=0.0, early_stop=False)
        return np.mean([h[0].score for net in nets for h in beam_search(net, source, limit(source), settings)])

    assert mean(1) < mean(4) <= mean(16) + 1e-6


def test_decoding_works_on_the_active_subnet_of_a_supernet():
    net, (subnet, *_) = subnets()
    architecture = net.space.sample(np.random.default_rng(0), 6)[0]
    source = sources()
    with net.activate(architecture):
        assert greedy(net.net, source, limit(source)) == greedy(subnet, source, limit(source))


def test_fixed_length_decoding_runs_all_steps_and_exports(nets, tmp_path):
    ort = pytest.importorskip("onnxruntime")
    module = FixedLengthDecoding(copy.deepcopy(nets[0]), length=4, beams=3).eval()
    source = sources()
    with torch.no_grad():
        tokens = module(source)
    assert tokens.shape == (5, 3) and torch.equal(tokens[:, 0], tokens[:, 2])
    path = tmp_path / "decoding.onnx"
    torch.onnx.export(
        module,
        (source[:1],),
        path,
        dynamo=False,
        opset_version=17,
        input_names=["source"],
        output_names=["tokens"],
        dynamic_axes={"source": {0: "batch", 1: "length"}, "tokens": {0: "batch"}},
    )
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"source": source.numpy()})[0], tokens.numpy())


@pytest.mark.parametrize(
    ("change", "message"),
    [({"beams": 0}, "beams = 0; wants at least 1"), ({"length_penalty": -1.0}, "length_penalty = -1.0; wants")],
)
def test_wrong_settings(change, message):
    with pytest.raises(ConfigError, match=message):
        BeamSettings(**change)


@pytest.mark.parametrize("beams", [1, 3])
def test_logits_that_are_not_finite_are_an_error(nets, beams):
    broken = copy.deepcopy(nets[0])
    with torch.no_grad():
        broken.decoder[0].feed_forward.up.weight.fill_(torch.nan)
    source = sources()
    with pytest.raises(EvaluationError, match="not finite"):
        if beams == 1:
            greedy(broken, source, limit(source))
        else:
            beam_search(broken, source, limit(source), BeamSettings(beams))
