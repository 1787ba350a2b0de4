"""Quantization with INC through Intel Extension for PyTorch (IPEX): SmoothQuant, and static where IPEX is loaded."""

from __future__ import annotations

import copy
import io
import re
import sys
import types
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from nas_compress.backends.ipex import IpexBackend
from nas_compress.compression.inc_module import Int8Module, check_finite, paired, quiet
from nas_compress.errors import CheckpointError, ConfigError, EvaluationError, first_line
from nas_compress.files import replacing

Inputs = tuple[Tensor, ...]
IPEX_MODULE = "intel_extension_for_pytorch"
ALPHAS = {"alpha 0.5": 0.5, "alpha 0.25": 0.25, "alpha 0.75": 0.75}
"""How much of the activations' spread moves into the weights (Xiao et al. 2023, "SmoothQuant", section 4)."""
LAYERS = (nn.Conv2d, nn.Linear)
_TOUCHES_FILES = re.compile(rb"\b(save|load|from_file|__setstate__)\s*\(")
"""Code of TorchScript that reads or writes files, or runs while it is read."""


def ipex_is_loaded() -> bool:
    """Whether IPEX is imported in this process: INC then exports no graphs, and quantizes through IPEX alone."""
    return IPEX_MODULE in sys.modules


class TracedModule(Int8Module):
    """A TorchScript module of IPEX, traced and frozen; it takes any batch size.

    Args:
        graph: As INC returns it.
        example: An input, or the tuple of the inputs, with the batch first.
        kept_fp32: See `Int8Module`.
    """

    def _compile(self, graph: nn.Module) -> Any:
        with torch.no_grad():
            for _ in range(2):  # the profiling executor compiles in the first two runs
                graph(*self._example)
        return graph

    def save(self, path: Path) -> None:
        """Write a TorchScript archive, which takes IPEX to be read.

        Raises:
            OutputError: The file cannot be written.
        """
        buffer = io.BytesIO()
        torch.jit.save(self._graphs[0], buffer)
        with replacing(path) as temporary:
            temporary.write_bytes(buffer.getvalue())


class IpexQuantizer:
    """Quantizes one module through IPEX; the interface of `inc_graph.Quantizer`.

    SmoothQuant's scales are folded into the layers before (Xiao et al. 2023); INC's other way, a multiplication of its
    own, does not run with IPEX 2.8. Importing IPEX changes torch's kernels for the whole process. Layers that are kept
    are not int8, but with IPEX 2.8 on processors with bf16 their outputs differ from fp32 by as much as bf16 rounds.

    Args:
        module: Plain torch layers; left as it was.
        example: The inputs, with the batch first.
        calibration: Batches of inputs.
        approach: `"smoothquant"` or `"static"`.

    Attributes:
        algorithms: As in `inc_graph.Quantizer`; for `smoothquant` its exponents alpha, such as `"alpha 0.5"`.
        layers: As there; none for `smoothquant`.
        unsafe: As there; none.

    Raises:
        MissingExtraError: IPEX is not installed, or of another minor version than torch.
        EvaluationError: The module gives outputs that are not finite before it is quantized.
    """

    unsafe: Sequence[str] = ()

    def __init__(self, module: nn.Module, example: Inputs, calibration: Sequence[Inputs], approach: str) -> None:
        IpexBackend.check()
        self.approach = approach
        smooth = approach == "smoothquant"
        self.algorithms = tuple(ALPHAS) if smooth else ("minmax",)
        self.layers = [] if smooth else [name for name, each in module.named_modules() if isinstance(each, LAYERS)]
        self._module = copy.deepcopy(module).eval()
        self._example, self._calibration = paired(example), calibration
        with torch.no_grad():
            check_finite(self._module(*example), "the network, before it is quantized,")

    def graph(self, keep_fp32: Sequence[str] = (), algorithm: str = "") -> nn.Module:
        """Return a frozen TorchScript module; see `inc_graph.Quantizer.graph`.

        Raises:
            ConfigError: `smoothquant` is to keep layers in fp32: INC names them by IPEX's numbers there.
            EvaluationError: INC cannot take the module.
        """
        if keep_fp32 and self.approach == "smoothquant":
            raise ConfigError(f"keep_fp32 = {list(keep_fp32)} does not go with smoothquant; allowed: none")
        with quiet(), _peft(), _workspace(), torch.random.fork_rng(devices=[]):
            import intel_extension_for_pytorch  # noqa: F401 - from here on, INC goes through IPEX
            from neural_compressor.torch.quantization import quantize

            try:
                graph: nn.Module = quantize(
                    copy.deepcopy(self._module),
                    self.config(keep_fp32, algorithm),
                    run_fn=self.calibrate,
                    example_inputs=self._example,
                )
            except (RuntimeError, AttributeError, TypeError, AssertionError) as error:
                raise EvaluationError(f"INC cannot quantize this network with IPEX: {first_line(error)}") from error
        return graph

    def config(self, keep_fp32: Sequence[str] = (), algorithm: str = "") -> Any:
        """Return INC's configuration of the approach."""
        from neural_compressor.torch.quantization import SmoothQuantConfig, StaticQuantConfig

        options: dict[str, Any] = {"act_algo": "minmax", "excluded_precisions": ["bf16"]}
        if self.approach == "smoothquant":
            alpha = ALPHAS[algorithm or self.algorithms[0]]
            return SmoothQuantConfig(alpha=alpha, folding=True, **options)
        config: Any = StaticQuantConfig(**options)
        fp32: Any = StaticQuantConfig(w_dtype="fp32", act_dtype="fp32", excluded_precisions=["bf16"])
        every = type(config).to_config_mapping

        def mapping(*args: Any, **kwargs: Any) -> Any:
            """Match whole names; INC takes a name for a pattern of how names begin."""
            found = every(config, *args, **kwargs)
            inside = tuple(f"{name}." for name in keep_fp32)
            return found | {key: fp32 for key in found if f"{key[0]}.".startswith(inside)}

        config.to_config_mapping = mapping
        return config

    def calibrate(self, prepared: nn.Module) -> None:
        """Run the calibration batches through a module."""
        with torch.no_grad():
            for inputs in self._calibration:
                prepared(*inputs)

    def compiled(self, example: Inputs, keep_fp32: Sequence[str] = (), algorithm: str = "") -> Int8Module:
        """Return the module with these layers in fp32."""
        return TracedModule(self.graph(keep_fp32, algorithm), example, kept_fp32=keep_fp32)


def is_traced(archive: zipfile.ZipFile) -> bool:
    """Whether a file is a TorchScript archive."""
    return any(name.endswith("/constants.pkl") for name in archive.namelist())


def load_traced(path: Path, example: Tensor | Inputs) -> Int8Module:
    """Read what `TracedModule.save` wrote; TorchScript reads tensors and its own types alone, and runs no Python.

    Raises:
        MissingExtraError: IPEX is not installed, or of another minor version than torch.
        CheckpointError: The file is damaged, or holds code that touches files or runs while it is read.
    """
    with zipfile.ZipFile(path) as archive:
        code = [name for name in archive.namelist() if "/code/" in name and name.endswith(".py")]
        if found := [match[1].decode() for name in code if (match := _TOUCHES_FILES.search(archive.read(name)))]:
            raise CheckpointError(f"{path} holds code that calls {found[0]!r}, which is not run")
    IpexBackend.check()
    import intel_extension_for_pytorch  # noqa: F401 - registers the operators of the graph

    try:
        with quiet():
            graph: Any = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise CheckpointError(f"{path} is not an int8 network of `quantize`: {first_line(error)}") from error
    return TracedModule(graph, example)


@contextmanager
def _workspace() -> Iterator[None]:
    """Let INC write its files (`nc_workspace`) where they are removed again."""
    with TemporaryDirectory() as folder, chdir(folder):
        yield


@contextmanager
def _peft() -> Iterator[None]:
    """Stand in for the package `peft`: INC asks it whether a module is an adapter, which ours is never."""
    if "peft" in sys.modules:
        yield
        return
    stand_in: Any = types.ModuleType("peft")
    stand_in.PeftModel = type("PeftModel", (), {})
    sys.modules["peft"] = stand_in
    try:
        yield
    finally:
        del sys.modules["peft"]
