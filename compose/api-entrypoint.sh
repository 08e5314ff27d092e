#!/bin/sh
#
# Names the node after its container, and becomes the node. Docker Compose
# counts the containers of a service from 1 (pointsman-api-1); the nodes are
# called api0, api1 and so on. Docker's own name server knows the container's
# name by its address. Where there is none, the node has the host's name.
set -eu

if [ -z "${API_INSTANCE:-}" ]; then
	address=$(hostname -i 2>/dev/null | cut -d ' ' -f 1) || address=''
	name=$(nslookup "$address" 2>/dev/null | sed -n 's/.*name = \([^.]*\).*/\1/p' | head -n 1) || name=''
	number=${name##*-}
	case $number in
	'' | *[!0-9]*) ;;
	*) export API_INSTANCE="api$((number - 1))" ;;
	esac
fi
exec api "$@"
