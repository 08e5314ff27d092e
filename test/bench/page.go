package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The lines of the page between which everything is made of the results.
const (
	begin = "<!-- begin: made by make bench -->\n"
	end   = "<!-- end: made by make bench -->\n"
)

// picture is the page's, beside it.
const picture = "pictures/performance.svg"

func (r *Results) writePage(path string) error {
	was, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	page, err := r.page(string(was))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), picture), chart(r.Rows), 0o644); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(page), 0o644)
}

// page returns the page with what is made of the results written again.
func (r *Results) page(was string) (string, error) {
	before, rest, found := strings.Cut(was, begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		return "", fmt.Errorf("no place for the tables, between %q and %q", begin, end)
	}
	var out strings.Builder
	out.WriteString(before + begin)
	r.writeLoad(&out)
	r.writeFigures(&out)
	fmt.Fprintf(&out, "\n![For each row, a line from the median to the 99th percentile, of the sidecar and of the floor](%s)\n", picture)
	r.writeCircumstances(&out)
	r.writeProfiles(&out)
	out.WriteString(end + after)
	return out.String(), nil
}

// writeLoad says how busy the machine was, so that a reader knows before the figures.
func (r *Results) writeLoad(out *strings.Builder) {
	var loads []float64
	for _, row := range r.Rows {
		loads = append(loads, row.Machine.LoadBefore, row.Machine.LoadAfter)
	}
	if len(loads) == 0 {
		return
	}
	s := spread(loads)
	fmt.Fprintf(out, "The machine has %d processors. Their load, before and after the rows, was %.1f to %.1f, half of the time above %.1f.\n\n", r.Rows[0].Machine.CPUs, s.Low, s.High, s.Median)
}

// sidecar is the subject that the rows are about. It needs no name there.
const sidecar = "sidecar"

func (r *Results) writeFigures(out *strings.Builder) {
	out.WriteString("| row | figure | measured | beside it | ratio | goal | |\n|---|---|---|---|---|---|---|\n")
	for _, row := range r.Rows {
		title := fmt.Sprintf("`%s` %s", row.Row, row.Title)
		for _, f := range row.Figures {
			var beside []string
			for _, v := range f.Values[1:] {
				beside = append(beside, v.Of+": "+v.show(f.Unit))
			}
			ratio := ""
			if f.Ratio != nil {
				ratio = fmt.Sprintf("%.2f", f.Ratio.Median)
			}
			measured := f.Values[0].show(f.Unit)
			if of := f.Values[0].Of; of != sidecar {
				measured = of + ": " + measured
			}
			fmt.Fprintf(out, "| %s | %s | %s | %s | %s | %s | %s |\n", title, f.Name, measured, strings.Join(beside, ", "), ratio, f.Goal, f.verdict())
			title = ""
		}
	}
}

// show is the median, with lowest and highest where they differ.
func (v Value) show(unit string) string {
	if figure(v.Low) == figure(v.High) {
		return strings.TrimSpace(figure(v.Median) + " " + unit)
	}
	return strings.TrimSpace(fmt.Sprintf("%s (%s to %s) %s", figure(v.Median), figure(v.Low), figure(v.High), unit))
}

func (r *Results) writeCircumstances(out *strings.Builder) {
	out.WriteString("\n### When they were measured\n| row | on | commit | HAProxy | Consul | processors | load before, after | runs | changes |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, row := range r.Rows {
		m, changes := row.Machine, ""
		if row.Changes > 0 {
			changes = thousands(row.Changes)
		}
		fmt.Fprintf(out, "| `%s` | %s | %s | %s | %s | %d | %.1f, %.1f | %d | %s |\n", row.Row, row.At.Format("2006-01-02 15:04"), m.Commit, m.HAProxy, m.Consul, m.CPUs, m.LoadBefore, m.LoadAfter, row.Runs, changes)
	}
}

func (r *Results) writeProfiles(out *strings.Builder) {
	for _, row := range r.Rows {
		if len(row.Profile) == 0 {
			continue
		}
		fmt.Fprintf(out, "\n### Where the time goes: %s\n| function, with what it calls | share of the sidecar's processor time |\n|---|---|\n", row.Title)
		for _, s := range row.Profile {
			fmt.Fprintf(out, "| `%s` | %.0f %% |\n", s.Function, s.Share)
		}
	}
}
