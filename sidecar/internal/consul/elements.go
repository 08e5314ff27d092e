package consul

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// decodeList reads a whole answer of at most the given number of bytes. One that ends early,
// goes on after its end, or is anything but a list is an error: null is not an
// empty list.
func decodeList[T any](r io.Reader, most int64) (list []T, err error) {
	err = eachElement(r, most, func(s *scanner) error {
		raw, err := s.element()
		if err != nil {
			return err
		}
		one, err := decodeOne[T](raw)
		list = append(list, one)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func decodeOne[T any](raw []byte) (one T, err error) {
	err = json.Unmarshal(raw, &one)
	return one, err
}

// eachElement goes through the elements of a JSON list one after another, while it
// is read. take takes one off the scanner.
func eachElement(r io.Reader, most int64, take func(*scanner) error) error {
	limited := &io.LimitedReader{R: r, N: most}
	buf := scanBuffers.Get().(*[scanBuffer]byte)
	defer scanBuffers.Put(buf)
	s := &scanner{r: limited, buf: buf[:0]}
	switch open, err := s.skipSpace(); {
	case err != nil:
		return fmt.Errorf("invalid JSON: %w", err)
	case open == '<', open != '[' && bytes.IndexByte([]byte(`{"ntf-0123456789`), open) < 0:
		return fmt.Errorf("invalid JSON: starts with %q", open)
	case open != '[':
		return fmt.Errorf("not a JSON list: starts with %q", open)
	}
	s.at++
	for n := 0; ; n++ {
		next, err := s.skipSpace()
		if err == nil && next == ']' && n == 0 {
			s.at++
			return s.ends()
		}
		if err == nil && n > 0 {
			s.at++
			if next == ']' {
				return s.ends()
			}
			if next != ',' {
				return fmt.Errorf("the answer's list: %q after element %d", next, n-1)
			}
			_, err = s.skipSpace()
		}
		if err != nil {
			return tooLong(limited, most, fmt.Errorf("the answer's list does not end: %w", err))
		}
		if err := take(s); err != nil {
			return tooLong(limited, most, fmt.Errorf("the answer's element %d: %w", n, err))
		}
	}
}

// scanBuffers are what answers are read into. One with a longer element than that
// grows a buffer of its own, which is not kept.
var scanBuffers = sync.Pool{New: func() any { return new([scanBuffer]byte) }}

const scanBuffer = 64 << 10 // bytes

// scanner finds where the elements of a JSON list begin and end. Whether they
// are valid is for who decodes them.
type scanner struct {
	r   io.Reader
	buf []byte
	at  int   // what comes next
	err error // of the last read: there is no more
}

// skipSpace gives the next byte that is no white space, and leaves it there.
func (s *scanner) skipSpace() (byte, error) {
	for {
		for ; s.at < len(s.buf); s.at++ {
			if c := s.buf[s.at]; c != ' ' && c != '\n' && c != '\r' && c != '\t' {
				return c, nil
			}
		}
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
}

// peek gives the next bytes, as many, and leaves them there; nil if there are less.
func (s *scanner) peek(n int) []byte {
	for len(s.buf)-s.at < n {
		if s.fill() != nil {
			return nil
		}
	}
	return s.buf[s.at : s.at+n]
}

// element takes the element that begins here. Its bytes are good until anything
// else is taken.
func (s *scanner) element() ([]byte, error) {
	depth, inString := 0, false
	for i := s.at; ; {
		for ; i < len(s.buf); i++ {
			if inString {
				quote := bytes.IndexByte(s.buf[i:], '"')
				if quote < 0 {
					i = len(s.buf)
					break
				}
				i += quote
				inString = isEscaped(s.buf[s.at:i])
				if !inString && depth == 0 {
					return s.took(i + 1), nil
				}
				continue
			}
			switch s.buf[i] {
			case '"':
				inString = true
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth < 0 { // of the list: a number or a word ends here
					return s.took(i), nil
				}
				if depth == 0 {
					return s.took(i + 1), nil
				}
			case ',', ' ', '\n', '\r', '\t':
				if depth == 0 {
					return s.took(i), nil
				}
			}
		}
		done := i - s.at
		if err := s.fill(); err != nil {
			return nil, err
		}
		i = s.at + done
	}
}

// isEscaped reports whether what follows an odd number of backslashes does.
func isEscaped(before []byte) bool {
	n := 0
	for n < len(before) && before[len(before)-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

func (s *scanner) took(end int) []byte {
	raw := s.buf[s.at:end]
	s.at = end
	return raw
}

// fill reads more. What comes next moves to the front of the buffer, which grows
// to the longest element.
func (s *scanner) fill() error {
	if s.err != nil {
		return s.err
	}
	rest := copy(s.buf[:cap(s.buf)], s.buf[s.at:])
	s.buf, s.at = s.buf[:rest], 0
	if rest == cap(s.buf) {
		s.buf = append(s.buf, 0)[:rest]
	}
	n, err := s.r.Read(s.buf[rest:cap(s.buf)])
	s.buf = s.buf[:rest+n]
	switch {
	case n > 0:
		return nil
	case err == nil:
		s.err = io.ErrNoProgress
	case errors.Is(err, io.EOF):
		s.err = io.ErrUnexpectedEOF
	default:
		s.err = err
	}
	return s.err
}

// ends checks that nothing follows the list.
func (s *scanner) ends() error {
	switch _, err := s.skipSpace(); {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil
	case err != nil:
		return err
	}
	return errors.New("the answer goes on after its list")
}

func tooLong(r *io.LimitedReader, most int64, err error) error {
	if r.N > 0 {
		return err
	}
	return fmt.Errorf("answer larger than %d bytes", most)
}
