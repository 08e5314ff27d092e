package cli

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pointsman/pointsman/registrator"
	"github.com/pointsman/pointsman/registrator/cmd/registrator/internal/ready"
)

// defaultTTL is that of `--check ttl`.
const defaultTTL = 10 * time.Second

// check is one --check: exactly one of its fields is set.
type check struct {
	path string        // on the program's own address and port
	url  string        // elsewhere
	tcp  bool          // a connection to the program's address and port
	ttl  time.Duration // the wrapper's sign of life
}

func parseCheck(s string) (check, error) {
	kind, rest, _ := strings.Cut(s, ":")
	switch {
	case s == "tcp":
		return check{tcp: true}, nil
	case s == "ttl":
		return check{ttl: defaultTTL}, nil
	case kind == "ttl":
		ttl, err := time.ParseDuration(rest)
		if err != nil || ttl < time.Second {
			return check{}, errors.New("want ttl:TIME with a time of 1s or more")
		}
		return check{ttl: ttl}, nil
	case strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://"):
		// A password in it would be shown by Consul to all.
		if u, err := url.Parse(s); err != nil || u.Host == "" || u.User != nil {
			return check{}, errors.New("want a URL with a host and without a user")
		}
		return check{url: s}, nil
	case kind == "http" && strings.HasPrefix(rest, "/"):
		if u, err := url.ParseRequestURI(rest); err != nil || u.Host != "" || strings.ContainsAny(rest, " #") {
			return check{}, errors.New("want http:/PATH with a path as it stands in a request")
		}
		return check{path: rest}, nil
	}
	return check{}, errors.New("want http:/PATH, a whole http:// or https:// URL, tcp, ttl or ttl:TIME")
}

// checks gives what Consul checks, and what is probed before the program is
// registered. host is where both reach the program.
func (s *settings) checks(host string) ([]registrator.Check, []ready.Check) {
	at := net.JoinHostPort(host, strconv.Itoa(s.port))
	asked := s.check
	if len(asked) == 0 {
		asked = []check{{tcp: true}}
	}
	var consul []registrator.Check
	var probes []ready.Check
	for _, c := range asked {
		made, probe := registrator.Check{Interval: s.checkInterval, Timeout: s.checkTimeout}, ready.Check{}
		switch {
		case c.path != "":
			made.HTTP = "http://" + at + c.path
			probe.HTTP = made.HTTP
		case c.url != "":
			made.HTTP = c.url
			probe.HTTP = c.url
		case c.tcp:
			made.TCP = at
			probe.TCP = at
		default:
			// A sign of life says nothing of being ready; that somebody listens
			// is the least.
			made.TTL = c.ttl
			probe.TCP = at
		}
		consul, probes = append(consul, made), append(probes, probe)
	}
	name(consul)
	return consul, probes
}

// name gives each check a name of its own: http, http-2 and so on.
func name(checks []registrator.Check) {
	count := make(map[string]int)
	for i, c := range checks {
		kind := "ttl"
		switch {
		case c.HTTP != "":
			kind = "http"
		case c.TCP != "":
			kind = "tcp"
		}
		count[kind]++
		checks[i].Name = kind
		if n := count[kind]; n > 1 {
			checks[i].Name = fmt.Sprintf("%s-%d", kind, n)
		}
	}
}
