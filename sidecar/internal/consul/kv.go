package consul

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The bounds of a call to the key/value store.
const (
	kvTimeout = 10 * time.Second
	maxKV     = 16 << 20
	sessionID = 64 // bytes at most
)

// KV is Consul's key/value store and its sessions.
type KV struct{ client *client }

// NewKV checks the options and reads the TLS files. It asks nothing yet.
func NewKV(o Options) (*KV, error) {
	c, _, err := newClient(o)
	if err != nil {
		return nil, err
	}
	return &KV{c}, nil
}

// Close closes the connections.
func (k *KV) Close() { k.client.close() }

// Entry is one key with its value. Anybody who may write keys may have written it.
type Entry struct {
	Key     string
	Value   []byte
	Index   uint64 `json:"ModifyIndex"`
	Session string // that has it locked; "" if none has
}

// Get returns a key, or an Entry with Index 0 if there is none.
func (k *KV) Get(ctx context.Context, key string) (Entry, error) {
	var all []Entry
	err := unlessMissing(k.call(ctx, http.MethodGet, "/v1/kv/"+key, url.Values{"consistent": {""}}, nil, &all))
	if err != nil || len(all) == 0 {
		return Entry{Key: key}, err
	}
	return all[0], nil
}

// Follow asks for all keys below a prefix by blocking queries until ctx ends, and gives
// each answer, sorted by key, or the error of a query that failed; it asks again by
// itself. That nothing is there is an answer. At the end it closes the connections.
func (k *KV) Follow(ctx context.Context, prefix string, take func([]Entry, error)) {
	defer k.Close()
	follow(ctx, func(from cursor) (cursor, float64, error) {
		all, next, usable, err := k.list(ctx, prefix, from)
		if err == nil && usable && ctx.Err() == nil {
			take(all, nil)
		}
		return next, costNews, err
	}, func(err error) { take(nil, err) })
}

var errKVFiltered = errors.New("answer filtered by ACLs; the token needs key:read for the whole prefix")

func (k *KV) list(ctx context.Context, prefix string, from cursor) (all []Entry, next cursor, usable bool, err error) {
	path := "/v1/kv/" + prefix
	q := &query{path: path, escaped: (&url.URL{Path: path}).EscapedPath(), params: url.Values{"recurse": {""}}, mayLack: true}
	m, err := k.client.get(ctx, q, from, func(body io.Reader) error { return decodeKV(body, &all) })
	switch {
	case errors.Is(err, errYounger):
		return nil, cursor{}, false, nil
	case err == nil && m.filtered:
		err = errKVFiltered
	case err == nil:
		next, usable, err = from.next(m, 0)
	}
	if err != nil {
		return nil, cursor{}, false, fmt.Errorf("consul: keys %s: %w", prefix, err)
	}
	next.asOf = time.Now()
	slices.SortFunc(all, func(x, y Entry) int { return strings.Compare(x.Key, y.Key) })
	return all, next, usable, nil
}

func decodeKV(body io.Reader, into any) error {
	answer, err := io.ReadAll(io.LimitReader(body, maxKV+1))
	switch {
	case err != nil:
		return err
	case len(answer) > maxKV:
		return fmt.Errorf("answer larger than %d bytes", maxKV)
	}
	return json.Unmarshal(answer, into)
}

// unlessMissing takes away the error of a key that is not there.
func unlessMissing(err error) error {
	if s, is := errors.AsType[*statusError](err); is && s.code == http.StatusNotFound {
		return nil
	}
	return err
}

// Swap writes a value if the key is still as it was at the index, 0 for a key that
// is not there. It keeps a lock. isDone is false where it is not.
func (k *KV) Swap(ctx context.Context, key string, value []byte, index uint64) (isDone bool, err error) {
	err = k.call(ctx, http.MethodPut, "/v1/kv/"+key, url.Values{"cas": {strconv.FormatUint(index, 10)}}, value, &isDone)
	return isDone, err
}

// Acquire locks a key for a session, and writes the value. isDone is false if another
// session has it.
func (k *KV) Acquire(ctx context.Context, key string, value []byte, session string) (isDone bool, err error) {
	err = k.call(ctx, http.MethodPut, "/v1/kv/"+key, url.Values{"acquire": {session}}, value, &isDone)
	return isDone, err
}

// NewSession makes a session that ends when it is not renewed for ttl. Its keys are
// kept, unlocked.
func (k *KV) NewSession(ctx context.Context, name string, ttl time.Duration) (string, error) {
	body, err := json.Marshal(map[string]string{"Name": name, "TTL": ttl.String(), "Behavior": "release", "LockDelay": "1s"})
	if err != nil {
		return "", err
	}
	var made struct{ ID string }
	if err := k.call(ctx, http.MethodPut, "/v1/session/create", nil, body, &made); err != nil {
		return "", err
	}
	if made.ID == "" || len(made.ID) > sessionID {
		return "", fmt.Errorf("consul: session %.40q: want an ID", made.ID)
	}
	return made.ID, nil
}

// Renew renews a session. isThere is false if it has ended.
func (k *KV) Renew(ctx context.Context, session string) (isThere bool, err error) {
	err = k.call(ctx, http.MethodPut, "/v1/session/renew/"+session, nil, nil, nil)
	if s, is := errors.AsType[*statusError](err); is && s.code == http.StatusNotFound {
		return false, nil
	}
	return err == nil, err
}

// End ends a session, which unlocks its keys.
func (k *KV) End(ctx context.Context, session string) error {
	return k.call(ctx, http.MethodPut, "/v1/session/destroy/"+session, nil, nil, nil)
}

// statusError is an answer of Consul that is not 200.
type statusError struct {
	code int
	err  error
}

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

// IsForbidden reports whether Consul's ACLs refuse a call, or an answer lacks what they
// hide.
func IsForbidden(err error) bool {
	s, is := errors.AsType[*statusError](err)
	return is && s.code == http.StatusForbidden || errors.Is(err, errKVFiltered)
}

// call sends one request, and decodes the answer into what it is given; nil reads
// none.
func (k *KV) call(ctx context.Context, method, path string, params url.Values, body []byte, into any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, kvTimeout, fmt.Errorf("no answer within %v", kvTimeout))
	defer cancel()
	err := k.send(ctx, method, path, params, body, into)
	if err != nil {
		return fmt.Errorf("consul: %w", k.client.failed(ctx, err))
	}
	return nil
}

func (k *KV) send(ctx context.Context, method, path string, params url.Values, body []byte, into any) error {
	u := k.client.endpoint.base
	u.RawPath = u.EscapedPath() + (&url.URL{Path: path}).EscapedPath()
	u.Path += path
	query := url.Values{}
	for _, all := range []url.Values{k.client.common, params} {
		maps.Copy(query, all)
	}
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	if err := k.client.sign(req); err != nil {
		return err
	}
	resp, err := k.client.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // it has been read, or is of no use
	if resp.StatusCode != http.StatusOK {
		return &statusError{resp.StatusCode, refusal(resp)}
	}
	if into == nil {
		return nil
	}
	return decodeKV(resp.Body, into)
}
