#!/usr/bin/env bash
#
# usage: tools/system.sh PROGRAM...
#
# Makes sure of programs that come from the packages of the system: haproxy, cc,
# python3, shellcheck, chromium, curl, keepalived (of which Debian's package starts
# nothing without a configuration), systemd-analyze, debootstrap, systemd-nspawn,
# rpm, postgres and redis-server, which Debian's packages start where services can be
# started, and nginx, which tools/nginx.sh asks for where it can't get it in another way.
# Missing ones are installed by the system's
# package manager as root, or by sudo; where neither is at hand it says what to
# install and fails.
# HAPROXY=PATH names an HAProxy to use instead of the system's.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=version.sh
. "$here/version.sh"

readonly oldest_haproxy=2.6
# No package manager may hang the build: seconds for one call.
readonly install_timeout=600

# have PROGRAM is true if it is there, and new enough.
have() {
	case $1 in
	haproxy)
		local binary
		binary=$(haproxy_path) && at_least "$(haproxy_version "$binary")" "$oldest_haproxy"
		;;
	# A user's PATH often lacks the place for servers.
	nginx | keepalived | redis-server) command -v "$1" >/dev/null || [[ -x /usr/sbin/$1 ]] ;;
	# Debian has a directory for each version.
	postgres) command -v postgres >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null ;;
	# Under any name that the tests find by themselves.
	chromium) command -v chromium chromium-browser google-chrome >/dev/null ;;
	*) command -v "$1" >/dev/null ;;
	esac
}

# haproxy_path prints the HAProxy that the tests take: HAPROXY, else the one on
# PATH, else Debian's place, which a user's PATH often lacks.
haproxy_path() {
	if [[ -n ${HAPROXY:-} ]]; then
		echo "$HAPROXY"
	else
		command -v haproxy || { [[ -x /usr/sbin/haproxy ]] && echo /usr/sbin/haproxy; }
	fi
}

# haproxy_version BINARY prints its version, as 2.6.12-1.
haproxy_version() { "$1" -v 2>/dev/null | awk 'NR == 1 { print $3 }'; }

# manager prints the system's package manager.
manager() {
	local name
	for name in apt-get dnf apk pacman zypper brew; do
		if command -v "$name" >/dev/null; then
			echo "$name"
			return
		fi
	done
	return 1
}

# package MANAGER PROGRAM prints the package that holds the program.
package() {
	case $1:$2 in
	apt-get:cc) echo gcc libc6-dev ;;
	apk:cc) echo gcc musl-dev ;;
	# What it recommends is a desktop of a hundred packages. It does need a font.
	apt-get:chromium) echo --no-install-recommends chromium fonts-liberation ;;
	apt-get:systemd-nspawn | dnf:systemd-nspawn) echo systemd-container ;;
	apt-get:postgres) echo --no-install-recommends postgresql ;;
	dnf:postgres | zypper:postgres) echo postgresql-server ;;
	*:postgres) echo postgresql ;;
	*:redis-server) [[ $1 == apt-get ]] && echo redis-server || echo redis ;;
	*:systemd-analyze | *:systemd-nspawn) echo systemd ;;
	apt-get:img2webp) echo webp ;;
	*:img2webp) echo libwebp-tools ;;
	*:cc) echo gcc ;;
	dnf:shellcheck) echo ShellCheck ;;
	zypper:shellcheck) echo ShellCheck ;;
	pacman:python3) echo python ;;
	*) echo "$2" ;;
	esac
}

# command_for MANAGER PACKAGE... prints the command that installs them.
command_for() {
	local name=$1
	shift
	case $name in
	apt-get) echo apt-get install -y "$@" ;;
	dnf) echo dnf install -y "$@" ;;
	apk) echo apk add "$@" ;;
	pacman) echo pacman -S --noconfirm "$@" ;;
	zypper) echo zypper --non-interactive install "$@" ;;
	brew) echo brew install "$@" ;;
	esac
}

# as_root prints what makes a command run as root: nothing if we are, else
# sudo. Without a terminal sudo must not ask for a password.
as_root() {
	if [[ $(id -u) == 0 ]]; then
		return
	fi
	command -v sudo >/dev/null || return 1
	if [[ -t 0 && -t 2 ]]; then
		echo sudo
	else
		sudo -n true 2>/dev/null && echo sudo -n
	fi
}

# install PROGRAM installs it, or says how to.
install() {
	local program=$1 name line sudo
	name=$(manager) || refuse "$program" "install it, and put it on PATH"
	# shellcheck disable=SC2046  # a program may need two packages
	line=$(command_for "$name" $(package "$name" "$program"))
	# Homebrew wants no root, and is asked for only where nothing else is.
	[[ $name == brew ]] && refuse "$program" "run: $line"
	sudo=$(as_root) || refuse "$program" "run as root: $line"
	echo "installing $program: ${sudo:+$sudo }$line" >&2
	# A list of packages that is too old names files that are gone, so a second
	# try comes after an update, and the first without one.
	run "$sudo" "$line" ||
		{ [[ $name == apt-get ]] && run "$sudo" "apt-get update" && run "$sudo" "$line"; } ||
		refuse "$program" "this failed: $line"
}

# run SUDO LINE runs the command and prints what it said only if it failed.
run() {
	local said
	# shellcheck disable=SC2086  # both are words
	if ! said=$(DEBIAN_FRONTEND=noninteractive timeout "$install_timeout" $1 $2 2>&1 </dev/null); then
		printf '%s\n' "$said" | sed 's/^/  /' >&2
		return 1
	fi
}

# refuse PROGRAM ADVICE ends the script: what is missing, and what to do.
refuse() {
	echo "$1 is missing: $2" >&2
	exit 1
}

for program; do
	have "$program" && continue
	if [[ $program == haproxy && -n ${HAPROXY:-} ]]; then
		refuse haproxy "HAPROXY=$HAPROXY is not an HAProxy $oldest_haproxy or newer that starts here"
	fi
	install "$program"
	have "$program" ||
		refuse "$program" "it was installed, but is still not found or too old (HAProxy: $oldest_haproxy or newer)"
done
