package page

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/pointsman/pointsman/test/lab"
)

// A person watches a real rollout on two load balancers, without a reload of the page:
// the steps with the current one, the shares wanted and seen, the numbers of both
// versions, what it waits for, and why it was aborted.
func TestPage_Rollout_StepsAndNumbersAreShownLive(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2)
	s.node("api-1", "1.0")
	s.node("api-2", "1.0")
	s.says(0, "paused: 1.0 100%, 1.1 0%", "rollout", "set", service, "1.0=100", "1.1=0")
	s.node("api-3", "1.1")
	for _, lb := range s.lbs {
		s.must(lb.Routes(s.ctx, 20*time.Second, service, "api-1", "api-2", "api-3"))
		h := lab.Hammer(s.ctx, lb.URL(service), 2)
		t.Cleanup(func() { h.Stop() })
	}
	b := newBrowser(s.ctx, t)
	complaints := b.console()
	b.do("deployments", chromedp.Navigate(s.lbs[0].StatusURL()+"/#/deployments"))
	b.sees("a share by hand", `document.querySelector('#rollout-`+service+`')?.innerText.includes('paused') === true`)

	s.says(0, "running: 1.0 80%, 1.1 20%", "rollout", "start", service, "--canary", "1.1", "--steps", "20,60,100", "--interval", "5m")
	current := `(document.querySelector('#rollout-` + service + ` li[aria-current=step]')?.innerText ?? '')`
	cells := `[...document.querySelectorAll('#rollout-` + service + ` tbody tr')].map((r) => [...r.children].map((c) => c.innerText.trim().replace(/\s+/g, ' ')))`
	b.sees("the current step, what comes next and when", `/20 % for 1\.1/.test(`+current+`) && /60 % in \d+ (s|min) at the earliest, next look in \d+ s/.test(`+current+`)`)
	b.sees("the shares wanted and seen, and the numbers", cells+`.some((r) => r[0] === '1.1 canary' && r[1] === '20 %' && /^20(\.\d)? %$/.test(r[2]) && /^[1-9]\d*$/.test(r[3]) && /^0 \(0\.00 %\)$/.test(r[4]))`)
	b.sees("those of the stable version", cells+`.some((r) => r[0] === '1.0 stable' && r[1] === '80 %' && /^[1-9][\d,]*$/.test(r[3]))`)
	b.sees("what it waits for", `/Waits: .*requests/.test(`+current+`)`)
	b.accessible("a rollout")
	b.shoot("rollout-light")
	b.do("dark", scheme("dark"))
	b.accessible("a rollout in the dark")
	b.shoot("rollout-dark")
	b.do("a phone", chromedp.EmulateViewport(390, 844))
	if wide := read[bool](b, `document.documentElement.scrollWidth > 390`); wide {
		t.Error("the page is wider than a phone")
	}
	b.accessible("a rollout on a phone")
	b.shoot("rollout-phone")
	b.do("a desk", chromedp.EmulateViewport(1280, 900), scheme("light"))
	s.says(3, "waits: ", "rollout", "status", service)
	out, err := s.lbs[1].Operate(s.ctx, "status", service)
	if !strings.Contains(out, "steps of 1.1: [20%]  60%  100%") && !strings.Contains(out, "steps of 1.1: 20% ✓") {
		t.Errorf("status beside the other load balancer shows no steps: %s, %v", out, err)
	}

	s.says(0, "running: 1.0 40%, 1.1 60%", "rollout", "promote", service)
	b.sees("the second step", `/60 % for 1\.1/.test(`+current+`) && [...document.querySelectorAll('#rollout-`+service+` li.good')].some((l) => /20 % for 1\.1\s*done/.test(l.innerText))`)
	b.do("the service", chromedp.Navigate(s.lbs[1].StatusURL()+"/#/service/"+service))
	b.sees("the same beside the service, on the other load balancer", `/60 % for 1\.1/.test(`+current+`)`)
	s.says(0, "aborted: 1.0 100%, 1.1 0%", "rollout", "abort", service, "--reason", "<b>not good</b>")
	b.sees("why it was aborted, and at which step", `document.querySelector('#rollout-`+service+`').innerText.includes('Reason: <b>not good</b>') && [...document.querySelectorAll('#rollout-`+service+` li.bad')].some((l) => /60 % for 1\.1\s*aborted/.test(l.innerText))`)
	b.shoot("rollout-aborted")
	s.says(0, "", "rollout", "end", service)
	b.sees("nothing of it after the end", `!document.querySelector('#rollout-`+service+`')`)
	for _, c := range complaints() {
		t.Errorf("the browser complains: %s", c)
	}
}
