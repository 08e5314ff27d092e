package haproxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipedClient talks to serve over a pipe, so that time can be synctest's.
func pipedClient(t *testing.T, serve func(net.Conn)) *Client {
	t.Helper()
	c := newTestClient(t, Options{Runtime: "/r"})
	c.dial = func(context.Context, endpoint) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer func() { _ = theirs.Close() }()
			serve(theirs)
		}()
		return ours, nil
	}
	return c
}

func TestAnExchangeEndsWithItsTimeoutWhereverItStands(t *testing.T) {
	for name, serve := range map[string]func(context.Context, net.Conn){
		"nothing is read": func(ctx context.Context, _ net.Conn) { <-ctx.Done() },
		"nothing is answered": func(_ context.Context, conn net.Conn) {
			_, _ = io.Copy(io.Discard, conn)
		},
		"the answer does not end": func(_ context.Context, conn net.Conn) {
			_, _ = bufio.NewReader(conn).ReadString('\n')
			for err := error(nil); err == nil; time.Sleep(time.Second) {
				_, err = io.WriteString(conn, "Name: HAProxy\n")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				c := pipedClient(t, func(conn net.Conn) { serve(t.Context(), conn) })
				_, err := c.Observe(t.Context(), nil)
				if took := time.Since(began); took != defaultTimeout || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v after %s, want the deadline's error after %s", err, took, defaultTimeout)
				}
				time.Sleep(time.Minute) // the bubble's: the other side finds out
			})
		})
	}
}

func TestAReplyWithoutEndIsCutOff(t *testing.T) {
	t.Parallel()
	c := pipedClient(t, func(conn net.Conn) {
		_, _ = bufio.NewReader(conn).ReadString('\n')
		line := strings.Repeat("x", 1<<20) + "\n"
		for err := error(nil); err == nil; {
			_, err = io.WriteString(conn, line)
		}
	})
	c.timeout = time.Minute
	if _, err := c.Observe(t.Context(), nil); !errors.Is(err, errTooLong) {
		t.Errorf("got %v", err)
	}
}

func TestAReloadThatBringsNoWorkerEndsWithItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pipedClient(t, func(conn net.Conn) {
			_, _ = bufio.NewReader(conn).ReadString('\n')
			_, _ = io.WriteString(conn, "Pid: 7\nVersion: 3.4.7\n\nVariable not found\n\n")
		})
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), defaultReloadTimeout)
		defer cancel()
		err := c.awaitWorker(ctx, awaited{before: workerIdentity{info: info{pid: 7}}, failed: func() error { return nil }})
		if took := time.Since(began); took != defaultReloadTimeout || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v after %s", err, took)
		}
	})
}

func TestAWorkerOfTheSameNumberThatIsYoungerIsNew(t *testing.T) {
	t.Parallel()
	old := workerIdentity{info: info{pid: 8, uptime: time.Minute}}
	for _, c := range []struct {
		now  info
		want bool
	}{{info{pid: 8, uptime: time.Minute}, false}, {info{pid: 8, uptime: time.Hour}, false}, {info{pid: 8, uptime: time.Second}, true}, {info{pid: 9, uptime: time.Hour}, true}} {
		if got := (workerIdentity{info: c.now}).isNewerThan(old); got != c.want {
			t.Errorf("%+v: got %v", c.now, got)
		}
	}
}
