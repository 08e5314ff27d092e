package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/credential"
)

// The bounds of a request to the sidecar's own API. One of 10,000 instances has
// a state of some megabytes.
const (
	ownAPITimeout = 20 * time.Second
	ownAPIMax     = 64 << 20
)

// ownAPI is the running sidecar that has the same settings, over HTTP. Whoever
// can read its credentials may ask it.
type ownAPI struct {
	base  string
	token *credential.Token
	tls   *tls.Config
}

func newOwnAPI(cmd *cobra.Command, env Env) (*ownAPI, error) {
	cfg, err := load(cmd, env)
	if err != nil {
		return nil, err
	}
	s := cfg.Status
	c := &ownAPI{token: credential.NewToken(s.Token.Reveal(), s.TokenFile)}
	if c.base, err = ownURL(cfg); err != nil {
		return nil, &exitError{code: ExitUsage, err: err}
	}
	if s.TLS.CertFile == "" {
		return c, nil
	}
	own, err := credential.NewCertificate(s.TLS.CertFile, s.TLS.KeyFile).Current()
	if err != nil {
		return nil, failure(err)
	}
	c.base = "https" + strings.TrimPrefix(c.base, "http")
	c.tls = ownTLS(own)
	return c, nil
}

// ownTLS takes the sidecar's own certificate for the proof of who it is, by
// whatever name it is reached, and shows the same where one is asked for.
func ownTLS(own *tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		Certificates:       []tls.Certificate{*own},
		InsecureSkipVerify: true, //nolint:gosec // the very certificate is compared
		VerifyConnection: func(s tls.ConnectionState) error {
			if !bytes.Equal(s.PeerCertificates[0].Raw, own.Certificate[0]) {
				return errors.New("it has another certificate than status.tls.cert_file")
			}
			return nil
		},
	}
}

// ownURL is where the sidecar is reached from its own machine.
func ownURL(cfg config.Config) (string, error) {
	host, port, err := net.SplitHostPort(cfg.Status.Address)
	if err != nil || port == "0" {
		return "", fmt.Errorf("status.address %q: the running sidecar cannot be found by it", cfg.Status.Address)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return "http://" + net.JoinHostPort(host, port), nil
}

// call sends one request and decodes the answer, or tells the sidecar's reason.
func (c *ownAPI) call(ctx context.Context, method, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, ownAPITimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, http.NoBody)
	if err != nil {
		return err
	}
	token, err := c.token.Current()
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true, TLSClientConfig: c.tls}).RoundTrip(req)
	if err != nil {
		return fmt.Errorf("the sidecar at %s: %w", c.base, err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read, or is not wanted
	body, err := io.ReadAll(io.LimitReader(resp.Body, ownAPIMax))
	if err != nil {
		return fmt.Errorf("the sidecar at %s: %w", c.base, err)
	}
	if resp.StatusCode != http.StatusOK {
		var p struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(body, &p) != nil || p.Error == "" {
			p.Error = resp.Status
		}
		return fmt.Errorf("the sidecar at %s: %s", c.base, p.Error)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("the sidecar at %s: answer to %s: %w", c.base, path, err)
	}
	return nil
}
