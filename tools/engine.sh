#!/usr/bin/env bash
#
# usage: tools/engine.sh [start|stop|status]
#
# start (the default) makes sure that a Docker engine answers and that `docker
# compose` works. An engine that answers is left alone, whatever it is. Where
# none does, Debian's docker.io is installed and its dockerd started by hand,
# which needs root; its pid and its log are .tools/engine/dockerd.{pid,log}.
# Where Compose is missing or too old, the one that tools/compose/go.mod pins
# is built and linked into Docker's directory of plugins.
#
# stop ends the engine that start has started, and no other. Containers that it
# runs are stopped; images and volumes stay in Docker's usual place.
#
# DOCKERD_FLAGS holds further words for dockerd, such as --storage-driver=vfs;
# without them dockerd itself finds out which storage works.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=version.sh
. "$here/version.sh"

root=$(cd "$here/.." && pwd)
readonly root state=$root/.tools/engine
readonly pidfile=$state/dockerd.pid log=$state/dockerd.log
# compose.yaml uses `include`, which is as old as this.
readonly oldest_compose=2.20
# Seconds: for one call of apt-get; until a started engine answers (it first
# cleans up after its last run); until a stopped one is gone (it first stops its
# containers).
readonly apt_timeout=600 start_timeout=60 stop_timeout=120

note() { printf 'engine: %s\n' "$*" >&2; }
fail() {
	note "$*"
	exit 1
}

# answers is true if an engine does, the one that DOCKER_HOST or the context
# names.
answers() { timeout 10 docker info >/dev/null 2>&1; }

# ours prints the pid of the engine that start has started, if it runs. A pid
# alone may have passed to another program.
ours() {
	local pid
	pid=$(cat "$pidfile" 2>/dev/null) || return 1
	[[ -n $pid && $(cat "/proc/$pid/comm" 2>/dev/null) == dockerd ]] && echo "$pid"
}

# installed makes sure of dockerd, and of the client and the packet filter that
# it calls. It installs only what is missing.
installed() {
	local packages=()
	command -v dockerd >/dev/null || packages+=(docker.io)
	command -v iptables >/dev/null || packages+=(iptables)
	[[ ${#packages[@]} == 0 ]] || install "${packages[@]}"
	# Since Debian 13 the client is a package of its own.
	command -v docker >/dev/null || install docker-cli
}

install() {
	command -v apt-get >/dev/null ||
		fail "no Docker engine answers, and this is no Debian to install one on: install Docker, or set DOCKER_HOST"
	note "installing $*"
	apt_get install -y --no-install-recommends "$@" || {
		apt_get update && apt_get install -y --no-install-recommends "$@"
	} || {
		sed 's/^/  /' "$state/apt.log" >&2
		fail "apt-get install $* failed"
	}
}

apt_get() { DEBIAN_FRONTEND=noninteractive timeout "$apt_timeout" apt-get -q "$@" >"$state/apt.log" 2>&1 </dev/null; }

# started starts dockerd and waits until it answers. It gets a session of its
# own, so that Ctrl-C in the terminal does not reach it, and no file that we or
# the caller has open: it would keep a lock that they hold.
started() {
	[[ $(uname) == Linux ]] || fail "no Docker engine answers: start Docker, or set DOCKER_HOST"
	[[ $(id -u) == 0 ]] || fail "no Docker engine answers: start Docker, or run 'make engine' as root"
	[[ -z ${DOCKER_HOST:-} ]] || fail "DOCKER_HOST=$DOCKER_HOST: no engine answers there"
	installed
	# The package may have started one, where there is an init system.
	answers && return
	note "starting dockerd"
	local pid begin=$SECONDS
	# shellcheck disable=SC2086  # the flags are words
	(
		for fd in /proc/self/fd/*; do
			fd=${fd##*/}
			((fd <= 2)) || eval "exec $fd>&-"
		done
		exec setsid dockerd --pidfile "$pidfile" ${DOCKERD_FLAGS:-} >"$log" 2>&1 </dev/null
	) &
	pid=$!
	until answers; do
		if ((SECONDS - begin > start_timeout)) || ! kill -0 "$pid" 2>/dev/null; then
			grep -E 'level=(error|fatal)|failed to start' "$log" | tail -n 5 | sed 's/^/  /' >&2
			fail "dockerd did not start; its log is $log"
		fi
		sleep 0.5
	done
	note "dockerd $(docker version --format '{{.Server.Version}}') runs, pid $(ours), storage $(docker info --format '{{.Driver}}')"
}

# composes makes sure of `docker compose`. The plugin goes where Docker's
# client looks first.
composes() {
	local version plugins=${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins
	version=$(docker compose version --short 2>/dev/null) || version=''
	at_least "${version#v}" "$oldest_compose" && return
	"$here/compose.sh"
	mkdir -p "$plugins"
	ln -sfn "$root/.tools/bin/docker-compose" "$plugins/docker-compose"
	version=$(docker compose version --short) ||
		fail "docker compose does not work: the client takes no plugin from $plugins"
	note "Compose $version is in $plugins"
}

start() {
	if ! command -v docker >/dev/null || ! answers; then
		started
	fi
	composes
}

stop() {
	local pid begin=$SECONDS
	pid=$(ours) || {
		note "no engine of ours runs"
		return
	}
	kill "$pid"
	while kill -0 "$pid" 2>/dev/null; do
		((SECONDS - begin <= stop_timeout)) || fail "dockerd, pid $pid, did not end in $stop_timeout s; its log is $log"
		sleep 0.5
	done
	note "dockerd, pid $pid, has ended"
}

status() {
	if ! answers; then
		note "no engine answers"
		return 1
	fi
	local pid compose
	compose=$(docker compose version --short 2>/dev/null) || compose=missing
	pid=$(ours) && pid=", pid $pid, started here"
	printf 'engine %s, storage %s, compose %s%s\n' \
		"$(docker version --format '{{.Server.Version}}')" "$(docker info --format '{{.Driver}}')" "$compose" "$pid"
}

mkdir -p "$state"
exec 9>"$state/.lock"
flock -w 900 9 || fail "$state/.lock: another run holds it for more than 15 minutes"
case ${1:-start} in
start | stop | status) "${1:-start}" ;;
*) fail "usage: tools/engine.sh [start|stop|status]" ;;
esac
