package consul

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// Folder is where documents are in the key/value store, one for each service: what their
// keys begin with, with a slash at its end.
type Folder string

// Key is the key of a service's document. The service's name is escaped.
func (f Folder) Key(service string) string { return string(f) + url.PathEscape(service) }

// Service returns the service whose document a key has; "" for a key that is none's.
func (f Folder) Service(key string) string {
	service, err := url.PathUnescape(strings.TrimPrefix(key, string(f)))
	if err != nil || f.Key(service) != key {
		return ""
	}
	return service
}

// Services returns the services that have a document in a folder, sorted.
func (k *KV) Services(ctx context.Context, in Folder) (services []string, err error) {
	var keys []string
	err = unlessMissing(k.call(ctx, http.MethodGet, "/v1/kv/"+string(in), url.Values{"keys": {""}}, nil, &keys))
	for _, key := range keys {
		if service := in.Service(key); service != "" {
			services = append(services, service)
		}
	}
	slices.Sort(services)
	return services, err
}

// DecodeDocument reads a document of at most that many bytes: JSON of known keys, with
// nothing behind it.
func DecodeDocument[T any](value []byte, most int) (*T, error) {
	if len(value) > most {
		return nil, fmt.Errorf("%d bytes, want at most %d", len(value), most)
	}
	in := json.NewDecoder(bytes.NewReader(value))
	in.DisallowUnknownFields()
	d := new(T)
	if err := in.Decode(d); err != nil {
		return nil, fmt.Errorf("invalid JSON: %w", err)
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("invalid JSON: text after the document")
	}
	return d, nil
}

// MaxText is how long a text of a document may be, in bytes.
const MaxText = 300

// CheckText refuses a text of a document that is too long, or has control characters.
func CheckText(s string) error {
	if len(s) > MaxText || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("%.40q, want at most %d bytes without control characters", s, MaxText)
	}
	return nil
}
