package sidecarapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// FuzzDrain: only an answer that says it of this load balancer, service
// and instance, word for word, ends the wait for it.
func FuzzDrain(f *testing.F) {
	const good = `{"load_balancer":"lb0","service":"api","instance":"api-1","drained":true,"phase":"out","sessions":0,"index":42,"waited_ms":412.3}`
	f.Add([]byte(good))
	f.Add([]byte(strings.Replace(good, "true", "false", 1)))
	f.Add([]byte(strings.Replace(good, `"sessions":0`, `"sessions":1e99`, 1)))
	f.Add([]byte(strings.Replace(good, `"drained"`, `"Drained"`, 1)))
	f.Add([]byte(good + good))
	f.Add([]byte(`{"load_balancer":"lb0"}`))
	f.Add([]byte(`{"load_balancer":"lb0","index":1e700}`))
	f.Add([]byte(`null`))
	f.Add([]byte(strings.Repeat("[", 5000)))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := parseDrain(body, "lb0", "api", "api-1", 42)
		if err != nil {
			if got != (Drain{}) {
				t.Errorf("%+v besides the error %v", got, err)
			}
			if len(err.Error()) > 2000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			for _, c := range []byte(err.Error()) {
				if c < ' ' && c != '\n' { // between joined errors
					t.Errorf("the error %q has a control character", err)
				}
			}
		}
		var said map[string]any
		d := json.NewDecoder(bytes.NewReader(body))
		d.UseNumber() // there are numbers that no float64 holds
		same := json.Valid(body) && d.Decode(&said) == nil && said["load_balancer"] == "lb0"
		if err := notFound(Target{LoadBalancer: "lb0"}, nil, body); errors.Is(err, ErrNotRouted) != same {
			t.Errorf("as a 404: %v, and it is this load balancer's: %t", err, same)
		}
		if err != nil {
			return
		}
		if !same || said["service"] != "api" || said["instance"] != "api-1" || said["drained"] != got.Drained {
			t.Errorf("%q is read as %+v", body, got)
		}
		if got.Sessions < 0 || got.Drained && got.Index < 42 || got.Drained && got.Sessions > 0 {
			t.Errorf("%q is read as %+v", body, got)
		}
	})
}
