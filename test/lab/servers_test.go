package lab

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestServersStateIsReadByItsHeader(t *testing.T) {
	got, err := parseServersState("1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_port\n" +
		"4 api 1 slot-1 127.0.0.1 2 4 1 4000\n4 api 2 api-2 ::1 2 0 77 4001\n4 api 3 api-3 127.0.0.1 0 0 1 4002\n4 api 4 api-4 127.0.0.1 2 8 1 4003\n4 api 5 slot-5 127.0.0.1 0 5 1 1\n\n")
	want := []Server{
		{"slot-1", "127.0.0.1:4000", 1, true},
		{"api-2", "[::1]:4001", 77, true},
		{"api-3", "127.0.0.1:4002", 1, false},
		{"api-4", "127.0.0.1:4003", 1, false},
		{"slot-5", "127.0.0.1:1", 1, false},
	}
	if diff := cmp.Diff(got, want); err != nil || diff != "" {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
	for _, bad := range []string{"", "Can't find backend.\n", "1\n4 api 1\n", "1\n# srv_name srv_uweight srv_admin_state\napi-1 x 0\n"} {
		if got, err := parseServersState(bad); err == nil {
			t.Errorf("%q: got %v, want an error", bad, got)
		}
	}
}

func TestServersOfABackendAreReadFromTheFile(t *testing.T) {
	const file = "global\n    stats socket /x\n\nbackend web\n    server web-1 127.0.0.1:3 weight 1\n\nbackend api\n    balance roundrobin\n" +
		"    # server no 127.0.0.1:9\n    server api-1 127.0.0.1:1 check inter 1000ms weight 5\n    server slot-2 127.0.0.1:2 weight 1 disabled\n\nlisten api\n    server x 127.0.0.1:4\n"
	got, err := parseFileServers(file, "api")
	want := []Server{{"api-1", "127.0.0.1:1", 5, true}, {"slot-2", "127.0.0.1:2", 1, false}}
	if diff := cmp.Diff(got, want); err != nil || diff != "" {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
	if got, err := parseFileServers(file, "ap"); err == nil {
		t.Errorf("a backend that is not there: got %v, want an error", got)
	}
	if got, err := parseFileServers("backend api\n    server a 127.0.0.1:1 weight many\n", "api"); err == nil {
		t.Errorf("a weight that is none: got %v, want an error", got)
	}
}
