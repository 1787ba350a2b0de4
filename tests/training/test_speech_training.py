import math

import pytest
import torch

from nas_compress.data import fsdd
from nas_compress.data.features import LogMel
from nas_compress.data.speech import SpeechData, SpeechSplit, Vocabulary
from nas_compress.errors import ConfigError, DataError, TrainingError
from nas_compress.objectives.speech import WordErrorRate
from nas_compress.supernets.asr import build
from nas_compress.supernets.asr_config import FSDD_ASR, AsrConfig
from nas_compress.training.speech import SpeechTrainConfig, speech_loss, train_speech

TONES = Vocabulary(("low", "high"), " ")
CONFIG = AsrConfig(
    mels=10, vocabulary=5, conv_channels=4, conv_kernel=3, depths=(1, 2), mlp_ratios=(1, 2), heads=(2,),
    widths=(16, 24), decoder_layers=1, decoder_heads=2, decoder_hidden=16, dropout=0.0, frames=16, tokens=3,
)  # fmt: skip


def tones(text):
    """Return a tone for each word, 0.1 s each."""
    t = torch.arange(800) / 8_000
    return torch.cat([torch.sin(2 * math.pi * (400 if word == "low" else 1_500) * t) for word in text.split()])


@pytest.fixture(scope="module")
def data():
    texts = ["low high", "high low", "low", "high", "high high low", "low low high"] * 4
    features = LogMel(8_000, 10)

    def read(i):
        waveform = tones(texts[i])
        return waveform + 0.01 * torch.randn(waveform.shape, generator=torch.Generator().manual_seed(i))

    part = SpeechSplit(texts, read, features, TONES, keep=True)
    return SpeechData("tones", part, part, part, features, TONES, "0")


def test_the_loss_is_the_weighted_sum_of_both(data):
    net = build("net", CONFIG, seed=0).eval()
    batch = data.train.batch([0, 2, 4])
    with torch.no_grad():
        outputs = net(batch.features, batch.previous, batch.lengths)
        ctc, attention, both = (float(speech_loss(*outputs, batch, weight)) for weight in (1.0, 0.0, 0.3))
        one_by_one = []
        for row in range(3):
            count = int(batch.token_lengths[row]) + 1
            scores = outputs[1][row, :count].log_softmax(1)
            one_by_one += [-float(scores[i, t]) for i, t in enumerate(batch.following[row, :count].tolist())]
    assert attention == pytest.approx(sum(one_by_one) / len(one_by_one), rel=1e-5)
    assert both == pytest.approx(0.3 * ctc + 0.7 * attention, rel=1e-5)


def test_training_lowers_the_loss_of_all_subnets(data):
    net = build("net", CONFIG, seed=0)
    batch = data.val.batch(range(6))

    def losses():
        with torch.no_grad():
            return [
                float(speech_loss(*net.extract(a)(batch.features, batch.previous, batch.lengths), batch))
                for a in (net.space.largest(), net.space.smallest())
            ]

    before, rng = losses(), torch.get_rng_state()
    seen = []
    history = train_speech(net, data, SpeechTrainConfig(epochs=12, batch_size=8, lr=5e-3),
                           progress=lambda epoch, loss: seen.append((epoch, loss)))  # fmt: skip
    assert torch.equal(rng, torch.get_rng_state()) and not net.training
    assert seen == list(enumerate(history, 1)) and history[-1] < 0.5 * history[0]
    assert all(b < 0.5 * a for a, b in zip(before, losses(), strict=True))


def test_the_same_seed_gives_the_same_weights(data):
    def trained(seed):
        net = build("net", CONFIG, seed=0)
        train_speech(net, data, SpeechTrainConfig(epochs=1, batch_size=12, seed=seed))
        return net.fingerprint()

    assert trained(1) == trained(1) != trained(2)


def test_an_extracted_subnet_trains_too(data):
    net = build("net", CONFIG, seed=0)
    before = net.fingerprint()
    history = train_speech(net.extract(net.space.smallest()), data, SpeechTrainConfig(epochs=6, batch_size=8, lr=5e-3))
    assert history[-1] < history[0] and net.fingerprint() == before


def test_wrong_uses(data):
    with pytest.raises(DataError, match="has 5 tokens, the net knows 13"):
        train_speech(build("net", CONFIG, num_classes=13, seed=0), data)
    net = build("net", CONFIG, seed=0)
    with torch.no_grad():
        net.recognizer.ctc.bias.fill_(torch.nan)
    with pytest.raises(TrainingError, match="diverged: the loss is nan; lower lr"):
        train_speech(net, data, SpeechTrainConfig(epochs=1))
    for wrong in ({"epochs": 0}, {"lr": 0.0}, {"ctc_weight": 1.5}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            SpeechTrainConfig(**wrong)


@pytest.mark.slow
def test_the_small_net_recognizes_spoken_digits(shared_data):
    """About 35 s on one core; with these options 3 % for the largest sub-network at its end."""
    pytest.importorskip("jiwer")
    data = fsdd.load(shared_data / "fsdd", ("jackson", "theo"))
    net = build("fsdd_asr", FSDD_ASR, seed=0)
    train_speech(net, data, SpeechTrainConfig(epochs=12, warmup_epochs=2, lr=2e-3))
    for architecture in (net.space.largest(), net.space.smallest()):
        subnet = net.extract(architecture)
        for decoding in ("ctc", "attention"):
            assert WordErrorRate(data, split="test", decoding=decoding).measure(subnet, architecture).value < 20
