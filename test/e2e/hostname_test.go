package e2e

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
)

// A service outside of Consul is registered with a host's name. It takes traffic where
// the service allows that, and else `pointsman check` says why it does not (issue 13,
// section 6).
func TestResolve_HostNameRegistered_ServesOrCheckTells(t *testing.T) {
	t.Parallel()
	w := worldOf(t,
		lab.Service{Name: "db", Backend: "db_resolved", Extra: "    resolve: true\n"},
		lab.Service{Name: "db", Backend: "db_literal"},
	)
	w.must(w.lb.SetExtra("addresses: {allow: [127.0.0.0/8]}"))
	w.must(w.lb.Start(w.ctx))
	node := newStickyNode(t, "db")
	at := node.Listener.Addr().(*net.TCPAddr)
	_, err := w.consul.Client.Catalog().Register(&api.CatalogRegistration{
		Node: "external", Address: "192.0.2.1", Service: &api.AgentService{ID: "db-0", Service: "db", Address: "localhost", Port: at.Port},
	}, nil)
	w.must(err)
	w.must(lab.Until(w.ctx, 20*time.Second, "the name's address takes traffic", func() error {
		servers, err := w.lb.Servers(w.ctx, "db_resolved")
		if nameAt(servers, at.String()) == "" {
			err = errors.Join(err, fmt.Errorf("%+v", servers))
		}
		return err
	}))
	servers, err := w.lb.Servers(w.ctx, "db_literal")
	w.must(err)
	if nameAt(servers, at.String()) != "" {
		t.Errorf("without resolve: got %+v, want no server at the name's address", servers)
	}
	output, _ := sidecar(t, nil, "check", "--config", w.lb.Settings())
	if !strings.Contains(output, `db_literal: db-0 on external is left out: service address "localhost": a host name; set resolve: true`) || strings.Contains(output, "db_resolved: ") {
		t.Errorf("check printed\n%s\nwant what is left out of db_literal, and nothing of db_resolved", output)
	}
}

// Some write an address of IPv6 in brackets, as in a URL.
func TestAddress_IPv6InBrackets_Serves(t *testing.T) {
	t.Parallel()
	w := worldOf(t, lab.Service{Name: service, Backend: "api_nodes", Extra: "    mode: tcp\n"})
	w.must(w.lb.SetExtra("addresses: {allow: ['::1/128']}"))
	w.must(w.lb.Start(w.ctx))
	listener, err := (&net.ListenConfig{}).Listen(w.ctx, "tcp6", "[::1]:0")
	w.must(err)
	t.Cleanup(func() { _ = listener.Close() })
	at := listener.Addr().(*net.TCPAddr)
	w.must(w.consul.Client.Agent().ServiceRegister(&api.AgentServiceRegistration{ID: "six", Name: service, Address: "[::1]", Port: at.Port}))
	w.must(lab.Until(w.ctx, 20*time.Second, "the address takes traffic", func() error {
		servers, err := w.lb.Servers(w.ctx, "api_nodes")
		if nameAt(servers, at.String()) == "" {
			err = errors.Join(err, fmt.Errorf("%+v", servers))
		}
		return err
	}))
}
