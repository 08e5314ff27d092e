package haproxy

import "testing"

func TestServersAreDynamicFrom30On(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{
		"2.6.12-1+deb12u4": false, "2.9.7": false, "3.0.11-1+deb13u5": true, "3.4.7-1": true,
		"3.5-dev5-abc": true, "10.0.0": true, "": false, "HAProxy": false, "3": false, "x.0": false, "-3.0": false, "3.x": false,
	} {
		if got := capabilities(version); got.Dynamic != want || got.Version != version {
			t.Errorf("%q: got %+v, want Dynamic %v", version, got, want)
		}
	}
}
