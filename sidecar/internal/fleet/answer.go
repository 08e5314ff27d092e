package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// The bounds of another sidecar's summary.
const (
	maxServices    = 5000
	maxVersions    = 64     // of a service
	maxAllVersions = 20_000 // of a summary
	maxText        = 300    // bytes
)

// Answer is the summary of another sidecar. It may be anything: a list is bounded
// while it is decoded, as three bytes of it may take eighty in memory, and no list is
// null.
type Answer Summary

// UnmarshalJSON refuses what no sidecar answers, and cuts what is too long.
func (a *Answer) UnmarshalJSON(text []byte) error {
	type plain Summary
	var in struct {
		plain
		Verdict struct {
			Status  reconcile.Status `json:"status"`
			Reasons json.RawMessage  `json:"reasons"`
		} `json:"verdict"`
		Services json.RawMessage `json:"services"`
	}
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	*a = Answer(in.plain)
	a.Verdict = reconcile.Verdict{Status: known(in.Verdict.Status), Reasons: []reconcile.Finding{}}
	if err := a.reasons(in.Verdict.Reasons); err != nil {
		return fmt.Errorf("reasons: %w", err)
	}
	if err := a.services(in.Services); err != nil {
		return fmt.Errorf("services: %w", err)
	}
	for _, s := range []*string{&a.Version, &a.HAProxy.Version, &a.HAProxy.Error, &a.Reloads.LastReason, &a.Reloads.Pending, &a.Reloads.Error} {
		*s = cut(*s)
	}
	return nil
}

func (a *Answer) reasons(text []byte) error {
	return eachOf(text, func(f reconcile.Finding) error {
		if len(a.Verdict.Reasons) == maxReasons {
			return fmt.Errorf("more than %d", maxReasons)
		}
		a.Verdict.Reasons = append(a.Verdict.Reasons, reconcile.Finding{
			Status: known(f.Status), Service: cut(f.Service), Backend: cut(f.Backend), Text: cut(f.Text),
		})
		return nil
	})
}

func (a *Answer) services(text []byte) error {
	type plain Service
	type withVersions struct {
		plain
		Versions json.RawMessage `json:"versions"`
	}
	a.Services = []Service{}
	seen, all := map[[2]string]bool{}, 0
	return eachOf(text, func(in withVersions) error {
		s := Service(in.plain)
		key := [2]string{s.Name, s.Backend}
		switch {
		case len(a.Services) == maxServices:
			return fmt.Errorf("more than %d", maxServices)
		case seen[key]:
			return fmt.Errorf("%.100q with backend %.100q twice", s.Name, s.Backend)
		}
		seen[key] = true
		s.Name, s.Backend, s.Versions = cut(s.Name), cut(s.Backend), []Version{}
		err := eachOf(in.Versions, func(v Version) error {
			if all++; len(s.Versions) == maxVersions || all > maxAllVersions {
				return fmt.Errorf("more than %d versions of one, or %d of all", maxVersions, maxAllVersions)
			}
			v.Version = cut(v.Version)
			s.Versions = append(s.Versions, v)
			return nil
		})
		a.Services = append(a.Services, s)
		return err
	})
}

// eachOf decodes the elements of a list one by one; null is an empty list.
func eachOf[T any](text []byte, add func(T) error) error {
	if len(text) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	begin, err := d.Token()
	switch {
	case err != nil:
		return err
	case begin == nil:
		return nil
	case begin != json.Delim('['):
		return errors.New("want a list")
	}
	for d.More() {
		var one T
		if err := d.Decode(&one); err != nil {
			return err
		}
		if err := add(one); err != nil {
			return err
		}
	}
	return nil
}

// known returns a status that there is: one that another sidecar has made up is
// Degraded.
func known(s reconcile.Status) reconcile.Status {
	if slices.Contains(ranks, s) {
		return s
	}
	return reconcile.Degraded
}

func cut(s string) string {
	if len(s) > maxText {
		return strings.ToValidUTF8(s[:maxText-3], "") + "…"
	}
	return s
}

// size is about how much memory a summary takes, and at least a sixth of its JSON.
func (s *Summary) size() int {
	n := 1000 + len(s.HAProxy.Error) + len(s.Reloads.LastReason) + len(s.Reloads.Pending) + len(s.Reloads.Error)
	for _, r := range s.Verdict.Reasons {
		n += 100 + len(r.Service) + len(r.Backend) + len(r.Text)
	}
	for _, svc := range s.Services {
		n += 100 + len(svc.Name) + len(svc.Backend)
		for _, v := range svc.Versions {
			n += 100 + len(v.Version)
		}
	}
	return n
}
