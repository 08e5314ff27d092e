package architecture

// module is the path that our own imports begin with.
const module = "github.com/pointsman/pointsman"

// A rule says what the packages at one place may import of this module.
// Imports point inward: main → cli → daemon → the adapters → the pure core.
//
// A place is a directory; with "/..." at the end it is the directory and all
// below it, which may also import each other. The longest place that fits a
// package is its rule.
type rule struct {
	place   string
	imports []string // places, too
	tests   []string // what its tests may import besides
}

// rules is every edge that is allowed; docs/architecture.md has the picture. A package without a row fails the
// test: give it one when you create it, and ask whether the edge points inward.
var rules = []rule{
	// The sidecar.
	{place: "sidecar/cmd/...", imports: []string{sidecar + "cli/..."}},
	// The commands ask the running sidecar, or look with the daemon's parts.
	{
		place: sidecar + "cli/...",
		imports: []string{
			sidecar + "daemon", sidecar + "reconcile/...", sidecar + "config/...", sidecar + "consul/...", sidecar + "haproxy/...", sidecar + "render/...",
			sidecar + "api/...", sidecar + "deploy/...", sidecar + "runner/...", sidecar + "event", sidecar + "flight", sidecar + "fleet", sidecar + "history", sidecar + "rollout", sidecar + "pause", sidecar + "catalog/...", sidecar + "plan/...", sidecar + "route",
			"internal/process", "registrator/contract/...", "registrator/platform", "registrator/sidecarapi",
		},
		tests: fakes,
	},
	{
		place: sidecar + "daemon",
		imports: []string{
			sidecar + "reconcile/...", sidecar + "config/...", sidecar + "consul/...",
			sidecar + "haproxy/...", sidecar + "metrics/...", sidecar + "render/...",
			sidecar + "api/...", sidecar + "certificate", "internal/credential", "internal/reach", sidecar + "statefile/...", sidecar + "event", sidecar + "flight", sidecar + "fleet", sidecar + "history", sidecar + "rollout", sidecar + "pause", sidecar + "analysis", sidecar + "trace",
			// The wiring turns settings into the values of the core, and prints plans.
			sidecar + "catalog/...", sidecar + "plan/...", sidecar + "route",
			// It registers the load balancer, as any program registers itself.
			"registrator", "registrator/contract/...", "registrator/sidecarapi",
			// It hands the template over, so that render knows any template alike.
			"templates",
		},
		tests: append([]string{sidecar + "serveroption"}, fakes...),
	},
	{place: sidecar + "reconcile/...", imports: core, tests: fakes},
	{place: sidecar + "consul/...", imports: append([]string{"registrator/contract/...", "internal/credential"}, core...), tests: fakes},
	{place: sidecar + "haproxy/...", imports: core, tests: fakes},
	{place: sidecar + "render/...", imports: append([]string{sidecar + "haproxycfg"}, core...), tests: append([]string{"templates"}, fakes...)},
	// The page shows reconcile.State, a value; the agent knows nothing of the page.
	{place: sidecar + "api/...", imports: append([]string{sidecar + "reconcile/...", "internal/credential", sidecar + "event", "registrator/contract/...", "registrator/sidecarapi"}, core...), tests: fakes},
	// It keeps what happened: it reads the agent's State and takes its calls.
	{place: sidecar + "event", imports: append([]string{sidecar + "reconcile/..."}, core...)},
	// It follows changes by the agent's calls.
	{place: sidecar + "trace", imports: []string{sidecar + "reconcile/...", sidecar + "plan/..."}},
	// It keeps decisions, and makes them again.
	{place: sidecar + "flight", imports: core},
	// It keeps what deploy did, in Consul.
	{place: sidecar + "history", imports: []string{sidecar + "deploy/...", sidecar + "consul/..."}, tests: fakes},
	// It lays the weights of versions over the catalog, by documents in Consul.
	{place: sidecar + "rollout", imports: []string{sidecar + "catalog/...", sidecar + "consul/..."}, tests: fakes},
	// It follows which services are paused, by documents in Consul.
	{place: sidecar + "pause", imports: []string{sidecar + "catalog/...", sidecar + "consul/..."}, tests: fakes},
	// It sums up States, and gathers over interfaces of its own.
	{place: sidecar + "fleet", imports: []string{sidecar + "reconcile/..."}},
	{place: sidecar + "statefile/...", imports: []string{sidecar + "catalog/..."}},
	{place: sidecar + "metrics/...", imports: core, tests: fakes},
	// It decides, over interfaces of its own; cli puts the adapters behind them.
	{place: sidecar + "deploy/..."},
	{place: sidecar + "runner/...", imports: []string{sidecar + "deploy/..."}},
	{place: sidecar + "plan/...", imports: []string{sidecar + "catalog/..."}},
	{place: sidecar + "catalog/..."},
	{place: sidecar + "config/...", imports: []string{sidecar + "serveroption", sidecar + "haproxycfg", sidecar + "route"}},
	{place: sidecar + "haproxycfg"},
	{place: sidecar + "route"},
	{place: sidecar + "analysis"},
	{place: sidecar + "serveroption"},
	{place: sidecar + "certificate", tests: fakes},
	{place: "templates"},

	// The world in which the agent's loop is simulated: tests only.
	{place: sidecar + "sim/...", tests: append([]string{sidecar + "reconcile/...", sidecar + "flight", sidecar + "rollout", sidecar + "consul/..."}, core...)},

	// The fakes, which only tests import.
	{place: sidecar + "consultest/...", imports: append([]string{"test/lab/...", "test/proctest"}, core...), tests: []string{"test/compat"}},
	{place: sidecar + "haproxytest/...", imports: append([]string{"test/lab/...", "test/proctest"}, core...)},

	// What both halves need: leaves.
	{place: "internal/credential", tests: fakes},
	{place: "internal/envflag"},
	{place: "internal/process"},
	{place: "internal/reach"},

	// The library and the programs around it.
	{place: "registrator", imports: []string{"registrator/contract/...", "registrator/sidecarapi", "internal/credential"}, tests: fakes},
	{place: "registrator/sidecarapi", imports: []string{"registrator/contract/..."}},
	{place: "registrator/contract/..."},
	{place: "registrator/platform"},
	{place: "registrator/cmd/...", imports: []string{"internal/envflag", "internal/process", "internal/reach", "registrator", "registrator/contract/...", "registrator/platform"}, tests: fakes},
	{place: "services/api/...", imports: []string{"internal/envflag", "internal/reach", "registrator", "services/internal/..."}, tests: fakes},
	{place: "services/client/...", imports: []string{"internal/envflag", "services/internal/..."}, tests: fakes},
	{place: "services/internal/...", imports: []string{"internal/envflag", "internal/process"}},

	// The tests of the whole, which see only programs and HTTP.
	{place: "test/lab/...", imports: []string{"registrator/sidecarapi"}},
	{place: "test/proctest", imports: []string{"test/lab/..."}},
	{place: "test/e2e/...", imports: []string{"test/lab/...", "test/certtest", "test/hostile", "test/compat"}},
	{place: "test/bench", imports: []string{"test/lab/..."}},
	{place: "test/certtest"},
	{place: "test/manpages"},
	{place: "test/packages"},
	{place: "test/hostile"},
	{place: "test/compat"},
	{place: "test/compat/cmd/...", imports: []string{"test/compat"}},
	{place: "test/architecture"},
}

const sidecar = "sidecar/internal/"

var (
	// core is what every adapter may know.
	core = []string{sidecar + "catalog/...", sidecar + "plan/...", sidecar + "route"}
	// fakes is what only tests may import; test/lab and test/proctest start the
	// real programs, test/hostile is a table, test/compat keeps what is seen of
	// versions.
	fakes = []string{
		sidecar + "consultest/...", sidecar + "haproxytest/...",
		"test/lab/...", "test/proctest", "test/certtest", "test/manpages", "test/hostile", "test/compat",
	}
)

// pure are the packages that decide. They get the outside as values: no I/O,
// no clock, no log.
var pure = []string{sidecar + "catalog/...", sidecar + "plan/...", "registrator/contract/..."}

// outside are the packages that a pure one must not import.
var outside = []string{
	"io/fs", "log", "log/slog", "math/rand", "math/rand/v2", "net", "net/http", "os", "os/exec",
	"os/signal", "syscall", "github.com/hashicorp/go-hclog", "go.uber.org/zap",
}

// clock are the functions of package time that read it, or wait for it.
var clock = []string{"After", "AfterFunc", "NewTicker", "NewTimer", "Now", "Since", "Sleep", "Tick", "Until"}

// process are the names of package os that read what the process was started
// with. Only a main package and the sidecar's cli may, and what finds the real
// programs for tests: all others are given it.
var process = []string{"Args", "Environ", "ExpandEnv", "Getenv", "LookupEnv"}

// edges are the places that may read process, and start and end a program.
var edges = []string{
	"sidecar/cmd/...", sidecar + "cli/...", "registrator/cmd/...", "services/...",
	sidecar + "consultest/...", sidecar + "haproxytest/...", "test/...",
}
