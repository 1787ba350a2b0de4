import copy
import itertools

import pytest
import torch

from nas_compress.errors import ConfigError, EvaluationError
from nas_compress.supernets.asr import build, encoded_lengths
from nas_compress.supernets.asr_config import AsrConfig
from nas_compress.supernets.asr_decoding import _ctc_scores, greedy_ctc, recognize_attention, recognize_ctc

SMALL = AsrConfig(
    mels=8, vocabulary=6, conv_channels=3, conv_kernel=3, depths=(1, 2), mlp_ratios=(1, 2), heads=(2,), widths=(8, 16),
    decoder_layers=1, decoder_heads=2, decoder_hidden=16, frames=16, tokens=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def recognizer():
    net = build("small", SMALL, seed=3).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator))
    return net.extract(net.space.largest())


@pytest.fixture
def utterances():
    return torch.randn(4, 16, 8, generator=torch.Generator().manual_seed(5)), torch.tensor([16, 13, 9, 16])


def test_greedy_ctc_merges_repeats_and_drops_blanks():
    paths = torch.tensor([[0, 4, 4, 0, 4, 5, 5, 3], [3, 3, 3, 0, 0, 3, 4, 4]])
    log_probabilities = torch.nn.functional.one_hot(paths, 6).float().log_softmax(2)
    assert greedy_ctc(log_probabilities, torch.tensor([8, 8])) == [[4, 4, 5, 3], [3, 3, 4]]
    assert greedy_ctc(log_probabilities, torch.tensor([4, 5])) == [[4], [3]]
    assert greedy_ctc(log_probabilities[:, :1], torch.tensor([1, 1])) == [[], [3]]


def test_sentences_do_not_depend_on_the_batch(recognizer, utterances):
    features, lengths = utterances
    for decode in (recognize_ctc, recognize_attention):
        together = decode(recognizer, features, lengths)
        for row, length in enumerate(lengths.tolist()):
            one = decode(recognizer, features[row : row + 1, :length], lengths[row : row + 1])
            assert one == [together[row]]


def sentence_score(recognizer, memory, sentence):
    tokens = torch.tensor([[1, *sentence]])
    logits = recognizer.decode(tokens, memory)[0].log_softmax(1)
    return float(sum(logits[i, token] for i, token in enumerate([*sentence, 2])))


@pytest.mark.parametrize("ctc_weight", [0.0, 0.4, 1.0])
def test_a_wide_beam_finds_the_best_of_all_sentences(recognizer, utterances, ctc_weight):
    """All sentences of up to 3 of the 3 tokens, scored one by one."""
    features, lengths = utterances
    sentences = [list(s) for n in range(4) for s in itertools.product((3, 4, 5), repeat=n)]
    found = recognize_attention(recognizer, features, lengths, beam=len(sentences), ctc_weight=ctc_weight, max_tokens=3)
    with torch.no_grad():
        for row, frames in enumerate(encoded_lengths(lengths).tolist()):
            memory, _, log_probabilities = recognizer.encode(features[row : row + 1, : int(lengths[row])])
            assert memory.shape[1] == frames
            fitting = [s for s in sentences if len(s) <= frames]
            decoder = torch.tensor([sentence_score(recognizer, memory, s) for s in fitting])
            ctc = _ctc_scores(log_probabilities[0], fitting)
            scores = decoder if not ctc_weight else (1 - ctc_weight) * decoder + ctc_weight * ctc
            assert found[row] == fitting[int(scores.argmax())]


def test_greedy_is_a_beam_of_one(recognizer, utterances):
    features, lengths = utterances
    found = recognize_attention(recognizer, features, lengths)
    with torch.no_grad():
        for row, sentence in enumerate(found):
            length = int(lengths[row])
            memory = recognizer.encode(features[row : row + 1, :length])[0]
            tokens = [1]
            while len(tokens) <= memory.shape[1]:
                logits = recognizer.decode(torch.tensor([tokens]), memory)[0, -1]
                logits[:2] = -torch.inf
                if int(logits.argmax()) == 2:
                    break
                tokens.append(int(logits.argmax()))
            assert sentence == tokens[1:]


def test_ctc_scores_are_sums_over_paths():
    log_probabilities = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).log_softmax(1)
    sentences = [[], [3], [3, 3], [2, 3], [3, 3, 3]]
    expected = torch.full((len(sentences),), -torch.inf)
    for path in itertools.product(range(4), repeat=4):
        row = greedy_ctc(torch.nn.functional.one_hot(torch.tensor([path]), 4).float(), torch.tensor([4]))[0]
        if row in sentences:
            score = log_probabilities[range(4), path].sum()
            expected[sentences.index(row)] = torch.logaddexp(expected[sentences.index(row)], score)
    torch.testing.assert_close(_ctc_scores(log_probabilities, sentences), expected)
    assert expected[-1] == -torch.inf


def test_wrong_options(recognizer, utterances):
    with pytest.raises(ConfigError, match="beam = 0; wants at least 1"):
        recognize_attention(recognizer, *utterances, beam=0)
    with pytest.raises(ConfigError, match="ctc_weight = 2; wants 0 to 1"):
        recognize_attention(recognizer, *utterances, ctc_weight=2)


def test_logits_that_are_not_finite_are_an_error(recognizer, utterances):
    broken = copy.deepcopy(recognizer)
    with torch.no_grad():
        broken.output[1].weight.fill_(torch.nan)
    with pytest.raises(EvaluationError, match="not finite"):
        recognize_attention(broken, *utterances)
