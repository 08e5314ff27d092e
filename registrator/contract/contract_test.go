package contract_test

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/registrator/contract"
)

var since = time.Date(2026, 11, 23, 15, 4, 5, 0, time.UTC)

func TestParse(t *testing.T) {
	tests := map[string]struct {
		meta map[string]string
		want contract.Meta
		errs []string // what the error must say, in order; none for success
	}{
		"no meta says nothing":         {meta: nil},
		"an empty value says nothing":  {meta: map[string]string{"version": "", "backup": "", "maxconn": "", "pointsman-drain": ""}},
		"foreign keys are passed over": {meta: map[string]string{"Version": "2", "team": "x\ny"}},
		"all four": {
			meta: map[string]string{"version": "1.1 rc;#'\"", "backup": "true", "maxconn": "250", "pointsman-drain": "2026-11-23T15:04:05Z"},
			want: contract.Meta{Version: "1.1 rc;#'\"", Backup: true, MaxConn: 250, Leaving: since},
		},
		"a drain time in another zone is the same moment": {
			meta: map[string]string{"pointsman-drain": "2026-11-23T16:04:05+01:00"},
			want: contract.Meta{Leaving: since},
		},
		"a drain time may have fractions of a second": {
			meta: map[string]string{"pointsman-drain": "2026-11-23T15:04:05.000000001Z"},
			want: contract.Meta{Leaving: since.Add(1)},
		},
		"the longest version":       {meta: map[string]string{"version": strings.Repeat("v", 64)}, want: contract.Meta{Version: strings.Repeat("v", 64)}},
		"a version too long":        {meta: map[string]string{"version": strings.Repeat("v", 65)}, errs: []string{`meta "version": "vvv`}},
		"a version with a line":     {meta: map[string]string{"version": "1\n2"}, errs: []string{`meta "version": "1\n2" is not at most 64 printable`}},
		"a version not ASCII":       {meta: map[string]string{"version": "1.0é"}, errs: []string{`meta "version"`}},
		"a version with DEL":        {meta: map[string]string{"version": "1\x7f"}, errs: []string{`"1\x7f"`}},
		"the largest maxconn":       {meta: map[string]string{"maxconn": "1000000"}, want: contract.Meta{MaxConn: 1_000_000}},
		"a maxconn too large":       {meta: map[string]string{"maxconn": "1000001"}, errs: []string{`meta "maxconn": "1000001" is not a whole number from 0 to 1000000`}},
		"a negative maxconn":        {meta: map[string]string{"maxconn": "-1"}, errs: []string{`"-1"`}},
		"an agent port":             {meta: map[string]string{"pointsman-agent-port": "4001"}, want: contract.Meta{AgentPort: 4001}},
		"an agent port of 0":        {meta: map[string]string{"pointsman-agent-port": "0"}, errs: []string{`meta "pointsman-agent-port": "0" is not a port from 1 to 65535`}},
		"an agent port too high":    {meta: map[string]string{"pointsman-agent-port": "65536"}, errs: []string{`"65536"`}},
		"an agent port and address": {meta: map[string]string{"pointsman-agent-port": "10.0.0.1:80"}, errs: []string{`"10.0.0.1:80"`}},
		"a drain that is no time": {
			meta: map[string]string{"pointsman-drain": "true"},
			errs: []string{`meta "pointsman-drain": "true" is not an RFC 3339 time`},
		},
		"a drain at the zero time, which would read as staying": {
			meta: map[string]string{"pointsman-drain": "0001-01-01T00:00:00Z"}, errs: []string{"pointsman-drain"},
		},
		"a drain whose year in UTC has five digits": {
			meta: map[string]string{"pointsman-drain": "9999-12-31T23:59:59-01:00"}, errs: []string{"pointsman-drain"},
		},
		"every bad key is named, and the good ones are kept": {
			meta: map[string]string{"version": "1.0", "backup": "yes", "maxconn": "lots", "pointsman-drain": "soon"},
			want: contract.Meta{Version: "1.0"},
			errs: []string{`"backup": "yes"`, `"maxconn": "lots"`, `"pointsman-drain": "soon"`},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := contract.Parse(tc.meta)
			if !got.Equal(tc.want) {
				t.Errorf("Parse(%q) = %+v, want %+v", tc.meta, got, tc.want)
			}
			if (err != nil) != (len(tc.errs) > 0) {
				t.Fatalf("Parse(%q) error = %v, want %q", tc.meta, err, tc.errs)
			}
			rest := ""
			if err != nil {
				rest = err.Error()
			}
			for _, want := range tc.errs {
				_, after, found := strings.Cut(rest, want)
				if !found {
					t.Fatalf("Parse(%q) error = %q, want %q in it, in this order", tc.meta, err, want)
				}
				rest = after
			}
		})
	}
}

func TestParseErrorNamesKeyForCode(t *testing.T) {
	_, err := contract.Parse(map[string]string{"backup": "yes"})
	var bad *contract.KeyError
	if !errors.As(err, &bad) || bad.Key != contract.KeyBackup || bad.Value != "yes" {
		t.Errorf("Parse error = %#v, want a KeyError of key %q and value %q", err, contract.KeyBackup, "yes")
	}
}

func TestParseErrorIsBoundedByHostileValue(t *testing.T) {
	_, err := contract.Parse(map[string]string{"version": strings.Repeat("\x00", 1<<20)})
	if err == nil || len(err.Error()) > 1000 {
		t.Errorf("error for a value of 1 MiB has %d bytes, want at most 1000", len(err.Error()))
	}
}

func TestFormat(t *testing.T) {
	tests := map[string]struct {
		meta contract.Meta
		want map[string]string
	}{
		"nothing to say is no keys": {want: map[string]string{}},
		"all four": {
			meta: contract.Meta{Version: "1.1", Backup: true, MaxConn: 9, Leaving: since.In(time.FixedZone("x", 3600))},
			want: map[string]string{"version": "1.1", "backup": "true", "maxconn": "9", "pointsman-drain": "2026-11-23T15:04:05Z"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tc.meta.Format(); !maps.Equal(got, tc.want) {
				t.Errorf("Format() = %q, want %q", got, tc.want)
			}
		})
	}
}

// FuzzMetaSurvivesRoundTrip: whatever Parse reads, Format writes and Parse
// reads again as the same.
func FuzzMetaSurvivesRoundTrip(f *testing.F) {
	f.Add("1.0", "true", "250", "2026-11-23T15:04:05Z")
	f.Add("", "", "", "")
	f.Add("\x00;#", "T", "+7", "0001-01-01T00:00:00Z")
	f.Add("1", "0", "-0", "9999-12-31T23:59:59-23:59")
	f.Add("1", "0", "0007", "0000-01-01T00:00:00+23:59")
	f.Fuzz(func(t *testing.T, version, backup, maxconn, drain string) {
		first, _ := contract.Parse(map[string]string{
			contract.KeyVersion: version, contract.KeyBackup: backup,
			contract.KeyMaxConn: maxconn, contract.KeyDrain: drain,
		})
		again, err := contract.Parse(first.Format())
		if err != nil {
			t.Fatalf("Parse(%q) of what Format wrote: %v", first.Format(), err)
		}
		if !again.Equal(first) {
			t.Errorf("round trip of %+v = %+v", first, again)
		}
	})
}

// FuzzFormatIsRead: a Meta within its bounds is read back as it was written.
func FuzzFormatIsRead(f *testing.F) {
	f.Add("1.0", true, 250, int64(1_795_446_245), int64(7))
	f.Fuzz(func(t *testing.T, version string, backup bool, maxconn int, sec, nsec int64) {
		in := contract.Meta{Version: version, Backup: backup, MaxConn: maxconn, Leaving: time.Unix(sec, nsec).UTC()}
		out, err := contract.Parse(in.Format())
		if err == nil && !out.Equal(in) {
			t.Errorf("Parse(%q) = %+v, want %+v", in.Format(), out, in)
		}
	})
}
