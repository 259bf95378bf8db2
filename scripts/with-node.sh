#!/usr/bin/env bash
# Runs a command with another version of Node first in PATH, out of an npm package, gone afterwards. npm itself stays,
# and runs on that Node.
#
#   scripts/with-node.sh 24.9.0 npm run -s test:short
set -euo pipefail

version=$1
shift
package=node-$(node -p '`${process.platform}-${process.arch}`')
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
npm install --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error "$package@$version" >/dev/null
export PATH="$folder/node_modules/$package/bin:$PATH"
[ "$(node --version)" = "v$version" ] || { echo "$package@$version brought Node $(node --version)." >&2; exit 1; }
"$@"
