#!/usr/bin/env bash
# ResNet-50's batch norms, from the model to the table: imports it, builds its library, checks every kernel of the
# benchmark (bench/CMakeLists.txt) against the double-precision oracle, and times each beside a copy of the same bytes,
# beside oneDNN, and 16-bit ones beside f32.
#
#   scripts/run.sh              about 7 minutes once all is built
#   scripts/run.sh --quick      whether everything works, without times that mean anything
#
# Further arguments go to the benchmark (build/release/bench/fusebn_bench --help).
# Results: build/results/resnet50.jsonl and resnet50.md. The exit status is 1 where a kernel's result is wrong.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1mrun:\033[0m %s\n' "$*"; }

scripts/setup.sh
cmake=build/venv/bin/cmake
fusebn=build/release/compiler/fusebn

say "building fusebn, the kernels and the benchmark"
"$cmake" --preset release
"$cmake" --build --preset release --target fusebn_tool fusebn_bench

# The benchmark's own libraries are built above, beside everything else; this is the same once more, alone and from
# nothing, for its time.
say "ResNet-50 at batch 32: import and build, inference, train_forward and backward, three instruction sets"
rm -rf build/resnet50
mkdir -p build/resnet50
"$fusebn" import examples/models/resnet50.onnx --batch 32 --ops inference,train_forward,backward \
  -o build/resnet50/resnet50.toml
start=$(date +%s%N)
"$fusebn" build build/resnet50/resnet50.toml -o build/resnet50/library
build_ms=$((($(date +%s%N) - start) / 1000000))
build_seconds=$(printf '%d.%03d' $((build_ms / 1000)) $((build_ms % 1000)))

say "checking and timing every kernel"
build/release/bench/fusebn_bench --build-seconds "$build_seconds" \
  --json build/results/resnet50.jsonl --markdown build/results/resnet50.md "$@"
say "the rows are in build/results/resnet50.jsonl, the table in build/results/resnet50.md"

say "a network that learns: the perceptron of examples/digits, on the installed package"
"$cmake" --install build/release --prefix build/prefix > build/install.log
"$cmake" -S examples/digits -B build/digits -G Ninja -DCMAKE_MAKE_PROGRAM="$PWD/build/venv/bin/ninja" \
  -DCMAKE_PREFIX_PATH="$PWD/build/prefix" -DCMAKE_BUILD_TYPE=Release > build/digits.log
"$cmake" --build build/digits
build/digits/digits_mlp
