package config_test

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/pointsman/pointsman/sidecar/internal/config"
)

func TestAFlagThatIsOnOrOffNeedsNoValue(t *testing.T) {
	if !mustLoad(t, input{yaml: "services: []\n", args: []string{"--consul-ssl"}}).Consul.SSL {
		t.Error("--consul-ssl: consul.ssl is false, want true")
	}
}

func TestFlags_Help_ShowsTheCommonOnesWithoutMarkdown(t *testing.T) {
	flags := pflag.NewFlagSet("pointsman", pflag.ContinueOnError)
	config.RegisterFlags(flags)
	help := flags.FlagUsages()
	if n := strings.Count(help, "\n"); n == 0 || n > 15 {
		t.Errorf("--help shows %d flags, want 1 to 15:\n%s", n, help)
	}
	for _, flag := range []string{"--config", "--consul-address", "--haproxy-config", "--log-level"} {
		if !strings.Contains(help, flag+" ") {
			t.Errorf("--help does not show %s", flag)
		}
	}
	flags.VisitAll(func(f *pflag.Flag) {
		if strings.Contains(f.Usage, "](") || strings.Contains(f.Usage, "`") {
			t.Errorf("--%s: markdown in %q", f.Name, f.Usage)
		}
	})
}
