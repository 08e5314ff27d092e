package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
)

// askOwn asks the running sidecar that has the same settings: over its Unix
// socket, or where that is not to be had, over its address with its
// credentials. A user who can open or read these may ask it.
func askOwn(cmd *cobra.Command, env Env, ask func(*sidecarapi.Client, sidecarapi.Target) error) error {
	cfg, err := load(cmd, env)
	if err != nil {
		return err
	}
	var away error // why the socket is not to be had
	if s := cfg.API.Socket; s != "" {
		err := askBy(sidecarapi.New(sidecarapi.Options{Socket: s, KeepAlive: true}), sidecarapi.Target{URL: "http://localhost"}, ask)
		if !isAway(err) {
			return failure(at(s, err))
		}
		away = at(s, err)
	}
	to, err := ownTarget(cfg)
	if err != nil {
		return &exitError{Code: ExitUsage, Err: errors.Join(away, err)}
	}
	s := cfg.API
	client, err := daemon.Credentials{
		Token: s.Token.Reveal(), TokenFile: s.TokenFile,
		CertFile: s.TLS.CertFile, KeyFile: s.TLS.KeyFile, Same: s.TLS.CertFile != "",
	}.Client()
	if err == nil {
		err = askBy(client, to, ask)
	}
	if err != nil {
		return failure(errors.Join(away, at(to.URL, err)))
	}
	return nil
}

// askState asks it for its state, which is a *reconcile.State or a *daemon.JudgedState.
func askState(cmd *cobra.Command, env Env, s any) error {
	return askOwn(cmd, env, func(c *sidecarapi.Client, to sidecarapi.Target) error { return c.State(cmd.Context(), to, s) })
}

func askBy(client *sidecarapi.Client, to sidecarapi.Target, ask func(*sidecarapi.Client, sidecarapi.Target) error) error {
	defer client.Close()
	return ask(client, to)
}

func at(where string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("query sidecar at %s: %w", where, err)
}

// isAway reports whether no sidecar could be asked.
func isAway(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ECONNREFUSED)
}

// ownTarget is where the sidecar is reached from its own machine.
func ownTarget(cfg config.Config) (sidecarapi.Target, error) {
	host, port, err := net.SplitHostPort(cfg.API.Address)
	if err != nil || port == "0" {
		return sidecarapi.Target{}, fmt.Errorf("api.address %q: a port of 0 does not identify the running sidecar", cfg.API.Address)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	scheme := "http"
	if cfg.API.TLS.CertFile != "" {
		scheme = "https"
	}
	return sidecarapi.Target{URL: scheme + "://" + net.JoinHostPort(host, port)}, nil
}
