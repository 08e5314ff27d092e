package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"syscall"
	"time"
)

// Client is one client simulator.
type Client struct {
	*Process
	report string
}

// Report is what a client found, as in the file that it writes.
type Report struct {
	Name             string            `json:"name"`
	Started          time.Time         `json:"started"`
	Requests         uint64            `json:"requests"`
	Failed           uint64            `json:"failed"`
	Failures         map[string]uint64 `json:"failures"`
	FailedIdempotent uint64            `json:"failed_idempotent"`
	P99              float64           `json:"p99_ms"`
	Max              float64           `json:"max_ms"`
	Versions         map[string]uint64 `json:"versions"`
	Instances        map[string]uint64 `json:"instances"`
	Series           []Second          `json:"latency_series"`
}

// Second is one second of a client's run.
type Second struct {
	Second int `json:"second"`
	// Histogram is the second's latencies in microseconds, as HdrHistogram
	// encodes them, so that several can be added up.
	Histogram string `json:"histogram"`
}

// StartClient starts a client that sends requests at a rate, in requests a
// second, to the targets, until it is stopped.
func (l *Lab) StartClient(name string, rate int, targets []string, args ...string) (*Client, error) {
	c := &Client{report: l.Path(name + ".json")}
	all := []string{"--name", name, "--rate", strconv.Itoa(rate), "--report", c.report, "--progress", "plain", "--log-format", "console", "--expect-echo", "--post-share", "0.2"}
	for _, t := range targets {
		all = append(all, "--target", t)
	}
	var err error
	c.Process, err = l.Start(name, l.programs.Client, append(all, args...)...)
	return c, err
}

// StartClientOf is StartClient with the load balancers of a service in Consul
// as targets, as they come and go.
func (l *Lab) StartClientOf(name string, rate int, consul *Consul, service string, args ...string) (*Client, error) {
	return l.StartClient(name, rate, nil, append([]string{"--discover", service, "--consul", consul.Address()}, args...)...)
}

// AllSend waits until each client has sent something.
func AllSend(ctx context.Context, clients ...*Client) error {
	return Until(ctx, 10*time.Second, "the clients send", func() error {
		for _, c := range clients {
			if c.Progress().Requests == 0 {
				return fmt.Errorf("%s has sent nothing", c.Name)
			}
		}
		return nil
	})
}

// Finish stops the client and gives its report. That requests failed is in
// the report and no error.
func (c *Client) Finish(limit time.Duration) (Report, error) {
	if err := c.Signal(syscall.SIGTERM); err != nil {
		return Report{}, err
	}
	if err := c.Wait(limit); err != nil && c.ExitCode() != 1 {
		return Report{}, err
	}
	content, err := os.ReadFile(c.report)
	if err != nil {
		return Report{}, fmt.Errorf("lab: %s: report: %w", c.Name, err)
	}
	var r Report
	if err := json.Unmarshal(content, &r); err != nil {
		return Report{}, fmt.Errorf("lab: %s: report: %w", c.Name, err)
	}
	return r, nil
}

// Progress is how a client's run goes, from the last line of it in the log.
type Progress struct{ Requests, Failed uint64 }

var progressLine = regexp.MustCompile(`(?m)^\S+ +\d+s  (\d+) requests  (\d+) failed`)

// Progress returns what the client last said; zero before it has.
func (c *Client) Progress() (p Progress) {
	lines := progressLine.FindAllStringSubmatch(c.Tail(20), -1)
	if len(lines) == 0 {
		return p
	}
	last := lines[len(lines)-1]
	_, _ = fmt.Sscan(last[1]+" "+last[2], &p.Requests, &p.Failed) // the expression matches digits only
	return p
}
