package page

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	capi "github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/certtest"
	"github.com/pointsman/pointsman/test/lab"
)

// The page and `pointsman status` show the routes with the state of HAProxy's map, and
// the certificates with their end.
func TestPage_RoutesAndCertificates_ShownWithMapStateAndExpiry(t *testing.T) {
	t.Parallel()
	s := newSite(t, 0)
	port, err := s.lab.Port()
	s.must(err)
	certs, dir := certtest.New(t), t.TempDir()
	certs.Sign("shop.test")
	pem := append(certs.Read("shop.test.pem"), certs.Read("shop.test-key.pem")...)
	s.must(os.WriteFile(filepath.Join(dir, "shop.test.pem"), pem, 0o600))
	s.must(os.WriteFile(filepath.Join(dir, "broken.pem"), []byte("broken"), 0o600))
	lb, err := s.lab.NewBalancer("lb0", s.consul, lab.Service{Name: service, BackendOnly: true},
		lab.Service{Name: "empty", BackendOnly: true},
		lab.Service{Name: "shop", BackendOnly: true, Extra: fmt.Sprintf("    bind: %q\n    certificates: {directory: %q}\n", filepath.Join(t.TempDir(), "tls")+" ssl", dir)})
	s.must(err)
	s.lbs = append(s.lbs, lb)
	settings := func(route string) {
		s.must(lb.SetExtra(fmt.Sprintf(`profiles: [{name: default}]
frontends:
  - name: web
    bind: "127.0.0.1:%d"
    discover: {tag_prefix: "pointsman-route=", allow: [{host: "*.test", services: "shop-*"}]}
    routes:
      - {host: api.test, path: /v1, service: api, strip_prefix: true}
      - {host: api.test, path: /v1, service: shop, methods: [POST], headers: "X-Canary: 1"}
      - {host: "*.test", service: empty}
%s`, port, route)))
	}
	settings("")
	s.must(lb.Start(s.ctx))
	s.node("api-1", "1.0")
	s.must(lb.Routes(s.ctx, 20*time.Second, service, "api-1"))

	b := newBrowser(s.ctx, t)
	complaints := b.console()
	b.do("routes", chromedp.Navigate(lb.StatusURL()+"/#/routes"))
	row := func(has, pattern string) string {
		return fmt.Sprintf(`[...document.querySelectorAll('#view tbody tr')].some((r) => r.innerText.includes(%q) && /%s/.test(r.innerText))`, has, pattern)
	}
	b.sees("that HAProxy's map has them", `/Frontend web 3 routes ✓ in HAProxy.s map/.test(document.querySelector('#view h2')?.innerText.replace(/\s+/g, ' '))`)
	b.sees("a route with its service", row("api.test/v1", `api\s+1 of 1`))
	b.sees("its conditions", row("api.test/v1", `shop[^]*method POST, header`))
	b.sees("a service without a server", row("*.test/", `empty[^]*0 of 0`))
	s.must(s.consul.Client.Agent().ServiceRegister(&capi.AgentServiceRegistration{
		ID: "shop-2-1", Name: "shop-2", Address: "127.0.0.1", Port: 4000, Tags: []string{"pointsman-route=api.test/v1"},
	}))
	b.sees("a claim that is refused", `/Claims that are refused\s+shop-2 claims api.test\/v1 of frontend web: .*settings/.test(document.querySelector('#view .note')?.innerText)`)
	s.must(s.consul.Client.Agent().ServiceRegister(&capi.AgentServiceRegistration{
		ID: "shop-3-1", Name: "shop-3", Address: "127.0.0.1", Port: 4000, Tags: []string{"pointsman-route=three.test/"},
	}))
	b.sees("a route that waits for its first server", row("three.test/", `shop-3[^]*not led there yet: no server is up`))
	s.must(lab.Until(s.ctx, 10*time.Second, "the same in a terminal", func() error {
		out, err := exec.CommandContext(s.ctx, programs.Sidecar, "explain", "route", "three.test/", "--config", lb.Settings()).CombinedOutput()
		if err == nil && !strings.Contains(string(out), "not applied yet") {
			err = fmt.Errorf("explain route says %s", out)
		}
		return err
	}))
	s.must(s.consul.Client.Agent().ServiceDeregister("shop-3-1"))
	b.sees("what happens else", `document.querySelector('#view').innerText.includes('Other requests get 404')`)
	b.shoot("routes")
	s.says(5, "api.test/v1, 1 segments taken off → api (settings)", "status")

	settings("      - {host: new.test, service: api}\n    default: api\n")
	s.must(lb.Reread())
	b.sees("a new route, live", row("new.test/", `1 of 1`))
	b.sees("the default", row("otherwise", `1 of 1`))
	b.do("only problems", chromedp.Click("#problems"))
	b.sees("only those without a server", `[...document.querySelectorAll('#view tbody th')].map((x) => x.innerText.split('\n')[0]).join() === 'api.test/v1,*.test/'`)

	b.do("certificates", chromedp.Navigate(lb.StatusURL()+"/#/certificates"))
	b.sees("a certificate with its host and end", row("shop.test", `in [0-9]+ [a-z]+`))
	b.sees("a file that cannot be used", `/broken.pem of shop: .*no certificate/.test(document.querySelector('#view .note')?.innerText)`)
	b.shoot("certificates")
	s.says(5, "shop.test of shop (shop.test, 127.0.0.1) expires 20", "status")
	s.says(5, "broken.pem of shop cannot be used", "status")

	for _, look := range []string{"light", "dark"} {
		b.do(look, scheme(look))
		for width, height := range map[int64]int64{390: 844, 1280: 900} {
			b.do("resize", chromedp.EmulateViewport(width, height))
			for view, has := range map[string]string{
				"": ".facts", "service/api": "table", "service/shop": "#view h2", "routes": "table", "certificates": "table", "events": "table", "deployments": "#view h2",
			} {
				what := fmt.Sprintf("%s-%d-%s", strings.NewReplacer("/", "-").Replace(cmp.Or(view, "overview")), width, look)
				b.do(what, chromedp.Navigate(lb.StatusURL()+"/#/"+view))
				b.sees(what, `document.querySelector('`+has+`') !== null && (document.querySelector('nav [aria-current]')?.hash ?? '#/`+view+`') === '#/`+view+`'`)
				if w := read[int64](b, `document.documentElement.scrollWidth`); w > width {
					t.Errorf("%s is %d pixels wide", what, w)
				}
				b.accessible(what)
				b.shoot(what)
			}
		}
	}
	for _, c := range complaints() {
		t.Errorf("the browser complains: %s", c)
	}
}
