// Package analysis compares a canary with the stable version, from counters of all
// load balancers, and says whether the canary is worse, as good, or not known yet.
//
// It may be asked after each look at the counters, as often as one likes: its errors
// are bounded over all looks together, not for each. It is pure: no clock, no I/O.
package analysis
