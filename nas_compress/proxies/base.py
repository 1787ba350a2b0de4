"""What the scores share: a network run with tensors of the score's own, so that nothing of it changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from nas_compress.errors import EvaluationError
from nas_compress.supernets.base import Inputs

Example = Inputs | Sequence[int]
"""What a data-free score takes: the shape of the input, batch first, or inputs of that shape.

Networks of several inputs, or of whole numbers (token ids, masks), need the inputs: floating-point ones are replaced,
all others are used as they are.
"""

Loss = Callable[[Any, Any], Tensor]
"""Maps the network's outputs and the labels to a scalar, the mean over the batch."""

Tensors = dict[str, Tensor]
T = TypeVar("T")

NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.instancenorm._InstanceNorm)
"""Layers that normalise."""


def tensors_of(inputs: Inputs) -> tuple[Tensor, ...]:
    """Return the inputs as a tuple."""
    return (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)


def samples_of(inputs: Inputs, name: str) -> tuple[Tensor, ...]:
    """Return the inputs of a score that compares samples.

    Raises:
        EvaluationError: There are fewer than two; `name` is the score's.
    """
    samples = tensors_of(inputs)
    if len(samples[0]) < 2:
        raise EvaluationError(f"{name} wants at least two samples, has {len(samples[0])}")
    return samples


def example_of(example: Example, module: nn.Module) -> tuple[Tensor, ...]:
    """Return inputs of the given shape, of the type of the network's weights; inputs are returned as they are."""
    if isinstance(example, Tensor):
        return (example,)
    if all(isinstance(each, Tensor) for each in example):
        return tuple(example)  # type: ignore[arg-type]
    weights = (parameter for parameter in module.parameters() if parameter.is_floating_point())
    return (next(weights, torch.empty(0)).new_zeros(tuple(example)),)  # type: ignore[arg-type]


def ones(x: Tensor) -> Tensor:
    """Return ones in place of floating-point values; whole numbers (token ids) as they are."""
    return torch.ones_like(x) if x.is_floating_point() else x


def leaves(outputs: Any) -> Iterator[Tensor]:
    """Yield the floating-point tensors that a network returns: one, or several in a sequence or a mapping."""
    if isinstance(outputs, Tensor):
        if outputs.is_floating_point():
            yield outputs
    elif isinstance(outputs, Mapping):
        for each in outputs.values():
            yield from leaves(each)
    elif isinstance(outputs, Sequence) and not isinstance(outputs, str):
        for each in outputs:
            yield from leaves(each)


def total(outputs: Any) -> Tensor:
    """Return the sum of all that a network returns."""
    sums = [each.sum() for each in leaves(outputs)]
    if not sums:
        raise EvaluationError("the network returns no floating-point tensor")
    return torch.stack(sums).sum()


def cross_entropy(outputs: Any, labels: Any) -> Tensor:
    """Return the mean cross entropy of logits.

    Args:
        outputs: Logits, shape (N, classes), or (N, L, classes) for a label at every position; the first tensor of
            several.
        labels: int64, shape (N,) or (N, L). For logits (N, L, 2) they may be of shape (N, 2): the positions at which
            the answer starts and ends.
    """
    logits = next(leaves(outputs))
    if logits.ndim == 3 and labels.shape != logits.shape[:2]:
        return F.cross_entropy(logits, labels)
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten())


def loss_of(loss: Loss, outputs: Any, labels: Any) -> Tensor:
    """Return the loss, a finite scalar.

    Raises:
        EvaluationError: It cannot be computed, is no scalar, or is not finite.
    """
    try:
        value = loss(outputs, labels)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise EvaluationError(f"the loss of the network's outputs cannot be computed: {error}") from error
    if value.ndim:
        raise EvaluationError(f"the loss has the shape {tuple(value.shape)}; wants a scalar, the mean of the batch")
    finite(value, "the loss")
    return value


def finite(value: float | Tensor, name: str) -> float:
    """Return a score, or another number, as a plain one.

    Raises:
        EvaluationError: It is not finite.
    """
    number = float(value.detach()) if isinstance(value, Tensor) else float(value)
    if not math.isfinite(number):
        raise EvaluationError(f"{name} is {number}; the network is not fit for the score, or its weights are too large")
    return number


# -- which weights -------------------------------------------------------------------------------------------


def weight_names(module: nn.Module) -> list[str]:
    """Return the names of the weights that scores sum over: those of convolutions, linear layers and attention.

    Biases, normalisation, embeddings and single tensors do not count, as in Abdelfattah et al., 2021.

    Raises:
        EvaluationError: There are none.
    """
    registered = {id(parameter): name for name, parameter in module.named_parameters()}
    found: list[Tensor | None] = []
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.modules.conv._ConvNd):
            found.append(part.weight)
        elif isinstance(part, nn.MultiheadAttention):
            found += [part.in_proj_weight, part.q_proj_weight, part.k_proj_weight, part.v_proj_weight]
    names = list(dict.fromkeys(registered[id(weight)] for weight in found if id(weight) in registered))
    if not names:
        raise EvaluationError("the network has no convolution or linear layer")
    return names


# -- running a network ---------------------------------------------------------------------------------------


@contextmanager
def modes(module: nn.Module, *, batch_statistics: bool = True) -> Iterator[None]:
    """Put a network in evaluation mode, with gradients recorded, then give every part back the mode it had.

    Args:
        module: The network.
        batch_statistics: Whether batch normalisation uses the statistics of the batch, and keeps no record of them.
    """
    before = [(part, part.training) for part in module.modules()]
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    tracked = [norm.track_running_stats for norm in norms]
    module.eval()
    try:
        for norm in norms if batch_statistics else []:
            norm.training, norm.track_running_stats = True, False
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for norm, track in zip(norms, tracked, strict=True):
            norm.track_running_stats = track
        for part, training in before:
            part.training = training


class Probe:
    """A network's computation with parameters and buffers of the score's own.

    Gradients with respect to `params` can be taken; nothing of the network itself changes, not even `grad`.

    Args:
        module: The network, in whatever mode it is to run in.
        change: Maps the name and the values of each parameter to those to run with.
        dtype: Floating-point type to run in; that of each tensor by default.
    """

    def __init__(
        self,
        module: nn.Module,
        change: Callable[[str, Tensor], Tensor] | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.module, self.dtype = module, dtype
        self.params: Tensors = {}
        for name, parameter in module.named_parameters():
            values = self._cast(parameter.detach())
            values = values if change is None else change(name, values)
            self.params[name] = values.detach().requires_grad_() if values.is_floating_point() else values
        self.buffers: Tensors = {name: self._cast(buffer).clone() for name, buffer in module.named_buffers()}

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.dtype) if self.dtype is not None and tensor.is_floating_point() else tensor

    def __call__(self, inputs: Sequence[Tensor], params: Tensors | None = None) -> Any:
        """Return the network's outputs.

        Raises:
            EvaluationError: The network cannot be run on these inputs.
        """
        state = {**self.buffers, **(self.params if params is None else params)}
        try:
            return functional_call(self.module, state, tuple(self._cast(each) for each in inputs))
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise EvaluationError(f"the network cannot be run: {error}") from error

    def gradients(self, scalar: Tensor, names: Sequence[str], *, create_graph: bool = False) -> list[Tensor]:
        """Return the gradients with respect to the named parameters; 0 for those that are not used.

        Raises:
            EvaluationError: An operation has no derivative.
        """
        return gradients_of(scalar, [self.params[name] for name in names], create_graph=create_graph)


def gradients_of(scalar: Tensor, wanted: Sequence[Tensor], **options: Any) -> list[Tensor]:
    """Return the gradients of a scalar; 0 for what it does not depend on.

    Raises:
        EvaluationError: An operation has no derivative.
    """
    if not scalar.requires_grad:
        return [torch.zeros_like(each) for each in wanted]
    try:
        return list(torch.autograd.grad(scalar, wanted, materialize_grads=True, **options))
    except RuntimeError as error:
        raise EvaluationError(f"the network has no gradient: {error}") from error


class Watch(TorchDispatchMode):
    """Inside the `with` block, names every operation that runs, and its arguments, before it runs.

    Functions and in-place operations are seen as well as modules.

    Args:
        see: Takes the operation's name (`"relu"`, `"relu_"`) and its arguments.
    """

    def __init__(self, see: Callable[[str, Sequence[Any]], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._see = see

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._see(func._overloadpacket.__name__, args)
        return func(*args, **(kwargs or {}))


# -- where a network's continuous inputs are -----------------------------------------------------------------


@contextmanager
def continuous_inputs(
    module: nn.Module, inputs: Sequence[Tensor], replace: Callable[[Tensor], Tensor]
) -> Iterator[tuple[Tensor, ...]]:
    """Yield the inputs to run a network on inside the `with` block, its continuous inputs given through `replace`.

    The continuous inputs are the floating-point ones. Where there are none (tokens), the outputs of the embedding that
    runs first (the word embeddings) take their place: scores of images apply to text from there on.

    Raises:
        EvaluationError: There are neither floating-point inputs nor embeddings.
    """
    if any(each.is_floating_point() for each in inputs):
        yield tuple(replace(each) if each.is_floating_point() else each for each in inputs)
        return
    tables = [part for part in module.modules() if isinstance(part, nn.Embedding)]
    if not tables:
        raise EvaluationError("the network has no floating-point input and no nn.Embedding to start from")
    seen: list[nn.Module] = []

    def hook(part: nn.Module, _: Any, output: Tensor) -> Tensor:
        seen.append(part)
        return replace(output) if len(seen) == 1 else output

    with ExitStack() as stack:
        for table in tables:
            stack.callback(table.register_forward_hook(hook).remove)
        yield tuple(inputs)


@contextmanager
def without_batch_norm(module: nn.Module) -> Iterator[None]:
    """Let batch norms return their inputs inside the `with` block."""

    def hook(_: nn.Module, inputs: Any, __: Tensor) -> Tensor:
        first: Tensor = inputs[0]
        return first

    with ExitStack() as stack:
        for part in module.modules():
            if isinstance(part, _BatchNorm):
                stack.callback(part.register_forward_hook(hook).remove)
        yield
