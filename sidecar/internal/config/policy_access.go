package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// RateLimit is what one client may do.
type RateLimit struct {
	Requests int // 0 is no limit
	Per      time.Duration
	Clients  int // that are remembered
}

// BasicAuth is who may use a service.
type BasicAuth struct {
	Users []Secret // each NAME:HASH
	Realm string
}

// MaintenancePage is the answer in place of a service's own.
type MaintenancePage struct {
	Enabled bool
	File    string // "" is HAProxy's own page
}

func policyAccess() []policy {
	return []policy{
		{
			setting: setting[Service]{
				key: "allowed_sources", def: "[]",
				doc: "Networks of the clients that may use the service. Others get 403, or in mode tcp no connection. An empty list allows all.",
				at:  func(s *Service) value { return prefixes(&s.Policy.AllowedSources) },
			},
			backend: allowedSources,
		},
		{
			setting: setting[Service]{
				key: "rate_limit.requests", def: "0",
				doc: "Requests, in mode tcp connections, that a client's address may send within `rate_limit.per`. More get 429, or in mode tcp no connection. Refused ones count, too: a client that keeps sending faster than the limit is refused until it slows down. Counted by each load balancer. 0 is no limit.",
				at:  func(s *Service) value { return number{&s.Policy.RateLimit.Requests, 0, 1_000_000} },
			},
			backend: func(s *Service) []string {
				if s.Policy.RateLimit.Requests == 0 {
					return nil
				}
				table := rateTable(s)
				return []string{fmt.Sprintf("%s if { src_inc_gpc0(%s) gt 0 } { src_gpc0_rate(%s) gt %d }", refuse(s, 429), table, table, s.Policy.RateLimit.Requests)}
			},
			section: func(s *Service) string {
				l := s.Policy.RateLimit
				return unless(l.Requests == 0, fmt.Sprintf("\nbackend %s\n    stick-table type ipv6 size %d expire %s store gpc0,gpc0_rate(%s)\n", rateTable(s), l.Clients, ms(2*l.Per), ms(l.Per)))
			},
		},
		{needs: "rate_limit.requests", setting: setting[Service]{
			key: "rate_limit.per", def: "10s",
			doc: "Period of `rate_limit.requests`.",
			at:  func(s *Service) value { return span{&s.Policy.RateLimit.Per, time.Second, 24 * time.Hour} },
		}},
		{needs: "rate_limit.requests", setting: setting[Service]{
			key: "rate_limit.clients", def: "100000",
			doc: "Addresses that are counted at a time, the newest. Each takes about 150 bytes.",
			at:  func(s *Service) value { return number{&s.Policy.RateLimit.Clients, 1, 10_000_000} },
		}},
		{
			setting: setting[Service]{
				key: "basic_auth.users", def: "[]",
				doc: "Users that may use the service, as `NAME:HASH` with a hash of crypt(3): SHA-256 (`$5$`) or SHA-512 (`$6$`), as `mkpasswd -m sha512crypt` and `openssl passwd -6` print. Others get 401. An empty list asks for no password. Mode http only. HAProxy computes the hash for every request: use `rounds=1000`.",
				at:  func(s *Service) value { return users{&s.Policy.BasicAuth.Users} },
			},
			onlyHTTP: true,
			backend: func(s *Service) []string {
				a := s.Policy.BasicAuth
				realm := a.Realm
				if realm == "" {
					realm = s.Backend
				}
				return linesUnless(len(a.Users) == 0, fmt.Sprintf("http-request auth realm %s unless { http_auth(%s%s) }", realm, UsersPrefix, s.Backend))
			},
			section: func(s *Service) string {
				var all strings.Builder
				for _, u := range s.Policy.BasicAuth.Users {
					user, hash, _ := strings.Cut(u.Reveal(), ":")
					fmt.Fprintf(&all, "    user %s password %s\n", user, hash)
				}
				return unless(all.Len() == 0, "\nuserlist "+UsersPrefix+s.Backend+"\n"+all.String())
			},
		},
		{needs: "basic_auth.users", setting: setting[Service]{
			key: "basic_auth.realm", derived: "`backend`",
			doc: "Realm that browsers show when they ask for a password.",
			at:  func(s *Service) value { return text{&s.Policy.BasicAuth.Realm, "word", orEmpty(word)} },
		}},
	}
}

// The names of the sections of a service's own.
const (
	RatePrefix  = "pointsman.rate."
	UsersPrefix = "pointsman.users."
)

func rateTable(s *Service) string { return RatePrefix + s.Backend }

// refuse begins the rule that refuses a request, in mode tcp the connection.
func refuse(s *Service, status int) string {
	if s.Mode == HTTP {
		return fmt.Sprintf("http-request deny deny_status %d", status)
	}
	return "tcp-request content reject"
}

func allowedSources(s *Service) (lines []string) {
	const acl = "pointsman.allowed"
	for some := range slices.Chunk(s.Policy.AllowedSources, maxWords) {
		lines = append(lines, "acl "+acl+" src "+strings.Join(some, " "))
	}
	if len(lines) > 0 {
		lines = append(lines, refuse(s, 403)+" unless "+acl)
	}
	return lines
}

func policyAnswers() []policy {
	return []policy{
		{
			setting: setting[Service]{
				key: "maintenance_page.enabled", def: "false",
				doc: "Answer every request with 503. Mode http only. Health checks continue.",
				at:  func(s *Service) value { return yesNo{&s.Policy.MaintenancePage.Enabled} },
			},
			onlyHTTP: true,
			backend: func(s *Service) []string {
				return linesUnless(!s.Policy.MaintenancePage.Enabled, "http-request deny deny_status 503")
			},
		},
		{
			setting: setting[Service]{
				key: "maintenance_page.file", derived: "HAProxy's own page",
				doc: "HTML file of the answer 503, also while the service has no server. HAProxy reads it when it starts and reloads. Mode http only.",
				at:  func(s *Service) value { return text{&s.Policy.MaintenancePage.File, "path", orEmpty(wordPath)} },
			},
			onlyHTTP: true,
			backend: func(s *Service) []string {
				return linesUnless(s.Policy.MaintenancePage.File == "", "http-error status 503 content-type text/html file "+s.Policy.MaintenancePage.File)
			},
		},
		{
			setting: setting[Service]{
				key: "compression", def: "[]",
				doc: "Media types of the responses that HAProxy compresses by gzip, such as `[text/html, application/json]`. An empty list compresses none. Mode http only.",
				at: func(s *Service) value {
					return list{p: &s.Policy.Compression, what: "media type, or a list of them", item: mediaType, whole: atMost(maxWords)}
				},
			},
			onlyHTTP: true,
			apart:    true, // HAProxy ignores it in a backend that it adds as it runs
			backend: func(s *Service) []string {
				if len(s.Policy.Compression) == 0 {
					return nil
				}
				return []string{"compression algo gzip", "compression type " + strings.Join(s.Policy.Compression, " ")}
			},
		},
	}
}

// users is a setting of NAME:HASH, which is never shown.
type users struct{ p *[]Secret }

var userHash = regexp.MustCompile(`^[A-Za-z0-9_.@-]+:\$[56]\$[A-Za-z0-9./$=]+$`)

func (u users) set(s string) error {
	switch {
	case s == "" || s == "[]":
		return u.setList(nil)
	case strings.HasPrefix(s, "["):
		return errors.New("must be a list in the file")
	}
	return u.setText(s)
}

func (u users) setText(s string) error { return u.setList([]string{s}) }

func (u users) setList(items []string) error {
	out := make([]Secret, 0, len(items))
	seen := map[string]bool{}
	for i, item := range items {
		name, _, _ := strings.Cut(item, ":")
		switch {
		case !userHash.MatchString(item):
			return fmt.Errorf("item %d must be NAME:HASH, with a name of letters, digits, '-', '_', '.' and '@', and a hash that begins with $5$ or $6$, as `openssl passwd -6` prints", i+1)
		case seen[name]:
			return fmt.Errorf("item %d: the user %s is listed twice", i+1, quote(name))
		}
		seen[name] = true
		out = append(out, Secret(item))
	}
	*u.p = out
	return nil
}
func (u users) plain() any       { return append([]Secret{}, *u.p...) }
func (u users) target() any      { return u.p }
func (u users) describe() string { return "list of secrets" }

var mediaTypeForm = regexp.MustCompile(`^[A-Za-z0-9!&^_.+-]+/[A-Za-z0-9!&^_.+-]*$`)

// mediaType passes a type that HAProxy compares with the beginning of a response's.
func mediaType(s string) error {
	if !mediaTypeForm.MatchString(s) {
		return errors.New("must be a media type such as text/html, or its beginning such as text/")
	}
	return nil
}
