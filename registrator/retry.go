package registrator

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	minRetry = 100 * time.Millisecond
	maxRetry = 2 * time.Second
)

// retry calls until a call succeeds, fails permanently, or ctx ends. Between two
// calls it waits 100 ms, doubled up to 2 s, each less up to half by chance.
// onFirst hears of the first failure; it may be nil.
func retry(ctx context.Context, call func(context.Context) error, onFirst func(error)) error {
	for delay := minRetry; ; delay = min(2*delay, maxRetry) {
		err := call(ctx)
		if err == nil || isPermanent(err) {
			return err
		}
		if onFirst != nil {
			onFirst(err)
			onFirst = nil
		}
		if cause := pause(ctx, delay-rand.N(delay/2)); cause != nil {
			return fmt.Errorf("%w (%w)", err, cause)
		}
	}
}

// pause waits for d, or returns why ctx ended before.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// isPermanent reports whether trying again cannot help.
func isPermanent(err error) bool {
	refused, ok := errors.AsType[api.StatusError](err)
	return errors.Is(err, ErrLeft) || errors.Is(err, errOtherProcess) || ok && refused.Code == http.StatusBadRequest
}

func isNotFound(err error) bool {
	refused, ok := errors.AsType[api.StatusError](err)
	return ok && refused.Code == http.StatusNotFound
}
