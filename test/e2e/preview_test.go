package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// previewSettings gives requests with the header or the cookie the new version.
const previewSettings = "    preview: {enabled: true, header: X-Preview, cookie: preview, value: s3cret}\n"

// ask sends one request with a header, which may be "", and gives the version that answers.
func (c *controlled) ask(url, header, value string) string {
	c.Helper()
	req, err := http.NewRequestWithContext(c.ctx, http.MethodGet, url, http.NoBody)
	c.must(err)
	if header != "" {
		req.Header.Set(header, value)
	}
	resp, err := http.DefaultClient.Do(req)
	c.must(err)
	body, err := io.ReadAll(resp.Body)
	c.must(err)
	c.must(resp.Body.Close())
	if resp.StatusCode != http.StatusOK {
		return resp.Status
	}
	return string(body)
}

// previews waits until requests that ask for the preview are answered by a version, on
// both load balancers.
func (c *controlled) previews(version string) {
	c.Helper()
	for _, lb := range c.lbs {
		c.must(lab.Until(c.ctx, 20*time.Second, lb.Name+" previews "+version, func() error {
			if got := c.ask(lb.URL("shop"), "X-Preview", "s3cret"); got != version {
				return fmt.Errorf("%s answers", got)
			}
			return nil
		}))
	}
}

// The header or the cookie with its value leads to the version that a rollout brings in,
// and nothing else does; without one to the stable version. Servers come and go there
// without a reload or a failed request, and the load balancer is not degraded when there
// are none.
func TestPreview_HeaderOrCookie_LeadsToTheCanaryOnly(t *testing.T) {
	t.Parallel()
	c := newControlled(t, 2, previewSettings)
	ended := c.hammer(2)
	status := func(want int) {
		t.Helper()
		c.must(lab.Until(c.ctx, 20*time.Second, fmt.Sprint("the status is ", want), func() error {
			out, err := c.lb.Operate(c.ctx, "status")
			code := 0
			if exit, is := errors.AsType[*exec.ExitError](err); is {
				code = exit.ExitCode()
			}
			if code != want {
				return fmt.Errorf("%d: %s", code, out)
			}
			return nil
		}))
	}
	operate := func(args ...string) {
		t.Helper()
		if out, err := c.lb.Operate(c.ctx, append([]string{"rollout"}, args...)...); err != nil {
			t.Fatalf("rollout %v: %v\n%s", args, err, out)
		}
	}
	c.previews("1.0")
	status(0)
	operate("set", "shop", "1.0=100", "1.1=0")
	c.must(c.startNode("shop-1.1-a", "1.1"))
	c.previews("1.1")
	for _, lb := range c.lbs {
		for _, one := range []struct{ header, value, want string }{
			{"", "", "1.0"},
			{"X-Preview", "another", "1.0"},
			{"X-Preview", "s3cret, x", "1.0"},
			{"Cookie", "preview=s3cret", "1.1"},
			{"Cookie", "a=b; preview=s3cret; c=d", "1.1"},
			{"Cookie", "preview=another", "1.0"},
			{"x-preview", "s3cret", "1.1"},
		} {
			for range 10 {
				if got := c.ask(lb.URL("shop"), one.header, one.value); got != one.want {
					t.Errorf("%s: %q: %q is answered by %s, want %s", lb.Name, one.header, one.value, got, one.want)
				}
			}
		}
	}
	status(0)
	operate("promote", "shop")
	c.previews("1.1")
	operate("abort", "shop")
	c.previews("1.1")
	c.must(c.stopNode("shop-1.1-a"))
	c.previews("1.0")
	operate("end", "shop")
	status(0)
	if requests, failures := ended(); len(failures) > 0 || requests < 100 {
		t.Errorf("%d requests, failed: %v", requests, failures)
	}
}
