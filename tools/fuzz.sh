#!/usr/bin/env bash
#
# usage: tools/fuzz.sh [TIME]
#
# Runs every fuzz test of the module for TIME each (10s if not said), one after
# the other: go test -fuzz takes one at a time. A finding ends it, and leaves
# its input in the package's testdata/fuzz, to be committed with the fix.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
time=${1:-10s}
count=0
while IFS=: read -r file function; do
	printf '== %s %s, %s\n' "$(dirname "$file")" "$function" "$time"
	go test -run='^$' -fuzz="^$function\$" -fuzztime="$time" "./$(dirname "$file")" </dev/null
	count=$((count + 1))
done < <(grep -rHoE --include='*_test.go' --exclude-dir='.[a-z]*' '^func Fuzz[A-Za-z0-9_]*' . |
	sed 's/func //; s|^\./||' | sort)
printf '%d fuzz tests ran\n' "$count"
