package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/render"
)

// site is a file or a process that serves something that is not ours.
type site struct {
	what  string   // the file, or the process
	names []string // such as "frontend web"
}

// TakeoverError is the refusal to take over a HAProxy that serves something
// that Pointsman did not write.
type TakeoverError struct {
	sites []site
	ours  []string // what the settings make
}

// Lost is what a takeover would end: the frontends, backends and listen
// sections that the settings do not make, each once.
func (e *TakeoverError) Lost() []string { return e.proxies(false) }

// Replaced is what the settings make otherwise under the same name.
func (e *TakeoverError) Replaced() []string { return e.proxies(true) }

func (e *TakeoverError) proxies(inSettings bool) (names []string) {
	for _, s := range e.sites {
		for _, name := range s.names {
			if slices.Contains(e.ours, name) == inSettings && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// What names the file and the process.
func (e *TakeoverError) What() string {
	var what []string
	for _, s := range e.sites {
		what = append(what, s.what)
	}
	return strings.Join(what, ", ")
}

func (e *TakeoverError) Error() string {
	return "HAProxy serves what Pointsman did not write: " + e.list() +
		"\nto take it over, add --adopt; to keep it, set haproxy.base_config (include mode: Pointsman adds a second file)," +
		"\nor let Pointsman write another file (haproxy.config) for a HAProxy with sockets of its own (haproxy.socket, haproxy.master_socket)"
}

// list has a line each for where, what would go away and what would be replaced.
func (e *TakeoverError) list() string {
	text := e.What()
	if lost := e.Lost(); len(lost) > 0 {
		text += "\nwould go away: " + strings.Join(lost, ", ")
	}
	if replaced := e.Replaced(); len(replaced) > 0 {
		text += "\nwould be replaced: " + strings.Join(replaced, ", ")
	}
	return text
}

// Takeover returns a *TakeoverError if the file or the running process serves
// something that is not ours, an *OwnedError if the process is another sidecar's, and nil
// if neither is so. A process that cannot be
// asked is not looked at: gate looks at it once it can be.
func Takeover(ctx context.Context, cfg config.Config, r *render.Renderer, answers bool) error {
	file, err := fileSite(cfg)
	if err != nil {
		return err
	}
	if !answers {
		return refusal(r, file)
	}
	p, err := NewProxy(cfg, hclog.NewNullLogger(), nil)
	if err != nil {
		return err
	}
	process, marker, err := p.site(ctx)
	if err == nil {
		if err := ownershipOf(cfg, r).check(ctx, p, marker); err != nil {
			return err
		}
	}
	if err != nil || cfg.HAProxy.BaseConfig != "" { // HAProxy serves the operator's, which stays
		process = site{}
	}
	return refusal(r, file, process)
}

// IsRefusal reports whether an error says that run does not take over a HAProxy.
func IsRefusal(err error) bool {
	_, isForeign := errors.AsType[*TakeoverError](err)
	_, isOwned := errors.AsType[*OwnedError](err)
	return isForeign || isOwned
}

// Refusal returns a *TakeoverError for the sites that have something, or nil.
func refusal(r *render.Renderer, sites ...site) error {
	e := &TakeoverError{sites: slices.DeleteFunc(sites, func(s site) bool { return len(s.names) == 0 })}
	if len(e.sites) == 0 {
		return nil
	}
	empty, err := r.Render(nil)
	if err != nil {
		return err
	}
	e.ours = render.Proxies(empty)
	return e
}

// fileSite reads haproxy.cfg. A file that is ours, or that is not there, serves
// nothing else.
func fileSite(cfg config.Config) (site, error) {
	content, err := render.ReadRegular(cfg.HAProxy.Config)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return site{}, nil // nothing is there, also where something else has its directory's place
	case err != nil:
		return site{}, fmt.Errorf("haproxy.config: cannot tell whether the file is ours: %w", err)
	case render.IsOurs(content):
		return site{}, nil
	}
	return site{what: "file " + cfg.HAProxy.Config, names: render.Proxies(content)}, nil
}

// site reads what the running process serves, unless that is ours, and its marker.
func (p Proxy) site(ctx context.Context) (site, plan.Marker, error) {
	served, err := p.Proxies(ctx)
	if err != nil || served.Marked {
		return site{}, served.Marker, err
	}
	return site{what: fmt.Sprintf("process %d at %s", served.PID, p.socket), names: served.Names}, plan.Marker{}, nil
}

// gate holds back a sidecar from a HAProxy that began to answer after the start
// and serves something that is not ours. What was once ours, or agreed to,
// stays so. In include mode each process is looked at: it loads our file only if it
// was started with it, and a reload does not change that. So is whose it is: another
// sidecar may take it over at any time.
type gate struct {
	render     *render.Renderer
	base, file string // in include mode: the operator's file and ours
	own        ownership

	mu    sync.Mutex
	open  bool
	takes bool // another sidecar's is taken over, until it is ours
}

// admit returns the refusal of a process that was read, or nil.
func (g *gate) admit(ctx context.Context, p Proxy, o plan.Observed) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.takes = g.takes && o.Marker.Owner != g.own.digest
	if err := g.own.check(ctx, p, o.Marker); err != nil && (!g.takes || !canTake(err)) {
		return err
	}
	if g.open && g.base == "" {
		return nil
	}
	switch {
	case o.Marker != plan.Marker{}:
	case g.base != "":
		return WithoutOurs(g.base, g.file)
	default:
		s, _, err := p.site(ctx)
		if err != nil {
			return err
		}
		if err := refusal(g.render, s); err != nil {
			return err
		}
	}
	g.open = true
	return nil
}

// WithoutOurs is the refusal of a process that has the operator's file only.
func WithoutOurs(base, file string) error {
	return fmt.Errorf("HAProxy runs without %[2]s: restart it with -f %[1]s -f %[2]s (the file is written by: pointsman render --write)", base, file)
}

// MayWrite returns the refusal to replace a haproxy.cfg that another program has written;
// nil with adopt.
func MayWrite(cfg config.Config, adopt bool) error {
	if adopt {
		return nil
	}
	file, err := fileSite(cfg)
	if err != nil {
		return err
	}
	r, err := NewRenderer(cfg)
	if err != nil {
		return err
	}
	return refusal(r, file)
}
