#!/usr/bin/env bash
#
# usage: compose/deploy.sh VERSION
#
# Deploys a version of the API without failed requests, by
# `pointsman deploy --compose` (docs/deploy.md): as many new containers as there
# are old ones; a wait until both load balancers route to all of them; then the
# old ones are stopped, and it waits until both report them drained.
#
# If the new version does not come up, it is removed, the old one is as it was,
# and the exit code is 1. DEPLOY_TIMEOUT is how many seconds it may take to come
# up, by default 60; DEPLOY_MIN_HEALTHY is how many it must then stay up before an
# old one is stopped, by default 10. DEPLOY_CANARY=25,50,100 gives the new version a part
# of the traffic in steps (docs/guides/canary.md), each for DEPLOY_INTERVAL, by default 1m;
# a version that has instances is not deployed again then. DEPLOY_BLUE_GREEN=1 switches all of it
# at once (docs/guides/blue-green.md), after DEPLOY_PREVIEW at most, by default at once, and
# keeps the old instances for DEPLOY_KEEP, by default 1m. Other exit codes are those of `pointsman deploy`.
#
# The deployed version is written into the file of settings: .env, or the last that
# COMPOSE_ENV_FILES names. Else the next `docker compose up` would bring the old
# version back, and not gently.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly timeout=${DEPLOY_TIMEOUT:-60}
readonly min_healthy=${DEPLOY_MIN_HEALTHY:-10}
how=(--redeploy)
[[ -z ${DEPLOY_CANARY:-} ]] || how=(--canary "$DEPLOY_CANARY" --interval "${DEPLOY_INTERVAL:-1m}")
[[ -z ${DEPLOY_BLUE_GREEN:-} ]] || how=(--blue-green --keep "${DEPLOY_KEEP:-1m}" --preview "${DEPLOY_PREVIEW:-0s}")
readonly how
readonly settings=${COMPOSE_ENV_FILES:-.env}

note() { printf 'deploy: %s\n' "$*" >&2; }

# fetch_program finds a sidecar that runs on this machine. Where Docker's
# containers are of Linux, and so is this, it is the very one of the containers;
# nothing has to be built for it.
fetch_program() {
	program=${SIDECAR:-}
	[[ -z $program ]] || return 0
	program=$work/sidecar
	if [[ $(uname -s) == Linux ]] && docker compose cp lb0-sidecar:/usr/local/bin/pointsman "$program" >/dev/null 2>&1; then
		return 0
	fi
	program=bin/pointsman
	[[ -x $program ]] || {
		note "there is no sidecar to run here: make build"
		return 1
	}
}

# setting NAME prints a variable of the sidecar of lb0. Its image has a shell, and
# may have little else.
setting() {
	# shellcheck disable=SC2016  # it is for the shell there
	docker compose exec -T lb0-sidecar sh -c 'eval "printf %s \"\${$1:-}\""' sh "$1"
}

# fetch_consul finds out how this machine reaches Consul: with the sidecar's own
# credentials where there are any (compose/cluster.yaml).
fetch_consul() {
	local token
	token=$(setting POINTSMAN_CONSUL_TOKEN_FILE)
	if [[ -z $token ]]; then
		consul=(--consul-address "$(docker compose port consul 8500)")
		return
	fi
	docker compose cp "lb0-sidecar:$token" "$work/token" >/dev/null 2>&1
	docker compose cp "lb0-sidecar:$(setting POINTSMAN_CONSUL_CA_FILE)" "$work/ca.pem" >/dev/null 2>&1
	consul=(--consul-address "https://$(docker compose port consul 8501)"
		--consul-token-file "$work/token" --consul-ca-file "$work/ca.pem")
}

# remember writes the version into the settings.
remember() {
	local file=${settings##*,}
	[[ -w $file ]] || return 0
	if grep -q '^API_VERSION=' "$file"; then
		sed -i.before "s|^API_VERSION=.*|API_VERSION=$1|" "$file" && rm "$file.before"
	else
		echo "API_VERSION=$1" >>"$file"
	fi
}

# The characters that both an image's tag and the registration can have.
if [[ $# != 1 || ! $1 =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$ ]]; then
	echo "usage: compose/deploy.sh VERSION, such as 1.1 (make deploy VERSION=1.1)" >&2
	exit 2
fi
[[ -n $(docker compose ps --quiet --all api) ]] || {
	note "there are no instances; start the sample first: docker compose up -d --wait"
	exit 1
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fetch_program
fetch_consul
# By the ports on this machine: containers' own addresses are not reached from
# everywhere. A version may be deployed again, with another image under its
# name, and building that may take its time.
"$program" deploy --config /dev/null --service api --version "$1" --compose api "${how[@]}" \
	--timeout "${timeout}s" --min-healthy "${min_healthy}s" --command-timeout 15m --load-balancers 2 \
	--load-balancer "lb0=$(docker compose port lb0-sidecar 9600)" \
	--load-balancer "lb1=$(docker compose port lb1-sidecar 9600)" \
	"${consul[@]}"
remember "$1"
