#!/usr/bin/env bash
# Every operation and layout over the batch norms of ResNet-50, MobileNetV2, DenseNet-121, EfficientNet-B0 and U-Net, and
# the 1d shapes: checked, then timed beside oneDNN and beside a copy of what must move; and the schedules that Halide's
# autoschedulers find for the same algorithms. Ends with a page of figures.
#
#   scripts/bench.sh --quick    ResNet-50, MobileNetV2 and U-Net at batch 32, f32: about 9 minutes once all is built
#   scripts/bench.sh            all networks at batch 1, 8 and 32, and in bf16 and f16: many hours
#   --networks a,b  --batches 1,8  --dtypes f32,bf16  --layouts NCHW  --ops backward    parts of it
#   --spec FILE                 the kernels of a spec instead (bench/hard_shapes.toml: extents that are hard)
#   --seconds S                 for the rounds of one kernel
#   --threads N                 of every contender
#   --records FILE              with the schedules that `fusebn tune` found
#   --tune TIME                 after looking for them for so long (10m), into build/bench/records.jsonl
#   --onednn3                   beside oneDNN 3 from PyPI too, which goes into build/onednn3 (2 GB)
#   -o FOLDER                   where the page goes (default: build/bench/report)
#
# Results: build/bench/rows.jsonl, rows.md, and FOLDER/index.html with its PNGs. PyTorch and JAX: scripts/peers.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1mbench:\033[0m %s\n' "$*"; }
usage() { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' scripts/bench.sh; }

networks=resnet50,mobilenet-v2,densenet121,efficientnet-b0,unet
batches=1,8,32 dtypes=f32,bf16,f16 layouts=NCHW,NHWC ops=inference,train_forward,backward
seconds=1 threads= records= tune= spec= onednn3= output=build/bench/report
while (($#)); do
  case $1 in
    --onednn3) onednn3=$PWD/build/onednn3; shift; continue ;;
    --quick) networks=resnet50,mobilenet-v2,unet batches=32 dtypes=f32 seconds=0.5; shift; continue ;;
    -h | --help) usage; exit 0 ;;
    --networks | --batches | --dtypes | --layouts | --ops | --spec | --seconds | --threads | --records | --tune)
      [[ $# -ge 2 ]] || { say "$1 needs a value"; exit 2; }
      printf -v "${1#--}" %s "$2" ;;
    -o) output=${2:?-o needs a folder} ;;
    *) say "$1 is not known"; usage; exit 2 ;;
  esac
  shift 2
done

if [[ $threads ]]; then export FUSEBN_NUM_THREADS=$threads; fi  # records are of a number of threads

scripts/setup.sh
cmake=build/venv/bin/cmake python=build/venv/bin/python3 fusebn=build/release/compiler/fusebn
if [[ $onednn3 && ! -e $onednn3/include/dnnl.hpp ]]; then
  say "PyPI into build/onednn3: onednn-devel"
  [[ -x $onednn3/bin/pip ]] || python3 -m venv "$onednn3"
  "$onednn3/bin/pip" install -q --disable-pip-version-check onednn-devel
fi
"$cmake" --preset release -D FUSEBN_ONEDNN3="$onednn3" > build/configure.log || { cat build/configure.log; exit 1; }
"$cmake" --build --preset release --target fusebn_tool fusebn_bench fusebn_autoschedulers ${onednn3:+fusebn_onednn3}

mkdir -p build/bench
if [[ $spec ]]; then
  cp "$spec" build/bench/networks.toml
else
  "$python" bench/networks/networks.py --spec networks --networks "$networks" --batches "$batches" --dtypes "$dtypes" \
    --layouts "$layouts" --ops "$ops" > build/bench/networks.toml
fi
if [[ $tune ]]; then
  records=build/bench/records.jsonl
  "$fusebn" tune build/bench/networks.toml --records "$records" --budget "$tune" --report build/bench/search.html
fi
say "building $(grep -c '^\[\[kernel' build/bench/networks.toml) shapes for this machine"
"$fusebn" build build/bench/networks.toml --name networks -o build/bench/library ${records:+--records "$records"}
c++ -shared -o build/bench/library/libnetworks.so \
  -Wl,--whole-archive build/bench/library/libnetworks.a -Wl,--no-whole-archive

say "checking and timing"
on_cpus=()
if [[ $onednn3 ]]; then
  export LD_LIBRARY_PATH=$onednn3/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}  # of what its libraries load by name
  # It takes its number of threads from the CPUs that it may use.
  if [[ $threads ]]; then on_cpus=(taskset -c "0-$((threads - 1))"); fi
fi
"${on_cpus[@]}" build/release/bench/fusebn_bench --library build/bench/library/libnetworks.so --seconds "$seconds" \
  ${threads:+--threads "$threads"} ${onednn3:+--onednn build/release/bench/libfusebn_onednn3.so} \
  --json build/bench/rows.jsonl --markdown build/bench/rows.md
say "Halide's autoschedulers on the same algorithms"
build/release/bench/fusebn_autoschedulers bench/autoschedulers.toml --json build/bench/autoschedulers.jsonl
"$python" bench/report.py build/bench/rows.jsonl --autoschedulers build/bench/autoschedulers.jsonl -o "$output"
