package config_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPause_Settings_RefusedWhereTheyCannotBe(t *testing.T) {
	for extra, want := range map[string]string{
		"pause: {max: 30s}":                               "",
		"pause: {max: 30s, max_requests: 5}":              "",
		"pause: {max_requests: 5}":                        "services[shop].pause.max_requests: needs pause.max",
		"pause: {max: 30s}, mode: tcp":                    "services[shop].pause.max \"30s\": needs mode http",
		"pause: {max: 3m}":                                "must be a duration, 0s to 2m",
		"pause: {max: 30s, max_requests: 0}":              "must be a whole number, 1 to 1000000",
		"pause: {max: 0s}, mode: tcp, check: {type: tcp}": "",
	} {
		_, err := loadYAML("services:\n- {name: shop, " + extra + "}\n")
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", extra, err, want)
		}
	}
}

// A character that ends a path in a rule would end it in those of a pause, too.
func TestPause_PathOfHAProxyConfig_FitsItsRules(t *testing.T) {
	const haproxy = "haproxy: {config: \"/etc/a,b/haproxy.cfg\"}\n"
	for yaml, want := range map[string]int{
		"services:\n- {name: shop}\n": 0,
		"services:\n- {name: shop, pause: {max: 30s}}\n- {name: api, pause: {max: 30s}}\n": 1,
		"services: []\nprofiles:\n- {name: web, pause: {max: 30s}}\n":                      1,
	} {
		_, err := loadYAML(yaml + haproxy)
		if n := strings.Count(fmt.Sprint(err), `haproxy.config "/etc/a,b/haproxy.cfg": may contain only letters, digits, '/', '-', '_' and '.' with pause.max: HAProxy's rules name the map files beside it`); n != want || want == 0 && err != nil {
			t.Errorf("%s: got %v, want %d errors about the path", yaml, err, want)
		}
	}
}

// The first rule lets a service go that is not paused. One that is waits for pause.max at
// most, and looks every 500 ms whether it may go on.
func TestPauseLines_Max_IsTheNumberOfSteps(t *testing.T) {
	cfg, err := loadYAML("services:\n- {name: shop, pause: {max: 30s, max_requests: 7}}\n- {name: api}\n")
	if err != nil {
		t.Fatal(err)
	}
	if lines := cfg.Services[1].PauseLines("/m"); len(lines) > 0 {
		t.Errorf("without the setting: %q", lines)
	}
	lines := cfg.Services[0].PauseLines("/m")
	steps := 0
	for _, l := range lines {
		if strings.HasPrefix(l, "http-request pause 500ms if ") {
			steps++
		}
	}
	if waits := time.Duration(steps) * 500 * time.Millisecond; waits != 30*time.Second+500*time.Millisecond {
		t.Errorf("a request waits for %s at most, want 30s and a step", waits)
	}
	if lines[1] != "http-request allow unless { be_name,map_str_int(/m) -m found }" {
		t.Errorf("the first rule is %s", lines[1])
	}
	isRefusal := func(l string) bool { return strings.HasPrefix(l, "http-request return status 503 ") }
	if first := slices.IndexFunc(lines, isRefusal); !strings.HasSuffix(lines[first], "{ be_conn gt 7 }") || !isRefusal(lines[len(lines)-1]) {
		t.Errorf("too many requests, and those that have waited for too long, are not refused:\n%s", strings.Join(lines, "\n"))
	}
}
