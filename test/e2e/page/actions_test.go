package page

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/pointsman/pointsman/test/lab"
)

// With the token an operator drains a server and takes the load balancer out of rotation
// on the page. Without it there is no button, and the token is gone with the page.
func TestPage_Actions_OnlyWithTheTokenInMemory(t *testing.T) {
	t.Parallel()
	s := newSite(t, 0)
	lb, err := s.lab.NewBalancer("lb0", s.consul, lab.Service{Name: service})
	s.must(err)
	s.lbs = append(s.lbs, lb)
	answer := filepath.Join(t.TempDir(), "503.http") // a file that HAProxy reads when it loads its own
	s.must(os.WriteFile(answer, []byte("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"), 0o600))
	s.must(lb.SetHAProxy(fmt.Sprintf("  defaults: {extra: [\"errorfile 503 %s\"]}\n", answer)))
	s.must(lb.Join("balancers"))
	lb.SetEnviron("POINTSMAN_API_TOKEN=secret")
	s.must(lb.StartSidecar())
	s.must(lb.StartHAProxy(s.ctx))
	node := s.node("api-1", "1.0")
	s.node("api-2", "1.0")
	s.must(lab.Until(s.ctx, 20*time.Second, "both are up", func() error {
		out, err := lb.Operate(s.ctx, "status")
		if err == nil && !strings.Contains(out, "2 of 2 take traffic") {
			err = errors.New(out)
		}
		return err
	}))

	b := newBrowser(s.ctx, t)
	complaints := b.console()
	b.do("open the page", chromedp.Navigate(lb.StatusURL()+"/#/service/api"))
	b.sees("that the token is asked for", `!document.getElementById('ask').hidden`)
	b.accessible("the question for the token")
	enter := func() {
		b.do("the token", chromedp.SendKeys("#token", "secret"), chromedp.Click("#ask button"))
	}
	enter()
	row := `[...document.querySelectorAll('#view tr')].find((r) => r.innerText.includes('` + node.Addr() + `'))`
	press := func(button string) { read[bool](b, `(`+button+`).click(), true`) }
	b.sees("a button beside each instance", `document.querySelectorAll('[data-post$="/drain"]').length === 2`)
	press(row + `.querySelector('button')`)
	b.sees("the question, with the command", `document.getElementById('confirm').open && document.getElementById('command').innerText === 'pointsman drain api/api-1'`)
	b.accessible("the question before an action")
	b.shoot("action")
	press(`document.getElementById('sure')`)
	b.sees("that it is drained, and the other button", `!document.getElementById('confirm').open && /an operator keeps it in drain/.test(`+row+`.innerText) && `+row+`.querySelector('button')?.innerText === 'Ready'`)
	b.shoot("drained")
	press(row + `.querySelector('button')`)
	press(`document.getElementById('sure')`)
	b.sees("that it takes traffic again", `!document.getElementById('confirm').open && /\bup\b/.test(`+row+`.innerText) && `+row+`.querySelector('button')?.innerText === 'Drain'`)

	b.do("overview", chromedp.Navigate(lb.StatusURL()+"/#/"))
	press(`document.querySelector('.facts button')`)
	press(`document.getElementById('sure')`)
	b.sees("the maintenance", `!document.getElementById('confirm').open && /in maintenance/.test(document.querySelector('.facts').innerText) && document.querySelector('.facts button').innerText === 'End maintenance'`)
	m, err := lb.Maintenance(s.ctx, "status")
	s.must(err)
	if !m.Maintenance {
		t.Errorf("HAProxy says %+v, want maintenance", m)
	}
	b.accessible("the overview with a button")
	press(`document.querySelector('.facts button')`)
	press(`document.getElementById('sure')`)
	b.sees("its end", `!document.getElementById('confirm').open && document.querySelector('.facts button')?.innerText === 'Maintenance'`)

	// A reload is done, or refused in HAProxy's words.
	reload := `[...document.querySelectorAll('.facts button')].find((x) => x.innerText === 'Reload')`
	facts := `document.querySelector('.facts').innerText`
	press(reload)
	b.sees("the question, with the command", `document.getElementById('confirm').open && document.getElementById('command').innerText === 'pointsman reload'`)
	press(`document.getElementById('sure')`)
	b.sees("that HAProxy was reloaded", `!document.getElementById('confirm').open && /requested by API of lb0: done/.test(`+facts+`)`)
	s.must(os.Remove(answer))
	press(reload)
	press(`document.getElementById('sure')`)
	b.sees("why HAProxy has refused", `!document.getElementById('confirm').open && /requested by API of lb0: failed \d+ s ago/.test(`+facts+`) && /Degraded/.test(document.getElementById('status').innerText) && /reload requested by API of lb0 failed, previous configuration still active: [^]*503.http/.test(document.getElementById('reasons').innerText)`)
	b.shoot("reload-failed")
	b.do("a phone in the dark", scheme("dark"), chromedp.EmulateViewport(390, 844))
	b.accessible("a reload that has failed")
	if w := read[int](b, `document.documentElement.scrollWidth`); w > 390 {
		t.Errorf("the overview is %d pixels wide on a phone of 390", w)
	}
	b.shoot("reload-failed-phone")
	b.do("a desk", scheme("light"), chromedp.EmulateViewport(1280, 900))

	// The reason of a refusal is shown, and the question stays.
	b.do("the service", chromedp.Navigate(lb.StatusURL()+"/#/service/api"))
	b.sees("the buttons", `document.querySelectorAll('[data-post]').length === 2`)
	read[bool](b, `(() => { const x = document.querySelector('[data-post]'); x.dataset.post = '/api/v1/server/api/none/drain'; x.click(); document.getElementById('sure').click(); return true; })()`)
	b.sees("why not", `/Not done: .*no such server/.test(document.getElementById('refused').innerText)`)

	press(`document.getElementById('cancel')`)
	s.must(lb.HAProxy.Kill())
	b.do("overview", chromedp.Navigate(lb.StatusURL()+"/#/"))
	b.sees("no reload without HAProxy, and why", reload+`?.disabled && /nothing to reload: HAProxy does not run/.test(`+facts+`)`)
	b.accessible("a button that is disabled")
	b.shoot("reload-refused")

	if got := read[string](b, `JSON.stringify([{ ...sessionStorage }, { ...localStorage }, document.cookie])`); got != `[{},{},""]` {
		t.Errorf("the browser keeps %s", got)
	}
	b.do("load again", chromedp.Reload())
	b.sees("that the token is asked for again", `!document.getElementById('ask').hidden`)
	if n := read[int](b, `document.querySelectorAll('[data-post]').length`); n != 0 {
		t.Errorf("%d buttons without the token", n)
	}

	// The API refuses without the token, and from a page of another site.
	for name, header := range map[string][2]string{"without token": {"Accept", "*/*"}, "another site": {"Origin", "http://other.test"}} {
		req, err := http.NewRequestWithContext(s.ctx, http.MethodPost, lb.StatusURL()+"/api/v1/maintenance/on", http.NoBody)
		s.must(err)
		req.Header.Set(header[0], header[1])
		if name == "another site" {
			req.Header.Set("Authorization", "Bearer secret")
		}
		resp, err := http.DefaultClient.Do(req)
		s.must(err)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
	for _, c := range complaints() {
		if !strings.Contains(c, "401") && !strings.Contains(c, "404") {
			t.Errorf("the browser complains: %s", c)
		}
	}
}

// With the token an operator promotes, pauses and aborts a rollout on the page of any load
// balancer. One that has changed since the page showed it is left as it is.
func TestPage_RolloutActions_ChangeTheRolloutThatWasSeen(t *testing.T) {
	t.Parallel()
	s := newSite(t, 0)
	lb, err := s.lab.NewBalancer("lb0", s.consul, lab.Service{Name: service})
	s.must(err)
	s.lbs = append(s.lbs, lb)
	lb.SetEnviron("POINTSMAN_API_TOKEN=secret")
	s.must(lb.StartSidecar())
	s.must(lb.StartHAProxy(s.ctx))
	s.node("api-1", "1.0")
	s.says(0, "paused: 1.0 100%, 1.1 0%", "rollout", "set", service, "1.0=100", "1.1=0")
	s.node("api-2", "1.1")
	s.says(0, "running: 1.0 80%, 1.1 20%", "rollout", "start", service, "--canary", "1.1", "--steps", "20,60,100", "--interval", "10m")

	b := newBrowser(s.ctx, t)
	complaints := b.console()
	b.do("open the page", chromedp.Navigate(lb.StatusURL()+"/#/deployments"))
	b.sees("that the token is asked for", `!document.getElementById('ask').hidden`)
	b.do("the token", chromedp.SendKeys("#token", "secret"), chromedp.Click("#ask button"))
	card := `document.querySelector('#rollout-api')`
	labels := `[...(` + card + `?.querySelectorAll('button') ?? [])].map((x) => x.innerText).join()`
	press := func(label string) {
		t.Helper()
		read[bool](b, `([...`+card+`.querySelectorAll('button')].find((x) => x.innerText === '`+label+`').click(), true)`)
		b.sees("the question, with the command", `document.getElementById('confirm').open && document.getElementById('command').innerText === 'pointsman rollout `+strings.ToLower(label)+` api'`)
	}
	sure := func(what, expression string) {
		t.Helper()
		read[bool](b, `(document.getElementById('sure').click(), true)`)
		b.sees(what, `!document.getElementById('confirm').open && `+expression)
	}
	b.sees("what may be done with it", labels+` === 'Pause,Promote,Abort,Undo'`)
	refused := `(` + card + `.querySelector('details')?.textContent ?? '')`
	b.sees("what may not, and why", refused+` === 'Not possible now: Resume, EndResume: the rollout is running, want one that is pausedEnd: the rollout is running: promote or abort it first'`)
	s.says(3, "not resume: the rollout is running, want one that is paused", "rollout", "status", service)
	press("Promote")
	b.accessible("the question before a rollout goes on")
	b.shoot("rollout-action")
	sure("the next step", `/60 % for 1\.1/.test(`+card+`.querySelector('li[aria-current=step]')?.innerText ?? '') && /API of lb0/.test(`+card+`.innerText)`)
	press("Pause")
	sure("that it is paused", labels+` === 'Resume,Promote,Abort,Undo'`)

	// Another operator goes on while the question is open.
	press("Promote")
	s.says(0, "running", "rollout", "resume", service)
	read[bool](b, `(document.getElementById('sure').click(), true)`)
	b.sees("why not", `/Not done: .*changed meanwhile by/.test(document.getElementById('refused').innerText)`)
	read[bool](b, `(document.getElementById('cancel').click(), true)`)
	s.says(3, "60%", "rollout", "status", service)

	b.sees("what may be done with it now", labels+` === 'Pause,Promote,Abort,Undo'`)
	press("Abort")
	sure("that the old version has all of the traffic", `/aborted/.test(`+card+`.innerText) && `+labels+` === 'Undo,End'`)
	s.says(5, "1.0 100%, 1.1 0%", "rollout", "status", service)

	asks := func(question string) {
		t.Helper()
		b.sees("the shares of before", `document.getElementById('confirm').innerText.includes('of before the last change again: `+question+`?')`)
	}
	press("Undo")
	asks("1.0 40 %, 1.1 60 %")
	sure("the shares of before the abort", labels+` === 'Promote,Abort,Undo'`)
	press("Promote")
	sure("what may be done after the promotion", labels+` === 'Abort,Undo,End'`)
	press("Undo")
	asks("1.0 40 %, 1.1 60 %")
	sure("the shares of before the promotion", labels+` === 'Promote,Abort,Undo'`)
	s.says(3, "1.0 40%, 1.1 60%", "rollout", "status", service)

	// An undo does not go back into a rollout that has ended.
	for _, args := range [][]string{{"abort", service}, {"end", service}, {"set", service, "1.0=100", "1.1=0"}} {
		s.says(0, "", append([]string{"rollout"}, args...)...)
	}
	b.sees("the next rollout", labels+` === 'Promote,Abort' && `+card+`.querySelector('tbody tr').children[1].innerText === '100 %'`)
	press("Abort")
	sure("that nothing can be undone, and why", `/aborted/.test(`+card+`.innerText) && `+labels+` === 'End' && `+refused+`.includes('Undo: no other shares are recorded since the rollout began')`)
	s.says(5, "not undo: no other shares are recorded since the rollout began", "rollout", "status", service)
	press("End")
	sure("that the rollout is over", `!`+card)
	for _, c := range complaints() {
		if !strings.Contains(c, "401") && !strings.Contains(c, "409") {
			t.Errorf("the browser complains: %s", c)
		}
	}
}
