"""Whether a network fits the data: tried out on two examples, before any long work."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas_compress.data.base import ImageData, batches, check_fit
from nas_compress.data.fit import Data, check_subnet
from nas_compress.errors import ConfigError, DataError, NASError, first_line
from nas_compress.training.config import TrainOptions
from nas_compress.training.domains import examples_of
from nas_compress.training.examples import Teacher
from nas_compress.training.loop import device_of
from nas_compress.weights import hash_tensors


def teacher_fingerprint(teacher: Teacher, data: Data, resolution: int | None) -> str:
    """Return a hash of a teacher's weights; of some logits where it shows no weights.

    Raises:
        DataError: Channels or classes of the data and those of the teacher differ.
    """
    logits = try_out("teacher", teacher, data, resolution)
    return hash_tensors(teacher.state_dict() if isinstance(teacher, nn.Module) else {"logits": logits})


def two_images(data: ImageData, resolution: int | None) -> Tensor:
    """Return two training images at a resolution.

    Raises:
        ConfigError: There is no resolution.
    """
    if not resolution or resolution < 0:
        raise ConfigError(f"resolution is {resolution or 'missing'}; the images of data {data.name!r} want one above 0")
    images, _ = next(batches(data.train, 2, resolution))
    return images


def try_out(role: str, network: Teacher, data: Data, resolution: int | None = None) -> Tensor:
    """Check with two examples that a network fits the data, and return its logits; it is left in evaluation mode.

    Args:
        role: What it is, for messages.
        network: The network.
        data: Some of its examples are used; the lengths of all, where those tell.
        resolution: Height and width of images; None in other domains.

    Raises:
        ConfigError: Images have no resolution, or a teacher of another domain is no module.
        DataError: The network does not take the examples, or tells other things apart than they want.
    """
    if isinstance(network, nn.Module):
        network.eval()
    if isinstance(data, ImageData):
        return _try_images(role, network, data, resolution)
    if not isinstance(network, nn.Module):
        raise ConfigError(f"the {role} of data {data.name!r} must be a module, got {type(network).__name__}")
    check_subnet(data, network)
    device = device_of(network)
    examples = examples_of(data, TrainOptions(), device)
    batch = examples.validation(torch.arange(min(2, examples.validation_size)), device)
    try:
        with torch.no_grad():
            logits = batch.answers(network, None).logits
    except NASError:
        raise
    except Exception as error:  # a network may raise anything
        raise DataError(f"the {role} does not take the examples of {data.name!r}: {first_line(error)}") from error
    if len(logits) != len(batch.labels) or logits.shape[1] <= int(batch.labels.max()):
        shape, rows = tuple(logits.shape), len(batch.labels)
        raise DataError(f"the {role} gives outputs of shape {shape}; data {data.name!r} wants {rows} rows of classes")
    return logits


def _try_images(role: str, network: Teacher, data: ImageData, resolution: int | None) -> Tensor:
    images = two_images(data, resolution)
    try:
        with torch.no_grad():
            logits = network(images.to(device_of(network)) if isinstance(network, nn.Module) else images)
    except Exception as error:  # a network may raise anything
        shape = tuple(images.shape)
        raise DataError(
            f"the {role} does not take the images of {data.name!r}, of shape {shape}: {first_line(error)}"
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        found = f"outputs of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise DataError(f"the {role} gives {found}; want logits, a tensor of shape (images, classes)")
    check_fit(data, data.channels, logits.shape[1])
    return logits
