//go:build compose

package compose

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// screensPath is where the pictures of pages are kept.
const screensPath = "../screens"

// pageTimeout bounds one call to the browser. The first one starts it.
const pageTimeout = 45 * time.Second

// browser is a Chromium without a window, with one page.
type browser struct {
	*testing.T
	ctx context.Context
	url string // of its page
}

// newBrowser prepares a browser that ends with the test. Its profile is new, in
// a temporary directory that goes with it.
func newBrowser(ctx context.Context, t *testing.T) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], // headless, no first run, no sync, no background networking
		chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-quic", true),
		// No picture is taken half way through a transition.
		chromedp.Flag("force-prefers-reduced-motion", true),
	)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // it refuses to have one as root
	}
	ctx, end := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(end)
	ctx, closePage := chromedp.NewContext(ctx)
	t.Cleanup(closePage)
	// The browser lives as long as the context of the first call.
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1280, 720)); err != nil {
		t.Fatalf("start Chromium (tools/system.sh chromium installs it): %v", err)
	}
	return &browser{T: t, ctx: ctx}
}

// open goes to a page.
func (b *browser) open(url string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, pageTimeout)
	defer cancel()
	b.url = url
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
		b.Fatalf("open %s: %v", url, err)
	}
}

// read returns what a JavaScript expression finds in the page.
func read[T any](b *browser, expression string) (T, error) {
	ctx, cancel := context.WithTimeout(b.ctx, pageTimeout)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression))
}

// shoot keeps a picture of the page as it is.
func (b *browser) shoot(name string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, pageTimeout)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.MkdirAll(screensPath, 0o755)
	}
	path := filepath.Join(screensPath, name+".png")
	if err == nil {
		err = os.WriteFile(path, picture, 0o644)
	}
	if err != nil {
		b.Fatalf("picture of %s: %v", name, err)
	}
	fmt.Printf("test/e2e/screens/%s.png: %d bytes\n", name, len(picture))
}
