#!/bin/sh
# The user stays, as its files may; what the sidecar wrote goes with a purge, unless
# HAProxy would miss it: a reload of a file that is gone ends HAProxy.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
if [ "$1" != purge ]; then
	exit 0
fi
if grep -qsz '^/var/lib/pointsman/' /proc/[0-9]*/cmdline || grep -rqsF /var/lib/pointsman/ /etc/default/haproxy /etc/sysconfig/haproxy \
	/etc/systemd/system/haproxy.service /etc/systemd/system/haproxy.service.d; then
	echo "pointsman: WARNING: /var/lib/pointsman is kept: HAProxy runs with a file in it, or its unit names one." >&2
	exit 0
fi
rm -rf /var/lib/pointsman
