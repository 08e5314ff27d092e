#!/usr/bin/env bash
#
# usage: compose/deploy.sh VERSION
#
# Deploys a version of the API without losing a request: as many new containers
# as there are old ones; a wait until both load balancers route to all of them;
# then the old ones are stopped, and leave by themselves in the right order.
# These are three commands that can as well be typed (docs/compose.md).
#
# If the new version does not come up, it is removed, the old one is as it was,
# and the exit code is 1. DEPLOY_TIMEOUT is how many seconds it may take to come
# up, by default 60.
#
# What is deployed is written into the file of settings: .env, or the last that
# COMPOSE_ENV_FILES names. Else the next `docker compose up` would bring the old
# version back, and not gently.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly timeout=${DEPLOY_TIMEOUT:-60}
readonly settings=${COMPOSE_ENV_FILES:-.env}

note() { printf 'deploy: %s\n' "$*" >&2; }

# nodes prints the IDs of all nodes. One that was killed counts: `up` starts it.
nodes() { docker compose ps --quiet --all api | sort; }

# of_version prints how many of the old nodes are of the new version: a version
# may be deployed again, with another image under its name.
of_version() {
	# shellcheck disable=SC2086  # they are words
	docker inspect --format '{{.Config.Image}}' $old | grep -c ":$API_VERSION\$" || true
}

# take_back removes all nodes that were not there before.
take_back() {
	local new
	new=$(comm -13 <(echo "$old") <(nodes))
	[[ -n $new ]] || return 0
	note "removing the new nodes; the old ones were not touched"
	# shellcheck disable=SC2086  # they are words
	docker stop $new >/dev/null && docker rm $new >/dev/null
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
export API_VERSION=$1
old=$(nodes)
[[ -n $old ]] || {
	note "there are no nodes; start the sample first: docker compose up -d --wait"
	exit 1
}
count=$(wc -l <<<"$old")
live=$((count + $(of_version)))

note "starting $count nodes of $API_VERSION beside the $count that there are"
docker compose up -d --no-deps --no-recreate --scale api=$((2 * count)) api || {
	take_back
	exit 1
}
note "waiting until both load balancers route to them"
compose/live.sh "$API_VERSION" "$live" "$timeout" || {
	take_back
	note "$API_VERSION is not deployed"
	exit 1
}
note "stopping the old nodes"
docker compose up -d --no-deps --scale api="$count" api
remember "$API_VERSION"
note "$API_VERSION is deployed: $count nodes, in $SECONDS s"
