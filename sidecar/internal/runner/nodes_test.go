package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pointsman/pointsman/sidecar/internal/deploy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// printed collects what commands print.
type printed struct {
	mu    sync.Mutex
	lines []string
}

func (p *printed) take(label, line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, label+" | "+line)
}

func (p *printed) sorted() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(slices.Values(p.lines))
}

func runner(out *printed) Runner {
	return Runner{Environ: os.Environ(), Timeout: 10 * time.Second, KillAfter: 200 * time.Millisecond, Output: out.take}
}

func start() deploy.Start {
	return deploy.Start{Service: "api", Version: "1.1", OldVersion: "1.0", Total: 5, First: 3, IDs: []string{"api-a", "api-b"}}
}

func stop() deploy.Stop {
	return deploy.Stop{Service: "api", Version: "1.1", Total: 5, Instances: []deploy.Instance{
		{ID: "api-a", Node: "host-a", Address: "10.0.0.1:80", Version: "1.0"},
		{ID: "api-b", Node: "host b; reboot", Address: "[fd00::1]:80", Version: "1.0; reboot"},
	}}
}

// facts prints every fact.
const facts = `echo "$DEPLOY_SERVICE,$DEPLOY_VERSION,$DEPLOY_OLD_VERSION,$DEPLOY_COUNT,$DEPLOY_BATCH,$DEPLOY_NODE_INDEX,$DEPLOY_INSTANCE,$DEPLOY_ADDRESS,$DEPLOY_NODE,$DEPLOY_UNDO"`

func TestCommandsGetWhatToDo(t *testing.T) {
	undo := stop()
	undo.Undo, undo.Missing = true, []string{"api-c"}
	for _, c := range []struct {
		name string
		once bool
		do   func(*Shell) error
		want []string
	}{
		{"start each", false, func(s *Shell) error { return s.Start(t.Context(), start()) }, []string{
			"start 3 | api,1.1,1.0,5,1,3,api-a,,,", "start 4 | api,1.1,1.0,5,1,4,api-b,,,",
		}},
		{"start once", true, func(s *Shell) error { return s.Start(t.Context(), start()) }, []string{
			"start | api,1.1,1.0,5,2,3,api-a api-b,,,",
		}},
		// What is not safe in a command's hands does not get there.
		{"stop each", false, func(s *Shell) error { return s.Stop(t.Context(), stop()) }, []string{
			"stop api-a | api,1.1,1.0,5,1,,api-a,10.0.0.1:80,host-a,", "stop api-b | api,1.1,,5,1,,api-b,[fd00::1]:80,,",
		}},
		{"stop again", false, func(s *Shell) error { return s.Stop(t.Context(), undo) }, []string{
			"stop api-a | api,1.1,1.0,5,1,,api-a,10.0.0.1:80,host-a,1", "stop api-b | api,1.1,,5,1,,api-b,[fd00::1]:80,,1",
			"stop api-c | api,1.1,,5,1,,api-c,,,1",
		}},
		{"stop once", true, func(s *Shell) error { return s.Stop(t.Context(), stop()) }, []string{
			"stop | api,1.1,,5,2,,api-a api-b,10.0.0.1:80 [fd00::1]:80,,",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out printed
			s := &Shell{Runner: runner(&out), StartCommand: facts, StopCommand: facts, Once: c.once}
			if err := c.do(s); err != nil {
				t.Fatal(err)
			}
			if got := out.sorted(); !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestTheVariablesOfACommandNameThemselves(t *testing.T) {
	for _, list := range [][]string{environment(map[string]string{"SERVICE": "api"}), stopFacts(stop(), stop().Instances)} {
		for _, e := range list {
			name, _, _ := strings.Cut(strings.TrimPrefix(e, Prefix), "=")
			if !slices.Contains(Facts, name) {
				t.Errorf("%q is not among Facts", e)
			}
		}
	}
}

func TestACommandThatFailsIsNamedWithItsLastOutput(t *testing.T) {
	var out printed
	s := &Shell{Runner: runner(&out), StartCommand: `echo "starting $DEPLOY_NODE_INDEX"; [ $DEPLOY_NODE_INDEX = 3 ] || { printf 'no \033room' >&2; exit 7; }`, StopCommand: "exit 5"}
	err := s.Start(t.Context(), start())
	if err == nil || !strings.HasPrefix(err.Error(), "start 4: exit status 7, after 0.") || !strings.HasSuffix(err.Error(), `its last output: "starting 4\nno \x1broom"`) {
		t.Errorf("got %v", err)
	}
	err = s.Stop(t.Context(), stop())
	one, ok := errors.AsType[*deploy.StopError](err)
	if !ok || one.Instance != (deploy.Key{ID: "api-a", Node: "host-a"}) || !strings.Contains(err.Error(), "exit status 5") {
		t.Errorf("got %v, want a StopError of each", err)
	}
}

func TestStop_MayTurnsNo_RestIsKept(t *testing.T) {
	var out printed
	var asked int
	what := stop()
	for len(what.Instances) < maxCommands+2 {
		what.Instances = append(what.Instances, deploy.Instance{ID: fmt.Sprintf("api-%d", len(what.Instances))})
	}
	var mu sync.Mutex
	what.May = func() bool { mu.Lock(); defer mu.Unlock(); asked++; return asked <= maxCommands }
	s := &Shell{Runner: runner(&out), StopCommand: "echo $DEPLOY_INSTANCE"}
	err := s.Stop(t.Context(), what)
	if got := len(out.sorted()); got != maxCommands || !errors.Is(err, deploy.ErrKept) {
		t.Errorf("got %d stopped, %v, want %d and that the rest was kept", got, err, maxCommands)
	}
}

// processes returns the pids that the commands have written.
func processes(t *testing.T, dir string) (pids []int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// A node that a command leaves in the background lives on, and the command has
// ended, though the node has its output still.
func TestANodeInTheBackgroundLivesOn(t *testing.T) {
	dir := t.TempDir()
	var out printed
	s := &Shell{Runner: runner(&out), StartCommand: `sh -c 'while :; do echo tick; sleep 0.05; done' & echo $! >` + dir + `/"$DEPLOY_NODE_INDEX"`}
	begun := time.Now()
	if err := s.Start(t.Context(), start()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the commands took %v", took)
	}
	pids := processes(t, dir)
	if len(pids) != 2 {
		t.Fatalf("got pids %v, want 2", pids)
	}
	// A broken pipe would kill it with its next tick.
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		for _, pid := range pids {
			if !runs(pid) {
				t.Fatalf("%d does not run any more", pid)
			}
		}
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

func TestACommandThatHangsIsKilledWithAllThatItStarted(t *testing.T) {
	for _, c := range []struct {
		name, command string
		interrupt     bool
		want          string
	}{
		{"in time", `sleep 100 & echo $! >DIR/a; echo $$ >DIR/b; wait`, false, "did not end within 500ms"},
		{"interrupted", `sleep 100 & echo $! >DIR/a; echo $$ >DIR/b; wait`, true, "interrupted"},
		{"that heeds no SIGTERM", `trap "" TERM; sleep 100 & echo $! >DIR/a; echo $$ >DIR/b; while :; do sleep 0.1; done`, false, "did not end within 500ms"},
		{"that calls its end a success", `trap "exit 0" TERM; (trap "" TERM; sleep 100) & echo $! >DIR/a; echo $$ >DIR/b; wait`, false, "did not end within 500ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			var out printed
			s := &Shell{Runner: runner(&out), Once: true, StartCommand: strings.ReplaceAll(c.command, "DIR", dir)}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			s.Timeout = 500 * time.Millisecond
			if c.interrupt {
				s.Timeout = time.Minute
				time.AfterFunc(500*time.Millisecond, func() { cancel(errors.New("interrupted")) })
			}
			err := s.Start(ctx, start())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			for _, pid := range processes(t, dir) {
				for end := time.Now().Add(5 * time.Second); runs(pid); time.Sleep(10 * time.Millisecond) {
					if time.Now().After(end) {
						t.Errorf("%d runs still", pid)
						break
					}
				}
			}
		})
	}
}

func TestWhatACommandHasStartedMayTidyUp(t *testing.T) {
	var out printed
	s := &Shell{Runner: runner(&out), Once: true, StartCommand: `sh -c 'trap "sleep 0.1; echo bye; exit" TERM; echo ready; while :; do sleep 0.05; done' & wait`}
	s.KillAfter = 10 * time.Second
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	s.Output = func(label, line string) {
		out.take(label, line)
		if line == "ready" {
			cancel(errors.New("interrupted"))
		}
	}
	if err := s.Start(ctx, start()); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("got %v, want that it was interrupted", err)
	}
	if got := out.sorted(); !slices.Contains(got, "start | bye") {
		t.Errorf("got %q, want its last word", got)
	}
}

func TestALongLineIsShownInParts(t *testing.T) {
	var out printed
	s := &Shell{Runner: runner(&out), Once: true, StartCommand: `head -c 10000 /dev/zero | tr '\0' x; echo; echo end`}
	if err := s.Start(t.Context(), start()); err != nil {
		t.Fatal(err)
	}
	all := strings.Join(out.lines, "")
	if got := strings.Count(all, "x"); got != 10000 || out.lines[len(out.lines)-1] != "start | end" {
		t.Errorf("got %d x and %q at the end, want all", got, out.lines[len(out.lines)-1])
	}
}
