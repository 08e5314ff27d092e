// Package rollout shares a service's traffic among its versions. A document for each
// service in Consul's key/value store says which part each version gets; every load
// balancer makes the same weights of it and of the catalog. Any program that may write
// keys may have written a document: it is checked and bounded, and one that is invalid
// changes nothing.
package rollout
