package registrator_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/registrator"
	"github.com/pointsman/pointsman/registrator/contract"
)

func TestNewNamesAllThatIsWrong(t *testing.T) {
	type config = registrator.Config
	check := func(c registrator.Check) func(*config) {
		return func(to *config) { to.Checks = append(to.Checks, c) }
	}
	many := make(map[string]string)
	for i := range 61 {
		many[strings.Repeat("k", i+1)] = ""
	}
	tests := map[string]struct {
		change func(*config)
		errs   []string // none for success
	}{
		"name and port are enough":                   {change: func(*config) {}},
		"an IPv6 address":                            {change: func(c *config) { c.Address = "2001:db8::1" }},
		"no service":                                 {change: func(c *config) { c.Service = "" }, errs: []string{"service: no name"}},
		"no port":                                    {change: func(c *config) { c.Port = 0 }, errs: []string{"port 0: want 1 to 65535"}},
		"a port too high":                            {change: func(c *config) { c.Port = 65536 }, errs: []string{"port 65536"}},
		"a host name":                                {change: func(c *config) { c.Address = "web.local" }, errs: []string{`address "web.local"`}},
		"any address":                                {change: func(c *config) { c.Address = "0.0.0.0" }, errs: []string{`address "0.0.0.0"`}},
		"an address with a zone":                     {change: func(c *config) { c.Address = "fe80::1%eth0" }, errs: []string{`address "fe80::1%eth0"`}},
		"a version too long":                         {change: func(c *config) { c.Version = strings.Repeat("v", 65) }, errs: []string{`meta "version"`}},
		"a negative limit":                           {change: func(c *config) { c.MaxConn = -1 }, errs: []string{`meta "maxconn": "-1"`}},
		"a key of the contract":                      {change: func(c *config) { c.Meta = map[string]string{contract.KeyDrain: "x", "version": "2"} }, errs: []string{`meta "pointsman-drain"`, `meta "version"`}},
		"a key that Consul refuses":                  {change: func(c *config) { c.Meta = map[string]string{"a b": ""} }, errs: []string{`meta "a b"`}},
		"a value too long":                           {change: func(c *config) { c.Meta = map[string]string{"a": strings.Repeat("x", 513)} }, errs: []string{`meta "a": 513 bytes`}},
		"too many keys":                              {change: func(c *config) { c.Meta = many }, errs: []string{"61 keys"}},
		"a weight without the passing one":           {change: func(c *config) { c.Weights = api.AgentWeights{Warning: 1} }, errs: []string{"weights"}},
		"a negative time":                            {change: func(c *config) { c.Watchdog, c.LeaveWait = -1, -1 }, errs: []string{"watchdog -1ns, leave wait -1ns"}},
		"a leave that ends before its wait":          {change: func(c *config) { c.LeaveWait, c.LeaveTimeout = 2*time.Second, time.Second }, errs: []string{"leave timeout 1s: want no less than the leave wait, 2s"}},
		"a long wait alone":                          {change: func(c *config) { c.LeaveWait = time.Hour }},
		"a name in the certificate of a plain check": {change: check(registrator.Check{HTTP: "http://h/", TLSServerName: "h"}), errs: []string{`TLS server name "h"`, "https://"}},
		"any certificate of a TCP check":             {change: check(registrator.Check{TCP: "h:1", TLSSkipVerify: true}), errs: []string{"skip verify true"}},
		"any certificate of an HTTPS check":          {change: check(registrator.Check{HTTP: "https://h/", TLSSkipVerify: true, TLSServerName: "h"})},
		"gRPC with TLS":                              {change: check(registrator.Check{GRPC: "h:1/a.b", GRPCTLS: true, TLSSkipVerify: true})},
		"gRPC without a port":                        {change: check(registrator.Check{GRPC: "h/a.b"}), errs: []string{`GRPC "h/a.b"`}},
		"gRPC's TLS for another kind":                {change: check(registrator.Check{TCP: "h:1", GRPCTLS: true}), errs: []string{"TLS for gRPC"}},
		"a Host header":                              {change: check(registrator.Check{HTTP: "http://h/", Host: "web.test:80"})},
		"a Host header that is none":                 {change: check(registrator.Check{HTTP: "http://h/", Host: "a\r\nb"}), errs: []string{`host "a\r\nb"`}},
		"a Host header of a TCP check":               {change: check(registrator.Check{TCP: "h:1", Host: "h"}), errs: []string{`host "h": it is for HTTP`}},
		"a check of no kind":                         {change: check(registrator.Check{}), errs: []string{"check 1", "want exactly one"}},
		"a check of two kinds":                       {change: check(registrator.Check{TCP: "h:1", TTL: time.Minute}), errs: []string{"2 of HTTP, TCP, GRPC and TTL are set"}},
		"a check that is no URL":                     {change: check(registrator.Check{HTTP: "h:1/x"}), errs: []string{`HTTP "h:1/x"`}},
		"a check without a port":                     {change: check(registrator.Check{TCP: "h"}), errs: []string{`TCP "h"`}},
		"a TTL too short":                            {change: check(registrator.Check{TTL: time.Millisecond}), errs: []string{"TTL 1ms"}},
		"an interval too short":                      {change: check(registrator.Check{TCP: "h:1", Interval: time.Millisecond}), errs: []string{"interval 1ms"}},
		"a timeout below 0":                          {change: check(registrator.Check{TCP: "h:1", Timeout: -1}), errs: []string{"timeout -1ns"}},
		"forgotten sooner than Consul can":           {change: check(registrator.Check{TCP: "h:1", DeregisterCriticalAfter: time.Second}), errs: []string{"deregister critical after 1s"}},
		"never forgotten":                            {change: check(registrator.Check{TCP: "h:1", DeregisterCriticalAfter: -1})},
		"two checks of one name": {
			change: func(c *config) { check(registrator.Check{TCP: "h:1"})(c); check(registrator.Check{TCP: "h:2"})(c) },
			errs:   []string{`check 2 "tcp": the name is used twice`},
		},
		"all of it at once": {
			change: func(c *config) { *c = config{MaxConn: -1, Checks: []registrator.Check{{}}} },
			errs:   []string{"service", "port", "maxconn", "check 1"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := config{Service: "api", Port: 4000}
			tc.change(&c)
			_, err := registrator.New(c)
			if (err != nil) != (len(tc.errs) > 0) {
				t.Fatalf("New = %v, want an error with %q", err, tc.errs)
			}
			for _, want := range tc.errs {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("New = %q, want %q in it", err, want)
				}
			}
		})
	}
}

func TestKeyErrorOfTheContractIsInNewsError(t *testing.T) {
	_, err := registrator.New(registrator.Config{Service: "api", Port: 1, Version: "\n"})
	if _, ok := errors.AsType[*contract.KeyError](err); !ok {
		t.Errorf("New = %v, want it to wrap a contract.KeyError", err)
	}
}

func TestIDByDefaultIsServiceHostAndPort(t *testing.T) {
	r := newRegistration(t, registrator.Config{Service: "api", Port: 4000})
	if got := r.ID(); !strings.HasPrefix(got, "api-") || !strings.HasSuffix(got, "-4000") || got == "api--4000" {
		t.Errorf("ID = %q, want api-<host>-4000", got)
	}
}

func TestConfigIsTheCallersAgainAfterNew(t *testing.T) {
	consul := &api.Config{Address: "127.0.0.1:1"}
	meta := map[string]string{"a": "b"}
	newRegistration(t, registrator.Config{Consul: consul, Service: "api", Port: 1, Meta: meta})
	if consul.HttpClient != nil || consul.Scheme != "" || len(meta) != 1 {
		t.Errorf("config after New = %+v, %v, want it unchanged", consul, meta)
	}
}
