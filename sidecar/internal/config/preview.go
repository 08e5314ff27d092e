package config

import (
	"cmp"
	"strings"
)

// Preview is a second backend of a service, which has only the instances of the version
// that a rollout brings in.
type Preview struct {
	Enabled        bool
	Header, Cookie string // of the requests that go there; "" is none
	Value          Secret // that the header or the cookie must have; "" is any

	// Of is the backend of the service that this one is the preview of: Load adds such
	// services. "" is a service of the file.
	Of string
}

// PreviewSuffix is what the name of a preview backend has after its service's.
const PreviewSuffix = ".preview"

func servicePreview() []setting[Service] {
	return []setting[Service]{
		{
			key: "preview.enabled", def: "false",
			doc: "Add a second backend, the service's with `.preview` after its name, that has the instances of the version that a [rollout](guides/canary.md) brings in. Routes may name it. Mode http only. See [blue/green](guides/blue-green.md).",
			at:  func(s *Service) value { return yesNo{&s.Preview.Enabled} },
		},
		{
			key: "preview.header", derived: "none",
			doc: "Name of a request header. Requests that have it go to the preview backend while that has a server up. Needs `preview.enabled`.",
			at:  func(s *Service) value { return text{&s.Preview.Header, "word", orEmpty(metaKey)} },
		},
		{
			key: "preview.cookie", derived: "none",
			doc: "Name of a cookie. Requests that have it go to the preview backend while that has a server up. Needs `preview.enabled`.",
			at:  func(s *Service) value { return text{&s.Preview.Cookie, "word", orEmpty(metaKey)} },
		},
		{
			key: "preview.value", derived: "any value",
			doc: "Value that `preview.header` or `preview.cookie` must have, exactly. Without it everyone who sends the header or the cookie reaches the preview. haproxy.cfg holds it as text.",
			at:  func(s *Service) value { return secret{&s.Preview.Value, orEmpty(word)} },
		},
	}
}

// PreviewConditions returns the conditions of HAProxy of which a request must meet one to
// go to the preview backend.
func (s Service) PreviewConditions() (out []string) {
	p := s.Preview
	if !p.Enabled || p.Of != "" {
		return nil
	}
	is := "-m found"
	if p.Value != "" {
		is = "-m str -- '" + p.Value.Reveal() + "'"
	}
	if p.Header != "" {
		out = append(out, "{ req.fhdr("+p.Header+") "+is+" }")
	}
	if p.Cookie != "" {
		out = append(out, "{ req.cook("+p.Cookie+") "+is+" }")
	}
	return out
}

// previewRelations reports previews that can't be.
func (l *loader) previewRelations(key string, s *Service) {
	p := s.Preview
	for _, other := range []struct {
		key string
		set bool
	}{{"header", p.Header != ""}, {"cookie", p.Cookie != ""}, {"value", p.Value != ""}} {
		if other.set && !p.Enabled {
			l.conflict("needs preview.enabled", "", key+".preview."+other.key, key)
		}
	}
	if !p.Enabled {
		return
	}
	enabled := key + ".preview.enabled"
	switch {
	case s.Mode == TCP:
		l.conflict("needs mode http", "", enabled, key+".mode", key)
	case p.Value != "" && p.Header == "" && p.Cookie == "":
		l.conflict("needs preview.header or preview.cookie", "", key+".preview.value", key)
	case p.Value == "}":
		l.conflict("must not be \"}\", with which HAProxy ends a condition", "", key+".preview.value", key)
	}
	for _, keyword := range []string{"server", "cookie"} {
		if line := lineWith(keyword, s.BackendExtra); line != "" {
			l.conflict("must not be set with preview.enabled: the preview backend would have it, too", line, key+".backend_extra", enabled, key)
		}
	}
}

// previewsAfter returns the services, with the preview of each that has one after them.
func previewsAfter(services []Service) []Service {
	for _, s := range services {
		if s.Preview.Enabled && s.Preview.Of == "" {
			services = append(services, s.preview())
		}
	}
	return services
}

// preview is the service as its preview backend has it. Its health checks send the same
// Host, its users are asked for the same password, and its cookie is another: a client
// that has been there does not stick to a new server elsewhere.
func (s Service) preview() Service {
	s.Preview = Preview{Of: s.Backend}
	s.Check.Host = cmp.Or(s.Check.Host, s.Backend)
	s.Policy.BasicAuth.Realm = cmp.Or(s.Policy.BasicAuth.Realm, s.Backend)
	if cookie := &s.Policy.Sticky.Cookie; *cookie != "" {
		*cookie += "_preview"
	}
	// Nothing is lost with its servers: requests go to the service's own then.
	s.MinServers, s.Guard.MaxLossRatio = 0, 1
	s.Backend += PreviewSuffix
	s.Bind, s.Certificates, s.FrontendExtra, s.CloseOnRoleChange = nil, Certificates{}, nil, false
	return s
}

// isPreviewOf reports whether a name is that of a service's preview backend.
func (s Service) isPreviewOf(named string) bool {
	backend, has := strings.CutSuffix(named, PreviewSuffix)
	return has && s.Preview.Enabled && backend == s.Backend
}
