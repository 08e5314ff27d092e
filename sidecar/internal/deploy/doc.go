// Package deploy brings a new version of a service into traffic and takes the
// old one out, without losing a request: it starts nodes, waits until every
// load balancer has them live, stops the old ones, and waits until every load
// balancer has them drained.
//
// Its invariant: no old node is stopped before every load balancer, asked
// itself, has said that the new ones take its traffic, and has said so for the
// minimum healthy time; what can't be asked has not said so. "Deployed" means
// that every load balancer has said so again, at the end. Whatever goes wrong before that moment leaves the old nodes
// untouched and takes back what was started.
//
// It does no I/O of its own: the catalog, the load balancers and what starts
// and stops nodes are behind interfaces. It imports nothing of this project.
package deploy
