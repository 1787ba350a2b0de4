import math

import numpy as np
import pytest
import torch

from nas_compress.data.features import FLOOR, LogMel, mel_filters
from nas_compress.errors import ConfigError


@pytest.mark.parametrize(("bands", "fft", "rate"), [(80, 512, 16_000), (40, 256, 8_000), (23, 1024, 22_050)])
def test_filters_are_those_of_transformers(bands, fft, rate):
    reference = pytest.importorskip("transformers.audio_utils")
    expected = reference.mel_filter_bank(fft // 2 + 1, bands, 0, rate / 2, rate, norm=None, mel_scale="htk")
    torch.testing.assert_close(mel_filters(bands, fft // 2 + 1, rate), torch.from_numpy(expected).float())


def test_energies_are_those_of_transformers():
    reference = pytest.importorskip("transformers.audio_utils")
    features = LogMel(8_000, 40)
    waveform = torch.randn(3_333, generator=torch.Generator().manual_seed(0)) * 0.1
    # The window of 200 samples lies in the middle of the transform's 256.
    window = np.pad(reference.window_function(200, "hann"), 28)
    expected = reference.spectrogram(
        waveform.numpy(),
        window,
        frame_length=256,
        hop_length=80,
        fft_length=256,
        power=2.0,
        pad_mode="constant",
        mel_filters=reference.mel_filter_bank(129, 40, 0, 4_000, 8_000, norm=None, mel_scale="htk"),
        mel_floor=FLOOR,
    )
    energies = features.energies(waveform)
    assert energies.shape == (1 + 3_333 // 80, 40)
    torch.testing.assert_close(energies, torch.from_numpy(expected.T).float(), rtol=1e-3, atol=1e-6)


def test_a_tone_is_found_in_its_band():
    features = LogMel(16_000, 80)
    waveform = torch.sin(2 * math.pi * 1_000 * torch.arange(16_000) / 16_000)
    mels = 2595 * math.log10(1 + 1_000 / 700), 2595 * math.log10(1 + 8_000 / 700)
    band = int(features.energies(waveform).mean(0).argmax())
    assert abs((band + 1) * mels[1] / 81 - mels[0]) <= mels[1] / 81


def test_features_are_normalised_and_do_not_depend_on_loudness():
    waveform = torch.randn(4_000, generator=torch.Generator().manual_seed(0)) * 0.1
    features = LogMel(8_000, 20)(waveform)
    torch.testing.assert_close(features.mean(0), torch.zeros(20), atol=1e-5, rtol=0)
    torch.testing.assert_close(features.square().mean(), torch.tensor(1.0))
    torch.testing.assert_close(LogMel(8_000, 20)(waveform / 3), features, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("samples", [1, 79, 80, 500])
def test_short_and_silent_recordings_have_finite_features(samples):
    features = LogMel(8_000, 20)(torch.zeros(samples))
    assert features.shape == (1 + samples // 80, 20) and torch.isfinite(features).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bands": 0}, "bands = 0; wants more than 0"),
        ({"sample_rate": -1}, "sample_rate = -1"),
        ({"hop": 0.05}, "hop = 0.05 s; wants at least one sample and at most the window"),
        ({"bands": 200}, "200 mel bands over 257 frequencies leave .* empty"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ConfigError, match=message):
        LogMel(**options)
