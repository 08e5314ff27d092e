#!/usr/bin/env bash
# Says how the simulation would notice that something is missing in the sidecar:
# takes one thing away at a time, in a copy of the tree, and runs histories until
# one fails. Prints a table for docs/simulation.md; exits 1 if one never fails, 2
# if none has a name that was given, or a part of it.
#
# usage: tools/sim-mutations.sh [SEEDS] [NAME…]
#        tools/sim-mutations.sh check     only whether each pattern finds its code
set -euo pipefail
cd "$(dirname "$0")/.."
seeds=${1:-30000}
shift || true

# what is missing @ file under sidecar/internal @ sed script
mutations='
the guard: min_servers @ plan/guard.go @ s/case stay < b.MinServers:/case false:/
the guard: how much may be lost at once @ plan/guard.go @ s/return lost > 1 \&\& .*/return false/
the guard in the file of an HAProxy that does not run @ plan/file.go @ s/b.holdInFile(lost, /b.holdInFile(lost[:0], /
a server that another one replaces is no loss @ plan/served.go @ s/return c.instance == nil .*/return false }/
a replacement is waited for @ plan/retire.go @ s/case c.isGood() \&\& spare <= 0:/case false:/
a drain waits for the sessions @ plan/retire.go @ s/case s.Sessions == 0:/case true:/
no server with sessions is deleted @ plan/retire.go @ s/	case s.Sessions > 0:/	case false:/
sessions of one who stays are not shut down @ plan/retire.go @ s/ \&\& !b.staysAt(s.Addr)//
no slot with sessions is given away @ plan/bind.go @ s/ \&\& s.Sessions == 0 \&\& !s.Agent.Decides()/ \&\& !s.Agent.Decides()/
a server moves by way of maint @ plan/keep.go @ s/case s.Admin == Maint, isAvailable(s) \&\& b.available == 1 \&\& coming == 0:/case true:/
who has moved into a slot stays there @ plan/bind.go @ s/case len(at) > 0:/case len(at) > 0 \&\& !named:/
a check that an operator has switched off comes back @ plan/keep.go @ s/if b.Checked \&\& !s.Checked \&\& !s.NoCheck {/if false {/
free slots stay until servers were added @ plan/retire.go @ s/(b.slots || !b.adds)/b.slots/
nothing is done where Consul has not answered @ plan/compute.go @ s/^	if !b.want.Known {$/	if false {/
sent steps are read back @ reconcile/converge.go @ s/		a.known.touch(s.Backend)$/		_ = s/
another worker is read whole @ reconcile/observed_cache.go @ s/ \&\& (o.PID != k.observed.PID || o.Marker != k.observed.Marker)/ \&\& false/
what fails is tried again @ reconcile/trouble.go @ s/t.until = .*/t.until = time.Now().Add(time.Hour)/
our own steps are no drift @ reconcile/observed_cache.go @ s/if !busy\[\[2\]string{f.Backend, s.Name}\] {/if false {/
drained: the file knows it too @ reconcile/drain.go @ s/ \&\& !svc.filePending//
drained: HAProxy was read after the file was written @ reconcile/file.go @ s/return f.fresh || /return /
drained: old workers may have it @ reconcile/drain.go @ s/s.HAProxy.OldWorkers == 0/true/
drained: the file of an HAProxy that does not run has it not @ reconcile/publish.go @ s/s.addFiled(p, want)//
drained: no instance at its address @ reconcile/drain.go @ s/case at\[i.Addr\]:/case false:/
reloads are spaced @ reconcile/reload.go @ s/if r.notBefore.After(due) {/if false {/
a request is done by a reload that began after it @ reconcile/reload.go @ s/r.move(RequestDue, RequestUnderWay, 0, nil)/r.move(RequestDue, RequestDone, 0, nil)/
reloads wait for old workers @ reconcile/reload.go @ s/case l.max.n > 0 .*/case false:/
the last good file comes back @ reconcile/reload.go @ s/if l.err != nil \&\& good != nil .*/if false {/
a file that is not known to be older stays @ reconcile/file.go @ s/		return false$/		continue/
the file is compared again and again @ reconcile/compare.go @ s/a.files.unsure = true/a.files.unsure = false/
a comparison is not newer than what the loop did meanwhile @ reconcile/compare.go @ s/ || k.touched\[name\] > c.began//
what a comparison finds is planned @ reconcile/compare.go @ s/^			k.fresh\[name\] = true$/			_ = exists/
a service is planned again when it was read @ reconcile/converge.go @ s/decision == nil || isFresh/decision == nil/
drained: no reload is under way @ reconcile/publish.go @ s/Pending: r.running != nil || /Pending: /
the file is not written while HAProxy reloads @ reconcile/file.go @ s/if a.reloads.running != nil {/if false {/
drained: no write of the file is under way @ reconcile/file.go @ s/return f.fresh || f.writing != nil ||/return f.fresh ||/
drained: no answer of its agent can bring it back @ reconcile/drain.go @ s/if i.Agent == plan.AgentOn.String() || .*/if i.Agent == plan.AgentOn.String() \&\& false {/
an agent is disabled where its server is out of traffic @ plan/agentcheck.go @ s/if c.server.Agent == AgentOn .*/if false {/
a static algorithm takes percentages only @ plan/weight.go @ s/return b.Static || s.Agent != NoAgent/return false/
a weight of 0 stays in the file of an unknown service @ plan/file.go @ s/case s.Weight == 0 \&\& s.Agent != AgentOn:/case false:/
a backend goes out of use before its servers do @ plan/whole.go @ s/case !b.unpublished:/case false:/
a backend gets requests once a server is up @ plan/whole.go @ s/|| b.hasHadItsTime())/|| true)/
a backend without servers is deleted @ plan/whole.go @ s/case len(b.servers) == 0:/case false:/
an unpublished backend is published again @ plan/whole.go @ s/if b.unpublished \&\& !b.Gone/if false/
a pass that failed waits for the next @ reconcile/agent.go @ s/	if err == nil {/	if true {/
what was decided stays while new settings wait for a reload @ reconcile/converge.go @ s/key.services = &set/key.services = \&d.Services/
the file is written beside the loop @ reconcile/file.go @ s/go func(w fileWrite)/func(w fileWrite)/
what was sent to a map is read back @ reconcile/routes.go @ s/if !isWhole \&\& !u.Replace \&\& a.shows(.*/if true {/
no route leads to a backend that is awaited @ reconcile/routes.go @ s/	want = withoutRoutesTo(without, m.Want)/	want = m.Want/
routes of new settings wait for their reload @ reconcile/routes.go @ s/ || o.Marker != a.set.Renderer.Marker() {/ {/
maps are compared again and again @ reconcile/routes.go @ s/r.whole = time.Now().Add(max(a.set.Reconcile, .*/r.whole = time.Now().Add(time.Hour)/
new routes are not live before HAProxy has them @ reconcile/routes.go @ s/r.fresh, r.due, r.applied = .*/r.fresh, r.due = true, time.Time{}/
who has a route keeps it @ route/claim.go @ s/if onlyOwn != (owners\[key\] == c.Service) {/if onlyOwn {/
a route that no instance claims stays for a while @ route/discover.go @ s/if d.now.Sub(r.Unclaimed) < d.Grace .*/if false {/
what a service without an answer has stays @ route/discover.go @ s/	if !c.Known { .*/	if false {/
what services may claim stays until Consul has said that @ reconcile/routes.go @ s/if m.Keep == nil || unheard == nil {/if true {/
the file has the newest routes @ reconcile/agent.go @ s/^	a.set, a.isolated.asked = s, s$/	s.Renderer = a.set.Renderer; a.set, a.isolated.asked = s, s/
an invalid rollout changes nothing @ rollout/overlay.go @ s/return document{good: was.good, /return document{/
a version without a share gets no traffic @ rollout/weights.go @ s/isListed \&\& share == 0 \&\&/false \&\& share == 0 \&\& isListed \&\&/
the newest rollout counts @ rollout/overlay.go @ s/	if was.index == e.Index \&\& .*/	if was.index != 0 {/
instances wait for the rollouts @ rollout/overlay.go @ s/^	if !o.read {$/	if false {/
who is known once the rollouts are read is news @ rollout/overlay.go @ s/^		o.noteChange(name, now)$/		_ = now; _ = name/
a rollout that cannot be read stays @ rollout/overlay.go @ /^func (o \*Overlay) take/,/^}/s/	if err != nil {/	if false {/
min_servers stay with a version without a share @ plan/retire.go @ s/(c.reason == ByOperator || c.isMeant) \&\& b.available <= /c.reason == ByOperator \&\& b.available <= /
a version without a share waits for one that has some @ plan/retire.go @ s/case c.isMeant \&\& serving == 0, /case c.isMeant \&\& serving < 0, /
the guard remembers @ reconcile/guard.go @ s/^	g.backends = next$/	g.backends = nil/
'

fails=0
if [ "$seeds" = check ]; then
	# A pattern that finds nothing would take nothing away. Cheap, so a test does it.
	while read -r line; do
		[ -n "$line" ] || continue
		file=${line#* @ }
		file=sidecar/internal/${file%% @ *}
		if [ ! -f "$file" ] || sed "${line##* @ }" "$file" | cmp -s - "$file"; then
			echo "sim-mutations: ${line%% @ *}: the pattern finds nothing in $file, correct the script's list" >&2
			fails=1
		fi
	done <<<"$mutations"
	exit $fails
fi

# chosen says whether a mutation is one that was asked for.
chosen() {
	[ ${#wanted[@]} -gt 0 ] || return 0
	for want in "${wanted[@]}"; do
		case $1 in *"$want"*) return 0 ;; esac
	done
	return 1
}
wanted=("$@")
ran=0

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
git ls-files -z sidecar registrator internal go.mod go.sum | xargs -0 cp --parents -t "$tmp"
export GOGC=400

while read -r line; do
	[ -n "$line" ] || continue
	name=${line%% @ *} file=${line#* @ } script=${line##* @ }
	file=sidecar/internal/${file%% @ *}
	chosen "$name" || continue
	ran=$((ran + 1))
	[ "$ran" -gt 1 ] || printf '| without | the first seed that fails | what it breaks |\n|---|---|---|\n'
	cp "$file" "$tmp/$file"
	sed -i "$script" "$tmp/$file"
	if cmp -s "$file" "$tmp/$file"; then
		echo "sim-mutations: $name: nothing to take away in $file, see the script's list" >&2
		exit 1
	fi
	if ! (cd "$tmp" && go test -c -o sim.test ./sidecar/internal/sim) >"$tmp/build" 2>&1; then
		cat "$tmp/build" >&2
		echo "sim-mutations: $name: does not build" >&2
		exit 1
	fi
	cp "$file" "$tmp/$file"
	seed=$("$tmp/sim.test" -test.run=TestHistories -test.timeout=30m -seeds="$seeds" -stop 2>&1 | sed -n 's/.*first failing seed: //p' || true)
	if [ -z "$seed" ]; then
		echo "| $name | none of $seeds | |"
		fails=1
		continue
	fi
	what=$("$tmp/sim.test" -test.run=TestHistories -seed="$seed" 2>&1 | sed -n 's/.*VIOLATION [0-9]* \([^:]*\):.*/\1/p' | head -1 || true)
	echo "| $name | $seed | $what |"
done <<<"$mutations"
if [ "$ran" = 0 ]; then
	echo "sim-mutations: none has the name $*, see the script's list" >&2
	exit 2
fi
exit $fails
