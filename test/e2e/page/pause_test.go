package page

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/pointsman/pointsman/test/lab"
)

// canPause reports whether this HAProxy makes requests wait: 3.2 and newer.
func canPause(t *testing.T) bool {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), programs.HAProxy, "-v").Output()
	var major, minor int
	if err == nil {
		_, err = fmt.Sscanf(string(bytes.Fields(out)[2]), "%d.%d", &major, &minor)
	}
	if err != nil {
		t.Fatal(err)
	}
	return major > 3 || major == 3 && minor >= 2
}

// With the token an operator pauses a service on the page, and lets the requests go on. A
// service without pause.max has no button, and the API says why.
func TestPage_Pause_RequestsWaitUntilResume(t *testing.T) {
	t.Parallel()
	s := newSite(t, 0)
	paused, able := lab.Service{Name: service}, canPause(t)
	if able {
		paused.Extra = "    pause: {max: 60s}\n"
	}
	lb, err := s.lab.NewBalancer("lb0", s.consul, paused, lab.Service{Name: "other"})
	s.must(err)
	s.lbs = append(s.lbs, lb)
	lb.SetEnviron("POINTSMAN_API_TOKEN=secret")
	s.must(lb.StartSidecar())
	s.must(lb.StartHAProxy(s.ctx))
	s.node("api-1", "1.0")
	b := newBrowser(s.ctx, t)
	complaints := b.console()
	b.do("open the page", chromedp.Navigate(lb.StatusURL()+"/#/service/"+service))
	b.sees("that the token is asked for", `!document.getElementById('ask').hidden`)
	b.do("the token", chromedp.SendKeys("#token", "secret"), chromedp.Click("#ask button"))
	b.sees("that it is up", `/1 of 1 instance take traffic/.test(document.getElementById('view').innerText)`)

	button := func(name string) string {
		return fmt.Sprintf(`[...document.querySelectorAll('#view button')].find((x) => x.innerText === %q)`, name)
	}
	action := s.pauseAction(lb)
	if !able {
		if action != "no service has pause.max, so none can be paused" || read[bool](b, `Boolean(`+button("Pause")+`)`) {
			t.Errorf("an HAProxy without pauses: refused with %q, button %v", action, read[bool](b, `Boolean(`+button("Pause")+`)`))
		}
		return
	}
	if action != "" {
		t.Errorf("pause is refused: %s", action)
	}
	press := func(button string) { read[bool](b, `(`+button+`).click(), true`) }
	b.sees("the button", `Boolean(`+button("Pause")+`)`)
	b.accessible("the button")
	press(button("Pause"))
	b.sees("the question, with the command", `document.getElementById('confirm').open && document.getElementById('command').innerText === 'pointsman pause api --hold 30s'`)
	press(`document.getElementById('sure')`)
	view := `document.getElementById('view').innerText`
	b.sees("that new requests wait, and until when", `!document.getElementById('confirm').open && /New requests wait in HAProxy, until \d\d:\d\d:\d\d \(\d+ s left\). Paused by API of lb0/.test(`+view+`) && !`+button("Pause"))
	b.accessible("a paused service")
	b.shoot("paused")
	b.do("a phone", chromedp.EmulateViewport(390, 844))
	if w := read[int](b, `document.documentElement.scrollWidth`); w > 390 {
		t.Errorf("the page is %d pixels wide on a phone of 390", w)
	}
	b.shoot("paused-phone")
	b.do("a desk", chromedp.EmulateViewport(1280, 900))

	answered := make(chan int, 1)
	go func() {
		req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, lb.URL(service), http.NoBody)
		if err != nil {
			return
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			answered <- resp.StatusCode
		}
	}()
	select {
	case code := <-answered:
		t.Errorf("a request got %d during the pause", code)
	case <-time.After(time.Second):
	}
	press(button("Resume"))
	b.sees("the command", `document.getElementById('command').innerText === 'pointsman resume api'`)
	press(`document.getElementById('sure')`)
	b.sees("that it is over", `!document.getElementById('confirm').open && !/New requests wait/.test(`+view+`) && Boolean(`+button("Pause")+`)`)
	select {
	case code := <-answered:
		if code != http.StatusOK {
			t.Errorf("the request that waited got %d", code)
		}
	case <-time.After(10 * time.Second):
		t.Error("the request waits after the pause")
	}
	b.do("another service", chromedp.Navigate(lb.StatusURL()+"/#/service/other"))
	b.sees("no button where a service cannot be paused", `/backend other/.test(`+view+`) && !`+button("Pause"))
	for _, c := range complaints() {
		if !strings.Contains(c, "401") {
			t.Errorf("the browser complains: %s", c)
		}
	}
}

// pauseAction returns why the API refuses pauses now; "" if it does not.
func (s *site) pauseAction(lb *lab.Balancer) string {
	s.Helper()
	req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, lb.StatusURL()+"/api/v1/state", http.NoBody)
	s.must(err)
	req.Header.Set("Authorization", "Bearer secret")
	resp, err := http.DefaultClient.Do(req)
	s.must(err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	s.must(err)
	var state struct {
		Actions []struct{ Action, Refused string }
	}
	s.must(json.Unmarshal(body, &state))
	for _, a := range state.Actions {
		if a.Action == "pause" {
			return a.Refused
		}
	}
	s.Errorf("no action pause in %+v", state.Actions)
	return ""
}
