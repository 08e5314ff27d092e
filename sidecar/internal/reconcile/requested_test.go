package reconcile_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

func (b *bench) requestReload(by string) reconcile.ReloadRequest {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Second)
	defer cancel()
	q, err := b.agent.RequestReload(ctx, by)
	if err != nil {
		b.t.Fatal(err)
	}
	return q
}

// wantRequests compares the requests in the state: each as "by status error".
func (b *bench) wantRequests(want ...string) {
	b.t.Helper()
	var got []string
	for i, q := range b.agent.State().ReloadRequests {
		got = append(got, strings.TrimSpace(q.By+" "+string(q.Status)+" "+q.Error))
		if q.Number != i+1 || q.At.IsZero() || q.HasEnded() == q.Ended.IsZero() {
			b.t.Errorf("got %+v", q)
		}
	}
	if !slices.Equal(got, want) {
		b.t.Errorf("the state has the requests %q, want %q", got, want)
	}
}

func (b *bench) finds(status reconcile.Status, text string) bool {
	return slices.ContainsFunc(b.agent.State().Verdict().Reasons, func(f reconcile.Finding) bool { return f.Status == status && f.Text == text })
}

func TestRequestReload_NothingElseDue_LoadsTheFileAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		b.passes(time.Minute)
		began := time.Now()
		if q := b.requestReload("ann@lb0"); q.Number != 1 || q.By != "ann@lb0" || q.Status != reconcile.RequestDue {
			t.Errorf("got %+v", q)
		}
		b.passes(time.Second)
		b.wantReloads(began, 0) // it waits for no further changes
		b.wantRequests("ann@lb0 done")
		b.wantTold("reload", "reload requested: ok")
		if is := b.agent.State().Reloads; is.Succeeded != 1 || is.LastReason != "requested" || is.Pending != "" {
			t.Errorf("the state has %+v", is)
		}
		b.passes(10 * time.Minute)
		if n := len(b.since(began)); n != 1 {
			t.Errorf("%d reloads of one request", n)
		}

		// The pace is that of every reload, and a request that is repeated is not useless.
		b.requestReload("ann@lb0")
		b.passes(time.Second)
		b.requestReload("bob@lb0")
		b.passes(time.Second)
		if first, second := b.requestReload("eve@lb0"), b.agent.State().Requested(); first.By != "bob@lb0" || first.Number != second.Number {
			t.Errorf("got %+v, want the request that is due, %+v", first, second)
		}
		b.wantRequests("ann@lb0 done", "ann@lb0 done", "bob@lb0 due")
		b.passes(b.settings.ReloadInterval)
		b.wantRequests("ann@lb0 done", "ann@lb0 done", "bob@lb0 done")
		all := b.since(began)
		if between := all[2] - all[1]; between < b.settings.ReloadInterval {
			t.Errorf("%s between two reloads, want at least %s", between, b.settings.ReloadInterval)
		}
		if n := b.log.count("reload was needed again"); n != 0 {
			t.Errorf("a reload that was asked for is called useless:\n%s", b.log)
		}
	})
}

func TestRequestReload_OldWorkers_WaitsWithTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		b.passes(time.Minute)
		b.haproxy.with(func() { b.haproxy.old = b.settings.MaxOldWorkers })
		b.requestReload("ann@lb0")
		b.passes(time.Minute)
		b.wantRequests("ann@lb0 due")
		if is := b.agent.State().Reloads; is.Pending != "requested" || is.WaitsFor != "old workers" {
			t.Errorf("the state has %+v", is)
		}
		if !b.finds(reconcile.Behind, "reload due: requested by ann@lb0, waits for old workers") {
			t.Errorf("the verdict has %+v", b.agent.State().Verdict().Reasons)
		}
		b.haproxy.with(func() { b.haproxy.old-- })
		b.passes(2 * time.Second)
		b.wantRequests("ann@lb0 done")
	})
}

func TestRequestReload_HAProxyRefuses_FailsWithItsWordsAndIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		b.passes(time.Minute)
		b.haproxy.with(func() { b.haproxy.failLoad = func([]byte) error { return errors.New("cannot bind *:80") } })
		b.requestReload("ann@lb0")
		b.passes(time.Hour)
		b.wantRequests("ann@lb0 failed cannot bind *:80")
		if is := b.agent.State().Reloads; is.Failed != 1 || is.Pending+is.Error != "" || len(b.since(b.began)) != 1 {
			t.Errorf("the state has %+v after %d reloads", is, len(b.since(b.began)))
		}
		if !b.finds(reconcile.Degraded, "reload requested by ann@lb0 failed, previous configuration still active: cannot bind *:80") {
			t.Errorf("the verdict has %+v", b.agent.State().Verdict().Reasons)
		}
		if n := b.log.count("again_in") + b.log.count("no longer needed"); n != 0 {
			t.Errorf("the log says that it is tried again:\n%s", b.log)
		}
		b.haproxy.with(func() { b.haproxy.failLoad = nil })
		b.requestReload("ann@lb0")
		b.passes(time.Second)
		b.wantRequests("ann@lb0 failed cannot bind *:80", "ann@lb0 done")
		if v := b.agent.State().Verdict(); v.Status != reconcile.InStep {
			t.Errorf("the verdict has %+v", v)
		}
	})
}

// What failed before is not waited for: the operator may have put it right.
func TestRequestReload_AfterFailures_TriesAtOnceWhatIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, false, instance("api-1", 1))
		b.passes(time.Minute)
		b.haproxy.with(func() { b.haproxy.failLoad = func([]byte) error { return errors.New("cannot bind *:80") } })
		b.catalog.says("api", many(6)...)
		b.passes(20 * time.Minute)
		b.eventually("a long wait", 10*time.Minute, func() bool { return time.Until(b.agent.State().Reloads.NotBefore) > 2*time.Minute })
		b.haproxy.with(func() { b.haproxy.failLoad = nil })
		b.requestReload("ann@lb0")
		b.passes(b.settings.ReloadInterval)
		b.wantRequests("ann@lb0 done")
		if is := b.agent.State().Reloads; is.LastReason != "slots_exhausted" || is.Succeeded != 1 {
			t.Errorf("the state has %+v, want that the reload that was due serves the request", is)
		}
	})
}

// HAProxy may have read the file before: another reload must come.
func TestRequestReload_WhileOneIsUnderWay_GetsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		b.passes(time.Minute)
		hold := make(chan struct{})
		b.haproxy.with(func() { b.haproxy.holdLoad = hold })
		b.requestReload("ann@lb0")
		b.passes(time.Second)
		b.wantRequests("ann@lb0 under_way")
		if is := b.agent.State().Reloads; is.Pending != "requested" || !is.UnderWay {
			t.Errorf("the state has %+v", is)
		}
		b.requestReload("bob@lb0")
		b.passes(time.Second)
		b.wantRequests("ann@lb0 under_way", "bob@lb0 due")
		close(hold)
		b.passes(time.Second)
		b.wantRequests("ann@lb0 done", "bob@lb0 due")
		b.passes(b.settings.ReloadInterval)
		b.wantRequests("ann@lb0 done", "bob@lb0 done")
		if n := len(b.since(b.began)); n != 2 {
			t.Errorf("%d reloads, want 2", n)
		}
	})
}

func TestRequestReload_NoHAProxy_IsRefusedOrFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		b.passes(time.Minute)
		b.haproxy.with(func() { b.haproxy.old = b.settings.MaxOldWorkers })
		b.requestReload("ann@lb0")
		b.passes(time.Second)
		b.haproxy.stop()
		b.passes(10 * time.Second)
		b.wantRequests("ann@lb0 failed HAProxy stopped before the reload; it loads its file when it starts")
		if _, err := b.agent.RequestReload(t.Context(), "bob@lb0"); !errors.Is(err, reconcile.ErrNothingToReload) {
			t.Errorf("got %v", err)
		}
		b.haproxy.with(func() { b.haproxy.old = 0 })
		b.haproxy.start()
		b.passes(time.Minute)
		if n := len(b.since(b.began)); n != 0 {
			t.Errorf("%d reloads of a HAProxy that has just loaded its file", n)
		}
		if v := b.agent.State().Verdict(); v.Status != reconcile.InStep {
			t.Errorf("HAProxy has loaded its file, and the verdict has %+v", v)
		}
	})
}

func TestRequestReload_ManyRequests_TheNewestAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serving(t, true, instance("api-1", 1))
		for range 20 {
			b.passes(time.Minute)
			b.requestReload("ann@lb0")
		}
		b.passes(time.Minute)
		if all := b.agent.State().ReloadRequests; len(all) != 8 || all[7].Number != 20 || all[7].Status != reconcile.RequestDone {
			t.Errorf("got %+v", all)
		}
	})
}
