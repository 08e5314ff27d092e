package config

import (
	"slices"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/serveroption"
)

// policyRelations reports settings of the policy that contradict each other, or
// the operator's own words and lines. prefix is the service's key.
func (l *loader) policyRelations(prefix string, s *Service) {
	isSet := func(key string) bool { _, set := l.origins[prefix+"."+key]; return set }
	for _, p := range policies() {
		key := prefix + "." + p.key
		if p.needs != "" && isSet(p.key) && !isSet(p.needs) {
			l.conflict("needs "+p.needs, "", key, prefix)
		}
		var words string
		var lines []string
		if p.server != nil {
			words = p.server(s)
		}
		if p.backend != nil {
			lines = p.backend(s)
		}
		if p.onlyHTTP && s.Mode == TCP && (words != "" || len(lines) > 0) {
			l.conflict("needs mode http", "", key, prefix+".mode", prefix)
		}
		l.setTwice(prefix, key, words, lines, s)
	}
	if s.PreferZone && len(s.Datacenters) > 1 {
		l.conflict("is not used with several datacenters: HAProxy has one tier of backups, in which other zones and other datacenters would be alike", "true", prefix+".prefer_zone", prefix+".datacenters", prefix)
	}
	l.checkRelations(prefix, s)
	l.certificateRelations(prefix, s)
	l.upstreamRelations(prefix, s)
	p := s.Policy
	if p.Sticky.Source && l.cfg.HAProxy.Peers.Address == "" {
		l.conflict("needs haproxy.peers.address: without it HAProxy forgets its clients at each reload, and each load balancer has servers of its own", "true", prefix+".sticky.source", "haproxy.peers.address", prefix)
	}
	if p.Sticky.Source && p.Sticky.Cookie != "" {
		l.conflict("is not used with sticky.cookie: choose one", "true", prefix+".sticky.source", prefix+".sticky.cookie", prefix)
	}
	switch {
	case p.Outlier.Observe != ObserveNone && !s.Check.Enabled:
		l.conflict("needs check.enabled: a server that is down comes back by its health check", string(p.Outlier.Observe), prefix+".outlier.observe", prefix+".check.enabled", prefix)
	case p.Outlier.Observe == Layer7 && s.Mode == TCP:
		l.conflict("needs mode http; in mode tcp use layer4", string(Layer7), prefix+".outlier.observe", prefix+".mode", prefix)
	}
	if p.AgentCheck.FromMeta && slices.Contains(serveroption.Keywords(s.ServerOptions), "on-marked-down") {
		l.conflict("\"on-marked-down\" would end the requests of an instance that leaves: agent_check.from_meta takes it down", s.ServerOptions, prefix+".server_options", prefix+".agent_check.from_meta", prefix)
	}
	for _, k := range []string{"agent-addr", "agent-send"} {
		if p.AgentCheck.FromMeta && slices.Contains(serveroption.Keywords(s.ServerOptions), k) {
			l.conflict(quote(k)+" is not used with agent_check.from_meta: each instance is asked at its own address, and reads nothing", s.ServerOptions, prefix+".server_options", prefix+".agent_check.from_meta", prefix)
		}
	}
	if s.SessionKillSpread > 0 && s.SessionKillAfter == 0 {
		l.conflict("has no effect with "+prefix+".session_kill_after 0s, which leaves sessions to the instance", short(s.SessionKillSpread), prefix+".session_kill_spread", prefix+".session_kill_after", prefix)
	}
	if p.SlowStart > 0 && s.Static() {
		l.conflict("has no effect with the static algorithm of "+prefix+".balance, "+s.Balance, short(p.SlowStart), prefix+".slow_start", prefix+".balance", prefix)
	}
}

// setTwice reports a keyword that a setting gives and that the operator's own words
// or lines give, too. HAProxy would take one of them, and say nothing.
func (l *loader) setTwice(prefix, key, words string, lines []string, s *Service) {
	own := serveroption.Keywords(s.ServerOptions)
	for _, k := range serveroption.Keywords(words) {
		if slices.Contains(own, k) {
			l.conflict(quote(k)+" is set by "+strings.TrimPrefix(key, prefix+"."), s.ServerOptions, prefix+".server_options", key, prefix)
		}
	}
	for _, line := range lines {
		for _, other := range s.BackendExtra {
			if k := directiveOf(line); k != "" && k == directiveOf(other) {
				l.conflict("is set by "+strings.TrimPrefix(key, prefix+"."), other, prefix+".backend_extra", key, prefix)
			}
		}
	}
}

// directiveOf is the keyword of a line of which a section has one; "" for lines that
// add to each other.
func directiveOf(line string) string {
	words := strings.Fields(line)
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	switch words[0] {
	case "http-request", "tcp-request", "acl", "http-error", "stick":
		return ""
	case "option":
		if strings.HasSuffix(words[1], "-check") || strings.HasSuffix(words[1], "chk") {
			return "option check"
		}
		return "option " + words[1]
	case "timeout", "compression":
		return words[0] + " " + words[1]
	}
	return words[0]
}

func (l *loader) checkRelations(prefix string, s *Service) {
	c := s.Check
	kind := string(c.Type)
	_, hasPath := l.origins[prefix+".check.path"]
	switch {
	case c.Type == CheckHTTP && c.Path == "":
		l.conflict("needs a check.path", kind, prefix+".check.type", prefix+".check.path", prefix)
	case c.Type != CheckHTTP && hasPath && c.Path != "":
		l.conflict("is of check.type http, and check.type is "+kind, c.Path, prefix+".check.path", prefix+".check.type", prefix)
	case c.Type == CheckPostgres && c.User == "":
		l.conflict("needs a check.user", kind, prefix+".check.type", prefix+".check.user", prefix)
	case c.User != "" && c.Type != CheckPostgres && c.Type != CheckMySQL:
		l.conflict("is of check.type pgsql or mysql, and check.type is "+kind, c.User, prefix+".check.user", prefix+".check.type", prefix)
	}
}

func (l *loader) upstreamRelations(prefix string, s *Service) {
	u := s.Policy.Upstream
	tls, verify, ca := prefix+".upstream.tls", prefix+".upstream.verify", prefix+".upstream.ca_file"
	switch {
	case !u.TLS:
	case !u.Verify && u.CAFile != "":
		l.conflict("is not used with upstream.verify: false", u.CAFile, ca, verify, prefix)
	case u.Verify && u.CAFile == "":
		l.conflict("needs upstream.ca_file, which signs the servers' certificates; upstream.verify: false accepts any", "true", tls, ca, verify, prefix)
	case u.Verify && u.SNI == "":
		l.conflict("needs upstream.sni, the name in the servers' certificates; upstream.verify: false accepts any", "true", tls, prefix+".upstream.sni", verify, prefix)
	}
}

// certificateRelations reports a directory that no address would use.
func (l *loader) certificateRelations(prefix string, s *Service) {
	if s.Certificates.Directory == "" {
		return
	}
	key, used := prefix+".certificates.directory", false
	for _, line := range s.Bind {
		words := strings.Fields(line)
		for _, own := range []string{"crt", "crt-list"} {
			if slices.Contains(words, own) {
				l.conflict(quote(own)+" is set by certificates.directory", line, prefix+".bind", key, prefix)
			}
		}
		used = used || slices.Contains(words, "ssl")
	}
	if !used {
		l.conflict("needs a bind address with the word ssl, such as `*:443 ssl`", s.Certificates.Directory, key, prefix+".bind", prefix)
	}
}
