package consul_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/sidecar/internal/consul"
)

// seen is what a request brought.
type seen struct {
	Path, Token, User, Password string
}

func TestALibraryGetsTheSettingsWayToConsul(t *testing.T) {
	var got []seen
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		got = append(got, seen{r.URL.Path + "?" + r.URL.RawQuery, r.Header.Get("X-Consul-Token"), user, password})
	}))
	defer server.Close()
	// Of these none may count: the settings have their own way to the variables.
	t.Setenv("CONSUL_HTTP_TOKEN", "environment")
	t.Setenv("CONSUL_HTTP_TOKEN_FILE", "/nowhere")
	t.Setenv("CONSUL_HTTP_ADDR", "127.0.0.1:1")

	file := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	config, err := consul.Options{
		Address: server.URL + "/proxy", TokenFile: file, HTTPAuth: "me:hunter2", Partition: "p", Namespace: "n",
	}.API()
	if err != nil {
		t.Fatal(err)
	}
	client, err := api.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"one", "two"} {
		write(token)
		if err := client.Agent().ServiceDeregister("x"); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := client.Agent().ServiceDeregister("x"); err != nil {
		t.Fatal(err)
	}
	const path = "/proxy/v1/agent/service/deregister/x?ns=n&partition=p"
	want := []seen{{path, "one", "me", "hunter2"}, {path, "two", "me", "hunter2"}, {path, "two", "me", "hunter2"}}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("requests (-got +want):\n%s", diff)
	}
}

func TestALibraryWithoutATokenSendsNone(t *testing.T) {
	token := "unset"
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		token = strings.Join(r.Header.Values("X-Consul-Token"), ",")
	}))
	defer server.Close()
	t.Setenv("CONSUL_HTTP_TOKEN", "environment")
	config, err := consul.Options{Address: server.URL}.API()
	if err != nil {
		t.Fatal(err)
	}
	client, err := api.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Agent().ServiceDeregister("x"); err != nil {
		t.Fatal(err)
	}
	if token != "" {
		t.Errorf("token: got %q, want none", token)
	}
}

func TestALibraryWhoseTokenCannotBeReadAsksNothing(t *testing.T) {
	asked := false
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer server.Close()
	config, err := consul.Options{Address: server.URL, TokenFile: filepath.Join(t.TempDir(), "none")}.API()
	if err != nil {
		t.Fatal(err)
	}
	client, err := api.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Agent().ServiceDeregister("x"); err == nil || !strings.Contains(err.Error(), "token file") || asked {
		t.Errorf("got %v, asked %v, want an error that names the token file, and no request", err, asked)
	}
}

func TestALibraryGetsNoWayByWrongOptions(t *testing.T) {
	for _, o := range []consul.Options{{Address: "ftp://x"}, {CAFile: "/nowhere", Address: "https://127.0.0.1:1"}} {
		if _, err := o.API(); err == nil {
			t.Errorf("API of %+v: got no error", o)
		}
	}
}
