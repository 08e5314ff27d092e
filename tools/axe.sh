#!/usr/bin/env bash
# Fetches axe-core, by which the browser tests look at the page's accessibility, from its
# npm package into test/e2e/page/testdata/axe, with its licences. The files are committed:
# the tests need no npm.
#
# usage: tools/axe.sh [VERSION]
set -euo pipefail
version=${1:-4.14.1}
to=$(cd "$(dirname "$0")/.." && pwd)/test/e2e/page/testdata/axe
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if ! command -v npm >/dev/null; then
	echo "tools/axe.sh: npm is not installed (Debian: apt-get install npm)" >&2
	exit 1
fi
(cd "$scratch" && npm pack --silent "axe-core@$version" >/dev/null)
mkdir -p "$to"
tar -xzf "$scratch/axe-core-$version.tgz" -C "$to" --no-same-owner --strip-components=1 package/axe.min.js package/LICENSE package/LICENSE-3RD-PARTY.txt
touch "$to"/*
