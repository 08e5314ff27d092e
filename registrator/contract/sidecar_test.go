package contract_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/registrator/contract"
)

func TestParseSidecar(t *testing.T) {
	tests := map[string]struct {
		meta map[string]string
		want contract.Sidecar
		err  string // in the error; "" for success
	}{
		"one service over http": {
			meta: map[string]string{"pointsman-lb": "lb0", "pointsman-routes": "api"},
			want: contract.Sidecar{Balancer: "lb0", Services: []string{"api"}},
		},
		"several over https, in several values, out of order": {
			meta: map[string]string{"pointsman-lb": "lb0", "pointsman-scheme": "https", "pointsman-routes": "web,api", "pointsman-routes-1": "files,api"},
			want: contract.Sidecar{Balancer: "lb0", HTTPS: true, Services: []string{"api", "files", "web"}},
		},
		"no service":      {meta: map[string]string{"pointsman-lb": "lb0"}, want: contract.Sidecar{Balancer: "lb0"}},
		"too many to say": {meta: map[string]string{"pointsman-lb": "lb0", "pointsman-routes": "*"}, want: contract.Sidecar{Balancer: "lb0", Unlisted: true}},
		"no name":         {meta: map[string]string{"pointsman-routes": "api"}, want: contract.Sidecar{Services: []string{"api"}}, err: `meta "pointsman-lb": ""`},
		"a hostile name": {
			meta: map[string]string{"pointsman-lb": "lb\n0", "pointsman-routes": "api"},
			want: contract.Sidecar{Services: []string{"api"}}, err: `"lb\n0"`,
		},
		"one that has stopped": {
			meta: map[string]string{"pointsman-lb": "lb0", "pointsman-stopped": "2026-11-23T16:04:05+01:00"},
			want: contract.Sidecar{Balancer: "lb0", Stopped: since},
		},
		"one that has stopped at no time": {
			meta: map[string]string{"pointsman-lb": "lb0", "pointsman-stopped": "yes"},
			want: contract.Sidecar{Balancer: "lb0"}, err: `meta "pointsman-stopped": "yes"`,
		},
		"an unknown scheme": {
			meta: map[string]string{"pointsman-lb": "lb0", "pointsman-scheme": "gopher"},
			want: contract.Sidecar{Balancer: "lb0"}, err: `meta "pointsman-scheme": "gopher"`,
		},
		"hostile routes": {
			meta: map[string]string{"pointsman-lb": "lb0", "pointsman-routes": "api,we\x00b", "pointsman-routes-1": "web"},
			want: contract.Sidecar{Balancer: "lb0", Services: []string{"web"}}, err: `"api,we\x00b"`,
		},
		"an empty route": {
			meta: map[string]string{"pointsman-lb": "lb0", "pointsman-routes": "api,,web"},
			want: contract.Sidecar{Balancer: "lb0"}, err: `"api,,web"`,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := contract.ParseSidecar(tc.meta)
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("ParseSidecar(%q) = %+v, want %+v", tc.meta, got, tc.want)
			}
			if (err != nil) != (tc.err != "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("ParseSidecar(%q) error = %v, want %q in it", tc.meta, err, tc.err)
			}
		})
	}
}

func TestASidecarsServicesFitIntoConsulsMetaOrAreNotListed(t *testing.T) {
	for _, count := range []int{0, 1, 50, 400, 2000} {
		s := contract.Sidecar{Balancer: "lb0"}
		for i := range count {
			s.Services = append(s.Services, fmt.Sprintf("a-service-with-a-long-name-%04d", i))
		}
		meta := s.Format()
		if len(meta) > 40 {
			t.Errorf("%d services take %d keys", count, len(meta))
		}
		for key, value := range meta {
			if len(value) > 512 {
				t.Errorf("%d services: %s has %d bytes, Consul takes 512", count, key, len(value))
			}
		}
		got, err := contract.ParseSidecar(meta)
		if err != nil {
			t.Fatal(err)
		}
		if unlisted := count > 500; got.Unlisted != unlisted || !unlisted && !slices.Equal(got.Services, s.Services) {
			t.Errorf("%d services come back as %d, unlisted %v", count, len(got.Services), got.Unlisted)
		}
		if count > 0 && !got.MayRoute(s.Services[count-1]) {
			t.Errorf("of %d services the last is not routed", count)
		}
	}
}

// A program in the second datacenter of such a service has to name it in its question.
func TestMayRouteIn_TooManyServicesToList_SeveralDatacentersAreKnown(t *testing.T) {
	s := contract.Sidecar{Balancer: "lb0", Services: []string{"api", "api@dc1", "api@dc2"}}
	for i := range 2000 {
		name := fmt.Sprintf("a-service-with-a-long-name-%04d", i)
		s.Services = append(s.Services, name, contract.ServiceIn(name, "dc2"))
	}
	got, err := contract.ParseSidecar(s.Format())
	if err != nil || !got.Unlisted {
		t.Fatalf("got %+v, %v, want it unlisted", got, err)
	}
	for _, c := range []struct {
		service, datacenter string
		may, named          bool
	}{
		{"api", "dc1", true, true},
		{"api", "dc2", true, true},
		{"api", "dc3", false, false},
		{"a-service-with-a-long-name-0000", "dc2", true, false},
	} {
		if may, named := got.MayRouteIn(c.service, c.datacenter); may != c.may || named != c.named {
			t.Errorf("%s in %s: got %v, %v, want %v, %v", c.service, c.datacenter, may, named, c.may, c.named)
		}
	}
	for i := range 2000 {
		name := fmt.Sprintf("another-with-a-long-name-%04d", i)
		s.Services = append(s.Services, contract.ServiceIn(name, "dc1"), contract.ServiceIn(name, "dc2"))
	}
	if meta := s.Format(); len(meta) > 40 {
		t.Errorf("too many of several datacenters take %d keys", len(meta))
	}
}

func FuzzParseSidecar(f *testing.F) {
	f.Add("lb0", "https", "api,web", "files")
	f.Add("", "ftp", "*", ",")
	f.Add("lb\x00", "", "a\nb", strings.Repeat("x", 600))
	f.Fuzz(func(t *testing.T, name, scheme, routes, more string) {
		got, err := contract.ParseSidecar(map[string]string{
			contract.KeyBalancer: name, contract.KeyScheme: scheme, contract.KeyRoutes: routes, contract.KeyRoutes + "-1": more,
		})
		for _, s := range append(slices.Clone(got.Services), got.Balancer) {
			for _, c := range []byte(s) {
				if c < ' ' || c > '~' {
					t.Fatalf("%q came through", s)
				}
			}
		}
		if err != nil {
			return
		}
		again, err := contract.ParseSidecar(got.Format())
		if got.Unlisted {
			got.Services, again.Services = nil, nil // not all that is said besides "*" is said again
		}
		if err != nil || !reflect.DeepEqual(got, again) {
			t.Errorf("%+v comes back as %+v, %v", got, again, err)
		}
	})
}

func TestMayRouteIn_DatacentersNamedOrNot(t *testing.T) {
	for _, c := range []struct {
		name       string
		s          contract.Sidecar
		datacenter string
		may, named bool
	}{
		{"no datacenter named", contract.Sidecar{Services: []string{"api"}}, "dc1", true, false},
		{"named", contract.Sidecar{Services: []string{"api", "api@dc1", "api@dc2"}}, "dc2", true, true},
		{"others named", contract.Sidecar{Services: []string{"api", "api@dc1"}}, "dc2", false, false},
		{"named for another service", contract.Sidecar{Services: []string{"api", "web", "web@dc2"}}, "dc2", true, false},
		{"another service alone", contract.Sidecar{Services: []string{"web", "web@dc2"}}, "dc2", false, false},
		{"too many to list", contract.Sidecar{Unlisted: true}, "dc2", true, false},
	} {
		said, err := contract.ParseSidecar(contract.Sidecar{Balancer: "lb0", Services: c.s.Services, Unlisted: c.s.Unlisted}.Format())
		if err != nil {
			t.Fatal(err)
		}
		if may, named := said.MayRouteIn("api", c.datacenter); may != c.may || named != c.named {
			t.Errorf("%s: got %v, %v, want %v, %v", c.name, may, named, c.may, c.named)
		}
	}
}
