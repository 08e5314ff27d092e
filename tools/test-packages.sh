#!/usr/bin/env bash
#
# usage: tools/test-packages.sh
#
# Installs the packages in a clean Debian and uses them as docs/install.md says:
# a root made by debootstrap, of this machine's own suite and from its own mirror, is
# started with systemd in a container (systemd-nspawn) with a network of its own.
# In it run Debian's HAProxy and its unit, Consul, the sidecar from the deb, and two
# instances from the registrator's deb under api@.service: see
# test/packages/in-debian.sh. The rpm must hold the same files as the deb, and its
# scripts must be the same.
#
# It needs root, and takes some minutes the first time: the root is kept in
# .tools/debian, and each run starts with a copy of it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=debian.sh
. "$here/debian.sh"
root=$(cd "$here/.." && pwd)
cd "$root"
# Seconds: for debootstrap; for all that is done in the container.
readonly bootstrap_timeout=900 container_timeout=600

main() {
	[[ $(id -u) == 0 ]] || fail "needs root: debootstrap and systemd-nspawn do"
	"$here/system.sh" debootstrap systemd-nspawn rpm
	debian_require
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	ARCHES=$(dpkg --print-architecture) "$here/packages.sh" "$work/packages" >/dev/null
	same_content
	clean_root
	in_debian
	note "all passed"
}

# only NAME... prints the one file that a pattern finds.
only() {
	[[ $# == 1 && -e $1 ]] || fail "one file expected: $*"
	echo "$1"
}

# same_content compares what the rpms hold with what the debs hold.
same_content() {
	local package deb rpm
	for package in pointsman pointsman-registrator; do
		deb=$(only "$work"/packages/"$package"_*.deb)
		rpm=$(only "$work"/packages/"$package"-[0-9]*.rpm)
		diff <(dpkg-deb --contents "$deb" | awk '$1 !~ /^d/ { sub(/^\./, "", $6); print $6 }' | sort) \
			<(rpm --query --package --list --verbose "$rpm" 2>/dev/null | awk '$1 !~ /^d/ { print $NF }' | sort) ||
			fail "$package: the rpm (>) has other files than the deb (<)"
		rpm --checksig --nosignature "$rpm" >/dev/null || fail "$rpm: damaged"
	done
	rpm=$(only "$work"/packages/pointsman-[0-9]*.rpm)
	for script in POSTIN PREUN POSTUN; do
		rpm --query --package --queryformat "%{$script}" "$rpm" >"$work/$script" 2>/dev/null
		sh -n "$work/$script" || fail "$rpm: $script is no shell script"
	done
	diff "$work/POSTIN" deploy/nfpm/pointsman.postinstall.sh
	diff "$work/PREUN" deploy/nfpm/pointsman.preremove.sh
	diff "$work/POSTUN" deploy/nfpm/pointsman.postremove.sh
	note "the rpms hold what the debs hold"
}

# clean_root copies a Debian as debootstrap makes it to $work/debian.
clean_root() {
	local suite mirror kept
	suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
	mirror=$(debian_mirror main)
	kept=$root/.tools/debian/$suite
	if [[ ! -e $kept/done ]]; then
		note "debootstrap $suite: some minutes"
		rm -rf "$kept"
		mkdir -p "$kept"
		timeout "$bootstrap_timeout" debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,ca-certificates,curl \
			"$suite" "$kept/root" ${mirror:+"$mirror"} >"$kept/log" 2>&1 || {
			tail -n 20 "$kept/log" >&2
			fail "debootstrap $suite"
		}
		touch "$kept/done"
	fi
	cp -a "$kept/root" "$work/debian"
}

# in_debian installs the packages and starts the container.
in_debian() {
	local debian=$work/debian consul
	consul=$("$here/consul.sh")
	install -m 755 "$consul" "$debian/usr/bin/consul"
	CGO_ENABLED=0 go build -trimpath -o "$debian/usr/bin/api" ./services/api
	cp "$work"/packages/*.deb "$debian/root/"
	install -m 755 test/packages/in-debian.sh "$debian/root/"
	install -m 644 test/packages/haproxy.cfg "$debian/root/"
	install -m 644 test/packages/*.service "$debian/etc/systemd/system/"
	# Debian's installer writes it.
	echo '127.0.0.1 localhost' >"$debian/etc/hosts"
	# No service is started here: it is a directory, and not a machine yet.
	printf '#!/bin/sh\nexit 101\n' >"$debian/usr/sbin/policy-rc.d"
	chmod 755 "$debian/usr/sbin/policy-rc.d"
	chroot "$debian" sh -ec '
		export DEBIAN_FRONTEND=noninteractive
		apt-get -q update
		apt-get -q -y --no-install-recommends install /root/*.deb man-db
		systemctl enable consul.service in-debian.service' >"$work/log" 2>&1 || {
		tail -n 30 "$work/log" >&2
		fail "the packages cannot be installed"
	}
	rm "$debian/usr/sbin/policy-rc.d"
	note "installed; starting systemd"
	timeout --signal=KILL "$container_timeout" systemd-nspawn --quiet --register=no --keep-unit --private-network \
		--directory="$debian" --boot systemd.show_status=no </dev/null >"$work/boot" 2>&1 || true
	cat "$debian/root/result" 2>/dev/null || tail -n 30 "$work/boot"
	[[ $(tail -n 1 "$debian/root/result" 2>/dev/null) == PASSED ]] || fail "the test in the container failed"
}

main "$@"
