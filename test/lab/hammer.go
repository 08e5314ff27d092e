package lab

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// Hammering is GETs under way, of programs that are no API node, so that the
// client simulator would not know their answers.
type Hammering struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	requests int
	failures []error
	bodies   map[string]int // how often each was the answer
}

// hammerPause is between two requests of one connection.
const hammerPause = 10 * time.Millisecond

// Hammer sends GETs for a URL, one after another on each of a number of
// connections, until Stop.
func Hammer(ctx context.Context, url string, connections int) *Hammering {
	return HammerBy(ctx, http.MethodGet, url, connections)
}

// HammerBy is Hammer by another method, such as POST, which HAProxy sends once.
func HammerBy(ctx context.Context, method, url string, connections int) *Hammering {
	uncut := context.WithoutCancel(ctx)
	ctx, cancel := context.WithCancel(ctx)
	h := &Hammering{cancel: cancel, bodies: map[string]int{}}
	for range connections {
		h.wg.Go(func() {
			client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			tick := time.NewTicker(hammerPause)
			defer tick.Stop()
			for ctx.Err() == nil {
				// A request that has begun is not cut by the end.
				h.count(hit(uncut, client, method, url))
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	return h
}

func hit(ctx context.Context, client *http.Client, method, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.100s", resp.Status, body)
	}
	return string(body), err
}

func (h *Hammering) count(body string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests++
	if err != nil {
		h.failures = append(h.failures, fmt.Errorf("%s: %w", time.Now().Format("15:04:05.000"), err))
		return
	}
	h.bodies[body]++
}

// Answered is how often a body was the answer so far.
func (h *Hammering) Answered(body string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bodies[body]
}

// Stop ends it and gives how many requests there were, and each failure.
func (h *Hammering) Stop() (requests int, failures []error) {
	h.cancel()
	h.wg.Wait()
	return h.requests, h.failures
}
