#!/usr/bin/env bash
# Makes an environment with IPEX 2.8 and the torch 2.8 that it wants, and runs backends.py there:
#
#     benchmarks/ipex_environment.sh FOLDER [OPTIONS OF backends.py]
#
# From PyPI it takes 6.8 GB, as torch comes with CUDA there, and two minutes and a half on a fast line. With
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu pip takes the builds for CPUs, which are far smaller.
# A folder that holds an environment already is used as it is.
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
folder="${1:?wants a folder for the environment}"
shift

if [ ! -x "$folder/bin/python" ]; then
    python3.11 -m venv "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check "$root[ipex]"
fi
PYTHONPATH="$root" "$folder/bin/python" "$root/benchmarks/backends.py" "$@"
