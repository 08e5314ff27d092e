#!/usr/bin/env bash
#
# usage: tools/fuzz.sh [TIME [NAME]]
#
# Runs every fuzz test of the module for TIME each (10s if not said), or only
# those whose name has NAME in it, as many at once as there are processors. A
# finding does not end the others. It fails the run, and leaves its input in the
# package's testdata/fuzz, to be committed with the fix.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export time=${1:-10s} name=${2:-}

# one DIRECTORY FUNCTION fuzzes one, and prints a line, or all that was said of
# a failure.
one() {
	local log
	log=$(mktemp)
	# One worker each: they share the processors by running side by side.
	if go test -run='^$' -fuzz="^$2\$" -fuzztime="$time" -fuzzminimizetime=1s -parallel=1 "./$1" </dev/null >"$log" 2>&1 || out_of_time "$log"; then
		printf '  %-36s %-32s %s\n' "$1" "$2" "$(grep -o 'execs: [0-9]*' "$log" | tail -n 1)"
		rm -f "$log"
		return
	fi
	printf '== %s %s: FAILED\n' "$1" "$2"
	cat "$log"
	rm -f "$log"
	return 1
}

# out_of_time LOG is true of a run that found nothing and was over in a moment
# in which Go takes the end of its own time for a failure.
out_of_time() {
	grep -qx '    context deadline exceeded' "$1" && ! grep -qE 'Failing input|_test\.go:|panic' "$1"
}
export -f one out_of_time

mapfile -t tests < <(grep -rHoE --include='*_test.go' --exclude-dir='.[a-z]*' '^func Fuzz[A-Za-z0-9_]*' . |
	sed -E 's|^\./(.*)/[^/]*_test\.go:func |\1 |' | grep -F -- "$name" | sort)
printf 'fuzzing %d tests for %s each\n' "${#tests[@]}" "$time"
printf '%s\n' "${tests[@]}" | xargs -P "$(getconf _NPROCESSORS_ONLN)" -L 1 bash -c 'one "$@"' one
printf '%d fuzz tests ran\n' "${#tests[@]}"
