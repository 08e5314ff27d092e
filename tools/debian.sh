# shellcheck shell=bash
#
# Functions that take programs out of Debian's suites without installing them.
# Sourced by haproxy-versions.sh and consul-versions.sh; does nothing by itself.
#
# The mirror is the one that this machine already uses: its address is read
# from apt's own sources, so that no file of the project names a host. Apt
# checks the signatures and hashes as it always does; it only keeps its state
# in a directory of ours, with a package database that is empty. So it neither
# sees nor touches what is installed.

# apt_timeout bounds one apt-get call, in seconds: a mirror that hangs must not
# hang the build.
readonly apt_timeout=300

# note says what goes on; fail says why it cannot and ends the script.
note() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
fail() {
	note "$*"
	exit 1
}

# debian_require fails, with the package's name, unless the tools that this
# file calls are there.
debian_require() {
	local tool
	for tool in apt-get dpkg dpkg-deb flock timeout; do
		command -v "$tool" >/dev/null ||
			fail "needs $tool: other versions come from Debian's suites, so run it on Debian"
	done
}

# apt_sources prints "URI SUITE" for each binary source of this machine's apt,
# from both formats (sources.list(5)): one line each, and deb822 stanzas.
apt_sources() {
	local etc=/etc/apt
	{ cat "$etc"/sources.list "$etc"/sources.list.d/*.list 2>/dev/null || true; } | awk '
		$1 == "deb" {
			line = $0
			sub(/\[[^]]*\]/, "", line)
			split(line, word)
			print word[2], word[3]
		}'
	{ cat "$etc"/sources.list.d/*.sources 2>/dev/null || true; } | awk -v RS= '
		{
			types = uris = suites = ""
			count = split($0, line, "\n")
			for (i = 1; i <= count; i++) {
				value = line[i]
				sub(/^[^:]*:[ \t]*/, "", value)
				if (line[i] ~ /^Types:/) types = value
				if (line[i] ~ /^URIs:/) uris = value
				if (line[i] ~ /^Suites:/) suites = value
				if (line[i] ~ /^Enabled:[ \t]*no/) types = ""
			}
			if (types !~ /(^| )deb( |$)/) next
			split(uris, uri, " ")
			n = split(suites, suite, " ")
			for (i = 1; i <= n; i++) print uri[1], suite[i]
		}'
}

# debian_mirror KIND prints the address of the machine's own mirror: KIND is
# "main" or "security". It prints nothing if apt knows none.
debian_mirror() {
	local codename pattern
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
	case $1 in
	main) pattern="^($codename|stable|testing|unstable|sid)$" ;;
	security) pattern='-security$' ;;
	esac
	apt_sources | awk -v suite="$pattern" '$2 ~ suite { print $1; exit }'
}

# debian_open STATE SUITE... makes STATE a place where apt knows these suites
# and nothing else. A suite named X-security is looked for on the security
# mirror, and left out where the machine has none.
debian_open() {
	local state=$1 suite uri
	shift
	mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
	: >"$state/status"
	: >"$state/sources.list"
	local options='' keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	[[ -e $keyring ]] && options="[signed-by=$keyring] "
	for suite; do
		case $suite in
		*-security) uri=$(debian_mirror security) ;;
		*) uri=$(debian_mirror main) ;;
		esac
		if [[ -z $uri ]]; then
			[[ $suite == *-security ]] && continue
			fail "suite $suite: apt's sources name no Debian mirror (is this Debian?)"
		fi
		printf 'deb %s%s %s main\n' "$options" "$uri" "$suite" >>"$state/sources.list"
	done
	debian_apt "$state" update >"$state/log" 2>&1 || {
		sed 's/^/  /' "$state/log" >&2
		fail "suite $*: the mirror did not give its package lists"
	}
}

# debian_apt STATE ARGUMENT... runs apt-get on that state alone.
debian_apt() {
	local state=$1
	shift
	timeout "$apt_timeout" apt-get -q -y \
		-o Dir::State="$state" \
		-o Dir::State::lists="$state/lists" \
		-o Dir::State::status="$state/status" \
		-o Dir::Cache="$state/cache" \
		-o Dir::Etc::sourcelist="$state/sources.list" \
		-o Dir::Etc::sourceparts=/dev/null \
		-o Dir::Etc::preferences=/dev/null \
		-o Dir::Etc::preferencesparts=/dev/null \
		-o Acquire::Languages=none \
		-o Acquire::Retries=2 \
		-o Acquire::http::Timeout=30 \
		-o APT::Sandbox::User=root \
		-o APT::Update::Error-Mode=any \
		"$@"
}

# debian_closure STATE NAME[=PATTERN] prints NAME=VERSION for the package itself
# and for every library that it needs, directly or not. The names are asked
# for, not listed here, because sid's libraries change theirs.
debian_closure() {
	local state=$1 package=$2
	debian_apt "$state" --simulate --no-install-recommends install "$package" |
		awk -v main="${package%%=*}" '
			$1 == "Inst" && ($2 == main || $2 ~ /^(lib|zlib)/) {
				version = $3
				sub(/^\(/, "", version)
				print $2 "=" version
			}'
}

# debian_unpack STATE ROOT PACKAGE... downloads the packages and unpacks them
# below ROOT. Nothing of theirs runs: no maintainer script, no trigger.
debian_unpack() {
	local state=$1 root=$2 deb
	shift 2
	mkdir -p "$state/debs" "$root"
	(cd "$state/debs" && debian_apt "$state" download "$@") >"$state/log" 2>&1 || {
		sed 's/^/  /' "$state/log" >&2
		fail "package $1: download failed"
	}
	for deb in "$state"/debs/*.deb; do
		dpkg-deb --extract "$deb" "$root"
	done
}
