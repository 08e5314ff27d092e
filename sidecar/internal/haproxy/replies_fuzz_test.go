package haproxy

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// canned is a connection to a HAProxy that answers one text to whatever it is
// sent, and closes.
type canned struct {
	net.Conn // nil: nothing else is called
	reply    *strings.Reader
}

func (c canned) Read(p []byte) (int, error)  { return c.reply.Read(p) }
func (c canned) Write(p []byte) (int, error) { return len(p), nil }
func (c canned) Close() error                { return nil }
func (c canned) SetDeadline(time.Time) error { return nil }

// cannedClient is a Client of such a HAProxy: its exchanges get the replies in
// turn, and empty ones after that.
func cannedClient(tb testing.TB, version string, replies ...string) *Client {
	tb.Helper()
	c, err := New(Options{Runtime: "/r", Master: "/m"})
	if err != nil {
		tb.Fatal(err)
	}
	c.learn(info{pid: 1, version: version})
	c.dial = func(context.Context, endpoint) (net.Conn, error) {
		var next string
		if len(replies) > 0 {
			next, replies = replies[0], replies[1:]
		}
		return canned{reply: strings.NewReader(next)}, nil
	}
	return c
}

// FuzzApply: whatever HAProxy answers, no step counts as done that its answer
// has no good word for.
func FuzzApply(f *testing.F) {
	f.Add(false, "\n\n\n")
	f.Add(true, "\n\n\n\n\n\nIP changed from '127.0.0.1' to '127.0.0.2' by 'stats socket command'\n\n")
	f.Add(true, "\nNo such server.\n\n")
	f.Add(false, "Permission denied\n\n")
	steps := []plan.Step{
		{Kind: plan.SetDrain, Backend: "api", Server: "one"},
		{Kind: plan.SetWeight, Backend: "api", Server: "two", Weight: 5},
		{Kind: plan.SetAddr, Backend: "api", Server: "three", Addr: addr("127.0.0.2:80")},
		{Kind: plan.Delete, Backend: "api", Server: "four"},
		{Kind: plan.Add, Backend: "api", Server: "five", Addr: addr("127.0.0.1:80"), Weight: 1},
	}
	f.Fuzz(func(t *testing.T, dynamic bool, reply string) {
		version := "2.6.12"
		if dynamic {
			version = "3.4.7"
		}
		// The first line, the deletion and the addition are an exchange each.
		c := cannedClient(t, version, reply, reply, reply)
		errs := c.Apply(t.Context(), steps)
		if len(errs) != len(steps) {
			t.Fatalf("%d results of %d steps", len(errs), len(steps))
		}
		replies, _ := splitReplies(reply)
		silent := 0
		for _, r := range replies {
			if tidy(r) == "" {
				silent++
			}
		}
		done := 0
		for i, err := range errs {
			if err != nil {
				continue
			}
			word := ""
			switch steps[i].Kind {
			case plan.Delete:
				word = "Server deleted."
			case plan.Add:
				word = "New server registered."
			case plan.SetAddr:
				if addrTaken("nothing changed") == nil && strings.Contains(reply, "nothing changed") {
					continue
				}
				word = "chang"
			default:
				done++
			}
			if !strings.Contains(reply, word) {
				t.Errorf("%s counts as done by %q", steps[i].Kind, reply)
			}
		}
		if done > silent {
			t.Errorf("%d steps that HAProxy is silent about count as done by the %d silent replies of %q", done, silent, reply)
		}
	})
}

// FuzzReadWorker: an answer to a line of several commands is read as a whole,
// or not at all.
func FuzzReadWorker(f *testing.F) {
	env := plan.MarkerVariable + "=1.aa.bb.cc\n"
	whole := seedStat + "b,w,0,0,0,0,,0,MAINT,1,0,1,1,3,3,2,,\n"
	f.Add(seedInfo + "\n" + env + "\n" + seedState + "\n" + whole + "\n")
	f.Add(seedInfo + "\n" + env + "\n" + seedState + "\n" + seedStat + "\n") // a server less
	f.Add("Pid: 0\n\n" + env + "\n" + seedState + "\n" + whole + "\n")
	f.Add(seedInfo + "\n" + env + "\nCan't find backend.\n\nNo such proxy.\n\n")
	f.Add(seedInfo + "\n" + env + "\n" + seedState + "\n" + "# svname,qcur,scur,slim,bck,type,\n\n")
	f.Fuzz(func(t *testing.T, reply string) {
		ask := func(context.Context, []string) (string, error) { return reply, nil }
		view, err := readWorker(t.Context(), ask, []string{"b"}, maxCommands)
		if err != nil {
			if view.info != (info{}) || view.backends != nil {
				t.Errorf("an error and a value: %+v", view)
			}
			return
		}
		if view.info.pid <= 0 || len(view.backends) > 1 {
			t.Errorf("accepted: %+v", view)
		}
		seen := map[string]bool{}
		for _, s := range view.backends["b"] {
			if !strings.Contains(reply, s.serverState.name) || s.serverState.name != s.serverStat.name {
				t.Errorf("server %q of %q", s.serverState.name, s.serverStat.name)
			}
			if s.sessions < 0 || s.queued < 0 {
				t.Errorf("accepted: %+v", s)
			}
			seen[s.serverState.name] = true
		}
		if len(seen) != len(view.backends["b"]) {
			t.Errorf("a name twice: %+v", view.backends["b"])
		}
	})
}

// FuzzReloadReply: only what begins with Success is one, and only Success=0
// and what is no answer at all are a failure.
func FuzzReloadReply(f *testing.F) {
	f.Add("Success=1\n--\n[NOTICE] ok\n")
	f.Add("Success=0\n--\n[ALERT] (1) : config : parsing [/x:3] : unknown keyword\n")
	f.Add("")
	f.Add("Success")
	f.Add("Unknown command: 'reload'\n")
	f.Fuzz(func(t *testing.T, reply string) {
		c := cannedClient(t, "3.4.7", seedProc+"\n", reply)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		sent, err := c.reloadByMaster(ctx)
		refused, isReload := errors.AsType[*ReloadError](err)
		switch {
		case (err == nil) != (sent.failed != nil):
			t.Errorf("%q: got both or nothing, %v", reply, err)
		case err != nil && !isReload:
			t.Errorf("%q: got %T %v", reply, err, err)
		case strings.HasPrefix(reply, "Success=0") && err == nil:
			t.Errorf("%q is no error", reply)
		case strings.HasPrefix(reply, "Success=1") && err != nil:
			t.Errorf("%q: got %v", reply, err)
		case isReload && len(refused.Error()) > 1<<16:
			t.Errorf("an error of %d bytes", len(refused.Error()))
		}
	})
}

// FuzzSessionsOn: only a session ends that is on one of the servers, and its
// name is one word.
func FuzzSessionsOn(f *testing.F) {
	f.Add("0x55d0c8: proto=tcpv4 src=127.0.0.1:1 fe=f be=api srv=one ts=00 age=1s calls=1\n0x55d0c9: proto=unix_stream src=unix:1 fe=GLOBAL be=<NONE> srv=<none> ts=02 \n\n")
	f.Add("0x1: be=api srv=two x\n0x1; show info: fe=f be=api srv=one x\n")
	f.Fuzz(func(t *testing.T, reply string) {
		for _, id := range sessionsOn(reply, "api", map[string]bool{"one": true}) {
			digits, isHex := strings.CutPrefix(id, "0x")
			if !isHex || digits == "" || strings.Trim(digits, "0123456789abcdef") != "" {
				t.Errorf("session %q", id)
			}
			if !strings.Contains(reply, id+": ") || !strings.Contains(reply, "be=api srv=one ") {
				t.Errorf("session %q of %q", id, reply)
			}
		}
	})
}

// FuzzProgramVersion: what is not a version that can add servers is taken for
// one that can't.
func FuzzProgramVersion(f *testing.F) {
	f.Add("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\n")
	f.Add("HAProxy version 3.0.11-1+deb13u5\n")
	f.Add("HAProxy version 3.5-dev5-abcdef 2026/08/21\n")
	f.Add("HA-Proxy version 10.-1\n")
	f.Fuzz(func(t *testing.T, output string) {
		caps := ProgramCapabilities(output)
		if caps.Version == "" && caps.Dynamic {
			t.Errorf("%q: servers can be added by no version", output)
		}
		if !strings.Contains(output, caps.Version) || strings.ContainsAny(caps.Version, " \n") {
			t.Errorf("version %q of %q", caps.Version, output)
		}
		if old := strings.HasPrefix(caps.Version, "2.") || strings.HasPrefix(caps.Version, "1."); old && caps.Dynamic {
			t.Errorf("%q can add servers", caps.Version)
		}
	})
}
