#!/bin/bash
#
# Runs in a clean Debian under systemd, in which the packages are installed: what
# docs/install.md tells an operator to do, and what must hold afterwards. See
# tools/test-packages.sh. The last line is PASSED, if all did.
set -euo pipefail

step() { printf -- '-- %s\n' "$*"; }
failed() {
	echo "FAILED: $*"
	journalctl --no-pager --lines 20 --unit pointsman --unit haproxy --unit consul --unit 'api@*' --output cat
	exit 1
}
trap 'failed "line $LINENO: $BASH_COMMAND"' ERR

# until_ok SECONDS COMMAND... tries the command until it succeeds.
until_ok() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		((SECONDS < end)) || failed "not in time: $*"
		sleep 0.1
	done
}
get() { curl --silent --show-error --fail --max-time 5 "$@"; }
has_leader() { get http://127.0.0.1:8500/v1/status/leader | grep -q :; }
both_up() { systemctl show pointsman --property StatusText | grep -q '2 of 2 servers up'; }
reloaded() { get http://127.0.0.1:9600/metrics | grep -q 'reloads_total{reason="service_added",result="ok"} 1'; }
status_of() { systemctl show --property "$2" --value "$1"; }

step "Debian's HAProxy runs as installed, with the drop-in"
systemctl is-active haproxy consul
until_ok 60 has_leader
[[ $(systemctl show haproxy --property ExecMainStatus --value) == 0 ]]
tr '\0' ' ' </proc/"$(status_of haproxy MainPID)"/cmdline | grep -F -- '-f /var/lib/pointsman/pointsman.cfg -S /run/haproxy-master.sock,mode,660,group,haproxy'
[[ $(stat -c '%U:%G %a' /run/haproxy-master.sock) == 'root:haproxy 660' ]]

step "manual pages"
man --pager=cat pointsman | grep -F 'Keep HAProxy in step with Consul'
man --pager=cat pointsman-deploy-undo | grep -F -- '--start'
man --pager=cat registrator-run | grep -F -- '--check'

step "pages"
[[ -s /usr/share/doc/pointsman/docs/template.md && -s /usr/share/doc/pointsman/docs/guides/upgrades.md && -s /usr/share/doc/pointsman/SECURITY.md ]]

step "without settings the sidecar does not start, and nothing fails"
systemctl start pointsman
[[ $(status_of pointsman ActiveState) == inactive ]]
[[ $(id -gn pointsman) == haproxy && $(id -u pointsman) != 0 ]]

step "the operator's frontend and the settings"
cp /root/haproxy.cfg /etc/haproxy/haproxy.cfg
cat >/etc/pointsman/sidecar.yaml <<'YAML'
haproxy:
  base_config: /etc/haproxy/haproxy.cfg
  config: /var/lib/pointsman/pointsman.cfg
services:
  - name: api
    check: {path: /healthz}
YAML
runuser -u pointsman -- pointsman render --write
systemctl restart haproxy
runuser -u pointsman -- pointsman check

step "the sidecar starts and is ready"
systemctl enable --now pointsman
[[ $(status_of pointsman ActiveState) == active ]]
[[ $(stat -c %U "/proc/$(status_of pointsman MainPID)") == pointsman ]]

step "two instances of a service, under the example's unit"
cp /usr/share/doc/pointsman-registrator/examples/api@.service /etc/systemd/system/
echo API_NO_REGISTER=true >/etc/default/api
systemctl daemon-reload
systemctl start api@4001 api@4002
# The frontend sends requests there: a change of the operator's own file.
sed -i 's/default_backend site/default_backend api/' /etc/haproxy/haproxy.cfg
systemctl reload haproxy
until_ok 15 get http://127.0.0.1/
[[ $(get http://127.0.0.1/own/1) == ours ]]
get http://127.0.0.1/ | grep -F '"version":"1.0"'
until_ok 15 both_up

step "a deployment loses no request"
(
	end=$((SECONDS + 60)) sent=0
	while [[ ! -e /run/stop ]] && ((SECONDS < end)); do
		get http://127.0.0.1/ >/dev/null || echo lost >>/root/lost
		sent=$((sent + 1))
	done
	echo "$sent" >/run/sent
) &
load=$!
echo VERSION=1.1 >>/etc/default/api
echo API_VERSION=1.1 >>/etc/default/api
systemctl restart api@4001
get 'http://127.0.0.1:9600/api/v1/live/api?version=1.1&count=1&wait=30s' | grep -F '"live":true'
systemctl restart api@4002
until_ok 15 both_up
touch /run/stop
wait "$load"
[[ ! -e /root/lost ]]
get http://127.0.0.1/ | grep -F '"version":"1.1"'
echo "$(cat /run/sent) requests, none lost"

step "a service that is added: the sidecar reloads HAProxy over the master socket"
printf '  - name: other\n' >>/etc/pointsman/sidecar.yaml
systemctl reload pointsman
until_ok 20 reloaded
grep -q '^backend other' /var/lib/pointsman/pointsman.cfg
get http://127.0.0.1/ >/dev/null

step "settings that are wrong are refused by systemctl reload"
cp /etc/pointsman/sidecar.yaml /root/right.yaml
echo 'nonsense: true' >>/etc/pointsman/sidecar.yaml
if systemctl reload pointsman 2>/dev/null; then failed "systemctl reload took wrong settings"; fi
cp /root/right.yaml /etc/pointsman/sidecar.yaml
[[ $(status_of pointsman ActiveState) == active ]]

step "a sidecar that is killed comes back, HAProxy serves"
before=$(status_of pointsman MainPID)
kill -KILL "$before"
get http://127.0.0.1/ >/dev/null
came_back() { [[ $(status_of pointsman ActiveState) == active && $(status_of pointsman MainPID) != "$before" ]]; }
until_ok 20 came_back

step "a sidecar that hangs is ended by the watchdog and comes back"
mkdir -p /run/systemd/system/pointsman.service.d
printf '[Service]\nWatchdogSec=2\n' >/run/systemd/system/pointsman.service.d/test.conf
systemctl daemon-reload
systemctl restart pointsman
before=$(status_of pointsman MainPID)
kill -STOP "$before"
until_ok 30 came_back
[[ $(status_of pointsman NRestarts) -ge 1 ]]
rm -r /run/systemd/system/pointsman.service.d
systemctl daemon-reload

step "the sandbox"
systemd-analyze verify /usr/lib/systemd/system/pointsman.service /etc/systemd/system/api@.service
systemd-analyze security --no-pager pointsman.service | tail -n 1

step "an upgrade restarts the sidecar"
before=$(status_of pointsman MainPID)
dpkg --install /root/pointsman_*.deb >/dev/null
until_ok 20 came_back

# removed removes the package, and prints what its scripts say.
removed() { DEBIAN_FRONTEND=noninteractive apt-get -q -y remove pointsman 2>&1; }
dropin=/etc/systemd/system/haproxy.service.d/10-pointsman.conf

step "the package is removed, HAProxy serves with what it has, also after a restart"
systemctl stop api@4001
removed | grep -F "pointsman: WARNING: HAProxy's own configuration is not valid without /var/lib/pointsman/pointsman.cfg."
[[ $(status_of pointsman ActiveState) == inactive ]]
get http://127.0.0.1/ >/dev/null
systemctl restart haproxy
until_ok 15 get http://127.0.0.1/

step "what HAProxy needs is kept by a purge"
dpkg --purge pointsman 2>&1 | grep -F '/var/lib/pointsman is kept'
systemctl reload haproxy
systemctl restart haproxy
until_ok 15 get http://127.0.0.1/

step "installed again, the drop-in is the package's"
dpkg --install /root/pointsman_*.deb >/dev/null
[[ ! -e $dropin ]]
tr '\0' ' ' </proc/"$(status_of haproxy MainPID)"/cmdline | grep -qF -- '-f /var/lib/pointsman/pointsman.cfg'

step "a HAProxy that needs nothing of ours: all goes, once it runs without"
sed -i 's/default_backend api/default_backend site/' /etc/haproxy/haproxy.cfg
if removed | grep -F WARNING; then failed "a warning without a cause"; fi
[[ ! -e $dropin ]]
systemctl reload haproxy
[[ $(get http://127.0.0.1/own/1) == ours ]]
systemctl restart haproxy
until_ok 15 get http://127.0.0.1/own/1
dpkg --purge pointsman
[[ ! -e /var/lib/pointsman ]]

trap - ERR
echo PASSED
