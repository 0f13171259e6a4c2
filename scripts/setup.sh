#!/usr/bin/env bash
# Installs what fusebn needs on Debian 12. Does nothing, fast, the second time.
#
# apt packages need root (or sudo); everything from PyPI goes into a virtual environment, build/venv.
set -euo pipefail
cd "$(dirname "$0")/.."
build=build

# What each apt package is for:
#   g++ (cmake and ninja come from PyPI)                         binutils: nm, objdump in the tests of emitted objects
#   llvm-22-dev, libzstd-dev, zlib1g-dev: the LLVM stage         libtomlplusplus-dev, libcli11-dev, nlohmann-json3-dev: parsers
#   libgtest-dev, libbenchmark-dev: tests, benchmarks            libdnnl-dev: oneDNN, the peer in the benchmarks
#   libeigen3-dev: the dense algebra of examples/digits                libtbb-dev: the pool of examples/threads
#   pocl-opencl-icd, ocl-icd-libopencl1: an OpenCL device of the CPU, on which the GPU's schedules are tested
#   python3-venv, python3-pip: the virtual environment
apt_packages=(g++ binutils llvm-22-dev libzstd-dev zlib1g-dev libtomlplusplus-dev libcli11-dev nlohmann-json3-dev
              libgtest-dev libbenchmark-dev libdnnl-dev libeigen3-dev libtbb-dev pocl-opencl-icd ocl-icd-libopencl1 python3 python3-venv python3-pip)
pypi_packages=(halide==21.0.0 "cmake>=3.28,<5" "ninja>=1.11" "onnx>=1.17" numpy matplotlib)

say() { printf '\033[1msetup:\033[0m %s\n' "$*"; }

missing=()
for p in "${apt_packages[@]}"; do
  [[ $(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null) == installed ]] || missing+=("$p")
done
if ((${#missing[@]})); then
  say "apt: ${missing[*]}"
  sudo=(); [[ $(id -u) == 0 ]] || sudo=(sudo)
  export DEBIAN_FRONTEND=noninteractive
  "${sudo[@]}" apt-get update -q
  "${sudo[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}"
fi

stamp="$build/venv/.fusebn-${pypi_packages[*]//[^a-z0-9.]/_}"
stamp=${stamp// /-}
if [[ ! -e $stamp ]]; then
  say "PyPI into $build/venv: ${pypi_packages[*]}"
  mkdir -p "$build"
  python3 -m venv "$build/venv"
  "$build/venv/bin/pip" install -q --disable-pip-version-check "${pypi_packages[@]}"
  # A path without the Python version in it, for CMakePresets.json.
  ln -sfn "$(cd "$build/venv" && echo lib/python3*/site-packages/halide)" "$build/venv/halide"
  touch "$stamp"
fi
