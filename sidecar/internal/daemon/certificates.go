package daemon

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/certificate"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/metrics"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/render"
)

// certificateCopies is the directory of the copies that HAProxy loads for a service.
func certificateCopies(cfg config.Config, backend string) string {
	path, err := filepath.Abs(cfg.HAProxy.Config)
	if err != nil {
		path = cfg.HAProxy.Config
	}
	return filepath.Join(path+".certificates", backend)
}

// SeedCertificates makes the copies that are not there yet, as HAProxy validates its file
// with them. Only what writes haproxy.cfg does it: the copies are to be the sidecar's.
func SeedCertificates(ctx context.Context, cfg config.Config) error {
	for _, svc := range cfg.Services {
		if svc.Certificates.Directory == "" {
			continue
		}
		if err := newKeeper(cfg, svc, nil, nil, hclog.NewNullLogger()).Seed(ctx); err != nil {
			return err
		}
	}
	return nil
}

// withCertificates names the crt-list on the TLS addresses of the services that have a
// directory. It writes nothing. mustHave makes it an error that there are no copies; else
// the default is the one that it will be.
func withCertificates(cfg config.Config, s *render.Settings, mustHave bool) error {
	for i, svc := range cfg.Services {
		if svc.Certificates.Directory == "" {
			continue
		}
		store := certificate.NewStore(certificateCopies(cfg, svc.Backend))
		has, err := store.Saved()
		if err == nil && len(has) == 0 {
			err = fmt.Errorf("certificates: %s names no certificate that can be used", store.List())
		}
		if err != nil && mustHave {
			return err
		}
		if len(has) == 0 {
			has, _, _ = certificate.Read(svc.Certificates.Directory) // checkCertificates says what is wrong
		}
		if len(has) > 0 {
			s.Services[i].Certificate = has[0].Name
		}
		s.Services[i].Bind = slices.Clone(svc.Bind)
		for j, line := range svc.Bind {
			if slices.Contains(strings.Fields(line), "ssl") {
				s.Services[i].Bind[j] = line + " crt-list " + store.List()
			}
		}
	}
	return nil
}

// checkCertificates looks whether HAProxy has or will have certificates of a service.
func checkCertificates(cfg config.Config, svc config.Service) (note string, err error) {
	note = svc.Certificates.Directory
	good, problems, err := certificate.Read(svc.Certificates.Directory)
	for _, p := range problems {
		note += "\ncannot be used: " + p.Error()
	}
	if err == nil && len(good) == 0 {
		err = errors.New("certificates: " + note + ": no certificate can be used")
	}
	if err == nil {
		return note, nil
	}
	if saved, _ := certificate.NewStore(certificateCopies(cfg, svc.Backend)).Saved(); len(saved) > 0 {
		return note + "\nHAProxy keeps its copies: " + err.Error(), nil
	}
	return note, err
}

func newKeeper(cfg config.Config, s config.Service, runtime certificate.Runtime, worker func() int, log hclog.Logger) *certificate.Keeper {
	return certificate.New(certificate.Options{
		Directory: s.Certificates.Directory, Store: certificateCopies(cfg, s.Backend), Runtime: runtime, Worker: worker, Logger: log.With("service", s.Name),
		Trial: trial(cfg),
	})
}

// trial has the check command try a file with one bind, which loads certificates. What the
// settings add to the global section counts, too: it may ask for stronger keys, say.
func trial(cfg config.Config) certificate.Trial {
	check := cfg.HAProxy.CheckCommand
	if len(check) == 0 {
		return nil
	}
	return func(ctx context.Context, dir, list string) (words string, err error) {
		file, err := render.NewFile(filepath.Join(dir, "trial.cfg"), check, "")
		if err != nil {
			return "", err
		}
		var text strings.Builder
		if extra := cfg.HAProxy.Global.Extra; len(extra) > 0 && cfg.HAProxy.BaseConfig == "" {
			text.WriteString("global\n    " + strings.Join(extra, "\n    ") + "\n\n")
		}
		text.WriteString("defaults\n    mode http\n    timeout connect 5s\n    timeout client 5s\n    timeout server 5s\n\nfrontend trial\n    bind 127.0.0.1:1")
		if list != "" {
			text.WriteString(" ssl crt-list " + list)
		}
		text.WriteString("\n")
		err = file.Try(ctx, []byte(text.String()))
		if refused, is := errors.AsType[*render.RejectedError](err); is {
			return strings.Join(strings.Fields(refused.Words()), " "), nil
		}
		return "", err
	}
}

// certificates keeps the certificates of the services that have a directory, beside the
// loop.
type certificates struct {
	runtime certificate.Runtime
	worker  func() int // HAProxy's process id
	log     hclog.Logger
	look    chan struct{} // holds a value while a look is wanted at once

	fails string // why haproxy.cfg could not be rendered the last time, as logged

	bound *certificate.Bound // keepCertificates' own

	mu       sync.Mutex
	keepers  map[keeperKey]*certificate.Keeper
	inBinds  []CertificateState // of bind lines
	unusable []CertificateProblem
}

type keeperKey struct{ backend, directory string }

// certificatePause is the time between two looks at the directories and at HAProxy.
const certificatePause = time.Second

func newCertificates(runtime certificate.Runtime, worker func() int, log hclog.Logger) *certificates {
	return &certificates{runtime: runtime, worker: worker, log: log, look: make(chan struct{}, 1), keepers: map[keeperKey]*certificate.Keeper{}, bound: certificate.NewBound(time.Now)}
}

// whileRunning tells the keepers of a HAProxy that does not run: it loads the files when
// it starts.
func whileRunning(ask certificate.Runtime) certificate.Runtime {
	return func(ctx context.Context, command string) (string, error) {
		answer, err := ask(ctx, command)
		if errors.Is(err, plan.ErrNotRunning) {
			err = certificate.ErrNotRunning
		}
		return answer, err
	}
}

// again asks for a look at once. It never blocks.
func (c *certificates) again() {
	select {
	case c.look <- struct{}{}:
	default:
	}
}

// of returns the keepers of the settings. Those of other settings are forgotten; their
// copies stay.
func (c *certificates) of(cfg config.Config) map[keeperKey]*certificate.Keeper {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := map[keeperKey]*certificate.Keeper{}
	for _, s := range cfg.Services {
		if s.Certificates.Directory == "" {
			continue
		}
		key := keeperKey{s.Backend, s.Certificates.Directory}
		if now[key] = c.keepers[key]; now[key] == nil {
			now[key] = newKeeper(cfg, s, c.runtime, c.worker, c.log)
		}
	}
	c.keepers = now
	return now
}

// lookAtBinds reads the certificates that HAProxy loads itself, by the bind lines of
// frontends and services.
func (c *certificates) lookAtBinds(cfg config.Config) {
	binds := map[string][]string{} // of those that have any: few of a thousand services do
	for _, f := range cfg.Frontends {
		if len(f.Bind) > 0 {
			binds[f.Name] = append(binds[f.Name], f.Bind...)
		}
	}
	for i := range cfg.Services {
		if s := &cfg.Services[i]; len(s.Bind) > 0 {
			binds[s.Backend] = append(binds[s.Backend], s.Bind...)
		}
	}
	c.bound.Turn()
	var all []CertificateState
	var problems []CertificateProblem
	for owner, lines := range binds {
		good, bad := c.bound.Read(lines)
		for _, one := range good {
			all = append(all, stateOf(owner, one))
		}
		for _, p := range bad {
			problems = append(problems, CertificateProblem{Backend: owner, File: p.Source, Error: p.Err.Error()})
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inBinds, c.unusable = all, problems
}

func stateOf(backend string, c certificate.Certificate) CertificateState {
	return CertificateState{Backend: backend, Name: c.Name, File: c.Source, Hosts: c.Names, NotAfter: c.NotAfter.UTC()}
}

// keepCertificates keeps directories, files and HAProxy in step until ctx ends. Another
// default certificate takes a reload.
func (d *Daemon) keepCertificates(ctx context.Context) error {
	for ctx.Err() == nil {
		d.mu.Lock()
		cfg := asStarted(d.cfg, d.started)
		keepers := d.certificates.of(cfg)
		d.mu.Unlock()
		d.certificates.lookAtBinds(cfg)
		for _, k := range keepers {
			if k.Step(ctx) && d.renderAgain() {
				k.Rendered()
			}
		}
		select {
		case <-ctx.Done():
		case <-d.certificates.look:
		case <-time.After(certificatePause):
		}
	}
	return nil
}

// renderAgain makes haproxy.cfg of what is beside the settings now. It reports whether
// that can be.
func (d *Daemon) renderAgain() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	cfg := d.whole(asStarted(d.cfg, d.started))
	r, err := newRendererWith(cfg, d.peers)
	if err != nil {
		if text := err.Error(); text != d.certificates.fails {
			d.log.Error("haproxy.cfg cannot be rendered, keeping current", "error", err)
			d.certificates.fails = text
		}
		return false
	}
	d.certificates.fails = ""
	d.reconfigure(r, settings(cfg, r))
	return true
}

// CertificateState is one certificate in the state.
type CertificateState struct {
	Backend  string    `json:"backend"` // or the frontend whose bind line names it
	Name     string    `json:"name"`    // or its path, from a bind line
	File     string    `json:"file"`
	Hosts    []string  `json:"hosts"`
	NotAfter time.Time `json:"not_after"`
}

// CertificateProblem is a file that is not used, or a directory that is not in step.
type CertificateProblem struct {
	Backend string `json:"backend"`
	File    string `json:"file"`
	Error   string `json:"error"`
}

// state is the certificates of all services and frontends, by name.
func (c *certificates) state() (all []CertificateState, problems []CertificateProblem) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all, problems = slices.Clone(c.inBinds), slices.Clone(c.unusable)
	for key, k := range c.keepers {
		s := k.State()
		for _, one := range s.Certificates {
			all = append(all, stateOf(key.backend, one))
		}
		for _, p := range s.Problems {
			problems = append(problems, CertificateProblem{Backend: key.backend, File: p.Source, Error: p.Err.Error()})
		}
		if s.Err != nil {
			problems = append(problems, CertificateProblem{Backend: key.backend, File: key.directory, Error: s.Err.Error()})
		}
	}
	slices.SortFunc(all, func(a, b CertificateState) int { return strings.Compare(a.Backend+" "+a.Name, b.Backend+" "+b.Name) })
	slices.SortFunc(problems, func(a, b CertificateProblem) int { return strings.Compare(a.Backend+" "+a.File, b.Backend+" "+b.File) })
	return all, problems
}

// expiry is the same for the metrics.
func (c *certificates) expiry() (all []metrics.Certificate, problems int) {
	certs, bad := c.state()
	for _, s := range certs {
		all = append(all, metrics.Certificate{Backend: s.Backend, Name: s.Name, NotAfter: s.NotAfter})
	}
	return all, len(bad)
}
