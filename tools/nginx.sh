#!/usr/bin/env bash
#
# usage: tools/nginx.sh
#
# Makes sure of an nginx for the tests that wrap one: the one that NGINX names,
# or the system's, or else .tools/nginx/nginx.
#
# Debian's package would start a server on port 80, now and at each boot, when
# it is installed. So where it is missing it is taken out of the package, and
# not installed; it needs only libraries that HAProxy needs too. Elsewhere
# nothing is started, and the system's package manager installs it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=debian.sh
. "$here/debian.sh"
readonly dir=$here/../.tools/nginx

# works BINARY is true if it is an nginx that starts here.
works() { [[ -n $1 ]] && "$1" -v 2>&1 | grep -q '^nginx version:'; }

if [[ -n ${NGINX:-} ]]; then
	works "$NGINX" || fail "NGINX=$NGINX is not an nginx that starts here"
	exit 0
fi
# A user's PATH often lacks the place for servers.
for found in "$dir/nginx" "$(command -v nginx || true)" /usr/sbin/nginx; do
	works "$found" && exit 0
done
command -v apt-get >/dev/null || exec "$here/system.sh" nginx

debian_require
mkdir -p "$dir"
exec 9>"$dir/.lock"
flock -w 900 9 || fail "$dir/.lock: another run holds it for more than 15 minutes"
works "$dir/nginx" && exit 0
suite=$(awk -F= '$1 == "VERSION_CODENAME" { gsub(/"/, "", $2); print $2 }' /etc/os-release)
[[ -n $suite ]] || fail "needs nginx: this system does not say which Debian it is; install nginx, or set NGINX to its path"
note "taking nginx out of suite $suite"
state=$dir/apt
rm -rf "$state" "$dir/root"
debian_open "$state" "$suite" "$suite-security"
debian_unpack "$state" "$dir/root" nginx
mv "$dir/root/usr/sbin/nginx" "$dir/nginx"
rm -rf "$state" "$dir/root"
works "$dir/nginx" || fail "needs nginx: the one of suite $suite does not start here; install it, or set NGINX to its path: $("$dir/nginx" -v 2>&1 | head -n 1)"
