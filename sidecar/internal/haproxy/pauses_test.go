package haproxy

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

func TestProgramPauses_Versions_From32On(t *testing.T) {
	for output, want := range map[string]bool{
		"HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/": false,
		"HAProxy version 3.1.9 2026/10/17":                                   false,
		"HAProxy version 3.2.0 2026/10/17":                                   true,
		"HAProxy version 4.0-dev1 2026/10/17":                                true,
		"docker: unknown flag":                                               true, // it tells nothing
	} {
		if version, can := ProgramPauses(output); can != want {
			t.Errorf("%s (%s): got %v", output, version, can)
		}
	}
}

// holding is a HAProxy of any version in which requests for /wait wait, at no server.
type holding struct {
	*haproxytest.Process
	client *Client
	node   *haproxytest.Node
	front  string
	file   string // of a map
}

func startHolding(t *testing.T) holding {
	t.Helper()
	h := holding{node: haproxytest.StartNode(t, "node"), front: haproxytest.FreeAddr(t).String(), file: filepath.Join(t.TempDir(), "pauses.map")}
	if err := os.WriteFile(h.file, []byte("api 1\nweb 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.Process = haproxytest.Start(t, fmt.Sprintf(`
frontend api.front
  bind %s
  use_backend retried if { path /retried }
  default_backend api
backend api
  timeout tarpit 60s
  http-request set-var(txn.p) be_name,map(%s)
  http-request tarpit if { path /wait }
  server api-1 %s
backend retried
  timeout connect 5s
  retries 3
  option redispatch 1
  server closed 127.0.0.1:1
`, h.front, h.file, h.node.Addr()))
	h.client = newTestClient(t, Options{Runtime: h.Runtime(), Master: h.Master()})
	return h
}

// send sends a request, which ends with the test.
func (h holding) send(t *testing.T, path string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.front+path, http.NoBody)
		if err != nil {
			t.Error(err)
			return
		}
		if resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req); err == nil {
			_ = resp.Body.Close()
		}
	}()
}

func (h holding) held(t *testing.T, what string, isSo func(Held) bool) (got Held) {
	t.Helper()
	haproxytest.Until(t, what, func() bool {
		var err error
		got, err = h.client.Held(t.Context(), []string{"api", "retried", "absent"})
		return err == nil && isSo(got)
	})
	return got
}

func TestHeld_AtServersAndWaiting_AlsoInOldWorkers(t *testing.T) {
	t.Parallel()
	h := startHolding(t)
	t.Cleanup(h.node.Release)
	h.held(t, "nothing is under way", func(got Held) bool { return got == Held{} })
	h.send(t, "/hold")
	h.held(t, "a server has a request", func(got Held) bool { return got == Held{AtServers: 1, Attempts: 1} })
	h.send(t, "/wait")
	h.send(t, "/wait")
	want := Held{AtServers: 1, Waiting: 2, Attempts: 1}
	h.held(t, "two wait", func(got Held) bool { return got == want })
	h.Reload()
	h.held(t, "the old worker has them", func(got Held) bool { return got == want })
	deaf := newTestClient(t, Options{Runtime: h.Runtime(), Master: h.Master() + ".gone"})
	if got, err := deaf.Held(t.Context(), []string{"api"}); err == nil {
		t.Errorf("with a master that does not answer: got %+v, want an error", got)
	}
	h.node.Release()
	h.held(t, "the server has none", func(got Held) bool { return got.AtServers == 0 && got.Waiting == 2 })
}

// `show stat NAME` gives the frontend where one is before the backend of the same name.
func TestHeldAndCounters_FrontendOfTheSameName_TheBackendIsCounted(t *testing.T) {
	t.Parallel()
	says, err := exec.CommandContext(t.Context(), haproxytest.Binary(t), "-v").Output()
	if err != nil {
		t.Fatal(err)
	}
	if releaseOf(ProgramCapabilities(string(says)).Version).atLeast(release{3, 3}) { // there is no such file
		file := filepath.Join(t.TempDir(), "haproxy.cfg")
		if err := os.WriteFile(file, []byte("defaults\n  mode http\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\nfrontend api\n  bind 127.0.0.1:1\nbackend api\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), haproxytest.Binary(t), "-c", "-f", file).CombinedOutput(); err == nil {
			t.Errorf("two proxies of one name are accepted: %s", out)
		}
		return
	}
	node, front := haproxytest.StartNode(t, "node"), haproxytest.FreeAddr(t).String()
	p := haproxytest.Start(t, fmt.Sprintf("frontend api\n  bind %s\n  default_backend api\nbackend api\n  server api-1 %s\n", front, node.Addr()))
	h := holding{Process: p, node: node, front: front, client: newTestClient(t, Options{Runtime: p.Runtime(), Master: p.Master()})}
	t.Cleanup(node.Release)
	h.send(t, "/hold")
	want := Held{AtServers: 1, Attempts: 1}
	h.held(t, "a server has a request", func(got Held) bool { return got == want })
	if got, err := h.client.Counters(t.Context(), "api"); err != nil || got.Servers["api-1"].Requests != 1 {
		t.Errorf("counters: %v, %v, want one request", got, err)
	}
	h.Reload()
	h.held(t, "the old worker has it", func(got Held) bool { return got == want })
}

// A request that HAProxy tries again, on the only server that there is, is at none for a
// second in between. So that no server has a request is not enough; the attempts tell.
func TestHeld_RequestIsTriedAgain_AtNoServerAndAttemptsRise(t *testing.T) {
	t.Parallel()
	h := startHolding(t)
	h.send(t, "/retried")
	first := h.held(t, "it is at no server, and was sent", func(got Held) bool { return got.AtServers == 0 && got.Waiting == 1 && got.Attempts > 0 })
	began := time.Now()
	next := h.held(t, "it is sent again", func(got Held) bool { return got.Attempts != first.Attempts })
	t.Logf("attempts %d and %d, after %s", first.Attempts, next.Attempts, time.Since(began))
}

func TestHeld_UnknownReply_IsAnError(t *testing.T) {
	const header = "# pxname,svname,qcur,scur,stot,econ,wretr,type,\n"
	for name, reply := range map[string]string{
		"no table":         "Permission denied\n",
		"no scur":          "# pxname,svname,qcur,stot,type,\napi,BACKEND,1,1,1,\n",
		"a negative count": header + "api,BACKEND,0,-1,1,0,0,1,\n",
		"a broken total":   header + "api,s,0,1,x,0,0,2,\n",
	} {
		var h Held
		if err := h.add(backendRows{"api", reply}); err == nil {
			t.Errorf("%s: got %+v, want an error", name, h)
		}
	}
	var h Held
	if err := h.add(backendRows{"api", header + "api,a,1,2,9,1,3,2,\napi,BACKEND,4,10,9,1,3,1,\nweb,b,1,2,9,1,3,2,\n"}); err != nil || h != (Held{AtServers: 7, Waiting: 3, Attempts: 13}) {
		t.Errorf("got %+v, %v, want 2 at a server, 1 and 4 in queues, and 3 that wait", h, err)
	}
}

func TestUpdateOldMaps_WorkerOfBeforeAReload_HasWhatIsWanted(t *testing.T) {
	t.Parallel()
	h := startHolding(t)
	want := route.Map{"api": "3", "new": "4"} // one changed, one removed, one added
	if err := h.client.UpdateOldMaps(t.Context(), h.file, want); err != nil {
		t.Errorf("without an old worker: %v", err)
	}
	h.send(t, "/wait")
	h.held(t, "it waits", func(got Held) bool { return got.Waiting == 1 })
	h.Reload()
	if err := h.client.UpdateOldMaps(t.Context(), h.file, want); err != nil {
		t.Fatal(err)
	}
	workers, err := h.client.OldWorkers(t.Context())
	if err != nil || len(workers) != 1 {
		t.Fatalf("old workers: %v, %v", workers, err)
	}
	text, err := h.client.oldWorker(workers[0])(t.Context(), []string{"show map " + h.file})
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseMap(text)
	slices.SortFunc(got, func(a, b route.Entry) int { return len(a.Key) - len(b.Key) + int(a.Key[0]) - int(b.Key[0]) })
	if diff := cmp.Diff([]route.Entry(want.Table()), got); err != nil || diff != "" {
		t.Errorf("the old worker's map: %v, -want +got:\n%s", err, diff)
	}
	now, err := h.client.ReadMap(t.Context(), h.file)
	if err != nil || len(now) != 2 || now[0].Value != "1" {
		t.Errorf("the map of the worker that serves is %v, %v, want it as it was", now, err)
	}
	if err := h.client.UpdateOldMaps(t.Context(), h.file+".other", want); err != nil {
		t.Errorf("a map that the old worker does not have: %v", err)
	}
}

// startTwoOldWorkers starts one with two old workers, each of which has a request that waits.
func startTwoOldWorkers(t *testing.T, timeout time.Duration) (holding, []int) {
	t.Helper()
	h := startHolding(t)
	h.client = newTestClient(t, Options{Runtime: h.Runtime(), Master: h.Master(), Timeout: timeout})
	for n := 1; n <= 2; n++ {
		h.send(t, "/wait")
		h.held(t, "it waits", func(got Held) bool { return got.Waiting == n })
		h.Reload()
	}
	workers, err := h.client.OldWorkers(t.Context())
	if err != nil || len(workers) != 2 {
		t.Fatalf("old workers: %v, %v", workers, err)
	}
	return h, workers
}

// An old worker that does not answer, and may never end, must not keep the requests of the
// others waiting.
func TestUpdateOldMaps_OneWorkerIsFrozen_TheOthersHaveWhatIsWanted(t *testing.T) {
	t.Parallel()
	h, workers := startTwoOldWorkers(t, frozenTimeout)
	for i, pid := range workers {
		h.Freeze(pid)
		err := h.client.UpdateOldMaps(t.Context(), h.file, route.Map{"api": strconv.Itoa(7 + i)})
		h.Thaw(pid)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("old worker %d: ", pid)) {
			t.Errorf("worker %d is frozen: got %v", pid, err)
		}
		other := workers[1-i]
		text, err := h.client.oldWorker(other)(t.Context(), []string{"show map " + h.file})
		if got, errMap := parseMap(text); err != nil || errMap != nil || len(got) != 1 || got[0].Value != strconv.Itoa(7+i) {
			t.Errorf("while %d is frozen, %d has %v, %v, %v", pid, other, got, err, errMap)
		}
	}
}

// The others get it while one still hangs, whichever that is.
func TestUpdateOldMaps_OneWorkerHangs_TheOthersDoNotWaitForIt(t *testing.T) {
	t.Parallel()
	h, workers := startTwoOldWorkers(t, time.Minute)
	for i, pid := range workers {
		h.Freeze(pid)
		want, other, done := strconv.Itoa(7+i), workers[1-i], make(chan error, 1)
		go func() { done <- h.client.UpdateOldMaps(t.Context(), h.file, route.Map{"api": want}) }()
		haproxytest.Until(t, fmt.Sprintf("%d has it while %d hangs", other, pid), func() bool {
			text, err := h.client.oldWorker(other)(t.Context(), []string{"show map " + h.file})
			got, errMap := parseMap(text)
			return err == nil && errMap == nil && len(got) == 1 && got[0].Value == want
		})
		select {
		case err := <-done:
			t.Errorf("it is over, and %d hangs: %v", pid, err)
			done <- err
		default:
		}
		h.Thaw(pid)
		if err := <-done; err != nil {
			t.Errorf("%d goes on: %v", pid, err)
		}
	}
}
