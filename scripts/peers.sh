#!/usr/bin/env bash
# fusebn beside PyTorch and JAX, in one process and in turns: training with ReLU, with an addition and ReLU, backward
# and inference, in NCHW and NHWC.
#
#   scripts/peers.sh --python PATH   with an interpreter that has numpy, and torch or jax or both
#   scripts/peers.sh --install       puts them into build/peers (several GB) and uses that, as does a call without PATH
#   scripts/peers.sh ... --quick     whether everything works, without times that mean anything
#
# Further arguments go to bench/peers.py (--threads, --rounds, --rows, --without: `scripts/peers.sh --options`).
# Results: build/results/peers.jsonl and peers.md. The exit status is 1 where a result differs.
#
# torch.compile needs a C++ compiler. By hand: python3 -m venv DIR && DIR/bin/pip install numpy torch jax
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1mpeers:\033[0m %s\n' "$*"; }
usage() { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' scripts/peers.sh; }

python=build/peers/bin/python
install=no
arguments=()
while (($#)); do
  case $1 in
    --python) python=${2:?--python needs the path of an interpreter}; shift 2 ;;
    --install) install=yes; shift ;;
    --options) exec python3 bench/peers.py --help ;;
    -h | --help) usage; exit 0 ;;
    *) arguments+=("$1"); shift ;;
  esac
done
if [[ $install == yes ]]; then
  say "PyPI into build/peers: numpy torch jax"
  [[ -x build/peers/bin/pip ]] || python3 -m venv build/peers
  build/peers/bin/pip install -q --disable-pip-version-check numpy torch jax
  python=build/peers/bin/python
fi
if ! "$python" -c 'import numpy' 2>/dev/null; then
  say "$python is no Python with numpy"
  usage
  exit 2
fi

scripts/setup.sh
cmake=build/venv/bin/cmake
"$cmake" --preset release > build/configure.log || { cat build/configure.log; exit 1; }
"$cmake" --build --preset release --target fusebn_peer

# What PyTorch and JAX return is memory of malloc's. Fresh pages for every call would cost more than the kernels do, so
# freed memory is kept and handed out again (peers.jsonl counts the pages that are fresh all the same), by one arena for
# all threads, in huge pages for all alike. Threads that wait for work may spin: turns start when they no longer do.
export MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1099511627776
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1
export JAX_PLATFORMS=cpu CUDA_VISIBLE_DEVICES=
say "checking and timing"
exec "$python" bench/peers.py --library build/release/bench/libfusebn_peer.so "${arguments[@]}"
