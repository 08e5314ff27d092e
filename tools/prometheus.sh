#!/usr/bin/env bash
#
# usage: tools/prometheus.sh
#
# Makes sure of promtool, with which the tests try the alert rules: the one that
# PROMTOOL names, or the one on PATH, or else .tools/prometheus/promtool, out of
# Debian's package, with the prometheus beside it. The package is not installed,
# since that would start a server.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=debian.sh
. "$here/debian.sh"
readonly dir=$here/../.tools/prometheus

# works BINARY is true if it is a promtool that starts here.
works() { [[ -n $1 ]] && "$1" --version 2>&1 | grep -q '^promtool, version'; }

if [[ -n ${PROMTOOL:-} ]]; then
	works "$PROMTOOL" || fail "PROMTOOL=$PROMTOOL is not a promtool that starts here"
	exit 0
fi
for found in "$dir/promtool" "$(command -v promtool || true)"; do
	works "$found" && exit 0
done
command -v apt-get >/dev/null || fail "needs promtool: install Prometheus, or set PROMTOOL to promtool's path"

debian_require
mkdir -p "$dir"
exec 9>"$dir/.lock"
flock -w 900 9 || fail "$dir/.lock: another run holds it for more than 15 minutes"
works "$dir/promtool" && exit 0
suite=$(awk -F= '$1 == "VERSION_CODENAME" { gsub(/"/, "", $2); print $2 }' /etc/os-release)
note "taking prometheus out of suite ${suite:=stable}"
state=$dir/apt
rm -rf "$state" "$dir/root"
debian_open "$state" "$suite" "$suite-security"
debian_unpack "$state" "$dir/root" prometheus
mv "$dir/root/usr/bin/promtool" "$dir/root/usr/bin/prometheus" "$dir/"
rm -rf "$state" "$dir/root"
works "$dir/promtool" || fail "needs promtool: the one of suite $suite does not start here; set PROMTOOL to another's path"
