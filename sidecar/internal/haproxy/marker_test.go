package haproxy

import (
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// Whose a haproxy.cfg is comes back as it was written, whatever characters it has.
func TestOwner_OfARealHAProxy_ReadAsWritten(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]plan.Owner{
		"plain":              {Name: "lb0", Host: "web1.example", File: "/etc/haproxy/haproxy.cfg"},
		"what HAProxy reads": {Name: "lb0", Host: "h", File: `/srv/it's "$HOME" \n # 100% \/é/haproxy.cfg`},
	} {
		p := haproxytest.StartWith(t, haproxytest.Options{Global: "  setenv " + plan.OwnerVariable + " '" + want.String() + "'"}, "backend api\n")
		if got, err := newTestClient(t, Options{Runtime: p.Runtime()}).Owner(t.Context()); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
		}
	}
	p := haproxytest.Start(t, "backend api\n")
	if got, err := newTestClient(t, Options{Runtime: p.Runtime()}).Owner(t.Context()); err != nil || got != (plan.Owner{}) {
		t.Errorf("not said: got %q, %v, want none", got, err)
	}
}
