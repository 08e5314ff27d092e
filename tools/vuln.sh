#!/usr/bin/env bash
#
# usage: tools/vuln.sh
#
# Looks for known vulnerabilities in what is compiled into the programs, by
# govulncheck. Its database is asked for over the network: GOVULNDB names another
# place, as file:///path. Exits with 3 where one is found, with 1 where the database
# can't be reached.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly version=v1.9.0
status=0
out=$(go run "golang.org/x/vuln/cmd/govulncheck@$version" ./sidecar/cmd/... ./registrator/... 2>&1) || status=$?
printf '%s\n' "$out"
if [[ $out == *"fetching vulnerabilities"* ]]; then
	printf "tools/vuln.sh: the vulnerability database can't be reached: run this elsewhere, or set GOVULNDB to a copy\n" >&2
	exit 1
fi
# go run says 1 for whatever its program says.
if [[ $status -ne 0 && $out == *"exit status 3"* ]]; then
	exit 3
fi
exit "$status"
