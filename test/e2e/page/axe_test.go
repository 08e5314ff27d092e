package page

import (
	_ "embed"
	"strings"
)

// axe is axe-core, which finds what keeps people from using a page (tools/axe.sh).
//
//go:embed testdata/axe/axe.min.js
var axe string

// findSerious has axe look at the page, and keeps what is serious or critical as lines.
const findSerious = `window.serious = null;
axe.run(document, { resultTypes: ['violations'] }).then(
	(r) => r.violations.filter((v) => v.impact === 'serious' || v.impact === 'critical')
		.flatMap((v) => v.nodes.map((n) => v.id + ': ' + v.help + ': ' + n.html.slice(0, 200) + ' ' + n.failureSummary)),
	(e) => ['axe: ' + e],
).then((found) => { window.serious = found.join('\n---\n'); });
true`

// accessible checks that axe finds nothing serious on what the page shows.
func (b *browser) accessible(what string) {
	b.Helper()
	if !read[bool](b, `typeof axe !== 'undefined'`) {
		read[bool](b, axe+";true")
	}
	read[bool](b, findSerious)
	b.sees("that axe has looked at "+what, "window.serious !== null")
	for found := range strings.SplitSeq(read[string](b, "window.serious"), "\n---\n") {
		if found != "" {
			b.Errorf("%s: %s", what, found)
		}
	}
}
