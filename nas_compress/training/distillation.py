"""Losses: hard labels with smoothing, soft labels of a teacher, and their mixture."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def soft_cross_entropy(logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the mean cross entropy between the teacher's and the student's class probabilities.

    Source: Hinton et al., 2015, "Distilling the Knowledge in a Neural Network", section 2: both softened by the
    temperature, the loss multiplied by its square so that gradients keep their size.

    Args:
        logits: The student's, shape (n, classes).
        teacher_logits: The teacher's, same shape; no gradient flows into them.
        temperature: Divides both before the softmax.
    """
    target = (teacher_logits.detach() / temperature).softmax(1)
    return F.cross_entropy(logits / temperature, target) * temperature**2


def distillation_loss(
    logits: Tensor,
    labels: Tensor,
    teacher_logits: Tensor | None,
    *,
    weight: float,
    label_smoothing: float,
    temperature: float = 1.0,
) -> Tensor:
    """Return `(1 - weight) * cross entropy with the labels + weight * soft cross entropy with the teacher`.

    Args:
        logits: The student's, shape (n, classes).
        labels: Class indices, shape (n,).
        teacher_logits: The teacher's, shape (n, classes); without them the labels alone count.
        weight: Weight of the teacher, 0 to 1.
        label_smoothing: Share of the hard target spread over all classes.
        temperature: See `soft_cross_entropy`.
    """
    if teacher_logits is None or weight == 0:
        return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    soft = soft_cross_entropy(logits, teacher_logits, temperature)
    if weight == 1:
        return soft
    return (1 - weight) * F.cross_entropy(logits, labels, label_smoothing=label_smoothing) + weight * soft
