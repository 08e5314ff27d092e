#!/usr/bin/env bash
#
# usage: tools/build.sh MODULE PACKAGE BINARY [GOFLAG...]
#
# Builds PACKAGE from the tool module in the directory MODULE (tools,
# tools/lint, tools/compose), which pins its version, into .tools/bin/BINARY.
# The first time takes minutes; after that it is done in no time, until the
# module's go.mod or go.sum, the Go version or the flags change.
set -euo pipefail

module=$1 package=$2 binary=$3
shift 3
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin=$root/.tools/bin
stamp=$root/.tools/stamp/$binary

# The stamp says what the binary was built from.
key=$({ cat "$root/$module/go.mod" "$root/$module/go.sum" && go version && echo "$package" "$@"; } | cksum)
if [[ -x $bin/$binary && $(cat "$stamp" 2>/dev/null) == "$key" ]]; then
	exit 0
fi

version=$(awk -v package="$package" '$2 ~ /^v/ && index(package, $1) == 1 { print $2 }' "$root/$module/go.mod")
printf 'building %s %s into .tools/bin: some minutes the first time\n' "$binary" "$version" >&2
mkdir -p "$bin" "$(dirname "$stamp")"

# Static, so that it runs in any image. -v names each package as it is
# compiled; the names become a count, the rest is what went wrong.
start=$SECONDS
(cd "$root/$module" && CGO_ENABLED=0 nice -n 10 go build -v -trimpath -o "$bin/$binary.new" "$@" "$package") 2>&1 |
	awk '
		/^go: downloading / { if (++downloads % 100 == 0) printf "  %d modules fetched\n", downloads; next }
		/^[^ ]+$/ { if (++packages % 200 == 0) printf "  %d packages compiled\n", packages; next }
		{ print }' >&2
mv "$bin/$binary.new" "$bin/$binary"
printf '%s\n' "$key" >"$stamp"
printf 'built %s %s in %d s\n' "$binary" "$version" "$((SECONDS - start))" >&2
