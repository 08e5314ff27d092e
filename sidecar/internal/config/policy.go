package config

import (
	"strings"
	"time"
)

// Policy is how HAProxy treats the traffic of a service. Its table says what each
// setting becomes in haproxy.cfg.
type Policy struct {
	SlowStart      time.Duration // 0 is none
	MaxConnections int           // of a server whose instance sets none; 0 is no limit
	MaxQueue       int           // requests that wait for one server; 0 is no limit
	QueueTimeout   time.Duration // 0 leaves it to haproxy.defaults.timeouts.queue
	Retries        int

	AgentCheck AgentCheck

	Outlier  Outlier
	Upstream Upstream
	Sticky   Sticky

	AllowedSources  []string
	RateLimit       RateLimit
	BasicAuth       BasicAuth
	Compression     []string // types that are compressed
	MaintenancePage MaintenancePage
}

// AgentCheck is how HAProxy hears from an instance itself that it leaves.
type AgentCheck struct {
	FromMeta bool // ask at the port that an instance's meta names
	Interval time.Duration
}

// Outlier is how HAProxy judges a server by the traffic itself.
type Outlier struct {
	Observe    Observed
	ErrorLimit int // errors in a row
	OnError    string
}

// Observed is what is judged.
type Observed string

// What can be observed.
const (
	ObserveNone Observed = "none"
	Layer4      Observed = "layer4"
	Layer7      Observed = "layer7"
)

// Upstream is how HAProxy speaks to the servers, and their checks.
type Upstream struct {
	Protocol      string // h1 or h2
	TLS           bool
	Verify        bool // the certificate's signer and name
	CAFile        string
	SNI           string
	CertFile      string // certificate and key that HAProxy shows; "" is none
	ProxyProtocol string // none, v1 or v2
}

// Sticky is how a client comes back to the same server.
type Sticky struct {
	Cookie  string // its name; "" is none
	Key     Secret // of the cookie's values; "" is made from the backend's name
	Secure  bool
	MaxIdle time.Duration
	MaxLife time.Duration

	Source  bool          // by the client's address
	Clients int           // addresses that are remembered
	Expire  time.Duration // without a request
}

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

// words is what the policy adds to each server's line.
func (s *Service) words() string {
	var words []string
	for _, p := range policies() {
		if p.server == nil {
			continue
		}
		if w := p.server(s); w != "" {
			words = append(words, w)
		}
	}
	return strings.Join(words, " ")
}

// PolicyLines is what the policy adds to the backend.
func (s *Service) PolicyLines() (lines []string) {
	for _, p := range policies() {
		if p.backend != nil {
			lines = append(lines, p.backend(s)...)
		}
	}
	return lines
}

// PolicySections is the sections that those lines need beside the backend.
func (s *Service) PolicySections() string {
	var out strings.Builder
	for _, p := range policies() {
		if p.section != nil {
			out.WriteString(p.section(s))
		}
	}
	return out.String()
}
