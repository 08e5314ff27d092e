package consul

import (
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// However an answer is cut into reads, its elements are those that encoding/json
// finds, and a value that is no list is an error for both.
func FuzzElements_AnyReads_SameAsEncodingJSON(f *testing.F) {
	for _, body := range []string{
		`[]`, ` [ {"a":"]\\\"}"} , 7 ,"x\\", null,[1,[2]],{} ]` + "\n", `[1,]`, `[,1]`, `[1 2]`, `[{]}]`, `[{"a":1}`, `["\\\\"]`, `["\\\""]x`, `[tru]`, `{"a":1}`,
	} {
		f.Add(body, uint8(1))
		f.Add(body, uint8(7))
	}
	f.Fuzz(func(t *testing.T, body string, chunk uint8) {
		var want []json.RawMessage
		wantErr := json.Unmarshal([]byte(body), &want)
		if strings.TrimSpace(body) == "null" {
			wantErr = errors.New("null is no list")
		}
		var got []json.RawMessage
		err := eachElement(&chunked{r: strings.NewReader(body), n: int(chunk) + 1}, maxBody, func(s *scanner) error {
			raw, err := s.element()
			if err != nil {
				return err
			}
			var one json.RawMessage
			if err := json.Unmarshal(raw, &one); err != nil {
				return err
			}
			got = append(got, slices.Clone(one))
			return nil
		})
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("%q: got error %v, encoding/json %v", body, err, wantErr)
		}
		if err == nil && !cmp.Equal(got, want) && len(got)+len(want) > 0 {
			t.Errorf("%q: got %q, want %q", body, got, want)
		}
	})
}

// chunked reads a few bytes at a time.
type chunked struct {
	r io.Reader
	n int
}

func (c *chunked) Read(p []byte) (int, error) { return c.r.Read(p[:min(c.n, len(p))]) }

func TestElements_ReadFails_ErrorIsKept(t *testing.T) {
	broken := errors.New("connection reset")
	err := eachElement(io.MultiReader(strings.NewReader(`[{"a":`), iotest.ErrReader(broken)), maxBody, func(s *scanner) error {
		_, err := s.element()
		return err
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}
