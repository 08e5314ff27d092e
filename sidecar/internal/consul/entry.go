package consul

import "github.com/hashicorp/consul/api"

// entry is one element of the answer of /v1/health/service/NAME: only what is
// used of it, for a service of 10,000 instances has 12 MB of JSON.
type entry struct {
	Node struct {
		Node       string
		Address    string
		Datacenter string
	}
	Service struct {
		Kind    string
		ID      string
		Address string
		Port    int
		Meta    map[string]string
		Weights *weights
	}
	Checks []check
}

// isPlain reports whether it is an ordinary service. Consul lists proxies of its
// mesh and gateways that are registered under a service's name with its
// instances; they speak TLS of their own, and pass on to others.
func (e entry) isPlain() bool {
	return e.Service.Kind == string(api.ServiceKindTypical) || e.Service.Kind == "typical"
}

type weights struct{ Passing, Warning int }

type check struct{ CheckID, Status string }

// maxBody is the most that is read of one answer: eight times what 10,000
// instances with some meta and checks have.
const maxBody = 100 << 20 // bytes
