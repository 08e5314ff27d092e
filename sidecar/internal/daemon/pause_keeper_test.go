package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func TestCheckPause_HAProxyTooOld_Refused(t *testing.T) {
	program := func(says string) string {
		path := filepath.Join(t.TempDir(), "haproxy")
		if err := os.WriteFile(path, []byte(fmt.Sprintf("#!/bin/sh\n[ \"$1\" = -v ] && echo '%s'\n", says)), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	service := config.Service{Name: "shop", Pause: config.Pause{Max: time.Minute}}
	for name, c := range map[string]struct {
		cfg  config.Config
		says string
		want string
	}{
		"3.0":             {config.Config{Services: []config.Service{service}}, "HAProxy version 3.0.11 2026/11/18", "pause.max of the service shop: needs HAProxy 3.2 or newer, which can make requests wait (http-request pause); this is 3.0.11 ("},
		"of a profile":    {config.Config{Profiles: []config.Profile{{Name: "web", Service: service}}}, "HAProxy version 2.6.12 2026/11/18", "pause.max of the profile web: needs HAProxy 3.2"},
		"3.2":             {config.Config{Services: []config.Service{service}}, "HAProxy version 3.2.0 2026/11/18", ""},
		"not set":         {config.Config{Services: []config.Service{{Name: "shop"}}}, "HAProxy version 2.6.12 2026/11/18", ""},
		"another program": {config.Config{Services: []config.Service{service}}, "docker: unknown flag", ""},
	} {
		c.cfg.HAProxy.CheckCommand = []string{program(c.says), "-c", "-f", "{file}"}
		err := checkPause(t.Context(), c.cfg)
		if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestWithoutPast_PausesThatAreOver_Go(t *testing.T) {
	got := withoutPast(map[string]catalog.Pause{"on": {Until: noon.Add(time.Second)}, "over": {Until: noon}, "ended": {}, "refused": {Refused: "why"}}, noon)
	if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, []string{"on", "refused"}) {
		t.Errorf("left are %q", names)
	}
}

// A resume while the sidecar was down, and one that an old worker did not take, are made up
// for.
func TestOldPauses_AfterTheStartAndAFailure_AreUpdated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var updates atomic.Int32
		var fails atomic.Bool
		d := &Daemon{log: hclog.NewNullLogger(), pauses: pauseKeeper{change: make(chan struct{}, 1)}}
		d.set.Pauses = reconcile.PauseMap{File: "/map", Backends: map[string]string{"api": "api"}}
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() {
			d.keepPauses(ctx, func(_ context.Context, _ string, want route.Map) error {
				if len(want) > 0 {
					t.Errorf("want %v, nothing is paused", want)
				}
				updates.Add(1)
				if fails.Load() {
					return errors.New("no")
				}
				return nil
			})
		})
		defer func() { cancel(); done.Wait() }()
		during := func(what string, d time.Duration, isAny bool) {
			t.Helper()
			updates.Store(0)
			time.Sleep(d)
			synctest.Wait()
			if n := updates.Load(); (n > 0) != isAny {
				t.Errorf("%s: %d updates", what, n)
			}
		}
		during("after the start", 3*pauseLook, true)
		fails.Store(true)
		during("it fails", pauseRest, true)
		during("it fails for longer than pauseRest", 3*pauseRest, true)
		fails.Store(false)
		during("it succeeds", 2*pauseRest, true)
		during("all is done", 2*pauseRest, false)
	})
}
