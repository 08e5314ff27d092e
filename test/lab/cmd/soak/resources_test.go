package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// taking takes in the background, and gives what tells whether it was served.
func taking(t *testing.T, r *resources, names ...string) (*hold, func() bool) {
	t.Helper()
	var h *hold
	done := make(chan struct{})
	started := &hold{from: r}
	h = started
	go func() {
		defer close(done)
		if err := h.wait(t.Context(), names, false); err != nil {
			t.Error(err)
		}
	}()
	return h, func() bool {
		synctest.Wait()
		select {
		case <-done:
			return true
		default:
			return false
		}
	}
}

func TestAllIsTakenAtOnceOrNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newResources(map[string]int{"a": 1, "b": 1})
		first, served := taking(t, r, "a")
		if !served() {
			t.Fatal("what is free was not given")
		}
		both, bothServed := taking(t, r, "b", "a")
		if bothServed() {
			t.Fatal("what is held was given")
		}
		if r.free["b"] != 1 {
			t.Error("a part was taken")
		}
		first.end()
		if !bothServed() {
			t.Error("what was given back was not given")
		}
		both.end()
		if r.free["a"] != 1 || r.free["b"] != 1 {
			t.Errorf("free at the end: got %v, want all", r.free)
		}
	})
}

func TestWhoWaitsForMuchIsNotPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newResources(map[string]int{"a": 1, "b": 1, "c": 1})
		first, _ := taking(t, r, "a")
		synctest.Wait()
		much, muchServed := taking(t, r, "a", "b")
		muchServed()
		part, partServed := taking(t, r, "b")
		other, otherServed := taking(t, r, "c")
		if partServed() || !otherServed() {
			t.Errorf("served: one that passed %t, one beside %t, want false and true", partServed(), otherServed())
		}
		first.end()
		if !muchServed() || partServed() {
			t.Errorf("served: the first %t, the second %t, want true and false", muchServed(), partServed())
		}
		much.end()
		if !partServed() {
			t.Error("the second was not served")
		}
		part.end()
		other.end()
	})
}

// One waits for what the other holds: it must not keep the other from more.
func TestWhoHoldsTakesMoreBeforeAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newResources(map[string]int{"a": 1, "b": 1})
		first, _ := taking(t, r, "a")
		synctest.Wait()
		_, served := taking(t, r, "a", "b")
		served()
		if err := first.more(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		first.release("b")
		if served() {
			t.Error("it was served though a is held")
		}
		first.end()
		if !served() {
			t.Error("it was not served")
		}
	})
}

func TestResources_WaiterGivesUp_OthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newResources(map[string]int{"a": 1, "b": 1})
		first, _ := taking(t, r, "a")
		synctest.Wait()
		ctx, cancel := context.WithCancelCause(t.Context())
		gaveUp := make(chan error, 1)
		go func() {
			_, err := r.take(ctx, "a", "b")
			gaveUp <- err
		}()
		synctest.Wait()
		_, served := taking(t, r, "b")
		served()
		over := errors.New("the time is over")
		cancel(over)
		if err := <-gaveUp; !errors.Is(err, over) {
			t.Errorf("error: got %v, want %v", err, over)
		}
		if !served() {
			t.Error("the one behind was not served")
		}
		first.end()
		if r.free["a"] != 1 {
			t.Error("what was given back is not free")
		}
	})
}
