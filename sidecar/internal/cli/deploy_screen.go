package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/pointsman/pointsman/sidecar/internal/deploy"
)

// deployScreen shows a deployment: lines, and on a terminal a bar for each load
// balancer below them. Elsewhere a load balancer gets a line when it has come to
// the end of something.
type deployScreen struct {
	out   io.Writer
	width func() int // of the terminal, in columns; nil: it is none
	begun time.Time

	mu    sync.Mutex
	bars  []deploy.Bar
	drawn int // lines of bars that stand on the terminal
}

func newDeployScreen(out io.Writer) *deployScreen {
	s := &deployScreen{out: out, begun: time.Now()}
	if size := terminalSize(out); size != nil {
		s.width = func() int { width, _ := size(); return width }
	}
	return s
}

// terminalSize returns what tells the columns and lines of a terminal; nil: it is none.
func terminalSize(out io.Writer) func() (width, height int) {
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return func() (int, int) {
		if width, height, err := term.GetSize(int(f.Fd())); err == nil && width > 0 && height > 0 {
			return width, height
		}
		return 80, 24
	}
}

// say prints a line of the deployment's own.
func (s *deployScreen) say(line string) {
	s.print(fmt.Sprintf("deploy: %5.1fs  %s", time.Since(s.begun).Seconds(), line))
}

// output prints a line of a command's. What a terminal would take for an order
// is taken out of it.
func (s *deployScreen) output(label, line string) {
	s.print(fmt.Sprintf("%s | %s", label, visible(line)))
}

func visible(line string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 {
			return '·'
		}
		return r
	}, line)
}

func (s *deployScreen) print(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(line)
}

// put prints a line above the bars. An error of the output ends nothing.
func (s *deployScreen) put(line string) {
	var b strings.Builder
	s.erase(&b)
	b.WriteString(line + "\n")
	s.draw(&b)
	_, _ = io.WriteString(s.out, b.String())
}

// show takes the bars of now.
func (s *deployScreen) show(bars []deploy.Bar) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := map[string]deploy.Bar{}
	for _, b := range s.bars {
		was[b.Name] = b
	}
	s.bars = bars
	if s.width != nil {
		var b strings.Builder
		s.erase(&b)
		s.draw(&b)
		_, _ = io.WriteString(s.out, b.String())
		return
	}
	for _, b := range bars {
		if line := milestone(was[b.Name], b); line != "" {
			s.put(fmt.Sprintf("deploy: %5.1fs  %s", time.Since(s.begun).Seconds(), line))
		}
	}
}

// milestone tells of a load balancer that has come to the end of something, or
// into trouble or out of it.
func milestone(was, now deploy.Bar) string {
	switch {
	case now.Trouble != "" && was.Trouble == "":
		return fmt.Sprintf("%s unreachable: %s", now.Name, now.Trouble)
	case now.Trouble == "" && was.Trouble != "":
		return now.Name + " reachable again"
	case now.Of > 0 && now.Drained == now.Of && was.Drained != was.Of:
		return fmt.Sprintf("%s has %d of %d drained", now.Name, now.Drained, now.Of)
	case now.Want > 0 && now.Live == now.Want && was.Live < was.Want:
		return fmt.Sprintf("%s has %d of %d live", now.Name, now.Live, now.Want)
	}
	return ""
}

// The terminal's orders (ECMA-48): up by a number of lines, and erase to the end.
const (
	up         = "\x1b[%dA"
	eraseBelow = "\r\x1b[J"
)

func (s *deployScreen) erase(b *strings.Builder) {
	if s.drawn > 0 {
		fmt.Fprintf(b, up, s.drawn)
		b.WriteString(eraseBelow)
	}
	s.drawn = 0
}

func (s *deployScreen) draw(b *strings.Builder) {
	if s.width == nil {
		return
	}
	for _, bar := range s.bars {
		b.WriteString(cut(barLine(bar), s.width()-1) + "\n") // a full line would wrap
		s.drawn++
	}
}

// end leaves the bars standing as they are.
func (s *deployScreen) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bars, s.drawn = nil, 0
}

func barLine(b deploy.Bar) string {
	line := fmt.Sprintf("  %-12s live %s %d/%d", b.Name, meter(b.Live, b.Want), b.Live, b.Want)
	if b.Of > 0 {
		line += fmt.Sprintf("   drained %s %d/%d", meter(b.Drained, b.Of), b.Drained, b.Of)
	}
	if b.Trouble != "" {
		line += "   " + visible(b.Trouble)
	}
	return line
}

// meter draws how much of something is done.
func meter(n, of int) string {
	const width = 16
	full := 0
	if of > 0 {
		full = width * min(n, of) / of
	}
	return strings.Repeat("█", full) + strings.Repeat("░", width-full)
}

func cut(line string, width int) string {
	if r := []rune(line); len(r) > width {
		return string(r[:width])
	}
	return line
}
