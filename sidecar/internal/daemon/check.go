package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/certificate"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/render"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// Finding is the outcome of one check.
type Finding struct {
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
	Note  string `json:"note,omitempty"`

	// What taking over a HAProxy ends and replaces, such as "frontend web".
	GoesAway   []string `json:"goes_away,omitempty"`
	IsReplaced []string `json:"is_replaced,omitempty"`
	// Lines that the operator's own haproxy.cfg should have, such as
	// "global: hard-stop-after 30s".
	Lacks []string `json:"lacks,omitempty"`
}

// RunChecks tries what the settings need: files, template, certificates, Consul, HAProxy.
// Offline neither Consul nor HAProxy is asked.
func RunChecks(ctx context.Context, cfg config.Config, adopt, offline bool) []Finding {
	findings := []Finding{{Check: "settings", OK: true, Note: cfg.File}}
	cfg = WithTaken(cfg)
	settings, found := cfg, SavedFound(cfg)
	cfg = cfg.With(found)
	add := func(check, note string, err error) {
		f := Finding{Check: check, OK: err == nil, Note: note}
		if err != nil {
			f.Error = err.Error()
		}
		findings = append(findings, f)
	}
	if cfg.HAProxy.Exporter.Bind != "" {
		add("exporter", cfg.HAProxy.Exporter.Bind, checkExporter(ctx, cfg))
	}
	if err := checkPause(ctx, cfg); err != nil {
		add("pause", "", err)
	}
	rejected := checkTemplate(ctx, cfg)
	if base := cfg.HAProxy.BaseConfig; base != "" {
		f := checkBase(cfg, rejected)
		if !f.OK && rejected != nil {
			rejected = nil // it is theirs
		}
		findings = append(findings, f)
	}
	add("template", cmp.Or(cfg.HAProxy.Template, "built in"), rejected)
	for _, p := range cfg.Profiles {
		if keys := p.Apart(); len(keys) > 0 {
			add("profile", fmt.Sprintf("%s: its services come and go by a reload, also on HAProxy 3.4 and newer, because it has %s", p.Name, strings.Join(keys, ", ")), nil)
		}
	}
	if offline {
		return findings
	}
	add("haproxy.cfg", cfg.HAProxy.Config, checkDirectory(cfg.HAProxy.Config))
	for _, s := range cfg.Services {
		if s.Certificates.Directory != "" {
			note, err := checkCertificates(cfg, s)
			add("certificates", s.Name+": "+note, err)
		}
	}
	snap := checkCatalog(ctx, settings, found, add)
	findings = append(findings, checkRollouts(cfg, snap)...)
	p, err := NewProxy(cfg, hclog.NewNullLogger(), nil)
	if err == nil {
		err = p.Probe(ctx)
	}
	answers := err == nil
	if base := cfg.HAProxy.BaseConfig; err == nil && base != "" {
		served, problem := p.Proxies(ctx)
		if err = problem; err == nil && !served.Marked {
			err = WithoutOurs(base, cfg.HAProxy.Config)
		}
	}
	note := cfg.HAProxy.Socket
	if errors.Is(err, plan.ErrNotRunning) {
		note += " (pointsman run waits for HAProxy)"
	}
	add("haproxy", note, err)
	return append(findings, checkTakeover(ctx, cfg, adopt, answers))
}

// checkRollouts notes what is wrong with the rollouts. It is no failure: the instances
// are used.
func checkRollouts(cfg config.Config, snap catalog.Snapshot) (notes []Finding) {
	for _, b := range shared(cfg) {
		r := snap.Service(b.Name).Rollout
		if r == nil {
			continue
		}
		for _, note := range []string{r.Refused, r.Ignored} {
			if note != "" {
				notes = append(notes, Finding{Check: "rollout", OK: true, Note: b.Service + ": " + note})
			}
		}
	}
	return notes
}

// checkCatalog asks Consul for the services of the settings, those that were found, and
// what services claim, and gives what it has answered.
func checkCatalog(ctx context.Context, settings config.Config, found route.Found, add func(check, note string, err error)) catalog.Snapshot {
	cfg := settings.With(found)
	var refused []route.Problem
	snap, err := askOnce(ctx, cfg, func(ctx context.Context, source *consul.Source, own []consul.Listener, wait func(config.Config) error) (err error) {
		refused, err = findOnce(ctx, settings, found, source, own, wait)
		return err
	})
	add("consul", cfg.Consul.Address, err)
	for _, p := range refused { // no failure: the other routes are there
		add("route", p.String(), nil)
	}
	for _, s := range snap.Services() { // no failure: the others are used
		checkRejected(s, add)
	}
	for _, s := range cfg.Services {
		if want := snap.Service(s.Backend); err == nil && s.Preview.Of == "" && len(want.Instances) == 0 {
			add("service", fmt.Sprintf("%s: %s", s.Name, noInstance(len(want.Rejected))), nil)
		}
	}
	return snap
}

// checkRejected names the instances of a service that are left out.
func checkRejected(s catalog.Service, add func(what, note string, err error)) {
	if n := s.BeyondLimit(); n > 0 {
		add("instances", fmt.Sprintf("%s: %d are left out, beyond max_instances", s.Name, n), nil)
	}
	for _, r := range s.Rejected {
		if !r.IsBeyondLimit() {
			add("instance", fmt.Sprintf("%s: %s on %s is left out: %s", s.Name, catalog.Printable(r.ID), catalog.Printable(r.Node), strings.ReplaceAll(r.Err.Error(), "\n", "; ")), nil)
		}
	}
}

// checkBase looks at the operator's half, in include mode: what HAProxy rejects in
// it, and which lines it lacks without which requests can be lost.
func checkBase(cfg config.Config, rejected error) Finding {
	f := Finding{Check: "base_config", OK: true, Note: cfg.HAProxy.BaseConfig}
	if e, ok := errors.AsType[*render.RejectedError](rejected); ok && e.Base != "" {
		f.OK, f.Error = false, e.Error()
		return f
	}
	content, err := render.ReadRegular(cfg.HAProxy.BaseConfig)
	if err != nil {
		f.OK, f.Error = false, err.Error()
		return f
	}
	r, err := NewRenderer(cfg)
	if err != nil {
		return f // the template's check says so
	}
	if f.Lacks = r.BaseLacks(content); len(f.Lacks) > 0 {
		f.Note += "\nlacks, for deployments without a lost request:\n  " + strings.Join(f.Lacks, "\n  ")
	}
	return f
}

// checkTakeover looks whether running would replace what is not ours. A process that
// does not answer is not asked again.
func checkTakeover(ctx context.Context, cfg config.Config, adopt, answers bool) Finding {
	f := Finding{Check: "takeover", OK: true}
	r, err := NewRenderer(cfg)
	if err != nil {
		f.Note = "not looked at: the template is wrong"
		return f
	}
	err = Takeover(ctx, cfg, r, answers)
	refused, isRefused := errors.AsType[*TakeoverError](err)
	if isRefused {
		f.GoesAway, f.IsReplaced = refused.Lost(), refused.Replaced()
	}
	switch {
	case err == nil:
		f.Note = "replaces nothing that Pointsman did not write"
	case adopt && isRefused:
		f.Note = "--adopt: " + refused.list()
	case adopt && canTake(err):
		f.Note = "--adopt: " + err.Error()
	default:
		f.OK, f.Error = false, err.Error()
	}
	return f
}

// noInstance says what there is of a service without instances.
func noInstance(leftOut int) string {
	if leftOut > 0 {
		return fmt.Sprintf("no instance can be used, %d are left out (rejected in /api/v1/state)", leftOut)
	}
	return "Consul lists no instance: are its name, tags and filter right?"
}

// checkTemplate renders a file without servers and lets HAProxy look at it.
func checkTemplate(ctx context.Context, cfg config.Config) error {
	dir, err := os.MkdirTemp("", "pointsman-check-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()                                   // a temporary directory
	cfg.HAProxy.Config = filepath.Join(dir, filepath.Base(cfg.HAProxy.Config)) // its map files are there, too
	for _, svc := range cfg.Services {
		if svc.Certificates.Directory == "" {
			continue
		}
		if err := certificate.StandIn(certificateCopies(cfg, svc.Backend)); err != nil { // no key of the operator's goes there
			return err
		}
	}
	content, err := RenderedOnce(ctx, cfg, true)
	if err != nil {
		return err
	}
	file, err := NewFile(cfg)
	if err != nil {
		return err
	}
	_, err = file.Write(ctx, content)
	if e, ok := errors.AsType[*render.RejectedError](err); ok { // the copy goes with the directory
		e.Path, e.Output = "", strings.ReplaceAll(e.Output, dir+string(filepath.Separator), "")
		if e.Base == "" {
			e.Output += "\n`pointsman render --offline` prints the file"
		}
	}
	return err
}

// checkDirectory tries to write beside haproxy.cfg, as a new file will be.
func checkDirectory(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".pointsman-check-")
	if err != nil {
		return fmt.Errorf("create a file in the directory of %s: %w", path, err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// versionTimeout bounds how long HAProxy takes to say what it is built with.
const versionTimeout = 5 * time.Second

// checkExporter refuses haproxy.exporter.bind where the HAProxy of check_command says
// that it has no exporter: its own alert about the line does not say why. A
// check_command that is another program tells nothing.
func checkExporter(ctx context.Context, cfg config.Config) error {
	command := cfg.HAProxy.CheckCommand
	if cfg.HAProxy.Exporter.Bind == "" || len(command) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	says, err := exec.CommandContext(ctx, command[0], "-vv").Output() //nolint:gosec // the operator's own check_command
	if err != nil || !strings.HasPrefix(string(says), "HAProxy version") || strings.Contains(string(says), "prometheus-exporter") {
		return nil
	}
	version, _, _ := strings.Cut(string(says), "\n")
	return fmt.Errorf("haproxy.exporter.bind: this HAProxy is built without the Prometheus exporter: %s (%s -vv); leave the setting empty", version, command[0])
}
