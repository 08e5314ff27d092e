#!/usr/bin/env bash
# Fetches uPlot, which draws the page's charts, from its npm package into the page's
# files, with its licence. The files are committed: a build needs no npm.
#
# usage: tools/uplot.sh [VERSION]
set -euo pipefail
version=${1:-1.6.32}
to=$(cd "$(dirname "$0")/.." && pwd)/sidecar/internal/api/page
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if ! command -v npm >/dev/null; then
	echo "tools/uplot.sh: npm is not installed (Debian: apt-get install npm)" >&2
	exit 1
fi
(cd "$scratch" && npm pack --silent "uplot@$version" >/dev/null)
tar -xzf "$scratch/uplot-$version.tgz" -C "$scratch" --no-same-owner --strip-components=1 package/dist package/LICENSE
# The smallest file of the package is a script that sets a variable; the page loads modules.
{
	cat "$scratch/dist/uPlot.iife.min.js"
	echo 'export default uPlot;'
} >"$to/uplot.js"
install -m 644 "$scratch/dist/uPlot.min.css" "$to/uplot.css"
install -m 644 "$scratch/LICENSE" "$to/uplot-license.txt"
