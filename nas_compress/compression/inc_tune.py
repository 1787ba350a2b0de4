"""Quantization with INC within an accuracy criterion: schemes first, then layer by layer back to fp32."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from nas_compress.backends.base import as_tuple
from nas_compress.backends.torch import torch_threads
from nas_compress.compression.inc_graph import Quantizer, check_request, checked_calibration, quantizer_of
from nas_compress.compression.inc_ipex import IpexQuantizer
from nas_compress.compression.inc_module import GraphModule, Int8Module, quiet
from nas_compress.compression.inc_sensitivity import sensitivities
from nas_compress.compression.options import AccuracyCriterion, Scheme, TuningCriterion
from nas_compress.errors import EvaluationError

COMPILED_AT_MOST = 3


@dataclass(frozen=True)
class Trial:
    """A quantized network that was evaluated.

    Attributes:
        kept_fp32: Names of the layers in fp32.
        algorithm: How ranges of activations were found: `"minmax"`, `"kl"`, or SmoothQuant's alpha.
        accuracy: In %.
        compiled: Whether Inductor had compiled it; else its graph was run as it is, which rounds a little differently.
    """

    kept_fp32: tuple[str, ...]
    algorithm: str
    accuracy: float
    compiled: bool = False


@dataclass(frozen=True)
class TunedModule:
    """What tuning gives back.

    Attributes:
        network: The quantized network with the fewest fp32 layers that meets the criterion, compiled; None where none
            does: then nothing is quantized.
        accepted: Whether there is one.
        before: Accuracy in % before quantization.
        after: Accuracy in % of the compiled network; that before quantization where there is none.
        kept_fp32: Names of the layers in fp32.
        trials: Everything that was evaluated, in order.
        reason: Why it was accepted or not, in words.
    """

    network: Int8Module | None
    accepted: bool
    before: float
    after: float
    kept_fp32: tuple[str, ...]
    trials: list[Trial]
    reason: str


def autotune_inc(
    module: nn.Module,
    example: Tensor | tuple[Tensor, ...],
    calibration: Iterable[Tensor | tuple[Tensor, ...]],
    *,
    accuracy: Callable[[nn.Module], float],
    criterion: AccuracyCriterion,
    tuning: TuningCriterion,
    approach: Scheme = "static",
    threads: int = 1,
) -> TunedModule:
    """Quantize a module so that an accuracy criterion holds, with as few layers in fp32 as that takes.

    INC's `autotune` tries the ways to find ranges, and ends with the first that meets the criterion. Where none does,
    the layers whose rounding changes the outputs most go back to fp32: 1, 2, 4 and so on, then the fewest by
    bisection; one layer at least stays quantized. (`smoothquant` has no such way back: it tries three exponents alpha.)
    Trials run the graph uncompiled; the chosen one is compiled, evaluated once more, and judged on that; should it
    fail, the next two candidates are compiled. Where none holds, nothing is quantized.

    Args:
        module: As in `quantize_inc`; so are `example`, `calibration`, `approach` and `threads`.
        example: See there.
        calibration: See there.
        accuracy: Returns the accuracy in % of a module that takes inputs of any batch size.
        criterion: What may be lost.
        tuning: When to give up. The evaluation of compiled networks does not count as a trial.
        approach: See `quantize_inc`.
        threads: See there.

    Raises:
        EvaluationError: The accuracy before quantization is not above 0; see also `quantize_inc`.
        NASError: See `quantize_inc`.
    """
    check_request(module, approach, ())
    inputs = as_tuple(example)
    batches = checked_calibration(calibration, inputs)
    with quiet(), torch_threads(threads):
        quantizer = quantizer_of(module, inputs, batches, approach)
        before = accuracy(module)
        if not before > 0:
            raise EvaluationError(f"tuning wants an accuracy above 0 % before quantization, got {before:g}")
        search = _Search(quantizer, accuracy, criterion, tuning, before)
        search.try_algorithms()
        if search.accepted is None:
            errors = sensitivities(module, batches[0], quantizer.layers, bf16=approach == "mixed_precision")
            search.try_layers(sorted(errors, key=errors.__getitem__, reverse=True))
        return search.finish(inputs)


class _Search:
    """Trials towards an accuracy criterion."""

    def __init__(
        self,
        quantizer: Quantizer | IpexQuantizer,
        accuracy: Callable[[nn.Module], float],
        criterion: AccuracyCriterion,
        tuning: TuningCriterion,
        before: float,
    ) -> None:
        self.trials: list[Trial] = []
        self._quantizer, self._accuracy = quantizer, accuracy
        self._criterion, self._tuning, self._before = criterion, tuning, before
        self._deadline = time.monotonic() + tuning.timeout if tuning.timeout else float("inf")

    @property
    def accepted(self) -> Trial | None:
        """The trial with the fewest fp32 layers that meets the criterion."""
        return min(filter(self._holds, self.trials), key=lambda trial: len(trial.kept_fp32), default=None)

    def try_algorithms(self) -> None:
        """Try the ways to find ranges of activations until one meets the criterion."""
        if isinstance(self._quantizer, Quantizer) and self._quantizer.approach != "mixed_precision":
            self._autotune(self._quantizer)
            return
        for algorithm in self._quantizer.algorithms:
            if (self.trials and not self._may_go_on()) or self._try((), algorithm):
                return

    def _autotune(self, quantizer: Quantizer) -> None:
        """Let INC go through the configurations; the model that it returns may miss the criterion, and is not used."""
        from neural_compressor.torch.quantization import TuningConfig, autotune

        tolerable = 1 - self._criterion.lowest(self._before) / self._before
        kept = tuple(quantizer.unsafe)
        measured: list[float] = []

        def evaluate(graph: nn.Module) -> float:
            measured.append(self._measured(GraphModule(graph)) if measured else self._before)  # the first call is fp32
            return measured[-1]

        autotune(
            quantizer.exported(),
            TuningConfig(
                config_set=[quantizer.config(kept, algorithm) for algorithm in quantizer.algorithms],
                sampler=self._sampler,
                tolerable_loss=tolerable,
                max_trials=self._tuning.max_trials,
            ),
            eval_fn=evaluate,
            run_fn=quantizer.calibrate,
        )
        self.trials += [Trial(kept, *pair) for pair in zip(quantizer.algorithms, measured[1:], strict=False)]

    def try_layers(self, order: Sequence[str]) -> None:
        """Keep 1, 2, 4 ... of the first layers in fp32 until the criterion holds, then bisect; one stays quantized."""
        algorithm = max(self.trials, key=_by_accuracy).algorithm
        fails, holds, limit = 0, None, len(order) - 1
        while holds is None and fails < limit and self._may_go_on():
            kept = min(max(1, 2 * fails), limit)
            if self._try(order[:kept], algorithm):
                holds = kept
            else:
                fails = kept
        while holds is not None and holds - fails > 1 and self._may_go_on():
            kept = (fails + holds) // 2
            if self._try(order[:kept], algorithm):
                holds = kept
            else:
                fails = kept

    def finish(self, example: tuple[Tensor, ...]) -> TunedModule:
        """Compile the best trials until one holds compiled, and say how it went."""
        holding = sorted(filter(self._holds, self.trials), key=lambda trial: len(trial.kept_fp32))
        for trial in holding[:COMPILED_AT_MOST]:
            if (tuned := self._compiled(trial, example)) is not None:
                return tuned
        best, lowest = max(self.trials, key=_by_accuracy).accuracy, self._criterion.lowest(self._before)
        kept = "no trial could be evaluated" if best != best else f"the best of {len(self.trials)} kept {best:.2f} %"
        reason = f"nothing was quantized: {kept}, the criterion wants {lowest:.2f} %"
        layers = (*self._quantizer.unsafe, *self._quantizer.layers)
        return TunedModule(None, False, self._before, self._before, layers, self.trials, reason)

    def _compiled(self, trial: Trial, example: tuple[Tensor, ...]) -> TunedModule | None:
        """Return a trial's network compiled; None if it does not meet the criterion as such."""
        network = self._quantizer.compiled(example, trial.kept_fp32, trial.algorithm)
        after = self._measured(network)
        self.trials.append(Trial(trial.kept_fp32, trial.algorithm, after, compiled=True))
        if not self._criterion.holds(after, self._before):
            return None
        lowest, layers = self._criterion.lowest(self._before), f"{len(trial.kept_fp32)} layers in fp32"
        reason = f"{after:.2f} % with {layers} meets the criterion ({lowest:.2f} %)"
        return TunedModule(network, True, self._before, after, trial.kept_fp32, self.trials, reason)

    def _try(self, layers: Sequence[str], algorithm: str) -> bool:
        kept = (*self._quantizer.unsafe, *layers)
        graph = self._quantizer.graph(kept, algorithm)
        self.trials.append(Trial(kept, algorithm, self._measured(GraphModule(graph))))
        return self._holds(self.trials[-1])

    def _measured(self, network: nn.Module) -> float:
        """Return the accuracy in %; NaN where the logits are not finite."""
        try:
            return self._accuracy(network)
        except EvaluationError:
            return float("nan")

    def _holds(self, trial: Trial) -> bool:
        return self._criterion.holds(trial.accuracy, self._before)

    def _may_go_on(self) -> bool:
        return len(self.trials) < self._tuning.max_trials and time.monotonic() < self._deadline

    def _sampler(self, configs: Sequence[Any]) -> Iterator[int]:
        """Hand out the numbers of configurations until time is up; INC knows of no time limit."""
        return (number for number in range(len(configs)) if not number or self._may_go_on())


def _by_accuracy(trial: Trial) -> tuple[bool, float]:
    """Order NaN before every number."""
    return trial.accuracy == trial.accuracy, trial.accuracy
