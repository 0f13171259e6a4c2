#!/usr/bin/env bash
# How accurate a training step is where the mean is 1 to a million standard deviations from zero: fusebn, oneDNN and
# PyTorch against double precision.
#
#   scripts/accuracy.sh                  fusebn and oneDNN
#   scripts/accuracy.sh --python PATH    and PyTorch, of an interpreter with numpy and torch (scripts/peers.sh --help)
#
# The table: build/results/accuracy.md. The exit status is 1 where fusebn is worse than the best of the others, and 2
# where there are no others.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1maccuracy:\033[0m %s\n' "$*"; }

python=
case ${1-} in
  '') ;;
  --python) python=${2:?--python needs the path of an interpreter} ;;
  *) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' scripts/accuracy.sh; [[ $1 == -h || $1 == --help ]]; exit ;;
esac

scripts/setup.sh
cmake=build/venv/bin/cmake
"$cmake" --preset release > build/configure.log || { cat build/configure.log; exit 1; }
"$cmake" --build --preset release --target fusebn_accuracy
program=build/release/bench/fusebn_accuracy

torch=()
if [[ -n $python ]]; then
  exchange=$(mktemp -d)
  trap 'rm -rf "$exchange"' EXIT
  "$program" --export "$exchange"
  if CUDA_VISIBLE_DEVICES='' "$python" bench/accuracy_torch.py "$exchange"; then
    torch=(--import "$exchange")
  else
    say "PyTorch is left out: $python could not run bench/accuracy_torch.py"
  fi
fi
"$program" "${torch[@]}" --markdown build/results/accuracy.md
