#!/usr/bin/env bash
#
# usage: tools/matrix.sh [check]
#
# Runs the tests that use real processes on every HAProxy and Consul that is
# supported, and makes the tables of docs/compatibility.md of what they have
# seen. With "check" it leaves the page alone, and fails if it is not current.
#
# PAIRS names the pairs, HAProxy+Consul, if not all are wanted. FACTS names a
# file that already has what was seen on the others. With QUICK=1 the tests of
# the whole are those in which the versions differ; CI runs it so.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
mode=${1:-write}
read -r -a pairs <<<"${PAIRS:-2.6+1.8 2.6+1.22 3.0+1.22 3.2+1.22 3.4+1.22}"

# The programs that these start are what the versions are about. An old Consul is
# tried on all that speaks to it, an HAProxy on all that speaks to one.
readonly on_haproxy="./sidecar/internal/haproxy ./sidecar/internal/render"
readonly options='-run=TestServerOptions|TestRollingDeployment|TestAgentCheck|TestOperatorServer|TestStaticBalance|TestPolicy_|TestBackend_'
whole=''
[[ ${QUICK:-} != 1 ]] || whole='-run=TestADeployment|TestAllNodesStopped|TestARestarted|TestChangesMadeByHand|TestAServiceIsAdded|Hostile|TestATunnel|TestAReloadInTheMiddle|TestAFrozen|TestCertificates_|TestSticky_|TestRoutes_|TestPause_|TestDiscover_HundredServices'
readonly whole
readonly on_consul="./sidecar/internal/consul ./sidecar/internal/consultest ./sidecar/internal/daemon ./sidecar/internal/cli ./registrator/..."

if [[ -z ${FACTS:-} ]]; then
	FACTS=$PWD/.tools/matrix/facts.jsonl
	mkdir -p "$(dirname "$FACTS")"
	: >"$FACTS"
fi
export MATRIX_FACTS=$FACTS

tools/haproxy-versions.sh >/dev/null
tools/consul-versions.sh >/dev/null

# consul_of VERSION prints the program of that Consul.
consul_of() {
	case $1 in
	1.8) echo "$PWD/.tools/consul/1.8/consul" ;;
	*) CONSUL='' tools/consul.sh ;;
	esac
}

# tests PACKAGES [FLAG] runs tests on the pair of the moment.
tests() {
	local flag=${2:-}
	# shellcheck disable=SC2086  # packages are words
	HAPROXY=$PWD/.tools/haproxy/$haproxy/haproxy CONSUL=$(consul_of "$consul") \
		MATRIX_HAPROXY=$haproxy MATRIX_CONSUL=$consul \
		go test -count=1 -shuffle=on -timeout=8m ${TESTFLAGS:-} ${flag:+"$flag"} $1
}

failed='' log=$(mktemp)
trap 'rm -f "$log"' EXIT
for pair in "${pairs[@]}"; do
	haproxy=${pair%+*} consul=${pair#*+} start=$SECONDS
	printf -- '-- HAProxy %s, Consul %s\n' "$haproxy" "$consul"
	# What speaks to HAProxy only runs once for each HAProxy, with the newest Consul;
	# what speaks to Consul once for each Consul, with the oldest HAProxy, and with the
	# old Consul on whichever HAProxy it is asked for. With QUICK the newest Consul has
	# been seen by `make test`.
	packages='' chosen=$options
	[[ $consul == 1.8 ]] || packages=$on_haproxy
	if [[ $consul == 1.8 || $haproxy == 2.6 && ${QUICK:-} != 1 ]]; then
		packages+=" $on_consul" chosen='' # all of daemon, the chosen tests too
	fi
	# The whole mostly waits, so it runs beside the rest.
	passed=1
	tests ./test/e2e "$whole" >"$log" 2>&1 &
	beside=$!
	tests "$packages" || passed=0
	[[ -z $chosen ]] || tests ./sidecar/internal/daemon "$chosen" || passed=0
	wait "$beside" || passed=0
	cat "$log"
	if ((passed)); then
		printf -- '-- HAProxy %s, Consul %s: passed in %d s\n' "$haproxy" "$consul" $((SECONDS - start))
	else
		failed+="HAProxy $haproxy with Consul $consul; "
	fi
done

if [[ -n $failed ]]; then
	printf 'failed on: %s\n' "${failed%; }" >&2
	exit 1
fi
if [[ $mode == check ]]; then
	go run ./test/compat/cmd/compatibility -check "$FACTS" docs/compatibility.md
else
	go run ./test/compat/cmd/compatibility "$FACTS" docs/compatibility.md
fi
