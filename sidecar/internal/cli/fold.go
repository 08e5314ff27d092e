package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// fold says when a branch may be hidden on a terminal that has too few lines, and what
// it is counted as then. The zero value is never hidden before all others are.
type fold struct {
	level       foldLevel
	status      reconcile.Status // the worst is kept longest; "" is kept longer than all
	n           int              // how many it stands for; 0 is not counted
	noun, state string           // as "service" and "in step"
}

type foldLevel int

// What is hidden first, to what is hidden last.
const (
	kept        foldLevel = iota // only where there are more problems than lines
	foldDetail                   // what the line above counts: instances that are up, routes
	foldVersion                  // versions of what is in step
	foldCalm                     // what is in step
	foldNoted                    // what is in step, with a note
)

// fit hides branches until those that are left take no more than a number of lines, the
// last of which says how many are hidden. What is wrong or under way is hidden last.
func fit(lines []branch, room int) []branch {
	if height(lines) <= room {
		return lines
	}
	var hidden []fold
	for level := foldDetail; level < foldNoted; level++ {
		hidden = nil
		left := without(lines, level, &hidden)
		if height(left)+1 <= room {
			return append(left, hiddenLine(hidden, 0))
		}
	}
	hidden = nil
	lines = without(lines, foldNoted, &hidden)
	// Each gets as many lines as the others.
	for most := room; most >= 0; most-- {
		if left, cut := shortened(lines, most); height(left)+1 <= room {
			return append(left, hiddenLine(hidden, cut))
		}
	}
	lines, cut := shortened(lines, 0)
	slices.SortStableFunc(lines, func(a, b branch) int { return cmp.Compare(rank(a), rank(b)) })
	shown := max(0, room-1)
	for _, b := range lines[shown:] {
		hidden = append(hidden, b.fold)
	}
	return append(lines[:shown:shown], hiddenLine(hidden, cut))
}

// rank orders branches: what is not of one service or load balancer, and then the worst.
func rank(b branch) int {
	order := []reconcile.Status{"", reconcile.NotRunning, reconcile.Degraded, reconcile.Behind}
	if i := slices.Index(order, b.fold.status); i >= 0 {
		return i
	}
	return len(order)
}

// height is the number of lines that branches take.
func height(lines []branch) int {
	n := len(lines)
	for _, b := range lines {
		n += height(b.below)
	}
	return n
}

// without leaves out what is hidden at a level or before.
func without(lines []branch, level foldLevel, hidden *[]fold) (left []branch) {
	for _, b := range lines {
		if b.fold.level != kept && b.fold.level <= level {
			*hidden = append(*hidden, b.fold)
			continue
		}
		b.below = without(b.below, level, hidden)
		left = append(left, b)
	}
	return left
}

// shortened leaves each branch that many lines below it, and reports how many it left out.
func shortened(lines []branch, most int) (left []branch, cut int) {
	for _, b := range lines {
		if over := height(b.below) - most; over > 0 {
			n := most
			b.below = firstLines(b.below, &n)
			cut += over
		}
		left = append(left, b)
	}
	return left, cut
}

// firstLines is the first lines of branches, as many as are left.
func firstLines(lines []branch, left *int) (first []branch) {
	for _, b := range lines {
		if *left == 0 {
			break
		}
		*left--
		b.below = firstLines(b.below, left)
		first = append(first, b)
	}
	return first
}

// hiddenLine says what is hidden, and where it is shown.
func hiddenLine(hidden []fold, lines int) branch {
	counts, order := map[string]int{}, []string{}
	add := func(n int, noun, state string) {
		key := noun + "\x00" + state
		if counts[key] == 0 && n > 0 {
			order = append(order, key)
		}
		counts[key] += n
	}
	// First those that are kept longest.
	slices.SortStableFunc(hidden, func(a, b fold) int { return cmp.Compare(byLevel(b), byLevel(a)) })
	for _, f := range hidden {
		add(f.n, f.noun, f.state)
	}
	add(lines, "line", "")
	parts := make([]string, 0, len(order))
	for _, key := range order {
		noun, state, _ := strings.Cut(key, "\x00")
		if counts[key] != 1 {
			noun += "s"
		}
		parts = append(parts, strings.TrimSpace(fmt.Sprintf("%d %s %s", counts[key], noun, state)))
	}
	text := "lines"
	if len(parts) > 0 {
		text = strings.Join(parts, ", ")
	}
	return branch{text: "hidden, see without --watch: " + text}
}

func byLevel(f fold) foldLevel {
	if f.level == kept {
		return foldNoted + 1
	}
	return f.level
}
