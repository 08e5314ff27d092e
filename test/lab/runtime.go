package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Runtime sends one line to HAProxy's runtime socket, as an operator would
// with socat, and gives the answer.
func (b *Balancer) Runtime(ctx context.Context, line string) (string, error) {
	out, err := Ask(ctx, b.Socket(), line, false, runtimeLimit)
	if out == "" && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)) {
		// On 3.1 and newer, a reload closes connections that the old worker has
		// not accepted yet (seen on 3.2 and 3.4, once in some hundred reloads).
		return Ask(ctx, b.Socket(), line, false, runtimeLimit)
	}
	return out, err
}

// runtimeLimit is how long HAProxy may take for an answer.
const runtimeLimit = 5 * time.Second

// Ask sends one line to a unix socket and gives all that comes back within a limit.
// isLast tells the other side that no more comes: HAProxy's master does not close the
// connection by itself, and its workers do.
func Ask(ctx context.Context, path, line string, isLast bool, limit time.Duration) (string, error) {
	d := net.Dialer{Timeout: limit}
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }() // all was read, or it has failed
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, line+"\n"); err != nil {
		return "", err
	}
	if isLast {
		if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
			return "", err
		}
	}
	out, err := io.ReadAll(conn)
	return string(out), err
}

// WorkerPID is the pid of the worker that serves. As long as it stays the
// same, HAProxy has not been reloaded, whatever a sidecar says.
func (b *Balancer) WorkerPID(ctx context.Context) (int, error) {
	out, err := b.Runtime(ctx, "show info")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(out) {
		if pid, found := strings.CutPrefix(line, "Pid: "); found {
			return strconv.Atoi(strings.TrimSpace(pid))
		}
	}
	return 0, errors.New("lab: show info without Pid")
}

// Metric reads one sample of the sidecar's metrics by its name and labels as
// they stand in the text; 0 if there is none.
func (b *Balancer) Metric(ctx context.Context, sample string) (float64, error) {
	text, err := b.Metrics(ctx)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if value, found := strings.CutPrefix(line, sample+" "); found {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, nil
}

// Metrics is the text of the sidecar's /metrics.
func (b *Balancer) Metrics(ctx context.Context) (string, error) {
	body, err := b.lab.get(ctx, b.StatusURL()+"/metrics")
	return string(body), err
}

func (l *Lab) get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := l.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", url, resp.Status, strings.TrimSpace(string(body)))
	}
	return body, err
}

func (l *Lab) getJSON(ctx context.Context, url string, into any) error {
	body, err := l.get(ctx, url)
	if err != nil || into == nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("GET %s: %w", url, err)
	}
	return nil
}

// Get sends one request and wants 200.
func (l *Lab) Get(ctx context.Context, url string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return nil
}

// Instance asks an API node through a load balancer for its name.
func (l *Lab) Instance(ctx context.Context, url string) (string, error) {
	var answer struct {
		Instance string `json:"instance"`
	}
	err := l.getJSON(ctx, url, &answer)
	return answer.Instance, err
}

// Drained asks the sidecar as a leaving node does, and waits until it says that
// the instance has no session any more.
func (b *Balancer) Drained(ctx context.Context, service, id string, wait time.Duration) error {
	_, err := b.DrainedAt(ctx, service, id, wait)
	return err
}

// DrainedAt is Drained with the time at which the sidecar knew it, as it says how long it
// held the answer back: who else has waited may have gone before this answer is read.
func (b *Balancer) DrainedAt(ctx context.Context, service, id string, wait time.Duration) (time.Time, error) {
	asked := time.Now()
	got, err := b.lab.sidecars.Drain(ctx, b.target(), service, id, 0, wait)
	if err == nil && !got.Drained {
		err = fmt.Errorf("not drained: %+v", got)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("lab: %s: drain of %s: %w", b.Name, id, err)
	}
	return asked.Add(time.Duration(got.WaitedMS * float64(time.Millisecond))), nil
}
