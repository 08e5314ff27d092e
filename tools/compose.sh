#!/usr/bin/env bash
#
# usage: tools/compose.sh
#
# Builds Docker Compose, which tools/compose/go.mod pins, into
# .tools/bin/docker-compose. It is a plain program and also a plugin: linked
# into a directory cli-plugins it makes `docker compose`.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=$(awk '$1 == "github.com/docker/compose/v5" { print $2 }' "$here/compose/go.mod")
exec "$here/build.sh" tools/compose github.com/docker/compose/v5/cmd docker-compose \
	-ldflags="-X github.com/docker/compose/v5/internal.Version=$version"
