package daemon

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/config"
)

const pausableAPI = "services: [{name: api, pause: {max: 5s}}, {name: api-b, backend: b}, {name: other, backend: c, pause: {max: 5s}}]"

// What clients ask of the API waits for no settings that are being read: that runs programs,
// and renders haproxy.cfg.
func TestState_WhileSettingsAreRead_IsAnswered(t *testing.T) {
	d, _ := discovering(t, pausableAPI)
	reading, end, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	d.options.Reload = func() (config.Config, error) {
		close(reading)
		<-end
		return config.Config{}, errors.New("wrong settings")
	}
	go func() {
		defer close(ended)
		d.reloadConfig(t.Context())
	}()
	<-reading
	defer func() { close(end); <-ended }()
	for name, ask := range map[string]func() bool{
		"the state":             func() bool { return cmp.Equal(d.completed(Judged(d.state())).Pausable, []string{"api", "other"}) },
		"how far a pause is":    func() bool { return d.canPauseBackend("c") && !d.canPauseBackend("b") },
		"whether it may be set": func() bool { return d.mayPause("api") == nil && d.mayPause("api-b") != nil },
	} {
		isRight := make(chan bool, 1)
		go func() { isRight <- ask() }()
		select {
		case is := <-isRight:
			if !is {
				t.Errorf("%s: the answer is wrong", name)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s: no answer while the settings are read", name)
		}
	}
}

func TestState_NewSettings_WhatCanBePausedIsTheirs(t *testing.T) {
	d, change := discovering(t, pausableAPI)
	for _, c := range []struct {
		settings string
		want     []string
	}{
		{"services: [{name: api-b, backend: b, pause: {max: 5s}}]", []string{"api-b"}},
		{"services: [{name: api}]", nil},
		{pausableAPI, []string{"api", "other"}},
	} {
		change(c.settings)
		if diff := cmp.Diff(c.want, d.completed(Judged(d.state())).Pausable); diff != "" {
			t.Errorf("%s: -want +got:\n%s", c.settings, diff)
		}
	}
}
