package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/render"
)

// Host is this machine's name.
func Host() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}

// OwnedError is the refusal of a HAProxy that runs the haproxy.cfg of another sidecar.
// Two would reload it against each other.
type OwnedError struct {
	Socket string // of the runtime API
	Owner  plan.Owner
	Holder string // who holds the lock on the owner's file: pid, name, since; "" where none is seen to
}

func (e *OwnedError) Error() string {
	text := fmt.Sprintf("HAProxy at %s belongs to another sidecar: name %s, host %s, file %s", e.Socket,
		catalog.Printable(e.Owner.Name), catalog.Printable(e.Owner.Host), catalog.Printable(e.Owner.File))
	if e.Holder != "" {
		return text + ", which runs: " + e.Holder +
			"\nstop that sidecar first, or give this one a HAProxy of its own (haproxy.socket, haproxy.master_socket, haproxy.config)"
	}
	return text + "\nif that sidecar has ended, take its HAProxy over with --adopt;" +
		"\nelse give this one a HAProxy of its own (haproxy.socket, haproxy.master_socket, haproxy.config)"
}

// canTake reports whether --adopt takes over what an error refuses.
func canTake(err error) bool {
	if e, isOwned := errors.AsType[*OwnedError](err); isOwned {
		return e.Holder == ""
	}
	_, isForeign := errors.AsType[*TakeoverError](err)
	return isForeign
}

// ownership is whose a HAProxy may be.
type ownership struct {
	digest string // of our own file, as plan.Marker has it
	file   string // its absolute path
	host   string // this machine's name
}

func ownershipOf(cfg config.Config, r *render.Renderer) ownership {
	return ownership{digest: r.Marker().Owner, file: ownFile(cfg), host: Host()}
}

// ownFile is the path that stands for this sidecar. It is as the settings have it, links
// and all: those of a directory may point to another one with each release.
func ownFile(cfg config.Config) string {
	path, err := filepath.Abs(cfg.HAProxy.Config)
	if err != nil {
		return cfg.HAProxy.Config
	}
	return path
}

// check returns an *OwnedError if the process with that marker is another sidecar's, nil
// if it is ours or does not say whose it is.
func (o ownership) check(ctx context.Context, p Proxy, m plan.Marker) error {
	if m.Owner == "" || m.Owner == o.digest {
		return nil
	}
	owner, err := p.Owner(ctx)
	if err != nil {
		return err
	}
	if isSameFile(owner.File, o.file) {
		return nil // by another path
	}
	e := &OwnedError{Socket: p.socket, Owner: owner}
	if owner.Host == o.host { // else the path is another machine's
		e.Holder = render.Holder(owner.File)
	}
	return e
}

func isSameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}
