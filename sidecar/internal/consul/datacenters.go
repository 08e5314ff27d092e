package consul

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

const (
	// otherWait is how long, after its watch has begun, an answer about a service in
	// another datacenter than the first is waited for: less than a command that asks once
	// waits, catalogWait of daemon.
	otherWait = 5 * time.Second
	// maxMerged is how many answers of several datacenters a Source can still tell apart.
	// The loop is not more behind than a few.
	maxMerged = 256
	// firstMerged is above all of Consul's own indexes.
	firstMerged = 1 << 40
)

// part is what one watch knows of a service.
type part struct {
	catalog.Service
	said   catalog.Service // the same, as its datacenter has it: see Service.placed
	health catalog.SourceHealth
	isLate bool // it is not waited for any more
}

// merged is an answer that was made of those of several datacenters, with their indexes.
type merged struct {
	index uint64
	of    []uint64 // by Service.Datacenters; 0 before the first answer
}

// merge makes of what the watches of a service know what is known of it. That may differ
// from before without a new answer: the datacenters may be others. The caller holds mu.
func (s *Source) merge(service Service) {
	all := service.each()
	before := s.snapshot.Service(service.Backend)
	now, health := s.together(all)
	s.health[service.Backend] = health
	if !now.Known {
		return // what was known by other settings stays
	}
	hasIndex := s.hasIndex(all, before.Index)
	if len(all) > 1 {
		now.Index = s.noteMerged(all)
	}
	s.snapshot = s.snapshot.With(now)
	if !before.Known || !slices.Equal(before.Claims, now.Claims) {
		notify(s.claimed)
	}
	if now.Claims = before.Claims; now.Equal(before) && hasIndex {
		return
	}
	health.Changed = time.Now()
	s.health[service.Backend] = health
	s.changes.Note(service.Backend)
	notify(s.changed)
}

// reorder returns what is known of a service the IDs and roles that it has by its new
// datacenters. Indexes of before are of none of them any more: Index gives 0, and no drain
// is acknowledged by the order that has ended. The caller holds mu.
func (s *Source) reorder(service Service) {
	for at, w := range s.watches {
		if at.backend == service.Backend { // it would go on by the old order
			w.cancel()
			delete(s.watches, at)
		}
	}
	delete(s.merged, service.Backend)
	for _, one := range service.each() {
		if p, known := s.parts[one.origin()]; known {
			p.Service = one.placed(p.said)
			s.parts[one.origin()] = p
		}
	}
	if s.parts[service.each()[0].origin()].Known {
		s.merge(service)
	}
}

// hasIndex reports whether Index knows an answer by the datacenters of now.
func (s *Source) hasIndex(all []Service, index uint64) bool {
	if len(all) < 2 {
		return index < firstMerged
	}
	_, found := slices.BinarySearchFunc(s.merged[all[0].Backend], index, byIndex)
	return found
}

func byIndex(m merged, index uint64) int { return cmp.Compare(m.index, index) }

// together returns what is known of a service, and how its queries go: it is as old as the
// oldest answer. A datacenter that does not answer keeps none of the others from being
// used, except the first one.
func (s *Source) together(all []Service) (now catalog.Service, health catalog.SourceHealth) {
	first := s.parts[all[0].origin()]
	now, health = first.Service, first.health
	health.Changed = s.health[all[0].Backend].Changed
	for _, other := range all[1:] {
		p := s.parts[other.origin()]
		now.Known = now.Known && (p.Known || p.isLate)
		if at := p.health.Answered; !at.IsZero() && at.Before(health.Answered) {
			health.Answered = at
		}
		now = with(now, p.Service)
	}
	for _, other := range all[1:] {
		if now.Known && health.Err == nil {
			health.Err = s.parts[other.origin()].health.Err
		}
	}
	return now, health
}

// noteHealth is merge where only how the queries go has changed.
func (s *Source) noteHealth(service Service) {
	_, s.health[service.Backend] = s.together(service.each())
}

// with adds what is known of a service in another datacenter. A name that is taken keeps
// its instance.
func with(s, other catalog.Service) catalog.Service {
	if !other.Known {
		return s
	}
	s.Instances = slices.Concat(s.Instances, other.Instances)
	s.Untagged = slices.Concat(s.Untagged, other.Untagged)
	s.Rejected = slices.Concat(s.Rejected, other.Rejected)
	slices.SortStableFunc(s.Instances, byServer)
	slices.SortStableFunc(s.Untagged, byServer)
	kept := s.Instances[:0]
	for _, i := range s.Instances {
		if len(kept) > 0 && kept[len(kept)-1].Server == i.Server {
			s.Rejected = append(s.Rejected, catalog.Rejection{ID: i.ID, Node: i.Node, Err: fmt.Errorf("server name %q: an instance of another datacenter has it", i.Server)})
			continue
		}
		kept = append(kept, i)
	}
	s.Instances = kept
	slices.SortStableFunc(s.Rejected, byID)
	s.Outputs = slices.Concat(s.Outputs, other.Outputs)
	slices.SortStableFunc(s.Outputs, catalog.CheckOutput.Compare)
	s.Claims = withClaims(s.Claims, other.Claims)
	return s
}

// withClaims adds what only instances of another datacenter claim. Its indexes say
// nothing here, so that such a claim is the youngest.
func withClaims(claims, other []catalog.Claim) []catalog.Claim {
	if len(other) == 0 {
		return claims
	}
	all := make(map[catalog.Claim]uint64, len(claims)+len(other))
	gather(all, claims)
	for _, c := range other {
		c.Since = 0
		if _, claimed := all[c]; !claimed {
			all[c] = math.MaxUint64
		}
	}
	return listClaims(all)
}

func byID(a, b catalog.Rejection) int {
	return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Node, b.Node))
}

// noteMerged returns an answer of several datacenters an index of its own, by which
// theirs are found again. The caller holds mu.
func (s *Source) noteMerged(all []Service) uint64 {
	s.merges++
	m := merged{index: firstMerged + s.merges}
	for _, one := range all {
		m.of = append(m.of, s.parts[one.origin()].Index)
	}
	kept := s.merged[all[0].Backend]
	if len(kept) >= maxMerged {
		kept = slices.Clone(kept[1:])
	}
	s.merged[all[0].Backend] = append(kept, m)
	return m.index
}

// Index returns Consul's index, in one of the datacenters of a backend's service, of the
// answer that has the index at in a Snapshot: they differ where there are several
// datacenters. "" is the first one. isWatched is false for one that is not asked; an index
// of 0 is that nothing is known.
func (s *Source) Index(backend, datacenter string, at uint64) (index uint64, isWatched bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, all := 0, s.services[backend].Datacenters
	if datacenter != "" {
		n = slices.Index(all, datacenter)
	}
	switch {
	case n < 0:
		return 0, false
	case len(all) < 2 && at < firstMerged:
		return at, true
	}
	kept := s.merged[backend]
	i, found := slices.BinarySearchFunc(kept, at, byIndex)
	if !found || n >= len(kept[i].of) {
		return 0, true
	}
	return kept[i].of[n], true
}

// Others returns the datacenters of a backend's service whose instances are backups.
func (s *Source) Others(backend string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if all := s.services[backend].Datacenters; len(all) > 1 {
		return all[1:]
	}
	return nil
}

// OfOthers returns the IDs and nodes of the instances of a backend that are in another
// datacenter than the first of its service.
func (s *Source) OfOthers(backend string) map[[2]string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.services[backend].each()
	if len(all) < 2 {
		return nil
	}
	out := map[[2]string]bool{}
	for _, one := range all[1:] {
		for _, i := range s.parts[one.origin()].Instances {
			out[[2]string{i.ID, i.Node}] = true
		}
	}
	for _, i := range s.parts[all[0].origin()].Instances { // whose names they do not get
		delete(out, [2]string{i.ID, i.Node})
	}
	return out
}

// IsNamed reports whether the datacenters of a backend's service are named. Without that
// they are the agent's.
func (s *Source) IsNamed(backend string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.services[backend].Datacenters) > 0
}

// goOnWithout ends the wait for a datacenter that has not answered yet.
func (w *watch) goOnWithout() {
	s := w.source
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.parts[w.service.origin()]
	if s.watches[w.service.origin()] != w || p.Known {
		return
	}
	w.log.Warn("no answer from datacenter, its instances are not used yet", "waited", s.otherWait, "error", p.health.Err)
	p.isLate = true
	s.parts[w.service.origin()] = p
	s.merge(w.service)
}
