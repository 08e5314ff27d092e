package catalog_test

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

func names(s catalog.Snapshot) (out []string) {
	for _, svc := range s.Services() {
		out = append(out, svc.Name)
	}
	return out
}

func TestSnapshotIsSortedAndTheLaterOfTwoWins(t *testing.T) {
	s := catalog.NewSnapshot(
		catalog.Service{Name: "web", Index: 1}, catalog.Service{Name: "api", Index: 2}, catalog.Service{Name: "web", Index: 3})
	if got, want := names(s), []string{"api", "web"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := s.Service("web").Index; got != 3 {
		t.Errorf("got index %d, want that of the later, 3", got)
	}
}

func TestServiceThatWasNeverHeardOfIsUnknownNotEmpty(t *testing.T) {
	got := catalog.NewSnapshot(catalog.Service{Name: "web", Known: true}).Service("api")
	if got.Known || got.Name != "api" || got.Instances != nil {
		t.Errorf("got %+v, want a service of that name that is not known", got)
	}
	if got := (catalog.Snapshot{}).Service("api"); got.Known || got.Name != "api" {
		t.Errorf("zero snapshot: got %+v, want a service of that name that is not known", got)
	}
}

func TestWithLeavesTheSnapshotItCameFromAsItWas(t *testing.T) {
	before := catalog.NewSnapshot(catalog.Service{Name: "b", Index: 1}, catalog.Service{Name: "d", Index: 1})
	for _, c := range []struct {
		replace string
		want    []string
	}{
		{"a", []string{"a", "b", "d"}},
		{"b", []string{"b", "d"}},
		{"c", []string{"b", "c", "d"}},
		{"d", []string{"b", "d"}},
		{"e", []string{"b", "d", "e"}},
	} {
		after := before.With(catalog.Service{Name: c.replace, Index: 9})
		if got := names(after); !slices.Equal(got, c.want) {
			t.Errorf("With(%s): got %q, want %q", c.replace, got, c.want)
		}
		if got := after.Service(c.replace).Index; got != 9 {
			t.Errorf("With(%s): got index %d, want the new one, 9", c.replace, got)
		}
		if got, want := names(before), []string{"b", "d"}; !slices.Equal(got, want) {
			t.Fatalf("after With(%s) the old snapshot has %q, want %q", c.replace, got, want)
		}
		if b, d := before.Service("b").Index, before.Service("d").Index; b != 1 || d != 1 {
			t.Fatalf("after With(%s) the old snapshot has the indices %d, %d, want 1, 1", c.replace, b, d)
		}
	}
}

// Two answers may be added to one snapshot: neither may write into the other's.
func TestTwoSnapshotsFromOneShareNothing(t *testing.T) {
	base := catalog.NewSnapshot(catalog.Service{Name: "a"}).With(catalog.Service{Name: "b"})
	one, two := base.With(catalog.Service{Name: "one"}), base.With(catalog.Service{Name: "two"})
	if got, want := names(one), []string{"a", "b", "one"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := names(two), []string{"a", "b", "two"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestServicesGivesTheCallerASliceOfItsOwn(t *testing.T) {
	s := catalog.NewSnapshot(catalog.Service{Name: "a"}, catalog.Service{Name: "b"})
	s.Services()[0].Name = "changed"
	if got, want := names(s), []string{"a", "b"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

var leaving = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func service(change func(*catalog.Service)) catalog.Service {
	s := catalog.Service{
		Name: "api", Known: true, Index: 7,
		Instances: []catalog.Instance{{
			ID: "api-1", Node: "n", Server: "api-1", Addr: netip.MustParseAddrPort("10.0.0.1:4000"), Weight: 1, Version: "1.0", Leaving: leaving,
		}},
		Rejected: []catalog.Rejection{{ID: "bad", Node: "n", Err: errors.New("port 0")}},
	}
	if change != nil {
		change(&s)
	}
	return s
}

func TestEqualComparesAllThatMatters(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*catalog.Service)
		want   bool
	}{
		{"nothing", nil, true},
		{"the index", func(s *catalog.Service) { s.Index = 8 }, true},
		{"the time zone of leaving", func(s *catalog.Service) { s.Instances[0].Leaving = leaving.In(time.FixedZone("x", 3600)) }, true},
		{"another error value with the same words", func(s *catalog.Service) { s.Rejected[0].Err = errors.New("port 0") }, true},
		{"the name", func(s *catalog.Service) { s.Name = "web" }, false},
		{"known", func(s *catalog.Service) { s.Known = false }, false},
		{"an instance more", func(s *catalog.Service) { s.Instances = append(s.Instances, catalog.Instance{ID: "api-2"}) }, false},
		{"an instance less", func(s *catalog.Service) { s.Instances = nil }, false},
		{"the ID", func(s *catalog.Service) { s.Instances[0].ID = "x" }, false},
		{"the node", func(s *catalog.Service) { s.Instances[0].Node = "x" }, false},
		{"the server", func(s *catalog.Service) { s.Instances[0].Server = "x" }, false},
		{"the address", func(s *catalog.Service) { s.Instances[0].Addr = netip.MustParseAddrPort("10.0.0.1:4001") }, false},
		{"the health", func(s *catalog.Service) { s.Instances[0].Health = catalog.Critical }, false},
		{"the weight", func(s *catalog.Service) { s.Instances[0].Weight = 2 }, false},
		{"the version", func(s *catalog.Service) { s.Instances[0].Version = "1.1" }, false},
		{"backup", func(s *catalog.Service) { s.Instances[0].Backup = true }, false},
		{"maxconn", func(s *catalog.Service) { s.Instances[0].MaxConn = 5 }, false},
		{"leaving", func(s *catalog.Service) { s.Instances[0].Leaving = time.Time{} }, false},
		{"a rejection less", func(s *catalog.Service) { s.Rejected = nil }, false},
		{"a rejection's ID", func(s *catalog.Service) { s.Rejected[0].ID = "x" }, false},
		{"a rejection's node", func(s *catalog.Service) { s.Rejected[0].Node = "x" }, false},
		{"a rejection's error", func(s *catalog.Service) { s.Rejected[0].Err = errors.New("port 70000") }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := service(nil), service(c.change)
			if got := a.Equal(b); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if got := b.Equal(a); got != c.want {
				t.Errorf("the other way round: got %v, want %v", got, c.want)
			}
		})
	}
}

func TestHealthHasConsulsWords(t *testing.T) {
	for h, want := range map[catalog.Health]string{
		catalog.Passing: "passing", catalog.Warning: "warning", catalog.Critical: "critical", catalog.Maintenance: "maintenance", 99: "unknown",
	} {
		if got := h.String(); got != want {
			t.Errorf("%d: got %q, want %q", h, got, want)
		}
	}
}
