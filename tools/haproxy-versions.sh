#!/usr/bin/env bash
#
# usage: tools/haproxy-versions.sh [DIR] [MINOR...]
#
# Puts HAProxy 2.6, 3.0, 3.2 and 3.4 (or only the MINORs named) side by side
# under DIR, by default .tools/haproxy of this checkout, and prints a line for
# each: DIR/3.0/haproxy and so on. They are for tests: HAPROXY=DIR/3.2/haproxy.
#
# Each comes, with its libraries, out of the Debian suite that carries it.
# Nothing is installed: the system's own HAProxy, if there is one, stays as it
# is. What sid and experimental carry moves on, so the version is not pinned
# but read from the program, and a suite that has gone on to another minor is
# an error that says so.
#
# The program is patched to load the libraries that came with it. A wrapper
# that called the dynamic loader would start as well, but not reload: the
# master re-executes its own argv[0].
#
# Run it again as often as you like: versions that work are left alone.
# REFRESH=1 takes everything again.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=debian.sh
. "$here/debian.sh"

# suites MINOR prints the suites that make up the version: the first carries
# HAProxy, the others the rest of its libraries or its security updates.
suites() {
	case $1 in
	2.6) echo bookworm bookworm-security ;;
	3.0) echo trixie trixie-security ;;
	3.2) echo sid ;;
	3.4) echo experimental sid ;;
	*) fail "HAProxy $1: not a version that a Debian suite carries (2.6, 3.0, 3.2, 3.4)" ;;
	esac
}

# carrier MINOR prints the suite that carries HAProxy itself.
carrier() { suites "$1" | cut -d' ' -f1; }

# works BINARY MINOR is true if the program starts and is of that minor.
works() {
	[[ -x $1 ]] && [[ $("$1" -v 2>/dev/null | awk 'NR == 1 { print $3 }') == "$2".* ]]
}

# patchelf_installed makes sure of patchelf: from its package as root.
patchelf_installed() {
	command -v patchelf >/dev/null && return
	[[ $(id -u) == 0 ]] ||
		fail "needs patchelf: run 'apt-get install patchelf' as root, then this again"
	note "installing patchelf"
	timeout "$apt_timeout" apt-get -qq -y install patchelf >/dev/null 2>&1 ||
		{ timeout "$apt_timeout" apt-get -qq update >/dev/null &&
			timeout "$apt_timeout" apt-get -qq -y install patchelf >/dev/null; } ||
		fail "patchelf: apt-get install failed"
}

# patched ROOT BINARY copies ROOT's haproxy to BINARY and binds it to the
# loader and the libraries below ROOT. The rpath is the old kind, not runpath:
# only that one holds for the libraries' own libraries too (ld.so(8)).
patched() {
	local root=$1 binary=$2 loader
	loader=$(patchelf --print-interpreter "$root/usr/sbin/haproxy")
	[[ -e $root$loader ]] || loader=/usr$loader # since trixie, all is below /usr
	[[ -e $root$loader ]] || fail "HAProxy in $root: its loader $loader is not there"
	local triplet
	triplet=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || basename "$(dirname "$(find "$root" -name libc.so.6 | head -n 1)")")
	cp "$root/usr/sbin/haproxy" "$binary.new"
	patchelf --set-interpreter "$root$loader" --force-rpath \
		--set-rpath "$root/lib/$triplet:$root/usr/lib/$triplet" "$binary.new"
	mv "$binary.new" "$binary"
}

# reloads BINARY is true if a master of this program takes a reload: it goes on
# under its own pid with another worker. This is what a bad patch breaks.
reloads() (
	binary=$1
	box=$(mktemp -d)
	master=
	trap 'if [[ -n $master ]]; then kill "$master" 2>/dev/null; wait "$master" 2>/dev/null; fi; rm -rf "$box"' EXIT
	cat >"$box/cfg" <<-CONFIG
		global
		    stats socket $box/stats level admin
		defaults
		    mode http
		    timeout client 1s
		    timeout server 1s
		    timeout connect 1s
		frontend f
		    bind unix@$box/front
	CONFIG
	"$binary" -W -f "$box/cfg" >"$box/log" 2>&1 &
	master=$!
	first=$(worker "$master") || return 1
	kill -USR2 "$master"
	second=$(worker "$master" "$first") || return 1
	[[ -n $second ]] && kill -0 "$master"
)

# worker MASTER [NOT] prints the pid of the master's newest worker, other than
# NOT, and waits up to ten seconds for there to be one.
worker() {
	local master=$1 not=${2:-} pid pids try
	for ((try = 0; try < 100; try++)); do
		pids=()
		read -r -a pids 2>/dev/null <"/proc/$master/task/$master/children" || true
		for pid in "${pids[@]}"; do
			if [[ $pid != "$not" ]]; then
				# A child is a worker once it serves; give it until it survives a beat.
				sleep 0.2
				if [[ -d /proc/$pid && -d /proc/$master ]]; then
					echo "$pid"
					return 0
				fi
			fi
		done
		sleep 0.1
	done
	return 1
}

# provide DIR MINOR leaves a working DIR/MINOR/haproxy.
provide() {
	local dir=$1/$2 minor=$2 binary=$1/$2/haproxy
	local root=$dir/root
	if [[ -z ${REFRESH:-} ]] && works "$binary" "$minor"; then
		return
	fi
	patchelf_installed
	if [[ -n ${REFRESH:-} || ! -e $dir/complete ]]; then
		note "HAProxy $minor: from suite $(carrier "$minor")"
		fetch "$minor" "$dir"
	fi
	patched "$root" "$binary"
	works "$binary" "$minor" || fail "HAProxy $minor: what suite $(carrier "$minor") carries is another version or does not start: $("$binary" -v 2>&1 | head -n 1)"
	reloads "$binary" || fail "HAProxy $minor: $binary starts, but does not reload as a master"
}

# fetch MINOR DIR unpacks the version below DIR/root, whole or not at all.
fetch() {
	local minor=$1 dir=$2 state packages suite
	suite=$(carrier "$minor")
	rm -rf "$dir"
	mkdir -p "$dir"
	state=$dir/apt
	# Word splitting is meant: both print words.
	# shellcheck disable=SC2046
	debian_open "$state" $(suites "$minor")
	# The minor is asked for by pattern, not the suite by name ("/experimental"):
	# that would take the libraries from experimental as well.
	packages=$(debian_closure "$state" "haproxy=$minor.*") ||
		fail "HAProxy $minor: suite $suite has none, or not the libraries that it needs (see above)"
	# shellcheck disable=SC2086
	debian_unpack "$state" "$dir/root" $packages
	rm -rf "$state"
	touch "$dir/complete"
}

main() {
	local dir=$here/../.tools/haproxy
	if [[ $# -gt 0 && ! $1 =~ ^[0-9]+\.[0-9]+$ ]]; then
		dir=$1
		shift
	fi
	[[ $# -gt 0 ]] || set -- 2.6 3.0 3.2 3.4
	debian_require
	mkdir -p "$dir"
	dir=$(cd "$dir" && pwd)
	exec 9>"$dir/.lock"
	flock -w 900 9 || fail "$dir/.lock: another run holds it for more than 15 minutes"
	local minor
	for minor; do
		suites "$minor" >/dev/null
	done
	for minor; do
		provide "$dir" "$minor"
		printf '%s\t%s\n' "$dir/$minor/haproxy" "$("$dir/$minor/haproxy" -v | awk 'NR == 1 { print $3 }')"
	done
}

main "$@"
