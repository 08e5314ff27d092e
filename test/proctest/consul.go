package proctest

import (
	"errors"
	"testing"

	"github.com/pointsman/pointsman/test/lab"
)

// NewConsul prepares a real Consul. Restart starts it, also again and with
// nothing known, and end ends it.
func NewConsul() (consul *lab.Consul, end func() error, err error) {
	path, err := lab.FindConsul()
	if err != nil {
		return nil, nil, err
	}
	l, err := lab.New(lab.Config{Programs: lab.Programs{Consul: path}})
	if err != nil {
		return nil, nil, err
	}
	consul, err = l.NewConsul(0)
	if err != nil {
		return nil, nil, errors.Join(err, l.Close())
	}
	return consul, func() error {
		if consul.Process == nil || !consul.Running() {
			return l.Close()
		}
		return errors.Join(consul.Kill(), l.Close())
	}, nil
}

// PrepareConsul is NewConsul for a test, which it ends with. With -short, which
// is `make unit`, it skips the test.
func PrepareConsul(tb testing.TB) *lab.Consul {
	tb.Helper()
	if testing.Short() {
		tb.Skip("needs Consul: run `make test`")
	}
	consul, end, err := NewConsul()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := end(); err != nil {
			tb.Error(err)
		}
	})
	return consul
}
