package config

import (
	"fmt"
	"slices"
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

// policy is a setting of a service with what it becomes: words of each server's
// line, in haproxy.cfg and behind `add server` alike, lines of the backend, or a
// section beside it. The order of the table is that of the lines: HAProxy asks
// the first rules first.
type policy struct {
	setting[Service]

	server  func(*Service) string
	backend func(*Service) []string
	section func(*Service) string

	onlyHTTP bool   // needs mode http
	apart    bool   // its lines do not work in a defaults section that HAProxy adds backends from
	needs    string // the key without which it says nothing
}

// servicePolicy is the settings of the table.
func servicePolicy() []setting[Service] {
	var table []setting[Service]
	for _, p := range policies() {
		table = append(table, p.setting)
	}
	return table
}

func policies() []policy {
	return slices.Concat(policyDatacenters(), policyChecks(), policyServers(), policyAgentCheck(), policyUpstream(), policyBackend(), policySticky(), policyAccess(), policyAnswers())
}

// maxWords bounds a list on one line: HAProxy takes 64 words.
const maxWords = 40

// unless returns text, or "" under a condition.
func unless(without bool, text string) string {
	if without {
		return ""
	}
	return text
}

func linesUnless(without bool, line string) []string {
	if without {
		return nil
	}
	return []string{line}
}

// ms writes a time as HAProxy reads it.
func ms(d time.Duration) string {
	if d%time.Second == 0 {
		return fmt.Sprintf("%ds", d/time.Second)
	}
	return fmt.Sprintf("%dms", d.Milliseconds())
}
