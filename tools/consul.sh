#!/usr/bin/env bash
#
# usage: tools/consul.sh [demo | 1.22 | 1.8]
#
# Makes sure of a Consul and prints its path. CONSUL, if set, names the one to
# use. Without an argument it is for the tests: the one on PATH if it is 1.22 or
# newer, else one built from its Go module, which tools/go.mod pins, into
# .tools/bin. That takes up to ten minutes the first time.
#
# demo   takes what is there at once: the one on PATH, else one that was built,
#        else Debian's package of 1.8, which arrives in seconds
# 1.22   builds it, if it was not built yet
# 1.8    takes Debian's package
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
# shellcheck source=version.sh
. "$here/version.sh"
readonly here root newest=1.22 oldest=1.8
readonly built=$root/.tools/bin/consul

# version BINARY prints what the program says it is.
version() { "$1" version 2>/dev/null | awk 'NR == 1 { sub(/^v/, "", $2); print $2 }'; }

# on_path OLDEST prints the Consul on PATH, if it is that new.
on_path() {
	local found
	found=$(command -v consul) && at_least "$(version "$found")" "$1" && echo "$found"
}

build() {
	"$here/build.sh" tools github.com/hashicorp/consul consul && echo "$built"
}

package() {
	local line
	line=$("$here/consul-versions.sh" "$root/.tools/consul") && echo "${line%%$'\t'*}"
}

# quickest prints the Consul that is there soonest.
quickest() {
	on_path "$oldest" && return
	if [[ -n $(version "$built") ]]; then
		echo "$built"
		return
	fi
	package && return
	echo "consul.sh: no package of Consul for this machine; it is built instead" >&2
	build
}

case ${1:-} in
"" | demo)
	if [[ -n ${CONSUL:-} ]]; then
		# A user who names one wants that one, old or not.
		[[ -n $(version "$CONSUL") ]] || { echo "CONSUL=$CONSUL: not a Consul that starts here" >&2; exit 1; }
		echo "$CONSUL"
	elif [[ ${1:-} == demo ]]; then
		quickest
	else
		on_path "$newest" || build
	fi
	;;
"$newest") build ;;
"$oldest") package ;;
*)
	echo "consul.sh: $1: want demo, $newest or $oldest" >&2
	exit 2
	;;
esac
