package page

import (
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/pointsman/pointsman/test/lab"
)

// chart is what a chart says of the newest point, such as "1.1: 12, 1.0: 30".
func chart(name string) string {
	return fmt.Sprintf(`([...document.querySelectorAll('#charts figure')].find((f) => f.querySelector('b').innerText === %q)?.querySelector('figcaption .number').innerText ?? '')`, name)
}

// A person sees the traffic of a deployment move from the old version to the new one, and
// what fails, while it happens.
func TestPage_Charts_TrafficOfBothVersionsAndErrors(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	lb := s.lbs[0]
	old := s.node("api-1", "1.0")
	s.must(lb.Routes(s.ctx, 20*time.Second, service, "api-1"))
	load := lab.Hammer(s.ctx, lb.URL(service), 2)
	defer load.Stop()

	b := newBrowser(s.ctx, t)
	complaints := b.console()
	b.do("the service", chromedp.Navigate(lb.StatusURL()+"/#/service/api"))
	b.sees("the requests of the only version", `/^1\.0: [1-9]/.test(`+chart("Requests a second")+`) && `+chart("Share of the requests")+` === '1.0: 100 %'`)
	b.sees("a chart with a line", `document.querySelectorAll('#charts canvas').length === 5 && document.querySelector('#charts canvas').width > 100`)
	for _, name := range []string{"Mean response time", "Sessions"} {
		b.sees(name, `/^1\.0: [0-9]/.test(`+chart(name)+`)`)
	}

	fresh := s.node("api-2", "1.1")
	s.must(lb.Routes(s.ctx, 20*time.Second, service, "api-1", "api-2"))
	b.sees("the share of both versions", `/1\.0: \d+ %, 1\.1: [1-9]\d* %/.test(`+chart("Share of the requests")+`)`)
	s.must(old.Fail(s.ctx, "5xx"))
	b.sees("the errors of the old one", `/1\.0: (0\.)?[1-9]/.test(`+chart("Errors a second")+`)`)
	b.sees("that these answers are the service's", `(() => { const [, all, its] = /5xx: ([\d,]+), of these ([\d,]+) by servers that are there now\. By HAProxy: no server up, queue or connection 0, answer broken or late 0\./.exec(document.getElementById('answers')?.innerText) ?? []; return Boolean(all) && all !== '0' && all === its; })()`)
	b.shoot("charts")
	b.accessible("the charts")
	s.must(old.Leave(20 * time.Second))
	b.sees("that the new one has all of the traffic", chart("Share of the requests")+` === '1.1: 100 %'`)
	b.do("dark", scheme("dark"))
	b.shoot("charts-dark")
	b.accessible("the charts in the dark")
	b.do("phone", chromedp.EmulateViewport(390, 844))
	// On the desktop, three beside each other, they may be as narrow.
	b.sees("charts that are no wider than the phone leaves them", `[...document.querySelectorAll('#charts .uplot')].every((x) => x.getBoundingClientRect().right <= 390) && document.documentElement.scrollWidth <= 390`)
	b.shoot("charts-phone")

	// Elsewhere there are none, and none are asked for.
	b.do("overview", chromedp.Navigate(lb.StatusURL()+"/#/"))
	b.sees("no charts", `document.getElementById('charts').hidden`)
	for _, c := range complaints() {
		t.Errorf("the browser complains: %s", c)
	}
	s.must(fresh.Leave(20 * time.Second))
}

// note runs steps on a new history of the page, h, whose instance is i(name, version,
// requests, errors, time in ms), and gives what an expression finds then.
func note[T any](b *browser, steps, expression string) T {
	b.Helper()
	read[bool](b, `import('/ui/history.js').then((m) => { window.history_ = m; }), true`)
	b.sees("the module", `Boolean(window.history_)`)
	return read[T](b, `(() => {
		const h = new history_.History();
		const i = (instance, version, requests, errors, response_time_ms) => ({ instance, node: 'n', backend: 'api', server: instance, version, requests, errors, response_time_ms });
		const backends = [];
		`+steps+`
		return `+expression+`;
	})()`)
}

func TestPage_History_RatesResetsAndBounds(t *testing.T) {
	t.Parallel()
	server := newLarge(t, 1, 1)
	b := newBrowser(t.Context(), t)
	b.do("open the page", chromedp.Navigate(server.URL+"/#/"))
	for _, c := range []struct{ name, steps, expression, want string }{
		{
			"rates of the time that has passed", `h.note(backends, [i('a', '1.0', 100, 4, 5)], 1000); h.note(backends, [i('a', '1.0', 160, 7, 5)], 4000);`,
			`h.points.at(-1).of.get('1.0')`, `{"requests":20,"errors":1,"time":5,"share":100,"sessions":0}`,
		},
		{
			"the first look tells no rate", `h.note(backends, [i('a', '1.0', 100, 4, 5)], 1000);`,
			`h.points.at(-1).of.get('1.0')`, `{"requests":null,"errors":null,"time":null,"share":null,"sessions":0}`,
		},
		{
			"counters begin again with a worker", `h.note(backends, [i('a', '1.0', 100, 4, 5)], 1000); h.note(backends, [i('a', '1.0', 10, 0, 5)], 2000);`,
			`[h.value('1.0', 'requests'), h.value('1.0', 'errors')]`, `[10,0]`,
		},
		{
			"what a new instance had before is not of this time", `h.note(backends, [i('a', '1.0', 100, 0, 5)], 1000); h.note(backends, [i('a', '1.0', 110, 0, 5), i('b', '1.1', 500, 0, 5)], 2000);`,
			`[h.value('1.0', 'share'), h.value('1.1', 'requests')]`, `[100,0]`,
		},
		{
			"the mean is weighted by requests", `h.note(backends, [i('a', '1.0', 0, 0, 5), i('b', '1.0', 0, 0, 5)], 1000); h.note(backends, [i('a', '1.0', 30, 0, 10), i('b', '1.0', 10, 0, 50)], 2000);`,
			`h.value('1.0', 'time')`, `20`,
		},
		{
			"shares", `h.note(backends, [i('a', '1.0', 0, 0, 5), i('b', '1.1', 0, 0, 5)], 1000); h.note(backends, [i('a', '1.0', 30, 0, 1), i('b', '1.1', 10, 0, 1)], 2000);`,
			`[h.value('1.0', 'share'), h.value('1.1', 'share')]`, `[75,25]`,
		},
		{
			"the line breaks off where there was no look", `h.note(backends, [i('a', '1.0', 0, 0, 5)], 1000); h.note(backends, [i('a', '1.0', 9000, 0, 5)], 91000); h.note(backends, [i('a', '1.0', 9010, 0, 5)], 92000);`,
			`h.line('1.0', 'requests')`, `[null,null,null,10]`,
		},
		{
			"sessions of the state", `backends.push({ instances: [{ id: 'a', version: '1.0', sessions: 7, phase: 'up', weight: 1 }] }, { instances: [{ id: 'a', version: '1.0', sessions: 2, phase: 'up', weight: 1 }] }); h.note(backends, [i('a', '1.0', 0, 0, 5)], 1000);`,
			`h.value('1.0', 'sessions')`, `9`,
		},
		{
			"few points and versions are kept", `for (let k = 0; k < 1000; k++) h.note(backends, [i('a', 'v' + k, k, 0, 5)], 1000 * k + 1);`,
			`[h.points.length, h.versions.length <= 8]`, `[300,true]`,
		},
		{
			"a version keeps its colour when another one leaves", `const v = (k) => [k < 400 && i('a', '1.0', k, 0, 5), k > 100 && i('b', '1.1', k, 0, 5), k > 800 && i('c', '1.2', k, 0, 5)].filter(Boolean); for (let k = 0; k < 1000; k++) h.note(backends, v(k), 1000 * k + 1);`,
			`[h.versions, h.versions.map((v) => h.colours.get(v)), h.colours.size]`, `[["1.1","1.2"],[1,0],2]`,
		},
		{
			"more versions than colours are one line", `const all = (n) => Array.from({ length: 12 }, (_, k) => i('a' + k, 'v' + k, n, 0, 5)); h.note(backends, all(0), 1000); h.note(backends, all(10), 2000);`,
			`[h.versions.length, h.value('others', 'requests'), h.value('v0', 'requests'), h.colours.get('others')]`, `[8,50,10,7]`,
		},
	} {
		if got := note[string](b, c.steps, "JSON.stringify("+c.expression+")"); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

// BenchmarkPage_History measures what the counters of 10,000 instances cost the browser at
// each look.
func BenchmarkPage_History_TenThousandInstances(b *testing.B) {
	server := newLarge(b, 1, 1)
	page := newBrowser(b.Context(), b)
	page.do("open the page", chromedp.Navigate(server.URL+"/#/"))
	took := note[float64](page, fmt.Sprintf(`
		const text = JSON.stringify(Array.from({ length: 10000 }, (_, k) => i('api-' + k, '1.' + k %% 2, k, 0, 5)));
		backends.push({ instances: Array.from({ length: 10000 }, (_, k) => ({ id: 'api-' + k, version: '1.' + k %% 2, sessions: 1, phase: 'up', weight: 1 })) });
		const begun = performance.now();
		for (let k = 0; k < %d; k++) h.note(backends, JSON.parse(text), 1000 * k + 1);
		const took = performance.now() - begun;`, b.N), `took`)
	b.ReportMetric(took/float64(b.N), "look-ms")
}
