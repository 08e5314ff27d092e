package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// hasBackend waits until HAProxy has a backend, or no longer has it.
func (w *routedWorld) hasBackend(name string, want bool) {
	w.Helper()
	w.must(lab.Until(w.ctx, 20*time.Second, fmt.Sprintf("HAProxy has backend %s: %v", name, want), func() error {
		out, err := w.lb.Runtime(w.ctx, "show backend")
		if err == nil && strings.Contains(out+"\n", "\n"+name+"\n") != want {
			err = fmt.Errorf("it has\n%s", out)
		}
		return err
	}))
}

// A hundred services appear one after the other, with requests to all that are there.
func TestDiscover_HundredServicesAppearUnderLoad_NoFailedRequest(t *testing.T) {
	t.Parallel()
	w := newDiscoveringWorld(t)
	w.must(w.lb.SetExtra(strings.Replace(fmt.Sprintf(discoverSettings, w.port), "{grace: 2s}", "{grace: 2s, max_services: 200}", 1)))
	w.must(w.lb.Reread())
	load := w.hammer(map[[2]string][]string{{"own.example.com", "/"}: {"own0"}})
	before, each := w.reloads(), w.reloadsFor()
	var loads []*routedLoad
	for i := range 100 {
		name := fmt.Sprintf("s%02d", i)
		host := name + ".example.com"
		w.serve(name, name+"-0", "pointsman-route="+host)
		if i%10 == 9 { // from the first answer on, no request to it fails
			w.until(host, "/", name+"-0")
			loads = append(loads, w.hammer(map[[2]string][]string{{host, "/"}: {name + "-0"}}))
		}
	}
	for i := range 100 {
		name := fmt.Sprintf("s%02d", i)
		w.until(name+".example.com", "/", name+"-0")
	}
	for _, l := range append(loads, load) {
		l.stop(t)
	}
	if got := w.reloads() - before; each == 0 && got > 0 {
		t.Errorf("%d reloads, want none", got)
	}
}

// A backend that HAProxy added as it runs is the same one for all that happens later: a
// sidecar that starts, a reload by someone else, a service that comes back while its backend
// is on its way out, and one that chooses another profile.
func TestDiscover_BackendAddedAtRuntime_OutlivesWhatHappens(t *testing.T) {
	t.Parallel()
	w := newDiscoveringWorld(t)
	w.must(w.lb.SetExtra("profiles:\n  - {name: default}\n  - {name: slow, services: \"*\", balance: leastconn}\n" + fmt.Sprintf(discoverSettings, w.port)))
	w.must(w.lb.Reread())
	const claim = "pointsman-route=shop.example.com"
	first := w.serve("shop", "shop0", claim)
	w.until("shop.example.com", "/", "shop0")
	each := w.reloadsFor()
	load := w.hammer(map[[2]string][]string{{"shop.example.com", "/"}: {"shop0", "shop1"}, {"own.example.com", "/"}: {"own0"}})

	pid := w.workerPID()
	w.must(w.lb.Sidecar.Kill())
	w.must(w.lb.StartSidecar())
	w.must(w.lb.Ready(w.ctx, 15*time.Second))
	if got := w.workerPID(); got != pid || w.reloads() != 0 {
		t.Errorf("after a restart of the sidecar worker %d became %d, with %d reloads", pid, got, w.reloads())
	}
	second := w.serve("shop", "shop1", claim)
	w.until("shop.example.com", "/", "shop1")
	w.must(w.lb.ReloadHAProxy(w.ctx))
	w.until("shop.example.com", "/", "shop0")
	w.until("shop.example.com", "/", "shop1")
	if got := w.reloads(); got != 0 {
		t.Errorf("%d reloads after one by another program, want none", got)
	}

	// Another profile takes one reload.
	first.registerWith(map[string]string{"pointsman-profile": "slow"}, claim)
	second.registerWith(map[string]string{"pointsman-profile": "slow"}, claim)
	w.must(lab.Until(w.ctx, 20*time.Second, "the other profile is loaded by one reload", func() error {
		if got := w.reloads(); got != 1 || !strings.Contains(w.readConfig(), "balance leastconn") {
			return fmt.Errorf("%d reloads", got)
		}
		return nil
	}))
	w.until("shop.example.com", "/", "shop0")
	load.stop(t)

	// One that goes, and is back before its backend has gone.
	reloads := w.reloads()
	clock := w.serve("clock", "clock0", "pointsman-route=clock.example.com")
	w.until("clock.example.com", "/", "clock0")
	clock.deregister()
	w.until("clock.example.com", "/", "")
	clock.register("pointsman-route=clock.example.com")
	w.until("clock.example.com", "/", "clock0")
	clock.deregister()
	w.hasBackend("clock", false)
	w.until("clock.example.com", "/", "")
	clock.register("pointsman-route=clock.example.com")
	w.until("clock.example.com", "/", "clock0")
	w.must(lab.Until(w.ctx, 10*time.Second, "it was added twice, and deleted once", func() error {
		if got := w.reloads() - reloads; got != 3*each {
			return fmt.Errorf("%d reloads, want %d", got, 3*each)
		}
		return nil
	}))
}

// HAProxy may refuse to add a backend: here another program has loaded a file without the
// defaults that it is made from. Then one reload brings it, and says why.
func TestDiscover_BackendRefusedAtRuntime_ComesByOneReload(t *testing.T) {
	t.Parallel()
	w := newDiscoveringWorld(t)
	w.fileIsCurrent()
	load := w.hammer(map[[2]string][]string{{"own.example.com", "/"}: {"own0"}})
	each, pid := w.reloadsFor(), w.workerPID()
	config := w.readConfig()
	w.must(os.WriteFile(w.lb.Config(), []byte(strings.ReplaceAll(config, "pointsman.profile.default", "pointsman.profile.lost")), 0o600))
	w.must(w.lb.ReloadHAProxy(w.ctx))
	w.must(lab.Until(w.ctx, 20*time.Second, "the file is put back, and HAProxy does not have it", func() error {
		if w.workerPID() == pid || w.readConfig() != config {
			return errors.New("not yet")
		}
		return nil
	}))
	w.serve("shop", "shop0", "pointsman-route=shop.example.com")
	w.until("shop.example.com", "/", "shop0")
	w.must(lab.Until(w.ctx, 10*time.Second, "one reload has brought it", func() error {
		if r := w.state().Reloads; r.Succeeded != 1 || r.Failed != 0 {
			return fmt.Errorf("%+v", r)
		}
		return nil
	}))
	out, err := w.lb.Operate(w.ctx, "explain", "reload")
	w.must(err)
	want := "backend shop, not at runtime: HAProxy"
	if each == 0 {
		want = "Cannot find default proxy 'pointsman.profile.default'"
	}
	if !strings.Contains(out, want) {
		t.Errorf("explain reload lacks %q:\n%s", want, out)
	}
	if n := strings.Count(w.lb.Sidecar.Tail(5000), "backend refused at runtime, reload needed"); n != 1-each {
		t.Errorf("the refusal is logged %d times, want %d", n, 1-each)
	}
	// The next one needs none where the defaults are loaded again.
	w.serve("clock", "clock0", "pointsman-route=clock.example.com")
	w.until("clock.example.com", "/", "clock0")
	w.must(lab.Until(w.ctx, 10*time.Second, "the next one comes as the others", func() error {
		if got := w.reloads(); got != 1+each {
			return fmt.Errorf("%d reloads, want %d", got, 1+each)
		}
		return nil
	}))
	load.stop(t)
}

// A sidecar that ends while a backend is on its way out, and starts again when the service is
// no longer in Consul, goes on with it.
func TestDiscover_SidecarRestartsWhileABackendGoes_ItGoes(t *testing.T) {
	t.Parallel()
	w := newDiscoveringWorld(t)
	clock := w.serve("clock", "clock0", "pointsman-route=clock.example.com")
	w.until("clock.example.com", "/", "clock0")
	// A request that lasts keeps the server, and so the backend.
	conn, err := (&net.Dialer{}).DialContext(w.ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", w.port))
	w.must(err)
	defer func() { _ = conn.Close() }() // it is only held open
	_, err = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: clock.example.com\r\nContent-Length: 1000000\r\n\r\n")
	w.must(err)
	w.must(lab.Until(w.ctx, 10*time.Second, "the request is at the server", func() error {
		out, err := w.lb.Runtime(w.ctx, "show sess")
		if err == nil && !strings.Contains(out, "be=clock ") {
			err = errors.New(out)
		}
		return err
	}))
	clock.deregister()
	w.must(lab.Until(w.ctx, 20*time.Second, "the file no longer has the backend", func() error {
		if strings.Contains(w.readConfig(), "backend clock ") {
			return errors.New("it has")
		}
		return nil
	}))
	w.must(w.lb.Sidecar.Kill())
	w.must(w.lb.StartSidecar())
	w.must(w.lb.Ready(w.ctx, 15*time.Second))
	_ = conn.Close()
	w.hasBackend("clock", false)
	w.until("own.example.com", "/", "own0")
}

// The settings need not have a service: all of them may come from Consul.
func TestDiscover_NoServiceInTheSettings_IsReadyAndServesThoseThatCome(t *testing.T) {
	t.Parallel()
	w := newRoutedWorld(t)
	w.must(w.lb.SetExtra(strings.Replace(fmt.Sprintf(discoverSettings, w.port), "    routes:\n      - {host: own.example.com, service: own}\n", "", 1)))
	w.must(w.lb.Start(w.ctx))
	w.must(w.lb.Ready(w.ctx, 15*time.Second))
	w.serve("shop", "shop0", "pointsman-route=shop.example.com")
	w.until("shop.example.com", "/", "shop0")
	want := w.reloadsFor()
	w.must(lab.Until(w.ctx, 10*time.Second, fmt.Sprintf("there were %d reloads", want), func() error {
		if s := w.state(); s.Reloads.Succeeded != want || s.Reloads.Failed != 0 {
			return fmt.Errorf("%+v", s.Reloads)
		}
		return nil
	}))
}

// Where no server of a new service is up, HAProxy 3.4 leads no request to it for a while, and
// explain says so. A reload brings route and backend together.
func TestDiscover_NoServerIsUp_RouteIsWithheld(t *testing.T) {
	t.Parallel()
	w := newDiscoveringWorld(t)
	port, err := w.Port() // nothing listens there
	w.must(err)
	dead := &instance{w: w, service: "dead", id: "dead0", at: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}}
	dead.register("pointsman-route=dead.example.com")
	w.hasBackend("dead", true)
	isWithheld, want := false, w.reloadsFor() == 0
	w.must(lab.Until(w.ctx, 10*time.Second, "explain knows the route", func() error {
		out, err := w.lb.Operate(w.ctx, "explain", "route", "dead.example.com")
		isWithheld = strings.Contains(out, "not applied yet  HAProxy does not have backend dead, or no server of it is up")
		if err == nil && isWithheld != want {
			err = errors.New(out)
		}
		return err
	}))
	if want {
		w.until("dead.example.com", "/", "")
	}
}

// How long a new service takes from HAProxy's last check that it needs (check.rise is 2)
// until the first request is answered, under load. On a busy machine times say little: the
// test prints them, and wants no more than a wide bound, and no reload.
func TestDiscover_NewServiceUnderLoad_LiveSoonAfterItsLastCheck(t *testing.T) {
	t.Parallel()
	w := newDiscoveringWorld(t)
	load := w.hammer(map[[2]string][]string{{"own.example.com", "/"}: {"own0"}})
	before, each := w.reloads(), w.reloadsFor()
	const services = 20
	took := make([]time.Duration, 0, services)
	client := &http.Client{Timeout: 5 * time.Second}
	for i := range services {
		name := fmt.Sprintf("new%d", i)
		var checks atomic.Int32
		var last atomic.Int64 // when the last needed check was answered, in nanoseconds
		began := time.Now()
		at := w.answer(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/healthz" && checks.Add(1) == 2 {
				last.Store(int64(time.Since(began)))
			}
			_ = json.NewEncoder(rw).Encode(map[string]string{"instance": name}) // the client tells
		})
		(&instance{w: w, service: name, id: name, at: at}).register("pointsman-route=" + name + ".example.com")
		w.must(lab.Until(w.ctx, 20*time.Second, name+" is live", func() error {
			_, by, err := w.ask(w.ctx, client, name+".example.com", "/")
			if err == nil && by != name {
				err = fmt.Errorf("%q answers", by)
			}
			return err
		}))
		took = append(took, time.Since(began)-time.Duration(last.Load()))
	}
	load.stop(t)
	slices.Sort(took)
	median, worst := took[services/2], took[services-1]
	t.Logf("%d services, from the last needed check to the first answer: median %s, worst %s", services, median.Round(time.Millisecond), worst.Round(time.Millisecond))
	if each == 0 {
		if got := w.reloads() - before; got > 0 {
			t.Errorf("%d reloads, want none", got)
		}
		if median > time.Second {
			t.Errorf("the median is %s, want some tens of milliseconds", median)
		}
	}
}

// What is discovered just before the sidecar ends is not in haproxy.cfg. The next one leaves it
// in HAProxy until Consul answers, and removes it then if no instance claims it any more.
func TestDiscover_SidecarKilledBeforeTheFileHasTheNewest_TheyStayInHAProxy(t *testing.T) {
	t.Parallel()
	w := newRoutedWorld(t, "own")
	w.must(w.lb.SetExtra("file_delay: 1m\n" + fmt.Sprintf(discoverSettings, w.port)))
	w.must(w.lb.Start(w.ctx))
	own := w.serve("own", "own0")
	w.until("own.example.com", "/", "own0")
	isAtRuntime := w.reloadsFor() == 0
	clock := w.serve("clock", "clock0", "pointsman-route=clock.example.com")
	w.until("clock.example.com", "/", "clock0") // its reload, if it takes one, writes the file
	own.register("pointsman-route=young.example.com", "pointsman-route=going.example.com")
	w.until("young.example.com", "/", "own0")
	w.until("going.example.com", "/", "own0")
	config := w.readConfig()
	if strings.Contains(config, "young.example.com") || strings.Contains(config, "clock") == isAtRuntime {
		t.Fatalf("haproxy.cfg has the newest:\n%s", config)
	}

	load := w.hammer(map[[2]string][]string{{"young.example.com", "/"}: {"own0"}, {"clock.example.com", "/"}: {"clock0"}, {"own.example.com", "/"}: {"own0"}})
	w.must(w.lb.Sidecar.Kill())
	w.must(w.consul.Freeze())
	w.must(w.lb.StartSidecar())
	time.Sleep(3 * time.Second)
	w.until("going.example.com", "/", "own0")
	w.must(w.consul.Thaw())
	w.must(w.lb.Ready(w.ctx, 30*time.Second))
	own.register("pointsman-route=young.example.com")
	w.until("going.example.com", "/", "")
	if reloads := w.reloads(); reloads > 0 {
		t.Errorf("%d reloads", reloads)
	}
	load.stop(t)
	clock.deregister()
	w.hasBackend("clock", false)
}
