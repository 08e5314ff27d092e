#!/usr/bin/env bash
#
# usage: compose/live.sh VERSION COUNT [SECONDS]
#
# Waits until every load balancer routes to COUNT nodes of the VERSION that its
# HAProxy itself has found healthy. After SECONDS, by default 60, it gives up:
# it prints what each load balancer knows of that version, and exits 1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly balancers="lb0 lb1"
# For one question to one load balancer, in seconds.
readonly ask_timeout=3

# nodes BALANCER prints a line for each node that it knows, with the JSON of
# the node's state (docs/api.md): an object without objects in it.
nodes() {
	local address
	address=$(docker compose port "$1-sidecar" 9600) || return 0
	{ curl -fsS --max-time "$ask_timeout" "http://$address/api/v1/state" 2>/dev/null || true; } |
		sed 's/[{}]/\n/g' | grep -F '"phase":' || true
}

# of_version BALANCER VERSION prints those of the version.
of_version() { nodes "$1" | grep -F "\"version\":\"$2\"" || true; }

# live VERSION COUNT is true if every load balancer routes to COUNT instances.
live() {
	local balancer
	for balancer in $balancers; do
		(($(of_version "$balancer" "$1" | grep -cF '"phase":"up"') >= $2)) || return 1
	done
}

# report VERSION prints the nodes of the version, by load balancer.
report() {
	local balancer field pattern='"id":"([^"]*)".*"health":"([^"]*)","phase":"([^"]*)"'
	for balancer in $balancers; do
		printf '%s:' "$balancer"
		while read -r field; do
			[[ $field =~ $pattern ]] &&
				printf ' %s %s, in Consul %s;' "${BASH_REMATCH[1]}" "${BASH_REMATCH[3]}" "${BASH_REMATCH[2]}"
		done < <(of_version "$balancer" "$1")
		echo
	done >&2
}

[[ $# == 2 || $# == 3 ]] || {
	echo "usage: compose/live.sh VERSION COUNT [SECONDS]" >&2
	exit 2
}
command -v curl >/dev/null || {
	echo "live: curl is missing" >&2
	exit 1
}
version=$1 count=$2 seconds=${3:-60}
until live "$version" "$count"; do
	if ((SECONDS >= seconds)); then
		echo "live: $seconds s, and not every load balancer routes to $count nodes of $version" >&2
		report "$version"
		exit 1
	fi
	sleep 0.2
done
