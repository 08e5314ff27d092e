#!/bin/sh
# The user stays, as its files may; what the sidecar wrote goes with a purge.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
if [ "$1" = purge ]; then
	rm -rf /var/lib/pointsman
fi
