"""Quantization within an accuracy criterion: what hurts goes back to fp32, until the criterion holds."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx

from nas_compress.compression.onnx_layers import Layer
from nas_compress.compression.options import AccuracyCriterion, TuningCriterion
from nas_compress.compression.quantize import CALIBRATION_METHODS, Int8Forms, check_names
from nas_compress.compression.sensitivity import layer_sensitivities
from nas_compress.errors import EvaluationError
from nas_compress.files import replacing
from nas_compress.supernets.base import Inputs

logger = logging.getLogger(__name__)

NOTHING_HOLDS = "the criterion does not hold even with the least sensitive layer alone in 8 bits"


@dataclass(frozen=True)
class Trial:
    """One quantized model that was evaluated.

    Attributes:
        what: How it was made, in words.
        accuracy: In %; NaN if it could not be made or evaluated.
        accepted: Whether the criterion holds.
        fp32_layers: Layers of it in fp32.
    """

    what: str
    accuracy: float
    accepted: bool
    fp32_layers: int


@dataclass(frozen=True)
class TuningOutcome:
    """What `quantize_within` handed back, and how it came to it.

    Attributes:
        accepted: Whether a quantized file that meets the criterion was found; if not, nothing is quantized.
        before: Accuracy of the fp32 file in %.
        after: Accuracy of the file that was written, in %.
        method: How ranges of activations were found.
        per_channel: Whether weights have a scale per channel.
        kept_fp32: Names of the nodes in fp32, those excluded by the caller among them; to be given to `quantize_onnx`
            as `exclude` to make the same file.
        fp32_layers: Names of the layers in fp32.
        layers: Number of layers that could be quantized; as many in fp32 means that nothing is quantized.
        trials: All that was tried, in order.
        reason: Why it ended so, in words.
    """

    accepted: bool
    before: float
    after: float
    method: str
    per_channel: bool
    kept_fp32: tuple[str, ...]
    fp32_layers: tuple[str, ...]
    layers: int
    trials: tuple[Trial, ...]
    reason: str

    @property
    def quantized(self) -> bool:
        """Whether anything is quantized."""
        return len(self.fp32_layers) < self.layers

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON."""
        return {**asdict(self), "quantized": self.quantized}


def quantize_within(
    fp32_path: str | Path,
    int8_path: str | Path,
    calibration: Iterable[Inputs],
    *,
    accuracy: Callable[[Path], float],
    criterion: AccuracyCriterion,
    tuning: TuningCriterion,
    approach: str = "static",
    method: str | None = None,
    per_channel: bool = True,
    reduce_range: bool | None = None,
    exclude: Collection[str] = (),
    on_trial: Callable[[Trial], None] | None = None,
) -> TuningOutcome:
    """Quantize an ONNX file so that it loses no more accuracy than is tolerable, with as few layers in fp32 as found.

    Tried in order: what was asked for; the other calibration methods, where none was asked for (weights have a scale
    per channel by default, and one per tensor is never closer); then, from the best of these, the most sensitive layers
    in fp32 (see `layer_sensitivities`): 1, 2, 4, 8 ... until the criterion holds, and by bisection the fewest between
    that number and the last that failed. If trials or time run out first, the model with the fewest layers in fp32 that
    was accepted so far is handed back. Where none was, the fp32 model is, and the outcome says that nothing was
    quantized.

    Args:
        fp32_path: See `quantize_onnx`.
        int8_path: See `quantize_onnx`; it holds the model of the outcome.
        calibration: See `quantize_onnx`; wanted for `dynamic` too, where layers are compared on it.
        accuracy: Evaluates a file, in %, on data that is neither for training nor for the final test.
        criterion: What may be lost.
        tuning: When to stop. The fp32 file's evaluation is no trial; the first trial always begins.
        approach: See `quantize_onnx`.
        method: See `quantize_onnx`; without it, `minmax` first, then the others.
        per_channel: See `quantize_onnx`.
        reduce_range: See `quantize_onnx`.
        exclude: Nodes that stay in fp32 in any case.
        on_trial: Called after each trial.

    Raises:
        CheckpointError, OutputError, ConfigError, DataError, EvaluationError: See `quantize_onnx`; the last also where
            the accuracy of the fp32 file is not finite.
    """
    fp32_path, int8_path = Path(fp32_path), Path(int8_path)
    check_names(approach, method or CALIBRATION_METHODS[0])
    start = time.monotonic()
    forms = Int8Forms(fp32_path, calibration, approach=approach, reduce_range=reduce_range)
    forms.need_data()
    forms.check_exclude(exclude)
    before = accuracy(fp32_path)
    if not math.isfinite(before):
        raise EvaluationError(f"quantize: the accuracy of {fp32_path} is {before}, not a number of %")
    deadline = start + tuning.timeout if tuning.timeout else None
    with TemporaryDirectory() as folder:
        trials = _Trials(forms, Path(folder) / "trial.onnx", accuracy, criterion, tuning, before, deadline, on_trial)
        asked = _Variant(method or CALIBRATION_METHODS[0], per_channel, frozenset(exclude))
        others = CALIBRATION_METHODS[1:] if method is None and approach == "static" else ()
        try:
            reason = _search(trials, asked, others)
        except _SpentError as spent:
            reason = str(spent)
    return _hand_back(trials, int8_path, asked, reason)


@dataclass(frozen=True)
class _Variant:
    """One way to quantize."""

    method: str
    per_channel: bool
    exclude: frozenset[str]


@dataclass(frozen=True)
class _Candidate:
    """A variant that was evaluated."""

    variant: _Variant
    model: bytes
    accuracy: float
    fp32_layers: int


class _SpentError(Exception):
    """No further trial may begin; the message says why."""


class _Trials:
    """The trials so far: counted, and the ones worth keeping."""

    def __init__(
        self,
        forms: Int8Forms,
        path: Path,
        accuracy: Callable[[Path], float],
        criterion: AccuracyCriterion,
        tuning: TuningCriterion,
        before: float,
        deadline: float | None,
        on_trial: Callable[[Trial], None] | None,
    ) -> None:
        self.forms, self.before, self.deadline = forms, before, deadline
        self.done: list[Trial] = []
        self.accepted: _Candidate | None = None
        self.closest: _Candidate | None = None
        self._path, self._accuracy, self._criterion, self._tuning = path, accuracy, criterion, tuning
        self._on_trial = on_trial or (lambda trial: None)

    def holds(self, what: str, variant: _Variant) -> bool:
        """Make and evaluate a variant, and return whether the criterion holds."""
        self.check_budget()
        kept = len(fp32_layers(self.forms, variant.exclude))
        candidate = None
        try:
            model = self.forms.form(variant.method, variant.per_channel, variant.exclude)
            self._path.write_bytes(model)
            candidate = _Candidate(variant, model, self._accuracy(self._path), kept)
        except EvaluationError:
            logger.debug("%s cannot be evaluated", what, exc_info=True)
        value = candidate.accuracy if candidate else math.nan
        held = self._criterion.holds(value, self.before)
        if candidate and held and (self.accepted is None or kept < self.accepted.fp32_layers):
            self.accepted = candidate
        if candidate and math.isfinite(value) and (self.closest is None or value > self.closest.accuracy):
            self.closest = candidate
        self.done.append(Trial(what, value, held, kept))
        self._on_trial(self.done[-1])
        return held

    def check_budget(self) -> None:
        """Raise `_SpentError` if no trial may begin."""
        if not self.done:
            return
        ended = ""
        if len(self.done) >= self._tuning.max_trials:
            ended = f"max_trials = {self._tuning.max_trials} reached"
        elif self.deadline is not None and time.monotonic() >= self.deadline:
            ended = f"timeout = {self._tuning.timeout:g} s reached"
        if ended and self.accepted:
            raise _SpentError(f"the criterion holds; {ended} before fewer layers in fp32 were tried")
        if ended:
            lowest = self._criterion.lowest(self.before)
            raise _SpentError(
                f"the criterion cannot be met within the limits: {ended}, and no trial kept {lowest:.3f} % or more"
            )


def _search(trials: _Trials, asked: _Variant, others: Iterable[str]) -> str:
    """Run the trials and return why they ended."""
    forms = trials.forms
    if trials.holds("as asked", asked):
        return "the criterion holds as asked"
    for method in others:
        if trials.holds(f"{method} calibration", replace(asked, method=method)):
            return f"the criterion holds with {method} calibration"
    trials.check_budget()
    base = trials.closest.variant if trials.closest else asked
    ranking = layer_sensitivities(forms, base.method, base.per_channel, base.exclude, trials.deadline)
    trials.check_budget()
    layers = [each.layer for each in ranking]
    most = max(count for count in range(len(layers)) if forms.leaves_any(_excluding(base, layers[:count]).exclude))

    def holds(count: int) -> bool:
        words = f"{count} most sensitive layer{'s' if count > 1 else ''} in fp32, {base.method}"
        return trials.holds(words, _excluding(base, layers[:count]))

    failed = 0
    for count in _doubling(most):
        if holds(count):
            return f"the criterion holds with {_fewest(holds, failed, count)} layers in fp32"
        failed = count
    return NOTHING_HOLDS


def _doubling(most: int) -> Iterator[int]:
    """Yield 1, 2, 4 and so on, and at last `most`."""
    count = 1
    while count < most:
        yield count
        count *= 2
    if most:
        yield most


def _fewest(holds: Callable[[int], bool], failed: int, held: int) -> int:
    """Return the fewest layers between a number that failed and one that held, by bisection."""
    while held - failed > 1:
        middle = (failed + held) // 2
        if holds(middle):
            held = middle
        else:
            failed = middle
    return held


def _excluding(variant: _Variant, layers: Iterable[Layer]) -> _Variant:
    return replace(variant, exclude=variant.exclude.union(*(layer.nodes for layer in layers)))


def fp32_layers(forms: Int8Forms, exclude: Collection[str]) -> tuple[str, ...]:
    """Return the names of the layers all of whose nodes are excluded."""
    return tuple(layer.name for layer in forms.layers if set(layer.nodes) <= set(exclude))


def _hand_back(trials: _Trials, path: Path, asked: _Variant, reason: str) -> TuningOutcome:
    """Write the model to hand back, and describe it."""
    forms = trials.forms
    chosen = trials.accepted
    if chosen is None:
        reason = f"nothing was quantized: {reason if trials.closest else f'no trial could be evaluated; {reason}'}"
    model = chosen.model if chosen else _in_fp32(forms)
    with replacing(path) as temporary:
        temporary.write_bytes(model)
    variant = chosen.variant if chosen else replace(asked, exclude=asked.exclude.union(forms.nodes))
    return TuningOutcome(
        accepted=chosen is not None,
        before=trials.before,
        after=chosen.accuracy if chosen else trials.before,
        method=variant.method,
        per_channel=variant.per_channel,
        kept_fp32=tuple(node for node in forms.nodes if node in variant.exclude),
        fp32_layers=fp32_layers(forms, variant.exclude),
        layers=len(forms.layers),
        trials=tuple(trials.done),
        reason=reason,
    )


def _in_fp32(forms: Int8Forms) -> bytes:
    """Return the fp32 file; its metadata says that nothing is quantized."""
    model = onnx.load(forms.path)
    onnx.helper.set_model_props(model, {**forms.metadata, "quantization": "none: fp32"})
    serialized: bytes = model.SerializeToString()
    return serialized
