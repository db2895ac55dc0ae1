#!/bin/sh
# Unpacks the bundle once, next to this script, and prints the report of this machine's GPU. Needs Linux x64 with glibc and the GPU's driver; no network.
set -e
here=$(cd "$(dirname "$0")" && pwd)
work=${GRAFT_BENCH_FOLDER:-$here/unpacked}
if [ ! -x "$work/node" ]; then
  mkdir -p "$work"
  tar -xzf "$here/graft-gpu.tar.gz" -C "$work"
fi
if ! ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1'; then
  LD_LIBRARY_PATH="$work/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  export LD_LIBRARY_PATH
fi
exec "$work/node" "$work/bench/gpu/run.mjs" "$@"
