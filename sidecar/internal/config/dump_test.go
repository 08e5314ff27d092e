package config_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

func TestASecretIsNeverShown(t *testing.T) {
	c := mustLoad(t, input{yaml: "services: []\n", env: []string{"POINTSMAN_CONSUL_TOKEN=hush", "POINTSMAN_CONSUL_HTTP_AUTH=u:hush"}})
	if got := c.Consul.Token.Reveal(); got != "hush" {
		t.Fatalf("Reveal() = %q, want the secret", got)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "config", c, "token", c.Consul.Token)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "consul", c.Consul, "token", c.Consul.Token)
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	consulJSON, err := json.Marshal(c.Consul)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(c.Consul)
	if err != nil {
		t.Fatal(err)
	}
	prints := []string{log.String(), string(asJSON), string(consulJSON), string(asYAML), c.Consul.Token.String()}
	for _, verb := range []string{"v", "+v", "#v", "s", "q", "x", "X", "d", "10s", "t"} {
		prints = append(prints, fmt.Sprintf("%"+verb, c.Consul.Token), fmt.Sprintf("%"+verb, c), fmt.Sprintf("%"+verb, &c.Consul))
	}
	for _, p := range prints {
		if strings.Contains(p, "hush") || strings.Contains(p, "68757368") {
			t.Errorf("the secret is in %q", p)
		}
	}
	if got := string(asJSON); !strings.Contains(got, `"token":"***"`) {
		t.Errorf("JSON %s does not show that there is a token", got)
	}
}

func TestAnUnknownKeysValueIsNotShown(t *testing.T) {
	_, err := load(t, input{yaml: "services: []\nconsul: {tokn: hush}\n", env: []string{"POINTSMAN_CONSUL_TOKN=hush"}})
	if got := fmt.Sprint(err); strings.Contains(got, "hush") || strings.Count(got, "no such setting") != 2 {
		t.Errorf("Load: %s, want two unknown settings without their values", got)
	}
}

func TestTheDumpIsAFileThatLoadTakes(t *testing.T) {
	c := mustLoad(t, input{yaml: `
name: lb7
haproxy:
  reload_command: [systemctl, reload, haproxy]
  global: {extra: ["tune.bufsize 32768"]}
  stats: {bind: "127.0.0.1:8404"}
services:
- {name: api, backend: api-green, tags: [green], close_on_role_change: true, drain_sticky: move, drain_timeout: 1m}
- {name: api, bind: ["*:80"], tags: [blue], drain_timeout: 2m, filter: 'Service.Meta.x == "1"', warning_takes_traffic: false, guard: {max_loss_ratio: 0.25}, check: {host: api}, server_options: ssl verify none}
- {name: db, mode: tcp, bind: "*:5432", slots: {force: true}}
`})
	if a, b := c.Services[0], c.Services[1]; a.DrainTimeout != time.Minute || b.DrainTimeout != 2*time.Minute || b.Backend != "api" {
		t.Errorf("one service in two backends: got %+v and %+v", a, b)
	}
	dump, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	again := mustLoad(t, input{yaml: string(dump), host: "other"})
	if diff := cmp.Diff(again, c); diff != "" {
		t.Errorf("loaded from its dump (-got +want):\n%s\n%s", diff, dump)
	}
}
