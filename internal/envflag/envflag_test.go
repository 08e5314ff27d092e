package envflag_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/pointsman/pointsman/internal/envflag"
)

type values struct {
	wait    time.Duration
	targets []string
	version string
}

func flagSet(v *values) *pflag.FlagSet {
	flags := pflag.NewFlagSet("t", pflag.ContinueOnError)
	flags.DurationVar(&v.wait, "leave-wait", time.Second, "")
	flags.StringSliceVar(&v.targets, "target", []string{"http://default/"}, "")
	flags.StringVar(&v.version, "version-name", "1.0", "")
	envflag.SetVariable(flags, "version-name", "VERSION")
	return flags
}

func TestFlagWinsOverEnvironmentWinsOverDefault(t *testing.T) {
	for _, c := range []struct {
		name    string
		args    []string
		environ []string
		want    values
	}{
		{"neither", nil, nil, values{time.Second, []string{"http://default/"}, "1.0"}},
		{"environment", nil, []string{"T_LEAVE_WAIT=3s", "T_TARGET=http://a/,http://b/", "T_VERSION=1.1"}, values{3 * time.Second, []string{"http://a/", "http://b/"}, "1.1"}},
		{"both", []string{"--leave-wait", "5s", "--target", "http://c/", "--version-name", "1.2"}, []string{"T_LEAVE_WAIT=3s", "T_TARGET=http://a/", "T_VERSION=1.1"}, values{5 * time.Second, []string{"http://c/"}, "1.2"}},
		{"empty counts as not there", nil, []string{"T_LEAVE_WAIT=", "T_VERSION="}, values{time.Second, []string{"http://default/"}, "1.0"}},
		{"others' variables", nil, []string{"T_SERVICE_HOST=10.0.0.1", "LEAVE_WAIT=9s"}, values{time.Second, []string{"http://default/"}, "1.0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got values
			flags := flagSet(&got)
			if err := flags.Parse(c.args); err != nil {
				t.Fatal(err)
			}
			if err := envflag.Set(flags, "T_", c.environ); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, c.want, cmp.AllowUnexported(values{})); diff != "" {
				t.Errorf("values (-got +want):\n%s", diff)
			}
		})
	}
}

func TestEveryMalformedVariableIsNamedWithItsValue(t *testing.T) {
	var v values
	flags := flagSet(&v)
	var port int
	flags.IntVar(&port, "port", 0, "")

	err := envflag.Set(flags, "T_", []string{"T_LEAVE_WAIT=soon", "T_PORT=http"})

	for _, want := range []string{`T_LEAVE_WAIT="soon"`, `T_PORT="http"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error: got %v, want it to contain %q", err, want)
		}
	}
}
