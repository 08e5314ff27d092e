package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// slowClients hold requests of up to slowMost, so that it matters how long a
// leaving node waits.
type slowClients struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	http   *http.Client

	mu      sync.Mutex
	counted lab.Progress
	failed  []string // the first few
}

const (
	slowMost = 4 * time.Second
	slowMean = 500 * time.Millisecond
)

// startSlow sends one request after another, several at a time, to the load
// balancers in turn.
func startSlow(ctx context.Context, count int, lbs []*lab.Balancer) *slowClients {
	uncut := context.WithoutCancel(ctx)
	ctx, cancel := context.WithCancel(ctx)
	s := &slowClients{cancel: cancel, http: &http.Client{Timeout: slowMost + 10*time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: count}}}
	for i := range count {
		url := lbs[i%len(lbs)].URL(service)
		s.wg.Go(func() {
			for ctx.Err() == nil {
				// Of exponential length: most are short, and now and then one is long.
				length := min(time.Duration(rand.ExpFloat64()*float64(slowMean)), slowMost)
				s.count(s.request(uncut, url, length))
			}
		})
	}
	return s
}

// request is not cut when the end comes: one that is cut would have to be told
// from one that was lost.
func (s *slowClients) request(ctx context.Context, url string, length time.Duration) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%sslow?ms=%d", url, length.Milliseconds()), http.NoBody)
	if err != nil {
		return err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

func (s *slowClients) count(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counted.Requests++
	if err == nil {
		return
	}
	s.counted.Failed++
	if len(s.failed) < 10 {
		s.failed = append(s.failed, "slow: "+err.Error())
	}
}

func (s *slowClients) progress() lab.Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counted
}

func (s *slowClients) failures() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// stop waits for the requests that are under way.
func (s *slowClients) stop() lab.Progress {
	s.cancel()
	s.wg.Wait()
	s.http.CloseIdleConnections()
	return s.progress()
}
