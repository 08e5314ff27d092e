// Package page looks at the sidecar's page with a headless Chromium, beside a
// real HAProxy and a real Consul.
package page

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/pointsman/pointsman/test/lab"
)

var programs lab.Programs

// Most of the time they wait: for steps, checks and drains.
func TestMain(m *testing.M) { os.Exit(lab.Tests(m, 4, &programs)) }

// callTimeout bounds one call to the browser. The first one starts it.
const callTimeout = 45 * time.Second

// browser is a Chromium without a window, with one page.
type browser struct {
	testing.TB
	ctx context.Context
}

func newBrowser(ctx context.Context, t testing.TB) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], // headless, no first run, no background networking
		chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true),
	)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // it refuses to have one as root
	}
	ctx, end := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(end)
	ctx, closePage := chromedp.NewContext(ctx)
	t.Cleanup(closePage)
	b := &browser{TB: t, ctx: ctx}
	// The browser lives as long as the context of the first call.
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1280, 900)); err != nil {
		t.Fatalf("start Chromium (tools/system.sh chromium installs it): %v", err)
	}
	return b
}

func (b *browser) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, callTimeout)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.Fatalf("%s: %v", what, err)
	}
}

// scheme makes the system light or dark.
func scheme(name string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
		})
		return err
	})
}

// console collects what the browser complains about, until the test ends.
func (b *browser) console() (complaints func() []string) {
	var mu sync.Mutex
	var all []string
	messages := chromedp.Console(b.ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			mu.Lock()
			all = append(all, m.String()+" "+m.URL)
			mu.Unlock()
		}
	}()
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// read returns what a JavaScript expression finds in the page.
func read[T any](b *browser, expression string) T {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, callTimeout)
	defer cancel()
	out, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.Fatalf("%s: %v", expression, err)
	}
	return out
}

// sees waits until an expression is true in the page.
func (b *browser) sees(what, expression string) {
	b.Helper()
	err := lab.Until(b.ctx, 30*time.Second, what, func() error {
		if !read[bool](b, expression) {
			return fmt.Errorf("the page says: %.1500s", read[string](b, "document.body.innerText"))
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

// shoot keeps a picture of the page where PAGE_PICTURES says, for people.
func (b *browser) shoot(name string) {
	b.Helper()
	dir := os.Getenv("PAGE_PICTURES")
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, callTimeout)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(dir+"/"+name+".png", picture, 0o644)
	}
	if err != nil {
		b.Fatalf("picture of %s: %v", name, err)
	}
}
