package haproxy

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

func TestProbeSaysWhatIsWrongWithWhichSocket(t *testing.T) {
	t.Parallel()
	good := haproxytest.Start(t, "backend api\n")
	user := haproxytest.StartWith(t, haproxytest.Options{Level: "user"}, "backend api\n")
	operator := haproxytest.StartWith(t, haproxytest.Options{Level: "operator"}, "backend api\n")
	dead := haproxytest.Start(t, "backend api\n")
	dead.Kill()
	for _, c := range []struct {
		name            string
		runtime, master string
		want            error
		place           string
	}{
		{"all well", good.Runtime(), good.Master(), nil, ""},
		{"all well without a master", good.Runtime(), "", nil, ""},
		{"no runtime socket", good.Runtime() + "x", good.Master(), ErrNoSocket, good.Runtime() + "x"},
		{"no master socket", good.Runtime(), good.Master() + "x", ErrNoSocket, good.Master() + "x"},
		{"nothing on the runtime socket", dead.Runtime(), good.Master(), ErrConnRefused, dead.Runtime()},
		{"nothing on the master socket", good.Runtime(), dead.Master(), ErrConnRefused, dead.Master()},
		{"level user", user.Runtime(), "", ErrNotAdmin, user.Runtime()},
		{"level operator", operator.Runtime(), "", ErrNotAdmin, operator.Runtime()},
		{"the runtime socket for the master's", good.Runtime(), good.Runtime(), ErrNotMaster, good.Runtime()},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := newTestClient(t, Options{Runtime: c.runtime, Master: c.master}).Probe(t.Context())
			if !errors.Is(err, c.want) || !strings.Contains(errText(err), c.place) {
				t.Errorf("got %v, want %v of %s", err, c.want, c.place)
			}
		})
	}
}

func TestALackOfPermissionIsNotALackOfAProcess(t *testing.T) {
	t.Parallel()
	c := newTestClient(t, Options{Runtime: "/r", Master: "/m"})
	refusal := &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", os.ErrPermission)}
	missing := &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", os.ErrNotExist)}
	for what, errs := range map[string]map[string]error{
		"runtime": {"/r": refusal, "/m": missing},
		"master":  {"/r": missing, "/m": refusal},
	} {
		c.dial = dialResults(errs)
		_, err := c.Observe(t.Context(), nil)
		if !errors.Is(err, ErrPermission) || errors.Is(err, plan.ErrNotRunning) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	c.dial = dialResults(map[string]error{"/r": missing, "/m": missing})
	if _, err := c.Observe(t.Context(), nil); !errors.Is(err, plan.ErrNotRunning) {
		t.Errorf("neither is there: got %v", err)
	}
}

func TestAnAPIOverTCPIsAskedLikeAnother(t *testing.T) {
	t.Parallel()
	a := haproxytest.FreeAddr(t).String()
	haproxytest.StartWith(t, haproxytest.Options{Global: "  stats socket " + a + " level admin"}, "backend api\n")
	c := newTestClient(t, Options{Runtime: "tcp@" + a, Timeout: time.Second})
	if err := c.Probe(t.Context()); err != nil {
		t.Error(err)
	}
}

// Without a master socket it is not known whether HAProxy runs: its runtime socket may
// be gone. The messages say which socket is missing, and do not say that it has ended.
func TestObserve_NoMasterSocket_ErrorSaysSo(t *testing.T) {
	t.Parallel()
	p := haproxytest.Start(t, "backend api\n")
	left := p.Master() + "l" // the file of one that has ended
	if err := haproxytest.LeaveSocket(left); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ master, want string }{
		{"", "haproxy.master_socket is not set"},
		{p.Master() + "x", "no such socket (no HAProxy runs, or it was started without -S"},
		{left, "no process listens there (no HAProxy runs, or it was started without -S"},
	} {
		_, err := newTestClient(t, Options{Runtime: p.Runtime() + "x", Master: c.master}).Observe(t.Context(), nil)
		if !errors.Is(err, plan.ErrNotRunning) || !strings.Contains(errText(err), c.want) || strings.Contains(errText(err), "not running") {
			t.Errorf("master socket %q: got %v, want ErrNotRunning with %q, and no claim that HAProxy is not running", c.master, err, c.want)
		}
	}
}
