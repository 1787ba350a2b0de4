"""What machine a number was measured on."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

ISA_FLAGS = (
    "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8", "asimddp",
    "i8mm", "sve",
)  # fmt: skip
"""Instruction sets that change how fast a network runs, as Linux spells them."""

_CPUINFO = Path("/proc/cpuinfo")


def describe_hardware() -> dict[str, Any]:
    """Return processor, instruction sets, logical cores and operating system, as plain JSON data.

    Nothing in it changes from one run to the next, so that measurements of one machine compare. Instruction sets
    are known on Linux alone; elsewhere the list is empty.
    """
    facts = _cpuinfo()
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    return {
        "cpu": facts.get("model name") or platform.processor() or platform.machine(),
        "isa": [flag for flag in ISA_FLAGS if flag in flags],
        "cores": os.cpu_count() or 1,
        "os": f"{platform.system()} {platform.machine()}",
    }


def has_int8_dot_product() -> bool:
    """Whether the processor multiplies 8-bit integers without saturating in 16 bits (VNNI, AMX, ARM dot product)."""
    return not {"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"}.isdisjoint(describe_hardware()["isa"])


@cache
def _cpuinfo() -> dict[str, str]:
    """Return the fields of the first processor in /proc/cpuinfo; empty where there is none."""
    try:
        first = _CPUINFO.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
