#!/bin/sh
#
# Makes, once, all that is secret in the cluster: the certificate authority, a
# certificate for each agent, the key of the gossip, and the tokens. Nothing of
# it leaves the volumes, and each program sees only a volume with its own.
#
#   /secrets/private    the authority's key, the management token; only for
#                       this container and the one that runs acl.sh
#   /secrets/AGENT      an agent's certificate, and its agent.json
#   /secrets/PROGRAM    the authority's certificate, and the program's token
#
# A second run finds everything there and changes nothing.
set -eu
umask 077

readonly private=/secrets/private
readonly servers="consul0 consul1 consul2" clients="agent-lb0 agent-lb1 consul"
# Users in the images: consul's, HAProxy's, and that of compose/Dockerfile.
readonly consul=100:1000 haproxy=99:99 program=65532:65532

token() { cat /proc/sys/kernel/random/uuid; }

# once FILE COMMAND... makes the file of what the command prints, whole or not
# at all, if it is not there.
once() {
	file=$1
	shift
	[ -s "$file" ] || { "$@" >"$file.new" && mv "$file.new" "$file"; }
}

# certificate KIND NAME makes one for an agent; it is good for a year.
certificate() {
	[ ! -s "/secrets/$2/cert.pem" ] || return 0
	work=$(mktemp -d)
	(cd "$work" && consul tls cert create "-$1" -days 365 -additional-dnsname "$2" \
		-ca "$private/consul-agent-ca.pem" -key "$private/consul-agent-ca-key.pem" >/dev/null)
	mv "$work"/*-key.pem "/secrets/$2/key.pem"
	mv "$work"/*.pem "/secrets/$2/cert.pem"
	rmdir "$work"
}

# agent KIND NAME makes all that is an agent's own.
agent() {
	certificate "$1" "$2"
	once "$private/token-$2" token
	server=false
	[ "$1" = client ] || server='true, "bootstrap_expect": 3'
	cat >"/secrets/$2/agent.json" <<-JSON
		{
		  "node_name": "$2",
		  "server": $server,
		  "encrypt": "$(cat "$private/gossip")",
		  "acl": {"tokens": {"agent": "$(cat "$private/token-$2")"}}
		}
	JSON
	own "$2" "$consul"
}

# program NAME USER makes what a program needs to talk to its agent.
program() {
	once "$private/token-$1" token
	cp "$private/token-$1" "/secrets/$1/token"
	own "$1" "$2"
}

# own NAME USER adds the authority's certificate and hands the volume over.
own() {
	cp "$private/consul-agent-ca.pem" "/secrets/$1/ca.pem"
	chmod 400 "/secrets/$1"/*
	chmod 500 "/secrets/$1"
	chown -R "$2" "/secrets/$1"
}

cd "$private"
[ -s consul-agent-ca-key.pem ] || consul tls ca create -days 1825 >/dev/null
once "$private/gossip" consul keygen
once "$private/token-management" token
for name in $servers; do agent server "$name"; done
for name in $clients; do agent client "$name"; done
program sidecar "$haproxy"
program api "$program"
program client "$program"
echo "keys: the certificates, the gossip key and the tokens are there"
