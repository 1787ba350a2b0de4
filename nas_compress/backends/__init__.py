"""What runs an extracted sub-network: to time it, and to evaluate an artefact."""

from __future__ import annotations

from nas_compress.backends.base import Backend, Precision, Session
from nas_compress.registry import Entry, Registry

backends: Registry[type[Backend]] = Registry(
    "backend",
    {
        "onnxruntime": Entry(
            "nas_compress.backends.onnxruntime:OnnxRuntimeBackend", "ONNX Runtime on the CPU, all graph optimisations"
        ),
        "torch": Entry(
            "nas_compress.backends.torch:TorchBackend", "PyTorch on the CPU, eager, channels last; fp32 or bf16"
        ),
        "torch_compile": Entry(
            "nas_compress.backends.torch:TorchCompileBackend",
            "PyTorch on the CPU, compiled by Inductor: 10 to 110 s to build a network",
        ),
        "ipex": Entry(
            "nas_compress.backends.ipex:IpexBackend",
            "Intel Extension for PyTorch on the CPU, traced and frozen; fp32 or bf16",
        ),
        "openvino": Entry("nas_compress.backends.openvino:OpenVinoBackend", "OpenVINO on the CPU; fp32 or bf16"),
    },
    {"ort": "onnxruntime", "pytorch": "torch"},
)
"""Backends by name. Importing one imports no framework: `Backend.check` is cheap."""

__all__ = ["Backend", "Precision", "Session", "backends"]
