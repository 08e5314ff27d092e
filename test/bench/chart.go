package main

import (
	"bytes"
	"html/template"
	"math"
)

// The picture's measures, in its own units.
const (
	chartLeft, chartRight, chartTop = 340.0, 780.0, 52.0
	chartGap, chartLine             = 22.0, 14.0
	chartLeast, chartMost           = 1.0, 10_000.0 // ms, of a logarithmic axis
)

// subjectColors are in the order of the legend.
var subjectColors = []struct{ of, color string }{
	{sidecar, "#0b6e4f"}, {"floor", "#8a8a8a"}, {fabio, "#b23a48"}, {dns, "#3b6fb6"}, {consulTemplate, "#b8860b"},
}

func colorOf(subject string) string {
	for _, s := range subjectColors {
		if s.of == subject {
			return s.color
		}
	}
	return "#444"
}

type (
	chartData struct {
		Left, Right, Top, Bottom, Height float64
		Ticks                            []chartTick
		Rows                             []chartRowData
		Legend                           []chartTick
	}
	chartTick struct {
		At    float64
		Text  string
		Color string
	}
	chartRowData struct {
		Y     float64
		Title string
		Lines []chartBar
	}
	chartBar struct {
		Y, From, To float64
		Color, Text string
	}
)

func chartX(ms float64) float64 {
	share := math.Log(min(max(ms, chartLeast), chartMost)/chartLeast) / math.Log(chartMost/chartLeast)
	return math.Round(10*(chartLeft+share*(chartRight-chartLeft))) / 10
}

// chart draws the rows that have a p50 and a p99 in milliseconds: a line from
// one to the other for each subject.
func chart(rows []Result) []byte {
	data := chartData{Left: chartLeft, Right: chartRight, Top: chartTop}
	y := chartTop
	for _, r := range rows {
		p50, p99 := r.latency("p50"), r.latency("p99")
		if p50 == nil || p99 == nil {
			continue
		}
		height := chartGap + chartLine*float64(len(p50.Values)-1)
		row := chartRowData{Y: y + height/2 + 4, Title: r.Title}
		for i, v := range p50.Values {
			row.Lines = append(row.Lines, chartBar{
				Y: y + chartGap/2 + float64(i)*chartLine, From: chartX(v.Median), To: chartX(p99.Values[i].Median), Color: colorOf(v.Of),
				Text: figure(v.Median) + " / " + figure(p99.Values[i].Median),
			})
		}
		data.Rows = append(data.Rows, row)
		y += height + chartGap/2
	}
	for i, s := range subjectColors {
		data.Legend = append(data.Legend, chartTick{At: 20 + 130*float64(i), Text: s.of, Color: s.color})
	}
	data.Bottom, data.Height = y, y+36
	for ms := chartLeast; ms <= chartMost; ms *= 10 {
		data.Ticks = append(data.Ticks, chartTick{At: chartX(ms), Text: figure(ms) + " ms"})
	}
	var out bytes.Buffer
	if err := chartDrawing.Execute(&out, data); err != nil {
		panic(err) // the template and its data are both here
	}
	return out.Bytes()
}

func (r Result) latency(name string) *Figure {
	for i, f := range r.Figures {
		if f.Name == name && f.Unit == "ms" {
			return &r.Figures[i]
		}
	}
	return nil
}

var chartDrawing = template.Must(template.New("chart").Parse(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 {{.Height}}" font-family="sans-serif" font-size="12">
<rect width="860" height="{{.Height}}" fill="#fff"/>
<text x="12" y="20" fill="#444">from a change in Consul until it shows: p50 to p99</text>
{{range .Legend}}<circle cx="{{.At}}" cy="36" r="4" fill="{{.Color}}"/><text x="{{.At}}" y="40" dx="9" fill="#444">{{.Text}}</text>
{{end}}{{range .Ticks}}<line x1="{{.At}}" x2="{{.At}}" y1="{{$.Top}}" y2="{{$.Bottom}}" stroke="#e5e5e5"/><text x="{{.At}}" y="{{$.Bottom}}" dy="18" text-anchor="middle" fill="#444">{{.Text}}</text>
{{end}}{{range .Rows}}<text x="{{$.Left}}" y="{{.Y}}" dx="-12" text-anchor="end" fill="#222">{{.Title}}</text>
{{range .Lines}}<line x1="{{.From}}" x2="{{.To}}" y1="{{.Y}}" y2="{{.Y}}" stroke="{{.Color}}" stroke-width="3"/><circle cx="{{.From}}" cy="{{.Y}}" r="4" fill="{{.Color}}"/><circle cx="{{.To}}" cy="{{.Y}}" r="3" fill="#fff" stroke="{{.Color}}" stroke-width="2"/><text x="{{.To}}" y="{{.Y}}" dx="8" dy="4" font-size="10" fill="{{.Color}}">{{.Text}}</text>
{{end}}{{end}}<line x1="{{.Left}}" x2="{{.Right}}" y1="{{.Bottom}}" y2="{{.Bottom}}" stroke="#444"/>
</svg>
`))
