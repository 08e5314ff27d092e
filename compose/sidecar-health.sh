#!/bin/bash
#
# Tells Docker whether the sidecar is well: it has written the haproxy.cfg that
# HAProxy waits for, and its loop comes round. Whether HAProxy runs what it
# should is /readyz, which HAProxy must not have to wait for. HAProxy's image
# has bash, but no HTTP client.
set -eu

[ -s /var/lib/haproxy/haproxy.cfg ]
exec 3<>/dev/tcp/127.0.0.1/9600
printf 'GET /healthz HTTP/1.0\r\n\r\n' >&3
read -r _ status _ <&3
[ "$status" = 200 ]
