package page

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/pointsman/pointsman/test/lab"
)

// startCommand starts an API node for `pointsman deploy`, which leaves its process ID
// in the file.
func startCommand(file string) string {
	return fmt.Sprintf(`%s --listen 127.0.0.1:0 --address 127.0.0.1 --service "$DEPLOY_SERVICE" --id "$DEPLOY_INSTANCE" --instance "$DEPLOY_INSTANCE" --version-name "$DEPLOY_VERSION" >%s.log 2>&1 & echo $! >%s`, programs.API, file, file)
}

// stopStarted ends the node of startCommand and waits until it has gone.
func (s *site) stopStarted(file string) {
	s.Helper()
	text, err := os.ReadFile(file)
	s.must(err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	s.must(err)
	s.must(syscall.Kill(pid, syscall.SIGTERM))
	s.must(lab.Until(s.ctx, 20*time.Second, "the new node has left", func() error {
		if syscall.Kill(pid, 0) == nil {
			return fmt.Errorf("process %d runs", pid)
		}
		return nil
	}))
}

// A person watches a real deployment on two load balancers, without a reload of the
// page: the steps, what blocks the drain, its deadline, and the result.
func TestPage_Deploy_StepsAndBlockedDrainAreShownLive(t *testing.T) {
	t.Parallel()
	s := newSite(t, 0)
	for _, name := range []string{"lb0", "lb1"} {
		lb, err := s.lab.NewBalancer(name, s.consul, lab.Service{Name: service, Extra: "    drain_timeout: 3m\n"})
		s.must(err)
		s.must(lb.Start(s.ctx))
		s.lbs = append(s.lbs, lb)
	}
	old := s.node("api-1", "1.0", "--leave-timeout", "3m")
	for _, lb := range s.lbs {
		s.must(lb.Routes(s.ctx, 20*time.Second, service, "api-1"))
	}
	b := newBrowser(s.ctx, t)
	complaints := b.console()
	b.do("deployments", chromedp.Navigate(s.lbs[0].StatusURL()+"/#/deployments"))
	b.sees("nothing under way", `document.querySelector('#view').innerText.includes('None: each service has one version')`)

	// A request holds the old instance on lb1 for as long as the test looks.
	held, err := http.NewRequestWithContext(s.ctx, http.MethodGet, strings.TrimSuffix(s.lbs[1].URL(service), "/")+"/stream?chunks=1000&ms=250", http.NoBody)
	s.must(err)
	answer, err := http.DefaultClient.Do(held)
	s.must(err)
	defer func() { _ = answer.Body.Close() }() // after a failure

	pid := s.lab.Path("started.pid")
	cmd := exec.CommandContext(s.ctx, programs.Sidecar, "deploy", "--config", s.lbs[0].Settings(), "--service", service, "--version", "1.1",
		"--start", startCommand(pid), "--stop", fmt.Sprintf("kill -TERM %d", old.PID()), "--min-healthy", "3s", "--drain-timeout", "3m")
	cmd.Env = append(os.Environ(), "CONSUL_HTTP_ADDR="+s.consul.Address())
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	s.must(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	current := `(document.querySelector('li[aria-current=step]')?.innerText ?? '')`
	b.sees("that it watches the new nodes, with its deadline", `/watch: the new instances must stay live/.test(`+current+`) && /left, then: the old instances are stopped/.test(`+current+`)`)
	b.shoot("deployment-watch")
	b.sees("that it waits for the drain, and what happens at the deadline", `/wait until drained/.test(`+current+`) && /no further instance is stopped: exit code 4/.test(`+current+`)`)
	b.sees("what blocks it, and where", `[...document.querySelectorAll('#view tr')].some((r) => r.innerText.includes('lb1') && /"api-1" on lb1: not drained: phase draining, [1-9]/.test(r.innerText))`)
	b.shoot("deployment")
	b.accessible("a deployment")
	s.says(3, `waits: "api-1" on lb1: not drained`, "deploy", "status")
	s.says(8, `another deployment is under way: version "1.1"`, "deploy", "--service", service, "--version", "1.2", "--start", "true", "--stop", "true")
	s.must(answer.Body.Close())
	if err := <-ended; err != nil {
		t.Fatalf("deploy: %v\n%s", err, out.String())
	}
	b.sees("the result, without a reload", `[...document.querySelectorAll('#view tr')].some((r) => r.innerText.includes('1.0 → 1.1') && /deployed/.test(r.innerText))`)
	b.shoot("deployed")
	s.says(0, "api 1.0 → 1.1  deployed", "deploy", "status", "--watch")
	for _, c := range complaints() {
		t.Errorf("the browser complains: %s", c)
	}
	s.stopStarted(pid)
}
