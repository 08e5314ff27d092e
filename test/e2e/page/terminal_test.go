package page

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/pointsman/pointsman/test/lab"
)

// A person who deploys in a terminal and one who looks at the page see the same
// deployment. `make recording` keeps what both show as pictures.
func TestPage_DeployInATerminal_BothShowItsStepsAndResult(t *testing.T) {
	t.Parallel()
	s := newSite(t, 2)
	old := s.node("api-1", "1.0")
	for _, lb := range s.lbs {
		s.must(lb.Routes(s.ctx, 20*time.Second, service, "api-1"))
		load := lab.Hammer(s.ctx, lb.URL(service), 1)
		t.Cleanup(func() { load.Stop() })
	}
	b := newBrowser(s.ctx, t)
	b.do("the service", chromedp.EmulateViewport(1180, 720), chromedp.Navigate(s.lbs[0].StatusURL()+"/#/service/api"))
	b.sees("the traffic of the old version", chart("Share of the requests")+` === '1.0: 100 %'`)

	pid := s.lab.Path("started.pid")
	script := func(name, text string) string {
		t.Helper()
		path := s.lab.Path(name)
		s.must(os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700))
		return path
	}
	script("start.sh", startCommand(pid))
	script("stop.sh", fmt.Sprintf("kill -TERM %d", old.PID()))
	arguments := "deploy --service api --version 1.1 --start ./start.sh --stop ./stop.sh --min-healthy 15s"
	deploy := script("deploy.sh", fmt.Sprintf("cd %s\nexport CONSUL_HTTP_ADDR=%s\necho '$ pointsman %s'\nexec %[4]s %[3]s --config %[5]s",
		s.lab.Dir(), s.consul.Address(), arguments, programs.Sidecar, s.lbs[0].Settings()))
	terminal, err := s.lab.StartTerminal(s.ctx, "terminal", 120, 16, deploy)
	s.must(err)
	t.Cleanup(func() { _ = terminal.Close(context.WithoutCancel(s.ctx)) }) // the lab ends what is left
	film := newFilm(s, b, terminal)

	// both waits until the terminal and the page show something.
	both := func(what, screen, expression string) {
		t.Helper()
		pattern := regexp.MustCompile(screen)
		s.must(lab.Until(s.ctx, 30*time.Second, what, func() error {
			film.take()
			shown, err := terminal.Screen(s.ctx, false)
			switch {
			case err != nil:
				return err
			case !pattern.MatchString(shown):
				return fmt.Errorf("the terminal shows:\n%s", shown)
			case !read[bool](b, expression):
				return errors.New("the page does not show it")
			}
			return nil
		}))
	}
	both("both versions take traffic", `lb0 +live \S+ 1/1`, `/1\.0: \d+ %, 1\.1: [1-9]\d* %/.test(`+chart("Share of the requests")+`)`)
	b.do("deployments", chromedp.Navigate(s.lbs[0].StatusURL()+"/#/deployments"))
	both("the watch over the new nodes", `watching for 15.0s`, `/watch: the new instances must stay live/.test(document.querySelector('li[aria-current=step]')?.innerText ?? '')`)
	both("the result", `api 1.1 deployed: live on 2 load balancers`, `[...document.querySelectorAll('#view tr')].some((r) => r.innerText.includes('1.0 → 1.1') && /deployed/.test(r.innerText) && /Back to 1.0.*pointsman deploy undo --service api --start/s.test(r.innerText))`)
	b.do("the service", chromedp.Navigate(s.lbs[0].StatusURL()+"/#/service/api"))
	both("that the new version has all of the traffic", `deployed`, chart("Share of the requests")+` === '1.1: 100 %'`)
	film.take()
	s.must(terminal.Exits(s.ctx, 30*time.Second, 0))
	s.stopStarted(pid)
}

// film keeps pictures of page and terminal, one above the other, where PAGE_FILM says:
// each is named by the milliseconds since the first.
type film struct {
	*site
	dir      string
	page     *browser
	terminal *lab.Terminal
	frame    *browser // shows both
	begun    time.Time
	last     []byte
}

func newFilm(s *site, page *browser, terminal *lab.Terminal) *film {
	s.Helper()
	f := &film{site: s, dir: os.Getenv("PAGE_FILM"), page: page, terminal: terminal}
	if f.dir == "" {
		return f
	}
	f.frame = newBrowser(s.ctx, s)
	f.frame.do("the frame", chromedp.EmulateViewport(1180, 1010), chromedp.Navigate("data:text/html,"+
		"<body style='margin:0;background:%2316181d'><img id=p style='display:block;width:1180px;height:720px'><pre id=t style='margin:0;padding:14px 18px;color:%23e4e9f0;font:15px/19px monospace;height:262px;overflow:hidden'></pre>"))
	return f
}

// take takes a picture, unless it is the last one again.
func (f *film) take() {
	f.Helper()
	if f.dir == "" {
		return
	}
	screen, err := f.terminal.Screen(f.ctx, true)
	if err != nil {
		return // it has not started yet
	}
	read[bool](f.frame, fmt.Sprintf("(() => { document.getElementById('p').src = 'data:image/png;base64,%s'; document.getElementById('t').innerHTML = %q; return document.getElementById('p').decode().then(() => { window.isShown = true; }), true; })()",
		base64.StdEncoding.EncodeToString(f.picture(f.page)), coloured(screen)))
	f.frame.sees("the picture", `document.getElementById('p').complete`)
	picture := f.picture(f.frame)
	if bytes.Equal(picture, f.last) {
		return
	}
	if f.begun.IsZero() {
		f.begun = time.Now()
	}
	f.last = picture
	f.must(os.WriteFile(filepath.Join(f.dir, fmt.Sprintf("%06d.png", time.Since(f.begun).Milliseconds())), picture, 0o600))
}

func (f *film) picture(b *browser) []byte {
	f.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, callTimeout)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	f.must(err)
	return picture
}

// coloured makes HTML of what a terminal shows, with the colours of pointsman.
func coloured(screen string) string {
	colours := map[string]string{"31": "#ff9aa3", "32": "#7fdcaa", "33": "#f2c46d", "90": "#9aa6b5"}
	text := html.EscapeString(screen)
	return "<span>" + regexp.MustCompile("\x1b\\[([0-9;]*)m").ReplaceAllStringFunc(text, func(order string) string {
		for o := range strings.SplitSeq(strings.Trim(order, "\x1b[m"), ";") {
			if colour, found := colours[o]; found {
				return "</span><span style='color:" + colour + "'>"
			}
		}
		return "</span><span>"
	}) + "</span>"
}
