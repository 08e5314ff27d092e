package registrator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// maxAnswer bounds a sidecar's answer, in bytes. It has a few hundred.
const maxAnswer = 64 << 10

// request is what a sidecar is asked: about which instance of which service,
// and of which load balancer.
type request struct{ balancer, service, instance string }

// answer is what it says.
type answer struct {
	routed   bool   // it routes to the service
	drained  bool   // the instance has no session and gets no new one
	sessions int    // on the instance
	index    uint64 // of what it knows from Consul; the highest if it does not say
}

// mayStop reports whether the program may stop, as far as this one goes.
func (a answer) mayStop() bool { return a.drained || !a.routed }

// parseAnswer reads the body of a 200 from /api/v1/drain. What is said of
// another load balancer, service or instance is no answer: it proves nothing.
func parseAnswer(body []byte, q request) (answer, error) {
	fields, err := fieldsOf(body)
	if err != nil {
		return answer{}, err
	}
	a := answer{routed: true, index: math.MaxUint64}
	var sessions float64 // a whole number in any notation
	err = errors.Join(
		fields.same("load_balancer", q.balancer), fields.same("service", q.service), fields.same("instance", q.instance),
		fields.read("drained", &a.drained), fields.read("sessions", &sessions),
	)
	if _, said := fields["index"]; said && err == nil {
		err = fields.read("index", &a.index)
	}
	switch {
	case err != nil:
		return answer{}, err
	case sessions < 0 || sessions > math.MaxInt32 || sessions != math.Trunc(sessions):
		return answer{}, fmt.Errorf("sessions: %v is not a count", sessions)
	case a.drained && sessions > 0:
		return answer{}, fmt.Errorf("drained with %v sessions", sessions)
	}
	a.sessions = int(sessions)
	return a, nil
}

// parseNotRouted reads the body of a 404: whatever else listens there may say
// 404 as well, so it must have the load balancer's name.
func parseNotRouted(body []byte, q request) (answer, error) {
	fields, err := fieldsOf(body)
	if err == nil {
		err = fields.same("load_balancer", q.balancer)
	}
	if err != nil {
		return answer{}, fmt.Errorf("status 404 from something other than this load balancer: %w", err)
	}
	return answer{}, nil
}

// fields is an object of JSON. Its keys are taken as they are, where a struct's
// would be in any case of letters.
type fields map[string]json.RawMessage

func fieldsOf(body []byte) (fields, error) {
	var f fields
	if err := json.Unmarshal(body, &f); err != nil {
		return nil, fmt.Errorf("the answer is no JSON object: %w", err)
	}
	if f == nil {
		return nil, errors.New("the answer is no JSON object: null")
	}
	return f, nil
}

func (f fields) read(key string, to any) error {
	value, found := f[key]
	if !found || bytes.Equal(value, []byte("null")) {
		return fmt.Errorf("the answer has no %q", key)
	}
	if err := json.Unmarshal(value, to); err != nil {
		return fmt.Errorf("%s: %s: %w", key, short(string(value)), err)
	}
	return nil
}

func (f fields) same(key, want string) error {
	var got string
	if err := f.read(key, &got); err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("the answer is of %s %s, not of %s", key, short(got), short(want))
	}
	return nil
}
