#!/bin/sh
# Debian calls it with "configure", rpm with the number of installed versions.
set -e
case "$1" in
configure | 1 | 2) ;;
*) exit 0 ;;
esac

# The package haproxy has made its group, whose members may use its sockets.
if ! getent passwd pointsman >/dev/null; then
	useradd --system --gid haproxy --home-dir /var/lib/pointsman --no-create-home \
		--shell /usr/sbin/nologin --comment Pointsman pointsman
fi
install -d -o pointsman -g haproxy -m 0750 /var/lib/pointsman
# HAProxy loads this file from its next start on, and would not start without it.
if [ ! -e /var/lib/pointsman/pointsman.cfg ]; then
	echo '# pointsman writes this file.' >/var/lib/pointsman/pointsman.cfg
	chown pointsman:haproxy /var/lib/pointsman/pointsman.cfg
	chmod 0640 /var/lib/pointsman/pointsman.cfg
fi
# The package has it again, see its preremove script.
kept=/etc/systemd/system/haproxy.service.d/10-pointsman.conf
if grep -qs '^# Kept when the package pointsman was removed' "$kept"; then
	rm "$kept"
fi

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	# A sidecar that runs becomes the new one. HAProxy serves meanwhile, and nothing
	# waits here for Consul.
	systemctl --no-block try-restart pointsman.service
fi
