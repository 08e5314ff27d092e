package consul

import (
	"errors"
	"net/http"

	"github.com/hashicorp/consul/api"
)

// API returns the same way to Consul, with the same token, certificates and
// partition, for a library that speaks by consul/api. A token file is read
// again before each call.
func (o Options) API() (*api.Config, error) {
	c, o, err := newClient(o)
	if err != nil {
		return nil, err
	}
	return c.api(o), nil
}

// api is the client as consul/api wants it.
func (c *client) api(o Options) *api.Config {
	return &api.Config{
		Address: c.endpoint.base.Host, Scheme: c.endpoint.base.Scheme, PathPrefix: c.endpoint.base.Path,
		HttpClient: &http.Client{
			Transport:     &credentials{client: c, next: c.http.Transport},
			CheckRedirect: c.http.CheckRedirect,
		},
		Datacenter: o.Datacenter, Namespace: o.Namespace, Partition: o.Partition,
		// Not the token: credentials puts it in. But something must stand here,
		// or consul/api looks into the environment, which has less to say than
		// the settings.
		Token: "of the settings",
	}
}

// credentials puts token and password of the settings into each request.
type credentials struct {
	client *client
	next   http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (c *credentials) RoundTrip(req *http.Request) (*http.Response, error) {
	secret, err := c.client.token.Current()
	if err != nil {
		if req.Body != nil {
			err = errors.Join(err, req.Body.Close()) // as a RoundTripper must
		}
		return nil, err
	}
	req = req.Clone(req.Context())
	req.Header.Del("X-Consul-Token")
	if secret != "" {
		req.Header.Set("X-Consul-Token", secret)
	}
	if c.client.auth != nil {
		password, _ := c.client.auth.Password()
		req.SetBasicAuth(c.client.auth.Username(), password)
	}
	return c.next.RoundTrip(req)
}

// CloseIdleConnections is what http.Client's looks for.
func (c *credentials) CloseIdleConnections() { c.client.close() }
