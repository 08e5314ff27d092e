package config_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/config"
)

// FuzzFile holds that any file is either refused, with nothing but *Errors, or
// taken, and then its dump means the same.
func FuzzFile(f *testing.F) {
	for _, seed := range []string{
		"", "services: []\n", "services:\n- {name: api, bind: \"*:80\", check: &c {rise: 5}}\n- {name: db, check: *c}\n",
		"consul:\n  wait: 30\n", "a: &a [*a]\n", "? [x]\n: y\n", "services: &s [*s]\n", "---\n---\n", "services: [{name: a, backend_extra: |\n  x\n}]",
		"haproxy: {check_command: [haproxy, \"{file}\"], log: \"\"}\nservices: []\n",
	} {
		f.Add([]byte(seed))
	}
	load := func(data []byte) (config.Config, error) {
		return config.Load(config.Sources{Hostname: "lb0", ReadFile: func(string) ([]byte, error) { return data, nil }})
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := load(data)
		if err != nil {
			joined, ok := err.(interface{ Unwrap() []error })
			if !ok {
				t.Fatalf("%T is no joined error", err)
			}
			for _, e := range joined.Unwrap() {
				if _, ok := errors.AsType[*config.Error](e); !ok {
					t.Errorf("%T: %v, want an *Error", e, e)
				}
			}
			return
		}
		if c.Consul.Token != "" || c.Consul.HTTPAuth != "" {
			return // its dump is masked
		}
		dump, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := load(dump)
		if err != nil {
			t.Fatalf("%q was taken, its dump not: %v\n%s", data, err, dump)
		}
		if diff := cmp.Diff(again, c); diff != "" {
			t.Errorf("the dump of %q means something else (-got +want):\n%s", data, diff)
		}
	})
}
