#!/usr/bin/env bash
#
# usage: tools/consul-versions.sh [DIR]
#
# Puts an old Consul, 1.8, under DIR/1.8/consul, by default below .tools/consul
# of this checkout, and prints a line for it: path, tab, version. It is the
# oldest that is tried in tests (CONSUL=1.8), and what the demo runs on a machine
# without another Consul. The one for the tests is built: see tools/consul.sh.
#
# It comes out of Debian bullseye, the last suite that carries Consul, and
# needs nothing but the C library, which is the machine's own. Nothing is
# installed. A version that works is left alone; REFRESH=1 takes it again.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=debian.sh
. "$here/debian.sh"

# version BINARY prints what the program says it is, as 1.8.7+dfsg1.
version() {
	"$1" version 2>/dev/null | awk 'NR == 1 { sub(/^v/, "", $2); print $2 }'
}

main() {
	local dir=${1:-$here/../.tools/consul}/1.8
	debian_require
	mkdir -p "$dir"
	dir=$(cd "$dir" && pwd)
	exec 9>"$dir/.lock"
	flock -w 900 9 || fail "$dir/.lock: another run holds it for more than 15 minutes"

	if [[ -n ${REFRESH:-} || $(version "$dir/consul") != 1.8.* ]]; then
		note "Consul 1.8: from suite bullseye"
		local state=$dir/apt
		rm -rf "$state" "$dir/root"
		debian_open "$state" bullseye
		debian_unpack "$state" "$dir/root" "consul=1.8.*"
		mv "$dir/root/usr/bin/consul" "$dir/consul"
		rm -rf "$state" "$dir/root"
	fi
	[[ $(version "$dir/consul") == 1.8.* ]] ||
		fail "Consul 1.8: $dir/consul does not start: $("$dir/consul" version 2>&1 | head -n 1)"
	printf '%s\t%s\n' "$dir/consul" "$(version "$dir/consul")"
}

main "$@"
