#!/usr/bin/env bash
#
# usage: tools/images.sh [IMAGE...]
#
# Makes the base images that compose.yaml and compose/Dockerfile name, where no
# registry can be reached: busybox, golang, haproxy, consul, or only the IMAGEs
# named. They get the very names that the files use, so that the same files run.
#
#   busybox   Debian's busybox-static
#   golang    the Go of this machine, with the modules that go.mod names: a
#             build inside needs no network
#   haproxy   HAProxy out of the Debian suite that has the version
#             (tools/haproxy-versions.sh), with bash and busybox
#   consul    the Consul that `make tools` builds, with busybox
#   prometheus  Prometheus from Debian, only if it is named: compose/monitoring.yaml
#             runs it
#
# The versions are those of .env, or of the environment: HAPROXY_VERSION=3.4
# tools/images.sh haproxy makes another haproxy beside the first.
#
# Where a registry answers there is nothing to do, since Docker fetches what it
# misses; LOCAL=1 makes them nevertheless. Existing ones are left alone, but
# golang is made again when go.mod changes. REFRESH=1 makes all again.
#
# Nothing is installed, and of the packages nothing is run: they are unpacked,
# and the programs taken out together with the libraries that they load.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=debian.sh
. "$here/debian.sh"
root=$(cd "$here/.." && pwd)
# What is being made lies here; when it is done it goes.
readonly work=$root/.tools/images
# Seconds: for a registry to hand out the smallest image; for one build.
readonly registry_timeout=45 build_timeout=600
# Made here, and of what: so that no image of a registry is taken for ours.
readonly label=org.pointsman.local

# setting NAME prints a variable of the environment, else of .env.
setting() {
	if [[ -n ${!1:-} ]]; then
		echo "${!1}"
	else
		awk -F= -v name="$1" '$1 == name { print $2; found = 1 } END { exit !found }' "$root/.env" ||
			fail "$1 is neither in the environment nor in .env"
	fi
}

# name IMAGE prints the name that the compose files use.
name() {
	case $1 in
	busybox) echo "busybox:$(setting BUSYBOX_VERSION)" ;;
	golang) echo "golang:$(setting GO_VERSION)" ;;
	haproxy) echo "haproxy:$(setting HAPROXY_VERSION)" ;;
	consul) echo "hashicorp/consul:$(setting CONSUL_VERSION)" ;;
	prometheus) echo "prom/prometheus:v$(setting PROMETHEUS_VERSION)" ;;
	*) fail "no image '$1': busybox, golang, haproxy, consul or prometheus" ;;
	esac
}

# key IMAGE prints what the image depends on and is not in its name.
key() {
	{
		cat "${BASH_SOURCE[0]}" "$root/compose/images/$1"/*
		[[ $1 != golang ]] || cat "$root/go.mod" "$root/go.sum"
	} | cksum | cut -d' ' -f1
}

# made IMAGE is true if it is there and needs not be made: one of ours of this
# key, or one that came from a registry.
made() {
	local found
	[[ -z ${REFRESH:-} ]] || return 1
	found=$(docker image inspect --format "{{index .Config.Labels \"$label\"}} local" "$(name "$1")" 2>/dev/null) || return 1
	[[ $found == "$(key "$1") local" || $found == " local" || $found == "<no value> local" ]]
}

# registry_answers is true if Docker can fetch an image, the smallest we need.
registry_answers() {
	local image
	image=$(name busybox)
	made busybox && [[ $(docker image inspect --format "{{index .Config.Labels \"$label\"}}" "$image") ]] && return 1
	timeout "$registry_timeout" docker pull --quiet "$image" >/dev/null 2>&1
}

# suite opens Debian's suite for downloads, once, and prints the apt state.
suite() {
	local state=$work/apt-$1
	[[ -e $state/sources.list ]] || debian_open "$state" "$1"
	echo "$state"
}

# unpack SUITE DIR PACKAGE... unpacks packages of a suite below DIR.
unpack() {
	local state
	state=$(suite "$1")
	rm -rf "$state/debs"
	debian_unpack "$state" "$2" "${@:3}"
}

# skeleton DIR makes what every root file system has: the directories, names
# for root and for one USER:UID:GID, where programs look for host names, and
# busybox with its links.
skeleton() {
	local dir=$1 user=${2:-} program
	mkdir -p "$dir"/{dev,etc,proc,root,sys,tmp,usr/bin,usr/lib,usr/lib64,usr/sbin,usr/local/bin,var/lib}
	chmod 1777 "$dir/tmp"
	for program in bin lib lib64 sbin; do
		ln -s "usr/$program" "$dir/$program"
	done
	printf 'root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n' >"$dir/etc/passwd"
	printf 'root:x:0:\nnogroup:x:65534:\n' >"$dir/etc/group"
	echo 'hosts: files dns' >"$dir/etc/nsswitch.conf"
	if [[ -n $user ]]; then
		IFS=: read -r user uid gid <<<"$user"
		printf '%s:x:%s:%s::/:/bin/false\n' "$user" "$uid" "$gid" >>"$dir/etc/passwd"
		printf '%s:x:%s:\n' "$user" "$gid" >>"$dir/etc/group"
	fi
	busybox >/dev/null
	cp "$work/busybox/usr/bin/busybox" "$dir/usr/bin/"
	"$dir/usr/bin/busybox" --list | while read -r program; do
		[[ $program == busybox ]] || ln -s busybox "$dir/usr/bin/$program"
	done
}

# busybox makes sure of the program in $work/busybox.
busybox() { [[ -x $work/busybox/usr/bin/busybox ]] || unpack trixie "$work/busybox" busybox-static; }

# with_libraries FROM TO PROGRAM copies a program, the loader that it names, and
# every library that it loads, directly or not, out of one unpacked tree into a
# root file system.
with_libraries() {
	local from=$1 to=$2 program=$3 file needed
	local -a queue=("$program")
	local -A seen=()
	while ((${#queue[@]})); do
		needed=${queue[0]}
		queue=("${queue[@]:1}")
		[[ -z ${seen[$needed]:-} ]] || continue
		seen[$needed]=1
		if [[ $needed == /* ]]; then
			file=$(find "$from$needed" "$from/usr$needed" -print -quit 2>/dev/null) || true
		else
			# Not every tree has every directory, and find fails for one that is missing.
			file=$(find "$from"/{usr/,}{bin,sbin,lib,lib64} -name "$needed" -print -quit 2>/dev/null) || true
		fi
		[[ -n $file ]] || fail "$program: $needed is not among the unpacked packages"
		copy_below_usr "$from" "$file" "$to"
		while read -r needed; do
			[[ -z $needed ]] || queue+=("$needed")
		done < <(patchelf --print-needed "$file" 2>/dev/null; patchelf --print-interpreter "$file" 2>/dev/null)
	done
}

# copy_below_usr FROM FILE TO copies FROM/…/FILE to TO/usr/…/FILE: before
# trixie, parts of a tree are not below /usr. What a link points to goes under
# the link's name.
copy_below_usr() {
	local path=${2#"$1"/}
	path=usr/${path#usr/}
	mkdir -p "$3/$(dirname "$path")"
	cp -L --preserve=mode "$2" "$3/$path"
}

make_busybox() { skeleton "$1/rootfs"; }

# make_golang takes Go and the modules of go.mod, so that a build needs neither
# a proxy nor a checksum database: go.sum has been checked against it here.
make_golang() {
	local rootfs=$1/rootfs goroot cache part
	part=$(go env GOVERSION)
	[[ $part == "go$(setting GO_VERSION)" || $part == "go$(setting GO_VERSION)".* ]] ||
		fail "golang:$(setting GO_VERSION): the Go here is $part"
	goroot=$(go env GOROOT) cache=$(go env GOMODCACHE)
	skeleton "$rootfs"
	mkdir -p "$rootfs/usr/local/go" "$rootfs/go"
	for part in LICENSE VERSION bin lib pkg src; do
		cp -a "$goroot/$part" "$rootfs/usr/local/go/"
	done
	# The programs of `go tool` are there compiled, and no test of Go runs here.
	rm -rf "$rootfs/usr/local/go/src/cmd"
	find "$rootfs/usr/local/go/src" \( -name testdata -o -name '*_test.go' \) -prune -exec rm -rf {} +
	printf 'GOPROXY=off\nGOSUMDB=off\nGOTOOLCHAIN=local\n' >"$rootfs/usr/local/go/go.env"
	# What the machine's own cache has is taken from there.
	(cd "$root" && GOMODCACHE=$rootfs/go/pkg/mod GOFLAGS=-modcacherw \
		GOPROXY="file://$cache/cache/download,$(go env GOPROXY)" go mod download) >"$work/log" 2>&1 || {
		sed 's/^/  /' "$work/log" >&2
		fail "golang: the modules that go.mod names cannot be had"
	}
}

make_haproxy() {
	local dir=$1 minor debian
	minor=$(setting HAPROXY_VERSION)
	"$here/haproxy-versions.sh" "$minor" >/dev/null
	debian=$root/.tools/haproxy/$minor/root
	skeleton "$dir/rootfs" haproxy:99:99
	with_libraries "$debian" "$dir/rootfs" haproxy
	# bash, because health checks that suit the official image need it.
	unpack "$(suite_of "$minor")" "$dir/bash" bash libtinfo6 libc6
	with_libraries "$dir/bash" "$dir/rootfs" bash
	rm -rf "$dir/bash"
	mkdir -p "$dir/rootfs/usr/local/etc/haproxy" "$dir/home"
	cp "$root/compose/images/haproxy/docker-entrypoint.sh" "$dir/rootfs/usr/local/bin/"
}

# suite_of MINOR prints the Debian suite whose libraries that HAProxy uses.
suite_of() {
	case $1 in
	2.6) echo bookworm ;;
	3.0) echo trixie ;;
	*) echo sid ;;
	esac
}

make_consul() {
	local dir=$1 consul minor version
	minor=$(setting CONSUL_VERSION)
	"$here/build.sh" tools github.com/hashicorp/consul consul
	consul=$root/.tools/bin/consul
	version=$("$consul" version)
	[[ $version == "Consul v$minor".* ]] ||
		fail "hashicorp/consul:$minor: tools/go.mod pins another: ${version%%$'\n'*}"
	skeleton "$dir/rootfs" consul:100:1000
	cp "$consul" "$dir/rootfs/usr/bin/"
	mkdir -p "$dir/home"/{config,data}
	cp "$root/compose/images/consul/docker-entrypoint.sh" "$dir/rootfs/usr/local/bin/"
}

make_prometheus() {
	local dir=$1 minor version
	minor=$(setting PROMETHEUS_VERSION)
	minor=${minor%.*}
	unpack trixie "$dir/debian" prometheus libc6
	version=$("$dir/debian/usr/bin/prometheus" --version 2>&1)
	[[ $version == "prometheus, version $minor".* ]] ||
		fail "prom/prometheus:v$minor: Debian trixie has another: ${version%%$'\n'*}"
	skeleton "$dir/rootfs"
	with_libraries "$dir/debian" "$dir/rootfs" prometheus
	rm -rf "$dir/debian"
	mkdir "$dir/home"
}

# provide IMAGE makes it, if it is not there.
provide() {
	local image=$1 dir=$work/$1.new start=$SECONDS before
	if ! made "$image"; then
		before=$(docker image inspect --format '{{.ID}}' "$(name "$image")" 2>/dev/null) || before=''
		rm -rf "$dir"
		mkdir -p "$dir"
		"make_$image" "$dir"
		timeout "$build_timeout" docker build --label "$label=$(key "$image")" --tag "$(name "$image")" \
			--file "$root/compose/images/$image/Dockerfile" "$dir" >"$work/log" 2>&1 || {
			tail -n 20 "$work/log" | sed 's/^/  /' >&2
			fail "$(name "$image"): docker build failed"
		}
		rm -rf "$dir"
		# The one that had the name before, unless something still uses it.
		[[ -z $before ]] || docker image rm "$before" >/dev/null 2>&1 || true
		note "made $(name "$image") in $((SECONDS - start)) s"
	fi
	printf '%-31s %s\n' "$(name "$image")" "$(docker image inspect --format '{{.Size}}' "$(name "$image")" |
		awk '{ printf "%.1f MB", $1 / 1e6 }')"
}

main() {
	local image
	[[ $# -gt 0 ]] || set -- busybox golang haproxy consul
	for image; do
		name "$image" >/dev/null
	done
	docker info >/dev/null 2>&1 || fail "no Docker engine answers: see 'make engine'"
	mkdir -p "$work"
	exec 9>"$work/.lock"
	flock -w 900 9 || fail "$work/.lock: another run holds it for more than 15 minutes"
	if [[ -z ${LOCAL:-} ]] && registry_answers; then
		note "a registry answers: Docker fetches what it needs (LOCAL=1 makes the images nevertheless)"
		return
	fi
	debian_require
	command -v patchelf >/dev/null || fail "needs patchelf: run 'apt-get install patchelf' as root, then this again"
	for image; do
		provide "$image"
	done
	rm -rf "$work"/apt-* "$work/busybox" "$work/log"
}

main "$@"
