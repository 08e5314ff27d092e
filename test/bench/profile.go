package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// Spent is the share of the sidecar's processor time that was spent in a
// function and in what it calls.
type Spent struct {
	Function string  `json:"function"`
	Share    float64 `json:"share"` // per cent
}

const (
	profileVariable = "BENCH_PROFILE"
	profileAtStart  = "BENCH_PROFILE_AT_START"
	profileLines    = 14
)

//go:embed testdata/profile.go.txt
var profileSource []byte

// programs finds the programs and builds ours, the sidecar with a way to take
// its CPU profile. The program is otherwise the one that is released.
func programs(ctx context.Context) (lab.Programs, error) {
	p, err := lab.FindPrograms(ctx)
	if err != nil {
		return p, err
	}
	root, err := lab.Root()
	if err != nil {
		return p, err
	}
	bin := filepath.Dir(p.Sidecar)
	source, overlay := filepath.Join(bin, "profile.go"), filepath.Join(bin, "overlay.json")
	replace, err := json.Marshal(map[string]map[string]string{
		"Replace": {filepath.Join(root, "sidecar", "cmd", "pointsman", "bench_profile.go"): source},
	})
	if err := errors.Join(err, os.WriteFile(source, profileSource, 0o600), os.WriteFile(overlay, replace, 0o600)); err != nil {
		return p, err
	}
	build := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-o", p.Sidecar, "./sidecar/cmd/pointsman")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return p, fmt.Errorf("build the sidecar: %w\n%s", err, out)
	}
	return p, nil
}

// profileFile is where a sidecar writes its profile, when a signal asks for one.
func (b *bench) profileFile() string { return b.lab.Path("cpu.pprof") }

// profile takes a CPU profile of the sidecar while work runs, and notes where
// the time went. A work that starts the sidecar with profileAtStart begins the
// profile itself.
func (b *bench) profile(ctx context.Context, lb *lab.Balancer, work func() error) error {
	b.step("taking a CPU profile")
	if lb.Sidecar.Running() {
		if err := lb.Sidecar.Signal(syscall.SIGUSR1); err != nil {
			return err
		}
	}
	if err := work(); err != nil {
		return err
	}
	if err := lb.Sidecar.Signal(syscall.SIGUSR2); err != nil {
		return err
	}
	done := b.profileFile() + ".done"
	if err := lab.Until(ctx, 10*time.Second, "the profile is written", func() error {
		_, err := os.Stat(done)
		return err
	}); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-cum", "-nodecount=400", b.binary, done).Output()
	if err != nil {
		return fmt.Errorf("pprof: %w", err)
	}
	b.result.Profile = spent(string(out))
	return nil
}

// A line of pprof's: flat flat% sum% cum cum% function.
var spentLine = regexp.MustCompile(`(?m)^ *\S+ +\S+% +\S+% +\S+ +(\S+)% +(\S.*)$`)

// telling are the functions that say something: ours, and what they are known
// to wait for.
var telling = regexp.MustCompile(`^(github\.com/pointsman/|runtime\.gcBgMarkWorker$|runtime\.mcall$|syscall\.Syscall|net/http\.\(\*Transport\)|encoding/json|compress|os/exec|io\.ReadAll$)`)

// outer are the functions that all others run in.
var outer = regexp.MustCompile(`sidecar/internal/(cli|daemon)\.|\(\*Agent\)\.Run$|\(\*Source\)\.reconcile`)

// spent reads pprof's table.
func spent(top string) (all []Spent) {
	for _, m := range spentLine.FindAllStringSubmatch(top, -1) {
		share, err := strconv.ParseFloat(m[1], 64)
		if err != nil || !telling.MatchString(m[2]) || outer.MatchString(m[2]) || share < 1 || len(all) == profileLines {
			continue
		}
		// Type parameters say nothing here and are long.
		name, _, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(m[2], "github.com/pointsman/pointsman/"), " (inline)"), "[")
		all = append(all, Spent{Function: strings.TrimPrefix(name, "sidecar/internal/"), Share: share})
	}
	return all
}
