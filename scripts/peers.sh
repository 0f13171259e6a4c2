#!/usr/bin/env bash
# fusebn beside PyTorch (eager, compiled) and JAX, and in inference beside ONNX Runtime and OpenVINO, over the batch
# norms of whole networks with the activation and the residual that follow each: checked, then timed in one process and
# in turns. Ends with the sums over each network.
#
#   scripts/peers.sh --python PATH   with an interpreter that has numpy, and torch, jax, onnxruntime and onnx, openvino
#   scripts/peers.sh --install       puts them into build/peers (several GB) and uses that, as does a call without PATH
#   scripts/peers.sh ... --quick     whether everything works, without times that mean anything
#   --networks a,b  --batches 1,8  --layouts NCHW  --ops train_forward,backward,inference
#                                    of bench/networks/networks.py --list; default: ResNet-50 at batch 32, all of it
#   --records FILE                   with the schedules that `fusebn tune` found
#
# Further arguments go to bench/peers.py (--threads, --rounds, --rows, --without: `scripts/peers.sh --options`).
# ResNet-50 takes some seven minutes with --rounds 9 on two CPUs; the first run compiles a good deal more.
# Results: build/results/peers.jsonl and peers.md; `bench/report.py --peers build/results/peers.jsonl` makes a page of
# them, bench/peer_report.py one table of several runs. The exit status is 1 where a result differs.
#
# torch.compile needs a C++ compiler, and keeps what it compiled in build/peers-compiled, which makes a second run
# shorter. By hand: python3 -m venv DIR && DIR/bin/pip install numpy torch jax onnx onnxruntime openvino
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1mpeers:\033[0m %s\n' "$*"; }
usage() { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' scripts/peers.sh; }

python=build/peers/bin/python
install=no
networks=resnet50 batches=32 layouts=NCHW,NHWC ops=train_forward,backward,inference records= threads=2
arguments=()
while (($#)); do
  case $1 in
    --python) python=${2:?--python needs the path of an interpreter}; shift 2 ;;
    --install) install=yes; shift ;;
    --networks | --batches | --layouts | --ops | --records)
      [[ $# -ge 2 ]] || { say "$1 needs a value"; exit 2; }
      printf -v "${1#--}" %s "$2"; shift 2 ;;
    --threads) threads=${2:?--threads needs a number}; arguments+=("$1" "$2"); shift 2 ;;
    --options) exec python3 bench/peers.py --help ;;
    -h | --help) usage; exit 0 ;;
    *) arguments+=("$1"); shift ;;
  esac
done
if [[ $install == yes ]]; then
  say "PyPI into build/peers: numpy torch jax onnx onnxruntime openvino"
  [[ -x build/peers/bin/pip ]] || python3 -m venv build/peers
  build/peers/bin/pip install -q --disable-pip-version-check numpy torch jax onnx onnxruntime openvino
  python=build/peers/bin/python
fi
if ! "$python" -c 'import numpy' 2>/dev/null; then
  say "$python is no Python with numpy"
  usage
  exit 2
fi

scripts/setup.sh
cmake=build/venv/bin/cmake folder=build/bench/peers
rows=(--networks "$networks" --batches "$batches" --layouts "$layouts" --ops "$ops")
mkdir -p $folder
build/venv/bin/python3 bench/networks/networks.py --spec networks "${rows[@]}" > $folder/networks.toml
"$cmake" --preset release > build/configure.log || { cat build/configure.log; exit 1; }
"$cmake" --build --preset release --target fusebn_tool fusebn_peer
say "building $(grep -c '^\[\[kernel' $folder/networks.toml) shapes for this machine"
# Records are of so many threads.
FUSEBN_NUM_THREADS=$threads build/release/compiler/fusebn build $folder/networks.toml -o $folder ${records:+--records "$records"}
c++ -shared -o $folder/libnetworks.so -Wl,--whole-archive $folder/libnetworks.a -Wl,--no-whole-archive

# What PyTorch and JAX return is memory of malloc's. Fresh pages for every call would cost more than the kernels do, so
# freed memory is kept and handed out again (peers.jsonl counts the pages that are fresh all the same), by one arena for
# all threads, in huge pages for all alike. Threads that wait for work may spin: turns start when they no longer do.
export MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1099511627776
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1
export JAX_PLATFORMS=cpu CUDA_VISIBLE_DEVICES= TORCHINDUCTOR_CACHE_DIR=$PWD/build/peers-compiled
say "checking and timing"
exec "$python" bench/peers.py --library build/release/bench/libfusebn_peer.so --kernels $folder/libnetworks.so \
  "${rows[@]}" "${arguments[@]}"
