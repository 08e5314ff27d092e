package page

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
)

const service = "api"

// hostile is a version that a tenant may register.
const hostile = `<img src=x onerror="document.title='taken'">`

// A person opens the page, sees that all is in step, and sees a deployment and
// a failing server as they happen. What a tenant registers stays text.
func TestPage_DeploymentAndFailingServer_ShownLive(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := lab.New(lab.Config{Programs: programs, Log: t.Output()})
	must(err)
	t.Cleanup(func() { must(l.Close()) })
	consul, err := l.StartConsul(ctx, 0)
	must(err)
	lb, err := l.NewBalancer("lb0", consul, lab.Service{Name: service}, lab.Service{Name: "mail", BackendOnly: true, Extra: "    check: {enabled: false}"},
		lab.Service{Name: "mail", BackendOnly: true, Extra: "    backend: mail-two\n    check: {enabled: false}"})
	must(err)
	must(lb.Start(ctx))
	node := func(name, version string) *lab.Node {
		t.Helper()
		n, err := l.StartNode(ctx, consul, service, name, version)
		must(err)
		return n
	}
	old := []*lab.Node{node("api-1", "1.0"), node("api-2", "1.0")}
	must(consul.Client.Agent().ServiceRegister(&api.AgentServiceRegistration{
		ID: hostile, Name: "mail", Address: "127.0.0.1", Port: old[0].Port, Meta: map[string]string{"version": hostile},
	}))
	must(lb.Routes(ctx, 20*time.Second, service, lab.NodeIDs(old...)...))

	b := newBrowser(ctx, t)
	complaints := b.console()
	b.do("open the page", chromedp.Navigate(lb.StatusURL()+"/"))
	b.sees("the verdict", `document.getElementById('status').innerText.includes('In step')`)
	b.sees("the service", `document.querySelector('#view table')?.innerText.includes('2 of 2')`)
	b.sees("the title", `document.title === 'In step: lb0'`)
	b.shoot("overview")
	asked := `performance.getEntriesByType('resource').filter((r) => r.name.endsWith('/api/v1/state')).length`
	before := read[int](b, asked)

	// What a tenant has registered is text.
	b.do("look at the tenant's service", chromedp.Navigate(lb.StatusURL()+"/#/service/mail"))
	b.sees("the tenant's instance", `document.getElementById('view').innerText.includes('onerror=')`)
	if n := read[int](b, `document.querySelectorAll('#view img, #view script').length`); n != 0 {
		t.Errorf("got %d elements from a registration, want none", n)
	}

	b.sees("both backends of the service", `[...document.querySelectorAll('#view h2')].map((x) => x.innerText).join() === 'mail backend mail,mail backend mail-two'`)
	b.do("look at one of them", chromedp.Navigate(lb.StatusURL()+"/#/service/mail-two"))
	b.sees("it alone", `[...document.querySelectorAll('#view h2')].map((x) => x.innerText).join() === 'mail backend mail-two'`)

	read[bool](b, `import('/ui/model.js').then((m) => {
		window.labels = m.summary({ instances: [{ server: 'slot-1', phase: 'out', role_lost: true }, { server: 'slot-2', phase: 'out' }] }).versions.map((v) => v.label).join();
	}), true`)
	b.sees("that it is in Consul", `window.labels === "without the backend's tags,not in Consul"`)

	// A deployment, and a server that fails.
	b.do("look at the service", chromedp.Navigate(lb.StatusURL()+"/#/service/api"))
	fresh := node("api-3", "1.1")
	must(lb.Routes(ctx, 20*time.Second, service, "api-1", "api-2", "api-3"))
	b.sees("both versions side by side", `[...document.querySelectorAll('#view table:first-of-type tbody th')].map((x) => x.innerText).join() === '1.1,1.0'`)
	must(old[0].Fail(ctx, "critical"))
	b.sees("the server that fails, with a reason", `[...document.querySelectorAll('#view tr')].some((r) => r.innerText.includes('api-1') && /check in Consul is critical/.test(r.lastChild.innerText))`)
	says := func(code int, want string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(ctx, programs.Sidecar, append(args, "--config", lb.Settings())...)
		out, _ := cmd.CombinedOutput() // the exit code tells
		if cmd.ProcessState.ExitCode() != code || !strings.Contains(string(out), want) {
			t.Errorf("pointsman %v: exit code %d, want %d, and %q in:\n%s", args, cmd.ProcessState.ExitCode(), code, want, out)
		}
	}
	says(0, "takes traffic  no: its check in Consul is critical", "explain", "api-1")
	says(0, "✓ in step", "status", "api", "--watch", "--timeout", "20s")
	b.do("only problems", chromedp.Click("#problems"))
	b.sees("only the server that fails", `document.querySelectorAll('#view table')[1].tBodies[0].rows.length === 1`)
	b.shoot("problems")
	b.do("all again", chromedp.Click("#problems"))
	b.shoot("service")
	if n := read[int](b, asked) - before; n > 1 {
		t.Errorf("the state was asked for %d times, want that the stream brings it", n)
	}
	must(old[1].Leave(20 * time.Second))
	b.sees("that one has left", `!document.getElementById('view').innerText.includes('api-2')`)
	b.do("deployments", chromedp.Navigate(lb.StatusURL()+"/#/deployments"))
	b.sees("the deployment", `document.querySelectorAll('.side').length === 2`)
	b.shoot("deployments")
	b.do("events", chromedp.Navigate(lb.StatusURL()+"/#/events"))
	b.sees("what happened, with reasons", `['server up', 'instance registered', 'health changed', 'instance leaving', 'server draining'].every((e) => [...document.querySelectorAll('#view td')].some((c) => c.innerText === e))`)
	must(old[0].Fail(ctx, "ok"))
	b.sees("the newest event first, live", `/api-1/.test(document.querySelector('#view tbody').rows[0].innerText)`)
	b.shoot("events")
	b.do("deployments", chromedp.Navigate(lb.StatusURL()+"/#/deployments"))

	// In the dark, and on a phone.
	b.do("dark", scheme("dark"))
	b.shoot("deployments-dark")
	b.do("phone", chromedp.EmulateViewport(390, 844), chromedp.Navigate(lb.StatusURL()+"/#/service/api"))
	b.sees("the instance", `document.getElementById('view').innerText.includes('api-3')`)
	if w := read[int](b, `document.documentElement.scrollWidth`); w > 390 {
		t.Errorf("the page is %d pixels wide on a phone of 390", w)
	}
	b.shoot("phone-dark")
	b.do("light", scheme("light"))
	b.do("overview", chromedp.Navigate(lb.StatusURL()+"/#/"))
	b.sees("the facts", `document.querySelector('.facts') !== null`)
	b.shoot("phone-light")

	// A sidecar that has gone is not shown as if it were there.
	must(lb.Sidecar.Stop(10 * time.Second))
	says(7, "connection refused", "status")
	b.sees("that the sidecar is away", `!document.getElementById('trouble').hidden && document.body.classList.contains('stale')`)
	for _, c := range complaints() {
		if !strings.HasPrefix(c, "error: Failed to load resource: net::ERR_CONNECTION_") {
			t.Errorf("the browser complains: %s", c)
		}
	}
	must(fresh.Leave(20 * time.Second))
}
