#!/usr/bin/env bash
# The GPU benchmark, the most important first, so that what is cut off leaves the rest: every kernel of ResNet-50's
# shapes at N = 256 bit for bit beside the CPU's and timed beside a device copy; compute-sanitizer, where there is one;
# captured graphs; every GPU at once; a program's first call; PyTorch, where there is one.
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
[[ $# -eq 0 ]] || { echo "gpu.sh: found $*; expected --build or nothing" >&2; exit 2; }
bench=$folder/fusebn_gpu_bench
[[ -x $bench ]] || { echo "gpu.sh: $bench is not there; build it with scripts/gpu.sh --build" >&2; exit 1; }
results=${OUT:-$folder/results}
mkdir -p "$results"
status=0

# Runs a command into a file of results; a failure is told and does not end the script.
into() {
  local file=$1 code=0
  shift
  "$@" > "$results/$file" || code=$?
  [[ $code -eq 0 ]] || { status=$code; echo "gpu.sh: $* failed with $code" >&2; }
}
sanitize() {  # TOOL PART: the rows whose name has PART in it
  local file=$1-$2.txt code=0
  timeout 120 compute-sanitizer --tool "$1" --error-exitcode 9 "$bench" --check "$2" > "$results/$file" 2>&1 || code=$?
  [[ $code -eq 0 ]] || { status=$code; echo "gpu.sh: compute-sanitizer --tool $1, $2: $code" >&2; }
  tail -n 1 "$results/$file"
}

into fusebn.jsonl "$bench"
if command -v compute-sanitizer > /dev/null; then
  # The smallest of each view, whose last groups of chunks are ragged; races where a block keeps slabs in shared memory.
  for rows in f32_planar_n256_c512_s49 f32_interleaved_r12544_c512; do sanitize memcheck "$rows"; done
  sanitize racecheck train_forward_f32_planar_n256_c512_s49
else
  echo "gpu.sh: no compute-sanitizer here; not run" >&2
fi
into graphs.jsonl "$bench" --graphs
into devices.jsonl "$bench" --devices
first_calls() {
  for _ in 1 2 3; do "$bench" --first-call train_forward_f32_planar_n256_c512_s49 || return; done
  CUDA_FORCE_PTX_JIT=1 CUDA_CACHE_DISABLE=1 "$bench" --first-call train_forward_f32_planar_n256_c512_s49
}
into first_call.jsonl first_calls
if python3 -c 'import torch; assert torch.cuda.is_available()' 2> /dev/null; then
  into torch.jsonl python3 "$folder/peer_torch.py"
else
  echo "gpu.sh: no PyTorch with a GPU here; not run" >&2
fi
into table.md python3 "$folder/report.py" "$results"/*.jsonl -o "$results"
tail -n 30 "$results/table.md"
exit "$status"
