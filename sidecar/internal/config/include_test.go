package config

import (
	"strings"
	"testing"
)

func TestIncludeMode_WhatCannotBe_Refused(t *testing.T) {
	const head = "haproxy: {base_config: /etc/haproxy/haproxy.cfg, config: "
	for yaml, want := range map[string]string{
		head + "/etc/haproxy/haproxy.cfg}\nservices: []\n":                      "another file name",
		head + "/run/other/haproxy.cfg}\nservices: []\n":                        "another file name",
		head + "/run/pointsman.cfg}\nservices: [{name: api, bind: ':80'}]\n":    "default_backend api",
		head + "/run/pointsman.cfg}\nservices: [{name: api, backend: nodes}]\n": "",
	} {
		_, err := Load(Sources{Hostname: "lb0", ReadFile: func(string) ([]byte, error) { return []byte(yaml), nil }})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", yaml, err, want)
		}
	}
}
