package plan_test

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

func TestServersInReadsWhatTakesTraffic(t *testing.T) {
	const head = "global\n    setenv " + plan.MarkerVariable + " x\n"
	server := func(name string, n, weight, maxConn int, backup bool) plan.FileServer {
		return plan.FileServer{Name: name, Addr: addr(n), Weight: weight, MaxConn: maxConn, Backup: backup}
	}
	for _, c := range []struct {
		name, file string
		want       map[string][]plan.FileServer
	}{
		{"none", head, nil},
		{"not ours", "backend api\n    server a 10.0.0.1:4000 weight 1\n", nil},
		{
			"all that render writes",
			head + "backend api\n    balance roundrobin\n    server a 10.0.0.1:4000 check weight 10 maxconn 5 backup\n    server b 10.0.0.2:4000 weight 1\n" +
				"    server off 10.0.0.3:4000 weight 1 disabled\n    server drains 10.0.0.4:4000 weight 0\n",
			map[string][]plan.FileServer{"api": {server("a", 1, 10, 5, true), server("b", 2, 1, 0, false)}},
		},
		{
			"what the operator's options say comes first",
			head + "backend api\n    server a 10.0.0.1:4000 weight 7 weight 10\n",
			map[string][]plan.FileServer{"api": {server("a", 1, 10, 0, false)}},
		},
		{
			"the rotation, and what is in no backend, are no instance's",
			head + "backend " + plan.RotationBackend + "\n    server lb 127.0.0.1:9 weight 1\nlisten x\n    server a 10.0.0.1:4000 weight 1\n", nil,
		},
		{
			"lines that can't be read",
			head + "backend api\n    server\n    server a\n    server a b\n    server a example.org:80\n    server a 10.0.0.1:0\n" +
				"    server a 10.0.0.1:4000 weight\n    server a 10.0.0.1:4000 weight 257\n    server a 10.0.0.1:4000 maxconn -1\n", nil,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := plan.ServersIn(c.file)
			if diff := cmp.Diff(c.want, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSameFile_EveryField_IsCompared(t *testing.T) {
	full := func() plan.FileBackend {
		return plan.FileBackend{Servers: []plan.FileServer{{Name: "api-1"}}}
	}
	for _, change := range []struct {
		of     reflect.Type
		change func(f *plan.FileBackend) reflect.Value
	}{
		{reflect.TypeFor[plan.FileBackend](), func(f *plan.FileBackend) reflect.Value { return reflect.ValueOf(f).Elem() }},
		{reflect.TypeFor[plan.FileServer](), func(f *plan.FileBackend) reflect.Value { return reflect.ValueOf(&f.Servers[0]).Elem() }},
	} {
		for n := range change.of.NumField() {
			x, y := full(), full()
			field := change.change(&y).Field(n)
			switch field.Kind() {
			case reflect.String:
				field.SetString("other")
			case reflect.Bool:
				field.SetBool(true)
			case reflect.Int:
				field.SetInt(7)
			case reflect.Slice:
				field.SetZero()
			default: // Addr
				field.Set(reflect.ValueOf(netip.MustParseAddrPort("10.0.0.1:80")))
			}
			if plan.SameFile([]plan.FileBackend{x}, []plan.FileBackend{y}) {
				t.Errorf("%s.%s differs, and the files are called the same", change.of, change.of.Field(n).Name)
			}
		}
	}
}
