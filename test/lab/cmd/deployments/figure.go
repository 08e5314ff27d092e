package main

import (
	"bytes"
	"fmt"
	"html/template"
	"strings"
)

// sleep is what a node waits that does not ask: the fixed time that deployment
// guides name.
const sleep = 10.0 // seconds

// plane is where the figure's axes are, in its own units.
const (
	left, right, top, bottom = 64.0, 696.0, 28.0, 300.0
	span                     = 12.0 // seconds on the x axis
)

func x(seconds float64) float64 { return left + min(seconds, span)/span*(right-left) }
func y(share float64) float64   { return bottom - share*(bottom-top) }

// figure draws which share of the nodes has left after how long, as SVG, beside
// a fixed sleep.
func figure(sortedMS []float64) []byte {
	var out bytes.Buffer
	data := map[string]any{
		"Left": left, "Right": right, "Top": top, "Bottom": bottom,
		"Line": line(sortedMS), "Sleep": x(sleep), "Count": len(sortedMS),
		"Xs": ticks(span, 2, x, "%.0f s"), "Ys": ticks(1, 0.25, y, "%.0f %%"),
		"P50": quantile(sortedMS, 0.5) / 1000, "P99": quantile(sortedMS, 0.99) / 1000,
	}
	if err := drawing.Execute(&out, data); err != nil {
		panic(err) // the template and its data are both here
	}
	return out.Bytes()
}

// line is the steps of the share that has left.
func line(sortedMS []float64) string {
	var points strings.Builder
	point := func(x, y float64) { fmt.Fprintf(&points, "%.1f,%.1f ", x, y) }
	point(x(0), y(0))
	share := 0.0
	for i, ms := range sortedMS {
		at := x(ms / 1000)
		point(at, y(share))
		share = float64(i+1) / float64(len(sortedMS))
		point(at, y(share))
	}
	point(right, y(share))
	return points.String()
}

type tick struct {
	At   float64
	Text string
}

func ticks(end, step float64, place func(float64) float64, format string) (all []tick) {
	for v := 0.0; v <= end; v += step {
		shown := v
		if end == 1 {
			shown = 100 * v
		}
		all = append(all, tick{place(v), fmt.Sprintf(format, shown)})
	}
	return all
}

var drawing = template.Must(template.New("figure").Parse(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 350" font-family="sans-serif" font-size="13">
<rect width="720" height="350" fill="#fff"/>
{{range .Xs}}<line x1="{{.At}}" x2="{{.At}}" y1="{{$.Top}}" y2="{{$.Bottom}}" stroke="#e5e5e5"/><text x="{{.At}}" y="{{$.Bottom}}" dy="20" text-anchor="middle" fill="#444">{{.Text}}</text>
{{end}}{{range .Ys}}<line x1="{{$.Left}}" x2="{{$.Right}}" y1="{{.At}}" y2="{{.At}}" stroke="#e5e5e5"/><text x="{{$.Left}}" y="{{.At}}" dx="-8" dy="4" text-anchor="end" fill="#444">{{.Text}}</text>
{{end}}<line x1="{{.Left}}" x2="{{.Right}}" y1="{{.Bottom}}" y2="{{.Bottom}}" stroke="#444"/>
<polyline points="{{.Line}}" fill="none" stroke="#0b6e4f" stroke-width="2.5"/>
<line x1="{{.Sleep}}" x2="{{.Sleep}}" y1="{{.Top}}" y2="{{.Bottom}}" stroke="#b23a48" stroke-width="2.5" stroke-dasharray="6 4"/>
<text x="{{.Sleep}}" y="{{.Top}}" dx="-8" dy="40" text-anchor="end" fill="#b23a48">a fixed sleep of 10 s</text>
<text x="{{.Sleep}}" y="{{.Top}}" dx="-8" dy="110" text-anchor="end" fill="#0b6e4f">acknowledged by both load balancers</text>
<text x="{{.Sleep}}" y="{{.Top}}" dx="-8" dy="128" text-anchor="end" fill="#0b6e4f">half of {{.Count}} nodes after {{printf "%.2f" .P50}} s, 99 % after {{printf "%.2f" .P99}} s</text>
<text x="{{.Left}}" y="16" fill="#444">share of nodes that have left</text>
<text x="{{.Right}}" y="342" text-anchor="end" fill="#444">after SIGTERM</text>
</svg>
`))
