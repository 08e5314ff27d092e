package haproxy

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// Options says where HAProxy is and how to talk to it.
type Options struct {
	// Runtime is where the worker's runtime API listens: a path
	// ("/run/haproxy/admin.sock", "unix@path", "unix:path") or a TCP address
	// ("host:port", "tcp@host:port"). It needs `level admin`.
	Runtime string

	// Master is where the master's API listens (`haproxy -S`), in the same
	// forms; "" if there is none. Without it old workers cannot be asked, so
	// sessions are counted in the current worker only, and Reload needs
	// ReloadCommand.
	Master string

	// ReloadCommand is run instead of `reload` on the master socket: a program
	// and its arguments, without a shell.
	ReloadCommand []string

	Timeout       time.Duration // of one exchange; 0 is 3 s
	ReloadTimeout time.Duration // of one Reload; 0 is 30 s

	Logger hclog.Logger // nil: none

	// OnCommand gets every step that was sent (its plan.Kind), of every
	// "observe" and every "reload", and whether it failed. It may be nil and
	// must not block.
	OnCommand func(kind string, failed bool)
}

const (
	defaultTimeout       = 3 * time.Second
	defaultReloadTimeout = 30 * time.Second
)

// New checks the options and gives a Client. It opens nothing.
func New(o Options) (*Client, error) {
	runtime, err := parseEndpoint(o.Runtime)
	if err != nil {
		return nil, fmt.Errorf("haproxy: runtime socket: %w", err)
	}
	var master endpoint
	if o.Master != "" {
		if master, err = parseEndpoint(o.Master); err != nil {
			return nil, fmt.Errorf("haproxy: master socket: %w", err)
		}
	}
	if len(o.ReloadCommand) > 0 && o.ReloadCommand[0] == "" {
		return nil, errors.New("haproxy: reload command: the program's name is empty")
	}
	if o.Timeout < 0 || o.ReloadTimeout < 0 {
		return nil, fmt.Errorf("haproxy: timeout %s, reload timeout %s: must not be negative", o.Timeout, o.ReloadTimeout)
	}
	return newClient(o, runtime, master), nil
}

func newClient(o Options, runtime, master endpoint) *Client {
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.ReloadTimeout == 0 {
		o.ReloadTimeout = defaultReloadTimeout
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.OnCommand == nil {
		o.OnCommand = func(string, bool) {}
	}
	return &Client{
		runtime: runtime, master: master,
		reloadCommand: o.ReloadCommand,
		timeout:       o.Timeout, reloadTimeout: o.ReloadTimeout,
		log: o.Logger, onCommand: o.OnCommand,
		dial: dialEndpoint, countWait: countWait, reloading: make(chan struct{}, 1), up: map[string]bool{}, checks: map[string]plan.Check{},
	}
}
