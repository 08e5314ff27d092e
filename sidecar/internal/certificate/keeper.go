package certificate

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Options are those of a Keeper.
type Options struct {
	Directory string           // of the operator's certificates
	Store     string           // directory of the copies, absolute
	Runtime   Runtime          // nil: files only
	Trial     Trial            // of what HAProxy will load; nil: none
	Worker    func() int       // HAProxy's process id: another one is asked at once; may be nil
	Now       func() time.Time // nil: time.Now
	Logger    hclog.Logger
}

// Keeper keeps the certificates of one directory in HAProxy.
type Keeper struct {
	o     Options
	store Store

	cache     cache
	settled   *outcome       // nil while something is still to be done
	unsent    []Certificate  // copied while HAProxy could not be told
	missing   map[string]int // looks in a row that have not seen a certificate that is kept
	isDue     bool           // the default is another one than in haproxy.cfg
	refused   []refused      // by the last trials
	untriable untriable      // of what has no certificate

	mu    sync.Mutex
	state State
	fails string // what failed the last time, as logged
}

// State is what a Keeper last saw.
type State struct {
	Certificates []Certificate // that are kept, the default first
	Problems     []Problem     // files that cannot be used
	Err          error         // why they are not all in HAProxy
}

// New checks nothing and starts nothing.
func New(o Options) *Keeper {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Worker == nil {
		o.Worker = func() int { return 0 }
	}
	return &Keeper{o: o, store: NewStore(o.Store), cache: cache{load: load, now: o.Now}}
}

// State is what was last seen.
func (k *Keeper) State() State {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state
}

// Seed makes the copies where there are none: HAProxy validates its file with them, and
// starts with them. The error is that none can be made.
func (k *Keeper) Seed(ctx context.Context) error {
	saved, want, problems, err := k.read()
	if len(saved) > 0 {
		return nil
	}
	if err == nil {
		var refused []Problem
		want, refused, err = k.save(ctx, nil, want)
		problems = append(problems, refused...)
	}
	k.note(want, problems, err)
	return err
}

// read reads the directory and the copies. A directory that cannot be read, or has no
// certificate that can be used, changes nothing: unknown is not empty.
func (k *Keeper) read() (saved, want []Certificate, problems []Problem, err error) {
	k.cache.turn()
	saved, err = k.store.saved(k.cache.get)
	if err != nil {
		last := k.State()
		return nil, last.Certificates, last.Problems, err
	}
	good, problems, err := read(k.o.Directory, k.cache.get)
	var broken []string
	for _, p := range problems {
		broken = append(broken, nameOf(p.Source))
	}
	if err == nil {
		broken = append(broken, k.recent(saved, good, broken)...)
	}
	want = Want(saved, good, broken)
	if err == nil && len(want) == 0 {
		err = errors.New("certificates: " + k.o.Directory + ": no certificate can be used")
		for _, p := range problems {
			err = errors.Join(err, p)
		}
	}
	if err != nil {
		want = saved
	}
	return saved, want, problems, err
}

// looksToRemove is how many looks in a row must miss a certificate before it is removed:
// a program that renews one may take its files away and put others there.
const looksToRemove = 3

// recent returns the saved certificates that the directory no longer has, but has had a
// moment ago.
func (k *Keeper) recent(saved, good []Certificate, broken []string) (names []string) {
	missing := map[string]int{}
	for _, c := range saved {
		if slices.Contains(broken, c.Name) || slices.ContainsFunc(good, func(o Certificate) bool { return o.Name == c.Name }) {
			continue
		}
		if missing[c.Name] = k.missing[c.Name] + 1; missing[c.Name] < looksToRemove {
			names = append(names, c.Name)
		}
	}
	k.missing = missing
	return names
}

// nameOf is the name of the certificate that a file would be.
func nameOf(source string) string {
	base := filepath.Base(source)
	if base == "fullchain.pem" {
		return filepath.Base(filepath.Dir(source))
	}
	return strings.TrimSuffix(strings.TrimSuffix(base, ".pem"), ".crt")
}

// note keeps what was seen, and logs what is new of it.
func (k *Keeper) note(want []Certificate, problems []Problem, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range problems {
		if !slices.ContainsFunc(k.state.Problems, func(o Problem) bool { return o.Error() == p.Error() }) {
			k.o.Logger.Error("certificate cannot be used", "file", p.Source, "error", p.Err)
		}
	}
	k.state.Certificates, k.state.Problems = want, problems
	k.fail(err)
}

// fail keeps why something does not work, and logs it once.
func (k *Keeper) fail(err error) {
	k.state.Err = err
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != k.fails && text != "" {
		k.o.Logger.Error("certificates not in step", "directory", k.o.Directory, "error", err)
	}
	k.fails = text
}

// Step puts directory, files and HAProxy in step once. It reports whether HAProxy's
// default certificate is another one than before, which takes a reload, until Rendered.
func (k *Keeper) Step(ctx context.Context) (newDefault bool) {
	saved, want, problems, err := k.read()
	if err == nil {
		var refused []Problem
		want, refused, err = k.step(ctx, saved, want)
		problems = append(problems, refused...)
	}
	k.note(want, problems, err)
	if len(saved) > 0 && len(want) > 0 && want[0].Name != saved[0].Name {
		k.isDue = true
	}
	return k.isDue
}

// Rendered tells that haproxy.cfg is to have the new default.
func (k *Keeper) Rendered() { k.isDue = false }

// outcome is what HAProxy has made of the certificates that are wanted.
type outcome struct {
	want, kept []Certificate
	refused    []Problem
	worker     int
	at         time.Time
}

// askAgain is the time after which HAProxy is asked though nothing has changed.
const askAgain = 30 * time.Second

// step is apply, unless nothing has changed since all was done.
func (k *Keeper) step(ctx context.Context, saved, want []Certificate) (kept []Certificate, refused []Problem, err error) {
	worker, now := k.o.Worker(), k.o.Now()
	if s := k.settled; s != nil && s.worker == worker && now.Sub(s.at) < askAgain &&
		slices.EqualFunc(s.kept, saved, Certificate.Equal) && slices.EqualFunc(s.want, want, Certificate.Equal) {
		return s.kept, s.refused, nil
	}
	k.settled = nil
	kept, refused, isDone, err := k.apply(ctx, saved, want)
	if isDone && err == nil {
		k.settled = &outcome{want: want, kept: kept, refused: refused, worker: worker, at: now}
	}
	return kept, refused, err
}

// apply puts HAProxy in step, and then the copies: those of what it has accepted. Where
// it does not have the list, or does not run, it will load the copies: see save. Those that are
// kept are what it has. isDone is false where HAProxy has still to load something.
func (k *Keeper) apply(ctx context.Context, saved, want []Certificate) (kept []Certificate, refused []Problem, isDone bool, err error) {
	has, loaded, err := k.store.listed(ctx, k.o.Runtime)
	switch {
	case err != nil:
		return saved, nil, false, err
	case !loaded:
		kept, refused, err = k.save(ctx, saved, want)
		for _, c := range kept {
			if !slices.ContainsFunc(saved, c.Equal) {
				k.unsent = append(k.unsent, c)
			}
		}
		return kept, refused, false, err
	}
	r, err := k.store.renew(ctx, k.o.Runtime, has, saved, want, func(c Certificate) bool { return slices.ContainsFunc(k.unsent, c.Equal) })
	k.unsent = slices.DeleteFunc(k.unsent, func(c Certificate) bool { return slices.Contains(r.changed, c.Name) })
	k.loaded(r.changed, want)
	if isOver(ctx, err) {
		return saved, nil, false, err
	}
	if len(r.kept) == 0 {
		return saved, r.refused, false, errors.Join(errors.New("certificates: HAProxy takes none"), err)
	}
	if failed := k.store.Save(r.kept); failed != nil {
		return saved, r.refused, false, errors.Join(failed, err)
	}
	// What is wanted and refused now stays where HAProxy has it.
	removed, needsReload, failed := k.store.remove(ctx, k.o.Runtime, has, want)
	for _, name := range removed {
		k.o.Logger.Info("certificate removed", "name", name)
	}
	err = errors.Join(err, failed)
	if err == nil && !needsReload {
		err = k.store.Clean(r.kept)
	}
	return r.kept, r.refused, !needsReload, err
}

func (k *Keeper) loaded(names []string, want []Certificate) {
	for _, c := range want {
		if slices.Contains(names, c.Name) {
			k.o.Logger.Info("certificate loaded", "name", c.Name, "names", strings.Join(c.Names, ","), "not_after", c.NotAfter.UTC().Format(time.RFC3339))
		}
	}
}
