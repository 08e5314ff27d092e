package config

import (
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/serveroption"
)

// relations reports values that are right alone and wrong together.
func (l *loader) relations() {
	if l.cfg.Reload.Debounce > l.cfg.Reload.MaxDelay {
		l.conflict("is more than reload.max_delay, "+short(l.cfg.Reload.MaxDelay), short(l.cfg.Reload.Debounce), "reload.debounce", "reload.max_delay")
	}
	l.consulRelations()
	l.apiRelations()
	l.peerRelations()
	l.servicesSet()
	l.namesUnique()
	l.datacentersNamed()
	l.frontendRelations()
	l.bindsUnique()
	l.registrationRelations()
	l.serverLines()
	l.socketsDiffer()
	l.includeMode()
	l.profileRelations()
	for key, s := range l.policed() {
		if s.Mode == TCP && len(s.RetryOn) > 0 {
			l.conflict("needs mode http", "", key+".retry_on", key+".mode")
		}
		l.policyRelations(key, s)
		l.pauseRelations(key, s)
		l.previewRelations(key, s)
		if d := s.Damping; d.Min > d.Max {
			l.conflict("is more than damping.max, "+short(d.Max), short(d.Min), key+".damping.min", key+".damping.max")
		}
	}
}

// policed returns the services and the profiles of services, by their keys.
func (l *loader) policed() iter.Seq2[string, *Service] {
	return func(yield func(string, *Service) bool) {
		for i := range l.cfg.Services {
			if !yield(l.prefixes[i], &l.cfg.Services[i]) {
				return
			}
		}
		for i := range l.cfg.Profiles {
			if !yield(l.profileKeys[i], &l.cfg.Profiles[i].Service) {
				return
			}
		}
	}
}

// servicesSet reports a file that names no services. None at all is a legal
// wish, but one that empties haproxy.cfg, so it must be written down.
func (l *loader) servicesSet() {
	_, set := l.origins[servicesKey]
	switch {
	case set || l.failed[servicesKey]:
	case l.noFile:
		l.fail(&Error{Key: servicesKey, Source: l.cfg.File, Reason: "must be set, and the file does not exist"})
	default:
		l.fail(&Error{Key: servicesKey, Source: l.cfg.File, Reason: "must be set; write [] for none"})
	}
}

func (l *loader) consulRelations() {
	c := &l.cfg.Consul
	l.needsOther("consul.cert_file", c.CertFile, "consul.key_file", c.KeyFile)
	l.needsOther("consul.key_file", c.KeyFile, "consul.cert_file", c.CertFile)
	l.oneToken("consul", &c.Token, &c.TokenFile)
}

func (l *loader) apiRelations() {
	s := &l.cfg.API
	l.needsOther("api.tls.cert_file", s.TLS.CertFile, "api.tls.key_file", s.TLS.KeyFile)
	l.needsOther("api.tls.key_file", s.TLS.KeyFile, "api.tls.cert_file", s.TLS.CertFile)
	l.needsOther("api.tls.client_ca_file", s.TLS.ClientCAFile, "api.tls.cert_file", s.TLS.CertFile)
	l.oneToken("api", &s.Token, &s.TokenFile)
	if s.Service != "" && s.Service == l.cfg.Registration.Service {
		l.conflict("is the load balancer's own service: see registration.service", s.Service, "api.service", "registration.service")
	}
}

// peerRelations reports what keeps load balancers from exchanging stick tables.
func (l *loader) peerRelations() {
	at := l.cfg.HAProxy.Peers.Address
	if at == "" {
		return
	}
	if l.cfg.API.Service == "" {
		l.conflict("needs api.service: the load balancers find each other by it", at, "haproxy.peers.address", "api.service")
	}
	if line := lineWith("localpeer", l.cfg.HAProxy.Global.Extra); line != "" {
		l.conflict("localpeer is set by haproxy.peers.address: HAProxy would not know which of the peers it is", line, "haproxy.global.extra", "haproxy.peers.address")
	}
}

// socketsDiffer reports one socket in both places. A master answers no question that is
// meant for a worker.
func (l *loader) socketsDiffer() {
	if h := &l.cfg.HAProxy; h.Socket != "" && h.Socket == h.MasterSocket {
		l.conflict("is haproxy.master_socket too: this is the socket of `stats socket` in haproxy.cfg, that the one of `haproxy -S`", h.Socket, "haproxy.socket", "haproxy.master_socket")
	}
}

// includeMode reports what can't be while the operator's own file is kept.
func (l *loader) includeMode() {
	h := &l.cfg.HAProxy
	if h.BaseConfig == "" {
		return
	}
	if filepath.Base(h.BaseConfig) == filepath.Base(h.Config) { // HAProxy's alerts would not tell them apart
		l.conflict("needs a haproxy.config with another file name, such as pointsman.cfg", h.BaseConfig, "haproxy.base_config", "haproxy.config")
	}
	if h.Peers.Address != "" {
		l.conflict("must not be set with haproxy.base_config: write the section peers there", h.Peers.Address, "haproxy.peers.address", "haproxy.base_config")
	}
	for i, s := range l.cfg.Services {
		if len(s.Bind) > 0 {
			key := l.prefixes[i]
			l.conflict("must not be set with haproxy.base_config: write the frontend there, with default_backend "+s.Backend, s.Bind[0], key+".bind", key)
		}
	}
}

// serverLines reports what would give a server in haproxy.cfg other options than
// the same server has when it is added at runtime.
func (l *loader) serverLines() {
	const reason = "HAProxy does not apply it to servers added at runtime: put its words into server_options, or set slots.force: true"
	for key, s := range l.policed() {
		if _, err := serveroption.Parse(s.ServerOptions, s.InFile()); err != nil {
			l.conflict(err.Error(), "", key+".server_options", key)
		} else if _, err := s.options(); err != nil { // of a setting's words
			l.conflict(err.Error(), "", key, key)
		}
		l.stickyCookie(key, *s)
		if s.InFile() {
			continue
		}
		if line := defaultServer(s.BackendExtra); line != "" {
			l.conflict(reason, line, key+".backend_extra", key)
		}
		if line := defaultServer(l.cfg.HAProxy.Defaults.Extra); line != "" {
			l.conflict(reason+" in "+key, line, "haproxy.defaults.extra", "haproxy")
		}
	}
}

// stickyCookie reports a cookie line that makes no server sticky. Pointsman's servers
// have no `cookie` word, since `add server` of HAProxy 2.6 takes none: only a dynamic
// cookie gives them a value. Servers of the operator's own may have the word.
func (l *loader) stickyCookie(key string, s Service) {
	where := key + ".backend_extra"
	line := lineWith("cookie", s.BackendExtra)
	if line == "" {
		where, line = "haproxy.defaults.extra", lineWith("cookie", l.cfg.HAProxy.Defaults.Extra)
	}
	own := lineWith("server", s.BackendExtra)
	switch {
	case line == "" || s.Mode != HTTP, slices.Contains(strings.Fields(own), "cookie"):
	case !slices.Contains(strings.Fields(line), "dynamic"):
		l.conflict("no server would be sticky: write `cookie NAME insert indirect nocache dynamic`, and a line `dynamic-cookie-key KEY`", line, where, key)
	case lineWith("dynamic-cookie-key", s.BackendExtra)+lineWith("dynamic-cookie-key", l.cfg.HAProxy.Defaults.Extra) == "":
		l.conflict("no server would be sticky: needs a line `dynamic-cookie-key KEY`, the same on every load balancer", line, where, key)
	}
}

// defaultServer is the first default-server line of some; "" if there is none.
func defaultServer(lines []string) string { return lineWith("default-server", lines) }

// lineWith is the first line of some that begins with a keyword; "" if there is none.
func lineWith(keyword string, lines []string) string {
	for _, line := range lines {
		if words := strings.Fields(line); len(words) > 0 && strings.Trim(words[0], `"'`) == keyword {
			return line
		}
	}
	return ""
}

// needsOther reports a setting that says nothing without another.
func (l *loader) needsOther(key, value, otherKey, other string) {
	if value != "" && other == "" {
		l.conflict("needs "+otherKey, value, key, otherKey)
	}
}

// registrationRelations reports a load balancer that is to be registered and has
// no port, or nothing that would tell whether it serves.
func (l *loader) registrationRelations() {
	b, h := &l.cfg.Registration, &l.cfg.HAProxy.Health
	if b.Service == "" {
		return
	}
	switch n := len(l.boundPorts()); {
	case b.Port != 0:
	case n > 1:
		l.conflict(fmt.Sprintf("needs registration.port, because services and frontends bind %d ports", n), b.Service, "registration.service", "registration.port", servicesKey)
	default:
		l.conflict("needs registration.port, because no service or frontend binds a port", b.Service, "registration.service", "registration.port", servicesKey)
	}
	if b.Check.URL == "" && !BindAddrPort(h.Bind).IsValid() {
		l.conflict("needs haproxy.health.bind with a port, or registration.check.url, for its health check",
			b.Service, "registration.service", "registration.check.url", "haproxy.health.bind")
	}
}

// isOwn reports whether a backend's name is one that the template uses for
// HAProxy's health answer.
func isOwn(backend string) bool {
	own := func(prefix string) bool { return strings.HasPrefix(backend, prefix) }
	return backend == "pointsman.health" || backend == "pointsman.rotation" || own("pointsman.files.") || own(RatePrefix)
}

// oneToken leaves the token of the stronger source. Consul's own clients
// prefer the file (consul/api, NewClient), and so it is for their variables;
// elsewhere two at once are a mistake.
func (l *loader) oneToken(section string, token *Secret, file *string) {
	if *token == "" || *file == "" {
		return
	}
	key := section + ".token"
	ofToken, ofFile := l.origins[key].rank, l.origins[key+"_file"].rank
	switch {
	case ofToken > ofFile:
		*file = ""
	case ofToken < ofFile || ofToken == byConsulEnv:
		*token = ""
	default:
		l.conflict("is set together with "+key+": only one can be used", *file, key+"_file", key)
	}
}

// namesUnique reports services that share a backend. One Consul service may have
// several.
func (l *loader) namesUnique() {
	backends := map[string]string{}
	for i, s := range l.cfg.Services {
		key := l.prefixes[i]
		if s.Name == "" {
			l.conflict("required", "", key+".name", key)
			continue
		}
		if isOwn(s.Backend) {
			l.conflict("is reserved for Pointsman in haproxy.cfg", s.Backend, key+".backend", key)
		}
		other, taken := backends[s.Backend]
		switch {
		case taken && other == s.Name:
			l.conflict("is listed twice: each needs a backend of its own", s.Backend, key+".backend", key)
		case taken:
			l.conflict("is already the backend of "+other, s.Backend, key+".backend", key)
		}
		backends[s.Backend] = s.Name
	}
	for i, s := range l.cfg.Services {
		if other, taken := backends[s.Backend+PreviewSuffix]; taken && s.Preview.Enabled {
			key := l.prefixes[i]
			l.conflict("needs the name "+s.Backend+PreviewSuffix+", which is already the backend of "+other, "true", key+".preview.enabled", key)
		}
	}
}

// bindsUnique reports addresses that two would listen on. HAProxy takes `*:80` and
// `10.0.0.1:80` side by side, because it listens with SO_REUSEPORT: each connection
// reaches one of the two, and nothing tells.
func (l *loader) bindsUnique() {
	type claimed struct {
		listener
		key string
	}
	taken := map[string][]claimed{} // by port, or path
	claim := func(line, key, parent string) {
		all, err := listeners(line)
		if err != nil {
			return // reported as the value was read, or a host's name, or nothing
		}
		for _, one := range all {
			for _, place := range one.places() {
				for _, other := range taken[place] {
					switch {
					case one.isApart(other.listener):
					case one.isSame(other.listener):
						l.conflict(fmt.Sprintf("%s is already bound by %s", one.words, other.key), "", key, parent)
						return
					case other.key != key && (one.covers(other.listener) || other.covers(one)):
						l.conflict(fmt.Sprintf("%s overlaps %s of %s: HAProxy would listen on both, and a connection reaches only one of them", one.words, other.words, other.key), "", key, parent)
						return
					}
				}
				taken[place] = append(taken[place], claimed{one, key})
			}
		}
	}
	claim(l.cfg.API.Address, "api.address", "api")
	h := &l.cfg.HAProxy
	claim(h.Stats.Bind, "haproxy.stats.bind", "haproxy")
	claim(h.Exporter.Bind, "haproxy.exporter.bind", "haproxy")
	claim(h.Health.Bind, "haproxy.health.bind", "haproxy")
	claim(h.Peers.Address, "haproxy.peers.address", "haproxy")
	for i, s := range l.cfg.Services {
		for _, line := range s.Bind {
			claim(line, l.prefixes[i]+".bind", l.prefixes[i])
		}
	}
	for i, f := range l.cfg.Frontends {
		for _, line := range f.Bind {
			claim(line, l.frontendKeys[i]+".bind", l.frontendKeys[i])
		}
	}
}
