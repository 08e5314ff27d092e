package sidecarapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Drain is an answer of /api/v1/drain: what is left of an instance's traffic on one
// load balancer.
type Drain struct {
	LoadBalancer string `json:"load_balancer"`
	Service      string `json:"service"`
	Instance     string `json:"instance"`
	// Drained is set if no session is on the instance in any worker of HAProxy, and no
	// new one is possible.
	Drained  bool   `json:"drained"`
	Phase    string `json:"phase,omitempty"` // where it is in its life; "" if HAProxy has no server for it
	Sessions int    `json:"sessions"`        // in all workers
	// Index is Consul's of what the sidecar knows of the service; math.MaxUint64 if it
	// does not say.
	Index    uint64  `json:"index"`
	WaitedMS float64 `json:"waited_ms"` // how long it was held back, in milliseconds
}

// Live is an answer of /api/v1/live: how many instances of a version take traffic.
type Live struct {
	LoadBalancer string  `json:"load_balancer"`
	Service      string  `json:"service"`
	Version      string  `json:"version,omitempty"` // "" is any
	Live         bool    `json:"live"`              // at least Want do
	Count        int     `json:"count"`
	Want         int     `json:"want"`
	Index        uint64  `json:"index"`     // Consul's of what the sidecar knows of the service
	WaitedMS     float64 `json:"waited_ms"` // how long it was held back, in milliseconds
}

// Released is an answer of /api/v1/guard/{service}/release.
type Released struct {
	LoadBalancer string   `json:"load_balancer"`
	Service      string   `json:"service"`  // or the backend, as it was asked for
	Servers      []string `json:"released"` // as BACKEND/SERVER
}

// OperatorDrain is an answer of /api/v1/server/{service}/{server}/drain and …/ready.
type OperatorDrain struct {
	LoadBalancer string `json:"load_balancer"`
	Service      string `json:"service"`
	Server       string `json:"server"`
	Drain        bool   `json:"drain"` // an operator keeps it in drain
}

// Pause is an answer of /api/v1/pauses/{service}: a service on one load balancer that is
// paused, or is not.
type Pause struct {
	LoadBalancer string    `json:"load_balancer"`
	Service      string    `json:"service"`
	Until        time.Time `json:"until,omitzero"`    // the deadline that the sidecar knows of; zero: it is not paused
	Applied      bool      `json:"applied"`           // HAProxy lets no new request through to a server
	Problem      string    `json:"problem,omitempty"` // why it does
	// AtServers is the requests that servers work on, Waiting those that wait for the end of
	// the pause, in all workers.
	AtServers int `json:"at_servers"`
	Waiting   int `json:"waiting"`
	// Attempts is a number that changes when a server is sent something.
	Attempts uint64 `json:"attempts"`
}

// ReloadRequest is an answer of /api/v1/reload: a reload of HAProxy that is due, with the
// limits of every reload. The state of the sidecar has what becomes of it, as
// reload_requests, by Number and At: due, under_way, done or failed.
type ReloadRequest struct {
	LoadBalancer string    `json:"load_balancer"`
	Number       int       `json:"number"` // from 1 on, since the sidecar has started
	By           string    `json:"by"`     // who has asked first, where several wait for the same reload
	At           time.Time `json:"at"`
	Status       string    `json:"status"`
}

// Counters is an answer of /api/v1/counters/{service}: what HAProxy's current worker has
// counted of each instance, in all backends of the service.
type Counters struct {
	LoadBalancer string             `json:"load_balancer"`
	Service      string             `json:"service"`
	Instances    []InstanceCounters `json:"instances"`
	Answers      []Answers          `json:"answers"` // of each backend of the service
}

// Answers says whose answers the clients of a backend got. They begin again with a worker of
// HAProxy, and what a server gave goes with the server.
type Answers struct {
	Backend    string `json:"backend"`
	Requests   uint64 `json:"requests"`
	Status4xx  uint64 `json:"4xx"` // that clients got
	Status5xx  uint64 `json:"5xx"`
	Service4xx uint64 `json:"service_4xx"` // of these, those of servers that are there now
	Service5xx uint64 `json:"service_5xx"`
	NoServer   uint64 `json:"no_server"` // HAProxy's 503: no server up, too long in the queue, or no connection
	Broken     uint64 `json:"broken"`    // the server's answer broke off or came too late, as with HAProxy's 502 and 504; 3.4 counts some twice
	Denied     uint64 `json:"denied"`    // by HAProxy's rules, with any status
}

// InstanceCounters are those of one instance in one backend. They begin again with
// a worker.
type InstanceCounters struct {
	Instance string `json:"instance"`
	Node     string `json:"node"`
	Backend  string `json:"backend"`
	Server   string `json:"server"` // HAProxy's name for it; in a slot, the slot's
	Version  string `json:"version"`
	Up       bool   `json:"up"` // HAProxy would choose it
	Requests uint64 `json:"requests"`
	Errors   uint64 `json:"errors"`  // answers 5xx, connections that failed, answers that broke off
	Retries  uint64 `json:"retries"` // attempts to connect after the first
	// Weight is by what HAProxy shares new requests while the server is up; during a slow
	// start, which is at SlowStart percent then, less than the state has. No slow start is 0.
	Weight    int `json:"weight"`
	SlowStart int `json:"slow_start_percent,omitempty"`
	// ResponseTimeMS is HAProxy's mean of about the last 512 requests, in milliseconds.
	ResponseTimeMS float64 `json:"response_time_ms"`
}

// MaxCounted is the most instances that an answer of Counters may have.
const MaxCounted = 20_000

// View is one service in an answer of /api/v1/state. An instance that several of its
// backends have is there several times; Index is the oldest of theirs.
type View struct {
	Index     uint64         `json:"index"`
	Instances []ViewInstance `json:"instances"`
	Rejected  []struct {
		ID    string `json:"id"`
		Node  string `json:"node"`
		Error string `json:"error"`
	} `json:"rejected"`

	// Rollouts are those of the backends that are no previews; nil: one that has none.
	Rollouts []*ViewRollout `json:"-"`
	// FixedShares is why the service can have no other shares than 0 and 100, or "".
	FixedShares string `json:"-"`
}

// preview is the State of a ViewRollout of a backend to which only those come who ask for
// a version that has no traffic yet.
const preview = "preview"

// ViewRollout is how the versions of a service share the traffic of a backend.
type ViewRollout struct {
	State  string `json:"state"`
	Shares []struct {
		Version string  `json:"version"`
		Percent int     `json:"percent"` // wanted, 0 to 100
		Actual  float64 `json:"actual"`  // of the weight of the servers in traffic, in percent
	} `json:"shares"`
	Ignored string `json:"ignored"` // why the shares are not the weights
	Refused string `json:"refused"` // why the newest document is not used
}

// ViewInstance is one instance, or a server that Consul does not list (its ID is ""), in
// a View.
type ViewInstance struct {
	ID       string `json:"id"`
	Node     string `json:"node"`
	Version  string `json:"version"`
	Phase    string `json:"phase"`
	Leaving  bool   `json:"leaving"`
	Weight   int    `json:"weight"`
	Sessions int    `json:"sessions"`
	Check    string `json:"check"`    // HAProxy's last one, of a server that is down
	ByShare  bool   `json:"by_share"` // the weight is made from a rollout's shares
}

// Drain asks until no session is on the instance, by what Consul knew at the index
// or later, or for d (0 to MaxWait). ErrNotRouted is the load balancer's own word; of
// what another program answers, each other error.
func (c *Client) Drain(ctx context.Context, to Target, service, instance string, index uint64, d time.Duration) (Drain, error) {
	q := wait([]string{"drain", service, instance}, url.Values{"index": {strconv.FormatUint(index, 10)}}, d)
	if to.Datacenter != "" {
		q.query.Set("dc", to.Datacenter)
	}
	q.signed = true
	body, err := c.ask(ctx, to, q)
	if err != nil {
		return Drain{}, err
	}
	return parseDrain(body, to.LoadBalancer, service, instance, index)
}

// parseDrain reads the body of a 200 from /api/v1/drain. What is said of another load
// balancer, service or instance is no answer: it proves nothing.
func parseDrain(body []byte, balancer, service, instance string, index uint64) (Drain, error) {
	f, err := fieldsOf(body)
	if err != nil {
		return Drain{}, err
	}
	a := Drain{Service: service, Instance: instance, Index: math.MaxUint64}
	var sessions float64 // a whole number in any notation
	err = errors.Join(
		f.read("load_balancer", &a.LoadBalancer), f.same("service", service), f.same("instance", instance),
		f.read("drained", &a.Drained), f.read("sessions", &sessions),
		f.readIfSaid("index", &a.Index), f.readIfSaid("phase", &a.Phase), f.readIfSaid("waited_ms", &a.WaitedMS),
	)
	if err == nil && balancer != "" {
		err = f.same("load_balancer", balancer)
	}
	switch {
	case err != nil:
		return Drain{}, err
	case sessions < 0 || sessions > math.MaxInt32 || sessions != math.Trunc(sessions):
		return Drain{}, fmt.Errorf("inconsistent answer: %v sessions", sessions)
	case a.Drained && sessions > 0:
		return Drain{}, fmt.Errorf("inconsistent answer: drained with %v sessions", sessions)
	case a.Drained && a.Index < index:
		return Drain{}, fmt.Errorf("inconsistent answer: drained, at index %d of %d", a.Index, index)
	}
	a.Sessions = int(sessions)
	return a, nil
}

// Live asks until count instances of the version ("" is any) take traffic, or for d (0
// to MaxWait).
func (c *Client) Live(ctx context.Context, to Target, service, version string, count int, d time.Duration) (Live, error) {
	var a Live
	q := wait([]string{"live", service}, url.Values{"version": {version}, "count": {strconv.Itoa(count)}}, d)
	if err := c.decode(ctx, to, q, &a); err != nil {
		return Live{}, err
	}
	if err := is(to, a.LoadBalancer, service, a.Service); err != nil {
		return Live{}, err
	}
	if a.Version != version || a.Want != count || a.Count < 0 || a.Live != (a.Count >= count) {
		return Live{}, fmt.Errorf("inconsistent answer: version %s, %d of %d, live %v", quote(a.Version), a.Count, a.Want, a.Live)
	}
	return a, nil
}

// View asks for all that the sidecar knows of a service. ErrNotRouted: it has no backend
// of that name. A sidecar that is not ready, such as one that has just started, may have
// one all the same: then the error is another.
func (c *Client) View(ctx context.Context, to Target, service string) (View, error) {
	var state struct {
		LoadBalancer string `json:"load_balancer"`
		Services     []struct {
			Name    string       `json:"name"`
			Rollout *ViewRollout `json:"rollout"`
			View
		} `json:"services"`
		FixedShares map[string]string `json:"fixed_shares"`
		Ready       bool              `json:"ready"`
		NotReady    string            `json:"not_ready"`
	}
	if err := c.decode(ctx, to, call{path: []string{"state"}, most: maxState}, &state); err != nil {
		return View{}, err
	}
	if err := is(to, state.LoadBalancer, service, service); err != nil {
		return View{}, err
	}
	var view View
	var rollouts []*ViewRollout
	routed := false
	for _, s := range state.Services { // each backend of the service
		if s.Name != service {
			continue
		}
		if s.Rollout == nil || s.Rollout.State != preview {
			rollouts = append(rollouts, s.Rollout)
		}
		if !routed {
			view, routed = s.View, true
			continue
		}
		view.Index = min(view.Index, s.Index)
		view.Instances, view.Rejected = append(view.Instances, s.Instances...), append(view.Rejected, s.Rejected...)
	}
	switch {
	case !routed && !state.Ready:
		return View{}, fmt.Errorf("services unknown, the sidecar is not ready: %.200q", state.NotReady)
	case !routed:
		return View{}, ErrNotRouted
	}
	view.Rollouts, view.FixedShares = rollouts, state.FixedShares[service]
	return view, nil
}

// State asks for all that the sidecar knows (/api/v1/state), and decodes it into what
// it is given. Whose it is, the caller has to look at.
func (c *Client) State(ctx context.Context, to Target, into any) error {
	return c.decode(ctx, to, call{path: []string{"state"}, wait: ActionTimeout, most: maxState}, into)
}

// Summary asks for the state without its instances (/api/v1/summary), as State does.
func (c *Client) Summary(ctx context.Context, to Target, into any) error {
	return c.decode(ctx, to, call{path: []string{"summary"}, most: maxSummary}, into)
}

// Fleet asks for all load balancers that the sidecar finds (/api/v1/fleet), as State
// does.
func (c *Client) Fleet(ctx context.Context, to Target, into any) error {
	return c.decode(ctx, to, call{path: []string{"fleet"}, wait: ActionTimeout, most: maxState}, into)
}

// Rollouts asks for how the versions of services share the traffic (/api/v1/rollouts), as
// State does.
func (c *Client) Rollouts(ctx context.Context, to Target, into any) error {
	return c.decode(ctx, to, call{path: []string{"rollouts"}, wait: ActionTimeout, most: maxState}, into)
}

// Events asks for what happened after a number (/api/v1/events), at most limit of them;
// after 0, for the newest. It decodes them as State does.
func (c *Client) Events(ctx context.Context, to Target, after uint64, limit int, into any) error {
	query := url.Values{"after": {strconv.FormatUint(after, 10)}, "limit": {strconv.Itoa(limit)}}
	return c.decode(ctx, to, call{path: []string{"events"}, query: query, wait: ActionTimeout, most: maxState}, into)
}

// Decisions asks for the newest decisions with what they were made from
// (/api/v1/decisions), and decodes them as State does.
func (c *Client) Decisions(ctx context.Context, to Target, into any) error {
	return c.decode(ctx, to, call{path: []string{"decisions"}, wait: ActionTimeout, most: maxState}, into)
}

// Counters asks what a load balancer has counted of a service. The list is bounded
// while it is decoded, as three bytes of it may take a hundred in memory.
func (c *Client) Counters(ctx context.Context, to Target, service string) (Counters, error) {
	var a struct {
		LoadBalancer string          `json:"load_balancer"`
		Service      string          `json:"service"`
		Instances    json.RawMessage `json:"instances"`
		Answers      []Answers       `json:"answers"`
	}
	err := c.decode(ctx, to, call{path: []string{"counters", service}, most: maxCounters}, &a)
	if err == nil {
		err = is(to, a.LoadBalancer, service, a.Service)
	}
	if err != nil {
		return Counters{}, err
	}
	all := Counters{LoadBalancer: a.LoadBalancer, Service: a.Service, Answers: a.Answers}
	list := json.NewDecoder(bytes.NewReader(a.Instances))
	if begin, err := list.Token(); err != nil || begin != json.Delim('[') {
		return Counters{}, errors.New("invalid answer: instances: want a list")
	}
	for list.More() {
		var i InstanceCounters
		if err := list.Decode(&i); err != nil {
			return Counters{}, invalid(fmt.Errorf("instances: %w", err))
		}
		if all.Instances = append(all.Instances, i); len(all.Instances) > MaxCounted {
			return Counters{}, fmt.Errorf("invalid answer: more than %d instances", MaxCounted)
		}
	}
	return all, nil
}

// Release releases what the guard holds of a service or a backend.
func (c *Client) Release(ctx context.Context, to Target, service string) (Released, error) {
	var a Released
	q := call{method: http.MethodPost, path: []string{"guard", service, "release"}, wait: ActionTimeout, most: maxState}
	if err := c.decode(ctx, to, q, &a); err != nil {
		return Released{}, err
	}
	return a, is(to, a.LoadBalancer, service, a.Service)
}

// SetDrain puts a server in drain for an operator, or ends that.
func (c *Client) SetDrain(ctx context.Context, to Target, service, server string, on bool) (OperatorDrain, error) {
	var a OperatorDrain
	do := "ready"
	if on {
		do = "drain"
	}
	q := call{method: http.MethodPost, path: []string{"server", service, server, do}, wait: ActionTimeout, most: maxAnswer}
	if err := c.decode(ctx, to, q, &a); err != nil {
		return OperatorDrain{}, err
	}
	return a, is(to, a.LoadBalancer, service, a.Service)
}

// Pause asks whether a service is paused on a load balancer, and what is under way there.
func (c *Client) Pause(ctx context.Context, to Target, service string) (Pause, error) {
	var a Pause
	if err := c.decode(ctx, to, call{path: []string{"pauses", service}, most: maxAnswer}, &a); err != nil {
		return Pause{}, err
	}
	return a, is(to, a.LoadBalancer, service, a.Service)
}

// RequestReload asks for a reload of HAProxy in the name of someone (at most 100 bytes; "":
// the API's), and does not wait for it.
func (c *Client) RequestReload(ctx context.Context, to Target, by string) (ReloadRequest, error) {
	var a ReloadRequest
	q := call{method: http.MethodPost, path: []string{"reload"}, query: url.Values{"by": {by}}, wait: ActionTimeout, most: maxAnswer}
	if err := c.decode(ctx, to, q, &a); err != nil {
		return ReloadRequest{}, err
	}
	return a, is(to, a.LoadBalancer, "", "")
}

// is refuses an answer of another load balancer, or about another service.
func is(to Target, balancer, service, about string) error {
	switch {
	case to.LoadBalancer != "" && balancer != to.LoadBalancer:
		return fmt.Errorf("the load balancer %s answers there", quote(balancer))
	case about != service:
		return fmt.Errorf("the answer is about the service %s", quote(about))
	}
	return nil
}

// fields is an object of JSON. Its keys are taken as they are, where a struct's
// would be in any case of letters.
type fields map[string]json.RawMessage

func fieldsOf(body []byte) (fields, error) {
	var f fields
	if err := json.Unmarshal(body, &f); err != nil {
		return nil, errors.New("the answer is no JSON object: " + brief(err.Error(), 200))
	}
	if f == nil {
		return nil, errors.New("the answer is no JSON object: null")
	}
	return f, nil
}

func (f fields) read(key string, to any) error {
	value, found := f[key]
	if !found || bytes.Equal(value, []byte("null")) {
		return fmt.Errorf("the answer has no %q", key)
	}
	if err := json.Unmarshal(value, to); err != nil {
		return fmt.Errorf("%s: unusable value %s", key, quote(string(value)))
	}
	return nil
}

func (f fields) readIfSaid(key string, to any) error {
	if _, said := f[key]; !said {
		return nil
	}
	return f.read(key, to)
}

func (f fields) same(key, want string) error {
	var got string
	if err := f.read(key, &got); err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("the answer is of %s %s, not of %s", key, quote(got), quote(want))
	}
	return nil
}
