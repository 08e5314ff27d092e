package cli

import (
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

// eraseLine goes to the start of the terminal's line and empties it (ECMA-48:
// CR, then EL).
const eraseLine = "\r\x1b[K"

// screen shows progress: on a terminal as one line that is drawn again and
// again below everything else, elsewhere as lines.
type screen struct {
	mu    sync.Mutex
	out   io.Writer
	mode  string     // plain, none, or redraw
	width func() int // of the terminal, in columns; for redraw
	line  string     // that stands on the terminal now
}

const redraw = "redraw"

// newScreen returns the screen for a mode of --progress. It is never nil.
func newScreen(mode string, out io.Writer) (*screen, error) {
	s := &screen{out: out, mode: mode}
	switch mode {
	case "plain", "none":
		return s, nil
	case "auto":
		s.mode = "plain"
		if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
			s.mode, s.width = redraw, func() int { return columns(file) }
		}
		return s, nil
	default:
		s.mode = "none"
		return s, fmt.Errorf("%q is none of auto, plain, none", mode)
	}
}

func columns(terminal *os.File) int {
	if width, _, err := term.GetSize(int(terminal.Fd())); err == nil && width > 0 {
		return width
	}
	return 80
}

// progress shows the line. An error of the output ends nothing: the report is
// what counts.
func (s *screen) progress(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.mode {
	case "plain":
		_, _ = fmt.Fprintln(s.out, line)
	case redraw:
		s.line = fit(line, s.width()-1) // a full line would wrap
		_, _ = io.WriteString(s.out, eraseLine+s.line)
	}
}

// done leaves the last line standing.
func (s *screen) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.line != "" {
		_, _ = fmt.Fprintln(s.out)
		s.line = ""
	}
}

// around returns a writer that takes the progress line away while it writes. It
// is for what shares the terminal with the progress: the log.
func (s *screen) around(w io.Writer) io.Writer {
	if s.mode != redraw {
		return w
	}
	return &sharing{s, w}
}

type sharing struct {
	screen *screen
	w      io.Writer
}

func (s *sharing) Write(p []byte) (int, error) {
	s.screen.mu.Lock()
	defer s.screen.mu.Unlock()
	if s.screen.line == "" {
		return s.w.Write(p)
	}
	_, _ = io.WriteString(s.screen.out, eraseLine)
	n, err := s.w.Write(p)
	_, _ = io.WriteString(s.screen.out, s.screen.line)
	return n, err
}

// fit cuts the line to width characters.
func fit(line string, width int) string {
	runes := []rune(line)
	if width > 0 && len(runes) > width {
		return string(runes[:width])
	}
	return line
}
