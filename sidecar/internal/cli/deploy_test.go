package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pointsman/pointsman/registrator/contract"
	"github.com/pointsman/pointsman/sidecar/internal/api"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/deploy"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/runner"
)

// deployScene is a Consul, and a sidecar's API that says what the test sets.
type deployScene struct {
	t      *testing.T
	consul *consultest.Fake
	url    string

	mu    sync.Mutex
	state reconcile.State
}

func newDeployScene(t *testing.T, access api.Access) *deployScene {
	t.Helper()
	s := &deployScene{t: t, consul: consultest.NewFake(t)}
	s.state = reconcile.State{LoadBalancer: "lb0", Ready: true, Converged: true, HAProxy: reconcile.HAProxyState{Running: true}}
	s.state.Services = []reconcile.ServiceState{{Name: "api", Known: true, Index: 1 << 40}}
	get := func() *reconcile.State {
		s.mu.Lock()
		defer s.mu.Unlock()
		now := s.state
		return &now
	}
	s.url = served(t, api.Options{
		Access: access, State: func() any { return get() },
		Watch: func() (api.Facts, <-chan struct{}) {
			soon := make(chan struct{})
			time.AfterFunc(10*time.Millisecond, func() { close(soon) })
			return daemon.Facts{State: get()}, soon
		},
	})
	s.sidecar("s0", contract.Sidecar{Balancer: "lb0", Services: []string{"api"}}.Format())
	return s
}

// sidecar registers one at the API's address.
func (s *deployScene) sidecar(id string, meta map[string]string) {
	host, port, _ := strings.Cut(s.url, ":")
	text, err := json.Marshal(meta)
	if err != nil {
		s.t.Fatal(err)
	}
	s.register(fmt.Sprintf(`{"Node":"n","Address":"127.0.0.1","Service":{"ID":%q,"Service":"pointsman-sidecar","Address":%q,"Port":%s,"Meta":%s}}`, id, host, port, text))
}

// node registers an instance, which the load balancer has up.
func (s *deployScene) node(id, version string) {
	s.register(fmt.Sprintf(`{"Node":"n","Address":"127.0.0.1","Service":{"ID":%q,"Service":"api","Port":80,"Meta":{"version":%q}}}`, id, version))
	s.mu.Lock()
	defer s.mu.Unlock()
	services := []reconcile.ServiceState{s.state.Services[0]}
	services[0].Instances = append(slices.Clip(services[0].Instances),
		reconcile.InstanceState{ID: id, Node: "n", Version: version, Phase: reconcile.PhaseUp, Weight: 1})
	s.state.Services = services
}

func (s *deployScene) register(body string) {
	s.t.Helper()
	s.consul.Register(s.t, body)
}

// run is `pointsman deploy` of api 1.1.
func (s *deployScene) run(environ []string, args ...string) (code int, stdout, stderr string) {
	// An empty one, and not that of this machine.
	settings := filepath.Join(s.t.TempDir(), "sidecar.yaml")
	if err := os.WriteFile(settings, nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
	var out, errs bytes.Buffer
	code = Run(s.t.Context(), Env{
		Args: append([]string{
			"deploy", "--config", settings, "--consul-address", s.consul.Address(),
			"--service", "api", "--version", "1.1", "--min-healthy", "0s",
		}, args...),
		Environ: append([]string{"PATH=" + os.Getenv("PATH")}, environ...), Hostname: "h", Stdout: &out, Stderr: &errs,
	})
	return code, out.String(), errs.String()
}

var commands = []string{"--start", "exit 3", "--stop", "true"}

func TestDeployRefusesWhatCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"no commands":           {nil, "--start and --stop, or --compose: required"},
		"one command":           {[]string{"--start", "true"}, "--start and --stop, or --compose"},
		"both ways":             {append([]string{"--compose", "api"}, commands...), "--compose api: cannot be combined with"},
		"no service":            {append([]string{"--service", ""}, commands...), "--service: required"},
		"a version for a shell": {append([]string{"--version", "$(reboot)"}, commands...), `version "$(reboot)": contains the character '$'`},
		"a count of none":       {append([]string{"--count", "0"}, commands...), "--count 0: must be 1 or more"},
		"no time":               {append([]string{"--timeout", "0s"}, commands...), "--timeout 0s: must be greater than 0"},
		"half an address":       {append([]string{"--load-balancer", "lb0"}, commands...), `--load-balancer "lb0": want NAME=ADDRESS`},
		"half a certificate":    {append([]string{"--sidecar-cert-file", "/c"}, commands...), "want both or none"},
		"a broken pattern":      {append([]string{"--instance-pattern", "["}, commands...), "--instance-pattern: error parsing regexp"},
		"a pattern for others":  {append([]string{"--instance-pattern", "web-.*"}, commands...), "--instance-pattern web-.*: does not match the IDs of new instances, such as api-1.1-"},
		"no healthy time":       {append([]string{"--min-healthy", "-1s"}, commands...), "--min-healthy -1s: must be 0s or more"},
		"an unknown flag":       {append([]string{"--bach", "1"}, commands...), "--bach"},
		"a bad setting":         {append([]string{"--log-level", "loud"}, commands...), "must be trace, debug"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newDeployScene(t, api.Access{})
			s.node("api-0", "1.0")
			code, _, stderr := s.run(nil, c.args...)
			if code != ExitUsage || !strings.Contains(stderr, c.says) {
				t.Errorf("got exit code %d, %q, want %d and %q", code, stderr, ExitUsage, c.says)
			}
		})
	}
}

func TestDeployNeedsNoServicesInItsSettings(t *testing.T) {
	s := newDeployScene(t, api.Access{})
	s.node("api-9", "1.1")
	// What deploy tells its commands is no misspelt setting.
	code, stdout, stderr := s.run([]string{"DEPLOY_VERSION=1.0", "DEPLOY_INSTANCE=x"}, append([]string{"--json"}, commands...)...)
	if code != ExitOK || !strings.Contains(stderr, "api 1.1 already deployed: 1 live on 1 load balancer; no changes made") {
		t.Errorf("got exit code %d, %q", code, stderr)
	}
	var r deploy.Result
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || r.Outcome != deploy.Already || len(r.LoadBalancers) != 1 || r.LoadBalancers[0].Live != 1 {
		t.Errorf("got %v, %s", err, stdout)
	}
}

// TestACommandOfADeploymentMayRunTheSidecar: its variables are no settings.
func TestACommandOfADeploymentMayRunTheSidecar(t *testing.T) {
	at := ownStatus(t, api.Access{}, &reconcile.State{}, nil)
	environ := []string{plan.MarkerVariable + "=x", sidecarVariable + "KEY_FILE=/k"}
	for _, fact := range runner.Facts {
		environ = append(environ, runner.Prefix+fact+"=1.1")
	}
	var stdout, stderr strings.Builder
	environ = append(environ, "POINTSMAN_API_ADDRESS="+at)
	code := Run(t.Context(), Env{Args: []string{"guard", "list", "--config", settingsFile(t, "services: []\n")}, Environ: environ, Hostname: "lb0", Stdout: &stdout, Stderr: &stderr})
	if code != ExitOK || stdout.String() != "The guard holds no servers.\n" {
		t.Errorf("got exit code %d, %q %q, want that it runs", code, stdout.String(), stderr.String())
	}
}

func TestDeploySaysWhatFailed(t *testing.T) {
	s := newDeployScene(t, api.Access{})
	s.node("api-0", "1.0")
	code, stdout, stderr := s.run(nil, commands...)
	if code != ExitFailure || stdout != "" || !strings.Contains(stderr, "start 0: exit status 3, after 0.") || !strings.Contains(stderr, "api 1.1 not deployed; old instances not touched") {
		t.Errorf("got exit code %d, %q, %q", code, stdout, stderr)
	}
}

func TestDeploySaysThatItIsPartial(t *testing.T) {
	s := newDeployScene(t, api.Access{})
	s.node("api-0", "1.0")
	s.node("api-9", "1.1")
	code, _, stderr := s.run(nil, "--start", "true", "--stop", "exit 5")
	if code != ExitHalfway || !strings.Contains(stderr, `stop "api-0": stop api-0: exit status 5`) || !strings.Contains(stderr, "new version: api-9 runs; old version: api-0 runs") {
		t.Errorf("got exit code %d, %q", code, stderr)
	}
}

// Exit code 1 says that no old node was touched.
func TestDeploy_Interrupted_ExitCodeOfTheSignalOrPartially(t *testing.T) {
	for _, c := range []struct {
		signal syscall.Signal // 0: the lock was lost
		want   int
	}{{0, ExitHalfway}, {syscall.SIGTERM, 128 + 15}} {
		err := ended(deploy.Result{Outcome: deploy.Interrupted}, c.signal, newDeployScreen(io.Discard))
		if e, is := errors.AsType[*exitError](err); !is || e.Code != c.want {
			t.Errorf("signal %d: %v, want exit code %d", c.signal, e, c.want)
		}
	}
}

func TestDeployShowsItsToken(t *testing.T) {
	t.Parallel()
	s := newDeployScene(t, api.Access{Token: "secret"})
	s.node("api-9", "1.1")
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	// An address that is registered in Consul is sent none: it may be anybody's.
	if code, _, stderr := s.run([]string{"DEPLOY_SIDECAR_TOKEN_FILE=" + file}, commands...); code != ExitFailure || !strings.Contains(stderr, "--sidecar-ca-file") {
		t.Errorf("to a registered address: got exit code %d, %q, want no token sent", code, stderr)
	}
	commands := append([]string{"--load-balancer", "lb0=" + s.url}, commands...)
	if code, _, stderr := s.run([]string{"DEPLOY_SIDECAR_TOKEN_FILE=" + file}, commands...); code != ExitOK {
		t.Errorf("by the variable: got exit code %d, %q", code, stderr)
	}
	if code, _, stderr := s.run([]string{"DEPLOY_SIDECAR_TOKEN_FILE=/nowhere"}, append([]string{"--sidecar-token-file", file}, commands...)...); code != ExitOK {
		t.Errorf("by the flag: got exit code %d, %q", code, stderr)
	}
	if code, _, stderr := s.run(nil, commands...); code != ExitFailure || !strings.Contains(stderr, "status 401") {
		t.Errorf("without: got exit code %d, %q", code, stderr)
	}
}

// Any program may register as a sidecar; what can't be read is not passed
// over, for it may be one that routes the service.
func TestDeployBeginsNothingWithASidecarThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meta map[string]string
		args []string
		code int
		says string
	}{
		"without a name":         {map[string]string{"pointsman-routes": "api"}, nil, ExitFailure, `the load balancer of sidecar "s1" unreachable`},
		"of another name":        {contract.Sidecar{Balancer: "lb1", Services: []string{"api"}}.Format(), nil, ExitFailure, `the load balancer "lb0" answers there`},
		"that is left out":       {contract.Sidecar{Balancer: "lb1", Services: []string{"api"}}.Format(), []string{"--without", "lb1"}, ExitOK, "already"},
		"of another service":     {contract.Sidecar{Balancer: "lb1", Services: []string{"web"}}.Format(), nil, ExitOK, "already"},
		"that has stopped":       {contract.Sidecar{Balancer: "lb1", Services: []string{"api"}, Stopped: time.Now()}.Format(), []string{"--load-balancer", "lb1=127.0.0.1:1"}, ExitFailure, "at http://127.0.0.1:1 unreachable"},
		"that is asked nowhere":  {contract.Sidecar{Balancer: "lb1", Services: []string{"api"}}.Format(), []string{"--load-balancer", "lb1=127.0.0.1:1"}, ExitFailure, "at http://127.0.0.1:1 unreachable"},
		"too few":                {contract.Sidecar{Balancer: "lb1", Services: []string{"web"}}.Format(), []string{"--load-balancers", "2"}, ExitFailure, "want 2"},
		"of the same name twice": {contract.Sidecar{Balancer: "lb0", HTTPS: true, Services: []string{"api"}}.Format(), nil, ExitFailure, "two sidecars have this name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // some wait for the load balancer
			s := newDeployScene(t, api.Access{})
			s.node("api-9", "1.1")
			s.sidecar("s1", c.meta)
			code, _, stderr := s.run(nil, append(c.args, commands...)...)
			if code != c.code || !strings.Contains(stderr, c.says) {
				t.Errorf("got exit code %d, %q, want %d and %q", code, stderr, c.code, c.says)
			}
		})
	}
}

func TestTheVariableOfAComposeServicesVersion(t *testing.T) {
	for service, want := range map[string]string{"api": "API_VERSION", "my-api.v2": "MY_API_V2_VERSION"} {
		if got := (&deployOptions{compose: service}).composeVariable(); got != want {
			t.Errorf("%s: got %s, want %s", service, got, want)
		}
	}
	if got := (&deployOptions{compose: "api", variable: "V"}).composeVariable(); got != "V" {
		t.Errorf("one that is given: got %s", got)
	}
}

// Its HAProxy keeps running until a check of what it has left in Consul is critical.
func TestDeploy_RecordOfStoppedSidecar_AskedUntilItEnds(t *testing.T) {
	t.Parallel()
	s := newDeployScene(t, api.Access{})
	s.node("api-9", "1.1")
	s.sidecar("s1", contract.Sidecar{Balancer: "lb1", Services: []string{"api"}, Stopped: time.Now()}.Format())
	if code, _, stderr := s.run(nil, commands...); code != ExitFailure || !strings.Contains(stderr, "the load balancer lb1 at ") || !strings.Contains(stderr, "its sidecar stopped at 20") {
		t.Errorf("while its HAProxy serves: got exit code %d, %q, want that it is asked", code, stderr)
	}
	s.register(`{"Node":"n","Address":"127.0.0.1","Check":{"CheckID":"s1:haproxy","ServiceID":"s1","Status":"critical"}}`)
	if code, _, stderr := s.run(nil, commands...); code != ExitOK || !strings.Contains(stderr, "1 live on 1 load balancer") {
		t.Errorf("once it has ended: got exit code %d, %q", code, stderr)
	}
}
