#!/bin/sh
#
# Makes the management token known to the cluster, and with it the policies of
# /policies and a token for each agent and each program: the tokens that keys.sh
# has made. A second run brings the policies up to what the files say.
set -eu

readonly private=/secrets/private
readonly agents="consul0 consul1 consul2 agent-lb0 agent-lb1 consul"
# Seconds until there must be a leader.
readonly patience=60

export CONSUL_HTTP_ADDR=https://consul0:8501 CONSUL_CACERT=$private/consul-agent-ca.pem
export CONSUL_HTTP_TOKEN_FILE=$private/token-management

# known is true once the cluster knows the management token.
known() { consul acl token read -self >/dev/null 2>&1; }

# bootstrap tells the cluster the management token. It can be done once, which
# takes a leader.
bootstrap() {
	i=0
	until known || said=$(CONSUL_HTTP_TOKEN_FILE='' consul acl bootstrap "$private/token-management" 2>&1); do
		i=$((i + 1))
		[ "$i" -lt "$patience" ] || {
			echo "acl: bootstrap: $said" >&2
			exit 1
		}
		sleep 1
	done
}

# policy NAME FILE makes a policy of the rules on standard input, or gives it
# these rules.
policy() {
	rules=$(cat)
	if consul acl policy read -name "$1" >/dev/null 2>&1; then
		consul acl policy update -name "$1" -rules "$rules" >/dev/null
	else
		consul acl policy create -name "$1" -rules "$rules" >/dev/null
	fi
}

# token NAME makes NAME's token known, with the policy NAME.
token() {
	CONSUL_HTTP_TOKEN_FILE=$private/token-$1 known ||
		consul acl token create -secret "$(cat "$private/token-$1")" -description "$1" -policy-name "$1" >/dev/null
}

bootstrap
for name in $agents; do
	sed "s/NODE/$name/" /policies/agent.hcl | policy "$name"
	token "$name"
done
for name in sidecar api client; do
	policy "$name" <"/policies/$name.hcl"
	token "$name"
done
echo "acl: the policies and the tokens are there"
