#!/bin/sh
# `haproxy …`, or its options alone, becomes a master with workers that stays
# in the foreground. Any other command is run as it is.
set -e
case ${1:-} in
haproxy) shift ;;
-*) ;;
*) exec "$@" ;;
esac
exec haproxy -W -db "$@"
