#!/usr/bin/env bash
#
# usage: tools/consul.sh
#
# Makes sure of a Consul that is new enough for the demo and the tests: the
# one that CONSUL names, or on PATH, or else one built from its Go module,
# which tools/go.mod pins, into .tools/bin.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=version.sh
. "$here/version.sh"
readonly oldest=1.22

# version BINARY prints what the program says it is.
version() { "$1" version 2>/dev/null | awk 'NR == 1 { sub(/^v/, "", $2); print $2 }'; }

if [[ -n ${CONSUL:-} ]]; then
	# Whoever names one wants that one, old or not.
	[[ -n $(version "$CONSUL") ]] || { echo "CONSUL=$CONSUL: not a Consul that starts here" >&2; exit 1; }
	exit 0
fi
if found=$(command -v consul) && at_least "$(version "$found")" "$oldest"; then
	exit 0
fi
exec "$here/build.sh" tools github.com/hashicorp/consul consul
