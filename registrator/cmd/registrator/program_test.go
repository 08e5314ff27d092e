//go:build linux

package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestArgumentsReachTheProgramAsTheyAre(t *testing.T) {
	want := []string{"a b", `"q"`, "it's", "", "$HOME", "*", "`id`", ";", "--", "-x", "--port=2", "line\nbreak", "é", "\xff"}
	for name, dashes := range map[string][]string{"after --": {"--"}, "without": nil} {
		t.Run(name, func(t *testing.T) {
			args := slices.Concat([]string{"run", "--service", "api", "--port", "1"}, dashes, []string{child.Path, "argv"}, want)
			code, p := run(t, nil, nil, args...)
			var got []string
			if err := json.Unmarshal([]byte(p.Stdout.String()), &got); err != nil || code != 0 {
				t.Fatalf("exit code %d, %v", code, err)
			}
			want := slices.Clone(want)
			want[len(want)-1] = "�" // as JSON shows it
			if !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestStandardInputAndOutputAreTheProgramsOwn(t *testing.T) {
	input := strings.Repeat("0123456789abcdef\n", 10_000)
	code, p := run(t, strings.NewReader(input), nil, idle("cat")...)
	if got := p.Stdout.String(); code != 0 || got != input {
		t.Errorf("exit code %d and %d bytes, want 0 and the %d bytes of the input", code, len(got), len(input))
	}
	if !strings.Contains(p.Stderr.String(), "registrator: started") {
		t.Errorf("stderr: got %q, want the wrapper's log", &p.Stderr)
	}
}

func TestEnvironmentAndLimitsAreTheProgramsOwn(t *testing.T) {
	const say = "ulimit -Sn; grep SigIgn /proc/self/status; env"
	_, bare := run(t, nil, []string{"X=a b"}, "run", "--service", "api", "--port", "1", "sh", "-c", say)
	if got := bare.Stdout.String(); !strings.Contains(got, "X=a b\n") || !strings.Contains(got, "CONSUL_HTTP_ADDR=127.0.0.1:1\n") {
		t.Errorf("environment: got %q, want it passed on", got)
	}
	// Go raises its own limit of open files, and takes signals that it handles.
	lowered := command(t, nil)
	lowered.Cmd.Path, lowered.Cmd.Args = "/bin/sh", []string{"sh", "-c", `ulimit -Sn 100; trap "" HUP; exec "$0" run --service api --port 1 -- sh -c '` + say + "'", wrapper.Path}
	if code := lowered.start().wait(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	lines := strings.Split(lowered.Stdout.String(), "\n")
	if lines[0] != "100" {
		t.Errorf("limit of open files: got %q, want the 100 that the wrapper was given", lines[0])
	}
	if !strings.HasSuffix(lines[1], "1") {
		t.Errorf("ignored signals: got %q, want SIGHUP among them, as nohup asks for", lines[1])
	}
}

// A program that is taken over had the wrapper's token for Consul (issue 14,
// section 9).
func TestConsulToken_ProgramHasItOnlyIfTold(t *testing.T) {
	secrets := []string{"CONSUL_HTTP_TOKEN=t0k", "CONSUL_HTTP_AUTH=user:pw", "X=a b"}
	for flag, want := range map[string]bool{"--pass-consul-token=false": false, "--pass-consul-token": true} {
		_, p := run(t, nil, secrets, "run", flag, "--service", "api", "--port", "1", "env")
		got := p.Stdout.String()
		if !strings.Contains(got, "X=a b\n") || !strings.Contains(got, "CONSUL_HTTP_ADDR=") {
			t.Errorf("%s: environment: got %q, want the rest passed on", flag, got)
		}
		for _, s := range secrets[:2] {
			if strings.Contains(got, s+"\n") != want {
				t.Errorf("%s: %s in the environment: %v, want %v", flag, s, !want, want)
			}
		}
	}
}

func TestExitCodeIsTheProgramsOrTellsItsSignal(t *testing.T) {
	for script, want := range map[string]int{
		"exit 0": 0, "exit 1": 1, "exit 255": 255,
		"kill -TERM $$": 143, "kill -KILL $$": 137, "kill -USR1 $$": 138,
	} {
		t.Run(script, func(t *testing.T) {
			if got, _ := run(t, nil, nil, "run", "--service", "api", "--port", "1", "--", "sh", "-c", script); got != want {
				t.Errorf("exit code %d, want %d", got, want)
			}
		})
	}
}

func TestProgramThatCannotBeStartedExitsAsAShellDoes(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file("data", "x", 0o644)
	for name, c := range map[string]struct {
		program string
		want    int
		says    string
	}{
		"no such file":                     {"./nope", 127, `registrator: "./nope": not found: no such file`},
		"nothing on PATH":                  {"nope-nope", 127, `"nope-nope": not found`},
		"no name":                          {"", 127, `"": not found`},
		"not executable":                   {file("plain", "#!/bin/sh\n", 0o644), 126, "cannot be executed: permission denied"},
		"not executable, on PATH":          {"data", 126, `"data": cannot be executed: permission denied`},
		"a directory":                      {dir, 126, "cannot be executed"},
		"a text that says no interpreter":  {file("text", "echo hello\n", 0o755), 126, "cannot be executed: exec format error"},
		"a text whose interpreter is gone": {file("gone", "#!/no/such\n", 0o755), 127, "not found"},
	} {
		t.Run(name, func(t *testing.T) {
			code, p := run(t, nil, []string{"PATH=" + dir + ":/bin"}, "run", "--service", "api", "--port", "1", "--", c.program)
			if got := p.Stderr.String(); code != c.want || !strings.Contains(got, c.says) {
				t.Errorf("exit code %d, %q, want %d and %q", code, got, c.want, c.says)
			}
		})
	}
}

func TestProgramIsFoundOnPath(t *testing.T) {
	code, p := run(t, nil, []string{"PATH=/no/such:" + filepath.Dir(child.Path) + ":/bin"}, "run", "--service", "api", "--port", "1", "child", "argv", "x")
	if got := p.Stdout.String(); code != 0 || got != "[\"x\"]\n" {
		t.Errorf("exit code %d, %q, want 0 and the program's output", code, got)
	}
}

func TestOrphansAreReapedAndTheProgramsOwnEndIsNotTakenForOne(t *testing.T) {
	p := start(t, nil, append([]string{"run", "--init"}, idle("orphan")[1:]...)...)
	orphan := p.saidPID("orphan")
	eventually(t, "new parent", func() bool {
		_, parent := state(t, orphan)
		return parent == p.Cmd.Process.Pid
	})
	if err := syscall.Kill(orphan, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "end of the zombie", func() bool {
		letter, _ := state(t, orphan)
		return letter == ""
	})
	p.Signal(syscall.SIGTERM)
	if got := p.wait(); got != 5 {
		t.Errorf("exit code %d, want the program's 5", got)
	}
}

func TestOrphans_WithoutInit_NotReaped(t *testing.T) {
	p := start(t, nil, idle("orphan")...)
	orphan := p.saidPID("orphan")
	t.Cleanup(func() { _ = syscall.Kill(orphan, syscall.SIGKILL) })
	p.said("alone") // its parent has ended
	if _, parent := state(t, orphan); parent == p.Cmd.Process.Pid {
		t.Error("the wrapper has adopted an orphan that it does not reap")
	}
	p.Signal(syscall.SIGTERM)
	if got := p.wait(); got != 5 {
		t.Errorf("exit code %d, want the program's 5", got)
	}
}

func TestExitCodeSurvivesAStormOfOrphans(t *testing.T) {
	if got, _ := run(t, nil, nil, append([]string{"run", "--init"}, idle("storm", "40")[1:]...)...); got != 9 {
		t.Errorf("exit code %d, want the program's 9", got)
	}
}

func TestKilledWrapperTakesTheProgramAlong(t *testing.T) {
	port := freePort(t)
	p := start(t, nil, wrap(port, nil)...)
	pid := p.saidPID("pid")
	p.Signal(syscall.SIGKILL)
	eventually(t, "end of the program", func() bool { return gone(t, pid) })
	p.got("SIGTERM")
}

// TestEndOfTheLogIsNotTheEnd: who reads the log may die, and the service is to
// go on.
func TestEndOfTheLogIsNotTheEnd(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := command(t, nil, wrap(freePort(t), []string{"--log-level", "debug"}, "--code", "3")...)
	p.Cmd.Stderr = w
	p.start()
	_ = w.Close()
	p.said("pid")
	_ = r.Close()
	p.Signal(syscall.SIGHUP) // which it logs
	p.got("SIGHUP")
	p.Signal(syscall.SIGTERM)
	if got := p.wait(); got != 3 {
		t.Errorf("exit code %d, want the program's 3", got)
	}
}

func TestVersionAndHelp(t *testing.T) {
	if code, p := run(t, nil, nil, "version"); code != 0 || p.Stdout.String() != "pointsman registrator dev\n" {
		t.Errorf("version: exit code %d, %q", code, &p.Stdout)
	}
	for _, args := range [][]string{{"--help"}, {"run", "--help"}, nil} {
		if code, p := run(t, nil, nil, args...); code != 0 || !strings.Contains(p.Stdout.String(), "registrator run") {
			t.Errorf("%q: exit code %d, %q, want 0 and the usage", args, code, &p.Stdout)
		}
	}
}

func TestNothingIsStartedWithABadSetting(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "started")
	code, p := run(t, nil, []string{"REGISTRATOR_PORT=http", "REGISTRATOR_LEAVE_WAIT=soon"}, "run", "--", "touch", mark)
	for _, want := range []string{`REGISTRATOR_PORT="http": want a whole number`, `REGISTRATOR_LEAVE_WAIT="soon": want a time`} {
		if !strings.Contains(p.Stderr.String(), want) {
			t.Errorf("got %q, want %q in it", &p.Stderr, want)
		}
	}
	if _, err := os.Stat(mark); code != 2 || err == nil {
		t.Errorf("exit code %d, started: %t, want 2 and nothing started", code, err == nil)
	}
}

func TestProgramThatDoesNotEndIsKilledWithWhatItStarted(t *testing.T) {
	p := start(t, nil, wrap(freePort(t), []string{"--stop-timeout", "200ms"}, "--stubborn", "--helper")...)
	pid, helper := p.saidPID("pid"), p.saidPID("helper")
	began := time.Now()
	p.Signal(syscall.SIGTERM)
	if got := p.wait(); got != 137 {
		t.Errorf("exit code %d, want 137, of SIGKILL", got)
	}
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("it took %v, want the 200 ms that the program has", took)
	}
	eventually(t, fmt.Sprintf("end of %d and %d", pid, helper), func() bool { return gone(t, pid) && gone(t, helper) })
	p.logs("stop timeout, killing program")
}
