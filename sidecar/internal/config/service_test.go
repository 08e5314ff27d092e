package config_test

import (
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/config"
)

func TestService_StaticBalance_StaysInFile(t *testing.T) {
	for balance, want := range map[string]bool{
		"roundrobin": false, "leastconn": false, "first": false, "random": false, "random(2)": false,
		"static-rr": true, "source": true, "uri whole": true, "hdr(X-User)": true, "hash req.cook(id)": true,
	} {
		s := config.Service{Balance: balance}
		if got := s.InFile(); got != want {
			t.Errorf("balance %s: servers only in the file: got %v, want %v", balance, got, want)
		}
	}
	consistent := config.Service{Balance: "source", BackendExtra: []string{"hash-type consistent sdbm"}}
	if consistent.InFile() {
		t.Error("a consistent hash takes servers at runtime: got servers only in the file")
	}
}
