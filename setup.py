"""Packaging; tool settings live in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

setup(
    name="nas-compress",
    version="0.1.0",
    description="Hardware-aware neural architecture search for model compression on CPUs",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[*find_packages(include=["nas_compress", "nas_compress.*"]), "nas_compress.yaml_templates"],
    package_dir={"nas_compress.yaml_templates": "yaml_templates"},
    package_data={
        "nas_compress": ["py.typed", "trained/*.json", "trained/*.safetensors"],
        "nas_compress.yaml_templates": ["*.yaml"],
    },
    install_requires=[
        # The upper bound keeps pip on the newest release this was tested with; 2.8 is what IPEX needs.
        "torch>=2.8,<2.14",
        "numpy>=1.26",
        "scipy>=1.11",
        "pandas>=2.1",
        "scikit-learn>=1.4",
        "pymoo>=0.6.1.5,<0.7",
        "moocore>=0.1.8",
        "cma>=4",
        "deap>=1.4.4",
        "pydantic>=2.7,<3",
        "pyyaml>=6",
        "fvcore>=0.1.5.post20221221",
        "onnx>=1.16",
        "onnxruntime>=1.18",
        "onnxscript>=0.3",
        "safetensors>=0.4.3",
        "rich>=13",
        "typer>=0.16",
        "matplotlib>=3.8",
        "pillow>=10",
        "neural-compressor-pt>=3.10",
        "torch-pruning>=1.6",
    ],
    extras_require={
        "ipex": ["torch==2.8.*", "intel-extension-for-pytorch==2.8.*"],
        "openvino": ["openvino>=2024.6"],
        "hf": ["transformers>=4.40", "tokenizers>=0.15"],
        "translation": ["sacrebleu>=2.3", "tokenizers>=0.15"],
        "speech": ["jiwer>=3", "soundfile>=0.12"],
        "dev": [
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.5",
            "hypothesis>=6.100",
            "jsonschema>=4.18",
            "ruff>=0.6",
            "mypy>=1.11",
            "types-PyYAML",
            "pandas-stubs",
            "tokenizers>=0.15",
            "sacrebleu>=2.3",
            "jiwer>=3",
            "soundfile>=0.12",
            "transformers>=4.40,<5",
        ],
    },
    entry_points={"console_scripts": ["nas-compress=nas_compress.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
