#!/usr/bin/env bash
# Checks the models in relay/test/models with spin, in every order in which their processes can take turns. Each #ifdef in a
# model is a planted error, which must be found. Needs Debian's packages spin and gcc.
set -euo pipefail
models=$(cd "$(dirname "$0")/../relay/test/models" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# check MODEL [ERROR]: prints what pan says of it.
check() {
  spin ${2:+-D"$2"} -a "$models/$1" >spin.log || { cat spin.log; return 1; }
  gcc -O2 -DSAFETY -o pan pan.c
  # A depth that is not enough is an error too: -b.
  ./pan -m100000 -b -n
}

failed=0
for path in "$models"/*.pml; do
  model=$(basename "$path")
  if check "$model" >out && grep -q 'errors: 0' out; then
    echo "$model holds in $(sed -nE 's/^ *([0-9]+) states, stored$/\1/p' out) states"
  else
    cat out
    echo "$model: a claim is broken"
    failed=1
  fi
  for error in $(sed -nE 's/^#ifn?def ([A-Z_]+)$/\1/p' "$path" | sort -u); do
    check "$model" "$error" >out || true
    if grep -q 'assertion violated' out; then
      echo "  $error is noticed"
    else
      cat out
      echo "  $error is NOT noticed"
      failed=1
    fi
  done
done
exit "$failed"
