package rollout

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
)

// patience is how long instances wait for the documents after a start, while Consul
// answers for them and not for these.
const patience = 30 * time.Second

// Source is the catalog that the weights are laid over.
type Source interface {
	Snapshot() catalog.Snapshot
	Health(backend string) catalog.SourceHealth
	News(seen uint64, each func(backend string, changed time.Time)) uint64
	Changed() <-chan struct{}
	Wake() // gives Changed a value
}

// Follower reads the documents; *consul.KV is one.
type Follower interface {
	Follow(ctx context.Context, prefix string, take func([]consul.Entry, error))
}

// Backend is one backend whose service may have a rollout.
type Backend struct {
	Name, Service string
	Warning       bool   // an instance whose check warns takes traffic
	Fixed         string // why HAProxy takes no weight but 0 % and 100 % at runtime; "" where it takes all

	// PreviewOf is the backend of the same service whose answer this one is made of: it has
	// the instances of the canary, with their own weights. "" is a backend with an answer.
	PreviewOf string
}

// Preview is the State of the catalog.Rollout of a preview backend.
const Preview = catalog.InPreview

// Overlay is a catalog whose instances have the weights of their versions' shares. Its
// methods may be called by any goroutine.
type Overlay struct {
	source Source
	kv     Follower
	log    hclog.Logger

	mu       sync.Mutex
	backends map[string]Backend
	previews map[string][]string     // of each of them that has some
	entries  map[string]consul.Entry // by key, as last read
	known    map[string]document     // by service
	changed  map[string]time.Time    // by backend, when its document last did
	changes  catalog.Changes         // of the documents and of the source
	seen     uint64                  // what was last read of the source's
	read     bool                    // the documents, or it was given up
	without  bool                    // it was given up, and they have not been read since
	since    time.Time               // since when they cannot be read though instances can
	err      error                   // of the last query
	under    catalog.Snapshot        // of the source, of which over was made
	over     catalog.Snapshot
	made     map[string]laid // by backend
}

// document is what is known of one service's.
type document struct {
	good    *Document // the last valid one; nil: none
	refused string    // why the newest is not it
	index   uint64
	text    string // after a Consul has lost its data, another one may have the same index
}

// laid is one service with its weights, and what they were made of.
type laid struct {
	under catalog.Service
	of    document
	over  catalog.Service
}

// NewOverlay starts nothing.
func NewOverlay(source Source, kv Follower, backends []Backend, log hclog.Logger) *Overlay {
	o := &Overlay{source: source, kv: kv, log: log, known: map[string]document{}}
	o.SetBackends(backends)
	return o
}

// SetBackends takes the backends of new settings.
func (o *Overlay) SetBackends(backends []Backend) {
	o.mu.Lock()
	defer o.mu.Unlock()
	was := o.changed
	o.backends, o.changed, o.made = make(map[string]Backend, len(backends)), make(map[string]time.Time, len(backends)), map[string]laid{}
	o.under, o.over = catalog.Snapshot{}, catalog.Snapshot{}
	o.previews = map[string][]string{}
	for _, b := range backends {
		if b.PreviewOf != "" {
			o.previews[b.PreviewOf] = append(o.previews[b.PreviewOf], b.Name)
		}
		o.backends[b.Name], o.changed[b.Name] = b, was[b.Name]
	}
	for name := range was {
		if _, is := o.backends[name]; !is {
			o.changes.Forget(name)
		}
	}
	o.learn()
}

// Run follows the documents until ctx ends.
func (o *Overlay) Run(ctx context.Context) error {
	var waiting sync.WaitGroup
	waiting.Go(func() { o.wait(ctx) })
	defer waiting.Wait()
	o.kv.Follow(ctx, string(Prefix), o.take)
	return context.Cause(ctx)
}

// wait ends the wait for the documents in time, also while a query hangs.
func (o *Overlay) wait(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for !o.waited() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (o *Overlay) waited() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.read && o.isPatienceOver() {
		if o.err == nil {
			o.err = errNoAnswer
		}
		o.giveUp()
	}
	return o.read
}

var errNoAnswer = fmt.Errorf("no answer within %s", patience)

// Err is why the documents cannot be read; nil where they can. Where they never were, it
// is a catalog.ErrWithoutRollouts.
func (o *Overlay) Err() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil && o.without {
		return fmt.Errorf("%w: %w", catalog.ErrWithoutRollouts, o.err)
	}
	return o.err
}

// Running returns the documents that are to be moved, by service: none while they cannot
// be read, and none that an invalid one would replace.
func (o *Overlay) Running() map[string]*Document {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := map[string]*Document{}
	for service, d := range o.known {
		if o.err == nil && d.refused == "" && d.good.State == Running {
			out[service] = d.good
		}
	}
	return out
}

// Fixed returns the services that can have no other shares than 0 and 100, and why.
func (o *Overlay) Fixed() map[string]string {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := map[string]string{}
	for _, b := range o.backends {
		if b.Fixed != "" {
			out[b.Service] = b.Fixed
		}
	}
	return out
}

// IsRead reports whether the documents have been read, or that was given up.
func (o *Overlay) IsRead() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.read
}

// Changed is the source's.
func (o *Overlay) Changed() <-chan struct{} { return o.source.Changed() }

// Health is the source's, except that a document's change is one of the service, too.
func (o *Overlay) Health(backend string) catalog.SourceHealth {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.health(backend)
}

// News is the source's, except that a document's change is one of the service, too.
func (o *Overlay) News(seen uint64, each func(backend string, changed time.Time)) uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen = o.source.News(o.seen, func(backend string, _ time.Time) {
		if _, is := o.backends[backend]; !is {
			return // learn notes it, should it become one
		}
		o.changes.Note(backend)
		for _, preview := range o.previews[backend] {
			o.changes.Note(preview)
		}
	})
	return o.changes.Since(seen, func(backend string) { each(backend, o.health(backend).Changed) })
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (o *Overlay) health(backend string) catalog.SourceHealth {
	of := backend
	if b := o.backends[backend]; b.PreviewOf != "" {
		of = b.PreviewOf
	}
	h := o.source.Health(of)
	h.Changed = later(o.changed[backend], h.Changed)
	return h
}

// Snapshot is the source's with the weights of the shares. Until the documents have
// been read once, nothing is known: instances must not take traffic by weights that
// they lose a moment later.
func (o *Overlay) Snapshot() catalog.Snapshot {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.read {
		return catalog.Snapshot{}
	}
	under := o.source.Snapshot()
	if len(o.known) == 0 && len(o.previews) == 0 {
		return under
	}
	if o.under.Same(under) {
		return o.over
	}
	var laid, previews []catalog.Service
	for name, b := range o.backends {
		d, has := o.known[b.Service]
		switch {
		case b.PreviewOf != "":
			if s := under.Service(b.PreviewOf); s.Known {
				s.Name = name
				previews = append(previews, o.lay(b, s, d))
			}
		case has:
			laid = append(laid, o.lay(b, under.Service(name), d))
		}
	}
	o.under, o.over = under, under.Replace(laid...)
	for _, s := range previews {
		o.over = o.over.With(s)
	}
	return o.over
}

// lay gives a service its weights. The caller holds mu.
func (o *Overlay) lay(b Backend, s catalog.Service, d document) catalog.Service {
	was := o.made[b.Name]
	isSame := was.of == d && was.under.Known == s.Known && was.under.Index == s.Index && len(was.under.Instances) == len(s.Instances) &&
		(len(s.Instances) == 0 || &was.under.Instances[0] == &s.Instances[0])
	if !isSame {
		was = laid{under: s, of: d, over: Lay(b, s, d.good, d.refused)}
		o.made[b.Name] = was
	}
	over := s
	over.Instances, over.Rollout = was.over.Instances, was.over.Rollout
	if b.PreviewOf != "" {
		over.Untagged, over.Rejected, over.Claims = was.over.Untagged, nil, nil // its service has them
	}
	return over
}

// Lay returns a service with the weights of a document, which may be nil; refused says
// why a newer one is not used.
func Lay(b Backend, s catalog.Service, d *Document, refused string) catalog.Service {
	if b.PreviewOf != "" {
		return preview(s, d)
	}
	s.Rollout = &catalog.Rollout{Refused: refused}
	if d == nil {
		return s
	}
	r := s.Rollout
	r.State, r.ModifiedBy, r.ModifiedAt = string(d.State), d.ModifiedBy, d.ModifiedAt
	if len(d.Shares) == 0 {
		return s
	}
	shares, isWhole := d.Shares, false
	for _, percent := range shares {
		isWhole = isWhole || percent == 100
	}
	weights, isApplied := Weights(shares, s.Instances, b.Warning)
	switch {
	case !isApplied:
		r.Ignored = "only versions with share 0 have instances"
	case b.Fixed != "" && !isWhole:
		isApplied, r.Ignored = false, b.Fixed
	}
	sums := map[string]*catalog.Share{}
	for version, percent := range shares {
		sums[version] = &catalog.Share{Version: version, Percent: percent}
	}
	s.Instances = slices.Clone(s.Instances)
	for n := range s.Instances {
		i := &s.Instances[n]
		if weight := weights[n]; isApplied && weight != KeepWeight && (b.Fixed == "" || weight == 0) {
			i.Registered, i.Weight, i.ByShare = i.Weight, weight, true
			if sum := sums[i.Version]; sum != nil {
				sum.Instances++
				sum.Weight += weight
			}
		}
	}
	for _, version := range d.Versions() {
		r.Shares = append(r.Shares, *sums[version])
	}
	return s
}

// preview returns a service with the instances of the canary only. The others lack the role
// that the backend asks for, as those that lack a tag do: they leave it at once, and are no
// loss that the guard could judge.
func preview(s catalog.Service, d *Document) catalog.Service {
	canary := ""
	if d != nil && len(d.Shares) > 0 {
		canary = d.Canary
	}
	all := s.Instances
	s.Instances, s.Untagged, s.Rollout = nil, slices.Clone(s.Untagged), &catalog.Rollout{State: Preview}
	for _, i := range all {
		if canary != "" && i.Version == canary {
			s.Instances = append(s.Instances, i)
		} else {
			s.Untagged = append(s.Untagged, catalog.Instance{ID: i.ID, Node: i.Node, Server: i.Server, Addr: i.Addr})
		}
	}
	slices.SortFunc(s.Untagged, func(a, b catalog.Instance) int { return cmp.Compare(a.Server, b.Server) })
	return s
}

// take takes an answer. Where there is none, what was known stays.
func (o *Overlay) take(entries []consul.Entry, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.failed(err)
		return
	}
	if o.err != nil {
		o.log.Info("rollouts read again", "was", o.err)
	}
	o.entries = make(map[string]consul.Entry, len(entries))
	for _, e := range entries {
		o.entries[e.Key] = e
	}
	isFirst := !o.read
	if o.err, o.without = nil, false; isFirst {
		o.reveal()
	}
	if o.learn() || isFirst {
		o.source.Wake()
	}
}

// learn takes the documents of the services from what was read, and reports whether
// there is news. The caller holds mu.
func (o *Overlay) learn() (isNew bool) {
	known := map[string]document{}
	for _, b := range o.backends {
		if _, done := known[b.Service]; done {
			continue
		}
		if e, has := o.entries[Key(b.Service)]; has {
			known[b.Service] = o.judge(b.Service, e)
		}
	}
	now := time.Now()
	for _, b := range o.backends {
		if known[b.Service] != o.known[b.Service] || o.changed[b.Name].IsZero() {
			o.noteChange(b.Name, now)
			isNew = true
		}
	}
	for service, d := range o.known {
		if _, stays := known[service]; !stays {
			o.log.Info("rollout removed", "service", service, "was", describe(d.good))
		}
	}
	o.known = known
	o.under, o.over = catalog.Snapshot{}, catalog.Snapshot{}
	return isNew
}

// judge takes a document, or keeps the last good one.
func (o *Overlay) judge(service string, e consul.Entry) document {
	was := o.known[service]
	if was.index == e.Index && was.text == string(e.Value) {
		return was
	}
	d, err := Parse(service, e.Value)
	if err != nil {
		o.log.Warn("invalid rollout ignored", "service", service, "error", err, "kept", describe(was.good))
		return document{good: was.good, refused: err.Error(), index: e.Index, text: string(e.Value)}
	}
	o.log.Info("rollout changed", "service", service, "is", describe(d), "was", describe(was.good), "by", catalog.Printable(d.ModifiedBy))
	return document{good: d, index: e.Index, text: string(e.Value)}
}

func describe(d *Document) string {
	if d == nil {
		return "none"
	}
	return fmt.Sprintf("%s, %s", d.State, d.SharesText())
}

// failed notes that there is no answer. The caller holds mu.
func (o *Overlay) failed(err error) {
	if o.err == nil {
		o.log.Warn("rollouts cannot be read, keeping last known", "error", err)
	}
	o.err = err
	if isOver := o.isPatienceOver(); !o.read && (isOver || consul.IsForbidden(err)) {
		o.giveUp()
	}
}

// isPatienceOver reports whether instances have waited for long enough. The caller
// holds mu.
func (o *Overlay) isPatienceOver() bool {
	now := time.Now()
	if o.since.IsZero() && slices.ContainsFunc(o.source.Snapshot().Services(), func(s catalog.Service) bool { return s.Known }) {
		o.since = now
	}
	return !o.since.IsZero() && now.Sub(o.since) >= patience
}

// giveUp uses the instances with their own weights. The caller holds mu.
func (o *Overlay) giveUp() {
	o.log.Warn("instances used without rollouts, these cannot be read", "error", o.err)
	o.without = true
	o.reveal()
	o.source.Wake()
}

// reveal lets the instances be known. That is a change of each service, also where Consul
// answered for it long ago: nothing was known of it until now. The caller holds mu.
func (o *Overlay) reveal() {
	o.read = true
	now := time.Now()
	for name := range o.backends {
		o.noteChange(name, now)
	}
}

func (o *Overlay) noteChange(backend string, at time.Time) {
	o.changed[backend] = at
	o.changes.Note(backend)
}
