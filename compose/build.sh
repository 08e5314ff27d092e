#!/usr/bin/env bash
#
# usage: compose/build.sh
#
# Builds the images of our own programs, and prints their sizes. `docker compose
# up` builds what is missing by itself; but without BuildKit it would build what
# they have in common once for each, and all at the same time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# One service for each image.
readonly services="client0 api lb0-sidecar"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086  # they are words
COMPOSE_PARALLEL_LIMIT=1 docker compose --progress plain build $services >"$log" 2>&1 || {
	tail -n 40 "$log" >&2
	echo "build: docker compose build failed" >&2
	exit 1
}
# shellcheck disable=SC2086
docker compose config --images $services | sort -u | grep '^pointsman/' | while read -r image; do
	printf '%-31s %s\n' "$image" "$(docker image inspect --format '{{.Size}}' "$image" |
		awk '{ printf "%.1f MB", $1 / 1e6 }')"
done
