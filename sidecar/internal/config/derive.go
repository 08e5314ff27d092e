package config

// derive sets the defaults that depend on something else.
func (l *loader) derive(hostname string) {
	if _, set := l.origins["name"]; !set && !l.failed["name"] {
		l.putText("name", l.byKey["name"].at(&l.cfg), hostname, origin{rank: byDefault, source: "host name"})
	}
}

// deriveSocket puts the API's socket beside haproxy.cfg: the sidecar writes there
// anyhow.
func (l *loader) deriveSocket() {
	if _, set := l.origins["api.socket"]; set || l.failed["api.socket"] {
		return
	}
	if path := l.cfg.HAProxy.Config + ".api.sock"; len(path) <= maxSocketPath {
		l.cfg.API.Socket = path
	}
}

// deriveBalancer finds the port where clients reach HAProxy, if the services
// bind only one: with several it has to be said, or a service that is added
// could move the clients to its own port. The services have been read.
func (l *loader) deriveBalancer() {
	b := &l.cfg.Registration
	if b.Service == "" || b.Port != 0 || l.failed["registration.port"] {
		return
	}
	if ports := l.boundPorts(); len(ports) == 1 {
		b.Port = ports[0]
	}
}

// boundPorts is the ports that services and frontends bind, each once.
func (l *loader) boundPorts() (ports []int) {
	seen := map[int]bool{}
	for _, line := range l.cfg.Binds() {
		all, _ := listeners(line) // what is wrong was reported
		for _, l := range all {
			for port := int(l.at.Port()); l.at.IsValid() && port <= int(l.last); port++ {
				if !seen[port] {
					seen[port] = true
					ports = append(ports, port)
				}
			}
		}
	}
	return ports
}

// Binds returns the bind lines of all services and frontends.
func (c Config) Binds() (lines []string) {
	for _, s := range c.Services {
		lines = append(lines, s.Bind...)
	}
	for _, f := range c.Frontends {
		lines = append(lines, f.Bind...)
	}
	return lines
}

// deriveService does the same for a service. prefix is its key.
func (l *loader) deriveService(prefix string, s *Service) {
	isSet := func(key string) bool {
		_, set := l.origins[prefix+"."+key]
		return set || l.failed[prefix+"."+key]
	}
	if !isSet("backend") {
		s.Backend = s.Name
	}
	wantsHTTP := s.Check.Type == CheckHTTP || s.Check.Type == "" && s.Mode == HTTP
	if !isSet("check.path") && wantsHTTP {
		s.Check.Path = "/healthz"
	}
	if s.Check.Type == "" {
		s.Check.Type = CheckTCP
		if s.Check.Path != "" {
			s.Check.Type = CheckHTTP
		}
	}
	if s.Mode != HTTP {
		return
	}
	if !isSet("retry_on") {
		// Not response-timeout: the server may be at work on the request still,
		// and a second one would add to the load that made it slow.
		s.RetryOn = []string{"conn-failure", "empty-response"}
	}
}
