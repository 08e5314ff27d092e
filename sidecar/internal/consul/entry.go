package consul

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// entry is one element of the answer of /v1/health/service/NAME: only what is
// used of it, for a service of 10,000 instances has 12 MB of JSON.
type entry struct {
	Node struct {
		Node    string
		Address string
	}
	Service struct {
		ID      string
		Address string
		Port    int
		Meta    map[string]string
		Weights *weights
	}
	Checks []check
}

type weights struct{ Passing, Warning int }

type check struct{ CheckID, Status string }

// maxBody is the most that is read of one answer: eight times what 10,000
// instances with some meta and checks have.
const maxBody = 100 << 20 // bytes

func decodeEntries(r io.Reader, most int64) ([]entry, error) { return decodeList[entry](r, most) }

// decodeList reads a whole answer of at most so many bytes. One that ends early,
// goes on after its end, or is anything but a list is an error: null is not an
// empty list.
func decodeList[T any](r io.Reader, most int64) ([]T, error) {
	limited := &io.LimitedReader{R: r, N: most}
	d := json.NewDecoder(limited)
	open, err := d.Token()
	if err != nil {
		return nil, fmt.Errorf("the answer is no JSON: %w", unexpectedEOF(err))
	}
	if open != json.Delim('[') {
		return nil, fmt.Errorf("the answer is no list: it starts with %.20q", fmt.Sprint(open))
	}
	var entries []T
	for d.More() {
		var e T
		if err := d.Decode(&e); err != nil {
			return nil, tooLong(limited, most, fmt.Errorf("the answer's element %d: %w", len(entries), unexpectedEOF(err)))
		}
		entries = append(entries, e)
	}
	if _, err := d.Token(); err != nil {
		return nil, tooLong(limited, most, fmt.Errorf("the answer's list does not end: %w", unexpectedEOF(err)))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the answer goes on after its list")
	}
	return entries, nil
}

func tooLong(r *io.LimitedReader, most int64, err error) error {
	if r.N > 0 {
		return err
	}
	return fmt.Errorf("the answer has more than %d bytes", most)
}

func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
