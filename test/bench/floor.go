package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// follower is the least that can follow a service: one blocking query at a
// time, its body read and not decoded, and then one runtime command for what
// has changed. It does not read the answer, so changed returns that.
type follower struct {
	url     string
	http    *http.Client
	socket  *socket
	command func(server string, value int) string
	changed func() map[string]int
}

func newFollower(ctx context.Context, s *site, command func(string, int) string) (*follower, error) {
	socket, err := openSocket(ctx, s.bare.Socket())
	if err != nil {
		return nil, err
	}
	return &follower{
		url:     fmt.Sprintf("http://%s/v1/health/service/%s", s.consul.Address(), floorService),
		http:    &http.Client{Transport: &http.Transport{DisableCompression: true}},
		socket:  socket,
		command: command,
	}, nil
}

// run follows the service until the context ends.
func (f *follower) run(ctx context.Context) error {
	defer f.http.CloseIdleConnections()
	defer f.socket.close()
	index, err := f.query(ctx, "")
	for err == nil {
		if index, err = f.query(ctx, index); err != nil {
			break
		}
		for server, value := range f.changed() {
			if _, err = f.socket.ask(f.command(server, value)); err != nil {
				break
			}
		}
	}
	if ctx.Err() != nil {
		return nil // it was asked to end
	}
	return fmt.Errorf("floor: %w", err)
}

// query asks for the service once it has changed since the index, and returns
// the index after.
func (f *follower) query(ctx context.Context, index string) (string, error) {
	return query(ctx, f.http, f.url, index)
}

func query(ctx context.Context, client *http.Client, url, index string) (string, error) {
	if index != "" {
		url += "?wait=5m&index=" + index
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return resp.Header.Get("X-Consul-Index"), nil
}

// weightCommand and statusCommand are what the floor sends for a change.
func weightCommand(server string, weight int) string {
	return fmt.Sprintf("set server %s weight %d", server, weight)
}

func statusCommand(server string, passing int) string {
	state := "maint"
	if passing == 1 {
		state = "ready"
	}
	return fmt.Sprintf("set server %s state %s", server, state)
}

// settleTime lets what a start has left to do end before anything is measured.
const settleTime = 3 * time.Second
