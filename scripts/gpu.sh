#!/usr/bin/env bash
# The GPU benchmark: every kernel of ResNet-50's shapes at N = 256, bit for bit beside the CPU's, under compute-sanitizer
# where there is one, and timed beside a device copy and PyTorch.
#
#   scripts/gpu.sh --build    where the compilers are: builds build/gpu (about 43 MB), which needs nothing else
#   scripts/gpu.sh            where the GPU is: runs what build/gpu holds. Results: build/gpu/results, or $OUT
set -euo pipefail
cd "$(dirname "$0")/.."
folder=build/gpu

if [[ ${1:-} == --build ]]; then
  scripts/setup.sh
  build/venv/bin/cmake --preset release > build/configure.log || { cat build/configure.log; exit 1; }
  build/venv/bin/cmake --build --preset release --target fusebn_gpu_bench
  mkdir -p "$folder"
  cp bench/gpu/*.py "$folder"
  strip -o "$folder/fusebn_gpu_bench" build/release/bench/gpu/fusebn_gpu_bench
  exit
fi

[[ -x $folder/fusebn_gpu_bench ]] || { echo "gpu.sh: $folder is not there; build it with scripts/gpu.sh --build" >&2; exit 1; }
results=${OUT:-$folder/results}
mkdir -p "$results"
status=0
"$folder/fusebn_gpu_bench" > "$results/fusebn.jsonl" || status=$?
if command -v compute-sanitizer > /dev/null; then
  # The smallest of each view; their last groups of chunks are ragged.
  for rows in c512_s49 r12544_c512; do
    compute-sanitizer --error-exitcode 9 "$folder/fusebn_gpu_bench" "$rows" > "$results/memcheck-$rows.txt" 2>&1 || status=$?
    tail -n 1 "$results/memcheck-$rows.txt"
  done
fi
if python3 -c 'import torch; assert torch.cuda.is_available()' 2> /dev/null; then
  python3 "$folder/peer_torch.py" > "$results/torch.jsonl"
  python3 "$folder/report.py" "$results/fusebn.jsonl" "$results/torch.jsonl" > "$results/table.md"
  tail -n 17 "$results/table.md"
fi
exit "$status"
