package config_test

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/pointsman/pointsman/sidecar/internal/config"
)

func TestFlags_Help_IsShortAndWithoutMarkdown(t *testing.T) {
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

func TestFlagHint_SettingWithoutFlag_SaysWhereItIsSet(t *testing.T) {
	if got, want := config.FlagHint("reload-debounce", nil), "; set reload.debounce in the settings file, or POINTSMAN_RELOAD_DEBOUNCE"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
