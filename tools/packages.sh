#!/usr/bin/env bash
#
# usage: tools/packages.sh [DIR]
#
# Makes what a release consists of, in DIR (bin/packages): for amd64 and arm64 a deb
# and an rpm of the sidecar and of the registrator, with manual pages made from their
# commands, and an archive of both programs; a bill of materials of each program (CycloneDX); and SHA256SUMS of all of it. The
# container images are made by `make images`.
#
# Environment:
#   VERSION   what the packages say they are; default: the tag, or 0.0.0~COMMIT
#   ARCHES    default "amd64 arm64"; ARCHES=amd64 FORMATS=deb is the quickest
#   FORMATS   default "deb rpm"
#   SBOM=0    leaves out the bills of materials
#
# All times in the packages are the commit's.
# nfpm and cyclonedx-gomod are run from their modules, at these versions and with the
# dependencies that they were released with. goreleaser 2.15 would make the same files
# from a configuration of about this length: it has 1,788 packages of 326 modules to
# compile, where nfpm has 428 of 56, and needs another program for the bills of materials
# as well.
set -euo pipefail

readonly nfpm=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
readonly cyclonedx=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
out=$(realpath -m "${1:-bin/packages}")
read -ra arches <<<"${ARCHES:-amd64 arm64}"
read -ra formats <<<"${FORMATS:-deb rpm}"

version() {
	local described
	described=$(git describe --tags --match 'v*' 2>/dev/null) || described=0.0.0~$(git rev-parse --short=12 HEAD)
	echo "${described#v}"
}
VERSION=${VERSION:-$(version)}
# A package's version begins with a digit.
[[ $VERSION == [0-9]* ]] || {
	echo "VERSION $VERSION: a package's version begins with a digit" >&2
	exit 2
}
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export VERSION SOURCE_DATE_EPOCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -rf "$out"
mkdir -p "$out"

# tool PACKAGE@VERSION builds a program from its module into $work.
tool() {
	GOBIN=$work CGO_ENABLED=0 nice -n 10 go install "$1" >"$work/log" 2>&1 || {
		sed 's/^/  /' "$work/log" >&2
		echo "$1 cannot be built" >&2
		exit 1
	}
}

# pages PACKAGE writes a manual page for each command of the program.
pages() {
	TZ=UTC go test -count=1 -run '^TestManPages' "$1" -args -man "$MAN" -man-version "$VERSION" >"$work/log" || {
		cat "$work/log" >&2
		exit 1
	}
}

MAN=$work/man
export MAN
mkdir "$MAN"
pages ./sidecar/internal/cli
pages ./registrator/cmd/registrator/internal/cli
gzip -9n "$MAN"/*.1

tool "$nfpm"
[[ ${SBOM:-1} == 0 ]] || tool "$cyclonedx"
for ARCH in "${arches[@]}"; do
	BIN=$work/pointsman_${VERSION}_linux_$ARCH
	export ARCH BIN
	mkdir "$BIN"
	CGO_ENABLED=0 GOOS=linux GOARCH=$ARCH go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION" \
		-o "$BIN/" ./sidecar/cmd/pointsman ./registrator/cmd/registrator
	for package in pointsman registrator; do
		for format in "${formats[@]}"; do
			"$work/nfpm" package --config "deploy/nfpm/$package.yaml" --packager "$format" --target "$out/" >/dev/null
		done
		[[ ${SBOM:-1} == 0 ]] || "$work/cyclonedx-gomod" bin -json -version "$VERSION" -noserial -notimestamp \
			-output "$out/${package}_${VERSION}_linux_$ARCH.cdx.json" "$BIN/$package" 2>/dev/null
	done
	cp LICENSE ./*.md "$BIN/"
	cp -r deploy docs "$BIN/"
	cp -r "$MAN" "$BIN/man"
	tar --create --directory "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner "${BIN##*/}" |
		gzip -n >"$out/${BIN##*/}.tar.gz"
done
(cd "$out" && sha256sum -- * >SHA256SUMS)
cat "$out/SHA256SUMS"
