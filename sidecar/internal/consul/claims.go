package consul

import (
	"cmp"
	"slices"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// Claims is which tags and which meta of instances may claim routes.
type Claims struct {
	Tags []string // what such a tag begins with
	Meta []string // keys
}

func (c Claims) equal(o Claims) bool {
	return slices.Equal(c.Tags, o.Tags) && slices.Equal(c.Meta, o.Meta)
}

const (
	// MaxClaims is how many different claims of one service are kept. Of more, those
	// that sort first count.
	MaxClaims = 1000
	// maxClaimText is longer than any claim that is taken, in bytes.
	maxClaimText = 2100
)

// of returns what an entry claims.
func (c Claims) of(e *entry) (out []catalog.Claim) {
	take := func(key, text string) {
		out = append(out, catalog.Claim{Meta: key, Text: strings.Clone(text[:min(len(text), maxClaimText)]), Since: e.Service.CreateIndex})
	}
	for _, tag := range e.Service.Tags {
		if slices.ContainsFunc(c.Tags, func(prefix string) bool { return strings.HasPrefix(tag, prefix) }) {
			take("", tag)
		}
	}
	for _, key := range c.Meta {
		if text, has := e.Service.Meta[key]; has {
			take(key, text)
		}
	}
	slices.SortFunc(out, compareClaims)
	return slices.Clip(out[:min(len(out), MaxClaims)])
}

// gather adds the claims of one instance to those of a service, with the lowest index.
func gather(all map[catalog.Claim]uint64, claims []catalog.Claim) {
	for _, c := range claims {
		since := c.Since
		c.Since = 0
		if before, known := all[c]; !known || since < before {
			all[c] = since
		}
	}
}

// listClaims returns them in an order that does not depend on that of the instances.
func listClaims(all map[catalog.Claim]uint64) []catalog.Claim {
	if len(all) == 0 {
		return nil
	}
	out := make([]catalog.Claim, 0, len(all))
	for c, since := range all {
		c.Since = since
		out = append(out, c)
	}
	slices.SortFunc(out, compareClaims)
	return slices.Clip(out[:min(len(out), MaxClaims)])
}

func compareClaims(a, b catalog.Claim) int {
	return cmp.Or(cmp.Compare(a.Meta, b.Meta), cmp.Compare(a.Text, b.Text))
}

// lostClaim reports whether something that was claimed is not claimed any more. Another text
// may be a claim that is refused, also of the same route.
func lostClaim(before, after []catalog.Claim) bool {
	return slices.ContainsFunc(before, func(b catalog.Claim) bool {
		return !slices.ContainsFunc(after, func(a catalog.Claim) bool { return a.Meta == b.Meta && a.Text == b.Text })
	})
}
