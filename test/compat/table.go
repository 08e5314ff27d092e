package compat

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// The lines of the page between which the tables stand.
const (
	begin = "<!-- begin: made by make matrix -->\n"
	end   = "<!-- end: made by make matrix -->\n"
)

// Page returns the page with its tables made of the facts.
func Page(page string, facts io.Reader) (string, error) {
	tables, err := tables(facts)
	if err != nil {
		return "", err
	}
	before, rest, found := strings.Cut(page, begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		return "", fmt.Errorf("the page has no place for the tables, between %q and %q", begin, end)
	}
	return before + begin + tables + end + after, nil
}

// tables returns one for each program: a row for each fact, a column for each
// version. A fact that two tests saw differently on one version is an error.
func tables(facts io.Reader) (string, error) {
	values := map[Fact]string{} // by the fact without its value
	programs, errs := []string{}, []error{}
	lines := bufio.NewScanner(facts)
	for lines.Scan() {
		var f Fact
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			return "", fmt.Errorf("fact %q: %w", lines.Text(), err)
		}
		key := f
		key.Value = ""
		if was, seen := values[key]; seen && was != f.Value {
			errs = append(errs, fmt.Errorf("%s %s: %s: seen as %q and as %q", f.Program, f.Version, f.Fact, was, f.Value))
		}
		values[key] = f.Value
		if !slices.Contains(programs, f.Program) {
			programs = append(programs, f.Program)
		}
	}
	if err := errors.Join(append(errs, lines.Err())...); err != nil {
		return "", err
	}
	if len(values) == 0 {
		return "", errors.New("no facts")
	}
	slices.Sort(programs)
	var out strings.Builder
	for _, program := range programs {
		writeTable(&out, program, values)
	}
	return out.String(), nil
}

func writeTable(out *strings.Builder, program string, values map[Fact]string) {
	var versions, facts []string
	for key := range values {
		if key.Program == program {
			versions, facts = append(versions, key.Version), append(facts, key.Fact)
		}
	}
	slices.SortFunc(versions, byVersion)
	slices.Sort(facts)
	versions, facts = slices.Compact(versions), slices.Compact(facts)
	fmt.Fprintf(out, "### %s\n| |", program)
	for _, v := range versions {
		fmt.Fprintf(out, " %s |", v)
	}
	fmt.Fprintf(out, "\n|---|%s\n", strings.Repeat("---|", len(versions)))
	for _, fact := range facts {
		fmt.Fprintf(out, "| %s |", fact)
		for _, v := range versions {
			value := values[Fact{Program: program, Version: v, Fact: fact}]
			fmt.Fprintf(out, " %s |", cmp.Or(value, "not looked at"))
		}
		out.WriteString("\n")
	}
	out.WriteString("\n")
}

// byVersion sorts 1.8 before 1.22.
func byVersion(a, b string) int {
	return slices.Compare(numbers(a), numbers(b))
}

func numbers(version string) (out []int) {
	for part := range strings.SplitSeq(version, ".") {
		n, _ := strconv.Atoi(part) // what is no number sorts first
		out = append(out, n)
	}
	return out
}
