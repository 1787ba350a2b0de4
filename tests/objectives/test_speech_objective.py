import sys

import pytest
import torch

from nas_compress.data.features import LogMel
from nas_compress.data.speech import SpeechData, SpeechSplit, Vocabulary
from nas_compress.errors import ConfigError, DataError, EvaluationError, MissingExtraError
from nas_compress.objectives.speech import WordErrorRate, word_error_rate
from nas_compress.supernets.asr import build
from nas_compress.supernets.asr_config import AsrConfig

WORDS = Vocabulary(("one", "two", "three"), " ")
CONFIG = AsrConfig(
    mels=10, vocabulary=6, conv_channels=3, conv_kernel=3, depths=(1, 2), mlp_ratios=(1, 2), heads=(2,), widths=(8, 16),
    decoder_layers=1, decoder_heads=2, decoder_hidden=16, frames=16, tokens=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def data():
    def read(i):
        return torch.randn(800 + 80 * i, generator=torch.Generator().manual_seed(i))

    features = LogMel(8_000, 10)
    part = SpeechSplit(["one two", "three", "two two two", "one"], read, features, WORDS, keep=True)
    return SpeechData("test", part, part, part, features, WORDS, "0")


@pytest.fixture(scope="module")
def subnet():
    net = build("small", CONFIG, seed=0).eval()
    return net.extract(net.space.largest())


def test_word_error_rate_counts_substitutions_deletions_and_insertions():
    pytest.importorskip("jiwer")
    references = ["a b c d", "e f", "g", "h i j"]
    hypotheses = ["a x c d", "e", "g y z", "h i j"]  # 1 substitution, 1 deletion, 2 insertions, none
    measured = word_error_rate(hypotheses, references)
    assert measured.value == pytest.approx(100 * 4 / 10)
    assert measured.provenance == {"utterances": 4, "words": 10}
    assert 5 < measured.spread < 60
    assert word_error_rate(hypotheses, references) == measured


def test_the_spread_is_that_of_repeated_draws():
    pytest.importorskip("jiwer")
    generator = torch.Generator().manual_seed(0)
    wrong = torch.rand(400, generator=generator) < 0.2
    hypotheses = ["no" if w else "yes" for w in wrong.tolist()]
    share = float(wrong.float().mean())
    measured = word_error_rate(hypotheses, ["yes"] * 400)
    assert measured.value == pytest.approx(100 * share)
    assert measured.spread == pytest.approx(100 * (share * (1 - share) / 400) ** 0.5, rel=0.1)


def test_no_errors_are_not_certainty():
    pytest.importorskip("jiwer")
    few, many = word_error_rate(["a"] * 5, ["a"] * 5), word_error_rate(["a"] * 500, ["a"] * 500)
    assert few.value == many.value == 0 and few.spread > many.spread > 0
    assert word_error_rate([""], ["a b"]).value == 100
    assert word_error_rate(["c d e f"], ["a b"]).value == 200


def test_wrong_inputs(monkeypatch):
    with pytest.raises(DataError, match="1 hypotheses for 2 references"):
        word_error_rate(["a"], ["a", "b"])
    with pytest.raises(DataError, match="at least one utterance"):
        word_error_rate([], [])
    with pytest.raises(DataError, match="reference 1 holds no words"):
        word_error_rate(["a", "b"], ["a", " "])
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(MissingExtraError, match=r"jiwer is not installed.*pip install '\.\[speech\]'"):
        word_error_rate(["a"], ["a"])


@pytest.mark.parametrize("decoding", ["ctc", "attention"])
def test_the_objective_does_not_depend_on_batches(data, subnet, decoding):
    pytest.importorskip("jiwer")
    subnet.train()
    values = [WordErrorRate(data, decoding=decoding, batch_size=n).measure(subnet, None) for n in (1, 3, 64)]
    assert values[0] == values[1] == values[2]
    assert subnet.training
    part = WordErrorRate(data, decoding=decoding, fraction=0.5)
    assert part.measure(subnet, None).provenance["utterances"] == 2
    assert part.context() == {
        "dataset": "test", "data": "0", "split": "val", "utterances": 2, "decoding": decoding, "precision": "fp32",
    }  # fmt: skip


def test_wrong_objectives_and_networks(data, subnet):
    for options in ({"fraction": 0}, {"batch_size": 0}, {"decoding": "magic"}):
        with pytest.raises(ConfigError, match=f"wer: {next(iter(options))} = "):
            WordErrorRate(data, **options)
    with pytest.raises(DataError, match="not a part"):
        WordErrorRate(data, split="dev")
    with pytest.raises(EvaluationError, match="wants a speech recognizer, got a Linear"):
        WordErrorRate(data).measure(torch.nn.Linear(1, 1), None)
    net = build("small", CONFIG, seed=0)
    with torch.no_grad():
        net.recognizer.ctc.bias.fill_(torch.nan)
    with pytest.raises(EvaluationError, match="not finite"):
        WordErrorRate(data).measure(net.extract(net.space.largest()), None)
