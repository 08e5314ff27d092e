package render

import (
	"slices"
	"testing"
	"time"

	"github.com/pointsman/pointsman/templates"
)

func TestBaseLacks_ZeroLossLines_Listed(t *testing.T) {
	r, err := New("built-in", templates.HAProxy, Settings{
		Base: "/etc/haproxy/haproxy.cfg", RuntimeSocket: "/run/a.sock", SocketMode: "660", HardStopAfter: 30 * time.Second,
		Services: []Service{{Name: "api", Backend: "nodes", Mode: "http", Balance: "roundrobin"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	const socket, stop = "global: stats socket /run/a.sock mode 660 level admin expose-fd listeners", "global: hard-stop-after 30s"
	const good = "global\n stats socket /x level admin expose-fd listeners\n hard-stop-after 1m\n"
	for base, want := range map[string][]string{
		"": {socket, stop},
		"global\n stats socket /x level admin\n hard-stop-after 1m\n":                                             {socket},
		"global\n stats socket /x level operator expose-fd listeners\n hard-stop-after 1m\n":                      {socket},
		good + "defaults\n mode http\nfrontend f\n use_backend nodes if x\nfrontend own\n default_backend mine\n": {"frontend f: option idle-close-on-response"},
		good + "defaults\n mode http\n option idle-close-on-response\nfrontend f\n use_backend nodes if x\n":      nil,
		good + "frontend f\n mode tcp\n default_backend nodes\n":                                                  nil,
	} {
		if got := r.BaseLacks([]byte(base)); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", base, got, want)
		}
	}
}

func TestTemplate_ServiceByName_Found(t *testing.T) {
	s := Settings{Services: []Service{{Name: "api", Backend: "nodes"}}}
	r, err := New("own", `{{$s := .Service "api"}}backend {{$s.Backend}}{{range $s.Servers}}
  {{.}}{{end}}`, s)
	if err != nil {
		t.Fatal(err)
	}
	content, err := r.Render(nil)
	if err != nil || !slices.Equal(Proxies(content), []string{"backend nodes"}) {
		t.Errorf("got %q, %v", content, err)
	}
	if _, err := New("own", `{{$s := .Service "other"}}`, s); err == nil {
		t.Error("a service that is not there is no error")
	}
}
