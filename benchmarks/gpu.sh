#!/usr/bin/env bash
# What only a machine with a GPU can show: the gpu tests, the same under compute-sanitizer where it
# is installed, and the benchmarks. Results go to benchmarks/results.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN="${BIN:-.venv/bin}"

if ! "$BIN/python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "make gpu needs a CUDA device that torch can see" >&2
    exit 1
fi
"$BIN/python" -m pytest -m gpu tests

if command -v compute-sanitizer >/dev/null; then
    # Small shapes: the sanitizer slows kernels a hundredfold.
    for tool in memcheck racecheck; do
        compute-sanitizer --tool "$tool" --error-exitcode 1 \
            "$BIN/python" -m pytest -m gpu tests/test_kernels_gpu.py -k "1000x70 or two_streams or second_stream"
        compute-sanitizer --tool "$tool" --error-exitcode 1 \
            "$BIN/python" -m pytest -m gpu tests/test_gpu_device.py -k "families and (shape0 or shape1)"
    done
else
    echo "compute-sanitizer is not installed: memcheck and racecheck were not run"
fi

"$BIN/python" -m benchmarks correlation --device cuda
"$BIN/python" -m benchmarks assignment --device cuda
"$BIN/python" -m benchmarks align --device cuda
