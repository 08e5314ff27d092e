package config

import (
	"errors"
	"fmt"
	"net/netip"
)

// addressSettings are those under the key addresses.
func addressSettings() []setting[Config] {
	return []setting[Config]{
		{
			key: "addresses.allow", def: "[]",
			doc: "Networks whose instances take traffic. An empty list allows all. Loopback addresses are accepted only from the Consul node of the sidecar's agent, unless a loopback network such as `127.0.0.0/8` is listed. Link-local, multicast and cloud metadata addresses and this load balancer's own listeners are never accepted. See [security](../SECURITY.md).",
			at:  func(c *Config) value { return prefixes(&c.Addresses.Allow) },
		},
		{
			key: "addresses.deny", def: "[]",
			doc: "Networks whose instances take no traffic.",
			at:  func(c *Config) value { return prefixes(&c.Addresses.Deny) },
		},
	}
}

func prefixes(p *[]string) value {
	return list{p: p, what: "network such as 10.0.0.0/8, or an address, or a list of them", item: func(s string) error {
		_, err := prefix(s)
		return err
	}}
}

// prefix reads a network or a single address.
func prefix(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" && !addr.Is4In6() {
		return addr.Prefix(addr.BitLen())
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil || p.Addr().Is4In6():
		return netip.Prefix{}, errors.New("must be a network such as 10.0.0.0/8, or an address")
	case p != p.Masked():
		return netip.Prefix{}, fmt.Errorf("has bits beyond its length: write %s", p.Masked())
	}
	return p, nil
}

// Prefixes reads networks that Load has passed.
func Prefixes(networks []string) []netip.Prefix {
	var out []netip.Prefix
	for _, n := range networks {
		if p, err := prefix(n); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// Addresses is where instances may be, as CIDRs or single addresses that Prefixes
// reads.
type Addresses struct {
	Allow []string // empty is anywhere
	Deny  []string
}
