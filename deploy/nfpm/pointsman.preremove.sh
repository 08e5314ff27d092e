#!/bin/sh
# Debian calls it with "remove" or "upgrade", rpm with the number of versions that
# stay. HAProxy keeps its servers, also after a restart.
set -e
case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac
if [ -d /run/systemd/system ]; then
	systemctl disable --now pointsman.service
fi

# Without the package's drop-in HAProxy loads its own file only. One that names backends
# of the sidecar's would keep it from starting.
ours=/var/lib/pointsman/pointsman.cfg
dropin=haproxy.service.d/10-pointsman.conf
alone() (
	CONFIG=/etc/haproxy/haproxy.cfg
	for defaults in /etc/default/haproxy /etc/sysconfig/haproxy; do
		if [ -r "$defaults" ]; then
			# shellcheck source=/dev/null
			. "$defaults"
		fi
	done
	# Fedora's unit loads a directory, too.
	if grep -qs CFGDIR /usr/lib/systemd/system/haproxy.service; then
		set -- -f "${CFGDIR:-/etc/haproxy/conf.d}"
	fi
	haproxy -c -q -f "$CONFIG" "$@" >/dev/null 2>&1
)
if command -v haproxy >/dev/null && ! alone; then
	mkdir -p /etc/systemd/system/haproxy.service.d
	{
		echo '# Kept when the package pointsman was removed.'
		cat "/usr/lib/systemd/system/$dropin"
	} >"/etc/systemd/system/$dropin"
	cat >&2 <<END
pointsman: WARNING: HAProxy's own configuration is not valid without $ours.
pointsman: HAProxy still loads that file, with its current servers, by
pointsman: /etc/systemd/system/$dropin.
pointsman: Take the backends out of HAProxy's configuration, then remove both files.
END
	for defaults in /etc/default/haproxy /etc/sysconfig/haproxy; do
		if grep -qs "^[^#]*$ours" "$defaults"; then
			echo "pointsman: $defaults names $ours, too: take it out there." >&2
		fi
	done
fi
