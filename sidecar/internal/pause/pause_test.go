package pause

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
)

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func paused(service string, hold time.Duration) *Document {
	return (&Document{Service: service}).Pause("ann@ops1", "migration", noon, hold)
}

func encoded(t *testing.T, d *Document) []byte {
	t.Helper()
	value, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestDocument_PausedAndResumed_IsReadAsWritten(t *testing.T) {
	d := paused("a/b", 30*time.Second)
	if key := Key("a/b"); key != "pointsman/pauses/a%2Fb" {
		t.Errorf("the key is %s", key)
	}
	for _, want := range []*Document{d, d.Resume("bob@ops1", noon.Add(time.Second))} {
		got, err := Parse("a/b", encoded(t, want))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v, -want +got:\n%s", err, diff)
		}
	}
	if !d.IsPaused(noon.Add(29*time.Second)) || d.IsPaused(noon.Add(30*time.Second)) || d.Resume("bob", noon).IsPaused(noon) {
		t.Error("it is not paused until its deadline, or after a resume")
	}
}

func TestDocument_Invalid_IsRefusedWithTheReason(t *testing.T) {
	change := func(f func(*Document)) string {
		d := *paused("api", time.Minute)
		f(&d)
		value, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		return string(value)
	}
	for name, c := range map[string]struct{ value, want string }{
		"no JSON":            {"{", "invalid JSON"},
		"nothing":            {"", "invalid JSON"},
		"two documents":      {change(func(*Document) {}) + "{}", "text after the document"},
		"an unknown key":     {`{"schema":1,"forever":true}`, "forever"},
		"another schema":     {change(func(d *Document) { d.Schema = 2 }), "schema: 2, this program reads 1"},
		"another service":    {change(func(d *Document) { d.Service = "web" }), `service: "web", want "api"`},
		"too long":           {change(func(d *Document) { d.Until = noon.Add(MaxHold + time.Second) }), "until: from modified_at: 10m1s, want 1s to 10m0s"},
		"written never":      {change(func(d *Document) { d.ModifiedAt = time.Time{} }), "modified_at: none"},
		"an end before that": {change(func(d *Document) { d.Until = noon.Add(-time.Second) }), "until: from modified_at: -1s"},
		"a line break":       {change(func(d *Document) { d.Reason = "a\nb" }), "reason:"},
		"a long name":        {change(func(d *Document) { d.ModifiedBy = strings.Repeat("x", 301) }), "modified_by:"},
		"too large":          {strings.Repeat(" ", 5000), "5000 bytes, want at most 4096"},
	} {
		if _, err := Parse("api", []byte(c.value)); err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "key pointsman/pauses/api: ") {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	value, err := paused("api", time.Minute).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(value)
	f.Add([]byte(`{"schema":1,"service":"api","until":"9999-12-31T23:59:59Z","modified_at":"0001-01-01T00:00:01Z"}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		d, err := Parse("api", value)
		if err != nil {
			return
		}
		if !d.Until.IsZero() && d.Until.Sub(d.ModifiedAt) > MaxHold {
			t.Errorf("%+v is longer than %s", d, MaxHold)
		}
		if _, err := d.Encode(); err != nil {
			t.Errorf("%+v was read and cannot be written: %v", d, err)
		}
	})
}

// told is what a Watch tells.
type told struct {
	pauses map[string]catalog.Pause
	err    error
}

func TestWatch_DocumentsAndErrors_LastGoodStays(t *testing.T) {
	var got told
	w := &Watch{Log: hclog.NewNullLogger(), Now: func() time.Time { return noon }, Changed: func(p map[string]catalog.Pause, err error) { got = told{p, err} }}
	away := errors.New("away")
	w.Take(nil, away)
	if got.pauses != nil || !errors.Is(got.err, away) {
		t.Errorf("before the first answer: %+v, want nothing known", got)
	}
	good := catalog.Pause{Until: noon.Add(time.Minute), ModifiedBy: "ann@ops1", ModifiedAt: noon, Reason: "migration"}
	w.Take([]consul.Entry{{Key: Key("api"), Value: encoded(t, paused("api", time.Minute)), Index: 7}, {Key: string(Prefix), Index: 1}, {Key: string(Prefix) + "%zz", Index: 2}}, nil)
	if diff := cmp.Diff(map[string]catalog.Pause{"api": good}, got.pauses); diff != "" || got.err != nil {
		t.Errorf("%v, -want +got:\n%s", got.err, diff)
	}
	w.Take(nil, away)
	if diff := cmp.Diff(map[string]catalog.Pause{"api": good}, got.pauses); diff != "" || !errors.Is(got.err, away) {
		t.Errorf("while Consul is away: %v, -want +got:\n%s", got.err, diff)
	}
	w.Take([]consul.Entry{{Key: Key("api"), Value: []byte("{"), Index: 8}}, nil)
	if p := got.pauses["api"]; !p.Until.Equal(good.Until) || !strings.Contains(p.Refused, "invalid JSON") {
		t.Errorf("an invalid document: %+v, want the last valid one with the reason", p)
	}
	w.Take([]consul.Entry{{Key: Key("api"), Value: encoded(t, paused("api", 2*time.Minute)), Index: 8}}, nil)
	if p := got.pauses["api"]; !p.Until.Equal(noon.Add(2*time.Minute)) || p.Refused != "" {
		t.Errorf("another document with the same index: %+v", p)
	}
	w.Take(nil, nil)
	if len(got.pauses) > 0 || got.pauses == nil {
		t.Errorf("a deleted document: %+v, want none", got.pauses)
	}
}

// A document whose writer's clock is wrong must not hold requests for longer than any other.
func TestWatch_DeadlineFarAhead_IsRefused(t *testing.T) {
	var got told
	w := &Watch{Log: hclog.NewNullLogger(), Now: func() time.Time { return noon.Add(-time.Hour) }, Changed: func(p map[string]catalog.Pause, err error) { got = told{p, err} }}
	w.Take([]consul.Entry{{Key: Key("api"), Value: encoded(t, paused("api", time.Minute)), Index: 7}}, nil)
	if p := got.pauses["api"]; !p.Until.IsZero() || !strings.Contains(p.Refused, "the clocks differ") {
		t.Errorf("got %+v, want it refused", p)
	}
}
