// Package consul is the catalog source: it asks Consul, by one blocking query
// a service, and keeps what is known of each.
//
// Its invariant: unknown is not empty. What is known of a service changes only
// by a complete answer that can be trusted; a query that fails, an answer that
// is stale, cut short, filtered by an ACL or from a catalog whose index went
// backwards changes nothing but SourceHealth.
//
// All that an answer holds comes from anyone who can register, and is hostile
// until it has become a catalog.Instance.
//
// It reads no environment: of consul/api it uses names and the TLS set-up only,
// since api.NewClient reads CONSUL_* on its own. The settings that Consul's own
// CLI takes from there are the caller's to pass in. The agent's loop uses
// a Source through an interface of its own.
package consul
