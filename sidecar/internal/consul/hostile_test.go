package consul

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/test/hostile"
)

// answerOf is what Consul would answer for these registrations.
func answerOf(t *testing.T, instances []hostile.Instance) []entry {
	t.Helper()
	var answer []*api.ServiceEntry
	for _, i := range instances {
		answer = append(answer, &api.ServiceEntry{
			Node: &api.Node{Node: i.Node, Address: i.NodeAddress},
			Service: &api.AgentService{
				Kind: api.ServiceKind(i.Kind), ID: i.ID, Service: "api", Tags: i.Tags, Meta: i.Meta, Address: i.Address, Port: i.Port,
				Weights: api.AgentWeights{Passing: 1, Warning: 1},
			},
			Checks: api.HealthChecks{{CheckID: hostile.Payload + "\n", Output: hostile.Payload, Status: api.HealthPassing}},
		})
	}
	body, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := decodeList[entry](strings.NewReader(string(body)), maxBody)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// abroad admits the table's loopback addresses and the good one's, and knows all
// nodes for other machines.
var abroad = admission{
	Addresses: Addresses{Allow: []netip.Prefix{netip.MustParsePrefix(hostile.Loopback), netip.MustParsePrefix("0.0.0.0/0")}},
	isOwnNode: func(string, string) (bool, string) { return false, "it is another" },
}

// The first of three levels: see package hostile.
func TestAHostileCatalogBecomesCheckedValuesOrIsLeftOut(t *testing.T) {
	all := hostile.Instances()
	got := list(registrations(answerOf(t, all)), abroad)
	servers := map[string]string{} // server name by ID and node
	for _, i := range got.instances {
		checkSafe(t, i)
		if other, taken := servers[i.Server]; taken {
			t.Errorf("server %q is that of %q and of %q", i.Server, other, i.ID)
		}
		servers[i.Server] = i.ID
	}
	of := func(id, node string) (served, named bool) {
		for _, i := range got.instances {
			served = served || i.ID == id && i.Node == node
		}
		for _, r := range got.rejected {
			named = named || r.ID == id && r.Node == node
		}
		return served, named
	}
	for _, i := range all {
		if served, named := of(i.ID, i.Node); served != i.Legal || named == i.Legal {
			t.Errorf("%s: served %v, named as left out %v; want it served: %v", i.Why, served, named, i.Legal)
		}
	}
	if got, want := len(got.instances)+len(got.rejected), len(all); got != want {
		t.Errorf("%d instances and rejections of %d entries", got, want)
	}
	// An error is a line of the log: what it quotes must not end it, nor fill it.
	for _, r := range slices.Concat(got.rejected, got.remarks) {
		if text := r.Err.Error(); strings.ContainsFunc(strings.ReplaceAll(text, "\n", ""), unicode.IsControl) || len(text) > 1000 {
			t.Errorf("the error of %.40q has %d bytes: %.200q", r.ID, len(text), text)
		}
	}
}

// Each alone, so that none hides behind another, and beside a good one, which
// must not suffer.
func TestNoHostileInstanceTakesAGoodOneWithIt(t *testing.T) {
	for _, i := range hostile.Instances() {
		t.Run(fmt.Sprintf("%.60s", i.Why), func(t *testing.T) {
			entries := append(answerOf(t, []hostile.Instance{i}), at("good", "n1"))
			got := list(registrations(entries), abroad)
			if !slices.ContainsFunc(got.instances, func(i catalog.Instance) bool { return i.Server == "good" }) {
				t.Errorf("the good one is not there: %+v", got)
			}
			if want := map[bool]int{true: 2, false: 1}[i.Legal]; len(got.instances) != want || len(got.rejected) != 2-want {
				t.Errorf("got %+v, want %d instances", got, want)
			}
		})
	}
}
