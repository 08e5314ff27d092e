#!/bin/sh
# `agent …` is given its directories. Any other of Consul's commands, or its
# options alone, is given to Consul; all else is run as it is.
set -e
case ${1:-} in
agent)
	shift
	exec consul agent -data-dir=/consul/data -config-dir=/consul/config "$@"
	;;
-*) exec consul "$@" ;;
esac
command -v "$1" >/dev/null || set -- consul "$@"
exec "$@"
