#!/usr/bin/env bash
# Sets up, builds, and runs all tests. Arguments go to ctest: scripts/test.sh -R Forward
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
cmake=build/venv/bin/cmake
"$cmake" --preset release > build/configure.log || { cat build/configure.log; exit 1; }
"$cmake" --build --preset release
exec build/venv/bin/ctest --preset release "$@"
