package serve

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"
)

// stop goes through the steps of the package's doc. It takes StopTimeout at
// most; what is still in flight then is cut.
func (s *Server) stop(done context.Context) error {
	s.log.Info("leaving", zap.NamedError("cause", context.Cause(done)), zap.Int("connections", s.connections.count()))
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(done), s.config.StopTimeout,
		fmt.Errorf("stop timeout of %s expired", s.config.StopTimeout))
	defer cancel()

	s.config.Node.Leave()
	var errs []error
	stopped := false
	if s.config.Registration != nil {
		err := s.config.Registration.Leave(ctx, func(ctx context.Context) error {
			stopped = true
			return s.finish(ctx)
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("serve: leave: %w", err))
		}
	}
	if !stopped { // not registered, or the leave failed on the way there
		if err := s.finish(ctx); err != nil {
			errs = append(errs, fmt.Errorf("serve: %w", err))
		}
	}
	err := errors.Join(errs...)
	s.log.Info("stopped", zap.Error(err))
	return err
}

// finish lingers if a request may still come, closes the listener and waits for what is in flight.
func (s *Server) finish(ctx context.Context) error {
	if !s.config.Drained() {
		lingering, cancel := context.WithTimeout(ctx, s.config.Linger)
		s.connections.none(lingering)
		cancel()
	}

	s.log.Info("listener closed", zap.Int("connections", s.connections.count()))
	err := s.http.Shutdown(ctx)
	if err == nil {
		return nil
	}
	cut := s.connections.count()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return errors.Join(fmt.Errorf("shut down, %d connections cut: %w", cut, err), s.http.Close())
}
