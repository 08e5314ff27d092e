package config_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/config"
)

func TestLoadTellsAllThatIsWrongAtOnce(t *testing.T) {
	_, err := load(t, input{
		yaml: strings.Join([]string{
			"consul:",             // 1
			"  adress: x",         // 2
			"  wait: 30",          // 3
			"reload:",             // 4
			"  max_old_workers: ", // 5
			"services:",           // 6
			"- name: api",         // 7
			"  bind: \"*:70000\"", // 8
			"  name: api2",        // 9
		}, "\n"),
		env:  []string{"POINTSMAN_CONSOLE_TOKEN=hush-hush", "POINTSMAN_LOG_LEVEL=loud", "POINTSMAN_RELOAD_DEBOUNCE=5s", "POINTSMAN_HAPROXY_GLOBAL_THREADS=many"},
		args: []string{"--log-format=loud"},
	})
	want := []string{
		`POINTSMAN_CONSOLE_TOKEN: no such setting; did you mean POINTSMAN_CONSUL_TOKEN?`,
		file + `:2: consul.adress: no such setting; did you mean address?`,
		file + `:3: consul.wait "30": has no unit: write 30s for seconds, 30ms for milliseconds`,
		file + `:5: reload.max_old_workers: has no value; write "" for none`,
		file + `:9: services[api].name: is set twice, first in line 7`,
		file + `:8: services[api].bind "*:70000": item 1, "*:70000": port "70000" must be a number from 1 to 65535`,
		`POINTSMAN_HAPROXY_GLOBAL_THREADS: haproxy.global.threads "many": must be a whole number, 0 to 4096`,
		`POINTSMAN_LOG_LEVEL: log.level "loud": must be trace, debug, info, warn or error`,
		`--log-format: log.format "loud": must be text or json`,
		`POINTSMAN_RELOAD_DEBOUNCE: reload.debounce "5s": is more than reload.max_delay, 1s`,
	}
	if diff := cmp.Diff(strings.Split(fmt.Sprint(err), "\n"), want); diff != "" {
		t.Errorf("errors (-got +want):\n%s", diff)
	}
	var first *config.Error
	if !errors.As(err, &first) || first.Source != "POINTSMAN_CONSOLE_TOKEN" {
		t.Errorf("errors.As gave %+v, want the first *Error", first)
	}
}

func TestLoadRefuses(t *testing.T) {
	service := func(rest string) string { return "services:\n- name: api\n  " + rest + "\n" }
	for _, c := range []struct {
		name string
		in   input
		want string // the one error
	}{
		{"no services at all", input{yaml: "log: {level: info}\n"}, file + `: services: must be set; write [] for none`},
		{"an empty file", input{yaml: "# nothing\n"}, file + `: services: must be set; write [] for none`},
		{"no file", input{}, file + `: services: must be set, and the file does not exist`},
		{"a named file that is missing", input{args: []string{"--config=/x.yaml"}}, `--config: config "/x.yaml": cannot be read: open /x.yaml: file does not exist`},
		{"services as null", input{yaml: "services:\n"}, file + `:1: services: must be a list; write [] for none`},
		{"a service without a name", input{yaml: "services:\n- {bind: \":80\"}\n"}, file + `:2: services[0].name: required`},
		{"a service that is no section", input{yaml: "services:\n- api\n"}, file + `:2: services[0]: must be a section of keys and values`},
		{"a section that is a value", input{yaml: "services: []\nconsul: localhost\n"}, file + `:2: consul: must be a section of keys and values`},
		{"a value that is a section", input{yaml: "services: []\nname: {a: b}\n"}, file + `:2: name: must be a single value`},
		{"a value that is a list", input{yaml: "services: []\nname: [a]\n"}, file + `:2: name: must be a single value`},
		{"a list that is a section", input{yaml: service("tags: {a: b}")}, file + `:3: services[api].tags: must be a list`},
		{"an item that is a list", input{yaml: service("tags: [[a]]")}, file + `:3: services[api].tags: item 1 must be a text`},
		{"YAML that does not parse", input{yaml: "services: []\na: [1\n"}, file + `:1: is not YAML: did not find expected ',' or ']'`},
		{"a second document", input{yaml: "services: []\n---\nname: x\n"}, file + `:2: is not YAML: there is a second document (---): only one is read`},
		{"an unknown anchor, without its name", input{yaml: "services: []\nconsul: {token: *hush}\n"}, file + `: is not YAML: unknown anchor (a value that begins with '*' must be quoted)`},
		{"a dotted key", input{yaml: "services: []\nconsul.address: x\n"}, file + `:2: consul.address: no such setting; keys are nested and not written with dots`},
		{"a key of another section", input{yaml: "services: []\nconsul: {socket: x}\n"}, file + `:2: consul.socket: no such setting; did you mean haproxy.socket?`},
		{"an unknown key far from all", input{yaml: "services: []\nquux: x\n"}, file + `:2: quux: no such setting`},
		{"an unknown section, once", input{yaml: "services: []\nquux: {a: 1, b: 2}\n"}, file + `:2: quux: no such setting`},
		{"an unknown key of a service", input{yaml: service("check: {riese: 1}")}, file + `:3: services[api].check.riese: no such setting; did you mean rise?`},
		{"a renamed section", input{yaml: "services: []\nstatus: {address: \":1\"}\n"}, file + `:2: status: no such setting; it was renamed: api`},
		{"a section of renamed settings", input{yaml: "services: []\nsettle: {min: 1s}\n"}, file + `:2: settle: no such setting; it was renamed: reload.debounce and reload.max_delay`},
		{"a renamed setting of a service", input{yaml: service("max_removal: 0.3")}, file + `:3: services[api].max_removal: no such setting; it was renamed: guard.max_loss_ratio`},
		{"a renamed section's variable", input{yaml: "services: []\n", env: []string{"POINTSMAN_BALANCER_SERVICE=lb"}}, `POINTSMAN_BALANCER_SERVICE: no such setting; it was renamed: POINTSMAN_REGISTRATION_SERVICE`},
		{"a renamed variable", input{yaml: "services: []\n", env: []string{"POINTSMAN_SETTLE_MAX=1s"}}, `POINTSMAN_SETTLE_MAX: no such setting; it was renamed: POINTSMAN_RELOAD_MAX_DELAY`},
		{"the file's own name in the file", input{yaml: "services: []\nconfig: x\n"}, file + `:2: config: no such setting; did you mean haproxy.config?`},
		{"a host name that is no name", input{yaml: "services: []\n", host: "a b"}, `host name: name "a b": may contain only letters, digits, '-', '_' and '.'`},
		{"a malformed variable of Consul's", input{yaml: "services: []\n", env: []string{"CONSUL_HTTP_SSL_VERIFY=perhaps"}}, `CONSUL_HTTP_SSL_VERIFY: consul.insecure_skip_verify "perhaps": must be true or false`},
		{"an empty number", input{yaml: "services: []\n", env: []string{"POINTSMAN_HAPROXY_GLOBAL_THREADS="}}, `POINTSMAN_HAPROXY_GLOBAL_THREADS: haproxy.global.threads: must be a whole number, 0 to 4096`},
		{"a file's value that a flag hides", input{yaml: "services: []\nlog: {level: loud}\n", args: []string{"--log-level=warn"}}, file + `:2: log.level "loud": must be trace, debug, info, warn or error`},
		{"a token and a token file", input{yaml: "services: []\nconsul: {token: hush, token_file: /f}\n"}, file + `:2: consul.token_file "/f": is set together with consul.token: only one can be used`},
		{"an address with a password, without the password", input{yaml: "services: []\n", env: []string{"POINTSMAN_CONSUL_ADDRESS=http://user:hush@10.0.0.1:8500"}}, `POINTSMAN_CONSUL_ADDRESS: consul.address "http://***@10.0.0.1:8500": must be a URL of scheme, host and port; credentials go to consul.http_auth`},
		{"one without a scheme, too", input{yaml: "consul: {address: \"user:hu/sh@10.0.0.1:8500\"}\nservices: []\n"}, file + `:1: consul.address "***@10.0.0.1:8500": must be host:port`},
		{"a token with a newline, without the token", input{yaml: "services: []\n", env: []string{"POINTSMAN_CONSUL_TOKEN=hush\n"}}, `POINTSMAN_CONSUL_TOKEN: consul.token "***": must not contain the control character '\n'`},
		{"a token with a tab, which a header would not have", input{yaml: "services: []\napi: {token: \"hu\\tsh\"}\n"}, file + `:2: api.token "***": must not contain the control character '\t'`},
		{"a token with a space at its end", input{yaml: "services: []\n", env: []string{"CONSUL_HTTP_TOKEN=hush "}}, `CONSUL_HTTP_TOKEN: consul.token "***": must contain only printable ASCII characters and no space`},
		{"a token in letters that a header does not take", input{yaml: "services: []\n", env: []string{"POINTSMAN_API_TOKEN=hüsh"}}, `POINTSMAN_API_TOKEN: api.token "***": must contain only printable ASCII characters and no space`},
		{"a password with a tab", input{yaml: "services: []\n", env: []string{"CONSUL_HTTP_AUTH=user:hu\tsh"}}, `CONSUL_HTTP_AUTH: consul.http_auth "***": must not contain the control character '\t'`},
		{"a status certificate without its key", input{yaml: "services: []\napi: {tls: {cert_file: /c}}\n"}, file + `:2: api.tls.cert_file "/c": needs api.tls.key_file`},
		{"clients' certificates without TLS", input{yaml: "services: []\napi: {tls: {client_ca_file: /c}}\n"}, file + `:2: api.tls.client_ca_file "/c": needs api.tls.cert_file`},
		{"two status tokens", input{yaml: "services: []\napi: {token: se-cret, token_file: /t}\n"}, file + `:2: api.token_file "/t": is set together with api.token: only one can be used`},
		{"a sidecar registered as its load balancer", input{yaml: "services: [{name: api, bind: ':80'}]\napi: {service: lb}\nhaproxy: {health: {bind: ':81'}}\nregistration: {service: lb}\n"}, file + `:2: api.service "lb": is the load balancer's own service: see registration.service`},
		{"an advertised address that is every address", input{yaml: "services: []\napi: {advertise: '0.0.0.0:9600'}\n"}, file + `:2: api.advertise "0.0.0.0:9600": must be the address of one machine`},
		{"a certificate without its key", input{yaml: "services: []\nconsul: {cert_file: /c}\n"}, file + `:2: consul.cert_file "/c": needs consul.key_file`},
		{"an address of no known scheme", input{yaml: "services: []\nconsul: {address: \"ftp://x:1\"}\n"}, file + `:2: consul.address "ftp://x:1": must be host:port, http://…, https://… or unix:///path`},
		{"an address without a port", input{yaml: "services: []\nconsul: {address: localhost}\n"}, file + `:2: consul.address "localhost": must be host:port`},
		{"HAProxy's own spelling of a socket", input{yaml: "services: []\nhaproxy: {socket: unix@/run/x}\n"}, file + `:2: haproxy.socket "unix@/run/x": must be a path or host:port, without unix@`},
		{"a command in one word", input{yaml: "services: []\nhaproxy: {reload_command: systemctl reload haproxy}\n"}, file + `:2: haproxy.reload_command "systemctl reload haproxy": is run without a shell: write a list, [systemctl, reload, haproxy]`},
		{"a check that names no file", input{yaml: "services: []\nhaproxy: {check_command: [haproxy, -c]}\n"}, file + `:2: haproxy.check_command: must name the file to check by {file}`},
		{"a bare duration", input{yaml: service("drain_timeout: 10")}, file + `:3: services[api].drain_timeout "10": has no unit: write 10s for seconds, 10ms for milliseconds`},
		{"a duration in days", input{yaml: service("drain_timeout: 1d")}, file + `:3: services[api].drain_timeout "1d": must be a duration such as 250ms, 30s or 5m`},
		{"a duration that HAProxy cannot count", input{yaml: service("check: {inter: 1500us}")}, file + `:3: services[api].check.inter "1500us": must be whole milliseconds`},
		{"a duration below its bound", input{yaml: service("check: {inter: 0s}")}, file + `:3: services[api].check.inter "0s": must be a duration, 1ms to 1h`},
		{"no rise", input{yaml: service("check: {rise: 0}")}, file + `:3: services[api].check.rise "0": must be a whole number, 1 to 1000`},
		{"a share that is no number", input{yaml: service("guard: {max_loss_ratio: NaN}")}, file + `:3: services[api].guard.max_loss_ratio "NaN": must be a number, 0 to 1`},
		{"a share above one", input{yaml: service("guard: {max_loss_ratio: 50}")}, file + `:3: services[api].guard.max_loss_ratio "50": must be a number, 0 to 1`},
		{"a name with a space", input{yaml: service("backend: a b")}, file + `:3: services[api].backend "a b": may contain only letters, digits, '-', '_' and '.'`},
		{"a service of the health answer's name", input{yaml: service("backend: pointsman.rotation")}, file + `:3: services[api].backend "pointsman.rotation": is reserved for Pointsman in haproxy.cfg`},
		{"a health answer at a service's address", input{yaml: service("bind: \":80\"") + "haproxy: {health: {bind: \"*:80\"}}\n"}, file + `:3: services[api].bind: :80 is already bound by haproxy.health.bind`},
		{"a registered load balancer without a port", input{yaml: "services: []\nregistration: {service: lb, check: {url: \"http://lb0/\"}}\n"}, file + `:2: registration.service "lb": needs registration.port, because no service or frontend binds a port`},
		{"a registered load balancer with several ports", input{yaml: "services: [{name: api, bind: \":80\"}, {name: web, bind: \":81\"}]\nregistration: {service: lb, check: {url: \"http://lb0/\"}}\n"}, file + `:2: registration.service "lb": needs registration.port, because services and frontends bind 2 ports`},
		{"a registered load balancer that nothing checks", input{yaml: service("bind: \":80\"") + "registration: {service: lb}\n"}, file + `:4: registration.service "lb": needs haproxy.health.bind with a port, or registration.check.url, for its health check`},
		{"a load balancer checked by a path", input{yaml: service("bind: \":80\"") + "registration: {service: lb, check: {url: /healthz}}\n"}, file + `:4: registration.check.url "/healthz": must be a URL of http:// or https://, without credentials`},
		{"a load balancer that is everywhere", input{yaml: "services: []\nregistration: {address: 0.0.0.0}\n"}, file + `:2: registration.address "0.0.0.0": must be the address of one machine`},
		{"a load balancer that is forgotten at once", input{yaml: "services: []\nregistration: {deregister_after: 10s}\n"}, file + `:2: registration.deregister_after "10s": must be a duration, 1m to 720h`},
		{"an unknown mode", input{yaml: service("mode: http2")}, file + `:3: services[api].mode "http2": must be http or tcp`},
		{"a newline in a line", input{yaml: service(`backend_extra: ["a\nb"]`)}, file + `:3: services[api].backend_extra: item 1, "a\nb": must not contain the control character '\n'`},
		{"a line that leaves its section", input{yaml: service(`frontend_extra: ["  backend evil"]`)}, file + `:3: services[api].frontend_extra: item 1, "  backend evil": begins another section of haproxy.cfg (backend); only lines of this section can be added`},
		{"another command in a server's options", input{yaml: service(`server_options: "ssl; disable server a/b"`)}, file + `:3: services[api].server_options "ssl; disable server a/b": must not contain the character ';'`},
		{"a comment in a server's options", input{yaml: service(`server_options: "ssl # x"`)}, file + `:3: services[api].server_options "ssl # x": must not contain the character '#'`},
		{"a path with a space", input{yaml: service(`check: {path: "/a b"}`)}, file + `:3: services[api].check.path "/a b": must not contain a space`},
		{"a bind address without a port", input{yaml: service("bind: 127.0.0.1")}, file + `:3: services[api].bind "127.0.0.1": item 1, "127.0.0.1": must be address:port, such as *:80 or 127.0.0.1:8080, or a path`},
		{"a bind address that is a name", input{yaml: service("bind: localhost:80")}, file + `:3: services[api].bind "localhost:80": item 1, "localhost:80": must be an IP address or *, and a port`},
		{"two addresses in one line", input{yaml: service("retry_on: conn-failure 503")}, file + `:3: services[api].retry_on "conn-failure 503": item 1, "conn-failure 503": must be a list: [conn-failure, 503]`},
		{"an unknown retry", input{yaml: service("retry_on: [always]")}, file + `:3: services[api].retry_on: item 1, "always": is not a condition of HAProxy's retry-on`},
		{"retry-on in mode tcp", input{yaml: "services:\n- name: api\n  mode: tcp\n  retry_on: [conn-failure]\n"}, file + `:4: services[api].retry_on: needs mode http`},
		{"a damping that is longer at first than at most", input{yaml: service("damping: {min: 1h}")}, file + `:3: services[api].damping.min "1h": is more than damping.max, 5m`},
		{"a whole section with a dot", input{yaml: "services: []\nhaproxy.global: {maxconn: 1}\n"}, file + `:2: haproxy.global: no such setting`},
		{"a list as null", input{yaml: service("tags:")}, file + `:3: services[api].tags: has no value; write [] for none`},
		{"an item as null", input{yaml: service("tags: [~]")}, file + `:3: services[api].tags: item 1 must be a text`},
		{"a key without its certificate", input{yaml: "services: []\nconsul: {key_file: /k}\n"}, file + `:2: consul.key_file "/k": needs consul.cert_file`},
		{"a socket's path that is too long", input{yaml: "services: []\n", args: []string{"--haproxy-socket=/" + strings.Repeat("x", 107)}}, `--haproxy-socket: haproxy.socket "/` + strings.Repeat("x", 99) + `"…: is longer than a unix socket's path may be, 107 bytes`},
		{"a wrong value, and not what follows from it", input{yaml: "services: []\nreload: {debounce: 5s, max_delay: long}\n"}, file + `:2: reload.max_delay "long": must be a duration such as 250ms, 30s or 5m`},
		{"unknown variables, in order", input{yaml: "services: []\n", env: []string{"POINTSMAN_ZZZZZZZZZ=1", "POINTSMAN_QQQQQQQQQ=1"}}, "POINTSMAN_QQQQQQQQQ: no such setting\nPOINTSMAN_ZZZZZZZZZ: no such setting"},
		{"a mode of a file that is none", input{yaml: "services: []\nhaproxy: {global: {stats_socket_mode: 888}}\n"}, file + `:2: haproxy.global.stats_socket_mode "888": must be a file's mode in octal, such as 660`},
		{"one service twice for one backend", input{yaml: "services:\n- name: api\n- name: api\n  tags: b\n"}, file + `:3: services[1].backend "api": is listed twice: each needs a backend of its own`},
		{"a time to end sessions that never end", input{yaml: service("session_kill_after: 0s\n  session_kill_spread: 10s")}, file + `:4: services[api].session_kill_spread "10s": has no effect with services[api].session_kill_after 0s, which leaves sessions to the instance`},
		{"slow start with a static algorithm", input{yaml: service("balance: source\n  slow_start: 10s")}, file + `:4: services[api].slow_start "10s": has no effect with the static algorithm of services[api].balance, source`},
		{"a check of gRPC", input{yaml: service("check: {type: grpc}")}, file + `:3: services[api].check.type "grpc": is not supported: gRPC gives its status in trailers, which HAProxy's checks do not read; use tcp, or http and the port of an HTTP health endpoint by server_options: port N`},
		{"a check of pgsql without a user", input{yaml: service("check: {type: pgsql}")}, file + `:3: services[api].check.type "pgsql": needs a check.user`},
		{"a path for a check that asks for none", input{yaml: service("check: {type: redis, path: /x}")}, file + `:3: services[api].check.path "/x": is of check.type http, and check.type is redis`},
		{"a user for a check that names none", input{yaml: service("check: {user: x}")}, file + `:3: services[api].check.user "x": is of check.type pgsql or mysql, and check.type is http`},
		{"responses observed in mode tcp", input{yaml: service("mode: tcp\n  outlier: {observe: layer7}")}, file + `:4: services[api].outlier.observe "layer7": needs mode http; in mode tcp use layer4`},
		{"outliers without health checks", input{yaml: service("check: {enabled: false}\n  outlier: {observe: layer4}")}, file + `:4: services[api].outlier.observe "layer4": needs check.enabled: a server that is down comes back by its health check`},
		{"a setting that says nothing without another", input{yaml: service("upstream: {sni: x}")}, file + `:3: services[api].upstream.sni: needs upstream.tls`},
		{"TLS without an authority", input{yaml: service("upstream: {tls: true}")}, file + `:3: services[api].upstream.tls "true": needs upstream.ca_file, which signs the servers' certificates; upstream.verify: false accepts any`},
		{"an authority that nothing is compared with", input{yaml: service("upstream: {tls: true, verify: false, ca_file: /ca}")}, file + `:3: services[api].upstream.ca_file "/ca": is not used with upstream.verify: false`},
		{"TLS of no name", input{yaml: service("upstream: {tls: true, ca_file: /ca}")}, file + `:3: services[api].upstream.tls "true": needs upstream.sni, the name in the servers' certificates; upstream.verify: false accepts any`},
		{"a line that is in no section", input{yaml: "services: []\nhaproxy: {sections: 'user x'}\n"}, file + ":2: haproxy.sections \"user x\": item 1, \"user x\": must begin a section, such as `userlist NAME`"},
		{"a section that services make", input{yaml: "services: []\nhaproxy:\n  sections: |\n    userlist x\n    backend evil\n"}, file + `:3: haproxy.sections "userlist x\nbackend evil\n": item 2, "backend evil": a section backend cannot be added; services make frontends and backends, and haproxy.template is for all else`},
		{"a section that has a setting", input{yaml: "services: []\nhaproxy: {sections: [global]}\n"}, file + `:2: haproxy.sections: item 1, "global": its lines go to haproxy.global.extra`},
		{"a section with a name of ours", input{yaml: "services: []\nhaproxy: {sections: [peers pointsman]}\n"}, file + `:2: haproxy.sections: item 1, "peers pointsman": the name is reserved for Pointsman in haproxy.cfg`},
		{"certificates without TLS", input{yaml: service("bind: '*:80'\n  certificates: {directory: /c}")}, file + ":4: services[api].certificates.directory \"/c\": needs a bind address with the word ssl, such as `*:443 ssl`"},
		{"certificates and a certificate", input{yaml: service("bind: '*:443 ssl crt /x'\n  certificates: {directory: /c}")}, file + `:3: services[api].bind "*:443 ssl crt /x": "crt" is set by certificates.directory`},
		{"a client's address without peers", input{yaml: service("sticky: {source: true}")}, file + `:3: services[api].sticky.source "true": needs haproxy.peers.address: without it HAProxy forgets its clients at each reload, and each load balancer has servers of its own`},
		{"a client's address and a cookie", input{yaml: service("sticky: {source: true, cookie: x}") + "haproxy: {peers: {address: '10.0.0.1:1'}}\n"}, file + `:3: services[api].sticky.source "true": is not used with sticky.cookie: choose one`},
		{"a peer that is everywhere", input{yaml: "services: []\nhaproxy: {peers: {address: '0.0.0.0:10000'}}\n"}, file + `:2: haproxy.peers.address "0.0.0.0:10000": must be the address of one machine`},
		{"a peer at a service's address", input{yaml: service("bind: '10.0.0.1:80'") + "haproxy: {peers: {address: '10.0.0.1:80'}}\n"}, file + `:3: services[api].bind: 10.0.0.1:80 is already bound by haproxy.peers.address`},
		{"peers that cannot be found", input{yaml: "services: []\napi: {service: ''}\nhaproxy: {peers: {address: '10.0.0.1:1'}}\n"}, file + `:3: haproxy.peers.address "10.0.0.1:1": needs api.service: the load balancers find each other by it`},
		{"another name among the peers", input{yaml: "services: []\nhaproxy: {global: {extra: [localpeer x]}, peers: {address: '10.0.0.1:1'}}\n"}, file + `:2: haproxy.global.extra "localpeer x": localpeer is set by haproxy.peers.address: HAProxy would not know which of the peers it is`},
		{"the master's socket for the worker's", input{yaml: "services: []\nhaproxy: {socket: /run/haproxy-master.sock}\n"}, file + `:2: haproxy.socket "/run/haproxy-master.sock": is haproxy.master_socket too: this is the socket of ` + "`stats socket` in haproxy.cfg, that the one of `haproxy -S`"},
		{"peers in include mode", input{yaml: "services: []\nhaproxy: {base_config: /x.cfg, peers: {address: '10.0.0.1:1'}}\n"}, file + `:2: haproxy.peers.address "10.0.0.1:1": must not be set with haproxy.base_config: write the section peers there`},
		{"a cookie in mode tcp", input{yaml: service("mode: tcp\n  sticky: {cookie: SRV}")}, file + `:4: services[api].sticky.cookie: needs mode http`},
		{"a keyword by a setting and by server_options", input{yaml: service("slow_start: 10s\n  server_options: slowstart 5s")}, file + `:4: services[api].server_options "slowstart 5s": "slowstart" is set by slow_start`},
		{"certificates that server_options do not check", input{yaml: service("upstream: {tls: true, ca_file: /ca, sni: x}\n  server_options: verify none")}, file + `:4: services[api].server_options "verify none": "verify" is set by upstream.tls`},
		{"another name in checks", input{yaml: service("upstream: {tls: true, ca_file: /ca, sni: x}\n  server_options: ciphers ssl check-sni y")}, file + `:4: services[api].server_options "ciphers ssl check-sni y": "check-sni" is set by upstream.tls`},
		{"an agent check twice", input{yaml: service("agent_check: {from_meta: true}\n  server_options: agent-check agent-port 9")}, file + `:4: services[api].server_options "agent-check agent-port 9": "agent-check" is set by agent_check.from_meta`},
		{"requests that end when an instance leaves", input{yaml: service("agent_check: {from_meta: true}\n  server_options: on-marked-down shutdown-sessions")}, file + `:4: services[api].server_options "on-marked-down shutdown-sessions": "on-marked-down" would end the requests of an instance that leaves: agent_check.from_meta takes it down`},
		{"an agent elsewhere beside those of the instances", input{yaml: service("agent_check: {from_meta: true}\n  server_options: agent-addr 192.0.2.1")}, file + `:4: services[api].server_options "agent-addr 192.0.2.1": "agent-addr" is not used with agent_check.from_meta: each instance is asked at its own address, and reads nothing`},
		{"what no instance's agent reads", input{yaml: service("agent_check: {from_meta: true}\n  server_options: agent-send hello")}, file + `:4: services[api].server_options "agent-send hello": "agent-send" is not used with agent_check.from_meta: each instance is asked at its own address, and reads nothing`},
		{"an interval of no agent check", input{yaml: service("agent_check: {interval: 1s}")}, file + `:3: services[api].agent_check.interval: needs agent_check.from_meta`},
		{"another limit of errors", input{yaml: service("outlier: {observe: layer4}\n  server_options: error-limit 1")}, file + `:4: services[api].server_options "error-limit 1": "error-limit" is set by outlier.observe`},
		{"a line by a setting and by backend_extra", input{yaml: service("retries: 1\n  backend_extra: [retries 5]")}, file + `:4: services[api].backend_extra "retries 5": is set by retries`},
		{"a datacenter twice", input{yaml: service("datacenters: [dc1, dc2, dc1]")}, file + `:3: services[api].datacenters: item 3: "dc1" is listed twice`},
		{"a datacenter without a name", input{yaml: service("datacenters: [dc1, '']")}, file + `:3: services[api].datacenters: item 2, "": must not be empty`},
		{"a datacenter in upper case", input{yaml: service("datacenters: [dc1, DC2]")}, file + `:3: services[api].datacenters: item 2, "DC2": must be in lower case, as Consul's datacenters are: write "dc2"`},
		{"a datacenter that is a query", input{yaml: service("datacenters: [dc1, 'dc2&stale']")}, file + `:3: services[api].datacenters: item 2, "dc2&stale": may contain only lower-case letters, digits, '-' and '_'`},
		{"a datacenter with a dot", input{yaml: service("datacenters: [dc1, eu.dc2]")}, file + `:3: services[api].datacenters: item 2, "eu.dc2": may contain only lower-case letters, digits, '-' and '_'`},
		{"a datacenter with a control character", input{yaml: service(`datacenters: [dc1, "dc2\nx"]`)}, file + `:3: services[api].datacenters: item 2, "dc2\nx": may contain only lower-case letters, digits, '-' and '_'`},
		{"a backend without datacenters beside one with them", input{yaml: service("datacenters: [dc1, dc2]\n- name: api\n  backend: api-ro")}, file + `:4: services[1].datacenters "[]": must be set, because services[api].datacenters is set for the same service: an instance that leaves asks about its own datacenter, which this backend does not name`},
		{"zones and datacenters", input{yaml: service("datacenters: [dc1, dc2]\n  prefer_zone: true")}, file + `:4: services[api].prefer_zone "true": is not used with several datacenters: HAProxy has one tier of backups, in which other zones and other datacenters would be alike`},
		{"a password in clear text, without the password", input{yaml: service("basic_auth: {users: 'alice:hush'}")}, file + `:3: services[api].basic_auth.users "***": item 1 must be NAME:HASH, with a name of letters, digits, '-', '_', '.' and '@', and a hash that begins with $5$ or $6$, as ` + "`openssl passwd -6` prints"},
		{"a user listed twice", input{yaml: service("basic_auth: {users: ['alice:$6$x$hush', 'alice:$5$x$hush']}")}, file + `:3: services[api].basic_auth.users: item 2: the user "alice" is listed twice`},
		{"a type that is none", input{yaml: service("compression: [html]")}, file + `:3: services[api].compression: item 1, "html": must be a media type such as text/html, or its beginning such as text/`},
		{"a backend of the rate limit's name", input{yaml: service("backend: pointsman.rate.api")}, file + `:3: services[api].backend "pointsman.rate.api": is reserved for Pointsman in haproxy.cfg`},
		{"a cookie that is not dynamic", input{yaml: service(`backend_extra: [cookie SRV insert indirect nocache]`)}, file + ":3: services[api].backend_extra \"cookie SRV insert indirect nocache\": no server would be sticky: write `cookie NAME insert indirect nocache dynamic`, and a line `dynamic-cookie-key KEY`"},
		{"a dynamic cookie without a key", input{yaml: service(`backend_extra: [cookie SRV insert dynamic]`)}, file + ":3: services[api].backend_extra \"cookie SRV insert dynamic\": no server would be sticky: needs a line `dynamic-cookie-key KEY`, the same on every load balancer"},
		{"one backend twice", input{yaml: "services:\n- name: a\n- name: b\n  backend: a\n"}, file + `:4: services[b].backend "a": is already the backend of a`},
		{"a default backend that is taken", input{yaml: "services:\n- name: a\n  backend: b\n- name: b\n"}, file + `:4: services[b].backend "b": is already the backend of a`},
		{"a bind address of another family", input{yaml: service("bind: 'ipv6@127.0.0.1:80'")}, file + `:3: services[api].bind "ipv6@127.0.0.1:80": item 1, "ipv6@127.0.0.1:80": must be an address of ipv6`},
		{"a bind address of no family", input{yaml: service("bind: 'fd@3'")}, file + `:3: services[api].bind "fd@3": item 1, "fd@3": must be an address with nothing, ipv4@, ipv6@ or unix@ before it`},
		{"a socket without a path", input{yaml: service("bind: 'unix@x'")}, file + `:3: services[api].bind "unix@x": item 1, "unix@x": must be a path that begins with '/' after unix@`},
		{"ports that end before they begin", input{yaml: service("bind: '*:81-80'")}, file + `:3: services[api].bind "*:81-80": item 1, "*:81-80": the ports "81-80" end before they begin`},
		{"a range beyond the last port", input{yaml: service("bind: '*:80-70000'")}, file + `:3: services[api].bind "*:80-70000": item 1, "*:80-70000": port "70000" must be a number from 1 to 65535`},
		{"a network with bits beyond it", input{yaml: "services: []\naddresses: {allow: 10.0.0.1/8}\n"}, file + `:2: addresses.allow "10.0.0.1/8": item 1, "10.0.0.1/8": has bits beyond its length: write 10.0.0.0/8`},
		{"a network that is a name", input{yaml: service("addresses: {deny: [10.0.0.1, office]}")}, file + `:3: services[api].addresses.deny: item 2, "office": must be a network such as 10.0.0.0/8, or an address`},
		{"a comma too many", input{yaml: service("bind: '*:80,'")}, file + `:3: services[api].bind "*:80,": item 1, "*:80,": must be address:port, such as *:80 or 127.0.0.1:8080, or a path`},
		{"one port of two ranges", input{yaml: "services:\n- {name: a, bind: '*:80-90'}\n- {name: b, bind: '*:79,ipv4@*:90-99'}\n"}, file + `:3: services[b].bind: ipv4@*:90-99 is already bound by services[a].bind`},
		{"one address of all", input{yaml: "services:\n- {name: a, bind: '*:80'}\n- {name: b, bind: '10.0.0.1:79-81'}\n"}, file + `:3: services[b].bind: 10.0.0.1:79-81 overlaps *:80 of services[a].bind: HAProxy would listen on both, and a connection reaches only one of them`},
		{"all of one address", input{yaml: "services:\n- {name: a, bind: '10.0.0.1:80 ssl crt /x'}\n- {name: b, bind: ':80'}\n"}, file + `:3: services[b].bind: :80 overlaps 10.0.0.1:80 of services[a].bind: HAProxy would listen on both, and a connection reaches only one of them`},
		{"IPv4 of all addresses", input{yaml: "services:\n- {name: a, bind: ':::80'}\n- {name: b, bind: '10.0.0.1:80'}\n"}, file + `:3: services[b].bind: 10.0.0.1:80 overlaps :::80 of services[a].bind: HAProxy would listen on both, and a connection reaches only one of them`},
		{"all addresses and an interface", input{yaml: "services:\n- {name: a, bind: '*:80 interface eth0'}\n- {name: b, bind: '10.0.0.1:80'}\n"}, file + `:3: services[b].bind: 10.0.0.1:80 overlaps *:80 of services[a].bind: HAProxy would listen on both, and a connection reaches only one of them`},
		{"a frontend over a service", input{yaml: "services:\n- {name: a, bind: '127.0.0.1:80'}\nfrontends:\n- {name: web, bind: '*:80'}\n"}, file + `:4: frontends[web].bind: *:80 overlaps 127.0.0.1:80 of services[a].bind: HAProxy would listen on both, and a connection reaches only one of them`},
		{"one path twice", input{yaml: "services:\n- {name: a, bind: /run/a.sock}\n- {name: b, bind: 'unix@/run/a.sock'}\n"}, file + `:3: services[b].bind: unix@/run/a.sock is already bound by services[a].bind`},
		{"one address twice, spelt differently", input{yaml: "services:\n- {name: a, bind: \"*:80\"}\n- name: b\n  bind: [\":81\", \"0.0.0.0:80 ssl crt /x\"]\n"}, file + `:4: services[b].bind: 0.0.0.0:80 is already bound by services[a].bind`},
		{"the statistics' address", input{yaml: "haproxy: {stats: {bind: \"127.0.0.1:80\"}}\nservices:\n- {name: a, bind: \"127.0.0.1:80\"}\n"}, file + `:3: services[a].bind: 127.0.0.1:80 is already bound by haproxy.stats.bind`},
		{"the sidecar's own address", input{yaml: "services:\n- {name: a, bind: \"127.0.0.1:9600\"}\n"}, file + `:2: services[a].bind: 127.0.0.1:9600 is already bound by api.address`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := load(t, c.in)
			if fmt.Sprint(err) != c.want {
				t.Errorf("Load:\n  got  %v\n  want %v", err, c.want)
			}
			if diff := cmp.Diff(got, config.Config{}); diff != "" {
				t.Errorf("the Config beside an error is not empty: %s", diff)
			}
		})
	}
}

func TestBindTakesWhatHAProxyDoes(t *testing.T) {
	for _, bind := range []string{
		"*:80", ":80", "0.0.0.0:80", "127.0.0.1:8080", "[::]:80", ":::80", "/run/x.sock", "*:443 ssl crt /etc/x.pem alpn h2,http/1.1",
		"ipv4@*:80", "ipv4@127.0.0.1:80", "ipv6@:80", "ipv6@[::1]:80", "*:8000-8010", "10.0.0.1:80,10.0.0.2:80", "ipv4@:80,unix@/run/x.sock,[::1]:8000-8001 ssl crt /x", "unix@/run/x.sock",
	} {
		got := mustLoad(t, input{yaml: "services:\n- name: api\n  bind: \"" + bind + "\"\n"}).Services[0].Bind
		if want := []string{bind}; !cmp.Equal(got, want) {
			t.Errorf("bind = %q, want %q", got, want)
		}
	}
}

func TestBind_OnePortInSeveralPlaces_TakenWhereNoConnectionIsMeantForTwo(t *testing.T) {
	for _, binds := range [][2]string{
		{`[":80", ":::80 v6only", "10.0.0.1:80"]`, `":81"`}, // of one service
		{`"*:80"`, `"[::]:80 v6only"`},
		{`"*:80"`, `"[fd00::1]:80"`},
		{`"*:80 interface eth0"`, `"*:80 interface eth1"`},
		{`"10.0.0.1:80"`, `"10.0.0.2:80"`},
	} {
		mustLoad(t, input{yaml: fmt.Sprintf("services:\n- {name: a, bind: %s}\n- {name: b, bind: %s}\n", binds[0], binds[1])})
	}
}

func TestConsulAddressTakesWhatConsulsClientsDo(t *testing.T) {
	for _, a := range []string{"consul:8500", "127.0.0.1:8500", "[::1]:8500", "http://consul:8500", "https://consul.example.com", "https://lb:443/consul", "unix:///run/consul.sock"} {
		if got := mustLoad(t, input{yaml: "services: []\n", env: []string{"CONSUL_HTTP_ADDR=" + a}}).Consul.Address; got != a {
			t.Errorf("consul.address = %q, want %q", got, a)
		}
	}
}
