package cli

import (
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/status"
)

// askOwn asks the running sidecar that has the same settings. Whoever can read
// its credentials may ask it.
func askOwn(cmd *cobra.Command, env Env, ask func(*status.Client, status.Target) error) error {
	cfg, err := load(cmd, env)
	if err != nil {
		return err
	}
	to, err := ownTarget(cfg)
	if err != nil {
		return &exitError{code: ExitUsage, err: err}
	}
	s := cfg.Status
	client, err := status.NewClient(status.ClientOptions{
		Token: s.Token.Reveal(), TokenFile: s.TokenFile,
		CertFile: s.TLS.CertFile, KeyFile: s.TLS.KeyFile, Same: s.TLS.CertFile != "",
	})
	if err != nil {
		return failure(err)
	}
	defer client.Close()
	if err := ask(client, to); err != nil {
		return failure(fmt.Errorf("the sidecar at %s: %w", to.URL, err))
	}
	return nil
}

// ownTarget is where the sidecar is reached from its own machine.
func ownTarget(cfg config.Config) (status.Target, error) {
	host, port, err := net.SplitHostPort(cfg.Status.Address)
	if err != nil || port == "0" {
		return status.Target{}, fmt.Errorf("status.address %q: the running sidecar cannot be found by it", cfg.Status.Address)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	scheme := "http"
	if cfg.Status.TLS.CertFile != "" {
		scheme = "https"
	}
	return status.Target{URL: scheme + "://" + net.JoinHostPort(host, port)}, nil
}
