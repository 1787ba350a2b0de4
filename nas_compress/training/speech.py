"""Training of speech super-networks: the hybrid loss, and a plain loop over sampled sub-networks."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nas_compress.data.speech import SpeechBatch, SpeechData, check_fit_speech
from nas_compress.errors import ConfigError, TrainingError
from nas_compress.supernets.asr import AsrSupernet, SpeechRecognizer, encoded_lengths
from nas_compress.supernets.asr_config import BLANK
from nas_compress.supernets.randomness import seeded
from nas_compress.training.optimizer import parameter_groups
from nas_compress.training.samplers import SandwichSampler
from nas_compress.training.schedule import learning_rate

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpeechTrainConfig:
    """Options of training; the CTC weight, the learning rate and the largest gradient norm are DE-NAS's.

    Attributes:
        epochs: Passes over the training utterances.
        batch_size: Utterances per step.
        lr: Learning rate after the warm-up, from where it falls as a cosine.
        warmup_epochs: Length of the linear warm-up.
        weight_decay: Of AdamW, on matrices alone.
        ctc_weight: Share of CTC in the loss.
        label_smoothing: Of the decoder's cross entropy.
        max_norm: Gradients are scaled down to this norm.
        subnets_per_step: Sub-networks of each step: the largest, the smallest, and random ones; 1: the largest alone.
        seed: Seed of order, dropout and sampling.

    Raises:
        ConfigError: A value is out of range.
    """

    epochs: int = 60
    batch_size: int = 32
    lr: float = 1e-3
    warmup_epochs: float = 1.0
    weight_decay: float = 0.01
    ctc_weight: float = 0.3
    label_smoothing: float = 0.0
    max_norm: float = 5.0
    subnets_per_step: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "subnets_per_step"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}; wants at least 1")
        for name in ("lr", "max_norm"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} = {getattr(self, name)}; wants more than 0")
        if not 0 <= self.ctc_weight <= 1:
            raise ConfigError(f"ctc_weight = {self.ctc_weight}; wants 0 to 1")


def speech_loss(
    log_probabilities: Tensor, logits: Tensor, batch: SpeechBatch, ctc_weight: float = 0.3, label_smoothing: float = 0.0
) -> Tensor:
    """Return the hybrid loss: CTC's per token, and the decoder's cross entropy, weighted.

    Watanabe et al., 2017, "Hybrid CTC/Attention Architecture for End-to-End Speech Recognition", equation 24. An
    utterance of fewer encoder frames than CTC needs for its tokens has no CTC loss.

    Args:
        log_probabilities: CTC log-probabilities, shape (N, L, V).
        logits: The decoder's logits for `batch.previous`, shape (N, U + 1, V).
        batch: The utterances.
        ctc_weight: Share of CTC.
        label_smoothing: Of the cross entropy.
    """
    ctc = F.ctc_loss(
        log_probabilities.transpose(0, 1),
        batch.tokens,
        encoded_lengths(batch.lengths),
        batch.token_lengths,
        blank=BLANK,
        zero_infinity=True,
    )
    attention = F.cross_entropy(
        logits.flatten(0, 1), batch.following.flatten(), ignore_index=BLANK, label_smoothing=label_smoothing
    )
    return ctc_weight * ctc + (1 - ctc_weight) * attention


def train_speech(
    net: AsrSupernet | SpeechRecognizer,
    data: SpeechData,
    config: SpeechTrainConfig | None = None,
    *,
    progress: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train a super-network, or an extracted sub-network, in place; it is left in evaluation mode.

    Every step trains the sub-networks that the sandwich rule draws (Yu & Huang, 2019, "Universally Slimmable Networks")
    on the same utterances, all from their transcripts; gradients add up.

    Args:
        net: The network, on the CPU.
        data: Its `train` part is used, the others are not looked at.
        config: Training options.
        progress: Called after every epoch with its number, from 1, and its mean loss.

    Returns:
        The mean loss of each epoch (the largest sub-network's, if it is a super-network).

    Raises:
        DataError: Features or vocabulary of data and super-network differ.
        TrainingError: The loss is not finite.
    """
    config = config or SpeechTrainConfig()
    if isinstance(net, AsrSupernet):
        check_fit_speech(data, net.config.mels, net.config.vocabulary)
    losses: list[float] = []
    with seeded(config.seed):
        net.train()
        for loss in _epochs(net, data, config):
            losses.append(loss)
            log.info("epoch %d of %d: loss %.4f", len(losses), config.epochs, loss)
            if progress is not None:
                progress(len(losses), loss)
        net.eval()
    return losses


def _epochs(net: AsrSupernet | SpeechRecognizer, data: SpeechData, config: SpeechTrainConfig) -> Iterator[float]:
    """Train, and yield the mean loss of each epoch."""
    optimizer = torch.optim.AdamW(parameter_groups(net, config.weight_decay), lr=config.lr, betas=(0.9, 0.98))
    steps = math.ceil(len(data.train) / config.batch_size)
    order, rng = torch.Generator().manual_seed(config.seed), np.random.default_rng(config.seed)
    warmup = round(config.warmup_epochs * steps)
    for epoch in range(config.epochs):
        total = 0.0
        for index, batch in enumerate(data.train.batches(config.batch_size, generator=order)):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(epoch * steps + index, config.epochs * steps, warmup, config.lr)
            total += _step(net, batch, config, optimizer, rng)
        yield total / steps


def _step(
    net: AsrSupernet | SpeechRecognizer,
    batch: SpeechBatch,
    config: SpeechTrainConfig,
    optimizer: torch.optim.Optimizer,
    rng: np.random.Generator,
) -> float:
    """Make one step; return the loss of its first sub-network."""
    optimizer.zero_grad(set_to_none=True)
    first = _backward(net, batch, config)
    if isinstance(net, AsrSupernet) and config.subnets_per_step > 1:
        for architecture in list(SandwichSampler(config.subnets_per_step)(net.space, rng))[1:]:
            with net.activate(architecture):
                _backward(net, batch, config)
    if not math.isfinite(first):
        raise TrainingError(f"training diverged: the loss is {first}; lower lr (now {config.lr:g})")
    torch.nn.utils.clip_grad_norm_(net.parameters(), config.max_norm)
    optimizer.step()
    return first


def _backward(net: AsrSupernet | SpeechRecognizer, batch: SpeechBatch, config: SpeechTrainConfig) -> float:
    log_probabilities, logits = net(batch.features, batch.previous, batch.lengths)
    loss = speech_loss(log_probabilities, logits, batch, config.ctc_weight, config.label_smoothing)
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())
