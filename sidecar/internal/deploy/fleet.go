package deploy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// fleet is which instances are old, which are new, and how far the deployment
// has come. It decides and does nothing.
type fleet struct {
	order Order
	count int // nodes of the version in the end

	before      map[Key]Instance // there at the start
	oldVersions map[string]bool  // that are to be replaced
	redeploy    bool             // all of ours that were there are old, whatever their version

	mu   sync.Mutex
	came map[Key]string // the node of each instance of the version that came later; "": none of ours

	unshared bool // new ones are live though a rollout gives their version no share

	first int          // the number of the next new node
	goal  int          // number of new ones that are to be live now
	done  map[Key]bool // old, and drained
}

// ErrUsage says that the order can't be carried out as it is given.
var ErrUsage = errors.New("invalid deployment")

// newFleet looks at what is there at the start. An error is ErrUsage, or says
// why the instances can't be dealt with.
func newFleet(o Order, listing Listing) (*fleet, error) {
	f := &fleet{order: o, before: map[Key]Instance{}, oldVersions: map[string]bool{}, came: map[Key]string{}, done: map[Key]bool{}}
	var there, staying int // of the version
	for _, i := range listing.Instances {
		f.before[i.Key()] = i
		if !f.isOurs(i) {
			continue
		}
		if i.Version != o.Version {
			f.oldVersions[i.Version] = true
			continue
		}
		there++
		if !i.Leaving {
			staying++
		}
	}
	f.redeploy = o.Redeploy && there > 0 && len(f.oldVersions) == 0
	if f.redeploy {
		staying = 0
	}
	if err := f.checkOld(listing); err != nil {
		return nil, err
	}
	if err := f.setCount(listing, staying); err != nil {
		return nil, err
	}
	f.goal = min(staying, f.count)
	f.first = f.goal
	return f, nil
}

// isOurs reports whether an instance may be one of the operator's nodes, by its
// ID: any program that may register in Consul chooses that, and a command that stops
// nodes stops what it is given.
func (f *fleet) isOurs(i Instance) bool {
	return f.order.IncludeForeign || f.order.Pattern.MatchString(i.ID) && CheckWord(i.ID) == nil
}

// checkOld refuses IDs that can't be given to the command that stops.
func (f *fleet) checkOld(listing Listing) error {
	var errs []error
	for _, i := range sorted(f.old(listing)) {
		if err := CheckWord(i.ID); err != nil {
			errs = append(errs, fmt.Errorf("the old instance %s on %s: its ID %w", Quote(i.ID), Quote(i.Node), err))
		}
	}
	return errors.Join(errs...)
}

// setCount finds out how many there are to be. Where a deployment was
// interrupted between two waves, nothing tells how many there had been.
func (f *fleet) setCount(listing Listing, staying int) error {
	old := len(f.old(listing))
	switch {
	case f.order.Count > 0:
		f.count = f.order.Count
	case old > 0 && staying > 0 && f.order.Batch > 0:
		return fmt.Errorf("%w: %d instances of %s and %d old ones are running, as after an interrupted deployment in batches: give the number of instances with --count",
			ErrUsage, staying, f.order.Version, old)
	case old > 0 && staying > 0:
		// All new ones start before an old one stops.
		f.count = max(old, staying)
	case old == 0:
		f.count = staying
	default:
		f.count = max(old, f.order.Size)
	}
	if f.count == 0 {
		f.count = f.order.Size
	}
	if f.count == 0 {
		err := fmt.Errorf("%w: no instances of %s: give the number of instances with --count", ErrUsage, f.order.Service)
		if foreign := f.foreign(listing); len(foreign) > 0 {
			err = fmt.Errorf("%w; %s not match the pattern %s (--instance-pattern)", err, quoteInstances(foreign, "does", "do"), f.order.Pattern)
		}
		return err
	}
	return nil
}

// isNew reports whether an instance is one that is to stay: of the version, and
// there at the start, or a node that this deployment has started.
func (f *fleet) isNew(i Instance) bool {
	if i.Version != f.order.Version {
		return false
	}
	was, there := f.before[i.Key()]
	switch {
	case there && was.Version == i.Version:
		return !f.redeploy && f.isOurs(i)
	case f.order.IncludeForeign:
		return true
	case there:
		return false // it took an old instance's place under its ID
	}
	return f.node(i.Key()) != ""
}

// isOld reports whether an instance is one that is to go: it was there at the
// start. What is of a third version is none of ours.
func (f *fleet) isOld(i Instance) bool {
	_, there := f.before[i.Key()]
	if f.redeploy {
		return there && i.Version == f.order.Version && f.isOurs(i)
	}
	if i.Version == f.order.Version || !f.oldVersions[i.Version] {
		return false
	}
	return f.order.IncludeForeign || there && f.isOurs(i)
}

// foreign returns those that are neither: they are never stopped and never
// counted.
func (f *fleet) foreign(l Listing) (out []Instance) {
	for _, i := range l.Instances {
		if !f.isNew(i) && !f.isOld(i) {
			out = append(out, i)
		}
	}
	return sorted(out)
}

// node returns the node that an instance is, or "".
func (f *fleet) node(k Key) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.came[k]
}

// unknown returns those of the version that came after the start, and of which it
// is not known yet whether this deployment has started them.
func (f *fleet) unknown(list []Instance) (out []Instance) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range list {
		_, there := f.before[i.Key()]
		_, known := f.came[i.Key()]
		if i.Version == f.order.Version && !there && !known && !f.order.IncludeForeign {
			out = append(out, i)
		}
	}
	return out
}

// learn notes which node each instance is.
func (f *fleet) learn(list []Instance, nodes map[Key]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range list {
		f.came[i.Key()] = nodes[i.Key()]
	}
}

// old returns those that are to go and have not been seen to.
func (f *fleet) old(l Listing) (out []Instance) {
	for _, i := range l.Instances {
		if f.isOld(i) && !f.done[i.Key()] {
			out = append(out, i)
		}
	}
	return sorted(out)
}

// fresh returns those that are to stay.
func (f *fleet) fresh(l Listing) (out []Instance) {
	for _, i := range l.Instances {
		if f.isNew(i) {
			out = append(out, i)
		}
	}
	return sorted(out)
}

// liveIn returns those that are to stay and take traffic on a load balancer. Two
// that say that they are the same node count once.
func (f *fleet) liveIn(v View) keySet {
	live, nodes := keySet{}, map[string]bool{}
	for _, i := range v.list() {
		seen := v.Instances[i.Key()]
		if isLive := seen.Takes || f.unshared && seen.Ready; !isLive || !f.isNew(i) {
			continue
		}
		if node := f.node(i.Key()); node == "" || !nodes[node] {
			live[i.Key()], nodes[node] = true, true
		}
	}
	return live
}

// onlyOldPass reports whether no new one passes its checks while an old one does.
func (f *fleet) onlyOldPass(l Listing) bool {
	passes := func(i Instance) bool { return !i.Leaving && !i.isFailing() }
	return !slices.ContainsFunc(f.fresh(l), passes) && slices.ContainsFunc(f.old(l), passes)
}

// strays returns what has come since the start and is neither of the version nor
// of an old one; and what has taken an old one's place under its ID.
func (f *fleet) strays(l Listing) (foreign, inPlace []Instance) {
	for _, i := range l.Instances {
		was, there := f.before[i.Key()]
		switch {
		case there && i.Version == f.order.Version && was.Version != i.Version:
			inPlace = append(inPlace, i)
		case !there && !f.isNew(i):
			foreign = append(foreign, i)
		}
	}
	return sorted(foreign), sorted(inPlace)
}

// toStart is how many nodes the next wave starts.
func (f *fleet) toStart() int {
	missing := max(0, f.count-f.goal)
	if f.order.Batch > 0 {
		return min(missing, f.order.Batch)
	}
	return missing
}

// started notes that n more were started.
func (f *fleet) started(n int) { f.goal += n; f.first += n }

// toStop returns the old ones to stop now that goal new ones are live: no more
// than leaves count nodes in all. Those that leave already are not stopped
// again, for many programs take a second signal for "at once"; they are to be
// waited for.
func (f *fleet) toStop(l Listing) (stop, leaving []Instance) {
	for _, i := range f.old(l) {
		if i.Leaving {
			leaving = append(leaving, i)
		} else {
			stop = append(stop, i)
		}
	}
	n := max(0, len(stop)-max(0, f.count-f.goal))
	if f.order.Batch > 0 {
		n = min(n, f.order.Batch)
	}
	return stop[:n], leaving
}

// drained notes that these are gone from every load balancer.
func (f *fleet) drained(list []Instance) {
	for _, i := range list {
		f.done[i.Key()] = true
	}
}

// misses reports whether an old one that has not been seen to is not listed.
func (f *fleet) misses(l Listing) bool {
	listed := map[Key]bool{}
	for _, i := range l.Instances {
		listed[i.Key()] = true
	}
	for key, i := range f.before {
		if f.isOld(i) && !f.done[key] && !listed[key] {
			return true
		}
	}
	return false
}

// finished reports whether nothing is left to do.
func (f *fleet) finished(l Listing) bool { return f.goal >= f.count && len(f.old(l)) == 0 }

// oldVersion is the version that most of the old ones have.
func (f *fleet) oldVersion(l Listing) string {
	of := map[string]int{}
	for _, i := range f.old(l) {
		of[i.Version]++
	}
	best := ""
	for _, v := range slices.Sorted(maps.Keys(of)) {
		if of[v] > of[best] {
			best = v
		}
	}
	return best
}
