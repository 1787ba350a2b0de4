"""Log-mel features of speech."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nas_compress.errors import ConfigError

FLOOR = 1e-10
"""Least energy of a mel band before the logarithm."""


def mel_filters(bands: int, bins: int, sample_rate: int) -> Tensor:
    """Return triangular filters evenly spaced on the mel scale, each 1 at its peak, float32 of shape (bins, bands).

    A frequency of f Hz is 2595 log10(1 + f / 700) mel (O'Shaughnessy, 1987, "Speech Communication"; the scale of HTK).

    Args:
        bands: Number of filters, from 0 Hz to half the sample rate.
        bins: Frequencies of the spectrum, evenly spaced over the same range, both ends included.
        sample_rate: Samples per second.

    Raises:
        ConfigError: A filter covers no frequency, for there are too many of them.
    """
    frequencies = torch.linspace(0, sample_rate / 2, bins, dtype=torch.float64)
    top = 2595 * math.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, bands + 2, dtype=torch.float64) / 2595) - 1)
    rising = (frequencies[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies[:, None]) / (edges[2:] - edges[1:-1])
    filters = torch.minimum(rising, falling).clamp(min=0)
    if empty := int((filters.sum(0) == 0).sum()):
        raise ConfigError(f"{bands} mel bands over {bins} frequencies leave {empty} of them empty; use fewer bands")
    return filters.float()


@dataclass(frozen=True)
class LogMel:
    """Log-mel features: Hann windows, power spectrum, mel filters, logarithm, then normalised over the utterance.

    Attributes:
        sample_rate: Samples per second.
        bands: Mel bands.
        window: Length of a window in seconds.
        hop: Seconds from one window to the next.

    Raises:
        ConfigError: A value is out of range, or the bands are too narrow for the window.
    """

    sample_rate: int = 16_000
    bands: int = 80
    window: float = 0.025
    hop: float = 0.010

    def __post_init__(self) -> None:
        for name in ("sample_rate", "bands", "window", "hop"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} = {getattr(self, name)}; wants more than 0")
        if not 1 <= self._hop_samples <= self._window_samples:
            raise ConfigError(f"hop = {self.hop} s; wants at least one sample and at most the window, {self.window} s")
        _ = self._filters

    @property
    def _window_samples(self) -> int:
        return round(self.window * self.sample_rate)

    @property
    def _hop_samples(self) -> int:
        return round(self.hop * self.sample_rate)

    @property
    def fft_size(self) -> int:
        """Samples of the transform: the window's, filled up with zeros to a power of two."""
        return 1 << (self._window_samples - 1).bit_length()

    @cached_property
    def _filters(self) -> Tensor:
        return mel_filters(self.bands, self.fft_size // 2 + 1, self.sample_rate)

    def energies(self, waveform: Tensor) -> Tensor:
        """Return the energies of all bands, shape (1 + samples // hop, bands), of a waveform (samples,) of -1 to 1.

        Windows are centred on every hop-th sample; what they see outside of the waveform is silence.
        """
        spectrum = torch.stft(
            waveform,
            self.fft_size,
            self._hop_samples,
            self._window_samples,
            torch.hann_window(self._window_samples),
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        return spectrum.abs().square().T @ self._filters

    def __call__(self, waveform: Tensor) -> Tensor:
        """Return features, float32 of shape (1 + samples // hop, bands), of a waveform (samples,) of -1 to 1.

        Each band has mean 0 over the utterance, and all of them together have standard deviation 1.
        """
        logs = self.energies(waveform).clamp(min=FLOOR).log()
        centred = logs - logs.mean(0)
        return centred / centred.square().mean().sqrt().clamp(min=1e-5)
