#!/bin/sh
# The environment of bench/torch_side.py, in bench/venv (or the directory given). Versions are pinned, so
# that a measurement can be made again. Set PIP_INDEX_URL where torch is to come as its CPU build alone.
set -eu
dir=${1:-$(dirname "$0")/venv}
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet torch==2.13.0
env -u PIP_INDEX_URL "$dir/bin/pip" install --quiet transformers==5.24.0 safetensors==0.8.0 pillow==13.0.0 numpy==2.4.6
