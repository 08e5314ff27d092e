package load_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/services/client/internal/load"
	"github.com/pointsman/pointsman/services/internal/memnet"
)

// place is one target in memory, and what came of it.
type place struct {
	url  *url.URL
	node *api

	dials, open atomic.Int64
}

// places serves targets by their hosts' names, all in one bubble.
func places(t *testing.T, c *load.Config, hosts ...string) map[string]*place {
	t.Helper()
	all := map[string]*place{}
	dials := map[string]func(context.Context, string, string) (net.Conn, error){}
	for _, host := range hosts {
		p := &place{url: &url.URL{Scheme: "http", Host: host, Path: "/"}, node: newAPI()}
		p.node.instance = host
		listener := memnet.Listen()
		server := httptest.NewUnstartedServer(p.node)
		_ = server.Listener.Close()
		server.Listener = listener
		server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
			switch s {
			case http.StateNew:
				p.dials.Add(1)
				p.open.Add(1)
			case http.StateClosed, http.StateHijacked:
				p.open.Add(-1)
			case http.StateActive, http.StateIdle:
			}
		}
		server.Start()
		t.Cleanup(server.Close)
		all[host], dials[host+":80"] = p, listener.Dial
	}
	c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return dials[addr](ctx, network, addr)
	}
	return all
}

// during runs the load and, meanwhile, a story.
func during(t *testing.T, c load.Config, story func(l *load.Load)) load.Report {
	t.Helper()
	l, err := load.New(c)
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan struct{})
	go func() { defer close(told); story(l) }()
	report, err := l.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	<-told
	return report
}

func set(t *testing.T, l *load.Load, to ...*place) {
	t.Helper()
	var urls []*url.URL
	for _, p := range to {
		urls = append(urls, p.url)
	}
	if err := l.SetTargets(urls); err != nil {
		t.Error(err)
	}
}

func TestATargetThatCameGetsItsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := config(t, "http://lb0/")
		at := places(t, &c, "lb0", "lb1")
		got := during(t, c, func(l *load.Load) {
			time.Sleep(time.Second - time.Millisecond)
			set(t, l, at["lb0"], at["lb1"])
		})
		// 100 requests alone, and half of the other 400.
		if got.Failed != 0 || got.Instances["lb0"] != 300 || got.Instances["lb1"] != 200 {
			t.Errorf("got %d failed, %v, want 300 by lb0 and 200 by lb1", got.Failed, got.Instances)
		}
		if n := at["lb0"].dials.Load(); n != 1 {
			t.Errorf("connections to the target that stayed: got %d, want the one that it had", n)
		}
	})
}

func TestATargetThatLeftGetsNothingMoreAndItsIdleConnectionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := config(t, "http://lb0/")
		c.IdleTimeout = time.Hour
		at := places(t, &c, "lb0", "lb1")
		c.Targets = []*url.URL{at["lb0"].url, at["lb1"].url}
		var before, after int64
		got := during(t, c, func(l *load.Load) {
			time.Sleep(time.Second - time.Millisecond)
			before = at["lb1"].open.Load()
			set(t, l, at["lb0"])
			time.Sleep(time.Millisecond / 2)
			synctest.Wait()
			after = at["lb1"].open.Load()
		})
		if got.Failed != 0 || got.Instances["lb0"] != 450 || got.Instances["lb1"] != 50 {
			t.Errorf("got %d failed, %v, want 450 by lb0 and 50 by lb1", got.Failed, got.Instances)
		}
		if before != 1 || after != 0 {
			t.Errorf("connections to the target that left: got %d before and %d after, want 1 and none", before, after)
		}
	})
}

func TestARequestUnderWayFinishesOnTheTargetThatLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := config(t, "http://lb0/")
		c.Rate, c.Duration, c.IdleTimeout = 1, 10*time.Second, time.Hour
		at := places(t, &c, "lb0", "lb1")
		at["lb1"].node.before = func(http.ResponseWriter, *http.Request) bool {
			time.Sleep(3 * time.Second)
			return false
		}
		c.Targets = []*url.URL{at["lb0"].url, at["lb1"].url}
		var open int64
		got := during(t, c, func(l *load.Load) {
			time.Sleep(1500 * time.Millisecond) // the second request is on lb1
			set(t, l, at["lb0"])
			time.Sleep(4 * time.Second)
			open = at["lb1"].open.Load()
		})
		if got.Failed != 0 || got.Instances["lb0"] != 9 || got.Instances["lb1"] != 1 {
			t.Errorf("got %d failed, %v, want 9 by lb0 and the one that was under way by lb1", got.Failed, got.Instances)
		}
		if open != 0 {
			t.Errorf("connections to the target that left, once the request had ended: got %d, want none", open)
		}
	})
}

func TestATargetThatIsBackIsUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := config(t, "http://lb0/")
		at := places(t, &c, "lb0", "lb1")
		c.Targets = []*url.URL{at["lb0"].url, at["lb1"].url}
		got := during(t, c, func(l *load.Load) {
			time.Sleep(time.Second - time.Millisecond)
			set(t, l, at["lb0"])
			time.Sleep(time.Second)
			set(t, l, at["lb0"], at["lb1"])
		})
		if got.Failed != 0 || got.Instances["lb1"] != 200 {
			t.Errorf("got %d failed, %v, want 200 by lb1: half of all but one second's", got.Failed, got.Instances)
		}
		if n := at["lb1"].dials.Load(); n != 2 {
			t.Errorf("connections to it: got %d, want one for each time", n)
		}
	})
}

func TestTargetsThatAreWrongAreRefusedAndChangeNothing(t *testing.T) {
	l, err := load.New(config(t, "http://lb0/"))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]*url.URL{nil, {{Scheme: "ftp", Host: "lb0"}}, {{Scheme: "http"}}} {
		err := l.SetTargets(bad)
		if field, ok := errors.AsType[load.FieldError](err); !ok || field.Field != "Targets" {
			t.Errorf("SetTargets(%v): got %v, want an error about Targets", bad, err)
		}
	}
}
