package page

import (
	"context"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/pointsman/pointsman/test/lab"
)

// site is load balancers beside one Consul.
type site struct {
	*testing.T
	ctx    context.Context
	lab    *lab.Lab
	consul *lab.Consul
	lbs    []*lab.Balancer
}

// newSite starts n load balancers, lb0 and so on, which route the service.
func newSite(t *testing.T, n int) *site {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	s := &site{T: t, ctx: ctx}
	var err error
	s.lab, err = lab.New(lab.Config{Programs: programs, Log: t.Output()})
	s.must(err)
	t.Cleanup(func() { s.must(s.lab.Close()) })
	s.consul, err = s.lab.StartConsul(ctx, 0)
	s.must(err)
	for i := range n {
		lb, err := s.lab.NewBalancer("lb"+string(rune('0'+i)), s.consul, lab.Service{Name: service})
		s.must(err)
		s.must(lb.Start(ctx))
		s.lbs = append(s.lbs, lb)
	}
	return s
}

func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *site) node(name, version string, args ...string) *lab.Node {
	s.Helper()
	n, err := s.lab.StartNode(s.ctx, s.consul, service, name, version, args...)
	s.must(err)
	return n
}

// says runs a command beside lb0, and checks its exit code and what it prints.
func (s *site) says(code int, want string, args ...string) {
	s.Helper()
	cmd := exec.CommandContext(s.ctx, programs.Sidecar, append(args, "--config", s.lbs[0].Settings())...)
	out, _ := cmd.CombinedOutput() // the exit code tells
	if cmd.ProcessState.ExitCode() != code || !strings.Contains(string(out), want) {
		s.Errorf("pointsman %v: exit code %d, want %d, and %q in:\n%s", args, cmd.ProcessState.ExitCode(), code, want, out)
	}
}

// All load balancers are on the page of any of them. One whose sidecar hangs is
// not reachable, and the others are shown in time.
func TestPage_TwoLoadBalancers_EachIsShownAndOneThatHangsIsNotReachable(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2)
	a, c := s.node("api-1", "1.0"), s.node("api-2", "1.1")
	for _, lb := range s.lbs {
		s.must(lb.Routes(s.ctx, 20*time.Second, service, "api-1", "api-2"))
	}
	b := newBrowser(s.ctx, t)
	complaints := b.console()
	b.do("open the page", chromedp.Navigate(s.lbs[0].StatusURL()+"/"))
	rows := `[...document.querySelectorAll('#fleet tbody tr')]`
	b.sees("both load balancers in step", rows+`.length === 2 && `+rows+`.every((r) => r.innerText.includes('In step'))`)
	b.shoot("fleet")
	s.says(0, "2 of 2 load balancers reached by lb0", "status", "--fleet", "--watch", "--timeout", "20s")
	b.do("the service", chromedp.Navigate(s.lbs[0].StatusURL()+"/#/service/api"))
	b.sees("each version on each load balancer", `[...document.querySelectorAll('#view table')].find((t) => t.caption.innerText === 'On each load balancer')?.tBodies[0].rows.length === 4`)

	s.must(s.lbs[1].Sidecar.Signal(syscall.SIGSTOP))
	b.do("overview", chromedp.Navigate(s.lbs[0].StatusURL()+"/#/"))
	b.sees("lb1 not reachable, and first", rows+`[0]?.innerText.includes('lb1') && /no answer within 2s/.test(`+rows+`[0].innerText)`)
	b.sees("lb0 still there", rows+`[1].innerText.includes('In step')`)
	b.shoot("fleet-not-reachable")
	s.says(5, "lb1  ✗ not reachable: no answer within 2s", "status", "--fleet")
	s.must(s.lbs[1].Sidecar.Signal(syscall.SIGCONT))
	b.sees("lb1 is back", rows+`.every((r) => r.innerText.includes('In step'))`)
	for _, c := range complaints() {
		t.Errorf("the browser complains: %s", c)
	}
	s.must(a.Leave(20 * time.Second))
	s.must(c.Leave(20 * time.Second))
}
