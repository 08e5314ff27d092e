package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pointsman/pointsman/test/lab"
)

// What an operator types and reads is in testdata/script: each file has a Consul, an
// HAProxy and a sidecar of its own, and these commands beside testscript's.
//
//	node NAME VERSION        starts a node of the service api
//	routes NAME...           waits until the load balancer routes to these, and no others
//	fail NAME MODE           makes a node fail, such as critical; ok ends that
//	slow MS                  begins a request that takes its time, and waits until HAProxy has it
//	leave NAME               asks a node to leave, and does not wait
//	pointsman CODE ARG...    runs it beside the load balancer, and wants that exit code
//	terminal ARG...          runs pointsman in a terminal
//	screen PATTERN           waits until the terminal's screen has it
//	exits CODE               waits until the program in the terminal has ended with that code
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setUpScript,
		Cmds:                scriptCommands,
	})
}

// script is the world of one file.
type script struct {
	*lab.Lab
	ctx      context.Context
	consul   *lab.Consul
	lb       *lab.Balancer
	nodes    map[string]*lab.Node
	terminal *lab.Terminal
}

type scriptKey struct{}

func setUpScript(e *testscript.Env) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	e.Defer(cancel)
	l, err := lab.New(lab.Config{Programs: programs, Log: io.Discard})
	if err != nil {
		return err
	}
	e.Defer(func() {
		if err := l.Close(); err != nil {
			e.T().Log(err)
		}
	})
	s := &script{Lab: l, ctx: ctx, nodes: map[string]*lab.Node{}}
	if s.consul, err = l.StartConsul(ctx, 0); err != nil {
		return err
	}
	if s.lb, err = l.NewBalancer("lb0", s.consul, lab.Service{Name: service}); err != nil {
		return err
	}
	e.Values[scriptKey{}] = s
	e.Defer(func() {
		if s.terminal != nil {
			_ = s.terminal.Close(context.WithoutCancel(ctx)) // the lab ends what is left
		}
	})
	return s.lb.Start(ctx)
}

func scriptOf(ts *testscript.TestScript) *script { return ts.Value(scriptKey{}).(*script) }

// command makes one of testscript's of a function that takes at least that number of arguments.
func command(arguments int, run func(s *script, ts *testscript.TestScript, args []string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, isNegated bool, args []string) {
		if isNegated || len(args) < arguments {
			ts.Fatalf("want at least %d arguments, and no !", arguments)
		}
		ts.Check(run(scriptOf(ts), ts, args))
	}
}

var scriptCommands = map[string]func(*testscript.TestScript, bool, []string){
	"node": command(2, func(s *script, _ *testscript.TestScript, args []string) (err error) {
		s.nodes[args[0]], err = s.StartNode(s.ctx, s.consul, service, args[0], args[1])
		return err
	}),
	"routes": command(1, func(s *script, _ *testscript.TestScript, args []string) error {
		return s.lb.Routes(s.ctx, 20*time.Second, service, args...)
	}),
	"fail": command(2, func(s *script, _ *testscript.TestScript, args []string) error {
		return s.nodes[args[0]].Fail(s.ctx, args[1])
	}),
	"leave": command(1, func(s *script, _ *testscript.TestScript, args []string) error {
		return s.nodes[args[0]].Terminate()
	}),
	"slow": command(1, (*script).slow),
	"pointsman": command(2, func(s *script, ts *testscript.TestScript, args []string) error {
		want, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		err = ts.Exec(programs.Sidecar, append(args[1:], "--config", s.lb.Settings())...)
		code := 0
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			code, err = exit.ExitCode(), nil
		}
		if err == nil && code != want {
			err = fmt.Errorf("exit code %d, want %d", code, want)
		}
		return err
	}),
	"terminal": command(1, func(s *script, _ *testscript.TestScript, args []string) (err error) {
		s.terminal, err = s.StartTerminal(s.ctx, "terminal", 140, 30, append([]string{programs.Sidecar}, append(args, "--config", s.lb.Settings())...)...)
		return err
	}),
	"screen": command(1, func(s *script, _ *testscript.TestScript, args []string) error {
		return s.terminal.Shows(s.ctx, 30*time.Second, strings.Join(args, " "))
	}),
	"exits": command(1, func(s *script, _ *testscript.TestScript, args []string) error {
		code, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		return s.terminal.Exits(s.ctx, 30*time.Second, code)
	}),
}

// slow begins a request that is answered after a time.
func (s *script) slow(_ *testscript.TestScript, args []string) error {
	req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, strings.TrimSuffix(s.lb.URL(service), "/")+"/slow?ms="+args[0], http.NoBody)
	if err != nil {
		return err
	}
	go func() {
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
		}
	}()
	return lab.Until(s.ctx, 10*time.Second, "HAProxy has the request", func() error {
		out, err := exec.CommandContext(s.ctx, programs.Sidecar, "status", service, "--config", s.lb.Settings()).Output()
		if strings.Contains(string(out), "sessions 1") {
			return nil
		}
		return errors.Join(err, fmt.Errorf("no session in:\n%s", out))
	})
}
