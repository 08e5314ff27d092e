#!/bin/sh
# Debian calls it with "remove" or "upgrade", rpm with the number of versions that
# stay. HAProxy goes on with what it has.
set -e
case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac
if [ -d /run/systemd/system ]; then
	systemctl disable --now pointsman.service
fi
