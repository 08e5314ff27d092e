package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// Consul says that the node is well, and HAProxy's own check gets a 404 from it.
func TestServerDown_HAProxysCheckGets404_StateLogAndPlanSayWhy(t *testing.T) {
	t.Parallel()
	w := worldOf(t, lab.Service{Name: service, Backend: "api_nodes", Extra: "    check: {path: /nowhere}\n"})
	w.must(w.lb.Start(w.ctx))
	w.nodes = w.startNodes("1.0", "old", 1)
	const why = "L7STS 404: GET /nowhere → 404"
	w.must(lab.Until(w.ctx, 20*time.Second, "the state says why", func() error {
		state, err := w.lb.StateJSON(w.ctx)
		if err == nil && !bytes.Contains(state, []byte(why)) {
			err = fmt.Errorf("%s", state)
		}
		return err
	}))
	if out, err := w.lb.Operate(w.ctx, "plan"); err != nil || !strings.Contains(out, "for check") || !strings.Contains(out, why) {
		t.Errorf("plan said %q, %v, want %q", out, err, why)
	}
	w.logged("[WARN]", "server down", "check=L7STS", "code=404", "url=/nowhere")
}

// A server that was up and whose check fails is down, and does not start: the state says so
// from the first moment, and so do plan and the log. A deployment whose new instance goes
// that way says it, too, and stops nothing (issue 13, section 3).
func TestServerDown_AfterItWasUp_PhaseDownEverywhere(t *testing.T) {
	t.Parallel()
	f := &fleet{world: bareWorld(t), dir: t.TempDir()}
	f.newBalancer(lab.Service{Name: service, Backend: "api_nodes", Extra: "    check: {path: /}\n"})
	f.must(f.lb.Start(f.ctx))
	f.balancer = []*lab.Balancer{f.lb}
	t.Cleanup(f.endAll)
	f.mustDeploy("1.0", "--count", "2")
	failed, why := f.instances("1.0")[0], "L7STS 503: GET / → 503"

	f.must(fail(f.ctx, failed.Addr, "5xx")) // its check in Consul asks for another path
	f.must(lab.Until(f.ctx, 20*time.Second, "the server is not up", func() error {
		if i := f.instance(failed.ID); i.Phase == "up" {
			return fmt.Errorf("%+v", i)
		}
		return nil
	}))
	if i := f.instance(failed.ID); i.Phase != "down" || i.Health != "passing" {
		t.Errorf("got %+v, want phase down, with a check in Consul that passes", i)
	}
	// While HAProxy's next check is under way, it does not tell what the last one got.
	for _, c := range []struct{ command, says string }{{"plan", "for check"}, {"status", " down "}} {
		f.must(lab.Until(f.ctx, 10*time.Second, c.command+" says why", func() error {
			if out, _ := f.lb.Operate(f.ctx, c.command); !strings.Contains(out, c.says) || !strings.Contains(out, why) {
				return fmt.Errorf("want %q and %q in:\n%s", c.says, why, out)
			}
			return nil
		}))
	}
	f.must(lab.Until(f.ctx, 20*time.Second, "the log says that the server is down", func() error {
		if i := f.instance(failed.ID); i.Phase != "down" {
			t.Fatalf("meanwhile it is %+v", i)
		}
		if !strings.Contains(f.lb.Sidecar.Tail(50), "server down") {
			return errors.New("it does not")
		}
		return nil
	}))
	f.logged("[WARN]", "server down", "server="+failed.Server, "check=L7STS", "code=503", "url=/")
	f.must(fail(f.ctx, failed.Addr, "ok"))
	f.logged("server up", "server="+failed.Server)

	before, done := fmt.Sprint(f.pids()), make(chan error, 1)
	go func() {
		done <- lab.Until(f.ctx, 30*time.Second, "the new instance was up, and fails", func() error {
			s, err := f.lb.State(f.ctx)
			for _, i := range s.Instances(service) {
				if i.Version == "1.1" && i.Phase == "up" {
					return fail(f.ctx, i.Addr, "5xx")
				}
			}
			return errors.Join(err, errors.New("it is not up"))
		})
	}()
	out, code, said := f.deploy("1.1", nil, "--count", "1", "--min-healthy", "60s", "--timeout", "8s")
	f.must(<-done)
	if want := `on lb0: phase down, HAProxy's check "L7STS`; code != 1 || out.Outcome != "failed" || len(out.Stopped) != 0 || !strings.Contains(said, want) {
		t.Errorf("got exit code %d, %+v, want 1, none stopped and %q in:\n%s", code, out, want, said)
	}
	if after := fmt.Sprint(f.pids()); after != before {
		t.Errorf("nodes: got %v, want as before %v", after, before)
	}
}

// instances returns what the state has of a version.
func (f *fleet) instances(version string) (all []lab.Instance) {
	f.Helper()
	for _, i := range f.state().Instances(service) {
		if i.Version == version {
			all = append(all, i)
		}
	}
	return all
}

// instance returns what the state has of an instance.
func (f *fleet) instance(id string) lab.Instance {
	f.Helper()
	for _, i := range f.state().Instances(service) {
		if i.ID == id {
			return i
		}
	}
	f.Fatalf("the state has no %s", id)
	return lab.Instance{}
}

// fail makes the node at an address fail as Node.Fail does.
func fail(ctx context.Context, addr, mode string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/fail?mode="+mode, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		err = resp.Body.Close()
	}
	return err
}
