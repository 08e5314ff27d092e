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
	Directory string  // of the operator's certificates
	Store     string  // directory of the copies, absolute
	Runtime   Runtime // nil: files only
	Logger    hclog.Logger
}

// Keeper keeps the certificates of one directory in HAProxy.
type Keeper struct {
	o     Options
	store Store

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
	return &Keeper{o: o, store: NewStore(o.Store)}
}

// List is the path of the crt-list that haproxy.cfg names.
func (k *Keeper) List() string { return k.store.List() }

// State is what was last seen.
func (k *Keeper) State() State {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state
}

// Default names HAProxy's default certificate; "" if there is none.
func (k *Keeper) Default() string {
	if all := k.State().Certificates; len(all) > 0 {
		return all[0].Name
	}
	return ""
}

// Sync reads the directory and puts the files in place. A directory that cannot be
// read, or has no certificate that can be used, changes nothing: unknown is not empty.
func (k *Keeper) Sync() error {
	saved, err := k.store.Saved()
	if err != nil {
		return err
	}
	good, problems, err := Read(k.o.Directory)
	var broken []string
	for _, p := range problems {
		broken = append(broken, nameOf(p.Source))
	}
	want := Want(saved, good, broken)
	if err == nil && len(want) == 0 {
		err = errors.New("certificates: " + k.o.Directory + ": no certificate can be used")
		for _, p := range problems {
			err = errors.Join(err, p)
		}
	}
	if err != nil {
		want = saved
	} else {
		err = k.store.Save(want)
	}
	k.note(want, problems, err)
	return err
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
// default certificate is another one than before, which takes a reload.
func (k *Keeper) Step(ctx context.Context) (newDefault bool) {
	saved, err := k.store.Saved()
	if err == nil {
		err = k.Sync()
	}
	if err == nil {
		k.apply(ctx)
	}
	return len(saved) > 0 && k.Default() != "" && k.Default() != saved[0].Name
}

func (k *Keeper) apply(ctx context.Context) {
	want := k.State().Certificates
	changed, loaded, needsReload, err := k.store.Apply(ctx, k.o.Runtime, want)
	for _, name := range changed {
		i := slices.IndexFunc(want, func(c Certificate) bool { return c.Name == name })
		if i < 0 {
			k.o.Logger.Info("certificate removed", "name", name)
			continue
		}
		k.o.Logger.Info("certificate loaded", "name", name, "names", strings.Join(want[i].Names, ","), "not_after", want[i].NotAfter.UTC().Format(time.RFC3339))
	}
	if err == nil && loaded && !needsReload {
		err = k.store.Clean(want)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail(err)
}
