package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// Results is results.json.
type Results struct {
	Rows []Result `json:"rows"`
}

// Result is what was measured of one row, and under which circumstances: rows
// may have been measured at different times.
type Result struct {
	Row     string    `json:"row"`
	Title   string    `json:"title"`
	At      time.Time `json:"at"`
	Machine Machine   `json:"machine"`
	Runs    int       `json:"runs"`
	Changes int       `json:"changes,omitempty"` // measured of each subject, in all runs
	Figures []Figure  `json:"figures"`
	Profile []Spent   `json:"profile,omitempty"`
}

// Figure is one figure of a row, of each subject.
type Figure struct {
	Name   string  `json:"name"`
	Unit   string  `json:"unit"`
	Values []Value `json:"values"` // the sidecar's first
	Ratio  *Spread `json:"ratio,omitempty"`
	Goal   string  `json:"goal,omitempty"`
	Met    *bool   `json:"met,omitempty"`
	Note   string  `json:"note,omitempty"`
}

// Value is the figure of one subject.
type Value struct {
	Of string `json:"of"`
	Spread
}

// setGoal compares run by run, so that what disturbs the machine for a while
// disturbs both.
func (f *Figure) setGoal(goal float64, of string, measured, base []float64) {
	ratios := make([]float64, len(measured))
	for i := range measured {
		ratios[i] = measured[i] / base[i]
	}
	s := spread(ratios)
	met := s.Median <= goal
	f.Ratio, f.Goal, f.Met = &s, fmt.Sprintf("≤ %g × %s", goal, of), &met
}

// setLimit compares with a fixed goal.
func (f *Figure) setLimit(limit float64) {
	met := f.Values[0].Median <= limit
	f.Goal, f.Met = strings.TrimSpace(fmt.Sprintf("≤ %s %s", figure(limit), f.Unit)), &met
}

// missed reports whether any figure misses its goal.
func (r Result) missed() bool {
	return slices.ContainsFunc(r.Figures, func(f Figure) bool { return f.Met != nil && !*f.Met })
}

func readResults(path string) (r Results, err error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Results{}, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &r)
	}
	if err != nil {
		return Results{}, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// put takes the place of the row's last result. The order is the table's; rows
// that are no longer measured are dropped.
func (r *Results) put(result Result) {
	var all []Result
	for _, row := range rows {
		if row.name == result.Row {
			all = append(all, result)
		} else if i := slices.IndexFunc(r.Rows, func(o Result) bool { return o.Row == row.name }); i >= 0 {
			all = append(all, r.Rows[i])
		}
	}
	r.Rows = all
}

// write writes the results, the page's tables and its pictures.
func (r *Results) write(results, page string) error {
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(results, append(content, '\n'), 0o644); err != nil {
		return err
	}
	return r.writePage(page)
}

func (r Result) print(out io.Writer) {
	for _, f := range r.Figures {
		var parts []string
		for _, v := range f.Values {
			parts = append(parts, v.Of+": "+v.show(f.Unit))
		}
		if f.Ratio != nil {
			parts = append(parts, fmt.Sprintf("ratio %.2f", f.Ratio.Median))
		}
		if f.Goal != "" {
			parts = append(parts, "goal "+f.Goal+": "+f.verdict())
		}
		fmt.Fprintf(out, "  %s: %s\n", f.Name, strings.Join(parts, ", "))
	}
	for _, s := range r.Profile {
		fmt.Fprintf(out, "  %5.1f %% %s\n", s.Share, s.Function)
	}
}

func (f Figure) verdict() string {
	switch {
	case f.Met == nil:
		return f.Note
	case *f.Met:
		return "met"
	default:
		return "missed"
	}
}
