package consul_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/sidecar/internal/consultest"
	"github.com/pointsman/pointsman/test/proctest"
)

// The policies that docs/consul-token.md gives an operator are enough for what the
// sidecar, a program and a deployment ask of Consul, and need each of their rules.
func TestPages_ConsulTokens_AllowWhatIsAskedByEachRule(t *testing.T) {
	const management = "11111111-2222-3333-4444-555555555555"
	p := consultest.StartProcess(t, aclConsul(t))
	operator := client(t, p.Address(), management)
	// Consul 1.8 begins in the legacy mode of ACLs, also after it has a leader.
	proctest.Until(t, 20*time.Second, "the ACL system", func() bool {
		_, _, err := operator.ACL().PolicyList(nil)
		return err == nil
	})
	for _, name := range []string{"api", "pointsman-sidecar"} {
		if err := operator.Agent().ServiceRegister(&api.AgentServiceRegistration{Name: name, Port: 4000}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := operator.KV().Put(&api.KVPair{Key: "pointsman/deployments/api"}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := operator.KV().Put(&api.KVPair{Key: "pointsman/rollout-leaders/api"}, nil); err != nil {
		t.Fatal(err)
	}
	proctest.Until(t, 20*time.Second, "the services in the catalog", func() bool {
		return lists("api")(operator) == nil && lists("pointsman-sidecar")(operator) == nil
	})

	policies := policiesOfPage(t)
	for name, asked := range map[string][]func(*api.Client) error{
		"sidecar.hcl": {
			lists("api"), registers("pointsman-sidecar"), registers("lb"), reads("pointsman/deployments/api"),
			writes("pointsman/rollouts/api"), locks("pointsman/rollout-leaders/api"), writes("pointsman/pauses/api"),
		},
		"program.hcl": {registers("api"), lists("pointsman-sidecar")},
		"deploy.hcl": {
			lists("api"), lists("pointsman-sidecar"), locks("pointsman/deployments/api"),
			writes("pointsman/rollouts/api"), reads("pointsman/rollout-leaders/api"), writes("pointsman/pauses/api"),
		},
	} {
		rules := policies[name]
		if len(rules) < 3 {
			t.Fatalf("%s has the rules %q, want three or more", name, rules)
		}
		ask := func(policy string, rules []string) (refused error) {
			c := client(t, p.Address(), token(t, operator, policy, rules))
			for _, f := range asked {
				if err := f(c); err != nil {
					return err
				}
			}
			return nil
		}
		if err := ask(name, rules); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for i, rule := range rules {
			if ask(fmt.Sprint(name, i), slices.Delete(slices.Clone(rules), i, i+1)) == nil {
				t.Errorf("%s: all that is asked is allowed without %s", name, rule)
			}
		}
	}
}

// The sample's policies are those of the page. Its sidecar's token deploys, too, and its
// tests run with them.
func TestPages_ConsulTokens_AreThoseOfTheSample(t *testing.T) {
	page := policiesOfPage(t)
	for name, want := range map[string][]string{
		"sidecar.hcl": append(slices.Clone(page["sidecar.hcl"]), page["deploy.hcl"]...),
		"api.hcl":     page["program.hcl"],
	} {
		text, err := os.ReadFile("../../../compose/policies/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := strongest(rulesOf(string(text))), strongest(want); !maps.Equal(got, want) {
			t.Errorf("compose/policies/%s has %v, the page %v", name, got, want)
		}
	}
}

var policyRule = regexp.MustCompile(`(\w+ "[^"]*") \{\s*policy = "(\w+)"\s*\}`)

func rulesOf(text string) []string { return policyRule.FindAllString(text, -1) }

// policiesOfPage returns the rules of each policy on the page, by the file's name in its
// first line.
func policiesOfPage(t *testing.T) map[string][]string {
	t.Helper()
	page, err := os.ReadFile("../../../docs/consul-token.md")
	if err != nil {
		t.Fatal(err)
	}
	policies := map[string][]string{}
	for _, m := range regexp.MustCompile("(?s)```hcl\n# (\\S+\\.hcl)\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		policies[m[1]] = rulesOf(m[2])
	}
	return policies
}

// strongest is what a token may do by all rules together: write includes read.
func strongest(rules []string) map[string]string {
	may := map[string]string{}
	for _, rule := range rules {
		m := policyRule.FindStringSubmatch(rule)
		may[m[1]] = max(may[m[1]], m[2]) // "write" is behind "read"
	}
	return may
}

func client(t *testing.T, address, token string) *api.Client {
	t.Helper()
	c, err := api.NewClient(&api.Config{Address: address, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func token(t *testing.T, operator *api.Client, name string, rules []string) string {
	t.Helper()
	policy, _, err := operator.ACL().PolicyCreate(&api.ACLPolicy{Name: strings.ReplaceAll(name, ".", "-"), Rules: strings.Join(rules, "\n")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	made, _, err := operator.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLTokenPolicyLink{{ID: policy.ID}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return made.SecretID
}

func lists(service string) func(*api.Client) error {
	return func(c *api.Client) error {
		entries, _, err := c.Health().Service(service, "", false, nil)
		if err == nil && len(entries) == 0 {
			err = fmt.Errorf("no instance of %s is listed", service)
		}
		return err
	}
}

func registers(service string) func(*api.Client) error {
	return func(c *api.Client) error {
		return c.Agent().ServiceRegister(&api.AgentServiceRegistration{Name: service, Port: 4000})
	}
}

func reads(key string) func(*api.Client) error {
	return func(c *api.Client) error {
		pair, _, err := c.KV().Get(key, nil)
		if err == nil && pair == nil {
			err = fmt.Errorf("%s is not found", key)
		}
		return err
	}
}

func writes(key string) func(*api.Client) error {
	return func(c *api.Client) error {
		_, err := c.KV().Put(&api.KVPair{Key: key}, nil)
		return err
	}
}

// locks holds a key by a session, as a deployment and the sidecar that moves a rollout do.
func locks(key string) func(*api.Client) error {
	return func(c *api.Client) error {
		session, _, err := c.Session().CreateNoChecks(&api.SessionEntry{TTL: "10s", LockDelay: time.Nanosecond}, nil)
		if err != nil {
			return err
		}
		isDone, _, err := c.KV().Acquire(&api.KVPair{Key: key, Session: session}, nil)
		if err == nil && !isDone {
			err = fmt.Errorf("%s is locked", key)
		}
		if _, _, released := c.KV().Release(&api.KVPair{Key: key, Session: session}, nil); err == nil {
			err = released
		}
		if _, destroyed := c.Session().Destroy(session, nil); err == nil {
			err = destroyed
		}
		return err
	}
}
