"""What machine a number was measured on, and which of its cores to measure on."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

from nas_compress.errors import ConfigError

ISA_FLAGS = (
    "avx2", "fma", "avx_vnni", "avx_vnni_int8", "avx_ne_convert", "avx512f", "avx512_vnni", "avx512_bf16",
    "avx512_fp16", "amx_bf16", "amx_fp16", "amx_int8", "asimddp", "asimdhp", "bf16", "i8mm", "sve", "sve2", "sme",
)  # fmt: skip
"""Instruction sets that change how fast a network runs, as Linux spells them."""

_CPUINFO = Path("/proc/cpuinfo")
_CPUS = Path("/sys/devices/system/cpu")


def describe_hardware() -> dict[str, Any]:
    """Return processor, model, instruction sets, cores and operating system, as plain JSON data.

    Nothing in it changes from one run to the next, so that measurements of one machine compare: no clock frequency, no
    load, and all cores, whichever of them this process may use. `cores` are logical ones. What is known on Linux alone
    (instruction sets, the model's numbers, physical cores) is empty or None elsewhere.
    """
    facts = _cpuinfo()
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    numbers = (facts.get(key) for key in ("vendor_id", "cpu family", "model", "stepping"))
    return {
        "cpu": facts.get("model name") or platform.processor() or platform.machine(),
        "model": " ".join(filter(None, numbers)),
        "isa": [flag for flag in ISA_FLAGS if flag in flags],
        "cores": os.cpu_count() or 1,
        "physical_cores": _physical_cores(),
        "os": f"{platform.system()} {platform.machine()}",
    }


def has_int8_dot_product() -> bool:
    """Whether the processor multiplies 8-bit integers without saturating in 16 bits (VNNI, AMX, ARM dot product)."""
    return not {"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"}.isdisjoint(describe_hardware()["isa"])


def has_bf16_dot_product() -> bool:
    """Whether the processor multiplies bf16 numbers as such (AVX512-BF16, AMX, ARM's BF16), and does not emulate it."""
    return not {"avx512_bf16", "avx_ne_convert", "amx_bf16", "bf16"}.isdisjoint(describe_hardware()["isa"])


def pick_cores(threads: int) -> list[int]:
    """Return the logical cores to run so many threads on: of different physical cores, the last ones that may be used.

    The first cores are those that interrupts go to. The same machine gives the same cores.

    Raises:
        ConfigError: The operating system does not let a process choose its cores, or it may use fewer than `threads`.
    """
    if not hasattr(os, "sched_getaffinity"):
        raise ConfigError(f"latency: threads cannot be pinned to cores on {platform.system()}; leave isolated out")
    usable = sorted(os.sched_getaffinity(0), reverse=True)
    if threads > len(usable):
        raise ConfigError(f"latency: threads = {threads} is more than the {len(usable)} cores this process may use")
    taken: dict[str, int] = {}
    for core in usable:
        taken.setdefault(_physical_core(core), core)
    first_threads = list(taken.values())
    others = [core for core in usable if core not in first_threads]
    return sorted([*first_threads, *others][:threads])


def _physical_cores() -> int | None:
    """Return the number of physical cores; None where the system does not tell."""
    if not (_CPUS / "cpu0" / "topology").is_dir():
        return None
    return len({_physical_core(core) for core in range(os.cpu_count() or 1)})


def _physical_core(core: int) -> str:
    """Return a name for the physical core that a logical one is a thread of; its own where that is not known."""
    folder = _CPUS / f"cpu{core}" / "topology"
    try:
        return " ".join((folder / name).read_text().strip() for name in ("physical_package_id", "core_id"))
    except OSError:
        return f"logical {core}"


@cache
def _cpuinfo() -> dict[str, str]:
    """Return the fields of the first processor in /proc/cpuinfo; empty where there is none."""
    try:
        first = _CPUINFO.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
