package deploy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is Consul, load balancers and nodes that behave as the real ones do in
// time, and faults on request. It holds what a deployment must never do.
type world struct {
	t *testing.T

	mu    sync.Mutex
	index uint64
	nodes map[Key]*node
	lbs   map[string]*lb
	calls []string // of Nodes, in order
	said  []string // by the deployment
	steps []Step

	shown     func([]Bar)   // may be nil
	stepped   func(Step)    // may be nil
	slowList  time.Duration // until Consul answers
	blueGreen *BlueGreen    // may be nil

	// How nodes behave.
	startTakes, healthyAfter, stopTakes, drainTakes time.Duration

	version   string // that is registered in place of the one asked for
	bad       map[string]bool
	silent    bool     // nodes that start do not register
	lose      []string // the IDs of nodes that do not
	startFail map[int]error
	hang      bool // start commands hang until ctx ends
	stopFail  map[string]error
	stopLies  bool // stop commands succeed and stop nothing
	oneByOne  bool // a stop command begins when the one before it has ended
	consul    error
	ownIDs    bool // nodes register under IDs of their own
	given     []string
	next      int
	least     int // number that must always take traffic on each load balancer that lives

	rollout *rollout // nil: no version has a share
}

type node struct {
	Instance
	healthy time.Time
	left    time.Time // since when it leaves; zero: not
	gone    time.Time // when it is no longer registered
}

type lb struct {
	name   string
	lag    time.Duration // until it follows
	dead   error         // it can't be asked
	routes bool
	hidden bool  // not in Consul
	blind  bool  // it has every node down
	mute   error // it can't be asked for its view
	url    string
}

func newWorld(t *testing.T, version string, count int, lbs ...string) *world {
	w := &world{
		t: t, index: 10, nodes: map[Key]*node{}, lbs: map[string]*lb{}, bad: map[string]bool{}, startFail: map[int]error{}, stopFail: map[string]error{},
		startTakes: 300 * time.Millisecond, healthyAfter: time.Second, stopTakes: 2 * time.Second, drainTakes: time.Second,
		least: count,
	}
	for i := range count {
		w.add(fmt.Sprintf("old-%d", i), version, time.Now())
	}
	for i, name := range lbs {
		w.lbs[name] = &lb{name: name, url: "http://" + name, routes: true, lag: time.Duration(i) * 100 * time.Millisecond}
	}
	return w
}

func (w *world) add(id, version string, healthy time.Time) *node {
	w.index++
	n := &node{Instance: Instance{ID: id, Node: "n", Address: "10.0.0.1:80", Version: version}, healthy: healthy}
	w.nodes[n.Key()] = n
	return n
}

// after makes something happen later.
func (w *world) after(d time.Duration, do func()) {
	time.AfterFunc(d, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		do()
	})
}

func (n *node) takes(at time.Time) bool {
	return !n.healthy.IsZero() && !at.Before(n.healthy) && (n.left.IsZero() || at.Before(n.left))
}

// taking counts those that take traffic on a load balancer now.
func (w *world) taking(b *lb, version string) (n int) {
	if b.blind {
		return 0
	}
	for _, x := range w.nodes {
		if (version == "" || x.Version == version) && x.takes(time.Now().Add(-b.lag)) {
			n++
		}
	}
	return n
}

func (w *world) Instances(ctx context.Context) (Listing, error) {
	wait(ctx, w.slowList)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.consul != nil {
		return Listing{}, w.consul
	}
	l := Listing{Index: w.index}
	for _, n := range w.nodes {
		if !n.gone.IsZero() && !time.Now().Before(n.gone) {
			continue
		}
		i := n.Instance
		i.Leaving = !n.left.IsZero() && !time.Now().Before(n.left)
		if !n.takes(time.Now()) && !i.Leaving {
			i.Checks = []Check{{Name: "http", Status: "critical", Output: "HTTP GET: 500\x1b[2J"}}
		}
		l.Instances = append(l.Instances, i)
	}
	return l, nil
}

func (w *world) Balancers(context.Context) ([]Balancer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.consul != nil {
		return nil, w.consul
	}
	var out []Balancer
	for _, b := range w.lbs {
		if !b.hidden {
			out = append(out, Balancer{Name: b.name, URL: b.url, Passing: b.dead == nil})
		}
	}
	return out, nil
}

// poll asks f until it says yes, the wait is over, or the load balancer dies.
func (w *world) poll(ctx context.Context, to Balancer, patience time.Duration, f func(*lb) bool) error {
	end := time.Now().Add(patience)
	for {
		w.mu.Lock()
		b := w.lbs[to.Name]
		dead, routes, yes := b.dead, b.routes, f(b)
		if to.URL != b.url {
			dead = errors.New("connection refused")
		}
		w.mu.Unlock()
		switch {
		case dead != nil:
			return dead
		case !routes:
			return ErrNotRouted
		case yes || !time.Now().Before(end):
			return nil
		case !wait(ctx, 10*time.Millisecond):
			return ctx.Err()
		}
	}
}

func (w *world) Live(ctx context.Context, b Balancer, version string, count int, patience time.Duration) (isLive bool, err error) {
	err = w.poll(ctx, b, patience, func(x *lb) bool {
		isLive = w.taking(x, version) >= count
		return isLive
	})
	return isLive, err
}

func (w *world) Drained(ctx context.Context, b Balancer, instance string, index uint64, patience time.Duration) (out Drain, err error) {
	err = w.poll(ctx, b, patience, func(x *lb) bool {
		out = Drain{Drained: true}
		for _, n := range w.nodes {
			if n.ID == instance {
				one := w.drain(n, x)
				out = Drain{Drained: out.Drained && one.Drained, Phase: one.Phase, Sessions: out.Sessions + one.Sessions}
			}
		}
		if index > w.index {
			out.Drained = false
		}
		return out.Drained
	})
	return out, err
}

func (w *world) drain(n *node, b *lb) Drain {
	switch at := time.Now().Add(-b.lag); {
	case n.left.IsZero() || at.Before(n.left):
		return Drain{Phase: "up", Sessions: 3}
	case at.Before(n.left.Add(w.drainTakes)):
		return Drain{Phase: "draining", Sessions: 1}
	}
	return Drain{Drained: true, Phase: "out"}
}

func (w *world) View(_ context.Context, b Balancer) (View, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	x := w.lbs[b.Name]
	if err := cmp.Or(x.dead, x.mute); err != nil {
		return View{}, err
	}
	v := View{Index: w.index, Instances: map[Key]Seen{}}
	if w.rollout != nil {
		v.Shares, v.Unapplied, v.Fixed = w.rollout.sharesOn(x), w.rollout.unapplied, w.rollout.fixed
	}
	for k, n := range w.nodes {
		s := Seen{Version: n.Version, Takes: n.takes(time.Now().Add(-x.lag)) && !x.blind, Phase: "down", Check: "L7STS 404: GET /healthz → 404"}
		if s.Ready = s.Takes; s.Takes {
			s.Phase = "up"
			s.Takes = w.rollout == nil || w.rollout.ended || w.rollout.sharesOn(x)[n.Version].Wanted > 0
		} else if !n.left.IsZero() {
			d := w.drain(n, x)
			s.Phase, s.Sessions = d.Phase, d.Sessions
		}
		v.Instances[k] = s
	}
	return v, nil
}

func (w *world) Start(ctx context.Context, s Start) error {
	w.note("start %d of %d", len(s.IDs), s.Total)
	w.given = append(w.given, s.IDs...)
	if w.hang {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if !wait(ctx, w.startTakes) {
		return context.Cause(ctx)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	for i, id := range s.IDs {
		if err := w.startFail[s.First+i]; err != nil {
			errs = append(errs, err)
			continue
		}
		if w.silent || slices.Contains(w.lose, id) {
			continue
		}
		version := s.Version
		if w.version != "" {
			version = w.version
		}
		healthy := time.Now().Add(w.healthyAfter)
		if w.bad[s.Version] {
			healthy = time.Time{}
		}
		if w.ownIDs {
			id = fmt.Sprintf("own-%d", w.next)
			w.next++
		}
		w.add(id, version, healthy)
	}
	return errors.Join(errs...)
}

func (w *world) Started(_ context.Context, list []Instance) (map[Key]string, error) {
	nodes := map[Key]string{}
	for _, i := range list {
		if slices.Contains(w.given, i.ID) {
			nodes[i.Key()] = i.ID
		}
	}
	return nodes, nil
}

// Stop is a SIGTERM that is waited for. A second one to a node would end it at
// once, with what it is doing.
func (w *world) Stop(ctx context.Context, s Stop) error {
	w.note("stop %s undo=%v last=%v missing=%d", strings.Join(idsOf(s.Instances), ","), s.Undo, s.Last, len(s.Missing))
	var errs []error
	w.mu.Lock()
	for _, i := range s.Instances {
		if w.oneByOne {
			w.mu.Unlock()
			wait(ctx, w.stopTakes)
			w.mu.Lock()
			if s.May != nil && !s.May() {
				errs = append(errs, &StopError{i.Key(), ErrKept})
				continue
			}
		}
		n := w.nodes[i.Key()]
		if err := w.stopFail[i.ID]; err != nil {
			errs = append(errs, &StopError{i.Key(), err})
			continue
		}
		if w.stopLies {
			continue
		}
		if !n.left.IsZero() {
			w.t.Errorf("%s was told to stop twice", i.ID)
		}
		w.index++
		n.left, n.gone = time.Now(), time.Now().Add(w.drainTakes+500*time.Millisecond)
	}
	for _, b := range w.lbs {
		if b.blind && !s.Undo {
			w.t.Errorf("told to stop while %s has none up", b.name)
		}
		// By what it sees once it has followed.
		if n := w.taking(&lb{}, ""); b.dead == nil && n < w.least {
			w.t.Errorf("%d take traffic on %s, want at least %d", n, b.name, w.least)
		}
	}
	w.mu.Unlock()
	if !wait(ctx, w.stopTakes) {
		return context.Cause(ctx)
	}
	return errors.Join(errs...)
}

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, fmt.Sprintf(format, args...))
}

// running returns the instances that are registered and do not leave, by version.
func (w *world) running() map[string]int {
	out := map[string]int{}
	l, _ := w.Instances(context.Background())
	for _, i := range l.Instances {
		if !i.Leaving {
			out[i.Version]++
		}
	}
	return out
}

// order is 1.1 of the service, with these changes.
func order(change ...func(*Order)) Order {
	o := Order{
		Service: "api", Version: "1.1", Timeout: 20 * time.Second, DrainTimeout: 20 * time.Second, Nonce: "xyz",
		Pattern: regexp.MustCompile(`^(api|old|new)(-.*)?$`),
	}
	for _, c := range change {
		c(&o)
	}
	return o
}

// deploy runs one deployment in the world.
func (w *world) deploy(ctx context.Context, o Order) Result {
	w.t.Helper()
	options := Options{
		Order: o, Catalog: w, Balancers: w, Nodes: w,
		Say:  func(line string) { w.t.Log(line); w.said = append(w.said, line) },
		Show: w.shown,
		Step: func(s Step) {
			if w.steps = append(w.steps, s); w.stepped != nil {
				w.stepped(s)
			}
		},
	}
	if w.rollout != nil {
		options.Canary, options.BlueGreen = w.rollout, w.blueGreen
	}
	d, err := New(options)
	if err != nil {
		w.t.Fatal(err)
	}
	return d.Run(ctx)
}

// mustBe fails the test unless it ended so, and every text is in the reasons.
func (w *world) mustBe(r Result, want Outcome, texts ...string) {
	w.t.Helper()
	if r.Outcome != want {
		w.t.Fatalf("outcome: got %q, want %q\n%s\n%s", r.Outcome, want, r.Error(), r.Summary())
	}
	for _, text := range texts {
		if !strings.Contains(r.Error()+"\n"+r.Summary(), text) {
			w.t.Errorf("the reasons do not hold %q:\n%s\n%s", text, r.Error(), r.Summary())
		}
	}
}

// mustRun fails the test unless the given number of each version runs, and no others.
func (w *world) mustRun(want map[string]int) {
	w.t.Helper()
	if got := w.running(); fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Errorf("running: got %v, want %v\n%s", got, want, strings.Join(w.calls, "\n"))
	}
}

// saidOnce fails the test unless one line of the deployment's has the words.
func (w *world) saidOnce(words string) {
	w.t.Helper()
	n := 0
	for _, line := range w.said {
		if strings.Contains(line, words) {
			n++
		}
	}
	if n != 1 {
		w.t.Errorf("%q is said %d times, want once:\n%s", words, n, strings.Join(w.said, "\n"))
	}
}

// mustWarnOf fails the test unless the steps of a name say these words of their
// deadlines, in order.
func (w *world) mustWarnOf(name string, words ...string) {
	w.t.Helper()
	var texts []string
	for _, s := range w.steps {
		if s.Name == name {
			texts = append(texts, s.AtDeadline)
		}
	}
	isSame := len(texts) == len(words)
	for i := range min(len(texts), len(words)) {
		isSame = isSame && strings.Contains(texts[i], words[i])
	}
	if !isSame {
		w.t.Errorf("step %s: its deadlines say %q, want %q", name, texts, words)
	}
}

func (w *world) mustCall(want ...string) {
	w.t.Helper()
	if !slices.Equal(w.calls, want) {
		w.t.Errorf("calls:\n got %s\nwant %s", strings.Join(w.calls, "\n     "), strings.Join(want, "\n     "))
	}
}

func idsOf(list []Instance) []string {
	ids := make([]string, 0, len(list))
	for _, i := range list {
		ids = append(ids, i.ID)
	}
	return ids
}
